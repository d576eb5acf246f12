/* Shared by the files of this suite; each gives one Check test case. */
#ifndef LATHE_TEST_DSL_H
#define LATHE_TEST_DSL_H
#include <check.h>

#include "lathe.h"

TCase *dsl_layers_case(void);
TCase *dsl_init_case(void);
TCase *dsl_mistakes_case(void);
TCase *dsl_weights_case(void);
TCase *dsl_memory_case(void);

/* Fails when v has another shape; text is "N,10,15,15". */
void check_shape(LatheValue v, const char *text);
uint32_t diagnostics_of(const LatheModel *m); /* notes not counted */
/* The k-th diagnostic (from 0, notes not counted) is about this layer and its message holds `part`. */
void check_diagnostic(const LatheModel *m, uint32_t k, LatheSeverity severity, const char *layer, const char *part);
LatheValue image_input(LatheModel *m, int64_t channels, int64_t height, int64_t width); /* x: f32[N,channels,height,width] */
LatheValue vector_input(LatheModel *m, int64_t features);                               /* x: f32[N,features] */
LatheValue sequence_input(LatheModel *m, int64_t features);                             /* x: f32[N,T,features] */

#endif
