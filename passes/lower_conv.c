/* Channels-last convolutions on micro-kernels: implicit matrix products, nothing is unrolled into memory.
 *
 *     y[n, oy, ox, o] = sum over ky, kx, c of x[n, oy*s + ky*d, ox*s + kx*d, c] * w[o, c, ky, kx]
 *
 * The rows of a tile are neighbouring pixels of one line, its columns output channels. A window line is one run of
 * kernel_x * C floats when neither dilation nor groups break it, so the micro-kernel walks kernel_y runs. Weights are
 * packed as [group][panel][ky][kx][c][NR], at compile time or, those of the run, by a phase. A first phase copies the input into scratch memory with its
 * border of zeros, if there is one. A 1x1 kernel over every pixel is a plain matrix product over all of them.
 *
 * Depthwise convolutions (one channel per group) keep whole vectors of channels: passes/lower_depthwise.c. */
#include "passes/lower_conv.h"

#include "passes/lower/contraction.h"
#include "passes/tile.h"

static Dim product_of(Context *cx, Dim start, const Dim *d, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) start = dim_mul(cx, start, d[i]);
    return start;
}

static bool is_zero(const Context *cx, Dim d) { return dim_is_const(cx, d) && dim_value(cx, d) == 0; }

/* ---- the padded input ------------------------------------------------------------------------------------------------ */
/* Opens the line loops of the padded copy; the position in x and the condition that the line is inside. */
static Expr *open_lines(Lower *lo, const ConvGeometry *g, const Image *im, Expr **to, Expr **from) {
    Expr *inside = NULL;
    for (uint32_t i = 0; i + 1 < g->spatial; i++) {
        to[1 + i] = lower_for_dim(lo, im->size[i]);
        from[1 + i] = lx_sub(lo, to[1 + i], lx_dim(lo, g->begin[i]));
        Expr *ok = lx_2(lo, FN_AND, lx_2(lo, FN_GE, from[1 + i], lx_i(lo, 0)), lx_2(lo, FN_LT, from[1 + i], lx_dim(lo, g->in[i])));
        inside = inside == NULL ? ok : lx_2(lo, FN_AND, inside, ok);
    }
    return inside;
}

static void fill(Lower *lo, uint32_t buf, Expr **to, uint32_t at, Expr *first, Expr *count, Dim channels, Expr *border) {
    if (ex_is_const(count, 0)) return;
    Expr *i = lower_for(lo, count);
    to[at] = lx_add(lo, first, i);
    to[at + 1] = lower_for_dim(lo, channels);
    lower_store_buf(lo, buf, to, FN_NONE, border);
    lower_end_n(lo, 2);
}

static void copy_padded(Lower *lo, const Value *x, const ConvGeometry *g, const Image *im, Expr *border) {
    Context *cx = lo->cx;
    uint32_t last = g->spatial, depth = lo->open.n; /* index position of the innermost spatial dimension */
    Expr *to[RANK_MAX], *from[RANK_MAX];
    to[0] = from[0] = lower_for_dim(lo, g->batch);
    Expr *inside = open_lines(lo, g, im, to, from);
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    Dim width = g->in[last - 1], left = g->begin[last - 1], total = im->size[last - 1];
    if (inside != NULL) lower_if(lo, inside);
    fill(lo, im->buf, to, last, lx_i(lo, 0), lx_dim(lo, left), im->channels, border);
    /* A stride may leave pixels at the end of the line unread: the copy then ends with the padded line. */
    Dim copied = dim_min(cx, width, dim_sub(cx, total, left));
    from[last] = lower_for_dim(lo, copied);
    to[last] = lx_add(lo, from[last], lx_dim(lo, left));
    int64_t few = dim_is_const(cx, g->in_channels) && dim_value(cx, g->in_channels) <= FEW_PLANES ? dim_value(cx, g->in_channels) : 0;
    for (int64_t c = 0; c < few; c++) { /* the loop over pixels is the one to vectorise */
        to[last + 1] = from[last + 1] = lx_i(lo, c);
        lower_store_buf(lo, im->buf, to, FN_NONE, lower_load(lo, x, from));
    }
    if (few == 0) {
        to[last + 1] = from[last + 1] = lower_for_dim(lo, g->in_channels);
        lower_store_buf(lo, im->buf, to, FN_NONE, lower_load(lo, x, from));
        lower_end(lo);
    }
    if (im->channels != g->in_channels) {
        Expr *c = lower_for_dim(lo, dim_sub(cx, im->channels, g->in_channels));
        to[last + 1] = lx_add(lo, c, lx_dim(lo, g->in_channels));
        lower_store_buf(lo, im->buf, to, FN_NONE, lx_const(lo, (DType)border->dtype, 0));
        lower_end(lo);
    }
    lower_end(lo);
    Dim end = dim_add(cx, left, copied);
    fill(lo, im->buf, to, last, lx_dim(lo, end), lx_dim(lo, dim_sub(cx, total, end)), im->channels, border);
    if (inside != NULL) {
        lower_else(lo);
        fill(lo, im->buf, to, last, lx_i(lo, 0), lx_dim(lo, total), im->channels, border);
        lower_end(lo);
    }
    lower_end_n(lo, lo->open.n - depth);
}

