/* Random contractions, compiled at full optimisation for a target and run with one and three threads, against the plain
 * loops of -O0 run by the interpreter. Both thread counts must give the same bits.
 *
 *     test_contract TARGET COMPILER f32|bf16|rounded|i8|choices [FIRST_SEED]
 *
 * One model holds all cases of a seed: matrix products with constant and run-time operands, every transpose, batches and
 * vectors; convolutions of one to three dimensions with padding, strides, dilations, groups and depthwise; transposed
 * ones; both with weights of the run, too; convolutions with a depthwise one behind; the gradients of their weights; recurrent cells; pools; with and without operators behind them
 * to fuse. Sizes are drawn so that every tail occurs. With bf16 all numbers are multiples of 1/64 up to 1, which bfloat16
 * holds exactly: then the same results are expected. `rounded` is bf16 on numbers that it cannot hold, with the error that
 * docs/COMMAND.md states: more is wrong, and none at all, too. With i8 the operands are
 * quantized with scales that are powers of two: the floats of -O0 are exact and integers must give the same. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "lathe.h"
#include "passes/lower.h"
#include "passes/pass.h"

static const double ROUNDED_ERROR = 0.02; /* of the largest result */

enum { CASES = 60, CHAINS = 16, BORDERED = 16, SEEDS = 2 };

/* ---- random numbers: the same for the same seed ------------------------------------------------------------------------ */
typedef struct Random { uint64_t s; } Random;
static uint64_t next(Random *r) { return r->s = hash_mix(r->s, 0x9E3779B97F4A7C15u) ^ (r->s >> 31); }
static int64_t between(Random *r, int64_t lo, int64_t hi) { return lo + (int64_t)(next(r) % (uint64_t)(hi - lo + 1)); }
static bool chance(Random *r, int64_t one_in) { return between(r, 1, one_in) == 1; }

/* ---- building -------------------------------------------------------------------------------------------------------------- */
typedef struct Builder {
    Context cx;
    Module *m;
    Random r;
    int64_t grid; /* numbers are multiples of 1 / grid from -1 to 1 */
    bool bytes;   /* operands are quantized */
    bool rounded; /* --precision bf16 on numbers that it rounds */
    double worst; /* error of an output, of its range */
} Builder;

static float draw(const Builder *b, Random *r) { return (float)between(r, -b->grid, b->grid) / (float)b->grid; }

static const Type *tensor(Builder *b, uint32_t rank, const int64_t *size) {
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) dim[i] = dim_const(&b->cx, size[i]);
    return type_tensor(&b->cx, DT_F32, rank, dim);
}

static Value *constant_up_to(Builder *b, uint32_t rank, const int64_t *size, float most) {
    const Type *t = tensor(b, rank, size);
    int64_t n = dim_value(&b->cx, type_numel(&b->cx, t));
    float *data = ARENA_ARRAY(&b->cx.arena, float, n);
    for (int64_t i = 0; i < n; i++) data[i] = most * draw(b, &b->r);
    return value_const(b->m, t, data, true);
}

static Value *constant(Builder *b, uint32_t rank, const int64_t *size) { return constant_up_to(b, rank, size, 1); }

static Value *input(Builder *b, uint32_t rank, const int64_t *size) {
    return graph_add_input(b->m, b->m->main, tensor(b, rank, size), str_format(&b->cx, "x%u", b->m->main->n_in));
}

static Value *node(Builder *b, Op op, uint32_t n, Value *const *in, const char *const *name, const int64_t *const *ints, const uint32_t *count, uint32_t n_attr) {
    Node *made = node_new(b->m, b->m->main, NULL, op, n, in, 1);
    for (uint32_t i = 0; i < n_attr; i++) {
        for (uint32_t s = 0; s < op_attr_count(op); s++) {
            AttrSlot slot = (AttrSlot)(op_info(op)->attr_first + s);
            if (strcmp(attr_info(slot)->name, name[i]) != 0) continue;
            if (attr_info(slot)->kind == ATTR_INT) attr_set_i(made, slot, ints[i][0]);
            else attr_set_ints(&b->cx, made, slot, ints[i], count[i]);
        }
    }
    return node_infer(b->m, made) ? made->out[0] : NULL;
}

static Value *plain(Builder *b, Op op, uint32_t n, Value *const *in) { return node(b, op, n, in, NULL, NULL, NULL, 0); }

static Value *plain(Builder *b, Op op, uint32_t n, Value *const *in);

