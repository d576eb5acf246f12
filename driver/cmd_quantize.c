/* lathe quantize: post-training quantization of a model to a standard ONNX file, with a report.
 *
 * Calibration runs emitted C: the model with probes in it is compiled, built and run on every set of the calibration data,
 * as often as the scheme needs (ranges, histograms; one round per layer for GPTQ). The result is compared with the
 * float model on the same data. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/commands.h"
#include "driver/data.h"
#include "driver/files.h"
#include "driver/measure.h"
#include "driver/quantize_report.h"

static const Option options[] = {
    {"--calib", OPT_TEXT, "DIR", "calibration data: .npz files with inputs by name, or .npy files for a model with one input; labels.npy: a label per entry", offsetof(Request, quantize.calib)},
    {"--test", OPT_TEXT, "DIR", "data to compare float and quantized model on (default: the calibration data)", offsetof(Request, quantize.test)},
    {"--scheme", OPT_CHOICE, "static|dynamic|int8|int4", "static: 8-bit weights and activations (QDQ, needs --calib); dynamic: activations per token at run time; int8, int4: weights only", offsetof(Request, quantize.scheme)},
    {"--range", OPT_CHOICE, "minmax|percentile|entropy|mse", "static: which part of the calibrated range the codes cover", offsetof(Request, quantize.range)},
    {"--percentile", OPT_REAL, "P", "for --range percentile (default 99.99)", offsetof(Request, quantize.percentile)},
    {"--symmetric", OPT_FLAG, NULL, "zero points 0: activations as s8; weights only: no zero points", offsetof(Request, quantize.symmetric)},
    {"--per-tensor", OPT_FLAG, NULL, "one scale per weight instead of one per output channel", offsetof(Request, quantize.per_tensor)},
    {"--weight-bits", OPT_COUNT, "8|4", "static: bits of weights (default 8)", offsetof(Request, quantize.weight_bits)},
    {"--qat", OPT_FLAG, NULL, "static: weights stay floats that the graph rounds, for lathe compile --train; lathe export --round-weights makes integers of them", offsetof(Request, quantize.qat)},
    {"--group", OPT_COUNT, "N", "weights only: weights that share a scale, a power of two from 16 (default: a row for int8, 32 for int4)", offsetof(Request, quantize.group)},
    {"--gptq", OPT_FLAG, NULL, "weights only, dynamic: GPTQ instead of rounding to nearest (needs --calib)", offsetof(Request, quantize.gptq)},
    {"--act-order", OPT_FLAG, NULL, "GPTQ: most active inputs first", offsetof(Request, quantize.act_order)},
    {"--outliers", OPT_COUNT, "N", "dynamic: so many inputs of every layer, the largest on the calibration data, are multiplied in floats (QUIK; needs --calib)", offsetof(Request, quantize.outliers)},
    {"--smooth", OPT_REAL, "ALPHA", "static, dynamic: SmoothQuant, usually with 0.5 (needs --calib)", offsetof(Request, quantize.smooth)},
    {"--awq", OPT_FLAG, NULL, "weights only: AWQ, inputs with strong channels are scaled down and their weights up (needs --calib)", offsetof(Request, quantize.awq)},
    {"--equalize", OPT_FLAG, NULL, "channels between two layers are scaled so that the weights on both sides are of equal size", offsetof(Request, quantize.equalize)},
    {"--bias-correction", OPT_FLAG, NULL, "static: biases make up for what rounded weights change on average", offsetof(Request, quantize.bias_correction)},
    {"--int8-activations", OPT_FLAG, NULL, "weights only: inputs may be rounded to 8 bits per group as they are read, which is faster", offsetof(Request, quantize.int8_activations)},
    {"--keep", OPT_TEXTS, "LAYER", "a layer that stays in floats, by its name (may be repeated)", offsetof(Request, quantize.keep)},
    {"--max-loss", OPT_TEXT, "0.5%", "keep the most sensitive layers in floats until no more than this is lost: of accuracy with labels, of same first choices, else of the outputs' size", offsetof(Request, quantize.max_loss)},
    {"-o", OPT_TEXT, "FILE.onnx", "the file to write; the report goes beside it as .html and .json", offsetof(Request, output)},
    {0},
};
static const Option *const tables[] = {options, compile_options, build_options, help_options, NULL};
static const char *const scheme_names[] = {"static", "dynamic", "int8", "int4"};

typedef struct Job {
    Driver *d;
    const Request *r;
    DataSets sets, test; /* test: what the models are compared on */
    Tensor labels;
    Sizes sizes;
    LatheCalibration *c;
    Progress progress;
} Job;

