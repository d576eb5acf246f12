#include "driver/progress.h"

#include <string.h>

enum { BAR_WIDTH = 30 };
static const double show_after = 1.0, bar_interval = 0.1, step_interval = 2.0, line_interval = 10.0;

Progress progress_start(Driver *d) {
    double t = driver_now();
    return (Progress){.d = d, .started = t, .shown = t};
}

static void draw_bar(Progress *p, double done) {
    char bar[BAR_WIDTH + 1];
    int full = done < 0 ? 0 : (int)((done > 1 ? 1 : done) * (double)BAR_WIDTH);
    memset(bar, '-', BAR_WIDTH);
    memset(bar, '#', (size_t)full);
    bar[BAR_WIDTH] = 0;
    fprintf(stderr, "\r\033[K[%s] %s%s%s", bar, p->d->task != NULL ? p->d->task : "", p->d->task != NULL ? ": " : "", p->what);
    fflush(stderr);
    p->d->bar = p->what;
}

void progress_step(void *user, const char *what, double done) {
    Progress *p = user;
    double t = driver_now();
    bool new_step = p->what == NULL || strcmp(p->what, what) != 0;
    if (new_step) p->what = driver_format(p->d, "%s", what);
    if (t - p->started < show_after) return;
    if (p->d->stderr_is_terminal) {
        if (!new_step && t - p->shown < bar_interval) return;
        draw_bar(p, done);
    } else {
        if (t - p->shown < (new_step ? step_interval : line_interval)) return;
        const char *task = p->d->task != NULL ? p->d->task : "", *colon = p->d->task != NULL ? ": " : "";
        if (done >= 0) fprintf(stderr, "lathe: %s%s%s (%.0f%%)\n", task, colon, p->what, done * 100);
        else fprintf(stderr, "lathe: %s%s%s (%.0f s)\n", task, colon, p->what, t - p->started);
    }
    p->shown = t;
}

void progress_clear(Driver *d) {
    if (d->bar == NULL) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    d->bar = NULL;
}
