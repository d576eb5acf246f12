/* Shapes of RNN, GRU, LSTM and their relatives, and of RecurrentSteps, what they become (passes/expand/recurrent.c).
 *
 *     layout 0:  X [T,B,I]   Y [T,D,B,H]   Y_h, Y_c [D,B,H]          layout 1:  X [B,T,I]   Y [B,T,D,H]   Y_h, Y_c [B,D,H]
 *
 * with W [D, gates*H, I], R [D, gates*H, H], B [D, 2*gates*H], and D = 2 for bidirectional, else 1. */
#include <stdio.h>

#include "ir/shape/shape.h"

static uint32_t gates_of(const Node *n) {
    switch ((Op)n->op) {
    case OP_LSTM: return 4;
    case OP_GRU: return 3;
    default: return 1;
    }
}

/* Operand i has exactly these dims (0: any). */
static bool expect(Module *m, Node *n, uint32_t i, uint32_t rank, const Dim *dim) {
    if (i >= n->n_in || n->in[i] == NULL) return true;
    const Type *t = shape_in(m, n, i);
    if (t == NULL) return false;
    if (t->rank != rank) {
        diag(m->cx, SEV_ERROR, n->loc, "input %u has rank %u, %u is needed", i, t->rank, rank);
        return false;
    }
    for (uint32_t a = 0; a < rank; a++) {
        if (dim[a] == 0) continue;
        char what[32];
        snprintf(what, sizeof what, "dimension %u of input %u", a, i);
        if (shape_unify(m, n, t->dim[a], dim[a], what) == 0) return false;
    }
    return true;
}

static void set_outputs(Module *m, Node *n, DType t, Dim time, Dim batch, Dim directions, Dim hidden) {
    bool batch_first = attr_i(n, attr_named(n, "layout")) != 0;
    if (batch_first) {
        shape_out(m, n, 0, t, 4, (Dim[]){batch, time, directions, hidden});
        for (uint32_t i = 1; i < n->n_out; i++) shape_out(m, n, i, t, 3, (Dim[]){batch, directions, hidden});
    } else {
        shape_out(m, n, 0, t, 4, (Dim[]){time, directions, batch, hidden});
        for (uint32_t i = 1; i < n->n_out; i++) shape_out(m, n, i, t, 3, (Dim[]){directions, batch, hidden});
    }
}

bool shape_recurrent(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *x = shape_in(m, n, 0), *w = shape_in(m, n, 1), *r = shape_in(m, n, 2);
    if (x == NULL || w == NULL || r == NULL) return false;
    if (x->rank != 3 || w->rank != 3 || r->rank != 3) {
        diag(cx, SEV_ERROR, n->loc, "X, W and R have ranks %u, %u, %u; 3 is needed", x->rank, w->rank, r->rank);
        return false;
    }
    bool batch_first = attr_i(n, attr_named(n, "layout")) != 0;
    bool both = attr_s_is(cx, n, attr_named(n, "direction"), "bidirectional");
    Dim hidden = r->dim[2], directions = dim_const(cx, both ? 2 : 1), rows = dim_mul(cx, hidden, dim_const(cx, gates_of(n)));
    Dim time = x->dim[batch_first ? 1 : 0], batch = x->dim[batch_first ? 0 : 1];
    Dim state[3] = {batch_first ? batch : directions, batch_first ? directions : batch, hidden};
    bool ok = expect(m, n, 1, 3, (Dim[]){directions, rows, x->dim[2]}) && expect(m, n, 2, 3, (Dim[]){directions, rows, hidden}) &&
              expect(m, n, 3, 2, (Dim[]){directions, dim_mul(cx, rows, dim_const(cx, 2))}) && expect(m, n, 4, 1, &batch) &&
              expect(m, n, 5, 3, state) && expect(m, n, 6, 3, state) &&
              expect(m, n, 7, 2, (Dim[]){directions, dim_mul(cx, hidden, dim_const(cx, 3))});
    if (ok) set_outputs(m, n, x->dtype, time, batch, directions, hidden);
    return ok;
}

/* Inputs: projected X [D, T*B, gates*H], X itself (for its dims), R, B, sequence_lens, initial_h, initial_c, P. */
bool shape_recurrent_steps(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 1), *r = shape_in(m, n, 2);
    if (x == NULL || r == NULL) return false;
    bool batch_first = attr_i(n, AT_RecurrentSteps_layout) != 0;
    set_outputs(m, n, x->dtype, x->dim[batch_first ? 1 : 0], x->dim[batch_first ? 0 : 1], r->dim[0], r->dim[2]);
    return true;
}

