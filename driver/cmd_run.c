/* lathe run: a model on given inputs, outputs to .npy files. */
#include <string.h>

#include "driver/commands.h"
#include "driver/files.h"
#include "driver/text.h"
#include "driver/values.h"

static const Option options[] = {
    {"--output", OPT_TEXT, "DIR", "directory for the outputs, one NAME.npy each", offsetof(Request, output)},
    {"-o", OPT_TEXT, "DIR", "the same", offsetof(Request, output)},
    {"--threads", OPT_LIST, "N", "threads (default: all)", offsetof(Request, threads)},
    {0},
};
static const Option *const tables[] = {data_options, options, compile_options, build_options, help_options, NULL};

/* A file name for an output: letters, digits and -_.+ stay, the rest becomes _. */
static const char *file_name(Driver *d, const Tensor *t) {
    char *name = driver_format(d, "%s", t->name[0] != 0 ? t->name : "output");
    for (char *c = name; *c != 0; c++)
        if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_+.", *c) == NULL) *c = '_';
    if (name[0] == '.') name[0] = '_';
    return name;
}

/* Names that have become equal get a number. */
static const char *output_path(Driver *d, const char *dir, const Tensor *t, uint32_t i) {
    const char *name = file_name(d, &t[i]);
    bool taken = false;
    for (uint32_t k = 0; k < i; k++) taken = taken || strcmp(file_name(d, &t[k]), name) == 0;
    return taken ? driver_format(d, "%s/%s.%u.npy", dir, name, i) : driver_format(d, "%s/%s.npy", dir, name);
}

static Exit write_outputs(Driver *d, const Request *r, const Program *p, const Tensor *value) {
    Tensors leaves = {0};
    if (value == NULL || !driver_make_dirs(d, r->output, true)) return BROKEN;
    for (uint32_t i = 0; i < p->n_out_group; i++) value_leaves(d, &value[i], &leaves);
    const Tensor *t = leaves.v;
    for (uint32_t i = 0; i < leaves.n; i++) {
        const char *path = output_path(d, r->output, t, i);
        if (!tensor_write_npy(d, path, &t[i])) return BROKEN;
        printf("%s %s[%s]\n", path, element_name(t[i].number), shape_text(d, t[i].rank, t[i].dim));
    }
    return DONE;
}

static Exit run_set(Driver *d, const Request *r, Program *p, const DataSet *set, int threads) {
    Call c;
    Exit e = call_prepare(d, p, set, &c);
    if (e != DONE) return e;
    int code = call_run(p, threads, &c);
    if (code != 0) {
        driver_error(d, "the model stopped: %s (code %d)", p->error(code), code);
        e = DIFFERS;
    } else {
        e = write_outputs(d, r, p, call_outputs(d, &c));
    }
    call_free(&c);
    return e;
}

static Exit run(Driver *d, const Request *r) {
    int threads;
    if (r->output == NULL) {
        driver_error(d, "the output directory is missing: lathe run %s … --output DIR", r->files.v[0]);
        return BAD_USAGE;
    }
    if (!threads_one(d, r, &threads)) return BAD_USAGE;
    DataSets sets;
    Sizes sizes;
    Exit e = data_open(d, r, &sets, &sizes);
    if (e != DONE) return e;
    if (sets.n == 0) {
        driver_error(d, "no inputs given: use --input [NAME=]FILE or --inputs FILE.npz; `lathe info %s` lists the inputs", r->files.v[0]);
        return BAD_USAGE;
    }
    Program p;
    e = program_make(d, r, NULL, &sizes, &p);
    if (e != DONE) return e;
    e = run_set(d, r, &p, &sets.v[0], threads);
    program_free(&p);
    return e;
}

const Command run_command = {
    .name = "run", .files = "MODEL", .min_files = 1, .max_files = 1, .options = tables, .run = run,
    .summary = "run a model on inputs from .npy, .npz or .pb files",
};
