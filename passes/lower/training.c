/* Optimisers of ai.onnx.preview.training, element by element. Inputs: learning rate R, update count T, then all X, all
 * gradients G, all states; outputs: all new X, all new states.
 *
 *     Momentum:  g' = G + norm*X;   V' = alpha*V + (T > 0 ? beta : 1)*g';   X' = X - R*V'   (nesterov: X - R*(g' + alpha*V')) */
#include "passes/lower/rows.h"
#include "passes/rules.h"

typedef struct Update {
    Lower *lo;
    const Node *n;
    DType t;
    uint32_t count, which;
    Expr *const *idx;
    Expr *x, *g, *rate, *step;
} Update;

static Expr *num(Update *u, double v) { return lx_const(u->lo, u->t, v); }
static Expr *input(Update *u, uint32_t group) {
    return lx_cast(u->lo, u->t, lower_load(u->lo, u->n->in[2 + group * u->count + u->which], u->idx));
}

static Update update_of(Lower *lo, const Node *n, uint32_t out, Expr *const *idx, uint32_t groups, double norm) {
    Update u = {.lo = lo, .n = n, .count = (n->n_in - 2) / groups, .idx = idx};
    u.which = out % u.count;
    u.t = lower_float_type(n->in[2 + u.which]->type->dtype);
    u.rate = lx_cast(lo, u.t, lower_load_scalar(lo, n->in[0]));
    u.step = lower_load_scalar(lo, n->in[1]);
    u.x = input(&u, 0);
    u.g = input(&u, 1);
    if (norm != 0) u.g = lx_add(lo, u.g, lx_mul(lo, num(&u, norm), u.x));
    return u;
}

Expr *define_adagrad(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    Update u = update_of(lo, n, out, idx, 3, attr_f(n, AT_Adagrad_norm_coefficient));
    Expr *h = lx_add(lo, input(&u, 2), lx_mul(lo, u.g, u.g));
    if (out >= u.count) return h;
    Expr *decay = lx_mul(lo, lx_cast(lo, u.t, u.step), num(&u, attr_f(n, AT_Adagrad_decay_factor)));
    Expr *rate = lx_div(lo, u.rate, lx_add(lo, num(&u, 1), decay));
    Expr *size = lx_add(lo, lx_1(lo, FN_SQRT, h), num(&u, attr_f(n, AT_Adagrad_epsilon)));
    return lx_sub(lo, u.x, lx_div(lo, lx_mul(lo, rate, u.g), size));
}

Expr *define_adam(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    Update u = update_of(lo, n, out, idx, 4, attr_f(n, AT_Adam_norm_coefficient));
    Expr *one = num(&u, 1), *alpha = num(&u, attr_f(n, AT_Adam_alpha)), *beta = num(&u, attr_f(n, AT_Adam_beta));
    Expr *v = lx_add(lo, lx_mul(lo, alpha, input(&u, 2)), lx_mul(lo, lx_sub(lo, one, alpha), u.g));
    Expr *h = lx_add(lo, lx_mul(lo, beta, input(&u, 3)), lx_mul(lo, lx_sub(lo, one, beta), lx_mul(lo, u.g, u.g)));
    if (out >= u.count) return out < 2 * u.count ? v : h;
    Expr *t = lx_cast(lo, u.t, u.step), *first = lx_2(lo, FN_GT, t, num(&u, 0));
    Expr *corrected = lx_mul(lo, u.rate, lx_1(lo, FN_SQRT, lx_sub(lo, one, lx_2(lo, FN_POW, beta, t))));
    corrected = lx_div(lo, corrected, lx_sub(lo, one, lx_2(lo, FN_POW, alpha, t)));
    Expr *rate = lx_select(lo, first, corrected, u.rate);
    Expr *size = lx_add(lo, lx_1(lo, FN_SQRT, h), num(&u, attr_f(n, AT_Adam_epsilon)));
    Expr *x = lx_sub(lo, u.x, lx_div(lo, lx_mul(lo, rate, v), size));
    return lx_mul(lo, num(&u, 1 - attr_f(n, AT_Adam_norm_coefficient_post)), x);
}

Expr *define_momentum(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    Update u = update_of(lo, n, out, idx, 3, attr_f(n, AT_Momentum_norm_coefficient));
    Expr *alpha = num(&u, attr_f(n, AT_Momentum_alpha)), *later = lx_2(lo, FN_GT, u.step, lx_const(lo, (DType)u.step->dtype, 0));
    Expr *beta = lx_select(lo, later, num(&u, attr_f(n, AT_Momentum_beta)), num(&u, 1));
    Expr *v = lx_add(lo, lx_mul(lo, alpha, input(&u, 2)), lx_mul(lo, beta, u.g));
    if (out >= u.count) return v;
    bool nesterov = attr_s_is(lo->cx, n, AT_Momentum_mode, "nesterov");
    Expr *step = nesterov ? lx_add(lo, u.g, lx_mul(lo, alpha, v)) : v;
    return lx_sub(lo, u.x, lx_mul(lo, u.rate, step));
}

/* Eight truth values of the last axis in a byte; behind the end of a row they are false. */
Expr *define_pack_bits(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    const Type *t = n->in[0]->type;
    uint32_t last = t->rank - 1;
    int64_t size = dim_value(lo->cx, t->dim[last]);
    Expr *from[RANK_MAX], *sum = lx_const(lo, DT_I32, 0);
    for (uint32_t i = 0; i < last; i++) from[i] = idx[i];
    for (int64_t bit = 0; bit < 8; bit++) {
        Expr *at = lx_add(lo, lx_mul(lo, idx[last], lx_i(lo, 8)), lx_i(lo, bit));
        from[last] = size % 8 != 0 ? lx_2(lo, FN_MIN, at, lx_i(lo, size - 1)) : at;
        Expr *is = lower_load(lo, n->in[0], from);
        if (size % 8 != 0) is = lx_2(lo, FN_AND, is, lx_2(lo, FN_LT, at, lx_i(lo, size)));
        sum = lx_add(lo, sum, lx_select(lo, is, lx_const(lo, DT_I32, (double)(1 << bit)), lx_const(lo, DT_I32, 0)));
    }
    return lx_cast(lo, DT_U8, sum);
}

Expr *define_unpack_bits(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out;
    uint32_t last = n->in[0]->type->rank - 1;
    Expr *from[RANK_MAX], *eight = lx_i(lo, 8);
    for (uint32_t i = 0; i < last; i++) from[i] = idx[i];
    from[last] = lx_2(lo, FN_FLOORDIV, idx[last], eight);
    Expr *byte = lx_cast(lo, DT_I32, lower_load(lo, n->in[0], from)), *bit = lx_2(lo, FN_SHL, lx_const(lo, DT_I32, 1), lx_cast(lo, DT_I32, lx_2(lo, FN_MOD, idx[last], eight)));
    return lx_2(lo, FN_NE, lx_2(lo, FN_AND, byte, bit), lx_const(lo, DT_I32, 0));
}
