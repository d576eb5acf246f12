/* Values of parameters from arrays, .npy and safetensors files, and files that are wrong in every part. */
#include "test_dsl.h"

#include <string.h>

static LatheModel *m;

static void setup(void) {
    m = lathe_model_new("test");
    lathe_dense(vector_input(m, 2), 3, "fc"); /* fc/weight f32[2,3], fc/bias f32[3] */
}

static void teardown(void) { lathe_model_free(m); }

static void write_file(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* A safetensors file with this header and 36 bytes of data: the floats 1..9. */
static void write_safetensors(const char *path, const char *header) {
    unsigned char bytes[4096] = {0};
    size_t n = strlen(header);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(bytes + 8, header, n);
    for (int i = 0; i < 9; i++) memcpy(bytes + 8 + n + 4 * i, &(float){(float)(i + 1)}, 4);
    write_file(path, bytes, 8 + n + 36);
}

static const float *param(uint32_t i) {
    LatheParam p;
    ck_assert(lathe_param_at(m, i, &p));
    return p.data;
}

START_TEST(from_an_array) {
    const float bias[3] = {4, 5, 6};
    ck_assert_int_eq(lathe_load_array(m, "fc/bias", bias, sizeof bias), LATHE_OK);
    ck_assert_mem_eq(param(1), bias, sizeof bias);
    ck_assert_int_eq(lathe_load_array(m, "fc/bias", bias, 8), LATHE_ERROR_MODEL);
    ck_assert_int_eq(lathe_load_array(m, "fc2/bias", bias, sizeof bias), LATHE_ERROR_MODEL);
    check_diagnostic(m, 0, LATHE_ERROR, "", "has 12 bytes, 8 were given");
    check_diagnostic(m, 1, LATHE_ERROR, "", "no parameter called \"fc2/bias\"");
}
END_TEST

START_TEST(from_npy) {
    unsigned char npy[128 + 24] = "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    size_t text = strlen((char *)npy + 10) + 10;
    memset(npy + text, ' ', 127 - text);
    npy[127] = '\n';
    for (int i = 0; i < 6; i++) memcpy(npy + 128 + 4 * i, &(float){(float)i}, 4);
    write_file("w.npy", npy, sizeof npy);
    ck_assert_int_eq(lathe_load_npy(m, "fc/weight", "w.npy"), LATHE_OK);
    ck_assert(param(0)[5] == 5.0f);
    ck_assert_int_eq(lathe_load_npy(m, "fc/bias", "w.npy"), LATHE_ERROR_MODEL);
    check_diagnostic(m, 0, LATHE_ERROR, "", "parameter \"fc/bias\" is f32[3], the file has f32[2,3]");
    ck_assert_int_eq(lathe_load_npy(m, "fc/bias", "missing.npy"), LATHE_ERROR_FILE);
}
END_TEST

START_TEST(from_safetensors) {
    write_safetensors("good.safetensors", "{\"__metadata__\": {\"format\": \"pt\", \"more\": [1, {\"a\": null}]}, \"fc\\/bias\": {\"dtype\": \"F32\", \"shape\": [3], "
                      "\"data_offsets\": [24, 36]}, \"fc/w\\u0065ight\": {\"shape\": [2, 3], \"dtype\": \"F32\", \"data_offsets\": [0, 24]}}   ");
    ck_assert_int_eq(lathe_load_safetensors(m, "good.safetensors"), LATHE_OK);
    ck_assert_uint_eq(diagnostics_of(m), 0);
    ck_assert(param(0)[0] == 1.0f && param(0)[5] == 6.0f && param(1)[0] == 7.0f && param(1)[2] == 9.0f);
}
END_TEST

START_TEST(nothing_changes_when_one_does_not_fit) {
    const float before = param(0)[0];
    write_safetensors("other.safetensors", "{\"fc/weight\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [0, 24]}, "
                      "\"fc/bias\": {\"dtype\": \"F32\", \"shape\": [1, 3], \"data_offsets\": [24, 36]}}");
    ck_assert_int_eq(lathe_load_safetensors(m, "other.safetensors"), LATHE_ERROR_MODEL);
    check_diagnostic(m, 0, LATHE_ERROR, "", "parameter \"fc/bias\" is f32[3], the file has f32[1,3]");
    ck_assert(param(0)[0] == before);
    write_safetensors("few.safetensors", "{}");
    ck_assert_int_eq(lathe_load_safetensors(m, "few.safetensors"), LATHE_ERROR_MODEL);
    check_diagnostic(m, 1, LATHE_ERROR, "", "parameter \"fc/weight\" is not in the file");
    check_diagnostic(m, 2, LATHE_ERROR, "", "parameter \"fc/bias\" is not in the file");
}
END_TEST

/* Headers that lie or are no JSON: each gives an error, none may read outside the file. */
START_TEST(hostile_headers) {
    static const char *const headers[] = {
        "", "{", "[]", "{\"a\"}", "{\"a\": {}}", "{\"a\": 1}", "{\"a\": {\"dtype\": \"F32\"}}",
        "{\"a\": {\"dtype\": \"X9\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 8]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [10], \"data_offsets\": [0, 40]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 0]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [-4, 0]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387904, 4], \"data_offsets\": [0, 0]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [99999999999999999999999], \"data_offsets\": [0, 4]}}",
        "{\"a\": {\"dtype\": \"F64\", \"shape\": [4611686018427387904], \"data_offsets\": [0, 0]}}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], \"data_offsets\": [0, 4]}}",
        "{\"__metadata__\": [[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]}", "{\"a\\u12\": 1}", "{\"a\\", "{\"a\\u0000\": 1}", "{\"__metadata__\": {\"x\": \"",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        uint32_t before = lathe_error_count(m);
        write_safetensors("bad.safetensors", headers[i]);
        ck_assert_msg(lathe_load_safetensors(m, "bad.safetensors") != LATHE_OK, "%s", headers[i]);
        ck_assert_msg(lathe_error_count(m) > before, "%s", headers[i]);
    }
    write_file("bad.safetensors", "\x08\0\0\0\0\0\0\0{}", 10);
    ck_assert_int_eq(lathe_load_safetensors(m, "bad.safetensors"), LATHE_ERROR_FILE);
    write_file("bad.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    ck_assert_int_eq(lathe_load_safetensors(m, "bad.safetensors"), LATHE_ERROR_FILE);
    write_file("bad.safetensors", "\x08", 1);
    ck_assert_int_eq(lathe_load_safetensors(m, "bad.safetensors"), LATHE_ERROR_FILE);
    ck_assert_int_eq(lathe_load_safetensors(m, "missing.safetensors"), LATHE_ERROR_FILE);
    ck_assert_int_eq(lathe_load_safetensors(m, "."), LATHE_ERROR_FILE);
}
END_TEST

TCase *dsl_weights_case(void) {
    TCase *c = tcase_create("weights");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, from_an_array);
    tcase_add_test(c, from_npy);
    tcase_add_test(c, from_safetensors);
    tcase_add_test(c, nothing_changes_when_one_does_not_fit);
    tcase_add_test(c, hostile_headers);
    return c;
}
