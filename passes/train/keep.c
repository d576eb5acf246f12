/* What the backward pass keeps of the forward pass, in fewer bytes.
 *
 * Masks as bits. A truth value that the backward pass reads is kept as one bit, and a number that it only compares with a constant (what ReLU
 * needs to know) is compared in the forward pass:
 *
 *     %y = Relu(%x)  …  %m = Greater(%y, 0)  %g = Where(%m, %d, 0)
 *  -> %y = Relu(%x)  %c = Greater(%y, 0)  %p = PackBits(%c)  …  %m = UnpackBits(%p)  %g = Where(%m, %d, 0)
 *
 * Short floats, with LATHE_PRECISION_BF16. Activations that the backward pass needs are stored as bfloat16 once, and both passes read those numbers;
 * parameters, their gradients and the optimizer stay float (the master weights), and so does the loss with what it reads:
 *
 *     %y = Gelu(%x)  %z = MatMul(%y, %w)  …  %d = MatMul(%yT, %g)
 *  -> %y = Gelu(%x)  %h = Cast(%y) {to = bf16}  %z = MatMul(Cast(%h), %w)  …  %d = MatMul(Cast(%hT), %g)
 *
 * Views and transpositions of a value are the same views of what is stored. */
#include "passes/train/train.h"

enum { SMALL = 1024, LEAST_ROW = 8 }; /* elements of a kept value; of a mask's innermost dim */

typedef struct Keep {
    Module *m;
    Context *cx;
    const bool *forward; /* by node id */
    uint32_t n_node;
    Uses uses;
} Keep;

static bool is_forward(const Keep *k, const Node *n) { return n != NULL && n->id < k->n_node && k->forward[n->id]; }

static bool is_big(Keep *k, const Value *v, DType dtype) {
    if (v == NULL || v->type == NULL || v->type->kind != TYPE_TENSOR || v->type->rank == RANK_UNKNOWN || v->type->dtype != dtype) return false;
    return dim_hi(k->cx, type_numel(k->cx, v->type)) >= SMALL;
}

static Node *before(Keep *k, Node *at, Op op, uint32_t n_in, Value *const *in, Loc loc) {
    Node *n = node_new(k->m, at->graph, at, op, n_in, in, 1);
    n->loc = loc;
    return n;
}

/* ---- masks ------------------------------------------------------------------------------------------------------------------- */
static bool packs_well(Keep *k, const Value *v) {
    uint32_t rank = v->type->rank;
    return rank > 0 && dim_is_const(k->cx, v->type->dim[rank - 1]) && dim_value(k->cx, v->type->dim[rank - 1]) >= LEAST_ROW;
}

static bool is_comparison(const Node *n) {
    switch ((int)n->op) {
    case OP_Greater: case OP_GreaterOrEqual: case OP_Less: case OP_LessOrEqual: case OP_Equal: return true;
    default: return false;
    }
}

bool train_compares(const Node *n, const Value *v) {
    if (!is_comparison(n) || n->in[0] == n->in[1]) return false;
    const Value *other = n->in[0] == v ? n->in[1] : n->in[0];
    return other->data != NULL && other->type->rank == 0 && n->out[0]->type->rank == v->type->rank;
}

/* Every later reader of v in the backward pass compares it, and there is one. */
static bool is_only_compared(Keep *k, const Value *v) {
    bool found = false;
    for (uint32_t u = k->uses.first[v->id]; u < k->uses.first[v->id + 1]; u++) {
        const Node *reader = k->uses.use[u].node;
        if (reader != NULL && is_forward(k, reader)) continue;
        if (reader == NULL || reader->graph != k->m->main || !train_compares(reader, v)) return false;
        found = true;
    }
    return found;
}

/* b, a truth value of the forward pass, as bits; the uses of `read` in the backward pass read those. */
static void keep_bits(Keep *k, Value *b, Value *read) {
    const Type *t = read->type;
    Value *packed = NULL;
    for (uint32_t u = k->uses.first[read->id]; u < k->uses.first[read->id + 1]; u++) {
        Node *reader = k->uses.use[u].node;
        if (reader == NULL || is_forward(k, reader) || reader->graph != k->m->main) continue;
        if (packed == NULL) packed = build1(k->m, b->def->next, OP_PackBits, b);
        if (packed == NULL) return;
        Node *n = before(k, reader, OP_UnpackBits, 1, &packed, reader->loc);
        attr_set_i(n, AT_UnpackBits_size, dim_value(k->cx, t->dim[t->rank - 1]));
        if (node_infer(k->m, n)) reader->in[k->uses.use[u].index] = n->out[0];
    }
}

