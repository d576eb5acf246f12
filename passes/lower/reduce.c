/* Reductions: the Reduce* family, global pools, ArgMax and ArgMin.
 *
 *     ReduceMean(x: f32[N,64], axes = [1])      for i < N { s = 0; for j < 64: s += x[i,j]; y[i,0] = s / 64 }
 *
 * Each operator is three small parts: what is done to an element, how elements combine, what is done to the result.
 * Sums of small floats run in f32. LogSumExp subtracts the row's maximum first. */
#include <math.h>

#include "ir/shape/reduce.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

static DType sum_type(const Node *n) {
    DType x = dtype_compute(n->in[0]->type->dtype);
    bool rooted = n->op == OP_ReduceL2 || n->op == OP_ReduceLogSum || n->op == OP_ReduceLogSumExp;
    return rooted && !dtype_is_float(x) ? DT_F64 : x;
}

static int64_t norm_p(const Node *n) { return attr_i(n, AT_GlobalLpPool_p); }

static Expr *element(Lower *lo, const Node *n, Expr *x) {
    switch ((Op)n->op) {
    case OP_ReduceL1: return lx_1(lo, FN_ABS, x);
    case OP_ReduceL2: case OP_ReduceSumSquare: return lx_mul(lo, x, x);
    case OP_GlobalLpPool:
        if (norm_p(n) == 2) return lx_mul(lo, x, x);
        x = lx_1(lo, FN_ABS, x);
        return norm_p(n) == 1 ? x : lx_2(lo, FN_POW, x, lx_const(lo, (DType)x->dtype, (double)norm_p(n)));
    default: return x; /* the others combine the elements as they are */
    }
}

static Fn combine(const Node *n, DType t) {
    switch ((Op)n->op) {
    case OP_ReduceMax: case OP_GlobalMaxPool: return t == DT_BOOL ? FN_OR : FN_MAX;
    case OP_ReduceMin: return t == DT_BOOL ? FN_AND : FN_MIN;
    case OP_ReduceProd: return FN_MUL;
    default: return FN_ADD;
    }
}

static Expr *neutral(Lower *lo, Fn fn, DType t) {
    switch (fn) {
    case FN_MAX: case FN_OR: return lower_lowest(lo, t);
    case FN_MIN: case FN_AND: return lower_highest(lo, t);
    case FN_MUL: return lx_const(lo, t, 1);
    default: return lx_const(lo, t, 0);
    }
}

static Expr *finish(Lower *lo, const Node *n, Expr *sum, Expr *count) {
    DType t = (DType)sum->dtype;
    switch ((Op)n->op) {
    case OP_ReduceMean: case OP_GlobalAveragePool: return lx_div(lo, sum, lx_cast(lo, t, count));
    case OP_ReduceL2: return lx_1(lo, FN_SQRT, sum);
    case OP_ReduceLogSum: return lx_1(lo, FN_LOG, sum);
    case OP_GlobalLpPool:
        if (norm_p(n) == 1) return sum;
        return norm_p(n) == 2 ? lx_1(lo, FN_SQRT, sum) : lx_2(lo, FN_POW, sum, lx_const(lo, t, 1.0 / (double)norm_p(n)));
    default: return sum;
    }
}

/* Index of the output: reduced axes are 0 or gone. */
static uint32_t output_index(const Rows *r, bool keep, Expr **idx) {
    uint32_t rank = 0;
    for (uint32_t a = 0; a < r->rank; a++) {
        if (r->sizes != NULL) idx[rank++] = r->outer[a];
        else if ((r->mask >> a & 1) == 0) idx[rank++] = r->idx[a];
        else if (keep) idx[rank++] = lx_i(r->lo, 0);
    }
    return rank;
}