/* A constant of bytes from -15 to 15 around its zero point. */
static Value *byte_constant(Builder *b, DType t, uint32_t rank, const int64_t *size, int64_t zero) {
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < rank; i++) dim[i] = dim_const(&b->cx, size[i]);
    const Type *type = type_tensor(&b->cx, t, rank, dim);
    int64_t n = dim_value(&b->cx, type_numel(&b->cx, type));
    uint8_t *data = ARENA_ARRAY(&b->cx.arena, uint8_t, n);
    for (int64_t i = 0; i < n; i++) data[i] = (uint8_t)(zero + between(&b->r, -15, 15));
    return value_const(b->m, type, data, true);
}

/* v rounded to bytes and back. */
static Value *operand(Builder *b, Value *v) {
    if (!b->bytes) return v;
    DType t = chance(&b->r, 2) ? DT_U8 : DT_I8;
    Value *scale = value_const_scalar(b->m, DT_F32, chance(&b->r, 2) ? 0.0078125 : 0.015625), *zero = value_const_scalar(b->m, t, (double)between(&b->r, t == DT_U8 ? 100 : -30, t == DT_U8 ? 140 : 30));
    return plain(b, OP_DequantizeLinear, 3, (Value *[]){plain(b, OP_QuantizeLinear, 3, (Value *[]){v, scale, zero}), scale, zero});
}

/* Constant weights; with bytes they have a scale, or one per index of `axis`, and sometimes zero points. */
static Value *weights(Builder *b, uint32_t rank, const int64_t *size, int64_t axis) {
    if (!b->bytes) return constant(b, rank, size);
    DType t = chance(&b->r, 3) ? DT_U8 : DT_I8;
    int64_t zero = t == DT_U8 ? (chance(&b->r, 2) ? 128 : between(&b->r, 20, 230)) : chance(&b->r, 4) ? between(&b->r, -20, 20) : 0;
    Value *w = byte_constant(b, t, rank, size, zero), *z = value_const_scalar(b->m, t, (double)zero), *scale = value_const_scalar(b->m, DT_F32, 0.0625);
    if (chance(&b->r, 2)) return plain(b, OP_DequantizeLinear, 3, (Value *[]){w, scale, z});
    Dim dim = dim_const(&b->cx, size[axis]);
    float *data = ARENA_ARRAY(&b->cx.arena, float, size[axis]);
    uint8_t *zeros = ARENA_ARRAY(&b->cx.arena, uint8_t, size[axis]);
    for (int64_t i = 0; i < size[axis]; i++) data[i] = chance(&b->r, 2) ? 0.0625f : 0.03125f, zeros[i] = (uint8_t)zero;
    Value *in[3] = {w, value_const(b->m, type_tensor(&b->cx, DT_F32, 1, &dim), data, true), value_const(b->m, type_tensor(&b->cx, t, 1, &dim), zeros, true)};
    return node(b, OP_DequantizeLinear, 3, in, (const char *[]){"axis"}, (const int64_t *[]){&axis}, (uint32_t[]){1}, 1);
}

/* Sometimes operators that fusion puts behind the contraction. */
static void finish(Builder *b, Value *v) {
    if (v == NULL) return;
    if (b->bytes && chance(&b->r, 2)) v = operand(b, v);
    if (chance(&b->r, 2)) {
        int64_t size[RANK_MAX];
        for (uint32_t i = 0; i < v->type->rank; i++) size[i] = dim_value(&b->cx, v->type->dim[i]);
        v = plain(b, OP_Add, 2, (Value *[]){v, operand(b, input(b, v->type->rank, size))});
    }
    if (chance(&b->r, 2)) v = plain(b, b->bytes || chance(&b->r, 2) ? OP_Relu : OP_Sigmoid, 1, &v);
    if (b->bytes && chance(&b->r, 2)) v = operand(b, v);
    v->name = str_format(&b->cx, "y%u", b->m->main->n_out);
    graph_add_output(b->m, b->m->main, v);
}

static void add_matmul(Builder *b) {
    Random *r = &b->r;
    int64_t m = chance(r, 4) ? between(r, 1, 3) : between(r, 1, 45), k = between(r, 1, 70), n = chance(r, 3) ? 16 * between(r, 1, 9) : between(r, 1, 150);
    int64_t p = between(r, 1, 3), q = between(r, 1, 2);
    bool fixed = chance(r, 2);
    Value *x, *w;
    switch (between(r, 0, 4)) {
    case 0: x = input(b, 2, (int64_t[]){m, k}), w = fixed ? weights(b, 2, (int64_t[]){k, n}, 1) : input(b, 2, (int64_t[]){k, n}); break;
    case 1: x = input(b, 3, (int64_t[]){p, m, k}), w = fixed ? weights(b, 2, (int64_t[]){k, n}, 1) : input(b, 2, (int64_t[]){k, n}); break;
    case 2: x = input(b, 4, (int64_t[]){q, p, m, k}), w = fixed ? constant(b, 4, (int64_t[]){q, p, k, n}) : input(b, 4, (int64_t[]){q, 1, k, n}); break;
    case 3: x = input(b, 1, (int64_t[]){k}), w = fixed ? weights(b, 2, (int64_t[]){k, n}, 1) : input(b, 3, (int64_t[]){p, k, n}); break;
    default: x = input(b, 3, (int64_t[]){1, m, k}), w = fixed ? constant(b, 1, &k) : input(b, 3, (int64_t[]){p, k, n}); break;
    }
    finish(b, plain(b, OP_MatMul, 2, (Value *[]){chance(r, 3) ? x : operand(b, x), w}));
}

