/* train: what lathe_train asked for becomes one graph: forward, loss, backward, optimizer.
 *
 *     %y = Gemm(%x, %w)  %loss = Loss(%y, %t)       state %w
 *                                                   %y = Gemm(%x, %w)  %loss = Loss(%y, %t)
 *          train(%loss, sgd)                ->      %g = Gradient(%w) {y = loss}
 *                                                   %r = Guard(%lr, %loss)   %w1 = Sub(%w, Mul(%r, %g))
 *                                                   entry predict = (%y)   evaluate = (%y, %loss)   train_step = (%loss, %w1)
 *
 * Parameters are constants that become states. Dropout and batch normalisation act differently in training: when the model
 * has any, the graph is copied first, and predict and evaluate use the copy. With `separate` or accumulated gradients the
 * step is in three entries, with the gradients' sums as states between them:
 *
 *     forward = (%loss)   backward = (%sum + %g)   step = (%w1 from %sum, 0 to %sum)   train_step: all three
 */
#include <math.h>

#include "passes/gradient.h"
#include "passes/pass.h"
#include "passes/train/train.h"

typedef struct Train {
    Context *cx;
    Module *m;
    TrainSpec *spec;
    bool *needed;            /* by node id: some loss depends on it */
    uint32_t *state_of;      /* by value id: state + 1 */
    uint32_t *candidate_of;  /* by value id: position in spec->candidate + 1 */
    uint32_t n_node, n_value; /* of the model as it came */
    TrainValues contents;
    VEC(Entry) entry;
    VEC(uint32_t) predict;   /* outputs of the model as they are outside of training */
    struct { VEC(uint32_t) state; VEC(Value *) value; VEC(Node *) node; } statistic; /* running means and variances: new contents */
} Train;

/* ---- names ---------------------------------------------------------------------------------------------------------- */
/* Does text match pattern, in which '*' stands for any text? */
static bool matches(const char *pattern, const char *text) {
    const char *star = NULL, *again = NULL;
    while (*text != 0) {
        if (*pattern == '*') star = pattern++, again = text;
        else if (*pattern == *text) pattern++, text++;
        else if (star != NULL) pattern = star + 1, text = ++again;
        else return false;
    }
    while (*pattern == '*') pattern++;
    return *pattern == 0;
}

static bool in_list(const char *const *list, const char *text) {
    for (; list != NULL && *list != NULL; list++)
        if (matches(*list, text)) return true;
    return false;
}

static bool is_trained(const LatheOptimizer *o, const char *name) {
    return (o->params == NULL || in_list(o->params, name)) && !in_list(o->freeze, name);
}

static const char *text_of(const Train *t, const Value *v) { return str_text(t->cx, v->name); }

/* A pattern that fits no parameter is a mistake. */
static void check_patterns(Train *t, const char *const *list) {
    for (; list != NULL && *list != NULL; list++) {
        bool used = false;
        for (uint32_t i = 0; i < t->spec->candidate.n; i++) used |= matches(*list, text_of(t, t->spec->candidate.v[i].value));
        if (!used && t->spec->candidate.n != 0)
            diag(t->cx, SEV_ERROR, (Loc){0}, "training: no parameter matches \"%s\"; the first one is called \"%s\"", *list, text_of(t, t->spec->candidate.v[0].value));
    }
}

/* ---- what the losses depend on -------------------------------------------------------------------------------------- */
static void mark_needed(Context *cx, bool *needed, const Value *loss) {
    VEC(Node *) work = {0};
    if (loss->def != NULL) vec_push(&cx->scratch, &work, loss->def);
    while (work.n != 0) {
        Node *n = work.v[--work.n];
        if (needed[n->id]) continue;
        needed[n->id] = true;
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] != NULL && n->in[i]->def != NULL) vec_push(&cx->scratch, &work, n->in[i]->def);
    }
}

/* Does some loss depend on n? No, if it came after the model: the table knows the model's nodes only. */
static bool is_needed(const Train *t, const Node *n) { return n->id < t->n_node && t->needed[n->id]; }

/* A step of rounding: fixed by calibration, and 0 or less would be the end of it. */
static bool is_scale(const Node *n, uint32_t input) {
    return input == 1 && (n->op == OP_QuantizeLinear || n->op == OP_DequantizeLinear || n->op == OP_Ms_QuantizeLinear || n->op == OP_Ms_DequantizeLinear);
}

