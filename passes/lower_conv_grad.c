/* The gradient of a convolution's weights on micro-kernels, channels last: for every line of the window a matrix product
 * over all pixels of the batch,
 *
 *     dW[m, c, ky, kx] = sum over n, oy, ox of X[n, oy*s + ky*d - p, ox*s + kx*d - p, c] * dY[n, oy, ox, m]
 *
 * Window taps that are neighbours in memory are one run of kernel_x * C floats (C when the window is dilated). A tile takes
 * its rows from the run and its columns from dY's channels, or the other way round, whichever is estimated to be faster;
 * several values per pixel lie side by side in both. Pixels go in blocks whose columns stay in the first-level cache, as a
 * dense copy, while all tiles of a thread's share read them: the first phase
 *
 *     for tap, panel, group of tiles parallel(3)
 *       sums = 0
 *       for block of images  for block of lines
 *         copy[line, pixel, column] = ...
 *         for tile
 *           tile_add(sums[tap, panel, tile], ...)
 *
 * leaves the sums in scratch memory, in an order that no thread count changes; the second stores them through the fused
 * epilogue (an optimizer's update, say). */
#include "passes/lower_conv.h"
#include "passes/lower/contraction.h"
#include "passes/tile.h"

enum { BLOCK_BYTES = 48 << 10, COPY_BYTES = 48 << 10, SHARES = 16, MIN_WORK = 4096 };

typedef struct ConvGrad {
    const Node *n;
    const ConvGeometry *g;
    Tile tile;
    bool swapped;               /* rows: dY's channels, columns: the run */
    int64_t run, channels;      /* floats of a window line; dY's channels, rounded up to what tiles take */
    int64_t taps, rows, cols;   /* window lines; of one tap's product */
    int64_t panels, steps;      /* tiles in a column of tiles */
    Image x, dy;
    Dim line_x, line_dy;        /* floats between neighbouring lines */
    Dim images, lines, pixels;  /* loops: around lines, around pixels of a line, innermost */
    int64_t block_images, block_lines; /* at most, in a block */
    uint32_t sums, copy;
    bool copied;
} ConvGrad;

static int64_t roughly(const Context *cx, Dim d) { return dim_is_const(cx, d) ? dim_value(cx, d) : dim_lo(cx, d) > 16 ? dim_lo(cx, d) : 16; }

static bool choose_tile(Lower *lo, ConvGrad *c) {
    Context *cx = lo->cx;
    const Target *t = module_target(lo->m);
    int64_t pixels = roughly(cx, c->images) * roughly(cx, c->lines) * roughly(cx, c->pixels);
    if (pixels > 1 << 20) pixels = 1 << 20;
    Tile plain = tile_choose_dividing(t, dim_const(cx, c->run), c->channels, pixels, cx);
    Tile turned = tile_choose_dividing(t, dim_const(cx, c->channels), c->run, pixels, cx);
    if (plain.cols == 0) return false;
    c->tile = plain;
    if (turned.cols != 0 && tile_time(&turned, c->channels, c->run, pixels) < tile_time(&plain, c->run, c->channels, pixels)) c->tile = turned, c->swapped = true;
    c->rows = c->swapped ? c->channels : c->run;
    c->cols = c->swapped ? c->run : c->channels;
    c->panels = c->cols / c->tile.cols;
    c->steps = (c->rows + c->tile.rows - 1) / c->tile.rows;
    return true;
}

/* One spatial dimension: the images are the lines. Two: images, lines, pixels. Every pixel of dense images: one line. */
static bool describe(Lower *lo, const Node *n, const ConvGeometry *g, ConvGrad *c) {
    Context *cx = lo->cx;
    uint32_t r = g->spatial;
    *c = (ConvGrad){.n = n, .g = g};
    if (!g->channels_last || r > 2 || g->group != 1 || n->in[0]->type->dtype != DT_F32 || !conv_sizes_known(cx, g)) return false;
    int64_t vector = module_target(lo->m)->vector_bits / 32, kx = dim_value(cx, g->kernel[r - 1]), cin = dim_value(cx, g->in_channels);
    bool joined = g->dilation[r - 1] == 1 || kx == 1;
    c->run = joined ? kx * cin : cin;
    c->taps = (joined ? 1 : kx) * (r == 2 ? dim_value(cx, g->kernel[0]) : 1);
    c->channels = (dim_value(cx, g->out_channels) + vector - 1) / vector * vector;
    c->images = r == 2 ? g->batch : dim_const(cx, 1);
    c->lines = r == 2 ? g->out[0] : g->batch;
    c->pixels = g->out[r - 1];
    if (c->run < 1 || c->run > INT32_MAX || c->channels > INT32_MAX) return false;
    int64_t work = c->run * c->taps * c->channels, pixels = roughly(cx, c->images) * roughly(cx, c->lines) * roughly(cx, c->pixels);
    return work * (pixels < 4096 ? pixels : 4096) >= MIN_WORK && choose_tile(lo, c);
}

