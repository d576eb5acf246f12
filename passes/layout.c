/* Channels-last layout: convolutions and what stands between them move from [N, C, spatial...] to [N, spatial..., C],
 * where a pixel's channels are one vector and 1x1 convolutions are plain matrix products.
 *
 *     %a = Conv(%x, %w)  %b = Relu(%a)  %c = Conv(%b, %v)  %y = Softmax(%c)
 *  ->
 *     %x' = Transpose(%x) {perm = [0,2,3,1]}
 *     %a' = ConvChannelsLast(%x', %w)  %b' = Relu(%a')  %c' = ConvChannelsLast(%b', %v)
 *     %c = Transpose(%c') {perm = [0,3,1,2]}  %y = Softmax(%c)
 *
 * One walk in execution order. A value can have two forms: the model's, and its channels-last form. Convolutions ask for
 * the channels-last form of their input and make that of their output; a node that does not care (pointwise, Concat,
 * pools, reductions) follows its inputs if one of them has it; any other node asks for the model's form. A form that
 * does not exist yet is made by a Transpose (a Reshape when the spatial sizes are 1), once per value. So transposes stand
 * only where the two worlds meet. */
#include <math.h>

#include "ir/shape/convolution.h"
#include "ir/shape/reduce.h"
#include "lathe.h"
#include "passes/pass.h"
#include "passes/rules.h"

typedef struct Layout {
    Context *cx;
    Module *m;
    Graph *g;
    Node *at;              /* the node being looked at: new nodes go before it */
    Value **last;          /* by value id: the channels-last form */
    Value **first;         /* by value id: the model's form of a value whose node was replaced */
    uint32_t n_value;      /* size of both tables */
    VEC(Node *) replaced;
    bool *is_replaced;     /* by node id, of the nodes there were */
} Layout;

static bool known(const Layout *l, const Value *v) { return v->id < l->n_value; }
static bool has_last(const Layout *l, const Value *v) { return v != NULL && known(l, v) && l->last[v->id] != NULL; }

static bool is_dim(const Layout *l, Dim d, int64_t n) { return dim_is_const(l->cx, d) && dim_value(l->cx, d) == n; }

static bool is_tensor(const Value *v) { return v != NULL && v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN; }

static bool spatial_is_one(const Layout *l, const Type *t, uint32_t first) {
    for (uint32_t i = 0; i + 2 < t->rank; i++)
        if (!is_dim(l, t->dim[first + i], 1)) return false;
    return true;
}

/* ---- the two forms ---------------------------------------------------------------------------------------------------- */
static Value *move_constant(Layout *l, const Value *v, const uint32_t *perm) {
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < v->type->rank; i++) dim[i] = v->type->dim[perm[i]];
    return value_const(l->m, type_tensor(l->cx, v->type->dtype, v->type->rank, dim), const_transpose(l->cx, v, perm), true);
}

static Value *finish(Layout *l, Node *n) {
    n->loc = l->at != NULL ? l->at->loc : n->loc;
    return node_infer(l->m, n) ? n->out[0] : NULL;
}

/* A Reshape to dims of which at most the first is not constant (it stays as it is). */
static Value *reshape(Layout *l, Value *v, uint32_t r, const Dim *dim) {
    int64_t shape[RANK_MAX];
    for (uint32_t i = 0; i < r; i++) {
        if (!dim_is_const(l->cx, dim[i]) && i != 0) return NULL;
        shape[i] = dim_is_const(l->cx, dim[i]) ? dim_value(l->cx, dim[i]) : 0;
        if (shape[i] == 0 && dim_is_const(l->cx, dim[i])) return NULL;
    }
    Node *n = node_new(l->m, l->g, l->at, OP_Reshape, 2, (Value *[]){v, value_const_i64(l->m, r, shape)}, 1);
    return finish(l, n);
}

static Value *permuted(Layout *l, Value *v, bool to_last) {
    const Type *t = v->type;
    uint32_t r = t->rank, perm[RANK_MAX];
    int64_t attr[RANK_MAX];
    perm[0] = 0;
    for (uint32_t i = 1; i < r; i++) perm[i] = to_last ? (i + 1 < r ? i + 1 : 1) : (i == 1 ? r - 1 : i - 1);
    for (uint32_t i = 0; i < r; i++) attr[i] = perm[i];
    if (v->data != NULL && dtype_bits(t->dtype) >= 8 && t->dtype != DT_STRING) return move_constant(l, v, perm);
    if (spatial_is_one(l, t, to_last ? 2 : 1)) {
        Dim dim[RANK_MAX];
        for (uint32_t i = 0; i < r; i++) dim[i] = t->dim[perm[i]];
        Value *same = reshape(l, v, r, dim);
        if (same != NULL) return same;
    }
    Node *n = node_new(l->m, l->g, l->at, OP_Transpose, 1, &v, 1);
    attr_set_ints(l->cx, n, AT_Transpose_perm, attr, r);
    return finish(l, n);
}

