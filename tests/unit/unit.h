/* Unit tests with Check, one executable: each file gives a suite. Every test starts with a fresh context, `cx`; leaving
 * through its escape fails the test. */
#ifndef LATHE_TESTS_UNIT_H
#define LATHE_TESTS_UNIT_H
#include <check.h>

#include "ir/graph.h"

extern Context cx;
void context_setup(void);
void context_teardown(void);

Suite *suite_base(void);
Suite *suite_dim(void);
Suite *suite_type(void);
Suite *suite_text_number(void);
Suite *suite_graph(void);
Suite *suite_verify(void);
Suite *suite_kernel_verify(void);
Suite *suite_small_float(void);
Suite *suite_quantize(void);
Suite *suite_order(void);
Suite *suite_fast_memory(void);

/* A case with the context as fixture. */
static inline TCase *unit_case(Suite *s, const char *name) {
    TCase *t = tcase_create(name);
    tcase_add_checked_fixture(t, context_setup, context_teardown);
    suite_add_tcase(s, t);
    return t;
}

#endif
