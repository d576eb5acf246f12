/* Definitions of operators that move elements: where the element at an index of the result stands in the input.
 *
 *     Transpose {perm = [1,0]}:  y[i,j] = x[j,i]           Tile:  y[i] = x[i mod n]
 *
 * An expression may be evaluated where its result is thrown away (select), so indices are clamped into range wherever
 * the definition chooses between elements. */
#include "passes/lower/operand.h"

#include "passes/rules.h"

static Expr *zero(Lower *lo) { return lx_i(lo, 0); }

static Expr *clamp_index(Lower *lo, Expr *i, Dim size) {
    Expr *last = lx_sub(lo, lx_dim(lo, size), lx_i(lo, 1));
    return lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, i, last), zero(lo));
}

static Expr *inside(Lower *lo, Expr *i, Dim size) { /* 0 <= i < size */
    return lx_2(lo, FN_AND, lx_2(lo, FN_GE, i, zero(lo)), lx_2(lo, FN_LT, i, lx_dim(lo, size)));
}

/* ---- reshape ----------------------------------------------------------------------------------------------------- */
typedef struct DimRange { uint32_t begin, end; } DimRange;

static bool is_one(const Lower *lo, Dim d) { return dim_is_const(lo->cx, d) && dim_value(lo->cx, d) == 1; }

/* Inputs dims `in` from the elements counted by output dims `out`: a mixed-radix number read in another radix. */
static void convert_range(Lower *lo, const Type *from, DimRange in, const Type *to, DimRange out, Expr *const *idx, Expr **own) {
    Expr *linear = zero(lo);
    for (uint32_t i = out.begin; i < out.end; i++) linear = lx_add(lo, lx_mul(lo, linear, lx_dim(lo, to->dim[i])), idx[i]);
    for (uint32_t i = in.end; i-- > in.begin;) {
        Expr *size = lx_dim(lo, from->dim[i]);
        own[i] = i == in.begin ? linear : lx_2(lo, FN_MOD, linear, size);
        linear = lx_2(lo, FN_FLOORDIV, linear, size);
    }
}

