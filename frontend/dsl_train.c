/* Training in the C DSL: lathe_train collects what is asked for (ir/train.h), passes/train.c builds it. */
#include "frontend/dsl.h"
#include "ir/train.h"

static const char *own_text(Context *cx, const char *s) { return s != NULL ? arena_strdup(&cx->arena, s, strlen(s)) : NULL; }

static const char *const *own_list(Context *cx, const char *const *list) {
    uint32_t n = 0;
    if (list == NULL) return NULL;
    while (list[n] != NULL) n++;
    const char **own = ARENA_ARRAY(&cx->arena, const char *, n + 1);
    for (uint32_t i = 0; i < n; i++) own[i] = own_text(cx, list[i]);
    return own;
}

static bool is_word(const char *s) {
    bool good = s[0] != 0;
    for (; *s != 0; s++) good &= (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_';
    return good;
}

static void check_number(Context *cx, const char *what, double x, bool good) {
    if (!good) diag(cx, SEV_ERROR, (Loc){.op = str_intern(cx, "optimizer")}, "%s is %g", what, x);
}

static bool below_one(double x) { return x >= 0 && x < 1; }

static void check_optimizer(Context *cx, const LatheOptimizer *o) {
    check_number(cx, "the learning rate must be positive; it", o->lr, o->lr > 0);
    check_number(cx, "momentum must be in [0, 1); it", o->momentum, below_one(o->momentum));
    check_number(cx, "beta1 must be in [0, 1); it", o->beta1, below_one(o->beta1));
    check_number(cx, "beta2 must be in [0, 1); it", o->beta2, below_one(o->beta2));
    check_number(cx, "the decay of the average must be in [0, 1); it", o->ema, below_one(o->ema));
    check_number(cx, "epsilon must not be negative; it", o->epsilon, o->epsilon >= 0);
    check_number(cx, "weight decay must not be negative; it", o->weight_decay, o->weight_decay >= 0);
    check_number(cx, "the limit of the norm must not be negative; it", o->clip, o->clip >= 0);
    check_number(cx, "the loss scale must not be negative; it", o->loss_scale, o->loss_scale >= 0);
    check_number(cx, "accumulated batches must be 1 or more; their number", (double)o->accumulate, o->accumulate >= 0 && o->accumulate < 1 << 20);
    if ((o->schedule.kind == LATHE_LINEAR || o->schedule.kind == LATHE_COSINE) && o->schedule.steps <= o->schedule.warmup)
        diag(cx, SEV_ERROR, (Loc){.op = str_intern(cx, "optimizer")}, "the schedule ends at step %lld, its warm-up at %lld: the end must come later", (long long)o->schedule.steps, (long long)o->schedule.warmup);
    if (o->name != NULL && !is_word(o->name)) diag(cx, SEV_ERROR, (Loc){.op = str_intern(cx, "optimizer")}, "the name \"%s\" becomes part of C identifiers: letters, digits and _ are accepted", o->name);
}

typedef struct TrainRequest { Value *loss; const LatheOptimizer *o; } TrainRequest;

static LatheStatus add_part(LatheModel *m, void *user) {
    const TrainRequest *r = user;
    Context *cx = &m->cx;
    if (m->compiled) {
        diag(cx, SEV_ERROR, (Loc){0}, "this model was compiled, nothing can be added to it");
        return LATHE_ERROR_USAGE;
    }
    check_optimizer(cx, r->o);
    TrainPart part = {r->loss, *r->o};
    part.o.params = own_list(cx, r->o->params);
    part.o.freeze = own_list(cx, r->o->freeze);
    part.o.name = own_text(cx, r->o->name);
    LatheParamGroup *groups = ARENA_ARRAY(&cx->arena, LatheParamGroup, r->o->n_groups);
    for (uint32_t i = 0; i < r->o->n_groups; i++) {
        groups[i] = r->o->groups[i];
        groups[i].pattern = own_text(cx, groups[i].pattern);
    }
    part.o.groups = groups;
    if (m->m->train == NULL) m->m->train = ARENA_NEW(&cx->arena, TrainSpec);
    TrainSpec *spec = m->m->train;
    for (uint32_t i = 0; i < spec->part.n; i++) {
        const char *a = spec->part.v[i].o.name, *b = part.o.name;
        if ((a == NULL && b == NULL) || (a != NULL && b != NULL && strcmp(a, b) == 0))
            diag(cx, SEV_ERROR, (Loc){.op = str_intern(cx, "optimizer")}, "a second one %s%s: give each a name of its own", b != NULL ? "called " : "without a name", b != NULL ? b : "");
    }
    vec_push(&cx->arena, &spec->part, part);
    return LATHE_OK;
}

void lathe_train(LatheModel *m, LatheValue loss, const LatheOptimizer *o) {
    LatheOptimizer defaults = {.kind = LATHE_SGD, .lr = 0.1};
    Value *v = dsl_value(loss);
    if (v != NULL) model_enter(m, add_part, &(TrainRequest){v, o != NULL ? o : &defaults});
}

void dsl_train_candidates(LatheModel *m) {
    TrainSpec *spec = m->m->train;
    const Builder *b = m->builder;
    for (uint32_t i = 0; spec != NULL && b != NULL && i < b->params.n; i++) {
        const DslParam *p = &b->params.v[i];
        TrainCandidate c = {p->value, p->init, p->loaded || p->value->type->dtype != DT_F32};
        vec_push(&m->cx.arena, &spec->candidate, c);
    }
}

/* ---- losses --------------------------------------------------------------------------------------------------------- */
LatheValue lathe_detach(LatheValue x) { return dsl_unary(OP_StopGradient, x); }

/* What a softmax over the classes was computed from: cross-entropy has its own, and the model may end with one. */
static LatheValue before_softmax(LatheValue y) {
    const Value *v = dsl_value(y);
    if (v == NULL || v->def == NULL || (v->def->op != OP_Softmax && v->def->op != OP_LogSoftmax)) return y;
    int64_t axis = attr_i(v->def, v->def->op == OP_Softmax ? AT_Softmax_axis : AT_LogSoftmax_axis);
    if (axis < 0) axis += v->type->rank;
    return axis == 1 ? dsl_handle(y.model, v->def->in[0]) : y;
}

static LatheValue class_loss(LatheValue logits, LatheValue labels, bool has_ignore, int64_t ignore) {
    if (!dsl_check_rank(logits, OP_SoftmaxCrossEntropyLoss, NULL, 2, RANK_MAX, "[N,C] or [N,C,…]")) return (LatheValue){0};
    DslNode spec = {.op = OP_SoftmaxCrossEntropyLoss, .n_in = 2, .in = (LatheValue[]){before_softmax(logits), labels}};
    if (has_ignore) dsl_int(&spec, AT_SoftmaxCrossEntropyLoss_ignore_index, ignore);
    return dsl_node(logits.model, &spec);
}

LatheValue lathe_cross_entropy(LatheValue logits, LatheValue labels) { return class_loss(logits, labels, false, 0); }
LatheValue lathe_cross_entropy_ignore(LatheValue logits, LatheValue labels, int64_t ignore) { return class_loss(logits, labels, true, ignore); }
