/* What -O3 found out, kept per CPU, compiler, target and flags in $XDG_CACHE_HOME/lathe/tuning (~/.cache/lathe/tuning):
 *
 *     lathe tuning 1
 *     cpu Intel(R) Xeon(R) Processor
 *     compiler clang version 19.1.7
 *     target native
 *     flags
 *     conv-1x14x14x256-14x14x256-k3x3-s1x1-d1x1-g1<tab>winograd2<tab>1.21
 *     end 8d0f3c5e2b1a7764
 *
 * A file whose head is another's, or whose last line does not fit what stands before it, is as good as none. */
#ifndef LATHE_DRIVER_TUNE_FILE_H
#define LATHE_DRIVER_TUNE_FILE_H
#include "driver/toolchain.h"

typedef struct Tuned { const char *key, *choice; double gain; } Tuned; /* gain: time of the cost model's choice over its time */

typedef struct TuneFile {
    const char *path;      /* NULL: there is no place for it */
    const char *head;      /* the lines that say what it is for */
    VEC(Tuned) entry;
    bool ignored;          /* something was there that is no file of ours for this head */
} TuneFile;

/* Reads the file of this machine, compiler and request. There may be none: then it has no entries. */
TuneFile tune_file_open(Driver *d, const Request *r, const Toolchain *t);
const Tuned *tune_file_find(const TuneFile *f, const char *key); /* NULL: not timed yet */
void tune_file_set(Driver *d, TuneFile *f, const char *key, const char *choice, double gain);
/* With what another process added meanwhile. False after driver_error. */
bool tune_file_write(Driver *d, TuneFile *f);

/* The text with that head, and back: false, and no entries, when it is damaged or has another head. */
const char *tune_text(Driver *d, const TuneFile *f);
bool tune_parse(Driver *d, TuneFile *f, const char *text, size_t n);

#endif
