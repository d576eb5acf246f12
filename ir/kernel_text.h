/* Printing expressions inside a kernel: what contract_print and others need to write their part of a kernel's text. */
#ifndef LATHE_IR_KERNEL_TEXT_H
#define LATHE_IR_KERNEL_TEXT_H
#include "base/map.h"
#include "ir/kernel.h"

typedef struct KernelText {
    Context *cx;
    Writer *w;
    const Kernel *k;
    uint32_t *var_name;        /* by variable: number + 1 in order of appearance */
    uint32_t n_loop, n_scalar, n_temp;
    Map temp;                  /* expression id + 1 -> temporary's number + 1, within one statement */
} KernelText;

/* Writes `let t0 = ...` lines for what the expressions of one statement share, so that text stays as small as the
 * expressions are. Call it before the statement's own line; NULL entries are ignored. */
void kernel_text_shared(KernelText *t, uint32_t n, const Expr *const *e);
void kernel_text_expr(KernelText *t, const Expr *e);

#endif
