/* attention: two products around a softmax become attention in tiles.
 *
 *     before:  %s = MatMul(%q, %kt)   %a = Add(%s, %mask)         after:  %y = Fused(%x, %mask) { body:
 *              %p = Softmax(%a)       %o = MatMul(%p, %v)                     %s = AttentionScores(%x, %x)  %a = Add(%s, %mask)
 *              %y = Transpose(%o)                                             %y = AttentionMix(%a, %x) }
 *
 * What stands between the first product and the softmax may be any pointwise operators. The views that q, k and v are read
 * through (parts of one tensor, heads split off, keys transposed, heads repeated for groups of queries) become steps from
 * element to element of the tensor they come from, factors become the scale; so none of them is computed. Where sizes are known
 * at run time only, orders of dimensions, repeated heads and factors are taken in.
 *
 * A decoder's step appends its keys and values to a cache that comes in as one tensor and goes out as another. With few queries
 * the kernel does that, too, head after head, and reads each while it is still near:
 *
 *     %k = Concat(%past, %new)   …                  %y, %k = Fused(%x, %past, %new, …) { body:
 *                                                       %k = Concat(%past, %new)   %s = AttentionScores(%x, %k)   … }
 *
 * Few queries whose keys or values do not lie in rows stay as they are: their products read memory once, whatever stands between. */
#include "passes/lower/attention_parts.h"
#include "passes/pass.h"
#include "passes/simplify/simplify.h"

enum { MOST_COLUMNS = 256, CHAIN_MAX = 16, VIEW_DEPTH = 12 };

typedef struct View {             /* a tensor as steps through `base`; sizes as in operand_view.h */
    Value *base;
    uint32_t rank;
    bool strides;                 /* size, step and offset hold; else perm */
    int64_t size[RANK_MAX], step[RANK_MAX], offset;
    int64_t perm[RANK_MAX];
    int64_t group;
    double scale;
} View;

typedef struct Pass {
    Module *m;
    Context *cx;
    Uses uses;
    uint32_t n_use;               /* values that uses knows */
} Pass;

typedef struct Match {
    Node *first, *softmax, *second, *transpose; /* transpose NULL: none */
    Node *chain[CHAIN_MAX];       /* from the softmax down to the first product */
    uint32_t n_chain;
    View q, k, v;
    Node *keys, *values;          /* few queries: the Concat that makes k's or v's tensor and an output of the graph of it; NULL: read as it is */
} Match;

static uint32_t use_count(const Pass *p, const Value *v) { return v->id < p->n_use ? p->uses.first[v->id + 1] - p->uses.first[v->id] : 2; }

static bool is_f32(const Value *v) { return v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->dtype == DT_F32; }

/* ---- views ------------------------------------------------------------------------------------------------------- */
static bool constant_sizes(const Context *cx, const Value *v, int64_t *size) {
    for (uint32_t i = 0; i < v->type->rank; i++) {
        if (!dim_is_const(cx, v->type->dim[i]) || dim_value(cx, v->type->dim[i]) < 1) return false;
        size[i] = dim_value(cx, v->type->dim[i]);
    }
    return true;
}

static bool view_of(Pass *p, Value *v, View *w, int depth);

/* Dimensions `size` in place of v's: runs of both with the same product, where the old ones of a run are one line. */
static bool reshape_view(View *v, uint32_t rank, const int64_t *size) {
    int64_t old[RANK_MAX], old_step[RANK_MAX], step[RANK_MAX] = {0};
    uint32_t n = 0;
    for (uint32_t k = 0; k < v->rank; k++) {
        if (v->size[k] == 1) continue;
        old[n] = v->size[k];
        old_step[n++] = v->step[k];
    }
    for (uint32_t i = 0, j = 0; i < n && j < rank;) {
        uint32_t end = i + 1, to = j + 1;
        int64_t have = old[i], want = size[j];
        while (have != want) {
            if (want < have && to < rank) want *= size[to++];
            else if (want > have && end < n) have *= old[end++];
            else return false;
        }
        for (uint32_t k = i; k + 1 < end; k++)
            if (old_step[k] != old[k + 1] * old_step[k + 1]) return false;
        step[to - 1] = old_step[end - 1];
        for (uint32_t k = to - 1; k > j; k--) step[k - 1] = step[k] * size[k];
        i = end;
        j = to;
    }
    v->rank = rank;
    memcpy(v->size, size, rank * sizeof *size);
    memcpy(v->step, step, rank * sizeof *step);
    return true;
}

