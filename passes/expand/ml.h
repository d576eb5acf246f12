/* What the classifiers and regressors of ai.onnx.ml share. */
#ifndef LATHE_PASSES_EXPAND_ML_H
#define LATHE_PASSES_EXPAND_ML_H
#include "ir/graph.h"

/* post_transform NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT applied to scores [N,C]; NULL after a diagnostic. */
Value *ml_post_transform(Module *m, Node *at, Value *scores, const char *name);
/* Class labels (attributes classlabels_*) at index [N]. */
Value *ml_labels(Module *m, Node *at, Value *index);
/* input 0 as [N,F] of f32 or f64 */
Value *ml_rows(Module *m, Node *at);

#endif
