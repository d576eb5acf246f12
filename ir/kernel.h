/* Level 2 of the IR: kernels, loop nests over buffers.
 *
 *     kernel k3_relu(b0: f32[N,64] in, b1: f32[N,64] out) {
 *       for i0 < N parallel(1)
 *         for i1 < 64
 *           b1[i0, i1] = max(b0[i0, i1], 0)
 *     }
 *
 * The same kernel is printed as C (codegen/), run by the interpreter (ir/interpret.c) to fold constants, and counted
 * for the cost model. Expressions are hash-consed per Context: equal expressions are one pointer. */
#ifndef LATHE_IR_KERNEL_H
#define LATHE_IR_KERNEL_H
#include "ir/graph.h"

typedef enum Fn {
    FN_NONE,
#define FN(NAME, arity, text, class, derivative) FN_##NAME,
#include "ir/scalars.def"
#undef FN
    FN_COUNT
} Fn;
typedef enum FnClass { FC_ARITH, FC_FLOAT, FC_COMPARE, FC_BITS, FC_TEST, FC_SPECIAL } FnClass;
const char *fn_text(Fn fn);
uint32_t fn_arity(Fn fn);
FnClass fn_class(Fn fn);

/* Run-time errors of emitted code: codes of NAME_run, messages in NAME_error. */
enum { LATHE_RT_OK = 0, LATHE_RT_ARGUMENT = 1, LATHE_RT_SHAPE = 2, LATHE_RT_INDEX = 3, LATHE_RT_BOUND = 4, LATHE_RT_WEIGHTS = 5, LATHE_RT_VALUE = 6, LATHE_RT_MACHINE = 7,
       LATHE_RT_PROCESSES = 8 };

typedef enum ExprKind { E_CONST, E_VAR, E_DIM, E_LOAD, E_FN } ExprKind;
typedef struct Expr Expr;
struct Expr {
    uint8_t kind, dtype; /* dtype: a compute type (dtype_compute), never f16, u4, … */
    uint16_t fn;         /* E_FN */
    uint32_t id;         /* dense per Context, in order of creation: arguments have smaller ids */
    uint32_t ref;        /* E_VAR: variable; E_DIM: Dim; E_LOAD: buffer */
    union { double f; int64_t i; } c; /* E_CONST: f for floats, i otherwise (u64 as bits); FN_ROUND_TO: storage dtype; FN_REQUIRE: code */
    uint32_t n_arg;
    Expr *arg[];         /* E_LOAD: one index per dimension of the buffer */
};

typedef enum BufKind { BUF_IN, BUF_OUT, BUF_INOUT, BUF_LOCAL } BufKind;
typedef struct Buf {
    BufKind kind;
    DType dtype;          /* storage type */
    uint8_t rank;
    const Dim *dim;
    const Dim *stride;    /* elements; NULL: dense row-major */
    Value *value;         /* the graph value it holds; NULL for LOCAL */
    Str name;
} Buf;

typedef struct Var {
    DType dtype;          /* I64 for loop variables */
    Expr *extent;         /* loop variable: 0 <= var < extent; NULL otherwise */
    Str name;
} Var;

typedef enum StmtKind {
    S_FOR,      /* for var < extent: body */
    S_LOCAL,    /* a mutable scalar: var = val */
    S_SET,      /* var = val, or with reduce: var = reduce(var, val), in any order */
    S_STORE,    /* buf[idx] = val, or with reduce: buf[idx] = reduce(buf[idx], val) */
    S_IF,       /* if val: body else orelse */
    S_WHILE,    /* while val (evaluated each time): body */
    S_CALL,     /* runtime function `name`(args): see CallArg; an error code != 0 is the kernel's error */
    S_CONTRACT  /* micro-kernel contraction: ir/contract.h */
} StmtKind;

typedef struct CallArg { bool is_buf; uint32_t buf; Expr *expr; } CallArg;
struct Contract;

typedef struct Stmt Stmt;
struct Stmt {
    StmtKind kind;
    uint32_t var;         /* FOR, LOCAL, SET */
    uint32_t buf;         /* STORE */
    uint16_t reduce;      /* SET, STORE: FN_ADD, FN_MUL, FN_MIN, FN_MAX, FN_AND, FN_OR or FN_NONE */
    uint16_t parallel;    /* FOR, a phase: this many perfectly nested loops form one index range split over the threads */
    bool phases;          /* FOR, top level only: every thread runs the loop, and its statements are phases */
    Expr *extent;         /* FOR */
    Expr **idx;           /* STORE: one per dimension */
    Expr *val;
    Stmt *body, *orelse, *next;
    Str name;             /* CALL */
    CallArg *arg;         /* CALL */
    uint32_t n_arg;
    struct Contract *contract;
};

