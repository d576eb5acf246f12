/* The gradient of Scan is a Scan that runs the other way (backpropagation through time).
 *
 *     h = Scan(h0; x_t) { h' = tanh(x_t + h R) }        ->        h, H, A = Scan(h0; x_t) { a = h R, h' = tanh(x_t + a) } also stacking h and a
 *                                                                 dh0, G = Scan(dh; H_t, A_t, reversed) { g = dh * (1 - tanh(..)^2), dh' = g R' } stacking g
 *                                                                 dR = H' G
 *
 * The body of the backward Scan is the forward body and its backward graph. Of the forward part, what is cheap is computed again; results of
 * products, reductions and of random operators are stacked by the forward Scan and read. Gradients of values from outside (weights) are
 * carried sums, except that a product over rows becomes one product over the rows of all steps behind the loop. */
#include "passes/gradient.h"
#include "passes/grad/grad.h"
#include "passes/grad/region.h"
#include "passes/lower.h"
#include "passes/rules.h"

typedef struct Scan {
    Grad *g;
    Node *n;              /* the forward Scan */
    Graph *body, *back;   /* back: copy of body, then its backward graph */
    uint32_t states, scans, outs; /* outs: stacked outputs */
    Value **state, **slice;       /* parameters of the copy */
    Value **dstate, **dout;       /* parameters: gradients of the states behind the step, of the stacked outputs' slices; NULL: none */
    Values captured;
    Value **dparam;       /* gradients by parameter: states, slices, captured */
    Node *first_back;     /* first node of the backward graph */
    /* the backward Scan as it grows */
    VEC(Value *) in_state, init, out_state;
    VEC(Value *) in_scan, scan;
    VEC(int64_t) in_axis, in_reverse;
    VEC(Value *) out_scan;
    VEC(int64_t) out_axis, out_reverse;
} Scan;

static Arena *arena(const Scan *s) { return &s->g->m->cx->arena; }

static bool is_float(const Value *v) { return dtype_is_float(v->type->dtype); }

static void read_scan(Scan *s, Value *param, Value *stack, int64_t axis, bool reverse) {
    vec_push(arena(s), &s->in_scan, param);
    vec_push(arena(s), &s->scan, stack);
    vec_push(arena(s), &s->in_axis, axis);
    vec_push(arena(s), &s->in_reverse, reverse);
}

static uint32_t write_scan(Scan *s, Value *v, int64_t axis, bool reverse) {
    for (uint32_t i = 0; i < s->out_scan.n; i++)
        if (s->out_scan.v[i] == v && s->out_axis.v[i] == axis && s->out_reverse.v[i] == reverse) return i;
    vec_push(arena(s), &s->out_scan, v);
    vec_push(arena(s), &s->out_axis, axis);
    vec_push(arena(s), &s->out_reverse, reverse);
    return s->out_scan.n - 1;
}

static bool reversed(const Scan *s, AttrSlot slot, uint32_t i) { return attr_ints_at(s->n, slot, i) != 0; }

/* ---- the body -------------------------------------------------------------------------------------------------------------------- */
static Value *parameter_like(Scan *s, const Value *v) { return value_new(s->g->m, v->type, 0); }

/* Copies the forward body; its parameters become fresh values without a definition. */
static void copy_body(Scan *s) {
    Module *m = s->g->m;
    Value **in = ARENA_ARRAY(arena(s), Value *, s->body->n_in + 1);
    for (uint32_t i = 0; i < s->body->n_in; i++) in[i] = parameter_like(s, s->body->in[i]);
    s->state = in;
    s->slice = in + s->states;
    s->back = graph_clone(m, s->body, s->n->graph, in);
    s->back->name = str_intern(m->cx, "backward");
}

static bool build_backward(Scan *s) {
    Module *m = s->g->m;
    uint32_t n_y = 0, n_wrt = 0, params = s->states + s->scans;
    Value **y = ARENA_ARRAY(arena(s), Value *, s->back->n_out), **seed = ARENA_ARRAY(arena(s), Value *, s->back->n_out);
    Value **wrt = ARENA_ARRAY(arena(s), Value *, params + s->captured.n), **grad = ARENA_ARRAY(arena(s), Value *, params + s->captured.n);
    for (uint32_t i = 0; i < s->back->n_out; i++) {
        Value *v = i < s->states ? s->dstate[i] : s->dout[i - s->states];
        if (v == NULL) continue;
        y[n_y] = s->back->out[i];
        seed[n_y++] = v;
    }
    for (uint32_t i = 0; i < params; i++)
        if (is_float(s->state[i])) wrt[n_wrt++] = s->state[i];
    for (uint32_t i = 0; i < s->captured.n; i++) wrt[n_wrt++] = s->captured.v[i];
    Node *last = s->back->last;
    if (!gradient_of(m, s->back, NULL, n_y, y, seed, n_wrt, wrt, grad)) return false;
    s->first_back = last != NULL ? last->next : s->back->first;
    s->dparam = ARENA_ARRAY(arena(s), Value *, params + s->captured.n);
    n_wrt = 0;
    for (uint32_t i = 0; i < params; i++)
        if (is_float(s->state[i])) s->dparam[i] = grad[n_wrt++];
    for (uint32_t i = 0; i < s->captured.n; i++) s->dparam[params + i] = grad[n_wrt++];
    s->back->n_out = 0; /* the forward results are not wanted */
    s->back->out = NULL;
    return true;
}

