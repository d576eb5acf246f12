/* Values in .pb files, and the choice of the format by the file's ending. */
#include "frontend/tensor_file.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "frontend/onnx_file.h"
#include "frontend/onnx_tensor.h"

static bool ends_with(const char *text, const char *ending) {
    size_t n = strlen(text), k = strlen(ending);
    return n >= k && strcmp(text + n - k, ending) == 0;
}

bool file_save(Context *cx, const char *path, uint32_t n, const void *const *part, const size_t *size) {
    Loc loc = {.file = str_intern(cx, path)};
    FILE *f = fopen(path, "wb");
    bool ok = f != NULL;
    for (uint32_t i = 0; ok && i < n; i++) ok = size[i] == 0 || fwrite(part[i], 1, size[i], f) == size[i];
    int error = errno;
    if (f != NULL && fclose(f) != 0) ok = false, error = errno;
    if (ok) return true;
    if (f != NULL) unlink(path);
    diag(cx, SEV_ERROR, loc, "cannot write: %s", strerror(error));
    return false;
}

/* ---- reading .pb ------------------------------------------------------------------------------------------------ */
static Str name_of(Context *cx, const char *name) {
    return name != NULL && name[0] != 0 ? str_intern(cx, name) : 0;
}

static void take_tensor(HostTensor *out, const TensorBytes *t, Str name) {
    *out = (HostTensor){.kind = HOST_TENSOR, .name = name, .dtype = t->dtype, .rank = t->rank, .numel = t->numel, .bytes = t->bytes};
    memcpy(out->dim, t->dim, sizeof out->dim);
    out->data = (void *)(uintptr_t)t->data;
}

static bool read_tensor(Context *cx, Loc loc, const Onnx__TensorProto *p, HostTensor *out) {
    TensorBytes t;
    if (!tensor_decode(cx, loc, "the tensor", NULL, p, &t)) return false;
    take_tensor(out, &t, name_of(cx, p->name));
    return true;
}

static bool read_sparse(Context *cx, Loc loc, const Onnx__SparseTensorProto *p, HostTensor *out) {
    TensorBytes t;
    if (!sparse_tensor_decode(cx, loc, "the sparse tensor", NULL, p, &t)) return false;
    take_tensor(out, &t, p->values != NULL ? name_of(cx, p->values->name) : 0);
    return true;
}

static bool read_sequence(Context *cx, Loc loc, const Onnx__SequenceProto *p, HostTensor *out);
static bool read_optional(Context *cx, Loc loc, const Onnx__OptionalProto *p, HostTensor *out);

/* The keys as a tensor; the values of a map are a sequence of scalars, made one tensor. */
static bool read_map(Context *cx, Loc loc, const Onnx__MapProto *p, HostTensor *out) {
    *out = (HostTensor){.kind = HOST_MAP, .name = name_of(cx, p->name), .n_elem = 2, .elem = ARENA_ARRAY(&cx->arena, HostTensor, 2)};
    size_t n = p->n_string_keys != 0 ? p->n_string_keys : p->n_keys;
    HostTensor *keys = &out->elem[0], *values = &out->elem[1], list;
    *keys = (HostTensor){.kind = HOST_TENSOR, .dtype = p->n_string_keys != 0 ? DT_STRING : DT_I64, .rank = 1, .dim = {(int64_t)n}, .numel = (int64_t)n};
    if (keys->dtype == DT_STRING) {
        Str *s = ARENA_ARRAY(&cx->arena, Str, n);
        for (size_t i = 0; i < n; i++) s[i] = str_intern_n(cx, (const char *)p->string_keys[i].data, p->string_keys[i].len);
        keys->data = s;
        keys->bytes = n * sizeof *s;
    } else {
        keys->data = p->keys;
        keys->bytes = n * sizeof *p->keys;
    }
    if (p->values == NULL || !read_sequence(cx, loc, p->values, &list)) return p->values == NULL && n == 0;
    if (list.n_elem == 1 && list.elem[0].numel == (int64_t)n) {
        *values = list.elem[0];
        return true;
    }
    bool scalars = list.n_elem == n && n != 0;
    for (uint32_t i = 0; i < list.n_elem; i++)
        scalars = scalars && list.elem[i].numel == 1 && list.elem[i].dtype == list.elem[0].dtype && dtype_bits(list.elem[i].dtype) >= 8;
    if (!scalars) {
        diag(cx, SEV_ERROR, loc, "a map of %zu keys needs as many scalar values of one type", n);
        return false;
    }
    size_t size = list.elem[0].bytes;
    *values = (HostTensor){.kind = HOST_TENSOR, .dtype = list.elem[0].dtype, .rank = 1, .dim = {(int64_t)n}, .numel = (int64_t)n, .bytes = n * size};
    uint8_t *data = arena_array(&cx->arena, n, size);
    for (size_t i = 0; i < n; i++) memcpy(data + i * size, list.elem[i].data, size);
    values->data = data;
    return true;
}

