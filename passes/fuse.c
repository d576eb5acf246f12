/* Operator fusion: groups of operators become one Fused node, which lowering turns into one kernel.
 *
 *     %a = Conv(%x, %w, %b)                      %z = Fused(%x, %w, %b, %y) { body:
 *     %c = Add(%a, %y)               ->            %a = Conv(..)  %c = Add(%a, ..)  %z = Relu(%c)
 *     %z = Relu(%c)                              }
 *
 * A group is either pointwise (all members compute one iteration space) or has one anchor: a contraction, reduction,
 * normalisation or pooling whose result runs through the group's pointwise members as it is stored (epilogue), and,
 * for anchors that read each element a few times only, or copy the operand before they do (an image with a border), whose operand
 * is computed as it is read (prologue). A depthwise
 * convolution also takes in the group of the convolution before it, when that pays.
 *
 * Greedy, in execution order. A node joins the group of a producer when it reads it element for element and no path
 * leads from the group to the node through anything outside. Moves that only permute or cut (Transpose, Slice) may
 * stand between pointwise members; byte-equal views join only between members, since alone they cost nothing. */
#include "ir/state.h"
#include "passes/lower_conv.h"
#include "passes/pass.h"

enum { GROUP_MAX = 48 }; /* members; bounds the size of one kernel */

typedef enum AnchorUse { EPILOGUE = 1, PROLOGUE = 2 } AnchorUse;

/* What an operator with a lowering rule allows around it. Every rule here stores each element of output 0 exactly
 * once, through lower_store at the plain output index. */
static unsigned anchor_use(Op op) {
    switch (op) {
    case OP_Conv: case OP_ConvTranspose: case OP_MatMul: case OP_Gemm: case OP_MaxPool: case OP_AveragePool: case OP_FusedMatMul:
    case OP_ConvChannelsLast: case OP_ConvTransposeChannelsLast: case OP_MaxPoolChannelsLast: case OP_AveragePoolChannelsLast:
    case OP_IntegerConv: case OP_IntegerConvChannelsLast: case OP_IntegerMatMul: case OP_BlockMatMul: case OP_MatMulInteger:
    case OP_MixedMatMul: case OP_ConvGradWeight: case OP_ConvGradWeightChannelsLast: return EPILOGUE;
    case OP_InstanceNormalization: case OP_GroupNormalization: case OP_GroupNormalizationChannelsLast: return EPILOGUE; /* their input is read three times */
    case OP_GlobalAveragePool: case OP_GlobalMaxPool: return EPILOGUE | PROLOGUE;
    case OP_ReduceSum: case OP_ReduceMean: case OP_ReduceMax: case OP_ReduceMin: case OP_ReduceProd: case OP_ReduceL1: case OP_ReduceL2:
    case OP_ReduceSumSquare: case OP_ReduceLogSum: case OP_ReduceLogSumExp: return EPILOGUE | PROLOGUE;
    case OP_Softmax: case OP_MaskedSoftmax: case OP_LogSoftmax: case OP_LayerNormalization: case OP_RMSNormalization: return EPILOGUE | PROLOGUE;
    default: return 0; /* every other operator stands alone */
    }
}

typedef enum NodeKind { OPAQUE, POINTWISE, MOVE, VIEW, ANCHOR } NodeKind;

static NodeKind classify(const Node *n) {
    const OpInfo *info = op_info(n->op);
    OpRules rules = op_rules(n->op);
    if (!(info->flags & OPF_PURE) || (info->flags & (OPF_DYNSHAPE | OPF_REGION | OPF_RANDOM))) return OPAQUE;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL && (n->out[i]->type == NULL || n->out[i]->type->kind != TYPE_TENSOR || n->out[i]->type->dtype == DT_STRING)) return OPAQUE;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && (n->in[i]->type == NULL || n->in[i]->type->kind != TYPE_TENSOR || n->in[i]->type->dtype == DT_STRING)) return OPAQUE;
    if (n->op == OP_Identity || op_is_reshape(n->op)) return VIEW;
    switch ((Op)n->op) {
    case OP_Transpose: case OP_Slice: return rules.define != NULL ? MOVE : OPAQUE;
    default: break; /* by its rules */
    }
    if (rules.define != NULL) return (info->flags & OPF_INPLACE) && n->n_out == 1 ? POINTWISE : OPAQUE;
    return rules.lower != NULL && anchor_use(n->op) != 0 ? ANCHOR : OPAQUE;
}

