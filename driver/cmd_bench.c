/* lathe bench: how fast a compiled model is, in several configurations side by side. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/batch.h"
#include "driver/chart.h"
#include "driver/commands.h"
#include "driver/data.h"
#include "driver/measure.h"
#include "driver/peers.h"
#include "driver/profile.h"

enum { FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV };
static const Option options[] = {
    {"--compare", OPT_LIST, "unfused,fused", "configurations: fused, unfused, O0 … O3, no-PASS; the first is what speed-ups refer to", offsetof(Request, compare)},
    {"--against", OPT_LIST, "ort,openvino", "beside other runtimes: ort, openvino, openvino-bf16, torch (read by onnx2torch, traced and frozen), of the Python that $PYTHON names (default: python3)", offsetof(Request, against)},
    {"--threads", OPT_LIST, "1,2", "numbers of threads (default: all processors)", offsetof(Request, threads)},
    {"--runs", OPT_COUNT, "N", "runs per configuration (default: about a second's worth)", offsetof(Request, runs)},
    {"--format", OPT_CHOICE, "table|json|csv", "what is printed", offsetof(Request, format)},
    {"--profile", OPT_FLAG, NULL, "the time of every kernel of the last configuration, with operations and bytes per second against what this machine can do", offsetof(Request, profile)},
    {"--trace", OPT_TEXT, "FILE.json", "write its fastest run for chrome://tracing or Perfetto (implies --profile)", offsetof(Request, trace)},
    {"--batch", OPT_TEXT, "NAME=1..512", "instead: latency and throughput with this dim at 1, 2, 4 … 512, on random inputs", offsetof(Request, batch)},
    {"--svg", OPT_TEXT, "FILE", "write a chart", offsetof(Request, svg)},
    {"--html", OPT_TEXT, "FILE", "write a page with chart and table", offsetof(Request, html)},
    {"--data", OPT_TEXTS, "DIR", "inputs as `lathe verify` takes them", offsetof(Request, data)},
    {0},
};
static const Option *const tables[] = {data_options, options, compile_options, build_options, help_options, NULL};

/* One configuration: a program and its prepared call. */
typedef struct Config {
    const char *name;
    Variant variant;
    Program program;
    Call call;
} Config;

typedef struct Bench {
    Driver *d;
    const Request *r;
    Config *config;
    uint32_t n_config;
    Threads threads;
    Profile *profile;     /* by number of threads; NULL: not asked for */
    Peers peers;
    Contender *contender; /* config-major: contender[c * threads.n + t], then those of the peers */
    uint32_t n_own, n_contender;
    const char **difference; /* of the peers' outputs from ours; NULL: no peers */
} Bench;

/* ---- configurations --------------------------------------------------------------------------------------------- */
static const char *const *disabled_with(Driver *d, const Request *r, const char *pass) {
    Texts list = {0};
    for (uint32_t i = 0; i < r->disable.n; i++) vec_push(&d->arena, &list, r->disable.v[i]);
    if (pass != NULL) vec_push(&d->arena, &list, pass);
    vec_push(&d->arena, &list, NULL);
    return list.v;
}

static bool config_named(Bench *b, const char *name, Variant *v) {
    *v = (Variant){.name = name, .level = -1, .disable = disabled_with(b->d, b->r, NULL)};
    if (strcmp(name, "fused") == 0) return true;
    if (name[0] == 'O' && name[1] >= '0' && name[1] <= '3' && name[2] == 0) {
        v->level = name[1] - '0';
        return true;
    }
    const char *pass = strcmp(name, "unfused") == 0 ? "fuse" : strncmp(name, "no-", 3) == 0 ? name + 3 : NULL;
    if (pass != NULL && args_is_pass(pass)) {
        v->disable = disabled_with(b->d, b->r, pass);
        return true;
    }
    driver_error(b->d, "--compare %s: expected fused, unfused, O0, O1, O2, O3 or no-PASS", name);
    return false;
}

static bool choose_configs(Bench *b) {
    static const char *const level_name[] = {"O0", "O1", "O2", "O3"};
    const char *only = b->r->level >= 0 ? level_name[b->r->level] : "O2";
    b->n_config = b->r->compare.n != 0 ? b->r->compare.n : 1;
    b->config = ARENA_ARRAY(&b->d->arena, Config, b->n_config);
    bool good = true;
    for (uint32_t i = 0; i < b->n_config; i++) {
        b->config[i].name = b->r->compare.n != 0 ? b->r->compare.v[i] : only;
        good = config_named(b, b->config[i].name, &b->config[i].variant) && good;
    }
    return good;
}

/* ---- preparing and running -------------------------------------------------------------------------------------- */
static int run_call(void *user, int threads) {
    Config *c = user;
    return call_run(&c->program, threads, &c->call);
}

