/* Shared by passes/train.c and the files of passes/train/: building the graph of one training step.
 *
 * All nodes go before `at`, a placeholder at the end of main, whose loc names what is being built. */
#ifndef LATHE_PASSES_TRAIN_H
#define LATHE_PASSES_TRAIN_H
#include "ir/train.h"

/* Positions in main->out: outputs of the caller as they are; new contents of states are appended last of all, until then
 * they are TRAIN_STATE + k. */
enum { TRAIN_STATE = 1 << 30 };
typedef VEC(Value *) TrainValues;

/* What one update is made for: a parameter, or this process's part of a bucket of them (passes/train/shard.c; no state of its own then). */
typedef struct TrainParam { Value *value; uint32_t state; double lr; bool no_decay; Value *gradient; const char *name; Value *updated; } TrainParam;
typedef VEC(TrainParam) TrainParams;
typedef struct TrainBucket { TrainParams param; uint64_t bytes; Value *pending; } TrainBucket;

typedef struct TrainBuilder {
    Module *m;
    Node *at;
    const LatheOptimizer *o;
    const char *prefix;      /* of the names of this part: "" or "generator/" */
    TrainParams param;
    VEC(TrainBucket) bucket; /* with a divided state: the parameters that the entries of param are parts of */
    TrainValues *contents;   /* new contents of states, of all parts */
    VEC(uint32_t) outputs;   /* that belong to the entry being built */
    Value *step;             /* f64: number of the step, from 1 */
    Value *factor;           /* f32: of every gradient before use; NULL: 1 */
    Value *checked;          /* the loss: nothing is written when it is not finite */
    Value *norm;             /* of all gradients; NULL: not needed */
    Value *share;            /* f32: 1 / number of processes; NULL: there is one */
} TrainBuilder;

/* Nodes before at. */
Value *train_f32(TrainBuilder *b, double x);
Value *train_f64(TrainBuilder *b, double x);
Value *train_cast(TrainBuilder *b, Value *x, DType to);
/* v is the new contents of state s after this part's step. */
void train_set_state(TrainBuilder *b, uint32_t state, Value *v);
uint32_t train_new_state(TrainBuilder *b, const char *kind, const char *of, StateRole role, const Type *type, double first);

/* passes/train/schedule.c: the learning rate as f64, of step b->step. */
Value *train_rate(TrainBuilder *b);
/* passes/train/optimizer.c: one update for each entry of b->param, whose gradients are there. train_new_weights: w is what the update
 * made of the parameter p. */
void train_updates(TrainBuilder *b);
void train_new_weights(TrainBuilder *b, const TrainParam *p, Value *w);

/* passes/train/exchange.c, for several processes: sends the loss; later gives its mean over all of them and sets b->share; makes
 * the gradients of b's parameters the sums over all processes. */
Value *train_share_loss(TrainBuilder *b, Value *loss);
Value *train_shared_loss(TrainBuilder *b, Value *pending);
void train_share_gradients(TrainBuilder *b);
/* The sum over all processes of a number; a process that failed before sends NaN. */
Value *train_share_sum(TrainBuilder *b, Value *x);

/* passes/train/exchange.c, messages: before at, x as a row; the elements of a row from `from` on as a tensor; a node; where to put what
 * needs all of x. */
Value *train_flat(TrainBuilder *b, Node *at, Value *x);
Value *train_cut(TrainBuilder *b, Value *row, int64_t from, const Type *type);
Node *train_message(TrainBuilder *b, Node *at, Op op, uint32_t n_in, Value *const *in);
uint64_t train_bucket_bytes(const TrainBuilder *b);
Node *train_behind(TrainBuilder *b, const uint32_t *position, uint32_t n, Value *const *x); /* position: train_positions */
uint32_t *train_positions(TrainBuilder *b);

/* passes/train/shard.c: b->param become this process's parts of buckets of parameters; the weights of all of them after the updates. */
void train_scatter_gradients(TrainBuilder *b);
void train_gather_weights(TrainBuilder *b);

/* The forward pass as recomputation sees it. */
typedef struct TrainForward {
    Module *m;
    uint32_t n_node, n_value; /* there were when the arrays were made */
    uint32_t *segment;        /* by node id: + 1; 0: no part of the forward pass */
    uint32_t last;            /* the segment that is not recomputed */
    bool *kept;               /* by value id */
} TrainForward;

/* passes/train/recompute.c: the nodes from first up to end read recomputed values of the forward pass (by node id), which is cut into
 * so many segments; 0: only what costs next to nothing is computed again, 1: nothing. */
void train_recompute(Module *m, const bool *forward, Node *first, Node *end, uint32_t segments);
bool train_is_forward(const TrainForward *f, const Node *n);
bool train_repeatable(const Node *n);
uint64_t train_bytes(Context *cx, const Value *v);
bool train_is_small(Context *cx, const Value *v); /* not worth any effort */

/* passes/train/cheap.c: takes values that are cheap to compute again out of kept. Has the gradient of n, a normalisation, most of its first output? That output
 * for n's operand x, before at, so that it is shared. */
void train_find_cheap(const TrainForward *f);
bool train_shares_norm(const Node *n, const bool *kept);
Value *train_norm_again(Module *m, Node *at, Node *n, Value *x);

/* passes/train/keep.c: what the nodes in front of end need of the forward pass (forward, by id of the first n_node nodes) is kept in fewer bytes. */
void train_keep(Module *m, const bool *forward, uint32_t n_node, Node *end);
bool train_compares(const Node *n, const Value *v); /* is it v with a number, and the result as large as v? */

#endif
