/* Optimizers as pointwise operators, which fusion makes one pass over each parameter, its slots and its gradient:
 *
 *     AdamW:   m' = b1 m + (1 - b1) g     v' = b2 v + (1 - b2) g²     w' = w (1 - lr wd) - (lr / c1) m' / (sqrt(v') / sqrt(c2) + eps)
 *
 * with c1 = 1 - b1^t, c2 = 1 - b2^t. What depends on the step only is computed once, in double. Formulas as in PyTorch's
 * documentation; slots start at 0. The scalars pass through a Guard: no update runs when the loss is not finite. */
#include <math.h>

#include "passes/train/train.h"

typedef struct Rates { /* f32 scalars of one learning rate factor */
    double factor;
    Value *lr, *size;     /* size: lr / c1, Adam's */
    Value *root;          /* 1 / sqrt(c2) */
} Rates;

typedef struct Updates { TrainBuilder *b; Value *rate; VEC(Rates) rates; } Updates;

static Value *op1(TrainBuilder *b, Op op, Value *x) { return build1(b->m, b->at, op, x); }
static Value *op2(TrainBuilder *b, Op op, Value *x, Value *y) { return build2(b->m, b->at, op, x, y); }
static Value *times(TrainBuilder *b, Value *x, double c) { return op2(b, OP_Mul, x, train_f32(b, c)); }
static double or_default(double x, double fallback) { return x != 0 ? x : fallback; }
static bool is_adam(const LatheOptimizer *o) { return o->kind == LATHE_ADAM || o->kind == LATHE_ADAMW; }
static double beta1(const LatheOptimizer *o) { return or_default(o->beta1, 0.9); }
static double beta2(const LatheOptimizer *o) { return or_default(o->beta2, o->kind == LATHE_RMSPROP ? 0.99 : 0.999); }
static double epsilon(const LatheOptimizer *o) { return or_default(o->epsilon, o->kind == LATHE_ADAGRAD ? 1e-10 : 1e-8); }

static Value *guarded(TrainBuilder *b, Value *x) {
    Value *in[3] = {x, b->checked, b->norm};
    Node *n = node_new(b->m, b->m->main, b->at, OP_Guard, b->norm != NULL ? 3 : 2, in, 1);
    n->loc = b->at->loc;
    node_infer(b->m, n);
    return n->out[0];
}

/* 1 - beta^t */
static Value *correction(TrainBuilder *b, double beta) {
    return op2(b, OP_Sub, train_f64(b, 1), op2(b, OP_Pow, train_f64(b, beta), b->step));
}

static const Rates *rates_for(Updates *u, double factor) {
    TrainBuilder *b = u->b;
    for (uint32_t i = 0; i < u->rates.n; i++)
        if (u->rates.v[i].factor == factor) return &u->rates.v[i];
    Rates r = {.factor = factor};
    Value *lr = factor == 1 ? u->rate : op2(b, OP_Mul, u->rate, train_f64(b, factor));
    if (is_adam(b->o)) {
        r.size = guarded(b, train_cast(b, op2(b, OP_Div, lr, correction(b, beta1(b->o))), DT_F32));
        Value *c2 = op1(b, OP_Sqrt, correction(b, beta2(b->o)));
        r.root = train_cast(b, op2(b, OP_Div, train_f64(b, 1), c2), DT_F32);
        r.lr = train_cast(b, lr, DT_F32);
    } else {
        r.lr = guarded(b, train_cast(b, lr, DT_F32));
    }
    vec_push(&b->m->cx->scratch, &u->rates, r);
    return &u->rates.v[u->rates.n - 1];
}

/* A slot of the parameter: its state, and its contents before the step. */
static Value *slot(TrainBuilder *b, const TrainParam *p, const char *kind, uint32_t *state) {
    *state = train_new_state(b, kind, p->name, STATE_SLOT, p->value->type, 0);
    b->m->state[*state].own = b->bucket.n != 0;
    return state_in(b->m, *state);
}

/* decay x + (1 - decay) y, kept as the new contents of the slot. */
static Value *average(TrainBuilder *b, const TrainParam *p, const char *kind, double decay, Value *y) {
    uint32_t s;
    Value *x = slot(b, p, kind, &s);
    Value *mean = op2(b, OP_Add, times(b, x, decay), times(b, y, 1 - decay));
    train_set_state(b, s, mean);
    return mean;
}

