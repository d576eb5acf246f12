/* Learning rates as functions of the step, in double: a handful of scalar operations a step.
 *
 *     cosine, warmup w, end n:   s < w: lr (s + 1) / w     else lr (floor + (1 - floor) (1 + cos(pi u)) / 2), u = min((s - w) / (n - w), 1) */
#include <math.h>

#include "passes/train/train.h"

static Value *op2(TrainBuilder *b, Op op, Value *x, Value *y) { return build2(b->m, b->at, op, x, y); }

/* How far the decay has come, 0..1; s counts from 0. */
static Value *progress(TrainBuilder *b, Value *s, const LatheSchedule *o) {
    double length = (double)(o->steps > o->warmup ? o->steps - o->warmup : 1);
    Value *u = op2(b, OP_Div, op2(b, OP_Sub, s, train_f64(b, (double)o->warmup)), train_f64(b, length));
    return op2(b, OP_Max, op2(b, OP_Min, u, train_f64(b, 1)), train_f64(b, 0));
}

static Value *decayed(TrainBuilder *b, Value *s, const LatheSchedule *o) {
    Value *u;
    switch (o->kind) {
    case LATHE_CONSTANT: return train_f64(b, 1);
    case LATHE_STEP:
        u = op2(b, OP_Max, op2(b, OP_Sub, s, train_f64(b, (double)o->warmup)), train_f64(b, 0));
        u = build1(b->m, b->at, OP_Floor, op2(b, OP_Div, u, train_f64(b, (double)(o->every > 0 ? o->every : 1))));
        return op2(b, OP_Pow, train_f64(b, o->factor != 0 ? o->factor : 0.1), u);
    case LATHE_LINEAR: return op2(b, OP_Sub, train_f64(b, 1), op2(b, OP_Mul, progress(b, s, o), train_f64(b, 1 - o->floor)));
    case LATHE_COSINE:
        u = build1(b->m, b->at, OP_Cos, op2(b, OP_Mul, progress(b, s, o), train_f64(b, M_PI)));
        u = op2(b, OP_Mul, op2(b, OP_Add, u, train_f64(b, 1)), train_f64(b, (1 - o->floor) / 2));
        return op2(b, OP_Add, u, train_f64(b, o->floor));
    }
    return train_f64(b, 1);
}

Value *train_rate(TrainBuilder *b) {
    const LatheSchedule *o = &b->o->schedule;
    Value *lr = train_f64(b, b->o->lr);
    if (o->kind == LATHE_CONSTANT && o->warmup <= 0) return lr;
    Value *factor = decayed(b, op2(b, OP_Sub, b->step, train_f64(b, 1)), o);
    if (o->warmup > 0) {
        Value *up = op2(b, OP_Div, b->step, train_f64(b, (double)o->warmup));
        factor = build3(b->m, b->at, OP_Where, op2(b, OP_Less, up, train_f64(b, 1)), up, factor);
    }
    return op2(b, OP_Mul, lr, factor);
}
