#include "frontend/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- the header's JSON: the subset that safetensors uses, and anything else inside __metadata__ ------------------- */
typedef struct Reader {
    Context *cx;
    Loc loc;
    const char *p, *end;
    bool failed;
} Reader;

enum { NESTING_MAX = 16 };

static bool fail(Reader *r, const char *what) {
    if (!r->failed) diag(r->cx, SEV_ERROR, r->loc, "safetensors header: %s", what);
    r->failed = true;
    return false;
}

static void skip_space(Reader *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r')) r->p++;
}

static bool accept(Reader *r, char c) {
    skip_space(r);
    if (r->failed || r->p >= r->end || *r->p != c) return false;
    r->p++;
    return true;
}

static bool expect(Reader *r, char c) {
    char what[] = "' ' expected";
    what[1] = c;
    return accept(r, c) || fail(r, what);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void put_utf8(Writer *w, uint32_t c) {
    if (c < 0x80) cw_printf(w, "%c", (int)c);
    else if (c < 0x800) cw_printf(w, "%c%c", (int)(0xC0 | c >> 6), (int)(0x80 | (c & 63)));
    else cw_printf(w, "%c%c%c", (int)(0xE0 | c >> 12), (int)(0x80 | (c >> 6 & 63)), (int)(0x80 | (c & 63)));
}

static bool read_escape(Reader *r, Writer *w) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->p >= r->end) return fail(r, "a string does not end");
    char c = *r->p++;
    const char *at = c != 0 ? strchr(from, c) : NULL;
    if (at != NULL) return cw_text(w, &to[at - from], 1), true;
    uint32_t code = 0;
    if (c != 'u' || r->end - r->p < 4) return fail(r, "a bad escape in a string");
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(*r->p++);
        if (d < 0) return fail(r, "a bad escape in a string");
        code = code * 16 + (uint32_t)d;
    }
    if (code == 0) return fail(r, "a string with a zero character");
    put_utf8(w, code);
    return true;
}

static Str read_string(Reader *r) {
    Writer w = {.arena = &r->cx->scratch};
    if (!expect(r, '"')) return 0;
    while (r->p < r->end && *r->p != '"') {
        char c = *r->p++;
        if (c == 0) return fail(r, "a string with a zero character"), 0;
        if (c != '\\') cw_text(&w, &c, 1);
        else if (!read_escape(r, &w)) return 0;
    }
    if (!expect(r, '"')) return 0;
    return str_intern(r->cx, cw_cstr(&w));
}

static int64_t read_size(Reader *r) {
    skip_space(r);
    int64_t v = 0;
    const char *start = r->p;
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *r->p - '0', &v)) return fail(r, "a number is too large"), 0;
    if (r->p == start) fail(r, "a number expected");
    return v;
}

/* [1, 2, 3]; the count, at most `most` */
static uint32_t read_sizes(Reader *r, int64_t *v, uint32_t most) {
    uint32_t n = 0;
    if (!expect(r, '[') || accept(r, ']')) return 0;
    do {
        if (n == most) return fail(r, "too many numbers in a list"), 0;
        v[n++] = read_size(r);
    } while (!r->failed && accept(r, ','));
    expect(r, ']');
    return n;
}

static void skip_value(Reader *r, uint32_t depth) {
    skip_space(r);
    if (depth > NESTING_MAX) {
        fail(r, "nested too deeply");
    } else if (r->p < r->end && *r->p == '"') {
        read_string(r);
    } else if (accept(r, '{')) {
        if (accept(r, '}')) return;
        do {
            read_string(r);
            expect(r, ':');
            if (!r->failed) skip_value(r, depth + 1);
        } while (!r->failed && accept(r, ','));
        expect(r, '}');
    } else if (accept(r, '[')) {
        if (accept(r, ']')) return;
        do skip_value(r, depth + 1);
        while (!r->failed && accept(r, ','));
        expect(r, ']');
    } else {
        const char *start = r->p;
        while (r->p < r->end && strchr(",]} \n\r\t", *r->p) == NULL) r->p++;
        if (r->p == start) fail(r, "a value expected");
    }
}

/* ---- entries ---------------------------------------------------------------------------------------------------- */
static DType dtype_named(const char *name) {
    static const struct { const char *name; DType dtype; } types[] = {
        {"BOOL", DT_BOOL}, {"U8", DT_U8}, {"I8", DT_I8}, {"U16", DT_U16}, {"I16", DT_I16}, {"F16", DT_F16}, {"BF16", DT_BF16},
        {"U32", DT_U32}, {"I32", DT_I32}, {"F32", DT_F32}, {"U64", DT_U64}, {"I64", DT_I64}, {"F64", DT_F64},
        {"F8_E4M3", DT_F8E4M3FN}, {"F8_E5M2", DT_F8E5M2}, {"F8_E8M0", DT_F8E8M0},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0) return types[i].dtype;
    return DT_NONE;
}

