/* What a LatheModel is inside: one compilation (Context), its module, and how the last compile ended.
 * Included by api/ and by the DSL builder; nobody else sees it. */
#ifndef LATHE_API_MODEL_H
#define LATHE_API_MODEL_H
#include "include/lathe.h"
#include "ir/graph.h"

struct LatheModel {
    Context cx;
    Module *m;              /* never NULL after lathe_model_new; replaced by an import */
    bool dead;              /* an escape was taken: the arena may hold half-made objects, every further call fails */
    bool compiled;          /* lathe_compile ran: the module is at plan level */
    LatheOptions options;   /* of the running or last compile; module->options points here */
    LatheStats stats;
    struct PlanList *plan_list; /* api/plan_list.c: the plan as lists, NULL until somebody asks */
    LatheStagingHooks staging_hooks;
    struct Builder *builder; /* frontend/dsl.h: what the C DSL keeps; NULL until its first call */
};

/* The public entry of everything that may escape: runs body with cx->escape set. An escape (out of memory, a failed
 * internal check) kills the model and becomes a status; lathe_print_diagnostics tells the reason. Entries may nest.
 *
 *     static LatheStatus do_import(LatheModel *m, void *user) { … return LATHE_OK; }
 *     LatheStatus lathe_import_x(LatheModel *m, const char *path) { return model_enter(m, do_import, (void *)path); } */
typedef LatheStatus ModelBody(LatheModel *m, void *user);
LatheStatus model_enter(LatheModel *m, ModelBody *body, void *user);

/* LATHE_OK, or LATHE_ERROR_MODEL when the context has errors. */
LatheStatus model_status(const LatheModel *m);

/* api/options.c: checks options against each other and the model and stores them in m->options; all problems are
 * reported at once. LATHE_ERROR_USAGE when there are any. */
LatheStatus options_apply(LatheModel *m, const LatheOptions *options);
/* api/dims.c: --dim options; problems go to diag(). */
void dims_apply(LatheModel *m, const char *const *dims);
/* Gives every symbol of the caller that has no upper bound LATHE_DEFAULT_DIM_BOUND and a note that says so. */
void dims_bound(LatheModel *m);

/* api/output.c: a directory beside the output in which files are written before they appear under their names. */
typedef struct Staging { const char *dir, *c_path; const LatheStagingHooks *hooks; } Staging; /* c_path: the C file inside dir */
bool staging_open(LatheModel *m, const char *output, Staging *s); /* false after diag(): the place cannot be written */
bool staging_publish(LatheModel *m, Staging *s, const char *output); /* moves every file out; false after diag() */
void staging_discard(Staging *s); /* removes what is left; allocates nothing, so it also works after an escape */

/* api/flops.c: operations of the graph as it stands; types must be inferred. */
double count_flops(LatheModel *m);
double count_node_flops(const Context *cx, const Node *n); /* of one node; of all in the body of a Fused one */
/* api/cost.c: fills everything but flops and seconds from the plan. */
void stats_from_plan(LatheModel *m);
struct Kernel;
double kernel_traffic(const Context *cx, const struct Kernel *k); /* bytes of its arguments, at the upper bounds of dims */

#endif
