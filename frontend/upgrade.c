/* Rewrites of old operator versions (frontend/upgrade.def): each function takes one node one step further.
 *
 *     Clip-6 {min = 0, max = 6} (x)   ->   Clip(x, 0, 6)
 *
 * Types are not known yet (shapes are inferred after the import), so a constant that must have the type of an input is
 * cast like it, and what depends on a rank is computed by Shape; both fold away once the types are there. */
#include "frontend/upgrade.h"

#include <math.h>

typedef bool UpgradeFn(RawNode *n);

/* ---- attributes ------------------------------------------------------------------------------------------------- */
static Binding *find_attr(RawNode *n, const char *name) {
    for (uint32_t i = 0; i < n->attr.n; i++)
        if (strcmp(str_text(n->im->cx, n->attr.v[i].name), name) == 0) return &n->attr.v[i];
    return NULL;
}

static void drop_attr(RawNode *n, const char *name) {
    Binding *b = find_attr(n, name);
    if (b == NULL) return;
    uint32_t i = (uint32_t)(b - n->attr.v);
    memmove(b, b + 1, (n->attr.n - i - 1) * sizeof *b);
    n->attr.n--;
}

#define T(name) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name

/* Removes an attribute and gives its contents; *found NULL if it is not there. False: of another kind, after diag(). */
static bool take_attr(RawNode *n, const char *name, Onnx__AttributeProto__AttributeType want, const Onnx__AttributeProto **found) {
    Binding *b = find_attr(n, name);
    *found = NULL;
    if (b == NULL) return true;
    const Onnx__AttributeProto *a = b->attr;
    drop_attr(n, name);
    bool empty_list = attr_type(a) == T(UNDEFINED) && (want == T(INTS) || want == T(FLOATS));
    if (attr_type(a) != want && !empty_list) {
        diag(n->im->cx, SEV_ERROR, n->loc, "attribute %s is %s, it must be %s", name, attr_type_text(attr_type(a)), attr_type_text(want));
        return false;
    }
    *found = a;
    return true;
}

static bool take_int(RawNode *n, const char *name, int64_t otherwise, int64_t *value) {
    const Onnx__AttributeProto *a;
    if (!take_attr(n, name, T(INT), &a)) return false;
    *value = a != NULL ? a->i : otherwise;
    return true;
}

static bool missing(RawNode *n, const char *name) {
    diag(n->im->cx, SEV_ERROR, n->loc, "attribute %s is missing", name);
    return false;
}

static Onnx__AttributeProto *new_attr(RawNode *n, const char *name, Onnx__AttributeProto__AttributeType type) {
    Context *cx = n->im->cx;
    drop_attr(n, name);
    Onnx__AttributeProto *a = ARENA_NEW(&cx->arena, Onnx__AttributeProto);
    onnx__attribute_proto__init(a);
    a->name = arena_strdup(&cx->arena, name, strlen(name));
    a->has_type = true;
    a->type = type;
    Binding b = {a, str_intern(cx, name), n->scope};
    vec_push(&cx->arena, &n->attr, b);
    return a;
}

static void set_int(RawNode *n, const char *name, int64_t i) {
    new_attr(n, name, T(INT))->i = i;
}

static void set_float(RawNode *n, const char *name, float f) {
    new_attr(n, name, T(FLOAT))->f = f;
}

static void set_string(RawNode *n, const char *name, const char *text) {
    Onnx__AttributeProto *a = new_attr(n, name, T(STRING));
    a->s.len = strlen(text);
    a->s.data = (uint8_t *)arena_strdup(&n->im->cx->arena, text, a->s.len);
}

static bool attr_is_text(RawNode *n, const char *name, const char *text) {
    const Binding *b = find_attr(n, name);
    size_t size = strlen(text);
    return b != NULL && attr_type(b->attr) == T(STRING) && b->attr->s.len == size && memcmp(b->attr->s.data, text, size) == 0;
}

/* ---- values and nodes ------------------------------------------------------------------------------------------- */
static Value *input(const RawNode *n, uint32_t i) {
    return i < n->in.n ? n->in.v[i] : NULL;
}

