/* The memory plan and its checker: a right plan passes, and each way of breaking it is found. */
#include <stdio.h>

#include "ir/plan.h"
#include "lathe.h"
#include "passes/pass.h"

static Context cx;
static Module *m;

/* Softmax does not work in place, so three values live at different times; the loop carries one. */
static const char model[] =
    "graph @main(%x: f32[16,16], %n: i64[]) -> (%y) {\n"
    "    %a = Softmax(%x)\n"
    "    %b = Softmax(%a)\n"
    "    %go = const bool[] [1]\n"
    "    %c = Loop(%n, %go, %b) {\n"
    "        body = graph @body(%i: i64[], %g: bool[], %s: f32[16,16]) -> (%g, %t) {\n"
    "            %r = Softmax(%s)\n"
    "            %t = Softmax(%r)\n"
    "        }\n"
    "    }\n"
    "    %d = Softmax(%a)\n"
    "    %y = Add(%c, %d)\n"
    "}\n";

static bool build(void) {
    static const LatheOptions options = {.opt_level = 0};
    m = module_parse(&cx, "model", model, sizeof model - 1);
    if (m == NULL) return false;
    m->options = &options;
    return pass_run_pipeline(m);
}

static Value *find(const Step *s, const char *name) {
    for (; s != NULL; s = s->next) {
        for (uint32_t i = 0; i < s->n_value; i++)
            if (s->value[i] != NULL && s->value[i]->name != 0 && strcmp(str_text(&cx, s->value[i]->name), name) == 0) return s->value[i];
        Value *inner = find(s->body, name);
        if (inner != NULL) return inner;
    }
    return NULL;
}

/* Moves value `moved` onto value `onto` and expects the checker to object. */
static int broken_by(const char *moved, const char *onto) {
    Plan *p = m->plan;
    Value *a = find(p->first, moved), *b = find(p->first, onto);
    if (a == NULL || b == NULL) return printf("%s or %s is not in the plan\n", moved, onto), 1;
    BufRef saved = p->ref[a->id];
    uint32_t errors = cx.n_error;
    p->ref[a->id].offset = p->ref[b->id].offset;
    bool found = !plan_check_overlap(&cx, p) && cx.n_error > errors;
    p->ref[a->id] = saved;
    cx.n_error = errors;
    if (!found) printf("%s on top of %s was not found\n", moved, onto);
    return !found;
}

int main(void) {
    jmp_buf escape;
    context_init(&cx);
    cx.escape = &escape;
    if (setjmp(escape) != 0) return printf("%s\n", cx.internal_error), 1;
    if (!build()) {
        Writer w = {.arena = &cx.arena};
        diag_print(&cx, &w);
        return printf("%s\n", cw_cstr(&w)), 1;
    }
    int failed = !plan_check_overlap(&cx, m->plan);
    if (failed) printf("the right plan does not pass\n");
    failed |= m->plan->arena_bytes < m->plan->lower_bound;
    failed |= broken_by("b", "a");  /* a is read again behind the loop */
    failed |= broken_by("s", "a");  /* the carried value destroys a */
    failed |= broken_by("r", "s");  /* arguments of one kernel that does not work in place */
    failed |= broken_by("r", "a");  /* inside of the loop, a value from outside */
    failed |= broken_by("d", "c");  /* both are read by the last step */
    PlanBuffer *first = &m->plan->buffer[0]; /* and the list of lifetimes is checked by itself */
    uint64_t saved = first->offset;
    first->offset = m->plan->arena_bytes;
    failed |= plan_check_overlap(&cx, m->plan);
    first->offset = saved + 1;
    failed |= plan_check_overlap(&cx, m->plan);
    printf("%s\n", failed ? "FAILED" : "ok");
    context_free(&cx);
    return failed;
}
