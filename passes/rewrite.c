/* Replacing values without losing the names of the model's outputs: see rewrite.h. */
#include "passes/rewrite.h"

static bool is_output(const Module *m, const Value *v) {
    for (uint32_t i = 0; i < m->main->n_out; i++)
        if (m->main->out[i] == v) return true;
    return false;
}

bool value_can_replace(const Module *m, const Value *from, const Value *to) {
    return !is_output(m, from) || (to->def != NULL && to->def->graph == m->main && !is_output(m, to));
}

void node_forward_output(Module *m, Node *n, uint32_t i, Value *to) {
    Value *from = n->out[i];
    if (!value_can_replace(m, from, to)) {
        Node *copy = node_new(m, n->graph, n, OP_Identity, 1, &to, 1);
        node_infer(m, copy);
        to = copy->out[0];
    }
    if (is_output(m, from)) to->name = from->name;
    if (to->declared == NULL) to->declared = from->declared;
    value_replace(m, from, to);
    n->out[i] = NULL;
}