static bool read_sequence(Context *cx, Loc loc, const Onnx__SequenceProto *p, HostTensor *out) {
    size_t n = p->n_tensor_values + p->n_sparse_tensor_values + p->n_sequence_values + p->n_map_values + p->n_optional_values;
    *out = (HostTensor){.kind = HOST_SEQUENCE, .name = name_of(cx, p->name), .elem = ARENA_ARRAY(&cx->arena, HostTensor, n)};
    bool ok = true;
    for (size_t i = 0; ok && i < p->n_tensor_values; i++) ok = read_tensor(cx, loc, p->tensor_values[i], &out->elem[out->n_elem++]);
    for (size_t i = 0; ok && i < p->n_sparse_tensor_values; i++) ok = read_sparse(cx, loc, p->sparse_tensor_values[i], &out->elem[out->n_elem++]);
    for (size_t i = 0; ok && i < p->n_sequence_values; i++) ok = read_sequence(cx, loc, p->sequence_values[i], &out->elem[out->n_elem++]);
    for (size_t i = 0; ok && i < p->n_map_values; i++) ok = read_map(cx, loc, p->map_values[i], &out->elem[out->n_elem++]);
    for (size_t i = 0; ok && i < p->n_optional_values; i++) ok = read_optional(cx, loc, p->optional_values[i], &out->elem[out->n_elem++]);
    return ok;
}

static bool read_optional(Context *cx, Loc loc, const Onnx__OptionalProto *p, HostTensor *out) {
    *out = (HostTensor){.kind = HOST_OPTIONAL, .name = name_of(cx, p->name), .elem = ARENA_ARRAY(&cx->arena, HostTensor, 1)};
    bool ok = true;
    out->n_elem = 1;
    if (p->tensor_value != NULL) ok = read_tensor(cx, loc, p->tensor_value, out->elem);
    else if (p->sparse_tensor_value != NULL) ok = read_sparse(cx, loc, p->sparse_tensor_value, out->elem);
    else if (p->sequence_value != NULL) ok = read_sequence(cx, loc, p->sequence_value, out->elem);
    else if (p->map_value != NULL) ok = read_map(cx, loc, p->map_value, out->elem);
    else if (p->optional_value != NULL) ok = read_optional(cx, loc, p->optional_value, out->elem);
    else out->n_elem = 0;
    return ok;
}

/* Without a type: a tensor has an element type and its data; a sequence read as one has a segment or lacks the data. */
static HostKind guess_kind(Context *cx, FileBytes b) {
    const Onnx__TensorProto *t = message_try(cx, &onnx__tensor_proto__descriptor, b);
    bool has_data = t != NULL && (t->has_raw_data || t->n_dims != 0 || t->n_float_data != 0 || t->n_int32_data != 0 || t->n_int64_data != 0 ||
                                  t->n_double_data != 0 || t->n_uint64_data != 0 || t->n_string_data != 0);
    if (has_data && t->segment == NULL && dtype_from_onnx(t->data_type) != DT_NONE) return HOST_TENSOR;
    return message_try(cx, &onnx__sequence_proto__descriptor, b) != NULL ? HOST_SEQUENCE : HOST_OPTIONAL;
}

static HostKind kind_of(const Type *t) {
    switch (t->kind) {
    case TYPE_TENSOR: return HOST_TENSOR;
    case TYPE_SEQUENCE: return HOST_SEQUENCE;
    case TYPE_OPTIONAL: return HOST_OPTIONAL;
    case TYPE_MAP: return HOST_MAP;
    }
    return HOST_TENSOR;
}

