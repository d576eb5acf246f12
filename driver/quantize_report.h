/* What `lathe quantize` says about its result: a page (HTML) and the same as JSON. */
#ifndef LATHE_DRIVER_QUANTIZE_REPORT_H
#define LATHE_DRIVER_QUANTIZE_REPORT_H
#include "driver/driver.h"

typedef struct QuantizeTry { /* of mixed precision */
    uint32_t kept;               /* layers in floats */
    const char *last;            /* the last of them to be kept; NULL: none is */
    double loss, accuracy, sqnr, seconds; /* accuracy: negative without labels */
    uint64_t bytes;
} QuantizeTry;
typedef VEC(QuantizeTry) QuantizeTries;

typedef struct QuantizeOutcome { /* of the whole model, on the calibration data; negative: not known */
    const char *model, *output, *scheme;
    uint64_t float_bytes, bytes;               /* of the files */
    double float_seconds, seconds;             /* per run, one thread */
    double sqnr;                               /* of the outputs, dB; infinite: the same */
    double agreement, float_accuracy, accuracy; /* fractions: first maximum the same; equal to the label */
    uint32_t sets;
    QuantizeTries tries;         /* with --max-loss; the last one was written */
} QuantizeOutcome;

void quantize_print(const QuantizeOutcome *o, const LatheCalibration *c);
bool quantize_report(Driver *d, const char *html, const char *json, const QuantizeOutcome *o, const LatheCalibration *c); /* false after driver_error */

#endif
