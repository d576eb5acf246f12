/* Parts of the channels-last convolution rules that several files need. */
#ifndef LATHE_PASSES_LOWER_CONV_H
#define LATHE_PASSES_LOWER_CONV_H
#include "passes/lower_contract.h"

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

/* 3x3 convolutions by Winograd's minimal filtering, when it is estimated to be faster: passes/lower_winograd.c.
 * turned: n is a transposed convolution of stride 1, and g that of the equal plain one with W turned by half a circle. */
bool lower_winograd(Lower *lo, const Node *n, const ConvGeometry *g, bool turned);
/* Convolutions of bf16 images: passes/lower_bf16.c. */
bool lower_conv_bf16(Lower *lo, const Node *n, const ConvGeometry *g);
bool lower_depthwise(Lower *lo, const Node *n, const ConvGeometry *g);
bool lower_integer_depthwise(Lower *lo, const Node *n, const ConvGeometry *g); /* n: an IntegerConvChannelsLast of any kind */

#endif
