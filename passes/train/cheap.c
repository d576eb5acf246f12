/* What of the forward pass the backward pass computes again because that costs next to nothing: pointwise operators, normalisations
 * whose statistics are kept, softmax, and products of few terms, when all they read is there anyway.
 *
 *     %h = MatMul(%x, %w)  %y = Gelu(%h)  %z = MatMul(%y, %v)  …  %dv = MatMul(%yT, %dz)  %dh = GeluSlope(%h) * …
 *
 * The slope needs %h; %y is Gelu of it, so %h is kept and %y is not. A value that is large and made of a small one (Resize, Expand) is computed again
 * from the small one, which is kept for that.
 *
 * Chains stay short in time as well as in length: what is computed again may lead to a further such value only if that is its one reader, since the copy of
 * a value with other readers (a residual connection) would live from the last of them to the first. */
#include "passes/grad/grad.h"
#include "passes/lower.h"
#include "passes/train/train.h"

enum {
    LONGEST = 16,   /* operators of one chain */
    FEW_TERMS = 64, /* of a product: about the cost of an exponential per result */
};

/* LOST: when the backward pass runs it is gone, and computing it is work. */
typedef enum Status { LOST, KEPT, AGAIN } Status;

typedef struct Cheap {
    const TrainForward *f;
    Context *cx;
    Uses uses;
    uint8_t *status;   /* by value id */
    uint32_t *length;  /* by value id: operators to compute it again */
} Cheap;

static bool is_norm_with_statistics(const Node *n) {
    uint32_t mean = n->op == OP_BatchNormTrain ? 3 : 1;
    if (n->op != OP_BatchNormTrain && n->op != OP_LayerNormalization) return false;
    if (n->n_out < mean + 2 || n->out[mean] == NULL || n->out[mean + 1] == NULL) return false;
    return n->out[0]->type->dtype == DT_F32 && n->out[mean]->type->dtype == DT_F32 && n->out[mean + 1]->type->dtype == DT_F32;
}

/* A normalisation whose gradient makes all it takes. */
static bool is_norm_of_gradient(const Node *n) {
    switch ((int)n->op) {
    case OP_GroupNormalization: case OP_InstanceNormalization: case OP_RMSNormalization: return n->out[0]->type->dtype == DT_F32 && n->in[0]->type->dtype == DT_F32;
    default: return false;
    }
}

bool train_shares_norm(const Node *n, const bool *kept) {
    uint32_t mean = n->op == OP_BatchNormTrain ? 3 : 1;
    return is_norm_of_gradient(n) || (is_norm_with_statistics(n) && kept[n->out[mean]->id] && kept[n->out[mean + 1]->id]);
}

/* (x - mean) * r * scale + bias with the statistics that n gave. */
static Value *from_statistics(Module *m, Node *at, const Node *n, Value *x) {
    bool channels = n->op == OP_BatchNormTrain;
    Value *part[4] = {n->out[channels ? 3 : 1], n->out[channels ? 4 : 2], n->n_in > 1 ? n->in[1] : NULL, n->n_in > 2 ? n->in[2] : NULL};
    int64_t axes[RANK_MAX];
    for (uint32_t a = 2; a < x->type->rank; a++) axes[a - 2] = a - 1;
    for (uint32_t i = 0; i < 4 && channels && x->type->rank > 2; i++)
        part[i] = build2(m, at, OP_Unsqueeze, part[i], value_const_i64(m, x->type->rank - 2, axes));
    Value *y = build2(m, at, OP_Mul, build2(m, at, OP_Sub, x, part[0]), part[1]);
    if (part[2] != NULL) y = build2(m, at, OP_Mul, y, part[2]);
    return part[3] != NULL ? build2(m, at, OP_Add, y, part[3]) : y;
}

Value *train_norm_again(Module *m, Node *at, Node *n, Value *x) {
    return is_norm_of_gradient(n) ? grad_norm_again(m, at, n, x) : from_statistics(m, at, n, x);
}

static bool is_product_of_few_terms(Cheap *c, const Node *n) {
    if (n->op != OP_MatMul || n->in[0]->type->rank < 3) return false;
    Dim terms = n->in[0]->type->dim[n->in[0]->type->rank - 1];
    return dim_hi(c->cx, terms) <= FEW_TERMS && train_bytes(c->cx, n->out[0]) >= train_bytes(c->cx, n->in[0]) + train_bytes(c->cx, n->in[1]);
}

