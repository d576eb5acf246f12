/* If, Loop and Scan as steps of the plan.
 *
 *     Loop(M, cond, v0) { body(i, c, v) -> (c', v', s) }      ->      copy v0 -> v
 *                                                                     loop M, c, i:
 *                                                                         ... body ...
 *                                                                         stacked[i] = s
 *                                                                         copy v' -> v, c' -> c
 *                                                                     copy v -> result
 *
 * Parameters of a body are ordinary values whose memory lives through the loop. Symbols of sizes that change are set
 * by LET steps behind the copies: every copy of an iteration sees the sizes its data was made with. */
#include "passes/build_plan.h"
#include "passes/rules.h"

static void copy_step(PlanBuilder *b, StepTail *tail, Value *from, Value *to) {
    plan_step(b, tail, STEP_COPY, NULL, 2, (Value *[]){from, to});
}

/* Sets the run-time symbols among t's dims to the dims of `source` where the two differ. */
static void let_dims(PlanBuilder *b, StepTail *tail, const Type *t, const Type *source) {
    const Context *cx = b->m->cx;
    for (uint32_t d = 0; t->kind == TYPE_TENSOR && d < t->rank; d++) {
        if (t->dim[d] == source->dim[d] || !dim_node(cx, t->dim[d])->runtime) continue;
        Step *s = plan_step(b, tail, STEP_LET, NULL, 0, NULL);
        s->symbol = t->dim[d];
        s->dim = source->dim[d];
    }
}

/* The side a condition known at compile time takes: 0 then, 1 else; -1 unknown. The other side may have no types. */
static int known_side(Module *m, const Value *condition) {
    uint32_t count;
    const Dim *d = value_dims(m, condition, &count);
    return d == NULL || count != 1 || !dim_is_const(m->cx, d[0]) ? -1 : dim_value(m->cx, d[0]) == 0;
}

static bool lower_branch(PlanBuilder *b, StepTail *tail, const Node *n, Graph *branch) {
    if (!plan_lower_graph(b, tail, branch)) return false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        copy_step(b, tail, branch->out[i], n->out[i]);
        let_dims(b, tail, n->out[i]->type, branch->out[i]->type);
    }
    return true;
}

bool plan_lower_if(PlanBuilder *b, StepTail *tail, Node *n) {
    Graph *branch[2] = {attr_at(n, AT_If_then_branch)->graph, attr_at(n, AT_If_else_branch)->graph};
    int known = known_side(b->m, n->in[0]);
    if (known >= 0) return lower_branch(b, tail, n, branch[known]);
    Step *s = plan_step(b, tail, STEP_IF, n, 1, n->in);
    StepTail then = &s->body, otherwise = &s->orelse;
    bool ok = lower_branch(b, &then, n, branch[0]);
    return lower_branch(b, &otherwise, n, branch[1]) && ok;
}

/* Carries values into the next iteration. A value that is itself a parameter would be overwritten before it is read:
 * then all go through temporaries. */
static void carry(PlanBuilder *b, StepTail *tail, uint32_t n, Value *const *param, Value *const *next) {
    bool swapped = false;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n; k++) swapped |= i != k && plan_root(b->plan, next[i]) == param[k];
    Value **from = ARENA_ARRAY(&b->m->cx->arena, Value *, n);
    for (uint32_t i = 0; i < n; i++) {
        from[i] = next[i];
        if (!swapped || plan_root(b->plan, next[i]) == param[i]) continue;
        from[i] = value_new(b->m, next[i]->type, 0);
        copy_step(b, tail, next[i], from[i]);
    }
    for (uint32_t i = 0; i < n; i++)
        if (plan_root(b->plan, next[i]) != param[i]) copy_step(b, tail, from[i], param[i]);
    for (uint32_t i = 0; i < n; i++) let_dims(b, tail, param[i]->type, next[i]->type);
}

