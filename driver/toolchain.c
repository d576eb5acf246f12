#include "driver/toolchain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/cache.h"
#include "driver/interrupt.h"
#include "driver/process.h"

/* ---- finding ---------------------------------------------------------------------------------------------------- */
static void push_words(Driver *d, Texts *list, const char *text) {
    while (text != NULL && *text != 0) {
        size_t n = strcspn(text, " ");
        if (n != 0) vec_push(&d->arena, list, arena_strdup(&d->arena, text, n));
        text += n + (text[n] == ' ');
    }
}

static bool try_compiler(Driver *d, const char *command, Toolchain *t, const char **why) {
    *t = (Toolchain){.openmp = true};
    push_words(d, &t->command, command);
    if (t->command.n == 0) {
        *why = "it is empty";
        return false;
    }
    Texts argv = {0};
    push_words(d, &argv, command);
    vec_push(&d->arena, &argv, "--version");
    vec_push(&d->arena, &argv, NULL);
    Process p = process_run(d, argv.v, NULL, NULL);
    if (!p.started || p.status != 0) {
        *why = p.started ? driver_format(d, "exit code %d", p.status) : p.output;
        return false;
    }
    t->version = arena_strdup(&d->arena, p.output, strcspn(p.output, "\n"));
    return true;
}

bool toolchain_find(Driver *d, const Request *r, Toolchain *t) {
    static const char *const names[] = {"clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14", "gcc", "cc"};
    const char *why, *cc = getenv("CC");
    if (r->cc != NULL) {
        if (try_compiler(d, r->cc, t, &why)) return true;
        driver_error(d, "the C compiler given by --cc does not run: %s: %s", r->cc, why);
        return false;
    }
    if (cc != NULL && cc[0] != 0) {
        if (try_compiler(d, cc, t, &why)) return true;
        driver_note(d, "the C compiler in $CC does not run: %s: %s; trying others", cc, why);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (try_compiler(d, names[i], t, &why)) return true;
    driver_error(d, "no C compiler found; tried $CC, clang, clang-19 to clang-14, gcc, cc: install one or name it with --cc");
    return false;
}

/* ---- building --------------------------------------------------------------------------------------------------- */
/* The flags of a target; NULL when the machine we run on cannot execute it. Compilers prefer half-width vectors on some processors with
 * 512-bit ones; what lathe emits gains from the full width. */
static const char *target_flags(const char *target) {
    const char *several = lathe_target_plainest(target);
    if (several != NULL) target = several;
    bool native = target == NULL || strcmp(target, "native") == 0, runs = native || strcmp(target, "generic") == 0;
#if defined(__aarch64__)
    if (native) return "-mcpu=native";
    runs = runs || strcmp(target, "armv8-a") == 0;
#elif defined(__x86_64__)
    if (native) return __builtin_cpu_supports("avx512f") ? "-march=native -mprefer-vector-width=512" : "-march=native";
    runs = runs || strcmp(target, "x86-64") == 0 || (strcmp(target, "x86-64-v2") == 0 && __builtin_cpu_supports("x86-64-v2"));
    runs = runs || (strcmp(target, "x86-64-v3") == 0 && __builtin_cpu_supports("x86-64-v3"));
    runs = runs || (strncmp(target, "x86-64-v4", 9) == 0 && __builtin_cpu_supports("x86-64-v4"));
    if (strstr(target, "-vnni") != NULL || strstr(target, "-amx") != NULL) runs = runs && __builtin_cpu_supports("avx512vnni");
    if (strstr(target, "-amx") != NULL) runs = runs && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("amx-int8") && __builtin_cpu_supports("amx-bf16");
#elif defined(__riscv_v)
    runs = runs || strcmp(target, "rv64gcv") == 0;
#endif
    return !runs ? NULL : native ? "" : lathe_target_flags(target);
}

bool toolchain_can_run(const char *target) { return target_flags(target) != NULL; }

static Texts build_command(Driver *d, const Request *r, const Toolchain *t, const char *dir, const char *source, const char *object) {
    static const char *const fixed[] = {"-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared", "-w", "-DLATHE_NO_STATIC_ARENA"};
    Texts argv = {0};
    for (uint32_t i = 0; i < t->command.n; i++) vec_push(&d->arena, &argv, t->command.v[i]);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) vec_push(&d->arena, &argv, fixed[i]);
    push_words(d, &argv, target_flags(r->target));
    if (t->openmp) vec_push(&d->arena, &argv, "-fopenmp");
    push_words(d, &argv, r->cflags);
    vec_push(&d->arena, &argv, driver_format(d, "-I%s", dir));
    vec_push(&d->arena, &argv, driver_format(d, "-Wa,-I%s", dir)); /* where .incbin looks */
    vec_push(&d->arena, &argv, "-o");
    vec_push(&d->arena, &argv, object);
    vec_push(&d->arena, &argv, source);
    vec_push(&d->arena, &argv, "-lm");
    vec_push(&d->arena, &argv, NULL);
    return argv;
}

