/* Fused: the types of a group are those its body finds for the node's inputs. */
#include "ir/shape/shape.h"

bool shape_fused(Module *m, Node *n) {
    Graph *body = attr_at(n, AT_Fused_body)->graph;
    for (uint32_t i = 0; i < n->n_in && i < body->n_in; i++) {
        body->in[i]->type = n->in[i]->type;
        body->in[i]->sym = n->in[i]->sym;
        body->in[i]->n_sym = n->in[i]->n_sym;
    }
    if (!graph_infer(m, body)) return false;
    for (uint32_t i = 0; i < n->n_out && i < body->n_out; i++) {
        if (n->out[i] == NULL) continue;
        n->out[i]->type = body->out[i]->type;
        n->out[i]->sym = body->out[i]->sym;
        n->out[i]->n_sym = body->out[i]->n_sym;
    }
    return true;
}
