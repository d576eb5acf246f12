/* Shape and movement in the C DSL. Shapes, axes and paddings are constants of the graph, as ONNX wants them. */
#include "frontend/dsl.h"

/* op(x, i64 constant of n elements) */
static LatheValue with_ints(Op op, LatheValue x, uint32_t n, const int64_t *v) {
    if (lathe_is_null(x)) return x;
    return dsl_node(x.model, &(DslNode){.op = op, .n_in = 2, .in = (LatheValue[]){x, dsl_i64(x.model, n, v)}});
}

LatheValue lathe_reshape(LatheValue x, uint32_t rank, const int64_t *shape) { return with_ints(OP_Reshape, x, rank, shape); }
LatheValue lathe_expand(LatheValue x, uint32_t rank, const int64_t *shape) { return with_ints(OP_Expand, x, rank, shape); }
LatheValue lathe_tile(LatheValue x, const int64_t *repeats) { return with_ints(OP_Tile, x, lathe_rank(x), repeats); }
LatheValue lathe_squeeze(LatheValue x, int64_t axis) { return with_ints(OP_Squeeze, x, 1, &axis); }
LatheValue lathe_unsqueeze(LatheValue x, int64_t axis) { return with_ints(OP_Unsqueeze, x, 1, &axis); }

LatheValue lathe_flatten(LatheValue x, int64_t axis) {
    DslNode spec = {.op = OP_Flatten, .n_in = 1, .in = &x};
    dsl_int(&spec, AT_Flatten_axis, axis);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_transpose(LatheValue x, const int64_t *permutation) {
    DslNode spec = {.op = OP_Transpose, .n_in = 1, .in = &x};
    if (permutation != NULL) dsl_ints(&spec, AT_Transpose_perm, lathe_rank(x), permutation);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_concat(uint32_t n, const LatheValue *values, int64_t axis) {
    if (n == 0) return (LatheValue){0};
    DslNode spec = {.op = OP_Concat, .n_in = n, .in = values};
    dsl_int(&spec, AT_Concat_axis, axis);
    return dsl_node(values[0].model, &spec);
}

LatheValue lathe_stack(uint32_t n, const LatheValue *values, int64_t axis) {
    enum { MOST = 64 };
    LatheValue rows[MOST];
    if (n == 0 || lathe_is_null(values[0])) return (LatheValue){0};
    if (n > MOST) { /* stacks of stacks, joined */
        LatheValue halves[2] = {lathe_stack(n / 2, values, axis), lathe_stack(n - n / 2, values + n / 2, axis)};
        return lathe_concat(2, halves, axis);
    }
    for (uint32_t i = 0; i < n; i++) rows[i] = lathe_unsqueeze(values[i], axis);
    return lathe_concat(n, rows, axis);
}

void lathe_split(LatheValue x, int64_t axis, uint32_t n, LatheValue *parts) {
    DslNode spec = {.op = OP_Split, .n_in = 1, .n_out = n, .in = &x};
    dsl_int(&spec, AT_Split_axis, axis);
    dsl_int(&spec, AT_Split_num_outputs, n);
    dsl_node_outputs(x.model, &spec, parts);
}

void lathe_split_sizes(LatheValue x, int64_t axis, uint32_t n, const int64_t *sizes, LatheValue *parts) {
    for (uint32_t i = 0; i < n; i++) parts[i] = (LatheValue){0};
    if (lathe_is_null(x) || n == 0) return;
    DslNode spec = {.op = OP_Split, .n_in = 2, .n_out = n, .in = (LatheValue[]){x, dsl_i64(x.model, n, sizes)}};
    dsl_int(&spec, AT_Split_axis, axis);
    dsl_node_outputs(x.model, &spec, parts);
}

LatheValue lathe_slice(LatheValue x, int64_t axis, int64_t start, int64_t end, int64_t step) {
    if (lathe_is_null(x)) return x;
    LatheModel *m = x.model;
    LatheValue in[5] = {x, dsl_i64(m, 1, &start), dsl_i64(m, 1, &end), dsl_i64(m, 1, &axis), dsl_i64(m, 1, &step)};
    return dsl_node(m, &(DslNode){.op = OP_Slice, .n_in = 5, .in = in});
}

LatheValue lathe_pad(LatheValue x, const int64_t *pads, LathePadMode mode, double value) {
    static const char *const modes[] = {[LATHE_PAD_CONSTANT] = "constant", [LATHE_PAD_REFLECT] = "reflect", [LATHE_PAD_EDGE] = "edge", [LATHE_PAD_WRAP] = "wrap"};
    if (lathe_is_null(x)) return x;
    bool fill = mode == LATHE_PAD_CONSTANT;
    LatheValue in[3] = {x, dsl_i64(x.model, 2 * lathe_rank(x), pads), fill ? lathe_scalar_like(x, value) : (LatheValue){0}};
    DslNode spec = {.op = OP_Pad, .n_in = fill ? 3 : 2, .in = in};
    dsl_string(&spec, AT_Pad_mode, modes[mode]);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_triangle(LatheValue x, bool upper, int64_t diagonal) {
    if (lathe_is_null(x)) return x;
    DslNode spec = {.op = OP_Trilu, .n_in = 2, .in = (LatheValue[]){x, dsl_i64_scalar(x.model, diagonal)}, .recover = &x};
    dsl_int(&spec, AT_Trilu_upper, upper);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_upsample2d(LatheValue x, int64_t factor, bool bilinear) {
    if (!dsl_check_rank(x, OP_Resize, NULL, 4, 4, "[N,C,H,W]") || !dsl_check_positive(x.model, OP_Resize, NULL, "the factor", factor)) return (LatheValue){0};
    float scale[4] = {1, 1, (float)factor, (float)factor};
    LatheValue scales = lathe_const(x.model, LATHE_F32, 1, (int64_t[]){4}, scale);
    DslNode spec = {.op = OP_Resize, .n_in = 3, .in = (LatheValue[]){x, {0}, scales}, .optional = 2};
    dsl_string(&spec, AT_Resize_mode, bilinear ? "linear" : "nearest");
    dsl_string(&spec, AT_Resize_coordinate_transformation_mode, bilinear ? "half_pixel" : "asymmetric");
    if (!bilinear) dsl_string(&spec, AT_Resize_nearest_mode, "floor");
    return dsl_node(x.model, &spec);
}

/* ---- by index --------------------------------------------------------------------------------------------------- */
LatheValue lathe_gather(LatheValue x, LatheValue indices, int64_t axis) {
    DslNode spec = {.op = OP_Gather, .n_in = 2, .in = (LatheValue[]){x, indices}};
    dsl_int(&spec, AT_Gather_axis, axis);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_gather_elements(LatheValue x, LatheValue indices, int64_t axis) {
    DslNode spec = {.op = OP_GatherElements, .n_in = 2, .in = (LatheValue[]){x, indices}};
    dsl_int(&spec, AT_GatherElements_axis, axis);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_scatter_elements(LatheValue x, LatheValue indices, LatheValue updates, int64_t axis, bool add) {
    DslNode spec = {.op = OP_ScatterElements, .n_in = 3, .in = (LatheValue[]){x, indices, updates}, .recover = &x};
    dsl_int(&spec, AT_ScatterElements_axis, axis);
    dsl_string(&spec, AT_ScatterElements_reduction, add ? "add" : "none");
    return dsl_node(x.model, &spec);
}

LatheValue lathe_positions(LatheValue x, int64_t axis) {
    if (!dsl_check_rank(x, OP_Range, NULL, 1, RANK_MAX, "a tensor of one dim or more")) return (LatheValue){0};
    LatheModel *m = x.model;
    if (axis < 0) axis += lathe_rank(x);
    DslNode spec = {.op = OP_Shape, .n_in = 1, .in = &x};
    dsl_int(&spec, AT_Shape_start, axis);
    dsl_int(&spec, AT_Shape_end, axis + 1);
    LatheValue size = lathe_squeeze(dsl_node(m, &spec), 0);
    return dsl_node(m, &(DslNode){.op = OP_Range, .n_in = 3, .in = (LatheValue[]){dsl_i64_scalar(m, 0), size, dsl_i64_scalar(m, 1)}});
}

LatheValue lathe_one_hot(LatheValue indices, int64_t depth, LatheDType dtype) {
    if (lathe_is_null(indices)) return indices;
    LatheModel *m = indices.model;
    LatheValue ends[2] = {lathe_scalar(m, dtype, 0), lathe_scalar(m, dtype, 1)};
    LatheValue in[3] = {indices, dsl_i64_scalar(m, depth), lathe_stack(2, ends, 0)};
    return dsl_node(m, &(DslNode){.op = OP_OneHot, .n_in = 3, .in = in});
}