static Value *channels_last(Layout *l, Value *v) {
    if (!known(l, v)) return permuted(l, v, true);
    if (l->last[v->id] == NULL) l->last[v->id] = permuted(l, v, true);
    return l->last[v->id];
}

/* The model's form of v for readers that need it. */
static Value *model_form(Layout *l, Value *v) {
    if (v == NULL || !known(l, v) || v->def == NULL || l->last[v->id] == NULL || !l->is_replaced[v->def->id]) return v;
    if (l->first[v->id] == NULL) {
        l->first[v->id] = permuted(l, l->last[v->id], false);
        if (l->first[v->id] == NULL) return v;
        l->first[v->id]->name = v->name;
    }
    return l->first[v->id];
}

/* The node's result now exists as `made`, channels last; n itself goes when the walk is over. */
static bool replace(Layout *l, Node *n, Value *made) {
    if (made == NULL) return false;
    l->last[n->out[0]->id] = made;
    vec_push(&l->cx->scratch, &l->replaced, n);
    l->is_replaced[n->id] = true;
    return true;
}

/* ---- nodes -------------------------------------------------------------------------------------------------------------- */
/* Axis of [N, C, spatial...] to that of [N, spatial..., C]. */
static int64_t moved_axis(int64_t axis, uint32_t r) {
    if (axis < 0) axis += r;
    return axis == 0 ? 0 : axis == 1 ? (int64_t)r - 1 : axis - 1;
}

static Node *same_node(Layout *l, const Node *n, Op op, uint32_t n_in, Value *const *in) {
    Node *made = node_new(l->m, l->g, l->at, op, n_in, in, 1);
    attr_share(made, n);
    return made;
}

static bool move_conv(Layout *l, Node *n) {
    bool transposed = n->op == OP_ConvTranspose;
    const Value *x = n->in[0], *w = n->in[1];
    if (!is_tensor(x) || x->type->dtype != DT_F32 || !is_tensor(w) || x->type->rank < 3 || x->type->rank > 5) return false;
    if (!dim_is_const(l->cx, x->type->dim[1])) return false;
    Value *in[3] = {channels_last(l, n->in[0]), n->in[1], n->n_in > 2 ? n->in[2] : NULL};
    if (in[0] == NULL) return false;
    Node *made = same_node(l, n, transposed ? OP_ConvTransposeChannelsLast : OP_ConvChannelsLast, n->n_in, in);
    return replace(l, n, finish(l, made));
}

/* The gradient of weights keeps the layout of weights; only what it reads moves. */
static bool move_conv_grad(Layout *l, Node *n) {
    const Type *x = n->in[0]->type;
    if (!is_tensor(n->in[1]) || x->dtype != DT_F32 || x->rank < 3 || x->rank > 5 || !dim_is_const(l->cx, x->dim[1])) return false;
    Value *in[2] = {channels_last(l, n->in[0]), channels_last(l, n->in[1])};
    if (in[0] == NULL || in[1] == NULL) return false;
    n->op = OP_ConvGradWeightChannelsLast; /* the attributes are the same ones */
    n->in[0] = in[0];
    n->in[1] = in[1];
    return true;
}

static bool packed_integer_conv(const Node *n) { return n->op == OP_IntegerConv && n->in[1]->data != NULL && is_tensor(n->in[0]); }

static bool move_integer_conv(Layout *l, Node *n) {
    const Value *x = n->in[0];
    if (!packed_integer_conv(n) || x->type->rank < 3 || x->type->rank > 5 || !dim_is_const(l->cx, x->type->dim[1])) return false;
    Value *in[5] = {channels_last(l, n->in[0])};
    if (in[0] == NULL) return false;
    for (uint32_t i = 1; i < n->n_in; i++) in[i] = n->in[i];
    return replace(l, n, finish(l, same_node(l, n, OP_IntegerConvChannelsLast, n->n_in, in)));
}

