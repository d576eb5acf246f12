/* The Seq* operators: copies between slots of sequences. All data moves as flat rows: an element lies dense from the
 * start of its slot, in row-major order of the sizes in its row of dims. An element of lower rank than the type has the
 * size -1 from its end on. */
#include "passes/lower.h"
#include "passes/rules.h"

typedef struct Seq { Expr *length; uint32_t dims, data; const Type *dims_type, *data_type; } Seq;

static Seq seq_in(Lower *lo, const Node *n) {
    return (Seq){lower_load_scalar(lo, n->in[0]), lower_buf(lo, n->in[1]), lower_buf(lo, n->in[2]), n->in[1]->type, n->in[2]->type};
}

/* Types are NULL for parts that nobody reads: they are not written. */
static Seq seq_out(Lower *lo, const Node *n) {
    Seq s = {0};
    if (n->out[1] != NULL) s.dims_type = n->out[1]->type, s.dims = lower_buf(lo, n->out[1]);
    if (n->out[2] != NULL) s.data_type = n->out[2]->type, s.data = lower_buf(lo, n->out[2]);
    return s;
}

/* Marks the row's sizes from `rank` on as none. */
static void end_row(Lower *lo, const Seq *b, Expr *to, int64_t rank) {
    for (int64_t d = rank; d < dim_value(lo->cx, b->dims_type->dim[1]); d++) lower_store_buf(lo, b->dims, (Expr *[]){to, lx_i(lo, d)}, FN_NONE, lx_i(lo, -1));
}

/* Copies slot `from` of a to slot `to` of b: sizes, and as much data as both can hold. */
static void copy_slot(Lower *lo, const Seq *a, Expr *from, const Seq *b, Expr *to) {
    Context *cx = lo->cx;
    if (b->dims_type != NULL) {
        Expr *d = lower_for_dim(lo, dim_min(cx, a->dims_type->dim[1], b->dims_type->dim[1]));
        lower_store_buf(lo, b->dims, (Expr *[]){to, d}, FN_NONE, lower_load_buf(lo, a->dims, (Expr *[]){from, d}));
        lower_end(lo);
        end_row(lo, b, to, dim_value(cx, a->dims_type->dim[1]));
    }
    if (b->data_type != NULL) {
        Expr *e = lower_for_dim(lo, dim_min(cx, a->data_type->dim[1], b->data_type->dim[1]));
        lower_store_buf(lo, b->data, (Expr *[]){to, e}, FN_NONE, lower_load_buf(lo, a->data, (Expr *[]){from, e}));
        lower_end(lo);
    }
}

/* Puts tensor x in slot `to`. */
static void put_tensor(Lower *lo, const Value *x, const Seq *b, Expr *to) {
    for (uint32_t d = 0; b->dims_type != NULL && d < x->type->rank; d++)
        lower_store_buf(lo, b->dims, (Expr *[]){to, lx_i(lo, d)}, FN_NONE, lx_dim(lo, x->type->dim[d]));
    if (b->dims_type != NULL) end_row(lo, b, to, x->type->rank);
    if (b->data_type == NULL) return;
    uint32_t flat = lower_flat(lo, x);
    Expr *e = lower_for_dim(lo, type_numel(lo->cx, x->type));
    lower_store_buf(lo, b->data, (Expr *[]){to, e}, FN_NONE, lower_load_buf(lo, flat, (Expr *[]){e}));
    lower_end(lo);
}

/* Position operand i, counted from the end when negative; `missing` when it is left out. Outside [0, limit): error. */
static Expr *position(Lower *lo, const Node *n, uint32_t i, Expr *length, Expr *limit, Expr *missing) {
    if (i >= n->n_in || n->in[i] == NULL) return lx_2(lo, FN_INDEX, missing, limit);
    Expr *p = lx_cast(lo, DT_I64, lower_load_scalar(lo, n->in[i]));
    p = lx_select(lo, lx_2(lo, FN_LT, p, lx_i(lo, 0)), lx_add(lo, p, length), p);
    return lx_2(lo, FN_INDEX, p, limit);
}

static Expr *capacity_of(Lower *lo, const Seq *s) { /* where nothing is stored, everything fits */
    const Type *t = s->data_type != NULL ? s->data_type : s->dims_type;
    return t != NULL ? lx_dim(lo, t->dim[0]) : lx_i(lo, INT64_MAX);
}

static void store_length(Lower *lo, const Node *n, Expr *length) { lower_store(lo, n->out[0], NULL, length); }

