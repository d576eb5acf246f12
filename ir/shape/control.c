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

static bool carries(Module *m, Node *n, const Value *v, const char *what) { /* a type that can be carried over iterations */
    if (v != NULL && v->type != NULL && (v->type->kind == TYPE_SEQUENCE || v->type->kind == TYPE_OPTIONAL)) return true;
    if (v != NULL && v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN) return true;
    diag(m->cx, SEV_ERROR, n->loc, "%s is not a sequence, an optional or a tensor of known rank", what);
    return false;
}

static bool tensor_of_rank(Module *m, Node *n, const Value *v, const char *what) {
    if (v != NULL && v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN) return true;
    diag(m->cx, SEV_ERROR, n->loc, "%s is not a tensor of known rank", what);
    return false;
}

/* A number and a vector of one number: both branches can be compiled, the number as a vector. */
static bool number_and_vector(Module *m, const Type *a, const Type *b) {
    const Type *vector = a->rank > b->rank ? a : b;
    return a->rank + b->rank == 1 && vector->dim[0] == dim_const(m->cx, 1);
}

/* Both branches compiled need one rank. Exporters write squeeze(x, axis) as
 *
 *     If(size == 1) { Squeeze(%x) } else { Identity(%x) }
 *
 * where the size is only known at run time. One branch is kept (the attribute `keep`; the one of lower rank first,
 * pass_infer_shapes takes the other one if the rest of the model needs that), and taking the other is a run-time error.
 * Not so for a number against a vector of one: the number becomes such a vector if the rest of the model allows. */
static int kept_branch(Module *m, Node *n, Graph *const branch[2]) {
    int keep = (int)attr_i(n, AT_If_keep);
    if (keep >= 0) return keep;
    bool vectors = true;
    for (uint32_t i = 0; i < n->n_out; i++) {
        const Type *t[2] = {branch[0]->out[i]->type, branch[1]->out[i]->type};
        if (n->out[i] == NULL || t[0]->kind != TYPE_TENSOR || t[1]->kind != TYPE_TENSOR || t[0]->dtype != t[1]->dtype) continue;
        if (t[0]->rank == t[1]->rank) continue;
        if (keep < 0) keep = t[1]->rank < t[0]->rank;
        vectors = vectors && number_and_vector(m, t[0], t[1]);
    }
    if (keep >= 0 && vectors) keep = IF_VECTORS;
    attr_set_i(n, AT_If_keep, keep);
    return keep;
}

