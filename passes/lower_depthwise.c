/* Depthwise convolutions, channels last: every channel has a window of its own, so a vector holds channels.
 *
 *     y[n, oy, ox, c] = sum over ky, kx of x[n, oy*s + ky - p, ox*s + kx - p, c] * w[c, ky, kx]
 *
 * A micro-kernel computes a few pixels of one line for one or two vectors of channels, with a line of the window's weights
 * in registers. The loops around it walk lines and channel vectors; those are what the threads share.
 *
 * Borders cost nothing: lines of the window outside the image are left out of the micro-kernel's loop, and the tiles at
 * both ends of a line have micro-kernels of their own that leave out the pixels outside. When the width is known at run
 * time only, the input is copied with its border first, as other convolutions do. */
#include "passes/lower/contraction.h"
#include "passes/lower_conv.h"
#include "passes/lower_integer.h"
#include "passes/tile.h"

typedef struct Depthwise {
    const Node *n;
    const ConvGeometry *g;
    uint32_t x, w, bias, weights;
    int64_t kx, ky, step, channels, padded, vector, cols, pixels, tiles; /* tiles: per line; 0: not known */
    bool lines;           /* two spatial dimensions */
    bool in_place;        /* x is read as it is */
    bool quantized;       /* an integer convolution */
    uint32_t float_bias;  /* quantized: buffer + 1 of the bias as floats, if their sums are exact; else 0 */
    Image image;
    const TileFinish *finish; /* the micro-kernel does all that follows; NULL: it cannot */
    Expr *zero;           /* f32: what elements of x count from */
    Expr *n_at, *oy, *block, *tile;
} Depthwise;

uint32_t depthwise_pack(Lower *lo, const Value *w, const Value *zero, int64_t channels, int64_t padded, int64_t taps, int64_t cols) {
    Context *cx = lo->cx;
    float *packed = tile_storage(cx, padded * taps * 4);
    for (int64_t c = 0; c < channels; c++)
        for (int64_t t = 0; t < taps; t++) packed[(c / cols * taps + t) * cols + c % cols] = (float)(const_f64(w, c * taps + t) - (double)integer_zero(zero, c));
    Dim dim[3] = {dim_const(cx, padded / cols), dim_const(cx, taps), dim_const(cx, cols)};
    return lower_weight(lo, type_tensor(cx, DT_F32, 3, dim), packed);
}

bool depthwise_finish(Lower *lo, const Node *n, uint32_t bias, int64_t channels, int64_t cols, TileFinish *f) {
    const Value *sum = n->out[0], *to = lo->body != NULL ? lo->body->out[0] : sum;
    if (channels % cols != 0 || lo->node->n_out != 1 || !type_same_dims(sum->type, to->type)) return false;
    return tile_finish(lo, sum, bias < n->n_in ? n->in[bias] : NULL, to, channels, channels, f);
}

void depthwise_emit(Lower *lo, const DepthwiseCall *c) {
    Contract *k = ARENA_NEW(&lo->cx->arena, Contract);
    *k = (Contract){.kind = CONTRACT_DEPTHWISE, .rows = (uint8_t)c->pixels, .cols = (uint8_t)c->cols, .vector = (uint8_t)c->vector, .taps_x = (uint8_t)c->taps_x, .step = (uint8_t)c->step,
                    .dilation = (uint8_t)c->dilation, .left = (uint8_t)c->left, .right = (uint8_t)c->right, .ring = c->wrap != NULL};
    const TileFinish *f = c->finish;
    CallArg *arg = ARENA_ARRAY(&lo->cx->arena, CallArg, DW_FINISH_ARGS);
    arg[DW_OUT] = arg_buf(c->out);
    arg[DW_ROWS] = arg_expr(c->rows);
    arg[DW_A] = arg_buf(c->a);
    arg[DW_A_AT] = arg_expr(c->a_at);
    arg[DW_A_X] = arg_expr(c->a_x);
    arg[DW_A_Y] = arg_expr(c->a_y);
    arg[DW_TAPS_Y] = arg_expr(c->taps_y);
    arg[DW_B] = arg_buf(c->b);
    arg[DW_B_AT] = arg_expr(c->b_at);
    arg[DW_ZERO] = arg_expr(c->zero);
    arg[DW_WRAP] = arg_expr(c->wrap != NULL ? c->wrap : lx_i(lo, 0));
    arg[DW_BACK] = arg_expr(c->wrap != NULL ? c->back : lx_i(lo, 0));
    if (f != NULL) {
        k->finish = true;
        k->low = f->low != NULL;
        k->high = f->high != NULL;
        arg[DW_OUT_AT] = arg_expr(c->out_at);
        arg[DW_OUT_ROW] = arg_expr(f->row);
        arg[DW_BIAS] = arg_buf(f->bias);
        arg[DW_BIAS_AT] = arg_expr(f->at);
        arg[DW_LOW] = arg_expr(f->low != NULL ? f->low : lx_const(lo, DT_F32, 0));
        arg[DW_HIGH] = arg_expr(f->high != NULL ? f->high : lx_const(lo, DT_F32, 0));
    }
    lower_emit(lo, (Stmt){.kind = S_CONTRACT, .contract = k, .arg = arg, .n_arg = f != NULL ? DW_FINISH_ARGS : c->wrap != NULL ? DW_RING_ARGS : DW_ARGS});
}

