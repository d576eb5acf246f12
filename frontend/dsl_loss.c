/* Losses and what they are made of, as compositions: mean squared error is Mean(Mul(d, d)) with d = Sub(y, t). Their gradients
 * come from the rules of the operators, their speed from fusion. */
#include <math.h>

#include "frontend/dsl.h"

static LatheValue scaled(LatheValue x, double c) { return lathe_mul(x, lathe_scalar_like(x, c)); }
static LatheValue plus(LatheValue x, double c) { return lathe_add(x, lathe_scalar_like(x, c)); }
static LatheValue mean_all(LatheValue x) { return lathe_reduce(LATHE_REDUCE_MEAN, x, 0, NULL, false); }
static LatheValue sum_all(LatheValue x) { return lathe_reduce(LATHE_REDUCE_SUM, x, 0, NULL, false); }

/* Prediction and target must have one shape: broadcasting here is a mistake that trains all the same. */
static bool same_shape(LatheValue y, LatheValue t, const char *loss) {
    const Type *a = dsl_type(y), *b = dsl_type(t);
    if (a == NULL || b == NULL || type_same_dims(a, b)) return true;
    dsl_problem(y.model, SEV_ERROR, OP_NONE, NULL, "%s: the prediction is %s, the target %s; one shape is needed", loss, dsl_type_text(y), dsl_type_text(t));
    return false;
}

/* Sum over all dims but the first. */
static LatheValue sum_rows(LatheValue x) {
    int64_t axes[RANK_MAX];
    uint32_t n = 0, rank = lathe_rank(x);
    for (uint32_t i = 1; i < rank; i++) axes[n++] = i;
    return n != 0 ? lathe_reduce(LATHE_REDUCE_SUM, x, n, axes, false) : x;
}

/* ---- regression -------------------------------------------------------------------------------------------------- */
LatheValue lathe_mse(LatheValue y, LatheValue t) {
    if (!same_shape(y, t, "mean squared error")) return (LatheValue){0};
    return mean_all(lathe_square(lathe_sub(y, t)));
}

LatheValue lathe_mae(LatheValue y, LatheValue t) {
    if (!same_shape(y, t, "mean absolute error")) return (LatheValue){0};
    return mean_all(lathe_abs(lathe_sub(y, t)));
}

/* d²/2 up to |d| = delta, delta (|d| - delta/2) beyond: with a = min(|d|, delta), a (|d| - a/2). */
LatheValue lathe_huber(LatheValue y, LatheValue t, double delta) {
    if (!same_shape(y, t, "Huber loss")) return (LatheValue){0};
    LatheValue d = lathe_abs(lathe_sub(y, t)), a = lathe_min(d, lathe_scalar_like(d, delta));
    return mean_all(lathe_mul(a, lathe_sub(d, scaled(a, 0.5))));
}

static LatheValue masked_mean(LatheValue x, LatheValue mask) {
    LatheValue m = lathe_cast(mask, lathe_dtype(x)), full = lathe_add(m, scaled(x, 0)); /* the mask in x's shape */
    return lathe_div(sum_all(lathe_mul(x, m)), lathe_max(sum_all(full), lathe_scalar_like(x, 1)));
}

LatheValue lathe_masked_mse(LatheValue y, LatheValue t, LatheValue mask) {
    if (!same_shape(y, t, "masked squared error")) return (LatheValue){0};
    return masked_mean(lathe_square(lathe_sub(y, t)), mask);
}

LatheValue lathe_masked_mae(LatheValue y, LatheValue t, LatheValue mask) {
    if (!same_shape(y, t, "masked absolute error")) return (LatheValue){0};
    return masked_mean(lathe_abs(lathe_sub(y, t)), mask);
}

/* ---- classification ---------------------------------------------------------------------------------------------- */
/* max(x, 0) - x t + log(1 + exp(-|x|)), which overflows nowhere. */
LatheValue lathe_bce_logits(LatheValue x, LatheValue t) {
    if (!same_shape(x, t, "binary cross-entropy")) return (LatheValue){0};
    LatheValue rest = lathe_log1p(lathe_exp(lathe_neg(lathe_abs(x))));
    return mean_all(lathe_add(lathe_sub(lathe_relu(x), lathe_mul(x, t)), rest));
}

