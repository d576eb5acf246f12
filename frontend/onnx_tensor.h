/* TensorProto and SparseTensorProto to plain bytes. */
#ifndef LATHE_FRONTEND_ONNX_TENSOR_H
#define LATHE_FRONTEND_ONNX_TENSOR_H
#include "ir/graph.h"
#include "onnx.pb-c.h"

/* Elements in lathe's layout: row-major, little-endian, packed types two or four to a byte with the low bits first,
 * bools 0 or 1, strings one Str each. data lives as long as the Context and is aligned to the element. */
typedef struct TensorBytes {
    DType dtype;
    uint32_t rank;
    int64_t dim[RANK_MAX];
    int64_t numel;
    size_t bytes;
    const void *data;
} TensorBytes;

/* The folder that external data must stay in, and the files of it mapped so far. folder NULL: external data is refused. */
typedef struct ExternalFolder {
    const char *folder; /* "" = the current one */
    VEC(struct ExternalFile { Str name; const uint8_t *data; size_t size; }) files;
} ExternalFolder;

/* Fill *out; all storage forms, sizes checked against the dims. what names the tensor in diagnostics
 * (`initializer "w"`). False after diag(). */
bool tensor_decode(Context *cx, Loc loc, const char *what, ExternalFolder *ext, const Onnx__TensorProto *t, TensorBytes *out);
bool sparse_tensor_decode(Context *cx, Loc loc, const char *what, ExternalFolder *ext, const Onnx__SparseTensorProto *t, TensorBytes *out);
/* The type f32[2,3] of decoded bytes, and a constant Value that borrows them. */
const Type *tensor_bytes_type(Context *cx, const TensorBytes *t);
Value *tensor_bytes_const(Module *m, const TensorBytes *t);

/* The path of the folder a file is in: "" for a bare name. */
const char *folder_of(Context *cx, const char *path);

#endif