/* Pixels of the window line of tile t that lie left of the image, and right of it. */
static int64_t outside_left(const Lower *lo, const Depthwise *d, int64_t t) {
    int64_t n = dim_value(lo->cx, d->g->begin[d->g->spatial - 1]) - t * d->pixels * d->step;
    return n > 0 ? n : 0;
}

static int64_t rows_of(const Lower *lo, const Depthwise *d, int64_t t) {
    int64_t rest = dim_value(lo->cx, d->g->out[d->g->spatial - 1]) - t * d->pixels;
    return rest < d->pixels ? rest : d->pixels;
}

static int64_t outside_right(const Lower *lo, const Depthwise *d, int64_t t) {
    uint32_t last = d->g->spatial - 1;
    int64_t end = (t * d->pixels + rows_of(lo, d, t) - 1) * d->step + (d->kx - 1) * d->g->dilation[last] - dim_value(lo->cx, d->g->begin[last]);
    int64_t n = end - (dim_value(lo->cx, d->g->in[last]) - 1);
    return n > 0 ? n : 0;
}

/* Only the first and the last tile of a line reach outside, by less than a window. */
static bool borders_are_simple(const Lower *lo, const Depthwise *d) {
    const Context *cx = lo->cx;
    uint32_t last = d->g->spatial - 1;
    if (!dim_is_const(cx, d->g->out[last]) || !dim_is_const(cx, d->g->in[last]) || !dim_is_const(cx, d->g->begin[last]) || d->padded != d->channels) return false;
    int64_t reach = (d->kx - 1) * d->g->dilation[last] + 1;
    for (int64_t t = 0; t < d->tiles; t++) {
        int64_t left = outside_left(lo, d, t), right = outside_right(lo, d, t);
        if (left >= reach || right >= reach || (t > 0 && left != 0) || (t + 1 < d->tiles && right != 0)) return false;
    }
    return true;
}

static bool describe(Lower *lo, const Node *n, const ConvGeometry *g, bool quantized, Depthwise *d) {
    Context *cx = lo->cx;
    uint32_t r = g->spatial;
    *d = (Depthwise){.n = n, .g = g, .lines = r == 2, .quantized = quantized};
    conv_operands(n, &d->x, &d->w, &d->bias);
    d->kx = dim_value(cx, g->kernel[r - 1]);
    d->ky = d->lines ? dim_value(cx, g->kernel[0]) : 1;
    d->step = g->stride[r - 1];
    if (r > 2 || d->kx > DEPTHWISE_TAPS || d->step > DEPTHWISE_TAPS || g->dilation[r - 1] > DEPTHWISE_TAPS) return false;
    d->channels = dim_value(cx, g->in_channels);
    d->vector = module_target(lo->m)->vector_bits / 32;
    while (d->vector > 4 && d->channels % d->vector != 0) d->vector /= 2;
    d->padded = (d->channels + d->vector - 1) / d->vector * d->vector;
    d->cols = d->padded % (2 * d->vector) == 0 ? 2 * d->vector : d->vector;
    d->pixels = DEPTHWISE_PIXELS;
    if (dim_is_const(cx, g->out[r - 1])) { /* the fewest tiles per line, evenly filled */
        int64_t width = dim_value(cx, g->out[r - 1]);
        if (width < 1) return false;
        d->tiles = (width + DEPTHWISE_PIXELS - 1) / DEPTHWISE_PIXELS;
        d->pixels = (width + d->tiles - 1) / d->tiles;
        d->tiles = (width + d->pixels - 1) / d->pixels;
    }
    d->zero = lx_const(lo, DT_F32, 0);
    DType stored = n->in[d->x]->type->dtype;
    d->in_place = (stored == DT_F32 || stored == DT_BF16 || d->quantized) && borders_are_simple(lo, d); /* else a copy, in f32 */
    return true;
}

