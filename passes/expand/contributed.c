/* Operators of com.microsoft that are a standard operator in another order of dims, under another name, or with an attribute as
 * an operand: NhwcConv, NhwcMaxPool, GridSample, ConvTransposeWithDynamicPads, SampleOp; and two short compositions, CDist
 * and UnfoldTensor.
 *
 *     NhwcConv(x, w, b)   ->   Transpose(Conv(Transpose(x, [0, 3, 1, 2]), Transpose(w, [0, 3, 1, 2]), b), [0, 2, 3, 1])
 *     CDist(a, b)         ->   Sqrt(ReduceSum((a [M,1,K] - b [1,N,K])^2, axis 2))
 *     UnfoldTensor(x)     ->   Transpose(Gather(x, windows [count,size], axis dim)), the places in a window last */
#include <string.h>

#include "passes/expand/build.h"
#include "passes/rules.h"

static uint32_t rank_of(const Value *v) { return v->type->kind == TYPE_TENSOR && v->type->rank <= RANK_MAX ? v->type->rank : 0; }

bool expand_nhwc(Module *m, Node *n, Value **out) {
    bool conv = n->op == OP_NhwcConv;
    if (rank_of(n->in[0]) < 3 || (conv && rank_of(n->in[1]) != rank_of(n->in[0]))) return expand_fail(m, n, "inputs [N, spatial..., C] and [M, spatial..., C] are needed");
    Value *in[3] = {expand_move_channels(m, n, n->in[0], false), conv ? expand_move_channels(m, n, n->in[1], false) : NULL, expand_input(n, 2)};
    Node *plain = expand_node(m, n, conv ? OP_Conv : OP_MaxPool, !conv ? 1 : in[2] != NULL ? 3 : 2, in, 1);
    attr_share(plain, n);
    Value *y = expand_result(m, plain);
    if (y != NULL) out[0] = expand_move_channels(m, n, y, true);
    return y != NULL && out[0] != NULL;
}

bool expand_ms_grid_sample(Module *m, Node *n, Value **out) {
    Node *plain = expand_node(m, n, OP_GridSample, 2, n->in, 1);
    attr_share(plain, n);
    const char *mode = attr_s_is(m->cx, n, AT_Ms_GridSample_mode, "bilinear") ? "linear" : attr_s_is(m->cx, n, AT_Ms_GridSample_mode, "bicubic") ? "cubic" : NULL;
    if (mode != NULL) attr_set_s(plain, AT_GridSample_mode, str_intern(m->cx, mode));
    out[0] = expand_result(m, plain);
    return out[0] != NULL;
}

bool expand_conv_transpose_pads(Module *m, Node *n, Value **out) {
    Value *in[3] = {n->in[0], n->in[1], expand_input(n, 3)}, *pads = expand_input(n, 2);
    Node *plain = expand_node(m, n, OP_ConvTranspose, in[2] != NULL ? 3 : 2, in, 1);
    attr_share(plain, n);
    uint32_t count = 0;
    if (pads != NULL) {
        const Dim *dim = value_dims(m, pads, &count);
        int64_t v[2 * RANK_MAX];
        for (uint32_t i = 0; dim != NULL && i < count; i++) {
            if (count > 2 * RANK_MAX || !dim_is_const(m->cx, dim[i])) dim = NULL;
            else v[i] = dim_value(m->cx, dim[i]);
        }
        if (dim == NULL) return expand_fail(m, n, "pads (input 2) must be known at compile time");
        attr_set_ints(m->cx, plain, AT_ConvTranspose_pads, v, count);
    }
    out[0] = expand_result(m, plain);
    return out[0] != NULL;
}

bool expand_sample_op(Module *m, Node *n, Value **out) {
    out[0] = build1(m, n, OP_Identity, n->in[0]);
    return out[0] != NULL;
}

bool expand_cdist(Module *m, Node *n, Value **out) {
    bool root = attr_s_is(m->cx, n, AT_CDist_metric, "euclidean");
    if (!root && !attr_s_is(m->cx, n, AT_CDist_metric, "sqeuclidean")) return expand_fail(m, n, "the metrics are euclidean and sqeuclidean");
    if (rank_of(n->in[0]) != 2 || rank_of(n->in[1]) != 2) return expand_fail(m, n, "two matrices are needed");
    Value *a = build2(m, n, OP_Unsqueeze, n->in[0], value_const_i64(m, 1, (int64_t[]){1}));
    Value *b = build2(m, n, OP_Unsqueeze, n->in[1], value_const_i64(m, 1, (int64_t[]){0}));
    Value *d = build2(m, n, OP_Sub, a, b);
    Value *sum = expand_reduce_axis(m, n, OP_ReduceSum, build2(m, n, OP_Mul, d, d), 2, false);
    out[0] = sum != NULL && root ? build1(m, n, OP_Sqrt, sum) : sum;
    return out[0] != NULL;
}

bool expand_unfold(Module *m, Node *n, Value **out) {
    uint32_t rank = rank_of(n->in[0]);
    int64_t axis = attr_i(n, AT_UnfoldTensor_dim), size = attr_i(n, AT_UnfoldTensor_size), step = attr_i(n, AT_UnfoldTensor_step);
    if (axis < 0) axis += rank;
    if (rank == 0 || axis < 0 || axis >= rank) return expand_fail(m, n, "dim is not one of the input's");
    Dim length = n->in[0]->type->dim[axis];
    if (!dim_is_const(m->cx, length)) return expand_fail(m, n, "the size of the dim must be known at compile time");
    int64_t total = dim_value(m->cx, length);
    if (size < 1 || step < 1 || size > total) return expand_fail(m, n, "size must be 1 to that of the dim, step at least 1");
    int64_t count = (total - size) / step + 1, perm[RANK_MAX + 1];
    if (rank + 1 > RANK_MAX || count > (1 << 24) / size) return expand_fail(m, n, "the result is too large");
    int64_t *place = ARENA_ARRAY(&m->cx->scratch, int64_t, (size_t)(count * size));
    for (int64_t i = 0; i < count * size; i++) place[i] = i / size * step + i % size;
    Value *windows = expand_gather(m, n, n->in[0], expand_ints(m, 2, (int64_t[]){count, size}, place), axis);
    if (windows == NULL) return false;
    for (int64_t a = 0; a <= rank; a++) perm[a] = a <= axis ? a : a == rank ? axis + 1 : a + 1;
    out[0] = expand_transpose(m, n, windows, rank + 1, perm);
    return out[0] != NULL;
}
