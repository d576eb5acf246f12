/* Types of adjoints (GatherGrad and its like): what they are the gradient of has the type in the attribute `type`. */
#include "ir/shape/shape.h"

bool shape_adjoint(Module *m, Node *n) {
    const Type *t = attr_at(n, attr_named(n, "type"))->type;
    if (shape_in(m, n, 0) == NULL) return false;
    shape_out(m, n, 0, t->dtype, t->rank, t->dim);
    return true;
}
