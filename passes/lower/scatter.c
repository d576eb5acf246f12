/* Operators that place elements by index: a copy of the data, then the updates in order, one after another where their
 * places depend on data.
 *
 *     ScatterElements {axis = 0}:   y = x;  y[index[i,j], j] = update[i,j]     (or += with reduction "add") */
#include "passes/lower/operand.h"

#include "passes/rules.h"

static void copy(Lower *lo, const Value *from, const Value *to) {
    Expr *idx[RANK_MAX];
    lower_for_type(lo, from->type, idx);
    lower_store(lo, to, idx, lower_load(lo, from, idx));
    lower_end_n(lo, from->type->rank);
}

static bool reduction(Lower *lo, const Node *n, AttrSlot slot, Fn *fn) {
    static const struct { const char *text; Fn fn; } names[] = {{"none", FN_NONE}, {"add", FN_ADD}, {"mul", FN_MUL}, {"min", FN_MIN}, {"max", FN_MAX}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *fn = names[i].fn;
        if (attr_s_is(lo->cx, n, slot, names[i].text)) return true;
    }
    diag(lo->cx, SEV_ERROR, n->loc, "reduction \"%s\" is not known: none, add, mul, min and max are", str_text(lo->cx, attr_s(n, slot)));
    return false;
}

static void place(Lower *lo, const Value *to, Expr *const *at, Fn fn, Expr *e) {
    if (fn == FN_NONE) lower_store(lo, to, at, e);
    else lower_store_reduce(lo, to, at, fn, e);
}

bool lower_scatter_elements(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type, *updates = n->in[2]->type;
    int64_t axis = attr_i(n, AT_ScatterElements_axis);
    Fn fn;
    if (!reduction(lo, n, AT_ScatterElements_reduction, &fn)) return false;
    axis = axis < 0 ? axis + t->rank : axis;
    copy(lo, n->in[0], n->out[0]);
    Expr *idx[RANK_MAX], *at[RANK_MAX];
    lower_for_type(lo, updates, idx);
    for (uint32_t i = 0; i < t->rank; i++) at[i] = lx_2(lo, FN_INDEX, idx[i], lx_dim(lo, t->dim[i]));
    at[axis] = wrapped_index(lo, lower_load(lo, n->in[1], idx), lx_dim(lo, t->dim[axis]));
    place(lo, n->out[0], at, fn, lower_load(lo, n->in[2], idx));
    lower_end_n(lo, updates->rank);
    return true;
}

bool lower_scatter_nd(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type, *index = n->in[1]->type, *updates = n->in[2]->type;
    Fn fn;
    if (!reduction(lo, n, AT_ScatterND_reduction, &fn)) return false;
    uint32_t depth = (uint32_t)dim_value(lo->cx, index->dim[index->rank - 1]), batch = index->rank - 1u;
    copy(lo, n->in[0], n->out[0]);
    Expr *idx[RANK_MAX], *at[RANK_MAX], *entry[RANK_MAX];
    lower_for_type(lo, updates, idx);
    for (uint32_t i = 0; i < batch; i++) entry[i] = idx[i];
    for (uint32_t k = 0; k < depth; k++) {
        entry[batch] = lx_i(lo, k);
        at[k] = wrapped_index(lo, lower_load(lo, n->in[1], entry), lx_dim(lo, t->dim[k]));
    }
    for (uint32_t i = depth; i < t->rank; i++) at[i] = lx_2(lo, FN_INDEX, idx[batch + i - depth], lx_dim(lo, t->dim[i]));
    place(lo, n->out[0], at, fn, lower_load(lo, n->in[2], idx));
    lower_end_n(lo, updates->rank);
    return true;
}

/* New steps of a key-value cache: written at the position each sample has reached. */
bool lower_tensor_scatter(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type, *update = n->in[1]->type;
    int64_t axis = attr_i(n, AT_TensorScatter_axis);
    bool circular = attr_s_is(lo->cx, n, AT_TensorScatter_mode, "circular");
    axis = axis < 0 ? axis + t->rank : axis;
    copy(lo, n->in[0], n->out[0]);
    Expr *idx[RANK_MAX], *at[RANK_MAX], *size = lx_dim(lo, t->dim[axis]);
    lower_for_type(lo, update, idx);
    for (uint32_t i = 0; i < t->rank; i++) at[i] = lx_2(lo, FN_INDEX, idx[i], lx_dim(lo, t->dim[i]));
    Expr *position = idx[axis];
    if (has_in(n, 2)) position = lx_add(lo, position, lx_cast(lo, DT_I64, lower_load(lo, n->in[2], &idx[0])));
    at[axis] = circular ? lx_2(lo, FN_MOD, position, size) : lx_2(lo, FN_INDEX, position, size);
    lower_store(lo, n->out[0], at, lower_load(lo, n->in[1], idx));
    lower_end_n(lo, update->rank);
    return true;
}
