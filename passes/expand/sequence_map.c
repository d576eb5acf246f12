/* SequenceMap as a Loop, as its definition in ONNX says:
 *
 *     SequenceMap(%s, %t) {body}   ->   Loop(SequenceLength(%s), , SequenceEmpty) { i, _, %acc:
 *                                           SequenceInsert(%acc, body(SequenceAt(%s, i), %t)) } */
#include "passes/rules.h"

bool expand_sequence_map(Module *m, Node *n, Value **out) {
    Context *cx = m->cx;
    Graph *inner = attr_at(n, AT_SequenceMap_body)->graph;
    Value **in = ARENA_ARRAY(&cx->arena, Value *, n->n_out + 2u);
    in[0] = build1(m, n, OP_SequenceLength, n->in[0]);
    for (uint32_t i = 0; i < n->n_out; i++) {
        Node *empty = node_new(m, n->graph, n, OP_SequenceEmpty, 0, NULL, 1);
        attr_set_i(empty, AT_SequenceEmpty_dtype, dtype_to_onnx(inner->out[i]->type->dtype));
        node_infer(m, empty);
        in[i + 2] = empty->out[0];
    }
    Graph *body = graph_new(m, n->graph, "map");
    const Type *scalar = type_tensor(cx, DT_I64, 0, NULL);
    Value *iteration = graph_add_input(m, body, scalar, 0), *condition = graph_add_input(m, body, type_tensor(cx, DT_BOOL, 0, NULL), 0);
    Value **acc = ARENA_ARRAY(&cx->arena, Value *, n->n_out), **element = ARENA_ARRAY(&cx->arena, Value *, n->n_in);
    for (uint32_t i = 0; i < n->n_out; i++) acc[i] = graph_add_input(m, body, in[i + 2]->type, 0);
    for (uint32_t i = 0; i < n->n_in; i++) {
        element[i] = n->in[i];
        if (n->in[i]->type->kind == TYPE_SEQUENCE) element[i] = node_new(m, body, NULL, OP_SequenceAt, 2, (Value *[]){n->in[i], iteration}, 1)->out[0];
    }
    Graph *copy = graph_clone(m, inner, body, element);
    for (Node *c = copy->first, *next; c != NULL; c = next) { /* the copy's nodes move into the loop's body */
        next = c->next;
        node_remove(c);
        c->graph = body;
        for (uint32_t i = 0; i < c->n_attr; i++)
            if (attr_info(op_info(c->op)->attr_first + i)->kind == ATTR_GRAPH && c->attr[i].present) c->attr[i].graph->outer = body;
        c->prev = body->last;
        if (body->last != NULL) body->last->next = c;
        else body->first = c;
        body->last = c;
    }
    graph_add_output(m, body, condition);
    for (uint32_t i = 0; i < n->n_out; i++)
        graph_add_output(m, body, node_new(m, body, NULL, OP_SequenceInsert, 2, (Value *[]){acc[i], copy->out[i]}, 1)->out[0]);
    Node *loop = node_new(m, n->graph, n, OP_Loop, n->n_out + 2u, in, n->n_out);
    attr_set_graph(loop, AT_Loop_body, body);
    for (uint32_t i = 0; i < n->n_out; i++) out[i] = loop->out[i];
    return node_infer(m, loop);
}
