/* Data-parallel training: every process computes gradients of its part of the batch, and what is used is their mean.
 *
 *     %bucket = Concat(%g3, %g2, 1)      %p = AllReduceStart(%bucket)      as soon as the last of them is known …
 *     …the rest of the backward pass…
 *     %sum = ExchangeWait(%p)           %g2' = Slice(%sum)                 … and only before the updates
 *
 * Gradients travel in buckets in the order in which the backward pass makes them, so that messages are under way while it goes
 * on. The loss travels with a one, whose sum is the number of processes. A process in which a step failed sends a loss that
 * is not a number: then all of them refuse the step. */
#include "passes/train/train.h"

Node *train_message(TrainBuilder *b, Node *at, Op op, uint32_t n_in, Value *const *in) {
    Node *n = node_new(b->m, b->m->main, at, op, n_in, in, 1);
    n->loc = (Loc){.op = str_intern(b->m->cx, "exchange")};
    return n;
}

static Value *node_of(TrainBuilder *b, Node *at, Op op, uint32_t n_in, Value *const *in) {
    Node *n = train_message(b, at, op, n_in, in);
    node_infer(b->m, n);
    return n->out[0];
}

Value *train_flat(TrainBuilder *b, Node *at, Value *x) {
    int64_t n = dim_value(b->m->cx, type_numel(b->m->cx, x->type));
    return node_of(b, at, OP_Reshape, 2, (Value *[]){x, value_const_i64(b->m, 1, &n)});
}

/* The values one after the other, and a one: memory of their own, whatever they share theirs with. */
static Value *bucket_of(TrainBuilder *b, Node *at, uint32_t n, Value *const *x) {
    const float one = 1;
    Value **in = ARENA_ARRAY(&b->m->cx->scratch, Value *, n + 1);
    for (uint32_t i = 0; i < n; i++) in[i] = train_flat(b, at, x[i]);
    in[n] = value_const(b->m, type_tensor(b->m->cx, DT_F32, 1, (Dim[]){dim_const(b->m->cx, 1)}), &one, false);
    Node *c = train_message(b, at, OP_Concat, n + 1, in);
    attr_set_i(c, AT_Concat_axis, 0);
    node_infer(b->m, c);
    return c->out[0];
}

static Value *start(TrainBuilder *b, Node *at, Value *bucket, bool nan_on_failure) {
    Node *n = train_message(b, at, OP_AllReduceStart, 1, &bucket);
    attr_set_i(n, AT_AllReduceStart_nan_on_failure, nan_on_failure);
    node_infer(b->m, n);
    return n->out[0];
}

Value *train_cut(TrainBuilder *b, Value *row, int64_t from, const Type *type) {
    int64_t n = dim_value(b->m->cx, type_numel(b->m->cx, type)), shape[RANK_MAX], to = from + n, axis = 0;
    Value *in[4] = {row, value_const_i64(b->m, 1, &from), value_const_i64(b->m, 1, &to), value_const_i64(b->m, 1, &axis)};
    for (uint32_t i = 0; i < type->rank; i++) shape[i] = dim_value(b->m->cx, type->dim[i]);
    return node_of(b, b->at, OP_Reshape, 2, (Value *[]){node_of(b, b->at, OP_Slice, 4, in), value_const_i64(b->m, type->rank, shape)});
}

Value *train_share_loss(TrainBuilder *b, Value *loss) {
    return start(b, b->at, bucket_of(b, b->at, 1, &loss), true);
}

Value *train_shared_loss(TrainBuilder *b, Value *pending) {
    const Type *scalar = type_tensor(b->m->cx, DT_F32, 0, NULL);
    Value *sum = node_of(b, b->at, OP_ExchangeWait, 1, &pending), *ranks = train_cut(b, sum, 1, scalar);
    b->share = build2(b->m, b->at, OP_Div, train_f32(b, 1), ranks);
    return build2(b->m, b->at, OP_Mul, train_cut(b, sum, 0, scalar), b->share);
}

Value *train_share_sum(TrainBuilder *b, Value *x) {
    Value *pending = train_share_loss(b, x);
    return train_cut(b, node_of(b, b->at, OP_ExchangeWait, 1, &pending), 0, x->type);
}

/* ---- gradients ---- */
typedef struct Bucket { Value *pending; uint32_t first, n; } Bucket; /* of parameters, counted from the last one */

uint64_t train_bucket_bytes(const TrainBuilder *b) { return b->m->options->bucket_bytes != 0 ? b->m->options->bucket_bytes : 1u << 20; }

uint32_t *train_positions(TrainBuilder *b) {
    uint32_t at = 0, *position = ARENA_ARRAY(&b->m->cx->scratch, uint32_t, b->m->n_node);
    FOR_NODES(node, b->m->main) position[node->id] = ++at;
    return position;
}

Node *train_behind(TrainBuilder *b, const uint32_t *position, uint32_t n, Value *const *x) {
    const Node *last = NULL;
    for (uint32_t i = 0; i < n; i++)
        if (x[i]->def != NULL && (last == NULL || position[x[i]->def->id] > position[last->id])) last = x[i]->def;
    return last != NULL ? last->next : b->at;
}

void train_share_gradients(TrainBuilder *b) {
    Context *cx = b->m->cx;
    uint32_t n = b->param.n, n_bucket = 0, *position = train_positions(b);
    uint64_t limit = train_bucket_bytes(b);
    Value **x = ARENA_ARRAY(&cx->scratch, Value *, n);
    Bucket *bucket = ARENA_ARRAY(&cx->scratch, Bucket, n);
    for (uint32_t i = 0; i < n;) { /* the backward pass ends with the first parameters */
        Bucket *k = &bucket[n_bucket++];
        uint64_t bytes = 0;
        k->first = i;
        for (; i < n && (k->n == 0 || bytes < limit); i++, k->n++) {
            x[k->n] = b->param.v[n - 1 - i].gradient;
            bytes += 4 * (uint64_t)dim_value(cx, type_numel(cx, x[k->n]->type));
        }
        Node *behind = train_behind(b, position, k->n, x);
        k->pending = start(b, behind, bucket_of(b, behind, k->n, x), false);
    }
    for (uint32_t k = 0; k < n_bucket; k++) {
        Value *sum = node_of(b, b->at, OP_ExchangeWait, 1, &bucket[k].pending);
        int64_t from = 0;
        for (uint32_t i = bucket[k].first; i < bucket[k].first + bucket[k].n; i++) {
            TrainParam *p = &b->param.v[n - 1 - i];
            int64_t count = dim_value(cx, type_numel(cx, p->gradient->type));
            p->gradient = train_cut(b, sum, from, p->gradient->type);
            from += count;
        }
    }
}