/* [B,H,r,N,D] with the third dimension repeated, as [B,H*r,N,D] */
static bool join_repeated(View *v, uint32_t rank, const int64_t *size) {
    if (v->rank != 5 || rank != 4 || v->step[2] != 0 || v->size[2] == 1 || v->group != 1) return false;
    if (size[0] != v->size[0] || size[1] != v->size[1] * v->size[2] || size[2] != v->size[3] || size[3] != v->size[4]) return false;
    v->group = v->size[2];
    for (uint32_t i = 2; i < 4; i++) v->step[i] = v->step[i + 1];
    v->rank = 4;
    memcpy(v->size, size, 4 * sizeof *size);
    v->size[1] /= v->group;
    return true;
}

static bool slice_view(Pass *p, const Node *n, View *v) {
    int64_t start[RANK_MAX], axis[RANK_MAX], step[RANK_MAX], size[RANK_MAX];
    uint32_t n_start, n_axis, n_step = 0;
    if (!rw_ints(p->m, n->in[1], start, RANK_MAX, &n_start) || !constant_sizes(p->cx, n->out[0], size)) return false;
    for (uint32_t i = 0; i < n_start; i++) axis[i] = i, step[i] = 1;
    if (n->n_in > 3 && n->in[3] != NULL && (!rw_ints(p->m, n->in[3], axis, RANK_MAX, &n_axis) || n_axis != n_start)) return false;
    if (n->n_in > 4 && n->in[4] != NULL && (!rw_ints(p->m, n->in[4], step, RANK_MAX, &n_step) || n_step != n_start)) return false;
    for (uint32_t i = 0; i < n_start; i++) {
        int64_t a = axis[i] < 0 ? axis[i] + v->rank : axis[i];
        if (a < 0 || a >= v->rank || step[i] != 1) return false;
        int64_t s = start[i] < 0 ? start[i] + v->size[a] : start[i];
        if (s < 0 || s + size[a] > v->size[a]) return false;
        v->offset += s * v->step[a];
        v->size[a] = size[a];
    }
    return true;
}

static bool split_view(Pass *p, const Value *v, View *w) {
    const Node *n = v->def;
    int64_t a = attr_i(n, AT_Split_axis), size[RANK_MAX];
    if (a < 0) a += w->rank;
    if (a < 0 || a >= w->rank) return false;
    for (uint32_t i = 0; i <= v->def_out; i++) {
        if (n->out[i] == NULL || !constant_sizes(p->cx, n->out[i], size)) return false;
        if (i < v->def_out) w->offset += size[a] * w->step[a];
    }
    w->size[a] = size[a];
    return true;
}

/* One part of a dimension, which goes: Gather with one index. */
static bool part_view(Pass *p, const Node *n, View *v) {
    int64_t at, a = attr_i(n, AT_Gather_axis);
    uint32_t count;
    if (n->in[1]->type->rank != 0 || !rw_ints(p->m, n->in[1], &at, 1, &count) || count != 1) return false;
    if (a < 0) a += v->rank;
    if (a < 0 || a >= v->rank) return false;
    if (at < 0) at += v->size[a];
    if (at < 0 || at >= v->size[a]) return false;
    v->offset += at * v->step[a];
    v->rank--;
    for (uint32_t i = (uint32_t)a; i < v->rank; i++) v->size[i] = v->size[i + 1], v->step[i] = v->step[i + 1];
    return true;
}

