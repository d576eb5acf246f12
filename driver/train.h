/* The options of lathe compile --train. */
#ifndef LATHE_DRIVER_TRAIN_H
#define LATHE_DRIVER_TRAIN_H
#include "driver/args.h"

extern const Option train_options[];
/* With --train: loss and optimizer on m. DONE, or the exit code after messages. */
Exit train_prepare(Driver *d, const Request *r, LatheModel *m);

#endif
