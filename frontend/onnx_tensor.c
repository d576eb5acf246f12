/* Tensors of ONNX files as plain bytes.
 *
 * A TensorProto keeps its elements in one of seven fields, or in another file. raw_data and external files already have
 * lathe's layout and are borrowed; the typed fields hold each element widened (an f16 as an int32, a c64 as two floats)
 * and are narrowed into the arena. Nothing is allocated before the number of elements the file really holds has been
 * compared with the dims. */
#include "frontend/onnx_tensor.h"

#include <limits.h>
#include <stdlib.h>

#include "frontend/onnx_file.h"

/* A densified sparse tensor is the one thing that may be larger than the file it comes from. */
#define DENSE_BYTES_MAX (UINT64_C(1) << 31)

typedef struct Decode {
    Context *cx;
    Loc loc;
    const char *what;
    ExternalFolder *ext;
} Decode;

#define FAIL(d, ...) (diag((d)->cx, SEV_ERROR, (d)->loc, __VA_ARGS__), false)

/* Rank, dims, number of elements and bytes, none of them overflowing. */
static bool set_dims(const Decode *d, int32_t onnx_dtype, size_t rank, const int64_t *dims, TensorBytes *out) {
    out->dtype = dtype_from_onnx(onnx_dtype);
    if (out->dtype == DT_NONE) return FAIL(d, "%s: element type %d is not known", d->what, onnx_dtype);
    if (rank > RANK_MAX) return FAIL(d, "%s: rank %zu; at most %d is supported", d->what, rank, RANK_MAX);
    out->rank = (uint32_t)rank;
    out->numel = 1;
    for (size_t i = 0; i < rank; i++) {
        out->dim[i] = dims[i];
        if (dims[i] < 0) return FAIL(d, "%s: dim %zu is %lld", d->what, i, (long long)dims[i]);
        if (__builtin_mul_overflow(out->numel, dims[i], &out->numel)) return FAIL(d, "%s: the number of elements overflows", d->what);
    }
    uint64_t bits;
    if (__builtin_mul_overflow((uint64_t)out->numel, (uint64_t)dtype_bits(out->dtype), &bits) || bits > SIZE_MAX - 7)
        return FAIL(d, "%s: the number of bytes overflows", d->what);
    out->bytes = out->dtype == DT_STRING ? (size_t)out->numel * sizeof(Str) : (size_t)((bits + 7) / 8);
    return true;
}

/* ---- bytes that already have the layout ------------------------------------------------------------------------- */
static size_t alignment_of(DType dtype) {
    switch (dtype_class(dtype)) {
    case 'C': return dtype_bits(dtype) / 16; /* of the real part */
    default: return dtype_bits(dtype) < 8 ? 1 : dtype_bits(dtype) / 8;
    }
}

static bool only_zero_and_one(const uint8_t *p, size_t n) {
    uint8_t all = 0;
    for (size_t i = 0; i < n; i++) all |= p[i];
    return all <= 1;
}

/* Bits of the last byte that belong to no element. */
static uint8_t padding_bits(const TensorBytes *t) {
    uint32_t used = (uint32_t)((uint64_t)t->numel * dtype_bits(t->dtype) % 8);
    return used == 0 ? 0 : (uint8_t)(0xFFu << used);
}

/* Borrows p, or copies it when it is not aligned or not canonical. */
static void take_bytes(Context *cx, const uint8_t *p, TensorBytes *out) {
    bool is_bool = out->dtype == DT_BOOL && !only_zero_and_one(p, out->bytes);
    uint8_t padding = padding_bits(out);
    bool padded = padding != 0 && (p[out->bytes - 1] & padding) != 0;
    if ((uintptr_t)p % alignment_of(out->dtype) == 0 && !is_bool && !padded) {
        out->data = p;
        return;
    }
    uint8_t *own = arena_alloc(&cx->arena, out->bytes);
    if (out->bytes != 0) memcpy(own, p, out->bytes);
    for (size_t i = 0; is_bool && i < out->bytes; i++) own[i] = own[i] != 0;
    if (padded) own[out->bytes - 1] &= (uint8_t)~padding;
    out->data = own;
}

