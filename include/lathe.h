/* lathe: neural networks to C. The one public header: building models in C, importing ONNX, compiling.
 *
 *     LatheModel *m = lathe_model_new("mlp");
 *     LatheValue x = lathe_input(m, "x", LATHE_F32, 2, (LatheDim[]){lathe_dim(m, "N", 1, 64), lathe_const_dim(784)});
 *     LatheValue h = lathe_relu(lathe_dense(x, 512, "fc1"));
 *     lathe_output("logits", lathe_dense(h, 10, "fc2"));
 *     LatheOptions options = lathe_options();
 *     options.output = "mlp.c";
 *     if (lathe_compile(m, &options) != LATHE_OK) lathe_print_diagnostics(m, stderr);
 *     lathe_model_free(m);
 *
 * No call prints, exits or aborts; every problem is a diagnostic of the model, and building goes on after it: check once,
 * at the end. */
#ifndef LATHE_H
#define LATHE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LATHE_FORMAT(text, first) __attribute__((format(printf, text, first)))
#else
#define LATHE_FORMAT(text, first)
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

/* What contractions read; they always sum in float32. */
typedef enum LathePrecision {
    LATHE_PRECISION_F32,
    LATHE_PRECISION_BF16, /* weights and inputs of contractions rounded to bfloat16: see docs/COMMAND.md for the error */
} LathePrecision;

typedef enum LatheDistributed {
    LATHE_LOCAL,
    LATHE_MPI,            /* training: every process has a part of the batch, gradients are averaged over MPI_COMM_WORLD (docs/TRAINING.md) */
} LatheDistributed;
typedef enum LatheThreading {
    LATHE_OPENMP,              /* default */
    LATHE_POOL                 /* the caller's threads: a function in the context runs tasks at the same time */
} LatheThreading;

typedef struct LatheModel LatheModel;