static bool place_data(Reader *r, HostTensor *t, const int64_t range[2], const uint8_t *data, size_t bytes) {
    t->numel = 1;
    for (uint32_t i = 0; i < t->rank; i++)
        if (__builtin_mul_overflow(t->numel, t->dim[i], &t->numel)) return fail(r, "a tensor's size overflows");
    if (t->numel > INT64_MAX / 16) return fail(r, "a tensor's size overflows");
    t->bytes = dtype_bytes(r->cx, t->dtype, t->numel);
    if (range[0] > range[1] || (uint64_t)range[1] > bytes || (uint64_t)(range[1] - range[0]) != t->bytes) {
        diag(r->cx, SEV_ERROR, r->loc, "tensor \"%s\": bytes %lld..%lld of %zu, its shape needs %zu bytes", str_text(r->cx, t->name), (long long)range[0],
             (long long)range[1], bytes, t->bytes);
        return !(r->failed = true);
    }
    t->data = (void *)(uintptr_t)(data + range[0]);
    if ((uintptr_t)t->data % 16 != 0) { /* the header's length is free, so data may start anywhere: readers need alignment */
        void *aligned = arena_alloc(&r->cx->arena, t->bytes);
        if (t->bytes != 0) memcpy(aligned, t->data, t->bytes);
        t->data = aligned;
    }
    return true;
}

static bool read_entry(Reader *r, HostTensor *t, const uint8_t *data, size_t bytes) {
    int64_t range[2];
    bool has_dtype = false, has_shape = false, has_range = false;
    if (!expect(r, '{')) return false;
    do {
        const char *key = str_text(r->cx, read_string(r));
        if (!expect(r, ':')) return false;
        if (strcmp(key, "dtype") == 0) {
            const char *name = str_text(r->cx, read_string(r));
            t->dtype = dtype_named(name);
            has_dtype = true;
            if (!r->failed && t->dtype == DT_NONE) return fail(r, "an element type that is not known");
        } else if (strcmp(key, "shape") == 0) {
            t->rank = read_sizes(r, t->dim, RANK_MAX);
            has_shape = true;
        } else if (strcmp(key, "data_offsets") == 0) {
            has_range = read_sizes(r, range, 2) == 2;
        } else {
            skip_value(r, 0);
        }
    } while (!r->failed && accept(r, ','));
    if (!expect(r, '}')) return false;
    if (!has_dtype || !has_shape || !has_range) return fail(r, "an entry without dtype, shape or data_offsets");
    return place_data(r, t, range, data, bytes);
}

static bool read_header(Reader *r, const uint8_t *data, size_t bytes, SafeTensors *out) {
    VEC(HostTensor) list = {0};
    if (!expect(r, '{')) return false;
    while (!r->failed && !accept(r, '}')) {
        if (list.n != 0) expect(r, ',');
        HostTensor t = {.kind = HOST_TENSOR, .name = read_string(r)};
        if (!expect(r, ':')) return false;
        if (strcmp(str_text(r->cx, t.name), "__metadata__") == 0) {
            skip_value(r, 0);
            if (accept(r, ',')) continue;
            if (!expect(r, '}')) return false;
            break;
        }
        if (!read_entry(r, &t, data, bytes)) return false;
        vec_push(&r->cx->arena, &list, t);
    }
    *out = (SafeTensors){list.n, list.v};
    return !r->failed;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */
static uint8_t *read_file(Context *cx, Loc loc, const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        diag(cx, SEV_ERROR, loc, "cannot read it: %s", strerror(errno));
        return NULL;
    }
    long size = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    rewind(f);
    uint8_t *data = size >= 0 && size < INT64_MAX / 2 ? arena_alloc(&cx->arena, (size_t)size) : NULL;
    *n = data != NULL ? fread(data, 1, (size_t)size, f) : 0;
    bool good = data != NULL && *n == (size_t)size && !ferror(f);
    fclose(f);
    if (!good) diag(cx, SEV_ERROR, loc, "cannot read it: %s", "it is not a regular file, or it changed while it was read");
    return good ? data : NULL;
}

bool safetensors_load(Context *cx, const char *path, SafeTensors *out) {
    Loc loc = {.file = str_intern(cx, path)};
    size_t n = 0;
    *out = (SafeTensors){0};
    const uint8_t *data = read_file(cx, loc, path, &n);
    if (data == NULL) return false;
    uint64_t header = 0;
    for (int i = 7; i >= 0 && n >= 8; i--) header = header << 8 | data[i];
    if (n < 8 || header > n - 8) {
        diag(cx, SEV_ERROR, loc, "not a safetensors file: %zu bytes, the header says it has %llu", n, (unsigned long long)header);
        return false;
    }
    Reader r = {.cx = cx, .loc = loc, .p = (const char *)data + 8, .end = (const char *)data + 8 + header};
    return read_header(&r, data + 8 + header, n - 8 - (size_t)header, out);
}

const HostTensor *safetensors_find(const SafeTensors *f, const Context *cx, const char *name) {
    for (uint32_t i = 0; i < f->n; i++)
        if (strcmp(str_text(cx, f->tensor[i].name), name) == 0) return &f->tensor[i];
    return NULL;
}
