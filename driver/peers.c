#include "driver/peers.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/compare.h"
#include "driver/files.h"
#include "driver/interrupt.h"
#include "driver/peer_source.h"
#include "driver/process.h"
#include "driver/progress.h"
#include "driver/text.h"

/* What can be asked for, and the package that has it. */
static const struct { const char *kind, *package; } known[] = {
    {"ort", "onnxruntime"}, {"openvino", "openvino"}, {"openvino-bf16", "openvino"}, {"torch", "torch and onnx2torch"},
};
enum { N_KNOWN = sizeof known / sizeof *known };

static const char *package_of(const char *kind) {
    for (size_t i = 0; i < N_KNOWN; i++)
        if (strcmp(known[i].kind, kind) == 0) return known[i].package;
    return NULL;
}

static const char *python_name(void) {
    const char *named = getenv("PYTHON");
    return named != NULL && named[0] != 0 ? named : "python3";
}

/* ---- the process --------------------------------------------------------------------------------------------------- */
/* One line of its answer behind `word`; NULL after p->error is set. */
static const char *answer(Peer *p, const char *word) {
    char line[1024];
    if (p->error != NULL) return NULL;
    if (fgets(line, sizeof line, p->from) == NULL) {
        int status = process_wait(p->pid);
        p->pid = 0;
        p->error = WIFSIGNALED(status) ? driver_format(p->d, "its process ended by signal %d", WTERMSIG(status)) : "its process ended";
        return NULL;
    }
    line[strcspn(line, "\n")] = 0;
    size_t n = strlen(word);
    if (strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == 0)) return driver_format(p->d, "%s", line + n);
    p->error = driver_format(p->d, "%s", printable(p->d, strncmp(line, "error ", 6) == 0 ? line + 6 : line));
    return NULL;
}

static const char *ask(Peer *p, const char *question, const char *word) {
    if (p->error != NULL) return NULL;
    fprintf(p->to, "%s\n", question);
    fflush(p->to);
    return answer(p, word);
}

/* ---- as a contender ------------------------------------------------------------------------------------------------ */
static void turn(void *user, bool begins) {
    Peer *p = user;
    if (p->pid > 0) kill(p->pid, begins ? SIGCONT : SIGSTOP);
}

static double time_calls(void *user, uint32_t batch) {
    Peer *p = user;
    const char *text = ask(p, driver_format(p->d, "time %u", batch), "seconds");
    return text != NULL ? strtod(text, NULL) : -1;
}

Contender peer_contender(Peer *p) {
    return (Contender){.name = p->kind, .threads = p->threads, .sample = time_calls, .turn = turn, .user = p};
}

static void start_one(Driver *d, const char *model, Peer *p) {
    int to[2], from[2];
    if (!process_pipe(to)) {
        p->error = strerror(errno);
        return;
    }
    if (!process_pipe(from)) {
        p->error = strerror(errno);
        close(to[0]);
        close(to[1]);
        return;
    }
    const char *argv[] = {python_name(), driver_format(d, "%s/peer.py", p->dir), p->kind, model, driver_format(d, "%d", p->threads), p->dir, NULL};
    int reason = process_start(d, argv, p->dir, (const int[3]){to[0], from[1], -1}, &p->pid); /* what libraries have to say is nobody's */
    if (reason != 0) p->pid = 0;
    close(to[0]);
    close(from[1]);
    p->to = fdopen(to[1], "w");
    p->from = fdopen(from[0], "r");
    if (reason != 0) p->error = driver_format(d, "cannot run %s: %s", argv[0], strerror(reason));
    answer(p, "ready");
    turn(p, false);
}

static void end_one(Peer *p) {
    if (p->pid > 0) {
        kill(-p->pid, SIGKILL);
        process_wait(p->pid);
        p->pid = 0;
    }
    if (p->to != NULL) fclose(p->to);
    if (p->from != NULL) fclose(p->from);
    p->to = p->from = NULL;
}

/* ---- starting them all --------------------------------------------------------------------------------------------- */
static bool write_inputs(Driver *d, LatheModel *m, const DataSet *set, const char *dir) {
    Writer w = {.arena = &d->arena};
    cw_begin(&w);
    cw_printf(&w, "[");
    for (uint32_t i = 0; i < lathe_input_count(m); i++) {
        const char *file = driver_format(d, "in%u.npy", i);
        if (set->in[i].kind != TENSOR || set->in[i].data == NULL) {
            driver_error(d, "--against: the input %s is no tensor", printable(d, lathe_input_info(m, i).name));
            return false;
        }
        if (!tensor_write_npy(d, driver_format(d, "%s/%s", dir, file), &set->in[i])) return false;
        cw_printf(&w, "%s[", i > 0 ? ", " : "");
        json_string(&w, lathe_input_info(m, i).name);
        cw_printf(&w, ", \"%s\"]", file);
    }
    cw_printf(&w, "]\n");
    return driver_write_file(d, driver_format(d, "%s/inputs.json", dir), w.text, w.n) &&
           driver_write_file(d, driver_format(d, "%s/peer.py", dir), peer_source, strlen(peer_source));
}

