/* ConvTranspose, channels last, as stride[0] * stride[1] small convolutions of stride 1, one per phase of the output:
 *
 *     oy + begin = q * s + r:   y[oy] = sum over j of x[q - j] * w[r + j*s]        taps r, r+s, r+2s, ...
 *
 * so the outputs of one phase r are a convolution of x with every s-th tap, taken in reverse. Each runs on the register
 * tiles of ordinary convolutions over one copy of the input with its border; nothing is multiplied by inserted zeros. */
#include "passes/lower_conv.h"

#include "passes/lower/contraction.h"
#include "passes/tile.h"

enum { MOST_PHASES = 64 };

typedef struct Axis {      /* one spatial dimension */
    int64_t stride, kernel, most; /* most: taps of phase 0, the largest */
    int64_t begin, q0;     /* q0 = floor(begin / stride): the least q */
    Dim out;
} Axis;

typedef struct Transposed {
    const Node *n;
    const ConvGeometry *g;
    Tile tile;
    uint32_t x, w, bias;
    int64_t cin, cout, panels;
    Axis axis[2];          /* y, x; without y: a single line */
    bool lines;
    Image image;
    Dim line, pixel, plane; /* elements between neighbours in the image */
} Transposed;

typedef struct Phase { /* of one axis: r, its taps, and the q it covers: first .. first + count, relative to q0 */
    int64_t r, taps, first;
    Dim count;
} Phase;

static Phase phase_of(Context *cx, const Axis *a, int64_t r) {
    Phase p = {.r = r, .taps = r < a->kernel ? (a->kernel - r + a->stride - 1) / a->stride : 0};
    p.first = r < a->begin - a->q0 * a->stride ? 1 : 0;
    Dim last = dim_floordiv(cx, dim_add(cx, a->out, dim_const(cx, a->begin - r - 1)), dim_const(cx, a->stride));
    p.count = dim_max(cx, dim_sub(cx, last, dim_const(cx, a->q0 + p.first - 1)), dim_const(cx, 0));
    return p;
}

typedef struct WeightElement { const Transposed *t; Expr **idx; } WeightElement; /* idx: all but output channels are set */

static Expr *weight_element(Lower *lo, void *user, Expr *col) {
    WeightElement *e = user;
    e->idx[1] = col;
    return lower_load(lo, e->t->n->in[e->t->w], e->idx);
}

/* Weights of the run: a phase packs the taps this phase uses. */
static uint32_t pack_at_run_time(Lower *lo, const Transposed *t, const Phase *py, const Phase *px) {
    Context *cx = lo->cx;
    const Phase *phase[2] = {py, px};
    int64_t nr = t->tile.cols, taps = py->taps * px->taps;
    Dim dim[3] = {dim_const(cx, t->panels), dim_const(cx, taps * t->cin), dim_const(cx, nr)};
    uint32_t to = lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_F32, 3, dim))), depth = lo->open.n;
    Expr *at[3], *idx[4], *tap = lx_i(lo, 0);
    at[0] = lower_for(lo, lx_i(lo, t->panels));
    for (uint32_t i = t->lines ? 0 : 1; i < 2; i++) {
        Expr *j = lower_for(lo, lx_i(lo, phase[i]->taps));
        idx[t->lines ? 2 + i : 2] = lx_sub(lo, lx_i(lo, phase[i]->r + (phase[i]->taps - 1) * t->axis[i].stride), lx_mul(lo, j, lx_i(lo, t->axis[i].stride)));
        tap = lx_add(lo, lx_mul(lo, tap, lx_i(lo, phase[i]->taps)), j);
    }
    idx[0] = lower_for(lo, lx_i(lo, t->cin));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    at[1] = lx_add(lo, lx_mul(lo, tap, lx_i(lo, t->cin)), idx[0]);
    WeightElement e = {t, idx};
    tile_pack_line(lo, to, at, 2, at[0], t->cout, nr, weight_element, &e);
    lower_end_n(lo, lo->open.n - depth);
    return to;
}

typedef struct PhasePacking { int64_t panels, nr, cin, cout, ky, kx, y_taps, x_taps, y_first, x_first, y_stride, x_stride; } PhasePacking;

static void pack_phase(void *packed, const ConstRecipe *r) {
    const PhasePacking *t = r->parameters;
    const float *from = r->source[0]->data->data; /* [cin][cout][ky][kx] */
    float *to = packed;
    for (int64_t p = 0; p < t->panels; p++)
        for (int64_t jy = 0; jy < t->y_taps; jy++)
            for (int64_t jx = 0; jx < t->x_taps; jx++) {
                int64_t y = t->y_first + (t->y_taps - 1 - jy) * t->y_stride, x = t->x_first + (t->x_taps - 1 - jx) * t->x_stride;
                for (int64_t c = 0; c < t->cin; c++, to += t->nr)
                    for (int64_t j = 0; j < t->nr && p * t->nr + j < t->cout; j++) to[j] = from[((c * t->cout + p * t->nr + j) * t->ky + y) * t->kx + x];
            }
}

