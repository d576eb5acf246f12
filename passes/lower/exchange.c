/* ProcessPart: this process's part of the operands as one row, without making the row. With process p of parts of 250 elements,
 * and an operand at elements 200 .. 799 of the row:
 *
 *     begin = max(200, 250 p)   end = min(800, 250 p + 250)
 *     for i < max(end - begin, 0)   part[begin - 250 p + i] = operand[begin - 200 + i] */
#include "passes/lower.h"
#include "passes/rules.h"

static Expr *this_process(Lower *lo, int64_t processes) {
    Module *m = lo->m;
    if (m->process == 0) m->process = dim_runtime(m->cx, "process", 0, processes - 1);
    return lx_dim(lo, m->process);
}

/* Opens a loop over what elements from .. from + size of the row have in common with the part; *begin: the first of them. */
static Expr *common(Lower *lo, Expr *first, int64_t part, int64_t from, int64_t size, Expr **begin) {
    *begin = lx_2(lo, FN_MAX, lx_i(lo, from), first);
    Expr *end = lx_2(lo, FN_MIN, lx_i(lo, from + size), lx_add(lo, first, lx_i(lo, part)));
    return lower_for(lo, lx_2(lo, FN_MAX, lx_sub(lo, end, *begin), lx_i(lo, 0)));
}

static void store(Lower *lo, const Node *n, Expr *begin, Expr *first, Expr *i, Expr *x) {
    Expr *at = lx_add(lo, lx_sub(lo, begin, first), i);
    lower_store(lo, n->out[0], &at, x);
    lower_end(lo);
}

bool lower_process_part(Lower *lo, const Node *n) {
    int64_t part = attr_i(n, AT_ProcessPart_part), processes = attr_i(n, AT_ProcessPart_processes), from = 0;
    Expr *first = lx_mul(lo, this_process(lo, processes), lx_i(lo, part)), *begin;
    for (uint32_t k = 0; k < n->n_in; k++) {
        int64_t size = dim_value(lo->cx, n->in[k]->type->dim[0]);
        Expr *i = common(lo, first, part, from, size, &begin), *at = lx_add(lo, lx_sub(lo, begin, lx_i(lo, from)), i);
        store(lo, n, begin, first, i, lower_load(lo, n->in[k], &at));
        from += size;
    }
    if (from == part * processes) return true;
    Expr *i = common(lo, first, part, from, part * processes - from, &begin);
    store(lo, n, begin, first, i, lx_const(lo, n->out[0]->type->dtype, 0));
    return true;
}
