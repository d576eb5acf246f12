/* Baseline JPEG (ITU-T T.81): one or three components, any sampling factors, restart intervals, one or several scans.
 * The arithmetic is the usual library's, so that pixels are equal: inverse cosine transform of Loeffler, Ligtenberg and
 * Moschytz in 13-bit integers, chroma interpolated with weights 3/4 and 1/4, colours in 16-bit fixed point. */
#ifndef LATHE_RUNTIME_JPEG_H
#define LATHE_RUNTIME_JPEG_H
#include "image.h"

typedef struct lathe_jpeg_table {
    uint8_t count[17], symbol[256];
} lathe_jpeg_table;

typedef struct lathe_jpeg_part {
    int id, h, v, quant, dc, ac;
    int32_t last;       /* the block before's first coefficient */
    uint8_t *plane;     /* samples, whole units of blocks */
    int64_t stride, w, rows; /* w, rows: those of the image itself */
} lathe_jpeg_part;

typedef struct lathe_jpeg {
    const lathe_bytes *b;
    int64_t at;         /* next byte */
    uint32_t bits;
    int n_bits, n_part, most_h, most_v, interval, transform;
    lathe_jpeg_part part[3];
    uint16_t quant[4][64];
    lathe_jpeg_table table[8]; /* 0-3 first coefficients, 4-7 others */
} lathe_jpeg;

/* The next bit of a scan; zeros at a marker or at the end. */
static inline uint32_t lathe_jpeg_bit(lathe_jpeg *j) {
    if (j->n_bits == 0) {
        const uint32_t c = lathe_byte(j->b, j->at);
        j->bits = c;
        if (c != 0xFF) j->at++;
        else if (lathe_byte(j->b, j->at + 1) == 0 && j->at + 1 < j->b->n) j->at += 2;
        else j->bits = 0;
        j->n_bits = 8;
    }
    return j->bits >> --j->n_bits & 1u;
}

/* The number in n bits; those that start with 0 are negative. */
static inline int32_t lathe_jpeg_number(lathe_jpeg *j, int n) {
    int32_t v = 0;
    for (int i = 0; i < n; i++) v = v << 1 | (int32_t)lathe_jpeg_bit(j);
    return n > 0 && v < 1 << (n - 1) ? v - (1 << n) + 1 : v;
}

static inline int lathe_jpeg_symbol(lathe_jpeg *j, const lathe_jpeg_table *t) {
    int code = 0, first = 0, index = 0;
    for (int length = 1; length < 17; length++) {
        code = code << 1 | (int)lathe_jpeg_bit(j);
        if (code - first < t->count[length] && index + code - first < 256) return t->symbol[index + code - first];
        index += t->count[length];
        first = (first + t->count[length]) << 1;
    }
    return -1;
}

/* One dimension of the inverse transform: eight numbers at distance `step`, rounded to `shift` bits less. */
static inline void lathe_jpeg_inverse(const int64_t *x, int64_t *y, int step, int shift) {
    const int64_t e = (x[2 * step] + x[6 * step]) * 4433, e2 = e - x[6 * step] * 15137, e3 = e + x[2 * step] * 6270;
    const int64_t p = (x[0] + x[4 * step]) * 8192, q = (x[0] - x[4 * step]) * 8192;
    const int64_t even[4] = {p + e3, q + e2, q - e2, p - e3};
    const int64_t a = x[7 * step], b = x[5 * step], c = x[3 * step], d = x[step];
    const int64_t z1 = (a + d) * -7373, z2 = (b + c) * -20995, z5 = (a + c + b + d) * 9633, z3 = (a + c) * -16069 + z5, z4 = (b + d) * -3196 + z5;
    const int64_t odd[4] = {d * 12299 + z1 + z4, c * 25172 + z2 + z3, b * 16819 + z2 + z4, a * 2446 + z1 + z3};
    const int64_t half = (int64_t)1 << (shift - 1);
    for (int i = 0; i < 4; i++) {
        y[i * step] = (even[i] + odd[i] + half) >> shift;
        y[(7 - i) * step] = (even[i] - odd[i] + half) >> shift;
    }
}

