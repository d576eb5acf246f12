/* What every part of the `lathe` command shares: memory, messages, exit codes. The driver is the only code of the
 * project that prints or exits; it sees the compiler through lathe.h alone. */
#ifndef LATHE_DRIVER_H
#define LATHE_DRIVER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/context.h"
#include "lathe.h"

typedef enum Exit {
    DONE = 0,      /* ok */
    DIFFERS = 1,   /* the model is wrong, not supported, or its results differ */
    BAD_USAGE = 2, /* the command line is wrong */
    BROKEN = 3,    /* a tool or a file failed */
} Exit;

typedef VEC(const char *) Texts; /* a list of strings */

typedef struct Driver {
    Arena arena;            /* everything the command allocates; a failed allocation ends the process with BROKEN */
    Context files;          /* owns what tensor files were read into (driver/files.c) */
    bool stderr_is_terminal;
    bool quiet;             /* driver_model_failed prints nothing: the caller has another try */
    const char *task;       /* what everything now is a part of, for progress messages; NULL: nothing larger */
    const char *bar;        /* text of the progress bar on screen, NULL when there is none */
} Driver;

void driver_init(Driver *d);
void driver_free(Driver *d);

/* Messages on stderr, one line each: `lathe: error: …`, `lathe: note: …`. They take the progress bar off the screen first. */
void driver_error(Driver *d, const char *format, ...) LATHE_PRINTF(2, 3);
void driver_note(Driver *d, const char *format, ...) LATHE_PRINTF(2, 3);
/* What the compiler itself has to say about m: prints its diagnostics; returns the exit code for status. */
Exit driver_model_failed(Driver *d, const LatheModel *m, LatheStatus status);
void driver_model_notes(Driver *d, const LatheModel *m);

char *driver_format(Driver *d, const char *format, ...) LATHE_PRINTF(2, 3);
double driver_now(void); /* seconds, monotonic */

/* Reads a whole file; NULL after driver_error. */
char *driver_read_file(Driver *d, const char *path, size_t *n);
/* Writes a file under its final name only when all of it is written; false after driver_error. */
bool driver_write_file(Driver *d, const char *path, const void *data, size_t n);
/* A fresh directory under $TMPDIR; NULL after driver_error. Remove it with driver_remove_dir. */
const char *driver_temp_dir(Driver *d);
void driver_remove_dir(const char *dir); /* the directory and the plain files in it */
/* mkdir -p. False when that fails, after driver_error if report. */
bool driver_make_dirs(Driver *d, const char *path, bool report);

#endif
