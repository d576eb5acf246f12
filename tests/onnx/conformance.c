/* Runs the backend cases of the onnx package through lathe and the C compiler, and compares with the data they ship.
 *
 *     conformance CASES EXPECTED [--only REGEX] [--update] [--jobs N] [--cc CC] [--keep DIR] [MODE]...
 *
 * CASES is what cases.py wrote (cases.txt: `KIND/NAME rtol atol data_sets` per line). EXPECTED has a line `KIND/NAME pass`
 * or `KIND/NAME fail REASON` per case; a case that turns out otherwise makes the run fail, in both directions, so the
 * list only changes by --update and a commit. Prints the differences and `N passed, N failed`.
 *
 * Cases run in groups, one shared object each, --jobs groups at a time. What a case does happens in processes of its
 * own: a crash in the compiler or in emitted code is a failed case. --flag FLAG goes to the C compiler. Modes that ask more:
 *
 *     --threads N       each case on one and on N threads, with the same bits
 *     --sanitize        emitted code under AddressSanitizer and UBSan: a report is a failure
 *     --std STANDARD    emitted code as c11, c++17, … with every warning of the promise an error; without -fopenmp with --no-openmp
 *     --compare-runs    the compiler runs twice and must write the same bytes */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/compare.h"
#include "frontend/host_values.h"
#include "frontend/tensor_file.h"
#include "lathe.h"

enum { GROUP = 40, TEXT = 512, MAX_FLAGS = 32, MAX_VALUES = 256, CASE_SECONDS = 120 /* of processor time, per process */ };

typedef struct Case {
    char name[200];
    double rtol, atol;
    int sets;
    bool expected, known; /* expected result; known: EXPECTED has a line for it */
} Case;

typedef struct Options {
    const char *cases, *expected, *only, *cc, *keep;
    const char *flag[MAX_FLAGS];
    int n_flag, jobs, threads;
    bool update, sanitize, compare_runs, cpp;
} Options;

/* What a process learned about a case: written to a file, so that it survives the process. */
typedef struct Result { int ok; char text[TEXT]; } Result;

static char work[TEXT]; /* folder of temporary files */

static _Noreturn void die(const char *what, const char *name) {
    fprintf(stderr, "conformance: %s %s: %s\n", what, name, strerror(errno));
    exit(3);
}

static void path_of(char *to, const char *format, int index) {
    char name[64];
    snprintf(name, sizeof name, format, index);
    snprintf(to, 2 * TEXT, "%s/%s", work, name);
}

static void result_write(int index, const char *kind, const Result *r) {
    char path[2 * TEXT], pattern[64];
    snprintf(pattern, sizeof pattern, "c%%d.%s", kind);
    path_of(path, pattern, index);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(r, sizeof *r, 1, f) != 1) die("cannot write", path);
    fclose(f);
}

static bool result_read(int index, const char *kind, Result *r) {
    char path[2 * TEXT], pattern[64];
    snprintf(pattern, sizeof pattern, "c%%d.%s", kind);
    path_of(path, pattern, index);
    FILE *f = fopen(path, "rb");
    if (f == NULL) return false;
    bool good = fread(r, sizeof *r, 1, f) == 1;
    fclose(f);
    return good;
}

/* One line: no newlines, no addresses of this machine. */
static void result_text(Result *r, const char *text) {
    size_t n = 0;
    if (text[0] == '/') { /* a failed internal check names its source file */
        const char *end = strchr(text, ' ');
        while (end != NULL && end > text && end[-1] != '/') end--;
        if (end != NULL) text = end;
    }
    for (const char *p = text; *p != 0 && *p != '\n' && n + 1 < 160; p++) r->text[n++] = *p;
    r->text[n] = 0;
}

/* ---- data -------------------------------------------------------------------------------------------------------- */
typedef struct Data { HostTensor in[MAX_VALUES], out[MAX_VALUES]; uint32_t n_in, n_out; } Data;

/* kind[i]: LatheTensorInfo.kind of value i, which the file itself does not always tell; NULL: not known. */
static bool load_values(Context *cx, const char *folder, const char *what, const int *kind, HostTensor *to, uint32_t *n) {
    for (*n = 0; *n < MAX_VALUES; ++*n) {
        char path[2 * TEXT];
        snprintf(path, sizeof path, "%s/%s_%u.pb", folder, what, *n);
        if (access(path, R_OK) != 0) return true;
        const Type *tensor = type_tensor(cx, DT_F32, RANK_UNKNOWN, NULL), *type = NULL;
        if (kind != NULL) type = kind[*n] == 1 ? type_sequence(cx, tensor, 0) : kind[*n] == 2 ? type_optional(cx, tensor) : kind[*n] == 3 ? type_optional(cx, type_sequence(cx, tensor, 0)) : NULL;
        if (!tensor_file_load(cx, path, type, &to[*n])) return false;
    }
    return true;
}

