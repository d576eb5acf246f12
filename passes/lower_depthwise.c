/* Depthwise convolutions, channels last: every channel has a window of its own, so a vector holds channels.
 *
 *     y[n, oy, ox, c] = sum over ky, kx of x[n, oy*s + ky, ox*s + kx, c] * w[c, ky, kx]
 *
 * A micro-kernel computes a few pixels of one line for one vector of channels, with the window's weights in registers.
 * The loops around it walk lines and channel vectors; those are what the threads share. */
#include "passes/lower_conv.h"
#include "passes/tile.h"

enum { MOST_PIXELS = 8, MOST_TAPS = 11 };

static uint32_t pack(Lower *lo, const float *from, int64_t channels, int64_t padded, int64_t taps, int64_t vector) {
    Context *cx = lo->cx;
    float *packed = ARENA_ARRAY(&cx->arena, float, padded * taps + 16);
    packed = (float *)(((uintptr_t)packed + 63) & ~(uintptr_t)63);
    for (int64_t c = 0; c < channels; c++)
        for (int64_t t = 0; t < taps; t++) packed[(c / vector * taps + t) * vector + c % vector] = from[c * taps + t];
    Dim dim[3] = {dim_const(cx, padded / vector), dim_const(cx, taps), dim_const(cx, vector)};
    return lower_weight(lo, type_tensor(cx, DT_F32, 3, dim), packed);
}

/* Pixels per micro-kernel: the fewest kernels per line, evenly filled. */
static int64_t pixels_per_tile(const Context *cx, Dim width) {
    if (!dim_is_const(cx, width)) return MOST_PIXELS;
    int64_t w = dim_value(cx, width), parts = (w + MOST_PIXELS - 1) / MOST_PIXELS;
    return parts > 0 ? (w + parts - 1) / parts : 1;
}

bool lower_depthwise(Lower *lo, const Node *n, const ConvGeometry *g) {
    Context *cx = lo->cx;
    uint32_t r = g->spatial, xi, wi, bias;
    conv_operands(n, &xi, &wi, &bias);
    bool lines = r == 2;
    int64_t kx = dim_value(cx, g->kernel[r - 1]), ky = lines ? dim_value(cx, g->kernel[0]) : 1, step = g->stride[r - 1];
    if (r > 2 || kx > MOST_TAPS || ky > 255 || step > MOST_TAPS || g->dilation[r - 1] != 1) return false;
    int64_t channels = dim_value(cx, g->in_channels), vector = module_target(lo->m)->vector_bits / 32;
    while (vector > 4 && channels % vector != 0) vector /= 2;
    int64_t padded = (channels + vector - 1) / vector * vector, pixels = pixels_per_tile(cx, g->out[r - 1]);
    uint32_t weights = pack(lo, n->in[wi]->data->data, channels, padded, kx * ky, vector);
    Image im = conv_image(lo, n->in[xi], g, dim_const(cx, padded));

    uint32_t depth = lo->open.n;
    Dim tile_dim[2] = {dim_const(cx, pixels), dim_const(cx, vector)}, width = g->out[r - 1];
    Expr *idx[RANK_MAX];
    idx[0] = lower_for_dim(lo, g->batch);
    if (lines) idx[1] = lower_for_dim(lo, g->out[0]);
    Expr *block = lower_for(lo, lx_i(lo, padded / vector));
    lo->open.v[depth]->parallel = (uint16_t)(lo->open.n - depth);
    Expr *first = lx_mul(lo, lower_for_dim(lo, dim_ceildiv(cx, width, tile_dim[0])), lx_i(lo, pixels));
    Expr *rows = tile_rows(lo, width, pixels, first);
    uint32_t tile = lower_array(lo, DT_F32, 2, tile_dim);
    Dim a_x = im.channels, a_y = lines ? image_step(cx, g, &im, 0) : im.channels, plane = dim_mul(cx, a_y, lines ? im.size[0] : im.size[0]);
    Expr *at = lx_add(lo, lx_mul(lo, idx[0], lx_dim(lo, plane)), lx_mul(lo, first, lx_dim(lo, dim_mul(cx, a_x, dim_const(cx, step)))));
    if (lines) at = lx_add(lo, at, lx_mul(lo, idx[1], lx_dim(lo, dim_mul(cx, a_y, dim_const(cx, g->stride[0])))));
    at = lx_add(lo, at, lx_mul(lo, block, lx_i(lo, vector)));
    Contract *c = ARENA_NEW(&cx->arena, Contract);
    *c = (Contract){.kind = CONTRACT_DEPTHWISE, .rows = (uint8_t)pixels, .cols = (uint8_t)vector, .vector = (uint8_t)vector, .taps_y = (uint8_t)ky, .taps_x = (uint8_t)kx, .step = (uint8_t)step};
    CallArg *arg = ARENA_ARRAY(&cx->arena, CallArg, DW_ARGS);
    arg[DW_OUT] = arg_buf(tile);
    arg[DW_ROWS] = arg_expr(rows);
    arg[DW_A] = arg_buf(im.buf);
    arg[DW_A_AT] = arg_expr(at);
    arg[DW_A_X] = arg_expr(lx_dim(lo, a_x));
    arg[DW_A_Y] = arg_expr(lx_dim(lo, lines ? dim_mul(cx, a_y, dim_const(cx, g->dilation[0])) : a_y));
    arg[DW_B] = arg_buf(weights);
    arg[DW_B_AT] = arg_expr(lx_mul(lo, block, lx_i(lo, kx * ky * vector)));
    lower_emit(lo, (Stmt){.kind = S_CONTRACT, .contract = c, .arg = arg, .n_arg = DW_ARGS});

    Expr *pixel = lower_for(lo, rows);
    Expr *columns = lx_i(lo, vector);
    if (padded != channels) columns = lx_2(lo, FN_MIN, columns, lx_sub(lo, lx_i(lo, channels), lx_mul(lo, block, lx_i(lo, vector))));
    Expr *j = lower_for(lo, columns);
    idx[r] = lx_add(lo, first, pixel);
    Expr *channel = idx[r + 1] = lx_add(lo, lx_mul(lo, block, lx_i(lo, vector)), j);
    Expr *sum = lower_load_buf(lo, tile, (Expr *[]){pixel, j});
    if (bias < n->n_in) sum = lx_add(lo, sum, lower_load(lo, n->in[bias], &channel));
    lower_store(lo, n->out[0], idx, sum);
    lower_end_n(lo, lo->open.n - depth);
    return true;
}
