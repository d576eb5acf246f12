#include "driver/tune.h"

#include <float.h>
#include <string.h>
#include <unistd.h>

#include "driver/profile.h"
#include "driver/progress.h"
#include "driver/tune_file.h"

enum { WAYS_MOST = 32, COUNTS = 2 /* numbers of threads */, TURNS = 4 };
static const double turn_seconds = 0.05, matters = 0.002 /* of all operations */, least_gain = 1.03 /* below it, timings are noise */;

/* A shape of the model that can be lowered in several ways. */
typedef struct Site {
    const char *key;
    uint32_t ways;                       /* bits */
    double flops;
    double seconds[WAYS_MOST][COUNTS];   /* by way, with one thread and with all; DBL_MAX: not timed */
} Site;
typedef VEC(Site) Sites;

static Site *find_site(Sites *sites, const char *key) {
    for (uint32_t i = 0; i < sites->n; i++)
        if (strcmp(sites->v[i].key, key) == 0) return &sites->v[i];
    return NULL;
}

/* ---- what there is to choose ---------------------------------------------------------------------------------------- */
static Exit list_sites(Driver *d, const Request *r, Sites *sites, double *flops) {
    Exit e = DONE;
    LatheModel *m = model_open_with_dims(d, r, &e);
    if (m == NULL) return e;
    LatheOptions o = request_options(d, r, NULL);
    o.dims = NULL; /* applied before */
    o.dump = NULL;
    o.time_passes = NULL;
    LatheStatus status = lathe_compile(m, &o);
    if (status != LATHE_OK) e = driver_model_failed(d, m, status);
    LathePlanStep s;
    for (uint32_t i = 0; e == DONE && lathe_plan_step(m, i, &s); i++) {
        *flops += s.flops;
        if (s.choices == 0) continue;
        Site *known = find_site(sites, s.choice_key), fresh = {.key = driver_format(d, "%s", s.choice_key), .ways = s.choices};
        if (known == NULL) {
            vec_push(&d->arena, sites, fresh);
            known = &sites->v[sites->n - 1];
        }
        known->flops += s.flops;
    }
    lathe_model_free(m);
    return e;
}

/* ---- timing ------------------------------------------------------------------------------------------------------------ */
typedef struct Trial {
    Driver *d;
    const Request *r;
    RandomCase *data;
    Sites *sites;
    int threads[COUNTS];
} Trial;

static Exit make(const Trial *t, uint32_t way, Program *p) {
    Texts choices = {0};
    for (uint32_t i = 0; i < t->sites->n; i++)
        if ((t->sites->v[i].ways >> way & 1) != 0) vec_push(&t->d->arena, &choices, driver_format(t->d, "%s=%s", t->sites->v[i].key, lathe_choice(way)));
    vec_push(&t->d->arena, &choices, NULL);
    Variant v = {.name = lathe_choice(way), .level = 2, .profile = true, .choices = choices.v};
    return program_make(t->d, t->r, &v, &t->data->sizes, p);
}

/* One turn: the least time of every site in this program so far. */
static Exit profile(const Trial *t, uint32_t way, Program *p) {
    Exit e = DONE;
    for (int k = 0; e == DONE && k < COUNTS; k++) {
        if (k > 0 && t->threads[k] == t->threads[0]) {
            for (uint32_t i = 0; i < t->sites->n; i++) t->sites->v[i].seconds[way][k] = t->sites->v[i].seconds[way][0];
            break;
        }
        Profile now = {.name = lathe_choice(way), .threads = t->threads[k]};
        e = profile_record(t->d, t->r, p, &t->data->set, turn_seconds, &now);
        for (uint32_t i = 0; e == DONE && i < t->sites->n; i++) {
            Site *s = &t->sites->v[i];
            double sum = 0;
            for (uint32_t j = 0; j < now.n; j++)
                if (strcmp(now.step[j].choice_key, s->key) == 0) sum += now.step[j].seconds;
            if (sum > 0 && sum < s->seconds[way][k]) s->seconds[way][k] = sum;
        }
    }
    return e;
}

static uint32_t ways_of(const Sites *sites) {
    uint32_t all = 0;
    for (uint32_t i = 0; i < sites->n; i++) all |= sites->v[i].ways;
    return all & ~1u;
}

