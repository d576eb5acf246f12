/* Timing contenders against each other: they take turns, so that noise of the machine hits all of them alike. */
#ifndef LATHE_DRIVER_MEASURE_H
#define LATHE_DRIVER_MEASURE_H
#include "driver/driver.h"

typedef struct Contender {
    const char *name;
    int threads;
    int (*run)(void *user, int threads); /* one call; 0 or an error code, which ends the measurement */
    /* Instead of run, for one who keeps the time itself: `batch` calls, seconds per call, negative when that fails. */
    double (*sample)(void *user, uint32_t batch);
    void (*turn)(void *user, bool begins); /* around every turn; may be NULL */
    void *user;
    /* results */
    double median, minimum; /* seconds per call */
    uint32_t n_sample;
    int error;
    VEC(double) samples;
} Contender;

/* runs: samples per contender; 0: as many as fit in about a second, at least 10 (3 when a call takes over a second). */
void measure(Driver *d, Contender *contender, uint32_t n, int64_t runs);

#endif
