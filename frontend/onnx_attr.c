/* Attributes of ONNX nodes: AttributeProto to the slots of ops.def, and the values of Constant nodes. */
#include "frontend/onnx_import.h"

#define T(name) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name

Onnx__AttributeProto__AttributeType attr_type(const Onnx__AttributeProto *a) {
    if (a->has_type && a->type != T(UNDEFINED)) return a->type;
    if (a->t != NULL) return T(TENSOR);
    if (a->g != NULL) return T(GRAPH);
    if (a->tp != NULL) return T(TYPE_PROTO);
    if (a->sparse_tensor != NULL) return T(SPARSE_TENSOR);
    if (a->n_floats != 0) return T(FLOATS);
    if (a->n_ints != 0) return T(INTS);
    if (a->n_strings != 0) return T(STRINGS);
    if (a->n_tensors != 0) return T(TENSORS);
    if (a->n_graphs != 0) return T(GRAPHS);
    if (a->has_f) return T(FLOAT);
    if (a->has_i) return T(INT);
    if (a->has_s) return T(STRING);
    return T(UNDEFINED);
}

const char *attr_type_text(Onnx__AttributeProto__AttributeType t) {
    switch (t) {
    case T(FLOAT): return "a float";
    case T(INT): return "an int";
    case T(STRING): return "a string";
    case T(TENSOR): return "a tensor";
    case T(GRAPH): return "a graph";
    case T(FLOATS): return "floats";
    case T(INTS): return "ints";
    case T(STRINGS): return "strings";
    case T(TENSORS): return "tensors";
    case T(GRAPHS): return "graphs";
    case T(SPARSE_TENSOR): return "a sparse tensor";
    case T(SPARSE_TENSORS): return "sparse tensors";
    case T(TYPE_PROTO): return "a type";
    case T(TYPE_PROTOS): return "types";
    case T(UNDEFINED): return "empty";
    case _ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE_IS_INT_SIZE: break;
    }
    return "of an unknown kind";
}

static Onnx__AttributeProto__AttributeType wanted(AttrKind kind) {
    switch (kind) {
    case ATTR_INT: return T(INT);
    case ATTR_FLOAT: return T(FLOAT);
    case ATTR_STRING: return T(STRING);
    case ATTR_INTS: return T(INTS);
    case ATTR_FLOATS: return T(FLOATS);
    case ATTR_STRINGS: return T(STRINGS);
    case ATTR_TENSOR: return T(TENSOR);
    case ATTR_GRAPH: return T(GRAPH);
    case ATTR_TYPE: return T(TYPE_PROTO);
    }
    return T(UNDEFINED);
}

static Str bytes_str(Context *cx, ProtobufCBinaryData b) {
    return str_intern_n(cx, b.len != 0 ? (const char *)b.data : "", b.len);
}

static double *widened(Context *cx, size_t n, const float *v) {
    double *d = ARENA_ARRAY(&cx->arena, double, n);
    for (size_t i = 0; i < n; i++) d[i] = (double)v[i];
    return d;
}

static Str *interned(Context *cx, size_t n, const ProtobufCBinaryData *v) {
    Str *s = ARENA_ARRAY(&cx->arena, Str, n);
    for (size_t i = 0; i < n; i++) s[i] = bytes_str(cx, v[i]);
    return s;
}

static bool import_tensor_attr(Importer *im, Loc loc, const Onnx__AttributeProto *a, Attr *slot) {
    TensorBytes t;
    const char *what = str_text(im->cx, str_format(im->cx, "attribute %s", a->name));
    if (!tensor_decode(im->cx, loc, what, &im->external, a->t, &t)) return false;
    ConstData *data = ARENA_NEW(&im->cx->arena, ConstData);
    *data = (ConstData){.data = t.data, .bytes = t.bytes};
    slot->tensor.type = tensor_bytes_type(im->cx, &t);
    slot->tensor.data = data;
    return true;
}

