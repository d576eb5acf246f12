/* Gradients of reductions: what the result does to each element, broadcast back.
 *
 *     ReduceMean:       dx = dy / count            ReduceMax:     dx = dy / (how many are the largest) where x is the largest
 *     ReduceLogSumExp:  dx = dy * exp(x - y)       ReduceProd:    dx = dy * (product of the others) */
#include "ir/shape/reduce.h"
#include "passes/grad/grad.h"
#include "passes/rules.h"

/* v, of the result's shape, with the reduced axes as 1. */
static Value *kept(Grad *g, Value *v, uint32_t mask) {
    if (v->type->rank == g->n->in[0]->type->rank) return v;
    return g_2(g, OP_Unsqueeze, v, g_axes(g, mask));
}

/* sign(x) |x|^(p - 1) */
static Value *power_slope(Grad *g, Value *x, double p) {
    if (p == 2) return x;
    if (p == 1) return g_1(g, OP_Sign, x);
    return g_mul(g, g_1(g, OP_Sign, x), g_2(g, OP_Pow, g_1(g, OP_Abs, x), g_num(g, x, p - 1)));
}

/* y = (sum |x|^p)^(1/p); 0 where y is 0 */
static Value *norm_gradient(Grad *g, Value *x, Value *y, Value *dy, double p) {
    Value *zero = g_num(g, x, 0), *is_zero = g_2(g, OP_Equal, y, zero), *safe = g_where(g, is_zero, g_num(g, x, 1), y);
    Value *factor = p == 2 ? g_div(g, dy, safe) : p == 1 ? dy : g_div(g, dy, g_2(g, OP_Pow, safe, g_num(g, x, p - 1)));
    return g_mul(g, g_where(g, is_zero, zero, factor), power_slope(g, x, p));
}

static Value *cumulative(Grad *g, Value *v, bool reverse) {
    Node *n = g_node(g, OP_CumProd, 2, (Value *[]){v, value_const_scalar(g->m, DT_I64, 1)}, 1);
    attr_set_i(n, AT_CumProd_exclusive, 1);
    attr_set_i(n, AT_CumProd_reverse, reverse);
    return g_done(g, n);
}

/* For every element the product of the others: of those before it times of those behind it. Exact where elements are 0. */
static Value *product_of_others(Grad *g, Value *x, uint32_t mask) {
    int64_t perm[RANK_MAX], inverse[RANK_MAX];
    uint32_t n = 0, rank = x->type->rank;
    for (uint32_t a = 0; a < rank; a++)
        if ((mask >> a & 1) == 0) perm[n++] = a;
    Dim row = dim_const(g->m->cx, 1);
    for (uint32_t a = 0; a < rank; a++)
        if ((mask >> a & 1) != 0) {
            perm[n++] = a;
            row = dim_mul(g->m->cx, row, x->type->dim[a]);
        }
    if (!dim_is_const(g->m->cx, row)) return NULL;
    for (uint32_t a = 0; a < rank; a++) inverse[perm[a]] = a;
    Value *moved = g_transpose(g, x, perm), *rows = g_2(g, OP_Reshape, moved, value_const_i64(g->m, 2, (int64_t[]){-1, dim_value(g->m->cx, row)}));
    Value *others = g_mul(g, cumulative(g, rows, false), cumulative(g, rows, true));
    return g_transpose(g, g_reshape_like(g, others, moved), inverse);
}

static Value *extremum_gradient(Grad *g, Value *x, Value *y, Value *dy, uint32_t mask) {
    Value *wins = g_2(g, OP_Equal, x, y), *count = g_sum(g, g_cast(g, wins, x->type->dtype), mask);
    return g_where(g, wins, g_div(g, dy, count), g_num(g, x, 0));
}

