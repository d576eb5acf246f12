/* Layers that own parameters, and pooling, whose windows they share. Recurrent layers and attention are in dsl_sequence.c.
 *
 * Each layer looks for all its mistakes first, then goes on with what is most likely meant, so that the layers after it are
 * checked too: a convolution told in = 3 on an input of 10 channels reports that and takes 10. */
#include "frontend/dsl.h"

static int64_t or_default(int64_t x, int64_t fallback) {
    return x != 0 ? x : fallback;
}

/* ---- dense ------------------------------------------------------------------------------------------------------ */
LatheValue lathe_dense(LatheValue x, int64_t units, const char *name) {
    return lathe_dense_with(x, units, name, NULL);
}

LatheValue lathe_dense_with(LatheValue x, int64_t units, const char *name, const LatheDense *o) {
    const LatheDense defaults = {0};
    if (o == NULL) o = &defaults;
    if (!dsl_check_rank(x, OP_Gemm, name, 1, RANK_MAX, "[…, features]")) return (LatheValue){0};
    dsl_warn_softmax(x, OP_Gemm, name);
    int64_t in = dsl_channels(x, -1, OP_Gemm, name, o->in);
    if (!dsl_check_positive(x.model, OP_Gemm, name, "the number of units", units) || in < 0) return (LatheValue){0};
    LatheModel *m = x.model;
    DType dtype = dsl_dtype(x);
    LatheValue w = dsl_layer_param(m, name, "weight", dtype, 2, (int64_t[]){in, units}, o->weight, lathe_glorot_uniform());
    LatheValue b = {0};
    if (!o->no_bias) b = dsl_layer_param(m, name, "bias", dtype, 1, &units, o->bias, lathe_zeros());
    if (lathe_rank(x) == 2)
        return dsl_node(m, &(DslNode){.op = OP_Gemm, .name = name, .n_in = o->no_bias ? 2 : 3, .in = (LatheValue[]){x, w, b}});
    LatheValue y = dsl_node(m, &(DslNode){.op = OP_MatMul, .name = name, .n_in = 2, .in = (LatheValue[]){x, w}});
    return o->no_bias ? y : lathe_add(y, b);
}

/* ---- windows of convolutions and pools -------------------------------------------------------------------------- */
typedef struct Window {
    uint32_t n;                                   /* spatial dims: 1 or 2 */
    int64_t kernel[2], stride[2], dilation[2], pads[4];
} Window;

static Window window(uint32_t n, int64_t kernel, int64_t kernel_w, int64_t stride, int64_t stride_w, int64_t pad, const int64_t pads[4]) {
    Window w = {.n = n, .kernel = {kernel, or_default(kernel_w, kernel)}, .stride = {stride, or_default(stride_w, stride)}, .dilation = {1, 1}};
    bool given = pads[0] != 0 || pads[1] != 0 || pads[2] != 0 || pads[3] != 0;
    for (uint32_t i = 0; i < 2 * n; i++) w.pads[i] = given ? pads[i] : pad;
    return w;
}

static bool window_is_sane(LatheValue x, Op op, const char *name, const Window *w) {
    for (uint32_t i = 0; i < w->n; i++) {
        if (!dsl_check_positive(x.model, op, name, "the kernel", w->kernel[i]) || !dsl_check_positive(x.model, op, name, "the stride", w->stride[i]) ||
            !dsl_check_positive(x.model, op, name, "the dilation", w->dilation[i]))
            return false;
        if (w->pads[i] >= 0 && w->pads[w->n + i] >= 0) continue;
        dsl_problem(x.model, SEV_ERROR, op, name, "padding of %lld and %lld, it must not be negative", (long long)w->pads[i], (long long)w->pads[w->n + i]);
        return false;
    }
    return true;
}

/* A window that is larger than the padded input has no place at all: reported, then padded until it has one. */
static void window_fit(LatheValue x, Op op, const char *name, Window *w) {
    bool told = false;
    for (uint32_t i = 0; i < w->n; i++) {
        int64_t size = lathe_size_of(x, 2 + i), reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
        int64_t padded = size + w->pads[i] + w->pads[w->n + i];
        if (size < 0 || reach <= padded) continue;
        if (!told)
            dsl_problem(x.model, SEV_ERROR, op, name, "its window reaches over %lld elements, dim %u of its input %s has %lld with padding",
                        (long long)reach, 2 + i, dsl_type_text(x), (long long)padded);
        told = true;
        w->pads[w->n + i] += reach - padded;
    }
}