static bool read_pb(Context *cx, Loc loc, FileBytes b, const Type *type, HostTensor *out) {
    if (b.size == 0) { /* every field has its default: what is valid then is an empty sequence or optional */
        *out = (HostTensor){.kind = type != NULL ? kind_of(type) : HOST_SEQUENCE};
        if (out->kind == HOST_SEQUENCE || out->kind == HOST_OPTIONAL) return true;
    }
    const void *p;
    switch (type != NULL ? kind_of(type) : guess_kind(cx, b)) {
    case HOST_TENSOR:
        p = message_parse(cx, loc, &onnx__tensor_proto__descriptor, "an ONNX tensor", b);
        return p != NULL && read_tensor(cx, loc, p, out);
    case HOST_SEQUENCE:
        p = message_parse(cx, loc, &onnx__sequence_proto__descriptor, "an ONNX sequence", b);
        return p != NULL && read_sequence(cx, loc, p, out);
    case HOST_OPTIONAL:
        p = message_parse(cx, loc, &onnx__optional_proto__descriptor, "an ONNX optional", b);
        return p != NULL && read_optional(cx, loc, p, out);
    case HOST_MAP:
        p = message_parse(cx, loc, &onnx__map_proto__descriptor, "an ONNX map", b);
        return p != NULL && read_map(cx, loc, p, out);
    }
    return false;
}

/* ---- writing .pb ------------------------------------------------------------------------------------------------ */
enum { ELEM_TENSOR = 1, ELEM_SEQUENCE = 3, ELEM_MAP = 4, ELEM_OPTIONAL = 5 }; /* SequenceProto and OptionalProto elem_type */

static char *name_text(Context *cx, Str name) {
    return name != 0 ? (char *)(uintptr_t)str_text(cx, name) : NULL;
}

static ProtobufCBinaryData *string_bytes(Context *cx, const HostTensor *t) {
    ProtobufCBinaryData *b = ARENA_ARRAY(&cx->scratch, ProtobufCBinaryData, t->numel);
    for (int64_t i = 0; i < t->numel; i++) {
        Str s = ((const Str *)t->data)[i];
        b[i] = (ProtobufCBinaryData){str_size(cx, s), (uint8_t *)(uintptr_t)str_text(cx, s)};
    }
    return b;
}

static Onnx__TensorProto *tensor_message(Context *cx, const HostTensor *t) {
    Onnx__TensorProto *p = ARENA_NEW(&cx->scratch, Onnx__TensorProto);
    onnx__tensor_proto__init(p);
    p->name = name_text(cx, t->name);
    p->has_data_type = true;
    p->data_type = dtype_to_onnx(t->dtype);
    p->n_dims = t->rank;
    p->dims = ARENA_ARRAY(&cx->scratch, int64_t, t->rank);
    memcpy(p->dims, t->dim, t->rank * sizeof *p->dims);
    if (t->dtype == DT_STRING) {
        p->n_string_data = (size_t)t->numel;
        p->string_data = string_bytes(cx, t);
    } else {
        p->has_raw_data = true;
        p->raw_data = (ProtobufCBinaryData){t->bytes, t->data};
    }
    return p;
}

static Onnx__SequenceProto *sequence_message(Context *cx, const HostTensor *t);

static Onnx__MapProto *map_message(Context *cx, const HostTensor *t) {
    const HostTensor *keys = &t->elem[0];
    Onnx__MapProto *p = ARENA_NEW(&cx->scratch, Onnx__MapProto);
    onnx__map_proto__init(p);
    p->name = name_text(cx, t->name);
    p->has_key_type = true;
    p->key_type = dtype_to_onnx(keys->dtype);
    if (keys->dtype == DT_STRING) p->n_string_keys = (size_t)keys->numel, p->string_keys = string_bytes(cx, keys);
    else p->n_keys = (size_t)keys->numel, p->keys = keys->data;
    HostTensor list = {.kind = HOST_SEQUENCE, .n_elem = 1, .elem = &t->elem[1]};
    p->values = sequence_message(cx, &list);
    return p;
}

