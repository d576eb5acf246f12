#include "base/arena.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 16, BLOCK_BYTES = 256 * 1024, LARGE_BYTES = 1024 * 1024, MEMORY_BYTES = 32 * 1024 * 1024 /* before large pieces go to files */ };

struct ArenaBlock {
    ArenaBlock *older;
    size_t used, capacity;
    size_t mapped; /* bytes of its file mapping; 0: it is from malloc */
};

_Thread_local uint64_t arena_fail_after;

static bool fails_on_purpose(void) {
    return arena_fail_after != 0 && --arena_fail_after == 0;
}

/* A mapping of a temporary file without a name, which goes with the process; all its room is reserved. NULL: there is no such place. */
static ArenaBlock *block_in_file(size_t bytes) {
    const char *folder = getenv("TMPDIR");
    char path[1024];
    int n = snprintf(path, sizeof path, "%s/lathe-XXXXXX", folder != NULL && folder[0] == '/' ? folder : "/var/tmp");
    int f = n > 0 && (size_t)n < sizeof path ? mkstemp(path) : -1;
    if (f < 0) return NULL;
    unlink(path);
    void *p = posix_fallocate(f, 0, (off_t)bytes) == 0 ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0) : MAP_FAILED;
    close(f);
    return p != MAP_FAILED ? p : NULL;
}

static ArenaBlock *block_new(const Arena *arena, size_t capacity) {
    size_t bytes = sizeof(ArenaBlock) + capacity;
    ArenaBlock *b = capacity >= LARGE_BYTES && arena->bytes + capacity > MEMORY_BYTES ? block_in_file(bytes) : NULL;
    size_t mapped = b != NULL ? bytes : 0;
    if (b == NULL) b = malloc(bytes);
    if (b != NULL) *b = (ArenaBlock){.capacity = capacity, .mapped = mapped};
    return b;
}

static void block_free(ArenaBlock *b) {
    if (b->mapped != 0) munmap(b, b->mapped);
    else free(b);
}

void *arena_alloc(Arena *arena, size_t n) {
    if (n > SIZE_MAX / 2 || fails_on_purpose()) arena->fail(arena->user);
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    ArenaBlock *b = arena->block;
    if (b == NULL || b->capacity - b->used < n) {
        size_t capacity = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        b = block_new(arena, capacity);
        if (b == NULL) {
            arena->fail(arena->user);
            return NULL;
        }
        b->older = arena->block;
        arena->block = b;
    }
    char *p = (char *)(b + 1) + b->used;
    b->used += n;
    arena->bytes += n;
    return b->mapped != 0 && b->used == n ? p : memset(p, 0, n); /* a new file holds zeros */
}

void *arena_array(Arena *arena, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / 2 / size) arena->fail(arena->user);
    return arena_alloc(arena, count * size);
}

char *arena_strdup(Arena *arena, const char *text, size_t n) {
    char *p = arena_alloc(arena, n + 1);
    memcpy(p, text, n);
    return p;
}

void arena_reset(Arena *arena) {
    ArenaBlock *b = arena->block;
    while (b != NULL && b->older != NULL) {
        ArenaBlock *older = b->older;
        block_free(b);
        b = older;
    }
    if (b != NULL && b->mapped != 0) block_free(b), b = NULL; /* its bytes are not zeros any more */
    if (b != NULL) b->used = 0;
    arena->block = b;
    arena->bytes = 0;
}

void arena_free(Arena *arena) {
    for (ArenaBlock *b = arena->block; b != NULL;) {
        ArenaBlock *older = b->older;
        block_free(b);
        b = older;
    }
    arena->block = NULL;
    arena->bytes = 0;
}
