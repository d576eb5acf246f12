/* Types of operators that move elements: Reshape, Transpose, Slice, Concat, Pad and their kin.
 *
 * Operands that give sizes (shape, starts, repeats, …) are read as symbolic dims; where they are run-time data the size
 * is a runtime symbol (or what the file declares) and the expand pass adds the node that binds or checks it:
 *
 *     Reshape(f32[N,8,4], [0,-1])  ->  f32[N,32]            Slice(f32[N,9], starts: run time)  ->  f32[Slice_0,Slice_1] */
#include "ir/shape/shape.h"

static Dim constant(Module *m, int64_t v) { return dim_const(m->cx, v); }

/* The contents of a vector keep their symbols through operators that only give it another shape: also as a small matrix, since
 * exporters turn the order of paddings around with Reshape [-1, 2], Slice, Transpose, Reshape [-1]. */
static void keep_sym(Node *n) {
    if (n->out[0] == NULL || n->in[0]->sym == NULL || n->out[0]->type->rank > 2) return;
    n->out[0]->sym = n->in[0]->sym;
    n->out[0]->n_sym = n->in[0]->n_sym;
}

/* ---- reshape ----------------------------------------------------------------------------------------------------- */
static bool reshape_runtime(Module *m, Node *n, const Type *t) {
    uint32_t rank;
    if (!shape_length(m, n, 1, &rank)) return false;
    Dim total = type_numel(m->cx, t), dim[RANK_MAX];
    int64_t hi = total != 0 ? dim_hi(m->cx, total) : INT64_MAX;
    for (uint32_t i = 0; i < rank; i++) dim[i] = shape_runtime_dim(m, n, 0, i, 0, hi);
    if (rank == 1 && total != 0) dim[0] = total;
    shape_out(m, n, 0, t->dtype, rank, dim);
    return true;
}

/* The dim that -1 stands for: what is left of all elements after the others, which cancel where they are equal. */
static Dim remaining(Module *m, const Type *t, uint32_t rank, const Dim *dim, uint32_t infer) {
    Context *cx = m->cx;
    bool used[RANK_MAX] = {false};
    Dim above = constant(m, 1), below = constant(m, 1);
    for (uint32_t i = 0; i < rank; i++) {
        if (i == infer) continue;
        uint32_t k = 0;
        while (k < t->rank && (used[k] || t->dim[k] != dim[i])) k++;
        if (k < t->rank) used[k] = true;
        else below = dim_mul(cx, below, dim[i]);
    }
    for (uint32_t k = 0; k < t->rank; k++)
        if (!used[k]) above = dim_mul(cx, above, t->dim[k]);
    return dim_floordiv(cx, above, below);
}

bool shape_reshape(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    uint32_t rank, infer = UINT32_MAX;
    const Dim *want = value_dims(m, n->in[1], &rank);
    if (want == NULL) return reshape_runtime(m, n, t);
    if (rank > RANK_MAX) {
        diag(cx, SEV_ERROR, n->loc, "shape has %u dimensions, at most %d are possible", rank, RANK_MAX);
        return false;
    }
    Dim dim[RANK_MAX];
    bool allow_zero = attr_i(n, AT_Reshape_allowzero) != 0;
    for (uint32_t i = 0; i < rank; i++) {
        dim[i] = want[i];
        if (want[i] == constant(m, 0) && !allow_zero) {
            if (i >= t->rank) {
                diag(cx, SEV_ERROR, n->loc, "shape[%u] is 0 (keep), but the input has only %u dimensions", i, t->rank);
                return false;
            }
            dim[i] = t->dim[i];
        } else if (want[i] == constant(m, -1)) {
            if (infer != UINT32_MAX) {
                diag(cx, SEV_ERROR, n->loc, "shape has -1 twice, at %u and %u", infer, i);
                return false;
            }
            infer = i;
        } else if (dim_hi(cx, want[i]) < 0) {
            diag(cx, SEV_ERROR, n->loc, "shape[%u] is %lld, -1 or a size is needed", i, (long long)dim_hi(cx, want[i]));
            return false;
        }
    }
    if (infer != UINT32_MAX) dim[infer] = remaining(m, t, rank, dim, infer);
    Dim had = type_numel(cx, t), has = constant(m, 1);
    for (uint32_t i = 0; i < rank; i++) has = dim_mul(cx, has, dim[i]);
    if (shape_unify(m, n, had, has, "number of elements") == 0) return false;
    shape_out(m, n, 0, t->dtype, rank, dim);
    keep_sym(n);
    return true;
}

