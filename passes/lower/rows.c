/* Loops over rows: see rows.h. */
#include "passes/lower/rows.h"

#include <math.h>

enum { TILE = 64, TILE_WHOLE = 96, STAGE_BYTES = 32768 };

static bool is_one(const Lower *lo, Dim d) { return dim_is_const(lo->cx, d) && dim_value(lo->cx, d) == 1; }

static void choose_lanes(Rows *r) {
    r->lanes = false;
    for (uint32_t a = r->rank; a-- > 0;) {
        if (is_one(r->lo, r->dim[a])) continue;
        r->lanes = (r->mask >> a & 1) == 0;
        r->lane_axis = a;
        return;
    }
}

void rows_open(Rows *r, Lower *lo, uint32_t rank, const Dim *dim, uint32_t mask) {
    *r = (Rows){.lo = lo, .rank = rank, .mask = mask, .dim = dim};
    choose_lanes(r);
    for (uint32_t a = 0; a < rank; a++) {
        r->idx[a] = lx_i(lo, 0);
        if ((mask >> a & 1) != 0 || (r->lanes && a == r->lane_axis)) continue;
        r->idx[a] = lower_for_dim(lo, dim[a]);
        r->n_loop++;
    }
    if (!r->lanes) return;
    Dim d = dim[r->lane_axis];
    Expr *extent = lx_dim(lo, d);
    r->tile = TILE;
    if (dim_hi(lo->cx, d) <= TILE_WHOLE) {
        r->tile = dim_hi(lo->cx, d) > 0 ? dim_hi(lo->cx, d) : 1;
        r->base = lx_i(lo, 0);
        r->width = extent;
        return;
    }
    Expr *t = lower_for_dim(lo, dim_ceildiv(lo->cx, d, dim_const(lo->cx, TILE)));
    r->n_loop++;
    r->base = lx_mul(lo, t, lx_i(lo, TILE));
    r->width = lx_2(lo, FN_MIN, lx_sub(lo, extent, r->base), lx_i(lo, TILE));
}

void rows_open_runtime(Rows *r, Lower *lo, uint32_t rank, const Dim *dim, const Dim *out, const Value *sizes) {
    *r = (Rows){.lo = lo, .rank = rank, .dim = dim, .sizes = sizes};
    for (uint32_t a = 0; a < rank; a++) r->outer[a] = r->idx[a] = lower_for_dim(lo, out[a]);
    r->n_loop = rank;
    if (rank != 0) return;
    lower_for(lo, lx_i(lo, 1)); /* accumulators need a block */
    r->n_loop = 1;
}

void rows_close(Rows *r) { lower_end_n(r->lo, r->n_loop); }

void rows_lane(Rows *r) {
    if (!r->lanes) return;
    r->lane = lower_for(r->lo, r->width);
    r->idx[r->lane_axis] = lx_add(r->lo, r->base, r->lane);
}

void rows_lane_end(Rows *r) {
    if (r->lanes) lower_end(r->lo);
}

void rows_each(Rows *r) {
    r->n_each = 0;
    for (uint32_t a = 0; a < r->rank; a++) {
        Expr *at = lx_i(r->lo, a);
        if (r->sizes != NULL) { /* a kept axis runs once, at its outer index; a reduced one from its only outer index, 0 */
            Expr *i = lower_for(r->lo, lower_load(r->lo, r->sizes, &at));
            r->idx[a] = lx_2(r->lo, FN_INDEX, lx_add(r->lo, r->outer[a], i), lx_dim(r->lo, r->dim[a]));
        } else if ((r->mask >> a & 1) != 0) {
            r->idx[a] = lower_for_dim(r->lo, r->dim[a]);
        } else {
            continue;
        }
        r->n_each++;
    }
    rows_lane(r);
}

void rows_each_end(Rows *r) {
    rows_lane_end(r);
    lower_end_n(r->lo, r->n_each);
}

RowAcc rows_acc(Rows *r, DType dtype, Expr *init) {
    RowAcc acc = {.dtype = dtype};
    if (!r->lanes) {
        acc.local = lower_local(r->lo, dtype, init);
        return acc;
    }
    Dim width = dim_const(r->lo->cx, r->tile);
    acc.buf = lower_array(r->lo, dtype, 1, &width);
    rows_lane(r);
    rows_add(r, acc, FN_NONE, init);
    rows_lane_end(r);
    return acc;
}