typedef VEC(Node *) Nodes;

typedef struct Group {
    Nodes node;            /* in execution order */
    Node *anchor;
    const Type *space;     /* the type whose dims the epilogue iterates */
    bool closed;           /* takes no more consumers */
    uint32_t entries;      /* that run it: one kernel is run by all of them or by none */
} Group;

typedef struct Fuse {
    Context *cx;
    Module *m;
    Group **group;         /* by node id */
    NodeKind *kind;        /* by node id */
    uint32_t *at;          /* by node id: position in execution order */
    uint32_t *mark;        /* by node id: visited in search number */
    uint32_t *entries;     /* by node id of main */
    uint32_t search;
    uint32_t *latest;      /* a tree of maxima: where the last member of a group stands, by where its first one does */
    uint32_t n_at;
    Uses uses;
    Value **replace;       /* by value id: the Fused output that stands for it outside */
    Node **holder;         /* by node id: the Fused node it went into */
} Fuse;

static Group *group_of(Fuse *f, const Value *v, const Graph *g) {
    return v != NULL && v->def != NULL && v->def->graph == g ? f->group[v->def->id] : NULL;
}

static void region_producers(Fuse *f, const Graph *inner, const Graph *g, Nodes *list);

/* The nodes of g that n reads from, captures of its regions included. */
static void producers(Fuse *f, const Node *n, const Graph *g, Nodes *list) {
    for (uint32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->def != NULL && n->in[i]->def->graph == g) vec_push(&f->cx->scratch, list, n->in[i]->def);
    if (!(op_info(n->op)->flags & OPF_REGION)) return;
    for (uint32_t i = 0; i < n->n_attr; i++)
        if (attr_info(op_info(n->op)->attr_first + i)->kind == ATTR_GRAPH && n->attr[i].present) region_producers(f, n->attr[i].graph, g, list);
}

static void region_producers(Fuse *f, const Graph *inner, const Graph *g, Nodes *list) {
    for (const Node *n = inner->first; n != NULL; n = n->next) producers(f, n, g, list);
    for (uint32_t i = 0; i < inner->n_out; i++)
        if (inner->out[i]->def != NULL && inner->out[i]->def->graph == g) vec_push(&f->cx->scratch, list, inner->out[i]->def);
}

static uint32_t first_at(const Fuse *f, const Group *p) { return f->at[p->node.v[0]->id]; }
static uint32_t last_at(const Fuse *f, const Group *p) { return f->at[p->node.v[p->node.n - 1]->id]; }

static void note_span(Fuse *f, const Group *p) {
    for (uint32_t i = first_at(f, p) + 1; i <= f->n_at; i += i & -i)
        if (f->latest[i] < last_at(f, p)) f->latest[i] = last_at(f, p);
}

/* Groups run as a whole, so what stands before `at` may wait for a member behind it: the last place that anything up to `at` can
 * need, looked for until it is known to be at `enough` or further. */
static uint32_t needs_up_to(const Fuse *f, uint32_t at, uint32_t enough) {
    for (uint32_t before = at + 1; before != at && at < enough;) {
        before = at;
        for (uint32_t i = at + 1; i != 0; i -= i & -i)
            if (f->latest[i] > at) at = f->latest[i];
    }
    return at;
}

/* Does `from`, or anything its group reads, depend on group `target`? Walks producers group by group. */
static bool depends(Fuse *f, const Node *from, const Group *target, const Graph *g) {
    const Group *own = f->group[from->id];
    if (own == target) return true;
    if (f->mark[from->id] == f->search || needs_up_to(f, last_at(f, own), first_at(f, target)) < first_at(f, target)) return false;
    for (uint32_t k = 0; k < own->node.n; k++) f->mark[own->node.v[k]->id] = f->search;
    Nodes list = {0};
    for (uint32_t k = 0; k < own->node.n; k++) producers(f, own->node.v[k], g, &list);
    for (uint32_t k = 0; k < list.n; k++)
        if (depends(f, list.v[k], target, g)) return true;
    return false;
}

