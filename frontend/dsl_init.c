/* First values of parameters. Element i of a parameter depends on (seed, stream, i) only, the stream being a hash of the
 * parameter's name, and every operation is an exactly rounded one (+ - * / sqrt in double, no libm, no contraction: this file
 * is compiled with -ffp-contract=off), so the same model has the same bits on every machine. Emitted C has the same code. */
#include "frontend/dsl.h"
#include "ir/state.h"
#include "runtime/init.h"

void dsl_init_fill(Context *cx, float *out, uint32_t rank, const int64_t *shape, LatheInit init, uint64_t seed, uint64_t stream) {
    int64_t n = 1;
    (void)cx;
    for (uint32_t i = 0; i < rank; i++) n *= shape[i];
    LatheInit r = init_resolve(init, rank, shape);
    switch (r.kind) {
    case LATHE_INIT_NORMAL: lathe_init_normal(out, n, r.a, r.b, seed, stream); break;
    case LATHE_INIT_UNIFORM: lathe_init_uniform(out, n, r.a, r.b, seed, stream); break;
    case LATHE_INIT_TRUNCATED: lathe_init_truncated(out, n, r.a, r.b, seed, stream); break;
    case LATHE_INIT_ORTHOGONAL: {
        int64_t rows = rank > 0 ? shape[0] : 1;
        lathe_init_normal(out, n, 0, 1, seed, stream);
        if (n != 0) lathe_init_orthogonal(out, rows, n / rows, r.a);
        break;
    }
    case LATHE_INIT_DEFAULT: case LATHE_INIT_CONSTANT: case LATHE_INIT_GLOROT_UNIFORM: case LATHE_INIT_GLOROT_NORMAL: case LATHE_INIT_KAIMING_UNIFORM:
    case LATHE_INIT_KAIMING_NORMAL: lathe_init_constant(out, n, r.a); break;
    }
}
