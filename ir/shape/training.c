/* Shapes of ai.onnx.preview.training: (R, T, then groups of tensors X, G, state...) -> (new X, new state...), same types. */
#include "ir/shape/shape.h"

bool shape_optimizer(Module *m, Node *n) {
    uint32_t groups = n->op == OP_Adam ? 4 : 3, count = (n->n_in - 2) / groups;
    if (n->n_in < 2 + groups || (n->n_in - 2) % groups != 0 || n->n_out > (groups - 1) * count) {
        diag(m->cx, SEV_ERROR, n->loc, "%u inputs and %u outputs do not form groups of %u tensors", n->n_in, n->n_out, groups);
        return false;
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
bool shape_gradient(Module *m, Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        const Type *t = shape_in(m, n, i);
        if (t == NULL) return false;
        n->out[i]->type = t;
    }
    return true;
}
