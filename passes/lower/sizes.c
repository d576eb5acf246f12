/* ViewSizes: the sizes of another operator's result, computed from the same operands.
 *
 *     ViewSizes(%x, %shape) {of = "Reshape"}: element i is shape[i], the input's size where it is 0, and what is left
 *     of the number of elements where it is -1 */
#include "passes/lower/operand.h"

#include "passes/rules.h"

static void store(Lower *lo, const Node *n, uint32_t i, Expr *e) {
    Expr *at = lx_i(lo, i);
    lower_store(lo, n->out[0], &at, e);
}

static uint32_t length(Lower *lo, const Value *v) { return (uint32_t)dim_value(lo->cx, type_numel(lo->cx, v->type)); }

static void reshape_sizes(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    uint32_t rank = length(lo, n->in[1]);
    Expr *size[RANK_MAX], *rest = lx_i(lo, 1), *minus_one = lx_i(lo, -1);
    for (uint32_t i = 0; i < rank; i++) {
        size[i] = lower_load_element(lo, n->in[1], i);
        if (attr_i(n, AT_ViewSizes_allowzero) == 0) {
            Expr *zero = lx_2(lo, FN_EQ, size[i], lx_i(lo, 0));
            Expr *kept = i < t->rank ? lx_dim(lo, t->dim[i]) : ex_require(lo->cx, lx_1(lo, FN_NOT, zero), size[i], LATHE_RT_SHAPE);
            size[i] = lx_select(lo, zero, kept, size[i]);
        }
        rest = lx_mul(lo, rest, lx_select(lo, lx_2(lo, FN_EQ, size[i], minus_one), lx_i(lo, 1), size[i]));
    }
    Expr *total = lx_dim(lo, type_numel(lo->cx, t)), *product = lx_i(lo, 1);
    for (uint32_t i = 0; i < rank; i++) {
        size[i] = lx_select(lo, lx_2(lo, FN_EQ, size[i], minus_one), lx_2(lo, FN_FLOORDIV, total, rest), size[i]);
        product = lx_mul(lo, product, size[i]);
    }
    for (uint32_t i = 0; i < rank; i++) store(lo, n, i, ex_require(lo->cx, lx_2(lo, FN_EQ, product, total), size[i], LATHE_RT_SHAPE));
}

static void expand_sizes(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    uint32_t count = length(lo, n->in[1]), rank = count > t->rank ? count : t->rank;
    Expr *one = lx_i(lo, 1);
    for (uint32_t i = 0; i < rank; i++) {
        Expr *have = i + t->rank >= rank ? lx_dim(lo, t->dim[i + t->rank - rank]) : one;
        Expr *want = i + count >= rank ? lower_load_element(lo, n->in[1], i + count - rank) : one;
        Expr *fits = lx_2(lo, FN_OR, lx_2(lo, FN_EQ, have, one), lx_2(lo, FN_OR, lx_2(lo, FN_EQ, want, one), lx_2(lo, FN_EQ, want, have)));
        store(lo, n, i, ex_require(lo->cx, fits, lx_select(lo, lx_2(lo, FN_EQ, want, one), have, want), LATHE_RT_SHAPE));
    }
}

/* Repeats may be anything: a product must not wrap around to a size. */
static void tile_sizes(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    for (uint32_t i = 0; i < t->rank; i++) {
        Expr *repeats = lower_load_element(lo, n->in[1], i);
        Expr *capped = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, repeats, lx_i(lo, INT32_MAX)), lx_i(lo, -1));
        store(lo, n, i, ex_require(lo->cx, lx_2(lo, FN_GE, repeats, lx_i(lo, 0)), lx_mul(lo, lx_dim(lo, t->dim[i]), capped), LATHE_RT_BOUND));
    }
}

/* The parts of Split, which must fill the axis. */
static void split_sizes(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    int64_t axis = attr_i(n, AT_ViewSizes_axis);
    uint32_t count = length(lo, n->in[1]);
    Expr *ok = ex_i(lo->cx, DT_BOOL, 1), *rest = lx_dim(lo, t->dim[axis < 0 ? axis + t->rank : axis]);
    for (uint32_t i = 0; i < count; i++) {
        Expr *size = lower_load_element(lo, n->in[1], i);
        ok = lx_2(lo, FN_AND, ok, lx_2(lo, FN_AND, lx_2(lo, FN_GE, size, lx_i(lo, 0)), lx_2(lo, FN_LE, size, rest)));
        rest = lx_sub(lo, rest, size);
    }
    ok = lx_2(lo, FN_AND, ok, lx_2(lo, FN_EQ, rest, lx_i(lo, 0)));
    for (uint32_t i = 0; i < count; i++) store(lo, n, i, ex_require(lo->cx, ok, lower_load_element(lo, n->in[1], i), LATHE_RT_SHAPE));
}

