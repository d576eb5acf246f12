/* Rules that move constant factors and offsets into the weights of Conv, ConvTranspose, Gemm and MatMul.
 *
 *     BatchNormalization(Conv(x, W, b))   ->   Conv(x, W*s, b*s + t)       s = scale / sqrt(var + eps), t = B - mean*s
 *
 * The arithmetic on the weights is built as nodes; they fold at once, in the weights' own type. */
#include "passes/simplify/simplify.h"

static bool constant(const Value *v) {
    return v != NULL && v->data != NULL;
}

static Value *optional_in(const Node *n, uint32_t i) {
    return i < n->n_in ? n->in[i] : NULL;
}

/* A contraction with constant weights that only n reads, and the axis of its output that the weights' columns make. */
static Node *producer(Rewriter *r, const Value *v, uint32_t *axis) {
    static const Op ops[] = {OP_Conv, OP_ConvTranspose, OP_Gemm, OP_MatMul};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        Node *p = rw_def(r, v, ops[i]);
        if (p == NULL) continue;
        const Type *t = p->out[0]->type;
        if (!rw_single(r, p->out[0]) || !constant(p->in[1]) || !rw_float(p->out[0]) || p->in[1]->type->rank < 2) return NULL;
        *axis = p->op == OP_MatMul ? t->rank - 1u : 1;
        return t->rank > *axis && dim_is_const(r->cx, t->dim[*axis]) ? p : NULL;
    }
    return NULL;
}

/* A constant that broadcasts along one axis of `out`, as a vector of that axis' size; NULL if c is no such thing. */
static Value *axis_vector(Rewriter *r, Node *at, Value *c, const Type *out, uint32_t axis) {
    Context *cx = r->cx;
    if (!constant(c) || c->type->rank > out->rank) return NULL;
    Dim size = out->dim[axis], one = dim_const(cx, 1);
    bool whole = false;
    for (uint32_t i = 0; i < c->type->rank; i++) {
        uint32_t place = out->rank - c->type->rank + i;
        if (c->type->dim[i] == one) continue;
        if (place != axis || c->type->dim[i] != size) return NULL;
        whole = true;
    }
    if (whole || size == one) return rw_reshape(r, at, c, 1, &size);
    Value *v = rw_reshape(r, at, c, 1, &one);
    int64_t n = dim_value(cx, size);
    return rw_build2(r, at, OP_Expand, v, value_const_i64(r->m, 1, &n));
}

/* A vector along axis `axis` of a tensor of rank `rank`: [C] -> [1,C,1,1] without the leading ones. */
static Value *along(Rewriter *r, Node *at, Value *v, uint32_t rank, uint32_t axis) {
    Dim dim[RANK_MAX];
    dim[0] = v->type->dim[0];
    for (uint32_t i = axis + 1; i < rank; i++) dim[i - axis] = dim_const(r->cx, 1);
    return rw_reshape(r, at, v, rank - axis, dim);
}

/* ConvTranspose weights are [C, M/group, k...]: output channel g*(M/group) + j uses W[g*(C/group) ..., j]. */
static Value *scale_transposed(Rewriter *r, Node *at, const Node *p, Value *scale) {
    Context *cx = r->cx;
    Value *w = p->in[1];
    const Type *t = w->type;
    int64_t group = attr_i(p, AT_ConvTranspose_group), c = dim_value(cx, t->dim[0]), m = dim_value(cx, t->dim[1]);
    Dim grouped[RANK_MAX + 1] = {dim_const(cx, group), dim_const(cx, c / group)}, vec[RANK_MAX + 1] = {dim_const(cx, group), dim_const(cx, 1), dim_const(cx, m)};
    for (uint32_t i = 1; i < t->rank; i++) grouped[i + 1] = t->dim[i];
    for (uint32_t i = 3; i <= t->rank; i++) vec[i] = dim_const(cx, 1);
    Value *product = rw_build2(r, at, OP_Mul, rw_reshape(r, at, w, t->rank + 1u, grouped), rw_reshape(r, at, scale, t->rank + 1u, vec));
    return rw_reshape(r, at, product, t->rank, t->dim);
}

static Value *scale_weights(Rewriter *r, Node *at, const Node *p, Value *scale) {
    Value *w = p->in[1];
    uint32_t rank = w->type->rank;
    if (p->op == OP_ConvTranspose) return scale_transposed(r, at, p, scale);
    bool rows = p->op == OP_Conv || (p->op == OP_Gemm && attr_i(p, AT_Gemm_transB) != 0);
    return rw_build2(r, at, OP_Mul, w, along(r, at, scale, rank, rows ? 0 : rank - 1u));
}

