/* ONNX files to IR and back. */
#ifndef LATHE_FRONTEND_ONNX_H
#define LATHE_FRONTEND_ONNX_H
#include "ir/graph.h"

enum { ONNX_OPSET_NEWEST = 28 }; /* of the default domain, what ops.def describes */

/* Fills m->main from the file: every operator in its newest form (frontend/upgrade.def), functions inlined, Constant
 * nodes and initializers as constants. Types are set on graph inputs and constants only; run pass_infer_shapes next.
 * Large constants may point into the mapped file, which lives until context_free.
 * False after diag(); one run reports every problem, all unsupported operators at once. */
bool onnx_import(Module *m, const char *path);

/* Writes m as an ONNX model that onnx.checker and ONNX Runtime accept; weights over 1.9 GB go to PATH.data beside it.
 * The outputs need types: inferred ones, or those the file declared. On failure (false after diag()) no file is left. */
bool onnx_export(Module *m, const char *path);

#endif