Image conv_image(Lower *lo, const Value *x, const ConvGeometry *g, Dim channels, bool wide) { return conv_image_in(lo, x, g, channels, wide, NULL); }

Image conv_image_in(Lower *lo, const Value *x, const ConvGeometry *g, Dim channels, bool wide, Expr *border) {
    Context *cx = lo->cx;
    Image im = {.channels = channels};
    DType stored = wide ? DT_F32 : x->type->dtype;
    bool padded = channels != g->in_channels || stored != x->type->dtype || lower_computes(lo, x);
    for (uint32_t i = 0; i < g->spatial; i++) padded |= !is_zero(cx, g->begin[i]) || !is_zero(cx, g->end[i]);
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < g->spatial; i++) {
        Dim reach = dim_add(cx, dim_mul(cx, dim_sub(cx, g->kernel[i], dim_const(cx, 1)), dim_const(cx, g->dilation[i])), dim_const(cx, 1));
        Dim used = dim_add(cx, dim_mul(cx, dim_sub(cx, g->out[i], dim_const(cx, 1)), dim_const(cx, g->stride[i])), reach);
        im.size[i] = dim[1 + i] = padded ? used : g->in[i];
    }
    dim[0] = g->batch;
    dim[g->spatial + 1] = channels;
    if (padded) {
        im.buf = lower_buf(lo, lower_scratch(lo, type_tensor(cx, stored, g->spatial + 2, dim)));
        copy_padded(lo, x, g, &im, border != NULL ? border : lx_const(lo, DT_F32, 0));
    } else {
        im.buf = lower_buf(lo, x);
    }
    return im;
}

/* Elements between neighbours of spatial dimension i of the image. */
Dim image_step(Context *cx, const ConvGeometry *g, const Image *im, uint32_t i) {
    return product_of(cx, im->channels, im->size + i + 1, g->spatial - i - 1);
}

/* ---- weights ---------------------------------------------------------------------------------------------------------- */
typedef struct WeightElement { const ConvProduct *c; Expr *group, **idx; } WeightElement; /* idx: all but output channels are set */

static Expr *weight_element(Lower *lo, void *user, Expr *col) {
    WeightElement *e = user;
    e->idx[0] = lx_add(lo, lx_mul(lo, e->group, lx_i(lo, e->c->cout)), col);
    return lower_load(lo, e->c->n->in[e->c->w], e->idx);
}

/* Weights of the run: a phase packs them. */
static uint32_t pack_at_run_time(Lower *lo, const ConvProduct *c) {
    Context *cx = lo->cx;
    int64_t nr = c->tile.cols;
    Dim dim[4] = {dim_const(cx, c->groups), dim_const(cx, c->panels), dim_const(cx, c->taps * c->cin), dim_const(cx, nr)};
    uint32_t to = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 4, dim))), depth = lo->open.n;
    Expr *idx[RANK_MAX], *at[4], *tap = lx_i(lo, 0);
    at[0] = lower_for(lo, lx_i(lo, c->groups));
    at[1] = lower_for(lo, lx_i(lo, c->panels));
    for (uint32_t i = 0; i < c->g->spatial; i++) {
        idx[2 + i] = lower_for_dim(lo, c->g->kernel[i]);
        tap = lx_add(lo, lx_mul(lo, tap, lx_dim(lo, c->g->kernel[i])), idx[2 + i]);
    }
    idx[1] = lower_for(lo, lx_i(lo, c->cin));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    at[2] = lx_add(lo, lx_mul(lo, tap, lx_i(lo, c->cin)), idx[1]);
    WeightElement e = {c, at[0], idx};
    tile_pack_line(lo, to, at, 3, at[1], c->cout, nr, weight_element, &e);
    lower_end_n(lo, lo->open.n - depth);
    return to;
}