static bool move_pool(Layout *l, Node *n) {
    if (!has_last(l, n->in[0]) || (n->n_out > 1 && n->out[1] != NULL)) return false;
    Value *in = channels_last(l, n->in[0]);
    return replace(l, n, finish(l, same_node(l, n, n->op == OP_MaxPool ? OP_MaxPoolChannelsLast : OP_AveragePoolChannelsLast, 1, &in)));
}

static bool move_global_pool(Layout *l, Node *n) {
    if (!has_last(l, n->in[0])) return false;
    uint32_t r = n->in[0]->type->rank;
    int64_t axes[RANK_MAX];
    for (uint32_t i = 0; i + 2 < r; i++) axes[i] = 1 + i;
    Value *in[2] = {channels_last(l, n->in[0]), value_const_i64(l->m, r - 2, axes)};
    Node *made = node_new(l->m, l->g, l->at, n->op == OP_GlobalAveragePool ? OP_ReduceMean : OP_ReduceMax, 2, in, 1);
    return replace(l, n, finish(l, made));
}

/* Reductions over constant axes. Without keepdims only those that leave axes whose order both forms agree on: [N, C], say, or [C]. */
static bool move_reduce(Layout *l, Node *n) {
    if (!has_last(l, n->in[0])) return false;
    uint32_t r = n->in[0]->type->rank, mask, k = 0;
    bool runtime;
    if (!reduce_mask(l->m, n, &mask, &runtime)) return false; /* axes of the run: an empty mask */
    uint32_t kept = ((1u << r) - 1) & ~mask;
    bool keep = reduce_keepdims(n), agree = (kept & 2) == 0 || (kept & ~3u) == 0;
    if (mask == 0 || (!keep && !agree)) return false;
    int64_t axes[RANK_MAX];
    for (uint32_t i = 0; i < r; i++)
        if (mask >> i & 1) axes[k++] = moved_axis(i, r);
    Value *in[2] = {channels_last(l, n->in[0]), value_const_i64(l->m, k, axes)};
    Node *made = same_node(l, n, (Op)n->op, 2, in);
    if (keep) return replace(l, n, finish(l, made));
    n->in[0] = in[0];
    n->in[1] = in[1];
    node_remove(made);
    return true;
}

/* An operand of a pointwise node as it must be to broadcast against channels-last results. NULL: cannot be. */
static Value *moved_operand(Layout *l, Value *v, uint32_t r) {
    const Type *t = v->type;
    if (t->rank != r) v = model_form(l, v);
    Dim n = type_numel(l->cx, t);
    if (t->rank < r && n != 0 && is_dim(l, n, 1)) return v;
    if (t->rank == r) return channels_last(l, v);
    if (t->rank == 0 || t->rank > r) return NULL;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < r; i++) dim[i] = i + t->rank < r ? dim_const(l->cx, 1) : t->dim[i + t->rank - r];
    Value *wide = v->data != NULL && t->dtype != DT_STRING ? value_const(l->m, type_tensor(l->cx, t->dtype, r, dim), v->data->data, true) : reshape(l, v, r, dim);
    return wide != NULL ? permuted(l, wide, true) : NULL;
}


static bool is_pointwise(const Layout *l, const Node *n) {
    if (n->n_out != 1 || !(op_info(n->op)->flags & OPF_INPLACE) || (op_info(n->op)->flags & (OPF_RANDOM | OPF_REGION))) return false;
    if (n->op != OP_QuantizeLinear && n->op != OP_DequantizeLinear) return attr_named(n, "axis") == AT_COUNT;
    for (uint32_t i = 1; i < n->n_in; i++) /* parameters of the whole tensor */
        if (n->in[i] != NULL && (!is_tensor(n->in[i]) || !is_dim(l, type_numel(l->cx, n->in[i]->type), 1))) return false;
    return true;
}

static bool move_pointwise(Layout *l, Node *n) {
    uint32_t r = n->out[0]->type->rank, followers = 0;
    if (r < 3) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] == NULL) continue;
        if (!is_tensor(n->in[i]) || n->in[i]->type->rank > r) return false;
        followers += has_last(l, n->in[i]) && type_same_dims(n->in[i]->type, n->out[0]->type);
    }
    if (followers == 0) return false;
    Value **in = ARENA_ARRAY(&l->cx->scratch, Value *, n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] == NULL) continue;
        in[i] = moved_operand(l, n->in[i], r);
        if (in[i] == NULL) return false;
    }
    return replace(l, n, finish(l, same_node(l, n, (Op)n->op, n->n_in, in)));
}