/* Without a list of parameters, named constants are candidates. */
static void find_candidates(Train *t) {
    if (t->spec->candidate.n != 0) return;
    bool *seen = ARENA_ARRAY(&t->cx->scratch, bool, t->m->n_value);
    FOR_NODES(n, t->m->main) {
        for (uint32_t i = 0; i < n->n_in && is_needed(t, n); i++) {
            Value *v = n->in[i];
            if (v == NULL || v->data == NULL || v->name == 0 || seen[v->id] || !dtype_is_float(v->type->dtype) || is_scale(n, i)) continue;
            seen[v->id] = true;
            if (dim_value(t->cx, type_numel(t->cx, v->type)) < 2) continue;
            TrainCandidate c = {v, {LATHE_INIT_DEFAULT, 0, 0}, true};
            vec_push(&t->cx->arena, &t->spec->candidate, c);
        }
    }
}

static uint32_t to_state(Train *t, Value *v, StateRole role) {
    if (t->state_of[v->id] != 0) return t->state_of[v->id] - 1;
    uint32_t at = t->candidate_of[v->id];
    const TrainCandidate *c = at != 0 ? &t->spec->candidate.v[at - 1] : NULL;
    uint32_t s = state_from_constant(t->m, v, role, c != NULL && !c->stored ? &c->init : NULL);
    t->state_of[v->id] = s + 1;
    return s;
}

static bool is_statistic(const Node *n, uint32_t input) { return n->op == OP_BatchNormalization && input >= 3; }

/* Candidates that some part trains become states. */
static void make_states(Train *t) {
    for (uint32_t i = 0; i < t->spec->candidate.n; i++) t->candidate_of[t->spec->candidate.v[i].value->id] = i + 1;
    FOR_NODES(n, t->m->main) {
        for (uint32_t i = 0; i < n->n_in && is_needed(t, n); i++) {
            Value *v = n->in[i];
            if (v == NULL || v->data == NULL || is_statistic(n, i) || t->candidate_of[v->id] == 0) continue;
            bool wanted = false;
            for (uint32_t p = 0; p < t->spec->part.n; p++) wanted |= is_trained(&t->spec->part.v[p].o, text_of(t, v));
            if (wanted) to_state(t, v, STATE_PARAMETER);
        }
    }
}

/* ---- the copy for use outside of training ---------------------------------------------------------------------------- */
static bool differs_in_training(const Train *t, const Node *n) {
    return is_needed(t, n) && (n->op == OP_Dropout || n->op == OP_BatchNormalization);
}

static void rename_values(Graph *g, void *user) {
    (void)user;
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL) n->out[i]->name = 0;
    }
}

/* Copies all nodes of main in front of it; extra outputs (the losses) follow those of main in the result. */
static Graph *copy_main(Train *t) {
    Module *m = t->m;
    Graph *g = m->main, wide = *g;
    wide.out = ARENA_ARRAY(&t->cx->arena, Value *, g->n_out + t->spec->part.n);
    if (g->n_out != 0) memcpy(wide.out, g->out, g->n_out * sizeof *g->out); /* a DSL model may have losses only */
    for (uint32_t i = 0; i < t->spec->part.n; i++) wide.out[wide.n_out++] = t->spec->part.v[i].loss;
    Graph *copy = graph_clone(m, &wide, NULL, g->in);
    graph_visit(copy, rename_values, NULL);
    Node *before = g->first;
    FOR_NODES(n, copy) {
        n->graph = g;
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) n->attr[i].graph->outer = g;
    }
    if (copy->last != NULL) {
        copy->last->next = before;
        before->prev = copy->last;
        g->first = copy->first;
    }
    return copy;
}

/* ---- training mode ---------------------------------------------------------------------------------------------------- */
static Value *current_statistic(Train *t, uint32_t state) {
    for (uint32_t i = t->statistic.state.n; i-- > 0;)
        if (t->statistic.state.v[i] == state) return t->statistic.value.v[i];
    return state_in(t->m, state);
}

/* Values that value_replace does not see follow by hand. */
static void follow_loss(Train *t, const Value *from, Value *to) {
    for (uint32_t i = 0; i < t->spec->part.n; i++)
        if (t->spec->part.v[i].loss == from) t->spec->part.v[i].loss = to;
}

