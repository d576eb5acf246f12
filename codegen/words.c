#include "codegen/words.h"

#include <ctype.h>
#include <string.h>

bool word_char(char c) { return isalnum((unsigned char)c) || c == '_'; }

size_t word_length(const char *p, const char *end) {
    size_t n = 0;
    while (p + n < end && word_char(p[n])) n++;
    return n;
}

bool word_is_ours(const char *word, size_t n) { return n >= 6 && (strncmp(word, "lathe_", 6) == 0 || strncmp(word, "LATHE_", 6) == 0); }

const char *skip_quiet(const char *p, const char *end) {
    for (;;) {
        if (end - p > 1 && p[0] == '/' && p[1] == '*') {
            p += 2;
            while (end - p > 1 && !(p[0] == '*' && p[1] == '/')) p++;
            p += end - p > 1 ? 2 : end - p;
        } else if (p < end && (*p == '"' || *p == '\'')) {
            const char quote = *p++;
            while (p < end && *p != quote) p += *p == '\\' && end - p > 1 ? 2 : 1;
            if (p < end) p++;
        } else {
            return p;
        }
    }
}