LatheValue lathe_bce(LatheValue p, LatheValue t) {
    if (!same_shape(p, t, "binary cross-entropy")) return (LatheValue){0};
    LatheValue q = lathe_clip(p, 1e-7, 1 - 1e-7), one = lathe_scalar_like(p, 1);
    LatheValue hit = lathe_mul(t, lathe_log(q)), miss = lathe_mul(lathe_sub(one, t), lathe_log(lathe_sub(one, q)));
    return lathe_neg(mean_all(lathe_add(hit, miss)));
}

LatheValue lathe_nll(LatheValue log_probabilities, LatheValue labels) {
    if (!dsl_check_rank(log_probabilities, OP_NegativeLogLikelihoodLoss, NULL, 2, RANK_MAX, "[N,C] or [N,C,…]")) return (LatheValue){0};
    return dsl_node(log_probabilities.model, &(DslNode){.op = OP_NegativeLogLikelihoodLoss, .n_in = 2, .in = (LatheValue[]){log_probabilities, labels}});
}

/* ---- distributions ----------------------------------------------------------------------------------------------- */
LatheValue lathe_gaussian_log_prob(LatheValue x, LatheValue mean, LatheValue log_deviation) {
    LatheValue z = lathe_mul(lathe_sub(x, mean), lathe_exp(lathe_neg(log_deviation)));
    return plus(lathe_sub(scaled(lathe_square(z), -0.5), log_deviation), -0.91893853320467274178);
}

LatheValue lathe_gaussian_nll(LatheValue x, LatheValue mean, LatheValue log_deviation) {
    return lathe_neg(mean_all(lathe_gaussian_log_prob(x, mean, log_deviation)));
}

/* -1/2 sum of 1 + 2 log s - m² - s² over the latent dims, mean over the batch (Kingma and Welling 2014). */
LatheValue lathe_kl_standard_normal(LatheValue mean, LatheValue log_deviation) {
    LatheValue twice = scaled(log_deviation, 2);
    LatheValue terms = lathe_sub(lathe_sub(plus(twice, 1), lathe_square(mean)), lathe_exp(twice));
    return scaled(mean_all(sum_rows(terms)), -0.5);
}

LatheValue lathe_elbo_loss(LatheValue log_prob, LatheValue mean, LatheValue log_deviation) {
    return lathe_sub(lathe_kl_standard_normal(mean, log_deviation), mean_all(sum_rows(log_prob)));
}

/* ---- style --------------------------------------------------------------------------------------------------------- */
LatheValue lathe_gram(LatheValue x) {
    if (!dsl_check_rank(x, OP_MatMul, NULL, 4, 4, "[N,C,H,W]")) return (LatheValue){0};
    int64_t c = lathe_size_of(x, 1), h = lathe_size_of(x, 2), w = lathe_size_of(x, 3);
    if (c < 0 || h < 0 || w < 0) {
        dsl_problem(x.model, SEV_ERROR, OP_NONE, NULL, "the Gram matrix needs fixed sizes, its input is %s", dsl_type_text(x));
        return (LatheValue){0};
    }
    LatheValue rows = lathe_reshape(x, 3, (int64_t[]){0, c, h * w});
    return scaled(lathe_matmul(rows, lathe_transpose(rows, (int64_t[]){0, 2, 1})), 1.0 / (double)(c * h * w));
}

/* ---- reinforcement learning ------------------------------------------------------------------------------------ */
LatheValue lathe_log_prob_of(LatheValue logits, LatheValue actions) {
    LatheValue log_p = lathe_log_softmax(logits, -1);
    return lathe_squeeze(lathe_gather_elements(log_p, lathe_unsqueeze(actions, -1), -1), -1);
}