static bool load_data(Context *cx, const Options *o, const Case *c, int set, const int *in_kind, const int *out_kind, Data *d) {
    char folder[2 * TEXT];
    snprintf(folder, sizeof folder, "%s/%s/test_data_set_%d", o->cases, c->name, set);
    return load_values(cx, folder, "input", in_kind, d->in, &d->n_in) && load_values(cx, folder, "output", out_kind, d->out, &d->n_out);
}

/* ---- compiling: in a process of its own ---------------------------------------------------------------------------- */
static bool is_symbol(const char *text) {
    if (!((*text >= 'A' && *text <= 'Z') || (*text >= 'a' && *text <= 'z') || *text == '_')) return false;
    return strpbrk(text, " *+-()\"") == NULL;
}

static const int *in_kinds(LatheModel *m) {
    static int kind[MAX_VALUES];
    for (uint32_t i = 0; i < lathe_input_count(m) && i < MAX_VALUES; i++) kind[i] = lathe_input_info(m, i).kind;
    return kind;
}

/* Dims that nobody bounded get the sizes of the case's data as bounds. */
static const char **dim_options(Context *cx, const Options *o, const Case *c, LatheModel *m) {
    static const char *list[MAX_VALUES];
    uint32_t n = 0;
    for (uint32_t s = 0; s < lathe_symbol_count(m); s++) {
        LatheSymbolInfo symbol = lathe_symbol_info(m, s);
        int64_t hi = 0, lo = 1;
        for (int set = 0; set < c->sets; set++) {
            Data d;
            if (!load_data(cx, o, c, set, in_kinds(m), NULL, &d)) continue;
            for (uint32_t i = 0; i < lathe_input_count(m) && i < d.n_in; i++) {
                LatheTensorInfo info = lathe_input_info(m, i);
                for (uint32_t k = 0; k < info.rank && k < d.in[i].rank; k++) {
                    if (!is_symbol(info.dim[k]) || strcmp(info.dim[k], symbol.name) != 0) continue;
                    if (d.in[i].dim[k] > hi) hi = d.in[i].dim[k];
                    if (d.in[i].dim[k] < lo) lo = d.in[i].dim[k];
                }
            }
        }
        if (hi < 1) hi = 1;
        if (n + 1 < MAX_VALUES && symbol.hi < 0)
            list[n++] = str_text(cx, str_format(cx, "%s=%lld..%lld", symbol.name, (long long)lo, (long long)hi));
    }
    list[n] = NULL;
    return list;
}

/* Inputs of open rank get the rank and sizes of the case's data. */
static void shape_inputs(Context *cx, const Options *o, const Case *c, LatheModel *m) {
    static Data d;
    if (!load_data(cx, o, c, 0, in_kinds(m), NULL, &d)) return;
    for (uint32_t i = 0; i < lathe_input_count(m) && i < d.n_in; i++) {
        const HostTensor *t = &d.in[i];
        if (lathe_input_info(m, i).rank != 0 && lathe_input_info(m, i).kind == 0) continue;
        if (t->kind == HOST_OPTIONAL && t->n_elem == 1) t = &t->elem[0];
        int64_t dims[RANK_MAX] = {0};
        uint32_t rank = t->kind == HOST_SEQUENCE && t->n_elem != 0 ? t->elem[0].rank : t->rank;
        for (uint32_t e = 0; e < (t->kind == HOST_SEQUENCE ? t->n_elem : 1); e++) {
            const HostTensor *x = t->kind == HOST_SEQUENCE ? &t->elem[e] : t;
            for (uint32_t k = 0; k < rank && k < x->rank; k++)
                if (x->dim[k] > dims[k]) dims[k] = x->dim[k];
        }
        if (rank != 0) lathe_shape_input(m, i, rank, dims);
    }
}

static void first_diagnostic(LatheModel *m, Result *r) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f == NULL) die("no memory for", "messages");
    lathe_print_diagnostics(m, f);
    fclose(f);
    const char *error = strstr(text, "error: ");
    result_text(r, error != NULL ? error + 7 : "it does not compile");
    free(text);
}

static const char glue[] =
    "#include \"c%d.c\"\n"
    "#ifdef __cplusplus\nextern \"C\" {\n#endif\n"
    "size_t g%d_ctx(void);\nsize_t g%d_arena(void);\n"
    "int g%d_init(void *ctx, void *arena, size_t bytes);\n"
    "int g%d_call(void *ctx, int threads, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims);\n"
    "size_t g%d_ctx(void) { return sizeof(c%d_ctx); }\n"
    "size_t g%d_arena(void) { return C%d_ARENA_BYTES; }\n"
    "int g%d_init(void *ctx, void *arena, size_t bytes) { return c%d_init((c%d_ctx *)ctx, arena, bytes, NULL, 0); }\n"
    "int g%d_call(void *ctx, int threads, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims)\n"
    "{\n    ((c%d_ctx *)ctx)->threads = threads;\n    return c%d_call((c%d_ctx *)ctx, in, in_dims, out, out_dims);\n}\n"
    "#ifdef __cplusplus\n}\n#endif\n";