typedef struct ConvPacking { int64_t groups, panels, taps, cin, cout, nr; } ConvPacking; /* cin, cout: of a group */

static void pack_filters(void *packed, const ConstRecipe *r) {
    const ConvPacking *c = r->parameters;
    const float *from = r->source[0]->data->data;
    float *to = packed;
    for (int64_t g = 0; g < c->groups; g++)
        for (int64_t p = 0; p < c->panels; p++)
            for (int64_t tap = 0; tap < c->taps; tap++)
                for (int64_t i = 0; i < c->cin; i++, to += c->nr)
                    for (int64_t j = 0; j < c->nr && p * c->nr + j < c->cout; j++) to[j] = from[((g * c->cout + p * c->nr + j) * c->cin + i) * c->taps + tap];
}

uint32_t conv_pack(Lower *lo, const ConvProduct *c) {
    Context *cx = lo->cx;
    int64_t nr = c->tile.cols, k = c->taps * c->cin;
    if (c->n->in[c->w]->data == NULL) return pack_at_run_time(lo, c);
    ConvPacking packing = {c->groups, c->panels, c->taps, c->cin, c->cout, nr};
    ConstRecipe recipe = {.make = pack_filters, .parameters = &packing, .parameter_bytes = sizeof packing, .source = {c->n->in[c->w]}};
    Dim dim[4] = {dim_const(cx, c->groups), dim_const(cx, c->panels), dim_const(cx, k), dim_const(cx, nr)};
    return lower_made_weight(lo, type_tensor(cx, DT_F32, 4, dim), &recipe);
}

/* ---- the loops --------------------------------------------------------------------------------------------------------- */
/* Where row `row` of the tile, column j, stands in the result. */
static void result_index(Lower *lo, const ConvProduct *c, const ConvPlace *p, Expr *row, Expr *j, Expr **idx) {
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial;
    bool down = p->clip != NULL && p->clip->down;
    Expr *pixel = down ? p->first : lx_add(lo, p->first, row);
    Expr *oc = lx_add(lo, lx_mul(lo, p->panel, lx_i(lo, c->tile.cols)), j);
    if (c->groups > 1) oc = lx_add(lo, lx_mul(lo, p->group, lx_i(lo, c->cout)), oc);
    if (c->flat) {
        lower_split_index(lo, pixel, r + 1, conv_pixels(g).dim, idx);
    } else {
        idx[0] = p->n;
        for (uint32_t i = 0; i + 1 < r; i++) idx[1 + i] = p->at[i];
        if (down) idx[r - 1] = lx_add(lo, p->at[r - 2], row);
        idx[r] = pixel;
    }
    idx[r + 1] = oc;
}

/* Stores `cols` columns of the tile through the epilogue. */
static void store_tile(Lower *lo, const ConvProduct *c, const ConvPlace *p, uint32_t tile, int64_t cols) {
    Expr *row = lower_for(lo, p->rows), *j = lower_for(lo, lx_i(lo, cols)), *idx[RANK_MAX];
    result_index(lo, c, p, row, j, idx);
    Expr *sum = lower_load_buf(lo, tile, (Expr *[]){p->sums != NULL ? lx_add(lo, p->sums, row) : row, j});
    if (c->bias < c->n->n_in) sum = lx_add(lo, sum, lower_load(lo, c->n->in[c->bias], &idx[c->g->spatial + 1]));
    lower_store(lo, c->n->out[0], idx, sum);
    lower_end_n(lo, 2);
}

/* Columns of a finished tile to buffer `out`. */
static void copy_columns(Lower *lo, const ConvProduct *c, const ConvPlace *p, uint32_t tile, uint32_t out, int64_t cols) {
    Expr *row = lower_for(lo, p->rows), *j = lower_for(lo, lx_i(lo, cols)), *idx[RANK_MAX];
    result_index(lo, c, p, row, j, idx);
    lower_store_buf(lo, out, idx, FN_NONE, lower_load_buf(lo, tile, (Expr *[]){row, j}));
    lower_end_n(lo, 2);
}

static void store_columns(Lower *lo, const ConvProduct *c, const ConvPlace *p, uint32_t tile) {
    for (TileColumns t = tile_columns(lo, p->panel, c->cout, c->tile.cols); t.count != 0; tile_columns_next(lo, &t)) store_tile(lo, c, p, tile, t.count);
}

