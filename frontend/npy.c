/* NumPy's .npy format (the format page of numpy.lib): a header that is a Python dict, then the elements.
 *
 *     \x93NUMPY 1 0 <u16 n> {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } <spaces> \n <24 bytes>
 *
 * Read: versions 1 to 3, both byte orders, both element orders, booleans, integers, floats, complex numbers, text.
 * Python objects are not read. Written: version 1, little-endian, row-major. */
#include <stdio.h>
#include <stdlib.h>

#include "frontend/tensor_file.h"
#include "ir/small_float.h"

#define FAIL(...) (diag(cx, SEV_ERROR, loc, __VA_ARGS__), 0)

typedef struct Header {
    char order, kind;      /* '<' '>' '|' '='; 'f' 'i' 'u' 'b' 'c' 'U' 'S' */
    uint64_t size;         /* bytes per element; U: code points */
    bool fortran;
    uint32_t rank;
    int64_t dim[RANK_MAX];
} Header;

/* ---- the header ------------------------------------------------------------------------------------------------- */
static const char *skip_spaces(const char *p) {
    while (*p == ' ' || *p == '\t' || *p == '\n') p++;
    return p;
}

/* The text after 'key': in the dict, or NULL. */
static const char *dict_value(const char *dict, const char *key) {
    char quoted[24];
    snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *p = strstr(dict, quoted);
    if (p == NULL) return NULL;
    p = skip_spaces(p + strlen(quoted));
    return *p == ':' ? skip_spaces(p + 1) : NULL;
}

static bool parse_descr(const char *p, Header *h) {
    if (p == NULL || (*p != '\'' && *p != '"')) return false;
    p++;
    h->order = '|';
    if (*p == '<' || *p == '>' || *p == '|' || *p == '=') h->order = *p++;
    h->kind = *p++;
    char *end;
    h->size = strtoull(p, &end, 10);
    return end != p && (*end == '\'' || *end == '"') && h->size < (1u << 30);
}

static bool parse_shape(const char *p, Header *h) {
    if (p == NULL || *p != '(') return false;
    for (p = skip_spaces(p + 1); *p != ')';) {
        char *end;
        long long d = strtoll(p, &end, 10);
        if (end == p || d < 0 || h->rank == RANK_MAX) return false;
        h->dim[h->rank++] = d;
        p = skip_spaces(*end == 'L' ? end + 1 : end);
        if (*p == ',') p = skip_spaces(p + 1);
        else if (*p != ')') return false;
    }
    return true;
}

/* Where the elements start; 0 after diag(). */
static size_t parse_header(Context *cx, Loc loc, const uint8_t *data, size_t n, Header *h) {
    if (n < 10 || memcmp(data, "\x93NUMPY", 6) != 0) return FAIL("not a .npy file");
    size_t start = data[6] == 1 ? 10 : 12, size = (size_t)data[8] | (size_t)data[9] << 8;
    if (data[6] < 1 || data[6] > 3) return FAIL(".npy version %u is not known", data[6]);
    if (start == 12 && n >= 12) size |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    if (n < start || size > n - start) return FAIL("truncated: the header needs %zu bytes", size);
    const char *dict = arena_strdup(&cx->scratch, (const char *)data + start, size);
    *h = (Header){0};
    const char *order = dict_value(dict, "fortran_order");
    h->fortran = order != NULL && strncmp(order, "True", 4) == 0;
    if (!parse_descr(dict_value(dict, "descr"), h)) return FAIL("the element type is not a plain one");
    if (!parse_shape(dict_value(dict, "shape"), h)) return FAIL("the shape is not a tuple of at most %d sizes", RANK_MAX);
    return start + size;
}

static DType dtype_of(const Header *h) {
    switch (h->kind) {
    case 'b': return h->size == 1 ? DT_BOOL : DT_NONE;
    case 'f': return h->size == 2 ? DT_F16 : h->size == 4 ? DT_F32 : h->size == 8 ? DT_F64 : DT_NONE;
    case 'i': return h->size == 1 ? DT_I8 : h->size == 2 ? DT_I16 : h->size == 4 ? DT_I32 : h->size == 8 ? DT_I64 : DT_NONE;
    case 'u': return h->size == 1 ? DT_U8 : h->size == 2 ? DT_U16 : h->size == 4 ? DT_U32 : h->size == 8 ? DT_U64 : DT_NONE;
    case 'c': return h->size == 8 ? DT_C64 : h->size == 16 ? DT_C128 : DT_NONE;
    case 'U': case 'S': return DT_STRING;
    default: return DT_NONE;
    }
}

/* ---- the elements ----------------------------------------------------------------------------------------------- */
static void reverse(uint8_t *p, size_t n) {
    for (size_t i = 0; i < n / 2; i++) {
        uint8_t t = p[i];
        p[i] = p[n - 1 - i];
        p[n - 1 - i] = t;
    }
}

