/* Operators that are known by name and refused with a reason (ir/refused.def). */
#include "ir/shape/shape.h"

const char *op_refusal(Op op) {
    switch ((int)op) {
#define REFUSED(name, sentence) \
    case OP_##name: return sentence;
#include "ir/refused.def"
#undef REFUSED
    default: return NULL;
    }
}

bool shape_refused(Module *m, Node *n) {
    diag(m->cx, SEV_ERROR, n->loc, "%s", op_refusal((Op)n->op));
    return false;
}
