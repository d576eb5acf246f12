/* How far apart two tensors of one type are, and whether that is close enough. */
#ifndef LATHE_DRIVER_COMPARE_H
#define LATHE_DRIVER_COMPARE_H
#include "driver/element.h"

/* Two rules, chosen by what the user gave:
 *   range   (default) max |a-b| <= range_tol * range of the reference. range_tol < 0: by type, see compare.c
 *   element (rtol or atol given) |a-b| <= atol + rtol * |b| for every element, as numpy's allclose
 * Integers and booleans must be equal unless the element rule is in force. NaN equals NaN; infinities must match. */
typedef struct Tolerance { double rtol, atol, range_tol; bool by_element; } Tolerance;

typedef struct Comparison {
    bool pass;
    double max_abs, max_rel;      /* over elements finite in both */
    uint64_t max_ulp;
    double range;                 /* max - min of the reference, or max |reference| if that is smaller or the first is 0 */
    double range_rel;             /* max_abs / range */
    int64_t n, n_bad;             /* elements, and how many break the rule or differ in NaN or infinity */
    int64_t worst;                /* index of the largest difference, or of the first NaN or infinity that differs */
} Comparison;

Comparison compare_elements(int number, int64_t n, const void *got, const void *want, const Tolerance *t);

#endif