/* ---- convolutions ----------------------------------------------------------------------------------------------- */
static LatheValue conv_weight(LatheValue x, const char *name, const int64_t channels[2], const Window *w, const LatheConv *o) {
    int64_t shape[4] = {channels[0], channels[1], w->kernel[0], w->kernel[1]};
    return dsl_layer_param(x.model, name, "weight", dsl_dtype(x), 2 + w->n, shape, o->weight, lathe_kaiming_uniform(0));
}

/* Channels must split evenly into groups; the group count that building goes on with, 0 when there is none. */
static int64_t checked_groups(LatheValue x, Op op, const char *name, int64_t in, int64_t out, int64_t groups) {
    if (!dsl_check_positive(x.model, op, name, "groups", groups)) return 0;
    if (in % groups == 0 && out % groups == 0) return groups;
    dsl_problem(x.model, SEV_ERROR, op, name, "groups = %lld must divide the %lld channels of its input %s and its own %lld channels",
                (long long)groups, (long long)in, dsl_type_text(x), (long long)out);
    return 1;
}

static LatheValue conv(LatheValue x, Op op, uint32_t spatial, int64_t channels, int64_t kernel, const char *name, const LatheConv *o) {
    const LatheConv defaults = {0};
    if (o == NULL) o = &defaults;
    if (!dsl_check_rank(x, op, name, 2 + spatial, 2 + spatial, spatial == 1 ? "[N,C,L]" : "[N,C,H,W]")) return (LatheValue){0};
    dsl_warn_softmax(x, op, name);
    LatheModel *m = x.model;
    bool transposed = op == OP_ConvTranspose;
    Window w = window(spatial, kernel, o->kernel_w, or_default(o->stride, 1), o->stride_w, o->pad, o->pads);
    w.dilation[0] = or_default(o->dilation, 1);
    w.dilation[1] = or_default(o->dilation_w, w.dilation[0]);
    int64_t in = dsl_channels(x, 1, op, name, o->in);
    bool sane = dsl_check_positive(m, op, name, "the number of channels", channels);
    sane &= window_is_sane(x, op, name, &w);
    int64_t groups = sane && in > 0 ? checked_groups(x, op, name, in, channels, or_default(o->groups, 1)) : 0;
    if (groups == 0) return (LatheValue){0};
    if (!o->same && !transposed) window_fit(x, op, name, &w);
    int64_t shape[2] = {transposed ? in : channels, (transposed ? channels : in) / groups};
    LatheValue inputs[3] = {x, conv_weight(x, name, shape, &w, o), {0}};
    if (!o->no_bias) inputs[2] = dsl_layer_param(m, name, "bias", dsl_dtype(x), 1, &channels, o->bias, lathe_zeros());
    DslNode spec = {.op = op, .name = name, .n_in = o->no_bias ? 2 : 3, .in = inputs};
    dsl_ints(&spec, transposed ? AT_ConvTranspose_kernel_shape : AT_Conv_kernel_shape, spatial, w.kernel);
    dsl_ints(&spec, transposed ? AT_ConvTranspose_strides : AT_Conv_strides, spatial, w.stride);
    dsl_ints(&spec, transposed ? AT_ConvTranspose_dilations : AT_Conv_dilations, spatial, w.dilation);
    dsl_int(&spec, transposed ? AT_ConvTranspose_group : AT_Conv_group, groups);
    if (o->same) dsl_string(&spec, transposed ? AT_ConvTranspose_auto_pad : AT_Conv_auto_pad, "SAME_UPPER");
    else dsl_ints(&spec, transposed ? AT_ConvTranspose_pads : AT_Conv_pads, 2 * spatial, w.pads);
    if (transposed && o->output_pad != 0) dsl_ints(&spec, AT_ConvTranspose_output_padding, spatial, (int64_t[]){o->output_pad, o->output_pad});
    return dsl_node(m, &spec);
}

LatheValue lathe_conv1d(LatheValue x, int64_t channels, int64_t kernel, const char *name, const LatheConv *o) {
    return conv(x, OP_Conv, 1, channels, kernel, name, o);
}

LatheValue lathe_conv2d(LatheValue x, int64_t channels, int64_t kernel, const char *name, const LatheConv *o) {
    return conv(x, OP_Conv, 2, channels, kernel, name, o);
}

LatheValue lathe_conv_transpose2d(LatheValue x, int64_t channels, int64_t kernel, const char *name, const LatheConv *o) {
    return conv(x, OP_ConvTranspose, 2, channels, kernel, name, o);
}

