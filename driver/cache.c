#include "driver/cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t bytes_max = 1ull << 30; /* what is kept; the objects used longest ago go first */

/* ---- keys ------------------------------------------------------------------------------------------------------- */
void cache_hash(CacheKey *h, const void *data, size_t n) {
    const unsigned char *p = data;
    h->a = (h->a ^ n) * 0x9E3779B97F4A7C15u;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        h->a = (h->a ^ x) * 0x9E3779B97F4A7C15u;
        h->a ^= h->a >> 32;
        h->b = (h->b + x) * 0xD6E8FEB86659FD93u;
        h->b ^= h->b >> 29;
    }
    for (; n != 0; n--, p++) {
        h->a = (h->a ^ *p) * 0x9E3779B97F4A7C15u;
        h->b = (h->b + *p) * 0xD6E8FEB86659FD93u;
        h->b ^= h->b >> 29;
    }
}

static bool hash_file(CacheKey *h, const char *path) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) return false;
    static _Thread_local char part[1 << 16];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) != 0;) cache_hash(h, part, n);
    bool good = ferror(f) == 0;
    fclose(f);
    return good;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool cache_hash_dir(Driver *d, const char *dir_path, const char *except, CacheKey *h) {
    DIR *dir = opendir(dir_path);
    if (dir == NULL) return false;
    Texts names = {0};
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        size_t n = strlen(e->d_name), m = except != NULL ? strlen(except) : 0;
        bool skip = except != NULL && n >= m && strcmp(e->d_name + n - m, except) == 0;
        if (e->d_name[0] != '.' && !skip) vec_push(&d->arena, &names, arena_strdup(&d->arena, e->d_name, n));
    }
    closedir(dir);
    qsort(names.v, names.n, sizeof *names.v, by_name);
    for (uint32_t i = 0; i < names.n; i++) {
        cache_hash(h, names.v[i], strlen(names.v[i]));
        if (!hash_file(h, driver_format(d, "%s/%s", dir_path, names.v[i]))) return false;
    }
    return true;
}

/* ---- the store -------------------------------------------------------------------------------------------------- */
/* The directory of the cache; NULL when there is none (no home, or it cannot be made: then nothing is cached). */
static const char *directory(Driver *d) {
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"), *dir;
    if (base != NULL && base[0] == '/') dir = driver_format(d, "%s/lathe", base);
    else if (home != NULL && home[0] == '/') dir = driver_format(d, "%s/.cache/lathe", home);
    else return NULL;
    driver_make_dirs(d, dir, false);
    return access(dir, W_OK | X_OK) == 0 ? dir : NULL;
}

bool cache_open(Driver *d, Cache *c) {
    c->dir = directory(d);
    return c->dir != NULL;
}

const char *cache_find(Driver *d, const Cache *c, const CacheKey *key, bool *found) {
    const char *path = driver_format(d, "%s/%016llx%016llx.so", c->dir, (unsigned long long)key->a, (unsigned long long)key->b);
    *found = access(path, R_OK) == 0;
    if (*found) utimensat(AT_FDCWD, path, NULL, 0); /* used now */
    return path;
}

typedef struct Entry { const char *path; uint64_t bytes; struct timespec used; } Entry;

static int oldest_first(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    return x->used.tv_nsec < y->used.tv_nsec ? -1 : x->used.tv_nsec > y->used.tv_nsec;
}

void cache_trim(Driver *d, const Cache *c) {
    DIR *dir = opendir(c->dir);
    if (dir == NULL) return;
    VEC(Entry) entries = {0};
    uint64_t total = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode)) continue;
        Entry entry = {driver_format(d, "%s/%s", c->dir, e->d_name), (uint64_t)st.st_size, st.st_mtim};
        vec_push(&d->arena, &entries, entry);
        total += entry.bytes;
    }
    closedir(dir);
    if (total <= bytes_max) return;
    qsort(entries.v, entries.n, sizeof *entries.v, oldest_first);
    for (uint32_t i = 0; i < entries.n && total > bytes_max; i++)
        if (unlink(entries.v[i].path) == 0) total -= entries.v[i].bytes;
}
