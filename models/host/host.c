#include "host.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double host_seconds(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void host_require(bool good, const char *format, ...) {
    va_list args;
    if (good) return;
    va_start(args, format);
    fputs("\nerror: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

Host host_start(const char *name, int argc, char **argv) {
    Host h = {.name = name, .out = ".", .data = "/usr/share/datasets", .random = 1, .started = host_seconds(), .bar = isatty(2) != 0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) h.quick = true;
        else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc) h.out = argv[++i];
        else if (strcmp(argv[i], "--data") == 0 && i + 1 < argc) h.data = argv[++i];
        else host_require(false, "usage: %s [--quick] [--out DIR] [--data DIR]", argv[0]);
    }
    return h;
}

const char *host_path(const Host *h, const char *suffix) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s%s", h->out, h->name, suffix);
    return path;
}

void *host_memory(size_t bytes) {
    void *p = NULL;
    host_require(posix_memalign(&p, 64, bytes != 0 ? bytes : 64) == 0, "out of memory: %zu bytes", bytes);
    memset(p, 0, bytes != 0 ? bytes : 64);
    return p;
}

/* ---- what is seen ------------------------------------------------------------------------------------------------ */
void host_progress(Host *h, int done, int all, const char *format, ...) {
    enum { WIDTH = 30 };
    char text[256], bar[WIDTH + 1];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!h->bar) { /* not a terminal: a line at every tenth */
        if (done * 10 / all != (done - 1) * 10 / all) fprintf(stderr, "%3d%%  %s  %.1f s\n", done * 100 / all, text, host_seconds() - h->started);
        return;
    }
    int full = done * WIDTH / all;
    for (int i = 0; i < WIDTH; i++) bar[i] = i < full ? '#' : '.';
    bar[WIDTH] = 0;
    fprintf(stderr, "\r[%s] %3d%%  %s  %.1f s \x1b[K", bar, done * 100 / all, text, host_seconds() - h->started);
    if (done == all) fputc('\n', stderr);
}

void host_bar(Host *h, bool reached, const char *format, ...) {
    va_list args;
    printf("%s  ", reached ? "ok    " : h->quick ? "(quick)" : "MISSED");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    if (!reached && !h->quick) h->failed = 1;
}

/* Curves keep at most HOST_POINTS points: when full, neighbours are averaged in pairs and later ones in groups twice as long. */
void host_point(Host *h, const char *name, double x, double y) {
    Curve *c = NULL;
    for (int i = 0; i < h->n_curve && c == NULL; i++)
        if (strcmp(h->curve[i].name, name) == 0) c = &h->curve[i];
    if (c == NULL) {
        host_require(h->n_curve < HOST_CURVES, "more than %d curves", HOST_CURVES);
        c = &h->curve[h->n_curve++];
        c->name = name;
        c->stride = 1;
    }
    c->sum += y;
    if (++c->skip < c->stride) return;
    c->x[c->n] = x;
    c->y[c->n++] = c->sum / c->stride;
    c->sum = c->skip = 0;
    if (c->n < HOST_POINTS) return;
    for (int i = 0; i < HOST_POINTS / 2; i++) {
        c->x[i] = c->x[2 * i + 1];
        c->y[i] = (c->y[2 * i] + c->y[2 * i + 1]) / 2;
    }
    c->n = HOST_POINTS / 2;
    c->stride *= 2;
}

