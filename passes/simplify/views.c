/* Rules for operators that only move elements, or do nothing at all. */
#include "passes/simplify/simplify.h"

/* Identity, Cast, Reshape, Squeeze, Unsqueeze, Flatten, Expand, Tile: an equal type means nothing happens. */
bool simplify_same_type(Rewriter *r, Node *n) {
    return rw_same_type(n->in[0], n->out[0]) && rw_replace(r, n, n->in[0]);
}

static bool shape_is_plain(Module *m, const Value *shape) {
    uint32_t n;
    const Dim *d = value_dims(m, shape, &n);
    for (uint32_t i = 0; d != NULL && i < n; i++)
        if (dim_lo(m->cx, d[i]) <= 0 && !(dim_is_const(m->cx, d[i]) && dim_value(m->cx, d[i]) == -1)) return false;
    return d != NULL;
}

/* Reshape(Reshape(x, s), t) -> Reshape(x, t), unless t takes sizes from its input (0). */
bool simplify_reshape(Rewriter *r, Node *n) {
    Node *inner = rw_def(r, n->in[0], OP_Reshape);
    if (inner == NULL) return false;
    const Type *t = n->out[0]->type;
    Value *v = rw_reshape(r, n, inner->in[0], t->rank, t->dim);
    if (v == NULL) {
        if (!shape_is_plain(r->m, n->in[1])) return false;
        Node *copy = rw_copy(r, n, n, 2, (Value *[]){inner->in[0], n->in[1]});
        v = rw_value(r, copy);
    }
    return rw_replace(r, n, v);
}

/* Reshape to computed sizes that are known -> Reshape to constants, with -1 for the one size that is not: what computed
 * them has nothing more to do. */
bool simplify_reshape_operand(Rewriter *r, Node *n) {
    const Type *t = n->out[0]->type;
    if (n->in[1]->data != NULL) return false;
    Value *v = rw_reshape(r, n, n->in[0], t->rank, t->dim);
    return v != NULL && rw_replace(r, n, v);
}

/* The same for Expand: a size that the input has already is said by 1. */
bool simplify_expand_operand(Rewriter *r, Node *n) {
    const Type *in = n->in[0]->type, *out = n->out[0]->type;
    int64_t shape[RANK_MAX];
    if (n->in[1]->data != NULL) return false;
    for (uint32_t i = 0; i < out->rank; i++) {
        bool has = i + in->rank >= out->rank && in->dim[i + in->rank - out->rank] == out->dim[i];
        if (!has && !dim_is_const(r->cx, out->dim[i])) return false;
        shape[i] = has ? 1 : dim_value(r->cx, out->dim[i]);
    }
    Value *v = rw_build2(r, n, OP_Expand, n->in[0], value_const_i64(r->m, out->rank, shape));
    if (v->type == out) return rw_replace(r, n, v);
    rw_discard(r, v);
    return false;
}

/* Squeeze, Unsqueeze, Flatten -> Reshape: one operator for later rules to look at. */
bool simplify_to_reshape(Rewriter *r, Node *n) {
    const Type *t = n->out[0]->type;
    if (t->kind != TYPE_TENSOR) return false;
    Value *v = rw_reshape(r, n, n->in[0], t->rank, t->dim);
    return v != NULL && rw_replace(r, n, v);
}

static void permutation(const Node *n, uint32_t rank, int64_t *perm) {
    const Attr *a = attr_at(n, AT_Transpose_perm);
    for (uint32_t i = 0; i < rank; i++) perm[i] = a->present && a->ints.n == rank ? a->ints.v[i] : rank - 1 - i;
}

