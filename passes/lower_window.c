/* Convolutions as rows of a matrix: see lower_window.h.
 *
 * A 1x1 kernel over every pixel needs nothing: all pixels of the batch are rows. The rows of another convolution of
 * stride 1 are the pixels of the whole padded image, line after line: those in the border between two lines are computed and
 * thrown away, which costs less than short tiles at the end of each line. With a stride and long lines, a line of results is
 * a tile, and its rows stand `stride` pixels apart. With a stride and short lines, or with few channels, the windows are written out first, one row of K values padded to whole blocks per result pixel; then every pixel of the batch is a row. */
#include "passes/lower_window.h"

static bool is_zero(const Context *cx, Dim d) { return dim_is_const(cx, d) && dim_value(cx, d) == 0; }

bool window_rows(Lower *lo, const ConvGeometry *g, const Value *x, int64_t block, int64_t few_channels, bool written, int64_t long_line, WindowRows *w) {
    Context *cx = lo->cx;
    uint32_t r = g->spatial, loops = 0;
    *w = (WindowRows){.g = g, .x = x};
    if (!g->channels_last || g->transposed || r > 3 || !dim_is_const(cx, g->in_channels)) return false;
    int64_t cin = dim_value(cx, g->in_group), taps = 1, kx = dim_value(cx, g->kernel[r - 1]);
    bool stride_one = true;
    w->flat = g->group == 1;
    for (uint32_t i = 0; i < r; i++) {
        int64_t k = dim_value(cx, g->kernel[i]);
        taps *= k;
        stride_one &= g->stride[i] == 1;
        w->flat &= k == 1 && g->stride[i] == 1 && is_zero(cx, g->begin[i]) && is_zero(cx, g->end[i]);
    }
    if (taps * cin <= 0) return false;
    bool long_lines = dim_is_const(cx, g->out[r - 1]) && dim_value(cx, g->out[r - 1]) >= long_line && r <= 3 && g->dilation[r - 1] == 1;
    w->windows = !w->flat && g->group == 1 && (written || (stride_one ? cin < few_channels : !long_lines));
    if (w->windows) w->flat = true;
    bool run = g->group == 1 && (g->dilation[r - 1] == 1 || kx == 1); /* a line of the window is contiguous */
    for (uint32_t i = 0; i < r && !w->windows; i++) loops += dim_value(cx, g->kernel[i]) > 1 && !(run && i + 1 == r);
    if (loops > 2 || (written && !w->flat)) return false;
    w->merged = !w->flat && stride_one && r >= 2;
    w->lines = w->flat ? 0 : w->merged ? r - 2 : r - 1;
    int64_t of_run = w->windows ? taps : run ? kx : 1;
    w->taps = taps / of_run;
    w->k = of_run * cin;
    w->padded = (w->k + block - 1) / block * block;
    return true;
}

/* ---- written windows ----------------------------------------------------------------------------------------------------- */
/* Is position `at` of spatial dimension i inside the image? NULL: always. */
static Expr *is_inside(Lower *lo, const ConvGeometry *g, uint32_t i, Expr *at, Dim size) {
    if (is_zero(lo->cx, g->begin[i]) && is_zero(lo->cx, g->end[i])) return NULL;
    return lx_2(lo, FN_AND, lx_2(lo, FN_GE, at, lx_i(lo, 0)), lx_2(lo, FN_LT, at, lx_dim(lo, size)));
}

static Expr *both(Lower *lo, Expr *a, Expr *b) { return a == NULL ? b : b == NULL ? a : lx_2(lo, FN_AND, a, b); }

/* Stores `from`, or the border when not `inside`. */
static void store_window(Lower *lo, uint32_t buf, Expr **to, Expr *inside, Expr *from, Expr *border) {
    if (inside != NULL) lower_if(lo, inside);
    lower_store_buf(lo, buf, to, FN_NONE, from);
    if (inside == NULL) return;
    lower_else(lo);
    lower_store_buf(lo, buf, to, FN_NONE, border);
    lower_end(lo);
}