/* First line of the window inside the image and one past the last. */
static void window_lines(Lower *lo, const Depthwise *d, Expr **from, Expr **to) {
    const ConvGeometry *g = d->g;
    *from = lx_i(lo, 0);
    *to = lx_i(lo, d->ky);
    if (!d->lines || !d->in_place) return;
    Expr *up = lx_i(lo, g->dilation[0] - 1), *by = lx_i(lo, g->dilation[0]);
    Expr *start = lx_sub(lo, lx_mul(lo, d->oy, lx_i(lo, g->stride[0])), lx_dim(lo, g->begin[0]));
    Expr *before = lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, lx_i(lo, 0), start), up), by);
    Expr *end = lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, lx_dim(lo, g->in[0]), start), up), by);
    *from = lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, before, lx_i(lo, 0)), lx_i(lo, d->ky));
    *to = lx_2(lo, FN_MAX, lx_2(lo, FN_MIN, end, lx_i(lo, d->ky)), *from);
}

static void call(Lower *lo, const Depthwise *d, uint32_t out, Expr *rows, int64_t left, int64_t right) {
    Context *cx = lo->cx;
    const ConvGeometry *g = d->g;
    uint32_t r = g->spatial;
    const Image *im = &d->image;
    Dim a_x = im->channels, a_y = d->lines ? image_step(cx, g, im, 0) : im->channels, plane = dim_mul(cx, d->lines ? a_y : a_x, im->size[0]);
    Expr *from, *to, *first = lx_mul(lo, d->tile, lx_i(lo, d->pixels));
    window_lines(lo, d, &from, &to);
    Expr *pixel = lx_mul(lo, first, lx_i(lo, d->step));
    if (d->in_place) pixel = lx_add(lo, pixel, lx_i(lo, left - dim_value(cx, g->begin[r - 1])));
    Expr *at = lx_add(lo, lx_mul(lo, d->n_at, lx_dim(lo, plane)), lx_mul(lo, pixel, lx_dim(lo, a_x)));
    if (d->lines) {
        Expr *line = lx_add(lo, lx_mul(lo, d->oy, lx_i(lo, g->stride[0])), lx_mul(lo, from, lx_i(lo, g->dilation[0])));
        if (d->in_place) line = lx_sub(lo, line, lx_dim(lo, g->begin[0]));
        if (d->in_place) line = lx_2(lo, FN_MAX, line, lx_i(lo, 0)); /* a window entirely outside reads nothing */
        at = lx_add(lo, at, lx_mul(lo, line, lx_dim(lo, a_y)));
    }
    at = lx_add(lo, at, lx_mul(lo, d->block, lx_i(lo, d->cols)));
    DepthwiseCall c = {.pixels = d->pixels, .cols = d->cols, .vector = d->vector, .taps_x = d->kx, .step = d->step, .dilation = g->dilation[r - 1], .left = left, .right = right,
                       .out = out, .a = im->buf, .b = d->weights, .rows = rows, .a_at = at, .a_x = lx_dim(lo, a_x), .taps_y = lx_sub(lo, to, from), .zero = d->zero};
    c.a_y = lx_dim(lo, d->lines ? dim_mul(cx, a_y, dim_const(cx, g->dilation[0])) : a_y);
    c.b_at = lx_add(lo, lx_mul(lo, d->block, lx_i(lo, d->kx * d->ky * d->cols)), lx_mul(lo, from, lx_i(lo, d->kx * d->cols)));
    TileFinish finish;
    if (d->finish != NULL) {
        finish = *d->finish;
        finish.at = lx_mul(lo, d->block, lx_i(lo, d->cols));
        finish.row = lx_i(lo, d->channels);
        Expr *line = d->lines ? lx_add(lo, lx_mul(lo, d->n_at, lx_dim(lo, g->out[0])), d->oy) : d->n_at;
        c.out_at = lx_add(lo, lx_mul(lo, lx_add(lo, lx_mul(lo, line, lx_dim(lo, g->out[r - 1])), first), finish.row), finish.at);
        c.finish = &finish;
    }
    depthwise_emit(lo, &c);
}