static Exit prepare(Bench *b, const DataSet *set, const Sizes *sizes) {
    Exit e = DONE;
    for (uint32_t i = 0; e == DONE && i < b->n_config; i++) {
        Config *c = &b->config[i];
        e = program_make(b->d, b->r, &c->variant, sizes, &c->program);
        if (e == DONE) e = call_prepare(b->d, &c->program, set, &c->call);
    }
    return e;
}

static Exit check_errors(Bench *b) {
    Exit e = DONE;
    for (uint32_t i = 0; i < b->n_contender; i++) {
        const Contender *c = &b->contender[i];
        if (c->error == 0) continue;
        if (i < b->n_own) driver_error(b->d, "%s with %d threads stopped: %s (code %d)", c->name, c->threads, b->config[i / b->threads.n].program.error(c->error), c->error);
        else driver_error(b->d, "%s with %d threads stopped: %s", c->name, c->threads, b->peers.peer[i - b->n_own].error);
        e = DIFFERS;
    }
    return e;
}

static Exit time_all(Bench *b) {
    b->n_own = b->n_config * b->threads.n;
    b->n_contender = b->n_own + b->peers.n;
    b->contender = ARENA_ARRAY(&b->d->arena, Contender, b->n_contender);
    for (uint32_t i = 0; i < b->n_own; i++) {
        Config *c = &b->config[i / b->threads.n];
        b->contender[i] = (Contender){.name = c->name, .threads = b->threads.v[i % b->threads.n], .run = run_call, .user = c};
    }
    for (uint32_t i = 0; i < b->peers.n; i++) b->contender[b->n_own + i] = peer_contender(&b->peers.peer[i]);
    measure(b->d, b->contender, b->n_contender, b->r->runs);
    return check_errors(b);
}

/* How far the peers' outputs are from those of our first configuration. */
static void differences(Bench *b) {
    if (b->peers.n == 0) return;
    const Tensor *ours = call_outputs(b->d, &b->config[0].call);
    b->difference = ARENA_ARRAY(&b->d->arena, const char *, b->peers.n);
    for (uint32_t i = 0; i < b->peers.n; i++) b->difference[i] = peer_difference(&b->peers.peer[i], ours, b->config[0].program.n_out_group);
}

static const Contender *contender_of(const Bench *b, uint32_t config, uint32_t t) {
    return &b->contender[config * b->threads.n + t];
}

/* ---- printing --------------------------------------------------------------------------------------------------- */
static void peer_rows(const Bench *b, Table *t, uint32_t k) {
    for (uint32_t i = k; i < b->peers.n; i += b->threads.n) {
        const Contender *c = &b->contender[b->n_own + i];
        double flops = b->config[0].program.stats.flops;
        table_row(t, "%s,%d,%.4g,%.4g,%.2fx,%.1f,,,,,%u", c->name, c->threads, c->median * 1e3, c->minimum * 1e3, contender_of(b, 0, k)->median / c->median,
                  flops / c->median * 1e-9, c->n_sample);
        table_cell(t, b->difference[i]);
    }
}

static Table result_table(const Bench *b) {
    Table t = table_new(b->d, driver_format(b->d, "configuration,threads,median ms,min ms,speed-up,GFLOP/s,traffic,arena,weights,kernels,runs%s", b->peers.n != 0 ? ",difference" : ""));
    for (uint32_t k = 0; k < b->threads.n; k++) {
        for (uint32_t i = 0; i < b->n_config; i++) {
            const Contender *c = contender_of(b, i, k);
            const LatheStats *s = &b->config[i].program.stats;
            char traffic[32], arena[32], weights[32];
            table_row(&t, "%s,%d,%.4g,%.4g,%.2fx,%.1f,%s,%s,%s,%u,%u", c->name, c->threads, c->median * 1e3, c->minimum * 1e3,
                      contender_of(b, 0, k)->median / c->median, s->flops / c->median * 1e-9, size_text(traffic, sizeof traffic, s->traffic_bytes),
                      size_text(arena, sizeof arena, (double)s->arena_bytes), size_text(weights, sizeof weights, (double)s->weight_bytes), s->kernels, c->n_sample);
            if (b->peers.n != 0) table_cell(&t, "");
        }
        peer_rows(b, &t, k);
    }
    return t;
}

