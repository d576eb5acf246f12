/* Level 1 of the IR: a graph of operators over tensors, in SSA form, with regions.
 *
 *     graph @main(%x: f32[N,64]) -> (%y) {
 *       %y = Softmax(%x) {axis = -1} : f32[N,64]   @"enc/attn/softmax"
 *     }
 *
 * Ownership: everything lives in the Context's arena. Nodes are in execution order in a linked list. Objects keep their
 * address; ids are dense per module, so an analysis is an array indexed by id in scratch memory. Uses are not stored:
 * a pass that needs them calls graph_uses. Region graphs (If, Loop, Scan, Fused) may read values of their outer graphs. */
#ifndef LATHE_IR_GRAPH_H
#define LATHE_IR_GRAPH_H
#include "ir/type.h"

typedef struct Node Node;
typedef struct Graph Graph;
typedef struct Module Module;

/* Bytes of a constant: row-major, little-endian, packed types two or four to a byte (low bits first).
 * STRING constants hold one Str per element. data may point into a mapped file. */
typedef struct ConstRecipe ConstRecipe;
typedef struct ConstData {
    const void *data;
    size_t bytes;
    const ConstRecipe *recipe; /* large packed weights: data is NULL, and const_bytes makes it (ir/const_made.c) */
} ConstData;

typedef struct Value {
    uint32_t id;
    const Type *type;        /* NULL until inferred */
    const Type *declared;    /* what the file says the type is (value_info, outputs), NULL if nothing: sizes that only the
                                run decides are taken from here, and checked then */
    Str name;                /* the model's name; 0 = none */
    Node *def;               /* NULL: graph input or constant */
    uint16_t def_out;        /* which output of def */
    bool persistent;         /* scratch that results point into: its memory is kept from its first use to the end of the run */
    bool poison;             /* an error was reported at its definition: consumers stay silent */
    const ConstData *data;   /* constant contents, NULL if not constant */
    /* Small integer tensors (shape arithmetic): their elements as symbolic expressions, row-major; NULL if not known.
     * This is what folds Shape -> Gather -> Concat -> Reshape with symbolic dims. */
    const Dim *sym;
    uint32_t n_sym;
} Value;

typedef enum Op {
    OP_NONE,
#define OP(name, domain, in_min, in_max, out_min, out_max, flags, shape, expand, grad, define, lower) OP_##name,
#define ATTR(op, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR
    OP_COUNT
} Op;

/* Attribute slots: AT_Softmax_axis. A node's attr array holds its operator's slots in the order of ops.def. */
typedef enum AttrSlot {
#define OP(name, domain, in_min, in_max, out_min, out_max, flags, shape, expand, grad, define, lower) AT_FIRST_##name, AT_BEFORE_##name = AT_FIRST_##name - 1,
#define ATTR(op, name, kind, def) AT_##op##_##name,
#include "ir/ops.def"
#undef OP
#undef ATTR
    AT_COUNT
} AttrSlot;

typedef enum AttrKind { ATTR_INT, ATTR_FLOAT, ATTR_STRING, ATTR_INTS, ATTR_FLOATS, ATTR_STRINGS, ATTR_TENSOR, ATTR_GRAPH, ATTR_TYPE } AttrKind;
typedef struct Attr {
    bool present;            /* given, or has a default */
    union {
        int64_t i;
        double f;
        Str s;
        struct { const int64_t *v; uint32_t n; } ints;
        struct { const double *v; uint32_t n; } floats;
        struct { const Str *v; uint32_t n; } strings;
        struct { const Type *type; const ConstData *data; } tensor;
        Graph *graph;
        const Type *type;
    };
} Attr;

/* Two sizes that inference took to be equal and that only the run can compare. broadcast: b may also be 1. */
typedef struct DimPair { Dim a, b; bool broadcast; } DimPair;

struct Node {
    uint32_t id;
    uint16_t op, n_in, n_out, n_attr;
    Loc loc;
    Value **in;  /* NULL entries: optional inputs left out */
    Value **out; /* NULL entries: outputs nobody wants */
    Attr *attr;
    const DimPair *agree; /* what its types rely on, found by its shape rule */
    uint32_t n_agree;
    Node *prev, *next;
    Graph *graph; /* the graph it stands in */
};

