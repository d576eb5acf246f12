/* PNG: inflate (RFC 1951), the five row filters, every colour type and depth, with and without interlacing. Alpha is left
 * out, 16-bit samples give their high byte. Check sums are not checked: what is damaged gives wrong pixels, or an error. */
#ifndef LATHE_RUNTIME_PNG_H
#define LATHE_RUNTIME_PNG_H
#include "image.h"

/* Bits of the IDAT chunks, one after the other, lowest first; where they end, zeros come and `over` is set. */
typedef struct lathe_inflate {
    const lathe_bytes *b;
    int64_t at, left; /* next byte, bytes left in its chunk */
    uint32_t bits;
    int n_bits, over;
} lathe_inflate;

/* Canonical prefix codes: how many there are of each length, and their symbols in order. */
typedef struct lathe_prefix {
    uint16_t count[16], symbol[288];
} lathe_prefix;

static inline uint32_t lathe_inflate_byte(lathe_inflate *f) {
    while (f->left == 0 && !f->over) { /* past the check sum, to the next IDAT */
        f->at += 4;
        f->left = lathe_number(f->b, f->at, 4, 1);
        if (f->at + 8 > f->b->n || lathe_number(f->b, f->at + 4, 4, 1) != 0x49444154u) f->over = 1;
        f->at += 8;
    }
    if (f->over || f->at >= f->b->n) {
        f->over = 1;
        return 0;
    }
    f->left--;
    return lathe_byte(f->b, f->at++);
}

static inline uint32_t lathe_inflate_bits(lathe_inflate *f, int n) {
    while (f->n_bits < n) {
        f->bits |= lathe_inflate_byte(f) << f->n_bits;
        f->n_bits += 8;
    }
    const uint32_t v = f->bits & ((1u << n) - 1);
    f->bits >>= n;
    f->n_bits -= n;
    return v;
}

static inline void lathe_prefix_make(lathe_prefix *h, const uint8_t *length, int n) {
    uint16_t start[16];
    memset(h, 0, sizeof *h);
    for (int i = 0; i < n; i++) h->count[length[i]]++;
    h->count[0] = 0;
    start[1] = 0;
    for (int i = 1; i < 15; i++) start[i + 1] = (uint16_t)(start[i] + h->count[i]);
    for (int i = 0; i < n; i++)
        if (length[i] != 0) h->symbol[start[length[i]]++] = (uint16_t)i;
}

/* The next symbol, -1 for a code that is not one. */
static inline int lathe_prefix_symbol(lathe_inflate *f, const lathe_prefix *h) {
    int code = 0, first = 0, index = 0;
    for (int length = 1; length < 16; length++) {
        code |= (int)lathe_inflate_bits(f, 1);
        if (code - first < h->count[length]) return h->symbol[index + code - first];
        index += h->count[length];
        first = (first + h->count[length]) << 1;
        code <<= 1;
    }
    return -1;
}

/* The codes of literals and distances of a block of kind 1 (fixed) or 2 (in front of the block). */
static inline int lathe_inflate_codes(lathe_inflate *f, int kind, lathe_prefix *literal, lathe_prefix *distance) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t length[320];
    if (kind == 1) {
        for (int i = 0; i < 288; i++) length[i] = (uint8_t)(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
        lathe_prefix_make(literal, length, 288);
        memset(length, 5, 30);
        lathe_prefix_make(distance, length, 30);
        return 0;
    }
    const int n = (int)lathe_inflate_bits(f, 5) + 257, m = (int)lathe_inflate_bits(f, 5) + 1, k = (int)lathe_inflate_bits(f, 4) + 4;
    if (n > 288) return 6;
    memset(length, 0, sizeof length);
    for (int i = 0; i < k; i++) length[order[i]] = (uint8_t)lathe_inflate_bits(f, 3);
    lathe_prefix_make(literal, length, 19);
    memset(length, 0, sizeof length);
    for (int i = 0; i < n + m;) {
        const int s = lathe_prefix_symbol(f, literal);
        if (s < 0) return 6;
        if (s < 16) {
            length[i++] = (uint8_t)s;
            continue;
        }
        if (s == 16 && i == 0) return 6;
        const uint8_t again = s == 16 ? length[i - 1] : 0;
        int run = s == 16 ? 3 + (int)lathe_inflate_bits(f, 2) : s == 17 ? 3 + (int)lathe_inflate_bits(f, 3) : 11 + (int)lathe_inflate_bits(f, 7);
        if (i + run > n + m) return 6;
        while (run-- > 0) length[i++] = again;
    }
    lathe_prefix_make(literal, length, n);
    lathe_prefix_make(distance, length + n, m);
    return 0;
}

