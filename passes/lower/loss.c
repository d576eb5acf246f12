/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: scores x [N, C, d...], labels [N, d...], class weights w [C].
 *
 *     loss[n, d] = -w[label] * p[n, label, d]      p = x, or log_softmax(x) along C
 *     sum:  of all losses         mean: sum / sum of w[label]         a label equal to ignore_index counts as nothing
 *
 * ClassLoss is SoftmaxCrossEntropyLoss with log sum exp of the rows of x as input 3.
 *
 * A label outside [0, C) that is not ignored is a run-time index error. */
#include "passes/lower/rows.h"
#include "passes/rules.h"

typedef struct Loss {
    Lower *lo;
    const Node *n;
    const Type *x;
    DType t;
    bool softmax, has_ignore;
    int64_t ignore;
} Loss;

/* w[label] (0 when ignored) and the safe class index of one target element. */
static Expr *weight_of(Loss *s, Expr *const *at, Expr **index) {
    Lower *lo = s->lo;
    Expr *label = lx_cast(lo, DT_I64, lower_load(lo, s->n->in[1], at)), *classes = lx_dim(lo, s->x->dim[1]);
    Expr *ignored = s->has_ignore ? lx_2(lo, FN_EQ, label, lx_i(lo, s->ignore)) : ex_i(lo->cx, DT_BOOL, 0);
    *index = lx_2(lo, FN_INDEX, lx_select(lo, ignored, lx_i(lo, 0), label), classes);
    Expr *one = lx_const(lo, s->t, 1);
    Expr *w = s->n->n_in > 2 && s->n->in[2] != NULL ? lx_cast(lo, s->t, lower_load(lo, s->n->in[2], index)) : one;
    return lx_select(lo, ignored, lx_const(lo, s->t, 0), w);
}

/* max + log sum exp(x - max) of every row of scores, into scratch; and output 1. */
static Value *log_partition(Loss *s) {
    Lower *lo = s->lo;
    const Value *x = s->n->in[0];
    Dim dim[RANK_MAX];
    Expr *idx[RANK_MAX];
    for (uint32_t a = 0; a < s->x->rank; a++) dim[a] = a == 1 ? dim_const(lo->cx, 1) : s->x->dim[a];
    Value *v = lower_scratch(lo, type_tensor(lo->cx, s->t, s->x->rank, dim));
    Rows r;
    rows_open(&r, lo, s->x->rank, s->x->dim, 2);
    RowAcc top = rows_acc(&r, s->t, lower_lowest(lo, s->t));
    rows_each(&r);
    rows_add(&r, top, FN_MAX, lx_cast(lo, s->t, lower_load(lo, x, r.idx)));
    rows_each_end(&r);
    RowAcc sum = rows_acc(&r, s->t, lx_const(lo, s->t, 0));
    rows_each(&r);
    rows_add(&r, sum, FN_ADD, lx_1(lo, FN_EXP, lx_sub(lo, lx_cast(lo, s->t, lower_load(lo, x, r.idx)), rows_get(&r, top))));
    rows_each_end(&r);
    rows_lane(&r);
    for (uint32_t a = 0; a < s->x->rank; a++) idx[a] = a == 1 ? lx_i(lo, 0) : r.idx[a];
    lower_store(lo, v, idx, lx_add(lo, rows_get(&r, top), lx_1(lo, FN_LOG, rows_get(&r, sum))));
    rows_lane_end(&r);
    if (s->n->n_out > 1 && lower_is_wanted(lo, s->n->out[1])) {
        rows_each(&r);
        Expr *y = lx_sub(lo, lx_cast(lo, s->t, lower_load(lo, x, r.idx)), rows_get(&r, top));
        lower_store(lo, s->n->out[1], r.idx, lx_sub(lo, y, lx_1(lo, FN_LOG, rows_get(&r, sum))));
        rows_each_end(&r);
    }
    rows_close(&r);
    return v;
}

static Expr *loss_of(Loss *s, Expr *const *at, const Value *partition, Expr **weight) {
    Lower *lo = s->lo;
    Expr *index, *idx[RANK_MAX];
    *weight = weight_of(s, at, &index);
    idx[0] = at[0];
    for (uint32_t a = 2; a < s->x->rank; a++) idx[a] = at[a - 1];
    idx[1] = index;
    Expr *e = lx_cast(lo, s->t, lower_load(lo, s->n->in[0], idx));
    idx[1] = lx_i(lo, 0);
    if (partition != NULL) e = lx_sub(lo, e, lower_load(lo, partition, idx));
    e = lx_mul(lo, lx_1(lo, FN_NEG, e), *weight);
    /* 0 * inf would be NaN: what is ignored must not matter */
    Expr *zero = lx_const(lo, s->t, 0);
    return s->has_ignore ? lx_select(lo, lx_2(lo, FN_EQ, *weight, zero), zero, e) : e;
}

bool lower_class_loss(Lower *lo, const Node *n) {
    Loss s = {.lo = lo, .n = n, .x = n->in[0]->type, .softmax = n->op == OP_SoftmaxCrossEntropyLoss};
    AttrSlot ignore = attr_named(n, "ignore_index"), reduction = attr_named(n, "reduction");
    s.t = lower_float_type(s.x->dtype);
    s.has_ignore = attr_has(n, ignore);
    if (s.has_ignore) s.ignore = attr_i(n, ignore);
    const Value *partition = s.softmax ? log_partition(&s) : n->op == OP_ClassLoss ? n->in[3] : NULL;
    const Type *target = n->in[1]->type;
    Expr *at[RANK_MAX], *weight;
    if (attr_s_is(lo->cx, n, reduction, "none")) {
        lower_for_type(lo, target, at);
        lower_store(lo, n->out[0], at, loss_of(&s, at, partition, &weight));
        lower_end_n(lo, target->rank);
        return true;
    }
    Expr *zero = lx_const(lo, s.t, 0), *once = lower_for(lo, lx_i(lo, 1)); /* a block for the two sums */
    (void)once;
    Expr *sum = lower_local(lo, s.t, zero), *weights = lower_local(lo, s.t, zero);
    lower_for_type(lo, target, at);
    Expr *loss = loss_of(&s, at, partition, &weight);
    lower_accumulate(lo, sum, FN_ADD, loss);
    lower_accumulate(lo, weights, FN_ADD, weight);
    lower_end_n(lo, target->rank);
    lower_store(lo, n->out[0], NULL, attr_s_is(lo->cx, n, reduction, "sum") ? sum : lx_div(lo, sum, weights));
    lower_end(lo);
    return true;
}
