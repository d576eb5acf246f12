/* ImageDecoder: which format the bytes are, where pixels go, and the formats without compression: BMP, PNM, TIFF.
 * PNG is in png.h, JPEG in jpeg.h, JPEG 2000 in jpeg2000.h. Bytes are not trusted: every read is checked against their number, every size against
 * the room there is. Results: 0, LATHE_RT_BOUND (4) for an image larger than its bound or other than the declared size,
 * LATHE_RT_VALUE (6) for bytes that are damaged or of a format that is not read (WebP, GIF, progressive JPEG). */
#ifndef LATHE_RUNTIME_IMAGE_H
#define LATHE_RUNTIME_IMAGE_H
#include <stdint.h>
#include <string.h>

typedef struct lathe_bytes {
    const uint8_t *p;
    int64_t n;
} lathe_bytes;

/* Where an image goes: pixels [h, w, channels]; room: bytes of scratch. */
typedef struct lathe_image {
    uint8_t *out, *scratch;
    int64_t room, max_h, max_w, fixed_h, fixed_w, h, w; /* fixed: the size it must have, or -1 */
    int64_t format;                                     /* 0 RGB, 1 BGR, 2 grayscale */
} lathe_image;

static inline uint32_t lathe_byte(const lathe_bytes *b, int64_t i) {
    return i >= 0 && i < b->n ? b->p[i] : 0u;
}

/* The number in `size` bytes, lowest or highest first. */
static inline uint32_t lathe_number(const lathe_bytes *b, int64_t at, int size, int high_first) {
    uint32_t v = 0;
    for (int i = 0; i < size; i++) v = v << 8 | lathe_byte(b, at + (high_first ? i : size - 1 - i));
    return v;
}

static inline int lathe_image_size(lathe_image *im, int64_t w, int64_t h) {
    if (w < 1 || h < 1) return 6;
    if (w > im->max_w || h > im->max_h) return 4;
    if ((im->fixed_w >= 0 && w != im->fixed_w) || (im->fixed_h >= 0 && h != im->fixed_h)) return 4;
    im->w = w;
    im->h = h;
    return 0;
}

/* Luma in 16 bits: 0.299 R + 0.587 G + 0.114 B. */
static inline void lathe_image_put(lathe_image *im, int64_t x, int64_t y, uint32_t r, uint32_t g, uint32_t b) {
    const int64_t at = y * im->w + x;
    if (im->format == 2) {
        im->out[at] = (uint8_t)((r * 19595u + g * 38470u + b * 7471u + 0x8000u) >> 16);
        return;
    }
    im->out[at * 3] = (uint8_t)(im->format == 0 ? r : b);
    im->out[at * 3 + 1] = (uint8_t)g;
    im->out[at * 3 + 2] = (uint8_t)(im->format == 0 ? b : r);
}

/* Rows from bottom to top unless the height is negative, each padded to four bytes, blue first. */
static inline int lathe_image_bmp(const lathe_bytes *b, lathe_image *im) {
    const int64_t data = lathe_number(b, 10, 4, 0), header = lathe_number(b, 14, 4, 0), bits = lathe_number(b, 28, 2, 0);
    const int64_t w = (int32_t)lathe_number(b, 18, 4, 0), tall = (int32_t)lathe_number(b, 22, 4, 0), h = tall < 0 ? -tall : tall;
    if (header < 40 || lathe_number(b, 30, 4, 0) != 0) return 6;
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32) return 6;
    const int error = lathe_image_size(im, w, h);
    if (error != 0) return error;
    const int64_t stride = (w * bits + 31) / 32 * 4;
    if (data + stride * h > b->n) return 6;
    for (int64_t y = 0; y < h; y++) {
        const int64_t row = data + stride * (tall < 0 ? y : h - 1 - y);
        for (int64_t x = 0; x < w; x++) {
            int64_t at = row + x * (bits / 8);
            if (bits == 16) {
                const uint32_t v = lathe_number(b, at, 2, 0), r = v >> 10 & 31, g = v >> 5 & 31, l = v & 31;
                lathe_image_put(im, x, y, r << 3 | r >> 2, g << 3 | g >> 2, l << 3 | l >> 2);
                continue;
            }
            if (bits < 16) at = 14 + header + 4 * (int64_t)(lathe_byte(b, row + x * bits / 8) >> (8 - bits - x * bits % 8) & ((1u << bits) - 1));
            lathe_image_put(im, x, y, lathe_byte(b, at + 2), lathe_byte(b, at + 1), lathe_byte(b, at));
        }
    }
    return 0;
}

/* The next number of a text header, behind white space and comments; -1 if there is none. *at moves behind it. */
static inline int64_t lathe_pnm_number(const lathe_bytes *b, int64_t *at) {
    int64_t v = -1;
    for (; *at < b->n; ++*at) {
        const uint32_t c = lathe_byte(b, *at);
        if (c >= '0' && c <= '9') {
            v = (v < 0 ? 0 : v) * 10 + (int64_t)(c - '0');
            if (v > 1000000000) return -1;
        } else if (v >= 0) {
            return v;
        } else if (c == '#') {
            while (*at < b->n && lathe_byte(b, *at) != '\n') ++*at;
        } else if (c != ' ' && (c < '\t' || c > '\r')) {
            return -1;
        }
    }
    return v;
}

