/* lathe report: a page about what a model compiles to. */
#include "driver/commands.h"
#include "driver/program.h"
#include "driver/report.h"

static const Option options[] = {
    {"-o", OPT_TEXT, "FILE.html", "the page to write", offsetof(Request, output)},
    {"--output", OPT_TEXT, "FILE.html", "the same", offsetof(Request, output)},
    {0},
};
static const Option *const tables[] = {options, compile_options, help_options, NULL};

static Exit report(Driver *d, const Request *r) {
    if (r->output == NULL) {
        driver_error(d, "the output file is missing: lathe report %s -o FILE.html", r->files.v[0]);
        return BAD_USAGE;
    }
    Exit e = DONE;
    LatheModel *m = model_open(d, r->files.v[0], &e);
    if (m == NULL) return e;
    LatheOptions o = request_options(d, r, NULL);
    LatheStatus status = lathe_compile(m, &o); /* without output: no C is written */
    if (status != LATHE_OK) {
        e = driver_model_failed(d, m, status);
    } else {
        driver_model_notes(d, m);
        if (!report_write(d, r->output, r->files.v[0], m)) e = BROKEN;
    }
    lathe_model_free(m);
    return e;
}

const Command report_command = {
    .name = "report", .files = "MODEL", .min_files = 1, .max_files = 1, .options = tables, .run = report,
    .summary = "write a page about a compiled model: memory plan, lower bound, operations and bytes of every kernel, fused groups",
};