static void print_csv(const Bench *b) {
    printf("configuration,threads,median_ms,min_ms,runs,flops,traffic_bytes,arena_bytes,weight_bytes,kernels,compile_s,build_s,code_bytes\n");
    for (uint32_t i = 0; i < b->n_own; i++) {
        const Contender *c = &b->contender[i];
        const Program *p = &b->config[i / b->threads.n].program;
        printf("%s,%d,%.9g,%.9g,%u,%.0f,%.0f,%llu,%llu,%u,%.4f,%.4f,%zu\n", c->name, c->threads, c->median * 1e3, c->minimum * 1e3, c->n_sample, p->stats.flops,
               p->stats.traffic_bytes, (unsigned long long)p->stats.arena_bytes, (unsigned long long)p->stats.weight_bytes, p->stats.kernels, p->stats.seconds,
               p->build_seconds, p->code_bytes);
    }
    for (uint32_t i = b->n_own; i < b->n_contender; i++) {
        const Contender *c = &b->contender[i];
        printf("%s,%d,%.9g,%.9g,%u,,,,,,,,\n", c->name, c->threads, c->median * 1e3, c->minimum * 1e3, c->n_sample);
    }
}

static void print_json(const Bench *b) {
    Writer w = {.arena = &b->d->arena};
    const char *model = b->r->files.v[0], *cpu = machine_cpu(b->d);
    cw_open(&w, "{");
    cw_begin(&w);
    cw_printf(&w, "\"model\": ");
    json_string(&w, model);
    cw_printf(&w, ", \"cpu\": ");
    json_string(&w, cpu);
    cw_printf(&w, ", \"lathe\": \"%s\",\n", LATHE_VERSION);
    cw_open(&w, "\"results\": [");
    for (uint32_t i = 0; i < b->n_own; i++) {
        const Contender *c = &b->contender[i];
        const Program *p = &b->config[i / b->threads.n].program;
        cw_begin(&w);
        cw_printf(&w, "{\"configuration\": ");
        json_string(&w, c->name);
        cw_printf(&w, ", \"threads\": %d, \"median_ms\": %.9g, \"min_ms\": %.9g, \"runs\": %u, ", c->threads, c->median * 1e3, c->minimum * 1e3, c->n_sample);
        cw_printf(&w, "\"flops\": %.0f, \"traffic_bytes\": %.0f, \"arena_bytes\": %llu, \"arena_lower_bound\": %llu, \"weight_bytes\": %llu, ", p->stats.flops,
                  p->stats.traffic_bytes, (unsigned long long)p->stats.arena_bytes, (unsigned long long)p->stats.arena_lower_bound,
                  (unsigned long long)p->stats.weight_bytes);
        cw_printf(&w, "\"kernels\": %u, \"steps\": %u, \"compile_s\": %.4f, \"build_s\": %.4f, \"code_bytes\": %zu}%s\n", p->stats.kernels, p->stats.steps,
                  p->stats.seconds, p->build_seconds, p->code_bytes, i + 1 < b->n_contender ? "," : "");
    }
    for (uint32_t i = b->n_own; i < b->n_contender; i++) {
        const Contender *c = &b->contender[i];
        cw_begin(&w);
        cw_printf(&w, "{\"configuration\": ");
        json_string(&w, c->name);
        cw_printf(&w, ", \"threads\": %d, \"median_ms\": %.9g, \"min_ms\": %.9g, \"runs\": %u, \"difference\": ", c->threads, c->median * 1e3, c->minimum * 1e3, c->n_sample);
        json_string(&w, b->difference[i - b->n_own]);
        cw_printf(&w, "}%s\n", i + 1 < b->n_contender ? "," : "");
    }
    cw_close(&w, b->profile != NULL ? "]," : "]");
    for (uint32_t i = 0; b->profile != NULL && i < b->threads.n; i++) {
        cw_begin(&w);
        cw_printf(&w, i == 0 ? "\"profile\": [" : "");
        profile_json(&w, &b->profile[i]);
        cw_printf(&w, i + 1 < b->threads.n ? ",\n" : "]\n");
    }
    cw_close(&w, "}");
    fputs(cw_cstr(&w), stdout);
}

/* ---- charts ----------------------------------------------------------------------------------------------------- */
static const BarGroup *bar_groups(const Bench *b) {
    Driver *d = b->d;
    BarGroup *group = ARENA_ARRAY(&d->arena, BarGroup, b->threads.n);
    for (uint32_t k = 0; k < b->threads.n; k++) {
        uint32_t n = b->n_config + b->peers.n / b->threads.n;
        Bar *bar = ARENA_ARRAY(&d->arena, Bar, n);
        for (uint32_t i = 0; i < n; i++) { /* peers follow, kind by kind */
            const Contender *c = contender_of(b, i, k);
            double speed_up = contender_of(b, 0, k)->median / c->median;
            const char *text = i == 0 ? driver_format(d, "%.4g ms", c->median * 1e3) : driver_format(d, "%.4g ms, %.2fx", c->median * 1e3, speed_up);
            bar[i] = (Bar){.label = c->name, .value = c->median, .low = c->minimum, .text = text};
        }
        int threads = b->threads.v[k];
        group[k] = (BarGroup){driver_format(d, "%d thread%s", threads, threads == 1 ? "" : "s"), bar, n};
    }
    return group;
}

