/* What the rewrite rules of simplify and recognize are made of.
 *
 *     static bool relu_of_relu(Rewriter *r, Node *n) {
 *         return rw_def(r, n->in[0], OP_Relu) != NULL && rw_replace(r, n, n->in[0]);
 *     }
 *
 * A rule looks at a node whose inputs are up to date, builds new nodes before it and replaces its output 0. It returns
 * whether it changed anything; it must not build nodes and then say false. Rules are rows of simplify.c and recognize.c. */
#ifndef LATHE_PASSES_SIMPLIFY_H
#define LATHE_PASSES_SIMPLIFY_H
#include "ir/graph.h"

typedef struct Rewriter {
    Module *m;
    Context *cx;
    Value **map;      /* by value id: read this one instead; NULL = itself */
    uint32_t *uses;   /* by value id: readers that are left */
    bool *is_output;  /* by value id: output of the model */
    uint32_t cap;     /* of the three */
    bool changed;
} Rewriter;

typedef bool RewriteFn(Rewriter *r, Node *n);
typedef struct Rule { Op op; RewriteFn *rewrite; } Rule;

/* Applies the rules to every node of the module, regions included, until none applies. True if anything changed. */
bool rewrite_module(Module *m, const Rule *rule, uint32_t n_rule);

/* v's definition if it is by this operator, its inputs up to date; NULL otherwise. */
Node *rw_def(Rewriter *r, const Value *v, Op op);
bool rw_single(const Rewriter *r, const Value *v); /* read once, and not an output of the model */
/* Output 0 of n is `to` from now on; n goes, and what only n read. False, and nothing done, when to cannot carry the
 * name of a model output: only possible for values that n did not build. */
bool rw_replace(Rewriter *r, Node *n, Value *to);

/* A node before `at` with at's place in the model; set its attributes, then rw_value infers it, folds it when its inputs
 * are constant, and gives its output. */
Node *rw_node(Rewriter *r, Node *at, Op op, uint32_t n_in, Value *const *in);
Node *rw_copy(Rewriter *r, Node *at, const Node *like, uint32_t n_in, Value *const *in); /* like's operator and attributes */
Value *rw_value(Rewriter *r, Node *n);
Value *rw_build1(Rewriter *r, Node *at, Op op, Value *a);
Value *rw_build2(Rewriter *r, Node *at, Op op, Value *a, Value *b);
void rw_discard(Rewriter *r, Value *v); /* built by this rule, and not good after all */
/* x with the type's shape: x itself if it has it, NULL if no Reshape can say it (two sizes unknown). */
Value *rw_reshape(Rewriter *r, Node *at, Value *x, uint32_t rank, const Dim *dim);

/* ---- looking at values ---- */
bool rw_splat(const Context *cx, const Value *v, double *x); /* a numeric constant whose elements are all x */
bool rw_is(const Context *cx, const Value *v, double x);     /* such a constant, of value x */
/* The elements of a small constant integer vector; false if they are not constant or more than max. */
bool rw_ints(Module *m, const Value *v, int64_t *x, uint32_t max, uint32_t *n);
bool rw_float(const Value *v);                               /* tensor of f16, bf16, f32 or f64 */
bool rw_same_type(const Value *a, const Value *b);

/* ---- rules, by file: passes/simplify/<file>.c ---- */
/* views */
RewriteFn simplify_same_type, simplify_reshape, simplify_to_reshape, simplify_transpose, simplify_slice, simplify_pad, simplify_concat, simplify_split,
    simplify_dropout, simplify_where, simplify_reshape_operand, simplify_expand_operand;
/* arithmetic */
RewriteFn simplify_neutral, simplify_pow, simplify_div, simplify_twice, simplify_chain, simplify_cast, simplify_castlike, simplify_clip, simplify_single;
/* contraction */
RewriteFn simplify_batch_norm, simplify_scale, simplify_shift, simplify_matmul_add, simplify_gemm_transpose, simplify_pad_conv,
    simplify_matmul_transpose, simplify_transpose_product;

#endif
