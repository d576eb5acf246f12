/* Operands that make the run-time error "value". Guard: x, unless all other operands are finite; the plan puts a gate behind it.
 * PresentElement: x, unless the flag beside it is false. */
#include "passes/lower/operand.h"

#include "passes/rules.h"

Expr *define_guard(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    Expr *x = lower_load(lo, n->in[0], idx), *bad = ex_i(lo->cx, DT_BOOL, 0);
    (void)out;
    for (uint32_t i = 1; i < n->n_in; i++) {
        Expr *c = lower_load_scalar(lo, n->in[i]);
        bad = lx_2(lo, FN_OR, bad, lx_2(lo, FN_OR, lx_1(lo, FN_ISNAN, c), lx_1(lo, FN_ISINF, c)));
    }
    return ex_require(lo->cx, lx_1(lo, FN_NOT, bad), x, LATHE_RT_VALUE);
}

Expr *define_present_element(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    return ex_require(lo->cx, lower_load_scalar(lo, n->in[1]), lower_load(lo, n->in[0], idx), LATHE_RT_VALUE);
}
