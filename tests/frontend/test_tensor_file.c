/* frontend/tensor_file.c, npy.c, npz.c: values to files and back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "onnx_bytes.h"

static Context cx;
static jmp_buf escape;

static void setup(void) {
    context_init(&cx);
    cx.escape = &escape;
}

static void teardown(void) {
    context_free(&cx);
}

static HostTensor sample(DType d, int64_t rows, int64_t columns) {
    HostTensor t = {.kind = HOST_TENSOR, .dtype = d, .rank = 2, .dim = {rows, columns}, .numel = rows * columns};
    t.bytes = d == DT_STRING ? (size_t)t.numel * sizeof(Str) : dtype_bytes(&cx, d, t.numel);
    uint8_t *p = arena_alloc(&cx.arena, t.bytes);
    for (size_t i = 0; i < t.bytes; i++) p[i] = d == DT_BOOL ? i % 2 : (uint8_t)(i * 37 % 111);
    uint32_t odd = (uint32_t)((uint64_t)t.numel * dtype_bits(d) % 8);
    if (odd != 0) p[t.bytes - 1] &= (uint8_t)((1u << odd) - 1);
    for (int64_t i = 0; d == DT_STRING && i < t.numel; i++) ((Str *)p)[i] = str_format(&cx, i % 2 ? "é€😀%d" : "%d", (int)i);
    t.data = p;
    t.name = str_intern(&cx, "t");
    return t;
}

static void expect_equal(const HostTensor *a, const HostTensor *b) {
    ck_assert_int_eq(a->kind, b->kind);
    ck_assert_uint_eq(a->n_elem, b->n_elem);
    for (uint32_t i = 0; i < a->n_elem; i++) expect_equal(&a->elem[i], &b->elem[i]);
    if (a->kind != HOST_TENSOR) return;
    ck_assert_int_eq(a->dtype, b->dtype);
    ck_assert_uint_eq(a->rank, b->rank);
    for (uint32_t i = 0; i < a->rank; i++) ck_assert_int_eq(a->dim[i], b->dim[i]);
    ck_assert_uint_eq(a->bytes, b->bytes);
    ck_assert(a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
}

static void expect_file_round_trip(const char *file, const Type *type, const HostTensor *t) {
    char *path = arena_strdup(test_arena(), temp_path(file), strlen(temp_path(file)));
    HostTensor back;
    ck_assert(tensor_file_save(&cx, path, t));
    ck_assert(tensor_file_load(&cx, path, type, &back));
    expect_equal(t, &back);
    unlink(path);
}

START_TEST(every_type_as_pb) {
    for (int d = DT_NONE + 1; d < DT_COUNT; d++) {
        HostTensor t = sample((DType)d, 3, 5), empty = sample((DType)d, 0, 5);
        expect_file_round_trip("t.pb", type_tensor(&cx, (DType)d, RANK_UNKNOWN, NULL), &t);
        expect_file_round_trip("t.pb", NULL, &t);
        expect_file_round_trip("t.pb", NULL, &empty);
    }
}
END_TEST

START_TEST(every_plain_type_as_npy) {
    static const DType plain[] = {DT_BOOL, DT_F16, DT_F32, DT_F64, DT_I8, DT_I16, DT_I32, DT_I64, DT_U8, DT_U16, DT_U32, DT_U64, DT_C64, DT_C128, DT_STRING};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        HostTensor t = sample(plain[i], 3, 5), empty = sample(plain[i], 3, 0);
        expect_file_round_trip("t.npy", NULL, &t);
        expect_file_round_trip("t.npy", NULL, &empty);
    }
}
END_TEST

START_TEST(small_types_as_npy_keep_their_values) {
    HostTensor i4 = {.kind = HOST_TENSOR, .dtype = DT_I4, .rank = 1, .dim = {3}, .numel = 3, .bytes = 2, .data = (uint8_t[]){0x8F, 0x07}}, back;
    char *path = arena_strdup(test_arena(), temp_path("s.npy"), strlen(temp_path("s.npy")));
    ck_assert(tensor_file_save(&cx, path, &i4) && tensor_file_load(&cx, path, NULL, &back));
    ck_assert_int_eq(back.dtype, DT_I8);
    ck_assert_int_eq(((int8_t *)back.data)[0], -1);
    ck_assert_int_eq(((int8_t *)back.data)[1], -8);
    ck_assert_int_eq(((int8_t *)back.data)[2], 7);
    HostTensor bf = {.kind = HOST_TENSOR, .dtype = DT_BF16, .rank = 0, .numel = 1, .bytes = 2, .data = (uint16_t[]){0x3FC0}};
    ck_assert(tensor_file_save(&cx, path, &bf) && tensor_file_load(&cx, path, NULL, &back));
    ck_assert(back.dtype == DT_F32 && back.rank == 0 && ((float *)back.data)[0] == 1.5f);
    unlink(path);
}
END_TEST

START_TEST(sequences_and_optionals) {
    HostTensor elem[2] = {sample(DT_F32, 2, 3), sample(DT_F32, 1, 1)};
    HostTensor seq = {.kind = HOST_SEQUENCE, .n_elem = 2, .elem = elem}, none = {.kind = HOST_OPTIONAL}, empty = {.kind = HOST_SEQUENCE};
    HostTensor some = {.kind = HOST_OPTIONAL, .n_elem = 1, .elem = &seq};
    const Type *f = type_tensor(&cx, DT_F32, RANK_UNKNOWN, NULL), *s = type_sequence(&cx, f, 0), *o = type_optional(&cx, s);
    expect_file_round_trip("s.pb", s, &seq);
    expect_file_round_trip("s.pb", NULL, &seq);
    expect_file_round_trip("s.pb", s, &empty);
    expect_file_round_trip("s.pb", o, &some);
    expect_file_round_trip("s.pb", o, &none);
}
END_TEST

/* A header as numpy writes it, with any dict. */
static bool load_npy(const char *dict, const void *data, size_t n, HostTensor *t) {
    uint8_t file[512];
    size_t size = strlen(dict);
    memcpy(file, "\x93NUMPY\x01\x00", 8);
    file[8] = (uint8_t)size;
    file[9] = 0;
    memcpy(file + 10, dict, size);
    memcpy(file + 10 + size, data, n);
    write_file(temp_path("h.npy"), file, 10 + size + n);
    bool ok = tensor_file_load(&cx, temp_path("h.npy"), NULL, t);
    unlink(temp_path("h.npy"));
    return ok;
}