/* The row's maximum, or 0 where that is infinite: inf - inf would be NaN. */
static RowAcc finite_maximum(Rows *r, const Node *n, DType t) {
    Lower *lo = r->lo;
    RowAcc top = rows_acc(r, t, lower_lowest(lo, t));
    rows_each(r);
    rows_add(r, top, FN_MAX, lx_cast(lo, t, lower_load(lo, n->in[0], r->idx)));
    rows_each_end(r);
    rows_lane(r);
    Expr *m = rows_get(r, top);
    rows_add(r, top, FN_NONE, lx_select(lo, lx_1(lo, FN_ISINF, m), lx_const(lo, t, 0), m));
    rows_lane_end(r);
    return top;
}

/* How far each axis runs inside a row, from an operand of the run: its size where axes lists it, else 1. */
static const Value *row_sizes(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    Dim rank = dim_const(lo->cx, x->rank), count = n->in[1]->type->dim[0];
    Value *v = lower_scratch(lo, type_tensor(lo->cx, DT_I64, 1, &rank));
    for (uint32_t a = 0; a < x->rank; a++) {
        Expr *hit = ex_i(lo->cx, DT_BOOL, 0), *at = lx_i(lo, a);
        for (int64_t i = 0; i < dim_value(lo->cx, count); i++) {
            Expr *axis = lower_load_element(lo, n->in[1], i);
            hit = lx_2(lo, FN_OR, hit, lx_2(lo, FN_EQ, axis, at));
            hit = lx_2(lo, FN_OR, hit, lx_2(lo, FN_EQ, axis, lx_i(lo, (int64_t)a - x->rank)));
        }
        lower_store(lo, v, &at, lx_select(lo, hit, lx_dim(lo, x->dim[a]), lx_i(lo, 1)));
    }
    return v;
}

/* ---- few columns of many rows ---------------------------------------------------------------------------------------
 * The last axis stays and every other one is reduced: the bias gradient of a convolution, a channel's mean. Columns alone
 * would give threads nothing to share, so rows go in a fixed number of parts, whose results combine in order:
 *
 *     for part < PARTS: for row of the part, column: partial[part, column] += x[row, column]
 *     for column: y[column] = sum over parts */
enum { PARTS = 32, TALL_ROWS = 256, TALL_ELEMENTS = 1 << 14 };

static int64_t at_least(const Lower *lo, Dim d) { return dim_is_const(lo->cx, d) ? dim_value(lo->cx, d) : dim_lo(lo->cx, d) > 16 ? dim_lo(lo->cx, d) : 16; }

/* The axis that stays, when the reduction is of this kind; else -1. */
static int32_t tall_axis(Lower *lo, const Node *n, uint32_t mask) {
    const Type *x = n->in[0]->type;
    int32_t lane = -1;
    int64_t rows = 1;
    DType t = sum_type(n);
    if (n->op == OP_ReduceLogSumExp || (t != DT_F32 && t != DT_F64)) return -1;
    for (uint32_t a = 0; a < x->rank; a++) {
        bool one = dim_is_const(lo->cx, x->dim[a]) && dim_value(lo->cx, x->dim[a]) == 1;
        if (one) continue;
        if (lane >= 0) return -1; /* the last one must stay, and only that */
        if ((mask >> a & 1) == 0) lane = (int32_t)a;
        else if (rows < TALL_ELEMENTS) rows *= at_least(lo, x->dim[a]);
    }
    if (lane < 0 || !dim_is_const(lo->cx, x->dim[lane]) || rows < TALL_ROWS) return -1;
    int64_t columns = dim_value(lo->cx, x->dim[lane]);
    return columns > 0 && rows * columns >= TALL_ELEMENTS ? lane : -1;
}

/* The leading reduced axes whose indices together are shared between parts. */
static uint32_t axes_in_parts(Lower *lo, const Type *x, int32_t lane, Dim *outer) {
    uint32_t n = 0;
    *outer = dim_const(lo->cx, 1);
    while ((int32_t)n < lane && at_least(lo, *outer) < 2 * PARTS) *outer = dim_mul(lo->cx, *outer, x->dim[n++]);
    return n;
}

