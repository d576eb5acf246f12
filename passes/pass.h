/* The pass runner. A pass is a function from a module to "did I change anything"; problems go to the context.
 * Passes talk to each other through the IR only: no pass keeps state for a later one. */
#ifndef LATHE_PASSES_PASS_H
#define LATHE_PASSES_PASS_H
#include "ir/graph.h"

typedef bool PassFn(Context *cx, Module *m);
typedef enum PassLevel { LEVEL_GRAPH, LEVEL_PLAN } PassLevel;
typedef enum PassWhen { WHEN_ALWAYS, WHEN_OPT } PassWhen;
typedef struct PassInfo {
    const char *name, *purpose;
    PassLevel level;
    PassWhen when;
    PassFn *run;
} PassInfo;

const PassInfo *pass_list(uint32_t *n);            /* in pipeline order */
const PassInfo *pass_find(const char *name);       /* NULL if there is none */
bool pass_enabled(const Module *m, const char *name); /* by m->options: opt_level and disable list */
/* Runs one pass: times it, verifies after it when options say so, dumps after it when asked, resets scratch memory.
 * False when the module has errors afterwards. */
bool pass_run(Module *m, const PassInfo *pass);
/* Every enabled pass in order; stops at the first one that leaves errors. */
bool pass_run_pipeline(Module *m);

#define PASS(name, level, when, purpose) PassFn pass_##name;
#include "passes/passes.def"
#undef PASS

#endif
