/* JPEG 2000 (ITU-T T.800), the lossless part of it that encoders write by default: one tile, one layer, one precinct per
 * resolution, reversible 5/3 wavelets, 1 to 4 unsigned components of 8 bits without subsampling, code blocks without
 * special modes. Everything else is refused.
 *
 *     packets -> code blocks -> bit planes (arithmetic decoder) -> wavelet coefficients -> samples -> RGB */
#ifndef LATHE_RUNTIME_JPEG2000_H
#define LATHE_RUNTIME_JPEG2000_H
#include "image.h"

/* The adaptive binary decoder: probability (in 16 bits), next state after the likely and the unlikely symbol; the high bit
 * of the latter says that the likely symbol changes. */
static const uint16_t lathe_mq_chance[47] = {0x5601, 0x3401, 0x1801, 0x0AC1, 0x0521, 0x0221, 0x5601, 0x5401, 0x4801, 0x3801, 0x3001, 0x2401, 0x1C01, 0x1601, 0x5601, 0x5401,
                                             0x5101, 0x4801, 0x3801, 0x3401, 0x3001, 0x2801, 0x2401, 0x2201, 0x1C01, 0x1801, 0x1601, 0x1401, 0x1201, 0x1101, 0x0AC1, 0x09C1,
                                             0x08A1, 0x0521, 0x0441, 0x02A1, 0x0221, 0x0141, 0x0111, 0x0085, 0x0049, 0x0025, 0x0015, 0x0009, 0x0005, 0x0001, 0x5601};

static const uint8_t lathe_mq_likely[47] = {1,  2,  3,  4,  5,  38, 7,  8,  9,  10, 11, 12, 13, 29, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
                                            25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 45, 46};

static const uint8_t lathe_mq_unlikely[47] = {129, 6,  9,  12, 29, 33, 134, 14, 14, 14, 17, 18, 20, 21, 142, 14, 15, 16, 17, 18, 19, 19, 20, 21,
                                              22,  23, 24, 25, 26, 27, 28,  29, 30, 31, 32, 33, 34, 35, 36,  37, 38, 39, 40, 41, 42, 43, 46};

typedef struct lathe_mq {
    const lathe_bytes *b;
    int64_t at, end;
    uint32_t a, c;
    int left;
    uint8_t state[19], likely[19]; /* 0-8 significance, 9-13 sign, 14-16 refinement, 17 run, 18 uniform */
} lathe_mq;

static inline uint32_t lathe_mq_byte(const lathe_mq *q, int64_t i) {
    return i < q->end ? lathe_byte(q->b, i) : 0xFFu;
}

static inline void lathe_mq_more(lathe_mq *q) {
    if (lathe_mq_byte(q, q->at) != 0xFF) {
        q->c += lathe_mq_byte(q, ++q->at) << 8;
        q->left = 8;
    } else if (lathe_mq_byte(q, q->at + 1) > 0x8F) {
        q->c += 0xFF00;
        q->left = 8;
    } else {
        q->c += lathe_mq_byte(q, ++q->at) << 9;
        q->left = 7;
    }
}

static inline void lathe_mq_start(lathe_mq *q, const lathe_bytes *b, int64_t at, int64_t n) {
    memset(q, 0, sizeof *q);
    q->b = b;
    q->at = at;
    q->end = at + n;
    q->state[0] = 4;
    q->state[17] = 3;
    q->state[18] = 46;
    q->c = lathe_mq_byte(q, at) << 16;
    lathe_mq_more(q);
    q->c <<= 7;
    q->left -= 7;
    q->a = 0x8000;
}