/* P1 to P6: bits, grey, colour, as text or as bytes. */
static inline int lathe_image_pnm(const lathe_bytes *b, lathe_image *im) {
    const int kind = (int)lathe_byte(b, 1) - '0', text = kind < 4, bits = kind == 1 || kind == 4, colours = kind % 3 == 0 ? 3 : 1;
    int64_t at = 2;
    const int64_t w = lathe_pnm_number(b, &at), h = lathe_pnm_number(b, &at), top = bits ? 1 : lathe_pnm_number(b, &at);
    if (top < 1 || top > 65535) return 6;
    const int error = lathe_image_size(im, w, h);
    if (error != 0) return error;
    at++;
    const int64_t wide = top > 255 ? 2 : 1, stride = bits ? (w + 7) / 8 : w * colours * wide;
    if (!text && at + stride * h > b->n) return 6;
    for (int64_t y = 0; y < h; y++) {
        for (int64_t x = 0; x < w; x++) {
            uint32_t v[3];
            for (int c = 0; c < colours; c++) {
                int64_t s;
                if (text && bits) {
                    while (at < b->n && lathe_byte(b, at) != '0' && lathe_byte(b, at) != '1') at++;
                    s = at < b->n ? (int64_t)lathe_byte(b, at++) - '0' : -1;
                } else if (text) {
                    s = lathe_pnm_number(b, &at);
                } else if (bits) {
                    s = lathe_byte(b, at + stride * y + x / 8) >> (7 - x % 8) & 1;
                } else {
                    s = lathe_number(b, at + stride * y + (x * colours + c) * wide, (int)wide, 1);
                }
                if (s < 0) return 6;
                if (s > top) s = top;
                if (bits) s = 1 - s;
                v[c] = (uint32_t)((s * 255 + top / 2) / top);
            }
            lathe_image_put(im, x, y, v[0], v[colours / 2], v[colours - 1]);
        }
    }
    return 0;
}

/* Element i of an entry of a TIFF directory; entries of one number hold it themselves. */
static inline int64_t lathe_tiff_value(const lathe_bytes *b, int64_t entry, int64_t i, int high_first) {
    const int size = lathe_number(b, entry + 2, 2, high_first) == 3 ? 2 : 4;
    const int64_t count = lathe_number(b, entry + 4, 4, high_first);
    if (i >= count) return 0;
    const int64_t base = count * size <= 4 ? entry + 8 : (int64_t)lathe_number(b, entry + 8, 4, high_first);
    return lathe_number(b, base + i * size, size, high_first);
}

/* The entry with this tag in the first directory, 0 if there is none. */
static inline int64_t lathe_tiff_entry(const lathe_bytes *b, uint32_t tag, int high_first) {
    const int64_t directory = lathe_number(b, 4, 4, high_first), n = lathe_number(b, directory, 2, high_first);
    for (int64_t i = 0; i < n; i++)
        if (lathe_number(b, directory + 2 + 12 * i, 2, high_first) == tag) return directory + 2 + 12 * i;
    return 0;
}

/* Strips of 8-bit grey or RGB samples side by side. */
static inline int lathe_image_tiff(const lathe_bytes *b, lathe_image *im) {
    const int big = lathe_byte(b, 0) == 'M';
    const uint32_t tags[] = {256, 257, 258, 259, 262, 277, 278, 284};
    int64_t value[8] = {0, 0, 1, 1, 1, 1, INT32_MAX, 1};
    for (int i = 0; i < 8; i++) {
        const int64_t entry = lathe_tiff_entry(b, tags[i], big);
        if (entry != 0) value[i] = lathe_tiff_value(b, entry, 0, big);
    }
    const int64_t w = value[0], h = value[1], kind = value[4], samples = value[5], rows = value[6] < 1 ? 1 : value[6];
    const int64_t offsets = lathe_tiff_entry(b, 273, big);
    if (value[2] != 8 || value[3] != 1 || value[7] != 1 || offsets == 0) return 6;
    if (kind > 2 || samples < (kind == 2 ? 3 : 1) || samples > 16) return 6;
    const int error = lathe_image_size(im, w, h);
    if (error != 0) return error;
    for (int64_t y = 0; y < h; y++) {
        const int64_t row = lathe_tiff_value(b, offsets, y / rows, big) + y % rows * w * samples;
        if (row + w * samples > b->n) return 6;
        for (int64_t x = 0; x < w; x++) {
            const int64_t at = row + x * samples;
            const uint32_t v = kind == 0 ? 255u - lathe_byte(b, at) : lathe_byte(b, at);
            if (kind == 2) lathe_image_put(im, x, y, v, lathe_byte(b, at + 1), lathe_byte(b, at + 2));
            else lathe_image_put(im, x, y, v, v, v);
        }
    }
    return 0;
}

#endif
