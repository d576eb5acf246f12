/* From a planned module to C: the only entry into codegen/ from outside. */
#ifndef LATHE_CODEGEN_CODEGEN_H
#define LATHE_CODEGEN_CODEGEN_H
#include "ir/plan.h"

/* Writes NAME.c at c_path and NAME.h (and NAME.bin, when weights do not go into the C text) beside it. m->plan must
 * have passed plan_memory. Everything is written to temporaries first; on error (diag, false) no file is left.
 * How weights are stored is m->options->weights (include/lathe.h). Equal input gives byte-equal files. */
bool codegen_emit(Module *m, const char *c_path);

#endif
