/* If, Loop, Scan: types through regions.
 *
 * A dimension that is not the same on every path becomes a run-time symbol: the branch of an If, or each iteration of
 * a Loop, sets it. A loop-carried tensor that grows,
 *
 *     %acc: f32[3] ... body: Concat(%acc, %x: f32[2])      ->  %acc: f32[loop_4], loop_4 = 3, then loop_4 + 2, ...
 *
 * gets the bound that its growth and the trip count give, or LOOP_BOUND where neither is known. */
#include "ir/shape/shape.h"

enum { LOOP_BOUND = 1024 }; /* iterations and sizes that nothing else bounds; more is a run-time error */

/* A condition known at compile time. */
static bool known_bool(Module *m, const Value *v, bool *value) {
    uint32_t n;
    if (v == NULL) return false;
    if (v->data != NULL) {
        *value = const_i64(v, 0) != 0;
        return true;
    }
    const Dim *d = value_dims(m, v, &n);
    if (d == NULL || n != 1 || !dim_is_const(m->cx, d[0])) return false;
    *value = dim_value(m->cx, d[0]) != 0;
    return true;
}

static bool tensor_of_rank(Module *m, Node *n, const Value *v, const char *what) {
    if (v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN) return true;
    diag(m->cx, SEV_ERROR, n->loc, "%s is not a tensor of known rank", what);
    return false;
}

/* The type both branches fit in; dims that differ become symbols within the bounds of the two. */
static const Type *join_branches(Module *m, Node *n, const Type *a, const Type *b) {
    Context *cx = m->cx;
    if (a == b) return a;
    if (a->kind != TYPE_TENSOR || b->kind != TYPE_TENSOR || a->dtype != b->dtype || a->rank != b->rank) {
        Writer w = {.arena = &cx->scratch};
        type_print(cx, &w, a);
        cw_printf(&w, " and ");
        type_print(cx, &w, b);
        diag(cx, SEV_ERROR, n->loc, "the branches give %s; one type and rank is needed", cw_cstr(&w));
        return NULL;
    }
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < a->rank; i++) {
        int64_t lo = dim_lo(cx, a->dim[i]), hi = dim_hi(cx, a->dim[i]), lo2 = dim_lo(cx, b->dim[i]), hi2 = dim_hi(cx, b->dim[i]);
        dim[i] = a->dim[i] == b->dim[i] ? a->dim[i] : dim_runtime(cx, "if", lo < lo2 ? lo : lo2, hi > hi2 ? hi : hi2);
    }
    return type_tensor(cx, a->dtype, a->rank, dim);
}

bool shape_if(Module *m, Node *n) {
    Graph *branch[2] = {attr_at(n, AT_If_else_branch)->graph, attr_at(n, AT_If_then_branch)->graph};
    bool taken, known = known_bool(m, n->in[0], &taken);
    for (int side = 0; side < 2; side++) {
        if (known && side != taken) continue; /* a branch that never runs need not make sense */
        if (!graph_infer(m, branch[side])) return false;
        if (branch[side]->n_out != n->n_out) {
            diag(m->cx, SEV_ERROR, n->loc, "a branch has %u outputs, the node %u", branch[side]->n_out, n->n_out);
            return false;
        }
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        const Type *old = n->out[i]->type; /* inferred before: keep its symbols */
        const Type *t = known ? branch[taken]->out[i]->type : NULL;
        if (!known) {
            const Type *a = branch[0]->out[i]->type, *b = branch[1]->out[i]->type;
            bool keep = old != NULL && old->kind == TYPE_TENSOR && a->kind == TYPE_TENSOR && old->rank == a->rank && a->rank == b->rank;
            for (uint32_t d = 0; keep && d < a->rank; d++)
                keep = a->dim[d] == b->dim[d] ? old->dim[d] == a->dim[d] : old->dim[d] != 0 && dim_node(m->cx, old->dim[d])->runtime;
            t = keep ? old : join_branches(m, n, a, b);
        }
        if (t == NULL) return false;
        n->out[i]->type = t;
    }
    return true;
}

