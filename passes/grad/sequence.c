/* Gradients of sequences, which are three tensors when they are differentiated (passes/sequences.c). Elements move between slots, so the
 * gradient of the data [capacity, slot] is data whose slots move back; beyond an element, and in slots of no element, it is 0.
 *
 *     x = SeqAt(s, p)            ds = 0, slot p: dx               s = SeqConstruct(x, y)     dx: slot 0 of ds, dy: slot 1
 *     t = SeqInsert(s, x, p)     dx: slot p of dt                 ds: slots of dt without slot p
 *     x = SeqConcat(s)           ds: slots of dx (SeqSpread)      s = SeqSplit(x)            dx = SeqConcat(ds) */
#include "passes/grad/grad.h"
#include "passes/rules.h"

static void set_type(Node *n, AttrSlot slot, const Type *t) { *attr_at(n, slot) = (Attr){.present = true, .type = t}; }
static Value *whole(Grad *g, int64_t v) { return value_const_scalar(g->m, DT_I64, (double)v); }
static int64_t slots(const Grad *g, const Type *data) { return dim_value(g->m->cx, data->dim[0]); }

/* Operand i of a node whose sequence has `length` elements: a place, counted from the end when negative; `missing` when it is left out. */
static Value *place(Grad *g, uint32_t i, Value *length, Value *missing) {
    Value *p = g_in(g, i);
    if (p == NULL) return missing;
    p = g_2(g, OP_Reshape, g_cast(g, p, DT_I64), value_const_i64(g->m, 0, NULL));
    return g_where(g, g_2(g, OP_Less, p, whole(g, 0)), g_add(g, p, length), p);
}

/* The element in slot p, of x's sizes. */
static Value *element(Grad *g, Value *data, Value *p, Value *x) {
    Value *one = value_const_i64(g->m, 1, (int64_t[]){1}), *size = g_2(g, OP_Reshape, g_1(g, OP_Size, x), one);
    Value *row = expand_gather(g->m, g->at, data, p, 0);
    Node *cut = g_node(g, OP_Slice, 3, (Value *[]){row, value_const_i64(g->m, 1, (int64_t[]){0}), size}, 1);
    return g_reshape_like(g, g_done(g, cut), x);
}

/* Slot i of the result is slot from[i] of d where valid[i], else 0; its type is `type`. */
static Value *moved(Grad *g, Value *d, Value *from, Value *valid, const Type *type) {
    Value *inside = g_2(g, OP_Max, g_2(g, OP_Min, from, whole(g, slots(g, d->type) - 1)), whole(g, 0));
    Value *rows = expand_gather(g->m, g->at, d, inside, 0), *column = g_2(g, OP_Unsqueeze, valid, value_const_i64(g->m, 1, (int64_t[]){1}));
    int64_t have = dim_value(g->m->cx, d->type->dim[1]), want = dim_value(g->m->cx, type->dim[1]);
    rows = g_where(g, column, rows, g_num(g, d, 0));
    if (have > want) return expand_slice(g->m, g->at, rows, 0, want, 1);
    if (have == want) return rows;
    int64_t rest[2] = {slots(g, type), want - have};
    Value *zeros = g_2(g, OP_Expand, g_num(g, d, 0), value_const_i64(g->m, 2, rest));
    return expand_concat(g->m, g->at, 2, (Value *[]){rows, zeros}, 1);
}

/* 0, 1, 2 …, a number for each slot. */
static Value *numbers(Grad *g, const Type *data) {
    int64_t n = slots(g, data), *v = ARENA_ARRAY(&g->m->cx->scratch, int64_t, n);
    for (int64_t i = 0; i < n; i++) v[i] = i;
    return value_const_i64(g->m, (uint32_t)n, v);
}

bool grad_seq_construct(Grad *g) {
    for (uint32_t i = 0; i < g->n->n_in && g->dy[2] != NULL; i++)
        if (g_wants(g, i)) g->dx[i] = element(g, g->dy[2], whole(g, i), g->n->in[i]);
    return true;
}