static bool move_concat(Layout *l, Node *n) {
    uint32_t r = n->out[0]->type->rank, followers = 0;
    if (r < 3) return false;
    for (uint32_t i = 0; i < n->n_in; i++) followers += has_last(l, n->in[i]);
    if (2 * followers <= (uint32_t)n->n_in - (n->n_in > 1)) return false;
    Value **in = ARENA_ARRAY(&l->cx->scratch, Value *, n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++) {
        in[i] = channels_last(l, n->in[i]);
        if (in[i] == NULL) return false;
    }
    Node *made = same_node(l, n, OP_Concat, n->n_in, in);
    attr_set_i(made, AT_Concat_axis, moved_axis(attr_i(n, AT_Concat_axis), r));
    return replace(l, n, finish(l, made));
}

/* Over groups of channels; an instance is a group per channel. */
static bool move_group_norm(Layout *l, Node *n) {
    enum { CHANNELS_MOST = 4096 }; /* statistics of all are kept on the stack */
    const Type *t = n->in[0]->type;
    if (!has_last(l, n->in[0]) || t->dtype != DT_F32 || t->rank < 3 || !dim_is_const(l->cx, t->dim[1]) || dim_value(l->cx, t->dim[1]) > CHANNELS_MOST) return false;
    if (dim_value(l->cx, t->dim[1]) == 0 || n->in[1]->type->dtype != DT_F32 || n->in[2]->type->dtype != DT_F32) return false;
    bool group = n->op == OP_GroupNormalization;
    Value *in[3] = {channels_last(l, n->in[0]), n->in[1], n->in[2]};
    Node *made = node_new(l->m, l->g, l->at, OP_GroupNormalizationChannelsLast, 3, in, 1);
    attr_set_f(made, AT_GroupNormalizationChannelsLast_epsilon, attr_f(n, group ? AT_GroupNormalization_epsilon : AT_InstanceNormalization_epsilon));
    attr_set_i(made, AT_GroupNormalizationChannelsLast_num_groups, group ? attr_i(n, AT_GroupNormalization_num_groups) : dim_value(l->cx, t->dim[1]));
    return replace(l, n, finish(l, made));
}

/* Inference-mode normalisation over constants: x * s + b with s = scale / sqrt(variance + epsilon). */
static bool move_batch_norm(Layout *l, Node *n) {
    if (!has_last(l, n->in[0]) || n->in[0]->type->dtype != DT_F32 || attr_i(n, AT_BatchNormalization_training_mode) != 0) return false;
    for (uint32_t i = 1; i < 5; i++)
        if (n->in[i]->data == NULL || n->in[i]->type->dtype != DT_F32) return false;
    int64_t c = dim_value(l->cx, n->in[1]->type->dim[0]);
    float *s = ARENA_ARRAY(&l->cx->arena, float, c), *b = ARENA_ARRAY(&l->cx->arena, float, c);
    double epsilon = attr_f(n, AT_BatchNormalization_epsilon);
    for (int64_t i = 0; i < c; i++) {
        double factor = const_f64(n->in[1], i) / sqrt(const_f64(n->in[4], i) + epsilon);
        s[i] = (float)factor;
        b[i] = (float)(const_f64(n->in[2], i) - const_f64(n->in[3], i) * factor);
    }
    const Type *t = type_tensor(l->cx, DT_F32, 1, n->in[1]->type->dim);
    Value *x = channels_last(l, n->in[0]), *scaled = build2(l->m, l->at, OP_Mul, x, value_const(l->m, t, s, true));
    return replace(l, n, build2(l->m, l->at, OP_Add, scaled, value_const(l->m, t, b, true)));
}

static Value *scaled(Layout *l, Value *v, double by) { return build2(l->m, l->at, OP_Mul, v, value_const_scalar(l->m, DT_F32, by)); }

/* One per channel, in both layouts: what output i of n is from now on. */
static void replace_vector(Layout *l, Node *n, uint32_t i, Value *made) {
    if (i < n->n_out && n->out[i] != NULL) l->last[n->out[i]->id] = l->first[n->out[i]->id] = made;
}

