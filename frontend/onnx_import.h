/* What the parts of the ONNX importer share. */
#ifndef LATHE_FRONTEND_ONNX_IMPORT_H
#define LATHE_FRONTEND_ONNX_IMPORT_H
#include "base/id_map.h"
#include "frontend/onnx.h"
#include "frontend/onnx_tensor.h"

typedef struct OpsetImport { const char *domain; int64_t version; } OpsetImport;

/* One expansion of a model-local function, or the model itself: what nodes inside it see besides values. */
typedef struct Frame {
    const struct Frame *caller;         /* NULL: the model */
    const Onnx__FunctionProto *function;
    Str prefix;                         /* put before node names: "layer1/" */
    const OpsetImport *opset;
    uint32_t n_opset;
    struct Binding *binding;            /* the function's attributes */
    uint32_t n_binding, depth;
} Frame;

/* The values a node can name: its graph's, then those of the enclosing graphs. */
typedef struct Scope {
    const struct Scope *outer;
    const Frame *frame;
    Graph *graph;
    IdMap values; /* Str -> Value */
} Scope;

/* An attribute and the scope that a graph in it refers to (a caller's, when it came through a function). */
typedef struct Binding { const Onnx__AttributeProto *attr; Str name; const Scope *scope; } Binding;

typedef struct Importer {
    Module *m;
    Context *cx;
    Str file;
    ExternalFolder external;
    const Onnx__ModelProto *model;
    IdMap functions;  /* Str "domain:name:overload" -> Onnx__FunctionProto */
    IdMap taken;      /* names of values, across the module */
    IdMap params;     /* dim_param text -> its symbol's name (a Str in the pointer) */
    IdMap map_values; /* id + 1 of the keys of a map (what its name means) -> its values */
    Value *absent;    /* what the name of a function input that the call leaves out is bound to */
    uint32_t inlined; /* nodes read inside functions: bounds what a small file can expand to */
} Importer;

/* ---- onnx_type.c */
/* symbols: unknown dims become symbols named after base ("x_d0"); otherwise they stay unknown (regions, whose sizes may
 * change from one iteration to the next). NULL after diag(), or, without a diagnostic, for a missing type. */
const Type *import_type(Importer *im, Loc loc, const char *what, const Onnx__TypeProto *t, bool symbols, const char *base);

/* ---- onnx_attr.c */
/* Fills one slot of n from an attribute. False after diag(). */
bool import_attr(Importer *im, const Scope *scope, Node *n, AttrSlot slot, const Onnx__AttributeProto *a);
/* The kind in the file: type, or for the oldest files the field that is filled. */
Onnx__AttributeProto__AttributeType attr_type(const Onnx__AttributeProto *a);
const char *attr_type_text(Onnx__AttributeProto__AttributeType t);
/* The value of a Constant node. NULL after diag(). */
Value *import_constant(Importer *im, Loc loc, uint32_t n, const Binding *attr);

/* ---- onnx_import.c */
Graph *import_region(Importer *im, const Scope *scope, Loc loc, const Onnx__GraphProto *g);
void import_nodes(Importer *im, Scope *scope, size_t n, Onnx__NodeProto *const *nodes);
Value *scope_find(const Scope *scope, Str name);
void scope_put(Importer *im, Scope *scope, Str name, Value *v);
/* name, or name_2, ... when a value has it already. */
Str unique_name(Importer *im, Str name);
int64_t opset_version(const Frame *frame, OpDomain domain);

/* ---- onnx_order.c */
/* The indices of the nodes in an order that computes before it reads; NULL when the file's order is one. */
const uint32_t *execution_order(Context *cx, size_t n, Onnx__NodeProto *const *nodes);

/* ---- onnx_function.c */
void index_functions(Importer *im);
const Onnx__FunctionProto *find_function(const Importer *im, const Onnx__NodeProto *n);
/* Expands a call: in are its inputs; out gets one value per output of the node. False after diag(). */
bool inline_call(Importer *im, Scope *scope, Loc loc, const Onnx__FunctionProto *f, const Onnx__NodeProto *call, uint32_t n_attr,
                 const Binding *attr, uint32_t n_in, Value *const *in, Value **out);

#endif
