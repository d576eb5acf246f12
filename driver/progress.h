/* Progress on stderr for anything that takes over a second: a bar when stderr is a terminal, else a plain line every
 * few seconds.
 *
 *     Progress p = progress_start(d);
 *     progress_step(&p, "building with clang", 0.4);   // done 0..1, negative: not known
 *     progress_clear(d); */
#ifndef LATHE_DRIVER_PROGRESS_H
#define LATHE_DRIVER_PROGRESS_H
#include "driver/driver.h"

typedef struct Progress {
    Driver *d;
    const char *what;   /* the current step */
    double started, shown;
} Progress;

Progress progress_start(Driver *d);
/* As LatheOptions.progress wants it: user is a Progress. */
void progress_step(void *user, const char *what, double done);
void progress_clear(Driver *d);

#endif
