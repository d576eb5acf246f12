/* Trains week 3's residual net on Fashion-MNIST with augmentation: each image is shifted by up to two pixels and mirrored at random. */
#include "resnet.h"

#include <string.h>
#define NET resnet
#define NET_CAPITALS RESNET
#include "classifier.h"

static void shift(float *pixel, const float *from, int side, int dx, int dy, bool mirror) {
    for (int y = 0; y < side; y++) {
        for (int x = 0; x < side; x++) {
            int sx = (mirror ? side - 1 - x : x) + dx, sy = y + dy;
            pixel[y * side + x] = sx >= 0 && sx < side && sy >= 0 && sy < side ? from[sy * side + sx] : 0;
        }
    }
}

static void augment(Host *h, float *pixel, const Images *shape, int n) {
    float copy[28 * 28];
    for (int i = 0; i < n; i++, pixel += 28 * 28) {
        memcpy(copy, pixel, sizeof copy);
        int dx = (int)(host_uniform(h) * 5) - 2, dy = (int)(host_uniform(h) * 5) - 2;
        shift(pixel, copy, shape->width, dx, dy, host_uniform(h) < 0.5);
    }
}

int main(int argc, char **argv) {
    Host h = host_start("resnet", argc, argv);
    Images train = host_fashion(&h, "train"), test = host_fashion(&h, "t10k");
    classifier_start(1);
    if (h.quick) test.n = 640;
    double best = classifier_train(&h, &train, &test, &(Classifier){.epochs = 2, .batch = 64, .steps = h.quick ? 60 : 0, .augment = augment});
    host_bar(&h, best >= 0.90, "test accuracy %.4f, at least 0.90 is expected", best);
    return host_end(&h);
}
