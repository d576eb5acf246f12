/* Types of operators that pick or place elements by index, and of those whose sizes depend on the data.
 *
 *     Gather(f32[9,4], i64[N,2])  ->  f32[N,2,4]          NonZero(f32[3,4])  ->  i64[2,U], 0 <= U <= 12 */
#include "ir/shape/shape.h"

static Dim numel(Module *m, const Type *t) { return type_numel(m->cx, t); }
static int64_t hi_of(Module *m, Dim d) { return d != 0 ? dim_hi(m->cx, d) : INT64_MAX; }

/* ---- gather ------------------------------------------------------------------------------------------------------ */
static void gather_sym(Module *m, Node *n) {
    Context *cx = m->cx;
    uint32_t n_data, n_index;
    const Dim *data = value_dims(m, n->in[0], &n_data), *index = value_dims(m, n->in[1], &n_index);
    if (data == NULL || index == NULL || n->in[0]->type->rank != 1) return;
    Dim *out = ARENA_ARRAY(&cx->scratch, Dim, n_index);
    for (uint32_t i = 0; i < n_index; i++) {
        if (!dim_is_const(cx, index[i])) return;
        int64_t at = dim_value(cx, index[i]);
        at = at < 0 ? at + n_data : at;
        if (at < 0 || at >= n_data) {
            diag(cx, SEV_WARNING, n->loc, "index %lld is outside a vector of %u elements", (long long)dim_value(cx, index[i]), n_data);
            return;
        }
        out[i] = data[at];
    }
    shape_set_sym(m, n->out[0], n_index, out);
}

static bool rank_fits(Module *m, Node *n, uint32_t rank) {
    if (rank <= RANK_MAX) return true;
    diag(m->cx, SEV_ERROR, n->loc, "the result has %u dimensions, at most %d are possible", rank, RANK_MAX);
    return false;
}

bool shape_gather(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *index = shape_in(m, n, 1);
    uint32_t axis, rank = 0;
    if (t == NULL || index == NULL || !shape_axis(m, n, attr_i(n, AT_Gather_axis), t->rank, &axis)) return false;
    if (!rank_fits(m, n, t->rank + index->rank - 1u)) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < axis; i++) dim[rank++] = t->dim[i];
    for (uint32_t i = 0; i < index->rank; i++) dim[rank++] = index->dim[i];
    for (uint32_t i = axis + 1; i < t->rank; i++) dim[rank++] = t->dim[i];
    shape_out(m, n, 0, t->dtype, rank, dim);
    if (rank <= 1) gather_sym(m, n);
    return true;
}

bool shape_gather_elements(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *index = shape_in(m, n, 1);
    uint32_t axis;
    if (t == NULL || index == NULL || !shape_axis(m, n, attr_i(n, AT_GatherElements_axis), t->rank, &axis)) return false;
    if (index->rank != t->rank) {
        diag(m->cx, SEV_ERROR, n->loc, "indices have %u dimensions, data has %u: they must be the same", index->rank, t->rank);
        return false;
    }
    shape_out(m, n, 0, t->dtype, t->rank, index->dim);
    return true;
}

bool shape_gather_nd(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0), *index = shape_in(m, n, 1);
    if (t == NULL || index == NULL) return false;
    int64_t batch = n->op == OP_GatherND ? attr_i(n, AT_GatherND_batch_dims) : 0;
    if (index->rank == 0 || !dim_is_const(cx, index->dim[index->rank - 1]) || batch < 0 || batch >= index->rank ||
        batch + dim_value(cx, index->dim[index->rank - 1]) > t->rank) {
        diag(cx, SEV_ERROR, n->loc, "the last dimension of indices must be constant and at most %lld", (long long)t->rank - (long long)batch);
        return false;
    }
    uint32_t depth = (uint32_t)dim_value(cx, index->dim[index->rank - 1]), first = (uint32_t)batch + depth, rank = 0;
    if (!rank_fits(m, n, index->rank - 1u + t->rank - first)) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i + 1 < index->rank; i++) dim[rank++] = index->dim[i];
    for (uint32_t i = first; i < t->rank; i++) dim[rank++] = t->dim[i];
    shape_out(m, n, 0, t->dtype, rank, dim);
    return true;
}

bool shape_one_hot(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *values = shape_in(m, n, 2);
    uint32_t axis, count;
    if (t == NULL || values == NULL || !rank_fits(m, n, t->rank + 1u) || !shape_axis(m, n, attr_i(n, AT_OneHot_axis), t->rank + 1u, &axis)) return false;
    const Dim *depth = value_dims(m, n->in[1], &count);
    Dim dim[RANK_MAX + 1];
    for (uint32_t i = 0, k = 0; i <= t->rank; i++) dim[i] = i != axis ? t->dim[k++] : depth != NULL ? depth[0] : shape_runtime_dim(m, n, 0, i, 0, INT64_MAX);
    shape_out(m, n, 0, values->dtype, t->rank + 1u, dim);
    return true;
}

/* x[index]: every feature of the last axis that input 1 names (ai.onnx.ml). */
bool shape_array_feature(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *index = shape_in(m, n, 1);
    if (t == NULL || index == NULL) return false;
    Dim dim[RANK_MAX], count = numel(m, index);
    if (t->rank == 0 || count == 0) {
        diag(m->cx, SEV_ERROR, n->loc, "the input must have at least one dimension");
        return false;
    }
    if (t->rank == 1) {
        shape_out(m, n, 0, t->dtype, 2, (Dim[]){dim_const(m->cx, 1), count});
        return true;
    }
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    dim[t->rank - 1] = count;
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    return true;
}

