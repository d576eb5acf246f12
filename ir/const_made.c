/* Constants that are made when they are wanted, and the comparison of constants of both kinds.
 *
 * Packed weights are as large as the model's own. Those of a model of many gigabytes would fill the memory, while what they are
 * packed from is only mapped; so they are made one after the other while the weights file is written, each in the same room.
 * Two made constants are equal when they are made in the same way from equal sources: nothing is made to find that out. */
#include "ir/graph.h"

Value *value_const_made(Module *m, const Type *type, const ConstRecipe *recipe) {
    Context *cx = m->cx;
    ConstRecipe *own = ARENA_NEW(&cx->arena, ConstRecipe);
    void *parameters = arena_alloc(&cx->arena, recipe->parameter_bytes);
    if (recipe->parameter_bytes != 0) memcpy(parameters, recipe->parameters, recipe->parameter_bytes);
    *own = *recipe;
    own->parameters = parameters;
    ConstData *data = ARENA_NEW(&cx->arena, ConstData);
    *data = (ConstData){.bytes = dtype_bytes(cx, type->dtype, dim_value(cx, type_numel(cx, type))), .recipe = own};
    Value *v = value_new(m, type, 0);
    v->data = data;
    return v;
}

void const_room_for(Arena *arena, ConstRoom *room, const Value *v) {
    if (v->data->recipe == NULL || v->data->bytes <= room->bytes) return;
    *room = (ConstRoom){arena_alloc(arena, v->data->bytes), v->data->bytes};
}

const void *const_bytes(const Value *v, const ConstRoom *room) {
    const ConstRecipe *r = v->data->recipe;
    if (r == NULL) return v->data->data;
    memset(room->memory, 0, v->data->bytes);
    r->make(room->memory, r);
    return room->memory;
}

static uint64_t hash_bytes(uint64_t h, const unsigned char *b, size_t bytes) {
    uint64_t lane[4] = {1, 2, 3, 4};
    size_t n = bytes / 32; /* four independent lanes: memory is the limit then */
    for (size_t i = 0; i < n; i++) {
        uint64_t x[4];
        memcpy(x, b + 32 * i, 32);
        for (int k = 0; k < 4; k++) lane[k] = hash_mix(lane[k], x[k]);
    }
    for (size_t i = 32 * n; i < bytes; i++) h = hash_mix(h, b[i]);
    for (int k = 0; k < 4; k++) h = hash_mix(h, lane[k]);
    return h;
}

uint64_t const_hash(const Value *v) {
    const ConstRecipe *r = v->data->recipe;
    uint64_t h = hash_mix(v->data->bytes, v->type->dtype);
    if (r == NULL) return hash_bytes(h, v->data->data, v->data->bytes);
    h = hash_bytes(h, r->parameters, r->parameter_bytes);
    for (uint32_t i = 0; i < RECIPE_SOURCES; i++)
        if (r->source[i] != NULL) h = hash_mix(h, const_hash(r->source[i]));
    return h;
}

static bool same_bytes(const void *a, const void *b, size_t n) { return a == b || n == 0 || memcmp(a, b, n) == 0; }

static bool same_recipe(const ConstRecipe *a, const ConstRecipe *b) {
    if (a->make != b->make || a->parameter_bytes != b->parameter_bytes || !same_bytes(a->parameters, b->parameters, a->parameter_bytes)) return false;
    for (uint32_t i = 0; i < RECIPE_SOURCES; i++) {
        if ((a->source[i] == NULL) != (b->source[i] == NULL)) return false;
        if (a->source[i] != NULL && !const_equal(a->source[i], b->source[i])) return false;
    }
    return true;
}

bool const_equal(const Value *a, const Value *b) {
    const ConstData *x = a->data, *y = b->data;
    if (a->type->dtype != b->type->dtype || x->bytes != y->bytes || (x->recipe == NULL) != (y->recipe == NULL)) return false;
    return x->recipe != NULL ? same_recipe(x->recipe, y->recipe) : same_bytes(x->data, y->data, x->bytes);
}
