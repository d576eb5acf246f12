/* runtime/math_f32.h against double: floats of all exponents, errors in ULP of float, and whether a vectorised loop gives the bits
 * of single calls. Without arguments every 131st float bit pattern (33 million arguments per function); "test_math all [FUNCTION]" takes every one. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/math_f32.h"

enum { LENGTH = 1027 };

/* unit: the least exponent of a result whose spacing counts as one ULP; flush: subnormal results may be 0. */
typedef struct Function {
    const char *name;
    float (*f)(float);
    void (*loop)(float *to, const float *from);
    double (*exact)(double);
    double limit;
    float least, largest;
    int unit;
    bool flush;
} Function;

#define LOOP(name) \
    static void loop_##name(float *to, const float *from) { for (int i = 0; i < LENGTH; i++) to[i] = lathe_##name##_f32(from[i]); }
LOOP(exp) LOOP(exp_below) LOOP(expm1) LOOP(log) LOOP(log1p) LOOP(tanh) LOOP(sigmoid) LOOP(erf) LOOP(sin) LOOP(cos)
LOOP(exp_fast) LOOP(tanh_fast) LOOP(sigmoid_fast) LOOP(sin_fast) LOOP(cos_fast)

static float power_of_three(float x) { return lathe_pow_f32(3.0f, x); }
static float root_of(float x) { return lathe_pow_f32(x, 0.3f); }
static float inverse_cube(float x) { return lathe_pow_f32(x, -3.0f); }
static double exact_power_of_three(double x) { return pow(3.0, x); }
static double exact_root(double x) { return pow(x, (double)0.3f); }
static double exact_inverse_cube(double x) { return pow(x, -3.0); }
static double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }

static double ulps(const Function *t, float got, double want) {
    float near = (float)want;
    if (isnan(near)) return isnan(got) ? 0 : INFINITY;
    if (isinf(near) || isinf(got)) return near == got ? 0 : fabs(want) > 3.4028234e38 && fabsf(got) > 3.4028233e38f ? 1 : INFINITY;
    if (near == 0 && want == 0) return got == 0 && signbit(got) == signbit(near) ? 0 : INFINITY;
    if (t->flush && got == 0 && fabs(want) < 1.17549435e-38) return 0;
    int e;
    frexp(want, &e);
    if (e < t->unit) e = t->unit;
    return fabs((double)got - want) / ldexp(1, e - 24);
}

static int check(const Function *t, uint64_t step) {
    double worst = 0;
    float at = 0;
    for (uint64_t u = 0; u < (UINT64_C(1) << 32); u += step) {
        float x = lathe_bits_float((uint32_t)u);
        if (x < t->least || x > t->largest) continue; /* NaN stays */
        double e = ulps(t, t->f(x), t->exact((double)x));
        if (e > worst) worst = e, at = x;
    }
    static const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1.0f, -1.0f, 1e-45f, 88.72284f, 88.722847f, -103.97208f, -87.336544f};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (special[i] < t->least || special[i] > t->largest) continue;
        double e = ulps(t, t->f(special[i]), t->exact((double)special[i]));
        if (e > worst) worst = e, at = special[i];
    }
    printf("%-13s %.3f ULP at %.9g (limit %.1f)\n", t->name, worst, (double)at, t->limit);
    return worst > t->limit;
}

/* Arguments over all magnitudes that matter; the length is no multiple of a vector, so the rest of the loop is checked, too. */
static int check_loop(const Function *t) {
    static float from[LENGTH], to[LENGTH];
    float (*volatile single)(float) = t->f;
    for (uint32_t round = 0; t->loop != NULL && round < 64; round++) {
        for (uint32_t i = 0; i < LENGTH; i++) from[i] = lathe_bits_float(((i * 2654435761u + round * 40503u) >> 1 & 0x0FFFFFFFu) + 0x38000000u + (i << 31));
        t->loop(to, from);
        for (uint32_t i = 0; i < LENGTH; i++) {
            float want = single(from[i]);
            if (lathe_float_bits(to[i]) == lathe_float_bits(want) || (isnan(want) && isnan(to[i]))) continue;
            printf("%s(%.9g) is %.9g in a loop, %.9g alone\n", t->name, (double)from[i], (double)to[i], (double)want);
            return 1;
        }
    }
    return 0;
}