static bool take_raw(const Decode *d, const ProtobufCBinaryData *raw, TensorBytes *out) {
    if (raw->len != out->bytes)
        return FAIL(d, "%s: raw_data has %zu bytes, its type and shape need %zu", d->what, raw->len, out->bytes);
    take_bytes(d->cx, raw->data, out);
    return true;
}

/* ---- external data ---------------------------------------------------------------------------------------------- */
const char *folder_of(Context *cx, const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? "" : arena_strdup(&cx->arena, path, (size_t)(slash - path) + 1);
}

static bool parse_u64(const char *text, uint64_t *value) {
    if (*text < '0' || *text > '9') return false;
    char *end;
    unsigned long long v = strtoull(text, &end, 10);
    *value = v;
    return *end == 0 && v != ULLONG_MAX;
}

static bool leaves_folder(const char *location) {
    if (location[0] == '/' || location[0] == 0) return true;
    for (const char *p = location; *p != 0;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.') return true;
        p += n + (p[n] == '/');
    }
    return false;
}

/* Symbolic links may point anywhere inside the folder, and nowhere else. */
static bool resolves_inside(const char *folder, const char *path) {
    char *root = realpath(folder[0] == 0 ? "." : folder, NULL), *file = realpath(path, NULL);
    size_t n = root != NULL ? strlen(root) : 0;
    bool inside = root != NULL && file != NULL && strncmp(root, file, n) == 0 && (file[n] == '/' || (n == 1 && root[0] == '/'));
    free(root);
    free(file);
    return inside;
}

static bool external_file(const Decode *d, const char *location, FileBytes *out) {
    Context *cx = d->cx;
    Str name = str_intern(cx, location);
    for (uint32_t i = 0; i < d->ext->files.n; i++) {
        if (d->ext->files.v[i].name != name) continue;
        *out = (FileBytes){d->ext->files.v[i].data, d->ext->files.v[i].size};
        return true;
    }
    if (leaves_folder(location)) return FAIL(d, "%s: external data \"%s\" is not inside the model's folder", d->what, location);
    Writer w = {.arena = &cx->arena};
    cw_printf(&w, "%s%s", d->ext->folder, location);
    const char *path = cw_cstr(&w);
    char *exists = realpath(path, NULL);
    free(exists);
    if (exists != NULL && !resolves_inside(d->ext->folder, path))
        return FAIL(d, "%s: external data \"%s\" is a link out of the model's folder", d->what, location);
    if (!file_load(cx, path, out)) return false;
    struct ExternalFile file = {name, out->data, out->size};
    vec_push(&cx->arena, &d->ext->files, file);
    return true;
}

static bool take_external(const Decode *d, const Onnx__TensorProto *t, TensorBytes *out) {
    const char *location = NULL;
    uint64_t offset = 0, length = out->bytes;
    for (size_t i = 0; i < t->n_external_data; i++) {
        const char *key = t->external_data[i]->key, *value = t->external_data[i]->value;
        if (key == NULL || value == NULL) continue;
        bool ok = true;
        if (strcmp(key, "location") == 0) location = value;
        if (strcmp(key, "offset") == 0) ok = parse_u64(value, &offset);
        if (strcmp(key, "length") == 0) ok = parse_u64(value, &length);
        if (!ok) return FAIL(d, "%s: external data has %s \"%s\", not a number", d->what, key, value);
    }
    if (location == NULL) return FAIL(d, "%s: external data without a location", d->what);
    if (d->ext == NULL || d->ext->folder == NULL) return FAIL(d, "%s: external data is not allowed here", d->what);
    if (length != out->bytes)
        return FAIL(d, "%s: external data has %llu bytes, its type and shape need %zu", d->what, (unsigned long long)length, out->bytes);
    FileBytes file;
    if (!external_file(d, location, &file)) return false;
    if (offset > file.size || length > file.size - offset)
        return FAIL(d, "%s: external data at %llu + %llu is past the end of \"%s\" (%zu bytes)", d->what, (unsigned long long)offset,
                    (unsigned long long)length, location, file.size);
    take_bytes(d->cx, file.data + offset, out);
    return true;
}

