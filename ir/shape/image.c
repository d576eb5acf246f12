/* ImageDecoder: encoded bytes to [height, width, channels]. */
#include "ir/shape/shape.h"

enum { MOST_PIXELS = 1024 }; /* height and width of an image whose size the model does not declare */

bool shape_image_decoder(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    if (t->rank != 1 || t->dtype != DT_U8) {
        diag(m->cx, SEV_ERROR, n->loc, "the input must be a vector of u8");
        return false;
    }
    bool grey = attr_s_is(m->cx, n, AT_ImageDecoder_pixel_format, "Grayscale");
    if (!grey && !attr_s_is(m->cx, n, AT_ImageDecoder_pixel_format, "RGB") && !attr_s_is(m->cx, n, AT_ImageDecoder_pixel_format, "BGR")) {
        diag(m->cx, SEV_ERROR, n->loc, "pixel_format must be RGB, BGR or Grayscale");
        return false;
    }
    Dim dim[3] = {shape_runtime_dim(m, n, 0, 0, 1, MOST_PIXELS), shape_runtime_dim(m, n, 0, 1, 1, MOST_PIXELS), dim_const(m->cx, grey ? 1 : 3)};
    shape_out(m, n, 0, DT_U8, 3, dim);
    return true;
}
