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
