/* Rounding of weights: packing of 4-bit codes, round to nearest, GPTQ against codes that numpy computed (in float64, by the
 * recipe at the top of passes/quantize/gptq.c: numpy.linalg.cholesky, numpy.linalg.inv), given as a hash. */
#include <math.h>
#include <stdlib.h>

#include "passes/quantize/quantize.h"
#include "unit.h"

enum { SIZE = 128, SAMPLES = 256 };

static void draw(uint64_t seed, int64_t n, float *to) {
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        to[i] = (float)((double)(seed >> 33) / 2147483648.0 - 0.5);
    }
}

static uint64_t hash(const uint8_t *p, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static QuantizeCodes new_codes(int64_t rows, int64_t k, int64_t group, int bits) {
    size_t groups = (size_t)(rows * ((k + group - 1) / group));
    return (QuantizeCodes){.rows = rows, .k = k, .group = group, .bits = bits, .code = arena_alloc(&cx.arena, (size_t)(rows * k)),
                           .scale = ARENA_ARRAY(&cx.arena, float, groups), .zero = ARENA_ARRAY(&cx.arena, float, groups)};
}

START_TEST(gptq_gives_the_codes_of_the_reference) {
    float *w = ARENA_ARRAY(&cx.arena, float, SIZE * SIZE), *x = ARENA_ARRAY(&cx.arena, float, SAMPLES * SIZE);
    draw(1, SIZE * SIZE, w);
    draw(2, SAMPLES * SIZE, x);
    for (int s = 0; s < SAMPLES; s++)
        for (int k = 0; k < SIZE; k++) x[s * SIZE + k] = k == 7 ? 0 : x[s * SIZE + k] * (float)(1 + k % 5); /* input 7 is dead */
    for (int act = 0; act < 2; act++)
        for (int64_t block = 16; block <= 128; block *= 2) {
            double *h = ARENA_ARRAY(&cx.arena, double, SIZE * SIZE);
            for (int s = 0; s < SAMPLES; s++)
                for (int i = 0; i < SIZE; i++)
                    for (int j = 0; j < SIZE; j++) h[i * SIZE + j] += 2.0 * (double)x[s * SIZE + i] * (double)x[s * SIZE + j] / (double)SAMPLES;
            QuantizeCodes c = new_codes(SIZE, SIZE, SIZE, 4);
            ck_assert(quantize_gptq(&c, w, h, QUANTIZE_ZERO_FLOAT, act == 1, block));
            ck_assert_uint_eq(hash(c.code, SIZE * SIZE), act == 1 ? 0xf176cba5783cfd79u : 0x28bc50022f92a7f2u);
        }
}
END_TEST

/* SAMPLES rows of k inputs that depend on their neighbours, and the sum of their squares, [k, k]. */
typedef struct Samples { float *x; double *squares; } Samples;

static Samples correlated(uint64_t seed, int k) {
    Samples r = {ARENA_ARRAY(&cx.arena, float, SAMPLES * k), ARENA_ARRAY(&cx.arena, double, k * k)};
    draw(seed, SAMPLES * k, r.x);
    for (int s = 0; s < SAMPLES; s++)
        for (int i = 1; i < k; i++) r.x[s * k + i] += 0.9F * r.x[s * k + i - 1];
    for (int s = 0; s < SAMPLES; s++)
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++) r.squares[i * k + j] += (double)r.x[s * k + i] * (double)r.x[s * k + j];
    return r;
}

/* Sum of squared differences of the products with the codes from those with the weights. */
static double output_error(const Samples *r, const QuantizeCodes *c, const float *w, int n, int k) {
    double sum = 0;
    for (int s = 0; s < SAMPLES; s++)
        for (int o = 0; o < n; o++) {
            double e = 0;
            for (int i = 0; i < k; i++) e += (double)r->x[s * k + i] * (double)(w[o * k + i] - quantize_code_value(c, o, i));
            sum += e * e;
        }
    return sum;
}

START_TEST(gptq_is_better_than_rounding) {
    enum { K = 64, N = 32 };
    float *w = ARENA_ARRAY(&cx.arena, float, N * K);
    draw(3, N * K, w);
    Samples r = correlated(4, K);
    QuantizeCodes c[2] = {new_codes(N, K, 32, 4), new_codes(N, K, 32, 4)};
    quantize_round(&c[0], w, QUANTIZE_ZERO_CODE);
    ck_assert(quantize_gptq(&c[1], w, r.squares, QUANTIZE_ZERO_CODE, true, 32));
    ck_assert(output_error(&r, &c[1], w, N, K) < 0.5 * output_error(&r, &c[0], w, N, K));
}
END_TEST

