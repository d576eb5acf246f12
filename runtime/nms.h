/* Non-maximum suppression: of boxes that overlap too much, the one with the best score stays. */
#ifndef LATHE_RUNTIME_NMS_H
#define LATHE_RUNTIME_NMS_H
#include <stdint.h>

#include "sort.h"

/* Corners of a box: [y1, x1, y2, x2] in any order of corners, or [x, y, width, height] around a centre. */
static inline void lathe_box_corners(const float *box, int64_t center, float *corner) {
    if (center != 0) {
        corner[0] = box[0] - box[2] / 2.0f;
        corner[1] = box[1] - box[3] / 2.0f;
        corner[2] = box[0] + box[2] / 2.0f;
        corner[3] = box[1] + box[3] / 2.0f;
        return;
    }
    corner[0] = box[0] < box[2] ? box[0] : box[2];
    corner[1] = box[1] < box[3] ? box[1] : box[3];
    corner[2] = box[0] < box[2] ? box[2] : box[0];
    corner[3] = box[1] < box[3] ? box[3] : box[1];
}

/* Area of the intersection over the area of the union; 0 where a box has no area. */
static inline float lathe_box_overlap(const float *a, const float *b, int64_t center) {
    float p[4], q[4];
    lathe_box_corners(a, center, p);
    lathe_box_corners(b, center, q);
    const float top = p[0] > q[0] ? p[0] : q[0], left = p[1] > q[1] ? p[1] : q[1];
    const float bottom = p[2] < q[2] ? p[2] : q[2], right = p[3] < q[3] ? p[3] : q[3];
    if (!(bottom > top && right > left)) return 0.0f;
    const float both = (bottom - top) * (right - left);
    const float area_a = (p[2] - p[0]) * (p[3] - p[1]), area_b = (q[2] - q[0]) * (q[3] - q[1]);
    return area_a > 0.0f && area_b > 0.0f ? both / (area_a + area_b - both) : 0.0f;
}

/* boxes [batches, n, 4], scores [batches, classes, n]. out: rows (batch, class, box), at most `limit` per batch and
 * class; *count: rows. has_threshold 0: every score counts. key, order: scratch of n items each. */
static int lathe_nms(const float *boxes, const float *scores, int64_t batches, int64_t classes, int64_t n, int64_t limit, float overlap, float threshold,
                     int64_t has_threshold, int64_t center, int64_t *key, int64_t *order, int64_t *out, int64_t *count) {
    int64_t rows = 0;
    if (n <= 0) classes = 0;
    for (int64_t b = 0; b < batches; b++) {
        for (int64_t c = 0; c < classes; c++) {
            const float *score = scores + (b * classes + c) * n;
            const int64_t first = rows;
            for (int64_t i = 0; i < n; i++) key[i] = lathe_key_f32(score[i]);
            (void)lathe_top_k(key, order, n, n, 1);
            for (int64_t i = 0; i < n && rows - first < limit; i++) {
                const int64_t box = order[i];
                int keep = has_threshold == 0 || score[box] > threshold;
                for (int64_t k = first; k < rows && keep; k++)
                    keep = !(lathe_box_overlap(boxes + (b * n + box) * 4, boxes + (b * n + out[k * 3 + 2]) * 4, center) > overlap);
                if (!keep) continue;
                out[rows * 3] = b;
                out[rows * 3 + 1] = c;
                out[rows * 3 + 2] = box;
                rows++;
            }
        }
    }
    *count = rows;
    return 0;
}

#endif
