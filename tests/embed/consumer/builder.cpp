// A C++ program that builds a model with lathe.h, compiles it, and calls another one that was compiled before it.
#include <cstdio>
#include <vector>

#include "fashion.h"
#include "lathe.h"

static bool build_a_model() {
    LatheModel *m = lathe_model_new("perceptron");
    const LatheDim dims[] = {lathe_dim(m, "N", 1, 8), lathe_const_dim(16)};
    LatheValue x = lathe_input(m, "x", LATHE_F32, 2, dims);
    LatheDense options = {};
    options.weight = lathe_kaiming_normal(0);
    lathe_output("y", lathe_softmax(lathe_dense(lathe_relu(lathe_dense_with(x, 8, "hidden", &options)), 4, "out"), -1));
    LatheOptions how = lathe_options();
    how.output = "perceptron.c";
    bool good = lathe_compile(m, &how) == LATHE_OK && lathe_stats(m).weight_bytes > 0;
    lathe_print_diagnostics(m, stderr);
    lathe_model_free(m);
    return good;
}

int main() {
    std::vector<float> image(784, 0.5f), probability(10);
    if (fashion(image.data(), 1, probability.data()) != FASHION_OK) return 1;
    float sum = 0;
    for (float p : probability) sum += p;
    if (!(sum > 0.999f && sum < 1.001f)) return std::printf("probabilities add up to %g\n", static_cast<double>(sum)), 1;
    return build_a_model() ? 0 : 1;
}
