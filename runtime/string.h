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

/* The size and sign of the whole number that x[i] writes, a fraction cut off; 6 when it is not a number or beyond 64 bits (*size is 0 then). */
static inline int lathe_string_to_whole(const lathe_string *x, int64_t i, uint64_t *size, int *minus) {
    const char *p = x[i] != NULL ? x[i] : "";
    uint64_t digits = 0;
    int seen = 0, beyond = 0;
    *size = 0;
    *minus = 0;
    while (lathe_is_space(*p)) p++;
    if (*p == '+' || *p == '-') *minus = *p++ == '-';
    for (; *p >= '0' && *p <= '9'; p++, seen = 1) {
        const uint64_t d = (uint64_t)(*p - '0');
        beyond |= digits > (UINT64_MAX - d) / 10;
        digits = digits * 10 + d;
    }
    while (lathe_is_space(*p)) p++;
    if (*p != 0 || !seen) { /* 1.5, 1e3, and what is no number at all */
        double r = 0.0;
        const int code = lathe_string_to_f64(x, i, &r);
        if (code != 0) return code;
        r = r < 0.0 ? -r : r;
        if (!(r < 18446744073709551616.0)) return 6;
        digits = (uint64_t)r;
        beyond = 0;
    }
    *size = beyond ? 0 : digits;
    return beyond ? 6 : 0;
}

static inline int lathe_string_to_i64(const lathe_string *x, int64_t i, int64_t *out) {
    uint64_t size;
    int minus;
    const int code = lathe_string_to_whole(x, i, &size, &minus);
    const int fits = size <= UINT64_C(9223372036854775807) + (minus ? 1u : 0u);
    *out = fits ? (int64_t)(minus ? 0u - size : size) : 0;
    return fits ? code : 6;
}

/* A negative number wraps around. */
static inline int lathe_string_to_u64(const lathe_string *x, int64_t i, uint64_t *out) {
    uint64_t size;
    int minus;
    const int code = lathe_string_to_whole(x, i, &size, &minus);
    *out = minus ? 0u - size : size;
    return code;
}

static inline void lathe_digits_multiply(uint32_t *limb, int *n, uint32_t by) { /* limbs of nine decimal digits, low ones first; by < 10^9 */
    uint64_t carry = 0;
    for (int k = 0; k < *n; k++) {
        carry += (uint64_t)limb[k] * by;
        limb[k] = (uint32_t)(carry % 1000000000u);
        carry /= 1000000000u;
    }
    if (carry != 0) limb[(*n)++] = (uint32_t)carry;
}

/* The exact decimal digits of a finite x >= 0, the first one not 0 (but for 0 itself); returns how many, at most 780. x is
 * those digits, as a whole number, divided by ten to the *point. */
static inline int lathe_f64_digits(double x, char *digit, int *point) {
    uint32_t limb[90];
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int field = (int)(bits >> 52 & 2047u);
    uint64_t m = (bits & UINT64_C(0xFFFFFFFFFFFFF)) | (field != 0 ? UINT64_C(1) << 52 : 0);
    int e = (field != 0 ? field : 1) - 1075, n = 0, count = 0;
    while (e < 0 && (m & 1u) == 0 && m != 0) m >>= 1, e++;
    *point = m != 0 && e < 0 ? -e : 0;
    for (; m != 0 || n == 0; m /= 1000000000u) limb[n++] = (uint32_t)(m % 1000000000u);
    for (int k = e; k > 0; k -= 16) lathe_digits_multiply(limb, &n, UINT32_C(1) << (k < 16 ? k : 16)); /* m 2^e */
    for (int k = *point; k > 0; k -= k < 12 ? 1 : 12) lathe_digits_multiply(limb, &n, k < 12 ? 5 : 244140625); /* m / 2^k = m 5^k / 10^k, 5^12 at a time */
    for (int k = n - 1; k >= 0; k--)
        for (uint32_t unit = 100000000u; unit != 0; unit /= 10u)
            if (count != 0 || limb[k] / unit % 10u != 0 || (k == 0 && unit == 1)) digit[count++] = (char)('0' + limb[k] / unit % 10u);
    return count;
}

/* Keeps `keep` digits of n (possibly none), rounded to nearest, ties to even; when that carries into a new digit, returns 1
 * and there are keep + 1. */
static inline int lathe_digits_round(char *digit, int n, int keep) {
    int up = digit[keep] > '5', k = keep;
    if (digit[keep] == '5') {
        for (int j = keep + 1; j < n && !up; j++) up = digit[j] != '0';
        if (!up) up = keep > 0 && (digit[keep - 1] & 1) != 0;
    }
    while (up && k > 0 && digit[k - 1] == '9') digit[--k] = '0';
    if (!up) return 0;
    if (k > 0) {
        digit[k - 1]++;
        return 0;
    }
    for (k = keep; k > 0; k--) digit[k] = digit[k - 1];
    digit[0] = '1';
    return 1;
}