static Value *in_body(Scan *s, Op op, Value *a, Value *b) { /* a new node at the end of the body */
    Node *n = node_new(s->g->m, s->back, NULL, op, b != NULL ? 2 : 1, (Value *[]){a, b}, 1);
    n->loc = s->n->loc;
    node_infer(s->g->m, n);
    return n->out[0];
}

static Value *zero_in_body(Scan *s, const Value *like) {
    Value *shape = in_body(s, OP_Shape, (Value *)(uintptr_t)like, NULL);
    return in_body(s, OP_Expand, value_const_scalar(s->g->m, like->type->dtype, 0), shape);
}

static void carry(Scan *s, Value *param, Value *init, Value *next) {
    if (next->def == NULL) next = in_body(s, OP_Identity, next, NULL);
    vec_push(arena(s), &s->in_state, param);
    vec_push(arena(s), &s->init, init);
    vec_push(arena(s), &s->out_state, next);
}

/* A product that sums over rows: p' q. Its sum over all steps is one product over the rows of all steps. */
typedef struct RowProduct { Value *p, *q; double alpha; uint32_t at_p, at_q; } RowProduct;

static bool row_product(const Scan *s, const Value *d, RowProduct *r) {
    const Node *n = d != NULL ? d->def : NULL;
    if (n == NULL || n->op != OP_FusedMatMul || n->graph != s->back || n->in[0]->type->rank != 2 || n->in[1]->type->rank != 2) return false;
    if (attr_i(n, AT_FusedMatMul_transA) == 0 || attr_i(n, AT_FusedMatMul_transB) != 0) return false;
    *r = (RowProduct){.p = n->in[0], .q = n->in[1], .alpha = attr_f(n, AT_FusedMatMul_alpha)};
    return true;
}

/* ---- which values of the forward pass are read ----------------------------------------------------------------------------------- */
static bool is_kept(const Node *n) {
    if (n->op == OP_Shape || n->op == OP_Size || n->op == OP_Concat) return false;
    return op_rules(n->op).define == NULL || (op_info(n->op)->flags & (OPF_RANDOM | OPF_REGION)) != 0;
}

/* The forward Scan stacks v of its body, too; returns the stack. */
static Value *stack_forward(Scan *s, Value *v) {
    Module *m = s->g->m;
    Node *copy = node_new(m, s->body, NULL, OP_Identity, 1, &v, 1);
    copy->loc = s->n->loc;
    copy->out[0]->type = v->type;
    graph_add_output(m, s->body, copy->out[0]);
    Node *n = s->n;
    Value **out = ARENA_ARRAY(arena(s), Value *, n->n_out + 1u);
    memcpy(out, n->out, n->n_out * sizeof *out);
    Dim dim[RANK_MAX] = {0};
    const Type *first = n->in[s->states]->type;
    dim[0] = first->dim[g_axis(s->g, attr_ints_at(n, AT_Scan_scan_input_axes, 0), first->rank)];
    for (uint32_t a = 0; a < v->type->rank; a++) dim[a + 1] = v->type->dim[a];
    Value *stack = out[n->n_out] = value_new(m, type_tensor(m->cx, v->type->dtype, v->type->rank + 1u, dim), 0);
    stack->def = n;
    stack->def_out = n->n_out;
    n->out = out;
    n->n_out++;
    return stack;
}