/* dY as an image of its own: a copy when its channels are rounded up. */
static Image image_of_dy(Lower *lo, const ConvGrad *c) {
    Context *cx = lo->cx;
    ConvGeometry g = *c->g;
    g.in_channels = g.out_channels;
    for (uint32_t i = 0; i < g.spatial; i++) {
        g.in[i] = g.out[i];
        g.kernel[i] = dim_const(cx, 1);
        g.begin[i] = g.end[i] = dim_const(cx, 0);
        g.stride[i] = g.dilation[i] = 1;
    }
    return conv_image(lo, c->n->in[1], &g, dim_const(cx, c->channels), true);
}

/* Window line number `tap`: its offset in the image of X. */
static Expr *tap_offset(Lower *lo, const ConvGrad *c, Expr *tap) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial;
    int64_t kx = dim_value(cx, g->kernel[r - 1]), ky = r == 2 ? dim_value(cx, g->kernel[0]) : 1;
    Expr *by_x = lx_dim(lo, dim_mul(cx, c->x.channels, dim_const(cx, g->dilation[r - 1]))), *y = tap;
    Expr *at = lx_i(lo, 0);
    if (c->taps != ky) {
        y = lx_div(lo, tap, lx_i(lo, kx));
        at = lx_mul(lo, lx_sub(lo, tap, lx_mul(lo, y, lx_i(lo, kx))), by_x);
    }
    return r == 2 ? lx_add(lo, at, lx_mul(lo, y, lx_dim(lo, dim_mul(cx, c->line_x, dim_const(cx, g->dilation[0]))))) : at;
}

typedef struct Block { Expr *image, *images, *line, *lines; } Block; /* first and number */

/* Blocks of pixels whose columns fit the first-level cache. Columns that do not lie side by side already are copied. */
static void choose_blocks(Lower *lo, ConvGrad *c) {
    Context *cx = lo->cx;
    int64_t pixels = roughly(cx, c->pixels), line_bytes = pixels * c->tile.cols * 4, lines = roughly(cx, c->lines), images = roughly(cx, c->images);
    c->block_lines = BLOCK_BYTES / line_bytes > 0 ? BLOCK_BYTES / line_bytes : 1;
    c->block_images = c->block_lines / lines > 0 ? c->block_lines / lines : 1;
    if (c->block_lines > lines) c->block_lines = lines;
    if (c->block_images > images) c->block_images = images;
    Dim apart = c->swapped ? dim_mul(cx, c->x.channels, dim_const(cx, c->g->stride[c->g->spatial - 1])) : c->dy.channels;
    bool known = dim_is_const(cx, c->pixels) && (dim_is_const(cx, c->lines) || c->block_images == 1);
    c->copied = known && apart != dim_const(cx, c->tile.cols) && c->block_images * c->block_lines * line_bytes <= COPY_BYTES && c->steps > 2;
    if (!c->copied) return;
    Dim dim[4] = {dim_const(cx, c->block_images), dim_const(cx, c->block_lines), c->pixels, dim_const(cx, c->tile.cols)};
    c->copy = lower_array(lo, DT_F32, 4, dim);
}

static Block open_blocks(Lower *lo, const ConvGrad *c) {
    Context *cx = lo->cx;
    Block b = {lx_i(lo, 0), lx_dim(lo, c->images), lx_i(lo, 0), lx_dim(lo, c->lines)};
    if (!dim_is_const(cx, c->images) || c->block_images < dim_value(cx, c->images)) {
        b.image = lx_mul(lo, lower_for_dim(lo, dim_ceildiv(cx, c->images, dim_const(cx, c->block_images))), lx_i(lo, c->block_images));
        b.images = tile_rows(lo, c->images, c->block_images, b.image);
    }
    if (!dim_is_const(cx, c->lines) || c->block_lines < dim_value(cx, c->lines)) {
        b.line = lx_mul(lo, lower_for_dim(lo, dim_ceildiv(cx, c->lines, dim_const(cx, c->block_lines))), lx_i(lo, c->block_lines));
        b.lines = tile_rows(lo, c->lines, c->block_lines, b.line);
    }
    return b;
}