/* x[i] as text: with `decimals` digits behind the point, or, when that is negative, with 8 significant digits as %.8g of C
 * writes them; NaN, INF and -INF. In slot i of text. */
static inline int lathe_f64_to_string(const double *x, int64_t i, uint8_t *text, lathe_string *out, int64_t decimals) {
    const int most = 8;
    char digit[800], *to = (char *)text + i * LATHE_STRING_BYTES;
    uint64_t bits;
    int n, point, size = 0;
    memcpy(&bits, &x[i], sizeof bits);
    out[i] = to;
    if ((bits >> 52 & 2047u) == 2047u) {
        const char *word = (bits & UINT64_C(0xFFFFFFFFFFFFF)) != 0 ? "NaN" : bits >> 63 != 0 ? "-INF" : "INF";
        memcpy(to, word, strlen(word) + 1);
        return 0;
    }
    if (bits >> 63 != 0) to[size++] = '-';
    n = lathe_f64_digits(x[i] < 0 ? -x[i] : x[i], digit, &point);
    int exponent = n - 1 - point; /* of the first digit */
    int keep = decimals < 0 ? most : exponent + 1 + (int)decimals;
    if (decimals > 64 || keep + size + 8 > LATHE_STRING_BYTES) {
        to[0] = 0;
        return 4;
    }
    if (keep < 0) n = keep = 0;
    if (keep < n) {
        const int carry = lathe_digits_round(digit, n, keep);
        exponent += carry;
        n = decimals < 0 ? keep : keep + carry;
    }
    if (n == 0) digit[n++] = '0', exponent = 0;
    if (decimals < 0)
        while (n > 1 && digit[n - 1] == '0') n--;
    if (decimals < 0 && (exponent < -4 || exponent >= most)) {
        const int e = exponent < 0 ? -exponent : exponent;
        to[size++] = digit[0];
        if (n > 1) to[size++] = '.';
        for (int k = 1; k < n; k++) to[size++] = digit[k];
        to[size++] = 'e';
        to[size++] = exponent < 0 ? '-' : '+';
        if (e >= 100) to[size++] = (char)('0' + e / 100);
        to[size++] = (char)('0' + e / 10 % 10);
        to[size++] = (char)('0' + e % 10);
    } else {
        const int last = decimals < 0 ? n - 1 - exponent : (int)decimals; /* digits behind the point */
        for (int k = exponent < 0 ? exponent : 0; k <= exponent || k - exponent <= last; k++) {
            if (k == exponent + 1) to[size++] = '.';
            to[size++] = k >= 0 && k < n ? digit[k] : '0';
        }
    }
    to[size] = 0;
    return 0;
}

static inline void lathe_write_whole(uint64_t size, char *to) {
    int k = 1;
    for (uint64_t v = size; v >= 10; v /= 10) k++;
    for (to[k] = 0; k > 0; size /= 10) to[--k] = (char)('0' + size % 10);
}

static inline int lathe_u64_to_string(const uint64_t *x, int64_t i, uint8_t *text, lathe_string *out) {
    char *to = (char *)text + i * LATHE_STRING_BYTES;
    lathe_write_whole(x[i], to);
    out[i] = to;
    return 0;
}