/* A block of 8 x 8 samples into the part's plane. */
static inline int lathe_jpeg_block(lathe_jpeg *j, lathe_jpeg_part *part, int64_t bx, int64_t by) {
    static const uint8_t zigzag[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
                                       35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};
    const int64_t limit = 1 << 20; /* a sound file stays far below it */
    int64_t x[64] = {0}, y[64];
    const int size = lathe_jpeg_symbol(j, &j->table[part->dc]);
    if (size < 0 || size > 15) return 6;
    part->last = (int32_t)(int16_t)(part->last + lathe_jpeg_number(j, size));
    x[0] = (int64_t)part->last * j->quant[part->quant][0];
    for (int k = 1; k < 64; k++) {
        const int s = lathe_jpeg_symbol(j, &j->table[4 + part->ac]);
        if (s < 0) return 6;
        if (s == 0) break;
        k += s >> 4;
        if (k > 63) return 6;
        x[zigzag[k]] = (int64_t)lathe_jpeg_number(j, s & 15) * j->quant[part->quant][k];
    }
    for (int i = 0; i < 64; i++) x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
    for (int i = 0; i < 8; i++) lathe_jpeg_inverse(x + i, y + i, 8, 11);
    for (int i = 0; i < 8; i++) {
        uint8_t *to = part->plane + (by * 8 + i) * part->stride + bx * 8;
        lathe_jpeg_inverse(y + i * 8, x + i * 8, 1, 18);
        for (int k = 0; k < 8; k++) to[k] = (uint8_t)(x[i * 8 + k] < -128 ? 0 : x[i * 8 + k] > 127 ? 255 : x[i * 8 + k] + 128);
    }
    return 0;
}

static inline void lathe_jpeg_restart(lathe_jpeg *j) {
    j->n_bits = 0;
    while (j->at + 1 < j->b->n && !(lathe_byte(j->b, j->at) == 0xFF && lathe_byte(j->b, j->at + 1) != 0)) j->at++;
    if ((lathe_byte(j->b, j->at + 1) & 0xF8u) == 0xD0) j->at += 2;
    for (int i = 0; i < 3; i++) j->part[i].last = 0;
}

/* A scan: `at` is behind the marker's length. Units are blocks of the only part, or of all of them. */
static inline int lathe_jpeg_scan(lathe_jpeg *j, const lathe_image *im, int64_t at, int64_t end) {
    const int n = (int)lathe_byte(j->b, at);
    int which[3] = {0, 0, 0};
    if (n < 1 || n > j->n_part) return 6;
    for (int i = 0; i < n; i++) {
        const uint32_t id = lathe_byte(j->b, at + 1 + 2 * i), tables = lathe_byte(j->b, at + 2 + 2 * i);
        while (which[i] < j->n_part && j->part[which[i]].id != (int)id) which[i]++;
        if (which[i] == j->n_part) return 6;
        j->part[which[i]].dc = (int)(tables >> 4 & 3);
        j->part[which[i]].ac = (int)(tables & 3);
    }
    const lathe_jpeg_part *only = &j->part[which[0]];
    const int64_t unit_w = n == 1 ? (only->w + 7) / 8 : (im->w + 8 * j->most_h - 1) / (8 * j->most_h);
    const int64_t unit_h = n == 1 ? (only->rows + 7) / 8 : (im->h + 8 * j->most_v - 1) / (8 * j->most_v);
    j->at = end;
    j->n_bits = 0;
    for (int i = 0; i < 3; i++) j->part[i].last = 0;
    for (int64_t u = 0; u < unit_w * unit_h; u++) {
        if (j->interval != 0 && u > 0 && u % j->interval == 0) lathe_jpeg_restart(j);
        if (j->at >= j->b->n) return 6;
        for (int i = 0; i < n; i++) {
            lathe_jpeg_part *p = &j->part[which[i]];
            const int h = n == 1 ? 1 : p->h, v = n == 1 ? 1 : p->v;
            for (int k = 0; k < h * v; k++)
                if (lathe_jpeg_block(j, p, u % unit_w * h + k % h, u / unit_w * v + k / h) != 0) return 6;
        }
    }
    return 0;
}

