/* Values in files: .npy, .npz, and the .pb files of ONNX test data (TensorProto, SequenceProto, OptionalProto, MapProto).
 *
 *     HostTensor x;
 *     if (!tensor_file_load(cx, "input_0.pb", type, &x)) ...   diagnostics are in cx
 *     const float *p = x.data;                                 x.dim[0..x.rank), x.numel elements
 *
 * Everything returned lives in the Context's arena (or a mapped file of it) until context_free. */
#ifndef LATHE_FRONTEND_TENSOR_FILE_H
#define LATHE_FRONTEND_TENSOR_FILE_H
#include "ir/type.h"

typedef enum HostKind { HOST_TENSOR, HOST_SEQUENCE, HOST_OPTIONAL, HOST_MAP } HostKind;

typedef struct HostTensor {
    HostKind kind;
    Str name;               /* of the value, 0 if the file has none */
    /* HOST_TENSOR: row-major, little-endian; packed types (i4, u4, f4e2m1, i2, u2) two or four to a byte, low bits
     * first; bools one byte, 0 or 1; STRING: one Str per element, an array of uint32_t ids of the same Context. */
    DType dtype;
    uint32_t rank;
    int64_t dim[RANK_MAX];
    int64_t numel;
    size_t bytes;           /* of data */
    void *data;             /* do not write: it may be a mapped file */
    /* HOST_SEQUENCE: the elements. HOST_OPTIONAL: none, or one. HOST_MAP: two tensors of rank 1, keys and values. */
    uint32_t n_elem;
    struct HostTensor *elem;
} HostTensor;

/* One value from a .npy or .pb file, by its ending. A .pb file does not say whether it holds a tensor, a sequence, an
 * optional or a map: type decides; NULL: a tensor if it can be one, else a sequence, an optional. False after diag(). */
bool tensor_file_load(Context *cx, const char *path, const Type *type, HostTensor *out);
/* Writes a tensor to .npy, or any value to .pb, by the ending. .npy has no small floats and packed integers: they are
 * written as the f32 or the 8-bit integers with the same values. On failure (false after diag()) no file is left. */
bool tensor_file_save(Context *cx, const char *path, const HostTensor *t);

/* All arrays of a .npz archive, their names without ".npy"; written uncompressed. */
bool npz_load(Context *cx, const char *path, uint32_t *n, HostTensor **out);
bool npz_save(Context *cx, const char *path, uint32_t n, const HostTensor *t);

/* ---- for the parts of this module */
bool npy_decode(Context *cx, Loc loc, const uint8_t *data, size_t n, HostTensor *out);
bool npy_encode(Context *cx, Loc loc, const HostTensor *t, uint8_t **data, size_t *n); /* in scratch memory */
bool file_save(Context *cx, const char *path, uint32_t n, const void *const *part, const size_t *size);

#endif
