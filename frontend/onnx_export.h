/* What the parts of the ONNX exporter share. */
#ifndef LATHE_FRONTEND_ONNX_EXPORT_H
#define LATHE_FRONTEND_ONNX_EXPORT_H
#include "ir/graph.h"

enum { DOMAIN_COUNT = DOMAIN_LATHE + 1 };
typedef struct Opsets { int32_t onnx, ml, ir_version; bool used[DOMAIN_COUNT]; } Opsets;

/* The lowest versions, from 21 on, that have all nodes of m. */
Opsets opsets_needed(Module *m);
/* Not given, or equal to the default of ops.def. */
bool attr_is_default(const Node *n, AttrSlot slot);

/* onnx_export with another limit, above which the weights go to a file of their own. */
bool export_model(Module *m, const char *path, uint64_t inline_bytes_max);

#endif