static void add_gemm(Builder *b) {
    Random *r = &b->r;
    int64_t m = between(r, 1, 40), k = between(r, 1, 70), n = between(r, 1, 140), ta = between(r, 0, 1), tb = between(r, 0, 1);
    if (chance(r, 4)) m = between(r, 60, 200), k = between(r, 100, 300); /* what is packed when it comes with the run */
    Value *a = input(b, 2, ta ? (int64_t[]){k, m} : (int64_t[]){m, k});
    const int64_t *size = tb ? (int64_t[]){n, k} : (int64_t[]){k, n};
    Value *w = chance(r, 4) ? input(b, 2, size) : weights(b, 2, size, tb ? 0 : 1);
    Value *c = chance(r, 2) ? constant(b, 1, &n) : input(b, 2, (int64_t[]){m, 1});
    finish(b, node(b, OP_Gemm, 3, (Value *[]){operand(b, a), w, c}, (const char *[]){"transA", "transB"}, (const int64_t *[]){&ta, &tb}, (uint32_t[]){1, 1}, 2));
}

/* An operand of the run that is packed for a few groups of rows, matrix by matrix. */
static void add_packed(Builder *b) {
    Random *r = &b->r;
    int64_t p = between(r, 1, 2), q = between(r, 1, 3), m = between(r, 33, 300), k = between(r, 90, 300), n = between(r, 97, 140);
    Value *x = input(b, 4, (int64_t[]){q, p, m, k}), *w = input(b, 4, (int64_t[]){chance(r, 2) ? q : 1, p, k, n});
    finish(b, plain(b, OP_MatMul, 2, (Value *[]){x, w}));
}

/* So long a sum that the run-time operand is packed and multiplied in parts, the last one shorter. */
static void add_long(Builder *b) {
    Random *r = &b->r;
    int64_t m = between(r, 33, 50), k = between(r, 4100, 5000), n = between(r, 97, 128), ta = between(r, 0, 1), tb = between(r, 0, 1);
    Value *a = input(b, 2, ta ? (int64_t[]){k, m} : (int64_t[]){m, k}), *w = input(b, 2, tb ? (int64_t[]){n, k} : (int64_t[]){k, n}), *c = constant(b, 1, &n);
    finish(b, node(b, OP_Gemm, 3, (Value *[]){a, w, c}, (const char *[]){"transA", "transB"}, (const int64_t *[]){&ta, &tb}, (uint32_t[]){1, 1}, 2));
}

typedef struct Window { int64_t kernel[3], stride[3], dilation[3], pads[6], in[3]; } Window;

static Window draw_window(Builder *b, uint32_t spatial, bool dilate) {
    Random *r = &b->r;
    Window w;
    bool square = chance(r, 2);
    for (uint32_t i = 0; i < spatial; i++) {
        w.kernel[i] = i != 0 && square ? w.kernel[0] : between(r, 1, spatial == 3 ? 3 : 5);
        w.stride[i] = i != 0 && square ? w.stride[0] : chance(r, 2) ? 1 : between(r, 1, 3);
        w.dilation[i] = dilate && chance(r, 4) ? 2 : 1;
        int64_t reach = (w.kernel[i] - 1) * w.dilation[i] + 1;
        w.pads[i] = chance(r, 3) ? 0 : between(r, 0, w.kernel[i] - 1);
        w.pads[spatial + i] = chance(r, 2) ? w.pads[i] : between(r, 0, w.kernel[i] - 1);
        w.in[i] = reach + between(r, 0, spatial == 3 ? 5 : 17);
    }
    return w;
}

static Value *windowed(Builder *b, Op op, uint32_t n, Value *const *in, uint32_t spatial, const Window *w, int64_t group, const int64_t *more) {
    return node(b, op, n, in, (const char *[]){"kernel_shape", "strides", "dilations", "pads", "group", "output_padding"},
                (const int64_t *[]){w->kernel, w->stride, w->dilation, w->pads, &group, more}, (uint32_t[]){spatial, spatial, spatial, 2 * spatial, 1, spatial}, more != NULL ? 6 : 5);
}

