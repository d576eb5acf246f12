/* Shape rules of convolutions. The output size of one spatial dimension, from the ONNX operator texts:
 *
 *     Conv           out = floor((in + begin + end - ((kernel - 1) * dilation + 1)) / stride) + 1
 *     SAME_*         out = ceil(in / stride), the padding follows; the odd one at the end (UPPER) or beginning (LOWER)
 *     ConvTranspose  out = stride * (in - 1) + output_padding + (kernel - 1) * dilation + 1 - begin - end
 *                    with output_shape (or SAME: in * stride) given, the padding follows from it
 *     ConvGradWeight the sizes of dY are those Conv would give for X; the kernel's are an attribute */
#include "ir/shape/convolution.h"

typedef struct ConvSlots { /* where an operator keeps its attributes and operands */
    Op op;
    AttrSlot auto_pad, dilations, group, kernel_shape, pads, strides; /* AT_COUNT: it has none */
    uint32_t x, w, bias;
    bool channels_last, transposed;
} ConvSlots;

#define SLOTS(op, x, w, bias, last) \
    {OP_##op, AT_##op##_auto_pad, AT_##op##_dilations, AT_##op##_group, AT_##op##_kernel_shape, AT_##op##_pads, AT_##op##_strides, x, w, bias, last, false}

static const ConvSlots slots[] = {
    SLOTS(Conv, 0, 1, 2, false),
    SLOTS(FusedConv, 0, 1, 2, false),
    SLOTS(ConvChannelsLast, 0, 1, 2, true),
    SLOTS(ConvInteger, 0, 1, 4, false),
    SLOTS(QLinearConv, 0, 3, 8, false),
    SLOTS(IntegerConv, 0, 1, 4, false),
    SLOTS(IntegerConvChannelsLast, 0, 1, 4, true),
    {OP_DeformConv, AT_COUNT, AT_DeformConv_dilations, AT_DeformConv_group, AT_DeformConv_kernel_shape, AT_DeformConv_pads, AT_DeformConv_strides, 0, 1, 3, false, false},
    {OP_ConvTranspose, AT_ConvTranspose_auto_pad, AT_ConvTranspose_dilations, AT_ConvTranspose_group, AT_ConvTranspose_kernel_shape, AT_ConvTranspose_pads,
     AT_ConvTranspose_strides, 0, 1, 2, false, true},
    {OP_ConvTransposeChannelsLast, AT_ConvTransposeChannelsLast_auto_pad, AT_ConvTransposeChannelsLast_dilations, AT_ConvTransposeChannelsLast_group,
     AT_ConvTransposeChannelsLast_kernel_shape, AT_ConvTransposeChannelsLast_pads, AT_ConvTransposeChannelsLast_strides, 0, 1, 2, true, true},
};

static const ConvSlots *slots_of(const Node *n) {
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        if (slots[i].op == (Op)n->op) return &slots[i];
    return NULL;
}

void conv_operands(const Node *n, uint32_t *x, uint32_t *w, uint32_t *bias) {
    const ConvSlots *s = slots_of(n);
    *x = s->x;
    *w = s->w;
    *bias = s->bias < n->n_in && n->in[s->bias] != NULL ? s->bias : n->n_in;
}

/* An attribute with one entry per spatial dimension (times `sides`), or the value everywhere. */
static bool read_ints(Module *m, const Node *n, AttrSlot slot, uint32_t count, int64_t least, int64_t otherwise, int64_t *out) {
    for (uint32_t i = 0; i < count; i++) out[i] = otherwise;
    if (slot == AT_COUNT || !attr_has(n, slot)) return true;
    const Attr *a = attr_at(n, slot);
    if (a->ints.n == 0) return true;
    if (a->ints.n != count) {
        diag(m->cx, SEV_ERROR, n->loc, "attribute %s has %u entries, %u are needed", attr_info(slot)->name, a->ints.n, count);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        out[i] = a->ints.v[i];
        if (out[i] >= least && out[i] <= INT32_MAX) continue;
        diag(m->cx, SEV_ERROR, n->loc, "attribute %s has the entry %lld, at least %lld is needed", attr_info(slot)->name, (long long)out[i], (long long)least);
        return false;
    }
    return true;
}

typedef enum AutoPad { PAD_EXPLICIT, PAD_UPPER, PAD_LOWER, PAD_VALID } AutoPad;

static bool read_auto_pad(Module *m, const Node *n, AttrSlot slot, AutoPad *out) {
    *out = PAD_EXPLICIT;
    if (slot == AT_COUNT || !attr_has(n, slot) || attr_s_is(m->cx, n, slot, "NOTSET") || attr_s_is(m->cx, n, slot, "")) return true;
    if (attr_s_is(m->cx, n, slot, "SAME_UPPER")) *out = PAD_UPPER;
    else if (attr_s_is(m->cx, n, slot, "SAME_LOWER")) *out = PAD_LOWER;
    else if (attr_s_is(m->cx, n, slot, "VALID")) *out = PAD_VALID;
    else {
        diag(m->cx, SEV_ERROR, n->loc, "auto_pad is neither NOTSET, SAME_UPPER, SAME_LOWER nor VALID");
        return false;
    }
    return true;
}

/* (kernel - 1) * dilation + 1 */
static Dim reach(Context *cx, const ConvGeometry *g, uint32_t i) {
    Dim one = dim_const(cx, 1);
    return dim_add(cx, dim_mul(cx, dim_sub(cx, g->kernel[i], one), dim_const(cx, g->dilation[i])), one);
}

static void split_padding(Context *cx, ConvGeometry *g, uint32_t i, Dim total, bool odd_at_end) {
    total = dim_max(cx, total, dim_const(cx, 0));
    Dim half = dim_floordiv(cx, total, dim_const(cx, 2)), rest = dim_sub(cx, total, half);
    g->begin[i] = odd_at_end ? half : rest;
    g->end[i] = odd_at_end ? rest : half;
}

static bool forward_size(Module *m, const Node *n, ConvGeometry *g, uint32_t i, AutoPad pad) {
    Context *cx = m->cx;
    Dim stride = dim_const(cx, g->stride[i]), one = dim_const(cx, 1);
    if (pad == PAD_UPPER || pad == PAD_LOWER) {
        g->out[i] = dim_ceildiv(cx, g->in[i], stride);
        Dim span = dim_add(cx, dim_mul(cx, dim_sub(cx, g->out[i], one), stride), reach(cx, g, i));
        split_padding(cx, g, i, dim_sub(cx, span, g->in[i]), pad == PAD_UPPER);
        return true;
    }
    Dim room = dim_sub(cx, dim_add(cx, g->in[i], dim_add(cx, g->begin[i], g->end[i])), reach(cx, g, i));
    if (dim_hi(cx, room) < 0) {
        diag(cx, SEV_ERROR, n->loc, "the kernel is larger than the padded input in spatial dimension %u", i);
        return false;
    }
    g->out[i] = dim_add(cx, dim_floordiv(cx, room, stride), one);
    return true;
}

static bool transposed_size(Module *m, const Node *n, ConvGeometry *g, uint32_t i, AutoPad pad, int64_t more, int64_t wanted) {
    Context *cx = m->cx;
    Dim stride = dim_const(cx, g->stride[i]), one = dim_const(cx, 1);
    Dim full = dim_add(cx, dim_add(cx, dim_mul(cx, stride, dim_sub(cx, g->in[i], one)), dim_const(cx, more)), reach(cx, g, i));
    if (wanted >= 0 || pad == PAD_UPPER || pad == PAD_LOWER) {
        g->out[i] = wanted >= 0 ? dim_const(cx, wanted) : dim_mul(cx, g->in[i], stride);
        split_padding(cx, g, i, dim_sub(cx, full, g->out[i]), pad == PAD_UPPER);
        return true;
    }
    g->out[i] = dim_sub(cx, full, dim_add(cx, g->begin[i], g->end[i]));
    if (dim_hi(cx, g->out[i]) < 0) {
        diag(cx, SEV_ERROR, n->loc, "the padding is larger than the output in spatial dimension %u", i);
        return false;
    }
    return true;
}

static bool read_channels(Module *m, const Node *n, const ConvSlots *s, const Type *x, const Type *w, ConvGeometry *g) {
    Context *cx = m->cx;
    Dim group = dim_const(cx, g->group);
    g->batch = x->dim[0];
    g->in_channels = x->dim[s->channels_last ? x->rank - 1 : 1];
    if (s->transposed) {
        g->in_group = dim_floordiv(cx, w->dim[0], group);
        g->out_group = w->dim[1];
        g->out_channels = dim_mul(cx, w->dim[1], group);
    } else {
        g->in_group = w->dim[1];
        g->out_channels = w->dim[0];
        g->out_group = dim_floordiv(cx, w->dim[0], group);
    }
    Dim shared = s->transposed ? w->dim[0] : g->out_channels;
    if (dim_is_const(cx, shared) && dim_value(cx, shared) % g->group != 0) {
        diag(cx, SEV_ERROR, n->loc, "%lld channels of W do not divide into %lld groups", (long long)dim_value(cx, shared), (long long)g->group);
        return false;
    }
    Dim given = dim_mul(cx, g->in_group, group);
    return shape_unify(m, (Node *)(uintptr_t)n, g->in_channels, given, "channels of X against W's channels per group times groups") != 0;
}

bool conv_geometry(Module *m, const Node *n, ConvGeometry *g) {
    Context *cx = m->cx;
    const ConvSlots *s = slots_of(n);
    CHECK(cx, s != NULL);
    Node *at = (Node *)(uintptr_t)n;
    const Type *x = shape_in(m, at, s->x), *w = shape_in(m, at, s->w);
    if (x == NULL || w == NULL) return false;
    if (x->rank < 3 || w->rank != x->rank) {
        diag(cx, SEV_ERROR, n->loc, "X has rank %u and W rank %u; equal ranks of 3 or more are needed", x->rank, w->rank);
        return false;
    }
    *g = (ConvGeometry){.channels_last = s->channels_last, .transposed = s->transposed, .spatial = x->rank - 2u, .first = s->channels_last ? 1 : 2};
    g->group = attr_i(n, s->group);
    if (g->group < 1 || g->group > INT32_MAX) {
        diag(cx, SEV_ERROR, n->loc, "group is %lld, at least 1 is needed", (long long)g->group);
        return false;
    }
    if (!read_channels(m, n, s, x, w, g)) return false;
    uint32_t r = g->spatial;
    int64_t kernel[RANK_MAX], pads[2 * RANK_MAX], more[RANK_MAX], wanted[RANK_MAX];
    AutoPad pad;
    if (!read_ints(m, n, s->kernel_shape, r, 1, -1, kernel) || !read_ints(m, n, s->strides, r, 1, 1, g->stride) ||
        !read_ints(m, n, s->dilations, r, 1, 1, g->dilation) || !read_ints(m, n, s->pads, 2 * r, s->transposed ? INT32_MIN : 0, 0, pads) ||
        !read_auto_pad(m, n, s->auto_pad, &pad))
        return false;
    AttrSlot padding = !s->transposed ? AT_COUNT : s->channels_last ? AT_ConvTransposeChannelsLast_output_padding : AT_ConvTranspose_output_padding;
    AttrSlot shape = !s->transposed ? AT_COUNT : s->channels_last ? AT_ConvTransposeChannelsLast_output_shape : AT_ConvTranspose_output_shape;
    if (shape != AT_COUNT && attr_has(n, shape) && attr_at(n, shape)->ints.n == r + 2) { /* some exporters give batch and channels, too */
        for (uint32_t i = 0; i < r; i++) wanted[i] = attr_at(n, shape)->ints.v[i + 2];
    } else if (!read_ints(m, n, shape, r, 1, -1, wanted)) {
        return false;
    }
    if (!read_ints(m, n, padding, r, 0, 0, more)) return false;
    for (uint32_t i = 0; i < r; i++) {
        g->in[i] = x->dim[g->first + i];
        g->kernel[i] = w->dim[2 + i];
        if (kernel[i] >= 0) g->kernel[i] = shape_unify(m, at, g->kernel[i], dim_const(cx, kernel[i]), "W against kernel_shape");
        if (g->kernel[i] == 0) return false;
        g->begin[i] = dim_const(cx, pad == PAD_VALID ? 0 : pads[i]);
        g->end[i] = dim_const(cx, pad == PAD_VALID ? 0 : pads[r + i]);
        if (!(s->transposed ? transposed_size(m, n, g, i, pad, more[i], wanted[i]) : forward_size(m, n, g, i, pad))) return false;
    }
    return true;
}

typedef struct GradSlots { Op op; AttrSlot dilations, group, kernel_shape, pads, strides; bool channels_last; } GradSlots;
#define GRAD_SLOTS(op, last) {OP_##op, AT_##op##_dilations, AT_##op##_group, AT_##op##_kernel_shape, AT_##op##_pads, AT_##op##_strides, last}
static const GradSlots grad_slots[] = {GRAD_SLOTS(ConvGradWeight, false), GRAD_SLOTS(ConvGradWeightChannelsLast, true)};

static bool grad_channels(Module *m, const Node *n, const GradSlots *s, const Type *x, const Type *dy, ConvGeometry *g) {
    Context *cx = m->cx;
    uint32_t channel = s->channels_last ? x->rank - 1u : 1;
    g->in_channels = x->dim[channel];
    g->out_channels = dy->dim[channel];
    g->batch = shape_unify(m, (Node *)(uintptr_t)n, x->dim[0], dy->dim[0], "batch of X against dY's");
    if (g->batch == 0) return false;
    for (int i = 0; i < 2; i++) {
        Dim c = i != 0 ? g->out_channels : g->in_channels;
        if (!dim_is_const(cx, c) || dim_value(cx, c) % g->group == 0) continue;
        diag(cx, SEV_ERROR, n->loc, "%lld channels of %s do not divide into %lld groups", (long long)dim_value(cx, c), i != 0 ? "dY" : "X", (long long)g->group);
        return false;
    }
    g->in_group = dim_floordiv(cx, g->in_channels, dim_const(cx, g->group));
    g->out_group = dim_floordiv(cx, g->out_channels, dim_const(cx, g->group));
    return true;
}

bool conv_grad_geometry(Module *m, const Node *n, ConvGeometry *g) {
    Context *cx = m->cx;
    Node *at = (Node *)(uintptr_t)n;
    const GradSlots *s = &grad_slots[n->op == OP_ConvGradWeightChannelsLast];
    const Type *x = shape_in(m, at, 0), *dy = shape_in(m, at, 1);
    if (x == NULL || dy == NULL) return false;
    if (x->rank < 3 || dy->rank != x->rank) {
        diag(cx, SEV_ERROR, n->loc, "X has rank %u and dY rank %u; equal ranks of 3 or more are needed", x->rank, dy->rank);
        return false;
    }
    *g = (ConvGeometry){.channels_last = s->channels_last, .spatial = x->rank - 2u, .first = s->channels_last ? 1 : 2, .group = attr_i(n, s->group)};
    if (g->group < 1 || g->group > INT32_MAX) {
        diag(cx, SEV_ERROR, n->loc, "group is %lld, at least 1 is needed", (long long)g->group);
        return false;
    }
    uint32_t r = g->spatial;
    int64_t kernel[RANK_MAX], pads[2 * RANK_MAX];
    if (!grad_channels(m, n, s, x, dy, g) || !read_ints(m, n, s->kernel_shape, r, 1, -1, kernel) || !read_ints(m, n, s->strides, r, 1, 1, g->stride) ||
        !read_ints(m, n, s->dilations, r, 1, 1, g->dilation) || !read_ints(m, n, s->pads, 2 * r, 0, 0, pads))
        return false;
    for (uint32_t i = 0; i < r; i++) {
        if (kernel[i] < 1) {
            diag(cx, SEV_ERROR, n->loc, "attribute kernel_shape has no entry for spatial dimension %u", i);
            return false;
        }
        g->in[i] = x->dim[g->first + i];
        g->kernel[i] = dim_const(cx, kernel[i]);
        g->begin[i] = dim_const(cx, pads[i]);
        g->end[i] = dim_const(cx, pads[r + i]);
        if (!forward_size(m, n, g, i, PAD_EXPLICIT)) return false;
        g->out[i] = shape_unify(m, at, g->out[i], dy->dim[g->first + i], "the convolution's output against dY");
        if (g->out[i] == 0) return false;
    }
    return true;
}

bool shape_conv_grad_weight(Module *m, Node *n) {
    ConvGeometry g;
    if (!conv_grad_geometry(m, n, &g)) return false;
    const Type *x = n->in[0]->type, *dy = n->in[1]->type;
    if (!dtype_is_float(x->dtype) || dy->dtype != x->dtype) {
        diag(m->cx, SEV_ERROR, n->loc, "X is %s and dY %s; one floating-point type is needed", dtype_text(x->dtype), dtype_text(dy->dtype));
        return false;
    }
    Dim dim[RANK_MAX] = {g.out_channels, g.in_group};
    for (uint32_t i = 0; i < g.spatial; i++) dim[2 + i] = g.kernel[i];
    shape_out(m, n, 0, x->dtype, g.spatial + 2, dim);
    return true;
}

static bool conv_output(Module *m, Node *n, DType dtype) {
    ConvGeometry g;
    if (!conv_geometry(m, n, &g)) return false;
    Dim dim[RANK_MAX];
    dim[0] = g.batch;
    dim[g.channels_last ? g.spatial + 1 : 1] = g.out_channels;
    for (uint32_t i = 0; i < g.spatial; i++) dim[g.first + i] = g.out[i];
    uint32_t x, w, bias;
    conv_operands(n, &x, &w, &bias);
    if (bias < n->n_in) {
        const Type *b = shape_in(m, n, bias);
        if (b == NULL) return false;
        if (b->rank != 1) {
            diag(m->cx, SEV_ERROR, n->loc, "the bias has rank %u, 1 is needed", b->rank);
            return false;
        }
        if (shape_unify(m, n, b->dim[0], g.out_channels, "size of the bias against output channels") == 0) return false;
    }
    shape_out(m, n, 0, dtype, g.spatial + 2, dim);
    return true;
}

bool shape_conv(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *w = shape_in(m, n, 1);
    if (x == NULL || w == NULL) return false;
    bool mixed = n->op == OP_ConvChannelsLast && x->dtype == DT_BF16 && w->dtype == DT_F32; /* passes/precision.c */
    if (!mixed && (!dtype_is_float(x->dtype) || w->dtype != x->dtype)) {
        diag(m->cx, SEV_ERROR, n->loc, "X is %s and W %s; one floating-point type is needed", dtype_text(x->dtype), dtype_text(w->dtype));
        return false;
    }
    return conv_output(m, n, w->dtype);
}

bool shape_conv_integer(Module *m, Node *n) { return conv_output(m, n, DT_I32); }

bool shape_integer_conv(Module *m, Node *n) {
    return conv_output(m, n, dtype_from_onnx((int32_t)attr_i(n, n->op == OP_IntegerConv ? AT_IntegerConv_to : AT_IntegerConvChannelsLast_to)));
}

bool shape_qlinear_conv(Module *m, Node *n) {
    const Type *zero = shape_in(m, n, 7);
    return zero != NULL && conv_output(m, n, zero->dtype);
}