/* Would a group of `a` and `b` together need something that itself needs the group? */
static bool makes_cycle(Fuse *f, const Group *a, const Group *b, const Graph *g) {
    const Group *pair[2] = {a, b};
    for (int side = 0; side < 2; side++) {
        for (uint32_t k = 0; k < pair[side]->node.n; k++) {
            const Node *n = pair[side]->node.v[k];
            for (uint32_t i = 0; i < n->n_in; i++) {
                Group *p = group_of(f, n->in[i], g);
                if (p == NULL || p == a || p == b) continue;
                f->search++;
                if (depends(f, n->in[i]->def, a, g)) return true;
                f->search++;
                if (depends(f, n->in[i]->def, b, g)) return true;
            }
        }
    }
    return false;
}

static void merge(Fuse *f, Group *into, Group *from) {
    Group out = *into;
    out.node.v = NULL;
    out.node.n = out.node.cap = 0;
    uint32_t i = 0, j = 0;
    while (i < into->node.n || j < from->node.n) { /* both in execution order */
        bool first = j >= from->node.n || (i < into->node.n && f->at[into->node.v[i]->id] < f->at[from->node.v[j]->id]);
        Node *n = first ? into->node.v[i++] : from->node.v[j++];
        vec_push(&f->cx->scratch, &out.node, n);
    }
    if (out.anchor == NULL) out.anchor = from->anchor;
    *into = out;
    for (uint32_t k = 0; k < into->node.n; k++) f->group[into->node.v[k]->id] = into;
    note_span(f, into);
}

/* Is every use of v inside g a node of the given group? Graph outputs and captures count as outside. */
static bool used_only_by(Fuse *f, const Value *v, const Group *by, const Graph *g) {
    for (uint32_t u = f->uses.first[v->id]; u < f->uses.first[v->id + 1]; u++) {
        const Node *n = f->uses.use[u].node;
        if (n == NULL || n->graph != g || f->group[n->id] != by) return false;
    }
    return true;
}

static bool all_used_only_by(Fuse *f, const Group *group, const Group *by, const Graph *g) {
    for (uint32_t k = 0; k < group->node.n; k++) {
        const Node *n = group->node.v[k];
        for (uint32_t i = 0; i < n->n_out; i++) {
            if (n->out[i] == NULL) continue;
            for (uint32_t u = f->uses.first[n->out[i]->id]; u < f->uses.first[n->out[i]->id + 1]; u++) {
                const Node *reader = f->uses.use[u].node;
                if (reader == NULL || reader->graph != g || (f->group[reader->id] != by && f->group[reader->id] != group)) return false;
            }
        }
    }
    return true;
}

/* May pointwise node n (alone in its group) join producer group p as epilogue? */
static bool can_join(Fuse *f, const Node *n, const Group *p, const Graph *g) {
    const Type *space = n->out[0]->type;
    if (p->closed || p->space == NULL || !type_same_dims(p->space, space) || p->node.n >= GROUP_MAX || p->entries != f->group[n->id]->entries) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (group_of(f, n->in[i], g) != p) continue;
        if (!type_same_dims(n->in[i]->type, space)) return false;                     /* broadcast of what is being computed */
        if (p->anchor != NULL && n->in[i]->def == p->anchor && n->in[i]->def_out != 0) return false;
    }
    return true;
}

/* A cast to more bits, dequantization too, belongs to its readers: joined to its producer it would store the longer elements. */
static bool widens(const Node *n) {
    if (n->op != OP_Cast && n->op != OP_DequantizeLinear && n->op != OP_Ms_DequantizeLinear) return false;
    return dtype_bits(n->out[0]->type->dtype) > dtype_bits(n->in[0]->type->dtype);
}

