/* Building a plan: shared between the plain walk (lower_plan.c) and control flow (lower_control.c). */
#ifndef LATHE_PASSES_BUILD_PLAN_H
#define LATHE_PASSES_BUILD_PLAN_H
#include "ir/plan.h"
#include "passes/lower.h"

typedef struct PlanBuilder {
    Module *m;
    Plan *plan;
    struct { /* distinct kernels so far */
        uint64_t *hash;
        const char **text;
        VEC(Kernel *) list;
        uint32_t cap;
    } kernels;
    const uint32_t *masks; /* by node id of main: the entries that run it (ir/state.h) */
    uint32_t entries;      /* of the node being lowered */
    const uint64_t *room;  /* by node id of main: scratch_rooms */
} PlanBuilder;

typedef Step **StepTail; /* where the next step of a list goes */

Step *plan_step(PlanBuilder *b, StepTail *tail, StepKind kind, Node *n, uint32_t n_value, Value *const *value);
bool plan_lower_node(PlanBuilder *b, StepTail *tail, Node *n);   /* one node that computes by a kernel */
bool plan_lower_graph(PlanBuilder *b, StepTail *tail, Graph *g); /* all nodes; false after diagnostics */
bool plan_lower_if(PlanBuilder *b, StepTail *tail, Node *n);
bool plan_lower_loop(PlanBuilder *b, StepTail *tail, Node *n);
bool plan_lower_scan(PlanBuilder *b, StepTail *tail, Node *n);

/* By node id of main: bytes of scratch memory that leave the largest moment of the run the largest (passes/scratch_room.c). Scratch memory itself. */
uint64_t *scratch_rooms(Module *m);

#endif
