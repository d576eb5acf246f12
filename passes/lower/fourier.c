/* DFT and STFT by fast transforms (runtime/fft.h), whose butterflies have the element type's precision:
 *
 *     phase 1:  for j < L:  root[j] = cos, sin of 2 pi j / L, rounded from double
 *     phase 2:  the rows to transform, as complex numbers one after the other, cut or padded with 0
 *     phase 3:  the transforms;   phase 4: the results go where they belong
 *
 * Inverse transforms divide by L. One-sided inverse input is extended by symmetry. Length and axis may be operands of the run. */
#include "ir/shape/fourier.h"
#include "passes/lower.h"
#include "passes/rules.h"

static Expr *f64(Lower *lo, double v) { return lx_const(lo, DT_F64, v); }

static Expr *scalar(Lower *lo, const Value *v) { return lx_cast(lo, DT_I64, lower_load_scalar(lo, v)); }

/* ---- fast transforms --------------------------------------------------------------------------------------------- */
/* FftRows of `length` complex numbers of type t, one after the other in `buf`. */
typedef struct FftRows { uint32_t buf, scratch, root; DType t; Dim room; Expr *length; } FftRows;

static Value *numbers(Lower *lo, DType t, Dim count) {
    Dim twice = dim_mul(lo->cx, count, dim_const(lo->cx, 2));
    return lower_scratch(lo, type_tensor(lo->cx, t, 1, &twice));
}

/* Room for `numbers` numbers in rows of at most `room`. */
static FftRows rows_new(Lower *lo, DType element, Dim count, Dim room) {
    FftRows r = {.t = element == DT_F64 ? DT_F64 : DT_F32, .room = room};
    r.root = lower_buf(lo, numbers(lo, r.t, room));
    r.buf = lower_buf(lo, numbers(lo, r.t, count));
    r.scratch = lower_buf(lo, numbers(lo, r.t, room));
    return r;
}

/* Sets the rows' length, 1 to room, and computes its roots of unity. */
static void rows_length(Lower *lo, FftRows *r, Expr *length) {
    r->length = length;
    Expr *two = lx_i(lo, 2), *one = lx_i(lo, 1), *j = lower_for(lo, length);
    Expr *angle = lx_mul(lo, lx_div(lo, lx_cast(lo, DT_F64, j), lx_cast(lo, DT_F64, length)), f64(lo, 6.283185307179586476925286766559));
    Expr *at = lx_mul(lo, j, two), *next = lx_add(lo, at, one);
    lower_store_buf(lo, r->root, &at, FN_NONE, lx_cast(lo, r->t, lx_1(lo, FN_COS, angle)));
    lower_store_buf(lo, r->root, &next, FN_NONE, lx_cast(lo, r->t, lx_1(lo, FN_SIN, angle)));
    lower_end(lo);
}

/* A length that the run decides, within the room. */
static Expr *within(Lower *lo, Expr *length, Dim room) {
    return lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, length, lx_dim(lo, room)), lx_i(lo, 1));
}

static void rows_store(Lower *lo, const FftRows *r, Expr *row, Expr *i, Expr *re, Expr *im) {
    Expr *at = lx_mul(lo, lx_add(lo, lx_mul(lo, row, r->length), i), lx_i(lo, 2)), *next = lx_add(lo, at, lx_i(lo, 1));
    lower_store_buf(lo, r->buf, &at, FN_NONE, lx_cast(lo, r->t, re));
    lower_store_buf(lo, r->buf, &next, FN_NONE, im != NULL ? lx_cast(lo, r->t, im) : lx_const(lo, r->t, 0));
}