static void write_unit(int i) {
    char path[2 * TEXT];
    path_of(path, "u%d.c", i);
    FILE *f = fopen(path, "w");
    if (f == NULL) die("cannot write", path);
    for (const char *p = glue; *p != 0; p++) {
        if (p[0] == '%' && p[1] == 'd') {
            fprintf(f, "%d", i);
            p++;
        } else {
            fputc(*p, f);
        }
    }
    fclose(f);
}

typedef struct Outputs { /* what goes in and out of a compiled case; the names in it are not valid elsewhere */
    uint32_t n, n_in, n_group, n_in_group;
    LatheTensorInfo info[MAX_VALUES], in_info[MAX_VALUES];
    LatheGroup group[MAX_VALUES], in_group[MAX_VALUES];
} Outputs;

static void write_outputs(LatheModel *m, int index) {
    static Outputs outputs;
    char path[2 * TEXT];
    outputs.n = lathe_output_count(m);
    outputs.n_in = lathe_input_count(m);
    for (uint32_t i = 0; i < outputs.n && i < MAX_VALUES; i++) outputs.info[i] = lathe_output_info(m, i);
    for (uint32_t i = 0; i < outputs.n_in && i < MAX_VALUES; i++) outputs.in_info[i] = lathe_input_info(m, i);
    outputs.n_group = lathe_output_group_count(m);
    outputs.n_in_group = lathe_input_group_count(m);
    for (uint32_t i = 0; i < outputs.n_group && i < MAX_VALUES; i++) outputs.group[i] = lathe_output_group(m, i);
    for (uint32_t i = 0; i < outputs.n_in_group && i < MAX_VALUES; i++) outputs.in_group[i] = lathe_input_group(m, i);
    path_of(path, "c%d.outputs", index);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(&outputs, sizeof outputs, 1, f) != 1) die("cannot write", path);
    fclose(f);
}

static void compile_case(const Options *o, const Case *c, int index) {
    Result r = {0};
    char model[2 * TEXT], output[2 * TEXT], name[32];
    static Context cx;
    context_init(&cx);
    snprintf(model, sizeof model, "%s/%s/model.onnx", o->cases, c->name);
    path_of(output, "c%d.c", index);
    snprintf(name, sizeof name, "c%d", index);
    LatheModel *m = lathe_model_new(name);
    LatheStatus status = lathe_import_onnx(m, model);
    if (status == LATHE_OK) {
        LatheOptions options = lathe_options();
        options.output = output;
        options.name = name;
        options.weights = LATHE_WEIGHTS_AUTO;
        options.verify_ir = true;
        shape_inputs(&cx, o, c, m);
        options.dims = dim_options(&cx, o, c, m);
        status = lathe_compile(m, &options);
    }
    r.ok = status == LATHE_OK;
    if (r.ok) {
        write_outputs(m, index);
        write_unit(index);
    } else {
        first_diagnostic(m, &r);
    }
    result_write(index, "compiled", &r);
}

/* ---- running: in a process of its own ------------------------------------------------------------------------------ */
typedef struct Code {
    size_t (*ctx)(void), (*arena)(void);
    int (*init)(void *ctx, void *arena, size_t bytes);
    int (*call)(void *ctx, int threads, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims);
} Code;

static bool find(void *object, int index, const char *what, void *to) {
    char name[64];
    snprintf(name, sizeof name, "g%d_%s", index, what);
    void *s = dlsym(object, name);
    if (s != NULL) memcpy(to, &s, sizeof s);
    return s != NULL;
}

static void *aligned(size_t n) {
    void *p;
    if (posix_memalign(&p, 64, n != 0 ? n : 1) != 0) die("no memory for", "a case"); /* exactly n: sanitizers see the end */
    memset(p, 0xA5, n);
    return p;
}

static int64_t upper_count(const LatheTensorInfo *t) {
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->hi[i];
    return n;
}