struct Graph {
    Str name;
    Graph *outer; /* enclosing graph of a region, else NULL */
    Node *first, *last;
    Value **in, **out;
    uint32_t n_in, n_out;
};

struct Module {
    Context *cx;
    Str name;            /* C identifier prefix of everything emitted */
    Graph *main;
    uint32_t n_value, n_node;
    Str *meta_key, *meta_value; /* metadata_props of the file, kept for export */
    uint32_t n_meta;
    /* Inputs and outputs as the model has them, when passes/sequences.c has split sequences and optionals into tensors:
     * entry i of io_in starts at tensor `first` of main->in. NULL: they are main's lists as they stand. */
    struct ModelIo { Str name; const Type *type; uint32_t first; } *io_in, *io_out;
    uint32_t n_io_in, n_io_out;
    Dim run_number;          /* 0, or a symbol that the entry point sets to the number of earlier runs, for random operators */
    Dim process;             /* 0, or a symbol that the entry point sets to the number of this process among those that train together */
    /* Values that stay between calls and the entry points of a module that trains (ir/state.h); none in a plain function. */
    struct State *state;
    uint32_t n_state, cap_state;
    uint32_t *state_out;     /* by position among the last n_state_out outputs of main: the state whose new contents it is */
    uint32_t n_state_out, cap_state_out;
    struct Entry *entry;
    uint32_t n_entry;
    struct TrainSpec *train; /* what is to be trained, until passes/train.c has built it (passes/train/train.h) */
    uint64_t scratch_room;   /* while kernels are made: scratch memory that the node may have without a larger arena (passes/scratch_room.c) */
    struct Plan *plan;       /* level 3, after pass_plan (ir/plan.h); of several targets the best one's */
    const struct Target *target; /* of several, the one whose plan is being made or printed; NULL: module_target chooses */
    const struct LatheOptions *options; /* never NULL once a pipeline runs */
};

/* ---- operators: what ops.def says ------------------------------------------------------------------------------- */
enum OpFlags {
    OPF_PURE = 1,      /* same inputs, same outputs, no effect: may be merged, moved, dropped */
    OPF_DYNSHAPE = 2,  /* output sizes depend on data */
    OPF_RANDOM = 4,    /* draws random numbers: never merged */
    OPF_REGION = 8,    /* has graph attributes */
    OPF_INPLACE = 16,  /* output may share memory with an input of the same type (elementwise) */
    OPF_VIEW = 32,     /* only moves elements */
    OPF_BIND = 64,     /* its expand rule runs though it can be lowered: to bind sizes that operands give at run time, or for some types only */
};
typedef enum OpDomain { DOMAIN_ONNX, DOMAIN_ML, DOMAIN_MICROSOFT, DOMAIN_TRAINING, DOMAIN_PREVIEW, DOMAIN_LATHE } OpDomain;
enum { MANY = 65535 };

struct Lower;
struct Expr;
/* Shape rule: sets types (and sym) of all outputs from the inputs; false after a diag(). */
typedef bool ShapeFn(Module *m, Node *n);
/* Expansion: builds simpler nodes before n and returns true, having stored n's replacement values in out[];
 * false: nothing done. The caller replaces the uses and removes n. */
typedef bool ExpandFn(Module *m, Node *n, Value **out);
/* Gradient: given those of the outputs, builds those of the inputs (passes/grad/grad.h). */
struct Grad;
typedef bool GradFn(struct Grad *g);
/* Definition: the element of output `out` at idx as an expression of input elements (ir/kernel.h, passes/lower.h). */
typedef struct Expr *DefineFn(struct Lower *lo, const Node *n, uint32_t out, struct Expr *const *idx);
/* Lowering: writes statements that compute all outputs. */
typedef bool LowerFn(struct Lower *lo, const Node *n);

typedef struct AttrInfo { const char *name; AttrKind kind; const char *def; } AttrInfo; /* def: "" optional, "!" required, else the default as text */
typedef struct OpInfo {
    const char *name; /* the enum name, as in IR text; op_name() gives the name in files */
    OpDomain domain;
    uint16_t in_min, in_max, out_min, out_max; /* MANY: variadic */
    uint32_t flags;
    uint16_t attr_first; /* first slot AT_* */
} OpInfo;