/* Training form: sums over pixels, and pointwise operators, which fuse with what follows. */
static bool move_batch_norm_train(Layout *l, Node *n) {
    uint32_t r = n->in[0]->type->rank;
    if (!has_last(l, n->in[0]) || n->in[0]->type->dtype != DT_F32) return false;
    for (uint32_t i = 1; i < 5; i++)
        if (!is_tensor(n->in[i]) || n->in[i]->type->dtype != DT_F32) return false;
    int64_t axes[RANK_MAX];
    for (uint32_t a = 0; a + 1 < r; a++) axes[a] = a;
    Value *in[5] = {channels_last(l, n->in[0])}, *over = value_const_i64(l->m, r - 1, axes), *statistic[2];
    if (in[0] == NULL) return false;
    for (uint32_t i = 1; i < 5; i++) in[i] = model_form(l, n->in[i]);
    for (uint32_t i = 0; i < 2; i++) {
        Value *x = in[0];
        if (i == 1) x = build2(l->m, l->at, OP_Sub, x, statistic[0]), x = build2(l->m, l->at, OP_Mul, x, x);
        Node *mean = node_new(l->m, l->g, l->at, OP_ReduceMean, 2, (Value *[]){x, over}, 1);
        attr_set_i(mean, AT_ReduceMean_keepdims, 0);
        statistic[i] = finish(l, mean);
        if (statistic[i] == NULL) return false;
    }
    Value *root = build1(l->m, l->at, OP_Sqrt, build2(l->m, l->at, OP_Add, statistic[1], value_const_scalar(l->m, DT_F32, attr_f(n, AT_BatchNormTrain_epsilon))));
    Value *inverse = build2(l->m, l->at, OP_Div, value_const_scalar(l->m, DT_F32, 1), root), *y = build2(l->m, l->at, OP_Sub, in[0], statistic[0]);
    y = build2(l->m, l->at, OP_Add, build2(l->m, l->at, OP_Mul, build2(l->m, l->at, OP_Mul, y, inverse), in[1]), in[2]);
    double momentum = attr_f(n, AT_BatchNormTrain_momentum);
    for (uint32_t i = 0; i < 2; i++) {
        replace_vector(l, n, 3 + i, i == 0 ? statistic[0] : inverse);
        if (1 + i < n->n_out && n->out[1 + i] != NULL)
            replace_vector(l, n, 1 + i, build2(l->m, l->at, OP_Add, scaled(l, in[3 + i], momentum), scaled(l, statistic[i], 1 - momentum)));
    }
    return replace(l, n, y);
}

/* A vector operand with one entry per axis, constant, reordered; NULL when it is not that. parts: 1, or 2 for pads. */
static Value *moved_vector(Layout *l, const Value *v, uint32_t r, uint32_t parts) {
    if (v == NULL || v->data == NULL || v->type->rank != 1 || !is_dim(l, v->type->dim[0], (int64_t)r * parts)) return NULL;
    uint32_t size = dtype_bits(v->type->dtype) / 8;
    uint8_t *to = ARENA_ARRAY(&l->cx->arena, uint8_t, r * parts * size);
    for (uint32_t p = 0; p < parts; p++)
        for (uint32_t i = 0; i < r; i++)
            memcpy(to + (p * r + (size_t)moved_axis(i, r)) * size, (const uint8_t *)v->data->data + (p * r + i) * size, size);
    return value_const(l->m, v->type, to, true);
}

static bool move_resize(Layout *l, Node *n) {
    uint32_t r = n->in[0]->type->rank;
    if (!has_last(l, n->in[0]) || (attr_has(n, AT_Resize_axes) && attr_at(n, AT_Resize_axes)->ints.n != 0)) return false;
    if (attr_s_is(l->cx, n, AT_Resize_coordinate_transformation_mode, "tf_crop_and_resize")) return false;
    Value *in[4] = {channels_last(l, n->in[0]), NULL, NULL, NULL};
    bool any = false;
    for (uint32_t i = 2; i < n->n_in; i++) {
        if (n->in[i] == NULL || is_dim(l, type_numel(l->cx, n->in[i]->type), 0)) continue;
        in[i] = moved_vector(l, n->in[i], r, 1);
        if (in[i] == NULL) return false;
        any = true;
    }
    return any && replace(l, n, finish(l, same_node(l, n, OP_Resize, n->n_in, in)));
}

static bool move_pad(Layout *l, Node *n) {
    uint32_t r = n->in[0]->type->rank;
    if (!has_last(l, n->in[0]) || (n->n_in > 3 && n->in[3] != NULL)) return false;
    Value *in[3] = {NULL, moved_vector(l, n->in[1], r, 2), n->n_in > 2 ? n->in[2] : NULL};
    if (in[1] == NULL) return false;
    in[0] = channels_last(l, n->in[0]);
    return replace(l, n, finish(l, same_node(l, n, OP_Pad, n->n_in < 3 ? n->n_in : 3, in)));
}