/* p's result times scale plus shift, each NULL or a constant vector along p's channels, as one node. NULL if p cannot
 * take them in. */
static Value *affine(Rewriter *r, Node *at, Node *p, Value *scale, Value *shift) {
    Value *w = p->in[1], *bias = optional_in(p, 2);
    if (bias != NULL && !constant(bias)) return NULL;
    if (p->op == OP_MatMul && shift != NULL) return NULL; /* simplify_matmul_add makes it a Gemm, where it can */
    if (p->op == OP_ConvTranspose && attr_i(p, AT_ConvTranspose_group) <= 0) return NULL;
    if (p->op == OP_ConvTranspose && dim_value(r->cx, w->type->dim[0]) % attr_i(p, AT_ConvTranspose_group) != 0) return NULL;
    if (p->op == OP_Gemm && bias != NULL && attr_f(p, AT_Gemm_beta) != 1)
        bias = rw_build2(r, at, OP_Mul, bias, value_const_scalar(r->m, bias->type->dtype, attr_f(p, AT_Gemm_beta)));
    if (scale != NULL) {
        w = scale_weights(r, at, p, scale);
        if (bias != NULL) bias = rw_build2(r, at, OP_Mul, bias, scale);
    }
    if (shift != NULL) bias = bias != NULL ? rw_build2(r, at, OP_Add, bias, shift) : shift;
    Node *n = rw_copy(r, at, p, bias != NULL ? 3 : 2, (Value *[]){p->in[0], w, bias});
    if (n->op == OP_Gemm) attr_set_f(n, AT_Gemm_beta, 1);
    return rw_value(r, n);
}

/* In evaluation: into the contraction before it, or x*s + t. */
bool simplify_batch_norm(Rewriter *r, Node *n) {
    Value *x = n->in[0];
    if (attr_i(n, AT_BatchNormalization_training_mode) != 0 || !rw_float(x) || x->type->rank < 2) return false;
    for (uint32_t i = 1; i < n->n_out; i++)
        if (n->out[i] != NULL) return false;
    for (uint32_t i = 1; i < 5; i++)
        if (!constant(n->in[i]) || n->in[i]->type->dtype != x->type->dtype) return false;
    Value *eps = value_const_scalar(r->m, x->type->dtype, attr_f(n, AT_BatchNormalization_epsilon));
    Value *deviation = rw_build1(r, n, OP_Sqrt, rw_build2(r, n, OP_Add, n->in[4], eps));
    Value *scale = rw_build2(r, n, OP_Div, n->in[1], deviation);
    Value *shift = rw_build2(r, n, OP_Sub, n->in[2], rw_build2(r, n, OP_Mul, n->in[3], scale));
    uint32_t axis;
    Node *p = producer(r, x, &axis);
    Value *y = p != NULL && axis == 1 ? affine(r, n, p, scale, shift) : NULL;
    if (y == NULL) y = rw_build2(r, n, OP_Add, rw_build2(r, n, OP_Mul, x, along(r, n, scale, x->type->rank, 1)), along(r, n, shift, x->type->rank, 1));
    return rw_replace(r, n, y);
}

/* Mul, Div by a constant vector along the channels. */
bool simplify_scale(Rewriter *r, Node *n) {
    for (uint32_t i = 0; i < (n->op == OP_Mul ? 2u : 1u); i++) {
        uint32_t axis;
        Node *p = producer(r, n->in[i], &axis);
        if (p == NULL || !rw_same_type(n->in[i], n->out[0]) || (optional_in(p, 2) != NULL && !constant(p->in[2]))) continue;
        Value *scale = axis_vector(r, n, n->in[1 - i], n->out[0]->type, axis);
        if (scale == NULL) continue;
        if (n->op == OP_Div) scale = rw_build1(r, n, OP_Reciprocal, scale);
        Value *y = affine(r, n, p, scale, NULL);
        if (y != NULL) return rw_replace(r, n, y);
    }
    return false;
}

