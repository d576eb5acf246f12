/* Numbers and blobs of the IR text. Floats print with the fewest digits that read back to the same bits; what has no
 * such text (NaN payloads) prints its bits in hexadecimal. */
#include "ir/text_number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ir/small_float.h"

DType number_dtype(DType d) {
    return d == DT_C64 ? DT_F32 : d == DT_C128 ? DT_F64 : d;
}

uint64_t number_get(const void *data, DType d, size_t i) {
    uint32_t bits = dtype_bits(d);
    uint64_t x = 0;
    if (bits < 8) return ((const uint8_t *)data)[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
    memcpy(&x, (const uint8_t *)data + i * (bits / 8), bits / 8);
    return x;
}

void number_set(void *data, DType d, size_t i, uint64_t x) {
    uint32_t bits = dtype_bits(d);
    uint8_t *bytes = data;
    if (bits < 8) bytes[i * bits / 8] |= (uint8_t)(x << (i * bits % 8));
    else memcpy(bytes + i * (bits / 8), &x, bits / 8);
}

static double float_from_bits(DType d, uint64_t bits) {
    if (d == DT_F64) {
        double f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    if (d == DT_F32) {
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    return (double)small_float_decode(d, (uint32_t)bits);
}

static uint64_t float_to_bits(DType d, double v) {
    uint64_t bits = 0;
    float f = (float)v;
    if (d == DT_F64) memcpy(&bits, &v, sizeof v);
    else if (d == DT_F32) memcpy(&bits, &f, sizeof f);
    else bits = small_float_encode(d, f, false);
    return bits;
}

/* strtof where the value is a float: one rounding from the text. */
static bool read_float(DType d, const char *text, uint64_t *bits) {
    char *end;
    double v = d == DT_F64 ? strtod(text, &end) : (double)strtof(text, &end);
    if (end == text || *end != 0) return false;
    *bits = float_to_bits(d, v);
    return true;
}

void number_print(Writer *w, DType d, uint64_t bits) {
    uint32_t width = dtype_bits(d);
    if (dtype_class(d) == 'I') {
        int64_t x = width == 64 ? (int64_t)bits : (int64_t)(bits ^ UINT64_C(1) << (width - 1)) - (INT64_C(1) << (width - 1));
        cw_printf(w, "%lld", (long long)x);
        return;
    }
    if (dtype_class(d) != 'F') {
        cw_printf(w, "%llu", (unsigned long long)bits);
        return;
    }
    double v = float_from_bits(d, bits);
    if (v == rint(v) && fabs(v) < 1e7) { /* 65504, not 6.55e+04 */
        cw_printf(w, "%.0f", v);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        char text[40];
        uint64_t back;
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (read_float(d, text, &back) && back == bits) {
            cw_printf(w, "%s", text);
            return;
        }
        if (!isfinite(v)) break;
    }
    cw_printf(w, "0x%llx", (unsigned long long)bits);
}

static bool is_hex(const char *text) {
    return text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

bool number_read(DType d, const char *text, uint64_t *bits) {
    char *end;
    uint32_t width = dtype_bits(d);
    errno = 0;
    if (is_hex(text)) {
        *bits = strtoull(text, &end, 16);
        return *end == 0 && end != text + 2 && errno == 0 && (width >= 64 || *bits >> width == 0);
    }
    if (dtype_class(d) == 'F') return read_float(d, text, bits);
    if (dtype_class(d) == 'I') {
        int64_t x = strtoll(text, &end, 10);
        *bits = width == 64 ? (uint64_t)x : (uint64_t)x & ((UINT64_C(1) << width) - 1);
        bool fits = width == 64 || (x >= -(INT64_C(1) << (width - 1)) && x < INT64_C(1) << (width - 1));
        return end != text && *end == 0 && errno == 0 && fits;
    }
    *bits = strtoull(text, &end, 10);
    if (d == DT_BOOL) width = 8; /* any byte: models hold others than 0 and 1 */
    return text[0] != '-' && end != text && *end == 0 && errno == 0 && (width == 64 || *bits >> width == 0);
}

void number_print_attr(Writer *w, double v) {
    bool single = isnan(v) || (double)(float)v == v;
    if (isnan(v)) cw_printf(w, "nan"); /* an attribute's NaN has no payload worth keeping */
    else number_print(w, single ? DT_F32 : DT_F64, float_to_bits(single ? DT_F32 : DT_F64, v));
    if (!single) cw_printf(w, "d");
}

bool number_read_attr(const char *text, double *v) {
    char *end;
    if (is_hex(text)) return false;
    *v = (double)strtof(text, &end);
    if (end != text && *end == 0) return true;
    *v = strtod(text, &end);
    return end != text && end[0] == 'd' && end[1] == 0;
}

/* ---- blobs ---- */
static const char digits64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_print(Writer *w, const void *data, size_t n) {
    const uint8_t *p = data;
    char out[4096];
    size_t used = 0;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t x = (uint32_t)p[i] << 16;
        if (i + 1 < n) x |= (uint32_t)p[i + 1] << 8;
        if (i + 2 < n) x |= p[i + 2];
        out[used++] = digits64[x >> 18];
        out[used++] = digits64[x >> 12 & 63];
        out[used++] = i + 1 < n ? digits64[x >> 6 & 63] : '=';
        out[used++] = i + 2 < n ? digits64[x & 63] : '=';
        if (used == sizeof out) {
            cw_text(w, out, used);
            used = 0;
        }
    }
    cw_text(w, out, used);
}

static int digit_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_read(const char *text, size_t text_size, void *data, size_t n) {
    uint8_t *p = data;
    if (text_size / 4 != n / 3 + (n % 3 != 0) || text_size % 4 != 0) return false;
    for (size_t i = 0, at = 0; i < text_size; i += 4) {
        uint32_t x = 0;
        size_t left = n - at < 3 ? n - at : 3;
        for (size_t k = 0; k < 4; k++) {
            int v = digit_value(text[i + k]);
            if (k > left ? text[i + k] != '=' : v < 0) return false;
            x = x << 6 | (uint32_t)(v < 0 ? 0 : v);
        }
        for (size_t k = 0; k < left; k++) p[at++] = (uint8_t)(x >> (16 - 8 * k));
    }
    return true;
}
