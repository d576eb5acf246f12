/* lathe compile --train: a model from a file gets a loss on its first output and an optimizer, through the C DSL. */
#include "driver/train.h"

#include <string.h>

const Option train_options[] = {
    {"--train", OPT_FLAG, NULL, "emit training functions: NAME_train_step, NAME_evaluate, NAME_predict, NAME_save, NAME_load", offsetof(Request, train.on)},
    {"--loss", OPT_CHOICE, "cross_entropy|bce_logits|mse|mae|huber", "of the model's first output against the new input \"target\" (default cross_entropy: class numbers)", offsetof(Request, train.loss)},
    {"--optimizer", OPT_CHOICE, "sgd|momentum|nesterov|adagrad|rmsprop|adam|adamw", "default sgd", offsetof(Request, train.optimizer)},
    {"--lr", OPT_REAL, "RATE", "learning rate (default 0.001)", offsetof(Request, train.lr)},
    {"--momentum", OPT_REAL, "M", "of momentum and nesterov (default 0.9)", offsetof(Request, train.momentum)},
    {"--weight-decay", OPT_REAL, "W", "adamw: decoupled (default 0.01), others: added to the gradient (default 0)", offsetof(Request, train.weight_decay)},
    {"--schedule", OPT_CHOICE, "constant|step|linear|cosine", "of the learning rate; linear and cosine fall to 0 at --steps, step by 10 every --steps", offsetof(Request, train.schedule)},
    {"--warmup", OPT_COUNT, "STEPS", "steps in which the learning rate rises", offsetof(Request, train.warmup)},
    {"--steps", OPT_COUNT, "STEPS", "length of the schedule", offsetof(Request, train.steps)},
    {"--clip", OPT_REAL, "NORM", "largest norm of all gradients together", offsetof(Request, train.clip)},
    {"--accumulate", OPT_COUNT, "N", "batches whose gradients are averaged for one step", offsetof(Request, train.accumulate)},
    {"--loss-scale", OPT_REAL, "S", "factor of the loss while it is differentiated", offsetof(Request, train.loss_scale)},
    {"--ema", OPT_REAL, "DECAY", "keep a moving average of the weights", offsetof(Request, train.ema)},
    {"--distributed", OPT_CHOICE, "local|mpi", "mpi: several processes with a part of the batch each, gradients averaged by MPI", offsetof(Request, train.distributed)},
    {"--shard-optimizer", OPT_COUNT, "N", "with --distributed mpi: N processes, each of which keeps its part of the optimizer's state (ZeRO-1)", offsetof(Request, train.shard_optimizer)},
    {"--separate", OPT_FLAG, NULL, "also emit NAME_forward, NAME_backward, NAME_step", offsetof(Request, train.separate)},
    {"--trainable", OPT_LIST, "NAME,…", "train these parameters only ('*' matches any text; may be repeated)", offsetof(Request, train.params)},
    {"--freeze", OPT_LIST, "NAME,…", "do not train these parameters (may be repeated)", offsetof(Request, train.freeze)},
    {0},
};

enum { LOSS_CROSS_ENTROPY, LOSS_BCE_LOGITS, LOSS_MSE, LOSS_MAE, LOSS_HUBER };

static const char *const *terminated(Driver *d, const Texts *list) {
    Texts copy = {0};
    if (list->n == 0) return NULL;
    for (uint32_t i = 0; i < list->n; i++) vec_push(&d->arena, &copy, list->v[i]);
    vec_push(&d->arena, &copy, NULL);
    return copy.v;
}

/* The labels of scores [N,C,d…] are [N,d…]; other targets look like the output. */
static LatheValue target_input(LatheModel *m, LatheValue y, bool classes) {
    LatheDim dim[LATHE_RANK_MAX];
    uint32_t rank = 0;
    for (uint32_t i = 0; i < lathe_rank(y); i++)
        if (!classes || i != 1) dim[rank++] = lathe_dim_of(y, i);
    return lathe_input(m, "target", classes ? LATHE_I64 : lathe_dtype(y), rank, dim);
}

static LatheValue loss_of(int kind, LatheValue y, LatheValue t) {
    switch (kind) {
    case LOSS_CROSS_ENTROPY: return lathe_cross_entropy(y, t);
    case LOSS_BCE_LOGITS: return lathe_bce_logits(y, t);
    case LOSS_MSE: return lathe_mse(y, t);
    case LOSS_MAE: return lathe_mae(y, t);
    default: return lathe_huber(y, t, 1);
    }
}

static LatheOptimizer optimizer_of(Driver *d, const TrainRequest *r) {
    LatheOptimizer o = {.kind = (LatheOptimizerKind)r->optimizer, .lr = r->lr != 0 ? r->lr : 1e-3, .momentum = r->momentum, .weight_decay = r->weight_decay,
                        .clip = r->clip, .accumulate = r->accumulate, .loss_scale = r->loss_scale, .ema = r->ema, .separate = r->separate};
    o.schedule = (LatheSchedule){.kind = (LatheScheduleKind)r->schedule, .warmup = r->warmup, .steps = r->steps, .every = r->steps};
    o.params = terminated(d, &r->params);
    o.freeze = terminated(d, &r->freeze);
    return o;
}

Exit train_prepare(Driver *d, const Request *r, LatheModel *m) {
    const TrainRequest *t = &r->train;
    if (!t->on) return DONE;
    LatheOptions o = {.opt_level = 2, .dims = terminated(d, &r->dims)};
    LatheStatus status = lathe_run_passes(m, "infer_shapes", &o);
    if (status != LATHE_OK) return driver_model_failed(d, m, status);
    if (lathe_output_count(m) == 0) {
        driver_error(d, "the model has no output whose loss could be trained");
        return DIFFERS;
    }
    LatheValue y = lathe_find(m, lathe_output_info(m, 0).name);
    LatheOptimizer optimizer = optimizer_of(d, t);
    lathe_train(m, loss_of(t->loss, y, target_input(m, y, t->loss == LOSS_CROSS_ENTROPY)), &optimizer);
    return lathe_error_count(m) == 0 ? DONE : driver_model_failed(d, m, LATHE_ERROR_MODEL);
}
