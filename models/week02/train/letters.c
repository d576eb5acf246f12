/* Trains week 2's network on Fashion-MNIST, ten classes of clothes in place of the notebook's ten letters; its bars are 80 and 90 %. */
#include "letters.h"
#define NET letters
#define NET_CAPITALS LETTERS
#include "classifier.h"

int main(int argc, char **argv) {
    Host h = host_start("letters", argc, argv);
    Images train = host_fashion(&h, "train"), test = host_fashion(&h, "t10k");
    classifier_start(1);
    double best = classifier_train(&h, &train, &test, &(Classifier){.epochs = 5, .batch = 100, .steps = h.quick ? 600 : 0});
    host_bar(&h, best >= 0.80, "test accuracy %.4f, at least 0.80 is expected", best);
    return host_end(&h);
}
