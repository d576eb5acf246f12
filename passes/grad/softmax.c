/* Gradients of softmax and of the losses over class scores.
 *
 *     Softmax:                  dx = y * (dy - sum(dy * y))                LogSoftmax:  dx = dy - exp(y) * sum(dy)
 *     SoftmaxCrossEntropyLoss:  dx = (exp(x - logsumexp(x)) - onehot(label)) * weight[label] * dloss
 *
 * The loss's gradient is pointwise in the scores and a number per row: probabilities and one-hot rows are never stored. The loss is split in two, so that
 * forward and backward pass share the number per row:
 *
 *     SoftmaxCrossEntropyLoss(x, label, weight)   ->   z = ReduceLogSumExp(x)   ClassLoss(x, label, weight, z) = weight[label] * (z - x[label]) */
#include "passes/grad/grad.h"
#include "passes/rules.h"

/* exp(x - top). Below exp(-60) it is 0 in float: that is far below the rounding of a row's sum, and the products such numbers go into would
 * run into denormals, which processors compute a hundred times slower. */
Value *g_probability(Grad *g, Value *x, Value *top) {
    Value *z = g_sub(g, x, top), *p = g_1(g, OP_Exp, z);
    if (x->type->dtype != DT_F32) return p;
    return g_where(g, g_2(g, OP_Greater, z, g_num(g, x, -60)), p, g_num(g, x, 0));
}

bool grad_softmax(Grad *g) { /* Softmax, MaskedSoftmax */
    Value *y = g->n->out[0], *p = g_mul(g, g->dy[0], y);
    uint32_t axis = g_axis(g, attr_i(g->n, attr_named(g->n, "axis")), y->type->rank);
    g->dx[0] = g_sub(g, p, g_mul(g, y, g_sum(g, p, 1u << axis)));
    return true;
}

static Value *log_softmax_gradient(Grad *g, Value *y, Value *dy, uint32_t axis) {
    return g_sub(g, dy, g_mul(g, g_1(g, OP_Exp, y), g_sum(g, dy, 1u << axis)));
}

bool grad_log_softmax(Grad *g) {
    Value *y = g->n->out[0];
    g->dx[0] = log_softmax_gradient(g, y, g->dy[0], g_axis(g, attr_i(g->n, AT_LogSoftmax_axis), y->type->rank));
    return true;
}

/* 0, 1, … C-1 along axis 1 of rank `rank`. */
static Value *class_numbers(Grad *g, Value *x) {
    int64_t count = dim_value(g->m->cx, x->type->dim[1]), dim[RANK_MAX], *v = ARENA_ARRAY(&g->m->cx->arena, int64_t, (size_t)count + 1);
    for (int64_t i = 0; i < count; i++) v[i] = i;
    for (uint32_t a = 0; a < x->type->rank; a++) dim[a] = a == 1 ? count : 1;
    return expand_ints(g->m, x->type->rank, dim, v);
}

typedef struct Labels { Value *label, *weight, *ignored; } Labels; /* one per position; weight NULL: 1, ignored NULL: none is */

/* The label, a valid one where it is ignored, and what it weighs: 0 where it is ignored. */
static Labels labels_of(Grad *g) {
    Value *x = g->n->in[0], *w = g_in(g, 2);
    Labels l = {.label = g_cast(g, g->n->in[1], DT_I64)};
    AttrSlot ignore = attr_named(g->n, "ignore_index");
    if (attr_has(g->n, ignore)) {
        l.ignored = g_2(g, OP_Equal, l.label, value_const_scalar(g->m, DT_I64, (double)attr_i(g->n, ignore)));
        l.label = g_where(g, l.ignored, value_const_scalar(g->m, DT_I64, 0), l.label);
    }
    if (w != NULL) l.weight = expand_gather(g->m, g->at, w, l.label, 0);
    if (l.ignored != NULL) l.weight = g_where(g, l.ignored, g_num(g, x, 0), l.weight != NULL ? l.weight : g_num(g, x, 1));
    return l;
}