/* How often Gather repeats each head of [B,H,N,D]; 0 when it does something else. */
static int64_t repeats(Pass *p, const Node *n) {
    const Type *t = n->in[0]->type, *o = n->out[0]->type;
    int64_t a = attr_i(n, AT_Gather_axis);
    if (t->rank != 4 || o->rank != 4 || (a != 1 && a != -3) || n->in[1]->data == NULL || !dim_is_const(p->cx, t->dim[1]) || !dim_is_const(p->cx, o->dim[1])) return 0;
    int64_t have = dim_value(p->cx, t->dim[1]), want = dim_value(p->cx, o->dim[1]);
    if (have < 1 || want % have != 0) return 0;
    for (int64_t i = 0; i < want; i++)
        if (const_i64(n->in[1], i) != i / (want / have)) return 0;
    return want / have;
}

static bool transpose_view(const Node *n, View *v) {
    View from = *v;
    const Attr *perm = attr_at(n, AT_Transpose_perm);
    for (uint32_t i = 0; i < v->rank; i++) {
        int64_t f = perm->present ? perm->ints.v[i] : v->rank - 1 - i;
        v->size[i] = from.size[f];
        v->step[i] = from.step[f];
        v->perm[i] = from.perm[f];
        if (v->group != 1 && i == 1 && f != 1) return false;
    }
    return true;
}

static bool expand_view(Pass *p, const Node *n, View *v) {
    int64_t size[RANK_MAX];
    if (!constant_sizes(p->cx, n->out[0], size) || n->out[0]->type->rank != v->rank) return false;
    for (uint32_t i = 0; i < v->rank; i++) {
        if (size[i] == v->size[i]) continue;
        v->size[i] = size[i];
        v->step[i] = 0;
    }
    return true;
}

/* v through its definition; false: v is not a view, or not one that steps can describe. */
static bool through(Pass *p, Value *v, View *w, int depth) {
    Node *n = v->def;
    double c;
    if (n == NULL || depth > VIEW_DEPTH || n->n_agree != 0 || (n->in[0] == NULL && n->op != OP_Mul)) return false;
    if (n->op == OP_Mul || n->op == OP_Div) {
        for (uint32_t i = 0; i < (n->op == OP_Mul ? 2u : 1u); i++) {
            if (!rw_splat(p->cx, n->in[1 - i], &c) || !rw_same_type(n->in[i], v) || (n->op == OP_Div && c == 0)) continue;
            if (!view_of(p, n->in[i], w, depth + 1)) return false;
            w->scale *= n->op == OP_Mul ? c : 1 / c;
            return true;
        }
        return false;
    }
    if (!is_f32(n->in[0]) || !view_of(p, n->in[0], w, depth + 1)) return false;
    if (n->op == OP_Transpose) return transpose_view(n, w);
    if (n->op == OP_Gather && w->group == 1) {
        int64_t group = repeats(p, n);
        bool heads_stay = w->strides || w->perm[1] == 1 || group == 1;
        if (group != 0) return w->group = group, heads_stay;
    }
    if (n->op == OP_Identity) return true;
    int64_t size[RANK_MAX];
    if (!w->strides || w->group != 1) return false;
    if (op_is_reshape((Op)n->op))
        return constant_sizes(p->cx, v, size) && (join_repeated(w, v->type->rank, size) || reshape_view(w, v->type->rank, size));
    if (n->op == OP_Slice) return slice_view(p, n, w);
    if (n->op == OP_Split) return split_view(p, v, w);
    if (n->op == OP_Expand) return expand_view(p, n, w);
    return n->op == OP_Gather && part_view(p, n, w);
}

