/* Command lines: every command is a row with tables of options; one parser fills a Request from them.
 *
 *     static const Option verify_options[] = {
 *         {"--rtol", OPT_REAL, "R", "allowed relative difference", offsetof(Request, rtol)},
 *         {0},
 *     };
 *
 * Options may stand anywhere; `--name value` and `--name=value` are the same; after `--` everything is a file. The
 * parser reports every problem of a command line at once and suggests the nearest option for an unknown one. */
#ifndef LATHE_DRIVER_ARGS_H
#define LATHE_DRIVER_ARGS_H
#include "driver/driver.h"

typedef struct TrainRequest { /* driver/train.c */
    bool on, separate;
    int loss, optimizer, schedule, distributed;
    double lr, momentum, weight_decay, clip, loss_scale, ema;
    int64_t warmup, steps, accumulate, shard_optimizer;
    Texts params, freeze;
} TrainRequest;

typedef struct QuantizeRequest { /* driver/cmd_quantize.c */
    const char *calib, *test;
    int scheme, range;         /* LatheScheme, LatheRange */
    double smooth;             /* 0: off */
    bool awq, equalize, bias_correction;
    double percentile;         /* negative: not given */
    const char *max_loss;      /* "0.5%" or a fraction */
    bool symmetric, per_tensor, gptq, act_order, int8_activations;
    int64_t group, outliers, weight_bits;
    bool qat;
    Texts keep;
} QuantizeRequest;

typedef struct Request {
    Texts files;               /* what is no option */
    const char *output;
    bool help;
    /* how to compile */
    const char *name, *target, *dump, *report;
    int level;                 /* -1: default */
    int weights;               /* LatheWeights */
    const char *share_weights;
    int precision;             /* LathePrecision */
    int threading;             /* LatheThreading */
    bool fast_math;
    Texts dims, disable;
    bool time_passes, verify_ir;
    /* how to build */
    const char *cc, *cflags;
    bool no_cache;
    /* data */
    Texts input, inputs, expect, data;
    int64_t seed;
    double rtol, atol, range_tol; /* negative: not given */
    /* bench */
    Texts threads;             /* numbers as text, split at commas */
    Texts compare, against;
    const char *svg, *html, *trace, *batch;
    bool profile;
    int format;                /* index into table|json|csv */
    int64_t runs;              /* 0: by time */
    /* opt */
    const char *run;
    const char *checkpoint, *memory;
    uint64_t fast_bytes, rest_bytes; /* by memory_choose: LatheOptions.fast_memory and .rest_memory */
    bool round_weights;
    uint64_t memory_bytes;     /* by memory_choose: LatheOptions.memory and .recompute that keep the limit */
    uint32_t recompute;
    int64_t capacity;          /* plan; 0: not given */
    TrainRequest train;
    QuantizeRequest quantize;
} Request;

typedef enum OptionKind {
    OPT_FLAG,     /* bool */
    OPT_TEXT,     /* const char *: the last one counts */
    OPT_TEXTS,    /* Texts: may be repeated */
    OPT_LIST,     /* Texts: may be repeated, each split at commas */
    OPT_COUNT,    /* int64_t >= 0 */
    OPT_REAL,     /* double >= 0 */
    OPT_CHOICE,   /* int: index into the words of `value`, "a|b|c" */
    OPT_LEVEL,    /* int: -O0 … -O3 */
    OPT_NO_PASS,  /* Texts: --no-PASS for every pass of the compiler */
} OptionKind;

typedef struct Option {
    const char *name;          /* "--dim", "-o" */
    OptionKind kind;
    const char *value;         /* what follows, for the help; NULL for flags */
    const char *help;
    size_t offset;             /* in Request */
} Option;

typedef struct Command {
    const char *name, *files;  /* files: what the help shows after the options, "MODEL" */
    uint32_t min_files, max_files;
    const char *summary;       /* one line */
    const Option *const *options; /* NULL-terminated list of tables */
    Exit (*run)(Driver *d, const Request *r);
    const char *details;       /* more help, may be NULL */
} Command;

/* Parses argv[1..] of a command. False after all problems were reported. */
bool args_parse(Driver *d, const Command *c, int argc, char **argv, Request *r);
void args_help(const Command *c, FILE *to);
bool args_is_pass(const char *name); /* is there a pass of the compiler with this name */
/* The word of list (NULL-terminated) that is nearest to text, NULL when none is near. */
const char *args_nearest(const char *text, const char *const *list);

/* --threads: every number given (all: 0), or just one. False after driver_error. */
typedef VEC(int) Threads;
bool threads_all(Driver *d, const Request *r, Threads *threads); /* empty when the option is not given */
bool threads_one(Driver *d, const Request *r, int *threads);     /* 0 when the option is not given */

/* Option tables that several commands share (driver/options.c). */
extern const Option compile_options[], build_options[], data_options[], help_options[];

#endif
