/* Channels-last convolutions as rows of a matrix, for micro-kernels whose tiles have many rows (bf16, integers). A row is a
 * result pixel; the micro-kernel walks the pixel's window in the image. See passes/lower_window.c for which pixels are
 * rows of one tile. */
#ifndef LATHE_PASSES_LOWER_WINDOW_H
#define LATHE_PASSES_LOWER_WINDOW_H
#include "passes/lower_conv.h"
#include "passes/tile.h"

typedef struct WindowRows {
    const ConvGeometry *g;
    const Value *x;
    int64_t taps, k;       /* a window is `taps` runs of k elements */
    int64_t padded;        /* windows: k rounded up to whole blocks */
    bool flat, merged;     /* rows are: every pixel of the batch; every pixel of the padded plane; else the pixels of a line */
    bool windows;          /* flat, over windows that are written out */
    uint32_t lines;        /* spatial dimensions with a loop of their own */
    Image image;
    Expr *n_at, *group, *at[RANK_MAX]; /* set by window_open */
} WindowRows;

/* False when the micro-kernels cannot walk the window. block: written windows are padded with zeros to a multiple of it;
 * written: write them out in any case, if they have no groups; few_channels: and when the image has fewer than that; long_line: but not
 * those of a stride when a line has so many pixels, which fill the tiles as they stand. */
bool window_rows(Lower *lo, const ConvGeometry *g, const Value *x, int64_t block, int64_t few_channels, bool written, int64_t long_line, WindowRows *w);
void window_image(Lower *lo, WindowRows *w, Expr *border); /* the copying phases; border: in x's compute type, NULL: zero */
void window_open(Lower *lo, WindowRows *w);                /* loops over batch, groups, lines */
Dim window_count(Lower *lo, const WindowRows *w);          /* rows inside them */
/* Operand A of the micro-kernel for the tile whose first row is `first`. */
void window_operand(Lower *lo, const WindowRows *w, Expr *first, TileCall *call);
/* The result's index of row `pixel`, all but the channel. True: an `if` is open that leaves out rows which are no pixels. */
bool window_index(Lower *lo, const WindowRows *w, Expr *pixel, Expr **idx);

#endif
