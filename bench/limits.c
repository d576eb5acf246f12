/* What one processor can do at most, for bench/quantized.py: 8-bit products per second in AVX-512 VNNI and bytes per second from memory.
 *
 *     cc -O2 -march=native -fopenmp limits.c -o limits && ./limits 2      two threads; a line of JSON
 *
 * A figure that the processor has no instruction for is 0.
 */
#define _GNU_SOURCE
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

enum { CHAINS = 16, REPEATS = 10 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__AVX512VNNI__)
/* Independent sums in registers; the compiler may not see what they are. */
static void multiply(long steps) {
    __m512i sum[CHAINS], x = _mm512_set1_epi8(1);
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_setzero_si512();
    for (long k = 0; k < steps; k++)
        for (int i = 0; i < CHAINS; i++) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(sum[i]) : "v"(x));
}
static const double products = 64.0 * CHAINS;
#else
static void multiply(long steps) { (void)steps; }
static const double products = 0;
#endif

/* Sums 64-bit words in a way that every compiler makes wide loads of. */
static uint64_t read_all(const uint64_t *p, size_t n) {
    uint64_t sum[64] = {0};
    for (size_t i = 0; i + 64 <= n; i += 64)
        for (size_t j = 0; j < 64; j++) sum[j] += p[i + j];
    uint64_t all = 0;
    for (size_t j = 0; j < 64; j++) all += sum[j];
    return all;
}

static double multiply_rate(int threads) {
    double best = 0;
    for (int r = 0; r < REPEATS && products > 0; r++) {
        const long steps = 1 << 20;
        const double start = now();
#pragma omp parallel num_threads(threads)
        multiply(steps);
        const double rate = 2 * products * (double)steps * threads / (now() - start);
        best = rate > best ? rate : best;
    }
    return best * 1e-9;
}

static double read_rate(int threads, size_t bytes) {
    uint64_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 0;
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* advice only */
    memset(p, 1, bytes);
    double best = 0;
    volatile uint64_t keep = 0;
    for (int r = 0; r < REPEATS; r++) {
        uint64_t all = 0;
        const double start = now();
#pragma omp parallel num_threads(threads) reduction(+ : all)
        {
            const size_t part = bytes / 8 / (size_t)threads;
            all += read_all(p + part * (size_t)omp_get_thread_num(), part);
        }
        const double rate = (double)bytes / (now() - start);
        keep = keep + all;
        best = rate > best ? rate : best;
    }
    (void)munmap(p, bytes);
    return best * 1e-9;
}

int main(int argc, char **argv) {
    const int threads = argc > 1 ? atoi(argv[1]) : 1;
    printf("{\"vnni_gops\": %.1f, \"read_16mb\": %.1f, \"read_64mb\": %.1f, \"memory\": %.1f}\n", multiply_rate(threads), read_rate(threads, (size_t)16 << 20),
           read_rate(threads, (size_t)64 << 20), read_rate(threads, (size_t)1 << 30));
    return 0;
}
