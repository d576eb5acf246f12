#include "onnx_bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Arena arena;

static void out_of_memory(void *user) {
    (void)user;
    abort();
}

static void free_all(void) {
    arena_free(&arena);
}

Arena *test_arena(void) {
    if (arena.fail == NULL) {
        arena.fail = out_of_memory;
        atexit(free_all);
    }
    return &arena;
}

static char *copy(const char *text) {
    return arena_strdup(test_arena(), text, strlen(text));
}

/* ---- the wire format -------------------------------------------------------------------------------------------- */
static void put_raw(Bytes *b, const void *data, size_t n) {
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n) + 64;
        uint8_t *grown = arena_alloc(test_arena(), b->cap);
        if (b->n != 0) memcpy(grown, b->v, b->n);
        b->v = grown;
    }
    if (n != 0) memcpy(b->v + b->n, data, n);
    b->n += n;
}

void put_varint(Bytes *b, uint64_t x) {
    do {
        uint8_t byte = (uint8_t)((x & 0x7F) | (x > 0x7F ? 0x80 : 0));
        put_raw(b, &byte, 1);
        x >>= 7;
    } while (x != 0);
}

void put_int(Bytes *b, uint32_t field, int64_t x) {
    put_varint(b, field << 3);
    put_varint(b, (uint64_t)x);
}

void put_float(Bytes *b, uint32_t field, float x) {
    put_varint(b, field << 3 | 5);
    put_raw(b, &x, 4);
}

void put_data(Bytes *b, uint32_t field, const void *data, size_t n) {
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    put_raw(b, data, n);
}

void put_text(Bytes *b, uint32_t field, const char *text) { put_data(b, field, text, strlen(text)); }
void put_message(Bytes *b, uint32_t field, Bytes m) { put_data(b, field, m.v, m.n); }

/* ---- models ----------------------------------------------------------------------------------------------------- */
/* The next space-separated word of *p, "" at the end; "-" is "". */
static const char *word(const char **p, char *buffer) {
    while (**p == ' ') (*p)++;
    size_t n = strcspn(*p, " ");
    memcpy(buffer, *p, n);
    buffer[n] = 0;
    *p += n;
    if (strcmp(buffer, "-") == 0) buffer[0] = 0;
    return buffer;
}

static void put_words(Bytes *b, uint32_t field, const char *words) {
    char name[256];
    for (const char *p = words; *(p += strspn(p, " ")) != 0;) put_text(b, field, word(&p, name));
}

static Bytes value_info(const char *text) {
    Bytes info = {0}, type = {0}, tensor_type = {0}, shape = {0};
    const char *colon = strchr(text, ':');
    put_data(&info, 1, text, colon != NULL ? (size_t)(colon - text) : strlen(text));
    int dtype = 1;
    if (colon != NULL) dtype = colon[1] == 'i' ? 7 : colon[1] == 's' ? 8 : colon[1] == 'b' ? 9 : colon[1] == 'h' ? 10 : 1;
    put_int(&tensor_type, 1, dtype);
    for (const char *p = colon != NULL ? colon + 2 : ""; *p != 0;) {
        Bytes dim = {0};
        size_t n = strcspn(p, ",");
        if (*p >= '0' && *p <= '9') put_int(&dim, 1, atoll(p));
        else if (*p != '?') put_data(&dim, 2, p, n);
        put_message(&shape, 1, dim);
        p += n + (p[n] == ',');
    }
    if (colon != NULL) put_message(&tensor_type, 2, shape);
    put_message(&type, 1, tensor_type);
    put_message(&info, 2, type);
    return info;
}

Bytes graph(const char *inputs, const char *outputs) {
    Bytes g = {0};
    char text[256];
    put_text(&g, 2, "g");
    for (const char *p = inputs; *(p += strspn(p, " ")) != 0;) put_message(&g, 11, value_info(word(&p, text)));
    for (const char *p = outputs; *(p += strspn(p, " ")) != 0;) {
        Bytes info = {0};
        put_text(&info, 1, word(&p, text));
        put_message(&g, 12, info);
    }
    return g;
}

Bytes node(const char *op, const char *inputs, const char *outputs) {
    Bytes n = {0};
    put_words(&n, 1, inputs);
    put_words(&n, 2, outputs);
    put_text(&n, 4, op);
    return n;
}

