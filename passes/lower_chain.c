/* A convolution and the depthwise convolution that reads it, in one kernel: the image between them, often the largest of
 * the net, never reaches memory.
 *
 *     y[n, oy, ox, c] = sum over ky, kx of h[n, oy*s + ky - p, ox*s + kx - p, c] * w[c, ky, kx]
 *     h[n, y, x, c]   = act(sum over i of x[n, y, x, i] * v[c, i])
 *
 * becomes, for `lines` result lines and one panel of channels at a time (those are what threads share):
 *
 *     for oy < lines
 *       for y in the lines of h that oy is the first to need
 *         ring[y mod R] = act(tiles of x * v)          R lines of one panel: they stay in the first-level cache
 *       y[oy] = depthwise tiles of ring
 *
 * A window line that follows the ring's last one begins R lines earlier (Contract.ring). Lines of the window outside the image are left out;
 * pixels outside are zeros that stand in the ring. The first convolution may be any that a register tile can walk. */
#include "passes/lower/contraction.h"
#include "lathe.h"
#include "passes/lower_conv.h"

enum { RING_MOST_BYTES = 49152, PIECES = 8, LEAST_LINES = 6, UNKNOWN_LINES = 16, FAR_BYTES = 1 << 20 };

typedef struct Chain {
    const Node *first, *second;
    ConvGeometry from, to;          /* of first and second */
    ConvProduct conv;                      /* first */
    uint32_t x, w, bias;            /* operands of second */
    int64_t channels, width, out_width;
    int64_t left, line, ring;       /* the ring: zeros before a line, pixels of a line, lines */
    int64_t kx, ky, cols, pixels;   /* second; cols: of a micro-kernel */
    int64_t lines;                  /* result lines of a piece */
    uint32_t h, weights;            /* buffers: ring, weights of second */
    Image image;                    /* that first reads */
    const TileFinish *finish;       /* the micro-kernel of first does all that stands between the two; NULL: it cannot */
    const TileFinish *last;         /* and that of second what follows */
    Expr *n_at, *panel, *oy;
} Chain;

static bool is_f32(const Value *v) { return v->type->dtype == DT_F32; }

static bool describe_second(const Context *cx, Chain *c) {
    const ConvGeometry *g = &c->to;
    conv_operands(c->second, &c->x, &c->w, &c->bias);
    const Value *w = c->second->in[c->w];
    if (!g->channels_last || g->spatial != 2 || g->group < 2 || !conv_sizes_known(cx, g) || w->data == NULL || !is_f32(w) || !is_f32(c->second->in[c->x])) return false;
    if (dim_value(cx, g->in_group) != 1 || dim_value(cx, g->out_group) != 1) return false;
    if (!dim_is_const(cx, g->in[1]) || !dim_is_const(cx, g->out[1]) || !dim_is_const(cx, g->begin[1])) return false;
    c->channels = dim_value(cx, g->in_channels);
    c->width = dim_value(cx, g->in[1]);
    c->out_width = dim_value(cx, g->out[1]);
    c->ky = dim_value(cx, g->kernel[0]);
    c->kx = dim_value(cx, g->kernel[1]);
    if (c->width < 1 || c->out_width < 1 || c->kx > DEPTHWISE_TAPS || g->stride[1] > DEPTHWISE_TAPS || g->dilation[1] > DEPTHWISE_TAPS) return false;
    if (c->width > UINT16_MAX || c->ky > UINT8_MAX || g->dilation[0] > UINT8_MAX) return false;
    int64_t used = (c->out_width - 1) * g->stride[1] + (c->kx - 1) * g->dilation[1] + 1, tiles = (c->out_width + DEPTHWISE_PIXELS - 1) / DEPTHWISE_PIXELS;
    c->left = dim_value(cx, g->begin[1]);
    if (c->left > UINT8_MAX) return false;
    c->line = used > c->left + c->width ? used : c->left + c->width;
    c->ring = (c->ky - 1) * g->dilation[0] + 1;
    c->pixels = (c->out_width + tiles - 1) / tiles;
    return true;
}

