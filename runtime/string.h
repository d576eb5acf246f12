/* Strings of emitted code: zero-terminated UTF-8. New strings stand in text areas that the caller provides; nothing is
 * longer than LATHE_STRING_BYTES with its zero byte (LATHE_RT_BOUND, error 4, otherwise). */
#ifndef LATHE_RUNTIME_STRING_H
#define LATHE_RUNTIME_STRING_H
#include <stdint.h>
#include <string.h>

typedef const char *lathe_string;

#define LATHE_STRING_BYTES 256

/* Order of the bytes: negative, 0 or positive. A null pointer is an empty string. */
static inline int lathe_string_compare(lathe_string a, lathe_string b) {
    if (a == NULL) a = "";
    if (b == NULL) b = "";
    return strcmp(a, b);
}

/* out[at] = a[ia] followed by b[ib], in slot `at` of text. */
static inline int lathe_string_concat(const lathe_string *a, int64_t ia, const lathe_string *b, int64_t ib, uint8_t *text, lathe_string *out, int64_t at) {
    char *to = (char *)text + at * LATHE_STRING_BYTES;
    const char *x = a[ia] != NULL ? a[ia] : "", *y = b[ib] != NULL ? b[ib] : "";
    const size_t n = strlen(x), m = strlen(y);
    out[at] = to;
    to[0] = 0;
    if (n + m >= LATHE_STRING_BYTES) return 4;
    memcpy(to, x, n);
    memcpy(to + n, y, m + 1);
    return 0;
}

/* The code point at *p, which moves behind it; bytes that are not UTF-8 count as themselves. */
static inline uint32_t lathe_utf8_next(const unsigned char **p) {
    const unsigned char *s = *p;
    uint32_t c = *s++;
    const int more = c >= 0xF0 && c < 0xF8 ? 3 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xC2 && c < 0xE0 ? 1 : 0;
    uint32_t value = more == 3 ? c & 7u : more == 2 ? c & 15u : c & 31u;
    for (int i = 0; i < more; i++) {
        if ((s[i] & 0xC0u) != 0x80u) {
            *p = s;
            return c;
        }
        value = value << 6 | (s[i] & 63u);
    }
    *p = s + more;
    return more != 0 ? value : c;
}

/* Upper and lower case of Latin, Greek and Cyrillic letters, as far as they have one code point each way. */
static inline uint32_t lathe_change_case(uint32_t c, int upper) {
    const int lower_latin = (c >= 'a' && c <= 'z') || (c >= 0xE0 && c <= 0xFE && c != 0xF7), upper_latin = (c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7);
    const int lower_greek = c >= 0x3B1 && c <= 0x3C9 && c != 0x3C2, upper_greek = c >= 0x391 && c <= 0x3A9 && c != 0x3A2;
    const int lower_cyrillic = c >= 0x430 && c <= 0x44F, upper_cyrillic = c >= 0x410 && c <= 0x42F;
    if (upper && (lower_latin || lower_greek || lower_cyrillic)) return c - 32;
    if (!upper && (upper_latin || upper_greek || upper_cyrillic)) return c + 32;
    if (c >= 0x100 && c <= 0x137) return upper ? c & ~1u : c | 1u;
    if (c >= 0x450 && c <= 0x45F && upper) return c - 80;
    if (c >= 0x400 && c <= 0x40F && !upper) return c + 80;
    return c;
}

static inline int lathe_utf8_put(char *to, uint32_t c) { /* bytes written, at most 4 */
    if (c < 0x80 || c > 0x1FFFFF) {
        to[0] = (char)c;
        return 1;
    }
    const int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80u | (c & 63u));
    to[0] = (char)((0xF00u >> n & 0xFFu) | c);
    return n;
}

/* x in upper (1) or lower (2) case, or as it is (0), in `to`; 4 when it does not fit. */
static inline int lathe_string_case(lathe_string x, int64_t action, char *to) {
    const unsigned char *p = (const unsigned char *)(x != NULL ? x : "");
    size_t n = 0;
    while (*p != 0) {
        if (n + 5 > LATHE_STRING_BYTES) {
            to[0] = 0;
            return 4;
        }
        const uint32_t c = lathe_utf8_next(&p);
        n += (size_t)lathe_utf8_put(to + n, action == 0 ? c : lathe_change_case(c, action == 1));
    }
    to[n] = 0;
    return 0;
}

