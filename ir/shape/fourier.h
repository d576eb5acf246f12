/* Fourier transforms resolved: shared by shape rules, expansion and lowering. A size or axis that only the run knows is
 * marked `runtime`; its operand is read by the kernel, and the result's dims are declared ones or run-time symbols. */
#ifndef LATHE_IR_SHAPE_FOURIER_H
#define LATHE_IR_SHAPE_FOURIER_H
#include "ir/graph.h"

typedef struct DftPlan {
    uint32_t axis;                 /* when it is known */
    Dim length;                    /* transform length (cut or padded with 0), when it is known */
    bool runtime, runtime_axis, runtime_length;
    bool complex_in, real_out, inverse, onesided;
    Dim out[RANK_MAX];
} DftPlan;
typedef struct StftPlan {
    Dim step, length, frames, out; /* step and length: 0 when only the run knows them */
    bool runtime, complex_in;
} StftPlan;

bool dft_resolve(Module *m, Node *n, DftPlan *p);   /* false after a diagnostic */
bool stft_resolve(Module *m, Node *n, StftPlan *p);

#endif
