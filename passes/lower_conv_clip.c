/* Padded convolutions that read their image where it is. A copy with a border of zeros costs as much memory as the image, and its
 * time; where windows reach beyond the image only the taps inside are summed.
 *
 *     3x3, stride 2, a border of 1 above and left:      . . . . . . .        # the corner: 2x2 taps, one tile of one pixel
 *                                                       . # - - - - -        - the first line: 2 of 3 window lines, tiles along it
 *                                                       . | o o o o o        | the first column: 2 of 3 window columns, tiles down it
 *                                                       . | o o o o o        o all taps
 *
 * Lines of the window are counted at run time, since they are a loop of the micro-kernel anyway; columns are part of its innermost run, so every result
 * column whose windows are cut off left or right has a call of its own. Its tiles go down the image, one result line below the other,
 * as far as the windows lie inside from top to bottom. They are worked on by the piece of work that has their first line. */
#include "passes/lower_conv.h"

#include "passes/lower/contraction.h"

enum { BORDER_COLUMNS = 6, CACHED_BYTES = 1 << 19 };

/* The taps at from + k*dilation, k < kernel, that lie in [0, size). */
static void taps_inside(int64_t from, int64_t kernel, int64_t dilation, int64_t size, int64_t *first, int64_t *count) {
    *first = kernel;
    *count = 0;
    for (int64_t k = 0; k < kernel; k++) {
        if (from + k * dilation < 0 || from + k * dilation >= size) continue;
        if (*first > k) *first = k;
        ++*count;
    }
}

/* The results [lo, hi) of spatial dimension i whose windows lie inside; false when some window has no tap inside at all. */
static bool whole_windows(const Context *cx, const ConvGeometry *g, uint32_t i, int64_t *lo, int64_t *hi) {
    int64_t n = dim_value(cx, g->out[i]), kernel = dim_value(cx, g->kernel[i]);
    *lo = n;
    *hi = 0;
    for (int64_t o = 0; o < n; o++) {
        int64_t first, count;
        taps_inside(o * g->stride[i] - dim_value(cx, g->begin[i]), kernel, g->dilation[i], dim_value(cx, g->in[i]), &first, &count);
        if (count == 0) return false;
        if (count != kernel) continue;
        if (*lo == n) *lo = o;
        *hi = o + 1;
    }
    return *lo < *hi;
}

static bool sizes_known(const Context *cx, const ConvGeometry *g) {
    for (uint32_t i = 0; i < 2; i++) {
        if (!dim_is_const(cx, g->in[i]) || !dim_is_const(cx, g->out[i]) || !dim_is_const(cx, g->begin[i]) || !dim_is_const(cx, g->end[i])) return false;
        if (dim_value(cx, g->out[i]) < 1 || dim_value(cx, g->out[i]) > UINT16_MAX || dim_value(cx, g->kernel[i]) > UINT8_MAX) return false;
    }
    return true;
}

static bool has_border(const Context *cx, const ConvGeometry *g) {
    bool border = false;
    for (uint32_t i = 0; i < g->spatial; i++) border |= !dim_is_const(cx, g->begin[i]) || dim_value(cx, g->begin[i]) != 0 || !dim_is_const(cx, g->end[i]) || dim_value(cx, g->end[i]) != 0;
    return border;
}

bool conv_clip_pays(Lower *lo, const ConvGeometry *g, ConvProduct *c, int64_t *inner, int64_t *outer) {
    Context *cx = lo->cx;
    const Value *x = c->n->in[c->x];
    int64_t top, bottom, k = c->taps * c->cin;
    if (g->spatial != 2 || c->flat || x->type->dtype != DT_F32 || lower_computes(lo, x) || !sizes_known(cx, g) || !has_border(cx, g)) return false;
    if (!whole_windows(cx, g, 1, inner, outer) || !whole_windows(cx, g, 0, &top, &bottom)) return false;
    int64_t width = dim_value(cx, g->out[1]), high = dim_value(cx, g->out[0]), within = *outer - *inner, border = width - within;
    if (border > BORDER_COLUMNS) return false;
    Tile tile = c->choice == CHOICE_NARROW ? c->tile : tile_choose(module_target(lo->m), dim_const(cx, within), c->cout, k, cx);
    double copied = (double)(dim_value(cx, g->in_channels) * (high * g->stride[0] + 2) * (width * g->stride[1] + 2)), bytes = 8 * copied;
    double copy = copied * (bytes > (double)CACHED_BYTES ? 0.6 : 0.3), apart = (double)high * tile_time(&c->tile, width, c->cout, k);
    double clipped = (double)high * tile_time(&tile, within, c->cout, k);
    clipped += (double)border * (tile_time(&tile, bottom - top, c->cout, k) + (double)(high - (bottom - top)) * tile_time(&tile, 1, c->cout, k));
    if ((double)c->groups * (clipped - apart) > copy) return false;
    c->tile = tile;
    c->panels = (c->cout + tile.cols - 1) / tile.cols;
    return true;
}

/* ---- the loops ------------------------------------------------------------------------------------------------------------ */
typedef struct Clipped {
    const ConvProduct *c;
    Image image;
    const TileFinish *finish;
    ConvPlace place;       /* inside the loops: batch, group, panel, line */
    Expr *from_y, *taps_y; /* of that line's windows */
    int64_t inner, outer;
} Clipped;

static Expr *clamp(Lower *lo, Expr *e, Expr *most) { return lx_2(lo, FN_MIN, lx_2(lo, FN_MAX, e, lx_i(lo, 0)), most); }