static int64_t trip_bound(Module *m, const Node *n) {
    uint32_t count;
    const Dim *d = value_dims(m, n->in[0], &count);
    int64_t hi = d != NULL && count == 1 ? dim_hi(m->cx, d[0]) : INT64_MAX;
    return hi == INT64_MAX ? LOOP_BOUND : hi < 0 ? 0 : hi;
}

/* The number of iterations as a dim, when nothing but the trip count can end the loop; else 0. */
static Dim known_trip(Module *m, const Node *n, const Graph *body) {
    uint32_t count;
    const Dim *d = value_dims(m, n->in[0], &count);
    if (d == NULL || count != 1) return 0;
    bool first = true, next = true;
    bool ends_early = n->in[1] != NULL && !(known_bool(m, n->in[1], &first) && first &&
                                            (body->out[0] == body->in[1] || (known_bool(m, body->out[0], &next) && next)));
    return ends_early ? 0 : dim_max(m->cx, d[0], dim_const(m->cx, 0));
}

/* Makes the dims of a carried parameter that change over iterations run-time symbols; true if any was new. */
static bool widen(Module *m, Value *param, const Type *out, int64_t trips) {
    Context *cx = m->cx;
    const Type *in = param->type;
    Dim dim[RANK_MAX];
    bool changed = false;
    for (uint32_t d = 0; d < in->rank; d++) {
        dim[d] = in->dim[d];
        bool symbol = dim_node(cx, dim[d])->kind == DIM_SYMBOL && dim_node(cx, dim[d])->runtime && strncmp(str_text(cx, dim_node(cx, dim[d])->name), "loop_", 5) == 0;
        if (in->dim[d] == out->dim[d]) continue;
        int64_t lo = dim_lo(cx, in->dim[d]), hi = dim_hi(cx, in->dim[d]);
        if (!symbol) {
            dim[d] = dim_runtime(cx, "loop", lo < dim_lo(cx, out->dim[d]) ? lo : dim_lo(cx, out->dim[d]), hi > dim_hi(cx, out->dim[d]) ? hi : dim_hi(cx, out->dim[d]));
            changed = true;
            continue;
        }
        Dim growth = dim_sub(cx, out->dim[d], in->dim[d]); /* per iteration */
        int64_t step = growth != 0 ? dim_hi(cx, growth) : INT64_MAX, total;
        if (step == INT64_MAX || __builtin_mul_overflow(step > 0 ? step : 0, trips, &total) || total > INT32_MAX) total = LOOP_BOUND;
        dim_set_bounds(cx, dim[d], lo < 0 ? 0 : lo, hi + total);
    }
    if (changed) param->type = type_tensor(cx, in->dtype, in->rank, dim);
    return changed;
}

