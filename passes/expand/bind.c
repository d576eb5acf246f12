/* Operators whose result sizes come from operands that only the run knows:
 *
 *     %y = Tile(%x, %repeats)             %s = Mul(Shape(%x), %repeats)
 *                                   ->    %b = BindDims(%s) {type = f32[Tile_0, Tile_1]}
 *                                         %y = Tile(%x, %repeats)
 *
 * BindDims stands in front of the operator and gives the runtime symbols of its type their values (or checks what the
 * file declared), so that all later kernels can use them. */
#include "passes/expand/bind.h"

#include "passes/rules.h"

Value *bind_dims(Module *m, Node *at, Value *sizes, const Type *t) {
    Node *n = node_new(m, at->graph, at, OP_BindDims, 1, &sizes, 1);
    n->loc = at->loc;
    attr_at(n, AT_BindDims_type)->present = true;
    attr_at(n, AT_BindDims_type)->type = t;
    node_infer(m, n);
    return n->out[0];
}

bool bind_checks(const Context *cx, const Node *n) {
    const Type *t = attr_at(n, AT_BindDims_type)->type;
    for (uint32_t i = 0; i < t->rank; i++) {
        const DimNode *d = dim_node(cx, t->dim[i]);
        if (d->kind != DIM_SYMBOL || !d->runtime) return true;
    }
    return false;
}

Value *bind_vector(Module *m, Node *at, Value *scalar) {
    Node *cast = node_new(m, at->graph, at, OP_Cast, 1, &scalar, 1);
    cast->loc = at->loc;
    attr_set_i(cast, AT_Cast_to, dtype_to_onnx(DT_I64));
    node_infer(m, cast);
    return build2(m, at, OP_Reshape, cast->out[0], value_const_i64(m, 1, (int64_t[]){1}));
}

/* A kernel made for the purpose computes what ViewSizes says about operator n (passes/lower/sizes.c). */
static Value *view_sizes(Module *m, Node *n) {
    Node *s = node_new(m, n->graph, n, OP_ViewSizes, n->n_in, n->in, 1);
    s->loc = n->loc;
    attr_set_s(s, AT_ViewSizes_of, str_intern(m->cx, op_info(n->op)->name));
    if (n->op == OP_Split) attr_set_i(s, AT_ViewSizes_axis, attr_i(n, AT_Split_axis));
    if (n->op == OP_Reshape) attr_set_i(s, AT_ViewSizes_allowzero, attr_i(n, AT_Reshape_allowzero));
    node_infer(m, s);
    return s->out[0];
}

static Value *range_size(Module *m, Node *n) { /* max(ceil((limit - start) / delta), 0) */
    Value *as[3];
    bool real = dtype_is_float(n->in[0]->type->dtype);
    for (int i = 0; i < 3; i++) {
        Node *cast = node_new(m, n->graph, n, OP_Cast, 1, &n->in[i], 1);
        attr_set_i(cast, AT_Cast_to, dtype_to_onnx(real && n->in[i]->type->dtype != DT_F64 ? DT_F32 : DT_F64));
        node_infer(m, cast);
        as[i] = cast->out[0];
    }
    Value *steps = build1(m, n, OP_Ceil, build2(m, n, OP_Div, build2(m, n, OP_Sub, as[1], as[0]), as[2]));
    Value *count = build2(m, n, OP_Max, steps, value_const_scalar(m, steps->type->dtype, 0));
    return bind_vector(m, n, count);
}

static bool known(Module *m, const Node *n, uint32_t i) {
    uint32_t count;
    return i >= n->n_in || n->in[i] == NULL || value_dims(m, n->in[i], &count) != NULL;
}

static bool constant(Module *m, const Node *n, uint32_t i) {
    uint32_t count;
    if (i >= n->n_in || n->in[i] == NULL) return true;
    const Dim *v = value_dims(m, n->in[i], &count);
    for (uint32_t k = 0; v != NULL && k < count; k++)
        if (!dim_is_const(m->cx, v[k])) return false;
    return v != NULL;
}