static void add_conv(Builder *b, bool transposed) {
    Random *r = &b->r;
    uint32_t spatial = chance(r, 5) ? 1 : chance(r, 8) ? 3 : 2;
    Window w = draw_window(b, spatial, !transposed);
    int64_t group = chance(r, 3) ? between(r, 1, 4) : 1, cin = between(r, 1, 12), cout = between(r, 1, 20);
    if (group == 1 && chance(r, 2)) cin = between(r, 1, 40), cout = between(r, 1, 80);
    if (!transposed && chance(r, 4)) { /* depthwise */
        group = chance(r, 2) ? 16 * between(r, 1, 3) : between(r, 2, 40);
        cin = cout = 1;
    }
    if (!transposed && spatial == 2 && chance(r, 4)) { /* what Winograd's filters take */
        group = 1, cin = between(r, 8, 40), cout = between(r, 8, 80);
        for (int i = 0; i < 2; i++) w.kernel[i] = 3, w.stride[i] = w.dilation[i] = 1, w.in[i] = between(r, 6, 21), w.pads[i] = w.pads[2 + i] = between(r, 0, 2);
    }
    int64_t xs[5] = {between(r, 1, 2), group * cin, w.in[0], w.in[1], w.in[2]}, ws[5], more[3] = {0}, channels = group * cout;
    for (uint32_t i = 0; i < spatial; i++) {
        ws[2 + i] = w.kernel[i];
        if (transposed && w.stride[i] > 1) more[i] = between(r, 0, w.stride[i] - 1);
    }
    ws[0] = transposed ? group * cin : group * cout;
    ws[1] = transposed ? cout : cin;
    Value *w_value = chance(r, 3) && !b->bytes ? input(b, spatial + 2, ws) : transposed ? constant(b, spatial + 2, ws) : weights(b, spatial + 2, ws, 0);
    Value *in[3] = {operand(b, input(b, spatial + 2, xs)), w_value, chance(r, 2) ? constant(b, 1, &channels) : NULL};
    finish(b, windowed(b, transposed ? OP_ConvTranspose : OP_Conv, in[2] != NULL ? 3 : 2, in, spatial, &w, group, transposed ? more : NULL));
}

/* Many channels on a small image: the summed dimension is taken part by part. Stride 2 keeps Winograd's filters away. */
static void add_deep_conv(Builder *b) {
    Random *r = &b->r;
    Window w = draw_window(b, 2, false);
    int64_t cin = chance(r, 2) ? 64 * between(r, 3, 5) : between(r, 190, 300), cout = 16 * between(r, 1, 8);
    for (int i = 0; i < 2; i++) w.kernel[i] = 3, w.stride[i] = 2, w.in[i] = between(r, 7, 13), w.pads[i] = w.pads[2 + i] = between(r, 0, 1);
    Value *in[2] = {operand(b, input(b, 4, (int64_t[]){between(r, 1, 2), cin, w.in[0], w.in[1]})), weights(b, 4, (int64_t[]){cout, cin, 3, 3}, 0)};
    finish(b, windowed(b, OP_Conv, 2, in, 2, &w, 1, NULL));
}

/* Windows that reach beyond a larger image: those on the border have calls of their own (passes/lower_conv_clip.c). */
static void add_bordered_conv(Builder *b) {
    Random *r = &b->r;
    Window w = draw_window(b, 2, true);
    int64_t group = chance(r, 4) ? 2 : 1, cin = between(r, 5, 48), cout = chance(r, 2) ? 64 * between(r, 1, 2) : between(r, 8, 100);
    for (int i = 0; i < 2; i++) {
        w.stride[i] = chance(r, 4) ? between(r, 1, 3) : 2;
        w.in[i] += between(r, 10, 40);
        w.pads[i] = between(r, 0, w.kernel[i] - 1);
        w.pads[2 + i] = between(r, 0, w.kernel[i] - 1);
    }
    int64_t xs[4] = {between(r, 1, 2), group * cin, w.in[0], w.in[1]}, ws[4] = {group * cout, cin, w.kernel[0], w.kernel[1]}, channels = group * cout;
    Value *in[3] = {operand(b, input(b, 4, xs)), weights(b, 4, ws, 0), chance(r, 2) ? constant(b, 1, &channels) : NULL};
    finish(b, windowed(b, OP_Conv, in[2] != NULL ? 3 : 2, in, 2, &w, group, NULL));
}

