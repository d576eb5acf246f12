/* DFT and STFT by definition, with a table of the roots of unity (exact to the last bit also for long transforms):
 *
 *     phase 1:  for j < L:  cos[j], sin[j] = cos(2 pi j / L), sin(2 pi j / L)
 *     phase 2:  y[k] = sum over n < min(N, L) of x[n] * (cos[k n mod L] -+ i sin[k n mod L])
 *
 * in double, so that what should cancel does. Inverse transforms divide by L. One-sided inverse input is extended by
 * symmetry: inner bins count twice. The axis and the length may be operands of the run: everything that depends on them
 * is an expression, which folds when they are known. */
#include "ir/shape/fourier.h"
#include "passes/lower/rows.h"
#include "passes/rules.h"

typedef struct Roots { Value *cosine, *sine; Expr *length; Dim room; } Roots;

static Expr *f64(Lower *lo, double v) { return lx_const(lo, DT_F64, v); }

/* room: at least the length. */
static Roots roots_of_unity(Lower *lo, Expr *length, Dim room) {
    Roots r = {.length = length, .room = room};
    r.cosine = lower_scratch(lo, type_tensor(lo->cx, DT_F64, 1, &room));
    r.sine = lower_scratch(lo, type_tensor(lo->cx, DT_F64, 1, &room));
    Expr *j = lower_for_dim(lo, room);
    Expr *turn = lx_div(lo, lx_cast(lo, DT_F64, j), lx_cast(lo, DT_F64, length));
    Expr *angle = lx_mul(lo, turn, f64(lo, 6.283185307179586476925286766559));
    lower_store(lo, r.cosine, &j, lx_1(lo, FN_COS, angle));
    lower_store(lo, r.sine, &j, lx_1(lo, FN_SIN, angle));
    lower_end(lo);
    return r;
}

typedef struct Sums { Expr *re, *im; } Sums;