bool shape_if(Module *m, Node *n) {
    Graph *branch[2] = {attr_at(n, AT_If_else_branch)->graph, attr_at(n, AT_If_then_branch)->graph};
    bool taken, known = known_bool(m, n->in[0], &taken);
    if (!known && attr_i(n, AT_If_keep) >= 0) {
        known = attr_i(n, AT_If_keep) != IF_VECTORS;
        taken = attr_i(n, AT_If_keep) == 1;
    }
    bool ok = true;
    for (int side = 0; side < 2; side++) {
        if (known && side != taken) continue; /* a branch that never runs need not make sense */
        if (!graph_infer(m, branch[side])) ok = false; /* the other one is still looked at: its errors count by themselves */
        if (branch[side]->n_out != n->n_out) {
            diag(m->cx, SEV_ERROR, n->loc, "a branch has %u outputs, the node %u", branch[side]->n_out, n->n_out);
            return false;
        }
    }
    if (!ok) return false;
    if (!known && kept_branch(m, n, branch) >= 0) {
        known = attr_i(n, AT_If_keep) != IF_VECTORS;
        taken = attr_i(n, AT_If_keep) == 1;
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
            bool vectors = a->kind == TYPE_TENSOR && b->kind == TYPE_TENSOR && a->dtype == b->dtype && number_and_vector(m, a, b);
            t = keep ? old : vectors ? (a->rank == 1 ? a : b) : shape_join(m, n, a, b);
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

/* A size that is `in` when an iteration starts and `out` when it ends: the same, or a run-time symbol with a bound. */
static Dim widen_dim(Module *m, Dim in, Dim out, int64_t trips) {
    Context *cx = m->cx;
    if (in == out) return in;
    int64_t lo = dim_lo(cx, in), hi = dim_hi(cx, in), lo2 = dim_lo(cx, out), hi2 = dim_hi(cx, out);
    const DimNode *d = dim_node(cx, in);
    bool ours = d->kind == DIM_SYMBOL && d->runtime && strncmp(str_text(cx, d->name), "loop_", 5) == 0;
    if (!ours) return dim_runtime(cx, "loop", lo < lo2 ? lo : lo2, hi > hi2 ? hi : hi2);
    Dim growth = dim_sub(cx, out, in); /* per iteration */
    int64_t step = growth != 0 ? dim_hi(cx, growth) : INT64_MAX, total;
    if (hi != INT64_MAX && hi2 != INT64_MAX && hi2 - hi < step) step = hi2 - hi; /* branches that meet hide how `out` comes from `in` */
    if (step == INT64_MAX || __builtin_mul_overflow(step > 0 ? step : 0, trips, &total) || total > INT32_MAX) total = LOOP_BOUND;
    dim_set_bounds(cx, in, lo < 0 ? 0 : lo, hi + total);
    return in;
}

/* The type of a carried parameter that starts as `in` and is `out` after an iteration; NULL after a diagnostic. */
static const Type *widen(Module *m, Node *n, const Type *in, const Type *out, int64_t trips) {
    Context *cx = m->cx;
    if (in == out) return in;
    if (in->kind == TYPE_OPTIONAL) {
        const Type *elem = widen(m, n, in->elem, out->kind == TYPE_OPTIONAL ? out->elem : out, trips);
        return elem != NULL ? type_optional(cx, elem) : NULL;
    }
    if (in->kind == TYPE_SEQUENCE && out->kind == TYPE_SEQUENCE) {
        const Type *elem = in->elem->rank == RANK_UNKNOWN ? out->elem : out->elem->rank == RANK_UNKNOWN ? in->elem : widen(m, n, in->elem, out->elem, trips);
        return elem != NULL ? type_sequence(cx, elem, widen_dim(m, in->length, out->length, trips)) : NULL;
    }
    if (in->kind != TYPE_TENSOR || out->kind != TYPE_TENSOR || out->rank != in->rank || out->dtype != in->dtype) {
        Writer w = {.arena = &cx->scratch};
        type_print(cx, &w, in);
        cw_printf(&w, " becomes ");
        type_print(cx, &w, out);
        diag(cx, SEV_ERROR, n->loc, "a loop-carried value that is %s; one element type and rank is needed", cw_cstr(&w));
        return NULL;
    }
    Dim dim[RANK_MAX];
    for (uint32_t d = 0; d < in->rank; d++) dim[d] = widen_dim(m, in->dim[d], out->dim[d], trips);
    return type_tensor(cx, in->dtype, in->rank, dim);
}

bool shape_loop(Module *m, Node *n) {
    Context *cx = m->cx;
    Graph *body = attr_at(n, AT_Loop_body)->graph;
    uint32_t carried = n->n_in - 2u, scans = body->n_out - 1u - carried;
    if (body->n_in != carried + 2 || body->n_out < carried + 1 || n->n_out > carried + scans) {
        diag(cx, SEV_ERROR, n->loc, "the body takes %u and gives %u values; %u loop-carried ones need at least %u and %u", body->n_in, body->n_out, carried, carried + 2, carried + 1);
        return false;
    }
    if (n->n_out < carried + scans) { /* trailing outputs left out are outputs nobody wants */
        Value **out = ARENA_ARRAY(&cx->arena, Value *, carried + scans);
        if (n->n_out != 0) memcpy(out, n->out, n->n_out * sizeof *out);
        n->out = out;
        n->n_out = (uint16_t)(carried + scans);
    }
    body->in[0]->type = type_tensor(cx, DT_I64, 0, NULL);
    body->in[1]->type = type_tensor(cx, DT_BOOL, 0, NULL);
    bool again = n->n_out != 0 && n->out[0] != NULL && n->out[0]->type != NULL; /* inferred before: parameters are settled */
    for (uint32_t i = 0; i < carried; i++) {
        if (!carries(m, n, n->in[i + 2], "a loop-carried value")) return false;
        if (!again) body->in[i + 2]->type = n->in[i + 2]->type;
    }
    int64_t trips = trip_bound(m, n);
    for (int round = 0; round < 4; round++) {
        if (!graph_infer(m, body)) return false;
        bool changed = false;
        for (uint32_t i = 0; i < carried; i++) {
            Value *in = body->in[i + 2], *out = body->out[i + 1];
            if (!carries(m, n, out, "a loop-carried value")) return false;
            const Type *wider = widen(m, n, in->type, out->type, trips);
            if (wider == NULL) return false;
            changed |= wider != in->type;
            in->type = wider;
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

bool shape_scan(Module *m, Node *n) {
    Context *cx = m->cx;
    Graph *body = attr_at(n, AT_Scan_body)->graph;
    int64_t given = attr_i(n, AT_Scan_num_scan_inputs);
    if (given < 1 || given > n->n_in || body->n_in != n->n_in) {
        diag(cx, SEV_ERROR, n->loc, "%lld scan inputs of %u inputs, the body takes %u", (long long)given, n->n_in, body->n_in);
        return false;
    }
    uint32_t scan_in = (uint32_t)given, states = n->n_in - scan_in;
    if (n->n_out > body->n_out || states > body->n_out) {
        diag(cx, SEV_ERROR, n->loc, "%u outputs, the body gives %u; its states are %u", n->n_out, body->n_out, states);
        return false;
    }
    Dim trip = 0;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (!tensor_of_rank(m, n, n->in[i], "an input")) return false;
        const Type *t = n->in[i]->type;
        if (i < states) {
            body->in[i]->type = t;
            continue;
        }
        uint32_t axis;
        if (!shape_axis(m, n, attr_ints_at(n, AT_Scan_scan_input_axes, i - states), t->rank, &axis)) return false;
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
        if (!shape_axis(m, n, attr_ints_at(n, AT_Scan_scan_output_axes, i - states), v->type->rank + 1u, &axis)) return false;
        Dim dim[RANK_MAX];
        for (uint32_t d = 0, k = 0; d <= v->type->rank; d++) dim[d] = d == axis ? trip : v->type->dim[k++];
        n->out[i]->type = type_tensor(cx, v->type->dtype, v->type->rank + 1u, dim);
    }
    return true;
}