bool import_attr(Importer *im, const Scope *scope, Node *n, AttrSlot slot, const Onnx__AttributeProto *a) {
    Context *cx = im->cx;
    const AttrInfo *info = attr_info(slot);
    Onnx__AttributeProto__AttributeType type = attr_type(a), want = wanted(info->kind);
    bool list = info->kind == ATTR_INTS || info->kind == ATTR_FLOATS || info->kind == ATTR_STRINGS;
    bool message = (type != T(TENSOR) || a->t != NULL) && (type != T(GRAPH) || a->g != NULL) && (type != T(TYPE_PROTO) || a->tp != NULL);
    if ((type != want && !(list && type == T(UNDEFINED))) || !message) {
        diag(cx, SEV_ERROR, n->loc, "attribute %s is %s, it must be %s", info->name, message ? attr_type_text(type) : "empty", attr_type_text(want));
        return false;
    }
    Attr *to = attr_at(n, slot);
    *to = (Attr){.present = true};
    switch (info->kind) {
    case ATTR_INT: to->i = a->i; break;
    case ATTR_FLOAT: to->f = (double)a->f; break;
    case ATTR_STRING: to->s = bytes_str(cx, a->s); break;
    case ATTR_INTS: attr_set_ints(cx, n, slot, a->ints, (uint32_t)a->n_ints); break;
    case ATTR_FLOATS: attr_set_floats(cx, n, slot, widened(cx, a->n_floats, a->floats), (uint32_t)a->n_floats); break;
    case ATTR_STRINGS:
        to->strings.v = interned(cx, a->n_strings, a->strings);
        to->strings.n = (uint32_t)a->n_strings;
        break;
    case ATTR_TENSOR: return import_tensor_attr(im, n->loc, a, to);
    case ATTR_GRAPH: to->graph = import_region(im, scope, n->loc, a->g); break;
    case ATTR_TYPE:
        to->type = import_type(im, n->loc, "attribute type", a->tp, false, "");
        return to->type != NULL;
    }
    return true;
}

/* ---- Constant --------------------------------------------------------------------------------------------------- */
static Value *constant_of(Module *m, DType dtype, bool scalar, size_t n, const void *data) {
    Dim dim = dim_const(m->cx, (int64_t)n);
    return value_const(m, type_tensor(m->cx, dtype, scalar ? 0 : 1, &dim), data, false);
}

Value *import_constant(Importer *im, Loc loc, uint32_t n, const Binding *attr) {
    Context *cx = im->cx;
    for (uint32_t i = 0; i < n; i++) {
        const Onnx__AttributeProto *a = attr[i].attr;
        const char *name = str_text(cx, attr[i].name);
        if (strncmp(name, "value", 5) != 0 && strcmp(name, "sparse_value") != 0) continue;
        TensorBytes t;
        switch (attr_type(a)) {
        case T(TENSOR): return a->t != NULL && tensor_decode(cx, loc, "the constant", &im->external, a->t, &t) ? tensor_bytes_const(im->m, &t) : NULL;
        case T(SPARSE_TENSOR):
            return a->sparse_tensor != NULL && sparse_tensor_decode(cx, loc, "the constant", &im->external, a->sparse_tensor, &t)
                       ? tensor_bytes_const(im->m, &t) : NULL;
        case T(FLOAT): return constant_of(im->m, DT_F32, true, 1, &a->f);
        case T(FLOATS): return constant_of(im->m, DT_F32, false, a->n_floats, a->floats);
        case T(INT): return constant_of(im->m, DT_I64, true, 1, &a->i);
        case T(INTS): return constant_of(im->m, DT_I64, false, a->n_ints, a->ints);
        case T(STRING): return constant_of(im->m, DT_STRING, true, 1, interned(cx, 1, &a->s));
        case T(STRINGS): return constant_of(im->m, DT_STRING, false, a->n_strings, interned(cx, a->n_strings, a->strings));
        case T(UNDEFINED): /* an empty list of the oldest files: the name says of what */
            if (strcmp(name, "value_ints") == 0) return constant_of(im->m, DT_I64, false, 0, "");
            if (strcmp(name, "value_floats") == 0) return constant_of(im->m, DT_F32, false, 0, "");
            break;
        case T(GRAPH): case T(TENSORS): case T(GRAPHS): case T(SPARSE_TENSORS): case T(TYPE_PROTO): case T(TYPE_PROTOS):
        case _ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE_IS_INT_SIZE: break;
        }
        diag(cx, SEV_ERROR, loc, "attribute %s is %s", name, attr_type_text(attr_type(a)));
        return NULL;
    }
    diag(cx, SEV_ERROR, loc, "a constant without a value; one of value, sparse_value, value_float, value_int, ... must be given");
    return NULL;
}