/* Are two strings equal, letters of either case counting as the same when fold is set? */
static inline int lathe_string_same(lathe_string a, lathe_string b, int64_t fold) {
    const unsigned char *p = (const unsigned char *)(a != NULL ? a : ""), *q = (const unsigned char *)(b != NULL ? b : "");
    while (*p != 0 && *q != 0) {
        uint32_t c = lathe_utf8_next(&p), d = lathe_utf8_next(&q);
        if (fold) c = lathe_change_case(c, 0), d = lathe_change_case(d, 0);
        if (c != d) return 0;
    }
    return *p == *q;
}

/* StringNormalizer: the n strings of x without the stop words, in the wanted case; *count of them, at least one. */
static inline int lathe_string_normalize(const lathe_string *x, int64_t n, const lathe_string *stop, int64_t n_stop, int64_t fold, int64_t action, uint8_t *text,
                                         lathe_string *out, int64_t *count) {
    int64_t k = 0;
    int error = 0;
    for (int64_t i = 0; i < n; i++) {
        int drop = 0;
        for (int64_t s = 0; s < n_stop && !drop; s++) drop = lathe_string_same(x[i], stop[s], fold);
        if (drop) continue;
        char *to = (char *)text + k * LATHE_STRING_BYTES;
        error |= lathe_string_case(x[i], action, to);
        out[k++] = to;
    }
    if (k == 0) {
        text[0] = 0;
        out[k++] = (const char *)text;
    }
    *count = k;
    return error;
}

static inline int lathe_is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Cuts x at the delimiter (any run of white space when it is empty), at most `most` times (negative: no limit). Parts go
 * to `text`, each with a zero byte, their addresses to part[0..limit); returns how many there are, or -1. */
static inline int64_t lathe_string_cut(lathe_string x, lathe_string delimiter, int64_t most, char *text, lathe_string *part, int64_t limit) {
    const size_t d = strlen(delimiter);
    const char *p = x != NULL ? x : "";
    int64_t n = 0;
    size_t used = 0;
    if (d == 0) {
        while (lathe_is_space(*p)) p++;
        if (*p == 0) return 0;
    }
    for (;;) {
        const char *end = p;
        const int last = most >= 0 && n >= most;
        if (d == 0) {
            while (*end != 0 && (last || !lathe_is_space(*end))) end++;
        } else {
            const char *found = last ? NULL : strstr(p, delimiter);
            end = found != NULL ? found : p + strlen(p);
        }
        const size_t size = (size_t)(end - p);
        if (n >= limit || used + size + 1 > 2 * LATHE_STRING_BYTES) return -1;
        if (part != NULL) {
            memcpy(text + used, p, size);
            text[used + size] = 0;
            part[n] = text + used;
        }
        used += size + 1;
        n++;
        if (d != 0) {
            if (*end == 0) return n;
            p = end + d;
        } else {
            p = end;
            while (lathe_is_space(*p)) p++;
            if (*p == 0) return n;
        }
    }
}

/* StringSplit: the parts of n strings, a row of *width each, filled up with empty strings; z: how many each has. */
static inline int lathe_string_split(const lathe_string *x, int64_t n, const lathe_string *delimiter, int64_t most, int64_t limit, uint8_t *text, lathe_string *out, int64_t *z,
                                     int64_t *width) {
    int64_t w = 0;
    int error = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = lathe_string_cut(x[i], delimiter[0], most, NULL, NULL, limit);
        if (k < 0) error = 4;
        z[i] = k < 0 ? 0 : k;
        if (z[i] > w) w = z[i];
    }
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < w; k++) out[i * w + k] = "";
        if (z[i] != 0) lathe_string_cut(x[i], delimiter[0], most, (char *)text + i * 2 * LATHE_STRING_BYTES, out + i * w, limit);
    }
    *width = w;
    return error;
}

static inline int lathe_string_is(const char *x, const char *word) { /* without regard to case; word is in lower case */
    for (; *word != 0; x++, word++)
        if ((*x >= 'A' && *x <= 'Z' ? *x + 32 : *x) != *word) return 0;
    return *x == 0;
}

/* 10 to the n. */
static inline double lathe_power_of_ten(int64_t n) {
    double r = 1.0, p = 10.0;
    for (; n > 0; n /= 2, p *= p)
        if (n % 2 != 0) r *= p;
    return r;
}