/* A Transpose of a channels-last value reads that form directly; to the same order it is nothing. */
static bool move_transpose(Layout *l, Node *n) {
    if (!has_last(l, n->in[0])) return false;
    uint32_t r = n->in[0]->type->rank;
    const Attr *a = attr_at(n, AT_Transpose_perm);
    int64_t perm[RANK_MAX];
    for (uint32_t i = 0; i < r; i++) perm[i] = moved_axis(a->present && a->ints.n == r ? a->ints.v[i] : (int64_t)r - 1 - i, r);
    n->in[0] = channels_last(l, n->in[0]);
    attr_set_ints(l->cx, n, AT_Transpose_perm, perm, r);
    return true;
}

static bool move_node(Layout *l, Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL && !is_tensor(n->out[i])) return false;
    if (n->n_in == 0 || n->in[0] == NULL || !is_tensor(n->in[0]) || n->n_out == 0 || n->out[0] == NULL) return false;
    switch ((int)n->op) {
    case OP_Conv: case OP_ConvTranspose: return move_conv(l, n);
    case OP_ConvGradWeight: return move_conv_grad(l, n);
    case OP_IntegerConv: return move_integer_conv(l, n);
    case OP_MaxPool: case OP_AveragePool: return move_pool(l, n);
    case OP_GlobalAveragePool: case OP_GlobalMaxPool: return move_global_pool(l, n);
    case OP_ReduceMean: case OP_ReduceSum: case OP_ReduceMax: case OP_ReduceMin: return move_reduce(l, n);
    case OP_BatchNormalization: return move_batch_norm(l, n);
    case OP_BatchNormTrain: return move_batch_norm_train(l, n);
    case OP_InstanceNormalization: case OP_GroupNormalization: return move_group_norm(l, n);
    case OP_Concat: return move_concat(l, n);
    case OP_Resize: return move_resize(l, n);
    case OP_Pad: return move_pad(l, n);
    case OP_Transpose: return move_transpose(l, n);
    default: return is_pointwise(l, n) && move_pointwise(l, n);
    }
}

static void read_model_forms(Layout *l, Node *n);

static void visit_region(Layout *l, Graph *g) {
    FOR_NODES(n, g) read_model_forms(l, n);
    for (uint32_t i = 0; i < g->n_out; i++) g->out[i] = model_form(l, g->out[i]);
}

static void read_model_forms(Layout *l, Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) n->in[i] = model_form(l, n->in[i]);
    if (!(op_info(n->op)->flags & OPF_REGION)) return;
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (attr_info((AttrSlot)(op_info(n->op)->attr_first + i))->kind == ATTR_GRAPH && n->attr[i].present) visit_region(l, n->attr[i].graph);
}

/* Is there a convolution for the micro-kernels? Nothing else gains from the layout. */
static bool profits(const Graph *g) {
    for (const Node *n = g->first; n != NULL; n = n->next)
        if (packed_integer_conv(n) || ((n->op == OP_Conv || n->op == OP_ConvTranspose || n->op == OP_ConvGradWeight) && is_tensor(n->in[0]) && n->in[0]->type->dtype == DT_F32)) return true;
    return false;
}

/* What a rule made before it found that the node cannot move. */
static void remove_unused(Module *m, Graph *g, uint32_t first_new) {
    uint32_t *uses = module_use_counts(m);
    for (Node *n = g->last, *prev; n != NULL; n = prev) {
        prev = n->prev;
        if (n->id < first_new || uses[n->out[0]->id] != 0) continue;
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) uses[n->in[i]->id]--;
        node_remove(n);
    }
}

bool pass_layout(Context *cx, Module *m) {
    Graph *g = m->main;
    if (!profits(g)) return false;
    uint32_t first_new = m->n_node;
    Layout l = {.cx = cx, .m = m, .g = g, .n_value = m->n_value, .is_replaced = ARENA_ARRAY(&cx->scratch, bool, m->n_node)};
    l.last = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    l.first = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    FOR_NODES(n, g) {
        l.at = n;
        if (!move_node(&l, n)) read_model_forms(&l, n);
    }
    l.at = NULL;
    for (uint32_t i = 0; i < g->n_out; i++) g->out[i] = model_form(&l, g->out[i]);
    for (uint32_t i = l.replaced.n; i-- > 0;) node_remove(l.replaced.v[i]);
    remove_unused(m, g, first_new);
    return l.replaced.n != 0;
}