/* Always a view: at worst of v itself. False for types that no view has. */
static bool view_of(Pass *p, Value *v, View *w, int depth) {
    View own = {.base = v, .rank = v->type->rank, .group = 1, .scale = 1};
    if (!is_f32(v)) return false;
    *w = own;
    if (through(p, v, w, depth)) return true;
    *w = own;
    w->strides = constant_sizes(p->cx, v, w->size);
    int64_t step = 1;
    for (uint32_t i = w->rank; i-- > 0;) {
        w->perm[i] = i;
        w->step[i] = step;
        if (w->strides) step *= w->size[i];
    }
    return true;
}

/* ---- matching ---------------------------------------------------------------------------------------------------- */
static bool pointwise(const Node *n) { return (op_info(n->op)->flags & OPF_INPLACE) && (op_info(n->op)->flags & OPF_PURE) && op_rules(n->op).define != NULL && n->n_out == 1; }

/* The product that v comes from through pointwise operators that nothing else reads. */
static bool find_product(Pass *p, Match *x, Value *v, uint32_t depth) {
    Node *n = v->def;
    if (n == NULL || n->graph != x->second->graph || use_count(p, v) != 1 || depth >= CHAIN_MAX || !is_f32(v)) return false;
    if (n->op == OP_MatMul) {
        x->first = n;
        x->n_chain = depth;
        return n->n_agree == 0;
    }
    if (!pointwise(n)) return false;
    x->chain[depth] = n;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && is_f32(n->in[i]) && type_same_dims(n->in[i]->type, v->type) && find_product(p, x, n->in[i], depth + 1)) return true;
    return false;
}

static bool last_axis(const Node *n) {
    int64_t a = n->op == OP_Softmax ? attr_i(n, AT_Softmax_axis) : attr_i(n, AT_MaskedSoftmax_axis);
    return a == -1 || a == n->in[0]->type->rank - 1;
}

static bool few_columns(const Context *cx, Dim d) { return dim_is_const(cx, d) && dim_value(cx, d) >= 1 && dim_value(cx, d) <= MOST_COLUMNS; }

/* The last two dimensions of a view of K^T, exchanged. */
static void swap_last(View *v) {
    const uint32_t a = v->rank - 2u, b = v->rank - 1u;
    int64_t size = v->size[a], step = v->step[a], perm = v->perm[a];
    v->size[a] = v->size[b], v->step[a] = v->step[b], v->perm[a] = v->perm[b];
    v->size[b] = size, v->step[b] = step, v->perm[b] = perm;
}

static bool rows_are_lines(const View *v) { return v->strides ? v->step[v->rank - 1] == 1 : v->perm[v->rank - 1] == v->rank - 1; }

static bool heads_agree(const Value *a, const Value *b, uint32_t rank) {
    if (a->type->rank != rank || b->type->rank != rank) return false;
    for (uint32_t i = 0; i + 2 < rank; i++)
        if (a->type->dim[i] != b->type->dim[i]) return false;
    return true;
}

/* ---- a cache that grows ------------------------------------------------------------------------------------------- */
static bool is_output(const Pass *p, const Value *v) {
    for (uint32_t u = p->uses.first[v->id]; v->id < p->n_use && u < p->uses.first[v->id + 1]; u++)
        if (p->uses.use[u].node == NULL) return true;
    return false;
}

/* The only node that reads v; graphs may have it as an output besides. */
static Node *only_reader(const Pass *p, const Value *v) {
    Node *reader = NULL;
    for (uint32_t u = p->uses.first[v->id]; v->id < p->n_use && u < p->uses.first[v->id + 1]; u++) {
        Node *n = p->uses.use[u].node;
        if (n == NULL) continue;
        if (reader != NULL) return NULL;
        reader = n;
    }
    return reader;
}

/* Do v's elements get to `product` through views that nothing else reads? */
static bool only_for(const Pass *p, const Value *v, const Node *product) {
    for (int depth = 0; depth < VIEW_DEPTH; depth++) {
        const Node *n = only_reader(p, v);
        if (n == product || n == NULL) return n != NULL;
        if (n->graph != product->graph || n->n_out != 1 || is_output(p, n->out[0])) return false;
        v = n->out[0];
    }
    return false;
}