/* The number that x[i] writes: an optional sign, then digits with an optional point and exponent, inf, infinity or nan; white
 * space around it does not count. Exact up to 15 digits and exponents of 22, else within a few units of the last place. 6 when it
 * is not a number (*out is 0 then). */
static inline int lathe_string_to_f64(const lathe_string *x, int64_t i, double *out) {
    const char *p = x[i] != NULL ? x[i] : "";
    char word[12];
    uint64_t digits = 0;
    int64_t exponent = 0, given = 0;
    int seen = 0, point = 0, minus = 0;
    size_t n = 0;
    *out = 0.0;
    while (lathe_is_space(*p)) p++;
    if (*p == '+' || *p == '-') minus = *p++ == '-';
    for (; p[n] != 0 && !lathe_is_space(p[n]) && n + 1 < sizeof word; n++) word[n] = p[n];
    word[n] = 0;
    if (lathe_string_is(word, "inf") || lathe_string_is(word, "infinity") || lathe_string_is(word, "nan")) {
        const double big = lathe_power_of_ten(400), special = word[0] == 'n' || word[0] == 'N' ? big - big : big;
        p += n;
        while (lathe_is_space(*p)) p++;
        if (*p != 0) return 6;
        *out = minus ? -special : special;
        return 0;
    }
    for (; (*p >= '0' && *p <= '9') || (*p == '.' && !point); p++) {
        if (*p == '.') {
            point = 1;
            continue;
        }
        seen = 1;
        if (digits < UINT64_C(1000000000000000000)) {
            digits = digits * 10 + (uint64_t)(*p - '0');
            exponent -= point;
        } else {
            exponent += !point;
        }
    }
    if (!seen) return 6;
    if (*p == 'e' || *p == 'E') {
        const int down = p[1] == '-';
        p += p[1] == '+' || p[1] == '-' ? 2 : 1;
        if (*p < '0' || *p > '9') return 6;
        for (; *p >= '0' && *p <= '9'; p++)
            if (given < 100000) given = given * 10 + (*p - '0');
        exponent += down ? -given : given;
    }
    while (lathe_is_space(*p)) p++;
    if (*p != 0) return 6;
    double r = (double)digits;
    if (digits == 0 || exponent < -400) r = exponent < -400 ? 0.0 : r;
    else if (exponent > 400) r = lathe_power_of_ten(400);
    else if (exponent < -300) r = r / lathe_power_of_ten(300) / lathe_power_of_ten(-exponent - 300);
    else r = exponent < 0 ? r / lathe_power_of_ten(-exponent) : r * lathe_power_of_ten(exponent);
    *out = minus ? -r : r;
    return 0;
}

/* The whole number that x[i] writes, a fraction cut off; 6 when it is not a number or beyond 64 bits (*out is 0 then). */
static inline int lathe_string_to_i64(const lathe_string *x, int64_t i, int64_t *out) {
    const char *p = x[i] != NULL ? x[i] : "";
    uint64_t digits = 0;
    int minus = 0, seen = 0;
    *out = 0;
    while (lathe_is_space(*p)) p++;
    if (*p == '+' || *p == '-') minus = *p++ == '-';
    for (; *p >= '0' && *p <= '9'; p++, seen = 1) {
        if (digits > UINT64_C(922337203685477580)) return 6;
        digits = digits * 10 + (uint64_t)(*p - '0');
    }
    while (lathe_is_space(*p)) p++;
    if (*p != 0 || !seen) { /* 1.5, 1e3, and what is no number at all */
        double r = 0.0;
        const int code = lathe_string_to_f64(x, i, &r);
        if (code != 0) return code;
        if (!(r > -9223372036854775808.0 && r < 9223372036854775808.0)) return 6;
        *out = (int64_t)r;
        return 0;
    }
    if (digits > UINT64_C(9223372036854775808) - (minus ? 0u : 1u)) return 6;
    *out = minus ? (int64_t)(0u - digits) : (int64_t)digits;
    return 0;
}

/* Does the whole of x[i] lead from state 0 to an accepting state? next: 256 entries per state, -1 for none. */
static inline int lathe_string_match(const lathe_string *x, int64_t i, const int32_t *next, const uint8_t *accept, uint8_t *out) {
    const unsigned char *p = (const unsigned char *)(x[i] != NULL ? x[i] : "");
    int32_t state = 0;
    for (; *p != 0 && state >= 0; p++) state = next[(int64_t)state * 256 + *p];
    out[i] = state >= 0 && accept[state];
    return 0;
}

#endif