/* Only the taps that lie in the image: the walk begins at the first of them, in the image and in the weights. */
static void clip_call(Lower *lo, const ConvProduct *c, const Image *im, const ConvClip *clip, bool run, TileCall *call) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    Dim pixel = image_step(cx, g, im, 1), line = image_step(cx, g, im, 0), tap_x = dim_mul(cx, pixel, dim_const(cx, g->dilation[1])), tap_y = dim_mul(cx, line, dim_const(cx, g->dilation[0]));
    int64_t kx = dim_value(cx, g->kernel[1]), per_tap = c->cin * c->tile.cols;
    Expr *first = lx_mul(lo, clip->from_y, lx_dim(lo, tap_y));
    first = lx_sub(lo, first, lx_dim(lo, dim_add(cx, dim_mul(cx, line, g->begin[0]), dim_mul(cx, pixel, g->begin[1]))));
    call->a_at = lx_add(lo, call->a_at, lx_add(lo, first, lx_dim(lo, dim_mul(cx, tap_x, dim_const(cx, clip->from_x)))));
    if (clip->down) call->a_row = lx_dim(lo, dim_mul(cx, line, dim_const(cx, g->stride[0])));
    call->b_at = lx_add(lo, call->b_at, lx_add(lo, lx_mul(lo, clip->from_y, lx_i(lo, kx * per_tap)), lx_i(lo, clip->from_x * per_tap)));
    call->k = lx_i(lo, run ? clip->taps_x * c->cin : c->cin);
    call->n1 = call->n2 = NULL;
    if (!run) call->n2 = lx_i(lo, clip->taps_x), call->a_2 = lx_dim(lo, tap_x), call->b_2 = lx_i(lo, per_tap);
    Expr **n = run ? &call->n2 : &call->n1, **a = run ? &call->a_2 : &call->a_1, **b = run ? &call->b_2 : &call->b_1;
    *n = clip->taps_y, *a = lx_dim(lo, tap_y), *b = lx_i(lo, kx * per_tap);
}

/* Where the windows of the tile begin in the image, and how the micro-kernel walks them. */
void conv_call(Lower *lo, const ConvProduct *c, const Image *im, const ConvPlace *p, uint32_t tile, Expr *number, Dim tiles) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial;
    Expr *at;
    Dim pixel = image_step(cx, g, im, r - 1);
    Dim row = dim_mul(cx, pixel, dim_const(cx, g->stride[r - 1]));
    at = lx_mul(lo, p->first, lx_dim(lo, row));
    if (!c->flat) {
        Dim plane = product_of(cx, im->channels, im->size, r);
        at = lx_add(lo, at, lx_mul(lo, p->n, lx_dim(lo, plane)));
        for (uint32_t i = 0; i + 1 < r; i++) {
            Dim step = dim_mul(cx, image_step(cx, g, im, i), dim_const(cx, g->stride[i]));
            at = lx_add(lo, at, lx_mul(lo, p->at[i], lx_dim(lo, step)));
        }
    }
    if (c->groups > 1) at = lx_add(lo, at, lx_mul(lo, p->group, lx_i(lo, c->cin)));
    int64_t kx = dim_value(cx, g->kernel[r - 1]);
    bool run = c->groups == 1 && (g->dilation[r - 1] == 1 || kx == 1); /* a window line is contiguous */
    Dim tap_x = dim_mul(cx, pixel, dim_const(cx, g->dilation[r - 1]));
    TileCall call = {.out = tile, .rows = p->rows, .a = im->buf, .a_at = at, .a_row = lx_dim(lo, row), .a_k = lx_i(lo, 1), .b = c->weights};
    call.k = lx_i(lo, run ? kx * c->cin : c->cin);
    uint32_t outer = r - 1; /* spatial dimensions the outer loops walk: all but x, and x too when it is not a run */
    Expr *count[3], *step[3];
    uint32_t n = 0;
    for (uint32_t i = 0; i < outer; i++) {
        if (dim_value(cx, g->kernel[i]) == 1) continue;
        count[n] = lx_dim(lo, g->kernel[i]);
        step[n++] = lx_dim(lo, dim_mul(cx, image_step(cx, g, im, i), dim_const(cx, g->dilation[i])));
    }
    if (!run && kx > 1) {
        count[n] = lx_i(lo, kx);
        step[n++] = lx_dim(lo, tap_x);
    }
    CHECK(cx, n <= 2);
    if (n > 0) call.n2 = count[n - 1], call.a_2 = step[n - 1];
    if (n > 1) call.n1 = count[0], call.a_1 = step[0];
    int64_t per_panel = c->taps * c->cin * c->tile.cols;
    call.b_at = lx_mul(lo, lx_add(lo, lx_mul(lo, p->group, lx_i(lo, c->panels)), p->panel), lx_i(lo, per_panel));
    call.b_k = lx_i(lo, c->tile.cols);
    if (p->clip != NULL) clip_call(lo, c, im, p->clip, run, &call);
    int64_t length = c->taps * c->cin;
    if (p->piece_length != 0) {
        Expr *from = lx_mul(lo, p->piece, lx_i(lo, length = p->piece_length));
        call.a_at = lx_add(lo, call.a_at, lx_add(lo, lx_mul(lo, p->tap, step[0]), from));
        call.b_at = lx_add(lo, call.b_at, lx_mul(lo, lx_add(lo, lx_mul(lo, p->tap, call.k), from), call.b_k));
        call.k = lx_i(lo, length);
        call.n2 = NULL;
        call.add = true;
    }
    bool down = p->clip != NULL && p->clip->down; /* rows of the tile are lines of the result, but `sums` counts pixels */
    if (p->sums != NULL) call.out_at = lx_mul(lo, p->sums, p->finish == NULL ? call.b_k : down ? lx_i(lo, c->cout) : p->finish->row);
    TileFinish finish;
    if (p->finish != NULL) {
        finish = *p->finish;
        finish.at = lx_mul(lo, p->panel, call.b_k);
        if (p->column) call.out_at = lx_add(lo, call.out_at, finish.at);
        call.finish = &finish;
    }
    if (c->groups == 1 && number != NULL) tile_fetch_ahead(lo, &c->tile, p->panel, c->panels, c->taps * c->cin, length, number, tiles, &call);
    tile_emit(lo, &c->tile, &call);
}

