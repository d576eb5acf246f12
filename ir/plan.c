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