/* Outliers stay in floats, need no codes and make up for the other columns. */
START_TEST(outliers_take_errors_over) {
    enum { K = 64, N = 16 };
    float *w = ARENA_ARRAY(&cx.arena, float, N * K);
    draw(6, N * K, w);
    Samples r = correlated(7, K);
    for (int n = 0; n < N; n++) w[n * K + 9] = 50;
    QuantizeCodes c[2] = {new_codes(N, K, K, 8), new_codes(N, K, K, 8)};
    for (int i = 0; i < 2; i++) c[i].outlier = ARENA_ARRAY(&cx.arena, bool, K), c[i].exact = ARENA_ARRAY(&cx.arena, float, N * K), c[i].outlier[9] = true;
    quantize_round(&c[0], w, QUANTIZE_ZERO_MIDDLE);
    ck_assert(quantize_gptq(&c[1], w, r.squares, QUANTIZE_ZERO_MIDDLE, true, 128));
    for (int n = 0; n < N; n++) {
        ck_assert(c[0].scale[n] <= 0.5F / 127); /* the outlier has no share in the scale */
        ck_assert(quantize_code_value(&c[0], n, 9) == 50);
        ck_assert(fabs((double)quantize_code_value(&c[1], n, 9) - 50) < 0.5 && quantize_code_value(&c[1], n, 9) != 50);
    }
    ck_assert(output_error(&r, &c[1], w, N, K) < 0.5 * output_error(&r, &c[0], w, N, K));
}
END_TEST

START_TEST(gptq_refuses_what_is_not_a_matrix_of_squares) {
    float w[4] = {1, 2, 3, 4};
    double h[4] = {1, 5, 5, 1};
    QuantizeCodes c = new_codes(2, 2, 16, 4);
    ck_assert(!quantize_gptq(&c, w, h, QUANTIZE_ZERO_CODE, false, 128));
}
END_TEST

/* 512 x 1024 numbers 0, 1, 2, …: a row spans 1023, in 4 bits of a scale of its own. */
START_TEST(rounding_uses_all_codes) {
    enum { ROWS = 512, K = 1024 };
    float *w = ARENA_ARRAY(&cx.arena, float, ROWS * K);
    for (int i = 0; i < ROWS * K; i++) w[i] = (float)i;
    QuantizeCodes c = new_codes(ROWS, K, K, 4);
    quantize_round(&c, w, QUANTIZE_ZERO_FLOAT);
    int most = 0;
    for (int i = 0; i < ROWS * K; i++) {
        if (c.code[i] > most) most = c.code[i];
        ck_assert(fabs((double)(quantize_code_value(&c, i / K, i % K) - w[i])) <= 50);
    }
    ck_assert_int_eq(most, 15);
    for (int r = 0; r < ROWS; r++) ck_assert(c.scale[r] * 15 > 1022.9F && c.scale[r] * 15 < 1023.1F);
}
END_TEST

START_TEST(nibbles_pack_by_column) {
    enum { ROWS = 512, K = 1024 };
    uint8_t *code = arena_alloc(&cx.arena, ROWS * K), *packed = arena_alloc(&cx.arena, ROWS * K / 2), *back = arena_alloc(&cx.arena, K), part[2];
    for (int i = 0; i < ROWS * K; i++) code[i] = (uint8_t)(i * 7 + i / 13) & 15;
    for (int r = 0; r < ROWS; r++) quantize_pack4(packed + r * K / 2, code + r * K, K);
    for (int r = 0; r < ROWS; r++) {
        quantize_unpack4(back, packed + r * K / 2, K);
        ck_assert_mem_eq(back, code + r * K, K);
    }
    for (int r = 0; r < 8; r++) { /* four columns are two bytes, wherever they stand */
        quantize_pack4(part, code + r * K + 4, 4);
        ck_assert_mem_eq(part, packed + r * K / 2 + 2, 2);
    }
    ck_assert_uint_eq(packed[0] & 15, code[0]); /* the even column in the low half */
    ck_assert_uint_eq(packed[0] >> 4, code[1]);
    quantize_pack4(part, code, 3);
    ck_assert_uint_eq(part[1], code[2]); /* an odd last column alone */
}
END_TEST