bool shape_loop(Module *m, Node *n) {
    Context *cx = m->cx;
    Graph *body = attr_at(n, AT_Loop_body)->graph;
    uint32_t carried = n->n_in - 2u, scans = body->n_out - 1u - carried;
    if (body->n_in != carried + 2 || body->n_out < carried + 1 || n->n_out > carried + scans) {
        diag(cx, SEV_ERROR, n->loc, "the body takes %u and gives %u values; %u loop-carried ones need at least %u and %u", body->n_in, body->n_out, carried, carried + 2, carried + 1);
        return false;
    }
    body->in[0]->type = type_tensor(cx, DT_I64, 0, NULL);
    body->in[1]->type = type_tensor(cx, DT_BOOL, 0, NULL);
    bool again = n->n_out != 0 && n->out[0] != NULL && n->out[0]->type != NULL; /* inferred before: parameters are settled */
    for (uint32_t i = 0; i < carried; i++) {
        if (!tensor_of_rank(m, n, n->in[i + 2], "a loop-carried value")) return false;
        if (!again) body->in[i + 2]->type = n->in[i + 2]->type;
    }
    int64_t trips = trip_bound(m, n);
    for (int round = 0; round < 4; round++) {
        if (!graph_infer(m, body)) return false;
        bool changed = false;
        for (uint32_t i = 0; i < carried; i++) {
            Value *in = body->in[i + 2], *out = body->out[i + 1];
            if (!tensor_of_rank(m, n, out, "a loop-carried value")) return false;
            if (out->type->rank != in->type->rank || out->type->dtype != in->type->dtype) {
                diag(cx, SEV_ERROR, n->loc, "loop-carried value %u changes from rank %u %s to rank %u %s", i, in->type->rank, dtype_text(in->type->dtype), out->type->rank, dtype_text(out->type->dtype));
                return false;
            }
            changed |= widen(m, in, out->type, trips);
        }
        if (!changed) break;
    }
    for (uint32_t i = 0; i < carried && i < n->n_out; i++)
        if (n->out[i] != NULL) n->out[i]->type = body->in[i + 2]->type;
    Dim trip = known_trip(m, n, body);
    for (uint32_t i = carried; i < n->n_out; i++) { /* stacked results */
        if (n->out[i] == NULL) continue;
        const Value *slice = body->out[i + 1];
        if (!tensor_of_rank(m, n, slice, "a scan output")) return false;
        if (n->out[i]->type != NULL) continue;
        if (trip == 0) trip = dim_runtime(cx, "trip", 0, trips);
        Dim dim[RANK_MAX] = {trip};
        for (uint32_t d = 0; d < slice->type->rank; d++) dim[d + 1] = slice->type->dim[d];
        n->out[i]->type = type_tensor(cx, slice->type->dtype, slice->type->rank + 1u, dim);
    }
    return true;
}

static int64_t list_at(const Node *n, AttrSlot slot, uint32_t i) {
    const Attr *a = attr_at(n, slot);
    return a->present && i < a->ints.n ? a->ints.v[i] : 0;
}

bool shape_scan(Module *m, Node *n) {
    Context *cx = m->cx;
    Graph *body = attr_at(n, AT_Scan_body)->graph;
    int64_t given = attr_i(n, AT_Scan_num_scan_inputs);
    if (given < 1 || given > n->n_in || body->n_in != n->n_in) {
        diag(cx, SEV_ERROR, n->loc, "%lld scan inputs of %u inputs, the body takes %u", (long long)given, n->n_in, body->n_in);
        return false;
    }
    uint32_t scan_in = (uint32_t)given, states = n->n_in - scan_in;
    Dim trip = 0;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!tensor_of_rank(m, n, n->in[i], "an input")) return false;
        const Type *t = n->in[i]->type;
        if (i < states) {
            body->in[i]->type = t;
            continue;
        }
        uint32_t axis;
        if (!shape_axis(m, n, list_at(n, AT_Scan_scan_input_axes, i - states), t->rank, &axis)) return false;
        trip = trip == 0 ? t->dim[axis] : shape_unify(m, n, trip, t->dim[axis], "scan axis");
        if (trip == 0) return false;
        Dim dim[RANK_MAX];
        for (uint32_t d = 0, k = 0; d < t->rank; d++)
            if (d != axis) dim[k++] = t->dim[d];
        body->in[i]->type = type_tensor(cx, t->dtype, t->rank - 1u, dim);
    }
    if (!graph_infer(m, body)) return false;
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        const Value *v = body->out[i];
        if (!tensor_of_rank(m, n, v, "an output of the body")) return false;
        if (i < states) {
            n->out[i]->type = body->in[i]->type;
            continue;
        }
        uint32_t axis;
        if (!shape_axis(m, n, list_at(n, AT_Scan_scan_output_axes, i - states), v->type->rank + 1u, &axis)) return false;
        Dim dim[RANK_MAX];
        for (uint32_t d = 0, k = 0; d <= v->type->rank; d++) dim[d] = d == axis ? trip : v->type->dim[k++];
        n->out[i]->type = type_tensor(cx, v->type->dtype, v->type->rank + 1u, dim);
    }
    return true;
}