static inline int lathe_mq_bit(lathe_mq *q, int context) {
    const int s = q->state[context];
    const uint32_t chance = lathe_mq_chance[s];
    int bit = q->likely[context], unlikely;
    q->a -= chance;
    if (q->c >> 16 < chance) {
        unlikely = q->a >= chance;
        q->a = chance;
    } else {
        q->c -= chance << 16;
        if ((q->a & 0x8000u) != 0) return bit;
        unlikely = q->a < chance;
    }
    if (unlikely) {
        bit = 1 - bit;
        if (lathe_mq_unlikely[s] > 127) q->likely[context] = (uint8_t)bit;
        q->state[context] = lathe_mq_unlikely[s] & 127;
    } else {
        q->state[context] = lathe_mq_likely[s];
    }
    do {
        if (q->left == 0) lathe_mq_more(q);
        q->a <<= 1;
        q->c <<= 1;
        q->left--;
    } while ((q->a & 0x8000u) == 0);
    return bit;
}

/* ---- code blocks: 64 x 64 at most --------------------------------------------------------------------------------- */
/* defines: LATHE_J2K_SIGNIFICANT, LATHE_J2K_NEGATIVE, LATHE_J2K_VISITED, LATHE_J2K_REFINED */
enum { LATHE_J2K_SIGNIFICANT = 1, LATHE_J2K_NEGATIVE = 2, LATHE_J2K_VISITED = 4, LATHE_J2K_REFINED = 8 };

/* flag: of the coefficients with a margin of one on all sides, rows of 66. band: 0 LL, 1 HL, 2 LH, 3 HH. */
typedef struct lathe_j2k_block {
    lathe_mq q;
    uint8_t flag[66 * 66];
    int32_t *coef;
    int64_t stride;
    int w, h, band;
} lathe_j2k_block;

static inline int lathe_j2k_significant(const uint8_t *f) {
    return f[0] & LATHE_J2K_SIGNIFICANT;
}

/* 1, -1 or 0: what a neighbour says about the sign. */
static inline int lathe_j2k_sign(const uint8_t *f) {
    return !lathe_j2k_significant(f) ? 0 : (*f & LATHE_J2K_NEGATIVE) != 0 ? -1 : 1;
}

/* How the neighbourhood predicts that a coefficient becomes significant. */
static inline int lathe_j2k_context(const uint8_t *f, int band) {
    int h = lathe_j2k_significant(f - 1) + lathe_j2k_significant(f + 1), v = lathe_j2k_significant(f - 66) + lathe_j2k_significant(f + 66);
    const int d = lathe_j2k_significant(f - 67) + lathe_j2k_significant(f - 65) + lathe_j2k_significant(f + 65) + lathe_j2k_significant(f + 67);
    if (band == 3) {
        const int n = h + v;
        if (d >= 3) return 8;
        if (d == 2) return n >= 1 ? 7 : 6;
        if (d == 1) return n >= 2 ? 5 : 3 + n;
        return n >= 2 ? 2 : n;
    }
    if (band == 1) {
        const int swap = h;
        h = v;
        v = swap;
    }
    if (h == 2) return 8;
    if (h == 1) return v >= 1 ? 7 : d >= 1 ? 6 : 5;
    if (v != 0) return v == 2 ? 4 : 3;
    return d >= 2 ? 2 : d;
}

/* A coefficient becomes significant in this bit plane: its sign follows. */
static inline void lathe_j2k_appear(lathe_j2k_block *k, uint8_t *f, int32_t *coef, int plane) {
    int h = lathe_j2k_sign(f - 1) + lathe_j2k_sign(f + 1), v = lathe_j2k_sign(f - 66) + lathe_j2k_sign(f + 66), flip = 0;
    h = h > 1 ? 1 : h < -1 ? -1 : h;
    v = v > 1 ? 1 : v < -1 ? -1 : v;
    if (h < 0 || (h == 0 && v < 0)) {
        h = -h;
        v = -v;
        flip = 1;
    }
    const int negative = lathe_mq_bit(&k->q, h == 1 ? 12 + v : 9 + v) ^ flip;
    *f |= (uint8_t)(LATHE_J2K_SIGNIFICANT | (negative ? LATHE_J2K_NEGATIVE : 0));
    *coef = (int32_t)(1u << plane);
}

