#include "ir/plan.h"

Plan *plan_new(Module *m) {
    Plan *p = ARENA_NEW(&m->cx->arena, Plan);
    p->align = 64;
    m->plan = p;
    return p;
}
