/* Small helpers for expansion rules: see build.h. */
#include "passes/expand/build.h"


Node *expand_node(Module *m, Node *at, Op op, uint32_t n_in, Value *const *in, uint32_t n_out) {
    Node *n = node_new(m, at->graph, at, op, n_in, in, n_out);
    n->loc = at->loc;
    return n;
}

Value *expand_result(Module *m, Node *n) { return node_infer(m, n) ? n->out[0] : NULL; }

Value *expand_cast(Module *m, Node *at, Value *v, DType t) {
    if (v->type->dtype == t) return v;
    Node *n = expand_node(m, at, OP_Cast, 1, &v, 1);
    attr_set_i(n, AT_Cast_to, dtype_to_onnx(t));
    return expand_result(m, n);
}

Value *expand_transpose(Module *m, Node *at, Value *v, uint32_t rank, const int64_t *perm) {
    Node *n = expand_node(m, at, OP_Transpose, 1, &v, 1);
    attr_set_ints(m->cx, n, AT_Transpose_perm, perm, rank);
    return expand_result(m, n);
}

Value *expand_move_channels(Module *m, Node *at, Value *v, bool to_last) {
    int64_t perm[RANK_MAX] = {0};
    uint32_t rank = v->type->rank;
    for (uint32_t i = 1; i < rank; i++) perm[i] = to_last ? (i + 1 < rank ? i + 1 : 1) : (i == 1 ? rank - 1 : i - 1);
    return expand_transpose(m, at, v, rank, perm);
}

Value *expand_reshape(Module *m, Node *at, Value *v, uint32_t rank, const int64_t *shape) {
    return build2(m, at, OP_Reshape, v, value_const_i64(m, rank, shape));
}

Value *expand_concat(Module *m, Node *at, uint32_t n_in, Value *const *in, int64_t axis) {
    Node *n = expand_node(m, at, OP_Concat, n_in, in, 1);
    attr_set_i(n, AT_Concat_axis, axis);
    return expand_result(m, n);
}

Value *expand_gather(Module *m, Node *at, Value *v, Value *index, int64_t axis) {
    Node *n = expand_node(m, at, OP_Gather, 2, (Value *[]){v, index}, 1);
    attr_set_i(n, AT_Gather_axis, axis);
    return expand_result(m, n);
}

Value *expand_slice(Module *m, Node *at, Value *v, int64_t from, int64_t to, int64_t axis) {
    Value *in[4] = {v, value_const_i64(m, 1, &from), value_const_i64(m, 1, &to), value_const_i64(m, 1, &axis)};
    return expand_result(m, expand_node(m, at, OP_Slice, 4, in, 1));
}

Value *expand_reduce_axis(Module *m, Node *at, Op op, Value *v, int64_t axis, bool keepdims) {
    Node *n = expand_node(m, at, op, 2, (Value *[]){v, value_const_i64(m, 1, &axis)}, 1);
    attr_set_i(n, attr_named(n, "keepdims"), keepdims);
    return expand_result(m, n);
}

Value *expand_arg_max(Module *m, Node *at, Value *v, int64_t axis, bool keepdims) {
    Node *n = expand_node(m, at, OP_ArgMax, 1, &v, 1);
    attr_set_i(n, AT_ArgMax_axis, axis);
    attr_set_i(n, AT_ArgMax_keepdims, keepdims);
    return expand_result(m, n);
}

Value *expand_softmax(Module *m, Node *at, Value *v, int64_t axis) {
    Node *n = expand_node(m, at, OP_Softmax, 1, &v, 1);
    attr_set_i(n, AT_Softmax_axis, axis);
    return expand_result(m, n);
}

static const Type *constant_type(Module *m, DType t, uint32_t rank, const int64_t *dim, size_t *count) {
    Dim d[RANK_MAX];
    *count = 1;
    for (uint32_t a = 0; a < rank; a++) {
        d[a] = dim_const(m->cx, dim[a]);
        *count *= (size_t)dim[a];
    }
    return type_tensor(m->cx, t, rank, d);
}

Value *expand_floats(Module *m, uint32_t rank, const int64_t *dim, const double *v, DType t) {
    size_t count;
    const Type *type = constant_type(m, t, rank, dim, &count);
    if (t == DT_F64) return value_const(m, type, v, false);
    CHECK(m->cx, t == DT_F32);
    float *f = ARENA_ARRAY(&m->cx->arena, float, count);
    for (size_t i = 0; i < count; i++) f[i] = (float)v[i];
    return value_const(m, type, f, true);
}

Value *expand_ints(Module *m, uint32_t rank, const int64_t *dim, const int64_t *v) {
    size_t count;
    const Type *type = constant_type(m, DT_I64, rank, dim, &count);
    return value_const(m, type, v, false);
}

void expand_give(Module *m, Node *n, Value **out, uint32_t i, Value *v) {
    if (i >= n->n_out || n->out[i] == NULL) return;
    bool own = v->def != NULL;
    for (uint32_t k = 0; k < n->n_in; k++) own &= v != n->in[k];
    out[i] = own ? v : build1(m, n, OP_Identity, v);
}

bool expand_fail(Module *m, const Node *n, const char *what) {
    diag(m->cx, SEV_ERROR, n->loc, "%s", what);
    return false;
}