static void set_input(RawNode *n, uint32_t i, Value *v) {
    while (n->in.n <= i) vec_push(&n->im->cx->arena, &n->in, NULL);
    n->in.v[i] = v;
}

static Value *ints(RawNode *n, size_t count, const int64_t *v) {
    return value_const_i64(n->im->m, (uint32_t)count, v);
}

static Value *int1(RawNode *n, int64_t i) {
    return ints(n, 1, &i);
}

static Value *emit(RawNode *n, Op op, uint32_t n_in, Value *const *in) {
    Node *node = node_new(n->im->m, n->scope->graph, NULL, op, n_in, in, 1);
    node->loc = n->loc;
    return node->out[0];
}

static Value *emit1(RawNode *n, Op op, Value *a) { return emit(n, op, 1, &a); }
static Value *emit2(RawNode *n, Op op, Value *a, Value *b) { return emit(n, op, 2, (Value *[]){a, b}); }

/* The number x in the type of v. */
static Value *number_like(RawNode *n, double x, Value *v) {
    if (v->type != NULL && v->type->kind == TYPE_TENSOR) return value_const_scalar(n->im->m, v->type->dtype, x);
    return emit2(n, OP_CastLike, value_const_scalar(n->im->m, DT_F32, x), v);
}

static bool rank_known(const Value *v) {
    return v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN;
}

/* The rank of v, as i64[1]. */
static Value *rank_of(RawNode *n, Value *v) {
    return rank_known(v) ? int1(n, v->type->rank) : emit1(n, OP_Shape, emit1(n, OP_Shape, v));
}

/* i64 ones, as many as count (i64[1]) says. */
static Value *ones(RawNode *n, Value *count) {
    Context *cx = n->im->cx;
    Value *v = emit1(n, OP_ConstantOfShape, count), *one = int1(n, 1);
    Attr *a = attr_at(v->def, AT_ConstantOfShape_value);
    *a = (Attr){.present = true};
    a->tensor.type = one->type;
    a->tensor.data = one->data;
    CHECK(cx, one->data != NULL);
    return v;
}

/* b with ones after its dims, so that its first dim stands at a's axis. */
static Value *align(RawNode *n, Value *a, Value *b, int64_t axis) {
    Value *from_end;
    if (axis < 0) from_end = int1(n, -axis);
    else if (rank_known(a)) from_end = int1(n, a->type->rank - axis);
    else from_end = emit2(n, OP_Sub, rank_of(n, a), int1(n, axis));
    Value *count = rank_known(b) && value_is_const(from_end) ? int1(n, const_i64(from_end, 0) - b->type->rank)
                                                              : emit2(n, OP_Sub, from_end, rank_of(n, b));
    if (value_is_const(count) && const_i64(count, 0) == 0) return b;
    Node *shape = emit2(n, OP_Concat, emit1(n, OP_Shape, b), ones(n, count))->def;
    attr_set_i(shape, AT_Concat_axis, 0);
    return emit2(n, OP_Reshape, b, shape->out[0]);
}

static Value **results(RawNode *n) {
    return n->result = ARENA_ARRAY(&n->im->cx->arena, Value *, n->n_out);
}

/* Moves an ints attribute to input i. required: an error if it is not there. */
static bool ints_to_input(RawNode *n, const char *name, uint32_t i, bool required) {
    const Onnx__AttributeProto *a;
    if (!take_attr(n, name, T(INTS), &a)) return false;
    if (a == NULL) return !required || missing(n, name);
    set_input(n, i, ints(n, a->n_ints, a->ints));
    return true;
}

/* ---- attributes that went away ---------------------------------------------------------------------------------- */
static bool up_drop_consumed_inputs(RawNode *n) {
    drop_attr(n, "consumed_inputs");
    return true;
}

static bool up_drop_broadcast(RawNode *n) {
    drop_attr(n, "broadcast");
    return true;
}

/* Whether Y is wanted is seen by its having a name. */
static bool up_drop_output_sequence(RawNode *n) {
    drop_attr(n, "output_sequence");
    return true;
}

