/* Shapes of Resize: Resize(x: f32[1,3,H,W], scales = [1,1,2,2]) is f32[1,3,2*H,2*W]. */
#include "ir/shape/resize.h"

#include <math.h>

#include "ir/shape/shape.h"

static bool given(Module *m, const Node *n, uint32_t i) { /* an operand that is there and not empty */
    if (i >= n->n_in || n->in[i] == NULL) return false;
    Dim numel = type_numel(m->cx, n->in[i]->type);
    return !(numel != 0 && dim_is_const(m->cx, numel) && dim_value(m->cx, numel) == 0);
}

/* floor(in * scale); a scale that is a simple fraction keeps a symbolic size exact. */
static Dim scaled(Module *m, Dim in, float scale) {
    Context *cx = m->cx;
    if (dim_is_const(cx, in)) return dim_const(cx, (int64_t)floorf((float)dim_value(cx, in) * scale));
    for (int64_t q = 1; q <= 64; q++) {
        float p = roundf(scale * (float)q);
        if (p >= 1 && p < 65536 && p / (float)q == scale)
            return dim_floordiv(cx, dim_mul(cx, in, dim_const(cx, (int64_t)p)), dim_const(cx, q));
    }
    return 0;
}

static bool read_axes(Module *m, Node *n, ResizePlan *p) {
    const Attr *axes = attr_at(n, AT_Resize_axes);
    p->n_axis = axes->present && axes->ints.n != 0 ? axes->ints.n : p->rank;
    if (p->n_axis > p->rank) {
        diag(m->cx, SEV_ERROR, n->loc, "axes has %u entries, input 0 has rank %u", p->n_axis, p->rank);
        return false;
    }
    for (uint32_t i = 0; i < p->n_axis; i++) {
        p->axis[i] = i;
        if (axes->present && axes->ints.n != 0 && !shape_axis(m, n, axes->ints.v[i], p->rank, &p->axis[i])) return false;
    }
    return true;
}

/* All sizes from the run; a single pixel that stays one needs no filter. */
static void runtime_sizes(Module *m, Node *n, ResizePlan *p) {
    Dim one = dim_const(m->cx, 1);
    for (uint32_t i = 0; i < p->n_axis; i++) {
        uint32_t a = p->axis[i];
        p->out[a] = shape_runtime_dim(m, n, 0, a, 0, INT64_MAX);
        p->resized[a] = !(p->out[a] == one && n->in[0]->type->dim[a] == one);
    }
}

static bool by_scales(Module *m, Node *n, ResizePlan *p) {
    const Type *x = n->in[0]->type;
    const Value *scales = n->in[2];
    uint32_t count;
    if (!shape_length(m, n, 2, &count)) return false;
    if (count != p->n_axis) {
        diag(m->cx, SEV_ERROR, n->loc, "scales (input 2) has %u elements, %u are needed", count, p->n_axis);
        return false;
    }
    if (!value_is_const(scales)) {
        p->runtime_scales = true;
        runtime_sizes(m, n, p);
        return true;
    }
    for (uint32_t i = 0; i < p->n_axis; i++) {
        uint32_t a = p->axis[i];
        p->scale[a] = (float)const_f64(scales, i);
        if (!(p->scale[a] > 0) || isinf(p->scale[a])) {
            diag(m->cx, SEV_ERROR, n->loc, "scale %u is %g, it must be positive", i, (double)p->scale[a]);
            return false;
        }
        p->out[a] = scaled(m, x->dim[a], p->scale[a]);
        p->resized[a] = p->scale[a] != 1.0f;
        if (p->out[a] == 0) {
            diag(m->cx, SEV_ERROR, n->loc, "scale %u (%g) of a symbolic size is not a simple fraction", i, (double)p->scale[a]);
            return false;
        }
    }
    return true;
}

/* One common scale, so that no axis (or every axis) reaches its wanted size. */
static bool keep_ratio(Module *m, Node *n, ResizePlan *p, bool larger) {
    const Type *x = n->in[0]->type;
    double scale = 0;
    for (uint32_t i = 0; i < p->n_axis; i++) {
        uint32_t a = p->axis[i];
        if (!dim_is_const(m->cx, x->dim[a]) || !dim_is_const(m->cx, p->out[a]) || dim_value(m->cx, x->dim[a]) < 1) {
            diag(m->cx, SEV_ERROR, n->loc, "keep_aspect_ratio_policy needs constant sizes");
            return false;
        }
        double s = (double)dim_value(m->cx, p->out[a]) / (double)dim_value(m->cx, x->dim[a]);
        scale = i == 0 || (larger ? s > scale : s < scale) ? s : scale;
    }
    for (uint32_t i = 0; i < p->n_axis; i++) {
        uint32_t a = p->axis[i];
        p->out[a] = dim_const(m->cx, (int64_t)floor(scale * (double)dim_value(m->cx, x->dim[a]) + 0.5));
        p->scale[a] = (float)scale;
    }
    return true;
}

static bool by_sizes(Module *m, Node *n, ResizePlan *p) {
    uint32_t count;
    if (!shape_length(m, n, 3, &count)) return false;
    if (count != p->n_axis) {
        diag(m->cx, SEV_ERROR, n->loc, "sizes (input 3) has %u elements, %u are needed", count, p->n_axis);
        return false;
    }
    bool smaller = attr_s_is(m->cx, n, AT_Resize_keep_aspect_ratio_policy, "not_larger");
    bool larger = attr_s_is(m->cx, n, AT_Resize_keep_aspect_ratio_policy, "not_smaller");
    const Dim *sizes = value_dims(m, n->in[3], &count);
    if (sizes == NULL) {
        p->runtime_ratio = smaller || larger;
        p->larger = larger;
        runtime_sizes(m, n, p);
        return true;
    }
    for (uint32_t i = 0; i < count; i++) p->out[p->axis[i]] = sizes[i];
    if ((smaller || larger) && !keep_ratio(m, n, p, larger)) return false;
    for (uint32_t i = 0; i < count; i++) p->resized[p->axis[i]] = p->out[p->axis[i]] != n->in[0]->type->dim[p->axis[i]];
    return true;
}

bool resize_resolve(Module *m, Node *n, ResizePlan *p) {
    const Type *x = shape_in(m, n, 0);
    if (x == NULL) return false;
    *p = (ResizePlan){.rank = x->rank};
    for (uint32_t a = 0; a < x->rank; a++) p->out[a] = x->dim[a];
    if (!read_axes(m, n, p)) return false;
    bool ok = false;
    if (given(m, n, 3)) ok = by_sizes(m, n, p);
    else if (given(m, n, 2)) ok = by_scales(m, n, p);
    else diag(m->cx, SEV_ERROR, n->loc, "neither scales nor sizes are given");
    if (ok && attr_s_is(m->cx, n, AT_Resize_coordinate_transformation_mode, "tf_crop_and_resize"))
        for (uint32_t i = 0; i < p->n_axis; i++) p->resized[p->axis[i]] = true; /* same size still crops */
    return ok;
}

bool shape_resize(Module *m, Node *n) {
    ResizePlan p;
    if (!resize_resolve(m, n, &p)) return false;
    shape_out(m, n, 0, n->in[0]->type->dtype, p.rank, p.out);
    return true;
}
