/* LinearAttention as a Scan over the tokens, which is what is differentiated:
 *
 *     S = exp(decay) * S                  (gated)
 *     u = beta * (v - k S)                (delta; otherwise u = v)
 *     S = S + k' u        y = scale * q S
 *
 * with S [B, H, K, V], and per token k [B, H, 1, K], v [B, H, 1, V], q [B, H, group, K]. */
#include <math.h>

#include "passes/grad/grad.h"
#include "passes/rules.h"

typedef struct Attention { Grad g; int64_t heads, group; } Attention;

/* [B, T, heads*size] as [T, B, H, group, size]. */
static Value *by_token(Attention *a, Value *v, int64_t group) {
    Module *m = a->g.m;
    Value *split = g_2(&a->g, OP_Reshape, v, value_const_i64(m, 5, (int64_t[]){0, 0, a->heads, group, -1}));
    return g_transpose(&a->g, split, (int64_t[]){1, 0, 2, 3, 4});
}

bool grad_expand_linear_attention(Module *m, Node *n, Value **out) {
    Context *cx = m->cx;
    AttrSlot rule = attr_named(n, "update_rule");
    Attention a = {.g = {.m = m, .n = n, .at = n}, .heads = attr_i(n, attr_named(n, "kv_num_heads"))};
    Grad *g = &a.g;
    a.group = attr_i(n, attr_named(n, "q_num_heads")) / a.heads;
    bool both = attr_s_is(cx, n, rule, "gated_delta"), gated = both || attr_s_is(cx, n, rule, "gated"), delta = both || attr_s_is(cx, n, rule, "delta");
    Value *decay = expand_input(n, 4), *beta = expand_input(n, 5), *state = expand_input(n, 3), *q = n->in[0];
    if ((gated && decay == NULL) || (delta && beta == NULL)) return false;
    Value *qt = by_token(&a, q, a.group), *kt = by_token(&a, n->in[1], 1), *vt = by_token(&a, n->in[2], 1), *scan_in[6];
    if (qt == NULL || kt == NULL || vt == NULL) return false;
    Dim key = kt->type->dim[4];
    double scale = attr_f(n, attr_named(n, "scale"));
    if (scale == 0) {
        if (!dim_is_const(cx, key)) return false;
        scale = 1 / sqrt((double)dim_value(cx, key));
    }
    if (state == NULL) {
        Value *part[4] = {g_size(g, kt, 1), g_size(g, kt, 2), g_size(g, kt, 4), g_size(g, vt, 4)};
        state = g_2(g, OP_Expand, g_num(g, q, 0), expand_concat(m, n, 4, part, 0));
    }
    uint32_t count = 0;
    scan_in[count++] = state;
    scan_in[count++] = qt;
    scan_in[count++] = kt;
    scan_in[count++] = vt;
    if (gated) scan_in[count++] = by_token(&a, decay, 1);
    if (delta) {
        bool one = beta->type->dim[2] == dim_const(cx, 1);
        Value *b = one ? g_transpose(g, g_2(g, OP_Unsqueeze, beta, value_const_i64(m, 2, (int64_t[]){2, 3})), (int64_t[]){1, 0, 2, 3, 4}) : by_token(&a, beta, 1);
        scan_in[count++] = b;
    }
    Graph *body = graph_new(m, n->graph, "token");
    Value *param[6];
    for (uint32_t i = 0; i < count; i++) {
        const Type *t = scan_in[i]->type;
        param[i] = graph_add_input(m, body, i == 0 ? t : type_tensor(cx, t->dtype, t->rank - 1u, t->dim + 1), 0);
    }
    Node *end = node_new(m, body, NULL, OP_Identity, 1, &param[0], 1);
    end->loc = n->loc;
    Grad b = {.m = m, .n = n, .at = end};
    Value *s = param[0], *k = param[2], *u = param[3];
    const int64_t swap[4] = {0, 1, 3, 2};
    if (gated) { /* one per head, or one per key */
        Value *keep = g_1(&b, OP_Exp, param[4]);
        s = g_mul(&b, s, g_transpose(&b, keep, swap));
    }
    if (delta) u = g_mul(&b, param[count - 1], g_sub(&b, u, g_matmul(&b, k, false, s, false, 1)));
    s = g_add(&b, s, g_mul(&b, g_transpose(&b, k, swap), u));
    Value *y = g_matmul(&b, param[1], false, s, false, scale);
    graph_add_output(m, body, g_1(&b, OP_Identity, s));
    graph_add_output(m, body, g_1(&b, OP_Identity, y));
    node_remove(end);
    Node *scan = g_node(g, OP_Scan, count, scan_in, 2);
    attr_set_graph(scan, AT_Scan_body, body);
    attr_set_i(scan, AT_Scan_num_scan_inputs, count - 1);
    if (!node_infer(m, scan)) return false;
    Value *tokens = g_transpose(g, scan->out[1], (int64_t[]){1, 0, 2, 3, 4}); /* [B, T, H, group, V] */
    out[0] = g_reshape_like(g, tokens, n->out[0]);
    if (n->n_out > 1 && n->out[1] != NULL) out[1] = g_1(g, OP_Identity, scan->out[0]);
    return true;
}
