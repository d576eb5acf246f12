#include "ir/type.h"

typedef struct DTypeInfo { const char *text, *ctype; int32_t onnx; uint16_t bits; char class_letter; DType compute; } DTypeInfo;
static const DTypeInfo dtypes[DT_COUNT] = {
    [DT_NONE] = {"none", "void", 0, 0, 0, DT_NONE},
#define DTYPE(NAME, number, name, width, class, c, comp) [DT_##NAME] = {.text = name, .ctype = c, .onnx = number, .bits = width, .class_letter = #class[0], .compute = DT_##comp},
#include "ir/dtypes.def"
#undef DTYPE
};

const char *dtype_text(DType d) { return dtypes[d].text; }
const char *dtype_ctype(DType d) { return dtypes[d].ctype; }
uint32_t dtype_bits(DType d) { return dtypes[d].bits; }
DType dtype_compute(DType d) { return dtypes[d].compute; }
char dtype_class(DType d) { return dtypes[d].class_letter; }
int32_t dtype_to_onnx(DType d) { return dtypes[d].onnx; }

DType dtype_from_onnx(int32_t number) {
    for (int d = 1; d < DT_COUNT; d++)
        if (dtypes[d].onnx == number) return (DType)d;
    return DT_NONE;
}

DType dtype_from_text(const char *text) {
    for (int d = 1; d < DT_COUNT; d++)
        if (strcmp(dtypes[d].text, text) == 0) return (DType)d;
    return DT_NONE;
}

size_t dtype_bytes(Context *cx, DType d, int64_t n) {
    size_t bits;
    CHECK(cx, n >= 0 && !__builtin_mul_overflow((size_t)n, (size_t)dtypes[d].bits, &bits) && bits <= SIZE_MAX - 7);
    return (bits + 7) / 8;
}

/* Types are few (hundreds): a linear table with a hash in front. */
typedef struct TypeTable {
    const Type **type;
    uint64_t *hash;
    uint32_t n, cap, cap_hash;
} TypeTable;

static uint64_t type_hash(const Type *t) {
    uint64_t h = hash_mix((uint64_t)t->kind * 64 + t->dtype, (uint64_t)t->rank * 64 + t->key_dtype);
    h = hash_mix(h, (uint64_t)(uintptr_t)t->elem);
    h = hash_mix(h, t->length);
    for (uint32_t i = 0; t->kind == TYPE_TENSOR && t->rank != RANK_UNKNOWN && i < t->rank; i++) h = hash_mix(h, t->dim[i]);
    return h;
}

static bool type_equal(const Type *a, const Type *b) {
    if (a->kind != b->kind || a->dtype != b->dtype || a->key_dtype != b->key_dtype || a->rank != b->rank || a->elem != b->elem || a->length != b->length)
        return false;
    return a->kind != TYPE_TENSOR || a->rank == RANK_UNKNOWN || a->rank == 0 || memcmp(a->dim, b->dim, a->rank * sizeof *a->dim) == 0;
}

static const Type *intern(Context *cx, const Type *t) {
    TypeTable *table = cx->types;
    if (table == NULL) table = cx->types = ARENA_NEW(&cx->arena, TypeTable);
    uint64_t h = type_hash(t);
    for (uint32_t i = 0; i < table->n; i++)
        if (table->hash[i] == h && type_equal(table->type[i], t)) return table->type[i];
    Type *own = ARENA_NEW(&cx->arena, Type);
    *own = *t;
    if (t->kind == TYPE_TENSOR && t->rank != RANK_UNKNOWN && t->rank != 0) {
        Dim *dim = ARENA_ARRAY(&cx->arena, Dim, t->rank);
        memcpy(dim, t->dim, t->rank * sizeof *dim);
        own->dim = dim;
    }
    table->hash = vec_grow(&cx->arena, table->hash, table->n, &table->cap_hash, sizeof *table->hash);
    table->type = vec_grow(&cx->arena, table->type, table->n, &table->cap, sizeof *table->type);
    table->hash[table->n] = h;
    table->type[table->n++] = own;
    return own;
}