const OpInfo *op_info(Op op);
uint32_t op_attr_count(Op op);
const char *op_refusal(Op op);                          /* why the operator is never compiled, NULL if it is */
const char *op_name(Op op);                             /* as in files: without the Ms_ prefix */
const AttrInfo *attr_info(AttrSlot slot);
/* Reshape, Flatten, Squeeze, Unsqueeze: the elements stay where they are, only the dims change. */
bool op_is_reshape(Op op);
const char *domain_text(OpDomain d);                    /* "", "ai.onnx.ml", … as in ONNX files */
Op op_find(OpDomain domain, const char *name);          /* OP_NONE if unknown */
bool domain_find(const char *text, OpDomain *domain);   /* "" and "ai.onnx" are the same */

/* ---- attributes ------------------------------------------------------------------------------------------------- */
Attr *attr_at(const Node *n, AttrSlot slot); /* slot must belong to n->op */
bool attr_has(const Node *n, AttrSlot slot);
int64_t attr_i(const Node *n, AttrSlot slot);
double attr_f(const Node *n, AttrSlot slot);
Str attr_s(const Node *n, AttrSlot slot);
int64_t attr_ints_at(const Node *n, AttrSlot slot, uint32_t i); /* element i of an INTS attribute, 0 where it has none */
bool attr_s_is(const Context *cx, const Node *n, AttrSlot slot, const char *text);
void attr_set_i(Node *n, AttrSlot slot, int64_t i);
void attr_set_f(Node *n, AttrSlot slot, double f);
void attr_set_s(Node *n, AttrSlot slot, Str s);
void attr_set_ints(Context *cx, Node *n, AttrSlot slot, const int64_t *v, uint32_t count); /* copies */
void attr_set_floats(Context *cx, Node *n, AttrSlot slot, const double *v, uint32_t count);
void attr_set_graph(Node *n, AttrSlot slot, Graph *g);
AttrKind attr_kind(const Node *n, uint32_t i); /* of n->attr[i] */
bool attr_equal(const Attr *a, const Attr *b, AttrKind kind); /* tensors by contents, graphs by identity, -0 is not 0 */
/* The slot of the attribute called `name` of n's operator; AT_COUNT if it has none. For rules that serve several operators. */
AttrSlot attr_named(const Node *n, const char *name);
void attr_share(Node *to, const Node *from); /* what `from` has of the attributes that both operators name alike */
Attr attr_default(Context *cx, AttrSlot slot); /* not present when the slot has no default */

/* ---- building --------------------------------------------------------------------------------------------------- */
Module *module_new(Context *cx, const char *name);
Graph *graph_new(Module *m, Graph *outer, const char *name);
Value *value_new(Module *m, const Type *type, Str name);
Value *graph_add_input(Module *m, Graph *g, const Type *type, Str name);
void graph_adopt_input(Module *m, Graph *g, Value *v); /* v becomes the next input */
void graph_add_output(Module *m, Graph *g, Value *v);
/* A constant; data is copied unless borrow (then it must outlive the module). Integers of rank <= 1 also get sym. */
Value *value_const(Module *m, const Type *type, const void *data, bool borrow);
Value *value_const_i64(Module *m, uint32_t n, const int64_t *v);  /* i64[n] */
Value *value_const_scalar(Module *m, DType dtype, double v);      /* rank 0, any numeric dtype, correctly rounded */
/* A new node with fresh outputs, defaults set, placed before `at` (NULL: at the end of g). Inputs are copied.
 * Types of the outputs are not inferred: call node_infer, or run pass_infer_shapes. */
Node *node_new(Module *m, Graph *g, Node *at, Op op, uint32_t n_in, Value *const *in, uint32_t n_out);
bool node_infer(Module *m, Node *n); /* runs the shape rule; poison in, poison out */
bool node_reinfer(Module *m, Node *n); /* the same for a node inferred before: data-dependent symbols of its outputs stay */
/* node_reinfer for every node in order; the rules of If, Loop and Scan call it on their regions, having set the types of
 * the region's inputs. False if a node had an error; the others are inferred all the same. */