START_TEST(npy_orders) {
    HostTensor t;
    ck_assert(load_npy("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n", "\0\1\0\2\0\3\0\4\0\5\0\6", 12, &t));
    const int16_t want[] = {1, 3, 5, 2, 4, 6};
    ck_assert(t.dtype == DT_I16 && memcmp(t.data, want, sizeof want) == 0);
    ck_assert(load_npy("{\'shape\': (2,), 'fortran_order': False, 'descr': '<U2'}", "a\0\0\0b\0\0\0\xe9\0\0\0\0\0\0\0", 16, &t));
    ck_assert_str_eq(str_text(&cx, ((Str *)t.data)[0]), "ab");
    ck_assert_str_eq(str_text(&cx, ((Str *)t.data)[1]), "é");
    ck_assert(load_npy("{'descr': '|S3', 'fortran_order': False, 'shape': ()}", "xy\0", 3, &t));
    ck_assert_str_eq(str_text(&cx, ((Str *)t.data)[0]), "xy");
}
END_TEST

START_TEST(wrong_npy) {
    static const struct { const char *dict, *message; } rows[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "truncated"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904)}", "overflows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "the shape is not a tuple"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "element type"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "element type"},
        {"{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", "not supported"},
        {"{}", "element type"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        HostTensor t;
        uint32_t before = cx.diags.n;
        ck_assert(!load_npy(rows[i].dict, "12345678", 8, &t));
        ck_assert_uint_eq(cx.diags.n, before + 1);
        ck_assert_msg(strstr(cx.diags.v[before].message, rows[i].message) != NULL, "%s: %s", rows[i].dict, cx.diags.v[before].message);
    }
}
END_TEST

START_TEST(npz_archives) {
    HostTensor two[2] = {sample(DT_F32, 2, 3), sample(DT_I64, 4, 1)}, *back;
    uint32_t n;
    two[0].name = str_intern(&cx, "first");
    two[1].name = str_intern(&cx, "dir/second");
    ck_assert(npz_save(&cx, temp_path("a.npz"), 2, two));
    ck_assert(npz_load(&cx, temp_path("a.npz"), &n, &back));
    ck_assert_uint_eq(n, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(back[i].name, two[i].name);
        expect_equal(&two[i], &back[i]);
    }
    ck_assert(truncate(temp_path("a.npz"), 100) == 0);
    ck_assert(!npz_load(&cx, temp_path("a.npz"), &n, &back));
    unlink(temp_path("a.npz"));
}
END_TEST

START_TEST(failures_leave_no_file) {
    HostTensor seq = {.kind = HOST_SEQUENCE}, t = sample(DT_F32, 1, 1);
    ck_assert(!tensor_file_save(&cx, temp_path("seq.npy"), &seq));
    ck_assert_int_ne(access(temp_path("seq.npy"), F_OK), 0);
    ck_assert(!tensor_file_save(&cx, temp_path("no/such/folder.npy"), &t));
    ck_assert(!tensor_file_save(&cx, temp_path("t.txt"), &t));
    ck_assert(!tensor_file_load(&cx, temp_path("missing.npy"), NULL, &t));
    ck_assert_uint_eq(cx.n_error, 4);
}
END_TEST

Suite *suite_tensor_file(void) {
    Suite *s = suite_create("tensor_file");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_type_as_pb);
    tcase_add_test(t, every_plain_type_as_npy);
    tcase_add_test(t, small_types_as_npy_keep_their_values);
    tcase_add_test(t, sequences_and_optionals);
    tcase_add_test(t, npy_orders);
    tcase_add_test(t, wrong_npy);
    tcase_add_test(t, npz_archives);
    tcase_add_test(t, failures_leave_no_file);
    suite_add_tcase(s, t);
    return s;
}