bool shape_flatten(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    int64_t axis = attr_i(n, AT_Flatten_axis);
    if (axis < -(int64_t)t->rank || axis > (int64_t)t->rank) {
        diag(m->cx, SEV_ERROR, n->loc, "axis %lld is outside [-%u, %u]", (long long)axis, t->rank, t->rank);
        return false;
    }
    if (axis < 0) axis += t->rank;
    Dim dim[2] = {constant(m, 1), constant(m, 1)};
    for (uint32_t i = 0; i < t->rank; i++) dim[i >= axis] = dim_mul(m->cx, dim[i >= axis], t->dim[i]);
    shape_out(m, n, 0, t->dtype, 2, dim);
    return true;
}

/* Marks axes given by operand i; false after a diagnostic. */
static bool mark_axes(Module *m, Node *n, const int64_t *axes, uint32_t count, uint32_t rank, bool *marked) {
    for (uint32_t k = 0; k < count; k++) {
        uint32_t axis;
        if (!shape_axis(m, n, axes[k], rank, &axis)) return false;
        marked[axis] = true;
    }
    return true;
}

static bool squeeze_runtime(Module *m, Node *n, const Type *t, uint32_t rank) { /* which axes is known at run time only */
    Dim dim[RANK_MAX], total = type_numel(m->cx, t);
    int64_t hi = total != 0 ? dim_hi(m->cx, total) : INT64_MAX;
    for (uint32_t i = 0; i < rank; i++) dim[i] = shape_runtime_dim(m, n, 0, i, 0, hi);
    shape_out(m, n, 0, t->dtype, rank, dim);
    return true;
}

bool shape_squeeze(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    bool gone[RANK_MAX] = {false};
    if (shape_has_in(n, 1)) {
        uint32_t count;
        const int64_t *axes = shape_constants(m, n, 1, &count);
        if (axes == NULL) return shape_length(m, n, 1, &count) && squeeze_runtime(m, n, t, count < t->rank ? t->rank - count : 0);
        if (!mark_axes(m, n, axes, count, t->rank, gone)) return false;
        for (uint32_t i = 0; i < t->rank; i++) {
            if (!gone[i] || shape_unify(m, n, t->dim[i], constant(m, 1), "squeezed dimension") != 0) continue;
            return false;
        }
    } else {
        for (uint32_t i = 0; i < t->rank; i++) gone[i] = t->dim[i] == dim_const(cx, 1);
    }
    Dim dim[RANK_MAX];
    uint32_t rank = 0;
    for (uint32_t i = 0; i < t->rank; i++)
        if (!gone[i]) dim[rank++] = t->dim[i];
    shape_out(m, n, 0, t->dtype, rank, dim);
    keep_sym(n);
    return true;
}

bool shape_unsqueeze(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    uint32_t count;
    if (t == NULL) return false;
    const int64_t *axes = shape_constants(m, n, 1, &count);
    if (axes == NULL && !shape_length(m, n, 1, &count)) return false;
    uint32_t rank = t->rank + count;
    if (rank > RANK_MAX) {
        diag(m->cx, SEV_ERROR, n->loc, "the result has %u dimensions, at most %d are possible", rank, RANK_MAX);
        return false;
    }
    if (axes == NULL) return squeeze_runtime(m, n, t, rank);
    bool new_axis[RANK_MAX] = {false};
    if (!mark_axes(m, n, axes, count, rank, new_axis)) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0, k = 0; i < rank; i++) {
        if (!new_axis[i] && k == t->rank) {
            diag(m->cx, SEV_ERROR, n->loc, "an axis is given twice");
            return false;
        }
        dim[i] = new_axis[i] ? constant(m, 1) : t->dim[k++];
    }
    shape_out(m, n, 0, t->dtype, rank, dim);
    keep_sym(n);
    return true;
}