bool peers_named(Driver *d, const Request *r) {
    bool good = true;
    const char *names[N_KNOWN + 1] = {NULL};
    for (size_t i = 0; i < N_KNOWN; i++) names[i] = known[i].kind;
    for (uint32_t i = 0; i < r->against.n; i++) {
        if (package_of(r->against.v[i]) != NULL) continue;
        const char *near = args_nearest(r->against.v[i], names);
        driver_error(d, "--against %s: expected ort, openvino, openvino-bf16 or torch%s%s%s", printable(d, r->against.v[i]), near ? "; did you mean " : "",
                     near ? near : "", near ? "?" : "");
        good = false;
    }
    return good;
}

Exit peers_start(Driver *d, const Request *r, const DataSet *set, const Threads *threads, Peers *p) {
    *p = (Peers){0};
    if (r->against.n == 0) return DONE;
    const char *model = r->files.v[0];
    if (text_ends_with(model, ".lir") || strcmp(model, "-") == 0) {
        driver_error(d, "--against: other runtimes read ONNX files; `lathe export` makes one of %s", printable(d, model));
        return BAD_USAGE;
    }
    uint32_t n = r->against.n * threads->n;
    if (n > INTERRUPT_CHILDREN / 2) {
        driver_error(d, "--against: at most %d combinations of runtimes and numbers of threads, not %u", INTERRUPT_CHILDREN / 2, n);
        return BAD_USAGE;
    }
    p->dir = driver_temp_dir(d);
    if (p->dir == NULL) return BROKEN;
    Exit e = DONE;
    LatheModel *m = model_open_with_dims(d, r, &e);
    if (m == NULL) return e;
    bool written = write_inputs(d, m, set, p->dir);
    lathe_model_free(m);
    if (!written) return BROKEN;
    signal(SIGPIPE, SIG_IGN); /* one that has died is noticed when it is read from */
    p->peer = ARENA_ARRAY(&d->arena, Peer, n);
    p->n = n;
    Progress progress = progress_start(d);
    for (uint32_t i = 0; i < n; i++) {
        Peer *one = &p->peer[i];
        *one = (Peer){.d = d, .kind = r->against.v[i / threads->n], .dir = p->dir, .threads = threads->v[i % threads->n]};
        progress_step(&progress, driver_format(d, "loading into %s", one->kind), (double)i / n);
        start_one(d, model, one);
        if (one->error == NULL) continue;
        bool missing = strstr(one->error, "ModuleNotFoundError") != NULL;
        driver_error(d, "--against %s with %d threads: %s%s", one->kind, one->threads, one->error,
                     missing ? driver_format(d, " (%s needs the Python packages numpy, %s; $PYTHON names another Python)", one->kind, package_of(one->kind)) : "");
        e = BROKEN;
    }
    progress_clear(d);
    return e;
}

const char *peer_difference(Peer *p, const Tensor *ours, uint32_t n) {
    Driver *d = p->d;
    turn(p, true);
    const char *count = ask(p, "outputs", "outputs");
    turn(p, false);
    if (count == NULL) return p->error;
    if (strtoul(count, NULL, 10) != n) return driver_format(d, "%lu outputs", strtoul(count, NULL, 10));
    double worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        Tensors list = {0};
        if (!tensors_read(d, driver_format(d, "%s/%s-%d-%u.npy", p->dir, p->kind, p->threads, i), -1, &list) || list.n != 1) return "unreadable";
        const Tensor *t = &list.v[0];
        if (t->number != ours[i].number || tensor_count(t) != tensor_count(&ours[i])) return driver_format(d, "another shape or type of output %u", i);
        Comparison c = compare_elements(t->number, tensor_count(t), ours[i].data, t->data, &(Tolerance){.range_tol = -1});
        if (c.range_rel > worst) worst = c.range_rel;
    }
    return driver_format(d, "%.1e", worst);
}

void peers_end(Peers *p) {
    for (uint32_t i = 0; i < p->n; i++) end_one(&p->peer[i]);
    if (p->dir != NULL) driver_remove_dir(p->dir);
    *p = (Peers){0};
}
