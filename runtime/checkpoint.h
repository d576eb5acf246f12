/* The checksum of checkpoints. */
#ifndef LATHE_RUNTIME_CHECKPOINT_H
#define LATHE_RUNTIME_CHECKPOINT_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Goes on from `sum` over n more bytes. Where a sequence is cut does not matter as long as the parts but the last of each
 * tensor are multiples of 8 bytes. */
static uint64_t lathe_checkpoint_sum(uint64_t sum, const void *bytes, size_t n) {
    const unsigned char *p = (const unsigned char *)bytes;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t x = 0;
        memcpy(&x, p + i, n - i < 8 ? n - i : 8);
        sum = (sum ^ x) * 0x9E3779B97F4A7C15u;
        sum ^= sum >> 32;
    }
    return sum;
}

static void lathe_checkpoint_hex(unsigned char *digits, uint64_t sum) {
    for (int i = 0; i < 16; i++) digits[i] = (unsigned char)"0123456789abcdef"[sum >> (60 - 4 * i) & 15];
}

#endif