static bool describe_first(const Context *cx, Chain *c) {
    const ConvGeometry *g = &c->from;
    if (g->spatial != 2 || !conv_describe(cx, c->first, g, &c->conv) || c->conv.groups != 1) return false;
    if (c->first->in[c->conv.w]->data == NULL || !is_f32(c->first->in[c->conv.x]) || !is_f32(c->first->out[0])) return false;
    return c->conv.flat || g->stride[0] > 1 || g->stride[1] > 1; /* others may be faster by themselves: passes/lower_winograd.c */
}

static bool describe(Module *m, const Node *first, const Node *second, Chain *c) {
    *c = (Chain){.first = first, .second = second};
    if (first->op != OP_ConvChannelsLast || second->op != OP_ConvChannelsLast) return false;
    return conv_geometry(m, first, &c->from) && conv_geometry(m, second, &c->to) && describe_first(m->cx, c) && describe_second(m->cx, c);
}

static int64_t most(const Context *cx, Dim d) { return dim_is_const(cx, d) ? dim_value(cx, d) : 64; }

static int64_t depth_of_sum(const Chain *c) { return c->conv.taps * c->conv.cin; }

/* Chooses the panel's width and the piece's lines; the estimated cycles of an image's h, 0: no panel fits. */
static double choose(const Module *m, Chain *c) {
    const Context *cx = m->cx;
    const Target *t = module_target(m);
    int64_t vector = t->vector_bits / 32, high = most(cx, c->to.in[0]), out_high = most(cx, c->to.out[0]);
    double best = 0;
    for (int64_t nv = 4; nv >= 1; nv--) {
        int64_t cols = nv * vector, bytes = c->ring * c->line * cols * 4;
        if (bytes > RING_MOST_BYTES) continue;
        Tile tile = tile_of_columns(t, cols, c->width, depth_of_sum(c));
        int64_t panels = (c->channels + cols - 1) / cols;
        double cost = tile_time(&tile, c->width, c->channels, depth_of_sum(c));
        if (best != 0 && cost >= best * 0.99) continue;
        best = cost;
        c->conv.tile = tile;
        c->conv.panels = panels;
    }
    if (best == 0) return 0;
    c->cols = c->conv.tile.cols % (2 * vector) == 0 ? 2 * vector : vector;
    int64_t pieces = 1, again = c->ring > c->to.stride[0] ? c->ring - c->to.stride[0] : 0; /* lines that neighbouring pieces both need */
    int64_t long_lines = 12 * again / c->to.stride[0] > LEAST_LINES ? 12 * again / c->to.stride[0] : LEAST_LINES;
    while (pieces * c->conv.panels < PIECES && out_high >= 2 * long_lines * pieces) pieces *= 2;
    if (pieces * c->conv.panels % 2 != 0 && out_high >= 2 * LEAST_LINES * pieces) pieces *= 2; /* two threads share evenly */
    c->lines = dim_is_const(cx, c->to.out[0]) ? (out_high + pieces - 1) / pieces : UNKNOWN_LINES;
    pieces = (out_high + c->lines - 1) / c->lines;
    return best * (double)(high + (pieces - 1) * again);
}

bool conv_chain_pays(Module *m, const Node *first, const Node *second) {
    Chain c;
    if ((m->options != NULL && m->options->opt_level < 2) || !describe(m, first, second, &c)) return false;
    double together = choose(m, &c);
    if (together == 0) return false;
    const Context *cx = m->cx;
    int64_t high = most(cx, c.to.in[0]), pixels = high * c.width;
    Dim rows = dim_const(m->cx, c.conv.flat ? pixels : c.width);
    Tile tile = tile_choose(module_target(m), rows, c.channels, depth_of_sum(&c), m->cx);
    double apart = c.conv.flat ? tile_time(&tile, pixels, c.channels, depth_of_sum(&c)) : tile_time(&tile, c.width, c.channels, depth_of_sum(&c)) * (double)high;
    double bytes = (double)pixels * (double)c.channels * 4; /* of h: written and read again */
    return together < apart + bytes * (bytes > (double)FAR_BYTES ? 0.24 : 0.08);
}

