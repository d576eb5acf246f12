/* Sequences and optionals become tensors.
 *
 *     %s: seq<f32[any_1,4]; len_0>     ->     %s_length: i64[]           how many elements
 *                                             %s_dims:   i64[64,2]       sizes of each, one row per slot
 *                                             %s:        f32[64,32]      elements, each dense from the start of its slot
 *
 * Slots and their number have the upper bounds of the types. An optional is a bool[] in front of its element's tensors.
 * The pass runs before a gradient is built, when there is one to build: sequences are differentiated as tensors (passes/grad/sequence.c).
 * Operators on sequences become Seq* operators on the three tensors; regions and their nodes (If, Loop) pass the tensors
 * around, so that control flow needs to know nothing of sequences. The graph's own inputs and outputs are split the same
 * way; Module.io_in/io_out keep what they were. */
#include "passes/fold.h"
#include "passes/lower.h"
#include "passes/pass.h"

typedef struct Parts { /* the tensors of one value; n = 0: an ordinary tensor */
    Value *v[4];
    uint32_t n;
    const Type *type; /* of the value they stand for */
} Parts;

typedef struct Split {
    Context *cx;
    Module *m;
    Parts *parts; /* by value id */
    uint32_t n_parts;
    bool any;
} Split;

static bool is_split(const Type *t) { return t != NULL && (t->kind == TYPE_SEQUENCE || t->kind == TYPE_OPTIONAL); }

static Dim bound(Context *cx, Dim d, int64_t least) {
    int64_t hi = d != 0 ? dim_hi(cx, d) : 64;
    return dim_const(cx, hi < least ? least : hi);
}

/* Types of the tensors a sequence or optional is made of. */
static uint32_t part_types(Context *cx, const Type *t, const Type **out) {
    uint32_t n = 0;
    if (t->kind == TYPE_OPTIONAL) {
        out[n++] = type_tensor(cx, DT_BOOL, 0, NULL);
        t = t->elem;
    }
    if (t->kind != TYPE_SEQUENCE) {
        out[n++] = t;
        return n;
    }
    const Type *e = t->elem;
    uint32_t rank = e->rank == RANK_UNKNOWN ? 0 : e->rank;
    Dim capacity = bound(cx, t->length, 1), slot = dim_const(cx, 1);
    for (uint32_t i = 0; i < rank; i++) slot = dim_mul(cx, slot, bound(cx, e->dim[i], 1));
    out[n++] = type_tensor(cx, DT_I64, 0, NULL);
    out[n++] = type_tensor(cx, DT_I64, 2, (Dim[]){capacity, dim_const(cx, rank == 0 ? 1 : rank)});
    out[n++] = type_tensor(cx, e->dtype, 2, (Dim[]){capacity, slot});
    return n;
}

static Str part_name(Context *cx, Str name, const Type *t, uint32_t i) {
    if (name == 0 || !is_split(t)) return name;
    uint32_t optional = t->kind == TYPE_OPTIONAL;
    if (optional && i == 0) return str_format(cx, "%s_present", str_text(cx, name));
    if ((optional ? t->elem : t)->kind != TYPE_SEQUENCE || i - optional == 2) return name;
    return str_format(cx, "%s_%s", str_text(cx, name), i - optional == 0 ? "length" : "dims");
}

static Parts *parts_of(Split *s, const Value *v) {
    if (v->id < s->n_parts) return &s->parts[v->id];
    uint32_t n = s->m->n_value + 256;
    Parts *grown = ARENA_ARRAY(&s->cx->scratch, Parts, n);
    if (s->n_parts != 0) memcpy(grown, s->parts, s->n_parts * sizeof *grown);
    s->parts = grown;
    s->n_parts = n;
    return &s->parts[v->id];
}

/* Fresh tensors for a value that a graph takes in. */
static Parts new_parts(Split *s, const Value *v) {
    const Type *t[4];
    Parts p = {.n = part_types(s->cx, v->type, t), .type = v->type};
    for (uint32_t i = 0; i < p.n; i++) p.v[i] = value_new(s->m, t[i], part_name(s->cx, v->name, v->type, i));
    return p;
}