/* Bin k of a row. The transform of real numbers is its own conjugate's mirror image, to the last bit. */
static Expr *rows_load(Lower *lo, const FftRows *r, Expr *row, Expr *k, int64_t part, bool real_in) {
    Expr *zero = lx_i(lo, 0), *two = lx_i(lo, 2), *twice = lx_mul(lo, k, two), *mirrored = lx_2(lo, FN_GT, twice, r->length);
    Expr *from = real_in ? lx_select(lo, mirrored, lx_sub(lo, r->length, k), k) : k;
    Expr *at = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, row, r->length), from), two), lx_i(lo, part));
    Expr *x = lower_load_buf(lo, r->buf, &at);
    if (!real_in || part == 0) return x;
    Expr *edge = lx_2(lo, FN_OR, lx_2(lo, FN_EQ, k, zero), lx_2(lo, FN_EQ, twice, r->length));
    return lx_select(lo, edge, lx_const(lo, r->t, 0), lx_select(lo, mirrored, lx_1(lo, FN_NEG, x), x));
}

static void rows_transform(Lower *lo, const FftRows *r, Expr *rows, bool inverse) {
    Expr *scale = inverse ? lx_div(lo, lx_const(lo, r->t, 1), lx_cast(lo, r->t, r->length)) : lx_const(lo, r->t, 1);
    CallArg arg[] = {arg_buf(r->buf), arg_buf(r->scratch), arg_expr(rows), arg_expr(r->length), arg_buf(r->root), arg_expr(lx_i(lo, inverse)), arg_expr(scale)};
    lower_call(lo, r->t == DT_F64 ? "lathe_fft_f64" : "lathe_fft_f32", 7, arg);
}

/* Loops over all dims of x but the axis and the last; *row counts them. */
static uint32_t outer_loops(Lower *lo, const Type *x, uint32_t axis, Expr **idx, Expr **row) {
    uint32_t n = 0;
    *row = lx_i(lo, 0);
    for (uint32_t a = 0; a + 1 < x->rank; a++) {
        if (a == axis) continue;
        idx[a] = lower_for_dim(lo, x->dim[a]);
        *row = lx_add(lo, lx_mul(lo, *row, lx_dim(lo, x->dim[a])), idx[a]);
        n++;
    }
    return n;
}

/* Point i of a row of x along the axis: 0 beyond its end; for a one-sided inverse the conjugate of its mirror image beyond the middle. */
static void load_point(Lower *lo, const Value *x, const DftPlan *p, uint32_t axis, const FftRows *r, Expr **idx, Expr *i, Expr **re, Expr **im) {
    Expr *zero = lx_i(lo, 0), *from = i, *mirrored = NULL, *in = lx_dim(lo, x->type->dim[axis]);
    if (p->real_out) {
        mirrored = lx_2(lo, FN_GT, lx_mul(lo, i, lx_i(lo, 2)), r->length);
        from = lx_select(lo, mirrored, lx_sub(lo, r->length, i), i);
    }
    Expr *there = lx_2(lo, FN_LT, from, in), *nothing = lx_const(lo, dtype_compute(x->type->dtype), 0);
    idx[axis] = lx_2(lo, FN_MAX, zero, lx_2(lo, FN_MIN, from, lx_add(lo, in, lx_i(lo, -1))));
    idx[x->type->rank - 1] = zero;
    *re = lx_select(lo, there, lower_load(lo, x, idx), nothing);
    *im = NULL;
    if (!p->complex_in) return;
    idx[x->type->rank - 1] = lx_i(lo, 1);
    *im = lx_select(lo, there, lower_load(lo, x, idx), nothing);
    if (mirrored == NULL) return;
    Expr *edge = lx_2(lo, FN_OR, lx_2(lo, FN_EQ, i, zero), lx_2(lo, FN_EQ, lx_mul(lo, i, lx_i(lo, 2)), r->length));
    *im = lx_select(lo, edge, nothing, lx_select(lo, mirrored, lx_1(lo, FN_NEG, *im), *im));
}

