#include "base/writer.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void reserve(Writer *w, size_t more) {
    if (w->n + more + 1 <= w->cap) return;
    size_t cap = w->cap ? w->cap * 2 : 1024;
    while (cap < w->n + more + 1) cap *= 2;
    char *text = arena_alloc(w->arena, cap);
    if (w->n != 0) memcpy(text, w->text, w->n);
    w->text = text;
    w->cap = cap;
}

void cw_text(Writer *w, const char *text, size_t n) {
    reserve(w, n);
    memcpy(w->text + w->n, text, n);
    w->n += n;
    w->text[w->n] = 0;
}

void cw_vprintf(Writer *w, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    char small[256];
    int n = vsnprintf(small, sizeof small, format, args);
    if (n >= 0 && (size_t)n < sizeof small) {
        cw_text(w, small, (size_t)n);
    } else if (n >= 0) {
        reserve(w, (size_t)n);
        vsnprintf(w->text + w->n, (size_t)n + 1, format, again);
        w->n += (size_t)n;
    }
    va_end(again);
}

void cw_printf(Writer *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    cw_vprintf(w, format, args);
    va_end(args);
}

void cw_begin(Writer *w) {
    for (int i = 0; i < w->indent; i++) cw_text(w, "    ", 4);
}

void cw_line(Writer *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (format[0] != 0) cw_begin(w);
    cw_vprintf(w, format, args);
    cw_text(w, "\n", 1);
    va_end(args);
}

void cw_open(Writer *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    cw_begin(w);
    cw_vprintf(w, format, args);
    cw_text(w, "\n", 1);
    w->indent++;
    va_end(args);
}

void cw_close(Writer *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    w->indent--;
    cw_begin(w);
    cw_vprintf(w, format, args);
    cw_text(w, "\n", 1);
    va_end(args);
}

void cw_comment(Writer *w, const char *untrusted) {
    cw_text(w, "/* ", 3);
    for (const char *p = untrusted; *p != 0; p++) {
        char c = *p;
        bool harmless = c >= ' ' && c < 127 && c != '\\' && !(c == '*' && p[1] == '/') && !(c == '/' && p[1] == '*') &&
                        !(c == '?' && p[1] == '?');
        cw_text(w, harmless ? &c : "_", 1);
    }
    cw_text(w, " */", 3);
}

void cw_string(Writer *w, const char *text, size_t n) {
    cw_text(w, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            cw_printf(w, "\\%c", c);
        else if (c == '?' || c < ' ' || c >= 127)
            cw_printf(w, "\\%03o", (unsigned)c); /* octal: three digits end by themselves; '?' keeps trigraphs out */
        else
            cw_text(w, (const char *)&c, 1);
    }
    cw_text(w, "\"", 1);
}

const char *cw_cstr(Writer *w) {
    return w->text != NULL ? w->text : "";
}
