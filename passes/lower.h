/* From graph operators to kernels. An operator has one of two rules in ops.def:
 *
 *   define: the output element at idx as an expression of input elements. Pointwise operators, casts, and everything
 *           that only moves elements (transpose, slice, concat, gather, pad, …). Definitions compose: fusion reads
 *           through them without the intermediate tensor ever being stored.
 *
 *     Expr *define_relu(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
 *         Expr *x = lower_load(lo, n->in[0], idx);
 *         return ex_2(lo->k, lo->cx, FN_MAX, x, ex_const(lo->cx, x->dtype, 0));
 *     }
 *
 *   lower:  statements that compute all outputs (reductions, scans, sorts, contractions).
 *
 *     bool lower_reduce_sum(Lower *lo, const Node *n) {
 *         ...
 *         Expr *i = lower_for(lo, rows);                       // opens a loop
 *         Expr *sum = lower_local(lo, DT_F32, ex_f(lo->cx, DT_F32, 0));
 *         Expr *j = lower_for(lo, cols);
 *         lower_accumulate(lo, sum, FN_ADD, lower_load(lo, n->in[0], (Expr *[]){i, j}));
 *         lower_end(lo);
 *         lower_store(lo, n->out[0], (Expr *[]){i}, sum);      // runs the fused epilogue, too
 *         lower_end(lo);
 *     }
 *
 * Types: lower_load gives the compute type of the element; lower_store converts to the storage type with correct
 * rounding. Inside a fused group lower_load of a group-internal value calls that operator's definition. */
#ifndef LATHE_PASSES_LOWER_H
#define LATHE_PASSES_LOWER_H
#include "ir/kernel.h"

typedef struct Lower {
    Context *cx;
    Module *m;
    Kernel *k;
    const Node *node;      /* the node being lowered: a Fused node or a single operator */
    Graph *body;           /* Fused: its body; else NULL */
    VEC(Stmt **) tail;     /* where the next statement goes, innermost last */
    VEC(Stmt *) open;      /* open loops and ifs */
    uint32_t *buf_of;      /* value id -> buffer + 1 */
    /* epilogue: while a fused anchor stores, reading `bound` at `bound_idx` gives `bound_val` */
    const Value *bound;
    Expr *const *bound_idx;
    Expr *bound_val;
    const Node *current;        /* whose rule is running: the node itself or one of the body */
    VEC(const Node *) checked;  /* nodes with an index that the run checks */
} Lower;

/* The element of v at idx (rank of v many i64 expressions), in its compute type. Constants of one element fold. */
Expr *lower_load(Lower *lo, const Value *v, Expr *const *idx);
/* The only element of a scalar or one-element tensor. */
Expr *lower_load_scalar(Lower *lo, const Value *v);
/* numpy broadcasting: the element of v that belongs to idx of a tensor of rank `rank`. */
Expr *lower_load_broadcast(Lower *lo, const Value *v, uint32_t rank, Expr *const *idx);
/* Element i of a small integer vector operand (axes, starts, shape …): symbolic if known, else loaded. */
Expr *lower_load_element(Lower *lo, const Value *v, int64_t i);
void lower_store(Lower *lo, const Value *v, Expr *const *idx, Expr *val);
void lower_store_reduce(Lower *lo, const Value *v, Expr *const *idx, Fn reduce, Expr *val);
/* Inside a Fused body: the element of `to` at idx, where that of `from` at idx is val and `to` is made from it by pointwise operators. */
Expr *lower_through(Lower *lo, const Value *from, const Value *to, Expr *const *idx, Expr *val);

/* Loops. extent is i64. The variable is returned; lower_end closes the newest open loop, if or else. */
Expr *lower_for(Lower *lo, Expr *extent);
Expr *lower_for_dim(Lower *lo, Dim extent);
void lower_for_type(Lower *lo, const Type *t, Expr **idx); /* one loop per dimension, outermost first */
void lower_if(Lower *lo, Expr *condition);
void lower_else(Lower *lo); /* after lower_if's body */
void lower_while(Lower *lo, Expr *condition);
void lower_end(Lower *lo);
void lower_end_n(Lower *lo, uint32_t n);

/* idx[0..n): the index of element number `at` of a row-major block of dims dim[0..n). */
void lower_split_index(Lower *lo, Expr *at, uint32_t n, const Dim *dim, Expr **idx);

Expr *lower_local(Lower *lo, DType dtype, Expr *init); /* mutable scalar, as an E_VAR expression; lives to the end of the enclosing block */
void lower_set(Lower *lo, Expr *local, Expr *val);
void lower_accumulate(Lower *lo, Expr *local, Fn reduce, Expr *val);
/* A stack array of constant size (bounds are used for symbolic dims: keep it under 64 KiB). */
uint32_t lower_array(Lower *lo, DType dtype, uint32_t rank, const Dim *dim);
void lower_store_buf(Lower *lo, uint32_t buf, Expr *const *idx, Fn reduce, Expr *val);
Expr *lower_load_buf(Lower *lo, uint32_t buf, Expr *const *idx);
uint32_t lower_buf(Lower *lo, const Value *v); /* the kernel argument that holds v, added at first use; forces v to memory */
bool lower_computes(Lower *lo, const Value *v); /* is it computed as it is read (by a prologue), so that lower_buf must not be asked for it? */
/* v's elements as one row, in row-major order of its run-time sizes: another view of the same argument memory. For rules
 * that copy data whose sizes they compute themselves. */