const Type *type_tensor(Context *cx, DType dtype, uint32_t rank, const Dim *dim) {
    CHECK(cx, rank == RANK_UNKNOWN || rank <= RANK_MAX);
    Type t = {.kind = TYPE_TENSOR, .dtype = dtype, .rank = (uint8_t)rank, .dim = dim};
    return intern(cx, &t);
}

const Type *type_sequence(Context *cx, const Type *elem, Dim length) {
    Type t = {.kind = TYPE_SEQUENCE, .elem = elem, .length = length};
    return intern(cx, &t);
}

const Type *type_optional(Context *cx, const Type *elem) {
    Type t = {.kind = TYPE_OPTIONAL, .elem = elem};
    return intern(cx, &t);
}

const Type *type_map(Context *cx, DType key, DType value, Dim length) {
    Type t = {.kind = TYPE_MAP, .dtype = value, .key_dtype = key, .length = length};
    return intern(cx, &t);
}

void type_print(const Context *cx, Writer *w, const Type *t) {
    if (t == NULL) {
        cw_printf(w, "?");
        return;
    }
    switch (t->kind) {
    case TYPE_TENSOR:
        cw_printf(w, "%s[", dtype_text(t->dtype));
        if (t->rank == RANK_UNKNOWN) cw_printf(w, "*");
        for (uint32_t i = 0; t->rank != RANK_UNKNOWN && i < t->rank; i++) {
            if (i != 0) cw_printf(w, ",");
            dim_print(cx, w, t->dim[i]);
        }
        cw_printf(w, "]");
        return;
    case TYPE_SEQUENCE:
        cw_printf(w, "seq<");
        type_print(cx, w, t->elem);
        if (t->length != 0) {
            cw_printf(w, "; ");
            dim_print(cx, w, t->length);
        }
        cw_printf(w, ">");
        return;
    case TYPE_OPTIONAL:
        cw_printf(w, "optional<");
        type_print(cx, w, t->elem);
        cw_printf(w, ">");
        return;
    case TYPE_MAP:
        cw_printf(w, "map<%s,%s>", dtype_text(t->key_dtype), dtype_text(t->dtype));
        return;
    }
}

Dim type_rows(Context *cx, const Type *t) {
    Dim n = dim_const(cx, 1);
    for (uint32_t i = 0; i + 1 < t->rank; i++) n = dim_mul(cx, n, t->dim[i]);
    return n;
}

Dim type_numel(Context *cx, const Type *t) {
    if (t->kind != TYPE_TENSOR || t->rank == RANK_UNKNOWN) return 0;
    Dim n = dim_const(cx, 1);
    for (uint32_t i = 0; i < t->rank && n != 0; i++) n = dim_mul(cx, n, t->dim[i]);
    return n;
}

bool type_is_static(const Context *cx, const Type *t) {
    if (t == NULL || t->kind != TYPE_TENSOR || t->rank == RANK_UNKNOWN) return false;
    for (uint32_t i = 0; i < t->rank; i++)
        if (!dim_is_const(cx, t->dim[i])) return false;
    return true;
}

bool type_agrees(const Context *cx, const Type *a, const Type *b) {
    if (a == NULL || b == NULL || a == b) return true;
    if (a->kind != b->kind || a->dtype != b->dtype || a->key_dtype != b->key_dtype) return false;
    if (a->kind != TYPE_TENSOR) return type_agrees(cx, a->elem, b->elem);
    if (a->rank == RANK_UNKNOWN || b->rank == RANK_UNKNOWN) return true;
    if (a->rank != b->rank) return false;
    for (uint32_t i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i] && dim_is_const(cx, a->dim[i]) && dim_is_const(cx, b->dim[i])) return false;
    return true;
}

bool type_same_dims(const Type *a, const Type *b) {
    if (a == NULL || b == NULL || a->kind != TYPE_TENSOR || b->kind != TYPE_TENSOR || a->rank != b->rank || a->rank == RANK_UNKNOWN) return false;
    return a->rank == 0 || memcmp(a->dim, b->dim, a->rank * sizeof *a->dim) == 0;
}