/* Whether -fopenmp is what makes this compiler fail. */
static bool openmp_works(Driver *d, const Request *r, const Toolchain *t, const char *dir) {
    const char *source = driver_format(d, "%s/openmp_probe.c", dir), *object = driver_format(d, "%s/openmp_probe.so", dir);
    static const char text[] = "#include <omp.h>\nint probe(void) { return omp_get_max_threads(); }\n";
    if (!driver_write_file(d, source, text, sizeof text - 1)) return false;
    Process p = process_run(d, build_command(d, r, t, dir, source, object).v, NULL, dir);
    unlink(source);
    return p.started && p.status == 0;
}

static bool build_failed(Driver *d, const Toolchain *t, const Process *p) {
    if (!p->started) {
        driver_error(d, "cannot run %s: %s", t->command.v[0], p->output);
    } else {
        driver_error(d, "%s could not build the emitted C (exit code %d); unless --cflags caused it, this is an error of lathe's:", t->command.v[0], p->status);
        fprintf(stderr, "%.4000s\n", p->output);
    }
    return false;
}

static bool build_once(Driver *d, const Request *r, Toolchain *t, const char *dir, const char *source, const char *object) {
    const char *what = driver_format(d, "building with %s", t->command.v[0]);
    Process p = process_run(d, build_command(d, r, t, dir, source, object).v, what, dir);
    if (p.started && p.status == 0) return true;
    if (p.started && t->openmp && !openmp_works(d, r, t, dir)) {
        t->openmp = false;
        driver_note(d, "%s cannot build with -fopenmp: building for one thread", t->command.v[0]);
        p = process_run(d, build_command(d, r, t, dir, source, object).v, what, dir);
        if (p.started && p.status == 0) return true;
    }
    return build_failed(d, t, &p);
}

/* What the object depends on besides the sources. native means this CPU: its name is part of the key. */
static void hash_setting(Driver *d, const Request *r, const Toolchain *t, CacheKey *h) {
    Texts argv = build_command(d, r, t, "", "", "");
    for (uint32_t i = 0; i + 1 < argv.n; i++) cache_hash(h, argv.v[i], strlen(argv.v[i]));
    cache_hash(h, t->version, strlen(t->version));
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[4096];
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "model name", 10) == 0 || strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0) {
            cache_hash(h, line, strlen(line));
            if (line[0] != 'm') break;
        }
    if (f != NULL) fclose(f);
}

Exit toolchain_build(Driver *d, const Request *r, Toolchain *t, const char *dir, const char *c_file, const char **object, bool *cached) {
    if (target_flags(r->target) == NULL) {
        driver_error(d, "code for --target %s cannot run on this machine; compile it with `lathe compile`", r->target);
        return BAD_USAGE;
    }
    const char *source = driver_format(d, "%s/%s", dir, c_file), *built = driver_format(d, "%s/model.so", dir);
    const char *kept = NULL;
    Cache cache;
    CacheKey key = CACHE_KEY_START;
    const char *not_built_in = r->weights == LATHE_WEIGHTS_FILE ? ".bin" : NULL; /* weights that are loaded at run time */
    hash_setting(d, r, t, &key);
    *cached = false;
    if (!r->no_cache && cache_open(d, &cache) && cache_hash_dir(d, dir, not_built_in, &key)) {
        kept = cache_find(d, &cache, &key, cached);
        *object = kept;
        if (*cached) return DONE;
        built = driver_format(d, "%s.%ld", kept, (long)getpid()); /* the rename below stays on one file system */
    }
    uint32_t slot = interrupt_add(built);
    if (!build_once(d, r, t, dir, source, built)) {
        unlink(built);
        interrupt_drop(slot);
        return BROKEN;
    }
    *object = built;
    if (kept != NULL && rename(built, kept) == 0) {
        *object = kept;
        interrupt_drop(slot);
        cache_trim(d, &cache);
    }
    return DONE;
}
