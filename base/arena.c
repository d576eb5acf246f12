#include "base/arena.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, BLOCK_BYTES = 256 * 1024 };

struct ArenaBlock {
    ArenaBlock *older;
    size_t used, capacity;
    size_t pad; /* keeps the data that follows aligned to ALIGN */
};

_Thread_local uint64_t arena_fail_after;

static bool fails_on_purpose(void) {
    return arena_fail_after != 0 && --arena_fail_after == 0;
}

void *arena_alloc(Arena *arena, size_t n) {
    if (n > SIZE_MAX / 2 || fails_on_purpose()) arena->fail(arena->user);
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    ArenaBlock *b = arena->block;
    if (b == NULL || b->capacity - b->used < n) {
        size_t capacity = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        b = malloc(sizeof *b + capacity);
        if (b == NULL) {
            arena->fail(arena->user);
            return NULL;
        }
        *b = (ArenaBlock){.older = arena->block, .capacity = capacity};
        arena->block = b;
    }
    char *p = (char *)(b + 1) + b->used;
    b->used += n;
    arena->bytes += n;
    return memset(p, 0, n);
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
        free(b);
        b = older;
    }
    if (b != NULL) b->used = 0;
    arena->block = b;
    arena->bytes = 0;
}

void arena_free(Arena *arena) {
    for (ArenaBlock *b = arena->block; b != NULL;) {
        ArenaBlock *older = b->older;
        free(b);
        b = older;
    }
    arena->block = NULL;
    arena->bytes = 0;
}
