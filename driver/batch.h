/* lathe bench --batch N=1..512: latency and throughput over the size of a batch. */
#ifndef LATHE_DRIVER_BATCH_H
#define LATHE_DRIVER_BATCH_H
#include "driver/args.h"

/* r->batch is "N=1..512": the dim N is fixed at 1, 2, 4 … and 512, one program each. Prints the table, writes the charts. */
Exit batch_curve(Driver *d, const Request *r, const Threads *threads);

#endif
