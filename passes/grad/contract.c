/* Gradients of matrix products: two products each, with operands transposed in place.
 *
 *     Y = A B        dA = dY B'        dB = A' dY        (summed over the batch dimensions along which an operand was repeated) */
#include "passes/grad/grad.h"
#include "passes/rules.h"

/* [..., R, C] with one trailing matrix as rows: [-1, C]. */
static Value *as_rows(Grad *g, Value *v) {
    if (v->type->rank == 2) return v;
    Value *columns = g_size(g, v, v->type->rank - 1);
    Value *shape = expand_concat(g->m, g->at, 2, (Value *[]){value_const_i64(g->m, 1, (int64_t[]){-1}), columns}, 0);
    if (columns->data != NULL) shape = value_const_i64(g->m, 2, (int64_t[]){-1, const_i64(columns, 0)});
    return g_2(g, OP_Reshape, v, shape);
}

typedef struct Product { Value *a, *b; bool ta, tb; double alpha; } Product;

/* Operands of rank 2 and more. */
static void product_gradient(Grad *g, const Product *p, Value *dy, Value **da, Value **db) {
    Value *a = p->a, *b = p->b;
    if (da != NULL) {
        Value *d = p->ta ? g_matmul(g, b, p->tb, dy, true, p->alpha) : g_matmul(g, dy, false, b, !p->tb, p->alpha);
        *da = g_sum_to(g, d, a);
    }
    if (db == NULL) return;
    if (b->type->rank == 2 && a->type->rank > 2 && !p->ta) { /* one matrix for all rows: one product over them */
        a = as_rows(g, a);
        dy = as_rows(g, dy);
    }
    Value *d = p->tb ? g_matmul(g, dy, true, a, p->ta, p->alpha) : g_matmul(g, a, !p->ta, dy, false, p->alpha);
    *db = g_sum_to(g, d, b);
}

/* A vector operand is a matrix with one row (left) or column (right). */
static Value *as_matrix(Grad *g, Value *v, int64_t axis) {
    return v->type->rank == 1 ? g_2(g, OP_Unsqueeze, v, value_const_i64(g->m, 1, &axis)) : v;
}

bool grad_mat_mul(Grad *g) { /* MatMul, FusedMatMul, TransposeMatMul */
    Value *a = g->n->in[0], *b = g->n->in[1], *dy = g->dy[0];
    Product p = {.a = as_matrix(g, a, 0), .b = as_matrix(g, b, 1), .alpha = 1};
    AttrSlot trans_a = attr_named(g->n, "transA");
    if (trans_a != AT_COUNT) {
        p.ta = attr_i(g->n, trans_a) != 0 && a->type->rank > 1;
        p.tb = attr_i(g->n, attr_named(g->n, "transB")) != 0 && b->type->rank > 1;
        p.alpha = attr_f(g->n, attr_named(g->n, "alpha"));
        if (g->n->op == OP_FusedMatMul && (attr_i(g->n, AT_FusedMatMul_transBatchA) != 0 || attr_i(g->n, AT_FusedMatMul_transBatchB) != 0)) {
            diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient with transBatchA or transBatchB is not supported");
            return false;
        }
    }
    if (b->type->rank == 1) dy = g_2(g, OP_Unsqueeze, dy, value_const_i64(g->m, 1, (int64_t[]){-1}));
    if (a->type->rank == 1) dy = g_2(g, OP_Unsqueeze, dy, value_const_i64(g->m, 1, (int64_t[]){-2}));
    product_gradient(g, &p, dy, g_wants(g, 0) ? &g->dx[0] : NULL, g_wants(g, 1) ? &g->dx[1] : NULL);
    if (g->dx[0] != NULL) g->dx[0] = g_reshape_like(g, g->dx[0], a);
    if (g->dx[1] != NULL) g->dx[1] = g_reshape_like(g, g->dx[1], b);
    return true;
}

bool grad_gemm(Grad *g) {
    const Node *n = g->n;
    Product p = {.a = n->in[0], .b = n->in[1], .ta = attr_i(n, AT_Gemm_transA) != 0, .tb = attr_i(n, AT_Gemm_transB) != 0, .alpha = attr_f(n, AT_Gemm_alpha)};
    product_gradient(g, &p, g->dy[0], g_wants(g, 0) ? &g->dx[0] : NULL, g_wants(g, 1) ? &g->dx[1] : NULL);
    if (g_wants(g, 2)) g->dx[2] = g_times(g, g_sum_to(g, g->dy[0], n->in[2]), attr_f(n, AT_Gemm_beta));
    return true;
}