/* Convolutions with a border that go without a copy: their kernels have the operands and the results, and nothing else. */
static uint32_t clipped_count(const Module *m) {
    uint32_t count = 0;
    for (const Step *s = m->plan->first; s != NULL; s = s->next) {
        const Node *anchor = s->kind == STEP_KERNEL && s->node->op == OP_Fused ? attr_at(s->node, AT_Fused_body)->graph->first : s->node;
        while (anchor != NULL && anchor->op != OP_ConvChannelsLast) anchor = anchor->next;
        if (s->kind != STEP_KERNEL || anchor == NULL || !attr_at(anchor, AT_ConvChannelsLast_pads)->present) continue;
        const int64_t *pads = attr_at(anchor, AT_ConvChannelsLast_pads)->ints.v;
        bool border = false, scratch = false;
        for (uint32_t i = 0; i < attr_at(anchor, AT_ConvChannelsLast_pads)->ints.n; i++) border |= pads[i] != 0;
        for (uint32_t i = 0; i < s->n_value; i++) {
            const Value *v = s->value[i];
            scratch |= v->def == NULL && v->data == NULL && m->plan->ref[v->id].space == SPACE_ARENA;
        }
        count += border && !scratch;
    }
    return count;
}

/* A convolution, pointwise operators, and the depthwise convolution that reads them: one kernel when it pays (passes/lower_chain.c). */
static void add_chain(Builder *b) {
    Random *r = &b->r;
    Window w = draw_window(b, 2, true), one = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .in = {1, 1}};
    int64_t cin = between(r, 1, 40), channels = chance(r, 3) ? 16 * between(r, 1, 9) : between(r, 2, 150), batch = between(r, 1, 2);
    bool wide = chance(r, 3), strided = chance(r, 4);
    for (int i = 0; i < 2; i++) w.in[i] += wide ? between(r, 10, 60) : between(r, 0, 14);
    if (strided) one.kernel[0] = one.kernel[1] = 3, one.stride[0] = one.stride[1] = 2, one.pads[0] = one.pads[3] = 1, one.pads[1] = between(r, 0, 2), one.pads[2] = 2, cin = between(r, 1, 8);
    int64_t xs[4] = {batch, cin, strided ? 2 * w.in[0] : w.in[0], strided ? 2 * w.in[1] : w.in[1]};
    Value *in[3] = {input(b, 4, xs), constant(b, 4, (int64_t[]){channels, cin, one.kernel[0], one.kernel[1]}), chance(r, 4) ? NULL : constant(b, 1, &channels)};
    Value *h = windowed(b, OP_Conv, in[2] != NULL ? 3 : 2, in, 2, &one, 1, NULL);
    if (chance(r, 3)) h = plain(b, OP_Add, 2, (Value *[]){h, constant_up_to(b, 3, (int64_t[]){channels, 1, 1}, 1)});
    if (!chance(r, 4)) h = plain(b, chance(r, 2) ? OP_Relu : OP_Sigmoid, 1, &h);
    in[0] = h;
    in[1] = constant(b, 4, (int64_t[]){channels, 1, w.kernel[0], w.kernel[1]});
    in[2] = chance(r, 4) ? NULL : constant(b, 1, &channels);
    finish(b, windowed(b, OP_Conv, in[2] != NULL ? 3 : 2, in, 2, &w, channels, NULL));
}

/* Kernels that hold two convolutions. */
static uint32_t chain_count(const Module *m) {
    uint32_t count = 0;
    for (const Node *n = m->main->first; n != NULL; n = n->next) {
        uint32_t convolutions = 0;
        for (const Node *k = n->op == OP_Fused ? attr_at(n, AT_Fused_body)->graph->first : NULL; k != NULL; k = k->next) convolutions += k->op == OP_ConvChannelsLast;
        count += convolutions > 1;
    }
    return count;
}

static void add_conv_grad(Builder *b) {
    Random *r = &b->r;
    uint32_t spatial = chance(r, 5) ? 1 : chance(r, 8) ? 3 : 2;
    Window w = draw_window(b, spatial, true);
    int64_t group = chance(r, 5) ? between(r, 2, 3) : 1, cin = between(r, 1, 24), cout = chance(r, 2) ? 16 * between(r, 1, 3) : between(r, 1, 40);
    int64_t xs[5] = {between(r, 1, 3), group * cin, w.in[0], w.in[1], w.in[2]}, ys[5] = {xs[0], group * cout};
    for (uint32_t i = 0; i < spatial; i++) ys[2 + i] = (w.in[i] + w.pads[i] + w.pads[spatial + i] - (w.kernel[i] - 1) * w.dilation[i] - 1) / w.stride[i] + 1;
    finish(b, windowed(b, OP_ConvGradWeight, 2, (Value *[]){input(b, spatial + 2, xs), input(b, spatial + 2, ys)}, spatial, &w, group, NULL));
}