/* Copies element after element, from column-major positions when fortran. */
static void copy_elements(const Header *h, const uint8_t *from, uint8_t *to, int64_t numel, size_t size) {
    int64_t index[RANK_MAX] = {0};
    for (int64_t i = 0; i < numel; i++) {
        int64_t at = 0;
        for (uint32_t k = h->rank; k-- > 0;) at = at * h->dim[k] + index[k];
        memcpy(to + (size_t)i * size, from + (size_t)at * size, size);
        for (uint32_t k = h->rank; k-- > 0 && ++index[k] == h->dim[k];) index[k] = 0;
    }
}

static void put_utf8(Writer *w, uint32_t c) {
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) c = 0xFFFD;
    char s[4];
    size_t n;
    if (c < 0x80) n = 1, s[0] = (char)c;
    else if (c < 0x800) n = 2, s[0] = (char)(0xC0 | c >> 6), s[1] = (char)(0x80 | (c & 63));
    else if (c < 0x10000) n = 3, s[0] = (char)(0xE0 | c >> 12), s[1] = (char)(0x80 | (c >> 6 & 63)), s[2] = (char)(0x80 | (c & 63));
    else n = 4, s[0] = (char)(0xF0 | c >> 18), s[1] = (char)(0x80 | (c >> 12 & 63)), s[2] = (char)(0x80 | (c >> 6 & 63)), s[3] = (char)(0x80 | (c & 63));
    cw_text(w, s, n);
}

static Str text_element(Context *cx, const Header *h, const uint8_t *p) {
    if (h->kind == 'S') {
        size_t n = h->size;
        while (n > 0 && p[n - 1] == 0) n--;
        return str_intern_n(cx, (const char *)p, n);
    }
    uint64_t n = h->size;
    while (n > 0 && memcmp(p + 4 * (n - 1), "\0\0\0\0", 4) == 0) n--;
    Writer w = {.arena = &cx->scratch};
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *c = p + 4 * i;
        uint32_t big = (uint32_t)c[0] << 24 | (uint32_t)c[1] << 16 | (uint32_t)c[2] << 8 | c[3];
        put_utf8(&w, h->order == '>' ? big : __builtin_bswap32(big));
    }
    return str_intern_n(cx, cw_cstr(&w), w.n);
}

static void read_elements(Context *cx, const Header *h, uint8_t *p, size_t size, HostTensor *out) {
    if (out->dtype == DT_STRING) {
        Str *s = ARENA_ARRAY(&cx->arena, Str, out->numel);
        for (int64_t i = 0; i < out->numel; i++) s[i] = text_element(cx, h, p + (size_t)i * size);
        out->data = s;
        return;
    }
    size_t part = h->kind == 'c' ? size / 2 : size;
    for (size_t at = 0; h->order == '>' && at < out->bytes; at += part) reverse(p + at, part);
    for (size_t i = 0; out->dtype == DT_BOOL && i < out->bytes; i++) p[i] = p[i] != 0;
    out->data = p;
}

