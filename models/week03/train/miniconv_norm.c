/* Trains week 3's net with batch normalisation on Fashion-MNIST. */
#include "miniconv_norm.h"
#define NET miniconv_norm
#define NET_CAPITALS MINICONV_NORM
#include "classifier.h"

int main(int argc, char **argv) {
    Host h = host_start("miniconv_norm", argc, argv);
    Images train = host_fashion(&h, "train"), test = host_fashion(&h, "t10k");
    classifier_start(1);
    double best = classifier_train(&h, &train, &test, &(Classifier){.epochs = 3, .batch = 50, .steps = h.quick ? 400 : 0});
    host_bar(&h, best >= 0.89, "test accuracy %.4f, at least 0.89 is expected", best);
    return host_end(&h);
}
