/* lathe: neural networks to C. The one public header: building models in C, importing ONNX, compiling.
 *
 *     LatheModel *m = lathe_model_new("mlp");
 *     LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){lathe_dim(m, "N", 1, 64), lathe_const_dim(784)});
 *     LatheValue h = lathe_relu(lathe_dense(x, 512, "fc1"));
 *     lathe_output("logits", lathe_dense(h, 10, "fc2"));
 *     if (lathe_compile(m, &(LatheOptions){.output = "mlp.c"}) != LATHE_OK) lathe_print_diagnostics(m, stderr);
 *     lathe_model_free(m);
 *
 * No call prints, exits or aborts; every problem is a diagnostic of the model. Building calls on a model that has an
 * error return the null value, and later calls on null values stay silent: check once, at the end. */
#ifndef LATHE_H
#define LATHE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LATHE_VERSION "0.1.0"

typedef enum LatheStatus {
    LATHE_OK = 0,
    LATHE_ERROR_MODEL = 1, /* the model is wrong or not supported */
    LATHE_ERROR_USAGE = 2, /* options contradict each other or the model */
    LATHE_ERROR_FILE = 3,  /* a file or tool failed */
} LatheStatus;

/* Element types, with ONNX's numbers. */
typedef enum LatheDType {
    LATHE_F32 = 1, LATHE_U8 = 2, LATHE_I8 = 3, LATHE_U16 = 4, LATHE_I16 = 5, LATHE_I32 = 6, LATHE_I64 = 7,
    LATHE_STRING = 8, LATHE_BOOL = 9, LATHE_F16 = 10, LATHE_F64 = 11, LATHE_U32 = 12, LATHE_U64 = 13, LATHE_BF16 = 16,
} LatheDType;

typedef enum LatheWeights {
    LATHE_WEIGHTS_AUTO,   /* embed up to 256 KiB, else a file beside the C file that .incbin includes */
    LATHE_WEIGHTS_EMBED,  /* as text in the C file */
    LATHE_WEIGHTS_INCBIN, /* NAME.bin, made part of the object by .incbin */
    LATHE_WEIGHTS_FILE,   /* NAME.bin, given to NAME_init by the caller */
} LatheWeights;

typedef struct LatheModel LatheModel;

typedef struct LatheOptions {
    const char *output;        /* path of the C file; the header and weights go beside it. NULL: nothing is written */
    const char *name;          /* prefix of emitted identifiers; NULL: from output or the model */
    const char *target;        /* native (default), x86-64-v3, x86-64-v4, armv8-a, rv64gcv, wasm32, generic */
    int opt_level;             /* 0: no passes beyond the needed ones; 1, 2 (default when negative or unset via lathe_options), 3 */
    LatheWeights weights;
    const char *const *dims;   /* "N=4" pins, "N=1..64" bounds; NULL-terminated list or NULL */
    const char *const *disable; /* names of passes to skip ("fuse", "cse", …); NULL-terminated list or NULL */
    const char *dump;          /* pass name after which the IR is printed to dump_to; "all": after each */
    FILE *dump_to;
    FILE *time_passes;         /* a line per pass, if not NULL */
    bool verify_ir;            /* run the verifier after each pass */
    void (*progress)(void *user, const char *what, double done); /* done 0..1; may be NULL */
    void *progress_user;
} LatheOptions;

LatheOptions lathe_options(void); /* the defaults: opt_level 2, verify off */

LatheModel *lathe_model_new(const char *name); /* NULL: out of memory */
void lathe_model_free(LatheModel *m);
void lathe_print_diagnostics(const LatheModel *m, FILE *to);
uint32_t lathe_error_count(const LatheModel *m);