typedef struct Source { uint32_t buf; Expr *at, *step[3]; } Source; /* steps: between images, lines, pixels */

static Source source_x(Lower *lo, const ConvGrad *c, const Block *b, Expr *tap) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial;
    Expr *pixel = lx_dim(lo, dim_mul(cx, c->x.channels, dim_const(cx, g->stride[r - 1])));
    Expr *line = lx_dim(lo, dim_mul(cx, c->line_x, dim_const(cx, r == 2 ? g->stride[0] : 1)));
    Expr *image = r == 2 ? lx_dim(lo, dim_mul(cx, c->line_x, c->x.size[0])) : lx_i(lo, 0);
    Expr *at = lx_add(lo, tap_offset(lo, c, tap), lx_add(lo, lx_mul(lo, b->image, image), lx_mul(lo, b->line, line)));
    return (Source){c->x.buf, at, {image, line, pixel}};
}

static Source source_dy(Lower *lo, const ConvGrad *c, const Block *b) {
    Expr *pixel = lx_dim(lo, c->dy.channels), *line = lx_dim(lo, c->line_dy);
    Expr *image = c->g->spatial == 2 ? lx_dim(lo, dim_mul(lo->cx, c->line_dy, c->dy.size[0])) : lx_i(lo, 0);
    return (Source){c->dy.buf, lx_add(lo, lx_mul(lo, b->image, image), lx_mul(lo, b->line, line)), {image, line, pixel}};
}

/* Columns first .. of the pixels of a block, dense; from then on they are the source. A run goes on from one pixel to the
 * next, so its column may be an index beyond the channels of its first pixel. */
static void copy_columns(Lower *lo, const ConvGrad *c, const Block *b, Expr *tap, Expr *first, Source *from) {
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial;
    Expr *i = lower_for(lo, b->images), *l = lower_for(lo, b->lines), *p = lower_for_dim(lo, c->pixels), *j = lower_for(lo, lx_i(lo, c->tile.cols)), *idx[4];
    Expr *line = lx_add(lo, b->line, l), *pixel = p;
    if (c->swapped) {
        int64_t kx = dim_value(lo->cx, g->kernel[r - 1]);
        bool runs = c->taps == (r == 2 ? dim_value(lo->cx, g->kernel[0]) : 1);
        Expr *y = runs ? tap : lx_div(lo, tap, lx_i(lo, kx));
        pixel = lx_mul(lo, p, lx_i(lo, g->stride[r - 1]));
        if (!runs) pixel = lx_add(lo, pixel, lx_mul(lo, lx_sub(lo, tap, lx_mul(lo, y, lx_i(lo, kx))), lx_i(lo, g->dilation[r - 1])));
        if (r == 2) line = lx_add(lo, lx_mul(lo, line, lx_i(lo, g->stride[0])), lx_mul(lo, y, lx_i(lo, g->dilation[0])));
    }
    idx[0] = r == 2 ? lx_add(lo, b->image, i) : line;
    if (r == 2) idx[1] = line;
    idx[r] = pixel;
    idx[r + 1] = lx_add(lo, first, j);
    lower_store_buf(lo, c->copy, (Expr *[]){i, l, p, j}, FN_NONE, lower_load_buf(lo, from->buf, idx));
    lower_end_n(lo, 4);
    Expr *dense = lx_mul(lo, lx_dim(lo, c->pixels), lx_i(lo, c->tile.cols));
    *from = (Source){c->copy, lx_i(lo, 0), {lx_mul(lo, dense, lx_i(lo, c->block_lines)), dense, lx_i(lo, c->tile.cols)}};
}

static void call_tile(Lower *lo, const ConvGrad *c, const Block *b, const Source *rows, const Source *cols, Expr *step, Expr *out_at) {
    Expr *row = lx_mul(lo, step, lx_i(lo, c->tile.rows));
    tile_emit(lo, &c->tile, &(TileCall){
        .out = c->sums, .out_at = out_at, .rows = tile_rows(lo, dim_const(lo->cx, c->rows), c->tile.rows, row), .a = rows->buf, .a_at = lx_add(lo, rows->at, row),
        .a_row = lx_i(lo, 1), .k = lx_dim(lo, c->pixels), .n1 = b->images, .n2 = b->lines, .a_1 = rows->step[0], .a_2 = rows->step[1], .a_k = rows->step[2],
        .b = cols->buf, .b_at = cols->at, .b_1 = cols->step[0], .b_2 = cols->step[1], .b_k = cols->step[2], .add = true});
}