static bool up_axis_broadcast(RawNode *n) {
    const Onnx__AttributeProto *axis;
    int64_t broadcast;
    if (!take_int(n, "broadcast", 0, &broadcast) || !take_attr(n, "axis", T(INT), &axis)) return false;
    if (broadcast != 0 && axis != NULL && input(n, 0) != NULL && input(n, 1) != NULL) set_input(n, 1, align(n, input(n, 0), input(n, 1), axis->i));
    return true;
}

/* The slope was one number or one per channel (dim 1). */
static bool up_channel_slope(RawNode *n) {
    Context *cx = n->im->cx;
    Value *x = input(n, 0), *slope = input(n, 1);
    if (x == NULL || slope == NULL) return true;
    bool one = rank_known(slope) && type_is_static(cx, slope->type) && dim_value(cx, type_numel(cx, slope->type)) == 1;
    if (!one) set_input(n, 1, align(n, x, slope, 1));
    return true;
}

/* ---- attributes that changed ------------------------------------------------------------------------------------ */
static bool up_cast_to_text(RawNode *n) {
    static const char *const names[] = {"UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL",
                                        "FLOAT16", "DOUBLE", "UINT32", "UINT64", "COMPLEX64", "COMPLEX128"};
    for (int64_t i = 1; i < (int64_t)(sizeof names / sizeof *names); i++) {
        if (!attr_is_text(n, "to", names[i])) continue;
        set_int(n, "to", i);
        return true;
    }
    return true; /* an int already, or wrong: reported with the other attributes */
}

static bool up_concat_axis(RawNode *n) {
    if (find_attr(n, "axis") == NULL) set_int(n, "axis", 1);
    return true;
}

static bool up_float_p(RawNode *n) {
    const Onnx__AttributeProto *a;
    if (find_attr(n, "p") != NULL && attr_type(find_attr(n, "p")->attr) == T(INT)) return true;
    if (!take_attr(n, "p", T(FLOAT), &a)) return false;
    if (a == NULL) return true;
    if (!(fabsf(a->f) < 1e6f) || a->f != rintf(a->f)) {
        diag(n->im->cx, SEV_ERROR, n->loc, "attribute p is %g, only whole numbers are supported", (double)a->f);
        return false;
    }
    set_int(n, "p", (int64_t)a->f);
    return true;
}

static bool up_grid_mode(RawNode *n) {
    if (attr_is_text(n, "mode", "bilinear")) set_string(n, "mode", "linear");
    if (attr_is_text(n, "mode", "bicubic")) set_string(n, "mode", "cubic");
    return true;
}

static bool up_roi_half_pixel(RawNode *n) {
    set_string(n, "coordinate_transformation_mode", "output_half_pixel");
    return true;
}

static bool up_selu_constants(RawNode *n) {
    if (find_attr(n, "alpha") == NULL) set_float(n, "alpha", 1.6732f);
    if (find_attr(n, "gamma") == NULL) set_float(n, "gamma", 1.0507f);
    return true;
}

static bool up_scatter(RawNode *n) {
    n->op = "ScatterElements";
    return true;
}

static bool up_dynamic_slice(RawNode *n) {
    n->op = "Slice";
    return true;
}

/* ---- attributes that became inputs ------------------------------------------------------------------------------ */
static bool up_axes_to_input(RawNode *n) {
    return ints_to_input(n, "axes", 1, strcmp(n->op, "Unsqueeze") == 0);
}

static bool up_shape_to_input(RawNode *n) {
    return ints_to_input(n, "shape", 1, true);
}

static bool up_paddings(RawNode *n) {
    Binding *b = find_attr(n, "paddings");
    if (b != NULL) b->name = str_intern(n->im->cx, "pads");
    return true;
}

static bool up_pads_to_inputs(RawNode *n) {
    const Onnx__AttributeProto *value;
    if (!ints_to_input(n, "pads", 1, true) || !take_attr(n, "value", T(FLOAT), &value)) return false;
    if (value != NULL && value->f != 0 && input(n, 0) != NULL) set_input(n, 2, number_like(n, (double)value->f, input(n, 0)));
    return true;
}