/* ---- import, export, compile ------------------------------------------------------------------------------------ */
LatheStatus lathe_import_onnx(LatheModel *m, const char *path);
LatheStatus lathe_import_ir(LatheModel *m, const char *path);            /* IR text (.lir) */
LatheStatus lathe_export_onnx(LatheModel *m, const char *path);
LatheStatus lathe_print_ir(LatheModel *m, FILE *to);
/* Runs a list of passes, comma-separated, on the model as it stands: "infer_shapes,fold_consts,dce". */
LatheStatus lathe_run_passes(LatheModel *m, const char *passes, const LatheOptions *options);
/* Optimises and emits. On error no output file is left behind. A model is compiled once. */
LatheStatus lathe_compile(LatheModel *m, const LatheOptions *options);

/* Fixes ("N=4") or bounds ("N=1..64") symbolic dims of an imported model; NULL-terminated. LATHE_ERROR_USAGE: a text is
 * malformed, or the model has no such dim (the diagnostic lists those it has). LatheOptions.dims does the same. */
LatheStatus lathe_set_dims(LatheModel *m, const char *const *dims);
/* The passes, in pipeline order; purpose is one line. NULL past the end. */
const char *lathe_pass_name(uint32_t i);
const char *lathe_pass_purpose(uint32_t i);

/* ---- what a model looks like from outside ----------------------------------------------------------------------- */
enum { LATHE_RANK_MAX = 16 };
typedef struct LatheTensorInfo {
    const char *name;                   /* in the model's file */
    LatheDType dtype;
    int kind;                           /* 0 tensor, 1 sequence of tensors, 2 optional tensor */
    uint32_t rank;
    int64_t lo[LATHE_RANK_MAX], hi[LATHE_RANK_MAX]; /* bounds of each dim; equal when fixed. hi < 0: unbounded */
    const char *dim[LATHE_RANK_MAX];    /* dims as text: "4", "N", "2*N" */
} LatheTensorInfo;
uint32_t lathe_input_count(const LatheModel *m);
uint32_t lathe_output_count(const LatheModel *m);
LatheTensorInfo lathe_input_info(const LatheModel *m, uint32_t i);
LatheTensorInfo lathe_output_info(const LatheModel *m, uint32_t i);

/* Symbolic dims the caller of the emitted code chooses (not those that depend on data). */
enum { LATHE_DEFAULT_DIM_BOUND = 64 };  /* upper bound of a symbol nobody bounded; compiling adds a note */
typedef struct LatheSymbolInfo {
    const char *name;
    int64_t lo, hi;                     /* hi < 0: no upper bound yet */
} LatheSymbolInfo;
uint32_t lathe_symbol_count(const LatheModel *m);
LatheSymbolInfo lathe_symbol_info(const LatheModel *m, uint32_t i);

typedef struct LatheOpCount {
    const char *domain, *name;          /* "" is ai.onnx */
    uint32_t count;                     /* nodes, regions included */
} LatheOpCount;
/* The i-th kind of operator the model uses, most frequent first; false past the end. */
bool lathe_op_count(LatheModel *m, uint32_t i, LatheOpCount *count);
uint64_t lathe_parameter_count(const LatheModel *m); /* elements of all floating-point constants */

typedef struct LatheStats {             /* after lathe_compile */
    uint64_t arena_bytes, weight_bytes, arena_lower_bound;
    uint32_t kernels, steps, nodes;
    double flops, traffic_bytes;        /* of one run, upper bounds of symbolic dims: multiply-adds count 2; bytes kernels read and write */
    double seconds;                     /* spent in lathe_compile */
} LatheStats;
LatheStats lathe_stats(const LatheModel *m);

/* ---- the C DSL: building a model -------------------------------------------------------------------------------- */
typedef struct LatheValue { LatheModel *model; uint32_t id; } LatheValue; /* id 0: the null value */
typedef struct LatheDim { uint32_t id; } LatheDim;

LatheDim lathe_const_dim(int64_t n);
LatheDim lathe_dim(LatheModel *m, const char *name, int64_t lo, int64_t hi);
LatheValue lathe_input(LatheModel *m, const char *name, LatheDType dtype, uint32_t rank, const LatheDim *dims);
LatheValue lathe_output(const char *name, LatheValue v); /* returns v */

#ifdef __cplusplus
}
#endif
#endif
