/* lathe compile: a model becomes a C file, a header, and weights. */
#include <stdlib.h>

#include "driver/commands.h"
#include "driver/program.h"
#include "driver/report.h"
#include "driver/text.h"
#include "driver/train.h"

static const Option options[] = {
    {"-o", OPT_TEXT, "FILE.c", "the C file to write; the header and the weights go beside it", offsetof(Request, output)},
    {"--output", OPT_TEXT, "FILE.c", "the same", offsetof(Request, output)},
    {"--name", OPT_TEXT, "NAME", "prefix of everything in the C file (default: from the file's name)", offsetof(Request, name)},
    {"--memory", OPT_TEXT, "SIZE", "limit of the arena, as 64M: training computes parts of the forward pass again to stay below it", offsetof(Request, memory)},
    {"--share-weights", OPT_TEXT, "FILE", "put the weights into a file of several models: what is there already is not written again", offsetof(Request, share_weights)},
    {"--threading", OPT_CHOICE, "openmp|pool", "pool: a function in the context runs the tasks of a call on the caller's own threads", offsetof(Request, threading)},
    {"--report", OPT_TEXT, "FILE.html", "write a page about what was compiled: sizes, operations, inputs and outputs", offsetof(Request, report)},
    {0},
};
static const Option *const tables[] = {options, train_options, compile_options, help_options, NULL};

static void summary(const Request *r, const LatheStats *s) {
    char arena[32], weights[32];
    size_text(arena, sizeof arena, (double)s->arena_bytes);
    size_text(weights, sizeof weights, (double)s->weight_bytes);
    fprintf(stderr, "%s: %u kernels, %u steps, arena %s, weights %s, %.2f s\n", r->output, s->kernels, s->steps, arena, weights, s->seconds);
}

static bool read_size(const char *text, double *bytes) {
    char *end;
    *bytes = strtod(text, &end);
    if (end == text || !(*bytes > 0)) return false;
    if (*end == 'K' || *end == 'k') *bytes *= 1024, end++;
    else if (*end == 'M' || *end == 'm') *bytes *= 1048576, end++;
    else if (*end == 'G' || *end == 'g') *bytes *= 1073741824, end++;
    if (*end == 'B') end++;
    return *end == 0;
}

/* --memory: how much of the forward pass has to be computed again for the arena to stay within the limit. Every choice is
 * compiled to see what it needs; the one with the least recomputation that fits is taken. */
static Exit choose_recomputation(Driver *d, const Request *r, uint32_t *segments) {
    static const uint32_t choices[] = {0, 2, 3, 4, 6, 8, 12, 16, 24};
    double limit, least = -1;
    char text[32], wanted[32];
    if (!read_size(r->memory, &limit)) {
        driver_error(d, "--memory %s: expected a size as 64M, 1.5G or 500K", r->memory);
        return BAD_USAGE;
    }
    for (size_t i = 0; i < sizeof choices / sizeof *choices && (i == 0 || r->train.on); i++) {
        Exit e = DONE;
        LatheModel *m = model_open(d, r->files.v[0], &e);
        if (m != NULL) e = train_prepare(d, r, m);
        LatheOptions o = request_options(d, r, NULL);
        o.recompute = choices[i];
        o.dump = NULL;
        LatheStatus status = e == DONE ? lathe_compile(m, &o) : LATHE_OK;
        if (status != LATHE_OK) e = driver_model_failed(d, m, status);
        double needs = e == DONE ? (double)lathe_stats(m).arena_bytes : 0;
        lathe_model_free(m);
        if (e != DONE) return e;
        if (least < 0 || needs < least) least = needs;
        *segments = choices[i];
        if (needs <= limit) return DONE;
    }
    size_text(text, sizeof text, least);
    size_text(wanted, sizeof wanted, limit);
    driver_error(d, "--memory %s: the model needs at least %s of working memory%s, more than %s", r->memory, text, r->train.on ? ", with recomputation" : "", wanted);
    return DIFFERS;
}

static Exit compile(Driver *d, const Request *r) {
    if (r->output == NULL) {
        driver_error(d, "the output file is missing: lathe compile %s -o FILE.c", r->files.v[0]);
        return BAD_USAGE;
    }
    uint32_t segments = 0;
    Exit e = r->memory != NULL ? choose_recomputation(d, r, &segments) : DONE;
    if (e != DONE) return e;
    LatheModel *m = model_open(d, r->files.v[0], &e);
    if (m == NULL) return e;
    e = train_prepare(d, r, m);
    if (e != DONE) {
        lathe_model_free(m);
        return e;
    }
    LatheOptions o = request_options(d, r, NULL);
    Progress progress = progress_start(d);
    o.output = r->output;
    o.recompute = segments;
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
