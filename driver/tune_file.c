#include "driver/tune_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/writer.h"
#include "driver/cache.h"
#include "driver/machine.h"

enum { BYTES_MOST = 16 << 20, END_BYTES = 4 + 16 + 1 };

static void add(Driver *d, TuneFile *f, Tuned e) { vec_push(&d->arena, &f->entry, e); }

const Tuned *tune_file_find(const TuneFile *f, const char *key) {
    for (uint32_t i = 0; i < f->entry.n; i++)
        if (strcmp(f->entry.v[i].key, key) == 0) return &f->entry.v[i];
    return NULL;
}

void tune_file_set(Driver *d, TuneFile *f, const char *key, const char *choice, double gain) {
    Tuned e = {driver_format(d, "%s", key), driver_format(d, "%s", choice), gain};
    for (uint32_t i = 0; i < f->entry.n; i++) {
        if (strcmp(f->entry.v[i].key, key) != 0) continue;
        f->entry.v[i] = e;
        return;
    }
    add(d, f, e);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */
static unsigned long long hash_of(const char *text, size_t n) {
    CacheKey key = CACHE_KEY_START;
    cache_hash(&key, text, n);
    return key.a ^ key.b;
}

const char *tune_text(Driver *d, const TuneFile *f) {
    Writer w = {.arena = &d->arena};
    cw_printf(&w, "%s", f->head);
    for (uint32_t i = 0; i < f->entry.n; i++) cw_printf(&w, "%s\t%s\t%.4g\n", f->entry.v[i].key, f->entry.v[i].choice, f->entry.v[i].gain);
    cw_printf(&w, "end %016llx\n", hash_of(w.text, w.n));
    return cw_cstr(&w);
}

/* KEY<tab>CHOICE<tab>GAIN; choices of another version are left out. */
static bool parse_line(Driver *d, TuneFile *f, const char *line, size_t n) {
    char *copy = arena_strdup(&d->arena, line, n), *choice = strchr(copy, '\t'), *gain = choice != NULL ? strchr(choice + 1, '\t') : NULL, *end;
    if (gain == NULL || choice == copy || strlen(copy) != n) return false;
    *choice++ = *gain++ = 0;
    double value = strtod(gain, &end);
    if (end == gain || *end != 0 || !(value > 0)) return false;
    for (uint32_t i = 0; lathe_choice(i) != NULL; i++)
        if (strcmp(lathe_choice(i), choice) == 0) add(d, f, (Tuned){copy, choice, value});
    return true;
}

bool tune_parse(Driver *d, TuneFile *f, const char *text, size_t n) {
    size_t head = strlen(f->head);
    f->entry.n = 0;
    if (n < head + END_BYTES || memcmp(text, f->head, head) != 0) return false;
    const char *end = text + n - END_BYTES, *want = driver_format(d, "end %016llx\n", hash_of(text, n - END_BYTES));
    if (memcmp(end, want, END_BYTES) != 0) return false;
    for (const char *p = text + head, *stop; p < end; p = stop + 1) {
        stop = memchr(p, '\n', (size_t)(end - p));
        if (stop != NULL && parse_line(d, f, p, (size_t)(stop - p))) continue;
        f->entry.n = 0;
        return false;
    }
    return true;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */
static bool read_there(Driver *d, TuneFile *f) {
    struct stat st;
    size_t n;
    if (stat(f->path, &st) != 0) return true;
    if (!S_ISREG(st.st_mode) || st.st_size > BYTES_MOST) return false;
    const char *text = driver_read_file(d, f->path, &n);
    return text != NULL && tune_parse(d, f, text, n);
}

/* One line of the head: the value must not end it early. */
static void head_line(Writer *w, const char *name, const char *value) {
    cw_printf(w, "%s ", name);
    for (const char *p = value != NULL ? value : ""; *p != 0; p++) cw_printf(w, "%c", *p == '\n' || *p == '\r' ? ' ' : *p);
    cw_printf(w, "\n");
}

TuneFile tune_file_open(Driver *d, const Request *r, const Toolchain *t) {
    TuneFile f = {0};
    Writer head = {.arena = &d->arena};
    cw_printf(&head, "lathe tuning 1\n");
    head_line(&head, "cpu", machine_cpu(d));
    head_line(&head, "compiler", t->version);
    head_line(&head, "target", r->target != NULL ? r->target : "native");
    head_line(&head, "flags", r->cflags);
    f.head = cw_cstr(&head);
    Cache cache;
    if (r->no_cache || !cache_open(d, &cache)) return f;
    const char *dir = driver_format(d, "%s/tuning", cache.dir);
    if (!driver_make_dirs(d, dir, false)) return f;
    f.path = driver_format(d, "%s/%016llx.txt", dir, hash_of(f.head, strlen(f.head)));
    f.ignored = !read_there(d, &f);
    return f;
}

bool tune_file_write(Driver *d, TuneFile *f) {
    if (f->path == NULL) return true;
    TuneFile now = {.path = f->path, .head = f->head};
    read_there(d, &now);
    for (uint32_t i = 0; i < now.entry.n; i++)
        if (tune_file_find(f, now.entry.v[i].key) == NULL) add(d, f, now.entry.v[i]);
    const char *text = tune_text(d, f);
    return driver_write_file(d, f->path, text, strlen(text));
}
