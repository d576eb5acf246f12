/* Weights: typed arrays in the C file when they are small, else one binary file beside it, every tensor at a multiple
 * of 64 bytes. The binary file is either made part of the object by the assembler's .incbin or given to NAME_init,
 * which checks its size and checksum. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "codegen/emit.h"

/* Eight lanes of multiply-xorshift over 64-byte blocks; emitted code has the same function (entry_c.c). */
typedef struct Checksum { uint64_t lane[8]; } Checksum;

static void checksum_start(Checksum *c) {
    for (uint32_t i = 0; i < 8; i++) c->lane[i] = i + 1;
}

static void checksum_blocks(Checksum *c, const unsigned char *p, size_t n) { /* n a multiple of 64 */
    for (size_t at = 0; at < n; at += 64) {
        uint64_t x[8];
        memcpy(x, p + at, 64);
        for (int i = 0; i < 8; i++) {
            uint64_t h = (c->lane[i] ^ x[i]) * 0x9E3779B97F4A7C15u;
            c->lane[i] = h ^ h >> 32;
        }
    }
}

static uint64_t checksum_end(const Checksum *c) {
    uint64_t h = 0;
    for (int i = 0; i < 8; i++) h = (h ^ c->lane[i]) * 0x9E3779B97F4A7C15u, h ^= h >> 29;
    return h;
}

/* Calls put on the bytes of all weights, padding included. */
static bool each_weight(const Emit *e, bool (*put)(void *user, const unsigned char *bytes, size_t n), void *user) {
    const Plan *p = e->plan;
    uint64_t at = 0;
    unsigned char pad[64] = {0};
    for (uint32_t i = 0; i < p->n_weight; i++) {
        const ConstData *d = p->weight[i].value->data;
        for (; at < p->weight[i].offset; at += 64)
            if (!put(user, pad, 64)) return false;
        const unsigned char *bytes = const_bytes(p->weight[i].value, &e->room);
        size_t whole = d->bytes / 64 * 64, rest = d->bytes - whole;
        if (whole != 0 && !put(user, bytes, whole)) return false;
        if (rest != 0) {
            unsigned char last[64] = {0};
            memcpy(last, bytes + whole, rest);
            if (!put(user, last, 64)) return false;
        }
        at += whole + (rest != 0 ? 64 : 0);
    }
    for (; at < p->weight_bytes; at += 64) /* tensors without elements take space, too */
        if (!put(user, pad, 64)) return false;
    return true;
}

static bool put_checksum(void *user, const unsigned char *bytes, size_t n) {
    checksum_blocks(user, bytes, n);
    return true;
}

void shared_weights_checksum(Emit *e) {
    Checksum c;
    checksum_start(&c);
    shared_weights_each(e, 0, put_checksum, &c);
    e->checksum = checksum_end(&c);
}

typedef struct File { FILE *f; Checksum checksum; } File;

static bool put_file(void *user, const unsigned char *bytes, size_t n) {
    File *to = user;
    checksum_blocks(&to->checksum, bytes, n);
    return fwrite(bytes, 1, n, to->f) == n;
}

bool weights_write(Emit *e, const char *path) {
    File to = {.f = fopen(path, "wb")};
    checksum_start(&to.checksum);
    bool good = to.f != NULL && each_weight(e, put_file, &to);
    if (to.f != NULL) good &= fclose(to.f) == 0;
    e->checksum = checksum_end(&to.checksum);
    if (!good) {
        diag(e->cx, SEV_ERROR, (Loc){0}, "cannot write %s: %s", path, strerror(errno));
        if (to.f != NULL) remove(path);
    }
    return good;
}