static Exit write_charts(const Bench *b) {
    const char *model = file_base_name(b->r->files.v[0]), *cpu = machine_cpu(b->d);
    Chart chart = {
        .title = driver_format(b->d, "%s: latency", model),
        .note = driver_format(b->d, "median of interleaved runs, tick: minimum; %s", cpu),
        .group = bar_groups(b),
        .n = b->threads.n,
    };
    Exit e = DONE;
    if (b->r->svg != NULL) {
        Writer w = {.arena = &b->d->arena};
        chart_svg(&w, &chart);
        if (!driver_write_file(b->d, b->r->svg, w.text, w.n)) e = BROKEN;
    }
    if (b->r->html != NULL) {
        Writer w = {.arena = &b->d->arena};
        Table t = result_table(b);
        html_open(&w, driver_format(b->d, "lathe bench: %s", model));
        chart_svg(&w, &chart);
        html_table(&w, &t);
        html_paragraph(&w, "Speed-up: median of the first configuration over the median. Traffic: bytes all kernels of one run read and write. "
                           "Arena: working memory. Configurations take turns in rounds.");
        for (uint32_t i = 0; b->profile != NULL && i < b->threads.n; i++) {
            Table kernels = profile_table(b->d, &b->profile[i]);
            html_heading(&w, "Kernels");
            html_paragraph(&w, profile_summary(b->d, &b->profile[i]));
            html_table(&w, &kernels);
        }
        html_close(&w);
        if (!driver_write_file(b->d, b->r->html, w.text, w.n)) e = BROKEN;
    }
    return e;
}

static void print_results(const Bench *b) {
    if (b->r->format == FORMAT_JSON) {
        print_json(b);
    } else if (b->r->format == FORMAT_CSV) {
        print_csv(b);
    } else {
        Table t = result_table(b);
        table_print(&t, stdout);
        for (uint32_t i = 0; b->profile != NULL && i < b->threads.n; i++) {
            Table kernels = profile_table(b->d, &b->profile[i]);
            printf("\n%s\n", profile_summary(b->d, &b->profile[i]));
            table_print(&kernels, stdout);
        }
    }
}

static Exit profile_all(Bench *b, const DataSet *set, const Sizes *sizes) {
    if (!b->r->profile && b->r->trace == NULL) return DONE;
    Exit e = DONE;
    b->profile = ARENA_ARRAY(&b->d->arena, Profile, b->threads.n);
    for (uint32_t i = 0; e == DONE && i < b->threads.n; i++) e = profile_make(b->d, b->r, &b->config[b->n_config - 1].variant, set, sizes, b->threads.v[i], &b->profile[i]);
    if (e == DONE && b->r->trace != NULL && !profile_trace(b->d, b->r->trace, &b->profile[b->threads.n - 1])) e = BROKEN;
    return e;
}

/* ---- the command ------------------------------------------------------------------------------------------------ */
static Exit inputs(Bench *b, DataSet *set, Sizes *sizes) {
    DataSets sets;
    Exit e = data_open(b->d, b->r, &sets, sizes);
    if (e != DONE) return e;
    if (sets.n != 0) {
        *set = sets.v[0];
        return DONE;
    }
    RandomCase c;
    e = random_case(b->d, b->r, &c);
    if (e != DONE) return e;
    driver_note(b->d, "random inputs%s", c.description);
    *set = c.set;
    *sizes = c.sizes;
    program_free(&c.program);
    return DONE;
}

static Exit bench(Driver *d, const Request *r) {
    Bench b = {.d = d, .r = r};
    bool good = threads_all(d, r, &b.threads);
    good = choose_configs(&b) && good;
    good = peers_named(d, r) && good;
    if (!good) return BAD_USAGE;
    if (b.threads.n == 0) vec_push(&d->arena, &b.threads, (int)sysconf(_SC_NPROCESSORS_ONLN));
    if (r->batch != NULL) return batch_curve(d, r, &b.threads);
    DataSet set;
    Sizes sizes;
    Exit e = inputs(&b, &set, &sizes);
    if (e == DONE) e = prepare(&b, &set, &sizes);
    if (e == DONE) e = peers_start(d, r, &set, &b.threads, &b.peers);
    if (e == DONE) e = time_all(&b);
    if (e == DONE) differences(&b);
    if (e == DONE) e = profile_all(&b, &set, &sizes);
    if (e == DONE) {
        print_results(&b);
        e = write_charts(&b);
    }
    peers_end(&b.peers);
    for (uint32_t i = 0; i < b.n_config; i++) {
        call_free(&b.config[i].call);
        program_free(&b.config[i].program);
    }
    return e;
}

const Command bench_command = {
    .name = "bench", .files = "MODEL", .min_files = 1, .max_files = 1, .options = tables, .run = bench,
    .summary = "time a compiled model, configurations side by side",
};