/* The tile's micro-kernel: by its place in the line when the image has its border left out. */
static void call_by_place(Lower *lo, const Depthwise *d, uint32_t out, Expr *rows) {
    int64_t last = d->tiles - 1;
    if (!d->in_place) {
        call(lo, d, out, rows, 0, 0);
    } else if (d->tiles == 1) {
        call(lo, d, out, lx_i(lo, d->pixels), outside_left(lo, d, 0), outside_right(lo, d, 0));
    } else {
        lower_if(lo, lx_2(lo, FN_EQ, d->tile, lx_i(lo, 0)));
        call(lo, d, out, lx_i(lo, d->pixels), outside_left(lo, d, 0), 0);
        lower_else(lo);
        if (last > 1) lower_if(lo, lx_2(lo, FN_LT, d->tile, lx_i(lo, last)));
        if (last > 1) call(lo, d, out, lx_i(lo, d->pixels), 0, 0);
        if (last > 1) lower_else(lo);
        call(lo, d, out, lx_i(lo, rows_of(lo, d, last)), 0, outside_right(lo, d, last));
        if (last > 1) lower_end(lo);
        lower_end(lo);
    }
}

static void store(Lower *lo, const Depthwise *d, uint32_t tile, Expr *rows) {
    uint32_t r = d->g->spatial;
    Expr *idx[RANK_MAX], *pixel = lower_for(lo, rows), *columns = lx_i(lo, d->cols), *first_channel = lx_mul(lo, d->block, lx_i(lo, d->cols));
    if (d->padded != d->channels) columns = lx_2(lo, FN_MIN, columns, lx_sub(lo, lx_i(lo, d->channels), first_channel));
    Expr *j = lower_for(lo, columns);
    idx[0] = d->n_at;
    if (d->lines) idx[1] = d->oy;
    idx[r] = lx_add(lo, lx_mul(lo, d->tile, lx_i(lo, d->pixels)), pixel);
    Expr *channel = idx[r + 1] = lx_add(lo, first_channel, j);
    Expr *sum = lower_load_buf(lo, tile, (Expr *[]){pixel, j});
    if (d->quantized) { /* so far the sum is an integer below 2^24 */
        DType to = d->n->out[0]->type->dtype;
        if (d->float_bias != 0) sum = lx_add(lo, sum, lower_load_buf(lo, d->float_bias - 1, &channel));
        bool integers = d->float_bias == 0 && d->bias < d->n->n_in;
        if (to != DT_F32 || integers) sum = lx_cast(lo, DT_I32, sum);
        if (integers) sum = lx_add(lo, sum, lower_load(lo, d->n->in[d->bias], &channel));
        sum = lx_cast(lo, to, sum);
    } else if (d->bias < d->n->n_in) sum = lx_add(lo, sum, lower_load(lo, d->n->in[d->bias], &channel));
    lower_store(lo, d->n->out[0], idx, sum);
    lower_end_n(lo, 2);
}

static bool emit(Lower *lo, Depthwise d);

bool lower_depthwise(Lower *lo, const Node *n, const ConvGeometry *g) {
    Depthwise d;
    return describe(lo, n, g, false, &d) && emit(lo, d);
}

/* Products of bytes, up to 65,280 each, sum exactly in floats as long as there are no more than these. */
enum { EXACT_TAPS = (1 << 24) / 65280 };