/* Drops what the backward graph does not read. What it reads of the forward part comes from stacks where it is kept. */
static void read_forward(Scan *s) {
    Module *m = s->g->m;
    uint32_t *count = ARENA_ARRAY(&m->cx->scratch, uint32_t, m->n_value), n_forward = 0, at = 0;
    for (uint32_t i = 0; i < s->out_state.n; i++) count[s->out_state.v[i]->id]++;
    for (uint32_t i = 0; i < s->out_scan.n; i++) count[s->out_scan.v[i]->id]++;
    FOR_NODES(n, s->body) n_forward++;
    Node **forward = ARENA_ARRAY(&m->cx->scratch, Node *, n_forward + 1), **copy = ARENA_ARRAY(&m->cx->scratch, Node *, n_forward + 1);
    Node *c = s->back->first;
    FOR_NODES(n, s->body) {
        forward[at] = n;
        copy[at++] = c;
        c = c->next;
    }
    at = n_forward;
    for (Node *n = s->back->last, *before; n != NULL; n = before) {
        before = n->prev;
        if (at > 0 && n == copy[at - 1]) at--;
        bool ours = at < n_forward && n == copy[at], live = false;
        for (uint32_t i = 0; i < n->n_out; i++) live |= n->out[i] != NULL && count[n->out[i]->id] != 0;
        if (live && ours && is_kept(n)) {
            for (uint32_t i = 0; i < n->n_out; i++) {
                Value *v = n->out[i];
                if (v == NULL || count[v->id] == 0) continue;
                if (i >= forward[at]->n_out && !node_need_outputs(m, forward[at], n->n_out)) return;
                v->def = NULL;
                v->name = 0;
                n->out[i] = NULL;
                read_scan(s, v, stack_forward(s, forward[at]->out[i]), 0, true);
            }
            live = false;
        }
        if (!live) {
            node_remove(n);
            continue;
        }
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) count[n->in[i]->id]++;
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) grad_count_reads(n->attr[i].graph, count);
    }
    for (uint32_t i = 0; i < s->states; i++)
        if (count[s->state[i]->id] != 0) read_scan(s, s->state[i], stack_forward(s, s->body->in[i]), 0, true);
    for (uint32_t i = 0; i < s->scans; i++)
        if (count[s->slice[i]->id] != 0)
            read_scan(s, s->slice[i], s->n->in[s->states + i], attr_ints_at(s->n, AT_Scan_scan_input_axes, i), !reversed(s, AT_Scan_scan_input_directions, i));
}

/* ---- the backward Scan ----------------------------------------------------------------------------------------------------------- */
static Node *scan_node(Scan *s) {
    Module *m = s->g->m;
    Context *cx = m->cx;
    uint32_t states = s->in_state.n, scans = s->in_scan.n, outs = s->out_scan.n;
    Value **in = ARENA_ARRAY(arena(s), Value *, states + scans);
    for (uint32_t i = 0; i < states; i++) {
        graph_adopt_input(m, s->back, s->in_state.v[i]);
        in[i] = s->init.v[i];
    }
    for (uint32_t i = 0; i < scans; i++) {
        graph_adopt_input(m, s->back, s->in_scan.v[i]);
        in[states + i] = s->scan.v[i];
    }
    for (uint32_t i = 0; i < states; i++) graph_add_output(m, s->back, s->out_state.v[i]);
    for (uint32_t i = 0; i < outs; i++) graph_add_output(m, s->back, s->out_scan.v[i]);
    Node *n = g_node(s->g, OP_Scan, states + scans, in, states + outs);
    attr_set_graph(n, AT_Scan_body, s->back);
    attr_set_i(n, AT_Scan_num_scan_inputs, scans);
    attr_set_ints(cx, n, AT_Scan_scan_input_axes, s->in_axis.v, scans);
    attr_set_ints(cx, n, AT_Scan_scan_input_directions, s->in_reverse.v, scans);
    attr_set_ints(cx, n, AT_Scan_scan_output_axes, s->out_axis.v, outs);
    attr_set_ints(cx, n, AT_Scan_scan_output_directions, s->out_reverse.v, outs);
    return n;
}

static void prepare_seeds(Scan *s) {
    Grad *g = s->g;
    s->dstate = ARENA_ARRAY(arena(s), Value *, s->states + 1);
    s->dout = ARENA_ARRAY(arena(s), Value *, s->outs + 1);
    for (uint32_t i = 0; i < s->states; i++)
        if (is_float(s->body->in[i])) s->dstate[i] = parameter_like(s, s->body->in[i]);
    for (uint32_t k = 0; k < s->outs && s->states + k < s->n->n_out; k++)
        if (g->dy[s->states + k] != NULL) s->dout[k] = parameter_like(s, s->body->out[s->states + k]);
}

/* Something must move along the trip axis: with nothing read, the forward Scan's own first operand says how far. */
static void need_a_scan(Scan *s) {
    if (s->in_scan.n != 0) return;
    read_scan(s, s->slice[0], s->n->in[s->states], attr_ints_at(s->n, AT_Scan_scan_input_axes, 0), !reversed(s, AT_Scan_scan_input_directions, 0));
}

