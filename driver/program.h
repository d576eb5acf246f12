/* A model as a running program: imported, compiled to C in a temporary directory, built, loaded, initialised.
 *
 *     Program p;
 *     Exit e = program_make(d, r, &(Variant){"fused", 2, NULL}, sizes, &p);
 *     int code = program_call(&p, threads, in, in_dims, out, out_dims);   // 0 or an error of the emitted code
 *     program_free(&p); */
#ifndef LATHE_DRIVER_PROGRAM_H
#define LATHE_DRIVER_PROGRAM_H
#include "driver/toolchain.h"

/* One way to compile a model, for comparisons. */
typedef struct Variant {
    const char *name;
    int level;
    const char *const *disable; /* NULL-terminated; NULL: those of the request */
    LatheStatus (*change)(LatheModel *m, void *user); /* applied to the imported model; NULL: none */
    void *user;
    const char *const *choices; /* LatheOptions.choices; NULL: none, or at -O3 what tuning finds (driver/tune.h) */
    bool profile;               /* code that tells when kernels begin and end */
} Variant;

/* What data decides about a model: NULL-terminated dim options, and the ranks and largest dims of inputs that the file leaves open. */
typedef struct InputShape { uint32_t input, rank; int64_t dim[LATHE_RANK_MAX]; } InputShape;
typedef VEC(InputShape) InputShapes;
typedef struct Sizes { const char *const *dims; InputShapes shapes; } Sizes;

typedef struct Program {
    LatheModel *model;          /* compiled: its infos have final bounds */
    LatheStats stats;
    uint32_t n_in, n_out;
    LatheTensorInfo *in, *out;  /* tensors: a sequence or an optional is several, described by its group */
    uint32_t n_in_group, n_out_group;
    LatheGroup *in_group, *out_group;
    double build_seconds;       /* by the C compiler; 0 when cached */
    bool cached, openmp;
    size_t code_bytes;          /* of the shared object */
    /* the loaded code */
    void *ctx, *arena, *weights;
    size_t arena_bytes, weight_bytes, mapped_bytes;
    int (*init)(void *ctx, void *arena, size_t arena_bytes, const void *weights, size_t weight_bytes);
    int (*call)(void *ctx, int threads, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims);
    const char *(*error)(int code);
    void (*set_tick)(void *ctx, void (*tick)(void *user, unsigned time, int ends), void *user); /* of a profile */
} Program;

/* Reads a model by its file name: .lir is IR text, everything else ONNX; "-" is IR text on standard input. NULL after messages, *code then says how it failed. */
LatheModel *model_open(Driver *d, const char *path, Exit *code);
/* The request's model with the request's dims. */
LatheModel *model_open_with_dims(Driver *d, const Request *r, Exit *code);
/* LatheOptions as the request has them; level and disabled passes from the variant when it is not NULL. */
LatheOptions request_options(Driver *d, const Request *r, const Variant *v);

/* sizes: besides the dim options of the request; may be NULL. Messages are printed. */
Exit program_make(Driver *d, const Request *r, const Variant *v, const Sizes *sizes, Program *p);
int program_call(Program *p, int threads, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims);
void program_free(Program *p);

#endif