static uint32_t pack(Lower *lo, const Transposed *t, const Phase *py, const Phase *px) {
    Context *cx = lo->cx;
    int64_t nr = t->tile.cols, taps = py->taps * px->taps;
    if (t->n->in[t->w]->data == NULL) return pack_at_run_time(lo, t, py, px);
    PhasePacking packing = {.panels = t->panels, .nr = nr, .cin = t->cin, .cout = t->cout, .ky = t->axis[0].kernel, .kx = t->axis[1].kernel, .y_taps = py->taps, .x_taps = px->taps,
                            .y_first = py->r, .x_first = px->r, .y_stride = t->axis[0].stride, .x_stride = t->axis[1].stride};
    ConstRecipe recipe = {.make = pack_phase, .parameters = &packing, .parameter_bytes = sizeof packing, .source = {t->n->in[t->w]}};
    Dim dim[3] = {dim_const(cx, t->panels), dim_const(cx, taps * t->cin), dim_const(cx, nr)};
    return lower_made_weight(lo, type_tensor(cx, DT_F32, 3, dim), &recipe);
}

/* q (relative to q0) to the output position. */
static Expr *output_at(Lower *lo, const Axis *a, const Phase *p, Expr *q) {
    Expr *at = lx_mul(lo, q, lx_i(lo, a->stride));
    return lx_add(lo, at, lx_i(lo, a->q0 * a->stride + p->r - a->begin));
}

static void store(Lower *lo, const Transposed *t, const Phase *py, const Phase *px, uint32_t tile, Expr *n, Expr *panel, Expr *qy, Expr *qx, Expr *rows, int64_t cols) {
    uint32_t r = t->g->spatial;
    Expr *row = lower_for(lo, rows), *j = lower_for(lo, lx_i(lo, cols)), *idx[4];
    idx[0] = n;
    if (t->lines) idx[1] = output_at(lo, &t->axis[0], py, qy);
    idx[r] = output_at(lo, &t->axis[1], px, lx_add(lo, qx, row));
    Expr *oc = idx[r + 1] = lx_add(lo, lx_mul(lo, panel, lx_i(lo, t->tile.cols)), j);
    Expr *sum = tile == UINT32_MAX ? lx_const(lo, DT_F32, 0) : lower_load_buf(lo, tile, (Expr *[]){row, j});
    if (t->bias < t->n->n_in) sum = lx_add(lo, sum, lower_load(lo, t->n->in[t->bias], &oc));
    lower_store(lo, t->n->out[0], idx, sum);
    lower_end_n(lo, 2);
}

static void emit_phase(Lower *lo, const Transposed *t, const Phase *py, const Phase *px) {
    Context *cx = lo->cx;
    int64_t nr = t->tile.cols, taps = py->taps * px->taps;
    Dim size[2] = {dim_const(cx, t->tile.rows), dim_const(cx, nr)};
    if (px->count == dim_const(cx, 0) || py->count == dim_const(cx, 0)) return;
    uint32_t weights = taps > 0 ? pack(lo, t, py, px) : 0, depth = lo->open.n;
    Expr *n = lower_for_dim(lo, t->g->batch), *panel = lower_for(lo, lx_i(lo, t->panels)), *qy = lx_i(lo, py->first);
    if (t->lines) qy = lx_add(lo, lower_for_dim(lo, py->count), qy);
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    Expr *step = lower_for_dim(lo, dim_ceildiv(cx, px->count, size[0]));
    Expr *q = lx_mul(lo, step, lx_i(lo, t->tile.rows)), *rows = tile_rows(lo, px->count, t->tile.rows, q), *qx = lx_add(lo, q, lx_i(lo, px->first));
    uint32_t tile = UINT32_MAX; /* a stride larger than the kernel: phases without taps are the bias alone */
    if (taps > 0) {
        tile = lower_array(lo, DT_F32, 2, size);
        Expr *y = lx_add(lo, qy, lx_i(lo, t->axis[0].most - py->taps)), *x = lx_add(lo, qx, lx_i(lo, t->axis[1].most - px->taps));
        Expr *at = lx_add(lo, lx_mul(lo, n, lx_dim(lo, t->plane)), lx_mul(lo, x, lx_dim(lo, t->pixel)));
        if (t->lines) at = lx_add(lo, at, lx_mul(lo, y, lx_dim(lo, t->line)));
        tile_emit(lo, &t->tile, &(TileCall){.out = tile, .rows = rows, .a = t->image.buf, .a_at = at, .a_row = lx_dim(lo, t->pixel), .a_k = lx_i(lo, 1),
                                            .n2 = lx_i(lo, py->taps), .a_2 = lx_dim(lo, t->line), .k = lx_i(lo, px->taps * t->cin), .b = weights,
                                            .b_at = lx_mul(lo, panel, lx_i(lo, taps * t->cin * nr)), .b_k = lx_i(lo, nr)});
    }
    for (TileColumns c = tile_columns(lo, panel, t->cout, nr); c.count != 0; tile_columns_next(lo, &c)) store(lo, t, py, px, tile, n, panel, qy, qx, rows, c.count);
    lower_end_n(lo, lo->open.n - depth);
}