bool graph_infer(Module *m, Graph *g);
/* node_new + loc of `at` + inference, for rewrites: returns output 0. */
Value *build1(Module *m, Node *at, Op op, Value *a);
Value *build2(Module *m, Node *at, Op op, Value *a, Value *b);
Value *build3(Module *m, Node *at, Op op, Value *a, Value *b, Value *c);
void node_remove(Node *n);                       /* unlinks; its outputs must be unused */
void node_move_before(Node *n, Node *at);
Graph *graph_clone(Module *m, const Graph *g, Graph *outer, Value *const *map_in); /* fresh values; map_in replaces inputs */

/* ---- walking ---------------------------------------------------------------------------------------------------- */
#define FOR_NODES(n, g) for (Node *n = (g)->first, *n##_next; n != NULL && (n##_next = n->next, true); n = n##_next)
/* Calls visit on g and every region inside it, outermost first. */
void graph_visit(Graph *g, void (*visit)(Graph *g, void *user), void *user);
typedef VEC(Graph *) Graphs;
Graphs module_graphs(Module *m); /* main and all regions, outer ones first; for passes that add or remove regions on the way. Scratch memory */
/* How often each value is read, by id, in all of m: by nodes, region captures and graph outputs. Scratch memory. */
uint32_t *module_use_counts(Module *m);
/* All readers of every value, regions included. use.v[first[id]..first[id+1]]. Scratch memory. */
typedef struct Use { Node *node; uint32_t index; } Use; /* node NULL: index-th output of a graph */
typedef struct Uses { uint32_t *first; Use *use; } Uses;
Uses module_uses(Module *m);
/* Every reader of `from` in m now reads `to`, graph outputs included (their name moves along). */
void value_replace(Module *m, Value *from, Value *to);
/* The same for many values at once: map[id], NULL = keep. One walk over the module. */
void values_replace(Module *m, Value *const *map);

/* ---- contents of constants -------------------------------------------------------------------------------------- */
/* Element i of a constant as int64/double; dtype conversions are exact or rounded to nearest. */
int64_t const_i64(const Value *v, int64_t i);
double const_f64(const Value *v, int64_t i);
/* The elements of a constant with dimension i of the result being dimension perm[i] of v; not for packed types. Arena memory. */
const void *const_transpose(Context *cx, const Value *v, const uint32_t *perm);

/* Constants whose bytes are made when they are written, so that packed weights of a large model never stand in memory
 * together. A recipe is a function, integers, and the constants it reads; equal recipes make equal bytes.
 *
 *     typedef struct Packing { int64_t k, columns; } Packing;              only int64_t: parameters are compared as bytes
 *     static void pack(void *to, const ConstRecipe *r) { const Packing *p = r->parameters; const float *from = r->source[0]->data->data; … }
 *     v = value_const_made(m, type, &(ConstRecipe){.make = pack, .parameters = &p, .parameter_bytes = sizeof p, .source = {w}}); */
typedef void ConstMake(void *to, const ConstRecipe *recipe); /* to: the bytes of the type, zeros */
enum { RECIPE_SOURCES = 3 };
struct ConstRecipe {
    ConstMake *make;
    const void *parameters;
    size_t parameter_bytes;
    const Value *source[RECIPE_SOURCES]; /* constants with data; NULL: none */
};
Value *value_const_made(Module *m, const Type *type, const ConstRecipe *recipe); /* the recipe is copied */
typedef struct ConstRoom { void *memory; size_t bytes; } ConstRoom; /* {0} before its first use */
void const_room_for(Arena *arena, ConstRoom *room, const Value *v); /* room for v, if it is a made one: call it for all before the first const_bytes */
const void *const_bytes(const Value *v, const ConstRoom *room);     /* those of a made constant are valid until the next call with this room */
uint64_t const_hash(const Value *v);                                /* of its bytes, or of what makes them */
bool const_equal(const Value *a, const Value *b);                   /* the same element type and bytes; false may be wrong only when both are made in different ways */
bool value_is_const(const Value *v);
/* Elements of a small integer tensor as dims, from data or sym. NULL if unknown. *n = number of elements. */
const Dim *value_dims(Module *m, const Value *v, uint32_t *n);

/* ---- text and checking ------------------------------------------------------------------------------------------ */
void module_print(Module *m, Writer *w);                       /* ir/text.c: IR text, parse(print(m)) prints equal */
Module *module_parse(Context *cx, const char *file, const char *text, size_t n); /* NULL after diag() */
bool module_verify(Module *m);                                 /* ir/verify.c: false after diag() */

#endif
