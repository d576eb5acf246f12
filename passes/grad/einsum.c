/* The gradient of Einsum: for each operand an Einsum of dy with the other operands.
 *
 *     "bij,bjk->bik"      da = Einsum("bik,bjk->bij")(dy, b)      db = Einsum("bik,bij->bjk")(dy, a)
 *
 * Labels that only this operand has were summed: dy is the same along them. A label that it has twice picked a diagonal: dy goes there. */
#include "ir/shape/contraction.h"
#include "passes/grad/grad.h"
#include "passes/rules.h"

enum { LETTERS = 52 };
static const char letters[LETTERS + 1] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

typedef struct Equation { char text[512]; uint32_t n; } Equation;

static void put(Equation *e, char c) {
    if (e->n + 1 < sizeof e->text) e->text[e->n++] = c;
}

static void put_labels(Equation *e, const uint8_t *label, uint32_t rank) {
    for (uint32_t d = 0; d < rank; d++) put(e, letters[label[d]]);
}

/* Where both are equal along two axes: 1, else 0; ones elsewhere. */
static Value *diagonal(Grad *g, Value *like, uint32_t a, uint32_t b) {
    Value *position[2];
    for (uint32_t i = 0; i < 2; i++) {
        Value *size = g_2(g, OP_Reshape, g_size(g, like, i == 0 ? a : b), value_const_i64(g->m, 0, NULL));
        Value *range = g_3(g, OP_Range, value_const_scalar(g->m, DT_I64, 0), size, value_const_scalar(g->m, DT_I64, 1));
        int64_t axes[RANK_MAX];
        uint32_t n = 0;
        for (uint32_t d = 0; d < like->type->rank; d++)
            if (d != (i == 0 ? a : b)) axes[n++] = d;
        position[i] = g_2(g, OP_Unsqueeze, range, value_const_i64(g->m, n, axes));
    }
    return g_2(g, OP_Equal, position[0], position[1]);
}

static Value *operand_gradient(Grad *g, const EinsumGeometry *e, uint32_t which) {
    const Node *n = g->n;
    Value *x = n->in[which], **in = ARENA_ARRAY(&g->m->cx->scratch, Value *, n->n_in);
    uint32_t rank = x->type->rank, n_in = 0;
    bool there[LETTERS] = {false}, used[LETTERS] = {false};
    Equation eq = {.n = 0};
    put_labels(&eq, e->label[n->n_in], n->out[0]->type->rank);
    for (uint32_t l = 0; l < e->n_result; l++) there[l] = true;
    in[n_in++] = g->dy[0];
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (i == which) continue;
        put(&eq, ',');
        put_labels(&eq, e->label[i], n->in[i]->type->rank);
        for (uint32_t d = 0; d < n->in[i]->type->rank; d++) there[e->label[i][d]] = true;
        in[n_in++] = n->in[i];
    }
    put(&eq, '-');
    put(&eq, '>');
    int64_t added[RANK_MAX];
    uint32_t n_added = 0;
    for (uint32_t d = 0; d < rank; d++) { /* labels nobody else has, and second occurrences, become axes of 1 */
        uint8_t l = e->label[which][d];
        if (there[l] && !used[l]) put(&eq, letters[l]);
        else added[n_added++] = d;
        used[l] = true;
    }
    eq.text[eq.n] = 0;
    Node *product = g_node(g, OP_Einsum, n_in, in, 1);
    attr_set_s(product, AT_Einsum_equation, str_intern(g->m->cx, eq.text));
    Value *v = g_done(g, product);
    if (v == NULL) return NULL;
    if (n_added != 0) v = g_2(g, OP_Unsqueeze, v, value_const_i64(g->m, n_added, added));
    v = g_sum_to(g, v, x); /* a dimension of 1 that was repeated */
    v = g_expand_like(g, v, x);
    for (uint32_t b = 0; b < rank; b++)
        for (uint32_t a = 0; a < b; a++)
            if (e->label[which][a] == e->label[which][b]) {
                v = g_where(g, diagonal(g, x, a, b), v, g_num(g, x, 0));
                break;
            }
    return v;
}

bool grad_einsum(Grad *g) {
    EinsumGeometry e;
    if (!einsum_geometry(g->m, g->n, &e)) return false;
    if (e.n_label > LETTERS) return false;
    for (uint32_t i = 0; i < g->n->n_in; i++)
        if (g_wants(g, i) && (g->dx[i] = operand_gradient(g, &e, i)) == NULL) return false;
    return true;
}
