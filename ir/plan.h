/* Level 3 of the IR: what codegen prints. Steps in order, every buffer with its place. Printing decides nothing. */
#ifndef LATHE_IR_PLAN_H
#define LATHE_IR_PLAN_H
#include "ir/kernel.h"

typedef enum Space { SPACE_NONE, SPACE_INPUT, SPACE_OUTPUT, SPACE_WEIGHT, SPACE_ARENA, SPACE_STATE } Space;
typedef struct BufRef {
    Space space;
    uint32_t index;   /* INPUT, OUTPUT: position in the graph's lists */
    uint64_t offset;  /* WEIGHT, ARENA, STATE: bytes. ARENA: those below Plan.fast_bytes are in the fast memory, the arena begins behind it */
} BufRef;

typedef enum StepKind {
    STEP_KERNEL,  /* run kernel on value[] */
    STEP_DIM,     /* a data-dependent symbol becomes known: symbol = *(int64_t *)value[0]; outside its bounds: run-time error LATHE_RT_BOUND */
    STEP_LET,     /* symbol = dim, an expression over symbols known so far (checked against its bounds, too) */
    STEP_COPY,    /* value[1] = value[0]: the bytes of value[0]'s type, densely */
    STEP_GATE,    /* every thread waits; if any step so far failed, the call returns: states are written in place behind gates only */
    STEP_EXCHANGE, /* starts a message to all processes, of value[0] in place or from value[0] to value[1]: the operator of `node` says which */
    STEP_ARRIVE,  /* value[0] is what STEP_EXCHANGE of that value started; other values are kept until then */
    STEP_IF,      /* *(bool *)value[0] ? body : orelse */
    STEP_LOOP     /* iteration = 0; while ((value[0] == NULL || iteration < *(int64_t *)value[0]) && (value[1] == NULL || *(bool *)value[1])) {
                     *(int64_t *)value[2] = iteration; body; iteration++; }  then *(int64_t *)value[2] = iteration.
                     body updates *value[1] itself. Values defined before the loop and read in it, and values written in one
                     iteration and read in the next (carried ones are written by STEP_COPY into the same value), live
                     through the whole loop. More than symbol's upper bound iterations: LATHE_RT_BOUND (symbol 0: no check). */
} StepKind;

typedef struct Step Step;
struct Step {
    StepKind kind;
    Kernel *kernel;
    Value **value;        /* KERNEL: one per kernel argument; entries may be NULL for LOOP only */
    uint32_t n_value;
    Dim symbol;           /* DIM, LET, LOOP */
    Dim dim;              /* LET */
    Step *body, *orelse;  /* IF, LOOP: first steps */
    Step *next;
    Node *node;           /* where it came from; NULL for copies */
    const Node *const *joined; /* KERNEL: nodes before it whose kernels join_rows put into this one */
    uint32_t n_joined;
    const Node *const *checked; /* KERNEL: the nodes in it whose indices the run checks */
    uint32_t n_checked;
    uint32_t time;        /* position in program order, set by plan_memory */
    uint32_t entries;     /* top-level steps: bit set of the entries that run it (ir/state.h) */
};

/* One lifetime of arena memory, kept for reports and for the independent check. Times are inclusive. */
typedef struct PlanBuffer {
    Value *value;
    uint64_t bytes, offset;
    uint32_t first, last;
} PlanBuffer;

typedef struct PlanWeight { Value *value; uint64_t offset; } PlanWeight;

typedef struct Plan {
    Step *first;
    uint32_t n_step;
    BufRef *ref;                 /* by value id < n_ref: where each value lives */
    uint32_t n_ref;
    Value **alias;               /* by value id < n_alias: this value is the same bytes as that one (Reshape …), or NULL */
    uint32_t n_alias;            /* a graph output that is an alias of a graph input or constant needs a STEP_COPY */
    Kernel **kernel;             /* distinct kernels, in order of first use */
    uint32_t n_kernel;
    PlanBuffer *buffer;
    uint32_t n_buffer;
    PlanWeight *weight;
    uint32_t n_weight;
    uint64_t state_bytes;
    uint64_t fast_bytes;         /* of the fast memory, beside the arena; 0: there is none, or nothing in it */
    uint64_t arena_bytes, weight_bytes, lower_bound; /* lower_bound: largest sum of bytes alive at one time */
    uint32_t align;
    struct Plan *before;         /* of the same module for a plainer target, NULL: none. This plan's weights begin with its weights. */
    const struct Target *target; /* that it was made for; good for all that target_plans_alike */
} Plan;

Plan *plan_new(Module *m);
Value *plan_root(const Plan *p, const Value *v); /* the value whose memory v is another view of; v itself when it is none */
void plan_print(Module *m, Writer *w);
bool plan_check_overlap(Context *cx, const Plan *p); /* the independent checker: no two live buffers overlap; diag() if so */

#endif
