/* BatchNormalization has two forms: inference is pointwise (a define rule); training computes statistics and becomes
 * the operator BatchNormTrain. */
#include "passes/rules.h"

bool expand_batch_norm(Module *m, Node *n, Value **out) {
    if (attr_i(n, AT_BatchNormalization_training_mode) == 0) return false;
    Node *t = node_new(m, n->graph, n, OP_BatchNormTrain, n->n_in, n->in, n->n_out);
    t->loc = n->loc;
    attr_set_f(t, AT_BatchNormTrain_epsilon, attr_f(n, AT_BatchNormalization_epsilon));
    attr_set_f(t, AT_BatchNormTrain_momentum, attr_f(n, AT_BatchNormalization_momentum));
    for (uint32_t i = 0; i < n->n_out; i++) out[i] = n->out[i] != NULL ? t->out[i] : NULL;
    return node_infer(m, t);
}
