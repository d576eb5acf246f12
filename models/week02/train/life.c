/* Two hundred generations of a random board, each compared with counting neighbours by hand. */
#include "life.h"

#include <string.h>

#include "host.h"

enum { SIDE = 100 };

static int alive(const float *cells, int y, int x) { return y >= 0 && y < SIDE && x >= 0 && x < SIDE && cells[y * SIDE + x] == 1.0f; }

static float next_cell(const float *cells, int y, int x) {
    int n = -alive(cells, y, x);
    for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++) n += alive(cells, y + dy, x + dx);
    return n == 3 || (n == 2 && alive(cells, y, x)) ? 1.0f : 0.0f;
}

int main(int argc, char **argv) {
    Host h = host_start("life", argc, argv);
    static float cells[SIDE * SIDE], next[SIDE * SIDE], frame[4 * SIDE * SIDE];
    int wrong = 0, generations = 200;
    for (int i = 0; i < SIDE * SIDE; i++) cells[i] = host_uniform(&h) < 0.3 ? 1.0f : 0.0f;
    for (int g = 0; g < generations; g++) {
        if (g % (generations / 4) == 0) memcpy(frame + g / (generations / 4) * SIDE * SIDE, cells, sizeof cells);
        int code = life(cells, next), living = 0;
        host_require(code == LIFE_OK, "%s", life_error(code));
        for (int i = 0; i < SIDE * SIDE; i++) wrong += next[i] != next_cell(cells, i / SIDE, i % SIDE), living += next[i] == 1.0f;
        host_point(&h, "living cells", g, living);
        memcpy(cells, next, sizeof cells);
    }
    host_png(&h, ".png", frame, 4, SIDE, SIDE, 1);
    host_bar(&h, wrong == 0, "%d cells in %d generations differ from counting by hand", wrong, generations);
    return host_end(&h);
}
