/* runtime/: random numbers against published vectors; orders, groups and box selection against plain re-computation. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/fft.h"
#include "runtime/mt19937.h"
#include "runtime/philox.h"
#include "runtime/sort.h"

#include "runtime/nms.h"

/* ---- philox.h ---------------------------------------------------------------------------------------------------- */
/* The known answers that come with the authors' library Random123 (philox 4 x 32, 10 rounds). */
START_TEST(philox_gives_the_published_words) {
    static const struct { uint32_t counter[4], key[2], want[4]; } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++) {
        uint32_t c[4];
        memcpy(c, vectors[v].counter, sizeof c);
        lathe_philox_block(c, vectors[v].key[0], vectors[v].key[1]);
        for (int i = 0; i < 4; i++) ck_assert_uint_eq(c[i], vectors[v].want[i]);
    }
}
END_TEST

START_TEST(philox_fills_any_length_and_streams_differ) {
    uint32_t all[11], part[7], other[11];
    ck_assert_int_eq(lathe_philox(all, 11, 5, 1), 0);
    ck_assert_int_eq(lathe_philox(part, 7, 5, 1), 0);
    ck_assert_int_eq(lathe_philox(other, 11, 5, 2), 0);
    for (int i = 0; i < 7; i++) ck_assert_uint_eq(all[i], part[i]);
    int same = 0;
    for (int i = 0; i < 11; i++) same += all[i] == other[i];
    ck_assert_int_eq(same, 0);
}
END_TEST

/* ---- mt19937.h --------------------------------------------------------------------------------------------------- */
/* First words after the seed 5489, and the 10,000th (the C++ standard's known answer); numbers of numpy's RandomState(42). */
START_TEST(mersenne_twister_gives_the_published_words) {
    lathe_mt m;
    lathe_mt_seed(&m, 5489u);
    ck_assert_uint_eq(lathe_mt_next(&m), 3499211612u);
    for (int i = 1; i < 9999; i++) lathe_mt_next(&m);
    ck_assert_uint_eq(lathe_mt_next(&m), 4123659995u);
    double u[2], z[4];
    lathe_mt_uniform(u, 2, 42);
    ck_assert(u[0] == 0.37454011884736249 && u[1] == 0.95071430640991617);
    lathe_mt_disc(z, 3, 42);
    const double r = z[0] * z[0] + z[1] * z[1], size = sqrt(-2 * log(r) / r);
    ck_assert(fabs(z[0] * size - 0.4967141530112327) < 1e-14 && fabs(z[1] * size - -0.13826430117118466) < 1e-14);
}
END_TEST

/* ---- fft.h ------------------------------------------------------------------------------------------------------- */
START_TEST(fft_is_the_sum_it_stands_for) {
    double a[2 * 100], b[2 * 100], root[2 * 100], x[2 * 100];
    for (int n = 1; n <= 100; n++) {
        for (int inverse = 0; inverse < 2; inverse++) {
            for (int i = 0; i < n; i++) root[2 * i] = cos(2 * M_PI * i / n), root[2 * i + 1] = sin(2 * M_PI * i / n);
            for (int i = 0; i < 2 * n; i++) x[i] = a[i] = sin(i * i + 0.3);
            ck_assert_int_eq(lathe_fft_f64(a, b, 1, n, root, inverse, 0.5), 0);
            for (int k = 0; k < n; k++) {
                double re = 0, im = 0;
                for (int i = 0; i < n; i++) {
                    const double c = root[2 * (i * k % n)], s = root[2 * (i * k % n) + 1] * (inverse ? 1 : -1);
                    re += x[2 * i] * c - x[2 * i + 1] * s;
                    im += x[2 * i] * s + x[2 * i + 1] * c;
                }
                ck_assert(fabs(re / 2 - a[2 * k]) < 1e-12 * n && fabs(im / 2 - a[2 * k + 1]) < 1e-12 * n);
            }
        }
    }
}
END_TEST

/* ---- sort.h ------------------------------------------------------------------------------------------------------ */
static int64_t small_random(uint32_t *state, int64_t below) {
    *state = *state * 1664525u + 1013904223u;
    return (int64_t)(*state >> 8) % below;
}

START_TEST(keys_are_ordered_as_floats_are) {
    static const float up[] = {-INFINITY, -3e38f, -1.5f, -1e-45f, 0.0f, 1e-45f, 1.5f, 3e38f, INFINITY, NAN};
    for (size_t i = 0; i + 1 < sizeof up / sizeof *up; i++) {
        ck_assert_int_lt(lathe_key_f32(up[i]), lathe_key_f32(up[i + 1]));
        ck_assert_int_lt(lathe_key_f64((double)up[i]), lathe_key_f64((double)up[i + 1]));
    }
    ck_assert_int_eq(lathe_key_f32(-0.0f), lathe_key_f32(0.0f));
    ck_assert_int_eq(lathe_key_f64(-0.0), lathe_key_f64(0.0));
}
END_TEST