/* Batch statistics instead of running ones, which become states; shared ones are updated by one node after the other. */
static void train_batch_norm(Train *t, Node *n) {
    for (uint32_t i = 3; i < 5; i++)
        if (n->in[i]->data == NULL && (n->in[i]->id >= t->n_value || t->state_of[n->in[i]->id] == 0)) return; /* computed statistics stay as they are */
    Value *in[5] = {n->in[0], n->in[1], n->in[2], NULL, NULL};
    uint32_t state[2];
    for (uint32_t i = 0; i < 2; i++) {
        state[i] = to_state(t, n->in[3 + i], STATE_STATISTIC);
        in[3 + i] = current_statistic(t, state[i]);
    }
    Node *b = node_new(t->m, t->m->main, n, OP_BatchNormalization, 5, in, 3);
    b->loc = n->loc;
    for (uint32_t i = 0; i < n->n_attr; i++) b->attr[i] = n->attr[i];
    attr_set_i(b, AT_BatchNormalization_training_mode, 1);
    node_infer(t->m, b);
    b->out[0]->name = n->out[0]->name;
    value_replace(t->m, n->out[0], b->out[0]);
    follow_loss(t, n->out[0], b->out[0]);
    for (uint32_t i = 0; i < 2; i++) {
        vec_push(&t->cx->scratch, &t->statistic.state, state[i]);
        vec_push(&t->cx->scratch, &t->statistic.value, b->out[1 + i]);
        vec_push(&t->cx->scratch, &t->statistic.node, b);
    }
    node_remove(n);
}

/* Frozen layers keep the statistics they were trained with. */
static bool norm_is_trained(const Train *t, const Node *n) {
    for (uint32_t p = 0; p < t->spec->part.n; p++)
        if (is_trained(&t->spec->part.v[p].o, text_of(t, n->in[1])) && n->in[1]->name != 0) return true;
    return false;
}

static void training_mode(Train *t, Node *n) {
    if (n->op == OP_BatchNormalization && norm_is_trained(t, n)) train_batch_norm(t, n);
    if (n->op != OP_Dropout) return;
    Value *x = n->in[0], *ratio = n->n_in > 1 && n->in[1] != NULL ? n->in[1] : value_const_scalar(t->m, DT_F32, 0.5);
    Node *d = node_new(t->m, t->m->main, n, OP_Dropout, 3, (Value *[]){x, ratio, value_const_scalar(t->m, DT_BOOL, 1)}, n->n_out);
    d->loc = n->loc;
    for (uint32_t i = 0; i < n->n_attr; i++) d->attr[i] = n->attr[i];
    node_infer(t->m, d);
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) value_replace(t->m, n->out[i], d->out[i]), follow_loss(t, n->out[i], d->out[i]);
    node_remove(n);
}

/* ---- one part ------------------------------------------------------------------------------------------------------------ */
static void add_param(Train *t, TrainBuilder *b, Value *v) {
    TrainParam p = {.value = v, .state = t->state_of[v->id] - 1, .lr = 1, .name = text_of(t, v)};
    for (uint32_t g = 0; g < b->o->n_groups; g++) {
        if (!matches(b->o->groups[g].pattern, text_of(t, v))) continue;
        p.lr = b->o->groups[g].lr != 0 ? b->o->groups[g].lr : 1;
        p.no_decay = b->o->groups[g].no_decay;
        break;
    }
    vec_push(&t->cx->scratch, &b->param, p);
}

/* The parameters of b: states that nodes of this part read and that it trains, in the order of their first use. */
static void add_params(Train *t, TrainBuilder *b, const bool *needed) {
    bool *seen = ARENA_ARRAY(&t->cx->scratch, bool, t->n_value);
    FOR_NODES(n, t->m->main) {
        for (uint32_t i = 0; i < n->n_in && needed[n->id]; i++) {
            Value *v = n->in[i];
            if (v == NULL || v->id >= t->n_value || seen[v->id] || t->state_of[v->id] == 0 || v->def != NULL) continue;
            seen[v->id] = true;
            if (t->m->state[t->state_of[v->id] - 1].role == STATE_PARAMETER && is_trained(b->o, text_of(t, v))) add_param(t, b, v);
        }
    }
}