/* ---- as text ----------------------------------------------------------------------------------------------------------- */
static void number(Writer *w, DType t, const unsigned char *p) {
    switch (t) {
    case DT_F32: case DT_F64: {
        double v;
        float f;
        memcpy(&f, p, sizeof f);
        if (t == DT_F32) v = (double)f;
        else memcpy(&v, p, sizeof v);
        if (isnan(v) || isinf(v)) {
            cw_printf(w, "%s%s%s", isinf(v) && v < 0 ? "-" : "", t == DT_F64 ? "(double)" : "", isnan(v) ? "NAN" : "INFINITY");
            return;
        }
        char text[40];
        snprintf(text, sizeof text, t == DT_F32 ? "%.9g" : "%.17g", v);
        if (strpbrk(text, ".e") == NULL) strcat(text, ".0");
        cw_printf(w, "%s%s", text, t == DT_F32 ? "f" : "");
        return;
    }
    case DT_I8: cw_printf(w, "%d", *(const int8_t *)p); return;
    case DT_I16: { int16_t v; memcpy(&v, p, 2); cw_printf(w, "%d", v); return; }
    case DT_I32: { int32_t v; memcpy(&v, p, 4); cw_printf(w, v == INT32_MIN ? "INT32_MIN" : "%d", v); return; }
    case DT_I64: { int64_t v; memcpy(&v, p, 8); cw_printf(w, v == INT64_MIN ? "INT64_MIN" : "%lld", (long long)v); return; }
    case DT_U32: { uint32_t v; memcpy(&v, p, 4); cw_printf(w, "%uu", v); return; }
    case DT_U64: { uint64_t v; memcpy(&v, p, 8); cw_printf(w, "%lluu", (unsigned long long)v); return; }
    case DT_U16: case DT_F16: case DT_BF16: { uint16_t v; memcpy(&v, p, 2); cw_printf(w, "%u", v); return; }
    case DT_U8: case DT_BOOL: case DT_F8E4M3FN: case DT_F8E4M3FNUZ: case DT_F8E5M2: case DT_F8E5M2FNUZ: case DT_F8E8M0: case DT_U4: case DT_I4:
    case DT_U2: case DT_I2: case DT_F4E2M1: cw_printf(w, "%u", *p); return;
    case DT_C64: case DT_C128: {
        DType part = t == DT_C64 ? DT_F32 : DT_F64;
        cw_printf(w, "{");
        number(w, part, p);
        cw_printf(w, ", ");
        number(w, part, p + dtype_bits(part) / 8);
        cw_printf(w, "}");
        return;
    }
    case DT_NONE: case DT_STRING: case DT_COUNT: return;
    }
}

/* Long literals are cut: compilers need to take no more than 4095 characters in one. */
static void string(Emit *e, Writer *w, Str s) {
    const char *text = str_text(e->cx, s);
    size_t n = strlen(text); /* a C string ends at its first zero byte */
    for (size_t at = 0; at == 0 || at < n; at += 1000) cw_string(w, text + at, n - at < 1000 ? n - at : 1000);
}

static void array(Emit *e, uint32_t i) {
    Writer *w = &e->data;
    const Value *v = e->plan->weight[i].value;
    DType t = v->type->dtype;
    uint32_t size = t == DT_STRING ? sizeof(Str) : dtype_bits(t) < 8 ? 1 : dtype_bits(t) / 8;
    size_t n = v->data->bytes / size;
    const unsigned char *bytes = const_bytes(v, &e->room);
    Writer type = {.arena = &e->cx->scratch};
    type_print(e->cx, &type, v->type);
    if (v->name != 0) cw_printf(&type, " \"%s\"", str_text(e->cx, v->name));
    cw_comment(w, cw_cstr(&type));
    cw_printf(w, "\nstatic const %s %s[%zu] LATHE_ALIGN64 = {", dtype_ctype(t), e->weight_name[i], n != 0 ? n : 1);
    if (n == 0) cw_printf(w, "0");
    for (size_t k = 0; k < n; k++) {
        cw_printf(w, k == 0 ? "\n    " : k % 12 == 0 ? ",\n    " : ", ");
        if (t == DT_STRING) string(e, w, ((const Str *)(const void *)bytes)[k]);
        else number(w, t, bytes + k * size);
    }
    cw_printf(w, "\n};\n\n");
}

static uint32_t weight_at(Emit *e, uint64_t offset) {
    const Plan *p = e->plan;
    uint32_t lo = 0, hi = p->n_weight;
    while (lo < hi) { /* weights stand in order of offset */
        uint32_t mid = (lo + hi) / 2;
        if (p->weight[mid].offset < offset) lo = mid + 1;
        else hi = mid;
    }
    CHECK(e->cx, lo < p->n_weight && p->weight[lo].offset == offset);
    return lo;
}

const char *emit_weight_name(Emit *e, uint64_t offset) { return e->weight_name[weight_at(e, offset)]; }
DType emit_weight_dtype(Emit *e, uint64_t offset) { return e->plan->weight[weight_at(e, offset)].value->type->dtype; }

void emit_weights(Emit *e) {
    const Plan *p = e->plan;
    e->weight_name = ARENA_ARRAY(&e->cx->scratch, const char *, p->n_weight);
    for (uint32_t i = 0; i < p->n_weight; i++) {
        const Value *v = p->weight[i].value;
        if (!e->embed && v->type->dtype != DT_STRING) continue; /* strings are pointers: always in the C file */
        e->weight_name[i] = names_unique(&e->global, str_text(e->cx, str_format(e->cx, "w%u_%s", i, str_text(e->cx, v->name))));
        array(e, i);
    }
}