static bool reads_second_output(const Group *p, const Node *anchor) {
    for (uint32_t k = 0; anchor != NULL && k < p->node.n; k++)
        for (uint32_t i = 0; i < p->node.v[k]->n_in; i++) {
            const Value *v = p->node.v[k]->in[i];
            if (v != NULL && v->def == anchor && v->def_out != 0) return true;
        }
    return false;
}

static void join_pointwise(Fuse *f, Node *n, const Graph *g) {
    if (widens(n)) return;
    Group *own = f->group[n->id];
    Group *best = NULL;
    uint32_t best_at = 0;
    for (uint32_t i = 0; i < n->n_in; i++) { /* the producer that is computed last, anchors first */
        Group *p = group_of(f, n->in[i], g);
        if (p == NULL || p == own || !can_join(f, n, p, g)) continue;
        uint32_t at = last_at(f, p) + (p->anchor != NULL ? UINT32_MAX / 2 : 0);
        if ((best == NULL || at > best_at) && !makes_cycle(f, p, own, g)) {
            best = p;
            best_at = at;
        }
    }
    if (best == NULL) return;
    merge(f, best, own);
    /* Other pointwise producers that only serve this group come along: they run in the same loop. */
    for (uint32_t i = 0; i < n->n_in; i++) {
        Group *p = group_of(f, n->in[i], g);
        if (p == NULL || p == best || p->anchor != NULL || p->closed || !can_join(f, n, p, g) || reads_second_output(p, best->anchor)) continue;
        if (p->node.n + best->node.n > GROUP_MAX || !all_used_only_by(f, p, best, g) || makes_cycle(f, best, p, g)) continue;
        merge(f, best, p);
    }
}

static void join_anchor(Fuse *f, Node *n, const Graph *g) {
    if (!(anchor_use(n->op) & PROLOGUE) && !conv_copies_image(f->m, n)) return;
    Group *own = f->group[n->id];
    Group *p = group_of(f, n->in[0], g);
    if (p == NULL || p == own || p->anchor != NULL || p->space == NULL || p->node.n >= GROUP_MAX / 2 || p->entries != own->entries) return;
    if (!type_same_dims(p->space, n->in[0]->type) || !all_used_only_by(f, p, own, g) || makes_cycle(f, own, p, g)) return;
    merge(f, own, p);
}

/* A move or view between two pointwise groups: only when its producer is computed for it alone. */
static void join_move(Fuse *f, Node *n, const Graph *g) {
    Group *own = f->group[n->id];
    Group *p = group_of(f, n->in[0], g);
    if (p == NULL || p->anchor != NULL || p->closed || p->space == NULL || p->node.n >= GROUP_MAX || p->entries != own->entries) return;
    if (!all_used_only_by(f, p, own, g) || makes_cycle(f, p, own, g)) return;
    merge(f, p, own);
    p->space = n->out[0]->type; /* consumers iterate the moved space; members before it are read through the move */
}

/* Is v, read as operand `at` of n, all that anybody outside group p reads of it? */
static bool read_by_one(Fuse *f, const Group *p, const Value *v, const Node *n, uint32_t at, const Graph *g) {
    for (uint32_t k = 0; k < p->node.n; k++) {
        const Node *member = p->node.v[k];
        for (uint32_t i = 0; i < member->n_out; i++) {
            const Value *out = member->out[i];
            for (uint32_t u = out == NULL ? 0 : f->uses.first[out->id]; out != NULL && u < f->uses.first[out->id + 1]; u++) {
                Use use = f->uses.use[u];
                bool inside = use.node != NULL && use.node->graph == g && f->group[use.node->id] == p;
                if (!inside && !(out == v && use.node == n && use.index == at)) return false;
            }
        }
    }
    return true;
}

