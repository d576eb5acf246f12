/* Small helpers for expansion rules: nodes before `at`, with its location, inferred; results are NULL after a diagnostic. */
#ifndef LATHE_PASSES_EXPAND_BUILD_H
#define LATHE_PASSES_EXPAND_BUILD_H
#include "ir/graph.h"

Node *expand_node(Module *m, Node *at, Op op, uint32_t n_in, Value *const *in, uint32_t n_out); /* not inferred: set attributes first */
Value *expand_result(Module *m, Node *n);                                                       /* infers; output 0 */
Value *expand_cast(Module *m, Node *at, Value *v, DType t);
Value *expand_transpose(Module *m, Node *at, Value *v, uint32_t rank, const int64_t *perm);
Value *expand_move_channels(Module *m, Node *at, Value *v, bool to_last);                       /* [N, C, spatial…] to [N, spatial…, C], or back */
Value *expand_reshape(Module *m, Node *at, Value *v, uint32_t rank, const int64_t *shape);
Value *expand_concat(Module *m, Node *at, uint32_t n, Value *const *in, int64_t axis);
Value *expand_gather(Module *m, Node *at, Value *v, Value *index, int64_t axis);
Value *expand_slice(Module *m, Node *at, Value *v, int64_t from, int64_t to, int64_t axis);
Value *expand_reduce_axis(Module *m, Node *at, Op op, Value *v, int64_t axis, bool keepdims);
Value *expand_arg_max(Module *m, Node *at, Value *v, int64_t axis, bool keepdims);
Value *expand_softmax(Module *m, Node *at, Value *v, int64_t axis);
Value *expand_floats(Module *m, uint32_t rank, const int64_t *dim, const double *v, DType t); /* a constant */
Value *expand_ints(Module *m, uint32_t rank, const int64_t *dim, const int64_t *v);
/* The product of integers a and b less their zero points, times the scale, plus a bias; zero points and bias may be NULL. */
Value *expand_scaled_product(Module *m, Node *at, Value *a, Value *b, Value *scale, Value *za, Value *zb, Value *bias);
/* u8 [rows, bytes] with 8 / bits numbers to a byte, low bits first (bits 2, 4 or 8), as numbers [rows, numbers]: of a packed type for constants,
 * else u8. */
Value *expand_unpacked(Module *m, Node *at, Value *v, int64_t rows, int64_t bytes, int64_t bits);
/* v as output i of n, if that is wanted: under a name of its own where v is an input. */
void expand_give(Module *m, Node *n, Value **out, uint32_t i, Value *v);
bool expand_fail(Module *m, const Node *n, const char *what); /* an error at n; false */
static inline Value *expand_input(const Node *n, uint32_t i) { return i < n->n_in ? n->in[i] : NULL; }

#endif