/* ---- the typed fields ------------------------------------------------------------------------------------------- */
static bool count_is(const Decode *d, const char *field, size_t found, uint64_t needed) {
    if (found == needed) return true;
    return FAIL(d, "%s: %s has %zu entries, its shape needs %llu", d->what, field, found, (unsigned long long)needed);
}

static void *own_bytes(const Decode *d, TensorBytes *out) {
    void *p = arena_alloc(&d->cx->arena, out->bytes);
    out->data = p;
    return p;
}

/* int32_data: one entry per element of 8, 16 or 32 bits, one per byte of a packed type. */
static bool take_int32(const Decode *d, const Onnx__TensorProto *t, TensorBytes *out) {
    uint32_t bits = dtype_bits(out->dtype);
    if (!count_is(d, "int32_data", t->n_int32_data, bits < 8 ? out->bytes : (uint64_t)out->numel)) return false;
    if (bits == 32) {
        out->data = t->int32_data;
    } else if (bits == 16) {
        uint16_t *p = own_bytes(d, out);
        for (size_t i = 0; i < t->n_int32_data; i++) p[i] = (uint16_t)t->int32_data[i];
    } else {
        uint8_t *p = arena_alloc(&d->cx->arena, out->bytes);
        for (size_t i = 0; i < t->n_int32_data; i++) p[i] = (uint8_t)t->int32_data[i];
        take_bytes(d->cx, p, out);
    }
    return true;
}

static bool take_uint64(const Decode *d, const Onnx__TensorProto *t, TensorBytes *out) {
    if (!count_is(d, "uint64_data", t->n_uint64_data, (uint64_t)out->numel)) return false;
    if (out->dtype == DT_U64) {
        out->data = t->uint64_data;
        return true;
    }
    uint32_t *p = own_bytes(d, out);
    for (size_t i = 0; i < t->n_uint64_data; i++) p[i] = (uint32_t)t->uint64_data[i];
    return true;
}

static bool take_strings(const Decode *d, const Onnx__TensorProto *t, TensorBytes *out) {
    if (!count_is(d, "string_data", t->n_string_data, (uint64_t)out->numel)) return false;
    Str *p = own_bytes(d, out);
    for (size_t i = 0; i < t->n_string_data; i++)
        p[i] = str_intern_n(d->cx, t->string_data[i].len != 0 ? (const char *)t->string_data[i].data : "", t->string_data[i].len);
    return true;
}

static bool take_typed(const Decode *d, const Onnx__TensorProto *t, TensorBytes *out) {
    uint64_t n = (uint64_t)out->numel;
    switch (out->dtype) {
    case DT_F32: out->data = t->float_data; return count_is(d, "float_data", t->n_float_data, n);
    case DT_C64: out->data = t->float_data; return count_is(d, "float_data", t->n_float_data, 2 * n);
    case DT_F64: out->data = t->double_data; return count_is(d, "double_data", t->n_double_data, n);
    case DT_C128: out->data = t->double_data; return count_is(d, "double_data", t->n_double_data, 2 * n);
    case DT_I64: out->data = t->int64_data; return count_is(d, "int64_data", t->n_int64_data, n);
    case DT_U32: case DT_U64: return take_uint64(d, t, out);
    case DT_STRING: return take_strings(d, t, out);
    case DT_U8: case DT_I8: case DT_U16: case DT_I16: case DT_I32: case DT_BOOL: case DT_F16: case DT_BF16: case DT_F8E4M3FN:
    case DT_F8E4M3FNUZ: case DT_F8E5M2: case DT_F8E5M2FNUZ: case DT_U4: case DT_I4: case DT_F4E2M1: case DT_F8E8M0: case DT_U2: case DT_I2:
        return take_int32(d, t, out);
    case DT_NONE: case DT_COUNT: break;
    }
    return false;
}