bool shape_expand_dims(Module *m, Node *n) { /* com.microsoft: one axis, a scalar operand */
    return shape_unsqueeze(m, n);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */
/* Contents of a small matrix that is turned round. */
static void transpose_sym(Module *m, Node *n) {
    const Type *t = n->in[0]->type;
    uint32_t count;
    const Dim *v = value_dims(m, n->in[0], &count);
    if (v == NULL || !dim_is_const(m->cx, t->dim[0]) || !dim_is_const(m->cx, t->dim[1])) return;
    uint32_t rows = (uint32_t)dim_value(m->cx, t->dim[0]), columns = (uint32_t)dim_value(m->cx, t->dim[1]);
    const Attr *perm = attr_at(n, AT_Transpose_perm);
    bool turned = !perm->present || (perm->ints.v[0] != 0 && perm->ints.v[0] != -2);
    if (!turned) keep_sym(n);
    if (!turned || rows * columns != count) return;
    Dim *out = ARENA_ARRAY(&m->cx->scratch, Dim, count);
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t k = 0; k < columns; k++) out[k * rows + i] = v[i * columns + k];
    shape_set_sym(m, n->out[0], count, out);
}

bool shape_transpose(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    Dim dim[RANK_MAX];
    bool seen[RANK_MAX] = {false};
    const Attr *perm = attr_at(n, AT_Transpose_perm);
    if (perm->present && perm->ints.n != t->rank) {
        diag(m->cx, SEV_ERROR, n->loc, "perm has %u entries, the input has %u dimensions", perm->ints.n, t->rank);
        return false;
    }
    for (uint32_t i = 0; i < t->rank; i++) {
        uint32_t from = t->rank - 1 - i;
        if (perm->present && !shape_axis(m, n, perm->ints.v[i], t->rank, &from)) return false;
        if (seen[from]) {
            diag(m->cx, SEV_ERROR, n->loc, "perm names dimension %u twice", from);
            return false;
        }
        seen[from] = true;
        dim[i] = t->dim[from];
    }
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    if (t->rank <= 1) keep_sym(n);
    if (t->rank == 2) transpose_sym(m, n);
    return true;
}

bool shape_depth_to_space(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    bool to_space = n->op == OP_DepthToSpace;
    int64_t b = attr_i(n, to_space ? AT_DepthToSpace_blocksize : AT_SpaceToDepth_blocksize);
    if (t == NULL) return false;
    if (t->rank != 4 || b <= 0) {
        diag(cx, SEV_ERROR, n->loc, "rank %u and blocksize %lld, rank 4 and a positive blocksize are needed", t->rank, (long long)b);
        return false;
    }
    Dim by = dim_const(cx, b), square = dim_mul(cx, by, by), dim[4] = {t->dim[0], t->dim[1], t->dim[2], t->dim[3]};
    dim[1] = to_space ? dim_floordiv(cx, dim[1], square) : dim_mul(cx, dim[1], square);
    for (int i = 2; i < 4; i++) dim[i] = to_space ? dim_mul(cx, dim[i], by) : dim_floordiv(cx, dim[i], by);
    for (int i = 1; i < 4; i++) {
        if (dim[i] != 0) continue;
        diag(cx, SEV_ERROR, n->loc, "blocksize %lld gives a size beyond 64 bits", (long long)b);
        return false;
    }
    shape_out(m, n, 0, t->dtype, 4, dim);
    return true;
}

/* ---- sizes from operands ----------------------------------------------------------------------------------------- */
/* Element i of a vector of sizes whose other elements only the run may know: Concat(%n, [2, 3]) says 2 and 3. 0: unknown. */
static Dim known_element(Module *m, const Value *v, uint32_t i) {
    uint32_t count;
    const Dim *all = value_dims(m, v, &count);
    if (all != NULL) return i < count ? all[i] : 0;
    if (v->def == NULL || v->def->op != OP_Concat) return 0;
    for (uint32_t k = 0; k < v->def->n_in; k++) {
        const Value *part = v->def->in[k];
        if (part->type == NULL || part->type->rank != 1 || !dim_is_const(m->cx, part->type->dim[0])) return 0;
        int64_t length = dim_value(m->cx, part->type->dim[0]);
        if (i < length) return known_element(m, part, i);
        i -= (uint32_t)length;
    }
    return 0;
}

