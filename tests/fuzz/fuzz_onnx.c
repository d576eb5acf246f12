/* Mutated files for the readers: ONNX models, tensor files, .npy and .npz.
 *
 *     fuzz_onnx RUNS FILE...      exit code 0: no run crashed, escaped or broke an invariant
 *
 * Every run takes a seed file, changes some bytes (bit flips, length bytes, cut ends, copied and removed stretches) and reads
 * the result: the reader must either fail with a diagnostic or give a module that prints, exports and, exported, reads again.
 * Shape inference, which may report anything, must survive it, and where it reports nothing leave a module that verifies.
 * A model that is read is compiled as well: no internal check may fail.
 * The order of mutations depends on the run number alone; a run that is interesting is repeated by its number. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/onnx.h"
#include "frontend/tensor_file.h"
#include "lathe.h"
#include "passes/pass.h"

typedef struct File { uint8_t *data; size_t n; const char *ending; } File;

static uint64_t state;
static uint32_t n_read, n_inferred, n_compiled; /* mutants that were read, and inferred, without an error */

static uint64_t draw(uint64_t below) { /* xorshift */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static bool read_all(const char *path, File *f) {
    FILE *in = fopen(path, "rb");
    if (in == NULL) return false;
    fseek(in, 0, SEEK_END);
    f->n = (size_t)ftell(in);
    rewind(in);
    f->data = malloc(2 * f->n + 64);
    bool ok = fread(f->data, 1, f->n, in) == f->n;
    fclose(in);
    f->ending = strrchr(path, '.');
    return ok && f->ending != NULL;
}

static void mutate(uint8_t *p, size_t *n) {
    size_t at = (size_t)draw(*n), length;
    switch (draw(20)) { /* most often one byte: the rest of the file still makes sense */
    default: p[at] ^= (uint8_t)(1u << draw(8)); break;
    case 1: p[at] = (uint8_t)draw(256); break;
    case 2: p[at] = (uint8_t[]){0, 1, 0x7F, 0x80, 0xFF}[draw(5)]; break;
    case 3: *n = at; break;
    case 4: /* remove a stretch */
        length = (size_t)draw(16) < *n - at ? (size_t)draw(16) : *n - at;
        if (length > *n - at) length = *n - at;
        memmove(p + at, p + at + length, *n - at - length);
        *n -= length;
        break;
    case 5: /* repeat a stretch */
        length = (size_t)draw(32);
        if (length > *n - at) length = *n - at;
        memmove(p + at + length, p + at, *n - at);
        *n += length;
        break;
    case 6: /* a long varint */
        for (size_t i = at; i < *n && i < at + 9; i++) p[i] |= 0x80;
        break;
    }
}

static void write_all(const char *path, const uint8_t *p, size_t n) {
    FILE *out = fopen(path, "wb");
    if (out == NULL || fwrite(p, 1, n, out) != n || fclose(out) != 0) exit(2);
}

/* What a module that was read without an error must stand. */
static const char *use_module(Context *cx, Module *m, const char *folder) {
    char again[600];
    snprintf(again, sizeof again, "%s/again.onnx", folder);
    Writer w = {.arena = &cx->scratch};
    module_print(m, &w);
    for (uint32_t i = 0; i < m->main->n_out; i++)
        if (m->main->out[i]->type == NULL) m->main->out[i]->type = type_tensor(cx, DT_F32, RANK_UNKNOWN, NULL);
    if (!onnx_export(m, again)) return "a module that was read is not exported";
    bool ok = onnx_import(module_new(cx, "again"), again);
    unlink(again);
    if (!ok) return "an exported module is not read";
    LatheOptions options = lathe_options();
    m->options = &options;
    for (uint32_t i = 0; i < m->main->n_out; i++)
        if (m->main->out[i]->def != NULL) m->main->out[i]->type = NULL;
    uint32_t errors = cx->n_error;
    pass_run(m, pass_find("infer_shapes"));
    if (cx->n_error != errors) return NULL;
    n_inferred++;
    FOR_NODES(n, m->main) {
        for (uint32_t i = 0; i < n->n_out; i++)
            if (n->out[i] != NULL && n->out[i]->poison) return "a value is poison, and nothing was said about it";
    }
    return module_verify(m) ? NULL : "inference found no error, and leaves a module that is not whole";
}

/* The whole compiler on the mutant, without output: it may refuse it, with a reason. */
static const char *compile_mutant(const char *path) {
    LatheModel *m = lathe_model_new("m");
    LatheOptions options = lathe_options();
    options.verify_ir = true;
    LatheStatus status = lathe_import_onnx(m, path);
    if (status == LATHE_OK) status = lathe_compile(m, &options);
    const char *wrong = NULL;
    if (status != LATHE_OK && lathe_error_count(m) == 0) wrong = "the compiler fails without a diagnostic";
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    lathe_print_diagnostics(m, f);
    fclose(f);
    /* What internal checks and the verifiers of the IR say. */
    if (status != LATHE_OK && (strstr(text, "internal check failed") != NULL || strstr(text, "invariant ") != NULL)) {
        printf("%s", text);
        wrong = "an internal check failed";
    }
    n_compiled += status == LATHE_OK;
    free(text);
    lathe_model_free(m);
    return wrong;
}

static const char *read_mutant(Context *cx, const char *path, const char *ending, const char *folder) {
    HostTensor t, *list;
    uint32_t n;
    if (strcmp(ending, ".onnx") == 0) {
        Module *m = module_new(cx, "m");
        bool ok = onnx_import(m, path);
        if (ok != (cx->n_error == 0)) return "the result does not agree with the diagnostics";
        n_read += ok;
        const char *wrong = ok ? use_module(cx, m, folder) : NULL;
        return wrong == NULL && ok ? compile_mutant(path) : wrong;
    }
    bool ok = strcmp(ending, ".npz") == 0 ? npz_load(cx, path, &n, &list) : tensor_file_load(cx, path, NULL, &t);
    return ok != (cx->n_error == 0) ? "the result does not agree with the diagnostics" : NULL;
}

static bool run(uint32_t number, const File *seed, const char *folder) {
    char path[600];
    Context cx;
    jmp_buf escape;
    size_t n = seed->n;
    uint8_t *data = malloc(64 * seed->n + 4096); /* every mutation at most adds 32 bytes */
    memcpy(data, seed->data, n);
    state = UINT64_C(0x9E3779B97F4A7C15) * (number + 1);
    for (uint64_t k = 1 + draw(3) / 2; k > 0 && n > 0; k--) mutate(data, &n);
    snprintf(path, sizeof path, "%s/mutant%s", folder, seed->ending);
    write_all(path, data, n);
    free(data);
    context_init(&cx);
    cx.escape = &escape;
    const char *wrong;
    if (setjmp(escape) == 0) wrong = read_mutant(&cx, path, seed->ending, folder);
    else wrong = cx.internal_error;
    if (wrong != NULL) {
        Writer w = {.arena = &cx.scratch};
        diag_print(&cx, &w);
        printf("run %u: %s\n%s", number, wrong, cw_cstr(&w));
    }
    context_free(&cx);
    unlink(path);
    return wrong == NULL;
}

int main(int argc, char **argv) {
    char folder[] = "/tmp/lathe-fuzz-XXXXXX";
    if (argc < 3 || mkdtemp(folder) == NULL) return 2;
    uint32_t runs = (uint32_t)strtoul(argv[1], NULL, 10), n = (uint32_t)argc - 2, bad = 0;
    File *seed = calloc(n, sizeof *seed);
    for (uint32_t i = 0; i < n; i++) {
        if (read_all(argv[2 + i], &seed[i])) continue;
        printf("%s: cannot read\n", argv[2 + i]);
        return 2;
    }
    const char *dash = strchr(argv[1], '-'); /* FIRST-LAST repeats some of them */
    uint32_t first = dash != NULL ? runs : 0;
    if (dash != NULL) runs = (uint32_t)strtoul(dash + 1, NULL, 10);
    for (uint32_t i = first; i < runs; i++) bad += !run(i, &seed[i % n], folder);
    for (uint32_t i = 0; i < n; i++) free(seed[i].data);
    free(seed);
    rmdir(folder);
    printf("%u runs on %u seeds, %u models read, %u inferred, %u compiled, %u wrong\n", runs, n, n_read, n_inferred, n_compiled, bad);
    return bad != 0;
}
