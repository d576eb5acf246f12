#include "driver/profile.h"

#include <float.h>
#include <string.h>

enum { EVENTS_MAX = 1 << 18, RUNS_MAX = 2000 };
static const double ENOUGH_SECONDS = 0.7;

typedef struct Recorder {
    Driver *d;
    uint32_t *index;       /* step by time */
    uint32_t n_time, n;
    double start, began;
    double *sum;           /* of this run, by step */
    uint32_t *calls;
    VEC(ProfileEvent) events;
} Recorder;

/* What emitted code calls, on thread 0. */
static void tick(void *user, unsigned time, int ends) {
    Recorder *r = user;
    double now = driver_now();
    if (!ends) {
        r->began = now;
        return;
    }
    uint32_t step = time < r->n_time ? r->index[time] : r->n;
    if (step >= r->n) return;
    r->sum[step] += now - r->began;
    r->calls[step]++;
    if (r->events.n < EVENTS_MAX) vec_push(&r->d->arena, &r->events, ((ProfileEvent){step, r->began - r->start, now - r->start}));
}

/* The kernels of the plan, and where the recorder finds them. */
static void list_steps(Driver *d, Program *program, Profile *p, Recorder *r) {
    LathePlanStep s;
    VEC(ProfileStep) list = {0};
    for (uint32_t i = 0; lathe_plan_step(program->model, i, &s); i++)
        if (s.time >= r->n_time) r->n_time = s.time + 1;
    r->index = ARENA_ARRAY(&d->arena, uint32_t, r->n_time);
    for (uint32_t i = 0; i < r->n_time; i++) r->index[i] = UINT32_MAX;
    for (uint32_t i = 0; lathe_plan_step(program->model, i, &s); i++) {
        if (s.bytes <= 0 && s.flops <= 0 && s.what[0] == 0) continue; /* control flow */
        r->index[s.time] = list.n;
        vec_push(&d->arena, &list, ((ProfileStep){driver_format(d, "%s", s.kernel), driver_format(d, "%s", s.what), driver_format(d, "%s", s.choice_key), s.flops, s.bytes, DBL_MAX, 0}));
    }
    p->step = list.v;
    p->n = r->n = list.n;
    r->sum = ARENA_ARRAY(&d->arena, double, list.n);
    r->calls = ARENA_ARRAY(&d->arena, uint32_t, list.n);
}

Exit profile_record(Driver *d, const Request *request, Program *program, const DataSet *set, double enough, Profile *p) {
    Recorder r = {.d = d};
    Call c;
    list_steps(d, program, p, &r);
    Exit e = call_prepare(d, program, set, &c);
    if (e != DONE) return e;
    program->set_tick(program->ctx, tick, &r);
    p->seconds = DBL_MAX;
    double first = driver_now();
    int64_t limit = request->runs > 0 ? request->runs : RUNS_MAX;
    for (p->runs = 0; p->runs <= limit; p->runs++) { /* the first one warms up */
        if (request->runs == 0 && p->runs > 5 && driver_now() - first > enough) break;
        for (uint32_t i = 0; i < r.n; i++) r.sum[i] = 0, r.calls[i] = 0;
        r.events.n = 0;
        r.start = driver_now();
        int code = call_run(program, p->threads, &c);
        double seconds = driver_now() - r.start;
        if (code != 0) {
            driver_error(d, "the model stopped: %s (code %d)", program->error(code), code);
            e = DIFFERS;
            break;
        }
        if (p->runs == 0) continue;
        for (uint32_t i = 0; i < r.n; i++) {
            if (r.sum[i] < p->step[i].seconds) p->step[i].seconds = r.sum[i];
            p->step[i].calls = r.calls[i];
        }
        if (seconds >= p->seconds) continue;
        p->seconds = seconds;
        p->events.n = 0;
        for (uint32_t i = 0; i < r.events.n; i++) vec_push(&d->arena, &p->events, r.events.v[i]);
    }
    for (uint32_t i = 0; i < p->n; i++) p->step[i].flops *= p->step[i].calls, p->step[i].bytes *= p->step[i].calls;
    call_free(&c);
    return e;
}

Exit profile_make(Driver *d, const Request *r, const Variant *v, const DataSet *set, const Sizes *sizes, int threads, Profile *p) {
    Variant told = *v;
    Program program;
    told.profile = true;
    *p = (Profile){.name = v->name, .threads = threads};
    Exit e = machine_measure(d, r, threads, &p->machine);
    if (e == DONE) e = program_make(d, r, &told, sizes, &program);
    if (e != DONE) return e;
    e = profile_record(d, r, &program, set, ENOUGH_SECONDS, p);
    program_free(&program);
    return e;
}