void conv_tile(Lower *lo, const ConvProduct *c, const Image *im, ConvPlace p, Expr *number, Dim tiles, const TileFinish *finish) {
    Context *cx = lo->cx;
    uint32_t r = c->g->spatial;
    int64_t cols = c->tile.cols;
    if (finish == NULL) {
        uint32_t tile = lower_array(lo, DT_F32, 2, (Dim[]){dim_const(cx, c->tile.rows), dim_const(cx, cols)});
        conv_call(lo, c, im, &p, tile, number, tiles);
        store_columns(lo, c, &p, tile);
        return;
    }
    Expr *pixel = p.first; /* of the result, all its pixels in order */
    if (!c->flat) {
        pixel = p.n;
        for (uint32_t i = 0; i < r; i++) pixel = lx_add(lo, lx_mul(lo, pixel, lx_dim(lo, c->g->out[i])), i + 1 < r ? p.at[i] : p.first);
    }
    uint32_t out = lower_buf(lo, lo->node->out[0]);
    TileFinish to = *finish;
    p.finish = &to;
    for (TileColumns k = tile_columns(lo, p.panel, c->cout, cols); k.count != 0; tile_columns_next(lo, &k)) {
        bool whole = k.count == cols;
        uint32_t tile = whole ? out : lower_array(lo, DT_F32, 2, (Dim[]){dim_const(cx, c->tile.rows), dim_const(cx, cols)});
        to.row = lx_i(lo, whole ? c->cout : cols);
        if (whole && p.clip != NULL && p.clip->down) to.row = lx_mul(lo, to.row, lx_dim(lo, c->g->out[r - 1]));
        p.sums = whole ? pixel : NULL;
        p.column = whole;
        conv_call(lo, c, im, &p, tile, number, tiles);
        if (!whole) copy_columns(lo, c, &p, tile, out, k.count);
    }
}

static void emit_lines(Lower *lo, const ConvProduct *c, const Image *im, const TileFinish *finish) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t r = g->spatial, depth = lo->open.n;
    Dim size[2] = {dim_const(cx, c->tile.rows), dim_const(cx, c->tile.cols)}, width = g->out[r - 1];
    ConvPlace p = {0};
    bool lines_first = choice_rows_first(c->choice, c->panels * c->taps * c->cin * c->tile.cols < 1 << 16);
    p.n = lower_for_dim(lo, g->batch);
    p.group = lower_for(lo, lx_i(lo, c->groups));
    if (!lines_first) p.panel = lower_for(lo, lx_i(lo, c->panels));
    for (uint32_t i = 0; i + 1 < r; i++) p.at[i] = lower_for_dim(lo, g->out[i]);
    if (lines_first) p.panel = lower_for(lo, lx_i(lo, c->panels));
    Expr *t;
    if (r == 1) { /* a single line: its tiles are what threads share */
        t = lower_for_dim(lo, dim_ceildiv(cx, width, size[0]));
        lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    } else {
        lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
        t = lower_for_dim(lo, dim_ceildiv(cx, width, size[0]));
    }
    p.first = lx_mul(lo, t, lx_i(lo, c->tile.rows));
    p.rows = tile_rows(lo, width, c->tile.rows, p.first);
    Expr *number = t;
    Dim line = dim_ceildiv(cx, width, size[0]), tiles = line;
    if (r > 1) number = lx_add(lo, lx_mul(lo, p.at[r - 2], lx_dim(lo, line)), t);
    if (r > 1) tiles = dim_mul(cx, g->out[r - 2], line);
    conv_tile(lo, c, im, p, lines_first ? NULL : number, tiles, finish);
    lower_end_n(lo, lo->open.n - depth);
}

