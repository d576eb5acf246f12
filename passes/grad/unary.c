/* Gradients of operators that are one scalar function of one operand: the derivatives of scalars.def as graph operators.
 *
 *     FN(TANH, 1, "tanh", FLOAT, (sub(num(1), mul(y, y))))        ->        dx = dy * (1 - y * y) */
#include <math.h>

#include "passes/grad/grad.h"
#include "passes/lower/operand.h"
#include "passes/rules.h"

/* What the column may say. */
#define add(a, b) g_add(g, a, b)
#define sub(a, b) g_sub(g, a, b)
#define mul(a, b) g_mul(g, a, b)
#define div(a, b) g_div(g, a, b)
#define num(c) g_num(g, x, c)
#define op(name, a) g_1(g, OP_##name, a)
#define zero NULL
#define none NULL

/* dy/dx; NULL when it is zero everywhere. */
static Value *derivative(Grad *g, Fn fn, Value *x, Value *y) {
    switch (fn) {
#define FN(NAME, arity, text, class, expression) case FN_##NAME: return expression;
#include "ir/scalars.def"
#undef FN
    case FN_NONE: case FN_COUNT: break;
    }
    (void)x, (void)y;
    return NULL;
}

bool grad_unary(Grad *g) {
    Fn fn = operand_unary_fn(g->n->op);
    switch ((int)fn) { /* shorter with dy inside */
    case FN_NEG: g->dx[0] = g_neg(g, g->dy[0]); return true;
    case FN_LOG: g->dx[0] = g_div(g, g->dy[0], g->n->in[0]); return true;
    case FN_SQRT: g->dx[0] = g_div(g, g->dy[0], g_times(g, g->n->out[0], 2)); return true;
    default: break;
    }
    Value *d = derivative(g, fn, g->n->in[0], g->n->out[0]);
    if (d != NULL) g->dx[0] = g_mul(g, g->dy[0], d);
    return true;
}