/* One of the three passes over a bit plane: 0 significance, 1 refinement, 2 cleanup. Stripes of four rows, by columns. */
static inline void lathe_j2k_pass(lathe_j2k_block *k, int kind, int plane) {
    for (int top = 0; top < k->h; top += 4) {
        for (int x = 0; x < k->w; x++) {
            const int end = top + 4 < k->h ? top + 4 : k->h;
            int y = top;
            if (kind == 2 && end - top == 4) {
                int quiet = 1;
                for (int i = top; i < end && quiet; i++) {
                    const uint8_t *f = &k->flag[(i + 1) * 66 + x + 1];
                    quiet = (*f & (LATHE_J2K_SIGNIFICANT | LATHE_J2K_VISITED)) == 0 && lathe_j2k_context(f, k->band) == 0;
                }
                if (quiet) {
                    if (!lathe_mq_bit(&k->q, 17)) continue;
                    const int high = lathe_mq_bit(&k->q, 18);
                    y = top + high * 2 + lathe_mq_bit(&k->q, 18);
                    lathe_j2k_appear(k, &k->flag[(y + 1) * 66 + x + 1], &k->coef[y * k->stride + x], plane);
                    y++;
                }
            }
            for (; y < end; y++) {
                uint8_t *f = &k->flag[(y + 1) * 66 + x + 1];
                int32_t *coef = &k->coef[y * k->stride + x];
                const int known = lathe_j2k_significant(f), visited = *f & LATHE_J2K_VISITED, context = lathe_j2k_context(f, k->band);
                if (kind == 0 && !known && context != 0) {
                    if (lathe_mq_bit(&k->q, context)) lathe_j2k_appear(k, f, coef, plane);
                    *f |= LATHE_J2K_VISITED;
                } else if (kind == 1 && known && !visited) {
                    const int first = (*f & LATHE_J2K_REFINED) == 0;
                    if (lathe_mq_bit(&k->q, !first ? 16 : context != 0 ? 15 : 14)) *coef |= (int32_t)(1u << plane);
                    *f |= LATHE_J2K_REFINED;
                } else if (kind == 2 && !known && !visited) {
                    if (lathe_mq_bit(&k->q, context)) lathe_j2k_appear(k, f, coef, plane);
                }
            }
        }
    }
    if (kind != 2) return;
    for (int i = 0; i < 66 * 66; i++) k->flag[i] &= (uint8_t)~LATHE_J2K_VISITED;
}

/* `passes` passes from the highest of `planes` bit planes on; then signs. */
static inline void lathe_j2k_decode(lathe_j2k_block *k, const lathe_bytes *b, int64_t at, int64_t n, int planes, int passes) {
    memset(k->flag, 0, sizeof k->flag);
    lathe_mq_start(&k->q, b, at, n);
    for (int i = 0; i < passes; i++) {
        const int plane = planes - 1 - (i + 2) / 3;
        if (plane >= 0) lathe_j2k_pass(k, (i + 2) % 3, plane);
    }
    for (int y = 0; y < k->h; y++)
        for (int x = 0; x < k->w; x++)
            if ((k->flag[(y + 1) * 66 + x + 1] & LATHE_J2K_NEGATIVE) != 0) k->coef[y * k->stride + x] = -k->coef[y * k->stride + x];
}

/* ---- packets ------------------------------------------------------------------------------------------------------ */
typedef struct lathe_j2k {
    const lathe_bytes *b;
    int64_t at, end, w, h, room; /* at: next byte of the tile; room: numbers left in `spare` */
    uint32_t bits;
    int n_bits, levels, order, parts, colours, guard;
    int64_t block_w, block_h;
    uint8_t exponent[97];
    int32_t *coef[4], *spare;    /* coefficients [h, w]: LL in the corner, then HL to the right of it, LH below, HH across */
} lathe_j2k;

