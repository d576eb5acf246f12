/* -O3: what lowering can do in several ways is timed inside the model it is for, and the fastest way of every shape is kept for this CPU
 * and compiler (driver/tune_file.h).
 *
 *     Texts choices = {0};
 *     Exit e = tune(d, r, &choices);        // "KEY=CHOICE" …, for LatheOptions.choices after vec_push NULL
 *
 * The model is built once per way, with every kernel that can go it going it, and profiled with one thread and with all, in turns with
 * the cost model's own way, so that a machine that slows down does not decide. Shapes with little of the operations are not timed. */
#ifndef LATHE_DRIVER_TUNE_H
#define LATHE_DRIVER_TUNE_H
#include "driver/toolchain.h"

/* DONE, with the choices known for the request's model. Where nothing can be timed (code for another machine, no C compiler, training) a
 * note says so and the list stays empty: -O3 is then -O2. Other codes after messages. */
Exit tune(Driver *d, const Request *r, Texts *choices);

#endif
