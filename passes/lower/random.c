/* Random tensors, turned element by element into what the operator wants:
 *
 *     uniform  low + (high - low) * u               u in [0, 1)
 *     normal   mean + scale * sqrt(-2 log r / r) * x          Marsaglia's polar method, (x, y) in the unit circle, r = x^2 + y^2
 *
 * With a seed, u and (x, y) are the stream of ONNX's reference implementation, numpy's RandomState(seed), which starts anew in
 * every node and run (runtime/mt19937.h). Without one they come from a counter-based generator whose key is the number of the
 * run since NAME_init and whose stream is the node: all nodes and all runs differ, and a second program repeats the first
 * (runtime/philox.h). */
#include "passes/lower/operand.h"

#include <math.h>

#include "passes/rules.h"

/* Numbers between 0 and 1, element by element. */
typedef struct Source { uint32_t buf; bool seeded; } Source;

static int64_t seed_of(const Node *n, AttrSlot slot) {
    double f = attr_f(n, slot);
    return fabs(f) < 0x1p62 ? (int64_t)f : 0;
}

static bool has_seed(const Node *n, AttrSlot slot) { return attr_has(n, slot) && !isnan(attr_f(n, slot)); }

/* How many runs came before this one: an entry of the dims array that the entry point fills (codegen/entry_c.c). */
static Dim run_number(Module *m) {
    if (m->run_number == 0) m->run_number = dim_runtime(m->cx, "run", 0, INT64_MAX);
    return m->run_number;
}

static Source words(Lower *lo, const Node *n, Dim count) {
    uint32_t buf = lower_buf(lo, lower_scratch(lo, type_tensor(lo->cx, DT_U32, 1, &count)));
    CallArg arg[] = {arg_buf(buf), arg_expr(lx_dim(lo, count)), arg_expr(lx_dim(lo, run_number(lo->m))), arg_expr(lx_i(lo, n->id))};
    lower_call(lo, "lathe_philox", 4, arg);
    return (Source){buf, false};
}

static Source seeded(Lower *lo, const char *function, Dim count, Dim room, int64_t seed) {
    uint32_t buf = lower_buf(lo, lower_scratch(lo, type_tensor(lo->cx, DT_F64, 1, &room)));
    lower_call(lo, function, 3, (CallArg[]){arg_buf(buf), arg_expr(lx_dim(lo, count)), arg_expr(lx_i(lo, seed))});
    return (Source){buf, true};
}

static Source uniform_source(Lower *lo, const Node *n, AttrSlot seed, Dim count) {
    return has_seed(n, seed) ? seeded(lo, "lathe_mt_uniform", count, count, seed_of(n, seed)) : words(lo, n, count);
}

/* A number in [0, 1) from word i. */
static Expr *uniform(Lower *lo, Source s, Expr *i, DType d) {
    Expr *x = lower_load_buf(lo, s.buf, &i);
    if (s.seeded) return lx_cast(lo, d, x);
    return lx_mul(lo, lx_cast(lo, d, lx_2(lo, FN_SHR, x, ex_i(lo->cx, DT_U32, 8))), lx_const(lo, d, 0x1p-24));
}

static Expr *flat_index(Lower *lo, const Type *t, Expr *const *idx) {
    Expr *flat = lx_i(lo, 0);
    for (uint32_t i = 0; i < t->rank; i++) flat = lx_add(lo, lx_mul(lo, flat, lx_dim(lo, t->dim[i])), idx[i]);
    return flat;
}

typedef struct Slots { AttrSlot seed, a, b; } Slots; /* low and high, or mean and scale */

static Slots slots_of(Op op) {
    switch (op) {
    case OP_RandomUniform: return (Slots){AT_RandomUniform_seed, AT_RandomUniform_low, AT_RandomUniform_high};
    case OP_RandomUniformLike: return (Slots){AT_RandomUniformLike_seed, AT_RandomUniformLike_low, AT_RandomUniformLike_high};
    case OP_RandomNormal: return (Slots){AT_RandomNormal_seed, AT_RandomNormal_mean, AT_RandomNormal_scale};
    default: return (Slots){AT_RandomNormalLike_seed, AT_RandomNormalLike_mean, AT_RandomNormalLike_scale};
    }
}

/* Element i of a seeded stream of normal numbers: pair i/2 holds two of them. */
static Expr *polar(Lower *lo, Source s, Expr *i, DType d) {
    Expr *two = lx_i(lo, 2), *first = lx_mul(lo, lx_2(lo, FN_FLOORDIV, i, two), two), *second = lx_add(lo, first, lx_i(lo, 1));
    Expr *x = lower_load_buf(lo, s.buf, &first), *y = lower_load_buf(lo, s.buf, &second);
    Expr *r = lx_add(lo, lx_mul(lo, x, x), lx_mul(lo, y, y));
    Expr *size = lx_1(lo, FN_SQRT, lx_div(lo, lx_mul(lo, lx_1(lo, FN_LOG, r), lx_const(lo, DT_F64, -2)), r));
    return lx_cast(lo, d, lx_mul(lo, lower_load_buf(lo, s.buf, &i), size));
}

