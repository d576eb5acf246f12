/* Shapes of ai.onnx.preview.training: (R, T, then groups of tensors X, G, state...) -> (new X, new state...), same types. */
#include "ir/shape/shape.h"

bool shape_optimizer(Module *m, Node *n) {
    uint32_t groups = n->op == OP_Adam ? 4 : 3, count = (n->n_in - 2) / groups;
    if (n->n_in < 2 + groups || (n->n_in - 2) % groups != 0 || n->n_out > (groups - 1) * count) {
        diag(m->cx, SEV_ERROR, n->loc, "%u inputs and %u outputs do not form groups of %u tensors", n->n_in, n->n_out, groups);
        return false;
    }
    for (uint32_t i = 2; i < n->n_in; i++) { /* a gradient and the states have the sizes of their tensor */
        const Type *t = shape_in(m, n, i), *x = shape_in(m, n, 2 + (i - 2) % count);
        if (t == NULL || x == NULL) return false;
        for (uint32_t a = 0; t->rank == x->rank && a < t->rank; a++) /* ranks and element types: operands.c */
            if (shape_unify(m, n, x->dim[a], t->dim[a], "a tensor and its gradient or state") == 0) return false;
    }
    for (uint32_t i = 0; i < n->n_out; i++) { /* outputs leave out the gradients */
        uint32_t from = 2 + (i < count ? i : i + count);
        const Type *t = shape_in(m, n, from);
        if (t == NULL) return false;
        shape_out(m, n, i, t->dtype, t->rank, t->dim);
    }
    return true;
}

/* Gradients have the types of the values they belong to: the first inputs, one per name in xs. */
/* bool[…, n] to u8[…, n / 8, rounded up] and back */
static bool shape_bits(Module *m, Node *n, DType to, Dim last) {
    const Type *t = shape_in(m, n, 0);
    Dim dim[RANK_MAX];
    if (t == NULL || t->rank == 0) return false;
    for (uint32_t i = 0; i + 1 < t->rank; i++) dim[i] = t->dim[i];
    dim[t->rank - 1] = last != 0 ? last : dim_const(m->cx, (dim_value(m->cx, t->dim[t->rank - 1]) + 7) / 8);
    shape_out(m, n, 0, to, t->rank, dim);
    return true;
}

bool shape_pack_bits(Module *m, Node *n) { return shape_bits(m, n, DT_U8, 0); }
bool shape_unpack_bits(Module *m, Node *n) { return shape_bits(m, n, DT_BOOL, dim_const(m->cx, attr_i(n, AT_UnpackBits_size))); }

bool shape_gradient(Module *m, Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        const Type *t = shape_in(m, n, i);
        if (t == NULL) return false;
        n->out[i]->type = t;
    }
    return true;
}