/* A long tail: the range that is chosen leaves most of it out, but never the bulk. */
START_TEST(ranges_leave_outliers_out) {
    uint64_t bins[QUANTIZE_BINS] = {0};
    for (int i = 0; i < 1000; i++) bins[i] = 1000;
    bins[QUANTIZE_BINS - 1] = 1;
    QuantizeRange whole = {0, 2048};
    static const LatheRange kinds[] = {LATHE_RANGE_PERCENTILE, LATHE_RANGE_MSE};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        LatheQuantization q = lathe_quantization();
        q.range = kinds[i];
        QuantizeRange r = quantize_range_choose(&q, whole, bins);
        ck_assert(r.low <= 1 && r.high > 900 && r.high < 1400);
    }
    LatheQuantization q = lathe_quantization();
    ck_assert(quantize_range_choose(&q, whole, bins).high == 2048);
    for (int i = 0; i < QUANTIZE_BINS; i++) bins[i] = (uint64_t)(1e6 * exp(-i / 100.0)) + (i % 97 == 0);
    q.range = LATHE_RANGE_ENTROPY;
    QuantizeRange r = quantize_range_choose(&q, whole, bins);
    ck_assert(r.high > 300 && r.high < 2048);
    float noise[QUANTIZE_BINS]; /* counts that scatter do not make a tail disappear */
    draw(5, QUANTIZE_BINS, noise);
    for (int i = 0; i < QUANTIZE_BINS; i++) bins[i] = (uint64_t)(100 * exp(-i / 200.0) * (1 + 2 * (double)noise[i]) + (double)noise[i] + 0.5);
    ck_assert(quantize_range_choose(&q, whole, bins).high > 1700);
}
END_TEST

/* ---- equalisation ------------------------------------------------------------------------------------------------------------------ */
static Value *tensor(Module *m, uint32_t rank, const int64_t *size, const float *data) {
    Dim dim[4];
    for (uint32_t i = 0; i < rank; i++) dim[i] = dim_const(&cx, size[i]);
    return value_const(m, type_tensor(&cx, DT_F32, rank, dim), data, true);
}

/* Random weights [rows][k]; row r is 10^(r % 4) times as large as others. */
static float *uneven(uint64_t seed, int64_t rows, int64_t k) {
    float *w = ARENA_ARRAY(&cx.arena, float, rows * k);
    draw(seed, rows * k, w);
    for (int64_t i = 0; i < rows * k; i++) w[i] = (w[i] + (w[i] < 0 ? -0.1F : 0.1F)) * (float)pow(10, (double)(i / k % 4));
    return w;
}

static Value *layer(Module *m, Op op, Value *x, Value *w, Value *b, AttrSlot slot, int64_t value, bool relu) {
    Node *n = node_new(m, m->main, NULL, op, b != NULL ? 3 : 2, (Value *[]){x, w, b}, 1);
    attr_set_i(n, slot, value);
    ck_assert(node_infer(m, n));
    if (!relu) return n->out[0];
    n = node_new(m, m->main, NULL, OP_Relu, 1, n->out, 1);
    ck_assert(node_infer(m, n));
    return n->out[0];
}

static double most(const float *w, int64_t n, int64_t step) {
    double r = 0;
    for (int64_t i = 0; i < n; i++) r = fmax(r, fabs((double)w[i * step]));
    return r;
}

static const float *weights_of(const QuantizeSite *s, uint32_t i) { return s->node->in[i]->data->data; }

static QuantizeSites equalized(Module *m) {
    LatheQuantization q = lathe_quantization();
    QuantizeSites sites = {0};
    QuantizePoints points = {0};
    quantize_find(m, &q, &sites, &points);
    quantize_equalize(m, &sites);
    return sites;
}

static void expect_near(double a, double b) { ck_assert(fabs(a - b) <= 1e-5 * fmax(fabs(a), fabs(b))); }

/* Two matrix products with a Relu between: rows of the first are as large as columns of the second, and each path through a channel,
 * from the bias too, weighs what it did. */
START_TEST(equalized_products_compute_the_same) {
    enum { IN = 8, MID = 12, OUT = 5 };
    Module *m = module_new(&cx, "m");
    float *w1 = uneven(11, MID, IN), *w2 = uneven(12, OUT, MID), *b1 = uneven(13, MID, 1);
    Value *x = graph_add_input(m, m->main, type_tensor(&cx, DT_F32, 2, (Dim[]){dim_const(&cx, 3), dim_const(&cx, IN)}), str_intern(&cx, "x"));
    Value *mid = layer(m, OP_Gemm, x, tensor(m, 2, (int64_t[]){MID, IN}, w1), tensor(m, 1, (int64_t[]){MID}, b1), AT_Gemm_transB, 1, true);
    graph_add_output(m, m->main, layer(m, OP_Gemm, mid, tensor(m, 2, (int64_t[]){OUT, MID}, w2), NULL, AT_Gemm_transB, 1, false));
    QuantizeSites s = equalized(m);
    ck_assert_uint_eq(s.n, 2);
    const float *v1 = weights_of(&s.v[0], 1), *v2 = weights_of(&s.v[1], 1), *c1 = weights_of(&s.v[0], 2);
    for (int c = 0; c < MID; c++) {
        ck_assert(fabs(log(most(w1 + c * IN, IN, 1) / most(w2 + c, OUT, MID))) > 1e-3);
        expect_near(most(v1 + c * IN, IN, 1), most(v2 + c, OUT, MID));
        for (int o = 0; o < OUT; o++) {
            for (int i = 0; i < IN; i++) expect_near((double)v1[c * IN + i] * (double)v2[o * MID + c], (double)w1[c * IN + i] * (double)w2[o * MID + c]);
            expect_near((double)c1[c] * (double)v2[o * MID + c], (double)b1[c] * (double)w2[o * MID + c]);
        }
    }
}
END_TEST

