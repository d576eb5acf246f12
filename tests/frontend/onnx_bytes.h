/* ONNX models written byte by byte, without the code under test, and what the importer makes of them.
 *
 *     Bytes g = graph("x:f2,3", "y");                    input x: f32[2,3]; output y
 *     Bytes n = node("Clip", "x", "y");
 *     attr_float(&n, "min", 0);
 *     add_node(&g, n);
 *     expect_ir(model(6, g), "...");
 */
#ifndef LATHE_TESTS_ONNX_BYTES_H
#define LATHE_TESTS_ONNX_BYTES_H
#include <check.h>

#include "frontend/onnx.h"
#include "frontend/tensor_file.h"

/* Memory of the tests' own data, given back when the program ends. */
Arena *test_arena(void);

/* A message under construction, in that memory. Passing one by value hands it on. */
typedef struct Bytes { uint8_t *v; size_t n, cap; } Bytes;

void put_varint(Bytes *b, uint64_t x);
void put_int(Bytes *b, uint32_t field, int64_t x);
void put_float(Bytes *b, uint32_t field, float x);
void put_data(Bytes *b, uint32_t field, const void *data, size_t n);
void put_text(Bytes *b, uint32_t field, const char *text);
void put_message(Bytes *b, uint32_t field, Bytes m);

/* inputs: "x:f2,3 k:i? s" = f32[2,3], i64[unknown], no shape (f32). Dims: numbers, names, ? unknown. Types: f f32, i i64,
 * b bool, h f16, s string. outputs: names, types not declared. */
Bytes graph(const char *inputs, const char *outputs);
/* Space-separated names; "-" is the empty name. */
Bytes node(const char *op, const char *inputs, const char *outputs);
void attr_int(Bytes *node, const char *name, int64_t x);
void attr_float(Bytes *node, const char *name, float x);
void attr_text(Bytes *node, const char *name, const char *text);
void attr_ints(Bytes *node, const char *name, const char *numbers); /* "1 2 3" */
void attr_graph(Bytes *node, const char *name, Bytes g);
void attr_tensor(Bytes *node, const char *name, Bytes t);
void attr_ref(Bytes *node, const char *name, const char *function_attr, int type);
void add_node(Bytes *graph, Bytes node);
/* A TensorProto of ONNX's element type, dims "2 3"; data is added by put_* with the field numbers of TensorProto. */
Bytes tensor(const char *name, int dtype, const char *dims);
void add_initializer(Bytes *graph, Bytes tensor);
Bytes function(const char *domain, const char *name, const char *inputs, const char *outputs);
void add_function_node(Bytes *function, Bytes node);
Bytes model(int64_t opset, Bytes graph);
void add_opset(Bytes *model, const char *domain, int64_t version);
void add_function(Bytes *model, Bytes function);

/* Files in a folder that every test program makes for itself. */
const char *temp_path(const char *name);
void write_file(const char *path, const void *data, size_t n);

/* Imports the bytes; the text is the graphs as IR ("graph @g ..."), or the diagnostics when there are errors. */
const char *import_text(Bytes model);
#define expect_ir(m, text) ck_assert_str_eq(import_text(m), text)
/* The import fails, and its messages contain the text. */
void expect_error(Bytes model, const char *text);


Suite *suite_onnx_import(void);
Suite *suite_onnx_export(void);
Suite *suite_tensor_file(void);
Suite *suite_upgrade(void);

#endif