static bool up_slice_to_inputs(RawNode *n) {
    return ints_to_input(n, "starts", 1, true) && ints_to_input(n, "ends", 2, true) && ints_to_input(n, "axes", 3, false);
}

static bool up_split_to_input(RawNode *n) {
    return ints_to_input(n, "split", 1, false);
}

static bool up_split_count(RawNode *n) {
    if (input(n, 1) == NULL) set_int(n, "num_outputs", n->n_out);
    return true;
}

static bool up_k_to_input(RawNode *n) {
    const Onnx__AttributeProto *a;
    if (!take_attr(n, "k", T(INT), &a)) return false;
    if (a == NULL) return missing(n, "k");
    set_input(n, 1, int1(n, a->i));
    return true;
}

static bool bound_to_input(RawNode *n, const char *name, uint32_t i) {
    const Onnx__AttributeProto *a;
    if (!take_attr(n, name, T(FLOAT), &a)) return false;
    if (a != NULL && input(n, 0) != NULL) set_input(n, i, number_like(n, (double)a->f, input(n, 0)));
    return true;
}

static bool up_clip_bounds(RawNode *n) {
    return bound_to_input(n, "min", 1) && bound_to_input(n, "max", 2);
}

static bool up_dft_axis(RawNode *n) {
    int64_t axis;
    if (!take_int(n, "axis", 1, &axis)) return false;
    set_input(n, 2, value_const(n->im->m, type_tensor(n->im->cx, DT_I64, 0, NULL), &axis, false));
    return true;
}

/* ---- Dropout, BatchNormalization, GroupNormalization ------------------------------------------------------------ */
/* Inference, as everywhere else: before 7 is_test = 0 (the default) asked for training, which no file of the time meant. */
static bool up_dropout(RawNode *n) {
    drop_attr(n, "is_test");
    drop_attr(n, "ratio"); /* without training_mode nothing is dropped, whatever the ratio */
    if (n->n_out < 2 || !n->wanted[1] || n->version >= 10 || input(n, 0) == NULL) return true;
    Node *node = import_build(n);
    if (node == NULL) return false;
    Value **out = results(n); /* the mask had the type of the data */
    out[0] = node->out[0];
    out[1] = emit2(n, OP_CastLike, node->out[1], input(n, 0));
    return true;
}

/* spatial = 0: scale, bias, mean and variance per element of one sample, x[N, ...] with params [...]. */
static bool up_spatial(RawNode *n) {
    int64_t spatial;
    if (!take_int(n, "spatial", 1, &spatial)) return false;
    if (spatial != 0) return true;
    const Onnx__AttributeProto *a;
    if (!take_attr(n, "epsilon", T(FLOAT), &a)) return false;
    for (uint32_t i = 0; i < 5; i++) {
        if (input(n, i) != NULL) continue;
        diag(n->im->cx, SEV_ERROR, n->loc, "input %u is missing", i);
        return false;
    }
    Value *x = input(n, 0), *epsilon = number_like(n, a != NULL ? (double)a->f : (double)1e-5f, x);
    Value *deviation = emit1(n, OP_Sqrt, emit2(n, OP_Add, input(n, 4), epsilon));
    Value *normal = emit2(n, OP_Div, emit2(n, OP_Sub, x, input(n, 3)), deviation);
    results(n)[0] = emit2(n, OP_Add, emit2(n, OP_Mul, normal, input(n, 1)), input(n, 2));
    return true;
}

/* More than one output used to mean training. The saved statistics of outputs 3 and 4 are not there any more; reading
 * one of them is reported as a value that is not defined. */