/* Every k of random rows with many equal keys: place i holds the item before which exactly i others stand. */
START_TEST(top_k_is_a_stable_selection) {
    uint32_t state = 1;
    for (int64_t n = 0; n <= 40; n++) {
        int64_t key[40], index[40];
        for (int64_t i = 0; i < n; i++) key[i] = small_random(&state, 7) - 3;
        for (int64_t k = 0; k <= n; k++) {
            for (int64_t largest = 0; largest < 2; largest++) {
                ck_assert_int_eq(lathe_top_k(key, index, n, k, largest), 0);
                for (int64_t i = 0; i < k; i++) {
                    int64_t before = 0;
                    for (int64_t j = 0; j < n; j++) before += j != index[i] && lathe_key_before(key, j, index[i], largest);
                    ck_assert_int_eq(before, i);
                }
            }
        }
        ck_assert_int_ne(lathe_top_k(key, index, n, n + 1, 1), 0);
    }
}
END_TEST

START_TEST(unique_rows_groups_equal_rows) {
    enum { ROWS = 30, COLUMNS = 2 };
    uint32_t state = 7;
    for (int64_t n = 0; n <= ROWS; n++) {
        for (int64_t sorted = 0; sorted < 2; sorted++) {
            int64_t key[ROWS * COLUMNS], order[ROWS], first[ROWS], group[ROWS], size[ROWS], count = -1;
            for (int64_t i = 0; i < n * COLUMNS; i++) key[i] = small_random(&state, 3);
            ck_assert_int_eq(lathe_unique_rows(key, n, COLUMNS, sorted, order, first, group, size, &count), 0);
            int64_t total = 0;
            for (int64_t g = 0; g < count; g++) {
                total += size[g];
                ck_assert_int_eq(group[first[g]], g);
                if (g > 0 && sorted) ck_assert_int_lt(lathe_row_order(key, COLUMNS, first[g - 1], first[g]), 0);
                if (g > 0 && !sorted) ck_assert_int_lt(first[g - 1], first[g]);
            }
            ck_assert_int_eq(total, n);
            for (int64_t i = 0; i < n; i++) {
                for (int64_t j = 0; j < n; j++) ck_assert_int_eq(group[i] == group[j], lathe_row_order(key, COLUMNS, i, j) == 0);
                ck_assert_int_le(first[group[i]], i);
            }
        }
    }
}
END_TEST

/* ---- nms.h ------------------------------------------------------------------------------------------------------- */
START_TEST(overlap_of_boxes) {
    static const float unit[] = {0, 0, 1, 1}, flipped[] = {1, 1, 0, 0}, half[] = {0, 0, 1, 0.5f}, far[] = {5, 5, 6, 6}, empty[] = {0, 0, 0, 1};
    static const float center[] = {0.5f, 0.5f, 1, 1};
    ck_assert_float_eq(lathe_box_overlap(unit, unit, 0), 1.0f);
    ck_assert_float_eq(lathe_box_overlap(unit, flipped, 0), 1.0f);
    ck_assert_float_eq(lathe_box_overlap(unit, half, 0), 0.5f);
    ck_assert_float_eq(lathe_box_overlap(unit, far, 0), 0.0f);
    ck_assert_float_eq(lathe_box_overlap(unit, empty, 0), 0.0f);
    ck_assert_float_eq(lathe_box_overlap(center, center, 1), 1.0f);
}
END_TEST

START_TEST(nms_keeps_the_best_of_what_overlaps) {
    static const float boxes[] = {0, 0, 1, 1, 0, 0.1f, 1, 1.1f, 0, 10, 1, 11, 0, 10.1f, 1, 11.1f};
    static const float scores[] = {0.5f, 0.9f, 0.3f, 0.2f};
    int64_t key[4], order[4], out[12], count = -1;
    ck_assert_int_eq(lathe_nms(boxes, scores, 1, 1, 4, 4, 0.5f, 0.0f, 0, 0, key, order, out, &count), 0);
    ck_assert_int_eq(count, 2);
    ck_assert_int_eq(out[2], 1);
    ck_assert_int_eq(out[5], 2);
    ck_assert_int_eq(lathe_nms(boxes, scores, 1, 1, 4, 4, 0.5f, 0.3f, 1, 0, key, order, out, &count), 0);
    ck_assert_int_eq(count, 1); /* a score must be above the threshold */
    ck_assert_int_eq(lathe_nms(boxes, scores, 1, 1, 4, 0, 0.5f, 0.0f, 0, 0, key, order, out, &count), 0);
    ck_assert_int_eq(count, 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("runtime");
    TCase *all = tcase_create("all");
    tcase_add_test(all, philox_gives_the_published_words);
    tcase_add_test(all, philox_fills_any_length_and_streams_differ);
    tcase_add_test(all, mersenne_twister_gives_the_published_words);
    tcase_add_test(all, fft_is_the_sum_it_stands_for);
    tcase_add_test(all, keys_are_ordered_as_floats_are);
    tcase_add_test(all, top_k_is_a_stable_selection);
    tcase_add_test(all, unique_rows_groups_equal_rows);
    tcase_add_test(all, overlap_of_boxes);
    tcase_add_test(all, nms_keeps_the_best_of_what_overlaps);
    suite_add_tcase(s, all);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
