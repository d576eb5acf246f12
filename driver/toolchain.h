/* The C compiler behind `run`, `verify` and `bench`: finding it, and building emitted C into a shared object. */
#ifndef LATHE_DRIVER_TOOLCHAIN_H
#define LATHE_DRIVER_TOOLCHAIN_H
#include "driver/args.h"

typedef struct Toolchain {
    Texts command;       /* program and fixed arguments: --cc "ccache clang" */
    const char *version; /* first line of --version */
    bool openmp;         /* -fopenmp works */
} Toolchain;

bool toolchain_can_run(const char *target); /* can this machine? NULL: native */

/* --cc, $CC, clang, clang-19 … clang-14, gcc, cc: the first that runs. false after driver_error. */
bool toolchain_find(Driver *d, const Request *r, Toolchain *t);

/* Builds dir/c_file (which may include and .incbin what lies in dir) into a shared object. *object: its path, in the
 * cache or in dir; *cached: nothing had to be built. DONE, BAD_USAGE (the target cannot run here) or BROKEN after driver_error. */
Exit toolchain_build(Driver *d, const Request *r, Toolchain *t, const char *dir, const char *c_file, const char **object, bool *cached);

#endif
