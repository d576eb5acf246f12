/* Building a composition node by node without looking at every result: each function gives NULL when an operand is NULL or could not be
 * inferred, so that a rule writes down the formula and looks once, at its end.
 *
 *     Chain c = {m, n};
 *     Value *y = chain_mul(&c, x, chain_1(&c, OP_Sigmoid, chain_times(&c, x, alpha)));
 *     out[0] = y;
 *     return y != NULL; */
#ifndef LATHE_PASSES_EXPAND_CHAIN_H
#define LATHE_PASSES_EXPAND_CHAIN_H
#include "ir/graph.h"

typedef struct Chain { /* nodes go before n */
    Module *m;
    Node *n;
} Chain;

Value *chain_1(const Chain *c, Op op, Value *a);
Value *chain_2(const Chain *c, Op op, Value *a, Value *b);
Value *chain_3(const Chain *c, Op op, Value *a, Value *b, Value *d);
Value *chain_node(const Chain *c, Node *n); /* infers a node whose attributes were set; its output 0 */
static inline Value *chain_add(const Chain *c, Value *a, Value *b) { return chain_2(c, OP_Add, a, b); }
static inline Value *chain_sub(const Chain *c, Value *a, Value *b) { return chain_2(c, OP_Sub, a, b); }
static inline Value *chain_mul(const Chain *c, Value *a, Value *b) { return chain_2(c, OP_Mul, a, b); }
static inline Value *chain_div(const Chain *c, Value *a, Value *b) { return chain_2(c, OP_Div, a, b); }

/* Constants: an i64 scalar; i64 vectors; a scalar of the type of `like`. */
Value *chain_int(const Chain *c, int64_t v);
Value *chain_like(const Chain *c, const Value *like, double v);
Value *chain_times(const Chain *c, Value *v, double factor);
Value *chain_plus(const Chain *c, Value *v, double term);

Value *chain_cast(const Chain *c, Value *v, DType t);
Value *chain_reshape(const Chain *c, Value *v, uint32_t rank, const int64_t *shape);
Value *chain_transpose(const Chain *c, Value *v, uint32_t rank, const int64_t *perm);
Value *chain_unsqueeze(const Chain *c, Value *v, int64_t axis);
Value *chain_squeeze(const Chain *c, Value *v, int64_t axis);
Value *chain_concat(const Chain *c, Value *a, Value *b, int64_t axis);
Value *chain_slice(const Chain *c, Value *v, int64_t from, int64_t to, int64_t axis);
Value *chain_gather(const Chain *c, Value *v, Value *index, int64_t axis);
Value *chain_gather_nd(const Chain *c, Value *v, Value *index, int64_t batch_dims);
Value *chain_reduce(const Chain *c, Op op, Value *v, int64_t axis, bool keepdims);
Value *chain_softmax(const Chain *c, Value *v, int64_t axis);
Value *chain_arg_max(const Chain *c, Value *v, int64_t axis, bool keepdims);

Value *chain_size(const Chain *c, Value *v, int64_t axis);                          /* size of a dim, an i64 scalar */
Value *chain_scalar(const Chain *c, Value *v);                                      /* one number in any shape as an i64 scalar */
Value *chain_count(const Chain *c, Value *count, int64_t rank, int64_t axis);       /* 0, 1, … < count along `axis` of a tensor of rank `rank` */
Value *chain_expand_like(const Chain *c, Value *v, Value *like);                    /* v in the shape of `like` */

#endif