static inline int lathe_i64_to_string(const int64_t *x, int64_t i, uint8_t *text, lathe_string *out) {
    char *to = (char *)text + i * LATHE_STRING_BYTES;
    const int minus = x[i] < 0;
    to[0] = '-';
    lathe_write_whole(minus ? 0u - (uint64_t)x[i] : (uint64_t)x[i], to + minus);
    out[i] = to;
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

static inline uint32_t lathe_rotate_left(uint32_t x, int by) { return x << by | x >> (32 - by); }

/* MurmurHash3: the 32-bit hash of the bytes of string x[i]. */
static inline int lathe_string_hash(const lathe_string *x, int64_t i, int64_t seed, uint32_t *hash) {
    const unsigned char *p = (const unsigned char *)(x[i] != NULL ? x[i] : "");
    const size_t n = strlen((const char *)p);
    uint32_t h = (uint32_t)seed;
    for (size_t at = 0; at < n; at += 4) {
        uint32_t k = 0;
        for (size_t b = 0; b < 4 && at + b < n; b++) k |= (uint32_t)p[at + b] << (8 * b);
        h ^= lathe_rotate_left(k * 0xCC9E2D51u, 15) * 0x1B873593u;
        if (at + 4 <= n) h = lathe_rotate_left(h, 13) * 5u + 0xE6546B64u;
    }
    h ^= (uint32_t)n;
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    hash[i] = h ^ h >> 16;
    return 0;
}

#define LATHE_TOKENS 256 /* of one string, at most */

/* Bytes of the character at s. */
static inline int64_t lathe_utf8_size(const char *s) {
    const unsigned char *p = (const unsigned char *)s;
    lathe_utf8_next(&p);
    return (int64_t)(p - (const unsigned char *)s);
}

/* Length of the longest match of a table at the start of s [size]; -1: there is none. */
static inline int64_t lathe_longest_match(const char *s, int64_t size, const int32_t *next, const uint8_t *accept, int64_t start) {
    int64_t state = start, longest = accept[start] != 0 ? 0 : -1;
    for (int64_t i = 0; i < size; i++) {
        state = next[state * 256 + (unsigned char)s[i]];
        if (state < 0) break;
        if (accept[state] != 0) longest = i + 1;
    }
    return longest;
}

/* Adds a piece of at least `least` characters to the n there are, as its place and size; -1 if there is no room. */
static inline int64_t lathe_add_piece(const char *s, int64_t from, int64_t size, int64_t least, int64_t limit, int32_t *piece, int64_t n) {
    int64_t characters = 0;
    for (int64_t i = 0; i < size; i++) characters += ((unsigned char)s[from + i] & 0xC0u) != 0x80u;
    if (characters < least) return n;
    if (n >= limit) return -1;
    piece[2 * n] = (int32_t)from;
    piece[2 * n + 1] = (int32_t)size;
    return n + 1;
}

/* The matches of a table in s [from, from + size), or what is between them, behind the n pieces there are. Matches of nothing take a character away. */
static inline int64_t lathe_cut_piece(const char *s, int64_t from, int64_t size, const int32_t *next, const uint8_t *accept, int64_t start, int matches, int64_t least, int64_t limit,
                                      int32_t *piece, int64_t n) {
    const int64_t end = from + size;
    int64_t token = from, at = from;
    while (at < end && n >= 0) {
        const int64_t match = lathe_longest_match(s + at, end - at, next, accept, start), step = lathe_utf8_size(s + at);
        if (match >= 0) n = matches ? lathe_add_piece(s, at, match, least, limit, piece, n) : lathe_add_piece(s, token, at - token, least, limit, piece, n);
        at += match > 0 ? match : step;
        if (match >= 0) token = at;
    }
    return matches || n < 0 ? n : lathe_add_piece(s, token, end > token ? end - token : 0, least, limit, piece, n);
}

/* The tokens of s: its characters (no tables), the matches of the only table, or what is left when the separators of all tables are taken out, one after
 * the other. -1 if there are more than `limit`, or s is too long. */
static inline int64_t lathe_token_pieces(const char *s, const int32_t *next, const uint8_t *accept, const int64_t *start, int64_t tables, int matches, int64_t least, int64_t limit, int32_t *piece) {
    int32_t other[2 * LATHE_TOKENS];
    const size_t size = strlen(s);
    int64_t n = 0;
    if (size >= LATHE_STRING_BYTES) return -1;
    if (tables == 0) {
        for (int64_t at = 0; at < (int64_t)size && n >= 0;) {
            const int64_t step = lathe_utf8_size(s + at);
            n = lathe_add_piece(s, at, step, least, limit, piece, n);
            at += step;
        }
        return n;
    }
    if (size != 0) n = lathe_add_piece(s, 0, (int64_t)size, 1, limit, piece, 0);
    for (int64_t t = 0; t < tables && n > 0; t++) {
        const int64_t count = n;
        memcpy(other, piece, (size_t)(2 * count) * sizeof *piece);
        n = 0;
        for (int64_t i = 0; i < count && n >= 0; i++) n = lathe_cut_piece(s, other[2 * i], other[2 * i + 1], next, accept, start[t], matches, least, limit, piece, n);
    }
    return n;
}

/* Tokenizer: the tokens of n strings, a row of *width each, between marks if asked for, filled up with pad. */
static inline int lathe_tokenize(const lathe_string *x, int64_t n, const int32_t *next, const uint8_t *accept, const int64_t *start, int64_t tables, int64_t matches, int64_t least, int64_t mark,
                                 const lathe_string *pad, int64_t limit, uint8_t *text, lathe_string *out, int64_t *width) {
    int32_t piece[2 * LATHE_TOKENS];
    int64_t most = 0;
    int error = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = lathe_token_pieces(x[i] != NULL ? x[i] : "", next, accept, start, tables, matches != 0, least, limit, piece);
        if (k < 0) error = 4;
        if (k > most) most = k;
    }
    const int64_t w = most == 0 ? 0 : most + (mark != 0 ? 2 : 0);
    for (int64_t i = 0; i < n && w > 0; i++) {
        const char *s = x[i] != NULL ? x[i] : "";
        const int64_t k = lathe_token_pieces(s, next, accept, start, tables, matches != 0, least, limit, piece);
        char *to = (char *)text + i * 2 * LATHE_STRING_BYTES;
        int64_t at = 0;
        if (mark != 0) out[i * w + at++] = "\x02";
        for (int64_t j = 0; j < k; j++) {
            const size_t size = (size_t)piece[2 * j + 1];
            memcpy(to, s + piece[2 * j], size);
            to[size] = 0;
            out[i * w + at++] = to;
            to += size + 1;
        }
        if (mark != 0) out[i * w + at++] = "\x03";
        while (at < w) out[i * w + at++] = pad[0];
    }
    *width = w;
    return error;
}

#endif
