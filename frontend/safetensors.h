/* safetensors files (Hugging Face): eight bytes with the length of a JSON header, the header, then the tensors' bytes.
 *
 *     {"fc1/weight": {"dtype": "F32", "shape": [784, 512], "data_offsets": [0, 1605632]}, "__metadata__": {"format": "pt"}}
 *
 *     SafeTensors file;
 *     if (!safetensors_load(cx, "model.safetensors", &file)) ...   diagnostics are in cx
 *     const HostTensor *w = safetensors_find(&file, cx, "fc1/weight");
 *
 * The file is not trusted: lengths, offsets, nesting and the header's syntax are checked before anything is used. */
#ifndef LATHE_FRONTEND_SAFETENSORS_H
#define LATHE_FRONTEND_SAFETENSORS_H
#include "frontend/tensor_file.h"

typedef struct SafeTensors { uint32_t n; HostTensor *tensor; } SafeTensors; /* data is in cx's arena */
bool safetensors_load(Context *cx, const char *path, SafeTensors *out); /* false after diag() */
const HostTensor *safetensors_find(const SafeTensors *f, const Context *cx, const char *name); /* NULL: not in the file */

#endif