/* RNN, GRU, LSTM of every direction with and without initial states and peepholes; the first output, all its steps. */
static void add_recurrent(Builder *b) {
    Random *r = &b->r;
    int64_t gates = chance(r, 3) ? 1 : chance(r, 2) ? 3 : 4, both = between(r, 0, 2), d = both == 2 ? 2 : 1, time = between(r, 1, 7), batch = between(r, 1, 9);
    int64_t hidden = chance(r, 2) ? 16 * between(r, 1, 8) : between(r, 20, 100), in_size = between(r, 1, 20), linear = between(r, 0, 1);
    bool states = chance(r, 2);
    Value *x = input(b, 3, (int64_t[]){time, batch, in_size}), *projected = input(b, 3, (int64_t[]){d, time * batch, gates * hidden});
    Value *r_small = constant_up_to(b, 3, (int64_t[]){d, gates * hidden, hidden}, 1.0f / 16); /* larger ones blow rounding errors up, step by step */
    Value *in[8] = {projected, x, r_small};
    if (chance(r, 2)) in[3] = constant(b, 2, (int64_t[]){d, 2 * gates * hidden});
    if (states) in[5] = input(b, 3, (int64_t[]){d, batch, hidden});
    if (states && gates == 4) in[6] = input(b, 3, (int64_t[]){d, batch, hidden});
    if (gates == 4 && chance(r, 3)) in[7] = constant(b, 2, (int64_t[]){d, 3 * hidden});
    Node *n = node_new(b->m, b->m->main, NULL, OP_RecurrentSteps, 8, in, 1);
    static const char *const directions[] = {"forward", "reverse", "bidirectional"};
    attr_set_i(n, AT_RecurrentSteps_gates, gates);
    attr_set_s(n, AT_RecurrentSteps_direction, str_intern(&b->cx, directions[both]));
    attr_set_i(n, AT_RecurrentSteps_linear_before_reset, linear);
    finish(b, node_infer(b->m, n) ? n->out[0] : NULL);
}

/* A pool behind a convolution, so that the layout pass moves it. */
static void add_pool(Builder *b) {
    Random *r = &b->r;
    int64_t channels = between(r, 4, 40), in_channels = between(r, 1, 6);
    Window w = draw_window(b, 2, false);
    for (int i = 0; i < 4; i++) w.pads[i] = w.kernel[i % 2] > 1 ? between(r, 0, w.kernel[i % 2] / 2) : 0;
    Value *x = plain(b, OP_Conv, 2, (Value *[]){operand(b, input(b, 4, (int64_t[]){1, in_channels, w.in[0], w.in[1]})), weights(b, 4, (int64_t[]){channels, in_channels, 1, 1}, 0)});
    x = operand(b, x);
    finish(b, windowed(b, chance(r, 2) ? OP_MaxPool : OP_AveragePool, 1, &x, 2, &w, 1, NULL));
}

static void build(Builder *b, uint64_t seed, const LatheOptions *options) {
    b->m = module_new(&b->cx, "contract");
    b->m->options = options;
    b->r.s = seed * 7919 + 1;
    b->grid = options->precision == LATHE_PRECISION_BF16 && !b->rounded ? 64 : b->bytes ? 256 : 1000;
    for (int i = 0; i < CASES; i++) {
        switch (between(&b->r, 0, 9)) {
        case 0: case 1: add_matmul(b); break;
        case 2: add_gemm(b); break;
        case 3: add_conv(b, true); break;
        case 4: add_pool(b); break;
        case 5: add_conv_grad(b); break;
        case 6: add_recurrent(b); break;
        default: add_conv(b, false); break;
        }
    }
    add_deep_conv(b);
    for (int i = 0; i < BORDERED && !b->bytes; i++) add_bordered_conv(b);
    for (int i = 0; i < CHAINS && !b->bytes && options->precision == LATHE_PRECISION_F32; i++) add_chain(b);
    if (!b->bytes && options->precision == LATHE_PRECISION_F32) add_packed(b), add_packed(b), add_long(b);
}

/* ---- running ---------------------------------------------------------------------------------------------------------------- */
static size_t bytes_of(Builder *b, const Value *v) { return dtype_bytes(&b->cx, v->type->dtype, dim_value(&b->cx, type_numel(&b->cx, v->type))); }

static void **new_buffers(Builder *b, Value *const *v, uint32_t n) {
    void **p = ARENA_ARRAY(&b->cx.arena, void *, n);
    for (uint32_t i = 0; i < n; i++) p[i] = arena_alloc(&b->cx.arena, bytes_of(b, v[i]) + 64);
    return p;
}