static void slice_sizes(Lower *lo, const Node *n) {
    Expr *zero = lx_i(lo, 0), *one = lx_i(lo, 1);
    for (uint32_t i = 0; i < n->in[0]->type->rank; i++) {
        SliceAxis s = slice_axis(lo, n, i);
        Expr *step = ex_require(lo->cx, lx_2(lo, FN_NE, s.step, zero), s.step, LATHE_RT_VALUE);
        Expr *forward = lx_2(lo, FN_GT, step, zero);
        /* ceil of the span over the step, in whole numbers: the span moved one short of the next multiple */
        Expr *span = lx_add(lo, lx_sub(lo, s.end, s.start), lx_select(lo, forward, lx_i(lo, -1), one));
        Expr *count = lx_add(lo, lx_div(lo, span, step), one);
        Expr *empty = lx_select(lo, forward, lx_2(lo, FN_LE, s.end, s.start), lx_2(lo, FN_GE, s.end, s.start));
        store(lo, n, i, lx_select(lo, empty, zero, count));
    }
}

static void pad_sizes(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    uint32_t count = length(lo, n->in[1]) / 2;
    for (uint32_t i = 0; i < t->rank; i++) {
        Expr *size = lx_dim(lo, t->dim[i]);
        for (uint32_t k = 0; k < count; k++) {
            Expr *axis = has_in(n, 3) ? lower_load_element(lo, n->in[3], k) : lx_i(lo, k);
            Expr *hit = lx_2(lo, FN_OR, lx_2(lo, FN_EQ, axis, lx_i(lo, i)), lx_2(lo, FN_EQ, axis, lx_i(lo, (int64_t)i - t->rank)));
            if (ex_is_const(hit, 0)) continue;
            Expr *padded = lx_add(lo, lower_load_element(lo, n->in[1], k), lower_load_element(lo, n->in[1], k + count));
            size = lx_add(lo, size, lx_select(lo, hit, padded, lx_i(lo, 0)));
        }
        store(lo, n, i, size);
    }
}

/* Is dimension i of `rank` one of the run-time axes in input 1? */
static Expr *listed(Lower *lo, const Node *n, uint32_t i, uint32_t rank) {
    Expr *hit = ex_i(lo->cx, DT_BOOL, 0);
    for (uint32_t k = 0, count = length(lo, n->in[1]); k < count; k++) {
        Expr *axis = lower_load_element(lo, n->in[1], k);
        hit = lx_2(lo, FN_OR, hit, lx_2(lo, FN_EQ, axis, lx_i(lo, i)));
        hit = lx_2(lo, FN_OR, hit, lx_2(lo, FN_EQ, axis, lx_i(lo, (int64_t)i - rank)));
    }
    return hit;
}

/* Output i of Squeeze is the dim in front of which i dims stay: chosen over all inputs. */
static void squeeze_sizes(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    uint32_t rank = (uint32_t)dim_value(lo->cx, n->out[0]->type->dim[0]);
    Expr *before = lx_i(lo, 0), *size[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) size[i] = lx_i(lo, -1);
    for (uint32_t k = 0; k < t->rank; k++) {
        Expr *stays = lx_1(lo, FN_NOT, listed(lo, n, k, t->rank));
        for (uint32_t i = 0; i < rank; i++) {
            Expr *here = lx_2(lo, FN_AND, stays, lx_2(lo, FN_EQ, before, lx_i(lo, i)));
            size[i] = lx_select(lo, here, lx_dim(lo, t->dim[k]), size[i]);
        }
        before = lx_add(lo, before, lx_cast(lo, DT_I64, stays));
    }
    for (uint32_t i = 0; i < rank; i++) store(lo, n, i, size[i]);
}

static void unsqueeze_sizes(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    uint32_t rank = (uint32_t)dim_value(lo->cx, n->out[0]->type->dim[0]);
    Expr *taken = lx_i(lo, 0);
    for (uint32_t i = 0; i < rank; i++) {
        Expr *is_new = listed(lo, n, i, rank), *size = lx_i(lo, -1);
        for (uint32_t k = 0; k < t->rank; k++) size = lx_select(lo, lx_2(lo, FN_EQ, taken, lx_i(lo, k)), lx_dim(lo, t->dim[k]), size);
        store(lo, n, i, lx_select(lo, is_new, lx_i(lo, 1), size));
        taken = lx_add(lo, taken, lx_cast(lo, DT_I64, lx_1(lo, FN_NOT, is_new)));
    }
}

bool lower_view_sizes(Lower *lo, const Node *n) {
    const char *of = str_text(lo->cx, attr_s(n, AT_ViewSizes_of));
    if (strcmp(of, "Reshape") == 0) reshape_sizes(lo, n);
    else if (strcmp(of, "Expand") == 0) expand_sizes(lo, n);
    else if (strcmp(of, "Tile") == 0) tile_sizes(lo, n);
    else if (strcmp(of, "Split") == 0) split_sizes(lo, n);
    else if (strcmp(of, "Slice") == 0) slice_sizes(lo, n);
    else if (strcmp(of, "Pad") == 0) pad_sizes(lo, n);
    else if (strcmp(of, "Squeeze") == 0) squeeze_sizes(lo, n);
    else if (strcmp(of, "Unsqueeze") == 0 || strcmp(of, "ExpandDims") == 0) unsqueeze_sizes(lo, n);
    else {
        diag(lo->cx, SEV_ERROR, n->loc, "the sizes of %s at run time are not supported", of);
        return false;
    }
    return true;
}