/* ---- order ------------------------------------------------------------------------------------------------------- */
bool shape_top_k(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    uint32_t axis, count;
    if (t == NULL || !shape_axis(m, n, attr_i(n, AT_TopK_axis), t->rank, &axis)) return false;
    const Dim *k = value_dims(m, n->in[1], &count);
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    dim[axis] = k != NULL ? k[0] : shape_runtime_dim(m, n, n->out[0] != NULL ? 0 : 1, axis, 0, dim_hi(cx, t->dim[axis]));
    if (dim_lo(cx, dim[axis]) > dim_hi(cx, t->dim[axis]) || dim_hi(cx, dim[axis]) < 0) {
        diag(cx, SEV_ERROR, n->loc, "K is %lld, the axis has %lld elements", (long long)dim_lo(cx, dim[axis]), (long long)dim_hi(cx, t->dim[axis]));
        return false;
    }
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    shape_out(m, n, 1, DT_I64, t->rank, dim);
    return true;
}

/* ---- sizes that depend on data ----------------------------------------------------------------------------------- */
bool shape_non_zero(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    Dim found = shape_data_dim(m, n, 0, 1, 0, hi_of(m, numel(m, t)));
    shape_out(m, n, 0, DT_I64, 2, (Dim[]){dim_const(m->cx, t->rank), found});
    return true;
}

bool shape_non_zero_index(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    Dim found = shape_data_dim(m, n, 0, 0, 0, hi_of(m, numel(m, t)));
    shape_out(m, n, 0, DT_I64, 1, &found);
    return true;
}

bool shape_unravel_index(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *space = attr_at(n, AT_UnravelIndex_space)->type;
    if (t == NULL) return false;
    shape_out(m, n, 0, DT_I64, 2, (Dim[]){dim_const(m->cx, space->rank), t->dim[0]});
    return true;
}

bool shape_compress(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *condition = shape_in(m, n, 1);
    if (t == NULL || condition == NULL) return false;
    uint32_t axis = 0;
    Dim dim[RANK_MAX], along = numel(m, t);
    bool flat = !attr_has(n, AT_Compress_axis);
    if (!flat) {
        if (!shape_axis(m, n, attr_i(n, AT_Compress_axis), t->rank, &axis)) return false;
        along = t->dim[axis];
        for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    }
    int64_t limit = hi_of(m, numel(m, condition)), hi = hi_of(m, along);
    dim[axis] = shape_data_dim(m, n, 0, axis, 0, limit < hi ? limit : hi);
    shape_out(m, n, 0, t->dtype, flat ? 1 : t->rank, dim);
    return true;
}

bool shape_unique(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    uint32_t axis = 0;
    Dim dim[RANK_MAX], along = numel(m, t);
    bool flat = !attr_has(n, AT_Unique_axis);
    if (!flat) {
        if (!shape_axis(m, n, attr_i(n, AT_Unique_axis), t->rank, &axis)) return false;
        along = t->dim[axis];
        for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    }
    Dim found = dim[axis] = shape_data_dim(m, n, 0, axis, 0, hi_of(m, along));
    shape_out(m, n, 0, t->dtype, flat ? 1 : t->rank, dim);
    shape_out(m, n, 1, DT_I64, 1, &found);
    shape_out(m, n, 2, DT_I64, 1, &along);
    shape_out(m, n, 3, DT_I64, 1, &found);
    return true;
}

/* x [N] -> values [U] in the order of x, which of them each element is [N], how often each occurs [U] */
bool shape_ms_unique(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    if (t->rank != 1) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 has rank %u, a vector is needed", t->rank);
        return false;
    }
    Dim found = shape_data_dim(m, n, n->out[0] != NULL ? 0 : 2, 0, 0, dim_hi(m->cx, t->dim[0]));
    shape_out(m, n, 0, t->dtype, 1, &found);
    shape_out(m, n, 1, DT_I64, 1, t->dim);
    shape_out(m, n, 2, DT_I64, 1, &found);
    return true;
}

/* Input: a matrix of one row per item. Outputs: first item of each group, group of each item, size of each group. */
bool shape_unique_rows(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    Dim found = shape_data_dim(m, n, 0, 0, 0, dim_hi(m->cx, t->dim[0]));
    shape_out(m, n, 0, DT_I64, 1, &found);
    shape_out(m, n, 1, DT_I64, 1, t->dim);
    shape_out(m, n, 2, DT_I64, 1, &found);
    return true;
}

bool shape_non_max_suppression(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *boxes = shape_in(m, n, 0), *scores = shape_in(m, n, 1);
    if (boxes == NULL || scores == NULL) return false;
    if (boxes->rank != 3 || scores->rank != 3) {
        diag(cx, SEV_ERROR, n->loc, "boxes and scores have %u and %u dimensions, 3 are needed", boxes->rank, scores->rank);
        return false;
    }
    Dim most = boxes->dim[1];
    uint32_t count;
    const int64_t *limit = shape_constants(m, n, 2, &count);
    if (!shape_has_in(n, 2)) most = dim_const(cx, 0);
    else if (limit != NULL) most = dim_min(cx, most, dim_const(cx, limit[0] > 0 ? limit[0] : 0));
    Dim all = dim_mul(cx, dim_mul(cx, scores->dim[0], scores->dim[1]), most);
    Dim found = shape_data_dim(m, n, 0, 0, 0, dim_hi(cx, all));
    shape_out(m, n, 0, DT_I64, 2, (Dim[]){found, dim_const(cx, 3)});
    return true;
}
