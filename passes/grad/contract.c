/* Gradients of contractions, reductions and moves that keep every element. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

static Value *transposed(Module *m, Node *at, Value *v) { /* the last two dimensions exchanged */
    uint32_t rank = v->type->rank;
    int64_t perm[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) perm[i] = i;
    perm[rank - 1] = rank - 2;
    perm[rank - 2] = rank - 1;
    Node *t = node_new(m, at->graph, at, OP_Transpose, 1, &v, 1);
    attr_set_ints(m->cx, t, AT_Transpose_perm, perm, rank);
    node_infer(m, t);
    return t->out[0];
}

bool grad_mat_mul(Module *m, Node *n, Node *at, Value *const *dy, Value **dx) {
    Value *a = n->in[0], *b = n->in[1];
    if (a->type->rank < 2 || b->type->rank < 2) {
        diag(m->cx, SEV_ERROR, n->loc, "the gradient of a product with a vector (ranks %u and %u) is not supported", a->type->rank, b->type->rank);
        return false;
    }
    dx[0] = grad_unbroadcast(m, at, build2(m, at, OP_MatMul, dy[0], transposed(m, at, b)), a);
    dx[1] = grad_unbroadcast(m, at, build2(m, at, OP_MatMul, transposed(m, at, a), dy[0]), b);
    return true;
}

bool grad_transpose(Module *m, Node *n, Node *at, Value *const *dy, Value **dx) {
    const Attr *perm = attr_at(n, AT_Transpose_perm);
    uint32_t rank = n->in[0]->type->rank;
    int64_t inverse[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) inverse[perm->present ? perm->ints.v[i] : rank - 1 - i] = i;
    Node *t = node_new(m, at->graph, at, OP_Transpose, 1, dy, 1);
    attr_set_ints(m->cx, t, AT_Transpose_perm, inverse, rank);
    dx[0] = t->out[0];
    return node_infer(m, t);
}

bool grad_reshape(Module *m, Node *n, Node *at, Value *const *dy, Value **dx) {
    dx[0] = build2(m, at, OP_Reshape, dy[0], build1(m, at, OP_Shape, n->in[0]));
    return true;
}