bool grad_seq_insert(Grad *g) {
    Value *length = g->n->in[0], *x = g->n->in[3], *d = g->dy[2], *p;
    if (d == NULL) return true;
    p = place(g, 4, length, length);
    const Type *data = g->n->in[2]->type;
    Value *i = numbers(g, data);
    if (g_wants(g, 2)) {
        Value *behind = g_cast(g, g_2(g, OP_GreaterOrEqual, i, p), DT_I64);
        g->dx[2] = moved(g, d, g_add(g, i, behind), g_2(g, OP_Less, i, length), data);
    }
    if (g_wants(g, 3)) g->dx[3] = element(g, d, p, x);
    return true;
}

bool grad_seq_erase(Grad *g) {
    Value *length = g->n->in[0], *d = g->dy[2];
    if (d == NULL) return true;
    const Type *data = g->n->in[2]->type;
    Value *p = place(g, 3, length, g_sub(g, length, whole(g, 1))), *i = numbers(g, data);
    Value *behind = g_cast(g, g_2(g, OP_Greater, i, p), DT_I64), *other = g_1(g, OP_Not, g_2(g, OP_Equal, i, p));
    g->dx[2] = moved(g, d, g_sub(g, i, behind), g_2(g, OP_And, other, g_2(g, OP_Less, i, length)), data);
    return true;
}

bool grad_seq_resize(Grad *g) {
    if (g->dy[2] == NULL) return true;
    const Type *data = g->n->in[2]->type;
    Value *i = numbers(g, data);
    g->dx[2] = moved(g, g->dy[2], i, g_2(g, OP_Less, i, g->n->in[0]), data);
    return true;
}

bool grad_seq_at(Grad *g) {
    Node *n = g_node(g, OP_SeqPut, 3, (Value *[]){g->dy[0], g->n->in[0], g->n->in[3]}, 1);
    set_type(n, AT_SeqPut_type, g->n->in[2]->type);
    g->dx[2] = g_done(g, n);
    return true;
}

bool grad_seq_put(Grad *g) {
    g->dx[0] = element(g, g->dy[0], place(g, 2, g->n->in[1], NULL), g->n->in[0]);
    return true;
}

/* The elements of a sequence along an axis, as a tensor like x. */
static Value *joined(Grad *g, Value *length, Value *dims, Value *data, int64_t axis, bool new_axis, const Value *x) {
    Node *n = g_node(g, OP_SeqConcat, 3, (Value *[]){length, dims, data}, 1);
    attr_set_i(n, AT_SeqConcat_axis, axis);
    attr_set_i(n, AT_SeqConcat_new_axis, new_axis);
    n->out[0]->type = x->type;
    return g_done(g, n);
}

bool grad_seq_split(Grad *g) {
    if (g->dy[2] == NULL) return true;
    g->dx[0] = joined(g, g->n->out[0], g->n->out[1], g->dy[2], attr_i(g->n, AT_SeqSplit_axis), attr_i(g->n, AT_SeqSplit_keepdims) == 0, g->n->in[0]);
    return true;
}

bool grad_seq_concat(Grad *g) {
    Node *n = g_node(g, OP_SeqSpread, 3, (Value *[]){g->dy[0], g->n->in[0], g->n->in[1]}, 1);
    attr_set_i(n, AT_SeqSpread_axis, attr_i(g->n, AT_SeqConcat_axis));
    attr_set_i(n, AT_SeqSpread_new_axis, attr_i(g->n, AT_SeqConcat_new_axis));
    set_type(n, AT_SeqSpread_type, g->n->in[2]->type);
    g->dx[2] = g_done(g, n);
    return true;
}

bool grad_seq_spread(Grad *g) {
    g->dx[0] = joined(g, g->n->in[1], g->n->in[2], g->dy[0], attr_i(g->n, AT_SeqSpread_axis), attr_i(g->n, AT_SeqSpread_new_axis) != 0, g->n->in[0]);
    return true;
}

/* What an optional holds. */
bool grad_present_element(Grad *g) {
    g->dx[0] = g->dy[0];
    return true;
}
