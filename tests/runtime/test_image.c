/* runtime/image_decode.h: pixels against those of another library, and bytes that are damaged in every place. Run under
 * AddressSanitizer, the buffers have exactly the sizes that the decoder is told. */
#include <check.h>
#include <stdlib.h>

#include "image_bytes.h"
#include "runtime/image_decode.h"

enum { MOST = 40, ROOM = (MOST + 32) * (MOST + 32) * 16 };

/* The result code; pixels go to `out` (MOST * MOST * 3 bytes). */
static int decode(const uint8_t *bytes, size_t n, int64_t format, uint8_t *out, int64_t *h, int64_t *w) {
    uint8_t *copy = malloc(n != 0 ? n : 1), *scratch = malloc(ROOM);
    ck_assert(copy != NULL && scratch != NULL);
    if (n != 0) memcpy(copy, bytes, n);
    int code = lathe_image_decode(copy, (int64_t)n, out, format, MOST, MOST, -1, -1, scratch, ROOM, h, w);
    free(copy);
    free(scratch);
    return code;
}

START_TEST(pixels_are_those_of_the_usual_library) {
    uint8_t out[MOST * MOST * 3];
    for (size_t i = 0; i < sizeof encoded / sizeof *encoded; i++) {
        const Encoded *e = &encoded[i];
        int64_t h, w;
        ck_assert_int_eq(decode(e->bytes, e->n, 0, out, &h, &w), 0);
        ck_assert_msg(h == e->h && w == e->w, "%s is %lld x %lld", e->name, (long long)h, (long long)w);
        uint32_t hash = 2166136261u;
        for (int64_t k = 0; k < h * w * 3; k++) hash = (hash ^ out[k]) * 16777619u;
        ck_assert_msg(hash == e->hash, "%s has other pixels", e->name);
    }
}
END_TEST

START_TEST(formats_differ_in_the_order_of_colours) {
    uint8_t rgb[MOST * MOST * 3], bgr[MOST * MOST * 3], grey[MOST * MOST * 3];
    int64_t h, w;
    const Encoded *e = &encoded[0];
    decode(e->bytes, e->n, 0, rgb, &h, &w);
    decode(e->bytes, e->n, 1, bgr, &h, &w);
    decode(e->bytes, e->n, 2, grey, &h, &w);
    for (int64_t k = 0; k < h * w; k++) {
        ck_assert(rgb[3 * k] == bgr[3 * k + 2] && rgb[3 * k + 1] == bgr[3 * k + 1] && rgb[3 * k + 2] == bgr[3 * k]);
        double luma = 0.299 * rgb[3 * k] + 0.587 * rgb[3 * k + 1] + 0.114 * rgb[3 * k + 2];
        ck_assert(luma - grey[k] < 0.51 && grey[k] - luma < 0.51);
    }
}
END_TEST

START_TEST(damaged_bytes_never_leave_the_buffers) {
    uint8_t out[MOST * MOST * 3], bytes[1024];
    uint32_t state = 1;
    int64_t h, w;
    for (size_t i = 0; i < sizeof encoded / sizeof *encoded; i++) {
        const Encoded *e = &encoded[i];
        ck_assert(e->n <= sizeof bytes);
        for (size_t n = 0; n < e->n; n++) decode(e->bytes, n, 0, out, &h, &w);
        for (int round = 0; round < 1500; round++) {
            memcpy(bytes, e->bytes, e->n);
            for (int k = 0; k <= round % 3; k++) {
                state = state * 1664525u + 1013904223u;
                bytes[(state >> 8) % e->n] = (uint8_t)(round % 2 != 0 ? state >> 24 : state >> 31 != 0 ? 255 : 0);
            }
            int code = decode(bytes, e->n, round % 3, out, &h, &w);
            ck_assert(code == 0 || code == 4 || code == 6);
            ck_assert(h <= MOST && w <= MOST);
        }
    }
}
END_TEST

START_TEST(declared_sizes_must_be_met) {
    uint8_t out[MOST * MOST * 3], *scratch = malloc(ROOM);
    int64_t h, w;
    const Encoded *e = &encoded[0];
    ck_assert_int_eq(lathe_image_decode(e->bytes, (int64_t)e->n, out, 0, e->h, e->w, e->h, e->w, scratch, ROOM, &h, &w), 0);
    ck_assert_int_eq(lathe_image_decode(e->bytes, (int64_t)e->n, out, 0, e->h, e->w + 1, e->h, e->w + 1, scratch, ROOM, &h, &w), 4);
    ck_assert_int_eq(lathe_image_decode(e->bytes, (int64_t)e->n, out, 0, e->h - 1, e->w, -1, -1, scratch, ROOM, &h, &w), 4);
    free(scratch);
}
END_TEST

int main(void) {
    Suite *s = suite_create("image");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 60);
    tcase_add_test(all, pixels_are_those_of_the_usual_library);
    tcase_add_test(all, formats_differ_in_the_order_of_colours);
    tcase_add_test(all, damaged_bytes_never_leave_the_buffers);
    tcase_add_test(all, declared_sizes_must_be_met);
    suite_add_tcase(s, all);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
