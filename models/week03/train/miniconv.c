/* Trains week 3's small convolutional net on Fashion-MNIST. */
#include "miniconv.h"
#define NET miniconv
#define NET_CAPITALS MINICONV
#include "classifier.h"

int main(int argc, char **argv) {
    Host h = host_start("miniconv", argc, argv);
    Images train = host_fashion(&h, "train"), test = host_fashion(&h, "t10k");
    classifier_start(1);
    double best = classifier_train(&h, &train, &test, &(Classifier){.epochs = 8, .batch = 50, .steps = h.quick ? 400 : 0});
    host_bar(&h, best >= 0.90, "test accuracy %.4f, at least 0.90 is expected", best);
    return host_end(&h);
}