static Value *all_rows(Grad *g, Value *v) { /* [T, B, K] as [T*B, K] */
    Value *columns = g_size(g, v, v->type->rank - 1);
    return g_2(g, OP_Reshape, v, expand_concat(g->m, g->at, 2, (Value *[]){value_const_i64(g->m, 1, (int64_t[]){-1}), columns}, 0));
}

bool grad_scan(Grad *g) {
    Module *m = g->m;
    Node *n = g->n;
    Scan s = {.g = g, .n = n, .body = attr_at(n, AT_Scan_body)->graph};
    s.scans = (uint32_t)attr_i(n, AT_Scan_num_scan_inputs);
    s.states = n->n_in - s.scans;
    s.outs = s.body->n_out - s.states;
    Value *const *dy = g->dy;
    uint32_t n_dy = n->n_out, params = s.states + s.scans;
    s.captured = region_captures(g, s.body);
    Value **wrt = ARENA_ARRAY(arena(&s), Value *, params + s.captured.n);
    uint32_t n_wrt = 0;
    for (uint32_t i = 0; i < params; i++)
        if (is_float(s.body->in[i])) wrt[n_wrt++] = s.body->in[i];
    for (uint32_t i = 0; i < s.captured.n; i++) wrt[n_wrt++] = s.captured.v[i];
    if (!grad_expand_region(m, s.body, s.body->n_out, s.body->out, n_wrt, wrt)) return false;
    prepare_seeds(&s);
    copy_body(&s);
    if (!build_backward(&s)) return false;
    for (uint32_t i = 0; i < s.states; i++) {
        if (s.dstate[i] == NULL) continue;
        Value *init = i < n_dy && dy[i] != NULL ? dy[i] : g_filled_like(g, n->in[i], 0);
        carry(&s, s.dstate[i], init, s.dparam[i] != NULL ? s.dparam[i] : zero_in_body(&s, s.dstate[i]));
    }
    for (uint32_t k = 0; k < s.outs; k++)
        if (s.dout[k] != NULL)
            read_scan(&s, s.dout[k], dy[s.states + k], attr_ints_at(n, AT_Scan_scan_output_axes, k), !reversed(&s, AT_Scan_scan_output_directions, k));
    uint32_t *slice_at = ARENA_ARRAY(arena(&s), uint32_t, s.scans + 1), *sum_at = ARENA_ARRAY(arena(&s), uint32_t, s.captured.n + 1);
    RowProduct *product = ARENA_ARRAY(arena(&s), RowProduct, s.captured.n + 1);
    for (uint32_t i = 0; i < s.scans; i++)
        if (g_wants(g, s.states + i) && s.dparam[s.states + i] != NULL)
            slice_at[i] = 1 + write_scan(&s, s.dparam[s.states + i], attr_ints_at(n, AT_Scan_scan_input_axes, i), !reversed(&s, AT_Scan_scan_input_directions, i));
    for (uint32_t i = 0; i < s.captured.n; i++) {
        Value *d = s.dparam[params + i];
        if (d == NULL) continue;
        if (row_product(&s, d, &product[i])) {
            product[i].at_p = write_scan(&s, product[i].p, 0, true);
            product[i].at_q = write_scan(&s, product[i].q, 0, true);
            continue;
        }
        Value *sum = parameter_like(&s, s.captured.v[i]);
        sum_at[i] = 1 + s.in_state.n;
        carry(&s, sum, g_filled_like(g, s.captured.v[i], 0), in_body(&s, OP_Add, sum, d));
    }
    for (uint32_t i = 0; i < s.out_scan.n; i++) s.out_scan.v[i] = in_body(&s, OP_Identity, s.out_scan.v[i], NULL); /* a node of its own */
    read_forward(&s);
    need_a_scan(&s);
    if (!node_reinfer(m, n)) return false;
    Node *back = scan_node(&s);
    if (!node_infer(m, back)) return false;
    for (uint32_t i = 0, k = 0; i < s.states; i++)
        if (s.dstate[i] != NULL) g->dx[i] = back->out[k++];
    for (uint32_t i = 0; i < s.scans; i++)
        if (slice_at[i] != 0) g->dx[s.states + i] = back->out[s.in_state.n + slice_at[i] - 1];
    for (uint32_t i = 0; i < s.captured.n; i++) {
        Value *d = NULL;
        if (sum_at[i] != 0) d = back->out[sum_at[i] - 1];
        else if (product[i].p != NULL)
            d = g_matmul(g, all_rows(g, back->out[s.in_state.n + product[i].at_p]), true, all_rows(g, back->out[s.in_state.n + product[i].at_q]), false, product[i].alpha);
        if (d != NULL && !g_contribute(g, s.captured.v[i], g_reshape_like(g, d, s.captured.v[i]))) return false;
    }
    return true;
}