static bool check_output(const Case *c, uint32_t i, const HostTensor *got, const HostTensor *want, Result *r) {
    char text[TEXT];
    if (want->kind != HOST_OPTIONAL && got->kind == HOST_OPTIONAL && got->n_elem == 1) return check_output(c, i, &got->elem[0], want, r);
    if (want->kind == HOST_OPTIONAL && got->kind != HOST_OPTIONAL && want->n_elem == 1) return check_output(c, i, got, &want->elem[0], r);
    bool same = got->kind == want->kind && got->n_elem == want->n_elem;
    if (same && want->kind != HOST_TENSOR) {
        for (uint32_t k = 0; k < want->n_elem; k++)
            if (!check_output(c, i, &got->elem[k], &want->elem[k], r)) return false;
        return true;
    }
    same = same && got->dtype == want->dtype && got->rank == want->rank;
    for (uint32_t k = 0; same && k < want->rank; k++) same = got->dim[k] == want->dim[k];
    if (!same) {
        snprintf(text, sizeof text, "output %u has another type or shape", i);
        result_text(r, text);
        return false;
    }
    if (want->dtype == DT_STRING) {
        if (memcmp(got->data, want->data, want->bytes) == 0) return true; /* ids of one Context */
        snprintf(text, sizeof text, "output %u: strings differ", i);
        result_text(r, text);
        return false;
    }
    Tolerance t = {.rtol = c->rtol, .atol = c->atol, .range_tol = -1, .by_element = true};
    Comparison d = compare_elements(dtype_to_onnx(want->dtype), want->numel, got->data, want->data, &t);
    if (d.pass) return true;
    snprintf(text, sizeof text, "output %u: %lld of %lld elements differ", i, (long long)d.n_bad, (long long)d.n);
    result_text(r, text);
    return false;
}

/* The tensors of all inputs, each in memory of its exact size, so that sanitizers see its end. */
static bool pack_inputs(Context *cx, const Case *c, const Outputs *io, const Data *d, const void **in, int64_t *in_dims) {
    uint32_t n = 0, n_dim = 0;
    for (uint32_t i = 0; i < io->n_in_group && i < d->n_in; i++) {
        HostTensor part[4];
        if (!host_pack(cx, &d->in[i], io->in_group[i], &io->in_info[io->in_group[i].first], part)) return false;
        for (uint32_t k = 0; k < io->in_group[i].n; k++) {
            const HostTensor *t = &part[k];
            const void *from = t->dtype == DT_STRING ? (const void *)host_string_pointers(cx, t) : t->data;
            size_t bytes = t->dtype == DT_STRING ? (size_t)t->numel * sizeof(char *) : t->bytes;
            void *copy = malloc(bytes != 0 ? bytes : 1);
            if (copy == NULL) die("no memory for", c->name);
            if (bytes != 0) memcpy(copy, from, bytes);
            in[n++] = copy;
            for (uint32_t x = 0; x < t->rank; x++) in_dims[n_dim++] = t->dim[x];
        }
    }
    return true;
}

/* The tensors that a call wrote, with the dims it reported. */
static void read_outputs(Context *cx, const Outputs *io, void *const *out, const int64_t *dims, HostTensor *part) {
    for (uint32_t i = 0; i < io->n; i++) {
        HostTensor t = {.kind = HOST_TENSOR, .dtype = dtype_from_onnx((int32_t)io->info[i].dtype), .rank = io->info[i].rank, .numel = 1, .data = out[i]};
        for (uint32_t k = 0; k < t.rank; k++) {
            t.dim[k] = *dims++;
            t.numel *= t.dim[k];
        }
        if (t.dtype == DT_STRING) host_strings(cx, &t, out[i]);
        else t.bytes = dtype_bytes(cx, t.dtype, t.numel);
        part[i] = t;
    }
}

static bool run_set(const Options *o, const Case *c, const Code *code, const Outputs *io, Context *cx, int set, Result *r) {
    static Data d;
    static HostTensor first[MAX_VALUES], part[MAX_VALUES];
    const void *in[MAX_VALUES];
    int64_t in_dims[MAX_VALUES * 16], out_dims[MAX_VALUES * 16];
    static int in_kind[MAX_VALUES], out_kind[MAX_VALUES];
    for (uint32_t i = 0; i < io->n_in_group; i++) in_kind[i] = io->in_group[i].sequence + 2 * io->in_group[i].optional;
    for (uint32_t i = 0; i < io->n_group; i++) out_kind[i] = io->group[i].sequence + 2 * io->group[i].optional;
    if (!load_data(cx, o, c, set, in_kind, out_kind, &d) || !pack_inputs(cx, c, io, &d, in, in_dims)) {
        result_text(r, "its data cannot be read");
        return false;
    }
    size_t arena_bytes = code->arena();
    for (int run = 0; run < (o->threads > 1 ? 2 : 1); run++) {
        void *ctx = aligned(code->ctx()), *arena = aligned(arena_bytes), *out[MAX_VALUES] = {0};
        memset(ctx, 0, code->ctx());
        for (uint32_t i = 0; i < io->n; i++) {
            bool strings = io->info[i].dtype == LATHE_STRING;
            out[i] = aligned(strings ? (size_t)upper_count(&io->info[i]) * sizeof(char *) : element_bytes((int)io->info[i].dtype, upper_count(&io->info[i])));
        }
        int status = code->init(ctx, arena, arena_bytes);
        if (status == 0) status = code->call(ctx, run == 0 ? 1 : o->threads, in, in_dims, out, out_dims);
        if (status != 0) {
            char text[64];
            snprintf(text, sizeof text, "the run ends with error %d", status);
            result_text(r, text);
            return false;
        }
        read_outputs(cx, io, out, out_dims, part);
        for (uint32_t i = 0; run == 0 && i < io->n_group && i < d.n_out; i++) {
            HostTensor got;
            host_unpack(cx, io->group[i], &part[io->group[i].first], &got);
            if (!check_output(c, i, &got, &d.out[i], r)) return false;
        }
        for (uint32_t i = 0; run == 1 && i < io->n; i++) {
            if (memcmp(first[i].data, part[i].data, part[i].bytes) == 0) continue;
            result_text(r, "two threads give other bits than one");
            return false;
        }
        memcpy(first, part, sizeof first);
    }
    return true;
}

