/* Divided state of an optimizer (ZeRO-1): of every bucket of parameters a process keeps what the optimizer keeps for its part alone, and
 * updates that part; then all processes get the new weights.
 *
 *     %bucket = Concat(%g3, %g2, 0)      %p = ReduceScatterStart(%bucket)      as soon as the last gradient is known …
 *     …the rest of the backward pass…
 *     %g = Slice(ExchangeWait(%p))       the sums of this process's part       %w = ProcessPart(%w3, %w2)
 *     %w' = Sub(%w, …)                   momentum and the like are as large as %w
 *     %q = AllGatherStart(%w')           %all = ExchangeWait(%q, %w')          %w3' = Slice(%all)   %w2' = Slice(%all)
 *
 * A bucket holds parameters of one learning rate and one way to decay: the update of a part knows no parameters. Parts are equal,
 * zeros fill the last one. */
#include "passes/train/train.h"

static int64_t elements(const TrainBuilder *b, const Type *t) { return dim_value(b->m->cx, type_numel(b->m->cx, t)); }

/* May p's update be that of another parameter of the bucket? */
static bool alike(const TrainParam *p, const TrainParam *q) {
    return p->lr == q->lr && p->no_decay == q->no_decay && p->value->type->dtype == q->value->type->dtype;
}

/* The bucket that takes p: of each kind of parameters the newest one has room, or none. */
static TrainBucket *bucket_for(TrainBuilder *b, const TrainParam *p) {
    for (uint32_t k = b->bucket.n; k-- > 0;) {
        TrainBucket *bucket = &b->bucket.v[k];
        if (!alike(p, &bucket->param.v[0])) continue;
        if (bucket->bytes < train_bucket_bytes(b)) return bucket;
        break;
    }
    vec_push(&b->m->cx->scratch, &b->bucket, (TrainBucket){0});
    return &b->bucket.v[b->bucket.n - 1];
}

/* Enough for the bucket's elements and at least one zero, so that the message is memory of its own. */
static int64_t part_of(const TrainBuilder *b, const TrainBucket *bucket) {
    int64_t total = 0, processes = b->m->options->shard_optimizer;
    for (uint32_t i = 0; i < bucket->param.n; i++) total += elements(b, bucket->param.v[i].gradient->type);
    return total / processes + 1;
}

/* All gradients of the bucket in a row, then zeros, on their way. */
static Value *scatter(TrainBuilder *b, const TrainBucket *bucket, const uint32_t *position) {
    Context *cx = b->m->cx;
    uint32_t n = bucket->param.n;
    int64_t rest = part_of(b, bucket) * b->m->options->shard_optimizer;
    Value **x = ARENA_ARRAY(&cx->scratch, Value *, n + 1);
    for (uint32_t i = 0; i < n; i++) x[i] = bucket->param.v[i].gradient;
    Node *at = train_behind(b, position, n, x);
    for (uint32_t i = 0; i < n; i++) {
        rest -= elements(b, x[i]->type);
        x[i] = train_flat(b, at, x[i]);
    }
    const Type *zeros = type_tensor(cx, x[0]->type->dtype, 1, (Dim[]){dim_const(cx, rest)});
    x[n] = value_const(b->m, zeros, ARENA_ARRAY(&cx->arena, double, rest), true);
    Node *row = train_message(b, at, OP_Concat, n + 1, x);
    attr_set_i(row, AT_Concat_axis, 0);
    node_infer(b->m, row);
    Node *start = train_message(b, at, OP_ReduceScatterStart, 1, row->out);
    attr_set_i(start, AT_ReduceScatterStart_processes, b->m->options->shard_optimizer);
    node_infer(b->m, start);
    return start->out[0];
}

/* This process's part of the bucket's weights. */
static Value *own_weights(TrainBuilder *b, const TrainBucket *bucket) {
    Value **w = ARENA_ARRAY(&b->m->cx->scratch, Value *, bucket->param.n);
    for (uint32_t i = 0; i < bucket->param.n; i++) w[i] = train_flat(b, b->at, bucket->param.v[i].value);
    Node *part = train_message(b, b->at, OP_ProcessPart, bucket->param.n, w);
    attr_set_i(part, AT_ProcessPart_part, part_of(b, bucket));
    attr_set_i(part, AT_ProcessPart_processes, b->m->options->shard_optimizer);
    node_infer(b->m, part);
    return part->out[0];
}

/* All elements of a message that has been started; kept: what is being sent. */
static Value *arrived(TrainBuilder *b, Value *pending, Value *kept) {
    Node *wait = train_message(b, b->at, OP_ExchangeWait, kept != NULL ? 2 : 1, (Value *[]){pending, kept});
    node_infer(b->m, wait);
    return wait->out[0];
}

void train_scatter_gradients(TrainBuilder *b) {
    Context *cx = b->m->cx;
    const uint32_t *position = train_positions(b);
    for (uint32_t i = b->param.n; i-- > 0;) { /* the backward pass ends with the first parameters */
        const TrainParam *p = &b->param.v[i];
        TrainBucket *bucket = bucket_for(b, p);
        vec_push(&cx->scratch, &bucket->param, *p);
        bucket->bytes += dtype_bytes(cx, p->value->type->dtype, elements(b, p->value->type));
    }
    for (uint32_t k = 0; k < b->bucket.n; k++) b->bucket.v[k].pending = scatter(b, &b->bucket.v[k], position);
    b->param.n = 0;
    for (uint32_t k = 0; k < b->bucket.n; k++) {
        TrainBucket *bucket = &b->bucket.v[k];
        TrainParam p = bucket->param.v[0];
        p.value = own_weights(b, bucket);
        p.gradient = train_cut(b, arrived(b, bucket->pending, NULL), 0, p.value->type);
        p.name = str_text(cx, str_format(cx, "bucket/%u", k));
        vec_push(&cx->scratch, &b->param, p);
    }
}

void train_gather_weights(TrainBuilder *b) {
    for (uint32_t k = 0; k < b->bucket.n; k++) {
        Value *w = b->param.v[k].updated;
        Node *start = train_message(b, w->def->next, OP_AllGatherStart, 1, &w);
        attr_set_i(start, AT_AllGatherStart_processes, b->m->options->shard_optimizer);
        node_infer(b->m, start);
        b->bucket.v[k].pending = start->out[0];
    }
    for (uint32_t k = 0; k < b->bucket.n; k++) {
        const TrainBucket *bucket = &b->bucket.v[k];
        Value *all = arrived(b, bucket->pending, b->param.v[k].updated);
        int64_t from = 0;
        for (uint32_t i = 0; i < bucket->param.n; i++) {
            const TrainParam *p = &bucket->param.v[i];
            train_new_weights(b, p, train_cut(b, all, from, p->value->type));
            from += elements(b, p->value->type);
        }
    }
}
