/* Gradients of normalisations. With h = (x - mean) * r, r = 1 / sqrt(variance + epsilon), y = h * scale + bias and d = dy * scale:
 *
 *     dbias = sum dy       dscale = sum dy * h       dx = r * (d - mean(d) - h * mean(d * h))
 *
 * the means over what was normalised. RMSNormalization has no mean(d). Statistics that the operator can give are asked of it; otherwise
 * they are computed again. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

static Value *normalized_gradient(Grad *g, Value *d, Value *h, Value *r, uint32_t mask, bool centered) {
    Value *rest = g_mul(g, h, g_mean(g, g_mul(g, d, h), mask));
    if (centered) rest = g_add(g, g_mean(g, d, mask), rest);
    return g_mul(g, r, g_sub(g, d, rest));
}

/* What gradients of the statistics add to d: each element moves the mean by 1/count, and r by -r^2 h / count. */
static Value *with_statistics(Grad *g, Value *d, Value *dmean, Value *dr, Value *h, Value *r, Value *count) {
    if (dmean != NULL) d = g_add(g, d, g_div(g, dmean, count));
    if (dr != NULL) d = g_sub(g, d, g_mul(g, h, g_div(g, g_mul(g, dr, g_mul(g, r, r)), count)));
    return d;
}

static Value *inverse_root(Grad *g, Value *variance, double epsilon) { return g_1(g, OP_Reciprocal, g_1(g, OP_Sqrt, g_plus(g, variance, epsilon))); }

static uint32_t trailing(const Grad *g, AttrSlot axis) {
    uint32_t rank = g->n->in[0]->type->rank, from = g_axis(g, attr_i(g->n, axis), rank);
    return ((1u << rank) - 1) & ~((1u << from) - 1);
}

bool grad_layer_norm(Grad *g) {
    Value *x = g->n->in[0], *scale = g_in(g, 1);
    DType t = x->type->dtype;
    uint32_t mask = trailing(g, AT_LayerNormalization_axis);
    Value *dy = g_dy(g, 0), *dmean = g->n->n_out > 1 ? g->dy[1] : NULL, *dr = g->n->n_out > 2 ? g->dy[2] : NULL;
    if (!g_need_outputs(g, 3)) return false;
    Value *r = g_cast(g, g->n->out[2], t), *h = g_mul(g, g_sub(g, x, g_cast(g, g->n->out[1], t)), r);
    Value *dx = normalized_gradient(g, scale != NULL ? g_mul(g, dy, scale) : dy, h, r, mask, true);
    if (dmean != NULL) dmean = g_cast(g, dmean, t);
    if (dr != NULL) dr = g_cast(g, dr, t);
    g->dx[0] = dmean != NULL || dr != NULL ? with_statistics(g, dx, dmean, dr, h, r, g_count(g, x, mask)) : dx;
    if (g_wants(g, 1)) g->dx[1] = g_sum_to(g, g_mul(g, dy, h), scale);
    if (g_wants(g, 2)) g->dx[2] = g_sum_to(g, dy, g->n->in[2]);
    return true;
}

static Value *rms_normalized(Grad *g, Value *x, uint32_t mask, Value **r) {
    *r = inverse_root(g, g_mean(g, g_mul(g, x, x), mask), attr_f(g->n, attr_named(g->n, "epsilon")));
    return g_mul(g, x, *r);
}

bool grad_rms_norm(Grad *g) {
    Value *x = g->n->in[0], *scale = g_in(g, 1), *dy = g->dy[0], *r;
    uint32_t mask = trailing(g, attr_named(g->n, "axis"));
    Value *h = rms_normalized(g, x, mask, &r);
    g->dx[0] = normalized_gradient(g, scale != NULL ? g_mul(g, dy, scale) : dy, h, r, mask, false);
    if (g_wants(g, 1)) g->dx[1] = g_sum_to(g, g_mul(g, dy, h), scale);
    return true;
}

/* v, one per channel, as [C, 1, …] that broadcasts over x. */
static Value *per_channel(Grad *g, Value *v, Value *x) {
    if (x->type->rank <= 2) return v;
    int64_t axes[RANK_MAX];
    for (uint32_t a = 2; a < x->type->rank; a++) axes[a - 2] = a - 1;
    return g_2(g, OP_Unsqueeze, v, value_const_i64(g->m, x->type->rank - 2, axes));
}

/* v summed over everything but the channels: one per channel. */
static Value *channel_sum(Grad *g, Value *v) {
    uint32_t all = (1u << v->type->rank) - 1;
    Node *n = g_node(g, OP_ReduceSum, 2, (Value *[]){v, g_axes(g, all & ~2u)}, 1);
    attr_set_i(n, AT_ReduceSum_keepdims, 0);
    return g_done(g, n);
}

static bool has_groups(const Grad *g) { return g->n->op == OP_GroupNormalization; }

static uint32_t spatial_axes(const Value *x) { return ((1u << x->type->rank) - 1) & ~3u; }

/* v [N, C, 1, …]: for each channel the mean over those of its group. InstanceNormalization is GroupNormalization with a group per channel.
 * Sums over pixels and sums over channels are apart so that the former keep the layout of the image. */
