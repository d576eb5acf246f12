/* Orders of 64-bit keys: the k best of a row, and groups of equal rows. Keys of floats come from lathe_key_f32, whose
 * order is the order of the numbers (-0 equals +0, NaN is above everything). Equal keys keep their positions' order.
 * No memory is allocated: the caller gives the arrays. */
#ifndef LATHE_RUNTIME_SORT_H
#define LATHE_RUNTIME_SORT_H
#include <stdint.h>
#include <string.h>

/* A key whose order is the order of floats. */
static inline int64_t lathe_key_f32(float x) {
    int32_t bits;
    if (x != x) return INT64_C(0x7FFFFFFF);
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits >= 0 ? bits : -(int64_t)(bits & INT32_MAX);
}

static inline int64_t lathe_key_f64(double x) {
    int64_t bits;
    if (x != x) return INT64_MAX;
    x += 0.0;
    memcpy(&bits, &x, sizeof bits);
    return bits >= 0 ? bits : -(bits & INT64_MAX);
}

/* Does item a stand before item b, by key (largest first if asked), then by position? */
static inline int lathe_key_before(const int64_t *key, int64_t a, int64_t b, int64_t largest) {
    if (key[a] != key[b]) return largest != 0 ? key[a] > key[b] : key[a] < key[b];
    return a < b;
}

/* heap[0] is the item that stands last; moves the item at `at` down to its place among n. */
static inline void lathe_heap_down(const int64_t *key, int64_t *heap, int64_t at, int64_t n, int64_t largest) {
    const int64_t item = heap[at];
    for (int64_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && lathe_key_before(key, heap[child], heap[child + 1], largest)) child++;
        if (!lathe_key_before(key, item, heap[child], largest)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

/* index[0..k): the positions of the k largest (smallest) of n keys, in order. k <= n. */
static int lathe_top_k(const int64_t *key, int64_t *index, int64_t n, int64_t k, int64_t largest) {
    if (k > n) return 3;
    for (int64_t i = 0; i < k; i++) index[i] = i;
    for (int64_t i = k / 2; i-- > 0;) lathe_heap_down(key, index, i, k, largest);
    for (int64_t i = k; i < n && k > 0; i++) {
        if (!lathe_key_before(key, i, index[0], largest)) continue;
        index[0] = i;
        lathe_heap_down(key, index, 0, k, largest);
    }
    for (int64_t last = k - 1; last > 0; last--) {
        const int64_t item = index[0];
        index[0] = index[last];
        index[last] = item;
        lathe_heap_down(key, index, 0, last, largest);
    }
    return 0;
}

/* Order of rows a and b of m keys: <0, 0, >0. */
static inline int lathe_row_order(const int64_t *key, int64_t m, int64_t a, int64_t b) {
    for (int64_t i = 0; i < m; i++) {
        const int64_t x = key[a * m + i], y = key[b * m + i];
        if (x != y) return x < y ? -1 : 1;
    }
    return 0;
}

static inline int lathe_row_before(const int64_t *key, int64_t m, int64_t a, int64_t b) {
    const int order = lathe_row_order(key, m, a, b);
    return order != 0 ? order < 0 : a < b;
}

static inline void lathe_row_heap_down(const int64_t *key, int64_t m, int64_t *heap, int64_t at, int64_t n) {
    const int64_t item = heap[at];
    for (int64_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && lathe_row_before(key, m, heap[child], heap[child + 1])) child++;
        if (!lathe_row_before(key, m, item, heap[child])) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

/* Groups of equal rows among n rows of m keys. first[g]: the first row of group g; group[i]: the group of row i;
 * size[g]: rows in it; *count: groups. Groups are in the order of their keys, or of their first rows. order: scratch,
 * n items. */
static int lathe_unique_rows(const int64_t *key, int64_t n, int64_t m, int64_t sorted, int64_t *order, int64_t *first, int64_t *group, int64_t *size, int64_t *count) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t i = n / 2; i-- > 0;) lathe_row_heap_down(key, m, order, i, n);
    for (int64_t last = n - 1; last > 0; last--) {
        const int64_t item = order[0];
        order[0] = order[last];
        order[last] = item;
        lathe_row_heap_down(key, m, order, 0, last);
    }
    int64_t leader = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || lathe_row_order(key, m, order[i - 1], order[i]) != 0) {
            leader = order[i];
            first[found] = leader;
            size[found] = 0;
            found++;
        }
        size[found - 1]++;
        group[order[i]] = sorted != 0 ? found - 1 : leader;
    }
    *count = found;
    if (sorted != 0) return 0;
    found = 0;
    for (int64_t i = 0; i < n; i++) {
        if (group[i] == i) {
            first[found] = i;
            size[found] = 0;
            order[i] = found++; /* the number of the group whose first row is i */
        }
        group[i] = order[group[i]];
        size[group[i]]++;
    }
    return 0;
}

#endif
