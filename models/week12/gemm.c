/* Week 12: one matrix product, 4096 x 4096, to see what 8 and 4 bits are worth for batches of 1 to 512.
 *
 *     x [N,4096] -> dense, no bias -> y [N,4096]
 */
#include "../blocks/blocks.h"
#include "../blocks/program.h"

enum { SIZE = 4096 };

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("gemm");
    LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){lathe_dim(m, "N", 1, 512), lathe_const_dim(SIZE)});
    LatheValue w = lathe_param(m, "weight", LATHE_F32, 2, (int64_t[]){SIZE, SIZE}, lathe_normal(0, 0.02));
    lathe_output("y", lathe_matmul(x, w));
    return model_program(m, argc, argv);
}
