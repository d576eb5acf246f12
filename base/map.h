/* Hash map from 64-bit keys to 32-bit numbers, in an arena; nothing is ever removed.
 *
 *     Map seen = {0};
 *     uint32_t *at = map_at(&cx->scratch, &seen, key);   // the place of key, 0 when new
 *     if (*at == 0) *at = ++count;
 */
#ifndef LATHE_BASE_MAP_H
#define LATHE_BASE_MAP_H
#include <stdbool.h>

#include "base/arena.h"

typedef struct MapEntry { uint64_t key; uint32_t value; bool used; } MapEntry;
typedef struct Map {
    MapEntry *entry;
    uint32_t n, cap; /* cap: a power of two, more than 4/3 of n */
} Map;

static inline MapEntry *map_probe(const Map *map, uint64_t key) {
    uint64_t h = (key ^ (key >> 32)) * 0x9E3779B97F4A7C15u;
    uint32_t i = (uint32_t)(h >> 32) & (map->cap - 1);
    while (map->entry[i].used && map->entry[i].key != key) i = (i + 1) & (map->cap - 1);
    return &map->entry[i];
}

/* The number stored for key, 0 if there is none. */
static inline uint32_t map_get(const Map *map, uint64_t key) {
    return map->n != 0 ? map_probe(map, key)->value : 0;
}

/* Where key's number is, made (as 0) when new. Valid until the next map_at. */
static inline uint32_t *map_at(Arena *arena, Map *map, uint64_t key) {
    if (map->n * 4 >= map->cap * 3) {
        Map grown = {.n = map->n, .cap = map->cap ? map->cap * 2 : 64};
        grown.entry = ARENA_ARRAY(arena, MapEntry, grown.cap);
        for (uint32_t i = 0; i < map->cap; i++)
            if (map->entry[i].used) *map_probe(&grown, map->entry[i].key) = map->entry[i];
        *map = grown;
    }
    MapEntry *e = map_probe(map, key);
    if (!e->used) {
        *e = (MapEntry){.key = key, .used = true};
        map->n++;
    }
    return &e->value;
}

#endif