/* Add, Sub of a constant vector along the channels: the bias. */
bool simplify_shift(Rewriter *r, Node *n) {
    for (uint32_t i = 0; i < (n->op == OP_Add ? 2u : 1u); i++) {
        uint32_t axis;
        Node *p = producer(r, n->in[i], &axis);
        if (p == NULL || p->op == OP_MatMul || !rw_same_type(n->in[i], n->out[0]) || (optional_in(p, 2) != NULL && !constant(p->in[2]))) continue;
        Value *shift = axis_vector(r, n, n->in[1 - i], n->out[0]->type, axis);
        if (shift == NULL) continue;
        if (n->op == OP_Sub) shift = rw_build1(r, n, OP_Neg, shift);
        Value *y = affine(r, n, p, NULL, shift);
        if (y != NULL) return rw_replace(r, n, y);
    }
    return false;
}

/* May c be Gemm's C for this output: does it broadcast without enlarging? */
static bool broadcasts_to(Context *cx, const Type *c, const Type *out) {
    if (c->kind != TYPE_TENSOR || c->rank > out->rank || c->dtype != out->dtype) return false;
    for (uint32_t i = 0; i < c->rank; i++)
        if (c->dim[i] != out->dim[out->rank - c->rank + i] && c->dim[i] != dim_const(cx, 1)) return false;
    return true;
}

/* A whole matrix that is computed just for this sum: fusion computes it where the product is stored, as C it would be stored before. */
static bool fuses_better(Rewriter *r, const Value *c, const Value *out) {
    return c->def != NULL && rw_same_type(c, out) && rw_single(r, c) && (op_info(c->def->op)->flags & OPF_INPLACE);
}

/* Add(MatMul(a, b), c) -> Gemm(a, b, c), for matrices, transposed or not; Add(Gemm(a, b), c) -> Gemm(a, b, c). */
bool simplify_matmul_add(Rewriter *r, Node *n) {
    const Type *t = n->out[0]->type;
    if (t->rank != 2 || !rw_float(n->out[0])) return false;
    for (uint32_t i = 0; i < 2; i++) {
        Value *product = n->in[i], *c = n->in[1 - i];
        if (!rw_same_type(product, n->out[0]) || !rw_single(r, product) || !broadcasts_to(r->cx, c->type, t) || fuses_better(r, c, n->out[0])) continue;
        Node *p = rw_def(r, product, OP_MatMul);
        if (p != NULL && p->in[0]->type->rank == 2 && p->in[1]->type->rank == 2)
            return rw_replace(r, n, rw_value(r, rw_node(r, n, OP_Gemm, 3, (Value *[]){p->in[0], p->in[1], c})));
        p = rw_def(r, product, OP_FusedMatMul);
        if (p != NULL && p->in[0]->type->rank == 2 && p->in[1]->type->rank == 2) {
            Node *gemm = rw_node(r, n, OP_Gemm, 3, (Value *[]){p->in[0], p->in[1], c});
            attr_set_i(gemm, AT_Gemm_transA, attr_i(p, AT_FusedMatMul_transA) != 0);
            attr_set_i(gemm, AT_Gemm_transB, attr_i(p, AT_FusedMatMul_transB) != 0);
            attr_set_f(gemm, AT_Gemm_alpha, attr_f(p, AT_FusedMatMul_alpha));
            return rw_replace(r, n, rw_value(r, gemm));
        }
        p = rw_def(r, product, OP_Gemm);
        if (p == NULL || optional_in(p, 2) != NULL) continue;
        Node *gemm = rw_copy(r, n, p, 3, (Value *[]){p->in[0], p->in[1], c});
        attr_set_f(gemm, AT_Gemm_beta, 1);
        return rw_replace(r, n, rw_value(r, gemm));
    }
    return false;
}

/* Gemm of transposed matrices: the transposition is an attribute. */
bool simplify_gemm_transpose(Rewriter *r, Node *n) {
    static const AttrSlot flag[2] = {AT_Gemm_transA, AT_Gemm_transB};
    for (uint32_t i = 0; i < 2; i++) {
        Node *t = rw_def(r, n->in[i], OP_Transpose);
        if (t == NULL || t->in[0]->type->rank != 2) continue; /* a Transpose that does nothing is gone by now */
        Value *in[3] = {n->in[0], n->in[1], optional_in(n, 2)};
        in[i] = t->in[0];
        Node *gemm = rw_copy(r, n, n, n->n_in, in);
        attr_set_i(gemm, flag[i], !attr_i(n, flag[i]));
        return rw_replace(r, n, rw_value(r, gemm));
    }
    return false;
}

/* MatMul(a, Transpose(w)) -> FusedMatMul(a, w) {transB = 1}: a matrix of the run is read as it lies; constants are transposed by the compiler.
 * What is transposed once in front of a loop is not transposed in every turn. */
