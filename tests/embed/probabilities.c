/* Prints what the emitted classifier says about images, one line of ten numbers each: the same program on every machine. */
#include <stdio.h>

#include "fashion.h"

int main(int argc, char **argv) {
    static float pixels[784], probability[10];
    for (int i = 1; i < argc; i++) {
        unsigned char bytes[784];
        FILE *f = fopen(argv[i], "rb");
        if (f == NULL || fseek(f, -784, SEEK_END) != 0 || fread(bytes, 1, 784, f) != 784) return 3;
        fclose(f);
        for (int k = 0; k < 784; k++) pixels[k] = (float)bytes[k] / 255.0f;
        int code = fashion(pixels, 1, probability);
        if (code != FASHION_OK) return fprintf(stderr, "%s\n", fashion_error(code)), 1;
        for (int c = 0; c < 10; c++) printf("%.6f ", (double)probability[c]);
        printf("\n");
    }
    return 0;
}
