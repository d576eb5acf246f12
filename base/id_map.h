/* A hash map from nonzero 32-bit ids (interned strings, dims, value ids) to pointers, in an arena:
 *
 *     IdMap names = {0};
 *     id_map_put(&cx->arena, &names, name, value);
 *     Value *v = id_map_get(&names, name);   NULL if absent
 */
#ifndef LATHE_BASE_ID_MAP_H
#define LATHE_BASE_ID_MAP_H
#include "base/arena.h"

typedef struct IdMap {
    struct IdMapSlot { uint32_t key; void *value; } *slot;
    uint32_t n, n_slot; /* n_slot: 0 or a power of two, at least twice n */
} IdMap;

static inline struct IdMapSlot *id_map_find(const IdMap *map, uint32_t key) {
    uint32_t i = (key * 0x9E3779B1u) >> 7 & (map->n_slot - 1);
    while (map->slot[i].key != 0 && map->slot[i].key != key) i = (i + 1) & (map->n_slot - 1);
    return &map->slot[i];
}

static inline void *id_map_get(const IdMap *map, uint32_t key) {
    return map->n == 0 ? NULL : id_map_find(map, key)->value;
}

/* Adds or replaces. */
static inline void id_map_put(Arena *arena, IdMap *map, uint32_t key, void *value) {
    if (map->n * 2 >= map->n_slot) {
        IdMap grown = {.n_slot = map->n_slot == 0 ? 16 : map->n_slot * 2, .n = map->n};
        grown.slot = (struct IdMapSlot *)arena_array(arena, grown.n_slot, sizeof *grown.slot);
        for (uint32_t i = 0; i < map->n_slot; i++)
            if (map->slot[i].key != 0) *id_map_find(&grown, map->slot[i].key) = map->slot[i];
        *map = grown;
    }
    struct IdMapSlot *s = id_map_find(map, key);
    map->n += s->key == 0;
    s->key = key;
    s->value = value;
}

#endif
