#include "passes/choice.h"

#include <string.h>

#include "lathe.h"

static const char *const names[] = {
#define CHOICE(ID, name, what) name,
#include "passes/choice.def"
#undef CHOICE
};

const char *choice_name(Choice c) { return c < CHOICE_COUNT ? names[c] : NULL; }

static Choice asked_for(const Lower *lo, const char *key) {
    size_t n = strlen(key);
    for (const char *const *p = lo->m->options->choices; p != NULL && *p != NULL; p++) {
        bool any = strncmp(*p, "*=", 2) == 0, here = strncmp(*p, key, n) == 0 && (*p)[n] == '=';
        for (Choice c = CHOICE_AUTO; (any || here) && c < CHOICE_COUNT; c++)
            if (strcmp(strchr(*p, '=') + 1, names[c]) == 0) return c;
    }
    return CHOICE_AUTO;
}

Choice choice_take(Lower *lo, Str key, uint32_t possible) {
    if (possible == 0) return CHOICE_AUTO;
    lo->k->choice_key = key;
    lo->k->choices = possible | CHOICE_BIT(AUTO);
    Choice c = asked_for(lo, str_text(lo->cx, key));
    return (lo->k->choices >> c & 1) != 0 ? c : CHOICE_AUTO;
}

Tile choice_tile(const Lower *lo, Choice c, Tile tile, int64_t m, int64_t k) {
    if (c != CHOICE_NARROW || tile.cols <= tile.vector) return tile;
    return tile_of_columns(module_target(lo->m), tile.cols - tile.vector, m, k);
}

uint32_t choice_loops(Tile tile, int64_t panels) {
    uint32_t order = panels > 1 ? CHOICE_BIT(ROWS_FIRST) | CHOICE_BIT(PANELS_FIRST) : 0;
    return order | (tile.cols > tile.vector ? CHOICE_BIT(NARROW) : 0);
}