/* Adds x * root^(k n) to the sums; the exponent's sign is minus for forward transforms. */
static void add_term(Lower *lo, Sums *s, const Roots *r, Expr *kn, Expr *re, Expr *im, bool inverse, bool want_im) {
    Expr *j = lx_2(lo, FN_INDEX, lx_2(lo, FN_MOD, kn, r->length), lx_dim(lo, r->room));
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

static Sums sums_new(Lower *lo) { return (Sums){lower_local(lo, DT_F64, f64(lo, 0)), lower_local(lo, DT_F64, f64(lo, 0))}; }

static Expr *load_part(Lower *lo, const Value *x, Expr **idx, int64_t part) {
    idx[x->type->rank - 1] = lx_i(lo, part);
    return lx_cast(lo, DT_F64, lower_load(lo, x, idx));
}

static Expr *scalar(Lower *lo, const Value *v) { return lx_cast(lo, DT_I64, lower_load_scalar(lo, v)); }

/* The one of v[0..n) that the axis selects. */
static Expr *choose(Lower *lo, Expr *axis, uint32_t n, Expr *const *v) {
    Expr *e = v[n - 1];
    for (uint32_t a = n - 1; a-- > 0;) e = lx_select(lo, lx_2(lo, FN_EQ, axis, lx_i(lo, a)), v[a], e);
    return e;
}

typedef struct Dft {
    DftPlan p;
    Expr *axis, *in, *length;
    Dim room;
} Dft;

static Dft dft_of(Lower *lo, const Node *n, const DftPlan *p) {
    const Type *x = n->in[0]->type;
    uint32_t last = x->rank - 1;
    Dft d = {.p = *p, .axis = lx_i(lo, p->axis)};
    Expr *size[RANK_MAX];
    for (uint32_t a = 0; a < last; a++) size[a] = lx_dim(lo, x->dim[a]);
    if (p->runtime_axis) {
        Expr *a = scalar(lo, n->in[2]);
        a = lx_select(lo, lx_2(lo, FN_LT, a, lx_i(lo, 0)), lx_add(lo, a, lx_i(lo, x->rank)), a);
        d.axis = lx_2(lo, FN_INDEX, a, lx_i(lo, last));
    }
    d.in = choose(lo, d.axis, last, size);
    if (n->n_in > 1 && n->in[1] != NULL) d.length = p->length != 0 ? lx_dim(lo, p->length) : scalar(lo, n->in[1]);
    else d.length = p->real_out ? lx_mul(lo, lx_add(lo, d.in, lx_i(lo, -1)), lx_i(lo, 2)) : d.in;
    d.room = p->length;
    if (p->runtime) { /* the length is at most twice what comes out or goes in */
        d.room = dim_const(lo->cx, 1);
        for (uint32_t a = 0; a < last; a++) d.room = dim_max(lo->cx, d.room, dim_max(lo->cx, x->dim[a], p->out[a]));
        d.room = dim_mul(lo->cx, d.room, dim_const(lo->cx, 2));
        d.length = lx_2(lo, FN_MAX, d.length, lx_i(lo, 1));
    }
    return d;
}

bool lower_dft(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type, *y = n->out[0]->type;
    DftPlan p;
    if (!dft_resolve(lo->m, (Node *)(uintptr_t)n, &p)) return false;
    Dft d = dft_of(lo, n, &p);
    Roots r = roots_of_unity(lo, d.length, d.room);
    Expr *out[RANK_MAX], *idx[RANK_MAX], *zero = lx_i(lo, 0), *one = lx_i(lo, 1);
    uint32_t last = x->rank - 1;
    for (uint32_t a = 0; a < last; a++) out[a] = lower_for_dim(lo, y->dim[a]);
    Expr *k = choose(lo, d.axis, last, out);
    Sums s = sums_new(lo);
    Expr *count = lx_2(lo, FN_MIN, d.in, p.real_out ? lx_add(lo, lx_2(lo, FN_FLOORDIV, d.length, lx_i(lo, 2)), one) : d.length);
    Expr *i = lower_for(lo, lx_2(lo, FN_MAX, count, zero));
    for (uint32_t a = 0; a < last; a++) {
        idx[a] = lx_select(lo, lx_2(lo, FN_EQ, d.axis, lx_i(lo, a)), i, out[a]);
        if (p.runtime) idx[a] = lx_2(lo, FN_INDEX, idx[a], lx_dim(lo, x->dim[a]));
    }
    Expr *re = load_part(lo, n->in[0], idx, 0), *im = p.complex_in ? load_part(lo, n->in[0], idx, 1) : NULL;
    if (p.real_out) {
        Expr *middle = lx_2(lo, FN_EQ, lx_mul(lo, i, lx_i(lo, 2)), d.length), *edge = lx_2(lo, FN_OR, lx_2(lo, FN_EQ, i, zero), middle);
        Expr *weight = lx_select(lo, edge, f64(lo, 1), f64(lo, 2));
        re = lx_mul(lo, re, weight);
        if (im != NULL) im = lx_select(lo, edge, f64(lo, 0), lx_mul(lo, im, weight));
    }
    add_term(lo, &s, &r, lx_mul(lo, k, i), re, im, p.inverse, !p.real_out);
    lower_end(lo);
    Expr *scale = p.inverse ? lx_div(lo, f64(lo, 1), lx_cast(lo, DT_F64, d.length)) : f64(lo, 1);
    out[last] = zero;
    lower_store(lo, n->out[0], out, lx_mul(lo, s.re, scale));
    out[last] = one;
    if (!p.real_out) lower_store(lo, n->out[0], out, lx_mul(lo, s.im, scale));
    lower_end_n(lo, last);
    return true;
}

bool lower_stft(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type;
    StftPlan p;
    if (!stft_resolve(lo->m, (Node *)(uintptr_t)n, &p)) return false;
    const Value *window = n->n_in > 2 ? n->in[2] : NULL;
    Expr *length = p.length != 0 ? lx_dim(lo, p.length) : lx_2(lo, FN_MAX, scalar(lo, n->in[3]), lx_i(lo, 1));
    Expr *step = p.step != 0 ? lx_dim(lo, p.step) : scalar(lo, n->in[1]);
    Dim room = p.length != 0 ? p.length : dim_mul(lo->cx, dim_max(lo->cx, x->dim[1], p.out), dim_const(lo->cx, 2));
    Roots r = roots_of_unity(lo, length, room);
    Expr *b = lower_for_dim(lo, x->dim[0]), *frame = lower_for_dim(lo, p.frames), *k = lower_for_dim(lo, p.out);
    Sums s = sums_new(lo);
    Expr *count = length, *zero = lx_i(lo, 0), *one = lx_i(lo, 1);
    if (window != NULL) count = lx_2(lo, FN_MIN, count, lx_dim(lo, window->type->dim[0])); /* a short window is padded with 0 */
    Expr *i = lower_for(lo, count), *at = lx_add(lo, lx_mul(lo, frame, step), i), *idx[3] = {b, at, zero};
    if (p.runtime) idx[1] = lx_2(lo, FN_INDEX, at, lx_dim(lo, x->dim[1]));
    Expr *w = window != NULL ? lx_cast(lo, DT_F64, lower_load(lo, window, &i)) : f64(lo, 1);
    Expr *re = lx_mul(lo, w, load_part(lo, n->in[0], idx, 0)), *im = p.complex_in ? lx_mul(lo, w, load_part(lo, n->in[0], idx, 1)) : NULL;
    add_term(lo, &s, &r, lx_mul(lo, k, i), re, im, false, true);
    lower_end(lo);
    lower_store(lo, n->out[0], (Expr *[]){b, frame, k, zero}, s.re);
    lower_store(lo, n->out[0], (Expr *[]){b, frame, k, one}, s.im);
    lower_end_n(lo, 3);
    return true;
}
