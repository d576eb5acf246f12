/* The gradient of Resize, which is linear and works axis by axis: along each, a matrix of in x out weights, which is what the same Resize
 * makes of the identity matrix.
 *
 *     y = x along axis a times M        ->        dx = dy along axis a times M'
 *
 * Repeating each element k times (nearest, whole factors), the usual case, is summed in blocks of k instead. */
#include "ir/shape/resize.h"
#include "passes/grad/grad.h"
#include "passes/rules.h"

static bool repeats(Grad *g, int64_t in, int64_t out) {
    const Context *cx = g->m->cx;
    const Node *n = g->n;
    if (out % in != 0 || !attr_s_is(cx, n, AT_Resize_mode, "nearest")) return false;
    bool floor = attr_s_is(cx, n, AT_Resize_nearest_mode, "floor"), half = attr_s_is(cx, n, AT_Resize_coordinate_transformation_mode, "half_pixel");
    bool round = attr_s_is(cx, n, AT_Resize_nearest_mode, "round_prefer_floor") || attr_s_is(cx, n, AT_Resize_nearest_mode, "round_prefer_ceil");
    return (half && round) || (attr_s_is(cx, n, AT_Resize_coordinate_transformation_mode, "asymmetric") && floor);
}

static Value *identity_matrix(Grad *g, const Value *like, int64_t n) {
    double *v = ARENA_ARRAY(&g->m->cx->arena, double, (size_t)(n * n));
    for (int64_t i = 0; i < n; i++) v[i * n + i] = 1;
    return g_cast(g, expand_floats(g->m, 2, (int64_t[]){n, n}, v, DT_F64), like->type->dtype);
}

/* M, [in, out]. */
static Value *weights(Grad *g, const ResizePlan *p, uint32_t axis, int64_t in, int64_t out) {
    Module *m = g->m;
    const Node *n = g->n;
    Value *roi = g_in(g, 1), *operand[4] = {identity_matrix(g, n->in[0], in), NULL, NULL, NULL};
    for (uint32_t k = 0; roi != NULL && k < p->n_axis; k++)
        if (p->axis[k] == axis && roi->type->rank == 1 && roi->type->dim[0] != dim_const(m->cx, 0))
            operand[1] = expand_gather(m, g->at, roi, value_const_i64(m, 2, (int64_t[]){k, k + p->n_axis}), 0);
    if (p->scale[axis] != 0) {
        double s = (double)p->scale[axis];
        operand[2] = expand_floats(m, 1, (int64_t[]){1}, &s, DT_F32);
    } else {
        operand[3] = value_const_i64(m, 1, &out);
    }
    Node *r = g_node(g, OP_Resize, 4, operand, 1);
    for (uint32_t i = 0; i < n->n_attr; i++) r->attr[i] = n->attr[i];
    attr_set_ints(m->cx, r, AT_Resize_axes, (int64_t[]){1}, 1);
    attr_set_f(r, AT_Resize_extrapolation_value, 0);
    attr_set_s(r, AT_Resize_keep_aspect_ratio_policy, str_intern(m->cx, "stretch"));
    Value *w = g_done(g, r);
    return w != NULL && w->type->dim[1] == dim_const(m->cx, out) ? w : NULL;
}

static Value *in_blocks(Grad *g, Value *d, uint32_t axis, int64_t in, int64_t out) { /* [.., in, out/in, ..] summed */
    uint32_t rank = d->type->rank;
    Value *part[RANK_MAX + 1], *shape = g_shape(g, d);
    uint32_t n = 0;
    for (uint32_t a = 0; a < rank; a++) {
        if (a != axis) part[n++] = expand_slice(g->m, g->at, shape, a, a + 1, 0);
        else part[n++] = value_const_i64(g->m, 2, (int64_t[]){in, out / in});
    }
    Node *sum = g_node(g, OP_ReduceSum, 2, (Value *[]){g_2(g, OP_Reshape, d, expand_concat(g->m, g->at, n, part, 0)), g_axes(g, 1u << (axis + 1))}, 1);
    attr_set_i(sum, AT_ReduceSum_keepdims, 0);
    return g_done(g, sum);
}

static Value *along(Grad *g, Value *d, uint32_t axis, Value *w) { /* d along axis times w' */
    uint32_t rank = d->type->rank, last = rank - 1;
    int64_t perm[RANK_MAX];
    for (uint32_t a = 0; a < rank; a++) perm[a] = a;
    perm[axis] = last;
    perm[last] = axis;
    Value *moved = axis == last ? d : g_transpose(g, d, perm);
    Value *product = g_matmul(g, moved, false, w, true, 1);
    return axis == last ? product : g_transpose(g, product, perm);
}

bool grad_resize(Grad *g) {
    Context *cx = g->m->cx;
    Value *x = g->n->in[0], *d = g->dy[0];
    ResizePlan p;
    if (!resize_resolve(g->m, g->n, &p)) return false;
    for (uint32_t a = x->type->rank; a-- > 0;) {
        if (!p.resized[a]) continue;
        Dim from = x->type->dim[a], to = d->type->dim[a];
        if (p.runtime_scales || p.runtime_ratio || !dim_is_const(cx, from) || !dim_is_const(cx, to)) {
            diag(cx, SEV_ERROR, g->n->loc, "its gradient needs sizes that are known at compile time");
            return false;
        }
        int64_t in = dim_value(cx, from), out = dim_value(cx, to);
        if (in == 0 || out == 0) return false;
        if (repeats(g, in, out)) {
            if (out != in) d = in_blocks(g, d, a, in, out);
            continue;
        }
        Value *w = weights(g, &p, a, in, out);
        if (w == NULL) return false;
        d = along(g, d, a, w);
    }
    g->dx[0] = g_reshape_like(g, d, x);
    return true;
}
