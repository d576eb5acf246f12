/* Memory runs out at the n-th allocation, for every n: building and compiling a model ends in an error each time, never in a
 * crash, and the handles of a dead model stay harmless. */
#include "test_dsl.h"

#include <stdlib.h>

#include "base/arena.h"

static LatheStatus build(void) {
    LatheModel *m = lathe_model_new("small");
    if (m == NULL) return LATHE_ERROR_FILE;
    lathe_scope(m, "block%d", 1);
    LatheValue x = image_input(m, 2, 6, 6), parts[2];
    x = lathe_relu(lathe_batchnorm(lathe_conv2d(x, 4, 3, "conv", &(LatheConv){.weight = lathe_orthogonal(1)}), "norm", NULL));
    lathe_split(x, 1, 2, parts);
    x = lathe_name(lathe_add(parts[0], parts[1]), "sum");
    lathe_end_scope(m);
    const float bias[3] = {1, 2, 3};
    LatheValue y = lathe_softmax(lathe_dense(lathe_global_avg_pool(lathe_find(m, "block1/sum")), 3, "out"), -1);
    lathe_load_array(m, "out/bias", bias, sizeof bias);
    LatheParam p;
    for (uint32_t i = 0; lathe_param_at(m, i, &p); i++) continue;
    lathe_output("y", y);
    LatheStatus status = lathe_compile(m, NULL);
    if (status == LATHE_OK && lathe_error_count(m) != 0) status = LATHE_ERROR_MODEL;
    if (status == LATHE_OK || arena_fail_after != 0) ck_assert_uint_eq(diagnostics_of(m), 0);
    lathe_model_free(m);
    return status;
}

START_TEST(every_allocation_fails_once) {
    ck_assert_int_eq(build(), LATHE_OK);
    uint64_t n = 0;
    bool reached = true;
    while (reached) {
        arena_fail_after = ++n;
        LatheStatus status = build();
        reached = arena_fail_after == 0;
        ck_assert_msg((status == LATHE_OK) == !reached, "allocation %llu: status %d", (unsigned long long)n, (int)status);
    }
    arena_fail_after = 0;
    ck_assert_uint_gt(n, 3);
}
END_TEST

TCase *dsl_memory_case(void) {
    TCase *c = tcase_create("memory");
    tcase_add_test(c, every_allocation_fails_once);
    return c;
}
