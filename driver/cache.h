/* Objects built before, in $XDG_CACHE_HOME/lathe or ~/.cache/lathe, under a hash of everything they depend on. Without a
 * home directory there is no cache, and nothing else changes.
 *
 *     CacheKey key = CACHE_KEY_START;
 *     cache_hash(&key, flags, n);
 *     const char *path = cache_find(d, &cache, &key, &found);   // found: use it; else build there (under another name) and rename */
#ifndef LATHE_DRIVER_CACHE_H
#define LATHE_DRIVER_CACHE_H
#include "driver/driver.h"

typedef struct CacheKey { uint64_t a, b; } CacheKey; /* two independent 64-bit hashes: accidental collisions are out of reach */
#define CACHE_KEY_START {1, 2}
void cache_hash(CacheKey *h, const void *data, size_t n);
/* Names and contents of the files in a directory, in a fixed order, but those that end in `except` (NULL: all). */
bool cache_hash_dir(Driver *d, const char *dir, const char *except, CacheKey *h);

typedef struct Cache { const char *dir; } Cache;
bool cache_open(Driver *d, Cache *c); /* false: there is none */
const char *cache_find(Driver *d, const Cache *c, const CacheKey *key, bool *found);
void cache_trim(Driver *d, const Cache *c); /* keeps the total under a limit */

#endif
