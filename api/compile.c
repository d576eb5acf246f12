/* Reading, running passes, compiling and writing models: thin bodies over the frontends, the pass runner and codegen. */
#include "api/model.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "codegen/codegen.h"
#include "frontend/dsl.h"
#include "frontend/onnx.h"
#include "ir/plan.h"
#include "passes/pass.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A file that cannot be read is another kind of failure than a file that is wrong: found out before reading it. */
static FILE *open_model(LatheModel *m, const char *path) {
    FILE *f = fopen(path, "rb");
    int reason = errno;
    int first = f != NULL ? fgetc(f) : EOF;
    if (f != NULL && first == EOF && ferror(f)) { /* a directory opens, but does not read */
        reason = errno;
        fclose(f);
        f = NULL;
    }
    if (f != NULL && first != EOF) ungetc(first, f); /* not a rewind: it may be a pipe */
    if (f == NULL) diag(&m->cx, SEV_ERROR, (Loc){.file = str_intern(&m->cx, path)}, "cannot read the model: %s", strerror(reason));
    return f;
}

static LatheStatus import_onnx(LatheModel *m, void *path) {
    FILE *f = open_model(m, path);
    if (f == NULL) return LATHE_ERROR_FILE;
    fclose(f);
    return onnx_import(m->m, path) ? model_status(m) : LATHE_ERROR_MODEL;
}

LatheStatus lathe_import_onnx(LatheModel *m, const char *path) {
    return model_enter(m, import_onnx, (void *)(uintptr_t)path);
}

static LatheStatus import_ir(LatheModel *m, void *path) {
    FILE *f = open_model(m, path);
    if (f == NULL) return LATHE_ERROR_FILE;
    Writer text = {.arena = &m->cx.arena};
    char part[8192];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) != 0;) cw_text(&text, part, n);
    fclose(f);
    Module *module = module_parse(&m->cx, path, cw_cstr(&text), text.n);
    if (module == NULL) return LATHE_ERROR_MODEL;
    m->m = module;
    module->options = &m->options;
    return model_status(m);
}

LatheStatus lathe_import_ir(LatheModel *m, const char *path) {
    return model_enter(m, import_ir, (void *)(uintptr_t)path);
}

static LatheStatus print_ir(LatheModel *m, void *to) {
    Writer w = {.arena = &m->cx.scratch};
    if (m->m->plan != NULL) plan_print(m->m, &w);
    else module_print(m->m, &w);
    bool good = fwrite(cw_cstr(&w), 1, w.n, to) == w.n;
    arena_reset(&m->cx.scratch);
    return good ? LATHE_OK : LATHE_ERROR_FILE;
}

LatheStatus lathe_print_ir(LatheModel *m, FILE *to) {
    return model_enter(m, print_ir, to);
}

/* ---- passes ----------------------------------------------------------------------------------------------------- */
typedef struct PassRequest { const char *passes; const LatheOptions *options; } PassRequest;

static LatheStatus run_passes(LatheModel *m, void *user) {
    const PassRequest *r = user;
    LatheStatus status = options_apply(m, r->options);
    if (status != LATHE_OK) return status;
    const char *p = r->passes;
    for (;; p++) { /* every unknown name is reported before anything runs */
        size_t n = strcspn(p, ",");
        const char *name = arena_strdup(&m->cx.arena, p, n);
        if (pass_find(name) == NULL) diag(&m->cx, SEV_ERROR, (Loc){0}, "there is no pass \"%s\"", name);
        p += n;
        if (*p == 0) break;
    }
    if (m->cx.n_error != 0) return LATHE_ERROR_USAGE;
    p = r->passes;
    for (;; p++) {
        size_t n = strcspn(p, ",");
        const PassInfo *pass = pass_find(arena_strdup(&m->cx.arena, p, n));
        if (pass->level == LEVEL_PLAN) dims_bound(m);
        if (!pass_run(m->m, pass)) return LATHE_ERROR_MODEL;
        p += n;
        if (*p == 0) return LATHE_OK;
    }
}

LatheStatus lathe_run_passes(LatheModel *m, const char *passes, const LatheOptions *options) {
    return model_enter(m, run_passes, &(PassRequest){passes, options});
}

/* ---- compiling -------------------------------------------------------------------------------------------------- */
typedef struct CompileRequest { const LatheOptions *options; Staging staging; } CompileRequest;

static LatheStatus compile(LatheModel *m, void *user) {
    CompileRequest *r = user;
    Context *cx = &m->cx;
    double start = now();
    if (m->compiled) {
        diag(cx, SEV_ERROR, (Loc){0}, "this model was compiled before; a model is compiled once");
        return LATHE_ERROR_USAGE;
    }
    if (cx->n_error != 0) return LATHE_ERROR_MODEL;
    LatheStatus status = options_apply(m, r->options);
    if (status != LATHE_OK) return status;
    const char *output = m->options.output;
    if (output != NULL && !staging_open(m, output, &r->staging)) return LATHE_ERROR_FILE;
    dims_bound(m);
    dsl_train_candidates(m);
    m->compiled = true;
    pass_infer_shapes(cx, m->m); /* flops are counted on the graph as it was given */
    if (cx->n_error != 0) return LATHE_ERROR_MODEL;
    m->stats.flops = count_flops(m);
    arena_reset(&cx->scratch);
    if (!pass_run_pipeline(m->m)) return LATHE_ERROR_MODEL;
    stats_from_plan(m);
    if (output != NULL) {
        if (cx->progress != NULL) cx->progress(cx->progress_user, "writing C", 0.95);
        uint32_t before = cx->n_error;
        if (!codegen_emit(m->m, r->staging.c_path)) return cx->n_error != before ? LATHE_ERROR_MODEL : LATHE_ERROR_FILE;
        if (!staging_publish(m, &r->staging, output)) return LATHE_ERROR_FILE;
    }
    m->stats.seconds = now() - start;
    return LATHE_OK;
}

LatheStatus lathe_compile(LatheModel *m, const LatheOptions *options) {
    CompileRequest r = {.options = options};
    LatheStatus status = model_enter(m, compile, &r);
    staging_discard(&r.staging);
    return status;
}

/* ---- exporting -------------------------------------------------------------------------------------------------- */
typedef struct ExportRequest { const char *path; Staging staging; } ExportRequest;

static LatheStatus export_onnx(LatheModel *m, void *user) {
    ExportRequest *r = user;
    if (m->cx.n_error != 0) return LATHE_ERROR_MODEL;
    if (!staging_open(m, r->path, &r->staging)) return LATHE_ERROR_FILE;
    if (!onnx_export(m->m, r->staging.c_path)) return LATHE_ERROR_MODEL;
    return staging_publish(m, &r->staging, r->path) ? LATHE_OK : LATHE_ERROR_FILE;
}

LatheStatus lathe_export_onnx(LatheModel *m, const char *path) {
    ExportRequest r = {.path = path};
    LatheStatus status = model_enter(m, export_onnx, &r);
    staging_discard(&r.staging);
    return status;
}