static inline uint32_t lathe_j2k_bit(lathe_j2k *j) {
    if (j->n_bits == 0) {
        const int after_ff = j->bits == 0xFF; /* a byte behind 0xFF has seven bits */
        j->bits = j->at < j->end ? lathe_byte(j->b, j->at) : 0u;
        j->at++;
        j->n_bits = after_ff ? 7 : 8;
    }
    return j->bits >> --j->n_bits & 1u;
}

static inline int64_t lathe_j2k_number(lathe_j2k *j, int n) {
    int64_t v = 0;
    for (int i = 0; i < n; i++) v = v << 1 | (int64_t)lathe_j2k_bit(j);
    return v;
}

/* A tree of minima over w x h leaves, coded as far as needed. node: per node, root last: the value (or the limit), then
 * the lower bound known so far. */
typedef struct lathe_j2k_tree {
    int32_t *node;
    int64_t w, h;
} lathe_j2k_tree;

/* Is the value of leaf (x, y) below `limit`? */
static inline int lathe_j2k_below(lathe_j2k *j, const lathe_j2k_tree *t, int64_t x, int64_t y, int32_t limit) {
    int64_t path[20], w = t->w, h = t->h, base = 0;
    int depth = 0;
    for (;; depth++) {
        path[depth] = base + y * w + x;
        if (w == 1 && h == 1) break;
        base += w * h;
        w = (w + 1) / 2;
        h = (h + 1) / 2;
        x /= 2;
        y /= 2;
    }
    int32_t low = 0;
    for (; depth >= 0; depth--) {
        int32_t *node = &t->node[2 * path[depth]];
        if (low < node[1]) low = node[1];
        while (low < limit && low < node[0]) {
            if (lathe_j2k_bit(j)) node[0] = low;
            else low++;
        }
        node[1] = low;
    }
    return t->node[2 * path[0]] < limit;
}

/* Takes a tree from the spare numbers; 0 when there are too few. */
static inline int lathe_j2k_tree_new(lathe_j2k *j, lathe_j2k_tree *t, int64_t w, int64_t h, int32_t **spare, int64_t *room) {
    int64_t nodes = 0;
    for (int64_t a = w, c = h;; a = (a + 1) / 2, c = (c + 1) / 2) {
        nodes += a * c;
        if (a <= 1 && c <= 1) break;
    }
    (void)j;
    if (2 * nodes > *room) return 0;
    t->node = *spare;
    t->w = w;
    t->h = h;
    for (int64_t i = 0; i < nodes; i++) t->node[2 * i] = INT32_MAX, t->node[2 * i + 1] = 0;
    *spare += 2 * nodes;
    *room -= 2 * nodes;
    return 1;
}

static inline int lathe_j2k_passes(lathe_j2k *j) {
    if (!lathe_j2k_bit(j)) return 1;
    if (!lathe_j2k_bit(j)) return 2;
    int64_t n = lathe_j2k_number(j, 2);
    if (n < 3) return 3 + (int)n;
    n = lathe_j2k_number(j, 5);
    if (n < 31) return 6 + (int)n;
    return 37 + (int)lathe_j2k_number(j, 7);
}

/* Where a band of a resolution is, and how many code blocks it has. */
typedef struct lathe_j2k_band {
    int64_t x, y, w, h, across, down;
    int kind, planes;
} lathe_j2k_band;

static inline int64_t lathe_j2k_halved(int64_t n, int times) {
    return (n + ((int64_t)1 << times) - 1) >> times;
}

static inline lathe_j2k_band lathe_j2k_band_of(const lathe_j2k *j, int level, int i) {
    lathe_j2k_band s;
    const int kind = level == 0 ? 0 : i + 1, deep = level == 0 ? j->levels : j->levels - level + 1;
    const int64_t low_w = lathe_j2k_halved(j->w, deep), low_h = lathe_j2k_halved(j->h, deep);
    const int64_t all_w = level == 0 ? low_w : lathe_j2k_halved(j->w, deep - 1), all_h = level == 0 ? low_h : lathe_j2k_halved(j->h, deep - 1);
    s.kind = kind;
    s.x = kind & 1 ? low_w : 0;
    s.y = kind & 2 ? low_h : 0;
    s.w = kind & 1 ? all_w - low_w : low_w;
    s.h = kind & 2 ? all_h - low_h : low_h;
    s.across = (s.w + j->block_w - 1) / j->block_w;
    s.down = (s.h + j->block_h - 1) / j->block_h;
    if (s.w == 0 || s.h == 0) s.across = s.down = 0;
    s.planes = j->guard + j->exponent[level == 0 ? 0 : 3 * level - 2 + i] - 1;
    return s;
}