static void partial_sums(Lower *lo, const Node *n, uint32_t mask, int32_t lane, uint32_t partial) {
    const Type *x = n->in[0]->type;
    DType t = sum_type(n);
    Fn fn = combine(n, t);
    Dim outer;
    uint32_t n_outer = axes_in_parts(lo, x, lane, &outer), inner = 0;
    Expr *part = lower_for(lo, lx_i(lo, PARTS)), *each = lx_dim(lo, dim_ceildiv(lo->cx, outer, dim_const(lo->cx, PARTS)));
    Rows r;
    rows_open(&r, lo, x->rank, x->dim, mask);
    RowAcc sum = rows_acc(&r, t, neutral(lo, fn, t));
    Expr *first = lx_mul(lo, part, each), *count = lx_2(lo, FN_MIN, each, lx_sub(lo, lx_dim(lo, outer), first));
    Expr *at = lx_add(lo, first, lower_for(lo, count));
    lower_split_index(lo, at, n_outer, x->dim, r.idx);
    for (uint32_t a = n_outer; (int32_t)a < lane; a++, inner++) r.idx[a] = lower_for_dim(lo, x->dim[a]);
    rows_lane(&r);
    rows_add(&r, sum, fn, element(lo, n, lx_cast(lo, t, lower_load(lo, n->in[0], r.idx))));
    rows_lane_end(&r);
    lower_end_n(lo, inner + 1);
    rows_lane(&r);
    lower_store_buf(lo, partial, (Expr *[]){part, r.idx[lane]}, FN_NONE, rows_get(&r, sum));
    rows_lane_end(&r);
    rows_close(&r);
    lower_end(lo);
}

static bool lower_tall(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    uint32_t mask;
    bool runtime;
    if (!reduce_mask(lo->m, (Node *)(uintptr_t)n, &mask, &runtime) || runtime) return false;
    int32_t lane = tall_axis(lo, n, mask);
    if (lane < 0) return false;
    DType t = sum_type(n);
    Fn fn = combine(n, t);
    Dim dim[2] = {dim_const(lo->cx, PARTS), x->dim[lane]}, count = dim_const(lo->cx, 1);
    uint32_t partial = lower_buf(lo, lower_scratch(lo, type_tensor(lo->cx, t, 2, dim)));
    partial_sums(lo, n, mask, lane, partial);
    Expr *column = lower_for_dim(lo, x->dim[lane]), *sum = lower_local(lo, t, neutral(lo, fn, t)), *idx[RANK_MAX];
    Expr *part = lower_for(lo, lx_i(lo, PARTS));
    lower_accumulate(lo, sum, fn, lower_load_buf(lo, partial, (Expr *[]){part, column}));
    lower_end(lo);
    Rows r = {.lo = lo, .rank = x->rank, .mask = mask};
    for (uint32_t a = 0; a < x->rank; a++) {
        r.idx[a] = (int32_t)a == lane ? column : lx_i(lo, 0);
        if ((mask >> a & 1) != 0) count = dim_mul(lo->cx, count, x->dim[a]);
    }
    output_index(&r, reduce_keepdims(n), idx);
    lower_store(lo, n->out[0], idx, finish(lo, n, sum, lx_dim(lo, count)));
    lower_end(lo);
    return true;
}

static bool open_reduction(Lower *lo, const Node *n, Rows *r) {
    const Type *x = n->in[0]->type;
    uint32_t mask;
    bool runtime;
    if (!reduce_mask(lo->m, (Node *)(uintptr_t)n, &mask, &runtime)) return false;
    if (runtime) rows_open_runtime(r, lo, x->rank, x->dim, n->out[0]->type->dim, row_sizes(lo, n)); /* keepdims: see expand_reduce */
    else rows_open(r, lo, x->rank, x->dim, mask);
    return true;
}

