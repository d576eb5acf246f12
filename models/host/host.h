/* What training programs need around the emitted code: arguments, data, a progress bar, curves as SVG, pictures as PNG.
 *
 *     int main(int argc, char **argv) {
 *         Host h = host_start("mlp", argc, argv);
 *         Images train = host_images(&h, "train"), test = host_images(&h, "t10k");
 *         for (int step = 0; step < steps; step++) {
 *             ...
 *             host_progress(&h, step + 1, steps, "loss %.3f", loss);
 *             host_point(&h, "loss", step, loss);
 *         }
 *         return host_end(&h);
 *     }
 *
 * Programs stop with a message when something is wrong: host_require. */
#ifndef LATHE_MODELS_HOST_H
#define LATHE_MODELS_HOST_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { HOST_CURVES = 8, HOST_POINTS = 512 };
typedef struct Curve { const char *name; int n, stride, skip; double x[HOST_POINTS], y[HOST_POINTS], sum; } Curve;
typedef struct Host {
    const char *name, *out, *data;
    bool quick;             /* --quick: enough to see that everything works */
    uint64_t random;
    Curve curve[HOST_CURVES];
    int n_curve;
    double started;
    bool bar;
    int failed;
} Host;

/* --quick, --out DIR (default .), --data DIR (default: where Debian's dataset packages put files). */
Host host_start(const char *name, int argc, char **argv);
int host_end(Host *h); /* writes NAME.svg with the curves; the exit code for main */
void host_require(bool good, const char *format, ...);
/* A bar of the program: prints whether it was reached, and makes host_end return 1 when not (not with --quick). */
void host_bar(Host *h, bool reached, const char *format, ...);
void host_progress(Host *h, int done, int all, const char *format, ...);
void host_point(Host *h, const char *curve, double x, double y);
const char *host_path(const Host *h, const char *suffix); /* OUT/NAMEsuffix; valid until the next call */
double host_seconds(void);
void *host_memory(size_t bytes); /* aligned for emitted code, zeroed; kept to the end */

/* Random numbers of the host: shuffling, augmentation. */
double host_uniform(Host *h); /* [0, 1) */
double host_normal(Host *h);
void host_shuffle(Host *h, int *order, int n);

/* Grey images with labels: pixels 0..1, row-major. */
typedef struct Images { int n, width, height, channels, classes; float *pixel; int64_t *label; } Images;
Images host_fashion(const Host *h, const char *part); /* "train" (60,000) or "t10k" (10,000) of Fashion-MNIST, 28x28 */
/* A batch by index list. */
void host_batch(const Images *images, const int *index, int n, float *pixel, int64_t *label);
/* Fraction of rows of scores [n, classes] whose largest is the label. */
int host_correct(const float *scores, const int64_t *label, int n, int classes);

/* n images of width x height in a grid, to OUT/NAMEsuffix. channels 1 or 3 (planes); values 0..1. */
void host_png(const Host *h, const char *suffix, const float *pixel, int n, int width, int height, int channels);

#endif