static void open_line(Lower *lo, Clipped *p) {
    const ConvGeometry *g = p->c->g;
    Expr *start = lx_sub(lo, lx_mul(lo, p->place.at[0], lx_i(lo, g->stride[0])), lx_dim(lo, g->begin[0])), *taps = lx_dim(lo, g->kernel[0]);
    Expr *by = lx_i(lo, g->dilation[0]), *up = lx_i(lo, g->dilation[0] - 1);
    p->from_y = clamp(lo, lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, lx_i(lo, 0), start), up), by), taps);
    Expr *to = clamp(lo, lx_2(lo, FN_FLOORDIV, lx_add(lo, lx_sub(lo, lx_dim(lo, g->in[0]), start), up), by), taps);
    p->taps_y = lx_sub(lo, to, p->from_y);
}

static void whole_columns(Lower *lo, const Clipped *p, bool panel_after_panel) {
    Context *cx = lo->cx;
    const ConvProduct *c = p->c;
    Dim width = dim_const(cx, p->outer - p->inner), line = dim_ceildiv(cx, width, dim_const(cx, c->tile.rows));
    ConvClip clip = {.from_y = p->from_y, .taps_y = p->taps_y, .taps_x = dim_value(cx, c->g->kernel[1])};
    ConvPlace at = p->place;
    Expr *t = lower_for_dim(lo, line), *first = lx_mul(lo, t, lx_i(lo, c->tile.rows));
    at.clip = &clip;
    at.first = lx_add(lo, first, lx_i(lo, p->inner));
    at.rows = tile_rows(lo, width, c->tile.rows, first);
    Expr *number = panel_after_panel ? lx_add(lo, lx_mul(lo, at.at[0], lx_dim(lo, line)), t) : NULL;
    conv_tile(lo, c, &p->image, at, number, dim_mul(cx, c->g->out[0], line), p->finish);
    lower_end(lo);
}

/* Column x of the result: at a line whose windows are cut off, its pixel alone; at every rows-th of the others, a tile down from it. */
static void border_column(Lower *lo, const Clipped *p, int64_t x, int64_t top, int64_t bottom) {
    Context *cx = lo->cx;
    const ConvProduct *c = p->c;
    const ConvGeometry *g = c->g;
    ConvClip clip = {.from_y = p->from_y, .taps_y = p->taps_y, .down = true};
    ConvPlace at = p->place;
    taps_inside(x * g->stride[1] - dim_value(cx, g->begin[1]), dim_value(cx, g->kernel[1]), g->dilation[1], dim_value(cx, g->in[1]), &clip.from_x, &clip.taps_x);
    Expr *y = at.at[0], *below = lx_sub(lo, y, lx_i(lo, top)), *height = lx_i(lo, bottom - top), *rows = lx_i(lo, c->tile.rows);
    Expr *cut = lx_2(lo, FN_OR, lx_2(lo, FN_LT, below, lx_i(lo, 0)), lx_2(lo, FN_GE, below, height));
    Expr *begins = lx_2(lo, FN_EQ, lx_2(lo, FN_MOD, lx_2(lo, FN_MAX, below, lx_i(lo, 0)), rows), lx_i(lo, 0));
    at.clip = &clip;
    at.first = lx_i(lo, x);
    at.rows = lx_select(lo, cut, lx_i(lo, 1), lx_2(lo, FN_MIN, rows, lx_sub(lo, height, below)));
    lower_if(lo, lx_2(lo, FN_OR, cut, begins));
    conv_tile(lo, c, &p->image, at, NULL, dim_const(cx, 1), p->finish);
    lower_end(lo);
}

void lower_conv_clip(Lower *lo, const ConvProduct *c, int64_t inner, int64_t outer, const TileFinish *finish) {
    Context *cx = lo->cx;
    const ConvGeometry *g = c->g;
    uint32_t depth = lo->open.n;
    int64_t top, bottom;
    Clipped p = {.c = c, .finish = finish, .inner = inner, .outer = outer};
    p.image = (Image){.buf = lower_buf(lo, c->n->in[c->x]), .size = {g->in[0], g->in[1]}, .channels = g->in_channels};
    bool lines_first = choice_rows_first(c->choice, c->panels * c->taps * c->cin * c->tile.cols < 1 << 16);
    whole_windows(cx, g, 0, &top, &bottom);
    p.place.n = lower_for_dim(lo, g->batch);
    p.place.group = lower_for(lo, lx_i(lo, c->groups));
    if (!lines_first) p.place.panel = lower_for(lo, lx_i(lo, c->panels));
    p.place.at[0] = lower_for_dim(lo, g->out[0]);
    if (lines_first) p.place.panel = lower_for(lo, lx_i(lo, c->panels));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    open_line(lo, &p);
    for (int64_t x = 0; x < dim_value(cx, g->out[1]); x++)
        if (x < inner || x >= outer) border_column(lo, &p, x, top, bottom);
    whole_columns(lo, &p, !lines_first);
    lower_end_n(lo, lo->open.n - depth);
}

bool conv_copies_image(Module *m, const Node *n) {
    Context *cx = m->cx;
    ConvGeometry g;
    ConvProduct c;
    if (n->op != OP_ConvChannelsLast || !conv_geometry(m, n, &g) || !conv_describe(cx, n, &g, &c)) return false;
    return c.groups == 1 && n->in[c.x]->type->dtype == DT_F32 && has_border(cx, &g) && dim_value(cx, g.in_channels) <= FEW_PLANES;
}