/* A ScanRead or ScanWrite node of its own, lowered in place. */
static bool slice_step(PlanBuilder *b, StepTail *tail, Node *n, Op op, Value *from, Value *iteration, Value *to, int64_t axis, bool reverse) {
    Module *m = b->m;
    Graph *holder = graph_new(m, NULL, "slice");
    Node *move = node_new(m, holder, NULL, op, 2, (Value *[]){from, iteration}, 1);
    move->loc = n->loc;
    attr_set_i(move, op == OP_ScanRead ? AT_ScanRead_axis : AT_ScanWrite_axis, axis);
    attr_set_i(move, op == OP_ScanRead ? AT_ScanRead_reverse : AT_ScanWrite_reverse, reverse);
    move->out[0] = to;
    return plan_lower_node(b, tail, move);
}

bool plan_lower_loop(PlanBuilder *b, StepTail *tail, Node *n) {
    Module *m = b->m;
    Context *cx = m->cx;
    Graph *body = attr_at(n, AT_Loop_body)->graph;
    uint32_t carried = n->n_in - 2u;
    Value *condition = n->in[1];
    copy_step(b, tail, condition != NULL ? condition : value_const_scalar(m, DT_BOOL, 1), body->in[1]);
    for (uint32_t i = 0; i < carried; i++) {
        copy_step(b, tail, n->in[i + 2], body->in[i + 2]);
        let_dims(b, tail, body->in[i + 2]->type, n->in[i + 2]->type);
    }
    Step *loop = plan_step(b, tail, STEP_LOOP, n, 3, (Value *[]){n->in[0], condition != NULL ? body->in[1] : NULL, body->in[0]});
    StepTail inner = &loop->body;
    bool ok = plan_lower_graph(b, &inner, body);
    Dim trip = 0;
    for (uint32_t i = carried; ok && i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        Dim d = n->out[i]->type->dim[0];
        if (dim_node(cx, d)->kind == DIM_SYMBOL && dim_node(cx, d)->runtime) trip = d;
        ok = slice_step(b, &inner, n, OP_ScanWrite, body->out[i + 1], body->in[0], n->out[i], 0, false);
    }
    loop->symbol = trip;
    if (!ok) return false;
    carry(b, &inner, carried, body->in + 2, body->out + 1);
    if (condition != NULL && plan_root(b->plan, body->out[0]) != body->in[1]) copy_step(b, &inner, body->out[0], body->in[1]);
    if (trip != 0) plan_step(b, tail, STEP_DIM, n, 1, &body->in[0])->symbol = trip;
    for (uint32_t i = 0; i < carried && i < n->n_out; i++)
        if (n->out[i] != NULL) copy_step(b, tail, body->in[i + 2], n->out[i]);
    return true;
}