/* Rows of x along the axis: all elements but those, and the parts. */
static Dim rows_along(Context *cx, const Type *x, uint32_t axis) {
    Dim count = dim_const(cx, 1);
    for (uint32_t a = 0; a + 1 < x->rank; a++)
        if (a != axis) count = dim_mul(cx, count, x->dim[a]);
    return count;
}

static Dim room_along(Context *cx, const DftPlan *p, const Type *x, uint32_t axis) {
    if (!p->runtime) return p->length;
    return dim_mul(cx, dim_max(cx, dim_max(cx, x->dim[axis], p->out[axis]), dim_const(cx, 1)), dim_const(cx, 2)); /* at most twice what goes in or comes out */
}

static Expr *length_along(Lower *lo, const Node *n, const DftPlan *p, uint32_t axis) {
    Expr *in = lx_dim(lo, n->in[0]->type->dim[axis]);
    if (n->n_in > 1 && n->in[1] != NULL) return p->length != 0 ? lx_dim(lo, p->length) : scalar(lo, n->in[1]);
    return p->real_out ? lx_mul(lo, lx_add(lo, in, lx_i(lo, -1)), lx_i(lo, 2)) : in;
}

static void dft_along(Lower *lo, const Node *n, const DftPlan *p, uint32_t axis, FftRows *r) {
    const Type *x = n->in[0]->type, *y = n->out[0]->type;
    Expr *idx[RANK_MAX], *row, *re, *im, *length = length_along(lo, n, p, axis);
    rows_length(lo, r, p->runtime ? within(lo, length, r->room) : length);
    uint32_t loops = outer_loops(lo, x, axis, idx, &row), last = x->rank - 1;
    Expr *i = lower_for(lo, r->length);
    load_point(lo, n->in[0], p, axis, r, idx, i, &re, &im);
    rows_store(lo, r, row, i, re, im);
    lower_end_n(lo, loops + 1);
    rows_transform(lo, r, lx_dim(lo, rows_along(lo->cx, x, axis)), p->inverse);
    loops = outer_loops(lo, x, axis, idx, &row);
    idx[axis] = lower_for_dim(lo, y->dim[axis]);
    if (p->runtime_axis)
        for (uint32_t a = 0; a < last; a++)
            if (a != axis) idx[a] = lx_2(lo, FN_INDEX, idx[a], lx_dim(lo, y->dim[a]));
    Expr *k = p->runtime ? lx_2(lo, FN_INDEX, idx[axis], r->length) : idx[axis];
    for (int part = 0; part < (p->real_out ? 1 : 2); part++) {
        idx[last] = lx_i(lo, part);
        lower_store(lo, n->out[0], idx, lx_cast(lo, dtype_compute(y->dtype), rows_load(lo, r, row, k, part, !p->complex_in)));
    }
    lower_end_n(lo, loops + 1);
}

/* An axis that only the run knows: a branch for each. */
static void dft_along_any(Lower *lo, const Node *n, const DftPlan *p) {
    const Type *x = n->in[0]->type;
    Context *cx = lo->cx;
    Dim room = dim_const(cx, 1), count = room;
    uint32_t last = x->rank - 1;
    for (uint32_t a = 0; a < last; a++) {
        Dim own = room_along(cx, p, x, a);
        room = dim_max(cx, room, own);
        count = dim_max(cx, count, dim_mul(cx, own, rows_along(cx, x, a)));
    }
    FftRows r = rows_new(lo, x->dtype, count, room);
    Expr *axis = scalar(lo, n->in[2]);
    axis = lx_select(lo, lx_2(lo, FN_LT, axis, lx_i(lo, 0)), lx_add(lo, axis, lx_i(lo, x->rank)), axis);
    axis = lower_local(lo, DT_I64, lx_2(lo, FN_INDEX, axis, lx_i(lo, last)));
    for (uint32_t a = 0; a < last; a++) {
        r.room = room_along(cx, p, x, a);
        lower_if(lo, lx_2(lo, FN_EQ, axis, lx_i(lo, a)));
        dft_along(lo, n, p, a, &r);
        lower_end(lo);
    }
}

