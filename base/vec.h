/* Growing arrays in an arena: VEC(Node *) list = {0}; vec_push(&cx->arena, &list, node); list.v[i], list.n. */
#ifndef LATHE_BASE_VEC_H
#define LATHE_BASE_VEC_H
#include <string.h>

#include "base/arena.h"

#define VEC(T)           \
    struct {             \
        T *v;            \
        uint32_t n, cap; \
    }

/* The array, moved to twice its capacity when n == *cap. */
static inline void *vec_grow(Arena *arena, void *v, uint32_t n, uint32_t *cap, size_t size) {
    if (n < *cap) return v;
    *cap = *cap ? *cap * 2 : 8;
    void *p = arena_array(arena, *cap, size);
    if (n != 0) memcpy(p, v, n * size);
    return p;
}

#define vec_push(arena, vec, item)                                                                            \
    ((vec)->v = vec_grow((arena), (vec)->v, (vec)->n, &(vec)->cap, sizeof *(vec)->v), (vec)->v[(vec)->n] = (item), \
     (vec)->n++)

#endif