bool lower_seq_construct(Lower *lo, const Node *n) {
    Seq b = seq_out(lo, n);
    store_length(lo, n, lx_i(lo, n->n_in));
    for (uint32_t i = 0; i < n->n_in; i++) put_tensor(lo, n->in[i], &b, lx_i(lo, i));
    return true;
}

bool lower_seq_insert(Lower *lo, const Node *n) {
    Seq a = seq_in(lo, n), b = seq_out(lo, n);
    Expr *one = lx_i(lo, 1), *longer = lx_add(lo, a.length, one), *capacity = capacity_of(lo, &b);
    Expr *p = lower_local(lo, DT_I64, position(lo, n, 4, a.length, longer, a.length));
    Expr *fits = lx_2(lo, FN_LE, longer, capacity);
    Expr *count = lower_local(lo, DT_I64, lx_select(lo, fits, a.length, lx_i(lo, 0)));
    store_length(lo, n, ex_require(lo->cx, fits, lx_add(lo, count, one), LATHE_RT_BOUND));
    Expr *s = lower_for(lo, count);
    copy_slot(lo, &a, s, &b, lx_select(lo, lx_2(lo, FN_LT, s, p), s, lx_add(lo, s, one)));
    lower_end(lo);
    lower_if(lo, fits);
    put_tensor(lo, n->in[3], &b, p);
    lower_end(lo);
    return true;
}

bool lower_seq_erase(Lower *lo, const Node *n) {
    Seq a = seq_in(lo, n), b = seq_out(lo, n);
    Expr *one = lx_i(lo, 1), *shorter = lx_sub(lo, a.length, one);
    Expr *p = lower_local(lo, DT_I64, position(lo, n, 3, a.length, a.length, shorter));
    Expr *count = lower_local(lo, DT_I64, lx_2(lo, FN_MAX, shorter, lx_i(lo, 0)));
    store_length(lo, n, count);
    Expr *s = lower_for(lo, count);
    copy_slot(lo, &a, lx_select(lo, lx_2(lo, FN_LT, s, p), s, lx_add(lo, s, one)), &b, s);
    lower_end(lo);
    return true;
}

bool lower_seq_resize(Lower *lo, const Node *n) {
    Seq a = seq_in(lo, n), b = seq_out(lo, n);
    Expr *fits = lx_2(lo, FN_LE, a.length, capacity_of(lo, &b));
    Expr *count = lower_local(lo, DT_I64, lx_select(lo, fits, a.length, lx_i(lo, 0)));
    store_length(lo, n, ex_require(lo->cx, fits, count, LATHE_RT_BOUND));
    Expr *s = lower_for(lo, count);
    copy_slot(lo, &a, s, &b, s);
    lower_end(lo);
    return true;
}

/* The run-time dims of out are what row p of dims says, `extra` at dimension `axis`. Returns the number of elements. */
static Expr *set_dims(Lower *lo, const Value *out, const Seq *a, Expr *p, uint32_t axis, Expr *extra, bool inserted) {
    Context *cx = lo->cx;
    Expr *count = lx_i(lo, 1);
    for (uint32_t d = 0; d < out->type->rank; d++) {
        const DimNode *dim = dim_node(cx, out->type->dim[d]);
        bool special = extra != NULL && d == axis;
        Expr *size = special ? extra : lower_load_buf(lo, a->dims, (Expr *[]){p, lx_i(lo, inserted && d > axis ? d - 1 : d)});
        count = lx_mul(lo, count, size);
        if (dim->kind == DIM_SYMBOL && dim->runtime) lower_set_dim(lo, out->type->dim[d], size);
    }
    return count;
}

bool lower_seq_at(Lower *lo, const Node *n) {
    Seq a = seq_in(lo, n);
    Expr *p = lower_local(lo, DT_I64, position(lo, n, 3, a.length, a.length, NULL));
    Expr *count = lower_local(lo, DT_I64, set_dims(lo, n->out[0], &a, p, 0, NULL, false));
    uint32_t flat = lower_flat(lo, n->out[0]);
    Expr *e = lower_for(lo, lx_2(lo, FN_MIN, count, lx_dim(lo, a.data_type->dim[1])));
    lower_store_buf(lo, flat, (Expr *[]){e}, FN_NONE, lower_load_buf(lo, a.data, (Expr *[]){p, e}));
    lower_end(lo);
    return true;
}

/* Products of x's dims before and behind axis. */
static void around(Lower *lo, const Type *t, uint32_t axis, Expr **outer, Expr **inner) {
    *outer = *inner = lx_i(lo, 1);
    for (uint32_t d = 0; d < t->rank; d++) {
        if (d < axis) *outer = lx_mul(lo, *outer, lx_dim(lo, t->dim[d]));
        if (d > axis) *inner = lx_mul(lo, *inner, lx_dim(lo, t->dim[d]));
    }
}

