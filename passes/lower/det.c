/* Det and Inverse: Gaussian elimination with row exchange, on a copy of each matrix.
 *
 *     for k:  p = row of the largest |a[i,k]|, i >= k;  swap rows k and p;  det *= a[k,k] (minus if swapped)
 *             for i > k:  a[i,:] -= a[k,:] * a[i,k] / a[k,k]
 *
 * Inverse (Gauss-Jordan) clears the other rows, too, and does the same to a matrix b that starts as the identity. A singular
 * matrix gives infinities and NaN, as dividing by its pivot does. */
#include "passes/lower/rows.h"
#include "passes/rules.h"

typedef struct Det { Lower *lo; const Value *copy; Expr **idx; uint32_t r; } Det;

static Expr *entry(Det *d, Expr *i, Expr *j) {
    d->idx[d->r] = i;
    d->idx[d->r + 1] = j;
    return lower_load(d->lo, d->copy, d->idx);
}

static void set_entry(Det *d, Expr *i, Expr *j, Expr *v) {
    d->idx[d->r] = i;
    d->idx[d->r + 1] = j;
    lower_store(d->lo, d->copy, d->idx, v);
}

static Expr *find_pivot(Det *d, DType t, Expr *k, Expr *below) {
    Lower *lo = d->lo;
    Expr *best = lower_local(lo, t, lx_1(lo, FN_ABS, entry(d, k, k))), *row = lower_local(lo, DT_I64, k);
    Expr *i = lx_add(lo, lx_add(lo, k, lower_for(lo, below)), lx_i(lo, 1)), *size = lx_1(lo, FN_ABS, entry(d, i, k));
    lower_if(lo, lx_2(lo, FN_GT, size, best));
    lower_set(lo, best, size);
    lower_set(lo, row, i);
    lower_end_n(lo, 2);
    return row;
}

static void swap_rows(Det *d, DType t, Dim size, Expr *k, Expr *p) {
    Lower *lo = d->lo;
    Expr *j = lower_for_dim(lo, size), *held = lower_local(lo, t, entry(d, k, j));
    set_entry(d, k, j, entry(d, p, j));
    set_entry(d, p, j, held);
    lower_end(lo);
}

bool lower_det(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    DType t = lower_float_type(x->dtype);
    uint32_t r = x->rank - 2;
    Dim size = x->dim[r];
    Expr *idx[RANK_MAX], *one = lx_i(lo, 1);
    Det d = {lo, lower_scratch(lo, type_tensor(lo->cx, t, x->rank, x->dim)), idx, r};
    for (uint32_t a = 0; a < r; a++) idx[a] = lower_for_dim(lo, x->dim[a]);
    Expr *block = r == 0 ? lower_for(lo, one) : NULL; /* locals need a block */
    idx[r] = lower_for_dim(lo, size);
    idx[r + 1] = lower_for_dim(lo, size);
    lower_store(lo, d.copy, idx, lx_cast(lo, t, lower_load(lo, n->in[0], idx)));
    lower_end_n(lo, 2);
    Expr *det = lower_local(lo, t, lx_const(lo, t, 1));
    Expr *k = lower_for_dim(lo, size), *below = lx_sub(lo, lx_sub(lo, lx_dim(lo, size), k), one);
    Expr *p = find_pivot(&d, t, k, below);
    lower_if(lo, lx_2(lo, FN_NE, p, k));
    swap_rows(&d, t, size, k, p);
    lower_set(lo, det, lx_1(lo, FN_NEG, det));
    lower_end(lo);
    Expr *pivot = lower_local(lo, t, entry(&d, k, k));
    lower_set(lo, det, lx_mul(lo, det, pivot));
    lower_if(lo, lx_2(lo, FN_NE, pivot, lx_const(lo, t, 0)));
    Expr *i = lx_add(lo, lx_add(lo, k, lower_for(lo, below)), one), *factor = lower_local(lo, t, lx_div(lo, entry(&d, i, k), pivot));
    Expr *j = lower_for_dim(lo, size);
    set_entry(&d, i, j, lx_sub(lo, entry(&d, i, j), lx_mul(lo, factor, entry(&d, k, j))));
    lower_end_n(lo, 4);
    lower_store(lo, n->out[0], idx, det);
    lower_end_n(lo, r + (block != NULL ? 1 : 0));
    return true;
}

bool lower_inverse(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    DType t = lower_float_type(x->dtype);
    uint32_t r = x->rank - 2;
    Dim size = x->dim[r];
    const Type *work = type_tensor(lo->cx, t, x->rank, x->dim);
    Expr *idx[RANK_MAX], *one = lx_const(lo, t, 1), *zero = lx_const(lo, t, 0);
    Det m[2] = {{lo, lower_scratch(lo, work), idx, r}, {lo, lower_scratch(lo, work), idx, r}}; /* the matrix, what becomes its inverse */
    for (uint32_t a = 0; a < r; a++) idx[a] = lower_for_dim(lo, x->dim[a]);
    Expr *block = r == 0 ? lower_for(lo, lx_i(lo, 1)) : NULL; /* locals need a block */
    Expr *i = idx[r] = lower_for_dim(lo, size), *j = idx[r + 1] = lower_for_dim(lo, size);
    lower_store(lo, m[0].copy, idx, lx_cast(lo, t, lower_load(lo, n->in[0], idx)));
    lower_store(lo, m[1].copy, idx, lx_select(lo, lx_2(lo, FN_EQ, i, j), one, zero));
    lower_end_n(lo, 2);
    Expr *k = lower_for_dim(lo, size), *below = lx_sub(lo, lx_sub(lo, lx_dim(lo, size), k), lx_i(lo, 1)), *p = find_pivot(&m[0], t, k, below);
    lower_if(lo, lx_2(lo, FN_NE, p, k));
    for (uint32_t w = 0; w < 2; w++) swap_rows(&m[w], t, size, k, p);
    lower_end(lo);
    Expr *pivot = lower_local(lo, t, entry(&m[0], k, k));
    j = lower_for_dim(lo, size);
    for (uint32_t w = 0; w < 2; w++) set_entry(&m[w], k, j, lx_div(lo, entry(&m[w], k, j), pivot));
    lower_end(lo);
    i = lower_for_dim(lo, size);
    lower_if(lo, lx_2(lo, FN_NE, i, k));
    Expr *factor = lower_local(lo, t, entry(&m[0], i, k));
    j = lower_for_dim(lo, size);
    for (uint32_t w = 0; w < 2; w++) set_entry(&m[w], i, j, lx_sub(lo, entry(&m[w], i, j), lx_mul(lo, factor, entry(&m[w], k, j))));
    lower_end_n(lo, 4);
    idx[r] = lower_for_dim(lo, size);
    idx[r + 1] = lower_for_dim(lo, size);
    lower_store(lo, n->out[0], idx, lower_load(lo, m[1].copy, idx));
    lower_end_n(lo, r + 2 + (block != NULL ? 1 : 0));
    return true;
}