const Node *conv_chain_first(const Lower *lo, const Node *n) {
    for (const Node *k = lo->body != NULL ? lo->body->first : NULL; k != NULL; k = k->next)
        if (k != n && op_rules(k->op).define == NULL) return k;
    return NULL;
}

/* ---- first: lines of h ----------------------------------------------------------------------------------------------- */
static void zero_pixels(Lower *lo, const Chain *c, int64_t first, int64_t count) {
    if (count <= 0) return;
    Expr *at[3];
    at[0] = lower_for(lo, lx_i(lo, c->ring));
    at[1] = lx_add(lo, lower_for(lo, lx_i(lo, count)), lx_i(lo, first));
    at[2] = lower_for(lo, lx_i(lo, c->conv.tile.cols));
    lower_store_buf(lo, c->h, at, FN_NONE, lx_const(lo, DT_F32, 0));
    lower_end_n(lo, 3);
}

/* Columns of one tile of sums in the ring through what stands between the convolutions. */
static void finish_tile(Lower *lo, const Chain *c, const ConvPlace *p, Expr *slot, int64_t columns) {
    Expr *row = lower_for(lo, p->rows), *j = lower_for(lo, lx_i(lo, columns));
    Expr *at[3] = {slot, NULL, j}, *idx[4] = {c->n_at, p->at[0], NULL, lx_add(lo, lx_mul(lo, c->panel, lx_i(lo, c->conv.tile.cols)), j)};
    idx[2] = lx_add(lo, p->at[1], row);
    at[1] = lx_add(lo, idx[2], lx_i(lo, c->left));
    Expr *sum = lower_load_buf(lo, c->h, at);
    if (c->conv.bias < c->first->n_in) sum = lx_add(lo, sum, lower_load(lo, c->first->in[c->conv.bias], &idx[3]));
    lower_store_buf(lo, c->h, at, FN_NONE, lower_through(lo, c->first->out[0], c->second->in[c->x], idx, sum));
    lower_end_n(lo, 2);
}

static void fill_line(Lower *lo, const Chain *c, Expr *y) {
    Context *cx = lo->cx;
    const Tile *tile = &c->conv.tile;
    Dim width = c->to.in[1], per_line = dim_ceildiv(cx, width, dim_const(cx, tile->rows));
    Expr *slot = lx_2(lo, FN_MOD, y, lx_i(lo, c->ring)), *t = lower_for_dim(lo, per_line), *x = lx_mul(lo, t, lx_i(lo, tile->rows));
    ConvPlace p = {.n = c->n_at, .group = lx_i(lo, 0), .panel = c->panel, .at = {y, x}, .first = x, .rows = tile_rows(lo, width, tile->rows, x)};
    if (c->conv.flat) p.first = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, c->n_at, lx_dim(lo, c->to.in[0])), y), lx_dim(lo, width)), x);
    p.sums = lx_add(lo, lx_mul(lo, slot, lx_i(lo, c->line)), lx_add(lo, x, lx_i(lo, c->left)));
    bool whole = c->to.out[0] == dim_const(cx, c->lines); /* panel after panel: the next one's weights can be on their way */
    Expr *number = whole ? lx_add(lo, lx_mul(lo, y, lx_dim(lo, per_line)), t) : NULL;
    p.finish = c->finish;
    conv_call(lo, &c->conv, &c->image, &p, c->h, number, dim_mul(cx, c->to.in[0], per_line));
    if (c->finish == NULL) for (TileColumns k = tile_columns(lo, c->panel, c->channels, tile->cols); k.count != 0; tile_columns_next(lo, &k)) finish_tile(lo, c, &p, slot, k.count);
    lower_end(lo);
}

/* ---- second: a line of the result --------------------------------------------------------------------------------------- */
static Expr *clamp(Lower *lo, Expr *e, Expr *least, Expr *greatest) { return lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, e, least), greatest); }

/* The first line of the window of result line oy; it may lie outside the image. */
static Expr *window_start(Lower *lo, const Chain *c, Expr *oy) { return lx_sub(lo, lx_mul(lo, oy, lx_i(lo, c->to.stride[0])), lx_dim(lo, c->to.begin[0])); }

