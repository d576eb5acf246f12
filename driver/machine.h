/* What this machine can do at most: the two bounds of a roofline, measured once for a CPU, a compiler and a number of threads, and kept
 * in the cache. */
#ifndef LATHE_DRIVER_MACHINE_H
#define LATHE_DRIVER_MACHINE_H
#include "driver/args.h"

typedef struct Machine {
    double flops; /* float32 multiply-adds per second, two operations each */
    double bytes; /* read from memory per second */
} Machine;

const char *machine_cpu(Driver *d); /* "unknown" when the system does not tell */
Exit machine_measure(Driver *d, const Request *r, int threads, Machine *m);
/* Seconds that the machine needs at least for so many operations and bytes from memory. */
double machine_bound(const Machine *m, double flops, double bytes);

#endif