/* Of each code block of a band: passes (0: not there), planes, bytes; from the packet's header. */
static inline int lathe_j2k_heads(lathe_j2k *j, const lathe_j2k_band *s, int32_t *head, int32_t *spare, int64_t room) {
    lathe_j2k_tree there, empty;
    if (s->across * s->down == 0) return 0;
    if (!lathe_j2k_tree_new(j, &there, s->across, s->down, &spare, &room) || !lathe_j2k_tree_new(j, &empty, s->across, s->down, &spare, &room)) return 4;
    for (int64_t i = 0; i < s->across * s->down; i++, head += 3) {
        const int64_t x = i % s->across, y = i / s->across;
        head[0] = 0;
        if (!lathe_j2k_below(j, &there, x, y, 1)) continue;
        int32_t zeros = 1;
        while (!lathe_j2k_below(j, &empty, x, y, zeros))
            if (++zeros > 40) return 6;
        head[0] = lathe_j2k_passes(j);
        head[1] = s->planes - (zeros - 1);
        int size = 3;
        while (lathe_j2k_bit(j))
            if (++size > 24) return 6;
        for (int32_t n = head[0]; n > 1; n >>= 1) size++;
        head[2] = (int32_t)lathe_j2k_number(j, size > 30 ? 30 : size);
        if (head[1] < 0 || head[1] > 31 || j->at > j->end) return 6;
    }
    return 0;
}

/* The packet of one resolution of one part. */
static inline int lathe_j2k_packet(lathe_j2k *j, int part, int level, lathe_j2k_block *k) {
    const int bands = level == 0 ? 1 : 3;
    int32_t *head = j->spare;
    int64_t room = j->room;
    j->n_bits = 0;
    j->bits = 0;
    const int any = (int)lathe_j2k_bit(j);
    for (int i = 0; any && i < bands; i++) {
        const lathe_j2k_band s = lathe_j2k_band_of(j, level, i);
        const int64_t n = 3 * s.across * s.down;
        if (n > room) return 4;
        const int error = lathe_j2k_heads(j, &s, head, head + n, room - n);
        if (error != 0) return error;
        head += n;
        room -= n;
    }
    if (j->bits == 0xFF) j->at++;
    j->bits = 0;
    j->n_bits = 0;
    head = j->spare;
    for (int i = 0; any && i < bands; i++) {
        const lathe_j2k_band s = lathe_j2k_band_of(j, level, i);
        for (int64_t n = 0; n < s.across * s.down; n++, head += 3) {
            if (head[0] == 0) continue;
            if (head[2] > j->end - j->at) return 6;
            const int64_t x = n % s.across * j->block_w, y = n / s.across * j->block_h;
            k->band = s.kind;
            k->w = (int)(s.w - x < j->block_w ? s.w - x : j->block_w);
            k->h = (int)(s.h - y < j->block_h ? s.h - y : j->block_h);
            k->stride = j->w;
            k->coef = j->coef[part] + (s.y + y) * j->w + s.x + x;
            lathe_j2k_decode(k, j->b, j->at, head[2], head[1], head[0]);
            j->at += head[2];
        }
    }
    return 0;
}

static inline int lathe_j2k_packets(lathe_j2k *j) {
    lathe_j2k_block block;
    const int by_part = j->order > 2; /* with one layer and one precinct the five orders are two */
    for (int a = 0; a < (by_part ? j->parts : j->levels + 1); a++) {
        for (int c = 0; c < (by_part ? j->levels + 1 : j->parts); c++) {
            const int error = lathe_j2k_packet(j, by_part ? a : c, by_part ? c : a, &block);
            if (error != 0) return error;
        }
    }
    return 0;
}

