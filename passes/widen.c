/* widen: what makes elements longer is computed by each of its readers.
 *
 *     %f = DequantizeLinear(%q, …)  %a = Add(%f, %x)  %b = Mul(%f, %y)
 *  ->
 *     %f = DequantizeLinear(%q, …)  %a = Add(%f, %x)  %g = DequantizeLinear(%q, …)  %b = Mul(%g, %y)
 *
 * and likewise for bfloat16 that a Cast makes float, so that fusion puts it into the reader's loop and only the short elements are stored. */
#include "passes/pass.h"
#include "ir/graph.h"

enum { MOST_READERS = 8 };

static bool widens(const Node *n) {
    bool scaled = n->op == OP_DequantizeLinear || n->op == OP_Ms_DequantizeLinear;
    if ((!scaled && n->op != OP_Cast) || n->in[0]->data != NULL || n->out[0]->type->kind != TYPE_TENSOR) return false;
    return scaled || (n->in[0]->type->dtype == DT_BF16 && n->out[0]->type->dtype == DT_F32);
}

static Value *copy_before(Module *m, const Node *n, Node *reader) {
    Node *made = node_new(m, n->graph, reader, (Op)n->op, n->n_in, n->in, 1);
    for (uint32_t i = 0; i < n->n_attr; i++) made->attr[i] = n->attr[i];
    made->loc = n->loc;
    return node_infer(m, made) ? made->out[0] : NULL;
}

bool pass_widen(Context *cx, Module *m) {
    (void)cx;
    Uses uses = module_uses(m);
    bool changed = false;
    uint32_t n_value = m->n_value;
    FOR_NODES(n, m->main) {
        if (!widens(n) || n->out[0]->id >= n_value) continue;
        uint32_t first = uses.first[n->out[0]->id], last = uses.first[n->out[0]->id + 1];
        if (last - first > MOST_READERS) continue;
        const Node *kept = last > first ? uses.use[first].node : NULL;
        for (uint32_t u = first + 1; u < last; u++) {
            Node *reader = uses.use[u].node;
            if (reader == NULL || reader == kept || reader->graph != n->graph) continue;
            Value *copy = copy_before(m, n, reader);
            if (copy == NULL) continue;
            reader->in[uses.use[u].index] = copy;
            changed = true;
        }
    }
    return changed;
}
