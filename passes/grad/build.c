/* What gradient rules build with: see grad.h. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

bool grad_zero(Grad *g) {
    (void)g;
    return true;
}

bool grad_missing(Grad *g) {
    diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient is not supported yet");
    return false;
}

Node *g_node(Grad *g, Op op, uint32_t n_in, Value *const *in, uint32_t n_out) { return expand_node(g->m, g->at, op, n_in, in, n_out); }

static bool known_shape(const Context *cx, const Type *t, int64_t *dim) {
    for (uint32_t i = 0; i < t->rank; i++) {
        if (!dim_is_const(cx, t->dim[i])) return false;
        dim[i] = dim_value(cx, t->dim[i]);
    }
    return true;
}

/* The shape of v as an operand: a constant where it is one, so that v is not read. */
static Value *shape_operand(Grad *g, Value *v) {
    int64_t dim[RANK_MAX];
    return known_shape(g->m->cx, v->type, dim) ? value_const_i64(g->m, v->type->rank, dim) : g_shape(g, v);
}

static bool same_dims(const Type *a, const Type *b) {
    if (a->rank != b->rank) return false;
    for (uint32_t i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

Value *g_reshape_like(Grad *g, Value *v, Value *like) {
    return same_dims(v->type, like->type) ? v : g_2(g, OP_Reshape, v, shape_operand(g, like));
}

Value *g_expand_like(Grad *g, Value *v, Value *like) {
    return same_dims(v->type, like->type) ? v : g_2(g, OP_Expand, v, shape_operand(g, like));
}

Value *g_filled_like(Grad *g, Value *like, double c) { return g_expand_like(g, g_num(g, like, c), like); }

Value *g_dy(Grad *g, uint32_t i) {
    if (i < g->n->n_out && g->dy[i] != NULL) return g->dy[i];
    return g_filled_like(g, g->n->out[i], 0);
}

Value *g_axes(Grad *g, uint32_t mask) {
    int64_t axes[RANK_MAX];
    uint32_t n = 0;
    for (uint32_t a = 0; a < RANK_MAX; a++)
        if ((mask >> a & 1) != 0) axes[n++] = a;
    return value_const_i64(g->m, n, axes);
}

Value *g_sum(Grad *g, Value *v, uint32_t mask) { return mask == 0 ? v : g_2(g, OP_ReduceSum, v, g_axes(g, mask)); }
Value *g_mean(Grad *g, Value *v, uint32_t mask) { return mask == 0 ? v : g_2(g, OP_ReduceMean, v, g_axes(g, mask)); }

Value *g_size(Grad *g, Value *v, uint32_t axis) {
    Dim d = v->type->dim[axis];
    if (dim_is_const(g->m->cx, d)) return value_const_i64(g->m, 1, (int64_t[]){dim_value(g->m->cx, d)});
    Node *n = g_node(g, OP_Shape, 1, &v, 1);
    attr_set_i(n, AT_Shape_start, axis);
    attr_set_i(n, AT_Shape_end, axis + 1);
    return g_done(g, n);
}

Value *g_count(Grad *g, Value *v, uint32_t mask) {
    Context *cx = g->m->cx;
    double known = 1;
    Value *rest = NULL;
    for (uint32_t a = 0; a < v->type->rank; a++) {
        if ((mask >> a & 1) == 0) continue;
        if (dim_is_const(cx, v->type->dim[a])) known *= (double)dim_value(cx, v->type->dim[a]);
        else rest = rest == NULL ? g_size(g, v, a) : g_mul(g, rest, g_size(g, v, a));
    }
    if (rest == NULL) return g_num(g, v, known);
    return g_times(g, g_cast(g, g_2(g, OP_Reshape, rest, value_const_i64(g->m, 0, NULL)), v->type->dtype), known);
}

uint32_t g_axis(const Grad *g, int64_t axis, uint32_t rank) {
    (void)g;
    return (uint32_t)(axis < 0 ? axis + rank : axis);
}

/* Only the run knows whether x has one element along the axis, repeated, or as many as d. */
static bool may_be_repeated(const Grad *g, Dim own, Dim size) {
    const Context *cx = g->m->cx;
    return own != size && !dim_is_const(cx, own) && dim_lo(cx, own) <= 1 && dim_hi(cx, own) >= 1 && dim_hi(cx, size) > 1;
}

static Value *sum_if_repeated(Grad *g, Value *d, uint32_t axis, Value *x, uint32_t own) {
    Value *size = g_size(g, x, own), *repeated = g_2(g, OP_Equal, size, value_const_i64(g->m, 1, (int64_t[]){1}));
    Value *all = g_where(g, repeated, g_sum(g, d, 1u << axis), d);
    return g_done(g, g_node(g, OP_Slice, 4, (Value *[]){all, value_const_i64(g->m, 1, (int64_t[]){0}), size, value_const_i64(g->m, 1, (int64_t[]){axis})}, 1));
}

Value *g_sum_to(Grad *g, Value *d, Value *x) {
    const Type *from = d->type, *to = x->type;
    uint32_t mask = 0, lead = from->rank - to->rank;
    for (uint32_t i = lead; i < from->rank; i++)
        if (may_be_repeated(g, to->dim[i - lead], from->dim[i])) d = sum_if_repeated(g, d, i, x, i - lead);
    for (uint32_t i = 0; i < from->rank; i++) {
        Dim own = i < lead ? 0 : to->dim[i - lead];
        if (i < lead || (own != from->dim[i] && own == dim_const(g->m->cx, 1))) mask |= 1u << i;
    }
    if (mask == 0) return d;
    Node *n = g_node(g, OP_ReduceSum, 2, (Value *[]){d, g_axes(g, mask)}, 1);
    bool only_lead = mask == (1u << lead) - 1;
    attr_set_i(n, AT_ReduceSum_keepdims, !only_lead);
    Value *sum = g_done(g, n);
    return only_lead ? sum : g_reshape_like(g, sum, x);
}

Value *g_matmul(Grad *g, Value *a, bool trans_a, Value *b, bool trans_b, double alpha) {
    if (!trans_a && !trans_b && alpha == 1) return g_2(g, OP_MatMul, a, b);
    Node *n = g_node(g, OP_FusedMatMul, 2, (Value *[]){a, b}, 1);
    attr_set_i(n, AT_FusedMatMul_transA, trans_a);
    attr_set_i(n, AT_FusedMatMul_transB, trans_b);
    attr_set_f(n, AT_FusedMatMul_alpha, alpha);
    return g_done(g, n);
}

bool node_need_outputs(Module *m, Node *n, uint32_t count) {
    bool all = n->n_out >= count;
    for (uint32_t i = 0; all && i < count; i++) all = n->out[i] != NULL;
    if (all) return true;
    Node *donor = node_new(m, n->graph, n, (Op)n->op, n->n_in, n->in, count); /* for its fresh outputs */
    for (uint32_t i = 0; i < n->n_out && i < count; i++)
        if (n->out[i] != NULL) donor->out[i] = n->out[i];
    for (uint32_t i = 0; i < count; i++) donor->out[i]->def = n;
    n->out = donor->out;
    n->n_out = (uint16_t)count;
    donor->n_out = 0;
    node_remove(donor);
    return node_reinfer(m, n);
}

bool g_need_outputs(Grad *g, uint32_t count) { return node_need_outputs(g->m, g->n, count); }

static void count_reads(Graph *g, void *user) {
    uint32_t *count = user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) count[n->in[i]->id]++;
    }
    for (uint32_t i = 0; i < g->n_out; i++) count[g->out[i]->id]++;
}

void grad_count_reads(Graph *g, uint32_t *count) { graph_visit(g, count_reads, count); }