/* sums: [tap, panel, tile, row of tile, column of tile] */
static void sum_phase(Lower *lo, ConvGrad *c) {
    Context *cx = lo->cx;
    uint32_t depth = lo->open.n;
    int64_t size = c->tile.rows * c->tile.cols, shares = (SHARES + c->taps * c->panels - 1) / (c->taps * c->panels);
    if (shares > c->steps) shares = c->steps;
    int64_t each = (c->steps + shares - 1) / shares;
    shares = (c->steps + each - 1) / each;
    Dim dim[4] = {dim_const(cx, c->taps), dim_const(cx, c->panels), dim_const(cx, c->steps), dim_const(cx, size)};
    c->sums = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 4, dim)));
    Expr *tap = lower_for(lo, lx_i(lo, c->taps)), *panel = lower_for(lo, lx_i(lo, c->panels)), *share = lower_for(lo, lx_i(lo, shares));
    lo->open.v[depth]->parallel = 3;
    Expr *first = lx_mul(lo, share, lx_i(lo, each)), *count = tile_rows(lo, dim_const(cx, c->steps), each, first);
    Expr *t = lower_for(lo, count), *i = lower_for(lo, lx_i(lo, size));
    lower_store_buf(lo, c->sums, (Expr *[]){tap, panel, lx_add(lo, first, t), i}, FN_NONE, lx_const(lo, DT_F32, 0));
    lower_end_n(lo, 2);
    choose_blocks(lo, c);
    Block b = open_blocks(lo, c);
    Source x = source_x(lo, c, &b, tap), dy = source_dy(lo, c, &b), *cols = c->swapped ? &x : &dy;
    Expr *first_col = lx_mul(lo, panel, lx_i(lo, c->tile.cols));
    cols->at = lx_add(lo, cols->at, first_col);
    if (c->copied) copy_columns(lo, c, &b, tap, first_col, cols);
    Expr *step = lx_add(lo, first, lower_for(lo, count));
    Expr *number = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, tap, lx_i(lo, c->panels)), panel), lx_i(lo, c->steps)), step);
    call_tile(lo, c, &b, c->swapped ? &dy : &x, cols, step, lx_mul(lo, number, lx_i(lo, size)));
    lower_end_n(lo, lo->open.n - depth);
}

static void store_phase(Lower *lo, const ConvGrad *c) {
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial;
    Expr *idx[RANK_MAX];
    lower_for_type(lo, c->n->out[0]->type, idx);
    int64_t cin = dim_value(lo->cx, g->in_channels), kx = dim_value(lo->cx, g->kernel[r - 1]);
    Expr *tap = r == 2 ? idx[2] : lx_i(lo, 0), *in_run = idx[1];
    if (c->run != cin) in_run = lx_add(lo, lx_mul(lo, idx[1 + r], lx_i(lo, cin)), idx[1]);
    else if (kx != 1) tap = lx_add(lo, lx_mul(lo, tap, lx_i(lo, kx)), idx[1 + r]);
    Expr *row = c->swapped ? idx[0] : in_run, *col = c->swapped ? in_run : idx[0], *mr = lx_i(lo, c->tile.rows), *nr = lx_i(lo, c->tile.cols);
    Expr *step = lx_div(lo, row, mr), *panel = lx_div(lo, col, nr);
    Expr *in_tile = lx_add(lo, lx_mul(lo, lx_sub(lo, row, lx_mul(lo, step, mr)), nr), lx_sub(lo, col, lx_mul(lo, panel, nr)));
    lower_store(lo, c->n->out[0], idx, lower_load_buf(lo, c->sums, (Expr *[]){tap, panel, step, in_tile}));
    lower_end_n(lo, r + 2);
}

bool lower_conv_grad_contract(Lower *lo, const Node *n, const ConvGeometry *g) {
    ConvGrad c;
    Context *cx = lo->cx;
    if (!contract_wanted(lo, n) || !describe(lo, n, g, &c)) return false;
    c.x = conv_image(lo, n->in[0], g, g->in_channels, true);
    c.dy = image_of_dy(lo, &c);
    bool two = g->spatial == 2;
    c.line_x = dim_mul(cx, c.x.channels, c.x.size[two ? 1 : 0]);
    c.line_dy = dim_mul(cx, c.dy.channels, c.dy.size[two ? 1 : 0]);
    sum_phase(lo, &c);
    store_phase(lo, &c);
    return true;
}
