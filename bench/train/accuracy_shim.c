/* One interface to the emitted code of any of the nets of bench/accuracy.py, for ctypes. NET: its name, CAPITALS: the same in capitals;
 * its header is included on the command line. LABELS: a classifier with inputs image, label and outputs logits, loss; without: an autoencoder with image and loss. */
#include <stdint.h>
#include <stdlib.h>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define N_(name) JOIN(NET, name)
#define C_(name) JOIN(CAPITALS, name)

static N_(_ctx) ctx;
static float *unused; /* room for outputs that nobody asked for */

int net_open(uint64_t seed, int64_t room) {
    unused = malloc((size_t)room * sizeof *unused);
    return N_(_init)(&ctx, aligned_alloc(64, (C_(_ARENA_BYTES) + 63) / 64 * 64), C_(_ARENA_BYTES), aligned_alloc(64, (C_(_STATE_BYTES) + 63) / 64 * 64), C_(_STATE_BYTES), NULL, 0, seed);
}

#ifdef LABELS
int net_step(const float *image, const int64_t *label, int64_t n, float *loss) {
    return N_(_train_step)(&ctx, &(N_(_inputs)){.image = image, .label = label, .N = n}, &(N_(_outputs)){.loss = loss});
}

int net_test(const float *image, const int64_t *label, int64_t n, float *logits) {
    (void)label;
    return N_(_predict)(&ctx, &(N_(_inputs)){.image = image, .N = n}, &(N_(_outputs)){.logits = logits});
}
#else
static int call(int (*f)(N_(_ctx) *, const N_(_inputs) *, const N_(_outputs) *), const float *image, int64_t n, float *loss) {
    return f(&ctx, &(N_(_inputs)){.image = image, .N = n}, &(N_(_outputs)){.reconstruction = unused, .sample = unused, .loss = loss});
}

int net_step(const float *image, const int64_t *label, int64_t n, float *loss) { return (void)label, call(N_(_train_step), image, n, loss); }
int net_test(const float *image, const int64_t *label, int64_t n, float *loss) { return (void)label, call(N_(_evaluate), image, n, loss); }
#endif