/* The size that `wanted` (0: the run decides) and the input's size `have` broadcast to; 0 if the run decides. */
static Dim expanded_size(Module *m, Dim have, Dim wanted) {
    if (wanted == 0) return 0;
    if (have == wanted || have == dim_const(m->cx, 1)) return wanted;
    return dim_is_const(m->cx, wanted) && (dim_value(m->cx, wanted) == 1 || dim_is_const(m->cx, have)) ? have : 0;
}

bool shape_expand(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    uint32_t count, rank;
    Dim dim[RANK_MAX];
    const Dim *want = value_dims(m, n->in[1], &count);
    if (want == NULL && !shape_length(m, n, 1, &count)) return false;
    if (count > RANK_MAX) {
        diag(cx, SEV_ERROR, n->loc, "shape has %u dimensions, at most %d are possible", count, RANK_MAX);
        return false;
    }
    if (want != NULL) {
        Type shape = {.rank = (uint8_t)count, .dim = want};
        if (!shape_broadcast(m, n, t, &shape, &rank, dim)) return false;
    } else {
        rank = count > t->rank ? count : t->rank;
        for (uint32_t i = 0; i < rank; i++) {
            Dim have = i + t->rank < rank ? constant(m, 1) : t->dim[i + t->rank - rank];
            dim[i] = i + count < rank ? have : expanded_size(m, have, known_element(m, n->in[1], i + count - rank));
            if (dim[i] == 0) dim[i] = shape_runtime_dim(m, n, 0, i, 0, INT64_MAX);
        }
    }
    shape_out(m, n, 0, t->dtype, rank, dim);
    uint32_t given;
    const Dim *sym = value_dims(m, n->in[0], &given);
    if (sym != NULL && given == 1 && rank <= 1 && (rank == 0 || (dim_is_const(cx, dim[0]) && dim_value(cx, dim[0]) <= 64))) {
        Dim all[64];
        uint32_t total = rank == 0 ? 1 : (uint32_t)dim_value(cx, dim[0]);
        for (uint32_t i = 0; i < total; i++) all[i] = sym[0];
        shape_set_sym(m, n->out[0], total, all);
    }
    return true;
}

bool shape_tile(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    uint32_t count;
    const Dim *repeats = value_dims(m, n->in[1], &count);
    if (repeats == NULL && !shape_length(m, n, 1, &count)) return false;
    if (count != t->rank) {
        diag(m->cx, SEV_ERROR, n->loc, "repeats has %u entries, the input has %u dimensions", count, t->rank);
        return false;
    }
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = repeats != NULL ? dim_mul(m->cx, t->dim[i], repeats[i]) : shape_runtime_dim(m, n, 0, i, 0, INT64_MAX);
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    return true;
}

/* Which axis entry k of the operands means; axes from operand 3 of Pad, attribute of CenterCropPad. -1: run time. */
static bool pad_axes(Module *m, Node *n, uint32_t rank, uint32_t *axis, uint32_t *count, bool *known) {
    *known = true;
    *count = rank;
    for (uint32_t i = 0; i < rank; i++) axis[i] = i;
    if (!shape_has_in(n, 3)) return true;
    const int64_t *axes = shape_constants(m, n, 3, count);
    *known = axes != NULL;
    if (axes == NULL) return shape_length(m, n, 3, count);
    for (uint32_t i = 0; i < *count; i++)
        if (i >= rank || !shape_axis(m, n, axes[i], rank, &axis[i])) return false;
    return true;
}