/* A constant bias of integers so small that the whole sum is an exact float: as a vector of floats. */
static uint32_t exact_bias(Lower *lo, const Node *n, int64_t taps) {
    const Value *bias = n->n_in > 4 ? n->in[4] : NULL;
    if (bias == NULL || bias->data == NULL) return 0;
    int64_t channels = dim_value(lo->cx, bias->type->dim[0]), most = (1 << 24) - taps * 65280;
    float *data = ARENA_ARRAY(&lo->cx->arena, float, channels);
    for (int64_t c = 0; c < channels; c++) {
        int64_t b = const_i64(bias, c);
        if (b > most || b < -most) return 0;
        data[c] = (float)b;
    }
    return lower_weight(lo, type_tensor(lo->cx, DT_F32, 1, bias->type->dim), data) + 1;
}

bool lower_integer_depthwise(Lower *lo, const Node *n, const ConvGeometry *g) {
    Depthwise d;
    Context *cx = lo->cx;
    const Value *zero_x = n->n_in > 2 ? n->in[2] : NULL, *zero_w = n->n_in > 3 ? n->in[3] : NULL;
    if (!contract_wanted(lo, n) || !g->channels_last || g->group < 2 || !dim_is_const(cx, g->in_channels) || n->in[1]->data == NULL) return false;
    if (dim_value(cx, g->in_group) != 1 || dim_value(cx, g->out_group) != 1 || dtype_bits(n->in[0]->type->dtype) != 8) return false;
    if (zero_w != NULL && (zero_w->data == NULL || (zero_w->data->bytes != 1 && (int64_t)zero_w->data->bytes != dim_value(cx, g->in_channels)))) return false;
    int64_t taps = 1;
    for (uint32_t i = 0; i < g->spatial; i++) taps *= dim_value(cx, g->kernel[i]);
    if (taps > EXACT_TAPS || !describe(lo, n, g, true, &d)) return false;
    d.float_bias = exact_bias(lo, n, taps);
    if (zero_x != NULL) d.zero = lx_cast(lo, DT_F32, lower_load_scalar(lo, zero_x));
    return emit(lo, d);
}

static bool emit(Lower *lo, Depthwise d) {
    Context *cx = lo->cx;
    const Node *n = d.n;
    const ConvGeometry *g = d.g;
    d.weights = depthwise_pack(lo, n->in[d.w], d.quantized && n->n_in > 3 ? n->in[3] : NULL, d.channels, d.padded, d.kx * d.ky, d.cols);
    if (d.in_place) {
        d.image = (Image){.buf = lower_buf(lo, n->in[d.x]), .channels = g->in_channels};
        for (uint32_t i = 0; i < g->spatial; i++) d.image.size[i] = g->in[i];
    } else {
        d.image = conv_image_in(lo, n->in[d.x], g, dim_const(cx, d.padded), !d.quantized, d.quantized ? lx_cast(lo, n->in[d.x]->type->dtype, d.zero) : NULL);
    }
    uint32_t depth = lo->open.n;
    Dim tile_dim[2] = {dim_const(cx, d.pixels), dim_const(cx, d.cols)}, width = g->out[g->spatial - 1];
    d.n_at = lower_for_dim(lo, g->batch);
    if (d.lines) d.oy = lower_for_dim(lo, g->out[0]);
    d.block = lower_for(lo, lx_i(lo, d.padded / d.cols));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    d.tile = lower_for_dim(lo, dim_ceildiv(cx, width, tile_dim[0]));
    Expr *rows = tile_rows(lo, width, d.pixels, lx_mul(lo, d.tile, lx_i(lo, d.pixels)));
    TileFinish finish;
    if (!d.quantized && depthwise_finish(lo, n, d.bias, d.channels, d.cols, &finish)) d.finish = &finish;
    uint32_t tile = d.finish != NULL ? lower_buf(lo, lo->node->out[0]) : lower_array(lo, DT_F32, 2, tile_dim);
    call_by_place(lo, &d, tile, rows);
    if (d.finish == NULL) store(lo, &d, tile, rows);
    lower_end_n(lo, lo->open.n - depth);
    return true;
}