enum { SUMS_MOST_BYTES = 32768, PIECE_BYTES = 24576, PANEL_LEAST_BYTES = 1 << 17 };

/* Small images with many channels: a panel of weights is too long for the first-level cache, and every line of tiles would
 * fetch it from the second again. The length of the parts (of a window line) to sum all pixels over, one part after another,
 * or 0. */
static int64_t piece_length(const Lower *lo, const ConvProduct *c) {
    const Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    if (g->spatial != 2 || c->groups != 1 || g->dilation[1] != 1 || !dim_is_const(cx, g->out[0]) || !dim_is_const(cx, g->out[1])) return 0;
    int64_t rows = c->tile.rows, cols = c->tile.cols, run = dim_value(cx, g->kernel[1]) * c->cin, tiles = (dim_value(cx, g->out[1]) + rows - 1) / rows;
    int64_t sums = dim_value(cx, g->out[0]) * tiles * rows * cols * 4, most = PIECE_BYTES / (cols * 4), parts = (run + most - 1) / most;
    bool balanced = c->panels % 2 == 0 || c->panels > 10; /* panels are what threads share */
    if (dim_value(cx, g->kernel[0]) < 2 || sums > SUMS_MOST_BYTES || c->taps * c->cin * cols * 4 < PANEL_LEAST_BYTES || !balanced) return 0;
    while (run % parts != 0) parts++;
    return run / parts >= most / 4 ? run / parts : 0;
}

static void emit_pieces(Lower *lo, const ConvProduct *c, const Image *im, int64_t length) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t depth = lo->open.n;
    int64_t rows = c->tile.rows, run = dim_value(cx, g->kernel[1]) * c->cin, parts = run / length, high = dim_value(cx, g->out[0]);
    int64_t tiles = (dim_value(cx, g->out[1]) + rows - 1) / rows;
    Expr *zero[2];
    ConvPlace p = {.piece_length = length, .group = lx_i(lo, 0)};
    p.n = lower_for_dim(lo, g->batch);
    p.panel = lower_for(lo, lx_i(lo, c->panels));
    lo->open.v[depth]->parallel = 2;
    uint32_t sums = lower_array(lo, DT_F32, 2, (Dim[]){dim_const(cx, high * tiles * rows), dim_const(cx, c->tile.cols)});
    zero[0] = lower_for(lo, lx_i(lo, high * tiles * rows));
    zero[1] = lower_for(lo, lx_i(lo, c->tile.cols));
    lower_store_buf(lo, sums, zero, FN_NONE, lx_const(lo, DT_F32, 0));
    lower_end_n(lo, 2);
    for (int store = 0; store < 2; store++) {
        uint32_t inner = lo->open.n;
        if (!store) p.tap = lower_for_dim(lo, g->kernel[0]);
        if (!store) p.piece = lower_for(lo, lx_i(lo, parts));
        p.at[0] = lower_for(lo, lx_i(lo, high));
        Expr *t = lower_for(lo, lx_i(lo, tiles)), *in_plane = lx_add(lo, lx_mul(lo, p.at[0], lx_i(lo, tiles)), t);
        p.first = lx_mul(lo, t, lx_i(lo, rows));
        p.rows = tile_rows(lo, g->out[1], rows, p.first);
        p.sums = lx_mul(lo, in_plane, lx_i(lo, rows));
        if (store) {
            store_columns(lo, c, &p, sums);
        } else {
            Expr *part = lx_add(lo, lx_mul(lo, p.tap, lx_i(lo, parts)), p.piece);
            Dim calls = dim_const(cx, dim_value(cx, g->kernel[0]) * parts * high * tiles);
            conv_call(lo, c, im, &p, sums, lx_add(lo, lx_mul(lo, part, lx_i(lo, high * tiles)), in_plane), calls);
        }
        lower_end_n(lo, lo->open.n - inner);
    }
    lower_end_n(lo, lo->open.n - depth);
}

