/* Gradients of what attention is made of, beside matrix products and softmax. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

/* Scores that were hidden get 0: the softmax behind sees to it. A mask of numbers is an addend. */
bool grad_attention_bias(Grad *g) {
    g->dx[0] = g->dy[0];
    if (!g_wants(g, 1)) return true;
    Value *mask = g->n->in[1];
    if (dtype_is_float(mask->type->dtype)) g->dx[1] = g_cast(g, g_sum_to(g, g->dy[0], mask), mask->type->dtype);
    return true;
}