uint32_t lower_flat(Lower *lo, const Value *v);
uint32_t lower_view(Lower *lo, const Value *v, uint32_t rank, const Dim *dim); /* the same for other dims of equal product */
uint32_t lower_constant(Lower *lo, const Value *v); /* an argument for a constant the rule just made */
/* Calls a function of runtime/: buffers pass pointers, expressions int64_t or the expression's type. */
void lower_call(Lower *lo, const char *function, uint32_t n, const CallArg *arg);
static inline CallArg arg_buf(uint32_t buf) { return (CallArg){.is_buf = true, .buf = buf}; }
static inline CallArg arg_expr(Expr *e) { return (CallArg){.expr = e}; }

/* A scratch tensor of the kernel's caller (arena memory, not stack): a fresh graph value without definition.
 * Use for big intermediates of lower rules; any phase may write and later phases read it. */
Value *lower_scratch(Lower *lo, const Type *t);
/* A new constant, such as packed weights; data must outlive the module. Returns its kernel argument. */
uint32_t lower_weight(Lower *lo, const Type *t, const void *data);
/* The same for weights that a recipe makes from constants (ir/graph.h): large ones are made when they are written. */
uint32_t lower_made_weight(Lower *lo, const Type *t, const ConstRecipe *recipe);

/* Shorthand for rules; all take lo for ranges and context. */
static inline Expr *lx_add(Lower *lo, Expr *a, Expr *b) { return ex_2(lo->k, lo->cx, FN_ADD, a, b); }
static inline Expr *lx_sub(Lower *lo, Expr *a, Expr *b) { return ex_2(lo->k, lo->cx, FN_SUB, a, b); }
static inline Expr *lx_mul(Lower *lo, Expr *a, Expr *b) { return ex_2(lo->k, lo->cx, FN_MUL, a, b); }
static inline Expr *lx_div(Lower *lo, Expr *a, Expr *b) { return ex_2(lo->k, lo->cx, FN_DIV, a, b); }
static inline Expr *lx_i(Lower *lo, int64_t v) { return ex_i64(lo->cx, v); }
static inline Expr *lx_dim(Lower *lo, Dim d) { return ex_dim(lo->cx, d); }
static inline Expr *lx_1(Lower *lo, Fn fn, Expr *a) { return ex_1(lo->k, lo->cx, fn, a); }
Expr *lx_2(Lower *lo, Fn fn, Expr *a, Expr *b); /* FN_INDEX: notes which node it is that may fail */
static inline Expr *lx_select(Lower *lo, Expr *c, Expr *a, Expr *b) { return ex_select(lo->k, lo->cx, c, a, b); }
static inline Expr *lx_cast(Lower *lo, DType t, Expr *a) { return ex_cast(lo->k, lo->cx, t, a); }
static inline Expr *lx_const(Lower *lo, DType t, double v) { return ex_const(lo->cx, t, v); }

/* A data-dependent size becomes known: the caller's plan reads the symbol's value from `cell` after the kernel.
 * lower_set_dim stores count; lower_dim_cell gives the cell (i64 scalar buffer) for a runtime call to fill. */
typedef struct LowerDim { Dim symbol; Value *cell; } LowerDim;
void lower_set_dim(Lower *lo, Dim symbol, Expr *count);
Value *lower_dim_cell(Lower *lo, Dim symbol);

Stmt *lower_emit(Lower *lo, Stmt st); /* appends a statement as it is (contractions) */

/* The kernel of one node (a Fused node or a plain operator), the values of its arguments, the data-dependent symbols it
 * computes, and the nodes whose indices it checks. NULL after diag(). */
typedef struct LowerResult { Value **arg; const LowerDim *dim; uint32_t n_dim, n_checked; const Node *const *checked; } LowerResult;
Kernel *lower_node(Module *m, const Node *n, LowerResult *result);
/* So many channels, of an image's colours, are brought together by a statement each, so that the loop that compilers vectorise runs along the lines. */
enum { FEW_PLANES = 4 };
/* Marks the top-level loops whose iterations are independent (passes/parallelize.c): stores of different iterations
 * go to different elements and nothing reads what another iteration writes. */
void kernel_parallelize(Context *cx, Kernel *k);
/* The definition rule or lowering rule an operator has (passes/rules.c, from ops.def). */
typedef struct OpRules { ExpandFn *expand; GradFn *grad; DefineFn *define; LowerFn *lower; } OpRules; /* NULL: none */
OpRules op_rules(Op op);

#endif
