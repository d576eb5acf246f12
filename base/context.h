/* What one compilation owns: memory, interned strings, diagnostics. Every function that can fail gets the Context;
 * there is no global state. Library code never prints, exits or aborts: it reports here and marks its results poison. */
#ifndef LATHE_BASE_CONTEXT_H
#define LATHE_BASE_CONTEXT_H
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/vec.h"
#include "base/writer.h"

typedef uint32_t Str; /* an interned string; 0 = none. Equal text has equal ids. */

typedef enum { SEV_NOTE, SEV_WARNING, SEV_ERROR } Severity;

/* Where something came from; survives every rewrite. All parts may be 0. */
typedef struct Loc {
    Str file, node, op;
    uint32_t index; /* position of the node in the file's graph, from 0 */
} Loc;

typedef struct Diag {
    Severity severity;
    Loc loc;
    const char *message; /* what was found, and what would be accepted */
} Diag;

typedef struct StrTable StrTable;
struct DimTable;  /* ir/dim.c */
struct TypeTable; /* ir/type.c */
struct ExprTable; /* ir/kernel.c */

/* Something the arena cannot give back (a mapped file): run by context_free, newest first. */
typedef struct Cleanup { void (*run)(void *user); void *user; } Cleanup;

typedef struct Context {
    Arena arena, scratch;
    StrTable *strings;
    struct DimTable *dims;
    struct TypeTable *types;
    struct ExprTable *exprs;
    VEC(Diag) diags;
    VEC(Cleanup) cleanups;
    uint32_t n_error;
    jmp_buf *escape; /* set at the public entry; out of memory and failed internal checks land there */
    const char *internal_error; /* "out of memory" or the failed check, when escape was taken */
    /* Progress for anything over a second; may be NULL. done runs 0..1. */
    void (*progress)(void *user, const char *what, double done);
    void *progress_user;
} Context;

void context_init(Context *cx);
void context_free(Context *cx);
void context_at_free(Context *cx, void (*run)(void *user), void *user);
_Noreturn void context_escape(Context *cx, const char *why);

Str str_intern(Context *cx, const char *text);
Str str_intern_n(Context *cx, const char *text, size_t n); /* text may hold zeros */
Str str_format(Context *cx, const char *format, ...) LATHE_PRINTF(2, 3);
const char *str_text(const Context *cx, Str s); /* "" for 0 */
size_t str_size(const Context *cx, Str s);

/* Records a problem. message form: what, found, accepted: `W has 3 channels per group, X gives 4`. */
void diag(Context *cx, Severity severity, Loc loc, const char *format, ...) LATHE_PRINTF(4, 5);
/* `file.onnx: Conv "c1": message`, one line per diagnostic. */
void diag_print(const Context *cx, Writer *w);

/* An internal invariant; a failure leaves through cx->escape, never through abort(). */
#define CHECK(cx, condition)                                                                       \
    do {                                                                                           \
        if (!(condition)) context_escape((cx), __FILE__ ": internal check failed: " #condition); \
    } while (0)

static inline uint64_t hash_mix(uint64_t h, uint64_t x) { /* one round of a multiply-xorshift hash */
    h = (h ^ x) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

#endif