static bool up_training_outputs(RawNode *n) {
    int64_t is_test;
    if (!take_int(n, "is_test", 0, &is_test)) return false;
    if (n->n_out == 1) return true;
    uint32_t n_out = n->n_out;
    bool training = is_test == 0;
    set_int(n, "training_mode", training);
    n->n_out = training ? 3 : 1;
    bool *wanted = ARENA_ARRAY(&n->im->cx->arena, bool, 3);
    for (uint32_t i = 0; i < n->n_out && i < n_out; i++) wanted[i] = n->wanted[i];
    n->wanted = wanted;
    Node *node = import_build(n);
    if (node == NULL) return false;
    uint32_t built = n->n_out;
    n->n_out = n_out;
    Value **out = results(n);
    for (uint32_t i = 0; i < built && i < n_out; i++) out[i] = node->out[i];
    return true;
}

/* scale and bias had one entry per group, now one per channel. */
static bool up_group_scales(RawNode *n) {
    Binding *b = find_attr(n, "num_groups");
    if (b == NULL || attr_type(b->attr) != T(INT) || b->attr->i <= 0 || input(n, 0) == NULL) return true; /* reported later */
    int64_t groups = b->attr->i;
    Node *channels = emit1(n, OP_Shape, input(n, 0))->def;
    attr_set_i(channels, AT_Shape_start, 1);
    attr_set_i(channels, AT_Shape_end, 2);
    Value *per_group = emit2(n, OP_Div, channels->out[0], int1(n, groups));
    Node *shape = emit2(n, OP_Concat, int1(n, groups), per_group)->def;
    attr_set_i(shape, AT_Concat_axis, 0);
    for (uint32_t i = 1; i <= 2; i++) {
        if (input(n, i) == NULL) continue;
        Value *column = emit2(n, OP_Reshape, input(n, i), ints(n, 2, (int64_t[]){groups, 1}));
        set_input(n, i, emit2(n, OP_Reshape, emit2(n, OP_Expand, column, shape->out[0]), int1(n, -1)));
    }
    return true;
}

/* ---- Softmax, LogSoftmax, Hardmax ------------------------------------------------------------------------------- */
static bool up_as_matrix(RawNode *n) {
    int64_t axis;
    Value *x = input(n, 0);
    if (!take_int(n, "axis", 1, &axis)) return false;
    set_int(n, "axis", -1);
    if (x == NULL || axis == -1 || (rank_known(x) && axis == (int64_t)x->type->rank - 1)) return true;
    Node *matrix = emit1(n, OP_Flatten, x)->def;
    attr_set_i(matrix, AT_Flatten_axis, axis);
    set_input(n, 0, matrix->out[0]);
    Node *node = import_build(n);
    if (node == NULL) return false;
    results(n)[0] = emit2(n, OP_Reshape, node->out[0], emit1(n, OP_Shape, x));
    return true;
}

/* ---- Tile ------------------------------------------------------------------------------------------------------- */
/* Tile-1 (x, tiles, axis) repeats one axis: ones everywhere else. */
static bool up_tile_axis(RawNode *n) {
    Value *x = input(n, 0), *tiles = input(n, 1), *axis = input(n, 2);
    if (x == NULL || tiles == NULL || axis == NULL) return true;
    Value *i64[2] = {tiles, axis};
    for (int i = 0; i < 2; i++) {
        Node *cast = emit1(n, OP_Cast, i64[i])->def;
        attr_set_i(cast, AT_Cast_to, dtype_to_onnx(DT_I64));
        i64[i] = emit2(n, OP_Reshape, cast->out[0], int1(n, 1));
    }
    n->in.n = 1;
    set_input(n, 1, emit(n, OP_ScatterElements, 3, (Value *[]){ones(n, rank_of(n, x)), i64[1], i64[0]}));
    return true;
}

/* ---- Upsample and Resize ---------------------------------------------------------------------------------------- */
static bool set_scales(RawNode *n, size_t count, const float *scale) {
    Dim dim = dim_const(n->im->cx, (int64_t)count);
    set_input(n, 1, value_const(n->im->m, type_tensor(n->im->cx, DT_F32, 1, &dim), scale, false));
    return true;
}

