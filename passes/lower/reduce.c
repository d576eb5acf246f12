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