/* ---- options ------------------------------------------------------------------------------------------------------- */
static bool is_power_of_two(int64_t n) { return n >= 16 && (n & (n - 1)) == 0; }

static bool parse_loss(const char *text, double *loss) {
    char *end;
    *loss = strtod(text, &end);
    if (end == text || (*end != 0 && strcmp(end, "%") != 0)) return false;
    if (*end == '%') *loss /= 100;
    return *loss >= 0 && *loss < 1;
}

static bool check_options(Driver *d, const Request *r) {
    const QuantizeRequest *q = &r->quantize;
    bool weights = q->scheme >= LATHE_QUANTIZE_WEIGHT8, good = true;
    if (r->output == NULL) driver_error(d, "the output file is missing: lathe quantize %s … -o FILE.onnx", r->files.v[0]), good = false;
    if ((q->scheme == LATHE_QUANTIZE_STATIC || q->gptq) && q->calib == NULL) driver_error(d, "%s needs calibration data: --calib DIR", q->gptq ? "--gptq" : "the static scheme"), good = false;
    if (q->gptq && q->scheme == LATHE_QUANTIZE_STATIC) driver_error(d, "--gptq is for --scheme int8, int4 or dynamic"), good = false;
    if (q->gptq && q->scheme == LATHE_QUANTIZE_DYNAMIC && q->per_tensor) driver_error(d, "--gptq rounds with a scale per output channel: not with --per-tensor"), good = false;
    bool is_static = q->scheme == LATHE_QUANTIZE_STATIC;
    if (q->weight_bits != 0 && (!is_static || (q->weight_bits != 8 && q->weight_bits != 4))) driver_error(d, "--weight-bits: 8 or 4, with --scheme static"), good = false;
    if (q->qat && (!is_static || q->bias_correction)) driver_error(d, "--qat is for --scheme static, without --bias-correction: training moves the biases"), good = false;
    if (q->outliers != 0 && (q->scheme != LATHE_QUANTIZE_DYNAMIC || q->smooth > 0 || q->per_tensor || q->outliers > 1 << 20)) driver_error(d, "--outliers N: with --scheme dynamic, without --smooth and --per-tensor"), good = false;
    if (q->outliers != 0 && q->calib == NULL) driver_error(d, "--outliers needs calibration data: --calib DIR"), good = false;
    if ((q->smooth > 0 || q->awq) && q->calib == NULL) driver_error(d, "%s needs calibration data: --calib DIR", q->awq ? "--awq" : "--smooth"), good = false;
    if (q->smooth > 1 || (q->smooth > 0 && weights)) driver_error(d, "--smooth: from 0 to 1, with --scheme static or dynamic"), good = false;
    if (q->awq && !weights) driver_error(d, "--awq is for --scheme int8 or int4"), good = false;
    if (q->group != 0 && (!weights || !is_power_of_two(q->group) || q->group > 1 << 20)) driver_error(d, "--group %lld: a power of two from 16, with --scheme int8 or int4", (long long)q->group), good = false;
    double loss;
    if (q->max_loss != NULL && (!parse_loss(q->max_loss, &loss) || (q->calib == NULL && q->test == NULL))) driver_error(d, "--max-loss %s: a fraction or percentage, with --calib or --test", q->max_loss), good = false;
    if (q->percentile >= 0 && !(q->percentile > 50 && q->percentile <= 100)) driver_error(d, "--percentile %g: above 50, at most 100", q->percentile), good = false;
    return good;
}

static LatheQuantization settings(Driver *d, const Request *r) {
    const QuantizeRequest *q = &r->quantize;
    LatheQuantization s = lathe_quantization();
    Texts keep = {0};
    for (uint32_t i = 0; i < q->keep.n; i++) vec_push(&d->arena, &keep, q->keep.v[i]);
    vec_push(&d->arena, &keep, NULL);
    s.scheme = (LatheScheme)q->scheme;
    s.range = (LatheRange)q->range;
    if (q->percentile >= 0) s.percentile = q->percentile;
    s.symmetric = q->symmetric;
    s.per_tensor = q->per_tensor;
    s.group = q->group != 0 ? (uint32_t)q->group : s.scheme == LATHE_QUANTIZE_WEIGHT4 ? 32 : 0;
    s.weight_bits = (uint32_t)q->weight_bits;
    s.train = q->qat;
    s.gptq = q->gptq;
    s.act_order = q->act_order;
    s.outliers = (uint32_t)q->outliers;
    s.smooth = q->smooth;
    s.awq = q->awq;
    s.equalize = q->equalize;
    s.bias_correction = q->bias_correction;
    s.int8_activations = q->int8_activations;
    s.keep = keep.v;
    return s;
}