/* Do the weights stay in the second-level cache while all panels meet one block of pixels after another? Few pixels are soon through:
 * then fetching the weights is what counts, one panel ahead. */
static bool weights_stay(const ConvProduct *c, int64_t pixels) {
    int64_t weights = c->panels * c->tile.cols * c->cin;
    return pixels * c->cin > 1 << 18 ? weights < 1 << 18 : weights <= 1 << 17 && pixels >= 2 * c->cin;
}

/* All pixels of the batch are the rows of one matrix. */
static void emit_flat(Lower *lo, const ConvProduct *c, const Image *im, const TileFinish *finish) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t depth = lo->open.n;
    Dim size[2] = {dim_const(cx, c->tile.rows), dim_const(cx, c->tile.cols)}, m = product_of(cx, g->batch, g->out, g->spatial);
    int64_t per_block = tile_block(&c->tile, c->cin);
    Dim tiles = dim_ceildiv(cx, m, size[0]), blocks = dim_ceildiv(cx, tiles, dim_const(cx, per_block));
    bool rows_first = choice_rows_first(c->choice, weights_stay(c, dim_lo(cx, m)));
    ConvPlace p = {.n = lx_i(lo, 0), .group = lx_i(lo, 0)};
    Expr *block = NULL;
    if (rows_first) block = lower_for_dim(lo, blocks);
    p.panel = lower_for(lo, lx_i(lo, c->panels));
    if (!rows_first) block = lower_for_dim(lo, blocks);
    lo->open.v[depth]->parallel = 2;
    Expr *first = lx_mul(lo, block, lx_i(lo, per_block));
    Expr *t = lower_for(lo, lx_2(lo, FN_MIN, lx_i(lo, per_block), lx_sub(lo, lx_dim(lo, tiles), first)));
    Expr *number = lx_add(lo, first, t);
    p.first = lx_mul(lo, number, lx_i(lo, c->tile.rows));
    p.rows = tile_rows(lo, m, c->tile.rows, p.first);
    if (rows_first) conv_tile(lo, c, im, p, t, dim_const(cx, per_block), finish);
    else conv_tile(lo, c, im, p, number, tiles, finish);
    lower_end_n(lo, lo->open.n - depth);
}

bool conv_sizes_known(const Context *cx, const ConvGeometry *g) {
    bool known = dim_is_const(cx, g->in_channels) && dim_is_const(cx, g->in_group) && dim_is_const(cx, g->out_group);
    for (uint32_t i = 0; i < g->spatial; i++) known &= dim_is_const(cx, g->kernel[i]);
    return known;
}

/* ---- does it fit? ------------------------------------------------------------------------------------------------------- */
bool conv_describe(const Context *cx, const Node *n, const ConvGeometry *g, ConvProduct *c) {
    *c = (ConvProduct){.n = n, .g = g, .groups = g->group};
    conv_operands(n, &c->x, &c->w, &c->bias);
    const Value *w = n->in[c->w];
    if (!g->channels_last || w->type->dtype != DT_F32 || g->spatial > 3 || !conv_sizes_known(cx, g)) return false;
    c->cin = dim_value(cx, g->in_group);
    c->cout = dim_value(cx, g->out_group);
    c->taps = 1;
    c->flat = g->group == 1;
    uint32_t loops = 0;
    for (uint32_t i = 0; i < g->spatial; i++) {
        int64_t k = dim_value(cx, g->kernel[i]);
        c->taps *= k;
        c->flat &= k == 1 && g->stride[i] == 1 && is_zero(cx, g->begin[i]) && is_zero(cx, g->end[i]);
        bool run = i + 1 == g->spatial && g->group == 1 && g->dilation[i] == 1;
        loops += k > 1 && !run;
    }
    return loops <= 2 && c->taps * c->cin > 0 && c->cout > 0;
}

