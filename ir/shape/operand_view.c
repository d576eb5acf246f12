/* Views of attention operands, and the shapes of the two operators that use them. */
#include "ir/shape/operand_view.h"

#include "ir/shape/shape.h"

static bool permuted(Context *cx, const int64_t *perm, const Type *t, OperandView *v) {
    Dim step[RANK_MAX], all = dim_const(cx, 1);
    uint32_t seen = 0;
    for (uint32_t i = t->rank; i-- > 0;) {
        step[i] = all;
        all = dim_mul(cx, all, t->dim[i]);
    }
    for (uint32_t i = 0; i < t->rank; i++) {
        int64_t from = perm != NULL ? perm[i] : i;
        if (from < 0 || from >= t->rank || (seen >> from & 1)) return false;
        seen |= 1u << from;
        v->size[i] = t->dim[from];
        v->step[i] = step[from];
    }
    return true;
}

static bool strided(Context *cx, const int64_t *x, const Type *t, OperandView *v) {
    Dim numel = type_numel(cx, t);
    if (!dim_is_const(cx, numel)) return false;
    int64_t n = dim_value(cx, numel), last = v->offset = x[v->rank];
    if (last < 0 || last >= n) return false;
    for (uint32_t i = 0; i < v->rank; i++) {
        int64_t size = x[i], step = x[v->rank + 1 + i];
        if (size < 1 || step < 0 || size > n + 1 || (step > 0 && size - 1 > (n - 1 - last) / step)) return false;
        last += (size - 1) * step;
        v->size[i] = dim_const(cx, size);
        v->step[i] = dim_const(cx, step);
    }
    return true;
}

bool operand_view(Context *cx, const Node *n, AttrSlot slot, const Type *t, OperandView *v) {
    const Attr *a = attr_at(n, slot);
    uint32_t count = a->present ? a->ints.n : 0;
    *v = (OperandView){.rank = t->rank};
    if (count == 0 || count == t->rank) return permuted(cx, count != 0 ? a->ints.v : NULL, t, v);
    v->rank = (count - 1) / 2;
    return count % 2 == 1 && v->rank >= 2 && v->rank <= 4 && strided(cx, a->ints.v, t, v);
}

static bool view_of(Module *m, Node *n, uint32_t in, AttrSlot slot, OperandView *v) {
    const Type *t = shape_in(m, n, in);
    if (t == NULL) return false;
    if (t->dtype == DT_F32 && operand_view(m->cx, n, slot, t, v) && v->rank >= 2 && v->rank <= 4) return true;
    diag(m->cx, SEV_ERROR, n->loc, "operand %u has no matrices where its view says", in);
    return false;
}

/* Leading dimensions agree; of heads there are `group` times as many in a. */
static bool same_lead(Context *cx, const Dim *a, const Dim *b, uint32_t n_lead, int64_t group) {
    for (uint32_t i = 0; i < n_lead; i++) {
        Dim want = i == n_lead - 1 && group > 1 ? dim_mul(cx, b[i], dim_const(cx, group)) : b[i];
        if (a[i] != want) return false;
    }
    return group >= 1;
}

bool shape_attention_scores(Module *m, Node *n) {
    OperandView q, k;
    if (!view_of(m, n, 0, AT_AttentionScores_q, &q) || !view_of(m, n, 1, AT_AttentionScores_k, &k)) return false;
    uint32_t r = q.rank;
    if (k.rank != r || q.size[r - 1] != k.size[r - 1] || !same_lead(m->cx, q.size, k.size, r - 2, attr_i(n, AT_AttentionScores_group))) {
        diag(m->cx, SEV_ERROR, n->loc, "queries and keys do not fit together");
        return false;
    }
    q.size[r - 1] = k.size[r - 2];
    shape_out(m, n, 0, DT_F32, r, q.size);
    return true;
}

bool shape_attention_mix(Module *m, Node *n) {
    OperandView v;
    const Type *p = shape_in(m, n, 0);
    if (p == NULL || !view_of(m, n, 1, AT_AttentionMix_v, &v)) return false;
    uint32_t r = v.rank;
    bool rows_first = attr_i(n, AT_AttentionMix_rows_first) != 0;
    if (p->rank != r || p->dtype != DT_F32 || p->dim[r - 1] != v.size[r - 2] || !same_lead(m->cx, p->dim, v.size, r - 2, attr_i(n, AT_AttentionMix_group)) || (rows_first && r != 4)) {
        diag(m->cx, SEV_ERROR, n->loc, "scores and values do not fit together");
        return false;
    }
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i + 1 < r; i++) dim[i] = p->dim[i];
    dim[r - 1] = v.size[r - 1];
    if (rows_first) dim[1] = p->dim[2], dim[2] = p->dim[1];
    shape_out(m, n, 0, DT_F32, r, dim);
    return true;
}
