/* Gradients of activations: dx = dy * f'(x), written so that the sign test, exponentials and the like of f' are pointwise and fuse with what
 * stands around them. Those that can use the result instead of the operand do, so that the operand need not be kept. */
#include <math.h>

#include "passes/grad/grad.h"
#include "passes/rules.h"

static Value *less(Grad *g, Value *x, double c) { return g_2(g, OP_Less, x, g_num(g, x, c)); }
static Value *greater(Grad *g, Value *x, double c) { return g_2(g, OP_Greater, x, g_num(g, x, c)); }

/* dy * yes where the condition holds, dy * no elsewhere; NULL: 0. */
static Value *either(Grad *g, Value *condition, Value *yes, Value *no) {
    Value *zero = g_num(g, g->dy[0], 0);
    return g_where(g, condition, yes != NULL ? yes : zero, no != NULL ? no : zero);
}

static Value *scaled(Grad *g, double c) { return g_times(g, g->dy[0], c); }

/* s (1 + a x (1 - s)) with s = sigmoid(a x) */
static Value *swish_slope(Grad *g, Value *x, double alpha) {
    Value *s = g_1(g, OP_Sigmoid, g_times(g, x, alpha));
    return g_mul(g, s, g_plus(g, g_mul(g, g_times(g, x, alpha), g_sub(g, g_num(g, x, 1), s)), 1));
}

/* Phi(x) + x phi(x) */
static Value *gelu_slope(Grad *g, Value *x) {
    Value *cdf = g_times(g, g_plus(g, g_1(g, OP_Erf, g_times(g, x, M_SQRT1_2)), 1), 0.5);
    Value *pdf = g_times(g, g_1(g, OP_Exp, g_times(g, g_mul(g, x, x), -0.5)), 0.5 * M_2_SQRTPI * M_SQRT1_2);
    return g_add(g, cdf, g_mul(g, x, pdf));
}

/* x s with s = sigmoid(2 k (x + c x^3)), which is cheaper than (1 + tanh) / 2:  s + 2 k x s (1 - s) (1 + 3 c x^2) */
static Value *gelu_tanh_slope(Grad *g, Value *x) {
    double k = M_2_SQRTPI * M_SQRT1_2, c = 0.044715;
    Value *square = g_mul(g, x, x);
    Value *s = g_1(g, OP_Sigmoid, g_mul(g, x, g_plus(g, g_times(g, square, 2 * k * c), 2 * k)));
    Value *bend = g_mul(g, g_mul(g, s, g_sub(g, g_num(g, x, 1), s)), g_plus(g, g_times(g, square, 6 * k * c), 2 * k));
    return g_add(g, s, g_mul(g, x, bend));
}

static Value *hard_swish_slope(Grad *g, Value *x) {
    Value *ramp = g_plus(g, g_times(g, x, 1.0 / 6), 0.5), *zero = g_num(g, x, 0), *one = g_num(g, x, 1);
    Value *inside = g_2(g, OP_And, less(g, ramp, 1), greater(g, ramp, 0));
    Value *clamped = g_2(g, OP_Max, g_2(g, OP_Min, ramp, one), zero);
    return g_where(g, inside, g_plus(g, g_times(g, x, 1.0 / 3), 0.5), clamped);
}

static Value *mish_slope(Grad *g, Value *x) {
    Value *t = g_1(g, OP_Tanh, g_1(g, OP_Softplus, x));
    Value *bend = g_mul(g, g_sub(g, g_num(g, x, 1), g_mul(g, t, t)), g_1(g, OP_Sigmoid, x));
    return g_add(g, t, g_mul(g, x, bend));
}