static void save_memory(TrainBuilder *b, const Value *loss, Node *behind) {
    uint32_t n_node = b->m->n_node;
    bool *forward = ARENA_ARRAY(&b->m->cx->scratch, bool, n_node);
    mark_needed(b->m->cx, forward, loss);
    train_recompute(b->m, forward, behind != NULL ? behind->next : b->m->main->first, b->at, b->m->options->recompute);
    train_keep(b->m, forward, n_node, b->at);
}

/* The gradients of loss * scale. Parameters that it does not depend on are left out. */
static bool differentiate(TrainBuilder *b, Value *loss, double scale) {
    Module *m = b->m;
    uint32_t n = b->param.n, kept = 0;
    Value **wrt = ARENA_ARRAY(&m->cx->scratch, Value *, n), **grad = ARENA_ARRAY(&m->cx->scratch, Value *, n);
    Value *seed = value_const_scalar(m, loss->type->dtype, scale);
    for (uint32_t i = 0; i < n; i++) wrt[i] = b->param.v[i].value;
    b->at->loc = (Loc){.op = str_intern(m->cx, "gradient")};
    if (loss->type->rank != 0) seed = build2(m, b->at, OP_Reshape, seed, build1(m, b->at, OP_Shape, loss));
    Node *behind = b->at->prev;
    if (!gradient_of(m, m->main, b->at, 1, &loss, &seed, n, wrt, grad)) return false;
    for (uint32_t i = 0; i < n; i++) {
        b->param.v[i].gradient = grad[i];
        if (grad[i] != NULL) b->param.v[kept++] = b->param.v[i];
    }
    b->param.n = kept;
    save_memory(b, loss, behind);
    if (kept == 0) diag(m->cx, SEV_ERROR, (Loc){0}, "training: the loss depends on no parameter in a way that has a gradient");
    return kept != 0;
}

static void count_step(TrainBuilder *b) {
    uint32_t s = train_new_state(b, "step", "", STATE_COUNTER, type_tensor(b->m->cx, DT_I64, 0, NULL), 0);
    Value *next = build2(b->m, b->at, OP_Add, state_in(b->m, s), value_const_scalar(b->m, DT_I64, 1));
    train_set_state(b, s, next);
    b->step = train_cast(b, next, DT_F64);
}

/* What every gradient is multiplied by before use: 1 / scale, and the processes' share; NULL: nothing. */
static Value *inverse_of(TrainBuilder *b, double scale) {
    if (b->share == NULL) return scale != 1 ? train_f32(b, 1 / scale) : NULL;
    return scale != 1 ? build2(b->m, b->at, OP_Mul, b->share, train_f32(b, 1 / scale)) : b->share;
}

/* The norm of all gradients together, after multiplication by `inverse`; and the factor that brings it down to the limit. */
static void limit_norm(TrainBuilder *b, Value *inverse) {
    Module *m = b->m;
    Value *sum = NULL;
    for (uint32_t i = 0; i < b->param.n; i++) {
        Node *n = node_new(m, m->main, b->at, OP_ReduceSumSquare, 1, &b->param.v[i].gradient, 1);
        n->loc = b->at->loc;
        attr_set_i(n, AT_ReduceSumSquare_keepdims, 0);
        node_infer(m, n);
        Value *square = train_cast(b, n->out[0], DT_F32);
        sum = sum != NULL ? build2(m, b->at, OP_Add, sum, square) : square;
    }
    if (b->bucket.n != 0) sum = train_share_sum(b, sum);
    b->norm = build1(m, b->at, OP_Sqrt, sum);
    if (inverse != NULL) b->norm = build2(m, b->at, OP_Mul, b->norm, inverse);
    if (b->o->clip == 0) return;
    Value *ratio = build2(m, b->at, OP_Div, train_f32(b, b->o->clip), build2(m, b->at, OP_Add, b->norm, train_f32(b, 1e-6)));
    b->factor = build2(m, b->at, OP_Min, ratio, train_f32(b, 1));
    if (inverse != NULL) b->factor = build2(m, b->at, OP_Mul, b->factor, inverse);
}

static void add_entry(Train *t, const char *prefix, const char *name, const char *purpose, const uint32_t *out, uint32_t n_out, uint32_t after) {
    Entry e = {.name = str_format(t->cx, "%s%s", prefix, name), .purpose = purpose, .n_out = n_out, .after = after};
    uint32_t *own = ARENA_ARRAY(&t->cx->arena, uint32_t, n_out);
    if (n_out != 0) memcpy(own, out, n_out * sizeof *out);
    e.out = own;
    vec_push(&t->cx->arena, &t->entry, e);
}

