/* lathe opt and lathe export: the IR seen from the command line. */
#include <stdlib.h>

#include "driver/commands.h"
#include "driver/program.h"

static const Option opt_options[] = {
    {"--run", OPT_TEXT, "PASS,…", "passes to run, in this order", offsetof(Request, run)},
    {"-o", OPT_TEXT, "FILE", "write the IR here instead of standard output", offsetof(Request, output)},
    {0},
};
static const Option export_options[] = {
    {"-o", OPT_TEXT, "FILE.onnx", "the file to write", offsetof(Request, output)},
    {"--run", OPT_TEXT, "PASS,…", "passes to run before (default: infer_shapes)", offsetof(Request, run)},
    {"--checkpoint", OPT_TEXT, "FILE.safetensors", "trained weights, as NAME_save wrote them, into the model's constants of the same names", offsetof(Request, checkpoint)},
    {"--round-weights", OPT_FLAG, NULL, "weights behind a QuantizeLinear become the integers they are rounded to (after training a model of lathe quantize --qat)", offsetof(Request, round_weights)},
    {0},
};
static const Option *const opt_tables[] = {opt_options, compile_options, help_options, NULL};
static const Option *const export_tables[] = {export_options, compile_options, help_options, NULL};

static Exit opened(Driver *d, const Request *r, const char *passes, LatheModel **m) {
    Exit e = DONE;
    *m = model_open(d, r->files.n != 0 ? r->files.v[0] : "-", &e);
    if (*m == NULL) return e;
    LatheOptions o = request_options(d, r, NULL);
    LatheStatus status = LATHE_OK;
    if (passes != NULL) status = lathe_run_passes(*m, passes, &o);
    else if (r->dims.n != 0) status = lathe_set_dims(*m, o.dims);
    return status == LATHE_OK ? DONE : driver_model_failed(d, *m, status);
}

static Exit print_to_file(Driver *d, const char *path, LatheModel *m) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    LatheStatus status = f != NULL ? lathe_print_ir(m, f) : LATHE_ERROR_FILE;
    if (f != NULL && fclose(f) != 0) status = LATHE_ERROR_FILE;
    Exit e = status == LATHE_OK ? DONE : BROKEN;
    if (e == DONE && !driver_write_file(d, path, text, n)) e = BROKEN;
    free(text);
    return e;
}

static Exit opt(Driver *d, const Request *r) {
    LatheModel *m;
    Exit e = opened(d, r, r->run, &m);
    if (e == DONE) {
        driver_model_notes(d, m);
        if (r->output != NULL) {
            e = print_to_file(d, r->output, m);
        } else {
            LatheStatus status = lathe_print_ir(m, stdout);
            if (status != LATHE_OK) e = driver_model_failed(d, m, status);
        }
    }
    lathe_model_free(m);
    return e;
}

static Exit export(Driver *d, const Request *r) {
    if (r->output == NULL) {
        driver_error(d, "the output file is missing: lathe export %s -o FILE.onnx", r->files.v[0]);
        return BAD_USAGE;
    }
    LatheModel *m;
    Exit e = opened(d, r, r->run != NULL ? r->run : "infer_shapes", &m);
    if (e == DONE) {
        LatheStatus status = r->checkpoint != NULL ? lathe_load_checkpoint(m, r->checkpoint) : LATHE_OK;
        if (status == LATHE_OK && r->round_weights) status = lathe_round_weights(m);
        if (status == LATHE_OK) status = lathe_export_onnx(m, r->output);
        if (status != LATHE_OK) e = driver_model_failed(d, m, status);
        else driver_model_notes(d, m);
    }
    lathe_model_free(m);
    return e;
}

const Command opt_command = {
    .name = "opt", .files = "[MODEL]", .min_files = 0, .max_files = 1, .options = opt_tables, .run = opt,
    .summary = "run passes on a model (without one: IR text from standard input) and print its IR",
};
const Command export_command = {
    .name = "export", .files = "MODEL", .min_files = 1, .max_files = 1, .options = export_tables, .run = export,
    .summary = "write a model as ONNX",
};
