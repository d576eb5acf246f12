/* runtime/math_f32.h against long double: every 997th float bit pattern (4 million arguments), errors in ULP of float. */
#include <stdio.h>

#include "runtime/math_f32.h"

typedef struct Function { const char *name; float (*f)(float); long double (*exact)(long double); double limit, most; float largest; } Function;

static long double sigmoidl(long double x) { return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x)); }

static double ulps(float got, long double want) {
    float near = (float)want;
    if (isnan(near)) return isnan(got) ? 0 : INFINITY;
    if (isinf(near) || isinf(got)) return near == got ? 0 : fabsl(want) > 3.4028234e38L && fabsf(got) > 3.4028233e38f ? 1 : INFINITY;
    if (near == 0 && want == 0) return got == 0 && signbit(got) == signbit(near) ? 0 : INFINITY;
    int e;
    frexpl(want, &e);
    if (e < -125) e = -125; /* subnormals share the smallest spacing */
    return (double)fabsl(((long double)got - want) / ldexpl(1, e - 24));
}

static int check(Function *t) {
    double worst = 0;
    float at = 0;
    for (uint64_t u = 0; u < (UINT64_C(1) << 32); u += 997) {
        float x = lathe_bits_float((uint32_t)u);
        if (fabsf(x) > t->largest && !isinf(x)) continue;
        double e = ulps(t->f(x), t->exact((long double)x));
        if (e > worst) worst = e, at = x;
    }
    static const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1.0f, -1.0f, 1e-45f, 88.72284f, 88.722847f, -103.97208f, -87.336544f};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        double e = ulps(t->f(special[i]), t->exact((long double)special[i]));
        if (e > worst) worst = e, at = special[i];
    }
    printf("%-8s %.3f ULP at %.9g (limit %.1f)\n", t->name, worst, (double)at, t->limit);
    return worst > t->limit;
}

int main(void) {
    Function all[] = {
        {.name = "exp", .f = lathe_exp_f32, .exact = expl, .limit = 2, .largest = INFINITY},
        {.name = "expm1", .f = lathe_expm1_f32, .exact = expm1l, .limit = 2, .largest = INFINITY},
        {.name = "log", .f = lathe_log_f32, .exact = logl, .limit = 2, .largest = INFINITY},
        {.name = "log1p", .f = lathe_log1p_f32, .exact = log1pl, .limit = 2, .largest = INFINITY},
        {.name = "tanh", .f = lathe_tanh_f32, .exact = tanhl, .limit = 2, .largest = INFINITY},
        {.name = "sigmoid", .f = lathe_sigmoid_f32, .exact = sigmoidl, .limit = 2, .largest = INFINITY},
        {.name = "erf", .f = lathe_erf_f32, .exact = erfl, .limit = 2, .largest = INFINITY},
        {.name = "sin", .f = lathe_sin_f32, .exact = sinl, .limit = 2, .largest = 1073741824.0f},
        {.name = "cos", .f = lathe_cos_f32, .exact = cosl, .limit = 2, .largest = 1073741824.0f},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) failed |= check(&all[i]);
    return failed;
}