static inline int lathe_jpeg_tables(lathe_jpeg *j, int64_t at, int64_t end) {
    while (at < end) {
        const uint32_t kind = lathe_byte(j->b, at++);
        lathe_jpeg_table *t = &j->table[(kind >> 4 & 1) * 4 + (kind & 3)];
        int total = 0;
        for (int i = 1; i < 17; i++) total += t->count[i] = (uint8_t)lathe_byte(j->b, at++);
        if (total > 256) return 6;
        for (int i = 0; i < total; i++) t->symbol[i] = (uint8_t)lathe_byte(j->b, at++);
    }
    return 0;
}

static inline void lathe_jpeg_quant(lathe_jpeg *j, int64_t at, int64_t end) {
    while (at < end) {
        const uint32_t kind = lathe_byte(j->b, at++);
        const int size = kind >> 4 != 0 ? 2 : 1;
        for (int i = 0; i < 64; i++, at += size) j->quant[kind & 3][i] = (uint16_t)lathe_number(j->b, at, size, 1);
    }
}

/* The frame: sizes, parts, and their planes in the scratch. */
static inline int lathe_jpeg_frame(lathe_jpeg *j, lathe_image *im, int64_t at) {
    const int error = lathe_image_size(im, lathe_number(j->b, at + 3, 2, 1), lathe_number(j->b, at + 1, 2, 1));
    if (error != 0) return error;
    j->n_part = (int)lathe_byte(j->b, at + 5);
    if (lathe_byte(j->b, at) != 8 || (j->n_part != 1 && j->n_part != 3)) return 6;
    j->most_h = j->most_v = 1;
    for (int i = 0; i < j->n_part; i++) {
        lathe_jpeg_part *p = &j->part[i];
        const uint32_t factors = lathe_byte(j->b, at + 7 + 3 * i);
        p->id = (int)lathe_byte(j->b, at + 6 + 3 * i);
        p->h = (int)(factors >> 4);
        p->v = (int)(factors & 15);
        p->quant = (int)(lathe_byte(j->b, at + 8 + 3 * i) & 3);
        if (p->h < 1 || p->h > 4 || p->v < 1 || p->v > 4) return 6;
        if (p->h > j->most_h) j->most_h = p->h;
        if (p->v > j->most_v) j->most_v = p->v;
    }
    int64_t used = 0;
    for (int i = 0; i < j->n_part; i++) {
        lathe_jpeg_part *p = &j->part[i];
        const int64_t across = (im->w + 8 * j->most_h - 1) / (8 * j->most_h), down = (im->h + 8 * j->most_v - 1) / (8 * j->most_v);
        p->w = (im->w * p->h + j->most_h - 1) / j->most_h;
        p->rows = (im->h * p->v + j->most_v - 1) / j->most_v;
        p->stride = across * 8 * p->h;
        p->plane = im->scratch + used;
        used += p->stride * down * 8 * p->v;
        if (used > im->room) return 4;
    }
    memset(im->scratch, 128, (size_t)used);
    return 0;
}

/* Three of the sample in this row at column i and one of the other row's, the next to it. */
static inline int lathe_jpeg_column(const lathe_jpeg_part *p, int64_t i, int64_t y, int64_t other) {
    return 3 * p->plane[y * p->stride + i] + p->plane[other * p->stride + i];
}

