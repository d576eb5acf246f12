/* ImageDecoder: a call of runtime/image_decode.h, which finds out the format. Planes and filtered rows stand in scratch. */
#include "passes/lower.h"
#include "passes/rules.h"

/* The size of one dimension: at most that, exactly that (or -1), and where the call puts it. */
typedef struct Side { Expr *most, *fixed; Value *cell; } Side;

static Side side_of(Lower *lo, Dim d) {
    if (dim_is_const(lo->cx, d)) return (Side){lx_dim(lo, d), lx_dim(lo, d), lower_scratch(lo, type_tensor(lo->cx, DT_I64, 0, NULL))};
    return (Side){lx_i(lo, dim_hi(lo->cx, d)), lx_i(lo, -1), lower_dim_cell(lo, d)};
}

bool lower_image_decoder(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    const Type *t = n->out[0]->type;
    Side h = side_of(lo, t->dim[0]), w = side_of(lo, t->dim[1]);
    /* JPEG planes are padded to 32 samples, PNG has at most 8 bytes per pixel and one per row, JPEG 2000 four numbers of 4 bytes. */
    Dim margin = dim_const(cx, 32), rows = dim_add(cx, dim_const(cx, dim_hi(cx, t->dim[0])), margin), columns = dim_add(cx, dim_const(cx, dim_hi(cx, t->dim[1])), margin);
    Dim room = dim_mul(cx, dim_mul(cx, rows, columns), dim_const(cx, 16));
    int64_t format = attr_s_is(cx, n, AT_ImageDecoder_pixel_format, "BGR") ? 1 : attr_s_is(cx, n, AT_ImageDecoder_pixel_format, "Grayscale") ? 2 : 0;
    CallArg arg[] = {arg_buf(lower_buf(lo, n->in[0])), arg_expr(lx_dim(lo, n->in[0]->type->dim[0])), arg_buf(lower_buf(lo, n->out[0])), arg_expr(lx_i(lo, format)),
                     arg_expr(h.most), arg_expr(w.most), arg_expr(h.fixed), arg_expr(w.fixed),
                     arg_buf(lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_U8, 1, &room)))), arg_expr(lx_dim(lo, room)), arg_buf(lower_buf(lo, h.cell)), arg_buf(lower_buf(lo, w.cell))};
    lower_call(lo, "lathe_image_decode", sizeof arg / sizeof *arg, arg);
    return true;
}
