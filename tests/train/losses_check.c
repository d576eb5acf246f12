/* Loss and gradient of every loss of losses.c against torch's. A step of plain descent at rate 1 takes the gradient off the
 * parameter. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "losses.h"
#include "wanted.h"

static unsigned char arena[LOSSES_ARENA_BYTES + 1] __attribute__((aligned(64))), state[LOSSES_STATE_BYTES] __attribute__((aligned(64)));
static losses_ctx c;

static const float *parameter(void) {
    for (int i = 0; i < LOSSES_TENSORS; i++)
        if (strcmp(losses_tensors[i].name, "x") == 0) return (const float *)(state + losses_tensors[i].offset);
    return NULL;
}

int main(void) {
    float loss[16];
    int failed = 0;
    losses_outputs out = {.cross_entropy_loss = loss, .ignore_loss = loss + 1, .nll_loss = loss + 2, .bce_logits_loss = loss + 3, .bce_loss = loss + 4, .mse_loss = loss + 5,
                          .mae_loss = loss + 6, .huber_loss = loss + 7, .masked_mse_loss = loss + 8, .masked_mae_loss = loss + 9, .gaussian_loss = loss + 10, .elbo_loss = loss + 11,
                          .policy_loss = loss + 12, .ppo_loss = loss + 13, .value_loss = loss + 14, .gram_loss = loss + 15};
    typedef int Step(losses_ctx *, const losses_inputs *, const losses_outputs *);
    Step *const step[16] = {losses_cross_entropy_train_step, losses_ignore_train_step, losses_nll_train_step, losses_bce_logits_train_step, losses_bce_train_step,
                            losses_mse_train_step, losses_mae_train_step, losses_huber_train_step, losses_masked_mse_train_step, losses_masked_mae_train_step,
                            losses_gaussian_train_step, losses_elbo_train_step, losses_policy_train_step, losses_ppo_train_step, losses_value_train_step, losses_gram_train_step};
    for (int k = 0; k < 16; k++) {
        float before[24];
        int code = losses_init(&c, arena, sizeof arena, state, sizeof state, NULL, 0, 1);
        const float *x = parameter();
        memcpy(before, x, sizeof before);
        if (code == LOSSES_OK) code = step[k](&c, &(losses_inputs){0}, &out);
        double error = fabs((double)loss[k] - wanted[k].loss) / fabs(wanted[k].loss), most = 0;
        for (int i = 0; i < 24; i++) most = fmax(most, fabs(wanted[k].gradient[i]));
        for (int i = 0; i < 24; i++) error = fmax(error, fabs((double)before[i] - (double)x[i] - wanted[k].gradient[i]) / most);
        if (code == LOSSES_OK && error < 5e-6) continue;
        printf("%s: loss %.7g, torch %.7g; error %.2g; %s\n", wanted[k].name, (double)loss[k], wanted[k].loss, error, losses_error(code));
        failed++;
    }
    printf("%d of 16 losses differ from torch's\n", failed);
    return failed != 0;
}
