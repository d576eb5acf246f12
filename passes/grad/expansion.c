/* Operators that are differentiated as what they are made of: the column grad of ops.def says `expansion`. The operator is replaced in
 * place, before the walk, so that values of the forward pass (gates of an LSTM, attention probabilities) are there for the backward pass.
 *
 * Most have an expansion anyhow (column expand). Here are those that need another one, or only sometimes one. */
#include "passes/grad/grad.h"
#include "passes/lower.h"
#include "passes/rules.h"

bool grad_expansion(Grad *g) {
    diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient is not supported: it should have been replaced by simpler operators");
    return false;
}

ExpandFn *grad_expansion_of(Module *m, const Node *n) {
    (void)m;
    switch ((int)n->op) {
    case OP_BatchNormalization: return attr_i(n, AT_BatchNormalization_training_mode) != 0 ? expand_batch_norm : NULL;
    case OP_RNN: case OP_GRU: case OP_LSTM: return grad_expand_recurrent;
    case OP_Loop: return grad_expand_loop;
    default: break;
    }
    OpRules rules = op_rules(n->op);
    return rules.grad == grad_expansion ? rules.expand : NULL;
}
