/* Fourier transforms resolved: shared by shape rules and lowering. */
#ifndef LATHE_IR_SHAPE_FOURIER_H
#define LATHE_IR_SHAPE_FOURIER_H
#include "ir/graph.h"

typedef struct DftPlan {
    uint32_t axis;
    Dim in, length, out;   /* elements given, transform length (cut or padded with 0), elements produced */
    bool complex_in, real_out, inverse, onesided;
} DftPlan;
typedef struct StftPlan {
    Dim step, length, frames, out;
    bool complex_in;
} StftPlan;

bool dft_resolve(Module *m, Node *n, DftPlan *p);   /* false after a diagnostic */
bool stft_resolve(Module *m, Node *n, StftPlan *p);

#endif
