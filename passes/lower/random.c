/* Random tensors: words of a counter-based generator (runtime/philox.h), turned into numbers element by element.
 *
 *     uniform  low + (high - low) * u               u in [0, 1): the top 24 (53) bits of a word (of two words)
 *     normal   mean + scale * sqrt(-2 log u) cos(2 pi v)      Box and Muller, u in (0, 1]
 *
 * The seed is the attribute's bits; a node without one has the seed 0. Every node of a model is a stream of its own. */
#include "passes/lower/operand.h"

#include <math.h>

#include "passes/rules.h"

static int64_t seed_bits(const Node *n, AttrSlot slot) {
    if (!attr_has(n, slot)) return 0;
    double f = attr_f(n, slot);
    int64_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* A buffer of `count` random words. */
static uint32_t words(Lower *lo, const Node *n, AttrSlot seed, Dim count) {
    uint32_t buf = lower_buf(lo, lower_scratch(lo, type_tensor(lo->cx, DT_U32, 1, &count)));
    CallArg arg[] = {arg_buf(buf), arg_expr(lx_dim(lo, count)), arg_expr(lx_i(lo, seed_bits(n, seed))), arg_expr(lx_i(lo, n->id))};
    lower_call(lo, "lathe_philox", 4, arg);
    return buf;
}

/* A number in [0, 1) from word i. */
static Expr *uniform(Lower *lo, uint32_t buf, Expr *i, DType d) {
    Expr *top = lx_2(lo, FN_SHR, lower_load_buf(lo, buf, &i), ex_i(lo->cx, DT_U32, 8));
    return lx_mul(lo, lx_cast(lo, d, top), lx_const(lo, d, 0x1p-24));
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

bool lower_random(Lower *lo, const Node *n) {
    const Type *t = n->out[0]->type;
    bool normal = n->op == OP_RandomNormal || n->op == OP_RandomNormalLike;
    Slots slot = slots_of(n->op);
    Dim count = type_numel(lo->cx, t);
    uint32_t buf = words(lo, n, slot.seed, normal ? dim_mul(lo->cx, count, dim_const(lo->cx, 2)) : count);
    DType d = dtype_compute(t->dtype);
    double a = attr_f(n, slot.a), b = attr_f(n, slot.b);
    Expr *idx[RANK_MAX];
    lower_for_type(lo, t, idx);
    Expr *flat = flat_index(lo, t, idx), *e;
    if (normal) {
        Expr *i = lx_mul(lo, flat, lx_i(lo, 2));
        Expr *u = lx_add(lo, uniform(lo, buf, i, d), lx_const(lo, d, 0x1p-24)), *v = uniform(lo, buf, lx_add(lo, i, lx_i(lo, 1)), d);
        Expr *radius = lx_1(lo, FN_SQRT, lx_mul(lo, lx_1(lo, FN_LOG, u), lx_const(lo, d, -2)));
        Expr *turn = lx_1(lo, FN_COS, lx_mul(lo, v, lx_const(lo, d, 2 * M_PI)));
        e = lx_mul_add(lo, lx_mul(lo, radius, turn), lx_const(lo, d, b), lx_const(lo, d, a));
    } else {
        e = lx_mul_add(lo, uniform(lo, buf, flat, d), lx_const(lo, d, b - a), lx_const(lo, d, a));
    }
    lower_store(lo, n->out[0], idx, e);
    lower_end_n(lo, t->rank);
    return true;
}

/* Input: unnormalised log probabilities [batch, classes]. The class where the running sum of probabilities passes u. */
bool lower_multinomial(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type, *result = n->out[0]->type;
    uint32_t buf = words(lo, n, AT_Multinomial_seed, type_numel(lo->cx, result));
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
    Expr *target = lx_mul(lo, uniform(lo, buf, flat_index(lo, result, (Expr *[]){b, s}), DT_F64), total);
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
