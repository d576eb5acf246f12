#include "driver/machine.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "driver/cache.h"
#include "driver/toolchain.h"

/* Samples of about a millisecond, so that some of them are not interrupted; reads walk through more memory than caches hold. */
enum { READ_BYTES = 256 << 20, PART_BYTES = 8 << 20, PARTS = READ_BYTES / PART_BYTES, ROUNDS = 4 };

const char *machine_cpu(Driver *d) {
    FILE *f = fopen("/proc/cpuinfo", "r");
    const char *name = "unknown";
    char line[4096];
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "model name", 10) != 0) continue;
        line[strcspn(line, "\n")] = 0;
        const char *colon = strchr(line, ':');
        if (colon != NULL) name = driver_format(d, "%s", colon + 2);
        break;
    }
    if (f != NULL) fclose(f);
    return name;
}

/* Enough independent multiply-adds to fill the pipelines; a sum over memory that no cache holds. */
static const char source[] =
    "#include <stddef.h>\n"
    "#if defined(__AVX512F__)\n#define BYTES 64\n#elif defined(__AVX__)\n#define BYTES 32\n#else\n#define BYTES 16\n#endif\n"
    "typedef float vec __attribute__((vector_size(BYTES)));\n"
    "typedef unsigned words __attribute__((vector_size(BYTES)));\n"
    "static float multiply(long n, float x)\n{\n"
    "    vec a = {0}, s[10], c = a + x;\n    for (int i = 0; i < 10; i++) s[i] = a + (float)i;\n"
    "    for (long k = 0; k < n; k++) {\n#pragma GCC unroll 10\n        for (int i = 0; i < 10; i++) s[i] = s[i] * c + c;\n    }\n"
    "    for (int i = 1; i < 10; i++) s[0] += s[i];\n    return s[0][0];\n}\n"
    "/* Operations that were done. */\n"
    "double lathe_peak_multiply(long n, int threads, float x)\n{\n    double total = 0;\n"
    "#pragma omp parallel num_threads(threads) reduction(+ : total)\n"
    "    {\n        const float r = multiply(n, x);\n        total += r == 12345.0f ? 0.0 : (double)n * 10 * (BYTES / 4) * 2;\n    }\n    return total;\n}\n"
    "unsigned lathe_peak_read(const unsigned *p, long bytes, int threads)\n{\n    unsigned total = 0;\n    const long n = bytes / (4 * BYTES);\n    const words *v = (const words *)p;\n"
    "#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : total)\n"
    "    for (long part = 0; part < 64; part++) {\n        words a = {0}, b = a, c = a, d = a;\n"
    "        for (long k = n * part / 64; k < n * (part + 1) / 64; k++) {\n            for (int i = 0; i < BYTES / 16; i++) __builtin_prefetch((const char *)(v + 4 * k) + 4096 + 64 * i);\n            a += v[4 * k];\n            b += v[4 * k + 1];\n            c += v[4 * k + 2];\n            d += v[4 * k + 3];\n        }\n"
    "        a += b + c + d;\n        total += a[0];\n    }\n    return total;\n}\n";

static int fastest_first(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

static bool measure_now(Driver *d, const char *object, int threads, Machine *m) {
    double (*multiply)(long, int, float);
    unsigned (*read)(const unsigned *, long, int);
    void *handle = dlopen(object, RTLD_NOW | RTLD_LOCAL), *a = handle != NULL ? dlsym(handle, "lathe_peak_multiply") : NULL, *b = handle != NULL ? dlsym(handle, "lathe_peak_read") : NULL;
    void *memory = NULL;
    if (a == NULL || b == NULL || posix_memalign(&memory, 64, READ_BYTES) != 0) {
        driver_error(d, "cannot measure this machine");
        return false;
    }
    memcpy(&multiply, &a, sizeof a);
    memcpy(&read, &b, sizeof b);
    memset(memory, 1, READ_BYTES);
    double speed[PARTS * ROUNDS];
    unsigned sum = 0;
    *m = (Machine){0};
    for (int i = 0; i < PARTS * ROUNDS; i++) {
        double start = driver_now(), done = multiply(400000, threads, 0.999f), between = driver_now();
        if (done / (between - start) > m->flops) m->flops = done / (between - start);
    }
    for (int i = 0; i < PARTS * ROUNDS; i++) {
        double start = driver_now();
        sum += read((const unsigned *)memory + (size_t)(i % PARTS) * (PART_BYTES / 4), PART_BYTES, threads);
        speed[i] = (double)PART_BYTES / (driver_now() - start);
    }
    qsort(speed, PARTS * ROUNDS, sizeof *speed, fastest_first);
    m->bytes = speed[PARTS * ROUNDS / 10] + (sum == 1 ? 1e-9 : 0); /* the very fastest may have been in a cache */
    free(memory);
    return true; /* the object stays: OpenMP's threads may be parked in it */
}

static bool read_kept(Driver *d, const char *path, Machine *m) {
    FILE *f = fopen(path, "r");
    (void)d;
    bool good = f != NULL && fscanf(f, "%lf %lf", &m->flops, &m->bytes) == 2 && m->flops > 0 && m->bytes > 0;
    if (f != NULL) fclose(f);
    return good;
}

Exit machine_measure(Driver *d, const Request *r, int threads, Machine *m) {
    Toolchain t;
    Cache cache;
    if (!toolchain_find(d, r, &t)) return BROKEN;
    const char *kept = NULL, *cpu = machine_cpu(d);
    if (!r->no_cache && cache_open(d, &cache)) {
        CacheKey key = CACHE_KEY_START;
        cache_hash(&key, source, sizeof source);
        cache_hash(&key, cpu, strlen(cpu));
        cache_hash(&key, t.version, strlen(t.version));
        cache_hash(&key, &threads, sizeof threads);
        kept = driver_format(d, "%s/%016llx%016llx.roofline", cache.dir, (unsigned long long)key.a, (unsigned long long)key.b);
        if (read_kept(d, kept, m)) return DONE;
    }
    const char *dir = driver_temp_dir(d), *object;
    if (dir == NULL) return BROKEN;
    bool cached;
    Exit e = driver_write_file(d, driver_format(d, "%s/peak.c", dir), source, sizeof source - 1) ? DONE : BROKEN;
    if (e == DONE) e = toolchain_build(d, r, &t, dir, "peak.c", &object, &cached);
    if (e == DONE && !measure_now(d, object, threads, m)) e = BROKEN;
    driver_remove_dir(dir);
    const char *text = driver_format(d, "%.6g %.6g\n", m->flops, m->bytes);
    if (e == DONE && kept != NULL) driver_write_file(d, kept, text, strlen(text));
    return e;
}

double machine_bound(const Machine *m, double flops, double bytes) {
    double compute = flops / m->flops, memory = bytes / m->bytes;
    return compute > memory ? compute : memory;
}