static double total(const Profile *p) {
    double sum = 0;
    for (uint32_t i = 0; i < p->n; i++) sum += p->step[i].seconds;
    return sum > 0 ? sum : 1e-12;
}

/* A kernel that would have read its arguments many times faster than memory gives them reads a part of them only: rows of a table. */
static double bytes_of(const Profile *p, const ProfileStep *s) {
    return s->bytes <= 50 * p->machine.bytes * s->seconds ? s->bytes : 0;
}

static double reached(const Profile *p, const ProfileStep *s) {
    return s->seconds > 0 ? machine_bound(&p->machine, s->flops, bytes_of(p, s)) / s->seconds : 0;
}

Table profile_table(Driver *d, const Profile *p) {
    Table t = table_new(d, "step,kernel,calls,µs,% of run,GFLOP/s,GB/s,% of roofline,operators");
    double all = total(p);
    for (uint32_t i = 0; i < p->n; i++) {
        const ProfileStep *s = &p->step[i];
        double seconds = s->seconds > 0 ? s->seconds : 1e-9;
        table_row(&t, "%u,%s,%u,%.4g,%.1f,%.1f", i + 1, s->kernel, s->calls, s->seconds * 1e6, 100 * s->seconds / all, s->flops / seconds * 1e-9);
        if (s->bytes > 0 && bytes_of(p, s) <= 0) table_row(&t, "-,-");
        else table_row(&t, "%.1f,%.0f", s->bytes / seconds * 1e-9, 100 * reached(p, s));
        const char *what = s->what;
        table_cell(&t, strlen(what) > 60 ? driver_format(d, "%.57s...", what) : what);
    }
    return t;
}

const char *profile_summary(Driver *d, const Profile *p) {
    double bound = 0;
    for (uint32_t i = 0; i < p->n; i++) bound += machine_bound(&p->machine, p->step[i].flops, bytes_of(p, &p->step[i]));
    return driver_format(d, "%s, %d thread%s: kernels %.4g ms, fastest run %.4g ms, %u runs; this machine: %.1f GFLOP/s (float32), %.1f GB/s from memory; "
                            "all kernels at %.0f%% of this roofline (above 100%%: data came from caches, or an algorithm needs fewer operations)",
                         p->name, p->threads, p->threads == 1 ? "" : "s", total(p) * 1e3, p->seconds * 1e3, p->runs - 1, p->machine.flops * 1e-9, p->machine.bytes * 1e-9, 100 * bound / total(p));
}

void profile_json(Writer *w, const Profile *p) {
    cw_printf(w, "{\"configuration\": ");
    json_string(w, p->name);
    cw_printf(w, ", \"threads\": %d, \"run_ms\": %.9g, \"machine_flops\": %.6g, \"machine_bytes\": %.6g, \"steps\": [", p->threads, p->seconds * 1e3, p->machine.flops, p->machine.bytes);
    for (uint32_t i = 0; i < p->n; i++) {
        const ProfileStep *s = &p->step[i];
        cw_printf(w, "%s{\"kernel\": ", i == 0 ? "" : ", ");
        json_string(w, s->kernel);
        cw_printf(w, ", \"operators\": ");
        json_string(w, s->what);
        cw_printf(w, ", \"calls\": %u, \"us\": %.6g, \"flops\": %.0f, \"bytes\": %.0f, \"of_roofline\": %.4g}", s->calls, s->seconds * 1e6, s->flops, s->bytes, reached(p, s));
    }
    cw_printf(w, "]}");
}

bool profile_trace(Driver *d, const char *path, const Profile *p) {
    Writer w = {.arena = &d->arena};
    cw_printf(&w, "{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n");
    for (uint32_t i = 0; i < p->events.n; i++) {
        const ProfileEvent *e = &p->events.v[i];
        const ProfileStep *s = &p->step[e->step];
        cw_printf(&w, "{\"name\": ");
        json_string(&w, s->kernel);
        cw_printf(&w, ", \"cat\": \"kernel\", \"ph\": \"X\", \"pid\": 1, \"tid\": 1, \"ts\": %.3f, \"dur\": %.3f, \"args\": {\"step\": %u, \"operators\": ", e->begin * 1e6, (e->end - e->begin) * 1e6,
                  e->step + 1);
        json_string(&w, s->what);
        cw_printf(&w, ", \"flops\": %.0f, \"bytes\": %.0f}}%s\n", s->flops / (s->calls != 0 ? s->calls : 1), s->bytes / (s->calls != 0 ? s->calls : 1), i + 1 < p->events.n ? "," : "");
    }
    cw_printf(&w, "]}\n");
    return driver_write_file(d, path, w.text, w.n);
}
