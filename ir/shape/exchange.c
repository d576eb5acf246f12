/* Shapes of messages between processes that train together, rows of elements.
 *
 *     AllGatherStart {processes = 4}   f32[250] -> f32[1000]        ReduceScatterStart {processes = 4}   f32[1000] -> f32[1000]
 *     ProcessPart {processes = 4, part = 250}   f32[800], f32[199] -> f32[250] */
#include "ir/shape/shape.h"

enum { PROCESSES_MAX = 1 << 16 };

/* Input i as a row of known size, of a type that MPI sums; NULL after a diagnostic. */
static const Type *row(Module *m, Node *n, uint32_t i, int64_t *size) {
    const Type *t = shape_in(m, n, i);
    if (t == NULL) return NULL;
    bool fits = t->rank == 1 && (t->dtype == DT_F32 || t->dtype == DT_F64) && dim_is_const(m->cx, t->dim[0]);
    if (!fits) diag(m->cx, SEV_ERROR, n->loc, "input %u is no row of float or double numbers of known size", i);
    *size = fits ? dim_value(m->cx, t->dim[0]) : 0;
    return fits ? t : NULL;
}

static bool processes_fit(Module *m, Node *n, int64_t processes) {
    return processes >= 1 && processes <= PROCESSES_MAX ? true : shape_fail(m, n, "the number of processes is outside 1 .. 65536");
}

bool shape_reduce_scatter(Module *m, Node *n) {
    int64_t size, processes = attr_i(n, AT_ReduceScatterStart_processes);
    const Type *t = row(m, n, 0, &size);
    if (t == NULL || !processes_fit(m, n, processes)) return false;
    if (size % processes != 0) return shape_fail(m, n, "the elements cannot be divided equally among the processes");
    shape_out(m, n, 0, t->dtype, 1, t->dim);
    return true;
}

bool shape_all_gather(Module *m, Node *n) {
    int64_t size, processes = attr_i(n, AT_AllGatherStart_processes);
    const Type *t = row(m, n, 0, &size);
    if (t == NULL || !processes_fit(m, n, processes)) return false;
    Dim all = dim_mul(m->cx, t->dim[0], dim_const(m->cx, processes));
    if (all == 0) return shape_fail(m, n, "the elements of all processes are too many");
    shape_out(m, n, 0, t->dtype, 1, &all);
    return true;
}

bool shape_process_part(Module *m, Node *n) {
    int64_t size, part = attr_i(n, AT_ProcessPart_part), room, total = 0;
    const Type *first = NULL;
    if (!processes_fit(m, n, attr_i(n, AT_ProcessPart_processes))) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const Type *t = row(m, n, i, &size);
        if (t == NULL) return false;
        if (i == 0) first = t;
        if (t->dtype != first->dtype) return shape_fail(m, n, "operands of different element types");
        if (__builtin_add_overflow(total, size, &total)) return shape_fail(m, n, "too many elements");
    }
    if (part < 0 || __builtin_mul_overflow(part, attr_i(n, AT_ProcessPart_processes), &room) || room < total)
        return shape_fail(m, n, "the parts of all processes have less room than the operands need");
    shape_out(m, n, 0, first->dtype, 1, (Dim[]){dim_const(m->cx, part)});
    return true;
}