/* conv-IN-OUT-kKERNEL-sSTRIDE-dDILATION-gGROUPS, images as NxHxWxC; 0 when a size is not known. */
static Str conv_key(Context *cx, const ConvGeometry *g) {
    Writer w = {.arena = &cx->scratch};
    bool known = dim_is_const(cx, g->batch);
    for (uint32_t i = 0; i < g->spatial; i++) known &= dim_is_const(cx, g->in[i]) && dim_is_const(cx, g->out[i]) && dim_is_const(cx, g->begin[i]);
    if (!known) return 0;
    cw_printf(&w, "conv-%lld", (long long)dim_value(cx, g->batch));
    for (uint32_t i = 0; i < g->spatial; i++) cw_printf(&w, "x%lld", (long long)dim_value(cx, g->in[i]));
    cw_printf(&w, "x%lld-", (long long)dim_value(cx, g->in_channels));
    for (uint32_t i = 0; i < g->spatial; i++) cw_printf(&w, "%lldx", (long long)dim_value(cx, g->out[i]));
    cw_printf(&w, "%lld-k", (long long)dim_value(cx, g->out_channels));
    for (uint32_t i = 0; i < g->spatial; i++) cw_printf(&w, "%s%lld", i != 0 ? "x" : "", (long long)dim_value(cx, g->kernel[i]));
    for (uint32_t i = 0; i < g->spatial; i++) cw_printf(&w, "%s%lld", i != 0 ? "x" : "-s", (long long)g->stride[i]);
    for (uint32_t i = 0; i < g->spatial; i++) cw_printf(&w, "%s%lld", i != 0 ? "x" : "-d", (long long)g->dilation[i]);
    cw_printf(&w, "-g%lld", (long long)g->group);
    return str_intern(cx, cw_cstr(&w));
}

static Choice conv_choice(Lower *lo, const ConvProduct *c) {
    Str key = conv_key(lo->cx, c->g);
    if (key == 0 || c->n->in[c->w]->data == NULL) return CHOICE_AUTO;
    uint32_t possible = winograd_fits(lo, c->g) ? CHOICE_BIT(DIRECT) | CHOICE_BIT(WINOGRAD_2) | CHOICE_BIT(WINOGRAD_4) : choice_loops(c->tile, c->panels);
    return choice_take(lo, key, possible);
}

static int64_t panels_of(const ConvProduct *c) { return (c->cout + c->tile.cols - 1) / c->tile.cols; }

/* Can the micro-kernel do all that follows? */
static bool finish_of(Lower *lo, const ConvProduct *c, TileFinish *f) {
    const Value *sum = c->n->out[0], *to = lo->body != NULL ? lo->body->out[0] : sum, *bias = c->bias < c->n->n_in ? c->n->in[c->bias] : NULL;
    if (c->groups != 1 || c->cout < c->tile.cols || lo->node->n_out != 1 || !type_same_dims(sum->type, to->type)) return false;
    return tile_finish(lo, sum, bias, to, c->cout, c->panels * c->tile.cols, f);
}

bool lower_conv_contract(Lower *lo, const Node *n, const ConvGeometry *g) {
    ConvProduct c;
    Context *cx = lo->cx;
    if (!contract_wanted(lo, n)) return false;
    const Node *first = conv_chain_first(lo, n);
    if (first != NULL) return lower_conv_chain(lo, first, n);
    if (lower_conv_bf16(lo, n, g)) return true;
    if (!conv_describe(cx, n, g, &c)) return false;
    if (c.groups > 1 && c.cin == 1 && c.cout == 1) return n->in[c.w]->data != NULL && lower_depthwise(lo, n, g);
    if (c.cout < 4 && c.groups > 1) return false;
    Dim m = c.flat ? product_of(cx, g->batch, g->out, g->spatial) : g->out[g->spatial - 1];
    c.tile = tile_choose(module_target(lo->m), m, c.cout, c.taps * c.cin, cx);
    c.panels = panels_of(&c);
    c.choice = conv_choice(lo, &c);
    if (lower_winograd(lo, n, g, false, c.choice)) return true;
    if (c.choice == CHOICE_NARROW) c.tile = choice_tile(lo, c.choice, c.tile, dim_value(cx, m), c.taps * c.cin);
    c.panels = panels_of(&c);
    int64_t piece = c.flat || c.choice == CHOICE_ROWS_FIRST || c.choice == CHOICE_PANELS_FIRST ? 0 : piece_length(lo, &c), inner, outer;
    bool clip = piece == 0 && conv_clip_pays(lo, g, &c, &inner, &outer);
    c.weights = conv_pack(lo, &c);
    TileFinish finish;
    bool finished = piece == 0 && finish_of(lo, &c, &finish);
    if (clip) {
        lower_conv_clip(lo, &c, inner, outer, finished ? &finish : NULL);
        return true;
    }
    Image im = conv_image(lo, n->in[c.x], g, g->in_channels, true);
    if (c.flat) emit_flat(lo, &c, &im, finished ? &finish : NULL);
    else if (piece != 0) emit_pieces(lo, &c, &im, piece);
    else emit_lines(lo, &c, &im, finished ? &finish : NULL);
    return true;
}