/* The outputs of a node as parts of a value of type t, behind `skip` presence flags. */
static void adopt(Split *s, Node *n, Value *v, const Type *t) {
    const Type *types[4];
    Parts p = {.n = part_types(s->cx, t, types), .type = t};
    for (uint32_t i = 0; i < p.n; i++) {
        p.v[i] = n->out[i];
        p.v[i]->type = types[i];
    }
    *parts_of(s, v) = p;
}

static Node *seq_node(Split *s, Node *at, Op op, uint32_t n_in, Value *const *in, Value *result) {
    Node *n = node_new(s->m, at->graph, at, op, n_in, in, 3);
    adopt(s, n, result, result->type);
    return n;
}

/* parts of v as tensors of type `want`: capacities and slots differ between, say, an empty sequence and a loop's. */
static Parts converted(Split *s, Node *at, Graph *g, Parts p, const Type *want) {
    if (p.type == want) return p;
    const Type *t[4];
    Parts r = {.n = part_types(s->cx, want, t), .type = want};
    uint32_t to = 0, from = 0;
    if (want->kind == TYPE_OPTIONAL) r.v[to++] = p.type->kind == TYPE_OPTIONAL ? p.v[from++] : value_const_scalar(s->m, DT_BOOL, 1);
    else if (p.type->kind == TYPE_OPTIONAL) from++;
    if (r.n - to != 3) {
        r.v[to] = p.v[from];
        return r;
    }
    if (p.v[from + 1]->type == t[to + 1] && p.v[from + 2]->type == t[to + 2]) {
        for (uint32_t i = 0; i < 3; i++) r.v[to + i] = p.v[from + i];
        return r;
    }
    Node *n = node_new(s->m, g, at, OP_SeqResize, 3, &p.v[from], 3);
    for (uint32_t i = 0; i < 3; i++) {
        r.v[to + i] = n->out[i];
        n->out[i]->type = t[to + i];
    }
    return r;
}

/* ---- lists of values: a split value's tensors stand where it stood ------------------------------------------------ */
typedef VEC(Value *) List;

static void list_add(Split *s, List *list, Node *at, Graph *g, Value *v, const Type *want) {
    Parts p = v != NULL ? *parts_of(s, v) : (Parts){0};
    if (p.n == 0) {
        vec_push(&s->cx->arena, list, v);
        return;
    }
    if (want != NULL) p = converted(s, at, g, p, want);
    for (uint32_t i = 0; i < p.n; i++) vec_push(&s->cx->arena, list, p.v[i]);
}

static void split_params(Split *s, Graph *g) {
    List list = {0};
    for (uint32_t i = 0; i < g->n_in; i++) {
        Value *v = g->in[i];
        if (is_split(v->type)) {
            s->any = true;
            Parts p = new_parts(s, v);
            *parts_of(s, v) = p;
        }
        list_add(s, &list, NULL, g, v, NULL);
    }
    g->in = list.v;
    g->n_in = list.n;
}

/* The last node of the graph is where conversions of its outputs go behind. */
static void split_results(Split *s, Graph *g, const Type *const *want) {
    List list = {0};
    for (uint32_t i = 0; i < g->n_out; i++) list_add(s, &list, NULL, g, g->out[i], want != NULL ? want[i] : NULL);
    g->out = list.v;
    g->n_out = list.n;
}

static void split_graph(Split *s, Graph *g);

static void split_outputs(Split *s, Node *n) { /* of a region node: fresh tensors in place of split outputs */
    List list = {0};
    for (uint32_t i = 0; i < n->n_out; i++) {
        Value *v = n->out[i];
        if (v == NULL || !is_split(v->type)) {
            vec_push(&s->cx->arena, &list, v);
            continue;
        }
        Parts p = new_parts(s, v);
        *parts_of(s, v) = p;
        for (uint32_t k = 0; k < p.n; k++) vec_push(&s->cx->arena, &list, p.v[k]);
    }
    for (uint32_t i = 0; i < list.n; i++) {
        if (list.v[i] == NULL) continue;
        list.v[i]->def = n;
        list.v[i]->def_out = (uint16_t)i;
    }
    n->out = list.v;
    n->n_out = (uint16_t)list.n;
}