/* Depthwise convolution n takes in the convolution before it, with what is pointwise between them: passes/lower_chain.c. */
static void join_chain(Fuse *f, Node *n, const Graph *g) {
    if (n->op != OP_ConvChannelsLast) return;
    uint32_t x, w, bias;
    conv_operands(n, &x, &w, &bias);
    Group *own = f->group[n->id], *p = group_of(f, n->in[x], g);
    if (p == NULL || p == own || own->anchor != n || p->anchor == NULL || p->anchor->op != OP_ConvChannelsLast || p->entries != own->entries) return;
    if (p->node.n + own->node.n > GROUP_MAX || !type_same_dims(p->anchor->out[0]->type, n->in[x]->type) || !read_by_one(f, p, n->in[x], n, x, g)) return;
    if (conv_chain_pays(f->m, p->anchor, n) && !makes_cycle(f, p, own, g)) merge(f, own, p);
}

/* ---- building ---------------------------------------------------------------------------------------------------- */
static Value *param_of(Fuse *f, Graph *body, Value *v, Value **map, Value ***in, uint32_t *n_in, uint32_t *cap) {
    if (map[v->id] != NULL) return map[v->id];
    if (v->data != NULL) return v; /* rules look at constants: weights are packed, scalars folded */
    Value *p = graph_add_input(f->m, body, v->type, 0);
    p->sym = v->sym;
    p->n_sym = v->n_sym;
    *in = vec_grow(&f->cx->scratch, *in, *n_in, cap, sizeof **in);
    (*in)[(*n_in)++] = v;
    return map[v->id] = p;
}

static void build(Fuse *f, Group *group, Graph *g) {
    Context *cx = f->cx;
    Node *last = group->node.v[group->node.n - 1];
    Graph *body = graph_new(f->m, g, "body");
    Value **map = ARENA_ARRAY(&cx->scratch, Value *, f->m->n_value + 4 * GROUP_MAX * 8);
    Value **in = NULL;
    uint32_t n_in = 0, cap = 0;
    VEC(Value *) outer = {0};
    for (uint32_t k = 0; k < group->node.n; k++) {
        Node *n = group->node.v[k];
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL) map[n->out[i]->id] = n->out[i]; /* members keep their values inside the body */
    }
    for (uint32_t k = 0; k < group->node.n; k++) {
        Node *n = group->node.v[k];
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL) n->in[i] = param_of(f, body, n->in[i], map, &in, &n_in, &cap);
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL && !used_only_by(f, n->out[i], group, g)) vec_push(&cx->scratch, &outer, n->out[i]);
    }
    Node *fused = node_new(f->m, g, last, OP_Fused, n_in, in, outer.n);
    fused->loc = group->anchor != NULL ? group->anchor->loc : last->loc;
    fused->loc.op = str_intern(cx, "Fused");
    attr_set_graph(fused, AT_Fused_body, body);
    for (uint32_t k = 0; k < group->node.n; k++) {
        Node *n = group->node.v[k];
        node_remove(n);
        f->holder[n->id] = fused;
        n->graph = body;
        n->prev = body->last;
        if (body->last != NULL) body->last->next = n;
        else body->first = n;
        body->last = n;
    }
    for (uint32_t i = 0; i < outer.n; i++) {
        Value *v = outer.v[i], *o = fused->out[i];
        graph_add_output(f->m, body, v);
        o->type = v->type;
        o->name = v->name;
        o->sym = v->sym;
        o->n_sym = v->n_sym;
        v->name = 0;
        f->replace[v->id] = o;
        for (uint32_t u = f->uses.first[v->id]; u < f->uses.first[v->id + 1]; u++) {
            Use use = f->uses.use[u];
            if (use.node == NULL || use.node->graph == body) continue;
            Node *holder = f->holder[use.node->id]; /* built before its producer's group: the Fused node reads the value */
            if (holder == NULL) use.node->in[use.index] = o;
            for (uint32_t k = 0; holder != NULL && k < holder->n_in; k++)
                if (holder->in[k] == v) holder->in[k] = o;
        }
    }
}

