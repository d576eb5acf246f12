/* A growing text buffer that knows how to indent: used for IR dumps, diagnostics, emitted C and reports.
 *
 *     cw_open(w, "for (int64_t i = 0; i < %lld; i++) {", n);
 *     cw_line(w, "y[i] = x[i];");
 *     cw_close(w, "}");
 */
#ifndef LATHE_BASE_WRITER_H
#define LATHE_BASE_WRITER_H
#include <stdarg.h>

#include "base/arena.h"

typedef struct Writer {
    Arena *arena;
    char *text; /* zero-terminated once anything is written */
    size_t n, cap;
    int indent; /* levels of four spaces that cw_line puts in front */
} Writer;

#if defined(__GNUC__)
#define LATHE_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define LATHE_PRINTF(a, b)
#endif

void cw_text(Writer *w, const char *text, size_t n);               /* as it is */
void cw_printf(Writer *w, const char *format, ...) LATHE_PRINTF(2, 3); /* no indent, no newline */
void cw_vprintf(Writer *w, const char *format, va_list args) LATHE_PRINTF(2, 0);
void cw_begin(Writer *w); /* the indent of a line that cw_printf goes on with */
void cw_line(Writer *w, const char *format, ...) LATHE_PRINTF(2, 3);  /* indent, text, newline */
void cw_open(Writer *w, const char *format, ...) LATHE_PRINTF(2, 3);  /* a line, then one level deeper */
void cw_close(Writer *w, const char *format, ...) LATHE_PRINTF(2, 3); /* one level up, then a line */
/* A C comment holding text we do not trust: comment ends, newlines, non-ASCII bytes and trigraphs are made harmless. */
void cw_comment(Writer *w, const char *untrusted);
/* A C (and JSON) string literal with its quotes; every byte outside printable ASCII is escaped. */
void cw_string(Writer *w, const char *text, size_t n);
const char *cw_cstr(Writer *w); /* the text so far, never NULL */

#endif