static void run_case(const Options *o, const Case *c, int index, void *object) {
    static Outputs outputs;
    static Context cx;
    Result r = {.ok = 1};
    Code code;
    char path[2 * TEXT];
    path_of(path, "c%d.outputs", index);
    FILE *f = fopen(path, "rb");
    if (f == NULL || fread(&outputs, sizeof outputs, 1, f) != 1) die("cannot read", path);
    fclose(f);
    context_init(&cx);
    bool found = find(object, index, "ctx", &code.ctx) && find(object, index, "arena", &code.arena) && find(object, index, "init", &code.init) &&
                 find(object, index, "call", &code.call);
    if (!found) result_text(&r, "the built object lacks its functions");
    r.ok = found;
    for (int set = 0; set < c->sets && r.ok; set++) r.ok = run_set(o, c, &code, &outputs, &cx, set, &r);
    result_write(index, "ran", &r);
}

/* ---- processes ----------------------------------------------------------------------------------------------------- */
/* Waits for pid; false (with the reason in r) unless it ended with 0. */
static bool ended_well(pid_t pid, const char *what, Result *r) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) die("waiting for", what);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    char text[TEXT];
    if (WIFSIGNALED(status)) snprintf(text, sizeof text, "%s: %s", what, WTERMSIG(status) == SIGXCPU ? "takes too long" : strsignal(WTERMSIG(status)));
    else snprintf(text, sizeof text, "%s fails with code %d", what, WEXITSTATUS(status));
    r->ok = 0;
    result_text(r, text);
    return false;
}

static pid_t start(void) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) die("cannot start", "a process");
    if (pid == 0) setrlimit(RLIMIT_CPU, &(struct rlimit){CASE_SECONDS, CASE_SECONDS + 5});
    return pid;
}