typedef struct LatheOptions {
    const char *output;        /* path of the C file; the header and weights go beside it. NULL: nothing is written */
    const char *name;          /* prefix of emitted identifiers; NULL: from output or the model */
    const char *target;        /* native (default) or a name of ir/target.def; docs/COMMAND.md lists them. Several x86-64 ones, separated by
                                  commas, or x86-64-any: one file with code for each, of which NAME_init chooses */
    int opt_level;             /* 0: no passes beyond the needed ones; 1, 2 (default when negative or unset via lathe_options), 3: the same;
                                  the command times `choices` for it */
    LatheWeights weights;
    const char *share_weights; /* a file for the weights of several models: tensors that are in it are used, others are put at its end */
    LathePrecision precision;
    LatheDistributed distributed;
    uint32_t shard_optimizer;  /* with LATHE_MPI: the number of processes, each of which keeps its part of what the optimizer keeps for the parameters
                                  (ZeRO-1); 0: everyone keeps all of it */
    LatheThreading threading;
    uint32_t recompute;        /* training: the forward pass is cut into so many segments, and what the backward pass needs of one is computed again
                                  from what the segments exchange; 0: only what costs next to nothing is, 1: nothing */
    uint64_t memory;           /* bytes the arena should stay below: the first layers of image networks are computed in bands of lines, the least
                                  repeated arithmetic whose estimate fits, or, when none does, the least memory; 0: no limit. See LatheStats for what came out */
    uint64_t fast_memory;      /* inference: bytes of a second, fast memory, where tensors go that are used often for their size. NAME_init takes its address, too; 0: none */
    uint64_t rest_memory;      /* what the arena may take beside it: the fast memory then takes from the arena's largest moment, if need be; 0: no limit */
    uint64_t bucket_bytes;     /* gradients that are exchanged in one message; 0: 1 MiB */
    bool profile;              /* the context gets a function that is told when each kernel begins and ends, with the time of its step
                                  (LathePlanStep); for `lathe bench --profile` */
    bool fast_math;            /* exp, tanh, sigmoid, sin and cos of float within 4 ULP instead of 2: see docs/COMMAND.md */
    const char *const *dims;   /* "N=4" pins, "N=1..64" bounds; NULL-terminated list or NULL */
    const char *const *disable; /* names of passes to skip ("fuse", "cse", …); NULL-terminated list or NULL */
    const char *const *choices; /* "KEY=CHOICE": how kernels with that LathePlanStep.choice_key are lowered, a lathe_choice; others as the cost model says.
                                  KEY may be *, for all. What cannot be is ignored. NULL-terminated list or NULL */
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
/* Files are written into a directory of their own beside the output, which is gone when a call returns. For programs that remove it when
 * they are interrupted: changed() says that it is there, and that it is there no longer; hold() is called with true before and with false
 * after what a signal must not split (making the directory and telling of it, renaming all files). Either may be NULL. */
typedef struct LatheStagingHooks {
    void (*hold)(void *user, bool begins);
    void (*changed)(void *user, const char *directory, bool there);
    void *user;
} LatheStagingHooks;
void lathe_on_staging(LatheModel *m, const LatheStagingHooks *hooks);
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

/* ---- quantization: docs/QUANTIZATION.md ---------------------------------------------------------------------------- */
typedef enum LatheScheme {
    LATHE_QUANTIZE_STATIC,  /* 8-bit weights and activations, ranges from calibration data: QDQ */
    LATHE_QUANTIZE_DYNAMIC, /* 8-bit weights, activations per token at run time: MatMulInteger */
    LATHE_QUANTIZE_WEIGHT8, /* only weights, 8 bits: MatMulNBits */
    LATHE_QUANTIZE_WEIGHT4, /* only weights, 4 bits: MatMulNBits */
} LatheScheme;
typedef enum LatheRange { LATHE_RANGE_MINMAX, LATHE_RANGE_PERCENTILE, LATHE_RANGE_ENTROPY, LATHE_RANGE_MSE } LatheRange;
typedef struct LatheQuantization {
    LatheScheme scheme;
    LatheRange range;             /* static: which part of the calibrated range the codes cover */
    double percentile;            /* LATHE_RANGE_PERCENTILE: 99.99 */
    bool symmetric;               /* activations s8 with zero point 0 instead of u8; weights only: without zero points */
    bool per_tensor;              /* one scale per weight instead of one per output channel */
    uint32_t weight_bits;         /* static: 8 or 4 (4: the scale with the least square error); 0: 8 */
    bool train;                   /* static: for quantization-aware training. Weights stay floats, the graph rounds them: lathe_round_weights afterwards */
    uint32_t group;               /* weights only: weights that share a scale, a power of two from 16; 0: a whole row */
    bool gptq, act_order;         /* weights only, dynamic: round with calibration data, layer after layer */
    uint32_t outliers;            /* dynamic: so many inputs of every layer, those with the largest max |x|, are multiplied in floats (QUIK) */
    double smooth;                /* static, dynamic: SmoothQuant with this alpha, usually 0.5; 0: off */
    bool awq;                     /* weights only: AWQ */
    bool equalize;                /* channels between two layers get weights of equal size on both sides */
    bool bias_correction;         /* static: biases make up for what rounded weights change on average */
    bool int8_activations;        /* weights only: inputs may be rounded to 8 bits per group as they are read (accuracy_level 4) */
    const char *const *keep;      /* names of layers that stay in floats; NULL-terminated or NULL */
} LatheQuantization;
LatheQuantization lathe_quantization(void); /* the defaults: static, min and max, u8 */

/* What calibration has found. While lathe_calibration_probe makes a probe of a freshly imported model, compile and run that
 * on all calibration data, giving the outputs of every run to lathe_calibration_add:
 *
 *     while (lathe_calibration_pending(c)) {
 *         import the model into m;  lathe_calibration_probe(m, c);  compile and load m
 *         for all data: run m;  lathe_calibration_add(c, outputs)
 *         lathe_calibration_end_round(c)
 *     }
 *     import the model into m;  lathe_quantize(m, c);  lathe_export_onnx(m, path) */
typedef struct LatheCalibration LatheCalibration;
LatheCalibration *lathe_calibration_new(const LatheQuantization *q); /* q's strings must stay; NULL: out of memory */
void lathe_calibration_free(LatheCalibration *c);
void lathe_calibration_keep(LatheCalibration *c, const char *const *keep); /* other layers than q->keep stay in floats from now on */
bool lathe_calibration_pending(const LatheCalibration *c);
const char *lathe_calibration_step(const LatheCalibration *c);       /* what the pending probe measures, for progress */
LatheStatus lathe_calibration_probe(LatheModel *m, LatheCalibration *c); /* m gets more outputs */
LatheStatus lathe_calibration_add(LatheCalibration *c, const void *const *outputs); /* all outputs of the probe; LATHE_ERROR_MODEL: not finite, see the name */
LatheStatus lathe_calibration_end_round(LatheCalibration *c);
const char *lathe_calibration_problem(const LatheCalibration *c);    /* the value that was not finite, or what else went wrong */
LatheStatus lathe_quantize(LatheModel *m, LatheCalibration *c);
LatheStatus lathe_round_weights(LatheModel *m); /* float constants behind a QuantizeLinear become integers; LATHE_ERROR_MODEL: there are none */
/* The layers, after lathe_quantize. */
typedef struct LatheQuantizedLayer {
    const char *name, *op;
    bool quantized;
    double low, high;             /* range of the input, as used; 0 when it was not measured */
    const uint64_t *histogram;    /* of the input, 2048 bins over the calibrated range; NULL: not measured */
    double sqnr;                  /* of the weights, dB */
    uint64_t float_bytes, bytes;  /* of the weights, scales included */
} LatheQuantizedLayer;
uint32_t lathe_quantized_layer_count(const LatheCalibration *c);
LatheQuantizedLayer lathe_quantized_layer(const LatheCalibration *c, uint32_t i);

/* Fixes ("N=4") or bounds ("N=1..64") symbolic dims of an imported model; NULL-terminated. LATHE_ERROR_USAGE: a text is
 * malformed, or the model has no such dim (the diagnostic lists those it has). LatheOptions.dims does the same. */
LatheStatus lathe_set_dims(LatheModel *m, const char *const *dims);
/* The C compiler's flags for what is emitted for a target, separated by spaces; NULL: there is no such target. */
const char *lathe_target_flags(const char *target);
const char *lathe_target_plainest(const char *target); /* of several targets the one whose flags such a file is compiled with; NULL: it is one target, or unknown */
/* The passes, in pipeline order; purpose is one line. NULL past the end. */
const char *lathe_pass_name(uint32_t i);
const char *lathe_pass_purpose(uint32_t i);
bool lathe_pass_optional(uint32_t i); /* may stand in LatheOptions.disable; not run at opt_level 0 */

/* ---- what a model looks like from outside ----------------------------------------------------------------------- */
enum { LATHE_RANK_MAX = 16 };
typedef struct LatheTensorInfo {
    const char *name;                   /* in the model's file */
    LatheDType dtype;
    int kind;                           /* 0 tensor, 1 sequence of tensors, 2 optional tensor, 3 optional sequence */
    bool open_rank;                     /* the file leaves the rank open (lathe_shape_input); rank is 0 then */
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

/* After lathe_compile a sequence or optional input or output is several tensors; input i of the file is the tensors
 * first .. first + n of lathe_input_info: for an optional first a bool that says whether it is there, for a sequence
 * its length, the dims of its elements (a row each) and their data (a slot each). */
typedef struct LatheGroup { uint32_t first, n; bool optional, sequence; uint32_t rank; /* of a sequence's elements */ } LatheGroup;
uint32_t lathe_input_group_count(const LatheModel *m);
uint32_t lathe_output_group_count(const LatheModel *m);
LatheGroup lathe_input_group(const LatheModel *m, uint32_t i);
LatheGroup lathe_output_group(const LatheModel *m, uint32_t i);
/* Before lathe_compile: the rank and largest dims of an input (or of the elements of a sequence) whose file leaves its
 * rank open. An error if the file says otherwise. */
LatheStatus lathe_shape_input(LatheModel *m, uint32_t i, uint32_t rank, const int64_t *dims);

typedef struct LatheStats {             /* after lathe_compile */
    uint64_t arena_bytes, weight_bytes, arena_lower_bound;
    uint64_t fast_bytes;                /* of LatheOptions.fast_memory in use; not counted in arena_bytes */
    uint32_t kernels, steps, nodes;
    double flops, traffic_bytes;        /* of one run, symbolic dims at their upper bounds. Operations the model asks for, a multiply-add is 2; bytes its kernels read and write */
    double seconds;                     /* spent in lathe_compile */
} LatheStats;
LatheStats lathe_stats(const LatheModel *m);

/* The plan as lists, after lathe_compile; false past the end. Texts live as long as the model and come from it. */
typedef struct LathePlanStep {          /* in the order of execution, those inside of loops and branches after the loop or branch itself */
    const char *kernel, *what;          /* "conv_relu"; operators in it with the types of their results and names of nodes. Control: "loop", "if", … */
    uint32_t time, depth;               /* depth: how many loops and branches it stands in */
    double flops, bytes;                /* one execution: operations the model asks for, bytes its arguments have */
    const char *choice_key;             /* for LatheOptions.choices; "" when there is one way to lower it */
    uint32_t choices;                   /* bit i: lathe_choice(i) is a way */
} LathePlanStep;
typedef struct LathePlanBuffer {        /* one lifetime of arena memory */
    const char *name, *type;            /* of the tensor, or of the node that makes it */
    uint64_t offset, bytes;             /* offsets below LatheStats.fast_bytes are in the fast memory, the arena's begin there */
    uint32_t first, last;               /* times of the first and last step that touch it */
} LathePlanBuffer;
const char *lathe_choice(uint32_t i);    /* the names of all ways, the first is "auto": the cost model's; NULL past the end */
bool lathe_plan_step(LatheModel *m, uint32_t i, LathePlanStep *step);
bool lathe_plan_buffer(LatheModel *m, uint32_t i, LathePlanBuffer *buffer);

/* ---- memory planning on its own ------------------------------------------------------------------------------------ *
 * Places blocks with known lifetimes in one arena with the compiler's solver (docs/MEMORY.md). */
typedef struct LatheGap { int64_t lower, upper; } LatheGap;
typedef struct LatheBlock {
    int64_t lower, upper;               /* alive at lower <= time < upper */
    uint64_t size, align;               /* bytes; the offset is a multiple of align, 0 counts as 1 */
    const LatheGap *gap;                /* when other blocks may use the bytes: ascending, disjoint, inside of the lifetime, not all of it */
    uint32_t n_gap;
    uint64_t offset;                    /* result */
} LatheBlock;
typedef struct LathePlacement { uint64_t height, lower_bound; } LathePlacement; /* lower_bound: the most that is alive at one time */
/* Fills offset of every block. capacity 0: as low as can be found. LATHE_ERROR_MODEL: no placement within capacity was found, the
 * offsets are those of the lowest one that was. LATHE_ERROR_USAGE: a block is not as described above, or all sizes and alignments
 * together are 2^62 or more. The same blocks give the same offsets on every machine. m: any model, for memory. */
LatheStatus lathe_place_blocks(LatheModel *m, LatheBlock *block, uint32_t n, uint64_t capacity, LathePlacement *result);

/* ---- the C DSL: building a model -------------------------------------------------------------------------------- *
 * A layer is a function from values to a value. Layers that own parameters take a name; their parameters are called
 * NAME/weight, NAME/bias … inside the scopes that are open (lathe_scope). Sizes of inputs are inferred.
 *
 *     lathe_scope(m, "block%d", i);
 *     LatheValue y = lathe_conv2d(x, 64, 3, "conv", &(LatheConv){.pad = 1});
 *     x = lathe_relu(lathe_add(x, lathe_batchnorm(y, "bn", NULL)));
 *     lathe_end_scope(m);
 *
 * Options structs may be NULL and every field may be left 0: that is the default the comment gives.
 * A mistake is a diagnostic that names the layer. Where it is plain what the layer would have given, building goes on
 * with that, so that one run finds all mistakes; otherwise the result is the null value, and layers given a null value
 * return it and say nothing. A model with an error is never emitted. */
typedef struct LatheValue { LatheModel *model; uint32_t id; } LatheValue; /* id 0: the null value */
typedef struct LatheDim { int64_t size; uint32_t symbol; } LatheDim;      /* symbol 0: the constant size */

LatheDim lathe_const_dim(int64_t n);
LatheDim lathe_dim(LatheModel *m, const char *name, int64_t lo, int64_t hi); /* a size the caller of the emitted code chooses */
LatheValue lathe_input(LatheModel *m, const char *name, LatheDType dtype, uint32_t rank, const LatheDim *dims);
LatheValue lathe_output(const char *name, LatheValue v); /* returns v */

bool lathe_is_null(LatheValue v);
LatheDType lathe_dtype(LatheValue v);                 /* 0 of the null value */
uint32_t lathe_rank(LatheValue v);
LatheDim lathe_dim_of(LatheValue v, int64_t axis);    /* axis < 0 counts from the end */
int64_t lathe_size_of(LatheValue v, int64_t axis);    /* of a constant dim, else -1 */
LatheValue lathe_name(LatheValue v, const char *name); /* names a value, for lathe_find and exports; returns v */
LatheValue lathe_find(LatheModel *m, const char *name); /* a named value, also of an imported model; null and an error if none */
void lathe_scope(LatheModel *m, const char *format, ...) LATHE_FORMAT(2, 3);
void lathe_end_scope(LatheModel *m);

typedef enum LatheSeverity { LATHE_NOTE, LATHE_WARNING, LATHE_ERROR } LatheSeverity;
typedef struct LatheDiagnostic {
    LatheSeverity severity;
    const char *op, *layer, *message; /* "Conv", "block1/conv", what was found and what is accepted; op and layer may be "" */
} LatheDiagnostic;
bool lathe_diagnostic(const LatheModel *m, uint32_t i, LatheDiagnostic *d); /* the i-th; false past the end */

/* ---- parameters and constants ---- */
typedef enum LatheInitKind {
    LATHE_INIT_DEFAULT, /* what the layer's description says */
    LATHE_INIT_CONSTANT, LATHE_INIT_NORMAL, LATHE_INIT_UNIFORM,
    LATHE_INIT_GLOROT_UNIFORM, LATHE_INIT_GLOROT_NORMAL, LATHE_INIT_KAIMING_UNIFORM, LATHE_INIT_KAIMING_NORMAL, LATHE_INIT_ORTHOGONAL,
    LATHE_INIT_TRUNCATED, /* normal, within two deviations of the mean */
} LatheInitKind;
/* The first values of a parameter. Random ones depend on the model's seed, the parameter's name and the position of the
 * element only: the same on every machine, whatever else the model holds. */
typedef struct LatheInit { LatheInitKind kind; double a, b; } LatheInit;
static inline LatheInit lathe_zeros(void) { LatheInit i = {LATHE_INIT_CONSTANT, 0, 0}; return i; }
static inline LatheInit lathe_ones(void) { LatheInit i = {LATHE_INIT_CONSTANT, 1, 0}; return i; }
static inline LatheInit lathe_constant(double value) { LatheInit i = {LATHE_INIT_CONSTANT, value, 0}; return i; }
static inline LatheInit lathe_normal(double mean, double deviation) { LatheInit i = {LATHE_INIT_NORMAL, mean, deviation}; return i; }
static inline LatheInit lathe_uniform(double low, double high) { LatheInit i = {LATHE_INIT_UNIFORM, low, high}; return i; }
static inline LatheInit lathe_truncated(double mean, double deviation) { LatheInit i = {LATHE_INIT_TRUNCATED, mean, deviation}; return i; }
/* Glorot and Bengio 2010: variance 2 / (fan in + fan out). He et al. 2015: gain² / fan in, gain = sqrt(2 / (1 + slope²)). */
static inline LatheInit lathe_glorot_uniform(void) { LatheInit i = {LATHE_INIT_GLOROT_UNIFORM, 0, 0}; return i; }
static inline LatheInit lathe_glorot_normal(void) { LatheInit i = {LATHE_INIT_GLOROT_NORMAL, 0, 0}; return i; }
static inline LatheInit lathe_kaiming_uniform(double slope) { LatheInit i = {LATHE_INIT_KAIMING_UNIFORM, slope, 0}; return i; }
static inline LatheInit lathe_kaiming_normal(double slope) { LatheInit i = {LATHE_INIT_KAIMING_NORMAL, slope, 0}; return i; }
static inline LatheInit lathe_orthogonal(double gain) { LatheInit i = {LATHE_INIT_ORTHOGONAL, gain, 0}; return i; } /* Saxe et al. 2014 */

void lathe_seed(LatheModel *m, uint64_t seed); /* of the parameters made from here on; 0 before the first call */
LatheValue lathe_param(LatheModel *m, const char *name, LatheDType dtype, uint32_t rank, const int64_t *shape, LatheInit init);
LatheValue lathe_const(LatheModel *m, LatheDType dtype, uint32_t rank, const int64_t *shape, const void *data); /* copies */
LatheValue lathe_scalar(LatheModel *m, LatheDType dtype, double value);
LatheValue lathe_scalar_like(LatheValue v, double value); /* rank 0, of v's element type: lathe_mul(x, lathe_scalar_like(x, 0.5)) */

typedef struct LatheParam { LatheTensorInfo info; LatheValue value; const void *data; size_t bytes; } LatheParam;
bool lathe_param_at(LatheModel *m, uint32_t i, LatheParam *p); /* in the order made; false past the end */
/* Contents from outside; names as in lathe_param_at. Wrong names, types, shapes and sizes are errors that say what was found. */
LatheStatus lathe_load_array(LatheModel *m, const char *name, const void *data, size_t bytes);
LatheStatus lathe_load_npy(LatheModel *m, const char *name, const char *path);
LatheStatus lathe_load_safetensors(LatheModel *m, const char *path); /* every parameter of the model must be in the file */

/* ---- layers with parameters ---- */
/* y = x W + b over the last dim. weight [in, units]. Default: weight Glorot uniform, bias zeros. */
typedef struct LatheDense { int64_t in; bool no_bias; LatheInit weight, bias; } LatheDense; /* in: 0, or the size x must have */
LatheValue lathe_dense(LatheValue x, int64_t units, const char *name);
LatheValue lathe_dense_with(LatheValue x, int64_t units, const char *name, const LatheDense *o);

/* x [N,C,H,W] (conv1d: [N,C,L]), weight [channels, C / groups, kernel…]. Default: weight Kaiming uniform, bias zeros.
 * The fields ending in _w are for the width where it differs from the height. */
typedef struct LatheConv {
    int64_t in;                               /* 0, or the number of channels x must have */
    int64_t kernel_w, stride, stride_w, dilation, dilation_w, groups; /* default: as the height, 1, 1, 1 */
    int64_t pad, pads[4];                     /* pad: on all sides; pads: top, left, bottom, right, when any is set */
    int64_t output_pad;                       /* transposed only: rows and columns added at the end */
    bool same;                                /* pad so that the output has ceil(size / stride) */
    bool no_bias;
    LatheInit weight, bias;
} LatheConv;
LatheValue lathe_conv1d(LatheValue x, int64_t channels, int64_t kernel, const char *name, const LatheConv *o);
LatheValue lathe_conv2d(LatheValue x, int64_t channels, int64_t kernel, const char *name, const LatheConv *o);
LatheValue lathe_conv_transpose2d(LatheValue x, int64_t channels, int64_t kernel, const char *name, const LatheConv *o); /* weight [C, channels / groups, …] */

/* scale (ones) and bias (zeros) per channel (batch, group, instance) or per element of the last dim (layer, rms).
 * batchnorm also owns mean (zeros) and variance (ones): the running statistics it uses outside of training. */
typedef struct LatheNorm { double epsilon, momentum; } LatheNorm; /* default 1e-5, 0.9 */
LatheValue lathe_batchnorm(LatheValue x, const char *name, const LatheNorm *o);
LatheValue lathe_layernorm(LatheValue x, const char *name, const LatheNorm *o);
LatheValue lathe_rmsnorm(LatheValue x, const char *name, const LatheNorm *o);
LatheValue lathe_groupnorm(LatheValue x, int64_t groups, const char *name, const LatheNorm *o);
LatheValue lathe_instancenorm(LatheValue x, const char *name, const LatheNorm *o);

/* Rows of weight [count, width] by id; ids i32 or i64 of any shape. Default: normal(0, 1). */
LatheValue lathe_embedding(LatheValue ids, int64_t count, int64_t width, const char *name, LatheInit init);

/* x [N,T,I] to sequence [N,T,D*H], with the last hidden (and cell) state as [N,D*H]; D is 2 when bidirectional.
 * Parameters as ONNX: weight [D,G*H,I], recurrence [D,G*H,H], bias [D,2*G*H]; gates i,o,f,c (LSTM), z,r,h (GRU).
 * Default: uniform(-1/sqrt(H), 1/sqrt(H)). */
typedef struct LatheRecurrence {
    bool bidirectional, reverse;
    bool reset_first;             /* GRU: the reset gate acts before the recurrent product; default after it, as torch and cuDNN do */
    LatheValue h, c;              /* initial states [D,N,H]; null: zeros */
    LatheInit init;
} LatheRecurrence;
typedef struct LatheSequence { LatheValue sequence, h, c; } LatheSequence; /* c of the LSTM only */
LatheSequence lathe_lstm(LatheValue x, int64_t hidden, const char *name, const LatheRecurrence *o);
LatheSequence lathe_gru(LatheValue x, int64_t hidden, const char *name, const LatheRecurrence *o);
LatheSequence lathe_rnn(LatheValue x, int64_t hidden, const char *name, const LatheRecurrence *o); /* tanh */

/* ---- layers without parameters ---- */
typedef struct LathePool {
    int64_t kernel_w, stride, stride_w, pad, pads[4]; /* default stride: the kernel */
    bool ceil_mode, count_pad;                        /* count_pad: the average counts padding */
} LathePool;
LatheValue lathe_max_pool1d(LatheValue x, int64_t kernel, const LathePool *o);
LatheValue lathe_avg_pool1d(LatheValue x, int64_t kernel, const LathePool *o);
LatheValue lathe_max_pool2d(LatheValue x, int64_t kernel, const LathePool *o);
LatheValue lathe_avg_pool2d(LatheValue x, int64_t kernel, const LathePool *o);
LatheValue lathe_global_avg_pool(LatheValue x); /* [N,C,…] to [N,C] */
LatheValue lathe_global_max_pool(LatheValue x);
LatheValue lathe_dropout(LatheValue x, double rate); /* acts in training only */
LatheValue lathe_softmax(LatheValue x, int64_t axis);
LatheValue lathe_log_softmax(LatheValue x, int64_t axis);
LatheValue lathe_upsample2d(LatheValue x, int64_t factor, bool bilinear);

/* softmax(q kᵀ scale + mask) v. q [N,H,T,E], k and v [N,K,S,E] with H a multiple of K (grouped-query); or [N,T,H*E] with the
 * numbers of heads in the options. mask: null, bool (true = attend) or float (added), broadcast to [N,H,T,S]. */
typedef struct LatheAttention { bool causal; double scale, softcap; int64_t heads, kv_heads; } LatheAttention; /* default scale 1/sqrt(E) */
LatheValue lathe_attention(LatheValue q, LatheValue k, LatheValue v, LatheValue mask, const LatheAttention *o);
/* Rotary position embedding of x [N,H,T,E]: cosine and sine tables [positions, E/2], position ids i64[N,T]. */
LatheValue lathe_rope(LatheValue x, LatheValue cosine, LatheValue sine, LatheValue positions, bool interleaved);

/* ---- elementwise ---- */
LatheValue lathe_relu(LatheValue x);
LatheValue lathe_relu6(LatheValue x);
LatheValue lathe_leaky_relu(LatheValue x, double slope);
LatheValue lathe_elu(LatheValue x, double alpha);
LatheValue lathe_selu(LatheValue x);
LatheValue lathe_gelu(LatheValue x);      /* by erf */
LatheValue lathe_gelu_tanh(LatheValue x); /* the approximation of GPT-2 */
LatheValue lathe_silu(LatheValue x);
LatheValue lathe_mish(LatheValue x);
LatheValue lathe_sigmoid(LatheValue x);
LatheValue lathe_hard_sigmoid(LatheValue x);
LatheValue lathe_hard_swish(LatheValue x);
LatheValue lathe_softplus(LatheValue x);
LatheValue lathe_softsign(LatheValue x);
LatheValue lathe_tanh(LatheValue x);
LatheValue lathe_erf(LatheValue x);
LatheValue lathe_exp(LatheValue x);
LatheValue lathe_expm1(LatheValue x);
LatheValue lathe_log(LatheValue x);
LatheValue lathe_log1p(LatheValue x);
LatheValue lathe_sqrt(LatheValue x);
LatheValue lathe_rsqrt(LatheValue x);
LatheValue lathe_reciprocal(LatheValue x);
LatheValue lathe_square(LatheValue x);
LatheValue lathe_abs(LatheValue x);
LatheValue lathe_neg(LatheValue x);
LatheValue lathe_sign(LatheValue x);
LatheValue lathe_sin(LatheValue x);
LatheValue lathe_cos(LatheValue x);
LatheValue lathe_tan(LatheValue x);
LatheValue lathe_floor(LatheValue x);
LatheValue lathe_ceil(LatheValue x);
LatheValue lathe_round(LatheValue x); /* halves to even */
LatheValue lathe_not(LatheValue x);
LatheValue lathe_clip(LatheValue x, double low, double high);
LatheValue lathe_cast(LatheValue x, LatheDType to);

/* Both of one element type; shapes broadcast as in numpy. */
LatheValue lathe_add(LatheValue a, LatheValue b);
LatheValue lathe_sub(LatheValue a, LatheValue b);
LatheValue lathe_mul(LatheValue a, LatheValue b);
LatheValue lathe_div(LatheValue a, LatheValue b);
LatheValue lathe_pow(LatheValue a, LatheValue b);
LatheValue lathe_mod(LatheValue a, LatheValue b); /* sign of b */
LatheValue lathe_min(LatheValue a, LatheValue b);
LatheValue lathe_max(LatheValue a, LatheValue b);
LatheValue lathe_equal(LatheValue a, LatheValue b);
LatheValue lathe_not_equal(LatheValue a, LatheValue b);
LatheValue lathe_less(LatheValue a, LatheValue b);
LatheValue lathe_less_equal(LatheValue a, LatheValue b);
LatheValue lathe_greater(LatheValue a, LatheValue b);
LatheValue lathe_greater_equal(LatheValue a, LatheValue b);
LatheValue lathe_and(LatheValue a, LatheValue b);
LatheValue lathe_or(LatheValue a, LatheValue b);
LatheValue lathe_xor(LatheValue a, LatheValue b);
LatheValue lathe_where(LatheValue condition, LatheValue a, LatheValue b);

/* ---- contraction, reduction, order ---- */
LatheValue lathe_matmul(LatheValue a, LatheValue b); /* the last two dims; the others broadcast */
typedef enum LatheReduce {
    LATHE_REDUCE_SUM, LATHE_REDUCE_MEAN, LATHE_REDUCE_MAX, LATHE_REDUCE_MIN, LATHE_REDUCE_PROD,
    LATHE_REDUCE_L1, LATHE_REDUCE_L2, LATHE_REDUCE_SUM_SQUARE, LATHE_REDUCE_LOG_SUM_EXP,
} LatheReduce;
LatheValue lathe_reduce(LatheReduce kind, LatheValue x, uint32_t n, const int64_t *axes, bool keep_dims); /* n = 0: all axes */
LatheValue lathe_sum(LatheValue x, int64_t axis, bool keep_dims);
LatheValue lathe_mean(LatheValue x, int64_t axis, bool keep_dims);
LatheValue lathe_variance(LatheValue x, int64_t axis, bool keep_dims); /* divides by the count */
LatheValue lathe_argmax(LatheValue x, int64_t axis, bool keep_dims);   /* i64 */
LatheValue lathe_argmin(LatheValue x, int64_t axis, bool keep_dims);
LatheValue lathe_cumsum(LatheValue x, int64_t axis);
LatheValue lathe_topk(LatheValue x, int64_t k, int64_t axis, LatheValue *indices); /* largest first; indices may be NULL */

/* ---- shape and movement ---- */
LatheValue lathe_reshape(LatheValue x, uint32_t rank, const int64_t *shape); /* -1: what is left, 0: as in x */
LatheValue lathe_flatten(LatheValue x, int64_t axis);                        /* [dims before axis, dims from axis] */
LatheValue lathe_transpose(LatheValue x, const int64_t *permutation);        /* one entry per dim; NULL: reversed */
LatheValue lathe_squeeze(LatheValue x, int64_t axis);
LatheValue lathe_unsqueeze(LatheValue x, int64_t axis);
LatheValue lathe_expand(LatheValue x, uint32_t rank, const int64_t *shape);  /* broadcast to shape */
LatheValue lathe_tile(LatheValue x, const int64_t *repeats);                 /* one entry per dim */
LatheValue lathe_concat(uint32_t n, const LatheValue *values, int64_t axis);
LatheValue lathe_stack(uint32_t n, const LatheValue *values, int64_t axis);  /* along a new axis */
void lathe_split(LatheValue x, int64_t axis, uint32_t n, LatheValue *parts); /* n equal parts */
void lathe_split_sizes(LatheValue x, int64_t axis, uint32_t n, const int64_t *sizes, LatheValue *parts);
LatheValue lathe_slice(LatheValue x, int64_t axis, int64_t start, int64_t end, int64_t step); /* as Python's x[start:end:step] */
typedef enum LathePadMode { LATHE_PAD_CONSTANT, LATHE_PAD_REFLECT, LATHE_PAD_EDGE, LATHE_PAD_WRAP } LathePadMode;
LatheValue lathe_pad(LatheValue x, const int64_t *pads, LathePadMode mode, double value); /* pads: before of each dim, then after of each */
LatheValue lathe_triangle(LatheValue x, bool upper, int64_t diagonal);       /* the rest of the last two dims becomes 0 */
LatheValue lathe_gather(LatheValue x, LatheValue indices, int64_t axis);
LatheValue lathe_gather_elements(LatheValue x, LatheValue indices, int64_t axis);
LatheValue lathe_scatter_elements(LatheValue x, LatheValue indices, LatheValue updates, int64_t axis, bool add);
LatheValue lathe_positions(LatheValue x, int64_t axis);                      /* i64: 0, 1, 2 … as many as x has along axis */
LatheValue lathe_one_hot(LatheValue indices, int64_t depth, LatheDType dtype); /* a new last dim */

/* ---- training (docs/TRAINING.md) -------------------------------------------------------------------------------- *
 *     lathe_train(m, lathe_cross_entropy(logits, labels), &(LatheOptimizer){.kind = LATHE_ADAMW, .lr = 1e-3});
 *
 * lathe_compile then emits NAME_train_step, NAME_evaluate and NAME_predict over a state buffer with the parameters, instead
 * of NAME_run. Losses are scalars: means over all elements unless their comment says otherwise. */
typedef enum LatheOptimizerKind { LATHE_SGD, LATHE_MOMENTUM, LATHE_NESTEROV, LATHE_ADAGRAD, LATHE_RMSPROP, LATHE_ADAM, LATHE_ADAMW } LatheOptimizerKind;
/* The learning rate of step s = 0, 1, 2 …: lr * (s + 1) / warmup for the first `warmup` steps, then with u the steps since,
 * CONSTANT lr; STEP lr * factor^(u / every); LINEAR and COSINE from lr down to lr * floor at step `steps`, then that. */
typedef enum LatheScheduleKind { LATHE_CONSTANT, LATHE_STEP, LATHE_LINEAR, LATHE_COSINE } LatheScheduleKind;
typedef struct LatheSchedule { LatheScheduleKind kind; int64_t warmup, steps, every; double factor, floor; } LatheSchedule;
/* Parameters whose names match pattern ('*': any text) learn at lr times the factor (0: as it is), without weight decay if no_decay. */
typedef struct LatheParamGroup { const char *pattern; double lr; bool no_decay; } LatheParamGroup;

typedef struct LatheOptimizer {
    LatheOptimizerKind kind;
    double lr;
    double momentum;                 /* MOMENTUM, NESTEROV: default 0.9 */
    double beta1, beta2;             /* ADAM, ADAMW: default 0.9, 0.999. RMSPROP: beta2 is its decay, default 0.99 */
    double epsilon;                  /* default 1e-8, ADAGRAD 1e-10 */
    double weight_decay;             /* ADAMW: decoupled, default 0.01; others: added to the gradient, default 0 */
    LatheSchedule schedule;
    double clip;                     /* largest norm of all gradients together; 0: no limit */
    double loss_scale;               /* the loss is multiplied by it before differentiation, gradients divided; 0: 1 */
    double ema;                      /* decay of the exponential moving average of the weights kept beside them; 0: none */
    int64_t accumulate;              /* gradients are averaged over so many batches for a step; 0: 1 */
    bool separate;                   /* also emit NAME_forward, NAME_backward, NAME_step; gradients are kept in the state then */
    const char *const *params;       /* names or patterns of what is trained, NULL-terminated; NULL: all that the loss depends on */
    const char *const *freeze;       /* of those, what is not */
    const LatheParamGroup *groups;   /* the first that matches counts */
    uint32_t n_groups;
    const char *name;                /* of this part, when lathe_train is called more than once: NAME_<name>_train_step */
} LatheOptimizer;
void lathe_train(LatheModel *m, LatheValue loss, const LatheOptimizer *o);
/* Trained weights back into a model: every named constant takes the contents of the tensor of that name in a safetensors file (what NAME_save
 * wrote); other tensors of the file are left alone. Another type or shape is an error, and so is a file without any. */
LatheStatus lathe_load_checkpoint(LatheModel *m, const char *path);

LatheValue lathe_detach(LatheValue x); /* x, through which no gradient flows */
/* logits [N,C] or [N,C,d…] (of a softmax over C: what went into it), labels i32 or i64 [N] or [N,d…]; mean over the labels. A label outside 0..C-1 is a run-time error;
 * those equal to `ignore` count as nothing. */
LatheValue lathe_cross_entropy(LatheValue logits, LatheValue labels);
LatheValue lathe_cross_entropy_ignore(LatheValue logits, LatheValue labels, int64_t ignore);
LatheValue lathe_nll(LatheValue log_probabilities, LatheValue labels);      /* the same from a log_softmax */
LatheValue lathe_bce_logits(LatheValue logits, LatheValue target);         /* binary cross-entropy of sigmoid(logits) */
LatheValue lathe_bce(LatheValue probability, LatheValue target);
LatheValue lathe_mse(LatheValue y, LatheValue target);
LatheValue lathe_mae(LatheValue y, LatheValue target);
LatheValue lathe_huber(LatheValue y, LatheValue target, double delta);
LatheValue lathe_masked_mse(LatheValue y, LatheValue target, LatheValue mask); /* means over the elements whose mask (broadcast) is not 0 */
LatheValue lathe_masked_mae(LatheValue y, LatheValue target, LatheValue mask);
LatheValue lathe_gaussian_log_prob(LatheValue x, LatheValue mean, LatheValue log_deviation); /* of each element */
LatheValue lathe_gaussian_nll(LatheValue x, LatheValue mean, LatheValue log_deviation);
LatheValue lathe_kl_standard_normal(LatheValue mean, LatheValue log_deviation); /* KL(N(mean, dev²) to N(0, 1)), summed over all dims but the first */
/* KL - log_prob, both summed over all dims but the first: the negative of the evidence lower bound. */
LatheValue lathe_elbo_loss(LatheValue log_prob, LatheValue mean, LatheValue log_deviation);
LatheValue lathe_gram(LatheValue x);                                       /* [N,C,H,W] to [N,C,C]: products of channels, over C H W */
LatheValue lathe_log_prob_of(LatheValue logits, LatheValue actions);       /* [N,C], i64[N] to [N]: log_softmax at the actions */
LatheValue lathe_entropy(LatheValue logits);                               /* mean over rows */
LatheValue lathe_policy_gradient(LatheValue log_prob, LatheValue advantage);
LatheValue lathe_ppo_clip(LatheValue log_prob, LatheValue old_log_prob, LatheValue advantage, double epsilon);
LatheValue lathe_clipped_value_loss(LatheValue value, LatheValue old_value, LatheValue target, double epsilon);

/* Random tensors: other numbers in every call of the emitted code, the same sequence after the same NAME_init, for any number of threads. */
LatheValue lathe_randn_like(LatheValue x);
LatheValue lathe_rand_like(LatheValue x, double low, double high);
LatheValue lathe_bernoulli(LatheValue probability);                        /* 0 or 1, in the type of the probabilities */
LatheValue lathe_categorical(LatheValue logits, int64_t samples);          /* [N,C] to i64[N,samples] */
LatheValue lathe_permutation_like(LatheValue x, int64_t axis);             /* i64: 0 .. size - 1 in random order */

#ifdef __cplusplus
}
#endif
#endif