bool grad_reduce(Grad *g) {
    Value *x = g->n->in[0];
    uint32_t mask;
    bool runtime;
    if (!reduce_mask(g->m, g->n, &mask, &runtime) || runtime) return false;
    Value *y = kept(g, g->n->out[0], mask), *dy = kept(g, g->dy[0], mask), *d = NULL;
    switch ((int)g->n->op) {
    case OP_ReduceSum: d = dy; break;
    case OP_ReduceMean: case OP_GlobalAveragePool: {
        Value *count = g_count(g, x, mask);
        d = count->data != NULL ? g_times(g, dy, 1 / const_f64(count, 0)) : g_div(g, dy, count);
        break;
    }
    case OP_ReduceMax: case OP_ReduceMin: case OP_GlobalMaxPool: d = extremum_gradient(g, x, y, dy, mask); break;
    case OP_ReduceL1: d = g_mul(g, dy, g_1(g, OP_Sign, x)); break;
    case OP_ReduceL2: d = norm_gradient(g, x, y, dy, 2); break;
    case OP_GlobalLpPool: d = norm_gradient(g, x, y, dy, (double)attr_i(g->n, AT_GlobalLpPool_p)); break;
    case OP_ReduceSumSquare: d = g_mul(g, g_times(g, dy, 2), x); break;
    case OP_ReduceLogSum: d = g_div(g, dy, g_1(g, OP_Exp, y)); break;
    case OP_ReduceLogSumExp: d = g_mul(g, dy, g_probability(g, x, y)); break;
    case OP_ReduceProd: {
        Value *others = product_of_others(g, x, mask);
        d = others != NULL ? g_mul(g, dy, others) : NULL;
        break;
    }
    default: break;
    }
    if (d == NULL) return false;
    g->dx[0] = g_expand_like(g, d, x);
    return true;
}

/* y = x / |x|, so dx = (dy - |x|' sum(dy y)) / |x| */
bool grad_lp_norm(Grad *g) {
    Value *x = g->n->in[0], *y = g->n->out[0], *dy = g->dy[0];
    bool one = attr_i(g->n, AT_LpNormalization_p) == 1;
    int64_t axis = g_axis(g, attr_i(g->n, AT_LpNormalization_axis), x->type->rank);
    Value *norm = g_2(g, one ? OP_ReduceL1 : OP_ReduceL2, x, value_const_i64(g->m, 1, &axis)), *zero = g_num(g, x, 0);
    Value *is_zero = g_2(g, OP_Equal, norm, zero), *safe = g_where(g, is_zero, g_num(g, x, 1), norm);
    Value *slope = one ? g_1(g, OP_Sign, x) : y;
    Value *d = g_sub(g, dy, g_mul(g, slope, g_sum(g, g_mul(g, dy, y), 1u << axis)));
    g->dx[0] = g_where(g, is_zero, zero, g_div(g, d, safe));
    return true;
}

static Value *running(Grad *g, Value *v, Op op, bool exclusive, bool reverse) {
    Node *n = g_node(g, op, 2, (Value *[]){v, g->n->in[1]}, 1);
    attr_set_i(n, attr_named(n, "exclusive"), exclusive);
    attr_set_i(n, attr_named(n, "reverse"), reverse);
    return g_done(g, n);
}

bool grad_cum_sum(Grad *g) { /* the sum from the other end */
    g->dx[0] = running(g, g->dy[0], OP_CumSum, attr_i(g->n, AT_CumSum_exclusive) != 0, attr_i(g->n, AT_CumSum_reverse) == 0);
    return true;
}

/* dx[i] = sum over j from i on of dy[j] y[j] / x[i]. A zero element would divide by zero: its share is the product that leaves it out,
 * dx[i] = P[i] * S[i] with P the exclusive product before i and S[i] = dy[i] + x[i+1] S[i+1], a recurrence that has no operator. So zeros
 * are replaced by tiny numbers whose quotient is exact to rounding. */
bool grad_cum_prod(Grad *g) {
    Value *x = g->n->in[0], *zero = g_num(g, x, 0);
    double tiny = x->type->dtype == DT_F64 ? 1e-150 : 1e-18;
    bool exclusive = attr_i(g->n, AT_CumProd_exclusive) != 0, reverse = attr_i(g->n, AT_CumProd_reverse) != 0;
    Value *safe = g_where(g, g_2(g, OP_Equal, x, zero), g_num(g, x, tiny), x);
    Value *y = running(g, safe, OP_CumProd, exclusive, reverse);
    g->dx[0] = g_div(g, running(g, g_mul(g, g->dy[0], y), OP_CumSum, exclusive, !reverse), safe);
    return true;
}