static void write_svg(const Host *h) {
    static const char *const color[HOST_CURVES] = {"#2060c0", "#c04020", "#208040", "#8040a0", "#a08000", "#008080", "#606060", "#c02080"};
    enum { W = 720, H = 360, L = 60, T = 20, B = 40 };
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    for (int c = 0; c < h->n_curve; c++) {
        for (int i = 0; i < h->curve[c].n; i++) {
            x0 = fmin(x0, h->curve[c].x[i]), x1 = fmax(x1, h->curve[c].x[i]);
            if (isfinite(h->curve[c].y[i])) y0 = fmin(y0, h->curve[c].y[i]), y1 = fmax(y1, h->curve[c].y[i]);
        }
    }
    if (!(x1 > x0) || !(y1 > y0)) return;
    const char *path = host_path(h, ".svg");
    FILE *f = fopen(path, "w");
    host_require(f != NULL, "cannot write %s", path);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", W, H);
    for (int i = 0; i <= 4; i++) {
        double y = y0 + (y1 - y0) * i / 4, at = H - B - (H - B - T) * i / 4.0, x = x0 + (x1 - x0) * i / 4, across = L + (W - L - 20) * i / 4.0;
        fprintf(f, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>", L, W - 20, at, at, L - 6, at + 4, y);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n", across, H - B + 18, x);
    }
    for (int c = 0; c < h->n_curve; c++) {
        const Curve *p = &h->curve[c];
        fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", color[c]);
        for (int i = 0; i < p->n; i++)
            if (isfinite(p->y[i])) fprintf(f, "%.1f,%.1f ", L + (W - L - 20) * (p->x[i] - x0) / (x1 - x0), H - B - (H - B - T) * (p->y[i] - y0) / (y1 - y0));
        fprintf(f, "\"/>\n<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", W - 160, T + 14 + 16 * c, color[c], p->name);
    }
    fprintf(f, "</svg>\n");
    host_require(fclose(f) == 0, "cannot write %s", path);
    printf("curves  %s\n", path);
}

int host_end(Host *h) {
    write_svg(h);
    printf("%s: %.1f s\n", h->name, host_seconds() - h->started);
    return h->failed;
}

