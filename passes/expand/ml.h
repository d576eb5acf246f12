/* What the classifiers and regressors of ai.onnx.ml share. */
#ifndef LATHE_PASSES_EXPAND_ML_H
#define LATHE_PASSES_EXPAND_ML_H
#include "ir/graph.h"

/* post_transform NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT applied to scores [N,C]; NULL after a diagnostic. */
Value *ml_post_transform(Module *m, Node *at, Value *scores, const char *name);
/* Class labels (attributes classlabels_*) at index [N]. */
Value *ml_labels(Module *m, Node *at, Value *index);
int64_t ml_label_count(const Node *n);
/* Scores of two classes [N,2] from the one [N,1] of the second: (1 - s, s) if the classes share a whole, else (-s, s), or
 * their logistic function; the other transforms compare classes and have nothing to do (so in ONNX Runtime). */
Value *ml_two_scores(Module *m, Node *at, Value *s, const char *post, bool share);
/* input 0 as [N,F] of f32 or f64 */
Value *ml_rows(Module *m, Node *at);

#endif