/* ---- wavelets ----------------------------------------------------------------------------------------------------- */
/* n numbers at distance `step`: first half even, second half odd samples of the result. Wraps around on damaged input. */
static inline void lathe_j2k_merge(int32_t *x, int64_t step, int64_t n, int32_t *line) {
    const int64_t low = (n + 1) / 2, high = n / 2;
    if (n < 2) return;
    for (int64_t i = 0; i < low; i++) {
        const int64_t a = x[(low + (i > 0 ? i - 1 : 0)) * step], b = x[(low + (i < high ? i : high - 1)) * step];
        line[2 * i] = (int32_t)(uint32_t)(uint64_t)(x[i * step] - ((a + b + 2) >> 2));
    }
    for (int64_t i = 0; i < high; i++) {
        const int64_t a = line[2 * i], b = line[2 * (i + 1 < low ? i + 1 : i)];
        line[2 * i + 1] = (int32_t)(uint32_t)(uint64_t)(x[(low + i) * step] + ((a + b) >> 1));
    }
    for (int64_t i = 0; i < n; i++) x[i * step] = line[i];
}

static inline uint32_t lathe_j2k_level(int64_t v) {
    return (uint32_t)(v < -128 ? 0 : v > 127 ? 255 : v + 128);
}

static inline void lathe_j2k_pixels(const lathe_j2k *j, lathe_image *im) {
    for (int64_t y = 0; y < im->h; y++) {
        for (int64_t x = 0; x < im->w; x++) {
            int64_t v[3];
            for (int c = 0; c < 3; c++) v[c] = j->coef[j->parts < 3 ? 0 : c][y * im->w + x];
            if (j->colours && j->parts >= 3) {
                const int64_t g = v[0] - ((v[1] + v[2]) >> 2), r = v[2] + g, b = v[1] + g;
                v[0] = r, v[1] = g, v[2] = b;
            }
            lathe_image_put(im, x, y, lathe_j2k_level(v[0]), lathe_j2k_level(v[1]), lathe_j2k_level(v[2]));
        }
    }
}

/* ---- the code stream ---------------------------------------------------------------------------------------------- */
/* Sizes and parts: everything from the corner of the grid, one tile. */
static inline int lathe_j2k_size(lathe_j2k *j, lathe_image *im, int64_t at) {
    const lathe_bytes *b = j->b;
    const int64_t w = lathe_number(b, at + 2, 4, 1), h = lathe_number(b, at + 6, 4, 1);
    const int error = lathe_image_size(im, w, h);
    if (error != 0) return error;
    if (lathe_number(b, at + 10, 4, 1) != 0 || lathe_number(b, at + 14, 4, 1) != 0 || lathe_number(b, at + 26, 4, 1) != 0 || lathe_number(b, at + 30, 4, 1) != 0) return 6;
    if (lathe_number(b, at + 18, 4, 1) < w || lathe_number(b, at + 22, 4, 1) < h || w > 32768 || h > 32768) return 6;
    j->parts = (int)lathe_number(b, at + 34, 2, 1);
    if (j->parts < 1 || j->parts > 4) return 6;
    for (int i = 0; i < j->parts; i++)
        if (lathe_number(b, at + 36 + 3 * i, 3, 1) != 0x070101u) return 6;
    j->w = w;
    j->h = h;
    int32_t *memory = (int32_t *)(void *)im->scratch;
    j->room = im->room / 4;
    for (int i = 0; i < j->parts; i++, memory += w * h) {
        j->coef[i] = memory;
        j->room -= w * h;
    }
    j->spare = memory;
    if (j->room < w + h) return 4;
    memset(im->scratch, 0, (size_t)(w * h * j->parts * 4));
    return 0;
}

