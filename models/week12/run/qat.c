/* Trains a Fashion-MNIST network that lathe quantize --qat has made, whose graph rounds weights and activations, STEPS batches of BATCH
 * images: what rounding costs is made up for. Writes qat.safetensors. Compiled with what lathe compile --train emits as qat.c. */
#include "qat.h"

#include <stdlib.h>

#include "host.h"

enum { BATCH = 64, PIXELS = 28 * 28 };

/* The images moved by up to a pixel, half of them mirrored: a network that knows its training images by heart learns nothing from them. */
static void augment(Host *h, float *pixel, int n) {
    static float moved[PIXELS];
    for (int i = 0; i < n; i++, pixel += PIXELS) {
        int dx = (int)(host_uniform(h) * 3) - 1, dy = (int)(host_uniform(h) * 3) - 1, mirror = host_uniform(h) < 0.5;
        for (int y = 0; y < 28; y++)
            for (int x = 0; x < 28; x++) {
                int from_x = (mirror ? 27 - x : x) + dx, from_y = y + dy;
                moved[y * 28 + x] = from_x < 0 || from_x > 27 || from_y < 0 || from_y > 27 ? 0 : pixel[from_y * 28 + from_x];
            }
        for (int k = 0; k < PIXELS; k++) pixel[k] = moved[k];
    }
}

static int to_file(void *user, const void *bytes, size_t n) { return fwrite(bytes, 1, n, user) == n ? 0 : 1; }

int main(int argc, char **argv) {
    static float pixel[BATCH * PIXELS];
    static int64_t label[BATCH];
    Host h = host_start("qat", argc, argv);
    Images train = host_fashion(&h, "train");
    int *order = host_memory((size_t)train.n * sizeof *order), each = train.n / BATCH;
    for (int i = 0; i < train.n; i++) order[i] = i;
    qat_ctx c;
    int code = qat_init(&c, host_memory(QAT_ARENA_BYTES), QAT_ARENA_BYTES, host_memory(QAT_STATE_BYTES), QAT_STATE_BYTES, NULL, 0, 1);
    double mean = 0;
    for (int s = 0; s < STEPS && code == QAT_OK; s++) {
        float loss = 0;
        if (s % each == 0) host_shuffle(&h, order, train.n);
        host_batch(&train, order + s % each * BATCH, BATCH, pixel, label);
        augment(&h, pixel, BATCH);
        code = qat_train_step(&c, &(qat_inputs){.image = pixel, .target = label, .N = BATCH}, &(qat_outputs){.loss = &loss});
        mean = s == 0 ? (double)loss : 0.98 * mean + 0.02 * (double)loss;
        host_point(&h, "loss", s, (double)loss);
        if (s % 20 == 19) host_progress(&h, s + 1, STEPS, "loss %.4f", mean);
    }
    host_require(code == QAT_OK, "%s", qat_error(code));
    FILE *f = fopen(host_path(&h, ".safetensors"), "wb");
    host_require(f != NULL && qat_save(&c, to_file, f) == QAT_OK, "%s cannot be written", host_path(&h, ".safetensors"));
    fclose(f);
    return host_end(&h);
}