/* One window: for each tap of all dimensions but the last, the line of the window as one run. */
static void write_window(Lower *lo, const WindowRows *w, uint32_t buf, Expr *const *pixel, Expr **to, Expr *border) {
    Context *cx = lo->cx;
    const ConvGeometry *g = w->g;
    uint32_t r = g->spatial, depth = lo->open.n;
    bool run = g->dilation[r - 1] == 1;
    Expr *from[RANK_MAX], *inside = NULL, *at = lx_i(lo, 0);
    from[0] = pixel[0];
    for (uint32_t i = 0; i < (run ? r - 1 : r); i++) {
        Expr *tap = lower_for_dim(lo, g->kernel[i]);
        at = lx_add(lo, lx_mul(lo, at, lx_dim(lo, g->kernel[i])), tap);
        from[1 + i] = lx_sub(lo, lx_add(lo, lx_mul(lo, pixel[1 + i], lx_i(lo, g->stride[i])), lx_mul(lo, tap, lx_i(lo, g->dilation[i]))), lx_dim(lo, g->begin[i]));
        inside = both(lo, inside, is_inside(lo, g, i, from[1 + i], g->in[i]));
    }
    if (run) { /* the last dimension and the channels as one */
        Dim dim[RANK_MAX], width = dim_mul(cx, g->in[r - 1], g->in_channels);
        for (uint32_t i = 0; i < r; i++) dim[i] = w->x->type->dim[i];
        dim[r] = width;
        uint32_t lines = lower_view(lo, w->x, r + 1, dim);
        Dim length = dim_mul(cx, g->kernel[r - 1], g->in_channels);
        Expr *start = lx_mul(lo, lx_sub(lo, lx_mul(lo, pixel[r], lx_i(lo, g->stride[r - 1])), lx_dim(lo, g->begin[r - 1])), lx_dim(lo, g->in_channels));
        Expr *e = lower_for_dim(lo, length);
        from[r] = lx_add(lo, start, e);
        to[r + 1] = lx_add(lo, lx_mul(lo, at, lx_dim(lo, length)), e);
        store_window(lo, buf, to, both(lo, inside, is_inside(lo, g, r - 1, from[r], width)), lower_load_buf(lo, lines, from), border);
    } else {
        from[r + 1] = lower_for_dim(lo, g->in_channels);
        to[r + 1] = lx_add(lo, lx_mul(lo, at, lx_dim(lo, g->in_channels)), from[r + 1]);
        store_window(lo, buf, to, inside, lower_load(lo, w->x, from), border);
    }
    lower_end_n(lo, lo->open.n - depth);
}

/* A phase that writes the windows: a row of taps times channels for every result pixel. */
static void write_windows(Lower *lo, WindowRows *w, Expr *border) {
    Context *cx = lo->cx;
    const ConvGeometry *g = w->g;
    uint32_t r = g->spatial, depth = lo->open.n;
    Image im = {.channels = dim_const(cx, w->padded)};
    Dim dim[RANK_MAX] = {g->batch};
    for (uint32_t i = 0; i < r; i++) im.size[i] = dim[1 + i] = g->out[i];
    dim[r + 1] = im.channels;
    im.buf = lower_buf(lo, lower_scratch(lo, type_tensor(cx, w->x->type->dtype, r + 2, dim)));
    Expr *to[RANK_MAX];
    for (uint32_t i = 0; i <= r; i++) to[i] = lower_for_dim(lo, dim[i]);
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    write_window(lo, w, im.buf, to, to, border);
    if (w->padded != w->k) {
        to[r + 1] = lx_add(lo, lower_for(lo, lx_i(lo, w->padded - w->k)), lx_i(lo, w->k));
        lower_store_buf(lo, im.buf, to, FN_NONE, lx_const(lo, (DType)border->dtype, 0));
        lower_end(lo);
    }
    lower_end_n(lo, lo->open.n - depth);
    w->image = im;
}