static inline int lathe_j2k_style(lathe_j2k *j, int64_t at) {
    const lathe_bytes *b = j->b;
    j->order = (int)lathe_byte(b, at + 1);
    j->colours = lathe_byte(b, at + 4) == 1;
    j->levels = (int)lathe_byte(b, at + 5);
    j->block_w = (int64_t)4 << (lathe_byte(b, at + 6) & 15);
    j->block_h = (int64_t)4 << (lathe_byte(b, at + 7) & 15);
    const int plain = lathe_byte(b, at) == 0 && lathe_number(b, at + 2, 2, 1) == 1 && lathe_byte(b, at + 8) == 0 && lathe_byte(b, at + 9) == 1;
    return plain && j->order < 5 && j->levels <= 32 && j->block_w <= 64 && j->block_h <= 64 ? 0 : 6;
}

static inline int lathe_j2k_exponents(lathe_j2k *j, int64_t at, int64_t end) {
    const uint32_t style = lathe_byte(j->b, at);
    j->guard = (int)(style >> 5);
    if ((style & 31) != 0) return 6;
    for (int i = 0; i < 97; i++) j->exponent[i] = at + 1 + i < end ? (uint8_t)(lathe_byte(j->b, at + 1 + i) >> 3) : 0;
    return 0;
}

static inline int lathe_j2k_tile(lathe_j2k *j, lathe_image *im, int64_t at) {
    const int64_t size = lathe_number(j->b, at + 6, 4, 1);
    if (lathe_number(j->b, at + 4, 2, 1) != 0 || lathe_byte(j->b, at + 10) != 0 || lathe_byte(j->b, at + 11) > 1) return 6;
    if (lathe_number(j->b, at + 12, 2, 1) != 0xFF93u || j->parts == 0 || j->block_w == 0 || j->guard == 0) return 6;
    j->at = at + 14;
    j->end = size != 0 && at + size < j->b->n ? at + size : j->b->n;
    const int error = lathe_j2k_packets(j);
    if (error != 0) return error;
    for (int c = 0; c < j->parts; c++) {
        for (int deep = j->levels - 1; deep >= 0; deep--) {
            const int64_t w = lathe_j2k_halved(j->w, deep), h = lathe_j2k_halved(j->h, deep);
            for (int64_t y = 0; y < h; y++) lathe_j2k_merge(j->coef[c] + y * j->w, 1, w, j->spare);
            for (int64_t x = 0; x < w; x++) lathe_j2k_merge(j->coef[c] + x, j->w, h, j->spare);
        }
    }
    lathe_j2k_pixels(j, im);
    return 0;
}

/* In a file of boxes or alone: the stream starts with the markers SOC and SIZ. */
static inline int lathe_image_jpeg2000(const lathe_bytes *b, lathe_image *im) {
    lathe_j2k j;
    int64_t at = 0;
    memset(&j, 0, sizeof j);
    j.b = b;
    while (at + 4 <= b->n && lathe_number(b, at, 4, 1) != 0xFF4FFF51u) at++;
    for (at += 2; at + 4 <= b->n;) {
        const uint32_t mark = lathe_number(b, at, 2, 1);
        const int64_t size = lathe_number(b, at + 2, 2, 1), body = at + 4;
        int error = 0;
        if (mark == 0xFF90u) return lathe_j2k_tile(&j, im, at);
        if (mark >> 8 != 0xFF || size < 2) return 6;
        if (mark == 0xFF51u && j.parts == 0) error = lathe_j2k_size(&j, im, body);
        else if (mark == 0xFF52u) error = lathe_j2k_style(&j, body);
        else if (mark == 0xFF5Cu) error = lathe_j2k_exponents(&j, body, at + 2 + size);
        else if (mark != 0xFF64u && mark != 0xFF55u && mark != 0xFF57u) error = 6; /* a comment, lengths of tiles or packets: not needed */
        if (error != 0) return error;
        at += 2 + size;
    }
    return 6;
}

#endif
