/* Shape rules of matrix products.
 *
 *     MatMul  a: [..., M, K], b: [..., K, N] -> [..., M, N]   leading dimensions broadcast; a vector is one row or column
 *     Gemm    a: [M, K], b: [K, N], c broadcast to [M, N]     with optional transposes */
#include "ir/shape/contraction.h"

static bool read_transposes(Module *m, const Node *n, MatMulGeometry *g) {
    (void)m;
    g->alpha = 1;
    switch ((int)n->op) {
    case OP_FusedMatMul:
        g->trans_a = attr_i(n, AT_FusedMatMul_transA) != 0;
        g->trans_b = attr_i(n, AT_FusedMatMul_transB) != 0;
        g->batch_a = attr_i(n, AT_FusedMatMul_transBatchA) != 0;
        g->batch_b = attr_i(n, AT_FusedMatMul_transBatchB) != 0;
        g->alpha = attr_f(n, AT_FusedMatMul_alpha);
        return true;
    case OP_TransposeMatMul:
        g->trans_a = attr_i(n, AT_TransposeMatMul_transA) != 0;
        g->trans_b = attr_i(n, AT_TransposeMatMul_transB) != 0;
        g->alpha = attr_f(n, AT_TransposeMatMul_alpha);
        return true;
    default: return true;
    }
}

/* Positions of an operand's dimensions: which is the row, which the column, which the i-th batch dimension. transBatch
 * of FusedMatMul moves dimension 0 behind the other batch dimensions, next to the matrix. */
static MatrixLayout layout_of(const Type *t, bool trans, bool batch) {
    MatrixLayout l = {.rank = t->rank};
    if (t->rank < 2) return l;
    uint32_t order[RANK_MAX], r = t->rank;
    for (uint32_t i = 0; i < r; i++) order[i] = i;
    if (batch && r > 2) { /* [D0, B.., X, Y] read as [B.., D0 or X, Y]: ONNX Runtime's rule */
        for (uint32_t i = 0; i + 2 < r; i++) order[i] = i + 1;
        order[r - 2] = 0;
    }
    for (uint32_t i = 0; i + 2 < r; i++) l.batch[i] = order[i];
    l.row = order[trans ? r - 1 : r - 2];
    l.col = order[trans ? r - 2 : r - 1];
    return l;
}

bool matmul_geometry(Module *m, const Node *n, uint32_t a, uint32_t b, MatMulGeometry *g) {
    Node *at = (Node *)(uintptr_t)n;
    const Type *ta = shape_in(m, at, a), *tb = shape_in(m, at, b);
    if (ta == NULL || tb == NULL) return false;
    if (ta->rank == 0 || tb->rank == 0) {
        diag(m->cx, SEV_ERROR, n->loc, "an operand is a scalar; rank 1 or more is needed");
        return false;
    }
    *g = (MatMulGeometry){0};
    if (!read_transposes(m, n, g)) return false;
    Dim one = dim_const(m->cx, 1);
    g->a = layout_of(ta, g->trans_a, g->batch_a);
    g->b = layout_of(tb, g->trans_b, g->batch_b);
    g->m = ta->rank > 1 ? ta->dim[g->a.row] : one;
    g->n = tb->rank > 1 ? tb->dim[g->b.col] : one;
    Dim ka = ta->rank > 1 ? ta->dim[g->a.col] : ta->dim[0], kb = tb->rank > 1 ? tb->dim[g->b.row] : tb->dim[0];
    g->k = shape_unify(m, at, ka, kb, "inner dimensions");
    if (g->k == 0) return false;
    uint32_t na = ta->rank > 2 ? ta->rank - 2u : 0, nb = tb->rank > 2 ? tb->rank - 2u : 0;
    g->n_batch = na > nb ? na : nb;
    for (uint32_t i = 0; i < g->n_batch; i++) {
        Dim da = i + na >= g->n_batch ? ta->dim[g->a.batch[i + na - g->n_batch]] : one;
        Dim db = i + nb >= g->n_batch ? tb->dim[g->b.batch[i + nb - g->n_batch]] : one;
        g->batch[i] = da == one ? db : db == one ? da : shape_unify(m, at, da, db, "batch dimensions");
        if (g->batch[i] == 0) return false;
    }
    g->has_m = ta->rank > 1;
    g->has_n = tb->rank > 1;
    return true;
}

static bool product_output(Module *m, Node *n, uint32_t a, uint32_t b, DType dtype) {
    MatMulGeometry g;
    if (!matmul_geometry(m, n, a, b, &g)) return false;
    Dim dim[RANK_MAX + 2];
    uint32_t r = 0;
    for (uint32_t i = 0; i < g.n_batch; i++) dim[r++] = g.batch[i];
    if (g.has_m) dim[r++] = g.m;
    if (g.has_n) dim[r++] = g.n;
    shape_out(m, n, 0, dtype, r, dim);
    return true;
}