static bool up_upsample_sides(RawNode *n) {
    const Onnx__AttributeProto *h, *w;
    if (find_attr(n, "scales") != NULL) { /* files of the time have the next version's attribute too */
        const Onnx__AttributeProto *a;
        return take_attr(n, "scales", T(FLOATS), &a) && set_scales(n, a->n_floats, a->floats);
    }
    if (!take_attr(n, "height_scale", T(FLOAT), &h) || !take_attr(n, "width_scale", T(FLOAT), &w)) return false;
    if (h == NULL || w == NULL) return missing(n, h == NULL ? "height_scale" : "width_scale");
    return set_scales(n, 4, (float[]){1, 1, h->f, w->f});
}

static bool up_upsample_scales(RawNode *n) {
    const Onnx__AttributeProto *a;
    if (!take_attr(n, "scales", T(FLOATS), &a)) return false;
    return a != NULL ? set_scales(n, a->n_floats, a->floats) : missing(n, "scales");
}

/* Upsample was Resize without the choice of coordinates; nearest took the floor. */
static bool up_upsample(RawNode *n) {
    n->op = "Resize";
    Value *scales = input(n, 1);
    set_input(n, 1, NULL);
    set_input(n, 2, scales);
    if (attr_is_text(n, "mode", "bilinear")) set_string(n, "mode", "linear");
    set_string(n, "coordinate_transformation_mode", "asymmetric");
    set_string(n, "nearest_mode", "floor");
    return true;
}

static bool any_scale(const Value *scales, int64_t count, bool smaller) {
    for (int64_t i = 0; i < count; i++)
        if (smaller ? const_f64(scales, i) < 1 : const_f64(scales, i) > 1) return true;
    return false;
}

/* The scales on one side of 1, the others replaced by 1. */
static Value *scales_of_side(RawNode *n, const Value *scales, int64_t count, bool smaller) {
    float *v = ARENA_ARRAY(&n->im->cx->arena, float, count);
    for (int64_t i = 0; i < count; i++) v[i] = (const_f64(scales, i) < 1) == smaller ? (float)const_f64(scales, i) : 1.0f;
    return value_const(n->im->m, scales->type, v, true);
}

/* Resize-10 (x, scales): asymmetric coordinates; nearest took the ceiling where it shrinks and the floor where it grows,
 * so a node that does both becomes two. Scales that are not constant are taken to grow. */
static bool up_resize_asymmetric(RawNode *n) {
    Context *cx = n->im->cx;
    Value *scales = input(n, 1);
    set_input(n, 1, NULL);
    set_input(n, 2, scales);
    set_string(n, "coordinate_transformation_mode", "asymmetric");
    bool nearest = find_attr(n, "mode") == NULL || attr_is_text(n, "mode", "nearest");
    bool known = value_is_const(scales) && scales->type->dtype == DT_F32 && scales->type->rank == 1;
    int64_t count = known ? dim_value(cx, scales->type->dim[0]) : 0;
    bool shrinks = any_scale(scales, count, true), grows = any_scale(scales, count, false);
    set_string(n, "nearest_mode", "floor");
    if (!nearest || !shrinks) return true;
    set_string(n, "nearest_mode", "ceil");
    if (!grows) return true;
    set_input(n, 2, scales_of_side(n, scales, count, true));
    Node *shrink = import_build(n);
    if (shrink == NULL) return false;
    set_input(n, 0, shrink->out[0]);
    set_input(n, 2, scales_of_side(n, scales, count, false));
    set_string(n, "nearest_mode", "floor");
    return true;
}

static bool is_empty_constant(const Context *cx, const Value *v) {
    return value_is_const(v) && v->type->rank == 1 && dim_value(cx, v->type->dim[0]) == 0;
}

/* Before inputs could be left out, empty tensors stood for them; files of all versions still have those. */
static bool up_resize_empty_inputs(RawNode *n) {
    for (uint32_t i = 1; i < n->in.n; i++)
        if (is_empty_constant(n->im->cx, n->in.v[i])) n->in.v[i] = NULL;
    return true;
}

/* ---- Scan ------------------------------------------------------------------------------------------------------- */
/* Scan-8 (sequence_lens, states, sequences) had a batch in front of every input: one Scan over the batch whose body is
 * the Scan over the sequences. */