bool plan_lower_scan(PlanBuilder *b, StepTail *tail, Node *n) {
    Module *m = b->m;
    Context *cx = m->cx;
    Graph *body = attr_at(n, AT_Scan_body)->graph;
    uint32_t scan_in = (uint32_t)attr_i(n, AT_Scan_num_scan_inputs), states = n->n_in - scan_in;
    const Type *first = n->in[states]->type;
    int64_t axis0 = attr_ints_at(n, AT_Scan_scan_input_axes, 0);
    Dim trip = first->dim[axis0 < 0 ? axis0 + first->rank : axis0];
    Value *count = value_new(m, type_tensor(cx, DT_I64, 0, NULL), 0), *iteration = value_new(m, count->type, 0);
    count->sym = ARENA_ARRAY(&cx->arena, Dim, 1);
    memcpy((Dim *)(uintptr_t)count->sym, &trip, sizeof trip);
    count->n_sym = 1;
    Graph *holder = graph_new(m, NULL, "count"); /* the trip count as a stored value */
    Node *store = node_new(m, holder, NULL, OP_Identity, 1, &count, 1);
    store->out[0]->type = count->type;
    store->loc = n->loc;
    if (!plan_lower_node(b, tail, store)) return false;
    for (uint32_t i = 0; i < states; i++) copy_step(b, tail, n->in[i], body->in[i]);
    Step *loop = plan_step(b, tail, STEP_LOOP, n, 3, (Value *[]){store->out[0], NULL, iteration});
    StepTail inner = &loop->body;
    bool ok = true;
    for (uint32_t i = 0; ok && i < scan_in; i++) {
        int64_t axis = attr_ints_at(n, AT_Scan_scan_input_axes, i), rank = n->in[states + i]->type->rank;
        ok = slice_step(b, &inner, n, OP_ScanRead, n->in[states + i], iteration, body->in[states + i], axis < 0 ? axis + rank : axis, attr_ints_at(n, AT_Scan_scan_input_directions, i) != 0);
    }
    ok = ok && plan_lower_graph(b, &inner, body);
    for (uint32_t i = states; ok && i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        int64_t axis = attr_ints_at(n, AT_Scan_scan_output_axes, i - states), rank = n->out[i]->type->rank;
        ok = slice_step(b, &inner, n, OP_ScanWrite, body->out[i], iteration, n->out[i], axis < 0 ? axis + rank : axis, attr_ints_at(n, AT_Scan_scan_output_directions, i - states) != 0);
    }
    if (!ok) return false;
    carry(b, &inner, states, body->in, body->out);
    for (uint32_t i = 0; i < states && i < n->n_out; i++)
        if (n->out[i] != NULL) copy_step(b, tail, body->in[i], n->out[i]);
    return true;
}

bool lower_fail(Lower *lo, const Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) { /* zeros: what follows still runs, on defined values */
        if (n->out[i] == NULL) continue;
        Expr *idx[RANK_MAX];
        lower_for_type(lo, n->out[i]->type, idx);
        lower_store(lo, n->out[i], idx, lx_const(lo, dtype_compute(n->out[i]->type->dtype), 0));
        lower_end_n(lo, n->out[i]->type->rank);
    }
    Value *cell = lower_scratch(lo, type_tensor(lo->cx, DT_I64, 0, NULL));
    lower_store_buf(lo, lower_buf(lo, cell), NULL, FN_NONE, ex_require(lo->cx, ex_i(lo->cx, DT_BOOL, 0), lx_i(lo, 0), LATHE_RT_SHAPE));
    return true;
}

/* ---- the two moves ----------------------------------------------------------------------------------------------- */
static Expr *slice_index(Lower *lo, const Value *iteration, Dim extent, bool reverse) {
    Expr *i = lower_load_scalar(lo, iteration);
    return reverse ? lx_sub(lo, lx_dim(lo, dim_sub(lo->cx, extent, dim_const(lo->cx, 1))), i) : i;
}

Expr *define_scan_read(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    uint32_t axis = (uint32_t)attr_i(n, AT_ScanRead_axis), rank = n->in[0]->type->rank;
    Expr *full[RANK_MAX];
    for (uint32_t d = 0; d < rank; d++)
        full[d] = d == axis ? slice_index(lo, n->in[1], n->in[0]->type->dim[d], attr_i(n, AT_ScanRead_reverse) != 0) : idx[d < axis ? d : d - 1];
    return lower_load(lo, n->in[0], full);
}

bool lower_scan_write(Lower *lo, const Node *n) {
    uint32_t axis = (uint32_t)attr_i(n, AT_ScanWrite_axis), rank = n->out[0]->type->rank;
    Expr *idx[RANK_MAX], *full[RANK_MAX];
    lower_for_type(lo, n->in[0]->type, idx);
    for (uint32_t d = 0; d < rank; d++)
        full[d] = d == axis ? slice_index(lo, n->in[1], n->out[0]->type->dim[d], attr_i(n, AT_ScanWrite_reverse) != 0) : idx[d < axis ? d : d - 1];
    lower_store(lo, n->out[0], full, lower_load(lo, n->in[0], idx));
    lower_end_n(lo, n->in[0]->type->rank);
    return true;
}