/* New running statistics that the loss depends on belong to the step. */
static void add_statistics(Train *t, TrainBuilder *b, const bool *needed) {
    for (uint32_t i = 0; i < t->statistic.state.n; i++) {
        uint32_t s = t->statistic.state.v[i];
        bool last = needed[t->statistic.node.v[i]->id];
        for (uint32_t k = i + 1; k < t->statistic.state.n; k++) last &= t->statistic.state.v[k] != s || !needed[t->statistic.node.v[k]->id];
        if (last) train_set_state(b, s, t->statistic.value.v[i]);
    }
}

static uint32_t loss_output(Train *t, TrainBuilder *b, Value *loss) {
    if (loss->type->rank != 0) loss = build2(t->m, b->at, OP_Reshape, loss, value_const_i64(t->m, 0, NULL));
    Value *own = build1(t->m, b->at, OP_Identity, loss);
    own->name = str_format(t->cx, "%sloss", b->prefix);
    graph_add_output(t->m, t->m->main, own);
    return t->m->main->n_out - 1;
}

static const char step_purpose[] = "One step on a batch: loss, gradients, update. When it fails (a loss or a norm of gradients that is not finite, a label\n"
                                   " * out of range) the state is as before.";

/* Gradients become the sums over all processes: all of them, or those of this process's part. */
static void share_gradients(TrainBuilder *b) {
    if (b->m->options->shard_optimizer != 0) train_scatter_gradients(b);
    else train_share_gradients(b);
}

static void update_parameters(TrainBuilder *b) {
    train_updates(b);
    if (b->bucket.n != 0) train_gather_weights(b);
}

static bool is_distributed(const Train *t) { return t->m->options->distributed == LATHE_MPI; }

static void one_entry(Train *t, TrainBuilder *b, Value *loss, uint32_t loss_at, const bool *needed) {
    double scale = b->o->loss_scale != 0 ? b->o->loss_scale : 1;
    Value *pending = is_distributed(t) ? train_share_loss(b, loss) : NULL;
    b->at->loc = (Loc){.op = str_intern(t->cx, "schedule")};
    if (!differentiate(b, loss, scale)) return;
    if (pending != NULL) {
        share_gradients(b);
        loss = train_shared_loss(b, pending);
        vec_push(&t->cx->scratch, &b->outputs, loss_output(t, b, loss));
    } else {
        vec_push(&t->cx->scratch, &b->outputs, loss_at);
    }
    count_step(b);
    add_statistics(t, b, needed);
    b->factor = inverse_of(b, scale);
    if (b->o->clip != 0 || scale != 1) limit_norm(b, b->factor);
    b->checked = loss;
    update_parameters(b);
    add_entry(t, b->prefix, "forward", "The forward pass as in training: the loss. The state stays as it is.", &loss_at, 1, 0);
    add_entry(t, b->prefix, "train_step", step_purpose, b->outputs.v, b->outputs.n, 0);
}