static bool up_batched_scan(RawNode *n) {
    Importer *im = n->im;
    Binding *body = find_attr(n, "body"), *directions = find_attr(n, "directions");
    int64_t n_scan;
    if (n->in.n == 0 || body == NULL) return true; /* reported as an old or new one alike */
    if (input(n, 0) != NULL) {
        diag(im->cx, SEV_ERROR, n->loc, "sequence_lens of Scan-8 is not supported");
        return false;
    }
    if (!take_int(n, "num_scan_inputs", 0, &n_scan)) return false;
    uint32_t n_in = n->in.n - 1;
    Scope middle = {.outer = n->scope, .frame = n->scope->frame};
    middle.graph = graph_new(im->m, n->scope->graph, "batch");
    for (uint32_t i = 0; i < n_in; i++) graph_add_input(im->m, middle.graph, NULL, unique_name(im, str_intern(im->cx, "sample")));
    Node *inner = node_new(im->m, middle.graph, NULL, OP_Scan, n_in, middle.graph->in, n->n_out);
    inner->loc = n->loc;
    attr_set_i(inner, AT_Scan_num_scan_inputs, n_scan);
    if (!import_attr(im, &middle, inner, AT_Scan_body, body->attr)) return false;
    if (directions != NULL && !import_attr(im, &middle, inner, AT_Scan_scan_input_directions, directions->attr)) return false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        inner->out[i]->name = unique_name(im, str_intern(im->cx, "sample"));
        graph_add_output(im->m, middle.graph, inner->out[i]);
    }
    Node *outer = node_new(im->m, n->scope->graph, NULL, OP_Scan, n_in, n->in.v + 1, n->n_out);
    outer->loc = n->loc;
    attr_set_i(outer, AT_Scan_num_scan_inputs, n_in);
    attr_set_graph(outer, AT_Scan_body, middle.graph);
    memcpy(results(n), outer->out, n->n_out * sizeof *outer->out);
    return true;
}

/* ---- operators that were never standard, or are no more ----------------------------------------------------------- */
static bool take_float(RawNode *n, const char *name, float otherwise, float *value) {
    const Onnx__AttributeProto *a;
    if (!take_attr(n, name, T(FLOAT), &a)) return false;
    *value = a != NULL ? a->f : otherwise;
    return true;
}

/* Their one input; NULL after diag(). */
static Value *only_input(RawNode *n) {
    if (n->in.n == 1 && n->in.v[0] != NULL && n->n_out == 1) return n->in.v[0];
    diag(n->im->cx, SEV_ERROR, n->loc, "%u inputs and %u outputs, it takes 1 and 1", n->in.n, n->n_out);
    return NULL;
}

/* alpha * x + beta */
static bool up_affine(RawNode *n) {
    float alpha, beta;
    Value *x = only_input(n);
    if (x == NULL || !take_float(n, "alpha", 1, &alpha) || !take_float(n, "beta", 0, &beta)) return false;
    Value *scaled = emit2(n, OP_Mul, x, number_like(n, (double)alpha, x));
    results(n)[0] = emit2(n, OP_Add, scaled, number_like(n, (double)beta, x));
    return true;
}

/* alpha * tanh(beta * x), alpha * softplus(beta * x) */
static bool up_scaled_function(RawNode *n) {
    float alpha, beta;
    bool tanh = strcmp(n->op, "ScaledTanh") == 0;
    Value *x = only_input(n);
    if (x == NULL || !take_float(n, "alpha", 1, &alpha) || !take_float(n, "beta", 1, &beta)) return false;
    Value *inner = emit1(n, tanh ? OP_Tanh : OP_Softplus, emit2(n, OP_Mul, x, number_like(n, (double)beta, x)));
    results(n)[0] = emit2(n, OP_Mul, inner, number_like(n, (double)alpha, x));
    return true;
}