/* Walks both shapes from the left and converts the shortest runs of dims with equal products on their own. */
Expr *define_reshape(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    Context *cx = lo->cx;
    const Type *from = n->in[0]->type, *to = n->out[out]->type;
    Expr *own[RANK_MAX];
    DimRange a = {0, 0}, b = {0, 0};
    Dim pa = dim_const(cx, 1), pb = pa;
    while (a.end < from->rank || b.end < to->rank) {
        bool more_a = a.end < from->rank, more_b = b.end < to->rank;
        if (pa == pb && a.end > a.begin && b.end > b.begin && !(more_a && is_one(lo, from->dim[a.end]))) {
            convert_range(lo, from, a, to, b, idx, own);
            a.begin = a.end;
            b.begin = b.end;
            pa = pb = dim_const(cx, 1);
        }
        bool take_a = more_a && (!more_b || dim_hi(cx, pa) <= dim_hi(cx, pb));
        if (take_a) pa = dim_mul(cx, pa, from->dim[a.end++]);
        else pb = dim_mul(cx, pb, to->dim[b.end++]);
    }
    convert_range(lo, from, a, to, b, idx, own);
    return lower_load(lo, n->in[0], own);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */
Expr *define_transpose(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Attr *perm = attr_at(n, AT_Transpose_perm);
    uint32_t rank = n->in[0]->type->rank;
    Expr *own[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) {
        int64_t from = perm->present ? perm->ints.v[i] : (int64_t)rank - 1 - i;
        own[from < 0 ? from + rank : from] = idx[i];
    }
    return lower_load(lo, n->in[0], own);
}

/* Channels of one pixel of a block: depth-column-row counts blocks outside, column-row-depth inside. */
static Expr *block_channel(Lower *lo, bool crd, Expr *channel, Dim channels, Expr *dy, Expr *dx, int64_t b) {
    Expr *cell = lx_add(lo, lx_mul(lo, dy, lx_i(lo, b)), dx);
    if (crd) return lx_add(lo, lx_mul(lo, channel, lx_i(lo, b * b)), cell);
    return lx_add(lo, lx_mul(lo, cell, lx_dim(lo, channels)), channel);
}

Expr *define_depth_to_space(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    int64_t b = attr_i(n, AT_DepthToSpace_blocksize);
    bool crd = attr_s_is(lo->cx, n, AT_DepthToSpace_mode, "CRD");
    Expr *size = lx_i(lo, b), *dy = lx_2(lo, FN_MOD, idx[2], size), *dx = lx_2(lo, FN_MOD, idx[3], size);
    Expr *channel = block_channel(lo, crd, idx[1], n->out[out]->type->dim[1], dy, dx, b);
    return lower_load(lo, n->in[0], (Expr *[]){idx[0], channel, lx_2(lo, FN_FLOORDIV, idx[2], size), lx_2(lo, FN_FLOORDIV, idx[3], size)});
}

Expr *define_space_to_depth(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    int64_t b = attr_i(n, AT_SpaceToDepth_blocksize);
    bool crd = attr_s_is(lo->cx, n, AT_SpaceToDepth_mode, "CRD");
    Expr *size = lx_i(lo, b), *square = lx_i(lo, b * b), *channels = lx_dim(lo, n->in[0]->type->dim[1]);
    Expr *cell = crd ? lx_2(lo, FN_MOD, idx[1], square) : lx_2(lo, FN_FLOORDIV, idx[1], channels);
    Expr *channel = crd ? lx_2(lo, FN_FLOORDIV, idx[1], square) : lx_2(lo, FN_MOD, idx[1], channels);
    Expr *y = lx_add(lo, lx_mul(lo, idx[2], size), lx_2(lo, FN_FLOORDIV, cell, size));
    Expr *x = lx_add(lo, lx_mul(lo, idx[3], size), lx_2(lo, FN_MOD, cell, size));
    return lower_load(lo, n->in[0], (Expr *[]){idx[0], channel, y, x});
}

/* The first sequence_lens[b] steps of each sequence, backwards. */
Expr *define_reverse_sequence(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->out[out]->type;
    int64_t time = attr_i(n, AT_ReverseSequence_time_axis), batch = attr_i(n, AT_ReverseSequence_batch_axis);
    time = time < 0 ? time + t->rank : time;
    batch = batch < 0 ? batch + t->rank : batch;
    Expr *own[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) own[i] = idx[i];
    Expr *length = lx_cast(lo, DT_I64, lower_load(lo, n->in[1], &idx[batch]));
    Expr *mirrored = lx_sub(lo, lx_sub(lo, length, lx_i(lo, 1)), idx[time]);
    Expr *at = lx_select(lo, lx_2(lo, FN_LT, idx[time], length), mirrored, idx[time]);
    own[time] = lx_2(lo, FN_INDEX, at, lx_dim(lo, t->dim[time]));
    return lower_load(lo, n->in[0], own);
}

/* ---- repetition -------------------------------------------------------------------------------------------------- */
Expr *define_expand(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    return operand_load(lo, n->in[0], n->out[out]->type, idx);
}

Expr *define_tile(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Type *t = n->in[0]->type;
    Expr *own[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) own[i] = lx_2(lo, FN_MOD, idx[i], lx_dim(lo, t->dim[i]));
    return lower_load(lo, n->in[0], own);
}

/* ---- slice, split, concat ---------------------------------------------------------------------------------------- */
/* Does entry `entry` of an axes operand name `axis`? */
static Expr *names_axis(Lower *lo, Expr *entry, uint32_t axis, uint32_t rank) {
    return lx_2(lo, FN_OR, lx_2(lo, FN_EQ, entry, lx_i(lo, axis)), lx_2(lo, FN_EQ, entry, lx_i(lo, (int64_t)axis - rank)));
}

static uint32_t vector_length(Lower *lo, const Value *v) {
    Dim n = type_numel(lo->cx, v->type);
    return (uint32_t)dim_value(lo->cx, n);
}

SliceAxis slice_axis(Lower *lo, const Node *n, uint32_t axis) {
    const Type *t = n->in[0]->type;
    Expr *size = lx_dim(lo, t->dim[axis]), *one = lx_i(lo, 1);
    Expr *start = zero(lo), *end = size, *step = one;
    uint32_t count = vector_length(lo, n->in[1]);
    for (uint32_t k = 0; k < count; k++) {
        Expr *hit = has_in(n, 3) ? names_axis(lo, lower_load_element(lo, n->in[3], k), axis, t->rank) : ex_i(lo->cx, DT_BOOL, k == axis);
        if (ex_is_const(hit, 0)) continue;
        start = lx_select(lo, hit, lower_load_element(lo, n->in[1], k), start);
        end = lx_select(lo, hit, lower_load_element(lo, n->in[2], k), end);
        if (has_in(n, 4)) step = lx_select(lo, hit, lower_load_element(lo, n->in[4], k), step);
    }
    Expr *forward = lx_2(lo, FN_GT, step, zero(lo));
    Expr *low = lx_select(lo, forward, zero(lo), lx_i(lo, -1)), *high = lx_select(lo, forward, size, lx_sub(lo, size, one));
    Expr *bound[2] = {start, end};
    for (int side = 0; side < 2; side++) {
        Expr *v = bound[side];
        v = lx_select(lo, lx_2(lo, FN_LT, v, zero(lo)), lx_add(lo, v, size), v);
        bound[side] = lx_2(lo, FN_MAX, low, lx_2(lo, FN_MIN, v, high));
    }
    return (SliceAxis){bound[0], bound[1], step};
}

Expr *define_slice(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    uint32_t rank = n->in[0]->type->rank;
    Expr *own[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) {
        SliceAxis s = slice_axis(lo, n, i);
        own[i] = lx_add(lo, s.start, lx_mul(lo, idx[i], s.step));
    }
    return lower_load(lo, n->in[0], own);
}

Expr *define_split(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->in[0]->type;
    int64_t axis = attr_i(n, AT_Split_axis);
    axis = axis < 0 ? axis + t->rank : axis;
    Expr *own[RANK_MAX], *offset = zero(lo);
    for (uint32_t i = 0; i < t->rank; i++) own[i] = idx[i];
    if (has_in(n, 1)) {
        for (uint32_t k = 0; k < out; k++) offset = lx_add(lo, offset, lower_load_element(lo, n->in[1], k));
    } else {
        Dim each = dim_ceildiv(lo->cx, t->dim[axis], dim_const(lo->cx, n->n_out));
        offset = lx_mul(lo, lx_dim(lo, each), lx_i(lo, out));
    }
    own[axis] = lx_add(lo, idx[axis], offset);
    return lower_load(lo, n->in[0], own);
}

/* One loop nest per part: each copies a block. */
bool lower_concat(Lower *lo, const Node *n) {
    const Type *t = n->out[0]->type;
    int64_t axis = attr_i(n, AT_Concat_axis);
    axis = axis < 0 ? axis + t->rank : axis;
    Expr *offset = zero(lo);
    for (uint32_t k = 0; k < n->n_in; k++) {
        const Type *part = n->in[k]->type;
        Expr *idx[RANK_MAX], *at[RANK_MAX];
        lower_for_type(lo, part, idx);
        for (uint32_t i = 0; i < t->rank; i++) at[i] = i == axis ? lx_add(lo, idx[i], offset) : idx[i];
        lower_store(lo, n->out[0], at, lower_load(lo, n->in[k], idx));
        lower_end_n(lo, part->rank);
        offset = lx_add(lo, offset, lx_dim(lo, part->dim[axis]));
    }
    return true;
}

/* ---- padding ----------------------------------------------------------------------------------------------------- */
/* Elements that stand before the input along an axis; negative: cut off. */
static Expr *pad_before(Lower *lo, const Node *n, uint32_t axis) {
    uint32_t rank = n->in[0]->type->rank;
    if (!has_in(n, 3)) return lower_load_element(lo, n->in[1], axis);
    Expr *before = zero(lo);
    for (uint32_t k = 0, count = vector_length(lo, n->in[3]); k < count; k++) {
        Expr *hit = names_axis(lo, lower_load_element(lo, n->in[3], k), axis, rank);
        if (!ex_is_const(hit, 0)) before = lx_select(lo, hit, lower_load_element(lo, n->in[1], k), before);
    }
    return before;
}

/* Position j, possibly outside, to the position that the mode repeats there. */
static Expr *pad_source(Lower *lo, const char *mode, Expr *j, Dim size) {
    Expr *n = lx_dim(lo, size);
    if (strcmp(mode, "wrap") == 0) return lx_2(lo, FN_MOD, j, n);
    if (strcmp(mode, "reflect") == 0) {
        Expr *period = lx_2(lo, FN_MAX, lx_mul(lo, lx_sub(lo, n, lx_i(lo, 1)), lx_i(lo, 2)), lx_i(lo, 1));
        j = lx_2(lo, FN_MOD, j, period);
        j = lx_select(lo, lx_2(lo, FN_LT, j, n), j, lx_sub(lo, period, j));
    }
    return clamp_index(lo, j, size);
}

Expr *define_pad(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *t = n->in[0]->type;
    const char *mode = str_text(lo->cx, attr_s(n, AT_Pad_mode));
    bool constant = strcmp(mode, "constant") == 0;
    Expr *own[RANK_MAX], *all = ex_i(lo->cx, DT_BOOL, 1);
    for (uint32_t i = 0; i < t->rank; i++) {
        Expr *j = lx_sub(lo, idx[i], pad_before(lo, n, i));
        if (constant && n->out[out]->type->dim[i] != t->dim[i]) all = lx_2(lo, FN_AND, all, inside(lo, j, t->dim[i]));
        else if (constant && !ex_is_const(pad_before(lo, n, i), 0)) all = lx_2(lo, FN_AND, all, inside(lo, j, t->dim[i]));
        own[i] = pad_source(lo, mode, j, t->dim[i]);
        if (constant || dim_lo(lo->cx, t->dim[i]) > 0) continue; /* nothing to repeat in an empty input: an index out of range */
        Expr *some = lx_2(lo, FN_GT, lx_dim(lo, t->dim[i]), zero(lo));
        own[i] = lx_2(lo, FN_INDEX, lx_select(lo, some, own[i], lx_i(lo, -1)), lx_dim(lo, t->dim[i]));
    }
    Dim total = type_numel(lo->cx, t);
    DType compute = dtype_compute(t->dtype);
    Expr *fill = has_in(n, 2) ? lx_cast(lo, compute, lower_load_scalar(lo, n->in[2])) : lx_const(lo, compute, 0);
    if (dim_is_const(lo->cx, total) && dim_value(lo->cx, total) == 0) return fill;
    return lx_select(lo, all, lower_load(lo, n->in[0], own), fill);
}

/* The middle of the input, or the input in the middle of zeros; an odd rest goes to the right. */
Expr *define_center_crop_pad(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    const Type *from = n->in[0]->type, *to = n->out[out]->type;
    Expr *own[RANK_MAX], *all = ex_i(lo->cx, DT_BOOL, 1);
    for (uint32_t i = 0; i < from->rank; i++) {
        own[i] = idx[i];
        if (from->dim[i] == to->dim[i]) continue;
        Expr *offset = lx_div(lo, lx_sub(lo, lx_dim(lo, from->dim[i]), lx_dim(lo, to->dim[i])), lx_i(lo, 2));
        Expr *j = lx_add(lo, idx[i], offset);
        all = lx_2(lo, FN_AND, all, inside(lo, j, from->dim[i]));
        own[i] = clamp_index(lo, j, from->dim[i]);
    }
    return lx_select(lo, all, lower_load(lo, n->in[0], own), lx_const(lo, dtype_compute(from->dtype), 0));
}

/* Upper or lower triangle of the last two dims; k shifts the diagonal. */
Expr *define_trilu(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    uint32_t rank = n->out[out]->type->rank;
    bool upper = attr_i(n, n->op == OP_Trilu ? AT_Trilu_upper : AT_Ms_Trilu_upper) != 0;
    Expr *k = has_in(n, 1) ? lx_cast(lo, DT_I64, lower_load_scalar(lo, n->in[1])) : zero(lo);
    Expr *x = lower_load(lo, n->in[0], idx), *above = lx_sub(lo, idx[rank - 1], idx[rank - 2]);
    Expr *keep = lx_2(lo, upper ? FN_GE : FN_LE, above, k);
    return lx_select(lo, keep, x, lx_const(lo, (DType)x->dtype, 0));
}
