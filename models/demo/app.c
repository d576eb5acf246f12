/* Example application: classifies images of clothes with the C file that lathe made from fashion.onnx.
 *
 *     lathe compile fashion.onnx -o fashion.c
 *     clang -O3 -march=native -fopenmp app.c fashion.c -lm -o classify
 *     ./classify images/8-bag.pgm …
 *
 * Images are binary PGM files of 28x28 pixels. Everything the network needs is the call to fashion(). */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fashion.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, CLASSES = 10, MANY = 64, ACROSS = 3 };

static const char *const class_names[CLASSES] = {"t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"};

/* Pixels of a PGM file as floats, 0 black to 1 white; 0 on success. */
static int read_pgm(const char *path, float *pixels) {
    int width = 0, height = 0, most = 0;
    unsigned char bytes[PIXELS];
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    int fields = fscanf(f, "P5 %d %d %d", &width, &height, &most);
    int space = fgetc(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    if (fields != 3 || space == EOF || width != SIDE || height != SIDE || most != 255 || n != sizeof bytes) {
        fprintf(stderr, "%s: not a binary PGM file of %dx%d pixels with values up to 255\n", path, SIDE, SIDE);
        return 1;
    }
    for (int i = 0; i < PIXELS; i++) pixels[i] = (float)bytes[i] / 255.0f;
    return 0;
}

static int best_class(const float *probability) {
    int best = 0;
    for (int c = 1; c < CLASSES; c++)
        if (probability[c] > probability[best]) best = c;
    return best;
}

/* Two rows of pixels to a line of text, without the outermost columns: three pictures fit into 80 columns. */
static void print_line(const float *pixels, int row) {
    static const char ramp[] = " .:-=+*#%@";
    for (int x = 1; x < SIDE - 1; x++) {
        float light = (pixels[row * SIDE + x] + pixels[(row + 1) * SIDE + x]) / 2;
        putchar(ramp[(int)(light * 9.0f + 0.5f)]);
    }
}

/* Sample images are called NUMBER-CLASS.pgm: what this one is taken for can be judged then. */
static int is_wrong(const char *path, const char *found) {
    const char *slash = strrchr(path, '/'), *dash = strchr(slash != NULL ? slash : path, '-');
    size_t n = strlen(found);
    return dash != NULL && (strncmp(dash + 1, found, n) != 0 || dash[1 + n] != '.');
}

static void print_caption(const char *path, const float *probability) {
    char text[64];
    int best = best_class(probability);
    snprintf(text, sizeof text, "%s %.1f%%%s", class_names[best], 100.0 * (double)probability[best], is_wrong(path, class_names[best]) ? " (wrong)" : "");
    printf("%-26s", text);
}

/* Pictures first..last side by side, with what they were taken for below. */
static void print_row(char *const *paths, const float *images, const float *probabilities, int first, int last) {
    for (int row = 0; row < SIDE; row += 2) {
        for (int i = first; i < last; i++) {
            print_line(images + i * PIXELS, row);
            fputs(i + 1 < last ? " " : "\n", stdout);
        }
    }
    for (int i = first; i < last; i++) {
        print_caption(paths[i], probabilities + i * CLASSES);
        fputs(i + 1 < last ? " " : "\n\n", stdout);
    }
}

static double milliseconds(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

int main(int argc, char **argv) {
    static float images[MANY * PIXELS], probabilities[MANY * CLASSES];
    int n = argc - 1;
    if (n < 1 || n > MANY) {
        fprintf(stderr, "usage: %s IMAGE.pgm … (up to %d)\n", argv[0], MANY);
        return 2;
    }
    for (int i = 0; i < n; i++)
        if (read_pgm(argv[1 + i], images + i * PIXELS) != 0) return 3;
    double best = 1e9;
    for (int run = 0; run < 20; run++) {
        double start = milliseconds();
        int code = fashion(images, n, probabilities);
        if (code != FASHION_OK) {
            fprintf(stderr, "%s\n", fashion_error(code));
            return 1;
        }
        if (milliseconds() - start < best) best = milliseconds() - start;
    }
    for (int i = 0; i < n; i += ACROSS) print_row(argv + 1, images, probabilities, i, i + ACROSS < n ? i + ACROSS : n);
    printf("%d images in %.2f ms, the best of 20 runs\n", n, best);
    return 0;
}