/* The parts that were listed must fill the axis. */
static void require_whole(Lower *lo, const Node *n, Expr *parts, Expr *wrong, Expr *end, Expr *total) {
    Expr *whole = lx_2(lo, FN_AND, lx_1(lo, FN_NOT, wrong), lx_2(lo, FN_EQ, end, total));
    store_length(lo, n, ex_require(lo->cx, whole, parts, LATHE_RT_SHAPE));
}

bool lower_seq_split(Lower *lo, const Node *n) {
    const Value *x = n->in[0], *split = n->n_in > 1 ? n->in[1] : NULL;
    const Type *t = x->type;
    int64_t given = attr_i(n, AT_SeqSplit_axis);
    uint32_t axis = (uint32_t)(given < 0 ? given + t->rank : given);
    bool keep = attr_i(n, AT_SeqSplit_keepdims) != 0;
    Seq b = seq_out(lo, n);
    Expr *outer, *inner, *total = lx_dim(lo, t->dim[axis]), *one = lx_i(lo, 1), *zero = lx_i(lo, 0), *size = one;
    around(lo, t, axis, &outer, &inner);
    Expr *parts = total;
    if (split != NULL && split->type->rank == 0) {
        size = lower_local(lo, DT_I64, lx_cast(lo, DT_I64, lower_load_scalar(lo, split)));
        Expr *positive = lx_2(lo, FN_GE, size, one);
        size = lower_local(lo, DT_I64, ex_require(lo->cx, positive, lx_2(lo, FN_MAX, size, one), LATHE_RT_VALUE));
        parts = lx_2(lo, FN_FLOORDIV, lx_add(lo, total, lx_sub(lo, size, one)), size);
    } else if (split != NULL) {
        parts = lx_dim(lo, split->type->dim[0]);
    }
    store_length(lo, n, parts);
    uint32_t flat = lower_flat(lo, x);
    Expr *start = lower_local(lo, DT_I64, zero);
    bool listed = split != NULL && split->type->rank == 1;
    Expr *wrong = listed ? lower_local(lo, DT_BOOL, ex_i(lo->cx, DT_BOOL, 0)) : NULL;
    Expr *s = lower_for(lo, parts);
    Expr *part = size;
    if (listed) {
        part = lower_local(lo, DT_I64, lx_cast(lo, DT_I64, lower_load(lo, split, (Expr *[]){s})));
        Expr *beyond = lx_2(lo, FN_GT, part, lx_sub(lo, total, start));
        lower_set(lo, wrong, lx_2(lo, FN_OR, wrong, lx_2(lo, FN_OR, lx_2(lo, FN_LT, part, zero), beyond)));
    }
    /* A part never reaches behind the end, whatever the sizes say. */
    part = lower_local(lo, DT_I64, lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, part, lx_sub(lo, total, start)), zero));
    if (b.dims_type != NULL) end_row(lo, &b, s, keep ? t->rank : t->rank - 1);
    for (uint32_t d = 0, k = 0; d < t->rank; d++)
        if (b.dims_type != NULL && (d != axis || keep)) lower_store_buf(lo, b.dims, (Expr *[]){s, lx_i(lo, k++)}, FN_NONE, d == axis ? part : lx_dim(lo, t->dim[d]));
    if (b.data_type == NULL) {
        lower_accumulate(lo, start, FN_ADD, part);
        lower_end(lo);
        if (listed) require_whole(lo, n, parts, wrong, start, total);
        return true;
    }
    Expr *o = lower_for(lo, outer), *j = lower_for(lo, part), *i = lower_for(lo, inner);
    Expr *to = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, o, part), j), inner), i);
    Expr *from = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, o, total), lx_add(lo, start, j)), inner), i);
    lower_store_buf(lo, b.data, (Expr *[]){s, to}, FN_NONE, lower_load_buf(lo, flat, (Expr *[]){from}));
    lower_end_n(lo, 3);
    lower_accumulate(lo, start, FN_ADD, part);
    lower_end(lo);
    if (listed) require_whole(lo, n, parts, wrong, start, total);
    return true;
}

/* Size d of row p, 0 where the element has no such dimension. */
static Expr *size_at(Lower *lo, const Seq *a, Expr *p, int64_t d) {
    return lx_2(lo, FN_MAX, lower_load_buf(lo, a->dims, (Expr *[]){p, lx_i(lo, d)}), lx_i(lo, 0));
}