static bool is_whole(const View *v) {
    int64_t step = 1;
    for (uint32_t i = v->rank; i-- > 0;) {
        if (v->strides ? v->size[i] != 1 && v->step[i] != step : v->perm[i] != i) return false;
        if (v->strides) step *= v->size[i];
    }
    return v->offset == 0;
}

/* The Concat along its rows that makes the tensor of w; NULL when it cannot be part of the attention in which `product` reads w. */
static Node *growing(const Pass *p, const View *w, const Node *product) {
    Node *n = w->base->def;
    if (n == NULL || n->op != OP_Concat || n->graph != product->graph || n->n_agree != 0 || n->n_in > 4) return NULL;
    int64_t axis = attr_i(n, AT_Concat_axis), rank = w->base->type->rank;
    if (rank != w->rank || (axis < 0 ? axis + rank : axis) != rank - 2 || !is_whole(w)) return NULL;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] == NULL || !is_f32(n->in[i])) return NULL;
    return is_output(p, n->out[0]) && only_for(p, n->out[0], product) ? n : NULL;
}

static bool match(Pass *p, Node *n, Match *x) {
    Context *cx = p->cx;
    *x = (Match){.second = n};
    if (n->op != OP_MatMul || n->n_agree != 0 || !is_f32(n->out[0]) || n->out[0]->type->rank < 2 || n->out[0]->type->rank > 4) return false;
    Value *mixed = n->in[0], *v = n->in[1];
    Node *s = x->softmax = mixed->def;
    if (s == NULL || (s->op != OP_Softmax && s->op != OP_MaskedSoftmax) || s->graph != n->graph || use_count(p, mixed) != 1 || !last_axis(s) || s->n_agree != 0) return false;
    if (!find_product(p, x, s->in[0], 0)) return false;
    Value *q = x->first->in[0], *kt = x->first->in[1], *score = x->first->out[0];
    const uint32_t r = score->type->rank;
    if (!type_same_dims(score->type, mixed->type) || !heads_agree(q, kt, r) || !heads_agree(q, v, r) || !is_f32(q) || !is_f32(kt) || !is_f32(v)) return false;
    if (!few_columns(cx, q->type->dim[r - 1]) || !few_columns(cx, v->type->dim[r - 1])) return false;
    if (q->data != NULL || dim_lo(cx, kt->type->dim[r - 1]) < 1) return false;
    if (!view_of(p, q, &x->q, 0) || !view_of(p, kt, &x->k, 0) || !view_of(p, v, &x->v, 0)) return false;
    if (x->q.group != 1) return false;
    if (x->k.group != x->v.group || x->v.scale != 1 || x->k.base->type->dtype != DT_F32) return false;
    swap_last(&x->k);
    if (dim_hi(cx, q->type->dim[r - 2]) <= ATTENTION_MOST_FEW) {
        if (!rows_are_lines(&x->k) || !rows_are_lines(&x->v)) return false;
        x->keys = growing(p, &x->k, x->first);
        x->values = growing(p, &x->v, x->second);
    }
    return x->q.base->data == NULL && x->k.base->data == NULL && x->v.base->data == NULL;
}

/* ---- building ---------------------------------------------------------------------------------------------------- */
static void set_view(Context *cx, Node *n, AttrSlot slot, const View *v) {
    int64_t x[2 * RANK_MAX + 1];
    const uint32_t r = v->rank;
    if (!v->strides) {
        attr_set_ints(cx, n, slot, v->perm, r);
        return;
    }
    memcpy(x, v->size, r * sizeof *x);
    x[r] = v->offset;
    memcpy(x + r + 1, v->step, r * sizeof *x);
    attr_set_ints(cx, n, slot, x, 2 * r + 1);
}