static Bytes attr(const char *name, int type) {
    Bytes a = {0};
    put_text(&a, 1, name);
    put_int(&a, 20, type);
    return a;
}

void attr_int(Bytes *n, const char *name, int64_t x) {
    Bytes a = attr(name, 2);
    put_int(&a, 3, x);
    put_message(n, 5, a);
}

void attr_float(Bytes *n, const char *name, float x) {
    Bytes a = attr(name, 1);
    put_float(&a, 2, x);
    put_message(n, 5, a);
}

void attr_text(Bytes *n, const char *name, const char *text) {
    Bytes a = attr(name, 3);
    put_text(&a, 4, text);
    put_message(n, 5, a);
}

void attr_ints(Bytes *n, const char *name, const char *numbers) {
    Bytes a = attr(name, 7);
    char text[32];
    for (const char *p = numbers; *(p += strspn(p, " ")) != 0;) put_int(&a, 8, atoll(word(&p, text)));
    put_message(n, 5, a);
}

void attr_graph(Bytes *n, const char *name, Bytes g) {
    Bytes a = attr(name, 5);
    put_message(&a, 6, g);
    put_message(n, 5, a);
}

void attr_tensor(Bytes *n, const char *name, Bytes t) {
    Bytes a = attr(name, 4);
    put_message(&a, 5, t);
    put_message(n, 5, a);
}

void attr_ref(Bytes *n, const char *name, const char *function_attr, int type) {
    Bytes a = attr(name, type);
    put_text(&a, 21, function_attr);
    put_message(n, 5, a);
}

void add_node(Bytes *g, Bytes n) { put_message(g, 1, n); }

Bytes tensor(const char *name, int dtype, const char *dims) {
    Bytes t = {0};
    char text[32];
    for (const char *p = dims; *(p += strspn(p, " ")) != 0;) put_int(&t, 1, atoll(word(&p, text)));
    put_int(&t, 2, dtype);
    put_text(&t, 8, name);
    return t;
}

void add_initializer(Bytes *g, Bytes t) { put_message(g, 5, t); }

Bytes function(const char *domain, const char *name, const char *inputs, const char *outputs) {
    Bytes f = {0}, opset = {0};
    put_text(&f, 1, name);
    put_text(&f, 10, domain);
    put_words(&f, 4, inputs);
    put_words(&f, 5, outputs);
    put_text(&opset, 1, "");
    put_int(&opset, 2, 18);
    put_message(&f, 9, opset);
    return f;
}

void add_function_node(Bytes *f, Bytes n) { put_message(f, 7, n); }

void add_opset(Bytes *m, const char *domain, int64_t version) {
    Bytes o = {0};
    put_text(&o, 1, domain);
    put_int(&o, 2, version);
    put_message(m, 8, o);
}

Bytes model(int64_t opset, Bytes g) {
    Bytes m = {0};
    put_int(&m, 1, 8);
    put_message(&m, 7, g);
    add_opset(&m, "", opset);
    return m;
}

void add_function(Bytes *m, Bytes f) { put_message(m, 25, f); }

/* ---- running ---------------------------------------------------------------------------------------------------- */
const char *temp_path(const char *name) {
    static char folder[64], path[512];
    if (folder[0] == 0) {
        strcpy(folder, "/tmp/lathe-unit-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(folder));
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

void write_file(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(n == 0 ? 0 : fwrite(data, 1, n, f), n);
    fclose(f);
}

const char *import_text(Bytes m) {
    Context cx;
    jmp_buf escape;
    char *path = copy(temp_path("model.onnx"));
    write_file(path, m.v, m.n);
    context_init(&cx);
    cx.escape = &escape;
    if (setjmp(escape)) return "escaped";
    Module *module = module_new(&cx, "m");
    Writer w = {.arena = &cx.scratch};
    bool ok = onnx_import(module, path);
    ck_assert_int_eq(ok, cx.n_error == 0);
    if (ok) module_print(module, &w);
    else diag_print(&cx, &w);
    const char *start = ok ? strstr(cw_cstr(&w), "graph @") : cw_cstr(&w);
    char *text = copy(start);
    context_free(&cx);
    unlink(path);
    return text;
}

void expect_error(Bytes m, const char *text) {
    const char *found = import_text(m);
    ck_assert_msg(strstr(found, "error: ") != NULL && strstr(found, text) != NULL, "expected an error with\n  %s\nfound\n  %s", text, found);
}