static void fill_inputs(Builder *b, void **in) {
    Random r = {12345};
    for (uint32_t i = 0; i < b->m->main->n_in; i++)
        for (size_t k = 0; k < bytes_of(b, b->m->main->in[i]) / 4; k++) ((float *)in[i])[k] = draw(b, &r);
}

/* Every node lowered to plain loops and interpreted. False: some kernel failed. */
static bool interpret(Builder *b, void *const *in, void **out) {
    const Graph *g = b->m->main;
    uint32_t n_value = b->m->n_value; /* later ones are scratch memory of one kernel */
    void **data = ARENA_ARRAY(&b->cx.arena, void *, n_value);
    for (uint32_t i = 0; i < g->n_in; i++) data[g->in[i]->id] = in[i];
    for (const Node *n = g->first; n != NULL; n = n->next) {
        LowerResult result;
        Kernel *k = lower_node(b->m, n, &result);
        if (k == NULL) return false;
        void **buf = ARENA_ARRAY(&b->cx.arena, void *, k->n_arg);
        for (uint32_t i = 0; i < k->n_arg; i++) {
            Value *v = result.arg[i];
            bool scratch = v->id >= n_value;
            if (v == n->out[0]) data[v->id] = arena_alloc(&b->cx.arena, bytes_of(b, v) + 64);
            buf[i] = v->data != NULL ? (void *)(uintptr_t)v->data->data : scratch ? arena_alloc(&b->cx.arena, bytes_of(b, v) + 64) : data[v->id];
        }
        if (kernel_interpret(&b->cx, k, buf, NULL) != 0) return false;
    }
    for (uint32_t i = 0; i < g->n_out; i++) memcpy(out[i], data[g->out[i]->id], bytes_of(b, g->out[i]));
    return true;
}

typedef int CallFn(void *ctx, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims);
typedef int InitFn(void *ctx, void *arena, size_t arena_bytes, const void *weights, size_t weight_bytes);

static bool compile_and_run(Builder *b, const char *compiler, const char *target, const char *dir, void *const *in, void **out, void **again) {
    Writer w = {.arena = &b->cx.arena}, so = {.arena = &b->cx.arena}, c = {.arena = &b->cx.arena};
    cw_printf(&c, "%s/contract.c", dir);
    if (!pass_run_pipeline(b->m) || !codegen_emit(b->m, cw_cstr(&c))) return false;
    bool native = strcmp(target, "native") == 0, generic = strcmp(target, "generic") == 0;
    cw_printf(&w, "%s -O1 %s%s -fopenmp -fno-math-errno -Wall -Wextra -Wconversion -Wshadow -Wvla -Wdouble-promotion -Werror -Wno-unknown-warning-option -Wno-invalid-feature-combination "
                  "-fPIC -shared -Wa,-I%s -o %s/contract.so %s/contract.c -lm",
              compiler, generic ? "" : "-march=", generic ? "" : native ? "native" : target, dir, dir, dir);
    cw_printf(&so, "%s/contract.so", dir);
    if (system(cw_cstr(&w)) != 0) return false;
    void *lib = dlopen(cw_cstr(&so), RTLD_NOW);
    if (lib == NULL) return printf("%s\n", dlerror()), false;
    InitFn *init = (InitFn *)(uintptr_t)dlsym(lib, "contract_init");
    CallFn *call = (CallFn *)(uintptr_t)dlsym(lib, "contract_call");
    void (*threads)(int) = (void (*)(int))(uintptr_t)dlsym(lib, "omp_set_num_threads");
    void *ctx[16] = {0}, *arena = aligned_alloc(64, (b->m->plan->arena_bytes + 127) / 64 * 64);
    bool good = threads != NULL && init(ctx, arena, b->m->plan->arena_bytes, NULL, 0) == 0;
    if (good) threads(1);
    good = good && call(ctx, (const void *const *)in, NULL, out, NULL) == 0;
    if (good) threads(3);
    good = good && call(ctx, (const void *const *)in, NULL, again, NULL) == 0;
    free(arena);
    if (!good) printf("the call failed\n");
    return good; /* the library stays: its threads may still be waiting in it */
}

static int compare(Builder *b, uint32_t k, const float *got, const float *again, const float *want) {
    const Value *v = b->m->main->out[k];
    size_t n = bytes_of(b, v) / 4, at = 0;
    double range = 1e-3, worst = 0;
    for (size_t i = 0; i < n; i++) {
        if (fabs((double)want[i]) > range) range = fabs((double)want[i]);
        double e = fabs((double)got[i] - (double)want[i]);
        if (!(e <= worst)) worst = isnan(e) ? INFINITY : e, at = i;
    }
    bool same = memcmp(got, again, n * 4) == 0;
    if (b->worst < worst / range) b->worst = worst / range;
    if (worst <= (b->rounded ? ROUNDED_ERROR : 3e-5) * range && same) return 0;
    Writer w = {.arena = &b->cx.arena};
    type_print(&b->cx, &w, v->type);
    printf("%s %s: [%zu] is %.9g, expected %.9g%s\n", str_text(&b->cx, v->name), cw_cstr(&w), at, (double)got[at], (double)want[at], same ? "" : "; threads differ");
    return 1;
}

