/* Matrix products: MatMul, Gemm, and their integer and quantised kin.
 *
 * Each rule describes its product (operands, element access, what becomes of the sum) and either hands it to the
 * micro-kernels (passes/lower_contract.h) or writes plain loops, which take every type, rank and run-time size. */
#include "ir/shape/contraction.h"
#include "passes/lower/contraction.h"
#include "passes/lower_contract.h"
#include "passes/lower_integer.h"
#include "passes/rules.h"

/* The element of an operand at result batch index `batch`, row i, column k (of the possibly transposed matrix). */
static Expr *element(Lower *lo, const Value *v, const MatrixLayout *l, uint32_t n_batch, Expr *const *batch, Expr *row, Expr *col, bool is_b) {
    Expr *idx[RANK_MAX];
    if (l->rank == 1) {
        idx[0] = is_b ? row : col;
        return lower_load(lo, v, idx);
    }
    uint32_t own = l->rank - 2;
    for (uint32_t i = 0; i < own; i++) {
        Dim d = v->type->dim[l->batch[i]];
        bool one = dim_is_const(lo->cx, d) && dim_value(lo->cx, d) == 1;
        idx[l->batch[i]] = one ? lx_i(lo, 0) : batch[i + n_batch - own];
    }
    idx[l->row] = row;
    idx[l->col] = col;
    return lower_load(lo, v, idx);
}

typedef struct Result { /* loops over the result, and where in it we are */
    Expr *idx[RANK_MAX + 2], *m, *n;
    uint32_t rank;
} Result;

static Result open_result(Lower *lo, const MatMulGeometry *g) {
    Result r = {.m = lx_i(lo, 0), .n = lx_i(lo, 0)};
    for (uint32_t i = 0; i < g->n_batch; i++) r.idx[r.rank++] = lower_for_dim(lo, g->batch[i]);
    if (g->has_m) r.idx[r.rank++] = r.m = lower_for_dim(lo, g->m);
    if (g->has_n) r.idx[r.rank++] = r.n = lower_for_dim(lo, g->n);
    return r;
}

bool lower_matmul(Lower *lo, const Node *n) {
    MatMulGeometry g;
    if (!matmul_geometry(lo->m, n, 0, 1, &g)) return false;
    DType t = dtype_compute(n->out[0]->type->dtype);
    if (lower_matmul_contract(lo, n, &g)) return true;
    Result r = open_result(lo, &g);
    Expr *sum = lower_local(lo, t, lx_const(lo, t, 0));
    Expr *k = lower_for_dim(lo, g.k);
    Expr *a = element(lo, n->in[0], &g.a, g.n_batch, r.idx, r.m, k, false), *b = element(lo, n->in[1], &g.b, g.n_batch, r.idx, k, r.n, true);
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, a, b));
    lower_end(lo);
    lower_store(lo, n->out[0], r.idx, g.alpha == 1 ? sum : lx_mul(lo, sum, lx_const(lo, t, g.alpha)));
    lower_end_n(lo, r.rank);
    return true;
}

/* The sum over k of (a - za) * (b - zb), in i32 (f32 for float8 operands), at the open result. */
static Expr *sum_of_differences(Lower *lo, const Node *n, const MatMulGeometry *g, const Result *r, uint32_t a, uint32_t b, const Value *za, const Value *zb) {
    DType t = dtype_is_float(n->in[a]->type->dtype) ? DT_F32 : DT_I32;
    Expr *none = lx_const(lo, t, 0);
    Expr *zero_a = lx_cast(lo, t, contract_parameter(lo, za, r->m, none)), *zero_b = lx_cast(lo, t, contract_parameter(lo, zb, r->n, none));
    Expr *sum = lower_local(lo, t, none);
    Expr *k = lower_for_dim(lo, g->k);
    Expr *x = lx_cast(lo, t, element(lo, n->in[a], &g->a, g->n_batch, r->idx, r->m, k, false));
    Expr *y = lx_cast(lo, t, element(lo, n->in[b], &g->b, g->n_batch, r->idx, k, r->n, true));
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, lx_sub(lo, x, zero_a), lx_sub(lo, y, zero_b)));
    lower_end(lo);
    return sum;
}

