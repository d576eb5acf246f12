/* Gradients of determinants and inverses.
 *
 *     Det:      dA = dy * cofactors(A)         a cofactor is the determinant of A without its row and column, times +1 or -1
 *     Inverse:  dA = -Y' dY Y'
 *
 * Cofactors are right for singular matrices, too, and their gradient is by the same rule. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

/* All minors of [.., n, n]: [.., n, n, n-1, n-1]. */
static Value *minors(Grad *g, Value *a, int64_t n) {
    int64_t *others = ARENA_ARRAY(&g->m->cx->arena, int64_t, (size_t)(n * (n - 1)));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j + 1 < n; j++) others[i * (n - 1) + j] = j < i ? j : j + 1;
    uint32_t batch = a->type->rank - 2u;
    Value *index = expand_ints(g->m, 2, (int64_t[]){n, n - 1}, others);
    Value *columns = expand_gather(g->m, g->at, a, index, batch + 1); /* [.., row, j, column] */
    Value *both = expand_gather(g->m, g->at, columns, index, batch);  /* [.., i, row, j, column] */
    int64_t perm[RANK_MAX];
    for (uint32_t d = 0; d < batch; d++) perm[d] = d;
    perm[batch] = batch;
    perm[batch + 1] = batch + 2;
    perm[batch + 2] = batch + 1;
    perm[batch + 3] = batch + 3;
    return g_transpose(g, both, perm);
}

bool grad_det(Grad *g) {
    Value *a = g->n->in[0], *dy = g->dy[0];
    uint32_t rank = a->type->rank;
    Dim size = a->type->dim[rank - 1];
    if (!dim_is_const(g->m->cx, size)) {
        diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient needs a matrix size that is known at compile time");
        return false;
    }
    int64_t n = dim_value(g->m->cx, size);
    Value *d = g_2(g, OP_Unsqueeze, dy, value_const_i64(g->m, 2, (int64_t[]){-2, -1}));
    if (n > 1) {
        double *sign = ARENA_ARRAY(&g->m->cx->arena, double, (size_t)(n * n));
        for (int64_t i = 0; i < n * n; i++) sign[i] = (i / n + i % n) % 2 == 0 ? 1 : -1;
        Value *signs = g_cast(g, expand_floats(g->m, 2, (int64_t[]){n, n}, sign, DT_F64), a->type->dtype);
        d = g_mul(g, d, g_mul(g, signs, g_1(g, OP_Det, minors(g, a, n))));
    }
    g->dx[0] = g_expand_like(g, d, a);
    return true;
}

bool grad_inverse(Grad *g) {
    Value *y = g->n->out[0];
    Value *left = g_matmul(g, y, true, g->dy[0], false, 1);
    g->dx[0] = g_neg(g, g_matmul(g, left, false, y, true, 1));
    return true;
}