bool shape_matmul(Module *m, Node *n) {
    const Type *a = shape_in(m, n, 0), *b = shape_in(m, n, 1);
    if (a == NULL || b == NULL) return false;
    if (a->dtype != b->dtype || (!dtype_is_float(a->dtype) && !dtype_is_int(a->dtype))) {
        diag(m->cx, SEV_ERROR, n->loc, "A is %s and B %s; one numeric type is needed", dtype_text(a->dtype), dtype_text(b->dtype));
        return false;
    }
    return product_output(m, n, 0, 1, a->dtype);
}

bool shape_mixed_matmul(Module *m, Node *n) {
    const Type *a = shape_in(m, n, 0), *b = shape_in(m, n, 1);
    if (a == NULL || b == NULL) return false;
    if (a->dtype != DT_BF16 || b->dtype != DT_F32 || b->rank != 2) {
        diag(m->cx, SEV_ERROR, n->loc, "A is %s and B %s of rank %u; bf16 and an f32 matrix are needed", dtype_text(a->dtype), dtype_text(b->dtype), b->rank);
        return false;
    }
    return product_output(m, n, 0, 1, DT_F32);
}

bool shape_matmul_integer(Module *m, Node *n) { return product_output(m, n, 0, 1, DT_I32); }

bool shape_matmul_nbits(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0);
    if (x == NULL) return false;
    int64_t k = attr_i(n, AT_MatMulNBits_K), columns = attr_i(n, AT_MatMulNBits_N);
    if (x->rank < 1 || k < 1 || columns < 1) {
        diag(m->cx, SEV_ERROR, n->loc, "X has rank %u, K is %lld, N is %lld", x->rank, (long long)k, (long long)columns);
        return false;
    }
    if (shape_unify(m, n, x->dim[x->rank - 1], dim_const(m->cx, k), "inner dimensions") == 0) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < x->rank; i++) dim[i] = i + 1 < x->rank ? x->dim[i] : dim_const(m->cx, columns);
    shape_out(m, n, 0, x->dtype, x->rank, dim);
    return true;
}

bool shape_block_matmul(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *codes = shape_in(m, n, 1);
    if (x == NULL || codes == NULL) return false;
    if (x->dtype != DT_F32 || x->rank < 1 || codes->dtype != DT_U8 || codes->rank != 2) {
        diag(m->cx, SEV_ERROR, n->loc, "X is %s and the codes %s of rank %u; f32 and a u8 matrix are needed", dtype_text(x->dtype), dtype_text(codes->dtype), codes->rank);
        return false;
    }
    if (shape_unify(m, n, x->dim[x->rank - 1], codes->dim[1], "inner dimensions") == 0) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < x->rank; i++) dim[i] = i + 1 < x->rank ? x->dim[i] : codes->dim[0];
    shape_out(m, n, 0, DT_F32, x->rank, dim);
    return true;
}

bool shape_integer_matmul(Module *m, Node *n) { return product_output(m, n, 0, 1, dtype_from_onnx((int32_t)attr_i(n, AT_IntegerMatMul_to))); }

bool shape_qlinear_matmul(Module *m, Node *n) {
    const Type *zero = shape_in(m, n, 7);
    return zero != NULL && product_output(m, n, 0, 3, zero->dtype);
}

bool shape_gemm(Module *m, Node *n) {
    const Type *a = shape_in(m, n, 0), *b = shape_in(m, n, 1);
    if (a == NULL || b == NULL) return false;
    if (a->rank != 2 || b->rank != 2) {
        diag(m->cx, SEV_ERROR, n->loc, "A has rank %u and B rank %u; matrices are needed", a->rank, b->rank);
        return false;
    }
    bool fused = n->op == OP_FusedGemm;
    bool ta = attr_i(n, fused ? AT_FusedGemm_transA : AT_Gemm_transA) != 0, tb = attr_i(n, fused ? AT_FusedGemm_transB : AT_Gemm_transB) != 0;
    if (shape_unify(m, n, a->dim[ta ? 0 : 1], b->dim[tb ? 1 : 0], "inner dimensions") == 0) return false;
    Dim dim[2] = {a->dim[ta ? 1 : 0], b->dim[tb ? 0 : 1]};
    if (n->n_in > 2 && n->in[2] != NULL) {
        const Type *c = shape_in(m, n, 2);
        if (c == NULL) return false;
        Dim both[RANK_MAX];
        uint32_t rank;
        const Type *y = type_tensor(m->cx, a->dtype, 2, dim);
        if (!shape_broadcast(m, n, y, c, &rank, both)) return false;
        if (rank != 2 || (dim_is_const(m->cx, both[0]) && dim_is_const(m->cx, dim[0]) && both[0] != dim[0]) ||
            (dim_is_const(m->cx, both[1]) && dim_is_const(m->cx, dim[1]) && both[1] != dim[1])) {
            diag(m->cx, SEV_ERROR, n->loc, "C does not broadcast to the shape of the product");
            return false;
        }
    }
    shape_out(m, n, 0, a->dtype, 2, dim);
    return true;
}
