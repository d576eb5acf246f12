#include "base/context.h"

#include <stdio.h>
#include <string.h>

/* Open-addressing table from text to id. Slot 0 of `entry` is "no string". */
struct StrTable {
    struct {
        const char *text;
        size_t n;
        uint64_t hash;
    } *entry;
    uint32_t n, cap;
    uint32_t *slot, n_slot; /* n_slot is a power of two, at least twice n */
};

static void out_of_memory(void *user) {
    context_escape(user, "out of memory");
}

void context_init(Context *cx) {
    *cx = (Context){0};
    cx->arena.fail = cx->scratch.fail = out_of_memory;
    cx->arena.user = cx->scratch.user = cx;
}

void context_at_free(Context *cx, void (*run)(void *user), void *user) {
    Cleanup c = {run, user};
    vec_push(&cx->arena, &cx->cleanups, c);
}

void context_free(Context *cx) {
    for (uint32_t i = cx->cleanups.n; i-- > 0;) cx->cleanups.v[i].run(cx->cleanups.v[i].user);
    cx->cleanups.n = 0;
    arena_free(&cx->arena);
    arena_free(&cx->scratch);
}

_Noreturn void context_escape(Context *cx, const char *why) {
    cx->internal_error = why;
    longjmp(*cx->escape, 1);
}

static uint64_t hash_bytes(const char *text, size_t n) {
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = hash_mix(h, (unsigned char)text[i]);
    return h;
}

static void rehash(Context *cx, StrTable *t, uint32_t n_slot) {
    t->n_slot = n_slot;
    t->slot = ARENA_ARRAY(&cx->arena, uint32_t, n_slot);
    for (uint32_t id = 1; id < t->n; id++) {
        uint32_t i = (uint32_t)t->entry[id].hash & (n_slot - 1);
        while (t->slot[i] != 0) i = (i + 1) & (n_slot - 1);
        t->slot[i] = id;
    }
}

Str str_intern_n(Context *cx, const char *text, size_t n) {
    StrTable *t = cx->strings;
    if (t == NULL) {
        t = cx->strings = ARENA_NEW(&cx->arena, StrTable);
        t->n = 1;
        t->cap = 256;
        t->entry = arena_array(&cx->arena, t->cap, sizeof *t->entry);
        rehash(cx, t, 512);
    }
    uint64_t hash = hash_bytes(text, n);
    uint32_t i = (uint32_t)hash & (t->n_slot - 1);
    for (; t->slot[i] != 0; i = (i + 1) & (t->n_slot - 1)) {
        uint32_t id = t->slot[i];
        if (t->entry[id].hash == hash && t->entry[id].n == n && memcmp(t->entry[id].text, text, n) == 0) return id;
    }
    uint32_t id = t->n;
    t->entry = vec_grow(&cx->arena, t->entry, t->n, &t->cap, sizeof *t->entry);
    t->entry[id].text = arena_strdup(&cx->arena, text, n);
    t->entry[id].n = n;
    t->entry[id].hash = hash;
    t->n++;
    t->slot[i] = id;
    if (t->n * 2 > t->n_slot) rehash(cx, t, t->n_slot * 2);
    return id;
}

Str str_intern(Context *cx, const char *text) {
    return str_intern_n(cx, text, strlen(text));
}

Str str_format(Context *cx, const char *format, ...) {
    Writer w = {.arena = &cx->scratch};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    return str_intern(cx, cw_cstr(&w));
}

const char *str_text(const Context *cx, Str s) {
    return s != 0 ? cx->strings->entry[s].text : "";
}

size_t str_size(const Context *cx, Str s) {
    return s != 0 ? cx->strings->entry[s].n : 0;
}

void diag(Context *cx, Severity severity, Loc loc, const char *format, ...) {
    Writer w = {.arena = &cx->arena};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    Diag d = {severity, loc, cw_cstr(&w)};
    vec_push(&cx->arena, &cx->diags, d);
    if (severity == SEV_ERROR) cx->n_error++;
}

void diag_print(const Context *cx, Writer *w) {
    static const char *const word[] = {[SEV_NOTE] = "note: ", [SEV_WARNING] = "warning: ", [SEV_ERROR] = "error: "};
    for (uint32_t i = 0; i < cx->diags.n; i++) {
        const Diag *d = &cx->diags.v[i];
        if (d->loc.file != 0) cw_printf(w, "%s: ", str_text(cx, d->loc.file));
        cw_printf(w, "%s", word[d->severity]);
        if (d->loc.op != 0) {
            cw_printf(w, "%s ", str_text(cx, d->loc.op));
            if (d->loc.node != 0) {
                cw_string(w, str_text(cx, d->loc.node), str_size(cx, d->loc.node));
            } else {
                cw_printf(w, "(node %u)", d->loc.index);
            }
            cw_printf(w, ": ");
        }
        cw_printf(w, "%s\n", d->message);
    }
}