/* The sample of a part that belongs to pixel (x, y): itself, or interpolated where the part has half the resolution. */
static inline int lathe_jpeg_sample(const lathe_jpeg *j, const lathe_jpeg_part *p, int64_t x, int64_t y) {
    const int half_w = p->h * 2 == j->most_h, half_h = p->v * 2 == j->most_v;
    const int64_t i = x / 2, r = half_h ? y / 2 : y, next = x % 2 != 0 ? i + 1 : i - 1, row = y % 2 != 0 ? r + 1 : r - 1;
    const int64_t other = row < 0 ? 0 : row >= p->rows ? p->rows - 1 : row;
    const int inner = next >= 0 && next < p->w, odd = (int)(x % 2);
    if (half_w && p->w > 2 && p->v == j->most_v) {
        const uint8_t *s = p->plane + r * p->stride;
        return inner ? (3 * s[i] + s[next] + 1 + odd) >> 2 : s[i];
    }
    if (half_w && half_h && p->w > 2) {
        const int here = lathe_jpeg_column(p, i, r, other);
        return inner ? (3 * here + lathe_jpeg_column(p, next, r, other) + 8 - odd) >> 4 : (4 * here + 8 - odd) >> 4;
    }
    if (p->h == j->most_h && half_h) return (lathe_jpeg_column(p, x, r, other) + 1 + (int)(y % 2)) >> 2;
    return p->plane[y * p->v / j->most_v * p->stride + x * p->h / j->most_h];
}

static inline uint32_t lathe_jpeg_clamp(int v) {
    return (uint32_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static inline void lathe_jpeg_pixels(const lathe_jpeg *j, lathe_image *im) {
    for (int64_t y = 0; y < im->h; y++) {
        for (int64_t x = 0; x < im->w; x++) {
            const int l = lathe_jpeg_sample(j, &j->part[0], x, y);
            if (j->n_part == 1) {
                lathe_image_put(im, x, y, (uint32_t)l, (uint32_t)l, (uint32_t)l);
                continue;
            }
            const int b = lathe_jpeg_sample(j, &j->part[1], x, y), r = lathe_jpeg_sample(j, &j->part[2], x, y);
            if (j->transform == 0) {
                lathe_image_put(im, x, y, (uint32_t)l, (uint32_t)b, (uint32_t)r);
                continue;
            }
            const int cb = b - 128, cr = r - 128;
            const int red = l + ((91881 * cr + 32768) >> 16), green = l + ((-22554 * cb - 46802 * cr + 32768) >> 16), blue = l + ((116130 * cb + 32768) >> 16);
            lathe_image_put(im, x, y, lathe_jpeg_clamp(red), lathe_jpeg_clamp(green), lathe_jpeg_clamp(blue));
        }
    }
}

static inline int lathe_image_jpeg(const lathe_bytes *b, lathe_image *im) {
    lathe_jpeg j;
    int scans = 0;
    memset(&j, 0, sizeof j);
    j.b = b;
    j.transform = 1;
    for (int64_t at = 2; at + 4 <= b->n;) {
        const uint32_t mark = lathe_byte(b, at + 1);
        if (lathe_byte(b, at) != 0xFF || mark == 0 || mark == 0xFF) { /* fill bytes, rests of a scan */
            at++;
            continue;
        }
        if (mark == 0xD9) break;
        const int64_t body = at + 4, end = at + 2 + (int64_t)lathe_number(b, at + 2, 2, 1);
        int error = 0;
        if (end > b->n || end < body) return 6;
        if (mark == 0xC4) error = lathe_jpeg_tables(&j, body, end);
        else if (mark == 0xDB) lathe_jpeg_quant(&j, body, end);
        else if (mark == 0xDD) j.interval = (int)lathe_number(b, body, 2, 1);
        else if (mark == 0xEE && lathe_number(b, body, 4, 1) == 0x41646F62u) j.transform = lathe_byte(b, body + 11) != 0;
        else if ((mark == 0xC0 || mark == 0xC1) && j.n_part == 0) error = lathe_jpeg_frame(&j, im, body);
        else if (mark >= 0xC0 && mark <= 0xCF && mark != 0xC8 && mark != 0xCC) error = 6;
        else if (mark == 0xDA && j.n_part != 0) error = scans++ < 3 ? lathe_jpeg_scan(&j, im, body, end) : 6;
        if (error != 0) return error;
        at = mark == 0xDA ? j.at : end;
    }
    if (scans == 0) return 6;
    lathe_jpeg_pixels(&j, im);
    return 0;
}

#endif