/* Lines of h that result line oy needs and its predecessor in the piece did not. */
static void fill_ring(Lower *lo, const Chain *c, Expr *step) {
    Expr *zero = lx_i(lo, 0), *high = lx_dim(lo, c->to.in[0]), *start = window_start(lo, c, c->oy);
    Expr *before = lx_add(lo, lx_sub(lo, start, lx_i(lo, c->to.stride[0])), lx_i(lo, c->ring));
    Expr *from = clamp(lo, start, zero, high), *to = clamp(lo, lx_add(lo, start, lx_i(lo, c->ring)), zero, high);
    from = lx_select(lo, lx_2(lo, FN_EQ, step, zero), from, lx_2(lo, FN_MAX, from, clamp(lo, before, zero, high)));
    Expr *line = lower_for(lo, lx_2(lo, FN_MAX, lx_sub(lo, to, from), zero));
    fill_line(lo, c, lx_add(lo, from, line));
    lower_end(lo);
}

static void store(Lower *lo, const Chain *c, uint32_t tile, Expr *rows, Expr *first_pixel, Expr *first_channel) {
    Expr *pixel = lower_for(lo, rows), *columns = lx_i(lo, c->cols), *idx[4] = {c->n_at, c->oy};
    if (c->channels % c->cols != 0) columns = lx_2(lo, FN_MIN, columns, lx_sub(lo, lx_i(lo, c->channels), first_channel));
    Expr *j = lower_for(lo, columns), *sum = lower_load_buf(lo, tile, (Expr *[]){pixel, j});
    idx[2] = lx_add(lo, first_pixel, pixel);
    idx[3] = lx_add(lo, first_channel, j);
    if (c->bias < c->second->n_in) sum = lx_add(lo, sum, lower_load(lo, c->second->in[c->bias], &idx[3]));
    lower_store(lo, c->second->out[0], idx, sum);
    lower_end_n(lo, 2);
}

/* The micro-kernels' columns of the panel that hold channels. */
static Expr *block_count(Lower *lo, const Chain *c) {
    int64_t per_panel = c->conv.tile.cols / c->cols, all = (c->channels + c->cols - 1) / c->cols;
    Expr *n = lx_i(lo, per_panel);
    return all % per_panel == 0 ? n : lx_2(lo, FN_MIN, n, lx_sub(lo, lx_i(lo, all), lx_mul(lo, c->panel, n)));
}

