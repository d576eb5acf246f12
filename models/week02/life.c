/* Week 2: Conway's Game of Life as a convolution. Nothing to train: a network computes any function of neighbours.
 *
 *     cells [1,1,H,W] (0 or 1) -> 3x3 sum of neighbours n -> 1 where n == 3, or n == 2 and the cell is alive
 */
#include "../blocks/program.h"

int main(int argc, char **argv) {
    LatheModel *m = lathe_model_new("life");
    LatheDim one = lathe_const_dim(1), side = lathe_const_dim(100);
    LatheValue cells = lathe_input(m, "cells", LATHE_F32, 4, (LatheDim[]){one, one, side, side});
    const float ring[9] = {1, 1, 1, 1, 0, 1, 1, 1, 1};
    LatheValue n = lathe_conv2d(cells, 1, 3, "neighbours", &(LatheConv){.pad = 1, .no_bias = true});
    lathe_load_array(m, "neighbours/weight", ring, sizeof ring);
    LatheValue born = lathe_equal(n, lathe_scalar(m, LATHE_F32, 3));
    LatheValue stays = lathe_and(lathe_equal(n, lathe_scalar(m, LATHE_F32, 2)), lathe_equal(cells, lathe_scalar(m, LATHE_F32, 1)));
    lathe_output("next", lathe_cast(lathe_or(born, stays), LATHE_F32));
    return model_program(m, argc, argv);
}
