#include "driver/compare.h"

#include <math.h>

/* What is close for a type: 1e-4 of the range for float32 (long sums in another order differ that much), 1e-6 for
 * float64 (models mix in float32 constants), a few roundings for the narrow types. */
static double default_range_tolerance(int number) {
    if (number == LATHE_F64) return 1e-6;
    double roundings = 4 * element_epsilon(number);
    return roundings > 1e-4 ? roundings : 1e-4;
}

static double reference_range(int number, int64_t n, const void *want) {
    double lo = INFINITY, hi = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double x = element_f64(number, want, i);
        if (!isfinite(x)) continue;
        if (x < lo) lo = x;
        if (x > hi) hi = x;
    }
    if (lo > hi) return 0;
    double largest = fmax(fabs(lo), fabs(hi)), range = hi - lo;
    return range > 0 && range < largest ? range : largest;
}

static uint64_t ulp_distance(int64_t a, int64_t b) {
    return a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
}

/* Equal or not: how far apart strings are has no meaning. */
static Comparison compare_strings(int64_t n, const char *const *got, const char *const *want) {
    Comparison c = {.n = n};
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(got[i], want[i]) == 0) continue;
        if (c.n_bad++ == 0) c.worst = i;
    }
    c.pass = c.n_bad == 0;
    return c;
}

Comparison compare_elements(int number, int64_t n, const void *got, const void *want, const Tolerance *t) {
    if (element_class(number) == ELEMENT_STRING) return compare_strings(n, got, want);
    if (element_class(number) == ELEMENT_COMPLEX) { /* a complex number is two floats */
        number = number == 14 ? LATHE_F32 : LATHE_F64;
        n *= 2;
    }
    bool is_float = element_class(number) == ELEMENT_FLOAT;
    Comparison c = {.n = n, .range = reference_range(number, n, want)};
    double range_tol = t->range_tol >= 0 ? t->range_tol : default_range_tolerance(number);
    bool by_element = t->by_element || !is_float;
    double rtol = t->by_element ? t->rtol : 0, atol = t->by_element ? t->atol : 0;
    bool special_differs = false;
    for (int64_t i = 0; i < n; i++) {
        int64_t rank_a = element_rank(number, got, i), rank_b = element_rank(number, want, i);
        if (rank_a == rank_b) continue;
        double a = element_f64(number, got, i), b = element_f64(number, want, i);
        if (is_float && (!isfinite(a) || !isfinite(b))) {
            if (!special_differs) c.worst = i;
            special_differs = true;
            c.n_bad++;
            continue;
        }
        uint64_t ulp = ulp_distance(rank_a, rank_b);
        double difference = fabs(a - b), relative = b != 0 ? difference / fabs(b) : INFINITY;
        if (!is_float && difference == 0) difference = (double)ulp; /* 64-bit integers beyond 2^53 */
        if (difference > c.max_abs) {
            c.max_abs = difference;
            if (!special_differs) c.worst = i;
        }
        if (relative > c.max_rel) c.max_rel = relative;
        if (ulp > c.max_ulp) c.max_ulp = ulp;
        if (by_element ? !(difference <= atol + rtol * fabs(b)) : !(difference <= range_tol * c.range)) c.n_bad++;
    }
    c.range_rel = c.max_abs == 0 ? 0 : c.max_abs / c.range;
    c.pass = c.n_bad == 0;
    return c;
}