/* Box and Muller's sqrt(-2 log u) cos(2 pi v) from words 2i and 2i + 1, u in (0, 1]. */
static Expr *box_muller(Lower *lo, Source s, Expr *i, DType d) {
    Expr *first = lx_mul(lo, i, lx_i(lo, 2));
    Expr *u = lx_add(lo, uniform(lo, s, first, d), lx_const(lo, d, 0x1p-24)), *v = uniform(lo, s, lx_add(lo, first, lx_i(lo, 1)), d);
    Expr *radius = lx_1(lo, FN_SQRT, lx_mul(lo, lx_1(lo, FN_LOG, u), lx_const(lo, d, -2)));
    return lx_mul(lo, radius, lx_1(lo, FN_COS, lx_mul(lo, v, lx_const(lo, d, 2 * M_PI))));
}

bool lower_random(Lower *lo, const Node *n) {
    const Type *t = n->out[0]->type;
    bool normal = n->op == OP_RandomNormal || n->op == OP_RandomNormalLike;
    Slots slot = slots_of(n->op);
    Context *cx = lo->cx;
    Dim count = type_numel(cx, t);
    Source s;
    if (!normal) s = uniform_source(lo, n, slot.seed, count);
    else if (has_seed(n, slot.seed)) s = seeded(lo, "lathe_mt_disc", count, dim_add(cx, count, dim_const(cx, 1)), seed_of(n, slot.seed));
    else s = words(lo, n, dim_mul(cx, count, dim_const(cx, 2)));
    DType d = s.seeded ? DT_F64 : dtype_compute(t->dtype);
    double a = attr_f(n, slot.a), b = attr_f(n, slot.b);
    Expr *idx[RANK_MAX];
    lower_for_type(lo, t, idx);
    Expr *flat = flat_index(lo, t, idx), *x = !normal ? uniform(lo, s, flat, d) : s.seeded ? polar(lo, s, flat, d) : box_muller(lo, s, flat, d);
    Expr *e = lx_mul_add(lo, x, lx_const(lo, d, normal ? b : b - a), lx_const(lo, d, a));
    lower_store(lo, n->out[0], idx, lx_cast(lo, dtype_compute(t->dtype), e));
    lower_end_n(lo, t->rank);
    return true;
}

/* Input: unnormalised log probabilities [batch, classes]. The class where the running sum of probabilities passes u. */
bool lower_multinomial(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type, *result = n->out[0]->type;
    Source draws = uniform_source(lo, n, AT_Multinomial_seed, type_numel(lo->cx, result));
    Expr *b = lower_for_dim(lo, result->dim[0]), *classes = lx_dim(lo, t->dim[1]);
    Expr *highest = lower_local(lo, DT_F64, lx_const(lo, DT_F64, (double)-INFINITY)), *total = lower_local(lo, DT_F64, lx_const(lo, DT_F64, 0));
    Expr *c = lower_for(lo, classes);
    lower_accumulate(lo, highest, FN_MAX, lx_cast(lo, DT_F64, lower_load(lo, n->in[0], (Expr *[]){b, c})));
    lower_end(lo);
    c = lower_for(lo, classes);
    Expr *weight = lx_1(lo, FN_EXP, lx_sub(lo, lx_cast(lo, DT_F64, lower_load(lo, n->in[0], (Expr *[]){b, c})), highest));
    lower_accumulate(lo, total, FN_ADD, weight);
    lower_end(lo);
    Expr *s = lower_for_dim(lo, result->dim[1]);
    Expr *target = lx_mul(lo, uniform(lo, draws, flat_index(lo, result, (Expr *[]){b, s}), DT_F64), total);
    Expr *sum = lower_local(lo, DT_F64, lx_const(lo, DT_F64, 0)), *chosen = lower_local(lo, DT_I64, lx_i(lo, 0));
    c = lower_for(lo, classes);
    weight = lx_1(lo, FN_EXP, lx_sub(lo, lx_cast(lo, DT_F64, lower_load(lo, n->in[0], (Expr *[]){b, c})), highest));
    lower_accumulate(lo, sum, FN_ADD, weight);
    lower_accumulate(lo, chosen, FN_ADD, lx_cast(lo, DT_I64, lx_2(lo, FN_LE, sum, target)));
    lower_end(lo);
    Expr *last = lx_sub(lo, classes, lx_i(lo, 1));
    lower_store(lo, n->out[0], (Expr *[]){b, s}, lx_cast(lo, dtype_compute(result->dtype), lx_2(lo, FN_MIN, chosen, last)));
    lower_end_n(lo, 2);
    return true;
}
