/* Declared types of ONNX files: TypeProto to Type, dim_param to symbols.
 *
 *     x: tensor(float), shape ["batch", 3, ?, ?]   ->   f32[batch,3,x_d2,x_d3]
 *
 * A symbol's name becomes a C identifier in emitted code, so anything else in a dim_param is replaced, and two params
 * that fall together stay apart: "a-b" and "a_b" are a_b and a_b_2. */
#include "frontend/onnx_import.h"

/* Names a symbol cannot have: keywords of C and C++, and the functions of dim expressions in IR text. */
static const char *const reserved[] = {
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch", "char", "class", "compl",
    "concept", "const", "consteval", "constexpr", "constinit", "const_cast", "continue", "co_await", "co_return", "co_yield", "decltype",
    "default", "delete", "do", "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "float", "for", "friend",
    "goto", "if", "inline", "int", "long", "main", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr", "operator", "or",
    "or_eq", "private", "protected", "public", "register", "reinterpret_cast", "requires", "restrict", "return", "short", "signed", "sizeof",
    "static", "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local", "throw", "true", "try", "typedef",
    "typeid", "typename", "typeof", "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq",
    "min", "max", "mod", "floordiv", "NULL",
};

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static Str identifier(Context *cx, const char *text) {
    Writer w = {.arena = &cx->scratch};
    /* No leading underscore either: those names belong to the C implementation. */
    while (*text != 0 && !is_letter(*text) && !is_digit(*text)) text++;
    if (!is_letter(*text)) cw_printf(&w, "d");
    for (size_t i = 0; text[i] != 0 && i < 60; i++) cw_printf(&w, "%c", is_letter(text[i]) || is_digit(text[i]) ? text[i] : '_');
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strcmp(cw_cstr(&w), reserved[i]) == 0) cw_printf(&w, "_");
    return str_intern(cx, cw_cstr(&w));
}

static bool symbol_exists(const Context *cx, Str name) {
    for (uint32_t i = 0; i < dim_symbol_count(cx); i++)
        if (dim_node(cx, dim_symbol_at(cx, i))->name == name) return true;
    return false;
}

/* A symbol nothing else has. */
static Str fresh_symbol(Context *cx, const char *text) {
    Str base = identifier(cx, text), name = base;
    for (uint32_t i = 2; symbol_exists(cx, name); i++) name = str_format(cx, "%s_%u", str_text(cx, base), i);
    return name;
}

static Dim param_dim(Importer *im, const char *param) {
    Context *cx = im->cx;
    Str text = str_intern(cx, param);
    Str name = (Str)(uintptr_t)id_map_get(&im->params, text);
    if (name == 0) {
        name = fresh_symbol(cx, param);
        id_map_put(&cx->arena, &im->params, text, (void *)(uintptr_t)name);
    }
    return dim_symbol(cx, name, 1, INT64_MAX);
}

/* Params like "?" stand for dims that need not be equal; a name has a letter or digit. */
static bool is_name(const char *param) {
    while (*param != 0 && !is_letter(*param) && !is_digit(*param)) param++;
    return *param != 0;
}

static const Type *import_tensor_type(Importer *im, Loc loc, const char *what, int32_t elem, const Onnx__TensorShapeProto *shape, bool symbols,
                                      const char *base) {
    Context *cx = im->cx;
    DType dtype = dtype_from_onnx(elem);
    if (dtype == DT_NONE) {
        if (elem != 0) diag(cx, SEV_ERROR, loc, "%s: element type %d is not known", what, elem);
        return NULL;
    }
    if (shape == NULL) return type_tensor(cx, dtype, RANK_UNKNOWN, NULL);
    if (shape->n_dim > RANK_MAX) {
        diag(cx, SEV_ERROR, loc, "%s: rank %zu; at most %d is supported", what, shape->n_dim, RANK_MAX);
        return NULL;
    }
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < shape->n_dim; i++) {
        const Onnx__TensorShapeProto__Dimension *d = shape->dim[i];
        bool constant = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value >= 0;
        bool named = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && d->dim_param != NULL && is_name(d->dim_param);
        if (constant) dim[i] = dim_const(cx, d->dim_value);
        else if (!symbols) dim[i] = 0;
        else if (named) dim[i] = param_dim(im, d->dim_param);
        else dim[i] = dim_symbol(cx, fresh_symbol(cx, str_text(cx, str_format(cx, "%s_d%u", base, i))), 1, INT64_MAX);
    }
    return type_tensor(cx, dtype, (uint32_t)shape->n_dim, dim);
}

static const Type *import_map_type(Importer *im, Loc loc, const char *what, const Onnx__TypeProto__Map *map, bool symbols, const char *base) {
    const Type *value = import_type(im, loc, what, map->value_type, false, "");
    DType key = dtype_from_onnx(map->key_type);
    if (value == NULL || value->kind != TYPE_TENSOR || key == DT_NONE) return NULL;
    Dim size = symbols ? dim_symbol(im->cx, fresh_symbol(im->cx, str_text(im->cx, str_format(im->cx, "%s_size", base))), 1, INT64_MAX) : 0;
    return type_map(im->cx, key, value->dtype, size);
}

const Type *import_type(Importer *im, Loc loc, const char *what, const Onnx__TypeProto *t, bool symbols, const char *base) {
    if (t == NULL) return NULL;
    const Type *elem;
    switch (t->value_case) {
    case ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE:
        return import_tensor_type(im, loc, what, t->tensor_type->elem_type, t->tensor_type->shape, symbols, base);
    case ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE: /* its elements may differ in size: no symbols */
        elem = import_type(im, loc, what, t->sequence_type->elem_type, false, base);
        /* A shape of no dims is how exporters write an element of unknown shape. */
        if (elem != NULL && elem->kind == TYPE_TENSOR && elem->rank == 0) elem = type_tensor(im->cx, elem->dtype, RANK_UNKNOWN, NULL);
        return elem != NULL ? type_sequence(im->cx, elem, 0) : NULL;
    case ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE:
        elem = import_type(im, loc, what, t->optional_type->elem_type, symbols, base);
        return elem != NULL ? type_optional(im->cx, elem) : NULL;
    case ONNX__TYPE_PROTO__VALUE_MAP_TYPE: return import_map_type(im, loc, what, t->map_type, symbols, base);
    case ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE:
        diag(im->cx, SEV_ERROR, loc, "%s has a sparse tensor type; tensors, sequences, optionals and maps are supported", what);
        return NULL;
    case ONNX__TYPE_PROTO__VALUE_OPAQUE_TYPE:
        diag(im->cx, SEV_ERROR, loc, "%s has an opaque type; tensors, sequences, optionals and maps are supported", what);
        return NULL;
    case ONNX__TYPE_PROTO__VALUE__NOT_SET: case _ONNX__TYPE_PROTO__VALUE__CASE_IS_INT_SIZE: return NULL;
    }
    return NULL;
}