static bool is_cheap(Cheap *c, const Node *n) {
    if (!train_repeatable(n)) return false;
    if ((op_info(n->op)->flags & OPF_INPLACE) && op_rules(n->op).define != NULL) return n->n_out == 1;
    if (is_norm_with_statistics(n) || is_norm_of_gradient(n)) return true;
    switch ((int)n->op) {
    case OP_Identity: case OP_Reshape: case OP_Squeeze: case OP_Unsqueeze: case OP_Flatten: case OP_Transpose: case OP_Slice: case OP_Split:
    case OP_Expand: case OP_Resize: case OP_Softmax: case OP_LogSoftmax: return true;
    case OP_LayerNormalization: return n->n_out < 2 || (n->out[1] == NULL && (n->n_out < 3 || n->out[2] == NULL));
    default: return is_product_of_few_terms(c, n);
    }
}

static Status status_of(const Cheap *c, const Value *v) {
    return v == NULL || !train_is_forward(c->f, v->def) ? KEPT : (Status)c->status[v->id]; /* inputs, states, constants */
}

static uint32_t forward_readers(const Cheap *c, const Value *v) {
    uint32_t n = 0;
    for (uint32_t u = c->uses.first[v->id]; u < c->uses.first[v->id + 1]; u++) {
        const Node *reader = c->uses.use[u].node;
        n += reader == NULL || train_is_forward(c->f, reader);
    }
    return n;
}

/* Is v there in the backward pass if nothing is done, as more than bits? */
static bool is_needed(const Cheap *c, const Value *v) {
    if (!c->f->kept[v->id]) return false;
    if (c->f->segment[v->def->id] != c->f->last) return true;
    for (uint32_t u = c->uses.first[v->id]; u < c->uses.first[v->id + 1]; u++) {
        const Node *reader = c->uses.use[u].node;
        if (reader != NULL && !train_is_forward(c->f, reader) && reader->graph == c->f->m->main && !train_compares(reader, v)) return true;
    }
    return false;
}

/* Can v = n->out[i] be computed again? *small: what must be kept for that and would not be, NULL: nothing. */
static bool derives(Cheap *c, const Node *n, const Value *v, Value **small) {
    uint32_t length = 1;
    *small = NULL;
    if (!is_cheap(c, n) || (is_norm_with_statistics(n) && v->def_out != 0)) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        Value *in = n->in[i];
        switch (status_of(c, in)) {
        case KEPT: break;
        case AGAIN:
            if (forward_readers(c, in) != 1) return false;
            length += c->length[in->id];
            break;
        case LOST:
            if (*small != NULL || !c->f->kept[in->id] || train_bytes(c->cx, in) > train_bytes(c->cx, v) / 2) return false;
            *small = in;
            break;
        }
    }
    c->length[v->id] = length;
    return length <= LONGEST;
}

static void decide(Cheap *c, const Node *n, Value *v) {
    bool needed = is_needed(c, v);
    Value *small;
    if (train_is_small(c->cx, v)) {
        c->status[v->id] = KEPT;
    } else if (derives(c, n, v, &small) && (small == NULL || needed)) {
        if (small != NULL) c->status[small->id] = KEPT;
        c->status[v->id] = AGAIN;
    } else {
        c->status[v->id] = needed ? KEPT : LOST;
    }
}

/* Is what is kept of the forward pass less than the parameters? Then it is not what takes the memory. */
static bool keeps_little(Cheap *c) {
    uint64_t kept = 0, parameters = 0;
    FOR_NODES(n, c->f->m->main)
        for (uint32_t i = 0; i < n->n_out && train_is_forward(c->f, n); i++)
            if (n->out[i] != NULL && is_needed(c, n->out[i])) kept += train_bytes(c->cx, n->out[i]);
    for (uint32_t i = 0; i < c->f->m->n_state; i++)
        if (c->f->m->state[i].role == STATE_PARAMETER) parameters += train_bytes(c->cx, state_in(c->f->m, i));
    return kept < parameters;
}

void train_find_cheap(const TrainForward *f) {
    Cheap state = {.f = f, .cx = f->m->cx, .uses = module_uses(f->m)}, *c = &state;
    if (keeps_little(c)) return;
    c->status = ARENA_ARRAY(&c->cx->scratch, uint8_t, f->n_value);
    c->length = ARENA_ARRAY(&c->cx->scratch, uint32_t, f->n_value);
    FOR_NODES(n, f->m->main) {
        if (!train_is_forward(f, n)) continue;
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL) decide(c, n, n->out[i]);
    }
    for (uint32_t i = 0; i < f->n_value; i++) f->kept[i] &= c->status[i] != AGAIN;
}
