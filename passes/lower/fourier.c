/* DFT and STFT by definition, with a table of the roots of unity (exact to the last bit also for long transforms):
 *
 *     phase 1:  for j < L:  cos[j], sin[j] = cos(2 pi j / L), sin(2 pi j / L)            in double, rounded once
 *     phase 2:  y[k] = sum over n < min(N, L) of x[n] * (cos[k n mod L] -+ i sin[k n mod L])
 *
 * Inverse transforms divide by L. One-sided inverse input is extended by symmetry: inner bins count twice. */
#include "ir/shape/fourier.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

typedef struct Roots { Value *cosine, *sine; Expr *length; } Roots;

static Roots roots_of_unity(Lower *lo, DType t, Dim length) {
    Roots r = {.length = lx_dim(lo, length)};
    r.cosine = lower_scratch(lo, type_tensor(lo->cx, t, 1, &length));
    r.sine = lower_scratch(lo, type_tensor(lo->cx, t, 1, &length));
    Expr *j = lower_for_dim(lo, length);
    Expr *turn = lx_div(lo, lx_cast(lo, DT_F64, j), lx_cast(lo, DT_F64, r.length));
    Expr *angle = lx_mul(lo, turn, lx_const(lo, DT_F64, 6.283185307179586476925286766559));
    lower_store(lo, r.cosine, &j, lx_1(lo, FN_COS, angle));
    lower_store(lo, r.sine, &j, lx_1(lo, FN_SIN, angle));
    lower_end(lo);
    return r;
}

typedef struct Sums { Expr *re, *im; } Sums;

/* Adds x * root^(k n) to the sums; the exponent's sign is minus for forward transforms. */
static void add_term(Lower *lo, Sums *s, const Roots *r, Expr *kn, Expr *re, Expr *im, bool inverse, bool want_im) {
    Expr *j = lx_2(lo, FN_MOD, kn, r->length);
    Expr *c = lower_load(lo, r->cosine, &j), *d = lower_load(lo, r->sine, &j);
    if (!inverse) d = lx_1(lo, FN_NEG, d);
    Expr *real = lx_mul(lo, re, c), *imaginary = lx_mul(lo, re, d);
    if (im != NULL) {
        real = lx_sub(lo, real, lx_mul(lo, im, d));
        imaginary = lx_add(lo, imaginary, lx_mul(lo, im, c));
    }
    lower_accumulate(lo, s->re, FN_ADD, real);
    if (want_im) lower_accumulate(lo, s->im, FN_ADD, imaginary);
}

static Sums sums_new(Lower *lo, DType t) {
    Expr *zero = lx_const(lo, t, 0);
    return (Sums){lower_local(lo, t, zero), lower_local(lo, t, zero)};
}

bool lower_dft(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type, *y = n->out[0]->type;
    DftPlan p;
    if (!dft_resolve(lo->m, (Node *)(uintptr_t)n, &p)) return false;
    DType t = lower_float_type(x->dtype);
    Roots r = roots_of_unity(lo, t, p.length);
    Expr *idx[RANK_MAX], *zero = lx_i(lo, 0), *one = lx_i(lo, 1);
    uint32_t last = x->rank - 1;
    for (uint32_t a = 0; a < last; a++) idx[a] = lower_for_dim(lo, y->dim[a]);
    Expr *k = idx[p.axis], *length = lx_dim(lo, p.length);
    Sums s = sums_new(lo, t);
    Expr *count = lx_2(lo, FN_MIN, lx_dim(lo, p.in), p.real_out ? lx_add(lo, lx_2(lo, FN_FLOORDIV, length, lx_i(lo, 2)), one) : length);
    Expr *i = idx[p.axis] = lower_for(lo, lx_2(lo, FN_MAX, count, zero));
    idx[last] = zero;
    Expr *re = lx_cast(lo, t, lower_load(lo, n->in[0], idx)), *im = NULL;
    idx[last] = one;
    if (p.complex_in) im = lx_cast(lo, t, lower_load(lo, n->in[0], idx));
    if (p.real_out) {
        Expr *middle = lx_2(lo, FN_EQ, lx_mul(lo, i, lx_i(lo, 2)), length), *edge = lx_2(lo, FN_OR, lx_2(lo, FN_EQ, i, zero), middle);
        Expr *weight = lx_select(lo, edge, lx_const(lo, t, 1), lx_const(lo, t, 2));
        re = lx_mul(lo, re, weight);
        if (im != NULL) im = lx_select(lo, edge, lx_const(lo, t, 0), lx_mul(lo, im, weight));
    }
    add_term(lo, &s, &r, lx_mul(lo, k, i), re, im, p.inverse, !p.real_out);
    lower_end(lo);
    idx[p.axis] = k;
    Expr *scale = p.inverse ? lx_div(lo, lx_const(lo, t, 1), lx_cast(lo, t, length)) : lx_const(lo, t, 1);
    idx[last] = zero;
    lower_store(lo, n->out[0], idx, lx_mul(lo, s.re, scale));
    idx[last] = one;
    if (!p.real_out) lower_store(lo, n->out[0], idx, lx_mul(lo, s.im, scale));
    lower_end_n(lo, last);
    return true;
}

bool lower_stft(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    StftPlan p;
    if (!stft_resolve(lo->m, (Node *)(uintptr_t)n, &p)) return false;
    DType t = lower_float_type(x->dtype);
    const Value *window = n->n_in > 2 ? n->in[2] : NULL;
    Roots r = roots_of_unity(lo, t, p.length);
    Expr *b = lower_for_dim(lo, x->dim[0]), *frame = lower_for_dim(lo, p.frames), *k = lower_for_dim(lo, p.out);
    Sums s = sums_new(lo, t);
    Expr *count = lx_dim(lo, p.length), *zero = lx_i(lo, 0), *one = lx_i(lo, 1);
    if (window != NULL) count = lx_2(lo, FN_MIN, count, lx_dim(lo, window->type->dim[0])); /* a short window is padded with 0 */
    Expr *i = lower_for(lo, count), *at = lx_add(lo, lx_mul(lo, frame, lx_dim(lo, p.step)), i);
    Expr *w = window != NULL ? lx_cast(lo, t, lower_load(lo, window, &i)) : lx_const(lo, t, 1);
    Expr *re = lx_mul(lo, w, lx_cast(lo, t, lower_load(lo, n->in[0], (Expr *[]){b, at, zero}))), *im = NULL;
    if (p.complex_in) im = lx_mul(lo, w, lx_cast(lo, t, lower_load(lo, n->in[0], (Expr *[]){b, at, one})));
    add_term(lo, &s, &r, lx_mul(lo, k, i), re, im, false, true);
    lower_end(lo);
    lower_store(lo, n->out[0], (Expr *[]){b, frame, k, zero}, s.re);
    lower_store(lo, n->out[0], (Expr *[]){b, frame, k, one}, s.im);
    lower_end_n(lo, 3);
    return true;
}
