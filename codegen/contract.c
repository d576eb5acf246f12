/* Prints micro-kernel contractions. No lowering rule makes S_CONTRACT statements yet. */
#include "codegen/emit.h"

void contract_emit(Emit *e, const Kernel *k, const Stmt *s) {
    (void)k;
    CHECK(e->cx, s->contract == NULL);
}