/* Do the sizes of n's outputs follow from what the compiler knows? */
static bool sizes_known(Module *m, const Node *n) {
    switch ((Op)n->op) {
    case OP_Slice:
        if (!known(m, n, 1) || !known(m, n, 2) || !constant(m, n, 3) || !constant(m, n, 4)) return false;
        for (uint32_t i = 0; i < n->out[0]->type->rank; i++) { /* a bound that may be of either sign */
            const DimNode *d = dim_node(m->cx, n->out[0]->type->dim[i]);
            if (d->kind == DIM_SYMBOL && d->runtime && n->out[0]->type->dim[i] != n->in[0]->type->dim[i]) return false;
        }
        return true;
    case OP_Pad: return known(m, n, 1) && constant(m, n, 3);
    case OP_Range: return known(m, n, 0) && known(m, n, 1) && constant(m, n, 2);
    case OP_Squeeze: case OP_Unsqueeze: case OP_ExpandDims: return constant(m, n, 1);
    case OP_ConstantOfShape: case OP_HannWindow: case OP_HammingWindow: case OP_BlackmanWindow: return known(m, n, 0);
    case OP_MelWeightMatrix: return known(m, n, 0) && known(m, n, 1);
    default: return known(m, n, 1);
    }
}

static const Type *dims_type(Module *m, uint32_t n, const Dim *dim) { return type_tensor(m->cx, DT_I64, n, dim); }

static Value *center_crop_sizes(Module *m, Node *n, const Type **t) {
    const Attr *axes = attr_at(n, AT_CenterCropPad_axes);
    Dim dim[RANK_MAX];
    uint32_t count = (uint32_t)dim_value(m->cx, n->in[1]->type->dim[0]), rank = n->out[0]->type->rank;
    for (uint32_t k = 0; k < count; k++) {
        int64_t axis = axes->present ? axes->ints.v[k] : (int64_t)k;
        dim[k] = n->out[0]->type->dim[axis < 0 ? axis + rank : axis];
    }
    *t = dims_type(m, count, dim);
    return n->in[1];
}

/* The sizes as a vector, and the type whose dims they are. */
static Value *sizes_of(Module *m, Node *n, const Type **t) {
    const Type *y = n->out[0] != NULL ? n->out[0]->type : n->out[1]->type;
    *t = y;
    switch ((Op)n->op) {
    case OP_ConstantOfShape: return n->in[0];
    case OP_CenterCropPad: return center_crop_sizes(m, n, t);
    case OP_Range: return range_size(m, n);
    case OP_HannWindow: case OP_HammingWindow: case OP_BlackmanWindow: return bind_vector(m, n, n->in[0]);
    case OP_OneHot: case OP_TopK: {
        int64_t axis = attr_i(n, n->op == OP_OneHot ? AT_OneHot_axis : AT_TopK_axis);
        *t = dims_type(m, 1, &y->dim[axis < 0 ? axis + y->rank : axis]);
        return bind_vector(m, n, n->in[1]);
    }
    case OP_Split: {
        Dim dim[RANK_MAX];
        int64_t axis = attr_i(n, AT_Split_axis);
        for (uint32_t k = 0; k < n->n_out; k++) { /* parts nobody reads have no type: their size is what the operand says */
            const Type *part = n->out[k] != NULL ? n->out[k]->type : NULL;
            dim[k] = part != NULL ? part->dim[axis < 0 ? axis + part->rank : axis] : dim_runtime(m->cx, "Split", 0, INT64_MAX);
        }
        *t = dims_type(m, n->n_out, dim);
        return view_sizes(m, n);
    }
    case OP_MelWeightMatrix: {
        Value *bins = bind_vector(m, n, n->in[0]), *length = bind_vector(m, n, n->in[1]);
        Value *half = build2(m, n, OP_Div, length, value_const_i64(m, 1, (int64_t[]){2}));
        Value *rows = build2(m, n, OP_Add, half, value_const_i64(m, 1, (int64_t[]){1}));
        Node *concat = node_new(m, n->graph, n, OP_Concat, 2, (Value *[]){rows, bins}, 1);
        attr_set_i(concat, AT_Concat_axis, 0);
        node_infer(m, concat);
        return concat->out[0];
    }
    default: return view_sizes(m, n);
    }
}

bool expand_bind(Module *m, Node *n, Value **out) {
    (void)out;
    if (sizes_known(m, n) || (n->prev != NULL && n->prev->op == OP_BindDims)) return false;
    const Type *t;
    Value *sizes = sizes_of(m, n, &t);
    if (sizes != NULL && sizes->type != NULL) bind_dims(m, n, sizes, t);
    return false; /* the operator itself stays */
}
