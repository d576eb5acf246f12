/* Operators that make their elements from the index alone: shapes as values, constants, ranges, identity matrices,
 * window functions.
 *
 *     Range: y[i] = start + i * delta          Shape(f32[N,3]): y = [N, 3] */
#include "passes/lower/operand.h"

#include <math.h>

#include "passes/rules.h"

/* ---- shapes as values -------------------------------------------------------------------------------------------- */
static bool store_dims(Lower *lo, const Value *v, uint32_t n, const Dim *dim) {
    for (uint32_t i = 0; i < n; i++) {
        Expr *at = lx_i(lo, i);
        lower_store(lo, v, &at, lx_dim(lo, dim[i]));
    }
    return true;
}

bool lower_shape(Lower *lo, const Node *n) { return store_dims(lo, n->out[0], n->out[0]->n_sym, n->out[0]->sym); }

bool lower_size(Lower *lo, const Node *n) { return store_dims(lo, n->out[0], 1, n->out[0]->sym); }

/* Runtime symbols take the element they stand for; every other dim must equal it, else the run ends with "shape". */
bool lower_bind_dims(Lower *lo, const Node *n) {
    const Type *t = attr_at(n, AT_BindDims_type)->type;
    for (uint32_t i = 0; i < t->rank; i++) {
        Expr *at = lx_i(lo, i), *e = lower_load(lo, n->in[0], &at);
        const DimNode *d = dim_node(lo->cx, t->dim[i]);
        bool bind = d->kind == DIM_SYMBOL && d->runtime;
        if (bind) lower_set_dim(lo, t->dim[i], e);
        else e = ex_require(lo->cx, lx_2(lo, FN_EQ, e, lx_dim(lo, t->dim[i])), e, LATHE_RT_SHAPE);
        lower_store(lo, n->out[0], &at, e);
    }
    return true;
}

/* ---- constants and ranges ---------------------------------------------------------------------------------------- */
Expr *define_constant_of_shape(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)idx;
    DType compute = dtype_compute(n->out[out]->type->dtype);
    const Attr *a = attr_at(n, AT_ConstantOfShape_value);
    if (!a->present) return lx_const(lo, compute, 0);
    Value v = {.type = a->tensor.type, .data = a->tensor.data};
    return dtype_is_float(compute) ? ex_f(lo->cx, compute, const_f64(&v, 0)) : ex_i(lo->cx, compute, const_i64(&v, 0));
}

Expr *define_range(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    DType compute = dtype_compute(n->out[out]->type->dtype);
    Expr *start = lower_load_scalar(lo, n->in[0]), *delta = lower_load_scalar(lo, n->in[2]);
    return lx_add(lo, start, lx_mul(lo, lx_cast(lo, compute, idx[0]), delta));
}

Expr *define_eye_like(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    DType compute = dtype_compute(n->out[out]->type->dtype);
    Expr *column = lx_add(lo, idx[0], lx_i(lo, attr_i(n, AT_EyeLike_k)));
    return lx_select(lo, lx_2(lo, FN_EQ, idx[1], column), lx_const(lo, compute, 1), lx_const(lo, compute, 0));
}

/* ---- windows ----------------------------------------------------------------------------------------------------- */
/* a - b cos(2 pi i / n) + c cos(4 pi i / n); n is the size, or one less when the window is symmetric. */
Expr *define_window(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    double a = 0.5, b = 0.5, c = 0;
    AttrSlot periodic = AT_HannWindow_periodic;
    if (n->op == OP_HammingWindow) {
        periodic = AT_HammingWindow_periodic;
        a = 25.0 / 46;
        b = 1 - a;
    } else if (n->op == OP_BlackmanWindow) {
        periodic = AT_BlackmanWindow_periodic;
        a = 0.42;
        c = 0.08;
    }
    Expr *size = lx_dim(lo, n->out[out]->type->dim[0]);
    if (attr_i(n, periodic) == 0) size = lx_2(lo, FN_MAX, lx_sub(lo, size, lx_i(lo, 1)), lx_i(lo, 1));
    Expr *x = lx_div(lo, lx_mul(lo, lx_cast(lo, DT_F64, idx[0]), lx_const(lo, DT_F64, 2 * M_PI)), lx_cast(lo, DT_F64, size));
    Expr *y = lx_sub(lo, lx_const(lo, DT_F64, a), lx_mul(lo, lx_1(lo, FN_COS, x), lx_const(lo, DT_F64, b)));
    if (c != 0) y = lx_add(lo, y, lx_mul(lo, lx_1(lo, FN_COS, lx_mul(lo, x, lx_const(lo, DT_F64, 2))), lx_const(lo, DT_F64, c)));
    return lx_cast(lo, dtype_compute(n->out[out]->type->dtype), y);
}

