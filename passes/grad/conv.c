/* Gradients of convolutions: every one is a convolution again.
 *
 *     y = Conv(x, w)            dx = ConvTranspose(dy, w)      dw = ConvGradWeight(x, dy)      db = sum over batch and space of dy
 *     y = ConvTranspose(x, w)   dx = Conv(dy, w)               dw = ConvGradWeight(dy, x)
 *     z = ConvGradWeight(x, d)  dx = ConvTranspose(d, dz)      dd = Conv(x, dz)
 *
 * with the same strides, dilations, groups and padding. */
#include "ir/shape/convolution.h"
#include "passes/grad/grad.h"
#include "passes/rules.h"

/* A convolution from x (the side without strides) to y, its padding as constants. */
typedef struct Convolution {
    uint32_t spatial;
    int64_t group, stride[RANK_MAX], dilation[RANK_MAX], kernel[RANK_MAX], pads[2 * RANK_MAX];
} Convolution;

static bool constant(Grad *g, Dim d, const char *what, int64_t *v) {
    if (!dim_is_const(g->m->cx, d)) {
        diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient needs %s that is known at compile time", what);
        return false;
    }
    *v = dim_value(g->m->cx, d);
    return true;
}

static bool convolution_of(Grad *g, Convolution *c) {
    ConvGeometry geometry;
    if (!conv_geometry(g->m, g->n, &geometry)) return false;
    *c = (Convolution){.spatial = geometry.spatial, .group = geometry.group};
    for (uint32_t i = 0; i < c->spatial; i++) {
        c->stride[i] = geometry.stride[i];
        c->dilation[i] = geometry.dilation[i];
        if (!constant(g, geometry.kernel[i], "a kernel size", &c->kernel[i]) || !constant(g, geometry.begin[i], "padding", &c->pads[i]) ||
            !constant(g, geometry.end[i], "padding", &c->pads[c->spatial + i]))
            return false;
    }
    return true;
}

static Node *node_of(Grad *g, const Convolution *c, Op op, Value *a, Value *b) {
    Node *n = g_node(g, op, 2, (Value *[]){a, b}, 1);
    attr_set_ints(g->m->cx, n, attr_named(n, "strides"), c->stride, c->spatial);
    attr_set_ints(g->m->cx, n, attr_named(n, "dilations"), c->dilation, c->spatial);
    attr_set_ints(g->m->cx, n, attr_named(n, "pads"), c->pads, 2 * c->spatial);
    attr_set_ints(g->m->cx, n, attr_named(n, "kernel_shape"), c->kernel, c->spatial);
    attr_set_i(n, attr_named(n, "group"), c->group);
    return n;
}

/* From y's side back to x's, whose sizes may be up to stride - 1 more than the last window reaches. */
static Value *to_x(Grad *g, const Convolution *c, Value *d, Value *w, Value *x) {
    Context *cx = g->m->cx;
    Node *n = node_of(g, c, OP_ConvTranspose, d, w);
    int64_t rest[RANK_MAX];
    for (uint32_t i = 0; i < c->spatial; i++) {
        rest[i] = 0;
        if (c->stride[i] == 1) continue;
        int64_t in;
        if (!constant(g, x->type->dim[2 + i], "a size along a strided axis", &in)) return NULL;
        rest[i] = (in + c->pads[i] + c->pads[c->spatial + i] - (c->kernel[i] - 1) * c->dilation[i] - 1) % c->stride[i];
    }
    attr_set_ints(cx, n, AT_ConvTranspose_output_padding, rest, c->spatial);
    Value *dx = g_done(g, n);
    return dx != NULL ? g_reshape_like(g, dx, x) : NULL;
}

static Value *to_y(Grad *g, const Convolution *c, Value *x, Value *w, Value *y) {
    return g_reshape_like(g, g_done(g, node_of(g, c, OP_Conv, x, w)), y);
}

static Value *weight(Grad *g, const Convolution *c, Value *x, Value *d, Value *w) {
    return g_reshape_like(g, g_done(g, node_of(g, c, OP_ConvGradWeight, x, d)), w);
}

static Value *bias(Grad *g) {
    Value *dy = g->dy[0];
    Node *n = g_node(g, OP_ReduceSum, 2, (Value *[]){dy, g_axes(g, ((1u << dy->type->rank) - 1) & ~2u)}, 1);
    attr_set_i(n, AT_ReduceSum_keepdims, 0);
    return g_done(g, n);
}

bool grad_conv(Grad *g) {
    Convolution c;
    Value *x = g->n->in[0], *w = g->n->in[1], *dy = g->dy[0];
    if (!convolution_of(g, &c)) return false;
    if (g_wants(g, 0) && (g->dx[0] = to_x(g, &c, dy, w, x)) == NULL) return false;
    if (g_wants(g, 1)) g->dx[1] = weight(g, &c, x, dy, w);
    if (g_wants(g, 2)) g->dx[2] = bias(g);
    return true;
}

bool grad_conv_transpose(Grad *g) {
    Convolution c;
    Value *x = g->n->in[0], *w = g->n->in[1], *dy = g->dy[0];
    if (!convolution_of(g, &c)) return false;
    int64_t cut[2 * RANK_MAX] = {0};
    bool any = false;
    uint32_t rank = c.spatial + 2;
    for (uint32_t i = 0; i < 2 * c.spatial; i++) { /* negative padding: elements that no x reaches */
        if (c.pads[i] >= 0) continue;
        cut[i < c.spatial ? 2 + i : rank + 2 + i - c.spatial] = c.pads[i];
        c.pads[i] = 0;
        any = true;
    }
    if (any) dy = g_2(g, OP_Pad, dy, value_const_i64(g->m, 2 * rank, cut));
    if (g_wants(g, 0)) g->dx[0] = to_y(g, &c, dy, w, x);
    if (g_wants(g, 1)) g->dx[1] = weight(g, &c, dy, x, w);
    if (g_wants(g, 2)) g->dx[2] = bias(g);
    return true;
}

bool grad_conv_grad_weight(Grad *g) {
    const Node *n = g->n;
    Value *x = n->in[0], *d = n->in[1], *dz = g->dy[0];
    Convolution c = {.spatial = x->type->rank - 2u, .group = attr_i(n, AT_ConvGradWeight_group)};
    bool has_pads = attr_has(n, AT_ConvGradWeight_pads), strided = attr_has(n, AT_ConvGradWeight_strides), dilated = attr_has(n, AT_ConvGradWeight_dilations);
    for (uint32_t i = 0; i < c.spatial; i++) {
        c.kernel[i] = attr_ints_at(n, AT_ConvGradWeight_kernel_shape, i);
        c.stride[i] = strided ? attr_ints_at(n, AT_ConvGradWeight_strides, i) : 1;
        c.dilation[i] = dilated ? attr_ints_at(n, AT_ConvGradWeight_dilations, i) : 1;
        c.pads[i] = has_pads ? attr_ints_at(n, AT_ConvGradWeight_pads, i) : 0;
        c.pads[c.spatial + i] = has_pads ? attr_ints_at(n, AT_ConvGradWeight_pads, c.spatial + i) : 0;
    }
    if (g_wants(g, 0) && (g->dx[0] = to_x(g, &c, d, dz, x)) == NULL) return false;
    if (g_wants(g, 1)) g->dx[1] = to_y(g, &c, x, dz, d);
    return true;
}