bool simplify_matmul_transpose(Rewriter *r, Node *n) {
    Node *t = rw_def(r, n->in[1], OP_Transpose);
    if (t == NULL || t->in[0]->type->rank != 2 || n->in[0]->type->rank < 2 || !rw_float(n->in[0]) || t->in[0]->data != NULL) return false;
    bool transposed = n->op == OP_FusedMatMul && attr_i(n, AT_FusedMatMul_transB) != 0;
    if (t->graph != n->graph && !transposed) return false;
    Value *in[2] = {n->in[0], t->in[0]};
    Node *p = n->op == OP_FusedMatMul ? rw_copy(r, n, n, 2, in) : rw_node(r, n, OP_FusedMatMul, 2, in);
    attr_set_i(p, AT_FusedMatMul_transB, !transposed);
    return rw_replace(r, n, rw_value(r, p));
}

/* Transpose(FusedMatMul(a, b)) -> FusedMatMul(b, a), for matrices: (op(a) op(b))' = op(b)' op(a)'. */
bool simplify_transpose_product(Rewriter *r, Node *n) {
    Node *p = rw_def(r, n->in[0], OP_FusedMatMul);
    if (p == NULL || !rw_single(r, n->in[0]) || n->in[0]->type->rank != 2 || p->in[0]->type->rank != 2 || p->in[1]->type->rank != 2) return false;
    Node *q = rw_copy(r, n, p, 2, (Value *[]){p->in[1], p->in[0]}); /* a Transpose that does nothing is gone by now */
    attr_set_i(q, AT_FusedMatMul_transA, attr_i(p, AT_FusedMatMul_transB) == 0);
    attr_set_i(q, AT_FusedMatMul_transB, attr_i(p, AT_FusedMatMul_transA) == 0);
    return rw_replace(r, n, rw_value(r, q));
}

/* The pads of a Pad node by axis, begins then ends; false unless they are constant and not negative. */
static bool constant_pads(Rewriter *r, const Node *n, int64_t *begin, int64_t *end) {
    int64_t pad[2 * RANK_MAX], axes[RANK_MAX];
    uint32_t n_pad, n_axes = n->in[0]->type->rank, rank = n_axes;
    for (uint32_t i = 0; i < rank; i++) axes[i] = i, begin[i] = end[i] = 0;
    if (!rw_ints(r->m, n->in[1], pad, 2 * RANK_MAX, &n_pad)) return false;
    if (optional_in(n, 3) != NULL && !rw_ints(r->m, n->in[3], axes, RANK_MAX, &n_axes)) return false;
    if (n_pad != 2 * n_axes) return false;
    for (uint32_t i = 0; i < n_axes; i++) {
        int64_t a = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (a < 0 || a >= rank || pad[i] < 0 || pad[n_axes + i] < 0) return false;
        begin[a] = pad[i];
        end[a] = pad[n_axes + i];
    }
    return true;
}

/* Conv(Pad(x, zeros)) -> Conv with larger pads. */
bool simplify_pad_conv(Rewriter *r, Node *n) {
    Node *pad = rw_def(r, n->in[0], OP_Pad);
    int64_t begin[RANK_MAX], end[RANK_MAX], pads[2 * RANK_MAX];
    if (pad == NULL || !attr_s_is(r->cx, pad, AT_Pad_mode, "constant") || !attr_s_is(r->cx, n, AT_Conv_auto_pad, "NOTSET")) return false;
    if ((optional_in(pad, 2) != NULL && !rw_is(r->cx, pad->in[2], 0)) || !constant_pads(r, pad, begin, end)) return false;
    uint32_t spatial = n->in[0]->type->rank - 2u;
    const Attr *old = attr_at(n, AT_Conv_pads);
    if (begin[0] + end[0] + begin[1] + end[1] != 0 || (old->present && old->ints.n != 2 * spatial)) return false;
    for (uint32_t i = 0; i < spatial; i++) {
        pads[i] = begin[i + 2] + (old->present ? old->ints.v[i] : 0);
        pads[spatial + i] = end[i + 2] + (old->present ? old->ints.v[spatial + i] : 0);
    }
    Value *in[3] = {pad->in[0], n->in[1], optional_in(n, 2)};
    Node *conv = rw_copy(r, n, n, n->n_in, in);
    attr_set_ints(r->cx, conv, AT_Conv_pads, pads, 2 * spatial);
    return rw_replace(r, n, rw_value(r, conv));
}
