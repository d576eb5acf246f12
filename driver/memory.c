/* --memory SIZE: what has to be done for the arena to stay within a limit. Every choice is compiled to see what it needs; the one with the
 * least repeated arithmetic that fits is taken. A model that runs has its first layers in bands (passes/bands.c), which estimates: more is
 * asked for first, and then less, until the arena is within the limit. A model that trains computes parts of its forward pass again (passes/train/recompute.c). */
#include "driver/memory.h"

#include <stdlib.h>

#include "driver/program.h"
#include "driver/text.h"
#include "driver/train.h"

static bool read_size(const char *text, double *bytes) {
    char *end;
    *bytes = strtod(text, &end);
    if (end == text || !(*bytes > 0) || *bytes > 1e15) return false;
    if (*end == 'K' || *end == 'k') *bytes *= 1024, end++;
    else if (*end == 'M' || *end == 'm') *bytes *= 1048576, end++;
    else if (*end == 'G' || *end == 'g') *bytes *= 1073741824, end++;
    if (*end == 'B') end++;
    return *end == 0;
}

/* What the arena of r's model takes; negative when it does not compile. */
static double arena_of(Driver *d, const Request *r, Exit *e) {
    LatheModel *m = model_open(d, r->files.v[0], e);
    if (m == NULL) return -1;
    *e = train_prepare(d, r, m);
    LatheOptions o = request_options(d, r, NULL);
    o.dump = NULL;
    o.time_passes = NULL;
    LatheStatus status = *e == DONE ? lathe_compile(m, &o) : LATHE_OK;
    if (status != LATHE_OK) *e = driver_model_failed(d, m, status);
    double needs = *e == DONE ? (double)lathe_stats(m).arena_bytes : -1;
    lathe_model_free(m);
    return needs;
}

Exit memory_choose(Driver *d, Request *r) {
    static const uint32_t segments[] = {0, 2, 3, 4, 6, 8, 12, 16, 24};
    static const double shares[] = {0, 4, 2.5, 1.6, 1.25, 1, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.25, 1e-9};
    double limit, least = -1;
    char text[32], wanted[32];
    if (!read_size(r->memory, &limit)) {
        driver_error(d, "--memory %s: expected a size as 64M, 1.5G or 500K", r->memory);
        return BAD_USAGE;
    }
    if (r->files.n == 0 || r->run != NULL) { /* single passes: the estimate has to do */
        r->memory_bytes = (uint64_t)limit;
        return DONE;
    }
    size_t n = r->train.on ? sizeof segments / sizeof *segments : sizeof shares / sizeof *shares;
    for (size_t i = 0; i < n; i++) {
        if (r->train.on) r->recompute = segments[i];
        else r->memory_bytes = i == 0 ? 0 : (uint64_t)(limit * shares[i]) + 1;
        Exit e = DONE;
        double needs = arena_of(d, r, &e);
        if (e != DONE) return e;
        if (least < 0 || needs < least) least = needs;
        if (needs <= limit) return DONE;
    }
    size_text(text, sizeof text, least);
    size_text(wanted, sizeof wanted, limit);
    driver_error(d, "--memory %s: the model needs at least %s of working memory%s, more than %s", r->memory, text, r->train.on ? ", with recomputation" : "", wanted);
    return DIFFERS;
}
