/* The page that `lathe report` and `lathe compile --report` write about a compiled model: memory plan, inputs and outputs, operators, steps. */
#ifndef LATHE_DRIVER_REPORT_H
#define LATHE_DRIVER_REPORT_H
#include "driver/driver.h"

bool report_write(Driver *d, const char *path, const char *model_path, LatheModel *m); /* false after driver_error */

#endif