bool lower_reduce(Lower *lo, const Node *n) {
    DType t = sum_type(n);
    Fn fn = combine(n, t);
    bool log_sum_exp = n->op == OP_ReduceLogSumExp;
    Rows r;
    if (lower_tall(lo, n)) return true;
    if (!open_reduction(lo, n, &r)) return false;
    RowAcc top = {0};
    if (log_sum_exp) top = finite_maximum(&r, n, t);
    RowAcc sum = rows_acc(&r, t, neutral(lo, fn, t));
    rows_each(&r);
    Expr *e = lx_cast(lo, t, lower_load(lo, n->in[0], r.idx));
    e = log_sum_exp ? lx_1(lo, FN_EXP, lx_sub(lo, e, rows_get(&r, top))) : element(lo, n, e);
    rows_add(&r, sum, fn, e);
    rows_each_end(&r);
    rows_lane(&r);
    Expr *y = rows_get(&r, sum), *idx[RANK_MAX];
    y = log_sum_exp ? lx_add(lo, lx_1(lo, FN_LOG, y), rows_get(&r, top)) : finish(lo, n, y, rows_count(&r));
    output_index(&r, reduce_keepdims(n), idx);
    lower_store(lo, n->out[0], idx, y);
    rows_lane_end(&r);
    rows_close(&r);
    return true;
}

/* ---- ArgMax, ArgMin, Hardmax ------------------------------------------------------------------------------------- */
/* Two passes, each vectorisable: the extreme value, then the first (or last) position that has it. NaN is the extreme
 * when there is one, as in numpy. */
static RowAcc extreme_position(Rows *r, const Value *x, uint32_t axis, bool largest, bool last) {
    Lower *lo = r->lo;
    DType t = dtype_compute(x->type->dtype);
    RowAcc best = rows_acc(r, t, largest ? lower_lowest(lo, t) : lower_highest(lo, t));
    RowStage stage = {0};
    if (lower_is_computed(lo, x)) stage = rows_stage(r, t);
    rows_each(r);
    Expr *e = lower_load(lo, x, r->idx);
    rows_put(r, stage, e);
    rows_add(r, best, largest ? FN_MAX : FN_MIN, e);
    rows_each_end(r);
    Expr *none = lx_i(lo, last ? -1 : INT64_MAX);
    RowAcc at = rows_acc(r, DT_I64, none);
    rows_each(r);
    e = stage.on ? rows_take(r, stage) : lower_load(lo, x, r->idx);
    Expr *hit = lx_2(lo, FN_EQ, e, rows_get(r, best));
    if (dtype_is_float(t)) hit = lx_2(lo, FN_OR, hit, lx_1(lo, FN_ISNAN, e));
    rows_add(r, at, last ? FN_MAX : FN_MIN, lx_select(lo, hit, r->idx[axis], none));
    rows_each_end(r);
    return at;
}

bool lower_arg_reduce(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    uint32_t mask, axis = 0;
    bool runtime;
    if (!reduce_mask(lo->m, (Node *)(uintptr_t)n, &mask, &runtime)) return false;
    while ((mask >> axis & 1) == 0) axis++;
    Rows r;
    rows_open(&r, lo, x->rank, x->dim, mask);
    bool last = attr_i(n, attr_named(n, "select_last_index")) != 0;
    RowAcc at = extreme_position(&r, n->in[0], axis, n->op == OP_ArgMax, last);
    rows_lane(&r);
    Expr *idx[RANK_MAX];
    output_index(&r, reduce_keepdims(n), idx);
    lower_store(lo, n->out[0], idx, rows_get(&r, at));
    rows_lane_end(&r);
    rows_close(&r);
    return true;
}

bool lower_hardmax(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    int64_t a = attr_i(n, AT_Hardmax_axis);
    uint32_t axis = (uint32_t)(a < 0 ? a + x->rank : a);
    DType t = dtype_compute(x->dtype);
    Rows r;
    rows_open(&r, lo, x->rank, x->dim, 1u << axis);
    RowAcc at = extreme_position(&r, n->in[0], axis, true, false);
    rows_each(&r);
    Expr *hit = lx_2(lo, FN_EQ, r.idx[axis], rows_get(&r, at));
    lower_store(lo, n->out[0], r.idx, lx_select(lo, hit, lx_const(lo, t, 1), lx_const(lo, t, 0)));
    rows_each_end(&r);
    rows_close(&r);
    return true;
}
