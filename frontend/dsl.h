/* The C DSL from inside: how the layers of include/lathe.h make nodes.
 *
 * dsl_node and the few calls of dsl.c and dsl_param.c enter the model (api/model.h); every layer is a composition of them and
 * therefore needs no error handling of its own: given a null value they return null values and say nothing.
 *
 *     DslNode spec = {.op = OP_Concat, .n_in = n, .in = values};
 *     dsl_int(&spec, AT_Concat_axis, axis);
 *     return dsl_node(m, &spec);
 */
#ifndef LATHE_FRONTEND_DSL_H
#define LATHE_FRONTEND_DSL_H
#include "api/model.h"

typedef struct DslParam { Value *value; LatheInit init; bool loaded; } DslParam; /* loaded: its contents came from outside */

/* What the DSL keeps with a model. */
typedef struct Builder {
    VEC(Value *) values;      /* LatheValue.id - 1 is the index */
    VEC(DslParam) params;
    VEC(Str) scopes;          /* full prefixes: "block1/", "block1/attention/" */
    uint64_t seed;
    uint32_t count[OP_COUNT]; /* layers made without a name: relu_1, relu_2 */
} Builder;

Builder *dsl_builder(LatheModel *m); /* inside an entered model */
Value *dsl_value(LatheValue v);      /* NULL for the null value and poison */
LatheValue dsl_handle(LatheModel *m, Value *v);
const Type *dsl_type(LatheValue v);  /* NULL for the null value */
DType dsl_dtype(LatheValue v);       /* DT_NONE for the null value: any value turns null when memory runs out */
Str dsl_scoped(LatheModel *m, const char *name);

/* ---- nodes ---- */
enum { DSL_ATTRS = 8, DSL_INTS = 2 * RANK_MAX };
typedef struct DslAttr { AttrSlot slot; AttrKind kind; int64_t i; double f; const char *s; int64_t ints[DSL_INTS]; uint32_t n; } DslAttr;
typedef struct DslNode {
    Op op;
    const char *name;          /* the layer; NULL: made from the operator's name */
    uint32_t n_in, n_out;      /* n_out 0 means 1 */
    const LatheValue *in;
    uint32_t optional;         /* bit i: input i may be the null value, it is left out then */
    const LatheValue *recover; /* the result when the shape rule finds an error, so that building can go on; NULL: null value */
    DslAttr attr[DSL_ATTRS];
    uint32_t n_attr;
} DslNode;
void dsl_int(DslNode *spec, AttrSlot slot, int64_t i);
void dsl_float(DslNode *spec, AttrSlot slot, double f);
void dsl_string(DslNode *spec, AttrSlot slot, const char *s);
void dsl_ints(DslNode *spec, AttrSlot slot, uint32_t n, const int64_t *v); /* at most DSL_INTS */
/* Appends the node and infers its types. */
LatheValue dsl_node(LatheModel *m, const DslNode *spec);                     /* the only output */
void dsl_node_outputs(LatheModel *m, const DslNode *spec, LatheValue *out); /* out[n_out] */
LatheValue dsl_unary(Op op, LatheValue x);
LatheValue dsl_binary(Op op, LatheValue a, LatheValue b);
LatheValue dsl_i64(LatheModel *m, uint32_t n, const int64_t *v); /* a constant i64[n] */
LatheValue dsl_i64_scalar(LatheModel *m, int64_t v);

/* ---- mistakes ---- */
/* A diagnostic about layer `name` (scoped here) of operator op; both may be left out. */
void dsl_problem(LatheModel *m, Severity severity, Op op, const char *name, const char *format, ...) LATHE_PRINTF(5, 6);
/* True when x has rank in lo..hi; else a diagnostic that says what the layer takes: "[N,C,H,W]". False and silent for null. */
bool dsl_check_rank(LatheValue x, Op op, const char *name, uint32_t lo, uint32_t hi, const char *takes);
/* The size of x at axis as a constant; a diagnostic and -1 when it is symbolic: parameters need it. When `declared` is not 0
 * and differs, a diagnostic; the size found is returned, so that building goes on. */
int64_t dsl_channels(LatheValue x, int64_t axis, Op op, const char *name, int64_t declared);
bool dsl_check_positive(LatheModel *m, Op op, const char *name, const char *what, int64_t n);
/* A warning when x is the result of a softmax: feeding it to a layer with parameters is hardly ever meant. */
void dsl_warn_softmax(LatheValue x, Op op, const char *name);
const char *dsl_type_text(LatheValue v); /* "f32[N,10,15,15]" */

/* ---- parameters: dsl_param.c ---- */
/* The parameter `name`/`part` with `init`, or `fallback` when init is the default. */
LatheValue dsl_layer_param(LatheModel *m, const char *name, const char *part, DType dtype, uint32_t rank, const int64_t *shape,
                           LatheInit init, LatheInit fallback);
/* dsl_train.c: tells the training pass which constants are parameters. */
void dsl_train_candidates(LatheModel *m);
/* dsl_init.c: the elements of a parameter. */
void dsl_init_fill(Context *cx, float *out, uint32_t rank, const int64_t *shape, LatheInit init, uint64_t seed, uint64_t stream);

#endif