/* ---- pools ------------------------------------------------------------------------------------------------------ */
static LatheValue pool(LatheValue x, Op op, uint32_t spatial, int64_t kernel, const LathePool *o) {
    const LathePool defaults = {0};
    if (o == NULL) o = &defaults;
    if (!dsl_check_rank(x, op, NULL, 2 + spatial, 2 + spatial, spatial == 1 ? "[N,C,L]" : "[N,C,H,W]")) return (LatheValue){0};
    Window w = window(spatial, kernel, o->kernel_w, or_default(o->stride, kernel), or_default(o->stride_w, or_default(o->stride, or_default(o->kernel_w, kernel))), o->pad, o->pads);
    if (!window_is_sane(x, op, NULL, &w)) return (LatheValue){0};
    window_fit(x, op, NULL, &w);
    bool max = op == OP_MaxPool;
    DslNode spec = {.op = op, .n_in = 1, .in = &x};
    dsl_ints(&spec, max ? AT_MaxPool_kernel_shape : AT_AveragePool_kernel_shape, spatial, w.kernel);
    dsl_ints(&spec, max ? AT_MaxPool_strides : AT_AveragePool_strides, spatial, w.stride);
    dsl_ints(&spec, max ? AT_MaxPool_pads : AT_AveragePool_pads, 2 * spatial, w.pads);
    dsl_int(&spec, max ? AT_MaxPool_ceil_mode : AT_AveragePool_ceil_mode, o->ceil_mode);
    if (!max) dsl_int(&spec, AT_AveragePool_count_include_pad, o->count_pad);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_max_pool1d(LatheValue x, int64_t kernel, const LathePool *o) { return pool(x, OP_MaxPool, 1, kernel, o); }
LatheValue lathe_avg_pool1d(LatheValue x, int64_t kernel, const LathePool *o) { return pool(x, OP_AveragePool, 1, kernel, o); }
LatheValue lathe_max_pool2d(LatheValue x, int64_t kernel, const LathePool *o) { return pool(x, OP_MaxPool, 2, kernel, o); }
LatheValue lathe_avg_pool2d(LatheValue x, int64_t kernel, const LathePool *o) { return pool(x, OP_AveragePool, 2, kernel, o); }

static LatheValue global_pool(LatheValue x, Op op) {
    if (!dsl_check_rank(x, op, NULL, 3, RANK_MAX, "[N,C,…]")) return (LatheValue){0};
    return lathe_flatten(dsl_unary(op, x), 1);
}

LatheValue lathe_global_avg_pool(LatheValue x) { return global_pool(x, OP_GlobalAveragePool); }
LatheValue lathe_global_max_pool(LatheValue x) { return global_pool(x, OP_GlobalMaxPool); }

/* ---- normalisations --------------------------------------------------------------------------------------------- */
static double epsilon_of(const LatheNorm *o) {
    return o != NULL && o->epsilon != 0 ? o->epsilon : 1e-5;
}

static LatheValue norm_param(LatheValue x, const char *name, const char *part, int64_t n, double value) {
    return dsl_layer_param(x.model, name, part, dsl_dtype(x), 1, &n, lathe_constant(value), lathe_zeros());
}

LatheValue lathe_batchnorm(LatheValue x, const char *name, const LatheNorm *o) {
    if (!dsl_check_rank(x, OP_BatchNormalization, name, 2, RANK_MAX, "[N,C] or [N,C,…]")) return (LatheValue){0};
    int64_t n = dsl_channels(x, 1, OP_BatchNormalization, name, 0);
    if (n < 0) return (LatheValue){0};
    LatheValue in[5] = {x, norm_param(x, name, "scale", n, 1), norm_param(x, name, "bias", n, 0), norm_param(x, name, "mean", n, 0), norm_param(x, name, "variance", n, 1)};
    DslNode spec = {.op = OP_BatchNormalization, .name = name, .n_in = 5, .in = in};
    dsl_float(&spec, AT_BatchNormalization_epsilon, epsilon_of(o));
    if (o != NULL && o->momentum != 0) dsl_float(&spec, AT_BatchNormalization_momentum, o->momentum);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_layernorm(LatheValue x, const char *name, const LatheNorm *o) {
    if (!dsl_check_rank(x, OP_LayerNormalization, name, 1, RANK_MAX, "[…, features]")) return (LatheValue){0};
    int64_t n = dsl_channels(x, -1, OP_LayerNormalization, name, 0);
    if (n < 0) return (LatheValue){0};
    DslNode spec = {.op = OP_LayerNormalization, .name = name, .n_in = 3, .in = (LatheValue[]){x, norm_param(x, name, "scale", n, 1), norm_param(x, name, "bias", n, 0)}};
    dsl_float(&spec, AT_LayerNormalization_epsilon, epsilon_of(o));
    return dsl_node(x.model, &spec);
}

LatheValue lathe_rmsnorm(LatheValue x, const char *name, const LatheNorm *o) {
    if (!dsl_check_rank(x, OP_RMSNormalization, name, 1, RANK_MAX, "[…, features]")) return (LatheValue){0};
    int64_t n = dsl_channels(x, -1, OP_RMSNormalization, name, 0);
    if (n < 0) return (LatheValue){0};
    DslNode spec = {.op = OP_RMSNormalization, .name = name, .n_in = 2, .in = (LatheValue[]){x, norm_param(x, name, "scale", n, 1)}};
    dsl_float(&spec, AT_RMSNormalization_epsilon, epsilon_of(o));
    return dsl_node(x.model, &spec);
}

LatheValue lathe_groupnorm(LatheValue x, int64_t groups, const char *name, const LatheNorm *o) {
    if (!dsl_check_rank(x, OP_GroupNormalization, name, 3, RANK_MAX, "[N,C,…]")) return (LatheValue){0};
    int64_t n = dsl_channels(x, 1, OP_GroupNormalization, name, 0);
    if (n < 0 || !dsl_check_positive(x.model, OP_GroupNormalization, name, "groups", groups)) return (LatheValue){0};
    if (n % groups != 0) {
        dsl_problem(x.model, SEV_ERROR, OP_GroupNormalization, name, "groups = %lld must divide the %lld channels of its input %s", (long long)groups, (long long)n, dsl_type_text(x));
        return x;
    }
    DslNode spec = {.op = OP_GroupNormalization, .name = name, .n_in = 3, .in = (LatheValue[]){x, norm_param(x, name, "scale", n, 1), norm_param(x, name, "bias", n, 0)}};
    dsl_int(&spec, AT_GroupNormalization_num_groups, groups);
    dsl_float(&spec, AT_GroupNormalization_epsilon, epsilon_of(o));
    return dsl_node(x.model, &spec);
}

LatheValue lathe_instancenorm(LatheValue x, const char *name, const LatheNorm *o) {
    if (!dsl_check_rank(x, OP_InstanceNormalization, name, 3, RANK_MAX, "[N,C,…]")) return (LatheValue){0};
    int64_t n = dsl_channels(x, 1, OP_InstanceNormalization, name, 0);
    if (n < 0) return (LatheValue){0};
    DslNode spec = {.op = OP_InstanceNormalization, .name = name, .n_in = 3, .in = (LatheValue[]){x, norm_param(x, name, "scale", n, 1), norm_param(x, name, "bias", n, 0)}};
    dsl_float(&spec, AT_InstanceNormalization_epsilon, epsilon_of(o));
    return dsl_node(x.model, &spec);
}

/* ---- embedding and dropout -------------------------------------------------------------------------------------- */
LatheValue lathe_embedding(LatheValue ids, int64_t count, int64_t width, const char *name, LatheInit init) {
    if (lathe_is_null(ids)) return ids;
    LatheModel *m = ids.model;
    bool sane = dsl_check_positive(m, OP_Gather, name, "the number of rows", count);
    sane &= dsl_check_positive(m, OP_Gather, name, "the width", width);
    if (!dtype_is_int(dsl_dtype(ids))) {
        dsl_problem(m, SEV_ERROR, OP_Gather, name, "takes ids of type i32 or i64, its input is %s", dsl_type_text(ids));
        return (LatheValue){0};
    }
    if (!sane) return (LatheValue){0};
    LatheValue table = dsl_layer_param(m, name, "weight", DT_F32, 2, (int64_t[]){count, width}, init, lathe_normal(0, 1));
    return dsl_node(m, &(DslNode){.op = OP_Gather, .name = name, .n_in = 2, .in = (LatheValue[]){table, ids}});
}

LatheValue lathe_dropout(LatheValue x, double rate) {
    if (lathe_is_null(x)) return x;
    if (!(rate >= 0 && rate < 1)) {
        dsl_problem(x.model, SEV_ERROR, OP_Dropout, NULL, "the rate is %g, it must be at least 0 and below 1", rate);
        return x;
    }
    return dsl_node(x.model, &(DslNode){.op = OP_Dropout, .n_in = 2, .in = (LatheValue[]){x, lathe_scalar(x.model, LATHE_F32, rate)}, .recover = &x});
}