static void split_if(Split *s, Node *n) {
    const Type **want = ARENA_ARRAY(&s->cx->scratch, const Type *, n->n_out);
    for (uint32_t i = 0; i < n->n_out; i++) want[i] = n->out[i] != NULL && is_split(n->out[i]->type) ? n->out[i]->type : NULL;
    Graph *branch[2] = {attr_at(n, AT_If_then_branch)->graph, attr_at(n, AT_If_else_branch)->graph};
    for (int side = 0; side < 2; side++) {
        split_graph(s, branch[side]);
        split_results(s, branch[side], want);
    }
    split_outputs(s, n);
}

static void split_loop(Split *s, Node *n) {
    Graph *body = attr_at(n, AT_Loop_body)->graph;
    uint32_t carried = n->n_in - 2u;
    const Type **want = ARENA_ARRAY(&s->cx->scratch, const Type *, body->n_out);
    for (uint32_t i = 0; i < carried; i++)
        if (is_split(body->in[i + 2]->type)) want[i + 1] = body->in[i + 2]->type;
    List in = {0};
    for (uint32_t i = 0; i < n->n_in; i++) list_add(s, &in, n, n->graph, n->in[i], i >= 2 ? want[i - 1] : NULL);
    n->in = in.v;
    n->n_in = (uint16_t)in.n;
    split_params(s, body);
    split_graph(s, body);
    split_results(s, body, want);
    split_outputs(s, n);
}

/* ---- operators ----------------------------------------------------------------------------------------------------- */
static const Parts *sequence_part(Split *s, const Value *v, Value *out[3]) { /* length, dims, data of a sequence or optional sequence */
    const Parts *p = parts_of(s, v);
    for (uint32_t i = 0; i < 3; i++) out[i] = p->v[p->n - 3 + i];
    return p;
}

static void copy_int(Node *to, AttrSlot slot, const Node *from, AttrSlot source) { attr_set_i(to, slot, attr_i(from, source)); }

static void take_over(Node *made, Node *n) { /* n's result is made's: the same value, which others may know */
    made->out[0] = n->out[0];
    made->out[0]->def = made;
    made->out[0]->def_out = 0;
    n->out[0] = NULL;
    made->loc = n->loc;
}

/* The part of an optional that is read where its element is: the run checks that there is one. */
static Value *present_part(Split *s, Node *n, Value *present, Value *v) {
    if (present->data != NULL && *(const uint8_t *)present->data->data != 0) return v;
    Node *made = node_new(s->m, n->graph, n, OP_PresentElement, 2, (Value *[]){v, present}, 1);
    made->loc = n->loc;
    made->out[0]->type = v->type;
    return made->out[0];
}