/* scale * x[N,C,H,W] + bias[C] */
static bool up_image_scaler(RawNode *n) {
    float scale;
    const Onnx__AttributeProto *bias;
    Value *x = only_input(n);
    if (x == NULL || !take_float(n, "scale", 1, &scale) || !take_attr(n, "bias", T(FLOATS), &bias)) return false;
    Value *y = emit2(n, OP_Mul, x, number_like(n, (double)scale, x));
    if (bias != NULL) {
        Dim dim[3] = {dim_const(n->im->cx, (int64_t)bias->n_floats), dim_const(n->im->cx, 1), dim_const(n->im->cx, 1)};
        Value *b = value_const(n->im->m, type_tensor(n->im->cx, DT_F32, 3, dim), bias->floats, false);
        y = emit2(n, OP_Add, y, emit2(n, OP_CastLike, b, x));
    }
    results(n)[0] = y;
    return true;
}

/* Cuts border = left, top, right, bottom off x[N,C,H,W]; scale = height, width instead of right and bottom. */
static bool up_crop(RawNode *n) {
    const Onnx__AttributeProto *border, *scale;
    Value *x = only_input(n);
    if (x == NULL || !take_attr(n, "border", T(INTS), &border) || !take_attr(n, "scale", T(INTS), &scale)) return false;
    if (border == NULL || border->n_ints != 4 || (scale != NULL && scale->n_ints != 2)) {
        diag(n->im->cx, SEV_ERROR, n->loc, "attribute border must have 4 entries, scale none or 2");
        return false;
    }
    const int64_t *b = border->ints;
    int64_t start[2] = {b[1], b[0]}, end[2];
    for (int i = 0; i < 2; i++) {
        int64_t cut = b[3 - i];
        if (scale != NULL && __builtin_add_overflow(start[i], scale->ints[i], &end[i])) end[i] = INT64_MAX;
        if (scale == NULL) end[i] = cut > 0 ? -cut : INT64_MAX;
    }
    results(n)[0] = emit(n, OP_Slice, 4, (Value *[]){x, ints(n, 2, start), ints(n, 2, end), ints(n, 2, (int64_t[]){2, 3})});
    return true;
}

static bool up_rms_normalization(RawNode *n) {
    n->op = "RMSNormalization";
    return true;
}

/* ---- ai.onnx.ml ------------------------------------------------------------------------------------------------- */
/* LabelEncoder-1 {classes_strings}: text to its index, or the index to its text, by the type of the input. */
static bool up_label_classes(RawNode *n) {
    const Onnx__AttributeProto *classes;
    if (find_attr(n, "classes_strings") == NULL) return true;
    if (!take_attr(n, "classes_strings", T(STRINGS), &classes)) return false;
    const Value *x = input(n, 0);
    bool from_text = x != NULL && x->type != NULL && x->type->kind == TYPE_TENSOR && x->type->dtype == DT_STRING;
    Onnx__AttributeProto *text = new_attr(n, from_text ? "keys_strings" : "values_strings", T(STRINGS));
    Onnx__AttributeProto *index = new_attr(n, from_text ? "values_int64s" : "keys_int64s", T(INTS));
    text->n_strings = index->n_ints = classes->n_strings;
    text->strings = classes->strings;
    index->ints = ARENA_ARRAY(&n->im->cx->arena, int64_t, classes->n_strings);
    for (size_t i = 0; i < classes->n_strings; i++) index->ints[i] = (int64_t)i;
    return true;
}

/* ---- the table -------------------------------------------------------------------------------------------------- */
static const struct UpgradeRow { OpDomain domain; const char *op; int64_t first, last; UpgradeFn *rewrite; } rows[] = {
#define UPGRADE(dom, op, first, last, rewrite) {DOMAIN_##dom, op, first, last, up_##rewrite},
#include "frontend/upgrade.def"
#undef UPGRADE
};

bool upgrade_node(RawNode *n) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows && n->result == NULL; i++) {
        const struct UpgradeRow *r = &rows[i];
        if (n->domain != r->domain || n->version < r->first || n->version > r->last) continue;
        if (r->op[0] != '*' && strcmp(r->op, n->op) != 0) continue;
        if (!r->rewrite(n)) return false;
    }
    return true;
}