bool shape_pad(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    uint32_t axis[RANK_MAX], axes, count;
    bool known;
    if (t == NULL || !pad_axes(m, n, t->rank, axis, &axes, &known)) return false;
    const Dim *pads = value_dims(m, n->in[1], &count);
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    if (pads != NULL && count != 2 * axes) {
        diag(cx, SEV_ERROR, n->loc, "pads has %u entries, %u are needed", count, 2 * axes);
        return false;
    }
    if (pads == NULL || !known) {
        for (uint32_t i = 0; i < t->rank; i++) dim[i] = shape_runtime_dim(m, n, 0, i, 0, INT64_MAX);
    } else {
        for (uint32_t k = 0; k < axes; k++) dim[axis[k]] = dim_add(cx, dim[axis[k]], dim_add(cx, pads[k], pads[axes + k]));
    }
    for (uint32_t i = 0; i < t->rank; i++) {
        if (dim_hi(cx, dim[i]) >= 0) continue;
        diag(cx, SEV_ERROR, n->loc, "padding makes dimension %u negative", i);
        return false;
    }
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    return true;
}

bool shape_center_crop_pad(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    const Attr *axes = attr_at(n, AT_CenterCropPad_axes);
    uint32_t count, want_n = axes->present ? axes->ints.n : t->rank;
    const Dim *want = value_dims(m, n->in[1], &count);
    if (want == NULL && !shape_length(m, n, 1, &count)) return false;
    if (count != want_n) {
        diag(m->cx, SEV_ERROR, n->loc, "shape has %u entries, %u are needed", count, want_n);
        return false;
    }
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    for (uint32_t k = 0; k < count; k++) {
        uint32_t axis = k;
        if (axes->present && !shape_axis(m, n, axes->ints.v[k], t->rank, &axis)) return false;
        dim[axis] = want != NULL ? want[k] : shape_runtime_dim(m, n, 0, axis, 0, INT64_MAX);
    }
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    return true;
}

/* ---- slice, split, concat ---------------------------------------------------------------------------------------- */
/* start or end of a slice as a position in [0, size] (step > 0) or [-1, size - 1]; 0 when not known. */
static Dim slice_bound(Context *cx, Dim v, Dim size, bool forward) {
    Dim zero = dim_const(cx, 0), lowest = dim_const(cx, forward ? 0 : -1);
    Dim highest = forward ? size : dim_sub(cx, size, dim_const(cx, 1));
    if (dim_is_const(cx, v)) {
        int64_t c = dim_value(cx, v);
        if (c < 0 && c > -(INT64_C(1) << 31)) v = dim_add(cx, v, size);
        else if (c < 0) return lowest;
        else if (c >= INT32_MAX) return highest;
    } else if (dim_lo(cx, v) < 0) {
        if (dim_hi(cx, v) >= 0) return 0;
        v = dim_add(cx, v, size);
    }
    (void)zero;
    return dim_max(cx, lowest, dim_min(cx, v, highest));
}

static Dim slice_size(Context *cx, Dim start, Dim end, Dim size, int64_t step) {
    start = slice_bound(cx, start, size, step > 0);
    end = slice_bound(cx, end, size, step > 0);
    if (start == 0 || end == 0) return 0;
    Dim span = step > 0 ? dim_sub(cx, end, start) : dim_sub(cx, start, end);
    Dim count = step == 1 || step == -1 ? span : dim_ceildiv(cx, span, dim_const(cx, step > 0 ? step : step == INT64_MIN ? INT64_MAX : -step));
    return dim_max(cx, count, dim_const(cx, 0));
}

/* Contents of a vector or small matrix that is sliced along one axis. */
static void slice_sym(Module *m, Node *n, uint32_t axis, const Dim *starts, int64_t step) {
    Context *cx = m->cx;
    const Type *t = n->out[0]->type, *from = n->in[0]->type;
    uint32_t count;
    const Dim *v = value_dims(m, n->in[0], &count);
    if (v == NULL || t->rank > 2 || !type_is_static(cx, t) || !type_is_static(cx, from)) return;
    Dim start = slice_bound(cx, starts[0], from->dim[axis], step > 0);
    if (start == 0 || !dim_is_const(cx, start)) return;
    int64_t size[2] = {1, 1}, have[2] = {1, 1}; /* a vector is one row */
    for (uint32_t i = 0; i < t->rank; i++) {
        size[2 - t->rank + i] = dim_value(cx, t->dim[i]);
        have[2 - t->rank + i] = dim_value(cx, from->dim[i]);
    }
    axis += 2u - t->rank;
    Dim *out = ARENA_ARRAY(&cx->scratch, Dim, size[0] * size[1]);
    for (int64_t i = 0; i < size[0] * size[1]; i++) {
        int64_t at[2] = {i / size[1], i % size[1]};
        at[axis] = dim_value(cx, start) + at[axis] * step;
        if (at[axis] < 0 || at[axis] >= have[axis]) return;
        out[i] = v[at[0] * have[1] + at[1]];
    }
    shape_set_sym(m, n->out[0], (uint32_t)(size[0] * size[1]), out);
}