static Value *over_group(Grad *g, Value *v) {
    if (!has_groups(g)) return v;
    int64_t shape[RANK_MAX] = {0, -1};
    for (uint32_t a = 2; a < v->type->rank; a++) shape[a] = 1;
    Value *groups = g_2(g, OP_Reshape, v, value_const_i64(g->m, 3, (int64_t[]){0, attr_i(g->n, AT_GroupNormalization_num_groups), -1}));
    Value *mean = g_2(g, OP_Expand, g_mean(g, groups, 4), g_1(g, OP_Shape, groups));
    return g_2(g, OP_Reshape, mean, value_const_i64(g->m, v->type->rank, shape));
}

static Value *group_normalized(Grad *g, Value *x, Value **r) {
    Value *centered = g_sub(g, x, over_group(g, g_mean(g, x, spatial_axes(x))));
    *r = inverse_root(g, over_group(g, g_mean(g, g_mul(g, centered, centered), spatial_axes(x))), attr_f(g->n, attr_named(g->n, "epsilon")));
    return g_mul(g, centered, *r);
}

bool grad_group_norm(Grad *g) {
    Value *x = g->n->in[0], *dy = g->dy[0], *r, *scale = per_channel(g, g->n->in[1], x);
    Value *h = group_normalized(g, x, &r), *count = g_count(g, x, spatial_axes(x));
    Value *mean_dy = g_mean(g, dy, spatial_axes(x)), *mean_dyh = g_mean(g, g_mul(g, dy, h), spatial_axes(x));
    Value *rest = g_add(g, over_group(g, g_mul(g, mean_dy, scale)), g_mul(g, h, over_group(g, g_mul(g, mean_dyh, scale))));
    g->dx[0] = g_mul(g, r, g_sub(g, g_mul(g, dy, scale), rest));
    if (g_wants(g, 1)) g->dx[1] = g_mul(g, channel_sum(g, mean_dyh), count);
    if (g_wants(g, 2)) g->dx[2] = g_mul(g, channel_sum(g, mean_dy), count);
    return true;
}

Value *grad_norm_again(Module *m, Node *at, Node *n, Value *x) {
    Grad own = {.m = m, .n = n, .at = at}, *g = &own;
    Value *r, *y = n->op == OP_RMSNormalization ? rms_normalized(g, x, trailing(g, attr_named(n, "axis")), &r) : group_normalized(g, x, &r);
    if (n->op == OP_RMSNormalization) return n->n_in > 1 && n->in[1] != NULL ? g_mul(g, y, n->in[1]) : y;
    return g_add(g, g_mul(g, y, per_channel(g, n->in[1], x)), per_channel(g, n->in[2], x));
}

/* Inference form: x, scale, bias and the statistics are operands like others. */
bool grad_batch_norm(Grad *g) {
    Value *x = g->n->in[0], *dy = g->dy[0];
    Value *r = inverse_root(g, g->n->in[4], attr_f(g->n, AT_BatchNormalization_epsilon));
    Value *factor = g_mul(g, g->n->in[1], r);
    if (g_wants(g, 0)) g->dx[0] = g_mul(g, dy, per_channel(g, factor, x));
    if (!g_wants(g, 1) && !g_wants(g, 2) && !g_wants(g, 3) && !g_wants(g, 4)) return true;
    Value *dh = channel_sum(g, g_mul(g, dy, g_sub(g, x, per_channel(g, g->n->in[3], x)))), *sum = channel_sum(g, dy);
    g->dx[1] = g_mul(g, dh, r);
    g->dx[2] = sum;
    g->dx[3] = g_neg(g, g_mul(g, sum, factor));
    g->dx[4] = g_times(g, g_mul(g, g_mul(g, dh, factor), g_mul(g, r, r)), -0.5);
    return true;
}

/* Training form; outputs 3 and 4 are the batch's mean and r. Running statistics are state, no gradient flows through them. */
bool grad_batch_norm_train(Grad *g) {
    Value *x = g->n->in[0], *dy = g_dy(g, 0), *dmean = g->n->n_out > 3 ? g->dy[3] : NULL, *dr = g->n->n_out > 4 ? g->dy[4] : NULL;
    if (g->dy[0] == NULL && dmean == NULL && dr == NULL) return true;
    if (!g_need_outputs(g, 5)) return false;
    DType t = x->type->dtype;
    Value *mean = per_channel(g, g_cast(g, g->n->out[3], t), x), *inverse = g_cast(g, g->n->out[4], t), *r = per_channel(g, inverse, x);
    Value *h = g_mul(g, g_sub(g, x, mean), r), *dbias = channel_sum(g, dy), *dscale = channel_sum(g, g_mul(g, dy, h));
    Value *count = g_count(g, x, ((1u << x->type->rank) - 1) & ~2u), *factor = g_mul(g, g_cast(g, g->n->in[1], t), inverse);
    Value *rest = g_add(g, per_channel(g, g_div(g, dbias, count), x), g_mul(g, h, per_channel(g, g_div(g, dscale, count), x)));
    Value *dx = g_mul(g, per_channel(g, factor, x), g_sub(g, dy, rest));
    if (dmean != NULL) dmean = per_channel(g, g_cast(g, dmean, t), x);
    if (dr != NULL) dr = per_channel(g, g_cast(g, dr, t), x);
    g->dx[0] = with_statistics(g, dx, dmean, dr, h, r, count);
    g->dx[1] = g_cast(g, dscale, g->n->in[1]->type->dtype);
    g->dx[2] = g_cast(g, dbias, g->n->in[2]->type->dtype);
    return true;
}
