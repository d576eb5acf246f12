/* Trains week 1's perceptron on Fashion-MNIST; the lecture's goes to 97 % on handwritten digits, these images are harder. */
#include "mlp.h"
#define NET mlp
#define NET_CAPITALS MLP
#include "classifier.h"

int main(int argc, char **argv) {
    Host h = host_start("mlp", argc, argv);
    Images train = host_fashion(&h, "train"), test = host_fashion(&h, "t10k");
    classifier_start(1);
    double best = classifier_train(&h, &train, &test, &(Classifier){.epochs = h.quick ? 2 : 8, .batch = 32});
    host_bar(&h, best >= 0.86, "test accuracy %.4f, at least 0.86 is expected", best);
    return host_end(&h);
}