/* ---- calibration ---------------------------------------------------------------------------------------------------- */
static Exit problem(Job *j) {
    driver_error(j->d, "%s", lathe_calibration_problem(j->c));
    return DIFFERS;
}

static LatheStatus add_probes(LatheModel *m, void *user) {
    Job *j = user;
    return lathe_calibration_probe(m, j->c);
}

static Exit run_probe(Job *j, Program *p) {
    const char *step = lathe_calibration_step(j->c);
    for (uint32_t i = 0; i < j->sets.n; i++) {
        progress_step(&j->progress, step, (double)i / j->sets.n);
        Call call;
        Exit e = call_prepare(j->d, p, &j->sets.v[i], &call);
        if (e != DONE) return e;
        int code = call_run(p, 0, &call);
        if (code != 0) driver_error(j->d, "%s: the model stopped: %s (code %d)", j->sets.v[i].name, p->error(code), code), e = DIFFERS;
        else if (lathe_calibration_add(j->c, (const void *const *)call.out) != LATHE_OK) e = problem(j);
        call_free(&call);
        if (e != DONE) return e;
    }
    return DONE;
}

static Exit calibrate(Job *j) {
    while (lathe_calibration_pending(j->c)) {
        Program p;
        Exit e = program_make(j->d, j->r, &(Variant){.name = "probe", .level = j->r->level, .change = add_probes, .user = j}, &j->sizes, &p);
        if (e != DONE) return lathe_calibration_problem(j->c)[0] != 0 ? problem(j) : e;
        e = run_probe(j, &p);
        program_free(&p);
        if (e != DONE) return e;
        if (lathe_calibration_end_round(j->c) != LATHE_OK) return problem(j);
    }
    return DONE;
}

static Exit read_data(Job *j) {
    Exit e = DONE;
    LatheModel *m = model_open_with_dims(j->d, j->r, &e);
    if (m == NULL) return e;
    if (j->r->quantize.calib != NULL) e = data_calibration(j->d, m, j->r->quantize.calib, &j->sets, &j->labels);
    j->test = j->sets;
    if (e == DONE && j->r->quantize.test != NULL) {
        j->test = (DataSets){0};
        e = data_calibration(j->d, m, j->r->quantize.test, &j->test, &j->labels);
    }
    if (e == DONE) j->sizes = data_sizes(j->d, m, &j->sets);
    lathe_model_free(m);
    return e;
}

/* ---- the result -------------------------------------------------------------------------------------------------------- */
/* --dim is for the runs here: the file keeps the model's dims. */
static Exit write_model(Job *j, const char *path) {
    Exit e = DONE;
    LatheModel *m = model_open(j->d, j->r->files.v[0], &e);
    if (m == NULL) return e;
    LatheStatus status = lathe_quantize(m, j->c);
    if (status != LATHE_OK && lathe_calibration_problem(j->c)[0] != 0) e = problem(j);
    else if (status == LATHE_OK) status = lathe_export_onnx(m, path);
    if (e == DONE && status != LATHE_OK) e = driver_model_failed(j->d, m, status);
    lathe_model_free(m);
    return e;
}

static uint64_t file_bytes(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 ? (uint64_t)s.st_size : 0;
}

static int run_once(void *user, int threads) {
    Call *c = user;
    return call_run((Program *)(uintptr_t)c->p, threads, c);
}