/* Top-level statements are phases: a parallel loop is split over the threads, every other statement runs on thread 0
 * only; threads meet at a barrier between phases. A LOCAL at top level is therefore visible to serial phases only. The
 * steps of a recurrence are a loop of phases: its body is a list of phases that starts again after a barrier. */
typedef struct Kernel {
    uint32_t id;
    Str name;             /* k7_conv3x3_relu: from operator names, never from model text */
    Str comment;          /* operators and shapes it came from, untrusted text allowed */
    Buf *buf;             /* arguments first (n_arg), then locals (static size, on the stack) */
    uint32_t n_buf, n_arg, cap_buf;
    Var *var;
    uint32_t n_var, cap_var;
    Stmt *body;
    Str choice_key;       /* what passes/choice.h knows it by, and the ways (bits) it can be lowered; 0: there is one way */
    uint32_t choices;
    bool inplace;         /* some arguments share memory element for element: no restrict */
    const uint32_t *shares; /* inplace: by argument, the argument whose memory it shares, or itself */
} Kernel;

/* ---- expressions: the constructors fold constants and simplify index arithmetic (x*1, x+0, (i*c+j)/c, …) --------- */
Expr *ex_f(Context *cx, DType dtype, double v);       /* float constant, rounded to dtype */
Expr *ex_i(Context *cx, DType dtype, int64_t v);      /* integer or bool constant */
Expr *ex_i64(Context *cx, int64_t v);
Expr *ex_const(Context *cx, DType dtype, double v);   /* either, by dtype */
Expr *ex_dim(Context *cx, Dim d);                     /* i64 */
Expr *ex_var(Kernel *k, Context *cx, uint32_t var);
Expr *ex_load(Kernel *k, Context *cx, uint32_t buf, Expr *const *idx);
Expr *ex_fn(Kernel *k, Context *cx, Fn fn, DType dtype, uint32_t n, Expr *const *arg); /* k: ranges of variables; may be NULL */
static inline Expr *ex_1(Kernel *k, Context *cx, Fn fn, Expr *a) {
    return ex_fn(k, cx, fn, fn_class(fn) == FC_TEST ? DT_BOOL : (DType)a->dtype, 1, &a);
}
static inline Expr *ex_2(Kernel *k, Context *cx, Fn fn, Expr *a, Expr *b) {
    return ex_fn(k, cx, fn, fn_class(fn) == FC_COMPARE ? DT_BOOL : (DType)a->dtype, 2, (Expr *[]){a, b});
}
Expr *ex_select(Kernel *k, Context *cx, Expr *c, Expr *a, Expr *b);
Expr *ex_cast(Kernel *k, Context *cx, DType dtype, Expr *a); /* dtype: compute type */
Expr *ex_round_to(Kernel *k, Context *cx, DType storage, Expr *a);
Expr *ex_require(Context *cx, Expr *ok, Expr *x, int code); /* x; run-time error `code` (LATHE_RT_*) when not ok */
bool ex_is_const(const Expr *e, int64_t i);           /* equals the constant i */
/* Bounds of an integer expression from the extents of variables and dims; INT64_MIN/MAX when unknown. */
void ex_range(const Kernel *k, const Context *cx, const Expr *e, int64_t *lo, int64_t *hi);
Expr *expr_rebuild(Context *cx, const Expr *e, Expr *const *arg); /* the same node over other arguments, not simplified */
/* Replaces variables: map[var], NULL = keep. */
Expr *ex_substitute(Kernel *k, Context *cx, Expr *e, Expr *const *map, uint32_t n_map);

Kernel *kernel_new(Context *cx);
uint32_t kernel_add_buf(Kernel *k, Context *cx, Buf b);
uint32_t kernel_add_var(Kernel *k, Context *cx, Var v);
void kernel_print(Context *cx, Writer *w, const Kernel *k); /* IR text; kernels that print equal (name and comment aside) are shared */
bool kernel_verify(Context *cx, const Kernel *k);           /* types, ranks, scopes: false after diag() */

/* Executes a kernel in the compiler (ir/interpret.c): buf[i] are the argument buffers' storage, dims the symbol
 * values. Vectorised over the innermost loop; used for constant folding. Returns a LATHE_RT_ code. */
int kernel_interpret(Context *cx, const Kernel *k, void *const *buf, const int64_t *dims);
/* One scalar function on constants, exactly as emitted code computes it (ir/scalar_eval.c). */
typedef union Scalar { double f64; float f32; int64_t i; uint64_t u; } Scalar;
Scalar scalar_eval(Fn fn, DType dtype, DType arg_dtype, const Scalar *arg, int64_t extra, int *error);

#endif