/* ---- random numbers ------------------------------------------------------------------------------------------------ */
static uint64_t next(Host *h) { /* Steele, Lea, Flood 2014: splitmix64 */
    uint64_t z = h->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

double host_uniform(Host *h) { return (double)(next(h) >> 11) * 0x1p-53; }
double host_normal(Host *h) { return sqrt(-2 * log(1 - host_uniform(h))) * cos(6.28318530717958648 * host_uniform(h)); }

void host_shuffle(Host *h, int *order, int n) {
    for (int i = n - 1; i > 0; i--) {
        int k = (int)(host_uniform(h) * (i + 1)), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
}

/* ---- data ------------------------------------------------------------------------------------------------------------ */
static unsigned char *read_idx(const Host *h, const char *part, const char *kind, int header, int *count) {
    char path[4096];
    snprintf(path, sizeof path, "%s/fashion-mnist/%s-%s", h->data, part, kind);
    FILE *f = fopen(path, "rb");
    host_require(f != NULL, "cannot read %s: Debian's package dataset-fashion-mnist has it, compressed; ./demo unpacks it", path);
    unsigned char head[16];
    host_require(fread(head, 1, (size_t)header, f) == (size_t)header, "%s is cut off", path);
    *count = head[4] << 24 | head[5] << 16 | head[6] << 8 | head[7];
    size_t each = header == 16 ? 784 : 1, bytes = (size_t)*count * each;
    host_require(*count > 0 && *count <= 60000, "%s is no file of labelled images", path);
    unsigned char *data = host_memory(bytes);
    host_require(fread(data, 1, bytes, f) == bytes, "%s is cut off", path);
    fclose(f);
    return data;
}

Images host_fashion(const Host *h, const char *part) {
    int n, labels;
    unsigned char *pixel = read_idx(h, part, "images-idx3-ubyte", 16, &n), *label = read_idx(h, part, "labels-idx1-ubyte", 8, &labels);
    host_require(n == labels, "%d images with %d labels", n, labels);
    Images images = {.n = n, .width = 28, .height = 28, .channels = 1, .classes = 10};
    images.pixel = host_memory((size_t)n * 784 * sizeof(float));
    images.label = host_memory((size_t)n * sizeof(int64_t));
    for (size_t i = 0; i < (size_t)n * 784; i++) images.pixel[i] = (float)pixel[i] / 255.0f;
    for (int i = 0; i < n; i++) images.label[i] = label[i];
    free(pixel);
    free(label);
    return images;
}

void host_batch(const Images *images, const int *index, int n, float *pixel, int64_t *label) {
    size_t each = (size_t)images->width * (size_t)images->height * (size_t)images->channels;
    for (int i = 0; i < n; i++) {
        memcpy(pixel + (size_t)i * each, images->pixel + (size_t)index[i] * each, each * sizeof *pixel);
        if (label != NULL) label[i] = images->label[index[i]];
    }
}

int host_correct(const float *scores, const int64_t *label, int n, int classes) {
    int right = 0;
    for (int i = 0; i < n; i++) {
        int best = 0;
        for (int c = 1; c < classes; c++)
            if (scores[i * classes + c] > scores[i * classes + best]) best = c;
        right += best == label[i];
    }
    return right;
}

/* ---- pictures: PNG with stored (uncompressed) data ------------------------------------------------------------------- */
static uint32_t crc(uint32_t c, const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xEDB88320u : c >> 1;
    }
    return c;
}

static void big_endian(unsigned char *p, uint32_t x) { p[0] = (unsigned char)(x >> 24), p[1] = (unsigned char)(x >> 16), p[2] = (unsigned char)(x >> 8), p[3] = (unsigned char)x; }

static void chunk(FILE *f, const char *type, const unsigned char *data, size_t n) {
    unsigned char word[8];
    big_endian(word, (uint32_t)n);
    memcpy(word + 4, type, 4);
    fwrite(word, 1, 8, f);
    fwrite(data, 1, n, f);
    big_endian(word, crc(crc(0xFFFFFFFFu, (const unsigned char *)type, 4), data, n) ^ 0xFFFFFFFFu);
    fwrite(word, 1, 4, f);
}

static void write_png(const char *path, const unsigned char *rows, int width, int height, int channels) { /* each row begins with a 0 */
    size_t line = (size_t)width * (size_t)channels + 1, bytes = line * (size_t)height, at = 2;
    unsigned char *z = host_memory(bytes + bytes / 65535 * 5 + 64), header[13] = {0};
    uint32_t a = 1, b = 0;
    z[0] = 0x78, z[1] = 1;
    for (size_t done = 0; done < bytes;) {
        size_t n = bytes - done < 65535 ? bytes - done : 65535;
        z[at++] = done + n == bytes;
        z[at++] = (unsigned char)n, z[at++] = (unsigned char)(n >> 8), z[at++] = (unsigned char)~n, z[at++] = (unsigned char)(~n >> 8);
        memcpy(z + at, rows + done, n);
        for (size_t i = 0; i < n; i++) a = (a + rows[done + i]) % 65521, b = (b + a) % 65521;
        at += n, done += n;
    }
    big_endian(z + at, b << 16 | a);
    big_endian(header, (uint32_t)width);
    big_endian(header + 4, (uint32_t)height);
    header[8] = 8, header[9] = channels == 3 ? 2 : 0;
    FILE *f = fopen(path, "wb");
    host_require(f != NULL, "cannot write %s", path);
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, f);
    chunk(f, "IHDR", header, 13);
    chunk(f, "IDAT", z, at + 4);
    chunk(f, "IEND", header, 0);
    host_require(fclose(f) == 0, "cannot write %s", path);
    free(z);
}

void host_png(const Host *h, const char *suffix, const float *pixel, int n, int width, int height, int channels) {
    int across = (int)ceil(sqrt((double)n)), down = (n + across - 1) / across, w = across * (width + 1) + 1, t = down * (height + 1) + 1;
    size_t line = (size_t)w * (size_t)channels + 1;
    unsigned char *rows = host_memory(line * (size_t)t);
    for (int i = 0; i < n; i++) {
        for (int c = 0; c < channels; c++) {
            for (int y = 0; y < height; y++) {
                for (int x = 0; x < width; x++) {
                    float v = pixel[(((size_t)i * (size_t)channels + (size_t)c) * (size_t)height + (size_t)y) * (size_t)width + (size_t)x];
                    size_t row = (size_t)(i / across * (height + 1) + 1 + y), column = (size_t)(i % across * (width + 1) + 1 + x);
                    rows[row * line + 1 + column * (size_t)channels + (size_t)c] = (unsigned char)(v <= 0 ? 0 : v >= 1 ? 255 : (int)(v * 255.0f + 0.5f));
                }
            }
        }
    }
    const char *path = host_path(h, suffix);
    write_png(path, rows, w, t, channels);
    free(rows);
    printf("picture %s\n", path);
}
