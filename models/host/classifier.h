/* The loop that trains a classifier, for any emitted model with inputs image and label and outputs logits and loss:
 *
 *     #include "mlp.h"
 *     #define NET mlp
 *     #define NET_CAPITALS MLP
 *     #include "classifier.h"
 *
 *     double best = classifier_train(&h, &train, &test, &(Classifier){.epochs = 8, .batch = 32});
 *
 * Every epoch goes through the training images in a new order; then the test images are classified by NAME_predict. */
#ifndef LATHE_MODELS_CLASSIFIER_H
#define LATHE_MODELS_CLASSIFIER_H
#include <stdlib.h>

#include "host.h"

#define NET_JOIN2(a, b) a##b
#define NET_JOIN(a, b) NET_JOIN2(a, b)
#define NET_(name) NET_JOIN(NET, name)
#define NET_SIZE(name) NET_JOIN(NET_CAPITALS, name)

typedef struct Classifier {
    int epochs, batch;
    int steps;                                                 /* at most, all epochs together; 0: no limit */
    void (*augment)(Host *h, float *pixel, const Images *shape, int n); /* changes a batch; NULL: nothing */
} Classifier;

static NET_(_ctx) classifier_ctx;

static void classifier_start(uint64_t seed) {
    int code = NET_(_init)(&classifier_ctx, host_memory(NET_SIZE(_ARENA_BYTES)), NET_SIZE(_ARENA_BYTES), host_memory(NET_SIZE(_STATE_BYTES)), NET_SIZE(_STATE_BYTES), NULL, 0, seed);
    host_require(code == 0, "%s", NET_(_error)(code));
}

static double classifier_accuracy(const Images *images, int batch) {
    size_t each = (size_t)images->width * (size_t)images->height * (size_t)images->channels;
    float *logits = host_memory((size_t)batch * (size_t)images->classes * sizeof *logits);
    int right = 0, seen = 0;
    for (; seen + batch <= images->n; seen += batch) {
        const NET_(_inputs) in = {.image = images->pixel + (size_t)seen * each, .N = batch};
        int code = NET_(_predict)(&classifier_ctx, &in, &(NET_(_outputs)){.logits = logits});
        host_require(code == 0, "%s", NET_(_error)(code));
        right += host_correct(logits, images->label + seen, batch, images->classes);
    }
    free(logits);
    return (double)right / seen;
}

static float classifier_step(Host *h, const Images *train, const int *index, const Classifier *o, float *pixel, int64_t *label) {
    float loss = 0;
    host_batch(train, index, o->batch, pixel, label);
    if (o->augment != NULL) o->augment(h, pixel, train, o->batch);
    int code = NET_(_train_step)(&classifier_ctx, &(NET_(_inputs)){.image = pixel, .label = label, .N = o->batch}, &(NET_(_outputs)){.loss = &loss});
    host_require(code == 0, "%s", NET_(_error)(code));
    return loss;
}

/* The accuracy on the test images after the last epoch. */
static double classifier_train(Host *h, const Images *train, const Images *test, const Classifier *o) {
    size_t each = (size_t)train->width * (size_t)train->height * (size_t)train->channels;
    float *pixel = host_memory((size_t)o->batch * each * sizeof *pixel);
    int64_t *label = host_memory((size_t)o->batch * sizeof *label);
    int *order = host_memory((size_t)train->n * sizeof *order), steps = train->n / o->batch, done = 0, all = o->epochs * steps;
    double accuracy = 0, mean = 0;
    if (o->steps != 0 && all > o->steps) all = o->steps;
    for (int i = 0; i < train->n; i++) order[i] = i;
    for (int epoch = 0; done < all; epoch++) {
        host_shuffle(h, order, train->n);
        for (int s = 0; s < steps && done < all; s++) {
            float loss = classifier_step(h, train, order + s * o->batch, o, pixel, label);
            mean = done == 0 ? (double)loss : 0.98 * mean + 0.02 * (double)loss;
            host_point(h, "loss", ++done / (double)steps, (double)loss);
            if (done % 20 == 0 || done == all) host_progress(h, done, all, "epoch %d  loss %.3f", epoch + 1, mean);
        }
        accuracy = classifier_accuracy(test, o->batch);
        host_point(h, "test accuracy", done / (double)steps, accuracy);
        printf("epoch %d: test accuracy %.4f\n", epoch + 1, accuracy);
    }
    free(pixel);
    free(label);
    free(order);
    return accuracy;
}

#endif
