/* The option --memory. */
#ifndef LATHE_DRIVER_MEMORY_H
#define LATHE_DRIVER_MEMORY_H
#include "driver/args.h"

/* For a request with a limit: sets memory_bytes and recompute so that the model's arena stays within it. DIFFERS, with the least that is
 * possible in the message, when nothing does. */
Exit memory_choose(Driver *d, Request *r);

#endif