static const Value *input_or_null(const Node *n, uint32_t i) { return i < n->n_in ? n->in[i] : NULL; }

bool lower_matmul_integer(Lower *lo, const Node *n) {
    MatMulGeometry g;
    if (!matmul_geometry(lo->m, n, 0, 1, &g)) return false;
    if (n->op == OP_MatMulInteger && lower_integer_matmul_contract(lo, n, &g)) return true;
    Result r = open_result(lo, &g);
    Expr *sum = sum_of_differences(lo, n, &g, &r, 0, 1, input_or_null(n, 2), input_or_null(n, 3));
    lower_store(lo, n->out[0], r.idx, sum);
    lower_end_n(lo, r.rank);
    return true;
}

bool lower_integer_matmul(Lower *lo, const Node *n) {
    MatMulGeometry g;
    if (!matmul_geometry(lo->m, n, 0, 1, &g)) return false;
    if (lower_integer_matmul_contract(lo, n, &g)) return true;
    Result r = open_result(lo, &g);
    Expr *sum = sum_of_differences(lo, n, &g, &r, 0, 1, input_or_null(n, 2), input_or_null(n, 3));
    const Value *bias = input_or_null(n, 4);
    if (bias != NULL) sum = lx_add(lo, sum, lower_load(lo, bias, &r.n));
    lower_store(lo, n->out[0], r.idx, lx_cast(lo, n->out[0]->type->dtype, sum));
    lower_end_n(lo, r.rank);
    return true;
}

bool lower_qlinear_matmul(Lower *lo, const Node *n) {
    MatMulGeometry g;
    if (!matmul_geometry(lo->m, n, 0, 3, &g)) return false;
    Result r = open_result(lo, &g);
    Expr *sum = sum_of_differences(lo, n, &g, &r, 0, 3, n->in[2], n->in[5]);
    Expr *one = lx_const(lo, DT_F32, 1);
    Expr *sa = contract_parameter(lo, n->in[1], r.m, one), *sb = contract_parameter(lo, n->in[4], r.n, one), *sy = lower_load_scalar(lo, n->in[6]);
    Expr *scale = lx_div(lo, lx_mul(lo, sa, sb), sy);
    lower_store(lo, n->out[0], r.idx, contract_requantize(lo, n->out[0], sum, scale, n->in[7]));
    lower_end_n(lo, r.rank);
    return true;
}

bool lower_gemm(Lower *lo, const Node *n) {
    if (lower_gemm_contract(lo, n)) return true;
    const Type *y = n->out[0]->type;
    DType t = dtype_compute(y->dtype);
    bool ta = attr_i(n, AT_Gemm_transA) != 0, tb = attr_i(n, AT_Gemm_transB) != 0;
    Expr *idx[2];
    lower_for_type(lo, y, idx);
    Expr *sum = lower_local(lo, t, lx_const(lo, t, 0));
    Expr *k = lower_for_dim(lo, n->in[0]->type->dim[ta ? 0 : 1]);
    Expr *a = lower_load(lo, n->in[0], ta ? (Expr *[]){k, idx[0]} : (Expr *[]){idx[0], k});
    Expr *b = lower_load(lo, n->in[1], tb ? (Expr *[]){idx[1], k} : (Expr *[]){k, idx[1]});
    lower_accumulate(lo, sum, FN_ADD, lx_mul(lo, a, b));
    lower_end(lo);
    lower_store(lo, n->out[0], idx, gemm_finish(lo, n, idx, sum));
    lower_end_n(lo, 2);
    return true;
}

Expr *gemm_finish(Lower *lo, const Node *n, Expr *const *idx, Expr *sum) {
    DType t = (DType)sum->dtype;
    double alpha = attr_f(n, AT_Gemm_alpha), beta = attr_f(n, AT_Gemm_beta);
    if (alpha != 1) sum = lx_mul(lo, sum, lx_const(lo, t, alpha));
    const Value *c = input_or_null(n, 2);
    if (c == NULL || beta == 0) return sum;
    Expr *x = lower_load_broadcast(lo, c, 2, idx);
    return lx_add(lo, sum, beta == 1 ? x : lx_mul(lo, x, lx_const(lo, t, beta)));
}