bool tensor_decode(Context *cx, Loc loc, const char *what, ExternalFolder *ext, const Onnx__TensorProto *t, TensorBytes *out) {
    Decode d = {cx, loc, what, ext};
    *out = (TensorBytes){0};
    if (!set_dims(&d, t->data_type, t->n_dims, t->dims, out)) return false;
    if (t->segment != NULL) return FAIL(&d, "%s: tensors stored in segments are not supported", what);
    bool ok;
    if (t->has_data_location && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        if (out->dtype == DT_STRING) return FAIL(&d, "%s: strings cannot be external data", what);
        ok = take_external(&d, t, out);
    } else if (t->has_raw_data && out->dtype != DT_STRING && (t->raw_data.len != 0 || out->numel == 0)) {
        ok = take_raw(&d, &t->raw_data, out);
    } else {
        ok = take_typed(&d, t, out);
    }
    if (out->data == NULL) out->data = ""; /* no elements */
    return ok;
}

/* ---- sparse tensors --------------------------------------------------------------------------------------------- */
/* The linear position of entry i: given as such, or as one index per dim. -1: outside the tensor. */
static int64_t sparse_position(const TensorBytes *indices, const TensorBytes *dense, int64_t i) {
    const int64_t *index = indices->data;
    if (indices->rank == 1) return index[i] >= 0 && index[i] < dense->numel ? index[i] : -1;
    int64_t at = 0;
    for (uint32_t k = 0; k < dense->rank; k++) {
        int64_t x = index[i * dense->rank + k];
        if (x < 0 || x >= dense->dim[k]) return -1;
        at = at * dense->dim[k] + x;
    }
    return at;
}

static void put_element(const TensorBytes *values, int64_t from, uint8_t *dense, int64_t to) {
    uint32_t bits = dtype_bits(values->dtype);
    if (values->dtype == DT_STRING) bits = 8 * sizeof(Str);
    const uint8_t *source = values->data;
    if (bits >= 8) {
        memcpy(dense + to * (bits / 8), source + from * (bits / 8), bits / 8);
        return;
    }
    uint32_t x = source[from * bits / 8] >> (from * bits % 8) & ((1u << bits) - 1);
    uint32_t shift = (uint32_t)(to * bits % 8), mask = ((1u << bits) - 1) << shift;
    dense[to * bits / 8] = (uint8_t)((dense[to * bits / 8] & ~mask) | x << shift);
}

bool sparse_tensor_decode(Context *cx, Loc loc, const char *what, ExternalFolder *ext, const Onnx__SparseTensorProto *t, TensorBytes *out) {
    Decode d = {cx, loc, what, ext};
    TensorBytes values, indices = {0};
    if (t->values == NULL) return FAIL(&d, "%s: a sparse tensor without values", what);
    if (!tensor_decode(cx, loc, what, ext, t->values, &values)) return false;
    *out = (TensorBytes){0};
    if (!set_dims(&d, t->values->data_type, t->n_dims, t->dims, out)) return false;
    if (out->bytes > DENSE_BYTES_MAX) return FAIL(&d, "%s: the sparse tensor has %zu bytes when dense", what, out->bytes);
    if (values.numel != 0) {
        if (t->indices == NULL) return FAIL(&d, "%s: a sparse tensor without indices", what);
        if (!tensor_decode(cx, loc, what, ext, t->indices, &indices)) return false;
        bool linear = indices.rank == 1 && indices.dim[0] == values.numel;
        bool full = indices.rank == 2 && indices.dim[0] == values.numel && indices.dim[1] == out->rank;
        if (values.rank != 1 || indices.dtype != DT_I64 || !(linear || full))
            return FAIL(&d, "%s: the indices of a sparse tensor are i64[NNZ] or i64[NNZ,rank]", what);
    }
    uint8_t *dense = own_bytes(&d, out);
    for (int64_t i = 0; i < values.numel; i++) {
        int64_t at = sparse_position(&indices, out, i);
        if (at < 0) return FAIL(&d, "%s: index %lld of a sparse tensor is outside it", what, (long long)i);
        put_element(&values, i, dense, at);
    }
    return true;
}

/* ---- as IR ------------------------------------------------------------------------------------------------------ */
const Type *tensor_bytes_type(Context *cx, const TensorBytes *t) {
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = dim_const(cx, t->dim[i]);
    return type_tensor(cx, t->dtype, t->rank, dim);
}

Value *tensor_bytes_const(Module *m, const TensorBytes *t) {
    return value_const(m, tensor_bytes_type(m->cx, t), t->data, true);
}