/* x^y over random pairs, and every pair of special values against libm. */
static int check_pow(void) {
    static const float special[] = {0, -0.0f, 1, -1, 2, -2, 3, -3, 0.5f, -0.5f, INFINITY, -INFINITY, NAN, 1e-45f, -1e-45f, 3.4e38f, -3.4e38f, 1e30f, 16777216, -7, 1e9f};
    const Function t = {.unit = -125};
    const size_t n = sizeof special / sizeof *special;
    double worst = 0;
    float at_x = 0, at_y = 0;
    uint64_t random = 1;
    for (uint32_t i = 0; i < 3000000 + n * n; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t a = (uint32_t)(random >> 32);
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t b = (uint32_t)(random >> 32);
        float x = lathe_bits_float(i & 1 ? a : 0x3F000000u + (a >> 8)), y = i & 2 ? lathe_bits_float(b) : (float)((int32_t)(b >> 8) - 8388608) * 1e-5f;
        if ((i & 12) == 4) y = rintf(y);
        if (i < n * n) x = special[i / n], y = special[i % n];
        double e = ulps(&t, lathe_pow_f32(x, y), pow((double)x, (double)y));
        if (e > worst) worst = e, at_x = x, at_y = y;
    }
    printf("%-13s %.3f ULP at %.9g, %.9g (limit 1.0)\n", "pow", worst, (double)at_x, (double)at_y);
    return worst > 1;
}

int main(int argc, char **argv) {
    const float all = INFINITY, turns = 1073741824.0f;
    const Function table[] = {
        {"exp", lathe_exp_f32, loop_exp, exp, 2, -all, all, -125, false},
        {"exp_below", lathe_exp_below_f32, loop_exp_below, exp, 2, -all, 0, -125, true},
        {"expm1", lathe_expm1_f32, loop_expm1, expm1, 2, -all, all, -125, false},
        {"log", lathe_log_f32, loop_log, log, 2, -all, all, -125, false},
        {"log1p", lathe_log1p_f32, loop_log1p, log1p, 2, -all, all, -125, false},
        {"tanh", lathe_tanh_f32, loop_tanh, tanh, 2, -all, all, -125, false},
        {"sigmoid", lathe_sigmoid_f32, loop_sigmoid, sigmoid, 2, -all, all, -125, false},
        {"erf", lathe_erf_f32, loop_erf, erf, 2, -all, all, -125, false},
        {"sin", lathe_sin_f32, loop_sin, sin, 2, -turns, turns, -125, false},
        {"cos", lathe_cos_f32, loop_cos, cos, 2, -turns, turns, -125, false},
        {"3^x", power_of_three, NULL, exact_power_of_three, 1, -all, all, -125, false},
        {"x^0.3", root_of, NULL, exact_root, 1, -all, all, -125, false},
        {"x^-3", inverse_cube, NULL, exact_inverse_cube, 1, -all, all, -125, false},
        {"exp_fast", lathe_exp_fast_f32, loop_exp_fast, exp, 4, -all, all, -125, true},
        {"tanh_fast", lathe_tanh_fast_f32, loop_tanh_fast, tanh, 4, -all, all, -125, false},
        {"sigmoid_fast", lathe_sigmoid_fast_f32, loop_sigmoid_fast, sigmoid, 4, -all, all, -125, true},
        {"sin_fast", lathe_sin_fast_f32, loop_sin_fast, sin, 2, -8192, 8192, 0, false},
        {"cos_fast", lathe_cos_fast_f32, loop_cos_fast, cos, 2, -8192, 8192, 0, false},
    };
    const uint64_t step = argc > 1 && strcmp(argv[1], "all") == 0 ? 1 : 131;
    int failed = check_pow();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (argc < 3 || strcmp(argv[2], table[i].name) == 0) failed |= check(&table[i], step) | check_loop(&table[i]);
    return failed;
}