/* Sums of gradients as states, for parts that compute and use them in different calls. */
static void three_entries(Train *t, TrainBuilder *b, Value *loss, uint32_t loss_at, const bool *needed) {
    Module *m = t->m;
    Context *cx = t->cx;
    double scale = b->o->loss_scale != 0 ? b->o->loss_scale : 1;
    const Type *count = type_tensor(cx, DT_I64, 0, NULL);
    uint32_t batches = train_new_state(b, "batches", "", STATE_COUNTER, count, 0), forward = t->entry.n;
    uint32_t n_sum, *sum = ARENA_ARRAY(&cx->scratch, uint32_t, b->param.n);
    Value *own = loss;
    if (is_distributed(t)) {
        loss = train_shared_loss(b, train_share_loss(b, loss));
        loss_at = loss_output(t, b, loss);
    }
    add_entry(t, b->prefix, "forward", "The forward pass as in training: the loss. Leaves in the arena what the backward pass needs.", &loss_at, 1, 0);
    if (!differentiate(b, own, scale)) return;
    b->at->loc = (Loc){.op = str_intern(cx, "gradients")};
    Value *one = value_const_scalar(m, DT_F32, 1 / scale);
    Node *guard = node_new(m, m->main, b->at, OP_Guard, 2, (Value *[]){one, loss}, 1);
    node_infer(m, guard);
    n_sum = b->param.n; /* those that the loss depends on */
    for (uint32_t i = 0; i < n_sum; i++) {
        TrainParam *p = &b->param.v[i];
        sum[i] = train_new_state(b, "gradient", str_text(cx, m->state[p->state].name), STATE_SLOT, p->value->type, 0);
        Value *g = build2(m, b->at, OP_Mul, p->gradient, guard->out[0]);
        train_set_state(b, sum[i], build2(m, b->at, OP_Add, state_in(m, sum[i]), g));
    }
    train_set_state(b, batches, build2(m, b->at, OP_Add, state_in(m, batches), value_const_scalar(m, DT_I64, 1)));
    add_statistics(t, b, needed);
    add_entry(t, b->prefix, "backward", "The backward pass of the batch that the last forward pass saw, in the same arena: adds its gradients to those in the state.",
              b->outputs.v, b->outputs.n, 1u << forward);
    b->outputs.n = 0;
    b->at->loc = (Loc){.op = str_intern(cx, "schedule")};
    count_step(b);
    Value *batches_f = train_cast(b, build2(m, b->at, OP_Max, state_in(m, batches), value_const_scalar(m, DT_I64, 1)), DT_F32);
    Value *mean = build2(m, b->at, OP_Div, train_f32(b, 1), batches_f);
    for (uint32_t i = 0; i < b->param.n; i++) {
        TrainParam *p = &b->param.v[i];
        p->gradient = build2(m, b->at, OP_Mul, state_in(m, sum[i]), mean);
    }
    Value *ones = train_f32(b, 1);
    if (is_distributed(t)) {
        share_gradients(b);
        train_shared_loss(b, train_share_loss(b, build2(m, b->at, OP_Mul, batches_f, ones))); /* how many processes there are */
        b->factor = b->share;
    }
    limit_norm(b, b->factor);
    b->checked = b->norm;
    update_parameters(b);
    for (uint32_t i = 0; i < n_sum; i++) { /* behind the guard, too */
        Value *zero = build2(m, b->at, OP_Mul, state_in(m, sum[i]), train_f32(b, 0));
        train_set_state(b, sum[i], zero);
    }
    train_set_state(b, batches, value_const_scalar(m, DT_I64, 0));
    add_entry(t, b->prefix, "step", "The update from the mean of the gradients in the state, which are 0 afterwards.", b->outputs.v, b->outputs.n, 0);
    uint32_t *calls = ARENA_ARRAY(&cx->arena, uint32_t, 3);
    for (uint32_t i = 0; i < 3; i++) calls[i] = forward + i;
    Entry all = {.name = str_format(cx, "%strain_step", b->prefix), .purpose = step_purpose, .calls = calls, .n_calls = 3};
    all.every = b->o->accumulate > 1 ? (uint32_t)b->o->accumulate : 1;
    all.batches = batches;
    vec_push(&cx->arena, &t->entry, all);
}

static void build_part(Train *t, TrainPart *part, Value *evaluated) {
    Module *m = t->m;
    Value *loss = part->loss;
    Node *end = node_new(m, m->main, NULL, OP_Identity, 1, &loss, 1);
    node_infer(m, end);
    bool *needed = ARENA_ARRAY(&t->cx->scratch, bool, m->n_node); /* end, too: add_params walks over it */
    mark_needed(t->cx, needed, loss);
    TrainBuilder b = {.m = m, .at = end, .o = &part->o, .contents = &t->contents, .prefix = part->o.name != NULL ? str_text(t->cx, str_format(t->cx, "%s_", part->o.name)) : ""};
    add_params(t, &b, needed);
    if (b.param.n == 0) {
        diag(t->cx, SEV_ERROR, (Loc){0}, "training: the loss depends on no parameter that may be trained");
    } else {
        uint32_t loss_at = loss_output(t, &b, loss);
        if (evaluated != NULL || t->predict.n != 0) {
            vec_push(&t->cx->scratch, &t->predict, evaluated != NULL ? loss_output(t, &b, evaluated) : loss_at);
            add_entry(t, b.prefix, "evaluate", "The loss and the outputs as outside of training.", t->predict.v, t->predict.n, 0);
            t->predict.n--;
        }
        if (part->o.separate || part->o.accumulate > 1) three_entries(t, &b, loss, loss_at, needed);
        else one_entry(t, &b, loss, loss_at, needed);
    }
    node_remove(end);
}

