/* First values of parameters: the generator against its published vectors, moments of the distributions, and exact values
 * that must be the same on every machine. */
#include "test_dsl.h"

#include <math.h>
#include <string.h>

#include "base/philox.h"

static LatheModel *m;
static void setup(void) { m = lathe_model_new("test"); }
static void teardown(void) {
    ck_assert_uint_eq(diagnostics_of(m), 0);
    lathe_model_free(m);
}

/* The known-answer vectors that the authors of Philox publish with their library (kat_vectors, philox4x32 10). */
START_TEST(philox_vectors) {
    uint32_t r[4];
    philox(r, (uint64_t[]){0, 0}, 0);
    ck_assert(r[0] == 0x6627e8d5u && r[1] == 0xe169c58du && r[2] == 0xbc57ac4cu && r[3] == 0x9b00dbd8u);
    philox(r, (uint64_t[]){UINT64_MAX, UINT64_MAX}, UINT64_MAX);
    ck_assert(r[0] == 0x408f276du && r[1] == 0x41c83b0eu && r[2] == 0xa20bc7c6u && r[3] == 0x6d5451fdu);
    philox(r, (uint64_t[]){0x85a308d3243f6a88u, 0x0370734413198a2eu}, 0x299f31d0a4093822u);
    ck_assert(r[0] == 0xd16cfe09u && r[1] == 0x94fdccebu && r[2] == 0x5001e420u && r[3] == 0x24126ea1u);
}
END_TEST

static const float *values(const char *name, uint32_t rank, const int64_t *shape, LatheInit init, size_t *n) {
    LatheParam p = {0};
    lathe_param(m, name, LATHE_F32, rank, shape, init);
    for (uint32_t i = 0; lathe_param_at(m, i, &p); i++)
        if (strcmp(p.info.name, name) == 0) break;
    *n = p.bytes / sizeof(float);
    return p.data;
}

static void moments(const float *x, size_t n, double *mean, double *deviation) {
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    *mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) square += ((double)x[i] - *mean) * ((double)x[i] - *mean);
    *deviation = sqrt(square / (double)n);
}

static void check_moments(const char *name, const int64_t shape[2], LatheInit init, double mean, double deviation) {
    size_t n;
    const float *x = values(name, 2, shape, init, &n);
    double found_mean, found_deviation;
    moments(x, n, &found_mean, &found_deviation);
    ck_assert_msg(fabs(found_mean - mean) < 0.02 * deviation, "%s: mean %g", name, found_mean);
    ck_assert_msg(fabs(found_deviation - deviation) < 0.01 * deviation, "%s: deviation %g, expected %g", name, found_deviation, deviation);
}

START_TEST(distributions) {
    const int64_t shape[2] = {300, 200};
    check_moments("normal", shape, lathe_normal(3, 0.5), 3, 0.5);
    check_moments("uniform", shape, lathe_uniform(-1, 3), 1, 4 / sqrt(12));
    check_moments("glorot uniform", shape, lathe_glorot_uniform(), 0, sqrt(2.0 / 500));
    check_moments("glorot normal", shape, lathe_glorot_normal(), 0, sqrt(2.0 / 500));
    check_moments("kaiming uniform", shape, lathe_kaiming_uniform(0), 0, sqrt(2.0 / 300));
    check_moments("kaiming normal", shape, lathe_kaiming_normal(1), 0, sqrt(1.0 / 300));
}
END_TEST

START_TEST(normals_have_normal_tails) {
    size_t n, beyond[4] = {0};
    const float *x = values("x", 1, (int64_t[]){400000}, lathe_normal(0, 1), &n);
    for (size_t i = 0; i < n; i++)
        for (int k = 1; k < 4; k++) beyond[k] += fabsf(x[i]) > (float)k;
    ck_assert_double_eq_tol((double)beyond[1] / (double)n, 0.31731, 0.003);
    ck_assert_double_eq_tol((double)beyond[2] / (double)n, 0.04550, 0.0015);
    ck_assert_double_eq_tol((double)beyond[3] / (double)n, 0.00270, 0.0004);
}
END_TEST