static Value *momentum(TrainBuilder *b, const TrainParam *p, Value *g) {
    uint32_t s;
    double mu = or_default(b->o->momentum, 0.9);
    Value *v = op2(b, OP_Add, times(b, slot(b, p, "momentum", &s), mu), g);
    train_set_state(b, s, v);
    return b->o->kind == LATHE_NESTEROV ? op2(b, OP_Add, g, times(b, v, mu)) : v;
}

/* size num / (sqrt(square) root + eps) */
static Value *normalised(TrainBuilder *b, Value *size, Value *num, Value *square, Value *root) {
    Value *den = op1(b, OP_Sqrt, square);
    if (root != NULL) den = op2(b, OP_Mul, den, root);
    den = op2(b, OP_Add, den, train_f32(b, epsilon(b->o)));
    return op2(b, OP_Mul, size, op2(b, OP_Div, num, den));
}

/* What is subtracted from the parameter. */
static Value *change(TrainBuilder *b, const TrainParam *p, const Rates *r, Value *g) {
    const LatheOptimizer *o = b->o;
    uint32_t s;
    Value *sum;
    switch (o->kind) {
    case LATHE_SGD: return op2(b, OP_Mul, r->lr, g);
    case LATHE_MOMENTUM: case LATHE_NESTEROV: return op2(b, OP_Mul, r->lr, momentum(b, p, g));
    case LATHE_ADAGRAD:
        sum = op2(b, OP_Add, slot(b, p, "square", &s), op2(b, OP_Mul, g, g));
        train_set_state(b, s, sum);
        return normalised(b, r->lr, g, sum, NULL);
    case LATHE_RMSPROP: return normalised(b, r->lr, g, average(b, p, "square", beta2(o), op2(b, OP_Mul, g, g)), NULL);
    case LATHE_ADAM: case LATHE_ADAMW: {
        Value *m = average(b, p, "mean", beta1(o), g), *v = average(b, p, "square", beta2(o), op2(b, OP_Mul, g, g));
        return normalised(b, r->size, m, v, r->root);
    }
    }
    return g;
}

static Value *update(Updates *u, const TrainParam *p) {
    TrainBuilder *b = u->b;
    const LatheOptimizer *o = b->o;
    b->at->loc = (Loc){.op = str_intern(b->m->cx, "update"), .node = str_intern(b->m->cx, p->name)};
    const Rates *r = rates_for(u, p->lr);
    double decay = p->no_decay ? 0 : o->kind == LATHE_ADAMW ? or_default(o->weight_decay, 0.01) : o->weight_decay;
    Value *w = p->value, *g = p->gradient;
    if (b->factor != NULL) g = op2(b, OP_Mul, g, b->factor);
    if (decay != 0 && o->kind == LATHE_ADAMW) w = op2(b, OP_Mul, w, op2(b, OP_Sub, train_f32(b, 1), times(b, r->lr, decay)));
    else if (decay != 0) g = op2(b, OP_Add, g, times(b, w, decay));
    return op2(b, OP_Sub, w, change(b, p, r, g));
}

void train_new_weights(TrainBuilder *b, const TrainParam *p, Value *w) {
    const LatheOptimizer *o = b->o;
    train_set_state(b, p->state, w);
    if (o->ema == 0) return;
    uint32_t s = train_new_state(b, "average", p->name, STATE_SLOT, p->value->type, 0);
    b->m->state[s].first = b->m->state[p->state].first; /* it starts where the weights start */
    b->m->state[s].init = b->m->state[p->state].init;
    b->m->state[s].same_as = p->state + 1;
    train_set_state(b, s, op2(b, OP_Add, times(b, state_in(b->m, s), o->ema), times(b, w, 1 - o->ema)));
}

void train_updates(TrainBuilder *b) {
    Updates u = {.b = b, .rate = train_rate(b)};
    for (uint32_t i = 0; i < b->param.n; i++) {
        TrainParam *p = &b->param.v[i];
        p->updated = update(&u, p);
        if (b->bucket.n == 0) train_new_weights(b, p, p->updated);
    }
}
