/* Definitions of operators that pick elements by index. An index may count from the end (-1 is the last); one that is
 * still outside ends the run with the error "index".
 *
 *     Gather {axis = 0}: y[i,j] = x[index[i], j] */
#include "passes/lower/operand.h"

#include "passes/rules.h"

Expr *wrapped_index(Lower *lo, Expr *i, Expr *size) {
    int64_t low, high;
    i = lx_cast(lo, DT_I64, i);
    ex_range(lo->k, lo->cx, i, &low, &high);
    if (low < 0) i = lx_select(lo, lx_2(lo, FN_LT, i, lx_i(lo, 0)), lx_add(lo, i, size), i);
    return lx_2(lo, FN_INDEX, i, size);
}

static uint32_t axis_of(const Node *n, AttrSlot slot, uint32_t rank) {
    int64_t axis = attr_i(n, slot);
    return (uint32_t)(axis < 0 ? axis + rank : axis);
}

Expr *define_gather(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Type *t = n->in[0]->type, *index = n->in[1]->type;
    uint32_t axis = axis_of(n, AT_Gather_axis, t->rank);
    Expr *own[RANK_MAX];
    for (uint32_t i = 0; i < axis; i++) own[i] = idx[i];
    own[axis] = wrapped_index(lo, lower_load(lo, n->in[1], idx + axis), lx_dim(lo, t->dim[axis]));
    for (uint32_t i = axis + 1; i < t->rank; i++) own[i] = idx[i + index->rank - 1];
    return lower_load(lo, n->in[0], own);
}

Expr *define_gather_elements(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Type *t = n->in[0]->type;
    uint32_t axis = axis_of(n, AT_GatherElements_axis, t->rank);
    Expr *own[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) own[i] = lx_2(lo, FN_INDEX, idx[i], lx_dim(lo, t->dim[i]));
    own[axis] = wrapped_index(lo, lower_load(lo, n->in[1], idx), lx_dim(lo, t->dim[axis]));
    return lower_load(lo, n->in[0], own);
}

Expr *define_gather_nd(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Type *t = n->in[0]->type, *index = n->in[1]->type;
    uint32_t batch = n->op == OP_GatherND ? (uint32_t)attr_i(n, AT_GatherND_batch_dims) : 0;
    uint32_t depth = (uint32_t)dim_value(lo->cx, index->dim[index->rank - 1]);
    Expr *own[RANK_MAX], *entry[RANK_MAX];
    for (uint32_t i = 0; i + 1 < index->rank; i++) entry[i] = idx[i];
    for (uint32_t i = 0; i < batch; i++) own[i] = lx_2(lo, FN_INDEX, idx[i], lx_dim(lo, t->dim[i]));
    for (uint32_t k = 0; k < depth; k++) {
        entry[index->rank - 1] = lx_i(lo, k);
        own[batch + k] = wrapped_index(lo, lower_load(lo, n->in[1], entry), lx_dim(lo, t->dim[batch + k]));
    }
    for (uint32_t i = batch + depth; i < t->rank; i++) own[i] = idx[index->rank - 1 + i - batch - depth];
    return lower_load(lo, n->in[0], own);
}

/* values = [off, on] */
Expr *define_one_hot(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    uint32_t axis = axis_of(n, AT_OneHot_axis, t->rank);
    Expr *own[RANK_MAX], *zero = lx_i(lo, 0), *one = lx_i(lo, 1);
    for (uint32_t i = 0, k = 0; i < t->rank; i++)
        if (i != axis) own[k++] = idx[i];
    Expr *hot = lx_cast(lo, DT_I64, lower_load(lo, n->in[0], own));
    hot = lx_select(lo, lx_2(lo, FN_LT, hot, zero), lx_add(lo, hot, lx_dim(lo, t->dim[axis])), hot);
    return lx_select(lo, lx_2(lo, FN_EQ, hot, idx[axis]), lower_load(lo, n->in[2], &one), lower_load(lo, n->in[2], &zero));
}

Expr *define_array_feature(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->in[0]->type, *result = n->out[out]->type, *index = n->in[1]->type;
    Expr *own[RANK_MAX], *entry[RANK_MAX], *flat = idx[result->rank - 1];
    for (uint32_t i = 0; i < t->rank; i++) own[i] = idx[i + result->rank - t->rank];
    for (uint32_t i = index->rank; i-- > 0;) {
        entry[i] = i == 0 ? flat : lx_2(lo, FN_MOD, flat, lx_dim(lo, index->dim[i]));
        flat = lx_2(lo, FN_FLOORDIV, flat, lx_dim(lo, index->dim[i]));
    }
    own[t->rank - 1] = lx_2(lo, FN_INDEX, lx_cast(lo, DT_I64, lower_load(lo, n->in[1], entry)), lx_dim(lo, t->dim[t->rank - 1]));
    return lower_load(lo, n->in[0], own);
}

/* Row r, column j: coordinate r of the j-th flat index into the space. */
Expr *define_unravel_index(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Type *space = attr_at(n, AT_UnravelIndex_space)->type;
    Expr *flat = lower_load(lo, n->in[0], &idx[1]), *result = lx_i(lo, 0);
    for (uint32_t i = space->rank; i-- > 0;) {
        Expr *size = lx_dim(lo, space->dim[i]);
        Expr *coordinate = i == 0 ? flat : lx_2(lo, FN_MOD, flat, size);
        result = lx_select(lo, lx_2(lo, FN_EQ, idx[0], lx_i(lo, i)), coordinate, result);
        flat = lx_2(lo, FN_FLOORDIV, flat, size);
    }
    return result;
}
