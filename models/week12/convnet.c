/* Week 12: a Fashion-MNIST ConvNet in floats, 8 and 4 bits. This program writes the data for that: training images to calibrate with
 * and all test images with their labels, as .npy files with pixels from 0 to 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = 28 * 28, CALIBRATE = 1000, TEST = 10000 };

static void npy_header(FILE *f, const char *type, const char *shape) {
    char text[128];
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", type, shape);
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, f);
    fprintf(f, "%s%*s\n", text, 117 - n, "");
}

/* The bytes of an idx file behind its header of `skip` bytes; exits when there are too few. */
static unsigned char *read_idx(const char *folder, const char *name, size_t skip, size_t n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/../data/fashion-mnist/%s", folder, name);
    unsigned char *bytes = malloc(n);
    FILE *f = fopen(path, "rb");
    if (bytes == NULL || f == NULL || fseek(f, (long)skip, SEEK_SET) != 0 || fread(bytes, 1, n, f) != n) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(3);
    }
    fclose(f);
    return bytes;
}

static FILE *create(const char *folder, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL) {
        fprintf(stderr, "%s: cannot be written\n", path);
        exit(3);
    }
    return f;
}

static void write_images(const char *folder, const char *name, const char *from, int n) {
    unsigned char *bytes = read_idx(folder, from, 16, (size_t)n * PIXELS);
    FILE *f = create(folder, name);
    char shape[64];
    snprintf(shape, sizeof shape, "%d, 1, 28, 28", n);
    npy_header(f, "<f4", shape);
    for (int i = 0; i < n * PIXELS; i++) {
        float x = (float)bytes[i] / 255;
        fwrite(&x, sizeof x, 1, f);
    }
    fclose(f);
    free(bytes);
}

static void write_labels(const char *folder, const char *name, const char *from, int n) {
    unsigned char *bytes = read_idx(folder, from, 8, (size_t)n);
    FILE *f = create(folder, name);
    char shape[64];
    snprintf(shape, sizeof shape, "%d,", n);
    npy_header(f, "|u1", shape);
    fwrite(bytes, 1, (size_t)n, f);
    fclose(f);
    free(bytes);
}

int main(int argc, char **argv) {
    const char *folder = argc == 3 && strcmp(argv[1], "--out") == 0 ? argv[2] : ".";
    write_images(folder, "fashion_calibrate.npy", "train-images-idx3-ubyte", CALIBRATE);
    write_images(folder, "fashion_test.npy", "t10k-images-idx3-ubyte", TEST);
    write_labels(folder, "fashion_labels.npy", "t10k-labels-idx1-ubyte", TEST);
    return 0;
}