/* The bytes of a zlib stream into out[0..n); what is left of the stream behind them is not read. */
static inline int lathe_inflate_all(lathe_inflate *f, uint8_t *out, int64_t n) {
    static const uint16_t size_base[29] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t size_bits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t far_base[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                          193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    lathe_prefix literal, distance;
    int64_t at = 0;
    lathe_inflate_bits(f, 16);
    for (int last = 0; !last && at < n;) {
        last = (int)lathe_inflate_bits(f, 1);
        const int kind = (int)lathe_inflate_bits(f, 2);
        if (kind == 3 || f->over) return 6;
        if (kind == 0) {
            f->bits = 0;
            f->n_bits = 0;
            int64_t size = lathe_inflate_byte(f);
            size |= (int64_t)lathe_inflate_byte(f) << 8;
            lathe_inflate_byte(f);
            lathe_inflate_byte(f);
            for (; size > 0 && at < n && !f->over; size--) out[at++] = (uint8_t)lathe_inflate_byte(f);
            continue;
        }
        const int error = lathe_inflate_codes(f, kind, &literal, &distance);
        if (error != 0) return error;
        while (at < n && !f->over) {
            const int s = lathe_prefix_symbol(f, &literal);
            if (s < 0 || s > 285) return 6;
            if (s == 256) break;
            if (s < 256) {
                out[at++] = (uint8_t)s;
                continue;
            }
            int64_t size = size_base[s - 257] + (int64_t)lathe_inflate_bits(f, size_bits[s - 257]);
            const int d = lathe_prefix_symbol(f, &distance);
            if (d < 0 || d > 29) return 6;
            const int64_t back = far_base[d] + (int64_t)lathe_inflate_bits(f, d < 2 ? 0 : d / 2 - 1);
            if (back > at) return 6;
            for (; size > 0 && at < n; size--, at++) out[at] = out[at - back];
        }
    }
    return at == n ? 0 : 6;
}

static inline int lathe_png_predict(int kind, int left, int up, int corner) {
    const int guess = left + up - corner;
    const int a = guess > left ? guess - left : left - guess, b = guess > up ? guess - up : up - guess, c = guess > corner ? guess - corner : corner - guess;
    if (kind == 1) return left;
    if (kind == 2) return up;
    if (kind == 3) return (left + up) / 2;
    if (kind == 4) return a <= b && a <= c ? left : b <= c ? up : corner;
    return 0;
}

/* Undoes the filters of h rows of `stride` bytes, each behind the byte that names its filter; size: bytes of a pixel. */
static inline int lathe_png_rows(uint8_t *p, int64_t h, int64_t stride, int64_t size) {
    for (int64_t y = 0; y < h; y++) {
        uint8_t *row = p + y * (stride + 1) + 1;
        const uint8_t *above = row - stride - 1;
        const int kind = row[-1];
        if (kind > 4) return 6;
        for (int64_t i = 0; i < stride; i++) {
            const int left = i >= size ? row[i - size] : 0, up = y > 0 ? above[i] : 0, corner = y > 0 && i >= size ? above[i - size] : 0;
            row[i] = (uint8_t)(row[i] + lathe_png_predict(kind, left, up, corner));
        }
    }
    return 0;
}

/* What the header says, and where the palette is. */
typedef struct lathe_png {
    int64_t palette, colours;
    int depth, type, samples;
} lathe_png;

static inline void lathe_png_pixel(const lathe_bytes *b, lathe_image *im, const lathe_png *g, const uint8_t *row, int64_t i, int64_t x, int64_t y) {
    uint32_t v[4] = {0, 0, 0, 0};
    for (int c = 0; c < g->samples; c++) {
        const int64_t bit = (i * g->samples + c) * g->depth;
        v[c] = row[bit / 8];
        if (g->depth < 8) v[c] = v[c] >> (8 - g->depth - bit % 8) & ((1u << g->depth) - 1);
    }
    if (g->type == 3) {
        const int64_t at = g->palette + 3 * (int64_t)v[0];
        const int known = (int64_t)v[0] < g->colours;
        lathe_image_put(im, x, y, known ? lathe_byte(b, at) : 0, known ? lathe_byte(b, at + 1) : 0, known ? lathe_byte(b, at + 2) : 0);
        return;
    }
    if (g->depth < 8) v[0] = v[0] * 255u / ((1u << g->depth) - 1);
    if (g->samples < 3) lathe_image_put(im, x, y, v[0], v[0], v[0]);
    else lathe_image_put(im, x, y, v[0], v[1], v[2]);
}

static inline int lathe_image_png(const lathe_bytes *b, lathe_image *im) {
    static const uint8_t samples[7] = {1, 0, 3, 1, 2, 0, 4};
    static const uint8_t first_x[7] = {0, 4, 0, 2, 0, 1, 0}, first_y[7] = {0, 0, 4, 0, 2, 0, 1}, step_x[7] = {8, 8, 4, 4, 2, 2, 1}, step_y[7] = {8, 8, 8, 4, 4, 2, 2};
    lathe_png g = {0, 0, (int)lathe_byte(b, 24), (int)lathe_byte(b, 25), 0};
    const int interlaced = lathe_byte(b, 28) == 1;
    if (g.type > 6 || samples[g.type] == 0 || (g.depth != 1 && g.depth != 2 && g.depth != 4 && g.depth != 8 && g.depth != 16)) return 6;
    g.samples = samples[g.type];
    if (g.depth < 8 && g.samples != 1) return 6;
    const int error = lathe_image_size(im, lathe_number(b, 16, 4, 1), lathe_number(b, 20, 4, 1));
    if (error != 0) return error;
    int64_t at = 33;
    while (at + 8 <= b->n && lathe_number(b, at + 4, 4, 1) != 0x49444154u) {
        if (lathe_number(b, at + 4, 4, 1) == 0x504C5445u) g.palette = at + 8, g.colours = lathe_number(b, at, 4, 1) / 3;
        at += 12 + (int64_t)lathe_number(b, at, 4, 1);
    }
    int64_t bytes = 0, stride[7], rows[7];
    for (int pass = 0; pass < (interlaced ? 7 : 1); pass++) {
        const int64_t w = interlaced ? (im->w - first_x[pass] + step_x[pass] - 1) / step_x[pass] : im->w;
        rows[pass] = interlaced ? (im->h - first_y[pass] + step_y[pass] - 1) / step_y[pass] : im->h;
        if (w < 1 || rows[pass] < 1) rows[pass] = 0;
        stride[pass] = (w * g.samples * g.depth + 7) / 8;
        bytes += rows[pass] * (stride[pass] + 1);
    }
    if (bytes > im->room) return 4;
    lathe_inflate f = {b, at + 8, lathe_number(b, at, 4, 1), 0, 0, at + 8 > b->n};
    if (lathe_inflate_all(&f, im->scratch, bytes) != 0) return 6;
    uint8_t *p = im->scratch;
    for (int pass = 0; pass < (interlaced ? 7 : 1); pass++) {
        if (lathe_png_rows(p, rows[pass], stride[pass], (g.samples * g.depth + 7) / 8) != 0) return 6;
        for (int64_t r = 0; r < rows[pass]; r++, p += stride[pass] + 1) {
            const int64_t y = interlaced ? first_y[pass] + r * step_y[pass] : r;
            int64_t x = interlaced ? first_x[pass] : 0;
            for (int64_t i = 0; x < im->w; i++, x += interlaced ? step_x[pass] : 1) lathe_png_pixel(b, im, &g, p + 1, i, x, y);
        }
    }
    return 0;
}

#endif
