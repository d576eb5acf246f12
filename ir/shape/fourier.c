/* Shapes of DFT, STFT and Det. */
#include "ir/shape/fourier.h"

#include "ir/shape/shape.h"

/* *d: the operand's value, unchanged when it is left out, 0 when only the run knows it. */
static bool scalar_operand(Module *m, Node *n, uint32_t i, Dim *d) {
    uint32_t count;
    if (!shape_has_in(n, i)) return true;
    if (!shape_length(m, n, i, &count)) return false;
    if (count != 1) {
        diag(m->cx, SEV_ERROR, n->loc, "input %u has %u elements, a scalar is needed", i, count);
        return false;
    }
    const Dim *v = value_dims(m, n->in[i], &count);
    *d = v != NULL ? v[0] : 0;
    return true;
}

/* Last dimension: 1 real, 2 real and imaginary part. */
static bool parts_of(Module *m, Node *n, const Type *x, bool *complex_in) {
    if (x->rank < 2 || !dim_is_const(m->cx, x->dim[x->rank - 1])) {
        diag(m->cx, SEV_ERROR, n->loc, "the last dimension of input 0 must be 1 (real) or 2 (complex)");
        return false;
    }
    int64_t parts = dim_value(m->cx, x->dim[x->rank - 1]);
    *complex_in = parts == 2;
    if (parts == 1 || parts == 2) return true;
    diag(m->cx, SEV_ERROR, n->loc, "the last dimension of input 0 is %lld; 1 (real) or 2 (complex) is needed", (long long)parts);
    return false;
}

static Dim half_plus_one(Module *m, Dim n) {
    return dim_add(m->cx, dim_floordiv(m->cx, n, dim_const(m->cx, 2)), dim_const(m->cx, 1));
}

bool dft_resolve(Module *m, Node *n, DftPlan *p) {
    Context *cx = m->cx;
    const Type *x = shape_in(m, n, 0);
    *p = (DftPlan){0};
    if (x == NULL || !parts_of(m, n, x, &p->complex_in)) return false;
    p->inverse = attr_i(n, AT_DFT_inverse) != 0;
    p->onesided = attr_i(n, AT_DFT_onesided) != 0;
    p->real_out = p->inverse && p->onesided;
    Dim axis = dim_const(cx, -2), length = 0;
    if (!scalar_operand(m, n, 2, &axis) || !scalar_operand(m, n, 1, &length)) return false;
    p->runtime_axis = axis == 0 || !dim_is_const(cx, axis);
    p->runtime_length = shape_has_in(n, 1) && length == 0;
    p->runtime = p->runtime_axis || p->runtime_length;
    if (!p->runtime_axis && !shape_axis(m, n, dim_value(cx, axis), x->rank, &p->axis)) return false;
    if (!p->runtime_axis && p->axis == x->rank - 1u) {
        diag(cx, SEV_ERROR, n->loc, "axis %u holds real and imaginary parts", p->axis);
        return false;
    }
    for (uint32_t a = 0; a + 1 < x->rank; a++) {
        p->out[a] = x->dim[a];
        if (p->runtime_axis || (p->runtime_length && a == p->axis)) p->out[a] = shape_runtime_dim(m, n, 0, a, 0, INT64_MAX);
    }
    p->out[x->rank - 1] = dim_const(cx, p->real_out ? 1 : 2);
    p->length = length;
    if (p->runtime) return true;
    Dim in = x->dim[p->axis], symmetric = dim_mul(cx, dim_const(cx, 2), dim_sub(cx, in, dim_const(cx, 1)));
    if (length == 0) p->length = p->real_out ? symmetric : in;
    p->out[p->axis] = p->onesided && !p->inverse ? half_plus_one(m, p->length) : p->length;
    return true;
}

bool shape_dft(Module *m, Node *n) {
    DftPlan p;
    if (!dft_resolve(m, n, &p)) return false;
    shape_out(m, n, 0, n->in[0]->type->dtype, n->in[0]->type->rank, p.out);
    return true;
}

/* signal [B, T] or [B, T, 1|2], frame_step, window?, frame_length? -> [B, frames, bins, 2] */
bool stft_resolve(Module *m, Node *n, StftPlan *p) {
    Context *cx = m->cx;
    const Type *x = shape_in(m, n, 0);
    p->complex_in = false; /* [batch, signal]: real, as exporters write it */
    if (x == NULL || (x->rank != 2 && !parts_of(m, n, x, &p->complex_in))) return false;
    if (x->rank != 2 && x->rank != 3) {
        diag(cx, SEV_ERROR, n->loc, "input 0 has rank %u, [batch, signal] or [batch, signal, 1 or 2] is needed", x->rank);
        return false;
    }
    *p = (StftPlan){.length = x->dim[1], .complex_in = p->complex_in};
    if (shape_has_in(n, 2)) {
        const Type *window = shape_in(m, n, 2);
        if (window == NULL || window->rank != 1) {
            if (window != NULL) diag(cx, SEV_ERROR, n->loc, "window (input 2) has rank %u, 1 is needed", window->rank);
            return false;
        }
        p->length = window->dim[0];
    }
    if (!scalar_operand(m, n, 1, &p->step) || !scalar_operand(m, n, 3, &p->length)) return false;
    p->runtime = p->step == 0 || p->length == 0;
    if (p->step != 0 && dim_lo(cx, p->step) < 1) {
        diag(cx, SEV_ERROR, n->loc, "frame_step (input 1) must be positive");
        return false;
    }
    int64_t samples = dim_hi(cx, x->dim[1]);
    if (!p->runtime) p->frames = dim_add(cx, dim_floordiv(cx, dim_sub(cx, x->dim[1], p->length), p->step), dim_const(cx, 1));
    else p->frames = shape_runtime_dim(m, n, 0, 1, 0, samples == INT64_MAX ? samples : samples + 1);
    if (p->length == 0) p->out = shape_runtime_dim(m, n, 0, 2, 0, samples == INT64_MAX ? samples : samples + 1);
    else p->out = attr_i(n, AT_STFT_onesided) != 0 ? half_plus_one(m, p->length) : p->length;
    return true;
}

bool shape_stft(Module *m, Node *n) {
    StftPlan p;
    if (!stft_resolve(m, n, &p)) return false;
    const Type *x = n->in[0]->type;
    shape_out(m, n, 0, x->dtype, 4, (Dim[]){x->dim[0], p.frames, p.out, dim_const(m->cx, 2)});
    return true;
}

static const Type *square_matrices(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0);
    if (x != NULL && x->rank < 2) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 has rank %u, a matrix is needed", x->rank);
        return NULL;
    }
    return x != NULL && shape_unify(m, n, x->dim[x->rank - 2], x->dim[x->rank - 1], "rows and columns") != 0 ? x : NULL;
}

bool shape_inverse(Module *m, Node *n) {
    const Type *x = square_matrices(m, n);
    if (x == NULL) return false;
    if (!dtype_is_float(x->dtype)) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0: floating-point numbers are needed");
        return false;
    }
    shape_out(m, n, 0, x->dtype, x->rank, x->dim);
    return true;
}

bool shape_det(Module *m, Node *n) {
    const Type *x = square_matrices(m, n);
    if (x == NULL) return false;
    shape_out(m, n, 0, x->dtype, x->rank - 2, x->dim);
    return true;
}