bool lower_dft(Lower *lo, const Node *n) {
    DftPlan p;
    if (!dft_resolve(lo->m, (Node *)(uintptr_t)n, &p)) return false;
    if (p.runtime_axis) {
        dft_along_any(lo, n, &p);
        return true;
    }
    const Type *x = n->in[0]->type;
    Dim room = room_along(lo->cx, &p, x, p.axis);
    FftRows r = rows_new(lo, x->dtype, dim_mul(lo->cx, rows_along(lo->cx, x, p.axis), room), room);
    dft_along(lo, n, &p, p.axis, &r);
    return true;
}

bool lower_stft(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type, *y = n->out[0]->type;
    StftPlan p;
    if (!stft_resolve(lo->m, (Node *)(uintptr_t)n, &p)) return false;
    const Value *window = n->n_in > 2 ? n->in[2] : NULL;
    Expr *length = p.length != 0 ? lx_dim(lo, p.length) : lx_2(lo, FN_MAX, scalar(lo, n->in[3]), lx_i(lo, 1));
    Expr *step = p.step != 0 ? lx_dim(lo, p.step) : scalar(lo, n->in[1]);
    Dim room = p.length != 0 ? p.length : dim_mul(lo->cx, dim_max(lo->cx, x->dim[1], p.out), dim_const(lo->cx, 2));
    Dim count = dim_mul(lo->cx, x->dim[0], p.frames);
    DType t = dtype_compute(x->dtype);
    FftRows r = rows_new(lo, x->dtype, dim_mul(lo->cx, count, room), room);
    rows_length(lo, &r, p.length != 0 ? length : within(lo, length, room));
    Expr *b = lower_for_dim(lo, x->dim[0]), *frame = lower_for_dim(lo, p.frames), *i = lower_for(lo, r.length), *zero = lx_i(lo, 0);
    Expr *at = lx_add(lo, lx_mul(lo, frame, step), i), *row = lx_add(lo, lx_mul(lo, b, lx_dim(lo, p.frames)), frame);
    Expr *idx[3] = {b, p.runtime ? lx_2(lo, FN_INDEX, at, lx_dim(lo, x->dim[1])) : at, zero}, *w = NULL, *part[2] = {NULL, NULL};
    if (window != NULL) { /* a short window is padded with 0 */
        Expr *wide = lx_dim(lo, window->type->dim[0]), *inside = lx_2(lo, FN_MIN, i, lx_add(lo, wide, lx_i(lo, -1)));
        w = lx_select(lo, lx_2(lo, FN_LT, i, wide), lx_cast(lo, t, lower_load(lo, window, &inside)), lx_const(lo, t, 0));
    }
    for (int k = 0; k < (p.complex_in ? 2 : 1); k++) {
        idx[2] = lx_i(lo, k);
        part[k] = lower_load(lo, n->in[0], idx);
        if (w != NULL) part[k] = lx_mul(lo, w, part[k]);
    }
    rows_store(lo, &r, row, i, part[0], part[1]);
    lower_end_n(lo, 3);
    rows_transform(lo, &r, lx_dim(lo, count), false);
    b = lower_for_dim(lo, x->dim[0]);
    frame = lower_for_dim(lo, p.frames);
    Expr *k = lower_for_dim(lo, p.out);
    row = lx_add(lo, lx_mul(lo, b, lx_dim(lo, p.frames)), frame);
    Expr *bin = p.length != 0 ? k : lx_2(lo, FN_INDEX, k, r.length);
    for (int c = 0; c < 2; c++)
        lower_store(lo, n->out[0], (Expr *[]){b, frame, k, lx_i(lo, c)}, lx_cast(lo, dtype_compute(y->dtype), rows_load(lo, &r, row, bin, c, !p.complex_in)));
    lower_end_n(lo, 3);
    return true;
}
