#include "driver/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "driver/chart.h"
#include "driver/data.h"
#include "driver/machine.h"
#include "driver/measure.h"

enum { POINTS_MAX = 40, BATCH_MAX = 1 << 20 };

typedef struct Point { int64_t batch; double *seconds; uint64_t arena; } Point; /* seconds: medians, by number of threads */
typedef struct Curve { Driver *d; const Request *r; const Threads *threads; Point point[POINTS_MAX]; uint32_t n; } Curve;

static int run_call(void *user, int threads) {
    Call *c = user;
    return call_run((Program *)(uintptr_t)c->p, threads, c);
}

/* "N=1..512" to its parts; the name may hold anything. */
static bool read_range(Driver *d, const char *text, const char **name, int64_t *lo, int64_t *hi) {
    const char *equals = strrchr(text, '=');
    char *end = NULL;
    if (equals != NULL) *lo = strtoll(equals + 1, &end, 10), *hi = *lo;
    if (equals != NULL && end != equals + 1 && end[0] == '.' && end[1] == '.') *hi = strtoll(end + 2, &end, 10);
    if (equals == NULL || equals == text || *end != 0 || *lo < 1 || *hi < *lo || *hi > BATCH_MAX) {
        driver_error(d, "--batch %s: expected NAME=LOW..HIGH with 1 <= LOW <= HIGH <= %d", text, BATCH_MAX);
        return false;
    }
    *name = arena_strdup(&d->arena, text, (size_t)(equals - text));
    return true;
}

static Exit time_point(Curve *c, const char *name, int64_t batch) {
    Driver *d = c->d;
    Request pinned = *c->r;
    RandomCase random;
    Call call;
    pinned.dims = (Texts){0};
    for (uint32_t i = 0; i < c->r->dims.n; i++) vec_push(&d->arena, &pinned.dims, c->r->dims.v[i]);
    vec_push(&d->arena, &pinned.dims, driver_format(d, "%s=%lld", name, (long long)batch));
    Exit e = random_case(d, &pinned, &random);
    if (e != DONE) return e;
    Point *p = &c->point[c->n++];
    *p = (Point){.batch = batch, .seconds = ARENA_ARRAY(&d->arena, double, c->threads->n), .arena = random.program.stats.arena_bytes};
    Contender *contender = ARENA_ARRAY(&d->arena, Contender, c->threads->n);
    e = call_prepare(d, &random.program, &random.set, &call);
    if (e == DONE) {
        for (uint32_t i = 0; i < c->threads->n; i++) contender[i] = (Contender){.name = name, .threads = c->threads->v[i], .run = run_call, .user = &call};
        measure(d, contender, c->threads->n, c->r->runs);
        for (uint32_t i = 0; i < c->threads->n; i++) p->seconds[i] = contender[i].median;
        call_free(&call);
    }
    program_free(&random.program);
    return e;
}

static Table curve_table(const Curve *c) {
    Table t = table_new(c->d, "batch,threads,median ms,ms per item,items per second,arena");
    for (uint32_t k = 0; k < c->threads->n; k++) {
        for (uint32_t i = 0; i < c->n; i++) {
            const Point *p = &c->point[i];
            char arena[32];
            table_row(&t, "%lld,%d,%.4g,%.4g,%.5g,%s", (long long)p->batch, c->threads->v[k], p->seconds[k] * 1e3, p->seconds[k] * 1e3 / (double)p->batch, (double)p->batch / p->seconds[k],
                      size_text(arena, sizeof arena, (double)p->arena));
        }
    }
    return t;
}

/* One chart: a line for each number of threads over the batch, both axes logarithmic. */
static void draw(Writer *w, const Curve *c, const char *title, bool throughput, const char *unit) {
    Driver *d = c->d;
    LineSeries *series = ARENA_ARRAY(&d->arena, LineSeries, c->threads->n);
    for (uint32_t k = 0; k < c->threads->n; k++) {
        double *x = ARENA_ARRAY(&d->arena, double, c->n), *y = ARENA_ARRAY(&d->arena, double, c->n);
        for (uint32_t i = 0; i < c->n; i++) {
            x[i] = (double)c->point[i].batch;
            y[i] = throughput ? x[i] / c->point[i].seconds[k] : c->point[i].seconds[k] * 1e3;
        }
        series[k] = (LineSeries){driver_format(d, "%d thread%s", c->threads->v[k], c->threads->v[k] == 1 ? "" : "s"), x, y, c->n};
    }
    lines_svg(w, &(LineChart){title, "batch", unit, series, c->threads->n});
}

static Exit write_curve(const Curve *c) {
    Driver *d = c->d;
    const char *model = file_base_name(c->r->files.v[0]);
    Exit e = DONE;
    if (c->r->svg != NULL) {
        Writer w = {.arena = &d->arena};
        draw(&w, c, driver_format(d, "%s: throughput over batch size, %s", model, machine_cpu(d)), true, "items per second");
        if (!driver_write_file(d, c->r->svg, w.text, w.n)) e = BROKEN;
    }
    if (c->r->html != NULL) {
        Writer w = {.arena = &d->arena};
        Table t = curve_table(c);
        html_open(&w, driver_format(d, "lathe bench: %s", model));
        draw(&w, c, "Latency", false, "ms");
        draw(&w, c, "Throughput", true, "items per second");
        html_table(&w, &t);
        html_paragraph(&w, machine_cpu(d));
        html_close(&w);
        if (!driver_write_file(d, c->r->html, w.text, w.n)) e = BROKEN;
    }
    return e;
}

static void print_curve(const Curve *c, bool json) {
    for (uint32_t k = 0; k < c->threads->n; k++) {
        for (uint32_t i = 0; i < c->n; i++) {
            const Point *p = &c->point[i];
            bool first = k == 0 && i == 0, last = k + 1 == c->threads->n && i + 1 == c->n;
            if (json) printf("%s{\"batch\": %lld, \"threads\": %d, \"median_ms\": %.9g, \"items_per_s\": %.9g}%s\n", first ? "[" : " ", (long long)p->batch, c->threads->v[k],
                             p->seconds[k] * 1e3, (double)p->batch / p->seconds[k], last ? "]" : ",");
            else printf("%s%lld,%d,%.9g,%.9g\n", first ? "batch,threads,median_ms,items_per_s\n" : "", (long long)p->batch, c->threads->v[k], p->seconds[k] * 1e3, (double)p->batch / p->seconds[k]);
        }
    }
}

Exit batch_curve(Driver *d, const Request *r, const Threads *threads) {
    Curve c = {.d = d, .r = r, .threads = threads};
    const char *name;
    int64_t lo, hi;
    if (!read_range(d, r->batch, &name, &lo, &hi)) return BAD_USAGE;
    Exit e = DONE;
    for (int64_t batch = lo; e == DONE; batch = batch < hi && batch * 2 > hi ? hi : batch * 2) {
        if (batch > hi) break;
        e = time_point(&c, name, batch);
        if (batch == hi) break;
    }
    if (e != DONE) return e;
    Table t = curve_table(&c);
    if (r->format == 0) table_print(&t, stdout);
    else print_curve(&c, r->format == 1);
    return write_curve(&c);
}
