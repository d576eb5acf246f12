/* The text of plans: plan_print. Steps in order, where each value lives once memory is planned, then every kernel.
 *
 *     plan: 2 steps, 2 kernels, arena 18432 bytes (at least 16384), weights 4096 bytes, alignment 64 {
 *         kernel k0_nonzero("x": f32[4] @ input 0, %7: i64[1,nz_1] @ arena 0, %8: i64[] @ arena 64)
 *         dim nz_1 = (%8: i64[] @ arena 64)
 *     }
 */
#include "ir/plan.h"

static void print_value(Module *m, Writer *w, const Value *v) {
    static const char *const space[] = {[SPACE_NONE] = "nowhere", [SPACE_INPUT] = "input", [SPACE_OUTPUT] = "output", [SPACE_WEIGHT] = "weight", [SPACE_ARENA] = "arena", [SPACE_STATE] = "state"};
    Context *cx = m->cx;
    if (v == NULL) {
        cw_printf(w, "_");
        return;
    }
    if (v->name != 0) cw_string(w, str_text(cx, v->name), str_size(cx, v->name));
    else cw_printf(w, "%%%u", v->id);
    cw_printf(w, ": ");
    type_print(cx, w, v->type);
    if (m->plan->ref == NULL) return;
    BufRef r = m->plan->ref[v->id];
    cw_printf(w, " @ %s", r.space == SPACE_ARENA && r.offset < m->plan->fast_bytes ? "fast" : space[r.space]);
    if (r.space == SPACE_INPUT || r.space == SPACE_OUTPUT) cw_printf(w, " %u", r.index);
    if (r.space == SPACE_ARENA && r.offset >= m->plan->fast_bytes) r.offset -= m->plan->fast_bytes;
    if (r.space == SPACE_WEIGHT || r.space == SPACE_ARENA || r.space == SPACE_STATE) cw_printf(w, " %llu", (unsigned long long)r.offset);
}

static void print_values(Module *m, Writer *w, const Step *s) {
    cw_printf(w, "(");
    for (uint32_t i = 0; i < s->n_value; i++) {
        cw_printf(w, "%s", i != 0 ? ", " : "");
        print_value(m, w, s->value[i]);
    }
    cw_printf(w, ")");
}

static void print_steps(Module *m, Writer *w, const Step *s);

static void print_blocks(Module *m, Writer *w, const Step *s) {
    w->indent++;
    print_steps(m, w, s->body);
    w->indent--;
    if (s->orelse == NULL) return;
    cw_line(w, "else");
    w->indent++;
    print_steps(m, w, s->orelse);
    w->indent--;
}

static void print_step(Module *m, Writer *w, const Step *s) {
    static const char *const word[] = {[STEP_KERNEL] = "kernel ", [STEP_DIM] = "dim ", [STEP_LET] = "let ", [STEP_COPY] = "copy ", [STEP_GATE] = "gate ", [STEP_EXCHANGE] = "exchange ", [STEP_ARRIVE] = "arrive ", [STEP_IF] = "if ", [STEP_LOOP] = "loop "};
    cw_begin(w);
    cw_printf(w, "%s", word[s->kind]);
    if (s->kind == STEP_KERNEL) cw_printf(w, "%s", str_text(m->cx, s->kernel->name));
    if (s->kind == STEP_DIM || s->kind == STEP_LET) {
        dim_print(m->cx, w, s->symbol);
        cw_printf(w, " = ");
    }
    if (s->kind == STEP_LET) dim_print(m->cx, w, s->dim);
    else print_values(m, w, s);
    cw_printf(w, "\n");
    if (s->kind == STEP_IF || s->kind == STEP_LOOP) print_blocks(m, w, s);
}

static void print_steps(Module *m, Writer *w, const Step *s) {
    for (; s != NULL; s = s->next) print_step(m, w, s);
}

void plan_print(Module *m, Writer *w) {
    const Plan *p = m->plan;
    cw_printf(w, "plan: %u steps, %u kernels", p->n_step, p->n_kernel);
    if (p->ref != NULL)
        cw_printf(w, ", arena %llu bytes (at least %llu), weights %llu bytes, alignment %u", (unsigned long long)p->arena_bytes,
                  (unsigned long long)p->lower_bound, (unsigned long long)p->weight_bytes, p->align);
    if (p->fast_bytes != 0) cw_printf(w, ", fast memory %llu bytes", (unsigned long long)p->fast_bytes);
    cw_printf(w, " {\n");
    w->indent++;
    print_steps(m, w, p->first);
    w->indent--;
    cw_line(w, "}");
    for (uint32_t i = 0; i < p->n_kernel; i++) {
        cw_text(w, "\n", 1);
        kernel_print(m->cx, w, p->kernel[i]);
    }
}
