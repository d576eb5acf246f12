#include <stdlib.h>

#include "unit.h"

Context cx;
static jmp_buf escape;

void context_setup(void) {
    context_init(&cx);
    cx.escape = &escape;
    if (setjmp(escape) != 0) abort(); /* Check runs tests in their own process: this one fails */
}

void context_teardown(void) {
    context_free(&cx);
}

int main(void) {
    SRunner *r = srunner_create(suite_base());
    srunner_add_suite(r, suite_dim());
    srunner_add_suite(r, suite_type());
    srunner_add_suite(r, suite_text_number());
    srunner_add_suite(r, suite_graph());
    srunner_add_suite(r, suite_verify());
    srunner_add_suite(r, suite_kernel_verify());
    srunner_add_suite(r, suite_small_float());
    srunner_add_suite(r, suite_quantize());
    srunner_add_suite(r, suite_order());
    srunner_add_suite(r, suite_fast_memory());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
