/* Register tiles: choosing them, packing for them, calling their micro-kernels from a lowering rule. */
#ifndef LATHE_PASSES_TILE_H
#define LATHE_PASSES_TILE_H
#include "ir/contract.h"
#include "ir/target.h"
#include "passes/lower.h"

typedef struct Tile { int64_t rows, cols, vector; } Tile; /* cols: a multiple of vector, the floats of a register */

/* The tile for a product of m x k x n: the least estimated time, padding and the last rows included. */
Tile tile_choose(const Target *t, Dim m, int64_t n, int64_t k, Context *cx);
Tile tile_choose_dividing(const Target *t, Dim m, int64_t n, int64_t k, Context *cx); /* cols divides n; cols 0: none does */
Tile tile_of_columns(const Target *t, int64_t cols, int64_t m, int64_t k); /* cols, a multiple of the vector, are given */

/* Estimated cycles of the product with this tile. */
double tile_time(const Tile *tile, int64_t m, int64_t n, int64_t k);

/* How many tiles, one below the other, make one piece of work for a thread: enough that finding the piece costs nothing,
 * few so that threads get equal shares of small products. */
int64_t tile_block(const Tile *tile, int64_t k);

/* Zeroed memory for packed weights, which start at a cache line. */
void *tile_storage(Context *cx, int64_t bytes);

/* to[p][k][j] = from[k * row + (p * nr + j) * col], zero beyond n columns. */
void tile_pack(float *to, const float *from, int64_t k, int64_t n, int64_t row, int64_t col, int64_t nr);

/* Packing at run time. At the open loops, stores columns 0..nr-1 of one line of panel `panel` to buffer `to`: idx is its
 * index but for the last position, `at`; columns from n on are zeros. element: the value of column `col` (of the whole
 * matrix), with the caller's data. */
typedef Expr *TileElement(Lower *lo, void *user, Expr *col);
void tile_pack_line(Lower *lo, uint32_t to, Expr **idx, uint32_t at, Expr *panel, int64_t n, int64_t nr, TileElement *element, void *user);

/* min(rows, m - m0), simplified when it is always `rows`. m0 is a multiple of rows. */
Expr *tile_rows(Lower *lo, Dim m, int64_t rows, Expr *m0);

/* The columns that a panel of `width` has, where there are `columns` in all: code for whole panels, and for the last one
 * if it has fewer.
 *
 *     for (TileColumns c = tile_columns(lo, panel, columns, width); c.count != 0; tile_columns_next(lo, &c)) store(c.count); */
typedef struct TileColumns { int64_t count, rest; bool two; } TileColumns; /* two: cases, told apart at run time */
TileColumns tile_columns(Lower *lo, Expr *panel, int64_t columns, int64_t width);
void tile_columns_next(Lower *lo, TileColumns *c);

/* Arguments of CONTRACT_TILE (ir/contract.h); n1, n2 NULL: 1; out_at NULL: 0; b_1, b_2 NULL: b goes on where it was. */
typedef struct TileFinish { /* done to the sums before they are stored */
    uint32_t bias;          /* buffer: added, an element for every column of every panel */
    Expr *low, *high;       /* f32 constants: the least and the greatest value; NULL: none */
    Expr *at, *row;         /* set per call: where the tile's bias begins, elements between rows of out */
} TileFinish;

typedef struct TileCall {
    uint32_t out, a, b;
    Expr *out_at, *rows, *a_at, *a_row, *a_k, *n1, *a_1, *n2, *a_2, *k, *b_at, *b_1, *b_2, *b_k;
    bool add, bf16, i8; /* bf16: CONTRACT_TILE_BF16; i8: CONTRACT_TILE_I8 */
    const TileFinish *finish; /* CONTRACT_TILE only; NULL: plain sums */
    Expr *a_end; /* i8 only */
    Expr *ahead; /* by tile_fetch_ahead; NULL: none */
    int64_t pace; /* of it: floats per k */
    bool stream;  /* by tile_fetch_ahead */
} TileCall;
/* Panels of b that the last run's other layers have driven out of the cache are fetched one panel ahead, evenly over the
 * tiles of a panel: sets call->ahead and call->pace for tile number t of `tiles`, in order. Nothing when the whole of b
 * (n_panel panels of k rows) is small. Where a panel has a single tile, and is read once, it sets call->stream instead: a
 * little ahead of the reading all along. call_k: the rows of b that one call multiplies with. */
void tile_fetch_ahead(Lower *lo, const Tile *tile, Expr *panel, int64_t n_panel, int64_t k, int64_t call_k, Expr *t, Dim tiles, TileCall *call);
void tile_emit(Lower *lo, const Tile *t, const TileCall *c);

/* Micro-kernels whose tiles have many rows (bf16, integers, groups of codes) all stand in the same loops. */
typedef struct TileRows {      /* inside them: the rows of one tile */
    Expr *panel, *first, *count;
    uint32_t tile;             /* their sums: [most, cols] */
    int64_t most, cols;
} TileRows;
/* The tile height up to `most` that splits m rows best, where sets of 32 rows use the weights they load fully and a set of
 * 16 or fewer costs lone / 8 of that. */
int64_t tile_height(const Context *cx, Dim m, int64_t most, int64_t lone);
/* Opens the loops over tiles of `most` of the m rows and the panels of `cols` columns, the one outermost that makes the
 * weights (panel_bytes each panel) stay in cache or be read once. They are shared by the threads together with the loops
 * from first_loop on, which are open already. sum: the type of the tile. */
TileRows tile_rows_open(Lower *lo, Dim m, int64_t most, int64_t panels, int64_t panel_bytes, int64_t cols, DType sum, uint32_t first_loop);
/* Calls the micro-kernel for them; the caller has filled in the operands and the kind. */
void tile_rows_call(Lower *lo, const TileRows *r, TileCall *c);

#endif