static bool split_node(Split *s, Node *n) { /* true: n is replaced */
    Module *m = s->m;
    Value *seq[5] = {0};
    Value *out = n->n_out != 0 ? n->out[0] : NULL;
    switch ((Op)n->op) {
    case OP_SequenceEmpty: case OP_SequenceConstruct:
        seq_node(s, n, OP_SeqConstruct, n->n_in, n->in, out);
        return true;
    case OP_SequenceInsert: case OP_SequenceErase: {
        sequence_part(s, n->in[0], seq);
        for (uint32_t i = 1; i < n->n_in; i++) seq[2 + i] = n->in[i];
        seq_node(s, n, n->op == OP_SequenceInsert ? OP_SeqInsert : OP_SeqErase, 2u + n->n_in, seq, out);
        return true;
    }
    case OP_SequenceAt: {
        sequence_part(s, n->in[0], seq);
        seq[3] = n->in[1];
        take_over(node_new(m, n->graph, n, OP_SeqAt, 4, seq, 1), n);
        return true;
    }
    case OP_SequenceLength:
        sequence_part(s, n->in[0], seq);
        if (out->n_sym == 1 && dim_is_const(s->cx, out->sym[0])) seq[0] = value_const_scalar(m, DT_I64, (double)dim_value(s->cx, out->sym[0]));
        value_replace(m, out, seq[0]);
        return true;
    case OP_SplitToSequence: {
        Node *made = seq_node(s, n, OP_SeqSplit, n->n_in, n->in, out);
        copy_int(made, AT_SeqSplit_axis, n, AT_SplitToSequence_axis);
        copy_int(made, AT_SeqSplit_keepdims, n, AT_SplitToSequence_keepdims);
        if (n->n_in > 1 && n->in[1] != NULL) attr_set_i(made, AT_SeqSplit_keepdims, 1);
        return true;
    }
    case OP_ConcatFromSequence: {
        sequence_part(s, n->in[0], seq);
        Node *made = node_new(m, n->graph, n, OP_SeqConcat, 3, seq, 1);
        copy_int(made, AT_SeqConcat_axis, n, AT_ConcatFromSequence_axis);
        copy_int(made, AT_SeqConcat_new_axis, n, AT_ConcatFromSequence_new_axis);
        take_over(made, n);
        return true;
    }
    case OP_Identity:
        if (!is_split(out->type)) return false;
        *parts_of(s, out) = *parts_of(s, n->in[0]);
        return true;
    case OP_Optional: {
        Parts p = {.type = out->type};
        const Type *t[4];
        uint32_t n_part = part_types(s->cx, out->type, t);
        const Value *v = n->n_in > 0 ? n->in[0] : NULL;
        p.v[p.n++] = value_const_scalar(m, DT_BOOL, v != NULL);
        if (v != NULL && is_split(v->type)) {
            const Parts *from = parts_of(s, v);
            for (uint32_t i = 0; i < from->n; i++) p.v[p.n++] = from->v[i];
        } else if (v != NULL) {
            p.v[p.n++] = n->in[0];
        } else { /* nothing there: tensors of the right types that nobody may read */
            Value *empty[3];
            Node *made = node_new(m, n->graph, n, OP_SeqConstruct, 0, NULL, 3);
            for (uint32_t i = 0; i < 3; i++) empty[i] = made->out[i];
            if (n_part == 4) {
                for (uint32_t i = 0; i < 3; i++) empty[i]->type = t[i + 1], p.v[p.n++] = empty[i];
            } else {
                node_remove(made);
                size_t bytes = dtype_bytes(s->cx, t[1]->dtype, dim_hi(s->cx, type_numel(s->cx, t[1])));
                p.v[p.n++] = value_const(m, t[1], arena_alloc(&s->cx->scratch, bytes + 1), false);
            }
        }
        *parts_of(s, out) = p;
        return true;
    }
    case OP_OptionalHasElement: {
        const Value *v = n->n_in > 0 ? n->in[0] : NULL;
        bool optional = v != NULL && v->type->kind == TYPE_OPTIONAL;
        value_replace(m, out, optional ? parts_of(s, v)->v[0] : value_const_scalar(m, DT_BOOL, v != NULL));
        return true;
    }
    case OP_OptionalGetElement: {
        if (n->in[0]->type->kind != TYPE_OPTIONAL) {
            if (is_split(out->type)) *parts_of(s, out) = *parts_of(s, n->in[0]);
            else value_replace(m, out, n->in[0]);
            return true;
        }
        const Parts *from = parts_of(s, n->in[0]);
        if (!is_split(out->type)) {
            Value *element = present_part(s, n, from->v[0], from->v[1]);
            value_replace(m, out, element);
            *parts_of(s, element) = (Parts){0};
            return true;
        }
        Parts p = {.type = from->type->elem};
        for (uint32_t i = 1; i < from->n; i++) p.v[p.n++] = i == 1 ? present_part(s, n, from->v[0], from->v[1]) : from->v[i]; /* its length */
        *parts_of(s, out) = p;
        return true;
    }
    default: return false; /* not an operator on sequences */
    }
}

static void split_graph(Split *s, Graph *g) {
    FOR_NODES(n, g) {
        switch ((Op)n->op) {
        case OP_If: split_if(s, n); continue;
        case OP_Loop: split_loop(s, n); continue;
        default: break;
        }
        if (!split_node(s, n)) continue;
        s->any = true;
        node_remove(n);
    }
}

static struct ModelIo *describe(Split *s, Value *const *v, const Type *const *type, uint32_t n) {
    struct ModelIo *io = ARENA_ARRAY(&s->cx->arena, struct ModelIo, n);
    uint32_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const Type *t[4];
        io[i] = (struct ModelIo){v[i]->name, type[i], at};
        at += is_split(type[i]) ? part_types(s->cx, type[i], t) : 1;
    }
    return io;
}

