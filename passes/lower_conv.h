/* Parts of the channels-last convolution rules that several files need. */
#ifndef LATHE_PASSES_LOWER_CONV_H
#define LATHE_PASSES_LOWER_CONV_H
#include "passes/choice.h"
#include "passes/lower_contract.h"
#include "passes/tile.h"

/* The dims of a channels-last result but the channels. */
typedef struct ConvPixels { Dim dim[RANK_MAX]; } ConvPixels;
static inline ConvPixels conv_pixels(const ConvGeometry *g) {
    ConvPixels p = {.dim = {g->batch}};
    for (uint32_t i = 0; i < g->spatial; i++) p.dim[1 + i] = g->out[i];
    return p;
}

/* A channels-last input as the inner loops see it: [N, size..., channels], dense; a padded copy if there is a border. */
typedef struct Image {
    uint32_t buf;
    Dim size[RANK_MAX], channels;
} Image;
/* channels: at least the input's; the rest is zeros. wide: in f32 whatever x is. Emits the copying phase when one is needed. */
Image conv_image(Lower *lo, const Value *x, const ConvGeometry *g, Dim channels, bool wide);
/* The same with `border` for the elements outside, in the image's compute type; NULL: zero. */
Image conv_image_in(Lower *lo, const Value *x, const ConvGeometry *g, Dim channels, bool wide, Expr *border);
Dim image_step(Context *cx, const ConvGeometry *g, const Image *im, uint32_t i); /* elements between neighbours of dimension i */

/* Are channels and kernel sizes constants? */
bool conv_sizes_known(const Context *cx, const ConvGeometry *g);

/* A convolution as an implicit matrix product: passes/lower_conv.c. */
typedef struct ConvProduct {
    const Node *n;
    const ConvGeometry *g;
    Tile tile;
    int64_t groups, cin, cout, taps, panels; /* cin, cout: per group; taps: of the whole window */
    uint32_t weights, x, w, bias;
    Choice choice;
    bool flat;                               /* every pixel of the image, in order: M is their number */
} ConvProduct;

typedef struct ConvClip { /* two spatial dimensions: which taps of the tile's windows lie in the image */
    Expr *from_y, *taps_y;    /* the first window line inside, how many there are */
    int64_t from_x, taps_x;
    bool down;                /* the tile's rows are pixels below each other, the first at line at[0]; `first` is the column of all */
} ConvClip;

typedef struct ConvPlace { /* inside the loops: a tile's position */
    Expr *n, *group, *panel, *at[RANK_MAX], *first, *rows; /* at: spatial but the last; first: pixel of row 0; flat: of all pixels */
    Expr *sums;               /* row of the array of sums where the tile begins; NULL: 0 */
    Expr *tap, *piece;        /* a part of the summed dimension: window line, part of it */
    int64_t piece_length;     /* 0: all of it at once */
    const TileFinish *finish; /* done to the sums; NULL: nothing */
    bool column;              /* finish: the tile stands among the other panels' columns */
    const ConvClip *clip;     /* the part of the windows that lies in the image, which then has no border; NULL: all of it */
} ConvPlace;

/* Can a micro-kernel do all that happens to value `sum`, the convolution's result but for its bias, until it is `to`: in a Fused
 * body the pointwise operators between them? padded: columns of all panels. passes/tile_finish.c */
bool tile_finish(Lower *lo, const Value *sum, const Value *bias, const Value *to, int64_t channels, int64_t padded, TileFinish *f);

/* All but tile, panels and weights. False when the micro-kernels cannot walk the window. */
bool conv_describe(const Context *cx, const Node *n, const ConvGeometry *g, ConvProduct *c);
uint32_t conv_pack(Lower *lo, const ConvProduct *c); /* the weights' buffer, for tile and panels */
/* Sums of the tile at p into buffer `tile`. number: of the tile among the `tiles` that follow each other in a panel; NULL:
 * every panel is left after few tiles. */
void conv_call(Lower *lo, const ConvProduct *c, const Image *im, const ConvPlace *p, uint32_t tile, Expr *number, Dim tiles);
/* conv_call, and all that follows, to the result. finish, unless NULL: the micro-kernel does what follows, and writes whole panels
 * where they belong. */
void conv_tile(Lower *lo, const ConvProduct *c, const Image *im, ConvPlace p, Expr *number, Dim tiles, const TileFinish *finish);

/* A padded convolution that reads its image where it is: passes/lower_conv_clip.c. False: a padded copy is cheaper, or sizes are not known;
 * otherwise the columns [inner, outer) of the result have windows that lie inside from left to right, and the tile is chosen for them. */
bool conv_clip_pays(Lower *lo, const ConvGeometry *g, ConvProduct *c, int64_t *inner, int64_t *outer);
void lower_conv_clip(Lower *lo, const ConvProduct *c, int64_t inner, int64_t outer, const TileFinish *finish);
/* Does the convolution copy its image before it reads it, so that the copy can as well compute it? (Those of few channels with a border.) */
bool conv_copies_image(Module *m, const Node *n);

/* Depthwise micro-kernels: passes/lower_depthwise.c. */
enum { DEPTHWISE_PIXELS = 8, DEPTHWISE_TAPS = 11 };
typedef struct DepthwiseCall {
    int64_t pixels, cols, vector, taps_x, step, dilation, left, right;
    uint32_t out, a, b;
    Expr *rows, *a_at, *a_x, *a_y, *taps_y, *b_at, *zero, *wrap, *back; /* wrap NULL: the lines are no ring */
    Expr *out_at;             /* finish: where the tile begins in out */
    const TileFinish *finish; /* NULL: plain sums */
} DepthwiseCall;
void depthwise_emit(Lower *lo, const DepthwiseCall *c);
/* tile_finish for n's results, in blocks of cols channels that fill them. */
bool depthwise_finish(Lower *lo, const Node *n, uint32_t bias, int64_t channels, int64_t cols, TileFinish *f);
/* Constant weights w as [block][tap][cols], zero beyond `channels`; zero: of quantized ones, NULL: 0. */
uint32_t depthwise_pack(Lower *lo, const Value *w, const Value *zero, int64_t channels, int64_t padded, int64_t taps, int64_t cols);

/* A convolution and the depthwise one that reads it, in one kernel: passes/lower_chain.c. `first` and all that is pointwise
 * between them are computed by lines as `second` needs them. Is it possible, and faster than two kernels? */
bool conv_chain_pays(Module *m, const Node *first, const Node *second);
/* n's producer in the body that is being lowered; NULL: it stands alone. */
const Node *conv_chain_first(const Lower *lo, const Node *n);
bool lower_conv_chain(Lower *lo, const Node *first, const Node *second);

/* 3x3 convolutions by Winograd's minimal filtering, when it is estimated to be faster or chosen: passes/lower_winograd.c.
 * turned: n is a transposed convolution of stride 1, and g that of the equal plain one with W turned by half a circle. */
bool lower_winograd(Lower *lo, const Node *n, const ConvGeometry *g, bool turned, Choice choice);
bool winograd_fits(const Lower *lo, const ConvGeometry *g); /* could it, fast or not? */
/* Convolutions of bf16 images: passes/lower_bf16.c. */
bool lower_conv_bf16(Lower *lo, const Node *n, const ConvGeometry *g);
bool lower_depthwise(Lower *lo, const Node *n, const ConvGeometry *g);
bool lower_integer_depthwise(Lower *lo, const Node *n, const ConvGeometry *g); /* n: an IntegerConvChannelsLast of any kind */

#endif