/* Transpose by nothing; of a Transpose; that moves sizes of 1 only (a Reshape). */
bool simplify_transpose(Rewriter *r, Node *n) {
    const Type *t = n->in[0]->type;
    int64_t perm[RANK_MAX], before[RANK_MAX];
    bool identity = true, ordered = true;
    int64_t last = -1;
    permutation(n, t->rank, perm);
    for (uint32_t i = 0; i < t->rank; i++) {
        identity &= perm[i] == i;
        Dim d = t->dim[perm[i]];
        if (dim_is_const(r->cx, d) && dim_value(r->cx, d) == 1) continue;
        ordered &= perm[i] > last;
        last = perm[i];
    }
    if (identity) return rw_replace(r, n, n->in[0]);
    if (ordered) {
        Value *v = rw_reshape(r, n, n->in[0], t->rank, n->out[0]->type->dim);
        if (v != NULL && rw_replace(r, n, v)) return true;
    }
    Node *inner = rw_def(r, n->in[0], OP_Transpose);
    if (inner == NULL) return false;
    permutation(inner, t->rank, before);
    for (uint32_t i = 0; i < t->rank; i++) perm[i] = before[perm[i]];
    Node *both = rw_node(r, n, OP_Transpose, 1, inner->in);
    attr_set_ints(r->cx, both, AT_Transpose_perm, perm, t->rank);
    return rw_replace(r, n, rw_value(r, both));
}

/* A slice of everything: no size changes, and no step goes backward. */
bool simplify_slice(Rewriter *r, Node *n) {
    int64_t step[RANK_MAX];
    uint32_t n_step = 0;
    if (!rw_same_type(n->in[0], n->out[0])) return false;
    if (n->n_in > 4 && n->in[4] != NULL && !rw_ints(r->m, n->in[4], step, RANK_MAX, &n_step)) return false;
    for (uint32_t i = 0; i < n_step; i++)
        if (step[i] != 1) return false;
    return rw_replace(r, n, n->in[0]);
}

bool simplify_pad(Rewriter *r, Node *n) {
    int64_t pad[2 * RANK_MAX];
    uint32_t n_pad;
    if (!rw_same_type(n->in[0], n->out[0]) || !rw_ints(r->m, n->in[1], pad, 2 * RANK_MAX, &n_pad)) return false;
    for (uint32_t i = 0; i < n_pad; i++)
        if (pad[i] != 0) return false;
    return rw_replace(r, n, n->in[0]);
}

/* Inputs without elements go; of one input nothing is left to do. */
bool simplify_concat(Rewriter *r, Node *n) {
    const Type *t = n->out[0]->type;
    int64_t axis = attr_i(n, AT_Concat_axis);
    Value **in = ARENA_ARRAY(&r->cx->scratch, Value *, n->n_in);
    uint32_t n_in = 0;
    if (axis < 0) axis += t->rank;
    for (uint32_t i = 0; i < n->n_in; i++) {
        Dim d = n->in[i]->type->dim[axis];
        if (!dim_is_const(r->cx, d) || dim_value(r->cx, d) != 0) in[n_in++] = n->in[i];
    }
    if (n_in == 1 && rw_same_type(in[0], n->out[0])) return rw_replace(r, n, in[0]);
    if (n_in == n->n_in || n_in < 2) return false;
    return rw_replace(r, n, rw_value(r, rw_copy(r, n, n, n_in, in)));
}

bool simplify_split(Rewriter *r, Node *n) {
    return n->n_out == 1 && rw_same_type(n->in[0], n->out[0]) && rw_replace(r, n, n->in[0]);
}

/* Outside training Dropout hands its input on. The mask, if read, stays its business. */
bool simplify_dropout(Rewriter *r, Node *n) {
    bool eval = n->n_in < 3 || n->in[2] == NULL || rw_is(r->cx, n->in[2], 0);
    bool mask = n->n_out > 1 && n->out[1] != NULL && r->uses[n->out[1]->id] != 0;
    if (!eval || mask || !rw_same_type(n->in[0], n->out[0]) || !rw_replace(r, n, n->in[0])) return false;
    if (n->graph != NULL) node_remove(n); /* not pure in general, but it is here */
    return true;
}

bool simplify_where(Rewriter *r, Node *n) {
    double c;
    if (!rw_splat(r->cx, n->in[0], &c)) return false;
    Value *taken = c != 0 ? n->in[1] : n->in[2];
    return rw_same_type(taken, n->out[0]) && rw_replace(r, n, taken);
}
