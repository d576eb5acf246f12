/* lathe compile: a model becomes a C file, a header, and weights. */
#include "driver/commands.h"
#include "driver/program.h"
#include "driver/report.h"
#include "driver/text.h"
#include "driver/train.h"
#include "driver/tune.h"

static const Option options[] = {
    {"-o", OPT_TEXT, "FILE.c", "the C file to write; the header and the weights go beside it", offsetof(Request, output)},
    {"--output", OPT_TEXT, "FILE.c", "the same", offsetof(Request, output)},
    {"--name", OPT_TEXT, "NAME", "prefix of everything in the C file (default: from the file's name)", offsetof(Request, name)},
    {"--share-weights", OPT_TEXT, "FILE", "put the weights into a file of several models: what is there already is not written again", offsetof(Request, share_weights)},
    {"--threading", OPT_CHOICE, "openmp|pool", "pool: a function in the context runs the tasks of a call on the caller's own threads", offsetof(Request, threading)},
    {"--report", OPT_TEXT, "FILE.html", "write a page about what was compiled: sizes, operations, inputs and outputs", offsetof(Request, report)},
    {0},
};
static const Option *const tables[] = {options, train_options, compile_options, build_options, help_options, NULL};

static void summary(const Request *r, const LatheStats *s) {
    char arena[32], weights[32], fast[32];
    size_text(arena, sizeof arena, (double)s->arena_bytes);
    size_text(weights, sizeof weights, (double)s->weight_bytes);
    if (r->fast_bytes != 0) size_text(fast, sizeof fast, (double)s->fast_bytes);
    fprintf(stderr, "%s: %u kernels, %u steps, %s%sarena %s, weights %s, %.2f s\n", r->output, s->kernels, s->steps, r->fast_bytes != 0 ? fast : "", r->fast_bytes != 0 ? " of fast memory, " : "", arena, weights,
            s->seconds);
}

static Exit compile(Driver *d, const Request *r) {
    if (r->output == NULL) {
        driver_error(d, "the output file is missing: lathe compile %s -o FILE.c", r->files.v[0]);
        return BAD_USAGE;
    }
    Exit e = DONE;
    LatheModel *m = model_open(d, r->files.v[0], &e);
    if (m == NULL) return e;
    e = train_prepare(d, r, m);
    if (e != DONE) {
        lathe_model_free(m);
        return e;
    }
    Texts choices = {0};
    if (r->level == 3) e = tune(d, r, &choices);
    if (e != DONE) {
        lathe_model_free(m);
        return e;
    }
    vec_push(&d->arena, &choices, NULL);
    LatheOptions o = request_options(d, r, NULL);
    Progress progress = progress_start(d);
    o.output = r->output;
    o.choices = choices.v;
    o.share_weights = r->share_weights;
    o.threading = (LatheThreading)r->threading;
    o.progress = progress_step;
    o.progress_user = &progress;
    LatheStatus status = lathe_compile(m, &o);
    progress_clear(d);
    if (status != LATHE_OK) {
        e = driver_model_failed(d, m, status);
    } else {
        driver_model_notes(d, m);
        LatheStats stats = lathe_stats(m);
        summary(r, &stats);
        if (r->report != NULL && !report_write(d, r->report, r->files.v[0], m)) e = BROKEN;
    }
    lathe_model_free(m);
    return e;
}

const Command compile_command = {
    .name = "compile", .files = "MODEL", .min_files = 1, .max_files = 1, .options = tables, .run = compile,
    .summary = "compile a model to C",
};
