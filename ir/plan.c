#include "ir/plan.h"

#include "ir/target.h"

Plan *plan_new(Module *m) {
    Plan *p = ARENA_NEW(&m->cx->arena, Plan);
    p->align = 64;
    p->before = m->plan;
    p->target = module_target(m);
    m->plan = p;
    return p;
}

Value *plan_root(const Plan *p, const Value *v) {
    while (v->id < p->n_alias && p->alias[v->id] != NULL) v = p->alias[v->id];
    return (Value *)(uintptr_t)v;
}