LatheValue lathe_entropy(LatheValue logits) {
    LatheValue log_p = lathe_log_softmax(logits, -1);
    return lathe_neg(mean_all(lathe_sum(lathe_mul(lathe_exp(log_p), log_p), -1, false)));
}

LatheValue lathe_policy_gradient(LatheValue log_prob, LatheValue advantage) {
    if (!same_shape(log_prob, advantage, "policy gradient")) return (LatheValue){0};
    return lathe_neg(mean_all(lathe_mul(log_prob, lathe_detach(advantage))));
}

/* -mean min(r A, clip(r, 1 - e, 1 + e) A), r = exp(log p - log p_old) (Schulman et al. 2017). */
LatheValue lathe_ppo_clip(LatheValue log_prob, LatheValue old_log_prob, LatheValue advantage, double epsilon) {
    if (!same_shape(log_prob, old_log_prob, "PPO") || !same_shape(log_prob, advantage, "PPO")) return (LatheValue){0};
    LatheValue ratio = lathe_exp(lathe_sub(log_prob, old_log_prob));
    LatheValue limited = lathe_mul(lathe_clip(ratio, 1 - epsilon, 1 + epsilon), advantage);
    return lathe_neg(mean_all(lathe_min(lathe_mul(ratio, advantage), limited)));
}

/* mean max((v - t)², (v_old + clip(v - v_old, ±e) - t)²). */
LatheValue lathe_clipped_value_loss(LatheValue value, LatheValue old_value, LatheValue target, double epsilon) {
    if (!same_shape(value, target, "value loss") || !same_shape(value, old_value, "value loss")) return (LatheValue){0};
    LatheValue near = lathe_add(old_value, lathe_clip(lathe_sub(value, old_value), -epsilon, epsilon));
    return mean_all(lathe_max(lathe_square(lathe_sub(value, target)), lathe_square(lathe_sub(near, target))));
}

/* ---- random numbers ------------------------------------------------------------------------------------------------ */
static LatheValue random_like(LatheValue x, Op op, AttrSlot slot_a, double a, AttrSlot slot_b, double b) {
    DslNode spec = {.op = op, .n_in = 1, .in = &x};
    dsl_float(&spec, slot_a, a);
    dsl_float(&spec, slot_b, b);
    return dsl_node(x.model, &spec);
}

LatheValue lathe_randn_like(LatheValue x) { return random_like(x, OP_RandomNormalLike, AT_RandomNormalLike_mean, 0, AT_RandomNormalLike_scale, 1); }

LatheValue lathe_rand_like(LatheValue x, double low, double high) {
    return random_like(x, OP_RandomUniformLike, AT_RandomUniformLike_low, low, AT_RandomUniformLike_high, high);
}

LatheValue lathe_bernoulli(LatheValue p) { return dsl_unary(OP_Bernoulli, p); }

LatheValue lathe_categorical(LatheValue logits, int64_t samples) {
    if (!dsl_check_rank(logits, OP_Multinomial, NULL, 2, 2, "[N,C]")) return (LatheValue){0};
    DslNode spec = {.op = OP_Multinomial, .n_in = 1, .in = &logits};
    dsl_int(&spec, AT_Multinomial_sample_size, samples);
    dsl_int(&spec, AT_Multinomial_dtype, LATHE_I64);
    return dsl_node(logits.model, &spec);
}

/* The order of as many random numbers: ties are decided by position. */
LatheValue lathe_permutation_like(LatheValue x, int64_t axis) {
    LatheValue indices = {0};
    int64_t n = lathe_size_of(x, axis);
    if (n < 0) {
        if (!lathe_is_null(x)) dsl_problem(x.model, SEV_ERROR, OP_NONE, NULL, "a permutation needs a fixed size along its axis, x is %s", dsl_type_text(x));
        return indices;
    }
    LatheValue row = lathe_expand(lathe_scalar(x.model, LATHE_F32, 0), 1, &n);
    lathe_topk(lathe_rand_like(row, 0, 1), n, 0, &indices);
    return indices;
}