bool npy_decode(Context *cx, Loc loc, const uint8_t *data, size_t n, HostTensor *out) {
    Header h;
    size_t start = parse_header(cx, loc, data, n, &h);
    if (start == 0) return false;
    *out = (HostTensor){.kind = HOST_TENSOR, .dtype = dtype_of(&h), .rank = h.rank, .numel = 1};
    if (out->dtype == DT_NONE) return FAIL("elements of type %c%llu are not supported", h.kind, (unsigned long long)h.size);
    size_t size = h.kind == 'U' ? 4 * h.size : h.size, needed;
    for (uint32_t i = 0; i < h.rank; i++) {
        out->dim[i] = h.dim[i];
        if (__builtin_mul_overflow(out->numel, h.dim[i], &out->numel)) return FAIL("the number of elements overflows");
    }
    if (__builtin_mul_overflow((size_t)out->numel, size, &needed) || needed > n - start)
        return FAIL("truncated: the shape needs more than the %zu bytes there are", n - start);
    if (size == 0 && out->numel > (int64_t)(1 << 24)) return FAIL("%lld elements without contents", (long long)out->numel);
    out->bytes = out->dtype == DT_STRING ? (size_t)out->numel * sizeof(Str) : needed;
    uint8_t *own = arena_alloc(&cx->arena, needed);
    if (h.fortran && h.rank > 1) copy_elements(&h, data + start, own, out->numel, size);
    else if (needed != 0) memcpy(own, data + start, needed);
    read_elements(cx, &h, own, size, out);
    return true;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */
static uint32_t packed_get(const uint8_t *p, uint32_t bits, int64_t i) {
    return p[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
}

/* The elements in a type .npy has. */
static const char *plain_elements(Context *cx, const HostTensor *t, const void **data, size_t *bytes) {
    *data = t->data;
    *bytes = t->bytes;
    uint32_t bits = dtype_bits(t->dtype);
    switch (t->dtype) {
    case DT_BOOL: return "|b1";
    case DT_F16: return "<f2";
    case DT_F32: return "<f4";
    case DT_F64: return "<f8";
    case DT_I8: return "|i1";
    case DT_I16: return "<i2";
    case DT_I32: return "<i4";
    case DT_I64: return "<i8";
    case DT_U8: return "|u1";
    case DT_U16: return "<u2";
    case DT_U32: return "<u4";
    case DT_U64: return "<u8";
    case DT_C64: return "<c8";
    case DT_C128: return "<c16";
    case DT_BF16: case DT_F8E4M3FN: case DT_F8E4M3FNUZ: case DT_F8E5M2: case DT_F8E5M2FNUZ: case DT_F8E8M0: case DT_F4E2M1: {
        float *f = ARENA_ARRAY(&cx->scratch, float, t->numel);
        for (int64_t i = 0; i < t->numel; i++) {
            uint32_t code = bits == 16 ? ((const uint16_t *)t->data)[i] : bits == 8 ? ((const uint8_t *)t->data)[i] : packed_get(t->data, bits, i);
            f[i] = small_float_decode(t->dtype, code);
        }
        *data = f;
        *bytes = (size_t)t->numel * sizeof *f;
        return "<f4";
    }
    case DT_U4: case DT_U2: case DT_I4: case DT_I2: {
        uint8_t *p = ARENA_ARRAY(&cx->scratch, uint8_t, t->numel), sign = (uint8_t)(1u << (bits - 1));
        bool is_signed = dtype_class(t->dtype) == 'I';
        for (int64_t i = 0; i < t->numel; i++) {
            uint8_t x = (uint8_t)packed_get(t->data, bits, i);
            p[i] = is_signed ? (uint8_t)((x ^ sign) - sign) : x;
        }
        *data = p;
        *bytes = (size_t)t->numel;
        return is_signed ? "|i1" : "|u1";
    }
    case DT_STRING: case DT_NONE: case DT_COUNT: break;
    }
    return NULL;
}

/* One code point of UTF-8; bytes that are no UTF-8 stand for themselves. */
static uint32_t next_code_point(const uint8_t **p, const uint8_t *end) {
    uint8_t c = *(*p)++;
    uint32_t more = c >= 0xF0 && c < 0xF8 ? 3 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xC0 && c < 0xE0 ? 1 : 0;
    if (more == 0 || (size_t)(end - *p) < more) return c;
    uint32_t x = c & (0x3Fu >> more);
    for (uint32_t i = 0; i < more; i++) {
        if (((*p)[i] & 0xC0) != 0x80) return c;
        x = x << 6 | ((*p)[i] & 0x3Fu);
    }
    *p += more;
    return x;
}

/* Text as UTF-32, every element padded to the longest. */
static const char *text_elements(Context *cx, const HostTensor *t, const void **data, size_t *bytes) {
    size_t longest = 1;
    const Str *s = t->data;
    for (int64_t i = 0; i < t->numel; i++)
        if (str_size(cx, s[i]) > longest) longest = str_size(cx, s[i]); /* bytes: at least as many as code points */
    uint32_t *all = arena_array(&cx->scratch, (size_t)t->numel, longest * sizeof *all);
    for (int64_t i = 0; i < t->numel; i++) {
        const uint8_t *p = (const uint8_t *)str_text(cx, s[i]), *end = p + str_size(cx, s[i]);
        for (uint32_t *to = all + (size_t)i * longest; p < end;) *to++ = next_code_point(&p, end);
    }
    *data = all;
    *bytes = (size_t)t->numel * longest * sizeof *all;
    return str_text(cx, str_format(cx, "<U%zu", longest));
}

bool npy_encode(Context *cx, Loc loc, const HostTensor *t, uint8_t **data, size_t *n) {
    if (t->kind != HOST_TENSOR) return FAIL("only tensors can be written as .npy; .pb holds every value");
    const void *elements;
    size_t bytes;
    const char *descr = t->dtype == DT_STRING ? text_elements(cx, t, &elements, &bytes) : plain_elements(cx, t, &elements, &bytes);
    CHECK(cx, descr != NULL);
    Writer w = {.arena = &cx->scratch};
    cw_printf(&w, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (uint32_t i = 0; i < t->rank; i++) cw_printf(&w, i == 0 ? "%lld," : " %lld,", (long long)t->dim[i]);
    cw_printf(&w, "), }");
    while ((10 + w.n + 1) % 64 != 0) cw_printf(&w, " ");
    cw_printf(&w, "\n");
    *n = 10 + w.n + bytes;
    *data = arena_alloc(&cx->scratch, *n);
    memcpy(*data, "\x93NUMPY\x01\x00", 8);
    (*data)[8] = (uint8_t)w.n;
    (*data)[9] = (uint8_t)(w.n >> 8);
    memcpy(*data + 10, w.text, w.n);
    if (bytes != 0) memcpy(*data + 10 + w.n, elements, bytes);
    return true;
}
