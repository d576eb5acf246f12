/* --memory SIZE: what has to be done for the arena to stay within a limit. Every choice is compiled to see what it needs; the one with the
 * least repeated arithmetic that fits is taken. A model that runs has its first layers in bands (passes/bands.c), which estimates: more is
 * asked for first, and then less, until the arena is within the limit. A model that trains computes parts of its forward pass again (passes/train/recompute.c). */
#include "driver/memory.h"

#include <stdlib.h>
#include <string.h>

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

/* A part NAME=SIZE of the list at *text, which goes on behind it; false when it is another or wrong. */
static bool read_part(Driver *d, const char **text, const char *name, double *bytes) {
    size_t n = strlen(name), part = strcspn(*text, ",");
    if (*bytes >= 0 || strncmp(*text, name, n) != 0 || (*text)[n] != '=') return false;
    if (!read_size(arena_strdup(&d->arena, *text + n + 1, part > n ? part - n - 1 : 0), bytes)) return false;
    *text += part;
    if (**text == ',') ++*text;
    return true;
}

/* sram=SIZE,dram=SIZE, or without the second, which then has no limit; or one size. */
static bool read_limits(Driver *d, Request *r, double *limit) {
    const char *text = r->memory;
    if (strchr(text, '=') == NULL) return read_size(text, limit);
    double fast = -1, rest = -1;
    while (*text != 0)
        if (!read_part(d, &text, "sram", &fast) && !read_part(d, &text, "dram", &rest)) return false;
    if (fast < 0) return false;
    r->fast_bytes = (uint64_t)fast;
    r->rest_bytes = rest < 0 ? 0 : (uint64_t)rest;
    *limit = rest < 0 ? 1e15 : rest;
    return true;
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
    if (!read_limits(d, r, &limit)) {
        driver_error(d, "--memory %s: expected a size as 64M, 1.5G or 500K, or two as sram=64K,dram=1M", r->memory);
        return BAD_USAGE;
    }
    if (r->fast_bytes != 0 && r->train.on) {
        driver_error(d, "--memory %s: two memories are for inference", r->memory);
        return BAD_USAGE;
    }
    if (r->files.n == 0 || r->run != NULL) { /* single passes: the estimate has to do */
        r->memory_bytes = (uint64_t)limit;
        return DONE;
    }
    size_t n = r->train.on ? sizeof segments / sizeof *segments : sizeof shares / sizeof *shares;
    for (size_t i = 0; i < n; i++) {
        if (r->train.on) r->recompute = segments[i];
        else r->memory_bytes = i == 0 ? 0 : (uint64_t)((limit + (double)r->fast_bytes) * shares[i]) + 1;
        Exit e = DONE;
        double needs = arena_of(d, r, &e);
        if (e != DONE) return e;
        if (least < 0 || needs < least) least = needs;
        if (needs <= limit) return DONE;
    }
    size_text(text, sizeof text, least);
    size_text(wanted, sizeof wanted, limit);
    const char *beside = r->train.on ? ", with recomputation" : r->fast_bytes != 0 ? " beside the fast memory" : "";
    driver_error(d, "--memory %s: the model needs at least %s of working memory%s, more than %s", r->memory, text, beside, wanted);
    return DIFFERS;
}
