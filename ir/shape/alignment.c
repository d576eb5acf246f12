/* Shapes of operators that align or compare sequences, whose results have a length that only the run knows. */
#include "ir/shape/shape.h"

/* costs [M,N] or [1,M,N] -> [2, max(M, N) … M + N - 1] */
bool shape_dynamic_time_warping(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    if (t->dtype != DT_F32 || (t->rank != 2 && !(t->rank == 3 && t->dim[0] == dim_const(m->cx, 1)))) return shape_fail(m, n, "costs must be float, [M,N] or [1,M,N]");
    Dim sum = dim_add(m->cx, t->dim[t->rank - 2], t->dim[t->rank - 1]), steps = shape_data_dim(m, n, 0, 1, 0, dim_hi(m->cx, sum));
    shape_out(m, n, 0, DT_I32, 2, (Dim[]){dim_const(m->cx, 2), steps});
    return true;
}

/* source [S], current [C], previous match [1], predicted [P] -> tokens [C … C + P], match [1] */
bool shape_bifurcation(Module *m, Node *n) {
    const Type *t[4] = {NULL};
    for (uint32_t i = 0; i < n->n_in && i < 4; i++) {
        if (n->in[i] == NULL) continue;
        t[i] = shape_in(m, n, i);
        if (t[i] == NULL) return false;
        if (t[i]->rank != 1 || t[i]->dtype != DT_I64) return shape_fail(m, n, "tokens and indices are int64 vectors");
    }
    if (t[0] == NULL || t[1] == NULL || t[2] == NULL) return shape_fail(m, n, "source, current tokens and the previous match are needed");
    Dim one = dim_const(m->cx, 1), length = t[1]->dim[0];
    if (shape_unify(m, n, t[2]->dim[0], one, "numbers of the previous match") == 0) return false;
    if (t[3] != NULL) length = shape_data_dim(m, n, 0, 0, 0, dim_hi(m->cx, dim_add(m->cx, length, t[3]->dim[0])));
    shape_out(m, n, 0, DT_I64, 1, &length);
    shape_out(m, n, 1, DT_I64, 1, &one);
    return true;
}