static void depthwise_line(Lower *lo, const Chain *c) {
    Context *cx = lo->cx;
    const ConvGeometry *g = &c->to;
    int64_t row = c->conv.tile.cols, line = c->line * row;
    Expr *zero = lx_i(lo, 0), *taps = lx_i(lo, c->ky), *by = lx_i(lo, g->dilation[0]), *up = lx_i(lo, g->dilation[0] - 1), *ring = lx_i(lo, c->ring);
    Expr *start = window_start(lo, c, c->oy);
    Expr *from = clamp(lo, lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, zero, start), up), by), zero, taps);
    Expr *to = lx_2(lo, FN_MAX, clamp(lo, lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, lx_dim(lo, g->in[0]), start), up), by), zero, taps), from);
    Expr *slot = lx_2(lo, FN_MOD, lx_2(lo, FN_MAX, lx_add(lo, start, lx_mul(lo, from, by)), zero), ring);
    Expr *t = lower_for_dim(lo, dim_ceildiv(cx, g->out[1], dim_const(cx, c->pixels))), *first_pixel = lx_mul(lo, t, lx_i(lo, c->pixels));
    Expr *rows = tile_rows(lo, g->out[1], c->pixels, first_pixel);
    Expr *block = lower_for(lo, block_count(lo, c));
    uint32_t tile = c->last != NULL ? lower_buf(lo, lo->node->out[0]) : lower_array(lo, DT_F32, 2, (Dim[]){dim_const(cx, c->pixels), dim_const(cx, c->cols)});
    DepthwiseCall call = {.pixels = c->pixels, .cols = c->cols, .vector = c->conv.tile.vector, .taps_x = c->kx, .step = g->stride[1], .dilation = g->dilation[1],
                          .out = tile, .a = c->h, .b = c->weights, .rows = rows, .a_x = lx_i(lo, row), .a_y = lx_i(lo, g->dilation[0] * line), .zero = lx_const(lo, DT_F32, 0)};
    Expr *pixel = lx_add(lo, lx_mul(lo, slot, lx_i(lo, line)), lx_mul(lo, first_pixel, lx_i(lo, g->stride[1] * row)));
    call.a_at = lx_add(lo, pixel, lx_mul(lo, block, lx_i(lo, c->cols)));
    call.taps_y = lx_sub(lo, to, from);
    Expr *number = lx_add(lo, lx_mul(lo, c->panel, lx_i(lo, row / c->cols)), block);
    call.b_at = lx_add(lo, lx_mul(lo, number, lx_i(lo, c->kx * c->ky * c->cols)), lx_mul(lo, from, lx_i(lo, c->kx * c->cols)));
    call.wrap = lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, ring, slot), up), by);
    call.back = lx_i(lo, c->ring * line);
    Expr *first_channel = lx_mul(lo, number, lx_i(lo, c->cols));
    TileFinish finish;
    if (c->last != NULL) {
        finish = *c->last;
        finish.at = first_channel;
        finish.row = lx_i(lo, c->channels);
        Expr *out_line = lx_add(lo, lx_mul(lo, c->n_at, lx_dim(lo, g->out[0])), c->oy);
        call.out_at = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, out_line, lx_dim(lo, g->out[1])), first_pixel), finish.row), first_channel);
        call.finish = &finish;
    }
    depthwise_emit(lo, &call);
    if (c->last == NULL) store(lo, c, tile, rows, first_pixel, first_channel);
    lower_end_n(lo, 2);
}

bool lower_conv_chain(Lower *lo, const Node *first, const Node *second) {
    Context *cx = lo->cx;
    Chain c;
    CHECK(cx, describe(lo->m, first, second, &c) && choose(lo->m, &c) != 0); /* passes/fuse.c asked conv_chain_pays */
    c.conv.weights = conv_pack(lo, &c.conv);
    c.weights = depthwise_pack(lo, second->in[c.w], NULL, c.channels, c.conv.panels * c.conv.tile.cols, c.kx * c.ky, c.cols);
    c.image = conv_image(lo, first->in[c.conv.x], &c.from, c.from.in_channels, true);
    const Value *bias = c.conv.bias < first->n_in ? first->in[c.conv.bias] : NULL;
    TileFinish between, behind;
    if (depthwise_finish(lo, second, c.bias, c.channels, c.cols, &behind)) c.last = &behind;
    if (tile_finish(lo, first->out[0], bias, second->in[c.x], c.channels, c.conv.panels * c.conv.tile.cols, &between)) c.finish = &between, between.row = lx_i(lo, c.conv.tile.cols);
    uint32_t depth = lo->open.n;
    c.n_at = lower_for_dim(lo, c.to.batch);
    Expr *piece = lower_for_dim(lo, dim_ceildiv(cx, c.to.out[0], dim_const(cx, c.lines))), *first_line = lx_mul(lo, piece, lx_i(lo, c.lines));
    c.panel = lower_for(lo, lx_i(lo, c.conv.panels));
    lo->open.v[depth]->parallel = 3;
    c.h = lower_array(lo, DT_F32, 3, (Dim[]){dim_const(cx, c.ring), dim_const(cx, c.line), dim_const(cx, c.conv.tile.cols)});
    zero_pixels(lo, &c, 0, c.left);
    zero_pixels(lo, &c, c.left + c.width, c.line - c.left - c.width);
    Expr *step = lower_for(lo, tile_rows(lo, c.to.out[0], c.lines, first_line));
    c.oy = lx_add(lo, first_line, step);
    fill_ring(lo, &c, step);
    depthwise_line(lo, &c);
    lower_end_n(lo, lo->open.n - depth);
    return true;
}