/* ---- mel filters ------------------------------------------------------------------------------------------------- */
typedef struct Mel { Lower *lo; Expr *low, *step, *scale; } Mel; /* in f64 */

/* The spectrogram bin at the k-th of equally spaced points of the mel scale. */
static Expr *mel_bin(const Mel *mel, Expr *k) {
    Lower *lo = mel->lo;
    Expr *point = lx_add(lo, lx_mul(lo, lx_cast(lo, DT_F64, k), mel->step), mel->low);
    Expr *power = lx_2(lo, FN_POW, lx_const(lo, DT_F64, 10), lx_div(lo, point, lx_const(lo, DT_F64, 2595)));
    Expr *hertz = lx_mul(lo, lx_sub(lo, power, lx_const(lo, DT_F64, 1)), lx_const(lo, DT_F64, 700));
    return lx_1(lo, FN_FLOOR, lx_mul(lo, hertz, mel->scale));
}

static Expr *to_mel(Lower *lo, Expr *hertz) { /* 2595 log10(1 + f / 700) */
    Expr *x = lx_add(lo, lx_div(lo, hertz, lx_const(lo, DT_F64, 700)), lx_const(lo, DT_F64, 1));
    return lx_mul(lo, lx_1(lo, FN_LOG, x), lx_const(lo, DT_F64, 2595 / M_LN10));
}

/* Column i rises from bin(i) to bin(i + 1) and falls to bin(i + 2). */
Expr *define_mel_weight_matrix(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    Expr *in[5], *one = lx_const(lo, DT_F64, 1), *zero = lx_const(lo, DT_F64, 0);
    for (uint32_t i = 0; i < 5; i++) in[i] = lx_cast(lo, DT_F64, lower_load_scalar(lo, n->in[i]));
    Mel mel = {.lo = lo, .low = to_mel(lo, in[3])};
    mel.step = lx_div(lo, lx_sub(lo, to_mel(lo, in[4]), mel.low), lx_add(lo, in[0], lx_const(lo, DT_F64, 2)));
    mel.scale = lx_div(lo, lx_add(lo, in[1], one), in[2]);
    Expr *j = lx_cast(lo, DT_F64, idx[0]), *bin[3];
    for (int64_t k = 0; k < 3; k++) bin[k] = mel_bin(&mel, lx_add(lo, idx[1], lx_i(lo, k)));
    Expr *rise = lx_sub(lo, bin[1], bin[0]), *fall = lx_sub(lo, bin[2], bin[1]);
    Expr *rising = lx_2(lo, FN_AND, lx_2(lo, FN_GE, j, bin[0]), lx_2(lo, FN_LE, j, bin[1]));
    Expr *slope = lx_select(lo, lx_2(lo, FN_EQ, rise, zero), one, lx_div(lo, lx_sub(lo, j, bin[0]), rise));
    Expr *e = lx_select(lo, rising, slope, zero);
    Expr *falling = lx_2(lo, FN_AND, lx_2(lo, FN_GE, j, bin[1]), lx_2(lo, FN_LT, j, bin[2]));
    e = lx_select(lo, falling, lx_div(lo, lx_sub(lo, bin[2], j), fall), e);
    return lx_cast(lo, dtype_compute(n->out[out]->type->dtype), e);
}
