/* Shapes of operators that read an image at computed places or put windows back: GridSample, AffineGrid, RoiAlign,
 * MaxRoiPool, MaxUnpool, Col2Im. */
#include "ir/shape/shape.h"
#include "ir/shape/window.h"

static bool rank_is(Module *m, Node *n, uint32_t i, const Type *t, uint32_t rank) {
    if (t != NULL && t->rank == rank) return true;
    if (t != NULL) diag(m->cx, SEV_ERROR, n->loc, "input %u has rank %u, %u is needed", i, t->rank, rank);
    return false;
}

static bool length_is(Module *m, Node *n, uint32_t i, uint32_t count, uint32_t needed) {
    if (count == needed) return true;
    diag(m->cx, SEV_ERROR, n->loc, "input %u has %u elements, %u are needed", i, count, needed);
    return false;
}

/* x [N, C, in...], grid [N, out..., axes] -> [N, C, out...] */
bool shape_grid_sample(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *grid = x != NULL ? shape_in(m, n, 1) : NULL;
    if (grid == NULL) return false;
    if (x->rank < 3 || !rank_is(m, n, 1, grid, x->rank)) {
        if (x->rank < 3) diag(m->cx, SEV_ERROR, n->loc, "input 0 has rank %u, [N, C, spatial...] is needed", x->rank);
        return false;
    }
    Dim dim[RANK_MAX], axes = dim_const(m->cx, x->rank - 2);
    dim[0] = shape_unify(m, n, x->dim[0], grid->dim[0], "batch of input and grid");
    dim[1] = x->dim[1];
    if (dim[0] == 0 || shape_unify(m, n, grid->dim[grid->rank - 1], axes, "coordinates in grid") == 0) return false;
    for (uint32_t a = 2; a < x->rank; a++) dim[a] = grid->dim[a - 1];
    shape_out(m, n, 0, x->dtype, x->rank, dim);
    return true;
}

/* theta [N, k, k+1], size [N, C, spatial of k] -> [N, spatial, k] */
bool shape_affine_grid(Module *m, Node *n) {
    const Type *theta = shape_in(m, n, 0);
    if (!rank_is(m, n, 0, theta, 3)) return false;
    uint32_t count;
    if (!shape_length(m, n, 1, &count)) return false;
    if (count != 4 && count != 5) {
        diag(m->cx, SEV_ERROR, n->loc, "size (input 1) has %u elements, 4 or 5 are needed", count);
        return false;
    }
    const Dim *size = value_dims(m, n->in[1], &count);
    uint32_t k = count - 2;
    if (shape_unify(m, n, theta->dim[1], dim_const(m->cx, k), "rows of theta") == 0) return false;
    if (shape_unify(m, n, theta->dim[2], dim_const(m->cx, k + 1), "columns of theta") == 0) return false;
    Dim dim[5] = {theta->dim[0]};
    for (uint32_t a = 0; a < k; a++) dim[1 + a] = size != NULL ? size[2 + a] : shape_runtime_dim(m, n, 0, 1 + a, 0, INT64_MAX);
    dim[1 + k] = dim_const(m->cx, k);
    shape_out(m, n, 0, theta->dtype, k + 2, dim);
    return true;
}

bool shape_roi_align(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *rois = x != NULL ? shape_in(m, n, 1) : NULL, *batch = rois != NULL ? shape_in(m, n, 2) : NULL;
    if (!rank_is(m, n, 0, x, 4) || !rank_is(m, n, 1, rois, 2) || !rank_is(m, n, 2, batch, 1)) return false;
    if (shape_unify(m, n, rois->dim[1], dim_const(m->cx, 4), "columns of rois") == 0) return false;
    Dim count = shape_unify(m, n, rois->dim[0], batch->dim[0], "number of rois");
    int64_t h = attr_i(n, AT_RoiAlign_output_height), w = attr_i(n, AT_RoiAlign_output_width);
    if (count == 0) return false;
    if (h < 1 || w < 1) {
        diag(m->cx, SEV_ERROR, n->loc, "the output is %lld x %lld, at least 1 x 1 is needed", (long long)h, (long long)w);
        return false;
    }
    shape_out(m, n, 0, x->dtype, 4, (Dim[]){count, x->dim[1], dim_const(m->cx, h), dim_const(m->cx, w)});
    return true;
}

bool shape_crop_and_resize(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *rois = x != NULL ? shape_in(m, n, 1) : NULL, *batch = rois != NULL ? shape_in(m, n, 2) : NULL;
    if (!rank_is(m, n, 0, x, 4) || !rank_is(m, n, 1, rois, 2) || !rank_is(m, n, 2, batch, 1)) return false;
    if (shape_unify(m, n, rois->dim[1], dim_const(m->cx, 4), "columns of rois") == 0) return false;
    Dim count = shape_unify(m, n, rois->dim[0], batch->dim[0], "number of rois");
    uint32_t n_size = 0;
    const Dim *size = value_dims(m, n->in[3], &n_size);
    if (count == 0) return false;
    if (size == NULL || n_size != 2 || dim_lo(m->cx, size[0]) < 1 || dim_lo(m->cx, size[1]) < 1) {
        diag(m->cx, SEV_ERROR, n->loc, "crop_size (input 3) must be two positive sizes that are known at compile time");
        return false;
    }
    if (!attr_s_is(m->cx, n, AT_CropAndResize_mode, "bilinear") && !attr_s_is(m->cx, n, AT_CropAndResize_mode, "nearest")) {
        diag(m->cx, SEV_ERROR, n->loc, "the modes are bilinear and nearest");
        return false;
    }
    shape_out(m, n, 0, x->dtype, 4, (Dim[]){count, x->dim[1], size[0], size[1]});
    return true;
}