typedef struct Body { Graph *graph; Value *in[4 * CHAIN_MAX + 3], *param[4 * CHAIN_MAX + 3]; uint32_t n; } Body;

static Value *param_of(Pass *p, Body *b, Value *v) {
    if (v == NULL || v->data != NULL) return v;
    for (uint32_t i = 0; i < b->n; i++)
        if (b->in[i] == v) return b->param[i];
    Value *in = graph_add_input(p->m, b->graph, v->type, 0);
    in->sym = v->sym;
    in->n_sym = v->n_sym;
    b->in[b->n] = v;
    return b->param[b->n++] = in;
}

static void append(Graph *g, Node *n) {
    node_remove(n);
    n->graph = g;
    n->next = NULL;
    n->prev = g->last;
    if (g->last != NULL) g->last->next = n;
    else g->first = n;
    g->last = n;
}

/* v for the body: through views of constant steps that nothing else reads, which come along. */
static Value *take_view(Pass *p, Body *b, Value *v, const Graph *from, int depth) {
    Node *n = v->def;
    bool view = n != NULL && (op_is_reshape((Op)n->op) || n->op == OP_Transpose || n->op == OP_Slice || n->op == OP_Identity);
    if (!view || depth > VIEW_DEPTH || n->graph != from || n->n_out != 1 || n->n_agree != 0 || use_count(p, v) != 1) return param_of(p, b, v);
    for (uint32_t i = 1; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->data == NULL) return param_of(p, b, v);
    n->in[0] = take_view(p, b, n->in[0], from, depth + 1);
    append(b->graph, n);
    return v;
}

/* What attention reads of view w: the Concat's result in the body, or what comes in. */
static Value *operand(Pass *p, Body *b, const View *w, Node *concat) {
    if (concat == NULL) return param_of(p, b, w->base);
    const Graph *from = concat->graph;
    if (from == b->graph) return w->base; /* keys and values are one tensor */
    for (uint32_t i = 0; i < concat->n_in; i++) concat->in[i] = take_view(p, b, concat->in[i], from, 0);
    append(b->graph, concat);
    return w->base;
}

/* Graphs that have `old`, which is in a body now, as an output have `now` instead. */
static void replace_output(Pass *p, const Graph *body, const Value *old, Value *now) {
    Graphs graphs = module_graphs(p->m);
    for (uint32_t i = 0; i < graphs.n; i++)
        for (uint32_t k = 0; k < graphs.v[i]->n_out && graphs.v[i] != body; k++)
            if (graphs.v[i]->out[k] == old) graphs.v[i]->out[k] = now;
}

static bool few_inputs(const Match *x) {
    uint32_t n = 9; /* q, and of k and v the tensor or up to four parts */
    for (uint32_t i = 0; i < x->n_chain; i++) n += x->chain[i]->n_in;
    return n <= 4 * CHAIN_MAX;
}

