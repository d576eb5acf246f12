/* The public calls around a model: statuses, diagnostics, dims, and what happens when memory runs out at any point. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "lathe.h"

static const char *diagnostics(const LatheModel *m) { /* valid until the next call */
    static char text[4096];
    memset(text, 0, sizeof text);
    FILE *f = fmemopen(text, sizeof text - 1, "w");
    lathe_print_diagnostics(m, f);
    fclose(f);
    return text;
}

static LatheModel *opened(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, MODELS "/%s", name);
    LatheModel *m = lathe_model_new("test");
    LatheStatus status = lathe_import_onnx(m, path);
    ck_assert_msg(status == LATHE_OK, "%s", diagnostics(m));
    return m;
}

START_TEST(a_missing_file_is_a_file_error) {
    LatheModel *m = lathe_model_new("test");
    ck_assert_int_eq(lathe_import_onnx(m, "/nowhere/model.onnx"), LATHE_ERROR_FILE);
    ck_assert_ptr_nonnull(strstr(diagnostics(m), "/nowhere/model.onnx"));
    ck_assert_uint_eq(lathe_error_count(m), 1);
    lathe_model_free(m);
}
END_TEST

START_TEST(inputs_are_described) {
    LatheModel *m = opened("dense.onnx");
    ck_assert_uint_eq(lathe_input_count(m), 1);
    LatheTensorInfo x = lathe_input_info(m, 0);
    ck_assert_str_eq(x.name, "x");
    ck_assert_int_eq(x.dtype, LATHE_F32);
    ck_assert_uint_eq(x.rank, 2);
    ck_assert_str_eq(x.dim[0], "N");
    ck_assert(x.hi[0] < 0 && x.lo[1] == 8 && x.hi[1] == 8);
    ck_assert_uint_eq(lathe_symbol_count(m), 1);
    ck_assert_str_eq(lathe_symbol_info(m, 0).name, "N");
    ck_assert_uint_eq(lathe_parameter_count(m), 36);
    ck_assert_str_eq(lathe_input_info(m, 7).name == NULL ? "none" : "some", "none");
    LatheOpCount c;
    ck_assert(lathe_op_count(m, 0, &c) && c.count == 1 && lathe_op_count(m, 2, &c) && !lathe_op_count(m, 3, &c));
    lathe_model_free(m);
}
END_TEST

START_TEST(dims_are_bounded_and_fixed) {
    LatheModel *m = opened("dense.onnx");
    ck_assert_int_eq(lathe_set_dims(m, (const char *const[]){"N=2..10", NULL}), LATHE_OK);
    ck_assert(lathe_input_info(m, 0).lo[0] == 2 && lathe_input_info(m, 0).hi[0] == 10);
    ck_assert_int_eq(lathe_set_dims(m, (const char *const[]){"N=5", NULL}), LATHE_OK);
    ck_assert_str_eq(lathe_input_info(m, 0).dim[0], "5");
    lathe_model_free(m);
}
END_TEST

START_TEST(wrong_dims_are_usage_errors) {
    static const char *const wrong[] = {"N", "=4", "N=", "N=x", "N=4..", "N=4..2", "N=-1", "N=4x", "N=99999999999999999999", "M=4"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        LatheModel *m = opened("dense.onnx");
        ck_assert_msg(lathe_set_dims(m, (const char *const[]){wrong[i], NULL}) == LATHE_ERROR_USAGE, "%s was accepted", wrong[i]);
        ck_assert_uint_eq(lathe_error_count(m), 1);
        lathe_model_free(m);
    }
}
END_TEST

START_TEST(a_model_is_compiled_once) {
    LatheModel *m = opened("dense.onnx");
    LatheOptions o = lathe_options();
    LatheStatus status = lathe_compile(m, &o);
    ck_assert_msg(status == LATHE_OK, "%s", diagnostics(m));
    ck_assert(lathe_stats(m).kernels > 0 && lathe_stats(m).traffic_bytes > 0);
    ck_assert(lathe_stats(m).flops == 2 * 64 * 4 * 8 + 2 * 64 * 4); /* 64 rows: product, bias, relu; packing and padding do not count */
    LathePlanStep step;
    LathePlanBuffer buffer;
    double flops = 0, bytes = 0;
    ck_assert(!lathe_plan_buffer(m, 0, &buffer)); /* one kernel between input and output: nothing to keep */
    for (uint32_t i = 0; lathe_plan_step(m, i, &step); i++) flops += step.flops, bytes += step.bytes;
    ck_assert(flops == 2 * 64 * 4 * 8 + 64 * 4 && bytes == lathe_stats(m).traffic_bytes); /* the bias became part of a Gemm */
    ck_assert_ptr_nonnull(strstr(diagnostics(m), "using 1..64")); /* the note about the default bound */
    ck_assert_int_eq(lathe_compile(m, &o), LATHE_ERROR_USAGE);
    lathe_model_free(m);
}
END_TEST

START_TEST(options_are_checked_together) {
    LatheModel *m = opened("dense.onnx");
    LatheOptions o = {.opt_level = 7, .name = "a-b", .target = "pdp11", .disable = (const char *const[]){"magic", NULL}, .dump = "tricks"};
    ck_assert_int_eq(lathe_compile(m, &o), LATHE_ERROR_USAGE);
    ck_assert_uint_eq(lathe_error_count(m), 5);
    lathe_model_free(m);
}
END_TEST

/* Memory fails at the n-th request, for every n until one run needs fewer: no crash, no success by half, no file. */
START_TEST(running_out_of_memory_is_an_error) {
    char dir[] = "/tmp/lathe-test-XXXXXX", c_file[64], header[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(c_file, sizeof c_file, "%s/m.c", dir);
    snprintf(header, sizeof header, "%s/m.h", dir);
    bool finished = false;
    uint64_t n = 1;
    for (; !finished && n < 10000; n++) {
        arena_fail_after = n;
        LatheModel *m = lathe_model_new("test");
        LatheStatus status = m != NULL ? lathe_import_onnx(m, MODELS "/dense.onnx") : LATHE_ERROR_FILE;
        LatheOptions o = lathe_options();
        o.output = c_file;
        if (status == LATHE_OK) status = lathe_compile(m, &o);
        finished = arena_fail_after != 0 && arena_fail_after < n; /* the failure did not come up */
        arena_fail_after = 0;
        if (!finished) ck_assert_int_eq(status, LATHE_ERROR_FILE);
        if (!finished && m != NULL) ck_assert_ptr_nonnull(strstr(diagnostics(m), "out of memory"));
        ck_assert(finished || (access(c_file, F_OK) != 0 && access(header, F_OK) != 0));
        lathe_model_free(m);
    }
    ck_assert(finished && n > 2);
    unlink(c_file);
    unlink(header);
    ck_assert_msg(rmdir(dir) == 0, "files are left in %s", dir);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("api");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 60);
    tcase_add_test(all, a_missing_file_is_a_file_error);
    tcase_add_test(all, inputs_are_described);
    tcase_add_test(all, dims_are_bounded_and_fixed);
    tcase_add_test(all, wrong_dims_are_usage_errors);
    tcase_add_test(all, a_model_is_compiled_once);
    tcase_add_test(all, options_are_checked_together);
    tcase_add_test(all, running_out_of_memory_is_an_error);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