static void compare_early(Keep *k, Value *v) {
    for (uint32_t u = k->uses.first[v->id]; u < k->uses.first[v->id + 1]; u++) {
        Node *reader = k->uses.use[u].node;
        if (reader == NULL || is_forward(k, reader)) continue;
        Node *early = before(k, v->def->next, (Op)reader->op, reader->n_in, reader->in, reader->loc);
        for (uint32_t i = 0; i < reader->n_attr; i++) early->attr[i] = reader->attr[i];
        if (node_infer(k->m, early)) keep_bits(k, early->out[0], reader->out[0]);
    }
}

static void keep_masks(Keep *k, Node *end) {
    for (Node *n = k->m->main->first; n != end; n = n->next) {
        if (!is_forward(k, n)) continue;
        for (uint32_t i = 0; i < n->n_out; i++) {
            Value *v = n->out[i];
            if (is_big(k, v, DT_BOOL) && packs_well(k, v)) keep_bits(k, v, v);
            else if (is_big(k, v, DT_F32) && packs_well(k, v) && is_only_compared(k, v)) compare_early(k, v);
        }
    }
}

/* ---- short floats ------------------------------------------------------------------------------------------------------------- */
static bool is_view(const Node *n) { return n->op == OP_Identity || n->op == OP_Transpose || op_is_reshape(n->op); }

/* Sums and the like keep their precision; so does what a loss reads. */
static bool needs_precision(const Node *n) {
    switch ((int)n->op) {
    case OP_ReduceSum: case OP_ReduceMean: case OP_ReduceLogSumExp: case OP_ReduceLogSum: case OP_ReduceSumSquare: case OP_ReduceL1: case OP_ReduceL2:
    case OP_ReduceProd: case OP_ClassLoss: case OP_SoftmaxCrossEntropyLoss: case OP_NegativeLogLikelihoodLoss: case OP_LogSoftmax: return true;
    default: return false;
    }
}

typedef struct Readers { bool backward, precise; } Readers;

static void find_readers(Keep *k, const Value *v, Readers *r) {
    for (uint32_t u = k->uses.first[v->id]; u < k->uses.first[v->id + 1]; u++) {
        const Node *reader = k->uses.use[u].node;
        if (reader == NULL || reader->graph != k->m->main) continue;
        if (is_view(reader) && k->uses.use[u].index == 0 && is_forward(k, reader)) {
            find_readers(k, reader->out[0], r);
            continue;
        }
        r->backward |= !is_forward(k, reader);
        r->precise |= is_forward(k, reader) && needs_precision(reader);
    }
}

/* Whoever reads v reads `stored`, widened just before. */
static void read_stored(Keep *k, const Value *v, Value *stored) {
    for (uint32_t u = k->uses.first[v->id]; u < k->uses.first[v->id + 1]; u++) {
        Node *reader = k->uses.use[u].node;
        uint32_t index = k->uses.use[u].index;
        if (reader == NULL || reader == stored->def || reader->graph != k->m->main) continue;
        if (is_view(reader) && index == 0) {
            Value **in = ARENA_ARRAY(&k->cx->scratch, Value *, reader->n_in);
            for (uint32_t i = 0; i < reader->n_in; i++) in[i] = i == 0 ? stored : reader->in[i];
            Node *view = before(k, reader, (Op)reader->op, reader->n_in, in, reader->loc);
            for (uint32_t i = 0; i < reader->n_attr; i++) view->attr[i] = reader->attr[i];
            if (node_infer(k->m, view)) read_stored(k, reader->out[0], view->out[0]);
            continue;
        }
        Node *wide = before(k, reader, OP_Cast, 1, &stored, reader->loc);
        attr_set_i(wide, AT_Cast_to, dtype_to_onnx(DT_F32));
        if (node_infer(k->m, wide)) reader->in[index] = wide->out[0];
    }
}

static void keep_short(Keep *k, Node *end) {
    for (Node *n = k->m->main->first, *next; n != end; n = next) {
        next = n->next;
        Value *v = n->out[0];
        if (!is_forward(k, n) || is_view(n) || needs_precision(n) || !is_big(k, v, DT_F32)) continue;
        Readers r = {0};
        find_readers(k, v, &r);
        if (!r.backward || r.precise) continue;
        Node *c = node_new(k->m, k->m->main, n->next, OP_Cast, 1, &v, 1);
        c->loc = n->loc;
        attr_set_i(c, AT_Cast_to, dtype_to_onnx(DT_BF16));
        if (node_infer(k->m, c)) read_stored(k, v, c->out[0]);
    }
}

void train_keep(Module *m, const bool *forward, uint32_t n_node, Node *end) {
    Keep state = {.m = m, .cx = m->cx, .forward = forward, .n_node = n_node, .uses = module_uses(m)}, *k = &state;
    keep_masks(k, end);
    if (m->options->precision != LATHE_PRECISION_BF16) return;
    k->uses = module_uses(m);
    keep_short(k, end);
}
