/* Shapes of normalisations and losses. Y has the type of X; what else an operator gives (statistics, running means) is
 * derived from X's dims: LayerNormalization(x: f32[N,8,64], axis = -1) has Mean f32[N,8,1]. */
#include "ir/shape/shape.h"

bool shape_norm(Module *m, Node *n) { /* Y like X, nothing else */
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    bool last = n->op == OP_GroupNormalizationChannelsLast, grouped = last || n->op == OP_GroupNormalization;
    if ((n->op == OP_InstanceNormalization || grouped || n->op == OP_LRN) && t->rank < 2) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 has rank %u, batch and channel dimensions are needed", t->rank);
        return false;
    }
    Dim channels = t->rank > 1 ? t->dim[last ? t->rank - 1u : 1] : 0;
    if (grouped) {
        int64_t g = attr_i(n, attr_named(n, "num_groups"));
        if (g < 1 || (dim_is_const(m->cx, channels) && dim_value(m->cx, channels) % g != 0)) {
            diag(m->cx, SEV_ERROR, n->loc, "num_groups %lld does not divide the channels", (long long)g);
            return false;
        }
    }
    for (uint32_t i = 1; i < n->n_in && (n->op == OP_InstanceNormalization || grouped); i++) {
        const Type *p = n->in[i] != NULL ? shape_in(m, n, i) : NULL;
        if (p == NULL || p->rank != 1) {
            diag(m->cx, SEV_ERROR, n->loc, "input %u must have one element per channel", i);
            return false;
        }
        if (shape_unify(m, n, p->dim[0], channels, "channels") == 0) return false;
    }
    shape_out(m, n, 0, t->dtype, t->rank, t->dim);
    return true;
}

/* LayerNormalization: Y, Mean, InvStdDev; RMSNormalization: Y. The statistics keep the normalised axes as 1. */
bool shape_layer_norm(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    uint32_t axis, rank;
    Dim dim[RANK_MAX];
    if (t == NULL || !shape_axis(m, n, attr_i(n, attr_named(n, "axis")), t->rank, &axis)) return false;
    for (uint32_t i = 1; i < n->n_in; i++) {
        if (n->in[i] == NULL) continue;
        const Type *p = shape_in(m, n, i);
        if (p == NULL || !shape_broadcast(m, n, t, p, &rank, dim)) return false;
        if (p->rank > t->rank) {
            diag(m->cx, SEV_ERROR, n->loc, "input %u has rank %u, more than the rank %u of input 0", i, p->rank, t->rank);
            return false;
        }
    }
    shape_out(m, n, 0, t->dtype, t->rank, t->dim);
    for (uint32_t a = 0; a < t->rank; a++) dim[a] = a < axis ? t->dim[a] : dim_const(m->cx, 1);
    DType stat = t->dtype == DT_F64 ? DT_F64 : attr_i(n, attr_named(n, "stash_type")) == 1 ? DT_F32 : t->dtype;
    for (uint32_t i = 1; i < n->n_out; i++) shape_out(m, n, i, stat, t->rank, dim);
    return true;
}

/* BatchNormalization: Y, and in training the running mean and variance. */
bool shape_batch_norm(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    if (t->rank < 1) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 has rank 0, a channel dimension is needed");
        return false;
    }
    Dim channels = t->rank > 1 ? t->dim[1] : dim_const(m->cx, 1);
    for (uint32_t i = 1; i < 5; i++) {
        const Type *p = shape_in(m, n, i);
        if (p == NULL) return false;
        if (p->rank != 1) {
            diag(m->cx, SEV_ERROR, n->loc, "input %u has rank %u, one element per channel is needed", i, p->rank);
            return false;
        }
        if (shape_unify(m, n, p->dim[0], channels, "channels") == 0) return false;
    }
    shape_out(m, n, 0, t->dtype, t->rank, t->dim);
    for (uint32_t i = 1; i < n->n_out; i++) { /* running statistics, then those of the batch */
        const Type *p = n->in[i < 3 ? 2 + i : 3]->type;
        shape_out(m, n, i, p->dtype, 1, p->dim);
    }
    return true;
}

/* Losses: scores [N, C, d...], target [N, d...]; one loss per target, or a scalar; output 1 is log_softmax of the scores. */
bool shape_class_loss(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *target = t != NULL ? shape_in(m, n, 1) : NULL;
    if (target == NULL) return false;
    if (t->rank < 2 || target->rank + 1 != t->rank) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 has rank %u and input 1 rank %u, [N, C, ...] and [N, ...] are needed", t->rank, target->rank);
        return false;
    }
    Dim dim[RANK_MAX];
    for (uint32_t a = 0; a < target->rank; a++) {
        dim[a] = shape_unify(m, n, t->dim[a == 0 ? 0 : a + 1], target->dim[a], "scores and labels");
        if (dim[a] == 0) return false;
    }
    bool none = attr_s_is(m->cx, n, attr_named(n, "reduction"), "none");
    shape_out(m, n, 0, t->dtype, none ? target->rank : 0, dim);
    shape_out(m, n, 1, t->dtype, t->rank, t->dim);
    return true;
}
