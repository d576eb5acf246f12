/* Mutated IR text for the parser and the verifier.
 *
 *     fuzz_ir RUNS FILE.lir...      exit code 0: no run crashed, escaped or broke a promise
 *
 * Every run takes two texts and makes one: bytes change, stretches go, are repeated, or come from the other text, words
 * are put in. The parser must fail with a diagnostic or give a module whose printed text reads back as itself; a module
 * the verifier accepts must stand inference. The mutations depend on the run number alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/graph.h"

typedef struct Text { char *at; size_t n; } Text;

static uint64_t state;

static size_t draw(size_t below) { /* xorshift */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state % below);
}

static bool read_all(const char *path, Text *t) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) return false;
    t->at = malloc(1 << 20);
    t->n = fread(t->at, 1, 1 << 20, f);
    fclose(f);
    return t->n != 0;
}

enum { LONGEST = 1 << 16 };

static void insert(Text *t, size_t at, const char *from, size_t n) {
    if (t->n + n > LONGEST) return;
    memmove(t->at + at + n, t->at + at, t->n - at);
    memcpy(t->at + at, from, n);
    t->n += n;
}

static void mutate(Text *t, const Text *other) {
    static const char *const words[] = {"%", "%x", "%0", "_", "(", ")", "{", "}", "[", "]", "<", ">", ",", ":", "=", "->", "\n", "\"", "@a", "#0", "-1", "99999999999",
                                        "0x7f", "nan", "N*", "floordiv(", "seq<", "optional<", "f32[", "u4[", "const ", "graph @g(", "If", "poison", "runtime", "dim N = 0..",
                                        "1e999", "Concat(", "axis = ", "//", "\\", "?", "f32[0,9223372036854775807]"};
    size_t at = draw(t->n), n = draw(40);
    if (n > t->n - at) n = t->n - at;
    char part[64];
    switch (draw(6)) {
    case 0: t->at[at] = (char)draw(256); break;
    case 1: memmove(t->at + at, t->at + at + n, t->n - at - n); t->n -= n; break;
    case 2: memcpy(part, t->at + at, n); insert(t, draw(t->n), part, n); break;
    case 3: {
        size_t from = draw(other->n), length = draw(60);
        insert(t, at, other->at + from, length < other->n - from ? length : other->n - from);
        break;
    }
    case 4: {
        const char *word = words[draw(sizeof words / sizeof *words)];
        insert(t, at, word, strlen(word));
        break;
    }
    default: if (draw(8) == 0) t->n = at; break;
    }
    if (t->n == 0) t->n = 1;
}

/* What is wrong with this run, NULL if nothing. */
static const char *check(Context *cx, Context *again, const Text *t) {
    Module *m = module_parse(cx, "fuzz.lir", t->at, t->n);
    if (m == NULL) return cx->n_error != 0 ? NULL : "the parser failed without a diagnostic";
    Writer first = {.arena = &cx->arena}, second = {.arena = &again->arena};
    module_print(m, &first);
    Module *copy = module_parse(again, "again.lir", first.text, first.n);
    if (copy == NULL) return "printed text does not parse";
    module_print(copy, &second);
    if (first.n != second.n || memcmp(first.text, second.text, first.n) != 0) return "printed text reads back as something else";
    if (module_verify(m)) graph_infer(m, m->main);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    uint32_t n_seed = (uint32_t)argc - 2, parsed = 0;
    Text *seed = calloc(n_seed, sizeof *seed), t = {malloc(LONGEST + 64), 0};
    for (uint32_t i = 0; i < n_seed; i++)
        if (!read_all(argv[i + 2], &seed[i])) return 2;
    unsigned long runs = strtoul(argv[1], NULL, 10);
    int bad = 0;
    for (unsigned long run = 1; run <= runs && bad == 0; run++) {
        state = run * UINT64_C(0x9E3779B97F4A7C15);
        const Text *s = &seed[draw(n_seed)];
        t.n = s->n < LONGEST ? s->n : LONGEST;
        memcpy(t.at, s->at, t.n);
        for (size_t k = draw(6) + 1; k > 0; k--) mutate(&t, &seed[draw(n_seed)]);
        Context cx, again;
        jmp_buf escape;
        context_init(&cx);
        context_init(&again);
        cx.escape = again.escape = &escape;
        const char *problem = NULL;
        if (setjmp(escape) == 0) problem = check(&cx, &again, &t);
        else problem = cx.internal_error != NULL ? cx.internal_error : again.internal_error;
        parsed += cx.n_error == 0;
        if (problem != NULL) {
            fprintf(stderr, "run %lu: %s\n", run, problem);
            FILE *f = fopen("fuzz_ir_failure.lir", "wb");
            if (f != NULL) {
                fwrite(t.at, 1, t.n, f);
                fclose(f);
            }
            bad = 1;
        }
        context_free(&cx);
        context_free(&again);
    }
    printf("%lu runs, %u texts without an error\n", runs, parsed);
    for (uint32_t i = 0; i < n_seed; i++) free(seed[i].at);
    free(seed);
    free(t.at);
    return bad;
}