bool shape_slice(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    uint32_t n_start, n_end, n_axis, n_step;
    const Dim *starts = value_dims(m, n->in[1], &n_start), *ends = value_dims(m, n->in[2], &n_end);
    const int64_t *axes = shape_constants(m, n, 3, &n_axis), *steps = shape_constants(m, n, 4, &n_step);
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    uint32_t count;
    if (!shape_length(m, n, 1, &count)) return false;
    if (shape_has_in(n, 3) && axes == NULL) { /* any axis may be cut */
        for (uint32_t i = 0; i < t->rank; i++) dim[i] = shape_runtime_dim(m, n, 0, i, 0, dim_hi(cx, t->dim[i]));
        shape_out(m, n, 0, t->dtype, t->rank, dim);
        return true;
    }
    if ((starts != NULL && n_start != count) || (ends != NULL && n_end != count) || (axes != NULL && n_axis != count) || (steps != NULL && n_step != count) || count > t->rank) {
        diag(cx, SEV_ERROR, n->loc, "starts has %u entries; ends, axes and steps must have as many, at most %u", count, t->rank);
        return false;
    }
    for (uint32_t k = 0; k < count; k++) {
        uint32_t axis = k;
        if (axes != NULL && !shape_axis(m, n, axes[k], t->rank, &axis)) return false;
        int64_t step = steps != NULL ? steps[k] : 1;
        if (step == 0) {
            diag(cx, SEV_ERROR, n->loc, "steps[%u] is 0", k);
            return false;
        }
        bool step_known = steps != NULL || !shape_has_in(n, 4);
        Dim size = starts != NULL && ends != NULL && step_known ? slice_size(cx, starts[k], ends[k], t->dim[axis], step) : 0;
        dim[axis] = size != 0 ? size : shape_runtime_dim(m, n, 0, axis, 0, dim_hi(cx, t->dim[axis]));
    }
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    uint32_t axis = 0;
    bool known = starts != NULL && count == 1 && (steps != NULL || !shape_has_in(n, 4));
    if (known && (axes == NULL || shape_axis(m, n, axes[0], t->rank, &axis))) slice_sym(m, n, axis, starts, steps != NULL ? steps[0] : 1);
    return true;
}

bool shape_split(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    uint32_t axis, count;
    if (t == NULL || !shape_axis(m, n, attr_i(n, AT_Split_axis), t->rank, &axis)) return false;
    const Dim *sizes = NULL;
    bool given = shape_has_in(n, 1);
    if (given) {
        sizes = value_dims(m, n->in[1], &count);
        if (sizes == NULL && !shape_length(m, n, 1, &count)) return false;
        if (count != n->n_out) {
            diag(cx, SEV_ERROR, n->loc, "split has %u entries, there are %u outputs", count, n->n_out);
            return false;
        }
    }
    Dim dim[RANK_MAX], each = dim_ceildiv(cx, t->dim[axis], dim_const(cx, n->n_out)), sum = dim_const(cx, 0);
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    for (uint32_t k = 0; k < n->n_out; k++) {
        if (given) dim[axis] = sizes != NULL ? sizes[k] : shape_runtime_dim(m, n, k, axis, 0, dim_hi(cx, t->dim[axis]));
        else dim[axis] = k + 1 < n->n_out ? each : dim_sub(cx, t->dim[axis], dim_mul(cx, each, dim_const(cx, n->n_out - 1)));
        sum = dim_add(cx, sum, dim[axis]);
        shape_out(m, n, k, t->dtype, t->rank, dim);
    }
    return sizes == NULL || shape_unify(m, n, sum, t->dim[axis], "sum of the parts") != 0;
}