/* Results of the whole model keep their names, also those that became a part of something else. */
static void name_results(Split *s, Graph *g, const struct ModelIo *io, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t end = i + 1 < n ? io[i + 1].first : g->n_out;
        for (uint32_t k = io[i].first; k < end; k++) {
            Str name = part_name(s->cx, io[i].name, io[i].type, k - io[i].first);
            if (g->out[k]->name == 0) g->out[k]->name = name;
            if (g->out[k]->name == name) continue;
            Node *copy = node_new(s->m, g, NULL, OP_Identity, 1, &g->out[k], 1);
            copy->out[0]->type = g->out[k]->type;
            copy->out[0]->name = name;
            g->out[k] = copy->out[0];
        }
    }
}

/* What the model's inputs or outputs are. An optional that is declared to be there (a loop that starts with an optional and
 * ends with its element) is its element. */
static const Type **io_types(Split *s, Value *const *v, uint32_t n) {
    const Type **t = ARENA_ARRAY(&s->cx->scratch, const Type *, n);
    for (uint32_t i = 0; i < n; i++) {
        t[i] = v[i]->type;
        if (t[i]->kind == TYPE_OPTIONAL && v[i]->declared != NULL && v[i]->declared->kind == t[i]->elem->kind) t[i] = t[i]->elem;
    }
    return t;
}

/* SequenceMap becomes the Loop it stands for, inside regions first. */
static void expand_maps(Split *s, Graph *g) {
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_info(op_info(n->op)->attr_first + i)->kind == ATTR_GRAPH && n->attr[i].present) expand_maps(s, n->attr[i].graph);
        if (n->op != OP_SequenceMap) continue;
        Value **out = ARENA_ARRAY(&s->cx->scratch, Value *, n->n_out);
        if (!op_rules(n->op).expand(s->m, n, out)) continue;
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL) value_replace(s->m, n->out[i], out[i]);
        node_remove(n);
    }
}

static bool is_inferred(const Graph *branch) {
    for (uint32_t i = 0; i < branch->n_out; i++)
        if (branch->out[i]->type == NULL) return false;
    return true;
}

/* A branch that never runs has no types to split by: the other one takes the place of its If. */
static bool take_known_branches(Module *m, Graph *g) {
    bool changed = false;
    for (Node *n = g->first, *next; n != NULL; n = next) {
        Node *prev = n->prev;
        next = n->next;
        bool then = true, known = false;
        if (n->op == OP_If) {
            then = is_inferred(attr_at(n, AT_If_then_branch)->graph);
            known = then != is_inferred(attr_at(n, AT_If_else_branch)->graph);
        }
        if (known) {
            if_take_branch(m, n, then);
            next = prev != NULL ? prev->next : g->first;
            changed = true;
            continue;
        }
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (n->attr[i].present && attr_kind(n, i) == ATTR_GRAPH) changed |= take_known_branches(m, n->attr[i].graph);
    }
    return changed;
}

bool pass_sequences(Context *cx, Module *m) {
    Split s = {.cx = cx, .m = m};
    bool changed = take_known_branches(m, m->main);
    expand_maps(&s, m->main);
    s.n_parts = m->n_value + 256;
    s.parts = ARENA_ARRAY(&cx->scratch, Parts, s.n_parts);
    uint32_t n_in = m->main->n_in, n_out = m->main->n_out;
    const Type **results = io_types(&s, m->main->out, n_out);
    struct ModelIo *in = describe(&s, m->main->in, io_types(&s, m->main->in, n_in), n_in), *out = describe(&s, m->main->out, results, n_out);
    split_params(&s, m->main);
    split_graph(&s, m->main);
    if (!s.any) return changed;
    split_results(&s, m->main, results);
    if (m->main->n_in == n_in && m->main->n_out == n_out) return true; /* inside only: the model's inputs and outputs are as they were */
    name_results(&s, m->main, out, n_out);
    m->io_in = in;
    m->io_out = out;
    m->n_io_in = n_in;
    m->n_io_out = n_out;
    return true;
}
