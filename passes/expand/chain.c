/* Building a composition node by node: see chain.h. */
#include "passes/expand/chain.h"

#include "passes/expand/build.h"

static Value *sound(Value *v) { return v != NULL && v->type != NULL && !v->poison ? v : NULL; }

Value *chain_node(const Chain *c, Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && sound(n->in[i]) == NULL) return NULL;
    return node_infer(c->m, n) ? sound(n->out[0]) : NULL;
}

Value *chain_1(const Chain *c, Op op, Value *a) { return sound(a) != NULL ? sound(build1(c->m, c->n, op, a)) : NULL; }
Value *chain_2(const Chain *c, Op op, Value *a, Value *b) { return sound(a) != NULL && sound(b) != NULL ? sound(build2(c->m, c->n, op, a, b)) : NULL; }

Value *chain_3(const Chain *c, Op op, Value *a, Value *b, Value *d) {
    return sound(a) != NULL && sound(b) != NULL && sound(d) != NULL ? sound(build3(c->m, c->n, op, a, b, d)) : NULL;
}

Value *chain_int(const Chain *c, int64_t v) { return value_const_scalar(c->m, DT_I64, (double)v); }
Value *chain_like(const Chain *c, const Value *like, double v) { return like != NULL && like->type != NULL ? value_const_scalar(c->m, like->type->dtype, v) : NULL; }
Value *chain_times(const Chain *c, Value *v, double factor) { return factor == 1 ? sound(v) : chain_mul(c, v, chain_like(c, v, factor)); }
Value *chain_plus(const Chain *c, Value *v, double term) { return term == 0 ? sound(v) : chain_add(c, v, chain_like(c, v, term)); }

Value *chain_cast(const Chain *c, Value *v, DType t) { return sound(v) != NULL ? sound(expand_cast(c->m, c->n, v, t)) : NULL; }

Value *chain_reshape(const Chain *c, Value *v, uint32_t rank, const int64_t *shape) {
    return chain_2(c, OP_Reshape, v, value_const_i64(c->m, rank, shape));
}

Value *chain_transpose(const Chain *c, Value *v, uint32_t rank, const int64_t *perm) { return sound(v) != NULL ? sound(expand_transpose(c->m, c->n, v, rank, perm)) : NULL; }
Value *chain_unsqueeze(const Chain *c, Value *v, int64_t axis) { return chain_2(c, OP_Unsqueeze, v, value_const_i64(c->m, 1, &axis)); }
Value *chain_squeeze(const Chain *c, Value *v, int64_t axis) { return chain_2(c, OP_Squeeze, v, value_const_i64(c->m, 1, &axis)); }

Value *chain_concat(const Chain *c, Value *a, Value *b, int64_t axis) {
    return sound(a) != NULL && sound(b) != NULL ? sound(expand_concat(c->m, c->n, 2, (Value *[]){a, b}, axis)) : NULL;
}

Value *chain_slice(const Chain *c, Value *v, int64_t from, int64_t to, int64_t axis) { return sound(v) != NULL ? sound(expand_slice(c->m, c->n, v, from, to, axis)) : NULL; }

Value *chain_gather(const Chain *c, Value *v, Value *index, int64_t axis) {
    return sound(v) != NULL && sound(index) != NULL ? sound(expand_gather(c->m, c->n, v, index, axis)) : NULL;
}

Value *chain_gather_nd(const Chain *c, Value *v, Value *index, int64_t batch_dims) {
    if (sound(v) == NULL || sound(index) == NULL) return NULL;
    Node *pick = expand_node(c->m, c->n, OP_GatherND, 2, (Value *[]){v, index}, 1);
    attr_set_i(pick, AT_GatherND_batch_dims, batch_dims);
    return chain_node(c, pick);
}

Value *chain_reduce(const Chain *c, Op op, Value *v, int64_t axis, bool keepdims) { return sound(v) != NULL ? sound(expand_reduce_axis(c->m, c->n, op, v, axis, keepdims)) : NULL; }
Value *chain_softmax(const Chain *c, Value *v, int64_t axis) { return sound(v) != NULL ? sound(expand_softmax(c->m, c->n, v, axis)) : NULL; }
Value *chain_arg_max(const Chain *c, Value *v, int64_t axis, bool keepdims) { return sound(v) != NULL ? sound(expand_arg_max(c->m, c->n, v, axis, keepdims)) : NULL; }

Value *chain_size(const Chain *c, Value *v, int64_t axis) { return chain_gather(c, chain_1(c, OP_Shape, v), chain_int(c, axis), 0); }
Value *chain_scalar(const Chain *c, Value *v) { return chain_reshape(c, chain_cast(c, v, DT_I64), 0, NULL); }

Value *chain_count(const Chain *c, Value *count, int64_t rank, int64_t axis) {
    int64_t axes[RANK_MAX];
    uint32_t n = 0;
    for (int64_t i = 0; i < rank; i++)
        if (i != axis) axes[n++] = i;
    Value *all = chain_3(c, OP_Range, chain_int(c, 0), count, chain_int(c, 1));
    return n == 0 ? all : chain_2(c, OP_Unsqueeze, all, value_const_i64(c->m, n, axes));
}

Value *chain_expand_like(const Chain *c, Value *v, Value *like) { return chain_2(c, OP_Expand, v, chain_1(c, OP_Shape, like)); }
