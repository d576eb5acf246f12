/* The rule columns of ops.def as a table. */
#include "passes/rules.h"

#include "passes/lower.h"

bool expand_none(Module *m, Node *n, Value **out) {
    (void)m, (void)n, (void)out;
    return false;
}

bool grad_none(struct Grad *g) {
    (void)g;
    return false;
}

Expr *define_none(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)n, (void)out, (void)idx;
    context_escape(lo->cx, "define_none called");
}

bool lower_none(Lower *lo, const Node *n) {
    diag(lo->cx, SEV_ERROR, n->loc, "this operator cannot be lowered yet");
    return false;
}

static const OpRules rules[OP_COUNT] = {
#define OP(name, domain, in_min, in_max, out_min, out_max, flags, shape, expand, grad, define, lower) [OP_##name] = {expand_##expand, grad_##grad, define_##define, lower_##lower},
#define ATTR(op, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR
};

OpRules op_rules(Op op) {
    OpRules r = rules[op];
    if (r.expand == expand_none) r.expand = NULL;
    if (r.grad == grad_none) r.grad = NULL;
    if (r.define == define_none) r.define = NULL;
    if (r.lower == lower_none) r.lower = NULL;
    return r;
}