static Onnx__OptionalProto *optional_message(Context *cx, const HostTensor *t) {
    Onnx__OptionalProto *p = ARENA_NEW(&cx->scratch, Onnx__OptionalProto);
    onnx__optional_proto__init(p);
    p->name = name_text(cx, t->name);
    p->has_elem_type = true;
    if (t->n_elem == 0) return p;
    switch (t->elem[0].kind) {
    case HOST_TENSOR: p->elem_type = ELEM_TENSOR; p->tensor_value = tensor_message(cx, t->elem); break;
    case HOST_SEQUENCE: p->elem_type = ELEM_SEQUENCE; p->sequence_value = sequence_message(cx, t->elem); break;
    case HOST_OPTIONAL: p->elem_type = ELEM_OPTIONAL; p->optional_value = optional_message(cx, t->elem); break;
    case HOST_MAP: p->elem_type = ELEM_MAP; p->map_value = map_message(cx, t->elem); break;
    }
    return p;
}

#define MESSAGES(count, array, function)                                          \
    p->count = t->n_elem;                                                         \
    p->array = arena_array(&cx->scratch, t->n_elem, sizeof *p->array);            \
    for (uint32_t i = 0; i < t->n_elem; i++) p->array[i] = function(cx, &t->elem[i])

static Onnx__SequenceProto *sequence_message(Context *cx, const HostTensor *t) {
    Onnx__SequenceProto *p = ARENA_NEW(&cx->scratch, Onnx__SequenceProto);
    onnx__sequence_proto__init(p);
    p->name = name_text(cx, t->name);
    p->has_elem_type = true;
    p->elem_type = ELEM_TENSOR;
    if (t->n_elem == 0) return p;
    switch (t->elem[0].kind) {
    case HOST_TENSOR: MESSAGES(n_tensor_values, tensor_values, tensor_message); break;
    case HOST_SEQUENCE: p->elem_type = ELEM_SEQUENCE; MESSAGES(n_sequence_values, sequence_values, sequence_message); break;
    case HOST_OPTIONAL: p->elem_type = ELEM_OPTIONAL; MESSAGES(n_optional_values, optional_values, optional_message); break;
    case HOST_MAP: p->elem_type = ELEM_MAP; MESSAGES(n_map_values, map_values, map_message); break;
    }
    return p;
}

static bool write_pb(Context *cx, const char *path, const HostTensor *t) {
    const ProtobufCMessage *p = NULL;
    switch (t->kind) {
    case HOST_TENSOR: p = &tensor_message(cx, t)->base; break;
    case HOST_SEQUENCE: p = &sequence_message(cx, t)->base; break;
    case HOST_OPTIONAL: p = &optional_message(cx, t)->base; break;
    case HOST_MAP: p = &map_message(cx, t)->base; break;
    }
    size_t size = protobuf_c_message_get_packed_size(p);
    uint8_t *bytes = arena_alloc(&cx->scratch, size);
    protobuf_c_message_pack(p, bytes);
    return file_save(cx, path, 1, (const void *[]){bytes}, &size);
}

/* ---- by the ending ---------------------------------------------------------------------------------------------- */
bool tensor_file_load(Context *cx, const char *path, const Type *type, HostTensor *out) {
    Loc loc = {.file = str_intern(cx, path)};
    FileBytes b;
    bool npy = ends_with(path, ".npy");
    if (!npy && !ends_with(path, ".pb")) {
        diag(cx, SEV_ERROR, loc, "the ending says no format; .npy and .pb are read");
        return false;
    }
    if (!file_load(cx, path, &b)) return false;
    return npy ? npy_decode(cx, loc, b.data, b.size, out) : read_pb(cx, loc, b, type, out);
}

bool tensor_file_save(Context *cx, const char *path, const HostTensor *t) {
    Loc loc = {.file = str_intern(cx, path)};
    if (ends_with(path, ".pb")) return write_pb(cx, path, t);
    if (!ends_with(path, ".npy")) {
        diag(cx, SEV_ERROR, loc, "the ending says no format; .npy and .pb are written");
        return false;
    }
    uint8_t *bytes;
    size_t size;
    return npy_encode(cx, loc, t, &bytes, &size) && file_save(cx, path, 1, (const void *[]){bytes}, &size);
}