/* DynamicQuantizeLSTM: W [D, I, 4*H], R [D, H, 4*H], layout 0. */
bool shape_dynamic_quantize_lstm(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *x = shape_in(m, n, 0), *w = x != NULL ? shape_in(m, n, 1) : NULL, *r = w != NULL ? shape_in(m, n, 2) : NULL;
    if (r == NULL) return false;
    if (x->rank != 3 || w->rank != 3 || r->rank != 3) {
        diag(cx, SEV_ERROR, n->loc, "X, W and R have ranks %u, %u, %u; 3 is needed", x->rank, w->rank, r->rank);
        return false;
    }
    Dim gates = dim_mul(cx, r->dim[1], dim_const(cx, 4));
    if (!expect(m, n, 1, 3, (Dim[]){r->dim[0], x->dim[2], gates}) || !expect(m, n, 2, 3, (Dim[]){0, 0, gates})) return false;
    for (uint32_t i = 8; i < 12; i++) { /* scales and zero points: per direction or per gate row */
        const Type *t = shape_in(m, n, i);
        if (t == NULL || !expect(m, n, i, t->rank == 2 ? 2 : 1, (Dim[]){r->dim[0], gates})) return false;
    }
    Dim state[3] = {r->dim[0], x->dim[1], r->dim[1]};
    if (!expect(m, n, 3, 2, (Dim[]){r->dim[0], dim_mul(cx, gates, dim_const(cx, 2))}) || !expect(m, n, 4, 1, &x->dim[1]) || !expect(m, n, 5, 3, state) ||
        !expect(m, n, 6, 3, state) || !expect(m, n, 7, 2, (Dim[]){r->dim[0], dim_mul(cx, r->dim[1], dim_const(cx, 3))}))
        return false;
    shape_out(m, n, 0, x->dtype, 4, (Dim[]){x->dim[0], r->dim[0], x->dim[1], r->dim[1]});
    for (uint32_t i = 1; i < n->n_out; i++) shape_out(m, n, i, x->dtype, 3, (Dim[]){r->dim[0], x->dim[1], r->dim[1]});
    return true;
}

/* AttnLSTM: W [D, 4*H, I+A], R [D, 4*H, H], QW [D,H,K], MW [D,depth,K], V [D,K], M [B,S,depth], AW [D, H+depth, A]; without AW, A is depth. */
bool shape_attention_lstm(Module *m, Node *n) {
    Context *cx = m->cx;
    for (uint32_t i = 0; i < 12; i++)
        if ((i < 3 || i > 7) && !shape_has_in(n, i)) return shape_fail(m, n, "X, W, R, QW, MW, V and M are needed");
    const Type *x = shape_in(m, n, 0), *w = x != NULL ? shape_in(m, n, 1) : NULL, *r = w != NULL ? shape_in(m, n, 2) : NULL, *query = r != NULL ? shape_in(m, n, 8) : NULL;
    const Type *memory = query != NULL ? shape_in(m, n, 11) : NULL, *layer = memory != NULL && shape_has_in(n, 13) ? shape_in(m, n, 13) : NULL;
    if (memory == NULL || (layer == NULL && shape_has_in(n, 13))) return false;
    if (x->rank != 3 || w->rank != 3 || r->rank != 3 || query->rank != 3 || memory->rank != 3 || (layer != NULL && layer->rank != 3))
        return shape_fail(m, n, "X, W, R, QW, M and AW must have rank 3");
    Dim hidden = r->dim[2], batch = x->dim[1], depth = memory->dim[2], width = query->dim[2], directions = dim_const(cx, attr_s_is(cx, n, AT_AttnLSTM_direction, "bidirectional") ? 2 : 1);
    Dim gates = dim_mul(cx, hidden, dim_const(cx, 4)), attended = layer != NULL ? layer->dim[2] : depth, state[3] = {directions, batch, hidden};
    bool ok = expect(m, n, 1, 3, (Dim[]){directions, gates, dim_add(cx, x->dim[2], attended)}) && expect(m, n, 2, 3, (Dim[]){directions, gates, hidden}) &&
              expect(m, n, 3, 2, (Dim[]){directions, dim_mul(cx, gates, dim_const(cx, 2))}) && expect(m, n, 4, 1, &batch) && expect(m, n, 5, 3, state) &&
              expect(m, n, 6, 3, state) && expect(m, n, 7, 2, (Dim[]){directions, dim_mul(cx, hidden, dim_const(cx, 3))}) &&
              expect(m, n, 8, 3, (Dim[]){directions, hidden, width}) && expect(m, n, 9, 3, (Dim[]){directions, depth, width}) &&
              expect(m, n, 10, 2, (Dim[]){directions, width}) && expect(m, n, 11, 3, (Dim[]){batch, memory->dim[1], depth}) &&
              expect(m, n, 12, 1, &batch) && expect(m, n, 13, 3, (Dim[]){directions, dim_add(cx, hidden, depth), attended});
    if (!ok) return false;
    shape_out(m, n, 0, x->dtype, 4, (Dim[]){x->dim[0], directions, batch, hidden});
    for (uint32_t i = 1; i < n->n_out; i++) shape_out(m, n, i, x->dtype, 3, state);
    return true;
}