static bool check_part(Train *t, const TrainPart *p) {
    const Type *type = p->loss->type;
    if (p->loss->poison || type == NULL) return false;
    Writer w = {.arena = &t->cx->scratch};
    type_print(t->cx, &w, type);
    bool one = type->kind == TYPE_TENSOR && type->rank != RANK_UNKNOWN && type_numel(t->cx, type) == dim_const(t->cx, 1);
    if (!one || !dtype_is_float(type->dtype)) diag(t->cx, SEV_ERROR, (Loc){0}, "training: the loss has type %s; one floating-point number is needed", cw_cstr(&w));
    check_patterns(t, p->o.params);
    check_patterns(t, p->o.freeze);
    return t->cx->n_error == 0;
}

/* The new contents of states become the last outputs of main. */
static void finish(Train *t) {
    Module *m = t->m;
    uint32_t n = m->main->n_out;
    for (uint32_t i = 0; i < t->contents.n; i++) graph_add_output(m, m->main, t->contents.v[i]);
    for (uint32_t i = 0; i < t->entry.n; i++) {
        uint32_t *list = ARENA_ARRAY(&t->cx->arena, uint32_t, t->entry.v[i].n_out);
        for (uint32_t j = 0; j < t->entry.v[i].n_out; j++) {
            uint32_t at = t->entry.v[i].out[j];
            list[j] = at >= TRAIN_STATE ? n + at - TRAIN_STATE : at;
        }
        t->entry.v[i].out = list;
    }
    m->entry = t->entry.v;
    m->n_entry = t->entry.n;
}

/* Nodes of the forward pass that act differently in training. Afterwards losses are the training ones. */
static void to_training_mode(Train *t, Node *first) {
    for (Node *n = first, *next; n != NULL; n = next) {
        next = n->next;
        if (differs_in_training(t, n)) training_mode(t, n);
    }
}

static bool start(Train *t) {
    Module *m = t->m;
    Context *cx = t->cx;
    if (m->io_in != NULL || m->io_out != NULL) diag(cx, SEV_ERROR, (Loc){0}, "training: inputs and outputs must be tensors, not sequences or optionals");
    t->n_node = m->n_node;
    state_add(m, str_intern(cx, "training/random"), STATE_RANDOM, type_tensor(cx, DT_I64, 0, NULL), (LatheInit){LATHE_INIT_CONSTANT, 0, 0}, NULL);
    t->needed = ARENA_ARRAY(&cx->scratch, bool, m->n_node);
    for (uint32_t i = 0; i < t->spec->part.n; i++) mark_needed(cx, t->needed, t->spec->part.v[i].loss);
    find_candidates(t);
    for (uint32_t i = 0; i < t->spec->part.n; i++) check_part(t, &t->spec->part.v[i]);
    t->n_value = m->n_value;
    t->state_of = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_value);
    t->candidate_of = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_value);
    return cx->n_error == 0;
}

bool pass_train(Context *cx, Module *m) {
    if (m->train == NULL) return false;
    Train state = {.cx = cx, .m = m, .spec = m->train}, *t = &state;
    m->train = NULL;
    pass_sequences(cx, m);
    if (!start(t)) return false;
    uint32_t n_out = m->main->n_out;
    bool copied = false;
    FOR_NODES(n, m->main) copied |= differs_in_training(t, n);
    Node *first = m->main->first;
    Graph *copy = copied ? copy_main(t) : NULL;
    make_states(t);
    to_training_mode(t, first);
    gradient_fold_sizes(m, 0, NULL);
    for (uint32_t i = 0; copied && i < n_out; i++) {
        copy->out[i]->name = m->main->out[i]->name;
        m->main->out[i] = copy->out[i];
    }
    for (uint32_t i = 0; i < n_out; i++) vec_push(&cx->scratch, &t->predict, i);
    if (n_out != 0) add_entry(t, "", "predict", "The outputs as outside of training.", t->predict.v, n_out, 0);
    for (uint32_t i = 0; i < t->spec->part.n; i++) build_part(t, &t->spec->part.v[i], copied ? copy->out[n_out + i] : NULL);
    if (t->entry.n > ENTRY_MAX) diag(cx, SEV_ERROR, (Loc){0}, "training: %u entry points are asked for, at most %d are supported: fewer losses, or several models", t->entry.n, ENTRY_MAX);
    else finish(t);
    return true;
}
