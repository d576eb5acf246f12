/* Bump allocator. One arena per compilation owns all IR; a scratch arena is reset after each pass.
 * Memory is zeroed. When memory runs out the arena's `fail` is called; it must not return (base/context.c
 * makes it a longjmp to the public entry). Nothing is freed on its own; arena_reset and arena_free release all.
 *
 * Behind the first 32 MiB, pieces of 1 MiB and more, which are tensors, stand in temporary files without a name ($TMPDIR, else
 * /var/tmp): what of them is not in use can leave memory, so that the weights of a model may be larger than memory. */
#ifndef LATHE_BASE_ARENA_H
#define LATHE_BASE_ARENA_H
#include <stddef.h>
#include <stdint.h>

typedef struct ArenaBlock ArenaBlock;
typedef struct Arena {
    ArenaBlock *block;          /* newest block, linked to the older ones */
    size_t bytes;               /* handed out since the last reset */
    void (*fail)(void *user);   /* out of memory; does not return */
    void *user;
} Arena;

/* n bytes, zeroed, aligned to 16. n = 0 gives a valid, unusable pointer. */
void *arena_alloc(Arena *arena, size_t n);
/* count * size bytes; an overflowing product counts as out of memory. */
void *arena_array(Arena *arena, size_t count, size_t size);
char *arena_strdup(Arena *arena, const char *text, size_t n);
void arena_reset(Arena *arena); /* keep one block, forget the contents */
void arena_free(Arena *arena);  /* give all memory back */

/* Tests make the n-th allocation from any arena of this thread fail (0: never). */
extern _Thread_local uint64_t arena_fail_after;

#define ARENA_NEW(arena, T) ((T *)arena_alloc((arena), sizeof(T)))
#define ARENA_ARRAY(arena, T, n) ((T *)arena_array((arena), (size_t)(n), sizeof(T)))

#endif
