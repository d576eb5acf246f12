/* The plan of a compiled model as two lists, for people and programs that want to see it: steps and arena buffers.
 *
 *     step 3   conv_relu   Conv f32[1,64,56,56] "conv1", Relu …   231 M flop   1.7 MB
 *     buffer   conv1       f32[1,64,56,56]   [0, 802816)   steps 3 to 5 */
#include "api/model.h"
#include "ir/plan.h"
#include "passes/choice.h"

typedef VEC(LathePlanStep) Steps;

struct PlanList {
    Steps steps;
    LathePlanBuffer *buffer;
};

static const char *control_text(StepKind kind) {
    switch (kind) {
    case STEP_KERNEL: return "kernel";
    case STEP_DIM: case STEP_LET: return "size";
    case STEP_COPY: return "copy";
    case STEP_GATE: return "gate";
    case STEP_EXCHANGE: return "exchange";
    case STEP_ARRIVE: return "arrive";
    case STEP_IF: return "if";
    case STEP_LOOP: return "loop";
    }
    return "";
}

/* A node may take several kernels (padding, transforms): its operations count where its result is written. */
static bool makes_result(const Step *s) {
    if (s->node == NULL || s->kernel == NULL || s->node->n_out == 0) return false;
    for (uint32_t i = 0; i < s->n_value; i++)
        if (s->value[i] != NULL && s->value[i] == s->node->out[0] && s->kernel->buf[i].kind != BUF_IN) return true;
    return false;
}

static void list_steps(LatheModel *m, struct PlanList *list, const Step *s, uint32_t depth) {
    Context *cx = &m->cx;
    for (; s != NULL; s = s->next) {
        LathePlanStep step = {.kernel = control_text(s->kind), .what = "", .choice_key = "", .time = s->time, .depth = depth};
        if (s->kernel != NULL) {
            step.kernel = str_text(cx, s->kernel->name);
            step.what = str_text(cx, s->kernel->comment);
            step.bytes = kernel_traffic(cx, s->kernel);
            step.flops = makes_result(s) ? count_node_flops(cx, s->node) : 0;
            for (uint32_t i = 0; i < s->n_joined; i++) step.flops += count_node_flops(cx, s->joined[i]);
            if (s->kernel->choices != 0) step.choice_key = str_text(cx, s->kernel->choice_key);
            step.choices = s->kernel->choices;
        } else if (s->kind == STEP_COPY) {
            step.bytes = 2 * (double)dtype_bytes(cx, s->value[0]->type->dtype, dim_hi(cx, type_numel(cx, s->value[0]->type)));
        } else if (s->node != NULL && s->node->loc.node != 0) {
            step.what = str_text(cx, s->node->loc.node);
        }
        vec_push(&cx->arena, &list->steps, step);
        list_steps(m, list, s->body, depth + 1);
        list_steps(m, list, s->orelse, depth + 1);
    }
}

static const char *value_name(Context *cx, const Value *v) {
    if (v->name != 0) return str_text(cx, v->name);
    if (v->def != NULL && v->def->loc.node != 0) return str_text(cx, v->def->loc.node);
    return v->def != NULL ? op_info(v->def->op)->name : "scratch";
}

static LatheStatus list_plan(LatheModel *m, void *user) {
    (void)user;
    Context *cx = &m->cx;
    const Plan *p = m->m->plan;
    struct PlanList *list = ARENA_NEW(&cx->arena, struct PlanList);
    list_steps(m, list, p->first, 0);
    list->buffer = ARENA_ARRAY(&cx->arena, LathePlanBuffer, p->n_buffer);
    for (uint32_t i = 0; i < p->n_buffer; i++) {
        const PlanBuffer *b = &p->buffer[i];
        Writer type = {.arena = &cx->arena};
        type_print(cx, &type, b->value->type);
        list->buffer[i] = (LathePlanBuffer){value_name(cx, b->value), cw_cstr(&type), b->offset, b->bytes, b->first, b->last};
    }
    m->plan_list = list;
    return LATHE_OK;
}

static const struct PlanList *listed(LatheModel *m) {
    if (m->m == NULL || m->m->plan == NULL) return NULL;
    if (m->plan_list == NULL && model_enter(m, list_plan, NULL) != LATHE_OK) return NULL;
    return m->plan_list;
}

const char *lathe_choice(uint32_t i) { return i < CHOICE_COUNT ? choice_name((Choice)i) : NULL; }

bool lathe_plan_step(LatheModel *m, uint32_t i, LathePlanStep *step) {
    const struct PlanList *list = listed(m);
    if (list == NULL || i >= list->steps.n) return false;
    *step = list->steps.v[i];
    return true;
}

bool lathe_plan_buffer(LatheModel *m, uint32_t i, LathePlanBuffer *buffer) {
    const struct PlanList *list = listed(m);
    if (list == NULL || i >= m->m->plan->n_buffer) return false;
    *buffer = list->buffer[i];
    return true;
}
