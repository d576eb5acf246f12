/* Regular expressions (the RE2 syntax that RegexFullMatch uses) compiled to a table for matching whole strings. */
#ifndef LATHE_PASSES_REGEX_H
#define LATHE_PASSES_REGEX_H
#include "base/context.h"

typedef struct Dfa {
    uint32_t n;      /* states; 0 is the start */
    int32_t *next;   /* n * 256: next state by byte, -1 for none */
    uint8_t *accept; /* n */
} Dfa;

/* NULL, or why the pattern cannot be compiled. Memory comes from the Context's arena. */
const char *regex_compile(Context *cx, const char *pattern, size_t n, Dfa *dfa);

#endif
