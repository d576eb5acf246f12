/* Every loss of the DSL as a part of its own over one parameter x [4,6]: losses FILE.c writes the model; losses_check.c compares
 * losses and gradients with torch's (losses.py made wanted.h). */
#include "lathe.h"

enum { ROWS = 4, COLS = 6 };

/* Made-up numbers in [-1, 1): also in losses.py. */
static float number(int i, int salt) { return (float)((i * 7919 + salt * 104729) % 1009) / 504.5f - 1.0f; }

static LatheValue matrix(LatheModel *m, int salt, bool positive) {
    float v[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++) v[i] = positive ? number(i, salt) * 0.45f + 0.5f : number(i, salt);
    return lathe_const(m, LATHE_F32, 2, (int64_t[]){ROWS, COLS}, v);
}

static LatheValue vector(LatheModel *m, int salt) {
    float v[ROWS];
    for (int i = 0; i < ROWS; i++) v[i] = number(i, salt);
    return lathe_const(m, LATHE_F32, 1, (int64_t[]){ROWS}, v);
}

static void part(LatheModel *m, const char *name, LatheValue loss) {
    lathe_train(m, loss, &(LatheOptimizer){.kind = LATHE_SGD, .lr = 1, .name = name});
}

static void build(LatheModel *m) {
    const int64_t ids[ROWS] = {2, 0, 5, 1}, masked[ROWS] = {2, -1, 5, -1};
    const uint8_t mask_bytes[ROWS * COLS] = {1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0};
    float first[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++) first[i] = number(i, 0);
    LatheValue x = lathe_param(m, "x", LATHE_F32, 2, (int64_t[]){ROWS, COLS}, lathe_zeros());
    lathe_load_array(m, "x", first, sizeof first);
    LatheValue t = matrix(m, 1, false), p = matrix(m, 2, true), s = matrix(m, 3, false), a = vector(m, 4), old = vector(m, 5);
    LatheValue labels = lathe_const(m, LATHE_I64, 1, (int64_t[]){ROWS}, ids), some = lathe_const(m, LATHE_I64, 1, (int64_t[]){ROWS}, masked);
    LatheValue mask = lathe_const(m, LATHE_BOOL, 2, (int64_t[]){ROWS, COLS}, mask_bytes);
    LatheValue log_p = lathe_log_prob_of(x, labels), row = lathe_mean(x, 1, false);
    part(m, "cross_entropy", lathe_cross_entropy(x, labels));
    part(m, "ignore", lathe_cross_entropy_ignore(x, some, -1));
    part(m, "nll", lathe_nll(lathe_log_softmax(x, 1), labels));
    part(m, "bce_logits", lathe_bce_logits(x, p));
    part(m, "bce", lathe_bce(lathe_sigmoid(x), p));
    part(m, "mse", lathe_mse(x, t));
    part(m, "mae", lathe_mae(x, t));
    part(m, "huber", lathe_huber(x, t, 0.4));
    part(m, "masked_mse", lathe_masked_mse(x, t, mask));
    part(m, "masked_mae", lathe_masked_mae(x, t, mask));
    part(m, "gaussian", lathe_gaussian_nll(t, x, lathe_mul(x, s)));
    part(m, "elbo", lathe_elbo_loss(lathe_gaussian_log_prob(t, x, s), x, lathe_mul(x, s)));
    part(m, "policy", lathe_sub(lathe_policy_gradient(log_p, lathe_mul(row, a)), lathe_mul(lathe_entropy(x), lathe_scalar(m, LATHE_F32, 0.01))));
    part(m, "ppo", lathe_ppo_clip(log_p, lathe_sub(old, lathe_scalar(m, LATHE_F32, 1.7)), a, 0.2));
    part(m, "value", lathe_clipped_value_loss(row, old, a, 0.2));
    LatheValue gram = lathe_gram(lathe_reshape(x, 4, (int64_t[]){2, 3, 2, 2})), style = lathe_gram(lathe_reshape(t, 4, (int64_t[]){2, 3, 2, 2}));
    part(m, "gram", lathe_mul(lathe_mse(gram, style), lathe_scalar(m, LATHE_F32, 100)));
}

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("losses");
    LatheOptions options = lathe_options();
    if (argc != 2) return 2;
    build(m);
    options.output = argv[1];
    options.name = "losses";
    options.verify_ir = true;
    LatheStatus status = lathe_compile(m, &options);
    lathe_print_diagnostics(m, stderr);
    lathe_model_free(m);
    return (int)status;
}
