/* Identifiers of emitted C. Model text ("conv1/kernel:0", "int", "étage") becomes "conv1_kernel_0", "int_", "_tage":
 * only ASCII letters, digits and _, never a keyword, never a name used before. */
#include <stdio.h>

#include "codegen/emit.h"

static const char *const reserved[] = {
    /* C and C++ keywords, and names the emitted files use or include */
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch", "char", "char8_t", "char16_t",
    "char32_t", "class", "compl", "concept", "const", "consteval", "constexpr", "constinit", "const_cast", "continue", "co_await", "co_return",
    "co_yield", "decltype", "default", "delete", "do", "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "float",
    "for", "friend", "goto", "if", "import", "inline", "int", "long", "module", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr",
    "operator", "or", "or_eq", "private", "protected", "public", "register", "reinterpret_cast", "requires", "restrict", "return", "short", "signed",
    "sizeof", "static", "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local", "throw", "true", "try", "typedef",
    "typeid", "typename", "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq", "typeof", "linux", "unix",
    "NULL", "INFINITY", "NAN", "I", "errno", "assert", "offsetof", "size_t", "main", "dims", "tid", "nt", "err", "fault", "in", "out", "ctx",
    "arena", "weights", "status", "in_dims", "out_dims", "begin", "end", "at", "memcpy", "memset", "exp", "log", "sin", "cos", "tan", "pow", "sqrt",
    /* functions of the system's library: a model called `select` must not replace the one the program links to */
    "abort", "accept", "access", "bind", "calloc", "clock", "close", "connect", "dup", "environ", "exit", "fork", "free", "getenv", "kill", "link",
    "listen", "malloc", "mount", "nice", "open", "pause", "pipe", "poll", "printf", "puts", "raise", "rand", "random", "read", "realloc", "recv",
    "remove", "rename", "select", "send", "sleep", "socket", "stat", "strlen", "sync", "system", "truncate", "unlink", "wait", "write",
    "y0", "y1", "yn", "j0", "j1", "jn", "gamma", "index", "div", "abs", "signal", "time", "remainder", "erf", "floor", "ceil", "round", "trunc",
};

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_reserved(const char *text) {
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strcmp(reserved[i], text) == 0) return true;
    return false;
}

bool names_has(const Names *names, Str s) { return s < names->n && names->taken[s]; }

Names names_copy(const Names *names) {
    Names copy = *names;
    copy.taken = ARENA_ARRAY(&names->cx->scratch, uint8_t, names->n);
    if (names->n != 0) memcpy(copy.taken, names->taken, names->n);
    return copy;
}

static void take(Names *names, Str s) {
    if (s >= names->n) {
        uint32_t n = s * 2 + 64;
        uint8_t *grown = ARENA_ARRAY(&names->cx->scratch, uint8_t, n);
        if (names->n != 0) memcpy(grown, names->taken, names->n);
        names->taken = grown;
        names->n = n;
    }
    names->taken[s] = 1;
}

void names_reserve(Names *names, const char *identifier) {
    take(names, str_intern(names->cx, identifier));
}

const char *names_unique(Names *names, const char *wish) {
    char text[56];
    size_t n = 0;
    for (const char *p = wish; *p != 0 && n < 48; p++) {
        char c = is_letter(*p) || is_digit(*p) ? *p : '_';
        if (c == '_' && n > 0 && text[n - 1] == '_') continue; /* no double underscores: C++ reserves them */
        if (n == 0 && (is_digit(c) || c == '_')) text[n++] = 'x'; /* leading digit or underscore */
        text[n++] = c;
    }
    while (n > 1 && text[n - 1] == '_') n--;
    if (n == 0) text[n++] = 'x';
    text[n] = 0;
    if (is_reserved(text)) strcpy(text + n, "_");
    Str s = str_intern(names->cx, text);
    for (unsigned i = 2; names_has(names, s); i++) s = str_format(names->cx, "%s_%u", text, i);
    take(names, s);
    return str_text(names->cx, s);
}
