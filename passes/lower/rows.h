/* Loops over rows: the frame of reductions, softmax and normalisations.
 *
 * A row is what one set of kept indices selects; the axes in `mask` run inside it. Two layouts, one way to write them:
 *
 *   the last axis is reduced:             the last axis is kept ("lanes"):
 *     for kept                              for kept, tile of the last axis
 *       acc = init                            for lane: acc[lane] = init
 *       for reduced: acc += x                 for reduced, lane: acc[lane] += x
 *       out = acc                             for lane: out = acc[lane]
 *
 * Either way the innermost loop runs over contiguous memory.
 *
 *     Rows r;
 *     rows_open(&r, lo, rank, dims, mask);
 *     RowAcc sum = rows_acc(&r, DT_F32, zero);
 *     rows_each(&r);                                // every element of the row; r.idx is its index
 *     rows_add(&r, sum, FN_ADD, lower_load(lo, x, r.idx));
 *     rows_each_end(&r);
 *     rows_lane(&r);                                // once per row; only the kept part of r.idx is set
 *     ... rows_get(&r, sum) ...
 *     rows_lane_end(&r);
 *     rows_close(&r); */
#ifndef LATHE_PASSES_LOWER_ROWS_H
#define LATHE_PASSES_LOWER_ROWS_H
#include "passes/lower.h"

typedef struct Rows {
    Lower *lo;
    uint32_t rank, mask;
    const Dim *dim;
    Expr *idx[RANK_MAX];
    bool lanes;
    uint32_t lane_axis;
    int64_t tile;               /* width of accumulator arrays */
    Expr *base, *width, *lane;  /* index = base + lane, lane < width <= tile */
    uint32_t n_loop, n_each;
    const Value *sizes;         /* rows_open_runtime: how far each axis runs inside a row */
    Expr *outer[RANK_MAX];
} Rows;

typedef struct RowAcc { Expr *local; uint32_t buf; DType dtype; } RowAcc;
/* A copy of the row, so that an expensive input is computed once; on == false: too big, compute again. */
typedef struct RowStage { bool on; uint32_t buf; } RowStage;

void rows_open(Rows *r, Lower *lo, uint32_t rank, const Dim *dim, uint32_t mask);
/* Which axes are reduced is only known at run time: element a of sizes (i64) is the size of axis a if it is, else 1.
 * out: the dims left, reduced ones as 1. */
void rows_open_runtime(Rows *r, Lower *lo, uint32_t rank, const Dim *dim, const Dim *out, const Value *sizes);
void rows_close(Rows *r);
void rows_each(Rows *r);
void rows_each_end(Rows *r);
void rows_lane(Rows *r);
void rows_lane_end(Rows *r);

RowAcc rows_acc(Rows *r, DType dtype, Expr *init);
void rows_add(Rows *r, RowAcc acc, Fn reduce, Expr *val);      /* FN_NONE: assignment */
Expr *rows_get(Rows *r, RowAcc acc);
Expr *rows_count(Rows *r);                                     /* elements of a row, i64 */

RowStage rows_stage(Rows *r, DType dtype);
void rows_put(Rows *r, RowStage s, Expr *val);                 /* nothing when off */
Expr *rows_take(Rows *r, RowStage s);

/* Would loading v again compute it again (a fused producer)? */
bool lower_is_computed(const Lower *lo, const Value *v);
/* Must this output be stored: somebody wants it. */
bool lower_is_wanted(const Lower *lo, const Value *v);
/* Neutral start values of a maximum and a minimum. */
Expr *lower_lowest(Lower *lo, DType dtype);
Expr *lower_highest(Lower *lo, DType dtype);
/* f64 for double, else f32. */
DType lower_float_type(DType dtype);

#endif
