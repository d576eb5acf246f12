/* Shape rule of operators that are nothing but their expansion: it is tried out, and the types of what it gives are taken.
 *
 *     %y = QGemm(…)      the nodes of expand_qgemm are made before it, inferred, and removed again; %y gets the type of the last
 *
 * For rules that make no run-time sizes of their own: those would have other symbols each time. */
#include "ir/shape/shape.h"
#include "passes/lower.h"

bool shape_composite(Module *m, Node *n) {
    ExpandFn *expand = op_rules(n->op).expand;
    Node *before = n->prev;
    Value **out = ARENA_ARRAY(&m->cx->scratch, Value *, n->n_out);
    bool ok = expand != NULL && expand(m, n, out);
    for (uint32_t i = 0; ok && i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        ok = out[i] != NULL && out[i]->type != NULL && !out[i]->poison;
        if (!ok) break;
        n->out[i]->type = out[i]->type;
        n->out[i]->sym = out[i]->sym;
        n->out[i]->n_sym = out[i]->n_sym;
    }
    while (n->prev != before) node_remove(n->prev);
    if (!ok && m->cx->n_error == 0) diag(m->cx, SEV_ERROR, n->loc, "this form of the operator is not supported");
    return ok;
}