bool lower_seq_concat(Lower *lo, const Node *n) {
    Seq a = seq_in(lo, n);
    const Type *t = n->out[0]->type;
    int64_t given = attr_i(n, AT_SeqConcat_axis);
    uint32_t axis = (uint32_t)(given < 0 ? given + t->rank : given);
    bool stack = attr_i(n, AT_SeqConcat_new_axis) != 0;
    Expr *zero = lx_i(lo, 0), *one = lx_i(lo, 1);
    Expr *total = lower_local(lo, DT_I64, stack ? a.length : zero);
    if (!stack) {
        Expr *s = lower_for(lo, a.length);
        lower_accumulate(lo, total, FN_ADD, size_at(lo, &a, s, axis));
        lower_end(lo);
    }
    set_dims(lo, n->out[0], &a, zero, axis, total, stack);
    Expr *outer = one, *inner = one;
    for (uint32_t d = 0; d < t->rank; d++) {
        Expr *size = size_at(lo, &a, zero, stack && d > axis ? d - 1 : d);
        if (d < axis) outer = lx_mul(lo, outer, size);
        if (d > axis) inner = lx_mul(lo, inner, size);
    }
    outer = lower_local(lo, DT_I64, outer);
    inner = lower_local(lo, DT_I64, inner);
    uint32_t flat = lower_flat(lo, n->out[0]);
    Expr *start = lower_local(lo, DT_I64, zero);
    Expr *s = lower_for(lo, a.length);
    Expr *part = lower_local(lo, DT_I64, stack ? one : size_at(lo, &a, s, axis));
    Expr *o = lower_for(lo, outer), *j = lower_for(lo, part), *i = lower_for(lo, inner);
    Expr *from = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, o, part), j), inner), i);
    Expr *to = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, o, total), lx_add(lo, start, j)), inner), i);
    lower_store_buf(lo, flat, (Expr *[]){to}, FN_NONE, lower_load_buf(lo, a.data, (Expr *[]){s, from}));
    lower_end_n(lo, 3);
    lower_accumulate(lo, start, FN_ADD, part);
    lower_end(lo);
    return true;
}

/* ---- adjoints ---------------------------------------------------------------------------------------------------- */
static uint32_t zero_slots(Lower *lo, const Value *v) {
    Expr *idx[2];
    lower_for_type(lo, v->type, idx);
    lower_store(lo, v, idx, lx_const(lo, dtype_compute(v->type->dtype), 0));
    lower_end_n(lo, 2);
    return lower_buf(lo, v);
}

bool lower_seq_put(Lower *lo, const Node *n) {
    uint32_t data = zero_slots(lo, n->out[0]), flat = lower_flat(lo, n->in[0]);
    Expr *length = lower_load_scalar(lo, n->in[1]), *p = lower_local(lo, DT_I64, position(lo, n, 2, length, length, NULL));
    Expr *e = lower_for(lo, lx_2(lo, FN_MIN, lx_dim(lo, type_numel(lo->cx, n->in[0]->type)), lx_dim(lo, n->out[0]->type->dim[1])));
    lower_store_buf(lo, data, (Expr *[]){p, e}, FN_NONE, lower_load_buf(lo, flat, (Expr *[]){e}));
    lower_end(lo);
    return true;
}

/* As SeqConcat, the other way. */
bool lower_seq_spread(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    int64_t given = attr_i(n, AT_SeqSpread_axis);
    uint32_t axis = (uint32_t)(given < 0 ? given + t->rank : given), data = zero_slots(lo, n->out[0]), flat = lower_flat(lo, n->in[0]);
    bool stack = attr_i(n, AT_SeqSpread_new_axis) != 0;
    Seq a = {.length = lower_load_scalar(lo, n->in[1]), .dims = lower_buf(lo, n->in[2]), .dims_type = n->in[2]->type};
    Expr *outer, *inner, *total = lx_dim(lo, t->dim[axis]), *start = lower_local(lo, DT_I64, lx_i(lo, 0));
    around(lo, t, axis, &outer, &inner);
    Expr *s = lower_for(lo, a.length), *part = lower_local(lo, DT_I64, stack ? lx_i(lo, 1) : size_at(lo, &a, s, axis));
    Expr *o = lower_for(lo, outer), *j = lower_for(lo, part), *i = lower_for(lo, inner);
    Expr *to = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, o, part), j), inner), i);
    Expr *from = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, o, total), lx_add(lo, start, j)), inner), i);
    lower_store_buf(lo, data, (Expr *[]){s, to}, FN_NONE, lower_load_buf(lo, flat, (Expr *[]){from}));
    lower_end_n(lo, 3);
    lower_accumulate(lo, start, FN_ADD, part);
    lower_end(lo);
    return true;
}