bool shape_max_roi_pool(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0), *rois = x != NULL ? shape_in(m, n, 1) : NULL;
    const Attr *size = attr_at(n, attr_named(n, "pooled_shape"));
    if (!rank_is(m, n, 0, x, 4) || !rank_is(m, n, 1, rois, 2)) return false;
    if (size->ints.n != 2 || size->ints.v[0] < 1 || size->ints.v[1] < 1) {
        diag(m->cx, SEV_ERROR, n->loc, "pooled_shape must be two positive sizes");
        return false;
    }
    if (shape_unify(m, n, rois->dim[1], dim_const(m->cx, 5), "columns of rois") == 0) return false;
    shape_out(m, n, 0, n->op == OP_MaxRoiPool ? x->dtype : DT_I64, 4, (Dim[]){rois->dim[0], x->dim[1], dim_const(m->cx, size->ints.v[0]), dim_const(m->cx, size->ints.v[1])});
    return true;
}

/* Sizes that a pool with these windows would have been applied to. */
bool unpool_inferred(Module *m, Node *n, Dim *dim) {
    const Type *x = shape_in(m, n, 0), *at = x != NULL ? shape_in(m, n, 1) : NULL;
    const Attr *kernel = attr_at(n, AT_MaxUnpool_kernel_shape), *stride = attr_at(n, AT_MaxUnpool_strides), *pads = attr_at(n, AT_MaxUnpool_pads);
    if (at == NULL || !rank_is(m, n, 1, at, x->rank)) return false;
    if (x->rank < 3) return rank_is(m, n, 0, x, 3);
    uint32_t k = x->rank - 2;
    bool has_stride = stride->present && stride->ints.n != 0, has_pads = pads->present && pads->ints.n != 0;
    if (kernel->ints.n != k || (has_stride && stride->ints.n != k) || (has_pads && pads->ints.n != 2 * k)) {
        diag(m->cx, SEV_ERROR, n->loc, "kernel_shape, strides and pads must have %u, %u and %u entries", k, k, 2 * k);
        return false;
    }
    dim[0] = x->dim[0];
    dim[1] = x->dim[1];
    for (uint32_t a = 0; a < k; a++) {
        Dim last = dim_sub(m->cx, x->dim[2 + a], dim_const(m->cx, 1));
        Dim d = dim_mul(m->cx, last, dim_const(m->cx, has_stride ? stride->ints.v[a] : 1));
        d = dim_add(m->cx, d, dim_const(m->cx, kernel->ints.v[a]));
        if (has_pads) d = dim_sub(m->cx, d, dim_const(m->cx, pads->ints.v[a] + pads->ints.v[k + a]));
        dim[2 + a] = d;
    }
    return true;
}

bool shape_max_unpool(Module *m, Node *n) {
    Dim dim[RANK_MAX];
    if (!unpool_inferred(m, n, dim)) return false;
    const Type *x = n->in[0]->type;
    uint32_t count;
    if (shape_has_in(n, 2)) {
        if (!shape_length(m, n, 2, &count) || !length_is(m, n, 2, count, x->rank)) return false;
        const Dim *size = value_dims(m, n->in[2], &count);
        for (uint32_t a = 0; a < x->rank; a++) dim[a] = size != NULL ? size[a] : shape_runtime_dim(m, n, 0, a, 0, INT64_MAX);
    }
    shape_out(m, n, 0, x->dtype, x->rank, dim);
    return true;
}

/* x [N, C * product(block), L], image_shape, block_shape -> [N, C, image...] */
bool shape_col2im(Module *m, Node *n) {
    const Type *x = shape_in(m, n, 0);
    if (!rank_is(m, n, 0, x, 3)) return false;
    uint32_t k, blocks;
    if (!shape_length(m, n, 1, &k) || !shape_length(m, n, 2, &blocks) || !length_is(m, n, 2, blocks, k)) return false;
    if (k == 0 || k > RANK_MAX - 2) {
        diag(m->cx, SEV_ERROR, n->loc, "image_shape (input 1) has %u elements, 1 to %d are possible", k, RANK_MAX - 2);
        return false;
    }
    const Dim *image = value_dims(m, n->in[1], &k), *block = value_dims(m, n->in[2], &blocks);
    Dim dim[RANK_MAX] = {x->dim[0]}, size = dim_const(m->cx, 1);
    for (uint32_t a = 0; a < k; a++) {
        dim[2 + a] = image != NULL ? image[a] : shape_runtime_dim(m, n, 0, 2 + a, 0, INT64_MAX);
        size = block != NULL ? dim_mul(m->cx, size, block[a]) : 0;
    }
    dim[1] = block != NULL ? dim_floordiv(m->cx, x->dim[1], size) : shape_runtime_dim(m, n, 0, 1, 0, dim_hi(m->cx, x->dim[1]));
    if (dim[1] == 0 || (block != NULL && dim_mul(m->cx, dim[1], size) != x->dim[1])) {
        diag(m->cx, SEV_ERROR, n->loc, "dimension 1 of input 0 is not a multiple of the block size");
        return false;
    }
    shape_out(m, n, 0, x->dtype, k + 2, dim);
    return true;
}