/* What a unit of loss at each position moves: dloss times weight, over the sum of weights for the mean. */
static Value *coefficient(Grad *g, const Labels *l) {
    Value *dy = g_dy(g, 0);
    if (!attr_s_is(g->m->cx, g->n, attr_named(g->n, "reduction"), "mean")) return l->weight != NULL ? g_mul(g, dy, l->weight) : dy;
    uint32_t all = (1u << l->label->type->rank) - 1;
    if (l->weight == NULL) return g_div(g, dy, g_cast(g, g_count(g, l->label, all), dy->type->dtype));
    Node *n = g_node(g, OP_ReduceSum, 1, &l->weight, 1);
    attr_set_i(n, AT_ReduceSum_keepdims, 0);
    return g_mul(g, g_div(g, dy, g_done(g, n)), l->weight);
}

/* Not in small types: the number per row would be rounded to them. */
bool grad_loss_shares_partition(const Node *n) {
    DType t = n->in[0]->type->dtype;
    return (t == DT_F32 || t == DT_F64) && (n->n_out < 2 || n->out[1] == NULL);
}

bool grad_expand_class_loss(Module *m, Node *n, Value **out) {
    Value *z = build2(m, n, OP_ReduceLogSumExp, n->in[0], value_const_i64(m, 1, (int64_t[]){1}));
    Node *loss = expand_node(m, n, OP_ClassLoss, 4, (Value *[]){n->in[0], n->in[1], expand_input(n, 2), z}, 1);
    AttrSlot ignore = attr_named(n, "ignore_index");
    if (attr_has(n, ignore)) attr_set_i(loss, AT_ClassLoss_ignore_index, attr_i(n, ignore));
    *attr_at(loss, AT_ClassLoss_reduction) = *attr_at(n, attr_named(n, "reduction"));
    out[0] = expand_result(m, loss);
    return out[0] != NULL;
}

/* NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss, ClassLoss. */
bool grad_class_loss(Grad *g) {
    Value *x = g->n->in[0], *zero = g_num(g, x, 0), *class_axis = value_const_i64(g->m, 1, (int64_t[]){1});
    if (!dim_is_const(g->m->cx, x->type->dim[1])) {
        diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient needs a number of classes that is known at compile time");
        return false;
    }
    bool softmax = g->n->op == OP_SoftmaxCrossEntropyLoss;
    Value *d = NULL;
    if (g->dy[0] != NULL) {
        Labels l = labels_of(g);
        DType narrow = dim_value(g->m->cx, x->type->dim[1]) <= INT32_MAX ? DT_I32 : DT_I64; /* of the scores' width, for vectors */
        Value *label = g_cast(g, g_2(g, OP_Unsqueeze, l.label, class_axis), narrow);
        Value *c = coefficient(g, &l), *hot = g_2(g, OP_Equal, g_cast(g, class_numbers(g, x), narrow), label);
        if (c->type->rank != 0) c = g_2(g, OP_Unsqueeze, c, class_axis);
        if (softmax) {
            Value *p = g_probability(g, x, g_2(g, OP_ReduceLogSumExp, x, class_axis));
            d = g_mul(g, g_sub(g, p, g_where(g, hot, g_num(g, x, 1), zero)), c);
        } else {
            d = g_where(g, hot, g_neg(g, c), zero);
        }
        if (g->n->op == OP_ClassLoss) g->dx[3] = g_expand_like(g, c, g->n->in[3]);
    }
    if (softmax && g->n->n_out > 1 && g->dy[1] != NULL) {
        Value *more = log_softmax_gradient(g, g->n->out[1], g->dy[1], 1);
        d = d != NULL ? g_add(g, d, more) : more;
    }
    g->dx[0] = g_expand_like(g, d, x);
    if (g_wants(g, 2)) {
        diag(g->m->cx, SEV_ERROR, g->n->loc, "the gradient with respect to class weights is not supported");
        return false;
    }
    return true;
}