/* The C compiler with its messages in a file; true when it succeeds. */
static bool run_compiler(const Options *o, const char *const *argv, const char *log) {
    Result ignored;
    pid_t pid = start();
    if (pid == 0) {
        int f = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (f >= 0) dup2(f, 1), dup2(f, 2);
        if (chdir(work) != 0) _exit(127); /* where .incbin finds weights */
        execvp(o->cc, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return ended_well(pid, "the C compiler", &ignored);
}

/* The sanitizers' libraries must be there before everything else in the process that loads the object. */
static void preload_sanitizers(const Options *o, char **argv) {
    if (!o->sanitize || getenv("LATHE_SANITIZERS_LOADED") != NULL) return;
    char command[TEXT], path[TEXT], list[4 * TEXT] = "";
    /* clang has one library for both, gcc two */
    for (const char *const *name = (const char *const[]){"libclang_rt.asan-x86_64.so", "libclang_rt.asan-aarch64.so", "libclang_rt.asan.so", "libasan.so", "libubsan.so", NULL}; *name != NULL; name++) {
        snprintf(command, sizeof command, "%s -print-file-name=%s", o->cc, *name);
        FILE *f = popen(command, "r");
        if (f == NULL) die("cannot run", command);
        bool good = fgets(path, sizeof path, f) != NULL;
        pclose(f);
        path[strcspn(path, "\n")] = 0;
        if (!good || path[0] != '/' || strlen(list) + strlen(path) + 2 > sizeof list) continue;
        strcat(strcat(list, list[0] != 0 ? ":" : ""), path);
        if (strstr(*name, "clang") != NULL) break;
    }
    if (list[0] == 0) {
        fprintf(stderr, "conformance: %s has no sanitizer libraries that can be loaded\n", o->cc);
        exit(3);
    }
    setenv("LD_PRELOAD", list, 1);
    setenv("LATHE_SANITIZERS_LOADED", "1", 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=0:exitcode=99", 1);
    setenv("UBSAN_OPTIONS", "halt_on_error=1:exitcode=99", 1);
    execv("/proc/self/exe", argv);
    die("cannot start", "again");
}

/* What the sanitizers said in the process of a case. */
static void sanitizer_report(int index, Result *r) {
    char path[2 * TEXT], line[TEXT];
    path_of(path, "c%d.report", index);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *what = strstr(line, "runtime error: ");
        if (what == NULL) what = strstr(line, "AddressSanitizer: ");
        if (what == NULL) continue;
        result_text(r, what);
        break;
    }
    if (f != NULL) fclose(f);
    unlink(path);
}

static void first_error(const char *log, Result *r) {
    char line[TEXT], text[TEXT];
    r->ok = 0;
    result_text(r, "the C compiler fails");
    FILE *f = fopen(log, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        const char *error = strstr(line, "error: ");
        if (error == NULL) continue;
        snprintf(text, sizeof text, "C compiler: %.400s", error + 7);
        result_text(r, text);
        break;
    }
    if (f != NULL) fclose(f);
}

static void *build_group(const Options *o, int first, int n, const bool *wanted, Result *result, bool *built) {
    char unit[GROUP][2 * TEXT], shared[2 * TEXT], log[2 * TEXT];
    const char *link[GROUP + MAX_FLAGS + 8];
    int n_link = 0;
    path_of(shared, "g%d.so", first);
    path_of(log, "g%d.log", first);
    link[n_link++] = o->cc;
    link[n_link++] = "-shared";
    link[n_link++] = "-o";
    link[n_link++] = shared;
    for (int i = 0; i < o->n_flag; i++) link[n_link++] = o->flag[i];
    for (int i = 0; i < n; i++) {
        built[i] = false;
        if (!wanted[i]) continue;
        char source[2 * TEXT];
        path_of(source, "u%d.c", first + i);
        path_of(unit[i], "u%d.o", first + i);
        const char *argv[MAX_FLAGS + 12];
        int a = 0;
        argv[a++] = o->cc;
        if (o->cpp) argv[a++] = "-x", argv[a++] = "c++";
        for (int k = 0; k < o->n_flag; k++) argv[a++] = o->flag[k];
        argv[a++] = "-c";
        argv[a++] = "-o";
        argv[a++] = unit[i];
        argv[a++] = source;
        argv[a] = NULL;
        built[i] = run_compiler(o, argv, log);
        if (!built[i]) first_error(log, &result[i]);
        else link[n_link++] = unit[i];
    }
    link[n_link++] = "-lm";
    link[n_link] = NULL;
    if (!run_compiler(o, link, log)) return NULL;
    return dlopen(shared, RTLD_NOW | RTLD_LOCAL);
}

static bool same_file(const char *a, const char *b) {
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    bool same = f != NULL && g != NULL;
    while (same) {
        int x = getc(f), y = getc(g);
        same = x == y;
        if (x == EOF) break;
    }
    if (f != NULL) fclose(f);
    if (g != NULL) fclose(g);
    return same;
}

/* Compiles case `index` once more, in a process of its own, and compares what is written. */
static bool compiles_alike(const Options *o, const Case *c, int index, Result *r) {
    static const char *const endings[] = {"c", "h"};
    char path[2 * TEXT], kept[2 * TEXT], pattern[64];
    for (int k = 0; k < 2; k++) {
        snprintf(pattern, sizeof pattern, "c%%d.%s", endings[k]);
        path_of(path, pattern, index);
        snprintf(kept, sizeof kept, "%s.first", path);
        if (rename(path, kept) != 0) die("cannot rename", path);
    }
    pid_t pid = start();
    if (pid == 0) {
        compile_case(o, c, index);
        _exit(0);
    }
    bool same = ended_well(pid, "compiling", r);
    for (int k = 0; k < 2; k++) {
        snprintf(pattern, sizeof pattern, "c%%d.%s", endings[k]);
        path_of(path, pattern, index);
        snprintf(kept, sizeof kept, "%s.first", path);
        if (same && !same_file(path, kept)) {
            r->ok = 0;
            result_text(r, "the compiler writes other bytes when it runs again");
            same = false;
        }
        unlink(kept);
    }
    return same;
}

static void run_group(const Options *o, const Case *cases, int first, int n) {
    Result result[GROUP] = {0};
    bool compiled[GROUP], built[GROUP];
    for (int i = 0; i < n; i++) {
        pid_t pid = start();
        if (pid == 0) {
            compile_case(o, &cases[first + i], first + i);
            _exit(0);
        }
        compiled[i] = ended_well(pid, "compiling", &result[i]) && result_read(first + i, "compiled", &result[i]) && result[i].ok;
        if (compiled[i] && o->compare_runs) compiled[i] = compiles_alike(o, &cases[first + i], first + i, &result[i]);
    }
    void *object = build_group(o, first, n, compiled, result, built);
    for (int i = 0; i < n; i++) {
        if (compiled[i] && built[i] && object == NULL) {
            result[i].ok = 0;
            result_text(&result[i], "the group's object cannot be loaded");
        } else if (compiled[i] && built[i]) {
            pid_t pid = start();
            if (pid == 0) {
                char path[2 * TEXT];
                path_of(path, "c%d.report", first + i);
                if (o->sanitize && freopen(path, "w", stderr) == NULL) die("cannot write", path);
                run_case(o, &cases[first + i], first + i, object);
                _exit(0);
            }
            if (ended_well(pid, "running", &result[i])) result_read(first + i, "ran", &result[i]);
            if (o->sanitize) sanitizer_report(first + i, &result[i]);
        }
        result_write(first + i, "done", &result[i]);
        if (o->keep == NULL) {
            char path[2 * TEXT];
            for (const char *const *p = (const char *const[]){"c%d.c", "c%d.h", "u%d.c", "u%d.o", "c%d.outputs", "c%d.compiled", "c%d.ran", "c%d.bin", NULL}; *p != NULL; p++) {
                path_of(path, *p, first + i);
                unlink(path);
            }
        }
    }
}

/* ---- lists --------------------------------------------------------------------------------------------------------- */
static Case *read_cases(const Options *o, int *n) {
    char path[2 * TEXT], line[TEXT];
    snprintf(path, sizeof path, "%s/cases.txt", o->cases);
    FILE *f = fopen(path, "r");
    if (f == NULL) die("cannot read", path);
    regex_t only;
    if (o->only != NULL && regcomp(&only, o->only, REG_EXTENDED | REG_NOSUB) != 0) die("not a regular expression:", o->only);
    Case *list = NULL;
    int cap = 0;
    for (*n = 0; fgets(line, sizeof line, f) != NULL;) {
        if (*n == cap) list = realloc(list, (size_t)(cap = cap * 2 + 256) * sizeof *list);
        if (list == NULL) die("no memory for", path);
        Case *c = &list[*n];
        *c = (Case){0};
        if (sscanf(line, "%199s %lf %lf %d", c->name, &c->rtol, &c->atol, &c->sets) != 4) continue;
        if (o->only == NULL || regexec(&only, c->name, 0, NULL, 0) == 0) ++*n;
    }
    fclose(f);
    if (o->only != NULL) regfree(&only);
    return list;
}

static int by_name(const void *a, const void *b) { return strcmp(((const Case *)a)->name, ((const Case *)b)->name); }

static void read_expected(const Options *o, Case *cases, int n) {
    char line[TEXT], name[200], word[16];
    FILE *f = fopen(o->expected, "r");
    if (f == NULL) return; /* nothing is expected yet: every case is a difference */
    while (fgets(line, sizeof line, f) != NULL) {
        Case key = {0};
        if (line[0] == '#' || sscanf(line, "%199s %15s", name, word) != 2) continue;
        snprintf(key.name, sizeof key.name, "%s", name);
        Case *c = bsearch(&key, cases, (size_t)n, sizeof *cases, by_name);
        if (c == NULL) continue;
        c->known = true;
        c->expected = strcmp(word, "pass") == 0;
    }
    fclose(f);
}

/* Lines of cases that did not run are kept. */
static void write_expected(const Options *o, const Case *cases, const Result *results, int n) {
    char line[TEXT], path[2 * TEXT];
    snprintf(path, sizeof path, "%s.new", o->expected);
    FILE *out = fopen(path, "w"), *old = fopen(o->expected, "r");
    if (out == NULL) die("cannot write", path);
    int at = 0;
    bool more = old != NULL && fgets(line, sizeof line, old) != NULL;
    while (at < n || more) {
        Case key = {0};
        if (more) sscanf(line, "%199s", key.name);
        int order = !more ? 1 : at >= n ? -1 : strcmp(key.name, cases[at].name);
        if (order < 0) fputs(line, out);
        else if (results[at].ok) fprintf(out, "%s pass\n", cases[at].name);
        else fprintf(out, "%s fail %s\n", cases[at].name, results[at].text);
        if (order >= 0) at++;
        if (order <= 0) more = fgets(line, sizeof line, old) != NULL;
    }
    if (old != NULL) fclose(old);
    fclose(out);
    if (rename(path, o->expected) != 0) die("cannot write", o->expected);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */
static void run_all(const Options *o, const Case *cases, int n) {
    int running = 0;
    bool terminal = isatty(2);
    for (int first = 0; first < n; first += GROUP) {
        if (running == o->jobs && wait(NULL) > 0) running--;
        fflush(NULL);
        pid_t pid = fork();
        if (pid < 0) die("cannot start", "a process");
        if (pid == 0) {
            run_group(o, cases, first, n - first < GROUP ? n - first : GROUP);
            _exit(0);
        }
        running++;
        if (terminal) fprintf(stderr, "\r%d of %d cases started", first, n);
    }
    while (running-- > 0) wait(NULL);
    if (terminal) fprintf(stderr, "\r%*s\r", 40, "");
}

static int report(const Options *o, const Case *cases, int n) {
    Result *results = calloc((size_t)n + 1, sizeof *results);
    int passed = 0, differ = 0;
    if (results == NULL) die("no memory for", "results");
    for (int i = 0; i < n; i++) {
        if (!result_read(i, "done", &results[i])) result_text(&results[i], "its process ended early");
        passed += results[i].ok;
        bool same = cases[i].known && cases[i].expected == (results[i].ok != 0);
        if (same || o->update) continue;
        differ++;
        printf("%s: %s%s%s\n", cases[i].name, results[i].ok ? "passes" : "fails: ", results[i].text,
               !cases[i].known ? " (not in the list)" : cases[i].expected ? " (expected to pass)" : ", expected to fail");
    }
    if (o->update) write_expected(o, cases, results, n);
    printf("%d passed, %d failed", passed, n - passed);
    if (differ != 0) printf("; %d not as expected", differ);
    printf("\n");
    free(results);
    return differ != 0;
}

static Options read_options(int argc, char **argv) {
    Options o = {.jobs = 2, .threads = 1, .cc = getenv("CC") != NULL ? getenv("CC") : "clang"};
    static char standard[64];
    bool openmp = true, warnings = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--update") == 0) { o.update = true; continue; }
        if (strcmp(a, "--sanitize") == 0) { o.sanitize = true; continue; }
        if (strcmp(a, "--compare-runs") == 0) { o.compare_runs = true; continue; }
        if (strcmp(a, "--no-openmp") == 0) { openmp = false; continue; }
        if (a[0] != '-' && o.cases == NULL) { o.cases = a; continue; }
        if (a[0] != '-' && o.expected == NULL) { o.expected = a; continue; }
        if (value == NULL) break;
        i++;
        if (strcmp(a, "--only") == 0) o.only = value;
        else if (strcmp(a, "--jobs") == 0) o.jobs = atoi(value);
        else if (strcmp(a, "--cc") == 0) o.cc = value;
        else if (strcmp(a, "--threads") == 0) o.threads = atoi(value);
        else if (strcmp(a, "--keep") == 0) o.keep = value;
        else if (strcmp(a, "--std") == 0) snprintf(standard, sizeof standard, "-std=%s", value);
        else if (strcmp(a, "--flag") == 0 && o.n_flag < MAX_FLAGS) o.flag[o.n_flag++] = value;
        else { o.cases = NULL; break; }
    }
    o.cpp = strstr(standard, "c++") != NULL || strstr(standard, "gnu++") != NULL;
    warnings = standard[0] != 0;
    static const char *const always[] = {"-O1", "-fPIC", "-fno-math-errno", "-DLATHE_NO_STATIC_ARENA", NULL};
    static const char *const strict[] = {"-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wvla", "-Wdouble-promotion", "-Werror", NULL};
    static const char *const sanitize[] = {"-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", NULL};
    const char *quiet[] = {"-w", NULL}, *parallel[] = {"-fopenmp", NULL}, *chosen[] = {standard, NULL}, *shared[] = {"-shared-libasan", NULL};
    bool clang = strstr(o.cc, "clang") != NULL;
    const struct { bool wanted; const char *const *flags; } sets[] = {{true, always}, {warnings, strict}, {!warnings, quiet}, {warnings, chosen}, {openmp, parallel}, {o.sanitize, sanitize}, {o.sanitize && clang, shared}};
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++)
        for (const char *const *f = sets[s].flags; sets[s].wanted && *f != NULL && o.n_flag < MAX_FLAGS; f++) o.flag[o.n_flag++] = *f;
    if (o.cases != NULL && o.expected != NULL && o.jobs > 0) return o;
    fprintf(stderr, "usage: conformance CASES EXPECTED [--only REGEX] [--update] [--jobs N] [--cc CC] [--flag FLAG]... [--keep DIR]\n"
                    "       modes: [--threads N] [--sanitize] [--std STANDARD [--no-openmp]] [--compare-runs]\n");
    exit(2);
}

int main(int argc, char **argv) {
    Options o = read_options(argc, argv);
    preload_sanitizers(&o, argv);
    const char *tmp = getenv("TMPDIR");
    int n;
    Case *cases = read_cases(&o, &n);
    qsort(cases, (size_t)n, sizeof *cases, by_name);
    read_expected(&o, cases, n);
    if (o.keep != NULL) {
        char real[PATH_MAX];
        mkdir(o.keep, 0700);
        if (realpath(o.keep, real) == NULL || strlen(real) >= sizeof work) die("cannot use", o.keep);
        strcpy(work, real);
    } else {
        snprintf(work, sizeof work, "%s/lathe-conformance-XXXXXX", tmp != NULL ? tmp : "/tmp");
        if (mkdtemp(work) == NULL) die("cannot make", work);
    }
    run_all(&o, cases, n);
    int code = report(&o, cases, n);
    if (o.keep == NULL) {
        char path[2 * TEXT];
        for (int i = 0; i < n; i++) {
            for (const char *const *p = (const char *const[]){"c%d.done", "g%d.so", "g%d.log", NULL}; *p != NULL; p++) {
                path_of(path, *p, i);
                unlink(path);
            }
        }
        rmdir(work);
    }
    free(cases);
    return code;
}