bool shape_concat(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    uint32_t axis;
    if (t == NULL || !shape_axis(m, n, attr_i(n, AT_Concat_axis), t->rank, &axis)) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    uint32_t total = 0;
    bool known = t->rank == 1;
    for (uint32_t k = 0; k < n->n_in; k++) {
        const Type *p = shape_in(m, n, k);
        if (p == NULL) return false;
        if (p->rank != t->rank || p->dtype != t->dtype) {
            diag(cx, SEV_ERROR, n->loc, "input %u is %s of rank %u, input 0 is %s of rank %u: they must be the same", k, dtype_text(p->dtype), p->rank, dtype_text(t->dtype), t->rank);
            return false;
        }
        for (uint32_t i = 0; i < t->rank; i++) {
            if (i == axis) dim[i] = k == 0 ? p->dim[i] : dim_add(cx, dim[i], p->dim[i]);
            else if ((dim[i] = shape_unify(m, n, dim[i], p->dim[i], "concatenated dimension")) == 0) return false;
        }
        uint32_t count = 0;
        known = known && value_dims(m, n->in[k], &count) != NULL;
        total += count;
    }
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    if (!known) return true;
    Dim *all = ARENA_ARRAY(&cx->scratch, Dim, total), *to = all;
    for (uint32_t k = 0; k < n->n_in; k++) {
        uint32_t count;
        const Dim *part = value_dims(m, n->in[k], &count);
        for (uint32_t i = 0; i < count; i++) *to++ = part[i];
    }
    shape_set_sym(m, n->out[0], total, all);
    return true;
}

bool shape_qlinear_concat(Module *m, Node *n) { /* y_scale, y_zero, then (x, scale, zero) per part */
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 2);
    uint32_t axis;
    if (t == NULL || !shape_axis(m, n, attr_i(n, AT_QLinearConcat_axis), t->rank, &axis)) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    for (uint32_t k = 5; k < n->n_in; k += 3) {
        const Type *p = shape_in(m, n, k);
        if (p == NULL) return false;
        dim[axis] = dim_add(cx, dim[axis], p->dim[axis]);
    }
    shape_out(m, n, 0, t->dtype, t->rank, dim);
    return true;
}

/* ---- shapes as values -------------------------------------------------------------------------------------------- */
bool shape_shape(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    int64_t rank = t->rank, start = attr_i(n, AT_Shape_start), end = attr_has(n, AT_Shape_end) ? attr_i(n, AT_Shape_end) : rank;
    start = start < 0 ? start + rank : start;
    end = end < 0 ? end + rank : end;
    start = start < 0 ? 0 : start > rank ? rank : start;
    end = end < start ? start : end > rank ? rank : end;
    Dim count = constant(m, end - start);
    shape_out(m, n, 0, DT_I64, 1, &count);
    shape_set_sym(m, n->out[0], (uint32_t)(end - start), t->dim + start);
    return true;
}

bool shape_size(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    Dim total = type_numel(m->cx, t);
    shape_out(m, n, 0, DT_I64, 0, NULL);
    shape_set_sym(m, n->out[0], 1, &total);
    return true;
}

bool shape_bind_dims(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0), *bound = attr_at(n, AT_BindDims_type)->type;
    if (t == NULL) return false;
    shape_out(m, n, 0, DT_I64, 1, (Dim[]){constant(m, bound->rank)});
    shape_set_sym(m, n->out[0], bound->rank, bound->dim);
    return true;
}

/* One element per dimension of what operator `of` makes of these inputs. */
bool shape_view_sizes(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    const char *of = str_text(m->cx, attr_s(n, AT_ViewSizes_of));
    uint32_t count;
    if (t == NULL || !shape_length(m, n, 1, &count)) return false;
    uint32_t rank = t->rank;
    if (strcmp(of, "Reshape") == 0 || strcmp(of, "Split") == 0) rank = count;
    else if (strcmp(of, "Expand") == 0) rank = count > rank ? count : rank;
    else if (strcmp(of, "Squeeze") == 0) rank = count < rank ? rank - count : 0;
    else if (strcmp(of, "Unsqueeze") == 0 || strcmp(of, "ExpandDims") == 0) rank += count;
    shape_out(m, n, 0, DT_I64, 1, (Dim[]){constant(m, rank)});
    return true;
}