/* Groups were placed at their last member: a reader of an earlier member may now stand before its producer. */
static void sort_graph(Fuse *f, Graph *g) {
    uint32_t *state = ARENA_ARRAY(&f->cx->scratch, uint32_t, f->m->n_node);
    Nodes stack = {0}, order = {0};
    FOR_NODES(start, g) {
        if (state[start->id] != 0) continue;
        vec_push(&f->cx->scratch, &stack, start);
        while (stack.n != 0) {
            Node *n = stack.v[stack.n - 1];
            if (state[n->id] == 0) {
                state[n->id] = 1;
                Nodes list = {0};
                producers(f, n, g, &list);
                for (uint32_t i = list.n; i-- > 0;)
                    if (state[list.v[i]->id] == 0) vec_push(&f->cx->scratch, &stack, list.v[i]);
                continue;
            }
            stack.n--;
            if (state[n->id] == 2) continue;
            state[n->id] = 2;
            vec_push(&f->cx->scratch, &order, n);
        }
    }
    g->first = g->last = NULL;
    for (uint32_t i = 0; i < order.n; i++) {
        Node *n = order.v[i];
        n->prev = g->last;
        n->next = NULL;
        if (g->last != NULL) g->last->next = n;
        else g->first = n;
        g->last = n;
    }
}

static bool fuse_graph(Fuse *f, Graph *g) {
    bool any = false;
    uint32_t at = 0;
    f->n_at = 0;
    FOR_NODES(n, g) f->n_at++;
    f->latest = ARENA_ARRAY(&f->cx->scratch, uint32_t, f->n_at + 1);
    FOR_NODES(n, g) {
        Group *own = ARENA_NEW(&f->cx->scratch, Group);
        vec_push(&f->cx->scratch, &own->node, n);
        f->at[n->id] = at++;
        f->group[n->id] = own;
        f->kind[n->id] = classify(n);
        own->closed = f->kind[n->id] == OPAQUE || f->kind[n->id] == VIEW || n->out[0] == NULL; /* a view alone costs nothing */
        own->space = own->closed ? NULL : n->out[0]->type;
        own->anchor = f->kind[n->id] == ANCHOR ? n : NULL;
        own->entries = g == f->m->main ? f->entries[n->id] : 0;
    }
    FOR_NODES(n, g) {
        if (n->out[0] == NULL) continue; /* only another output is wanted */
        switch (f->kind[n->id]) {
        case POINTWISE: join_pointwise(f, n, g); break;
        case ANCHOR: join_anchor(f, n, g); break;
        case MOVE: join_move(f, n, g); break;
        case VIEW: case OPAQUE: break;
        }
    }
    FOR_NODES(n, g) join_chain(f, n, g);
    FOR_NODES(n, g) {
        Group *group = f->group[n->id];
        if (group->node.n < 2 || n != group->node.v[group->node.n - 1]) continue;
        build(f, group, g);
        any = true;
    }
    if (any) sort_graph(f, g);
    return any;
}

/* A group already: passes/attention.c. */
static bool is_attention(const Graph *g) { return g->last != NULL && g->last->op == OP_AttentionMix; }

bool pass_fuse(Context *cx, Module *m) {
    Fuse f = {.cx = cx, .m = m, .uses = module_uses(m)};
    f.group = ARENA_ARRAY(&cx->scratch, Group *, m->n_node);
    f.kind = ARENA_ARRAY(&cx->scratch, NodeKind, m->n_node);
    f.at = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_node);
    f.entries = entry_masks(m);
    f.mark = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_node);
    f.replace = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    f.holder = ARENA_ARRAY(&cx->scratch, Node *, m->n_node);
    uint32_t n_value = m->n_value;
    Graphs graphs = module_graphs(m);
    bool any = false;
    for (uint32_t i = 0; i < graphs.n; i++)
        if (!is_attention(graphs.v[i])) any |= fuse_graph(&f, graphs.v[i]);
    for (uint32_t i = 0; i < graphs.n; i++) { /* graph outputs, of regions that return captured values too */
        Graph *g = graphs.v[i];
        for (uint32_t k = 0; k < g->n_out; k++)
            if (g->out[k]->id < n_value && f.replace[g->out[k]->id] != NULL) g->out[k] = f.replace[g->out[k]->id];
    }
    return any;
}