START_TEST(convolution_fans_count_the_kernel) {
    size_t n;
    double mean, deviation;
    const float *x = values("w", 4, (int64_t[]){64, 32, 3, 3}, lathe_kaiming_normal(0), &n);
    moments(x, n, &mean, &deviation);
    ck_assert_double_eq_tol(deviation, sqrt(2.0 / (32 * 9)), 0.001);
}
END_TEST

static void check_orthonormal(const float *x, int64_t rows, int64_t cols, double scale) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double dot = 0;
            for (int64_t k = 0; k < cols; k++) dot += (double)x[i * cols + k] * (double)x[j * cols + k];
            ck_assert_double_eq_tol(dot, i == j ? scale : 0, 1e-5);
        }
    }
}

START_TEST(orthogonal_rows) {
    size_t n;
    check_orthonormal(values("q", 2, (int64_t[]){8, 20}, lathe_orthogonal(sqrt(2)), &n), 8, 20, 2);
    const float *tall = values("tall", 2, (int64_t[]){20, 8}, lathe_orthogonal(1), &n);
    float turned[160];
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < 8; j++) turned[j * 20 + i] = tall[i * 8 + j];
    check_orthonormal(turned, 8, 20, 1);
}
END_TEST

static uint32_t bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

/* Computed once, compared by bits: another machine or compiler that gives anything else breaks reproducibility. */
START_TEST(exact_values) {
    size_t n;
    lathe_seed(m, 42);
    const float *x = values("fc1/weight", 1, (int64_t[]){6}, lathe_normal(0, 1), &n);
    const uint32_t expected[6] = {0x3f9a5568u, 0xbf91feeeu, 0xbe8a7f3cu, 0xbdf5d8d9u, 0x3f8c8366u, 0x3d4ca4e9u}; /* also by an independent program in Python */
    for (int i = 0; i < 6; i++) ck_assert_uint_eq(bits(x[i]), expected[i]);
}
END_TEST

START_TEST(values_depend_on_seed_and_name_only) {
    size_t n;
    LatheModel *other = lathe_model_new("other");
    lathe_seed(m, 7);
    lathe_seed(other, 7);
    lathe_param(other, "first", LATHE_F32, 1, (int64_t[]){1000}, lathe_normal(0, 1)); /* what else there is does not matter */
    lathe_param(other, "w", LATHE_F32, 2, (int64_t[]){10, 10}, lathe_normal(0, 1));
    LatheParam p;
    ck_assert(lathe_param_at(other, 1, &p));
    const float *x = values("w", 2, (int64_t[]){10, 10}, lathe_normal(0, 1), &n);
    ck_assert_mem_eq(x, p.data, p.bytes);
    const float *y = values("v", 2, (int64_t[]){10, 10}, lathe_normal(0, 1), &n);
    ck_assert_mem_ne(y, p.data, p.bytes);
    lathe_model_free(other);
}
END_TEST

START_TEST(constants_and_small_floats) {
    size_t n;
    const float *x = values("c", 1, (int64_t[]){3}, lathe_constant(2.5), &n);
    ck_assert(x[0] == 2.5f && x[2] == 2.5f);
    lathe_param(m, "h", LATHE_F16, 1, (int64_t[]){2}, lathe_constant(1.5));
    LatheParam p;
    ck_assert(lathe_param_at(m, 1, &p));
    ck_assert_uint_eq(p.bytes, 4);
    ck_assert_uint_eq(((const uint16_t *)p.data)[1], 0x3E00);
}
END_TEST

TCase *dsl_init_case(void) {
    TCase *c = tcase_create("init");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, philox_vectors);
    tcase_add_test(c, distributions);
    tcase_add_test(c, normals_have_normal_tails);
    tcase_add_test(c, convolution_fans_count_the_kernel);
    tcase_add_test(c, orthogonal_rows);
    tcase_add_test(c, exact_values);
    tcase_add_test(c, values_depend_on_seed_and_name_only);
    tcase_add_test(c, constants_and_small_floats);
    return c;
}