static Exit time_ways(const Trial *t) {
    Program model, other;
    uint32_t ways = ways_of(t->sites), n = 0, done = 0;
    for (uint32_t w = 1; w < WAYS_MOST; w++) n += ways >> w & 1;
    t->d->task = driver_format(t->d, "tuning %u shapes", t->sites->n);
    Exit e = make(t, 0, &model);
    if (e != DONE) return e;
    e = profile(t, 0, &model);
    for (uint32_t w = 1; e == DONE && w < WAYS_MOST && lathe_choice(w) != NULL; w++) {
        if ((ways >> w & 1) == 0) continue;
        t->d->task = driver_format(t->d, "tuning %u shapes, way %u of %u", t->sites->n, ++done, n);
        Progress p = progress_start(t->d);
        p.started -= 1; /* it is known to take long */
        progress_step(&p, lathe_choice(w), (double)(done - 1) / n);
        e = make(t, w, &other);
        if (e != DONE) break;
        for (int turn = 0; e == DONE && turn < TURNS; turn++) {
            progress_step(&p, "timing", (done - 0.5 + 0.5 * turn / (double)TURNS) / n);
            e = profile(t, w, &other);
            if (e == DONE) e = profile(t, 0, &model);
        }
        program_free(&other);
    }
    program_free(&model);
    return e;
}

static void keep_fastest(Driver *d, const Site *s, TuneFile *f) {
    uint32_t best = 0;
    double gain = 1;
    for (uint32_t w = 1; w < WAYS_MOST; w++) {
        if ((s->ways >> w & 1) == 0 || s->seconds[w][0] >= DBL_MAX || s->seconds[0][0] >= DBL_MAX) continue;
        double now = 2 / (s->seconds[w][0] / s->seconds[0][0] + s->seconds[w][1] / s->seconds[0][1]);
        if (now < least_gain || now <= gain) continue;
        best = w;
        gain = now;
    }
    tune_file_set(d, f, s->key, lathe_choice(best), gain);
}

static Exit time_sites(Driver *d, const Request *r, Sites *sites, TuneFile *f) {
    RandomCase data;
    d->task = "tuning";
    Exit e = random_case(d, r, &data);
    if (e == DONE) {
        program_free(&data.program);
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        Trial t = {d, r, &data, sites, {1, processors > 1 ? (int)processors : 1}};
        for (uint32_t i = 0; i < sites->n; i++)
            for (int w = 0; w < WAYS_MOST; w++) sites->v[i].seconds[w][0] = sites->v[i].seconds[w][1] = DBL_MAX;
        e = time_ways(&t);
    }
    d->task = NULL;
    progress_clear(d);
    if (e != DONE) return e;
    for (uint32_t i = 0; i < sites->n; i++) keep_fastest(d, &sites->v[i], f);
    return tune_file_write(d, f) ? DONE : BROKEN;
}

/* ---- what is known ------------------------------------------------------------------------------------------------------- */
static bool possible(Driver *d, const Request *r, Toolchain *t) {
    if (!toolchain_can_run(r->target)) {
        driver_note(d, "-O3 chooses by timing, and code for %s cannot run on this machine: -O2 is taken", r->target);
        return false;
    }
    if (lathe_target_plainest(r->target) != NULL) {
        driver_note(d, "-O3 chooses by timing, for one target: -O2 is taken for those of %s", r->target);
        return false;
    }
    if (r->train.on) {
        driver_note(d, "-O3 does not time training: -O2 is taken");
        return false;
    }
    if (toolchain_find(d, r, t)) return true;
    driver_note(d, "-O3 chooses by timing, which needs a C compiler: -O2 is taken");
    return false;
}

Exit tune(Driver *d, const Request *r, Texts *choices) {
    Toolchain t;
    Sites sites = {0}, open = {0};
    double flops = 0;
    Request quiet = *r;
    quiet.level = 2;
    quiet.runs = 0;
    if (!possible(d, r, &t)) return DONE;
    TuneFile f = tune_file_open(d, r, &t);
    if (f.ignored) driver_note(d, "%s is damaged, or of another machine: it is not used, and written anew", f.path);
    Exit e = list_sites(d, &quiet, &sites, &flops);
    if (e != DONE) return e;
    for (uint32_t i = 0; i < sites.n; i++)
        if (tune_file_find(&f, sites.v[i].key) == NULL && sites.v[i].flops >= matters * flops) vec_push(&d->arena, &open, sites.v[i]);
    if (open.n != 0) e = time_sites(d, &quiet, &open, &f);
    for (uint32_t i = 0; i < sites.n; i++) {
        const Tuned *known = tune_file_find(&f, sites.v[i].key);
        if (known != NULL) vec_push(&d->arena, choices, driver_format(d, "%s=%s", known->key, known->choice));
    }
    return e;
}