/* A depthwise convolution is the second layer of one pair and the first of another. A result of the model is left alone. */
START_TEST(equalized_convolutions_compute_the_same) {
    enum { IN = 3, MID = 8, TAPS = 9, OUT = 4 };
    for (int seen = 0; seen < 2; seen++) {
        Module *m = module_new(&cx, "m");
        float *w1 = uneven(21, MID, IN), *w2 = uneven(22, MID, TAPS), *w3 = uneven(23, OUT, MID);
        Value *x = graph_add_input(m, m->main, type_tensor(&cx, DT_F32, 4, (Dim[]){dim_const(&cx, 1), dim_const(&cx, IN), dim_const(&cx, 6), dim_const(&cx, 6)}), str_intern(&cx, "x"));
        Value *a = layer(m, OP_Conv, x, tensor(m, 4, (int64_t[]){MID, IN, 1, 1}, w1), NULL, AT_Conv_group, 1, true);
        Value *b = layer(m, OP_Conv, a, tensor(m, 4, (int64_t[]){MID, 1, 3, 3}, w2), NULL, AT_Conv_group, MID, true);
        graph_add_output(m, m->main, layer(m, OP_Conv, b, tensor(m, 4, (int64_t[]){OUT, MID, 1, 1}, w3), NULL, AT_Conv_group, 1, false));
        if (seen == 1) graph_add_output(m, m->main, a);
        QuantizeSites s = equalized(m);
        ck_assert_uint_eq(s.n, 3);
        const float *v1 = weights_of(&s.v[0], 1), *v2 = weights_of(&s.v[1], 1), *v3 = weights_of(&s.v[2], 1);
        ck_assert(seen == (memcmp(v1, w1, sizeof *w1 * MID * IN) == 0));
        for (int c = 0; c < MID; c++) {
            double first = most(v1 + c * IN, IN, 1), second = most(v2 + c * TAPS, TAPS, 1), third = most(v3 + c, OUT, MID);
            ck_assert(seen || fabs(log(first / second)) < 0.3);
            ck_assert(fabs(log(second / third)) < 0.3);
            for (int i = 0; i < IN; i++)
                for (int t = 0; t < TAPS; t++)
                    for (int o = 0; o < OUT; o++)
                        expect_near((double)v1[c * IN + i] * (double)v2[c * TAPS + t] * (double)v3[o * MID + c], (double)w1[c * IN + i] * (double)w2[c * TAPS + t] * (double)w3[o * MID + c]);
        }
    }
}
END_TEST

START_TEST(rows_of_few_bits_have_less_error_than_the_largest_weight_gives) {
    enum { ROWS = 4, K = 512 };
    float w[ROWS * K];
    draw(31, ROWS * K, w);
    for (int i = 0; i < ROWS; i++) w[i * K] = 1.5F;
    for (int bits = 4; bits <= 8; bits += 4)
        for (int all = 0; all < 2; all++) {
            QuantizeRows r = quantize_rows(&cx.arena, w, ROWS, K, bits, all == 1);
            double error = 0, plain = 0, high = (1 << (bits - 1)) - 1;
            ck_assert_int_eq(r.n_scale, all == 1 ? 1 : ROWS);
            for (int i = 0; i < ROWS * K; i++) {
                double x = (double)w[i], e = x - (double)quantize_rows_value(&r, i / K, i % K), p = x - rint(x / (1.5 / high)) * (1.5 / high);
                ck_assert(r.code[i] >= (bits == 8 ? -127 : -8) && r.code[i] <= (int)high);
                error += e * e;
                plain += p * p;
            }
            ck_assert(bits == 8 ? fabs(error - plain) < 1e-6 : error < 0.7 * plain);
        }
}
END_TEST

Suite *suite_quantize(void) {
    Suite *s = suite_create("quantize");
    TCase *t = unit_case(s, "quantize");
    tcase_add_test(t, gptq_gives_the_codes_of_the_reference);
    tcase_add_test(t, gptq_is_better_than_rounding);
    tcase_add_test(t, outliers_take_errors_over);
    tcase_add_test(t, gptq_refuses_what_is_not_a_matrix_of_squares);
    tcase_add_test(t, rounding_uses_all_codes);
    tcase_add_test(t, nibbles_pack_by_column);
    tcase_add_test(t, rows_of_few_bits_have_less_error_than_the_largest_weight_gives);
    tcase_add_test(t, ranges_leave_outliers_out);
    tcase_add_test(t, equalized_products_compute_the_same);
    tcase_add_test(t, equalized_convolutions_compute_the_same);
    return s;
}