/* The operators of the match as one Fused node before its last one; NULL when they do not fit after all. */
static Node *build(Pass *p, Match *x) {
    Module *m = p->m;
    Context *cx = p->cx;
    Node *last = x->transpose != NULL ? x->transpose : x->second;
    Body b = {.graph = graph_new(m, last->graph, "body")};
    Value *q = param_of(p, &b, x->q.base), *k = operand(p, &b, &x->k, x->keys), *v = operand(p, &b, &x->v, x->values);
    Node *scores = node_new(m, b.graph, NULL, OP_AttentionScores, 2, (Value *[]){q, k}, 1);
    scores->loc = x->first->loc;
    attr_set_f(scores, AT_AttentionScores_scale, x->q.scale * x->k.scale);
    attr_set_i(scores, AT_AttentionScores_group, x->k.group);
    set_view(cx, scores, AT_AttentionScores_q, &x->q);
    set_view(cx, scores, AT_AttentionScores_k, &x->k);
    if (!node_infer(m, scores)) return NULL;
    Value *in = scores->out[0], *from = x->first->out[0];
    for (uint32_t i = x->n_chain; i-- > 0;) {
        Node *n = x->chain[i];
        for (uint32_t j = 0; j < n->n_in; j++) n->in[j] = n->in[j] == from ? in : param_of(p, &b, n->in[j]);
        append(b.graph, n);
        from = in = n->out[0];
    }
    Node *mix = node_new(m, b.graph, NULL, OP_AttentionMix, 2, (Value *[]){in, v}, 1);
    mix->loc = x->second->loc;
    attr_set_i(mix, AT_AttentionMix_masked, x->softmax->op == OP_MaskedSoftmax);
    attr_set_i(mix, AT_AttentionMix_rows_first, x->transpose != NULL);
    attr_set_i(mix, AT_AttentionMix_group, x->k.group);
    set_view(cx, mix, AT_AttentionMix_v, &x->v);
    if (!node_infer(m, mix)) return NULL;
    graph_add_output(m, b.graph, mix->out[0]);
    Value *grown[2] = {NULL};
    uint32_t n_grown = 0;
    if (x->keys != NULL) grown[n_grown++] = k;
    if (x->values != NULL) grown[n_grown++] = v;
    for (uint32_t i = 0; i < n_grown; i++) graph_add_output(m, b.graph, grown[i]);
    Node *fused = node_new(m, last->graph, last, OP_Fused, b.n, b.in, 1 + n_grown);
    fused->loc = x->second->loc;
    fused->loc.op = str_intern(cx, "Fused");
    attr_set_graph(fused, AT_Fused_body, b.graph);
    fused->out[0]->type = last->out[0]->type;
    fused->out[0]->name = last->out[0]->name;
    for (uint32_t i = 0; i < n_grown; i++) {
        fused->out[1 + i]->type = grown[i]->type;
        fused->out[1 + i]->name = grown[i]->name;
        replace_output(p, b.graph, grown[i], fused->out[1 + i]);
    }
    return fused;
}

/* The only reader of v, if it is Transpose [0,2,1,3]. */
static Node *rows_first_reader(Pass *p, const Value *v) {
    if (v->type->rank != 4 || use_count(p, v) != 1) return NULL;
    Node *n = p->uses.use[p->uses.first[v->id]].node;
    if (n == NULL || n->op != OP_Transpose || n->graph != v->def->graph || n->in[0] != v) return NULL;
    const Attr *perm = attr_at(n, AT_Transpose_perm);
    static const int64_t want[4] = {0, 2, 1, 3};
    return perm->present && memcmp(perm->ints.v, want, sizeof want) == 0 ? n : NULL;
}

static void replace(Pass *p, Value *old, Value *now) {
    bool output = false;
    for (uint32_t u = p->uses.first[old->id]; u < p->uses.first[old->id + 1]; u++) {
        Use use = p->uses.use[u];
        if (use.node == NULL) output = true;
        else use.node->in[use.index] = now;
    }
    if (output) value_replace(p->m, old, now);
}

bool pass_attention(Context *cx, Module *m) {
    Pass p = {.m = m, .cx = cx, .uses = module_uses(m), .n_use = m->n_value};
    Graphs graphs = module_graphs(m);
    bool changed = false;
    for (uint32_t i = 0; i < graphs.n; i++) {
        FOR_NODES(n, graphs.v[i]) {
            Match x;
            if (!match(&p, n, &x) || !few_inputs(&x)) continue;
            x.transpose = rows_first_reader(&p, n->out[0]);
            Node *fused = build(&p, &x);
            if (fused == NULL) continue;
            replace(&p, x.transpose != NULL ? x.transpose->out[0] : n->out[0], fused->out[0]);
            changed = true;
        }
    }
    if (changed) pass_dce(cx, m); /* the operators that were taken in, and the copies they read */
    return changed;
}