/* choice: "*=NAME", how everything is lowered that can be lowered so; NULL: as the cost model says. */
static int run_seed(uint64_t seed, const char *target, const char *compiler, LathePrecision precision, bool bytes, bool rounded, const char *choice) {
    LatheOptions plain_options = lathe_options(), options = lathe_options();
    plain_options.opt_level = 0;
    options.target = target;
    const char *const choices[] = {choice, NULL};
    options.choices = choices;
    options.precision = plain_options.precision = precision;
    options.verify_ir = true;
    Builder reference = {0}, b = {0};
    jmp_buf escape;
    char dir[] = "/tmp/lathe-contract-XXXXXX";
    int failed = 1;
    context_init(&reference.cx);
    context_init(&b.cx);
    reference.cx.escape = b.cx.escape = &escape;
    reference.bytes = b.bytes = bytes;
    reference.rounded = b.rounded = rounded;
    if (setjmp(escape) == 0 && mkdtemp(dir) != NULL) {
        build(&reference, seed, &plain_options);
        build(&b, seed, &options);
        const Graph *g = b.m->main;
        void **in = new_buffers(&b, g->in, g->n_in), **got = new_buffers(&b, g->out, g->n_out), **again = new_buffers(&b, g->out, g->n_out), **want = new_buffers(&b, g->out, g->n_out);
        fill_inputs(&b, in);
        if (!interpret(&reference, in, want)) printf("the interpreter failed\n");
        else if (compile_and_run(&b, compiler, target, dir, in, got, again)) {
            failed = 0;
            for (uint32_t k = 0; k < g->n_out; k++) failed |= compare(&b, k, got[k], again[k], want[k]);
            if (!bytes && precision == LATHE_PRECISION_F32 && chain_count(b.m) < CHAINS / 4) failed = 1, printf("only %u chains are one kernel\n", chain_count(b.m));
            if (!bytes && precision == LATHE_PRECISION_F32 && choice == NULL && clipped_count(b.m) < BORDERED / 4) failed = 1, printf("only %u convolutions without a copy\n", clipped_count(b.m));
            if (rounded && b.worst < 1e-3) failed = 1, printf("nothing was rounded: the largest error is %g of the range\n", b.worst);
            if (rounded) printf("largest error: %.2g of the range\n", b.worst);
            if (g->n_out < CASES * 3 / 4) failed = 1, printf("only %u cases\n", g->n_out);
        }
        printf("%s, seed %llu%s%s: %u cases, %s\n", target, (unsigned long long)seed, choice != NULL ? ", " : "", choice != NULL ? choice : "", g->n_out, failed ? "FAILED" : "ok");
    }
    Writer w = {.arena = &b.cx.arena};
    diag_print(&b.cx, &w);
    if (failed) printf("%s %s %s\n", b.cx.internal_error != NULL ? b.cx.internal_error : "", reference.cx.internal_error != NULL ? reference.cx.internal_error : "", cw_cstr(&w));
    Writer clean = {.arena = &b.cx.arena};
    cw_printf(&clean, "rm -r %s", dir);
    if (!failed && system(cw_cstr(&clean)) != 0) failed = 1;
    context_free(&b.cx);
    context_free(&reference.cx);
    return failed;
}

/* Every way of lowering there is, over shapes of its own. */
static int run_choices(uint64_t first, const char *target, const char *compiler) {
    int failed = 0;
    for (uint32_t i = 1; lathe_choice(i) != NULL; i++) {
        char choice[64];
        snprintf(choice, sizeof choice, "*=%s", lathe_choice(i));
        failed |= run_seed(first + i, target, compiler, LATHE_PRECISION_F32, false, false, choice);
    }
    return failed;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    bool rounded = strcmp(argv[3], "rounded") == 0;
    LathePrecision precision = rounded || strcmp(argv[3], "bf16") == 0 ? LATHE_PRECISION_BF16 : LATHE_PRECISION_F32;
    uint64_t first = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    int failed = 0;
    if (strcmp(argv[3], "choices") == 0) return run_choices(first, argv[1], argv[2]);
    for (uint64_t seed = first; seed < first + SEEDS; seed++) failed |= run_seed(seed, argv[1], argv[2], precision, strcmp(argv[3], "i8") == 0, rounded, NULL);
    return failed;
}
