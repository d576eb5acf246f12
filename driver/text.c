#include "driver/text.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "driver/element.h"

char *size_text(char *to, size_t n, double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (bytes >= 1024 && u < 4) bytes /= 1024, u++;
    snprintf(to, n, u == 0 ? "%.0f %s" : bytes < 10 ? "%.2f %s" : bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return to;
}

char *count_text(char *to, size_t n, double count) {
    static const char *const units[] = {"", " k", " M", " G", " T"};
    int u = 0;
    while (count >= 1000 && u < 4) count /= 1000, u++;
    snprintf(to, n, u == 0 ? "%.0f%s" : count < 10 ? "%.2f%s" : count < 100 ? "%.1f%s" : "%.0f%s", count, units[u]);
    return to;
}

char *dims_text(Driver *d, const LatheTensorInfo *info) {
    static const char *const kinds[] = {"", "sequence of ", "optional ", "optional sequence of "};
    Writer w = {.arena = &d->arena};
    cw_printf(&w, "%s%s%s", kinds[info->kind], element_name((int)info->dtype), info->open_rank ? "" : "[");
    for (uint32_t i = 0; i < info->rank; i++) cw_printf(&w, "%s%s", i == 0 ? "" : ",", printable(d, info->dim[i]));
    if (info->open_rank) cw_printf(&w, " of any rank");
    else cw_printf(&w, "]");
    return w.text;
}

char *shape_text(Driver *d, uint32_t rank, const int64_t *dim) {
    Writer w = {.arena = &d->arena};
    cw_text(&w, "", 0);
    for (uint32_t i = 0; i < rank; i++) cw_printf(&w, "%s%lld", i == 0 ? "" : ",", (long long)dim[i]);
    return w.text;
}

bool text_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

const char *file_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

const char *printable(Driver *d, const char *text) {
    char *copy = arena_strdup(&d->arena, text, strlen(text));
    for (char *c = copy; *c != 0; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    return copy;
}

void json_string(Writer *w, const char *text) {
    cw_text(w, "\"", 1);
    for (; *text != 0; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') cw_printf(w, "\\%c", c);
        else if (c < ' ' || c == 127) cw_printf(w, "\\u%04x", (unsigned)c);
        else cw_text(w, text, 1);
    }
    cw_text(w, "\"", 1);
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */
void table_cell(Table *t, const char *text) {
    vec_push(&t->d->arena, &t->cells, printable(t->d, text));
}

static void split(Table *t, const char *text) {
    for (;; text++) {
        size_t n = strcspn(text, ",");
        vec_push(&t->d->arena, &t->cells, arena_strdup(&t->d->arena, text, n));
        text += n;
        if (*text == 0) return;
    }
}

Table table_new(Driver *d, const char *columns) {
    Table t = {.d = d};
    split(&t, columns);
    t.n_column = t.cells.n;
    return t;
}

void table_row(Table *t, const char *format, ...) {
    Writer w = {.arena = &t->d->arena};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    split(t, cw_cstr(&w));
}

static size_t columns_of(const char *text) { /* characters on screen: UTF-8 continuation bytes take none */
    size_t n = 0;
    for (; *text != 0; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static bool looks_numeric(const Table *t, uint32_t column) {
    for (uint32_t i = t->n_column + column; i < t->cells.n; i += t->n_column) {
        const char *c = t->cells.v[i];
        if (c[0] != 0 && strcmp(c, "-") != 0 && !isdigit((unsigned char)c[0]) && !(c[0] == '-' && isdigit((unsigned char)c[1])) && strcmp(c, "inf") != 0) return false;
    }
    return true;
}

void table_print(const Table *t, FILE *to) {
    size_t *width = ARENA_ARRAY(&t->d->arena, size_t, t->n_column);
    bool *right = ARENA_ARRAY(&t->d->arena, bool, t->n_column);
    for (uint32_t i = 0; i < t->cells.n; i++) {
        size_t n = columns_of(t->cells.v[i]);
        if (n > width[i % t->n_column]) width[i % t->n_column] = n;
    }
    for (uint32_t c = 0; c < t->n_column; c++) right[c] = looks_numeric(t, c);
    for (uint32_t i = 0; i < t->cells.n; i++) {
        uint32_t c = i % t->n_column;
        int pad = (int)(width[c] - columns_of(t->cells.v[i]));
        bool last = c + 1 == t->n_column;
        fprintf(to, "%*s%s%*s%s", right[c] ? pad : 0, "", t->cells.v[i], right[c] || last ? 0 : pad, "", last ? "\n" : "  ");
    }
}
