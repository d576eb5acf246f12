/* Reverse-mode differentiation for whoever builds a training graph.
 *
 *     Value *dw[2];
 *     gradient_of(m, m->main, NULL, 1, &loss, NULL, 2, (Value *[]){w1, w2}, dw)      // dw[i] = d loss / d w_i
 *
 * Any values serve: inputs, constants (parameters are constants with a name), tensors in between. A value read in several places (tied
 * weights) gets the sum. What is not in wrt is a constant: freezing a parameter is leaving it out, and the operator StopGradient cuts a
 * path. Calls may be repeated on one module: several losses, or derivatives of derivatives. */
#ifndef LATHE_PASSES_GRADIENT_H
#define LATHE_PASSES_GRADIENT_H
#include "ir/graph.h"

/* Builds before `at` (NULL: at the end of g) the gradient of y[0..n_y) with respect to wrt[0..n_wrt). seed[i] is the gradient of y[i]
 * itself, of its type; seed or seed[i] NULL: ones. grad[j] gets that of wrt[j], of its type, or NULL where no y depends on it. Values keep
 * their address: an operator that is differentiated through its expansion is replaced by it, and its outputs stay. Only nodes that the
 * results need are left. False after a diag(): an operator on the way has no gradient. */
bool gradient_of(Module *m, Graph *g, Node *at, uint32_t n_y, Value *const *y, Value *const *seed, uint32_t n_wrt, Value *const *wrt, Value **grad);

/* Computes small constants that sizes may depend on, so that rules know scales, axes and the like: call it before gradient_of on an imported
 * graph. keep[0..n_keep) are constants that will be differentiated by. */
void gradient_fold_sizes(Module *m, uint32_t n_keep, Value *const *keep);

#endif