/* dx of the activation at x, whose result is y. */
static Value *through(Grad *g, Value *x, Value *y) {
    const Node *n = g->n;
    Value *dy = g->dy[0];
    switch ((int)n->op) {
    case OP_Relu: return either(g, greater(g, y, 0), dy, NULL); /* zero at zero, as everybody does */
    case OP_LeakyRelu: return either(g, less(g, x, 0), scaled(g, attr_f(n, AT_LeakyRelu_alpha)), dy);
    case OP_Elu: return either(g, less(g, x, 0), g_mul(g, dy, g_plus(g, y, attr_f(n, AT_Elu_alpha))), dy);
    case OP_Celu: {
        double alpha = attr_f(n, AT_Celu_alpha);
        return either(g, less(g, x, 0), g_mul(g, dy, g_plus(g, g_times(g, y, 1 / alpha), 1)), dy);
    }
    case OP_Selu: {
        double gamma = attr_f(n, AT_Selu_gamma);
        return either(g, less(g, x, 0), g_mul(g, dy, g_plus(g, y, attr_f(n, AT_Selu_alpha) * gamma)), scaled(g, gamma));
    }
    case OP_HardSigmoid: return either(g, g_2(g, OP_And, less(g, y, 1), greater(g, y, 0)), scaled(g, attr_f(n, AT_HardSigmoid_alpha)), NULL);
    case OP_HardSwish: return g_mul(g, dy, hard_swish_slope(g, x));
    case OP_ThresholdedRelu: return either(g, greater(g, x, attr_f(n, AT_ThresholdedRelu_alpha)), dy, NULL);
    case OP_Shrink: return either(g, greater(g, g_1(g, OP_Abs, x), attr_f(n, AT_Shrink_lambd)), dy, NULL);
    case OP_Softplus: return g_mul(g, dy, g_1(g, OP_Sigmoid, x));
    case OP_Softsign: {
        Value *size = g_plus(g, g_1(g, OP_Abs, x), 1);
        return g_div(g, dy, g_mul(g, size, size));
    }
    case OP_Mish: return g_mul(g, dy, mish_slope(g, x));
    case OP_Swish: return g_mul(g, dy, swish_slope(g, x, attr_f(n, AT_Swish_alpha)));
    case OP_QuickGelu: return g_mul(g, dy, swish_slope(g, x, attr_f(n, AT_QuickGelu_alpha)));
    case OP_Gelu:
        if (attr_s_is(g->m->cx, n, AT_Gelu_approximate, "tanh")) return g_mul(g, dy, gelu_tanh_slope(g, x));
        return g_mul(g, dy, gelu_slope(g, x));
    case OP_Ms_Gelu: case OP_BiasGelu: return g_mul(g, dy, gelu_slope(g, x));
    case OP_FastGelu: return g_mul(g, dy, gelu_tanh_slope(g, x));
    default: return NULL;
    }
}

bool grad_activation(Grad *g) { /* input 1, where there is one, is a bias that is added first */
    Value *x = g->n->in[0], *bias = g_in(g, 1);
    g->dx[0] = through(g, bias != NULL ? g_add(g, x, bias) : x, g->n->out[0]);
    if (bias != NULL) g->dx[1] = g_sum_to(g, g->dx[0], bias);
    return g->dx[0] != NULL;
}

bool grad_prelu(Grad *g) {
    Value *x = g->n->in[0], *slope = g->n->in[1], *dy = g->dy[0], *negative = less(g, x, 0);
    g->dx[0] = either(g, negative, g_mul(g, dy, slope), dy);
    g->dx[1] = g_sum_to(g, either(g, negative, g_mul(g, dy, x), NULL), slope);
    return true;
}

bool grad_swiglu(Grad *g) { /* swish(a) * b */
    Value *a = g->n->in[0], *b = g->n->in[1];
    double alpha = attr_f(g->n, AT_SwiGLU_alpha);
    g->dx[0] = g_sum_to(g, g_mul(g, g_mul(g, g->dy[0], b), swish_slope(g, a, alpha)), a);
    g->dx[1] = g_sum_to(g, g_mul(g, g->dy[0], g_mul(g, a, g_1(g, OP_Sigmoid, g_times(g, a, alpha)))), b);
    return true;
}
