/* Gradients of Fourier transforms, which are linear: the adjoint of the transform is the one with the other sign.
 *
 *     y = DFT(x)            dx = n * inverse DFT(dy)                        real input: the real part
 *     y = inverse DFT(x)    dx = DFT(dy) / n
 *     half a spectrum out: the other half of dy is 0            half a spectrum in: what stands for two counts twice
 *
 * STFT is differentiated as frames (a Gather), times the window, transformed. */
#include "ir/shape/fourier.h"
#include "passes/grad/grad.h"
#include "passes/rules.h"

static Value *transform(Grad *g, Value *v, uint32_t axis, int64_t length, bool inverse) {
    Node *n = g_node(g, OP_DFT, 3, (Value *[]){v, value_const_scalar(g->m, DT_I64, (double)length), value_const_scalar(g->m, DT_I64, axis)}, 1);
    attr_set_i(n, AT_DFT_inverse, inverse);
    return g_done(g, n);
}

/* v cut or filled with zeros to `size` along axis. */
static Value *resized(Grad *g, Value *v, uint32_t axis, int64_t size) {
    int64_t pads[2 * RANK_MAX] = {0};
    uint32_t rank = v->type->rank;
    pads[rank + axis] = size - dim_value(g->m->cx, v->type->dim[axis]);
    return pads[rank + axis] == 0 ? v : g_2(g, OP_Pad, v, value_const_i64(g->m, 2 * rank, pads));
}

static Value *real_part(Grad *g, Value *v) { return expand_slice(g->m, g->at, v, 0, 1, v->type->rank - 1); }

bool grad_dft(Grad *g) {
    Context *cx = g->m->cx;
    DftPlan p;
    Value *x = g->n->in[0], *dy = g->dy[0];
    if (!dft_resolve(g->m, g->n, &p)) return false;
    if (p.runtime || p.runtime_axis || p.runtime_length || !dim_is_const(cx, p.length) || !dim_is_const(cx, x->type->dim[p.axis]) ||
        !dim_is_const(cx, dy->type->dim[p.axis])) {
        diag(cx, SEV_ERROR, g->n->loc, "its gradient needs a length and an axis that are known at compile time");
        return false;
    }
    int64_t length = dim_value(cx, p.length), size = dim_value(cx, x->type->dim[p.axis]);
    if (p.real_out) { /* half a spectrum to real numbers: bin k stands for k and n - k */
        int64_t half = length / 2 + 1, dim[RANK_MAX];
        double *weight = ARENA_ARRAY(&cx->arena, double, (size_t)half);
        for (int64_t k = 0; k < half; k++) weight[k] = (k == 0 || 2 * k == length ? 1.0 : 2.0) / (double)length;
        for (uint32_t a = 0; a < x->type->rank; a++) dim[a] = a == p.axis ? half : 1;
        Value *spectrum = resized(g, transform(g, dy, p.axis, length, false), p.axis, half);
        Value *scaled = g_mul(g, spectrum, g_cast(g, expand_floats(g->m, x->type->rank, dim, weight, DT_F64), x->type->dtype));
        g->dx[0] = resized(g, scaled, p.axis, size);
        return true;
    }
    Value *full = resized(g, dy, p.axis, length);
    Value *d = transform(g, full, p.axis, length, !p.inverse);
    d = g_times(g, d, p.inverse ? 1 / (double)length : (double)length);
    if (!p.complex_in) d = real_part(g, d);
    g->dx[0] = resized(g, d, p.axis, size);
    return true;
}

bool grad_expand_stft(Module *m, Node *n, Value **out) {
    Context *cx = m->cx;
    StftPlan p;
    Value *x = n->in[0], *window = expand_input(n, 2);
    if (!stft_resolve(m, n, &p)) return false;
    if (p.runtime || p.step == 0 || p.length == 0 || !dim_is_const(cx, p.step) || !dim_is_const(cx, p.length) || !dim_is_const(cx, p.frames)) {
        diag(cx, SEV_ERROR, n->loc, "its gradient needs steps and lengths that are known at compile time");
        return false;
    }
    int64_t step = dim_value(cx, p.step), length = dim_value(cx, p.length), frames = dim_value(cx, p.frames), dim[2] = {frames, length};
    int64_t *index = ARENA_ARRAY(&cx->arena, int64_t, (size_t)(frames * length));
    for (int64_t f = 0; f < frames; f++)
        for (int64_t i = 0; i < length; i++) index[f * length + i] = f * step + i;
    if (x->type->rank == 2) x = build2(m, n, OP_Unsqueeze, x, value_const_i64(m, 1, (int64_t[]){2}));
    Value *v = expand_gather(m, n, x, expand_ints(m, 2, dim, index), 1); /* [batch, frames, length, 1 or 2] */
    if (window != NULL) v = build2(m, n, OP_Mul, v, build2(m, n, OP_Unsqueeze, window, value_const_i64(m, 1, (int64_t[]){1})));
    Node *t = expand_node(m, n, OP_DFT, 3, (Value *[]){v, NULL, value_const_scalar(m, DT_I64, 2)}, 1);
    attr_set_i(t, AT_DFT_onesided, attr_i(n, AT_STFT_onesided) != 0 && !p.complex_in);
    out[0] = expand_result(m, t);
    return out[0] != NULL;
}
