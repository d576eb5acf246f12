/* Alignments of sequences: the cheapest path through a matrix of costs, and where predicted tokens leave a source text. No memory is
 * allocated: the caller gives the arrays. Error 6 is LATHE_RT_VALUE. */
#ifndef LATHE_RUNTIME_ALIGNMENT_H
#define LATHE_RUNTIME_ALIGNMENT_H
#include <stdint.h>
#include <string.h>

/* DynamicTimeWarping: the path of lowest cost from the first to the last element of cost [rows][columns], by steps to the next row, the next column
 * or both. total: 2 * (columns + 1) numbers; step: rows * columns bytes; path [2][*length]: the rows, then the columns. */
static inline int lathe_time_warp(const float *cost, int64_t rows, int64_t columns, float *total, uint8_t *step, int32_t *path, int64_t *length) {
    float *above = total, *here = total + columns + 1;
    const uint32_t infinity = 0x7F800000u;
    float far_away;
    int64_t n = 0;
    memcpy(&far_away, &infinity, sizeof far_away);
    *length = 0;
    if (rows < 1 || columns < 1) return 0;
    for (int64_t j = 0; j <= columns; j++) above[j] = j == 0 ? 0.0f : far_away;
    for (int64_t i = 0; i < rows; i++) {
        here[0] = far_away;
        for (int64_t j = 0; j < columns; j++) {
            const float both = above[j], down = above[j + 1], right = here[j];
            const int kind = both < down && both < right ? 0 : down < both && down < right ? 1 : 2;
            step[i * columns + j] = (uint8_t)kind;
            here[j + 1] = cost[i * columns + j] + (kind == 0 ? both : kind == 1 ? down : right);
        }
        float *const swap = above;
        above = here;
        here = swap;
    }
    for (int pass = 0; pass < 2; pass++) { /* counts the path, then writes it from its end */
        int64_t i = rows - 1, j = columns - 1, at = n;
        while (i >= 0 || j >= 0) {
            /* outside of the matrix there is one way: along its edge */
            const int kind = i < 0 ? 2 : j < 0 ? 1 : step[i * columns + j];
            if (pass == 0) {
                n++;
            } else {
                at--;
                path[at] = (int32_t)i;
                path[n + at] = (int32_t)j;
            }
            if (kind != 2) i--;
            if (kind != 1) j--;
        }
    }
    *length = n;
    return 0;
}

/* The first place from `from` on where the n tokens of `gram` stand in source; -1 if there is none. */
static inline int64_t lathe_find_tokens(const int64_t *source, int64_t count, int64_t from, const int64_t *gram, int64_t n) {
    for (int64_t i = from; i + n <= count; i++)
        if (memcmp(source + i, gram, (size_t)n * sizeof *gram) == 0) return i;
    return -1;
}

/* BifurcationDetector: out = current followed by the predicted tokens up to the first that differs from source[*previous ..] (n_predicted < 0: none);
 * match: behind the only place in source of the last tokens of out, the fewest from lo to hi that stand there once, else -1. */
static inline int lathe_bifurcation(const int64_t *source, int64_t n_source, const int64_t *current, int64_t n_current, const int64_t *previous, const int64_t *predicted, int64_t n_predicted,
                                    int64_t lo, int64_t hi, int64_t *out, int64_t *match, int64_t *length) {
    int64_t n = n_current, same = 0;
    *match = -1;
    *length = n_current;
    for (int64_t i = 0; i < n_current; i++) out[i] = current[i];
    if (n_predicted >= 0) {
        if (*previous < 0 || *previous > n_source || n_predicted != n_source - *previous + 1) return 6;
        while (same < n_predicted - 1 && predicted[same] == source[*previous + same]) same++;
        for (int64_t i = 0; i <= same; i++) out[n++] = predicted[i];
    }
    *length = n;
    for (int64_t size = lo; size >= 1 && size <= hi && size <= n; size++) {
        const int64_t at = lathe_find_tokens(source, n_source, 0, out + n - size, size);
        if (at < 0) break;
        if (lathe_find_tokens(source, n_source, at + 1, out + n - size, size) >= 0) continue;
        *match = at + size;
        break;
    }
    return 0;
}

#endif