/* Entry i of the batch: position of its largest element. */
static int64_t first_choice(const float *v, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

typedef struct Tally { double signal, noise; int64_t entries, same, right, float_right; } Tally;

/* A model that gives a row of scores per entry of the batch is compared by its choices, too. */
static void compare_choices(Job *j, const Tensor *a, const Tensor *b, Tally *t) {
    if (a->rank != 2 || a->number != LATHE_F32 || a->dim[1] < 2) return;
    for (int64_t i = 0; i < a->dim[0]; i++, t->entries++) {
        int64_t x = first_choice((const float *)a->data + i * a->dim[1], a->dim[1]), y = first_choice((const float *)b->data + i * a->dim[1], a->dim[1]);
        t->same += x == y;
        if (j->labels.data == NULL || t->entries >= tensor_count(&j->labels)) continue;
        double label = element_f64(j->labels.number, j->labels.data, t->entries);
        t->float_right += (double)x == label;
        t->right += (double)y == label;
    }
}

static Exit compare_set(Job *j, Program *p, uint32_t set, Tally *t) {
    Call call[2] = {{0}};
    Exit e = DONE;
    for (int k = 0; k < 2 && e == DONE; k++) {
        e = call_prepare(j->d, &p[k], &j->test.v[set], &call[k]);
        int code = e == DONE ? call_run(&p[k], 0, &call[k]) : 0;
        if (code != 0) driver_error(j->d, "the %s model stopped: %s", k == 0 ? "float" : "quantized", p[k].error(code)), e = DIFFERS;
    }
    if (e == DONE) {
        const Tensor *a = call_outputs(j->d, &call[0]), *b = call_outputs(j->d, &call[1]);
        for (uint32_t o = 0; o < p[0].n_out_group; o++) {
            if (a[o].kind != TENSOR || a[o].number != LATHE_F32 || a[o].bytes != b[o].bytes) continue;
            const float *x = a[o].data, *y = b[o].data;
            for (size_t i = 0; i < a[o].bytes / 4; i++) {
                t->signal += (double)x[i] * (double)x[i];
                t->noise += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
            }
        }
        compare_choices(j, &a[0], &b[0], t);
    }
    call_free(&call[0]);
    call_free(&call[1]);
    return e;
}

static Exit time_both(Job *j, Program *p, QuantizeOutcome *o) {
    Call call[2] = {{0}};
    Contender contender[2] = {{.name = "float", .threads = 1, .run = run_once, .user = &call[0]}, {.name = "quantized", .threads = 1, .run = run_once, .user = &call[1]}};
    Exit e = call_prepare(j->d, &p[0], &j->test.v[0], &call[0]);
    if (e == DONE) e = call_prepare(j->d, &p[1], &j->test.v[0], &call[1]);
    if (e == DONE) {
        measure(j->d, contender, 2, 0);
        o->float_seconds = contender[0].median;
        o->seconds = contender[1].median;
    }
    call_free(&call[0]);
    call_free(&call[1]);
    return e;
}

/* Float and quantized model side by side on the calibration data. */
static Exit compare(Job *j, const char *path, QuantizeOutcome *o) {
    Request quantized = *j->r;
    quantized.files = (Texts){0};
    vec_push(&j->d->arena, &quantized.files, path);
    Program p[2] = {{0}};
    Tally t = {0};
    Exit e = program_make(j->d, j->r, NULL, &j->sizes, &p[0]);
    if (e != DONE) return e;
    e = program_make(j->d, &quantized, NULL, &j->sizes, &p[1]);
    for (uint32_t i = 0; i < j->test.n && e == DONE; i++) {
        progress_step(&j->progress, "comparing", (double)i / j->test.n);
        e = compare_set(j, p, i, &t);
    }
    if (e == DONE) e = time_both(j, p, o);
    if (e == DONE) {
        o->sqnr = t.noise > 0 ? 10 * log10(t.signal / t.noise) : INFINITY;
        if (t.entries != 0) o->agreement = (double)t.same / (double)t.entries;
        if (t.entries != 0 && j->labels.data != NULL) o->accuracy = (double)t.right / (double)t.entries, o->float_accuracy = (double)t.float_right / (double)t.entries;
        program_free(&p[1]);
    }
    program_free(&p[0]);
    return e;
}

/* FILE.onnx and a new ending. */
static const char *beside(Driver *d, const char *path, const char *ending) {
    size_t n = strlen(path);
    if (n > 5 && strcmp(path + n - 5, ".onnx") == 0) n -= 5;
    return driver_format(d, "%.*s%s", (int)n, path, ending);
}

/* ---- mixed precision ------------------------------------------------------------------------------------------------------- */
static const char **layer_names(Job *j, uint32_t *n) {
    *n = lathe_quantized_layer_count(j->c);
    const char **names = ARENA_ARRAY(&j->d->arena, const char *, *n + 1);
    for (uint32_t i = 0; i < *n; i++) names[i] = lathe_quantized_layer(j->c, i).name;
    return names;
}

/* What is lost: accuracy, same first choices, or the relative size of the error. */
static double loss_of(const QuantizeOutcome *o) {
    if (o->accuracy >= 0) return o->float_accuracy - o->accuracy;
    if (o->agreement >= 0 && o->agreement < 1) return 1 - o->agreement;
    return isinf(o->sqnr) ? 0 : pow(10, -o->sqnr / 20);
}

/* The model with these layers in floats, measured. */
static Exit try_keeping(Job *j, const char *const *keep, QuantizeOutcome *o) {
    lathe_calibration_keep(j->c, keep);
    Exit e = write_model(j, j->r->output);
    if (e == DONE) e = compare(j, j->r->output, o);
    o->bytes = file_bytes(j->r->output);
    return e;
}

typedef struct Sensitivity { const char *name; double sqnr; } Sensitivity;

static int by_sqnr(const void *a, const void *b) {
    const Sensitivity *x = a, *y = b;
    return x->sqnr < y->sqnr ? -1 : x->sqnr > y->sqnr;
}

/* The layers, the most sensitive first: each is quantized alone. */
static Exit measure_layers(Job *j, QuantizeOutcome o, Sensitivity *layer, const char **names, uint32_t n) {
    const char **keep = ARENA_ARRAY(&j->d->arena, const char *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = 0;
        for (uint32_t other = 0; other < n; other++)
            if (other != i) keep[k++] = names[other];
        keep[k] = NULL;
        Exit e = try_keeping(j, keep, &o);
        if (e != DONE) return e;
        layer[i] = (Sensitivity){names[i], o.sqnr};
    }
    qsort(layer, n, sizeof *layer, by_sqnr);
    return DONE;
}

static void print_try(const QuantizeTry *t) {
    char accuracy[16] = "-";
    if (t->accuracy >= 0) snprintf(accuracy, sizeof accuracy, "%.2f", t->accuracy * 100);
    printf("%15u | %6.3f | %10s | %10.1f | %.3g | %.2f%s%s\n", t->kept, t->loss * 100, accuracy, t->sqnr, t->seconds * 1e3, (double)t->bytes / 1e6, t->last != NULL ? " | with " : "", t->last != NULL ? t->last : "");
}

/* Keeps more and more layers until the loss is small enough; o starts as the outcome with none. Prints a row for each try. */
static Exit mix(Job *j, double most, QuantizeOutcome *o) {
    uint32_t n;
    const char **names = layer_names(j, &n), **keep = ARENA_ARRAY(&j->d->arena, const char *, n + 1);
    Sensitivity *layer = ARENA_ARRAY(&j->d->arena, Sensitivity, n);
    Exit e = measure_layers(j, *o, layer, names, n);
    progress_clear(j->d);
    printf("layers in float | loss %% | accuracy %% | outputs dB | ms | MB\n");
    for (uint32_t k = 0; k <= n && e == DONE; k += k < 4 ? 1 : k / 2) {
        for (uint32_t i = 0; i < k; i++) keep[i] = layer[i].name;
        keep[k] = NULL;
        e = try_keeping(j, keep, o);
        progress_clear(j->d);
        QuantizeTry t = {k, k > 0 ? layer[k - 1].name : NULL, loss_of(o), o->accuracy, o->sqnr, o->seconds, o->bytes};
        if (e == DONE) vec_push(&j->d->arena, &o->tries, t);
        if (e == DONE) print_try(&t);
        if (e == DONE && loss_of(o) <= most) return DONE;
    }
    if (e == DONE) driver_note(j->d, "the loss stays above --max-loss; the last row is what was written");
    return e;
}

/* On an error nothing is left behind. */
static void remove_result(Driver *d, const char *output) {
    unlink(output);
    unlink(beside(d, output, ".html"));
    unlink(beside(d, output, ".json"));
}

static Exit quantize(Driver *d, const Request *r) {
    if (!check_options(d, r)) return BAD_USAGE;
    LatheQuantization q = settings(d, r);
    Job j = {.d = d, .r = r, .progress = progress_start(d)};
    Exit e = read_data(&j);
    if (e != DONE) return e;
    j.c = lathe_calibration_new(&q);
    if (j.c == NULL) return BROKEN;
    e = calibrate(&j);
    if (e == DONE) e = write_model(&j, r->output);
    QuantizeOutcome o = {.model = r->files.v[0], .output = r->output, .scheme = scheme_names[r->quantize.scheme], .float_seconds = -1, .seconds = -1, .sqnr = -1e30, .agreement = -1,
                         .accuracy = -1, .float_accuracy = -1, .sets = j.test.n, .float_bytes = file_bytes(r->files.v[0]), .bytes = file_bytes(r->output)};
    if (e == DONE && j.test.n != 0) e = compare(&j, r->output, &o);
    double most;
    if (e == DONE && r->quantize.max_loss != NULL && parse_loss(r->quantize.max_loss, &most) && loss_of(&o) > most) e = mix(&j, most, &o);
    progress_clear(d);
    if (e == DONE && !quantize_report(d, beside(d, r->output, ".html"), beside(d, r->output, ".json"), &o, j.c)) e = BROKEN;
    if (e == DONE) quantize_print(&o, j.c);
    else remove_result(d, r->output);
    lathe_calibration_free(j.c);
    return e;
}

const Command quantize_command = {
    .name = "quantize", .files = "MODEL", .min_files = 1, .max_files = 1, .options = tables, .run = quantize,
    .summary = "8- and 4-bit models from float ones: a standard ONNX file, and a report",
};
