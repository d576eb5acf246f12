/* What a module that trains has beyond a function from inputs to outputs: values that stay between calls, and several
 * entry points.
 *
 *     state %w: f32[784,10]                      the caller's state buffer holds w; main has it as one of its last inputs
 *     %w1 = Sub(%w, %update) : f32[784,10]       and its new contents as one of its last outputs, written in place
 *     entry train_step = (%loss, %w1)            one emitted function per entry: it runs the nodes its outputs need
 *
 * All entries share one graph, one order of nodes, and one arena: an entry runs a part of the plan's steps in their order. */
#ifndef LATHE_IR_STATE_H
#define LATHE_IR_STATE_H
#include "ir/graph.h"
#include "lathe.h"

typedef enum StateRole { STATE_PARAMETER, STATE_STATISTIC, STATE_SLOT, STATE_COUNTER, STATE_RANDOM } StateRole; /* RANDOM: the key of the next call's random numbers, starts at the seed */
typedef struct State {
    Str name;              /* in checkpoints */
    StateRole role;
    const Value *first;    /* a constant with its first contents; NULL: `init` says them */
    LatheInit init;        /* CONSTANT for everything but parameters */
    uint32_t same_as;      /* not 0: starts as a copy of state same_as - 1, which stands before it */
    bool own;              /* every process has other contents: its part of what the optimizer keeps */
    uint64_t offset;       /* in the state buffer: set by plan_memory */
} State;

typedef struct Entry {
    Str name;              /* NAME_<name> */
    const char *purpose;   /* the comment above its declaration */
    const uint32_t *out;   /* positions in main->out, state outputs included */
    uint32_t n_out;
    uint32_t after;        /* bit set: continues these entries; nodes that they run are not run again */
    const uint32_t *calls; /* not NULL: it runs these entries one after the other instead (n_calls) */
    uint32_t n_calls;
    uint32_t every, batches; /* with calls: the last of them only when the i64 state `batches` has come to `every` */
} Entry;
enum { ENTRY_MAX = 32 };

/* main->in ends with the states, in order; main->out ends with new contents, state_out says of which state each. */
Value *state_in(const Module *m, uint32_t i);
uint32_t module_caller_in(const Module *m);  /* inputs and outputs that are the caller's */
uint32_t module_caller_out(const Module *m);
/* A new state, as the last input of main. */
uint32_t state_add(Module *m, Str name, StateRole role, const Type *type, LatheInit init, const Value *first);
/* The constant v becomes a state whose first contents it was: every reader of v reads the state. */
uint32_t state_from_constant(Module *m, Value *v, StateRole role, const LatheInit *init);

/* Glorot and Kaiming as the uniform or normal they are for this shape; others as they are. weight [in, out] has fan in = in,
 * [out, in, kernel…] has fan in = in * kernel elements. */
LatheInit init_resolve(LatheInit init, uint32_t rank, const int64_t *shape);

/* By node id: bit set of the entries that run a node of main. All 1 when the module has no entries. Scratch memory. */
uint32_t *entry_masks(Module *m);
/* The entries that output i of main belongs to. */
uint32_t entry_owners(const Module *m, uint32_t output);
/* By input of main: the entries that read it. Scratch memory. */
uint32_t *entry_inputs(Module *m);

#endif