void window_image(Lower *lo, WindowRows *w, Expr *border) {
    if (border == NULL) border = lx_const(lo, dtype_compute(w->x->type->dtype), 0);
    if (w->windows) write_windows(lo, w, border);
    else w->image = conv_image_in(lo, w->x, w->g, w->g->in_channels, false, border);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------------- */
void window_open(Lower *lo, WindowRows *w) {
    if (w->flat) {
        w->n_at = w->group = lx_i(lo, 0);
        return;
    }
    w->n_at = lower_for_dim(lo, w->g->batch);
    w->group = lower_for(lo, lx_i(lo, w->g->group));
    for (uint32_t i = 0; i < w->lines; i++) w->at[i] = lower_for_dim(lo, w->g->out[i]);
}

Dim window_count(Lower *lo, const WindowRows *w) {
    Context *cx = lo->cx;
    const ConvGeometry *g = w->g;
    uint32_t r = g->spatial;
    if (w->flat) {
        Dim m = g->batch;
        for (uint32_t i = 0; i < r; i++) m = dim_mul(cx, m, g->out[i]);
        return m;
    }
    if (!w->merged) return g->out[r - 1];
    return dim_add(cx, dim_mul(cx, dim_sub(cx, g->out[r - 2], dim_const(cx, 1)), w->image.size[r - 1]), g->out[r - 1]);
}

/* Elements from one row to the next. */
static Expr *row_step(Lower *lo, const WindowRows *w) {
    return lx_dim(lo, dim_mul(lo->cx, w->image.channels, dim_const(lo->cx, w->flat ? 1 : w->g->stride[w->g->spatial - 1])));
}

/* Where the window of the tile's first row begins. */
static Expr *window_start(Lower *lo, const WindowRows *w, Expr *first) {
    Context *cx = lo->cx;
    const ConvGeometry *g = w->g;
    Expr *at = lx_mul(lo, first, row_step(lo, w));
    if (w->flat) return at;
    Dim plane = dim_mul(cx, image_step(cx, g, &w->image, 0), w->image.size[0]);
    at = lx_add(lo, at, lx_mul(lo, w->n_at, lx_dim(lo, plane)));
    for (uint32_t i = 0; i < w->lines; i++)
        at = lx_add(lo, at, lx_mul(lo, w->at[i], lx_dim(lo, dim_mul(cx, image_step(cx, g, &w->image, i), dim_const(cx, g->stride[i])))));
    if (g->group > 1) at = lx_add(lo, at, lx_mul(lo, w->group, lx_dim(lo, g->in_group)));
    return at;
}

/* The two outer loops of the micro-kernel: dimensions of the window that are not part of its run. */
static void window_loops(Lower *lo, const WindowRows *w, TileCall *call) {
    Context *cx = lo->cx;
    const ConvGeometry *g = w->g;
    Expr *count[3], *step[3];
    uint32_t n = 0, rank = g->spatial;
    bool run = w->taps == 1 || w->k != dim_value(cx, g->in_group) || dim_value(cx, g->kernel[rank - 1]) == 1;
    for (uint32_t i = 0; i < rank; i++) {
        if (dim_value(cx, g->kernel[i]) == 1 || (run && i + 1 == rank)) continue;
        CHECK(cx, n < 2);
        count[n] = lx_dim(lo, g->kernel[i]);
        step[n++] = lx_dim(lo, dim_mul(cx, image_step(cx, g, &w->image, i), dim_const(cx, g->dilation[i])));
    }
    if (n > 0) call->n2 = count[n - 1], call->a_2 = step[n - 1];
    if (n > 1) call->n1 = count[0], call->a_1 = step[0];
}

void window_operand(Lower *lo, const WindowRows *w, Expr *first, TileCall *call) {
    call->a = w->image.buf;
    call->a_at = window_start(lo, w, first);
    call->a_row = row_step(lo, w);
    call->a_k = lx_i(lo, 1);
    call->k = w->windows ? lx_dim(lo, w->image.channels) : lx_i(lo, w->k);
    if (!w->windows) window_loops(lo, w, call);
}

bool window_index(Lower *lo, const WindowRows *w, Expr *pixel, Expr **idx) {
    const ConvGeometry *g = w->g;
    uint32_t rank = g->spatial;
    idx[0] = w->n_at;
    for (uint32_t i = 0; i < w->lines; i++) idx[1 + i] = w->at[i];
    if (w->flat) {
        lower_split_index(lo, pixel, rank + 1, conv_pixels(g).dim, idx);
    } else if (w->merged) {
        Expr *width = lx_dim(lo, w->image.size[rank - 1]);
        idx[rank - 1] = lx_div(lo, pixel, width);
        idx[rank] = lx_sub(lo, pixel, lx_mul(lo, idx[rank - 1], width));
        lower_if(lo, lx_2(lo, FN_LT, idx[rank], lx_dim(lo, g->out[rank - 1])));
    } else {
        idx[rank] = pixel;
    }
    return w->merged;
}