void rows_add(Rows *r, RowAcc acc, Fn reduce, Expr *val) {
    if (r->lanes) lower_store_buf(r->lo, acc.buf, &r->lane, reduce, val);
    else lower_accumulate(r->lo, acc.local, reduce, val);
}

Expr *rows_get(Rows *r, RowAcc acc) {
    return r->lanes ? lower_load_buf(r->lo, acc.buf, &r->lane) : acc.local;
}

Expr *rows_count(Rows *r) {
    Context *cx = r->lo->cx;
    if (r->sizes != NULL) {
        Expr *count = lx_i(r->lo, 1);
        for (uint32_t a = 0; a < r->rank; a++) {
            Expr *at = lx_i(r->lo, a);
            count = lx_mul(r->lo, count, lower_load(r->lo, r->sizes, &at));
        }
        return count;
    }
    Dim n = dim_const(cx, 1);
    for (uint32_t a = 0; a < r->rank; a++)
        if ((r->mask >> a & 1) != 0) n = dim_mul(cx, n, r->dim[a]);
    return lx_dim(r->lo, n);
}

RowStage rows_stage(Rows *r, DType dtype) {
    Context *cx = r->lo->cx;
    Dim dim[RANK_MAX + 1];
    uint32_t n = 0;
    int64_t bytes = dtype_bits(dtype) / 8;
    for (uint32_t a = 0; a < r->rank; a++) {
        if ((r->mask >> a & 1) == 0) continue;
        int64_t hi = dim_hi(cx, r->dim[a]);
        if (hi > STAGE_BYTES || (bytes *= hi > 0 ? hi : 1) > STAGE_BYTES) return (RowStage){0};
        dim[n++] = dim_const(cx, hi > 0 ? hi : 1);
    }
    if (r->lanes) {
        dim[n++] = dim_const(cx, r->tile);
        bytes *= r->tile;
    }
    if (bytes > STAGE_BYTES) return (RowStage){0};
    return (RowStage){true, lower_array(r->lo, dtype, n, dim)};
}

static void stage_index(const Rows *r, Expr **idx) {
    uint32_t n = 0;
    for (uint32_t a = 0; a < r->rank; a++)
        if ((r->mask >> a & 1) != 0) idx[n++] = r->idx[a];
    if (r->lanes) idx[n] = r->lane;
}

void rows_put(Rows *r, RowStage s, Expr *val) {
    if (!s.on) return;
    Expr *idx[RANK_MAX + 1];
    stage_index(r, idx);
    lower_store_buf(r->lo, s.buf, idx, FN_NONE, val);
}

Expr *rows_take(Rows *r, RowStage s) {
    Expr *idx[RANK_MAX + 1];
    stage_index(r, idx);
    return lower_load_buf(r->lo, s.buf, idx);
}

bool lower_is_computed(const Lower *lo, const Value *v) {
    return lo->body != NULL && v->def != NULL && v->def->graph == lo->body;
}

bool lower_is_wanted(const Lower *lo, const Value *v) {
    if (v == NULL) return false;
    if (!lower_is_computed(lo, v)) return true;
    for (uint32_t i = 0; i < lo->body->n_out; i++)
        if (lo->body->out[i] == v) return true;
    for (const Node *n = lo->body->first; n != NULL; n = n->next)
        for (uint32_t i = 0; i < n->n_in; i++)
            if (n->in[i] == v) return true;
    return false;
}

static Expr *extreme(Lower *lo, DType dtype, bool high) {
    if (dtype_is_float(dtype)) return ex_f(lo->cx, dtype, high ? (double)INFINITY : -(double)INFINITY);
    uint32_t bits = dtype_bits(dtype);
    if (dtype == DT_BOOL) return ex_i(lo->cx, dtype, high);
    bool is_signed = dtype_class(dtype) == 'I';
    int64_t top = (int64_t)(UINT64_MAX >> (64 - bits + (is_signed ? 1 : 0))); /* u64: all bits, as kept in constants */
    return ex_i(lo->cx, dtype, high ? top : is_signed ? -top - 1 : 0);
}

Expr *lower_lowest(Lower *lo, DType dtype) { return extreme(lo, dtype, false); }
Expr *lower_highest(Lower *lo, DType dtype) { return extreme(lo, dtype, true); }

DType lower_float_type(DType dtype) { return dtype == DT_F64 ? DT_F64 : DT_F32; }