static bool describe(Lower *lo, const Node *n, const ConvGeometry *g, Transposed *t) {
    Context *cx = lo->cx;
    *t = (Transposed){.n = n, .g = g, .lines = g->spatial == 2};
    conv_operands(n, &t->x, &t->w, &t->bias);
    if (!g->channels_last || g->spatial > 2 || g->group != 1 || n->in[t->x]->type->dtype != DT_F32 || !conv_sizes_known(cx, g)) return false;
    t->axis[0] = (Axis){.stride = 1, .kernel = 1, .most = 1, .out = dim_const(cx, 1)};
    int64_t phases = 1;
    for (uint32_t i = 0; i < g->spatial; i++) {
        Axis *a = &t->axis[i + 2 - g->spatial];
        if (g->dilation[i] != 1 || !dim_is_const(cx, g->begin[i]) || dim_value(cx, g->begin[i]) < 0) return false;
        *a = (Axis){.stride = g->stride[i], .kernel = dim_value(cx, g->kernel[i]), .begin = dim_value(cx, g->begin[i]), .out = g->out[i]};
        a->most = (a->kernel + a->stride - 1) / a->stride;
        a->q0 = a->begin / a->stride;
        if (a->q0 > a->most - 1 || a->stride > MOST_PHASES) return false;
        phases *= a->stride;
    }
    t->cin = dim_value(cx, g->in_channels);
    t->cout = dim_value(cx, g->out_channels);
    return phases <= MOST_PHASES && t->cin > 0 && t->cout > 0;
}

/* The input with the border that every phase finds enough of: q from q0 needs x from q0 - (most - 1). */
static void make_image(Lower *lo, Transposed *t) {
    Context *cx = lo->cx;
    ConvGeometry g = *t->g;
    for (uint32_t i = 0; i < g.spatial; i++) {
        const Axis *a = &t->axis[i + 2 - g.spatial];
        Dim last = dim_floordiv(cx, dim_add(cx, a->out, dim_const(cx, a->begin - 1)), dim_const(cx, a->stride));
        g.kernel[i] = dim_const(cx, a->most);
        g.out[i] = dim_sub(cx, last, dim_const(cx, a->q0 - 1));
        g.stride[i] = g.dilation[i] = 1;
        g.begin[i] = dim_const(cx, a->most - 1 - a->q0);
        g.end[i] = dim_sub(cx, dim_add(cx, g.out[i], dim_const(cx, a->most - 1)), dim_add(cx, g.begin[i], g.in[i]));
    }
    t->image = conv_image(lo, t->n->in[t->x], &g, g.in_channels, true);
    t->pixel = t->image.channels;
    t->line = t->lines ? image_step(cx, &g, &t->image, 0) : t->pixel;
    t->plane = t->lines ? dim_mul(cx, t->line, t->image.size[0]) : dim_mul(cx, t->pixel, t->image.size[0]);
}

/* Stride 1 is a plain convolution with the window turned by half a circle, which Winograd's filters may take. */
static bool as_plain(Lower *lo, const Node *n, const ConvGeometry *g) {
    Context *cx = lo->cx;
    ConvGeometry plain = *g;
    plain.transposed = false;
    for (uint32_t i = 0; i < g->spatial; i++) {
        if (g->stride[i] != 1 || dim_value(cx, g->kernel[i]) != 3 || dim_value(cx, g->begin[i]) > 2) return false;
        plain.begin[i] = dim_sub(cx, dim_const(cx, 2), g->begin[i]);
        plain.end[i] = dim_sub(cx, dim_add(cx, g->out[i], dim_const(cx, 2)), dim_add(cx, g->in[i], plain.begin[i]));
        if (dim_lo(cx, plain.end[i]) < 0) return false;
    }
    return lower_winograd(lo, n, &plain, true, CHOICE_AUTO);
}

bool lower_conv_transpose_contract(Lower *lo, const Node *n, const ConvGeometry *g) {
    Transposed t;
    Context *cx = lo->cx;
    if (!contract_wanted(lo, n) || !describe(lo, n, g, &t)) return false;
    if (as_plain(lo, n, g)) return true;
    t.tile = tile_choose(module_target(lo->m), g->in[g->spatial - 1], t.cout, t.cin * t.axis[0].most * t.axis[1].most, cx);
    t.panels = (t.cout + t.tile.cols - 1) / t.tile.cols;
    make_image(lo, &t);
    for (int64_t y = 0; y < t.axis[0].stride; y++) {
        for (int64_t x = 0; x < t.axis[1].stride; x++) {
            Phase py = phase_of(cx, &t.axis[0], y), px = phase_of(cx, &t.axis[1], x);
            if (!t.lines) py = (Phase){.taps = 1, .count = dim_const(cx, 1)};
            emit_phase(lo, &t, &py, &px);
        }
    }
    return true;
}
