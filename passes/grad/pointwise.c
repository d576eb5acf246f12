/* Gradients of arithmetic, selection and casts, whose operands broadcast. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

bool grad_identity(Grad *g) {
    g->dx[0] = g->dy[0];
    return true;
}

bool grad_arithmetic(Grad *g) {
    Value *a = g->n->in[0], *b = g->n->in[1], *dy = g->dy[0], *da = dy, *db = dy;
    switch ((int)g->n->op) {
    case OP_Sub: db = g_neg(g, dy); break;
    case OP_Mul:
        da = g_mul(g, dy, b);
        db = g_mul(g, dy, a);
        break;
    case OP_Div: /* d(a/b) = da/b - y db/b */
        da = g_div(g, dy, b);
        db = g_neg(g, g_mul(g, da, g->n->out[0]));
        break;
    case OP_Mod: /* a - b * q, q piecewise constant */
        db = g_neg(g, g_mul(g, dy, g_div(g, g_sub(g, a, g->n->out[0]), b)));
        break;
    default: break; /* Add */
    }
    g->dx[0] = g_sum_to(g, da, a);
    g->dx[1] = g_sum_to(g, db, b);
    return true;
}

bool grad_sum(Grad *g) { /* Sum, Mean */
    Value *d = g->n->op == OP_Mean ? g_times(g, g->dy[0], 1.0 / g->n->n_in) : g->dy[0];
    for (uint32_t i = 0; i < g->n->n_in; i++)
        if (g_wants(g, i)) g->dx[i] = g_sum_to(g, d, g->n->in[i]);
    return true;
}

/* To the operand that won; of equal ones the first. */
bool grad_extremum(Grad *g) {
    Value *y = g->n->out[0], *taken = NULL, *zero = g_num(g, y, 0);
    for (uint32_t i = 0; i < g->n->n_in; i++) {
        Value *x = g->n->in[i], *wins = g_2(g, OP_Equal, x, y);
        if (taken != NULL) wins = g_2(g, OP_And, wins, g_1(g, OP_Not, taken));
        g->dx[i] = g_sum_to(g, g->n->n_in == 1 ? g->dy[0] : g_where(g, wins, g->dy[0], zero), x);
        taken = taken == NULL ? wins : g_2(g, OP_Or, taken, wins);
    }
    return true;
}

bool grad_pow(Grad *g) {
    Value *a = g->n->in[0], *b = g->n->in[1], *y = g->n->out[0], *dy = g->dy[0];
    Value *power = g_cast(g, b, a->type->dtype), *zero = g_num(g, a, 0), *one = g_num(g, a, 1);
    Value *below = g_sub(g, power, one);
    if (b->data != NULL && b->type->rank == 0) below = g_num(g, a, const_f64(b, 0) - 1);
    if (g_wants(g, 0)) {
        Value *slope = g_mul(g, power, g_2(g, OP_Pow, a, below)); /* 0 * 0^-1 is NaN: a constant has slope 0 */
        if (b->data == NULL || b->type->rank != 0) slope = g_where(g, g_2(g, OP_Equal, power, zero), zero, slope);
        g->dx[0] = g_sum_to(g, g_mul(g, dy, slope), a);
    }
    if (g_wants(g, 1)) {
        Value *positive = g_2(g, OP_Greater, a, zero); /* where not, y does not move with b */
        Value *log = g_1(g, OP_Log, g_where(g, positive, a, one));
        g->dx[1] = g_cast(g, g_sum_to(g, g_mul(g, dy, g_mul(g, y, log)), b), b->type->dtype);
    }
    return true;
}

bool grad_where(Grad *g) {
    Value *c = g->n->in[0], *zero = g_num(g, g->dy[0], 0);
    if (g_wants(g, 1)) g->dx[1] = g_sum_to(g, g_where(g, c, g->dy[0], zero), g->n->in[1]);
    if (g_wants(g, 2)) g->dx[2] = g_sum_to(g, g_where(g, c, zero, g->dy[0]), g->n->in[2]);
    return true;
}

bool grad_clip(Grad *g) { /* y = min(max(x, low), high); on the edge the gradient goes to x */
    Value *x = g->n->in[0], *low = g_in(g, 1), *high = g_in(g, 2), *dy = g->dy[0], *zero = g_num(g, dy, 0);
    Value *inside = NULL, *above = high != NULL ? g_2(g, OP_Greater, low != NULL ? g_2(g, OP_Max, x, low) : x, high) : NULL;
    Value *below = low != NULL ? g_2(g, OP_Less, x, low) : NULL;
    if (below != NULL && above != NULL) inside = g_1(g, OP_Not, g_2(g, OP_Or, below, above));
    else if (below != NULL || above != NULL) inside = g_1(g, OP_Not, below != NULL ? below : above);
    g->dx[0] = inside != NULL ? g_where(g, inside, dy, zero) : dy;
    if (g_wants(g, 1)) {
        Value *at_low = above != NULL ? g_2(g, OP_And, below, g_1(g, OP_Not, above)) : below;
        g->dx[1] = g_sum_to(g, g_where(g, at_low, dy, zero), low);
    }
    if (g_wants(g, 2)) g->dx[2] = g_sum_to(g, g_where(g, above, dy, zero), high);
    return true;
}

bool grad_cast(Grad *g) { /* between floats; what comes from or goes to integers is not reached */
    g->dx[0] = g_cast(g, g->dy[0], g->n->in[0]->type->dtype);
    return true;
}

