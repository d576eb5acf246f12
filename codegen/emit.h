/* What the files of codegen/ share: the state of one emission and the printing of expressions, statements and names.
 *
 * The C file is built in sections (separate Writers) and joined at the end:
 *   head    comment, includes, macros           kernels  one static function per distinct kernel
 *   data    embedded weights                    run      NAME_init, NAME_run, NAME_error, NAME, NAME_call
 *   helpers scalar functions and runtime/ code, each only when used
 *
 * A kernel is printed in two passes: place_kernel (codegen/place.c) decides which expressions get a name and where
 * they are computed; kernel_c.c then prints statements. Printing code works on Items: an Expr at one version of the
 * memory it reads. */
#ifndef LATHE_CODEGEN_EMIT_H
#define LATHE_CODEGEN_EMIT_H
#include "ir/plan.h"
#include "ir/state.h"
#include "lathe.h"

/* ---- C identifiers (names.c) ------------------------------------------------------------------------------------ */
typedef struct Names {
    Context *cx;
    uint8_t *taken; /* by Str */
    uint32_t n;
} Names;
/* An identifier made from `wish` (any bytes): letters, digits, _; not a keyword of C or C++, not taken before. */
const char *names_unique(Names *names, const char *wish);
void names_reserve(Names *names, const char *identifier);
bool names_has(const Names *names, Str identifier);
Names names_copy(const Names *names);

/* ---- expressions with a place (place.c) ------------------------------------------------------------------------- */
typedef struct Block Block;
typedef struct Item Item;
typedef struct Point { Block *block; uint32_t pos; } Point; /* before the pos-th statement of block */

struct Item {
    const Expr *x;
    uint32_t stamp;   /* newest change of anything it reads */
    uint32_t region;  /* block it must not leave (loads and checks under a condition); 0: none */
    uint32_t uses, weight, height, order; /* order: arguments have smaller ones */
    bool guarded;     /* contains loads or run-time checks */
    bool costly;      /* worth hoisting out of a loop */
    bool has_point, force;
    Point point;      /* where it is used first, later: where it is computed */
    int32_t name;     /* number of its temporary, -1: printed in place */
    Item **arg;       /* as x->arg; of an E_LOAD: one, the linear index */
    uint32_t n_arg;
    Item *next;       /* next temporary at the same point */
};

typedef struct StmtInfo {
    const Stmt *stmt;
    Point point;
    uint32_t time;
    Item **root;           /* the statement's own expressions, in the order place.c visits them */
    uint32_t n_root;
    Item *temps, *temps_last; /* temporaries computed just before the statement */
    Block *body, *orelse;
    struct StmtInfo *condition; /* WHILE: its condition, computed inside the body; a phase of thread 0: what stands before its `if` */
} StmtInfo;

typedef struct KernelSignature { /* which of the optional parameters a kernel's function has */
    const char *name;
    bool dims, parallel, err;
} KernelSignature;

/* A step that can fail at run time; numbered from 1. unequal: the node in it whose sizes may not agree, or NULL. */
typedef struct StepFault { uint32_t number; const Step *step; const Node *unequal; } StepFault;

typedef VEC(Str) StrVec;

/* What is printed once per target of a file that has code for several (versions.c). */
typedef struct Version {
    const struct Target *target;
    Plan *plan;
    const char *suffix;             /* of its names: "_x86_64_v3"; "" when it is the only one */
    Writer helpers, kernels, run;
    struct RuntimeIndex *runtime;
    StrVec helper_names;
    KernelSignature *signature;
    bool any_tiles;
    uint32_t first_step;            /* number of its first step, for errors: those of all versions are numbered together */
} Version;

typedef struct Emit {
    Context *cx;
    Module *m;
    Version *version;               /* the plainest first */
    uint32_t n_version;
    Plan *plan;                     /* of the version that is being printed, as are helpers, kernels, run and what else Version has */
    uint64_t arena_bytes, fast_bytes, weight_bytes; /* for all versions */
    uint32_t first_step;
    const char *name, *upper;       /* prefix of identifiers and macros */
    uint32_t n_in, n_out;           /* of main's inputs and outputs, those of the caller (the others are states) */
    bool profile;                   /* LatheOptions.profile */
    bool pool;                      /* threads are the caller's (LATHE_POOL) */
    bool trains;                    /* has states and entries: train_c.c instead of NAME_run */
    Writer head, data, helpers, kernels, run;
    Names global;
    struct RuntimeIndex *runtime;   /* what runtime/ defines, and what of it stands in helpers already */
    StrVec helper_names;            /* instantiated scalar templates */
    KernelSignature *signature;     /* by kernel index in the plan */
    const char **in_name, **out_name, **symbol_name, **weight_name; /* by position, by symbol index, by plan weight */
    bool *symbol_used;              /* by symbol index: some emitted code reads it */
    const char **dims_slot;         /* "dims[i]", by symbol index */
    LatheWeights weights;           /* AUTO resolved */
    ConstRoom room;                 /* for the largest weight that is made when it is written */
    uint64_t checksum;              /* of all weights, once they are written */
    struct SharedWeights *shared;   /* weights go to a file of several models; NULL: to one of their own */
    bool embed, any_parallel, uses_bound;
    VEC(StepFault) faults;
    VEC(Dim) low_dims;              /* sizes that may come out negative (sizes_c.c) */
    bool *symbol_set;               /* by symbol index: known where printing of steps has arrived */
    /* the kernel being printed */
    Writer *w;                      /* where statements go */
    Kernel *k;
    Names local;
    const char **var_name, **buf_name, **local_symbol;
    bool *buf_used, *var_read;      /* var_read: some expression reads it */
    bool *reduced_as_key;           /* by variable: in the loop being printed, as an integer (runtime/reduce.h) */
    bool tiny;             /* the whole plan is less work than threads are worth */
    bool serial, uses_fault, uses_barrier;
    bool uses_tiles, any_tiles;     /* tile registers: in the kernel being printed, in any */
    VEC(Item *) items;
    struct ItemTable *item_table;
    StmtInfo *info;                 /* open addressing by Stmt pointer */
    uint32_t n_info_slot;
} Emit;

/* ---- for everything that prints statements ----------------------------------------------------------------------- */
/* Makes sure that the function, type or constant `name` of runtime/ stands in the file, with all it needs. */
void emit_need(Emit *e, const char *name);
const char *emit_buf(Emit *e, uint32_t buf);   /* name of a buffer's pointer */
const char *emit_var(Emit *e, uint32_t var);
const char *emit_dim(Emit *e, Dim d);          /* C expression of a Dim inside the current kernel, parenthesised if needed */
const char *emit_ctype(DType compute);         /* C type of an expression of a compute type */
StmtInfo *emit_info(Emit *e, const Stmt *s);
/* The C text of an item; prec: binding strength needed around it, 0 for none, 15 for a primary expression. */
void emit_item(Emit *e, Writer *w, const Item *item, int prec);
const char *emit_text(Emit *e, const Item *item, int prec);
void emit_temps(Emit *e, const StmtInfo *info);      /* the temporaries that belong before a statement */
void emit_block(Emit *e, const Stmt *first);         /* statements up to the end of the block */
/* C text that stores `value` (text of the buffer's compute type) to element `index`. */
void emit_store(Emit *e, uint32_t buf, const char *index, const char *value);
void emit_load(Emit *e, Writer *w, uint32_t buf, const char *index);
/* What must hold before a load or store at `index` may touch memory: an index that data gave is replaced by 0 when it is out of
 * range, and an axis of no elements does not even have that one. Prints a condition; false: there is nothing to ask. */
bool emit_not_empty(Emit *e, Writer *w, const Item *index);
bool emit_load_guarded(Emit *e, const Item *load); /* is a load only done when there is something to load? */
/* C text of target = reduce(target, value); reduce FN_NONE: target = value. No semicolon. */
const char *emit_reduce(Emit *e, Fn reduce, DType t, const char *target, const char *value);

/* A micro-kernel contraction: prints statement s of kind S_CONTRACT (codegen/contract.c). */
void contract_emit(Emit *e, const Kernel *k, const Stmt *s);
void contract_block_emit(Emit *e, const Stmt *s, const char *const *text);
void contract_int_emit(Emit *e, const Stmt *s, const char *const *text); /* of integers (codegen/contract_int.c); text: of the arguments */

/* ---- internal to codegen ----------------------------------------------------------------------------------------- */
void place_kernel(Emit *e, Kernel *k);               /* place.c: fills items, info */
double kernel_cost(Emit *e, const Kernel *k);        /* place.c: scalar operations of one run at the upper bounds */
void emit_kernel(Emit *e, uint32_t index);           /* kernel_c.c */
void emit_scalar(Emit *e, Writer *w, const Item *item, int prec); /* scalar_c.c: an E_FN */
const char *emit_scalar_helper(Emit *e, const char *op, DType t);  /* lathe_<op>_<t>, instantiated */
const char *emit_cast_helper(Emit *e, DType to, DType from);
const char *emit_small_encode(Emit *e, DType storage);
const char *emit_small_decode(Emit *e, DType storage);
bool emit_once(Emit *e, Str name);                   /* true the first time: the helper called name is to be written now */
void emit_constant(Writer *w, DType t, const Expr *x, int prec);
const char *emit_dim_text(Emit *e, Dim d, const char *const *symbol, int prec);
void emit_weights(Emit *e);                          /* weights_c.c */
void emit_header(Emit *e, Writer *h);                /* header_c.c */
/* sizes_c.c: sizes that come out negative are errors, of the call when they depend on the caller's dims alone, else where
 * the last symbol they depend on is set. */
void emit_collect_sizes(Emit *e);
void emit_use_dim(Emit *e, Dim d); /* its symbols are used */
void emit_mark_sizes(Emit *e); /* the symbols they read are used */
void emit_check_given_sizes(Emit *e, Writer *w);
void emit_check_run_sizes(Emit *e, Writer *w, uint32_t symbol);
void emit_entry(Emit *e);                            /* entry_c.c: init, run, call, … */
void emit_steps(Emit *e);                            /* steps_c.c */
/* versions.c: code for several targets in one file. */
void versions_open(Emit *e);
void versions_each_plan(Emit *e, void (*print)(Emit *e)); /* with the fields of the version that a plan was made for */
void versions_settle(Emit *e);                        /* all steps are printed: those with the same code become one, and what follows is everybody's */
void versions_join(Emit *e, const Writer *header);    /* their code becomes one text, in e->kernels; the head must be there */
/* train_c.c: entry points of a module that trains, their declarations, and what stands in front of the steps. */
void emit_train_entry(Emit *e);
void emit_train_functions(Emit *e, Writer *h);
void emit_train_types(Emit *e, Writer *h);
/* entry_c.c: checks of a call's arguments (those in the bit sets of entry_inputs and entry_owners that have a bit of mask) and the call of
 * the steps function; up to and without the return. */
void emit_team(Emit *e, Writer *w);                   /* pool_c.c: types and functions of teams, for the head */
void emit_task(Emit *e, Writer *w, const char *steps); /* the function that a pool runs */
void emit_run_by_pool(Emit *e, const char *steps);
void emit_critical(Emit *e, Writer *w, bool begins);  /* around what one thread does at a time */
void emit_pool_fields(Emit *e, Writer *h);            /* of the context, with what a pool has to do */
void emit_call_body(Emit *e, const char *steps, uint32_t mask);
bool emit_is_distributed(const Emit *e);              /* train_c.c: the module trains over MPI */
bool emit_is_sharded(const Emit *e);                  /* and every process keeps a part of the optimizer's state */
void emit_messages(Emit *e);
void emit_checksum(Emit *e);                          /* entry_c.c: the function that checks external weights */
void emit_bind_memory(Emit *e);                       /* … what NAME_init does about arena and weights */
bool emit_draws_random(Emit *e, uint32_t mask); /* does an entry of mask have random operators? */
const char *emit_steps_name(Emit *e, uint32_t entry);
int emit_half(const Emit *e); /* --precision bf16: the floats of a vector register, else 0 */
bool emit_field_is_new(const Emit *e, uint32_t output); /* not the field of an earlier output: entries share outputs of one name */
void shared_weights_checksum(Emit *e);                /* sets e->checksum */
/* shared_weights.c: moves the plan's weights to their places in the shared file (false after diag()), visits the bytes of that
 * file as it will be, and writes what is new. */
bool shared_weights_open(Emit *e, const char *path);
bool shared_weights_each(const Emit *e, uint64_t from, bool (*put)(void *user, const unsigned char *bytes, size_t n), void *user);
bool shared_weights_write(Emit *e);
void shared_weights_close(Emit *e);
bool weights_write(Emit *e, const char *path);       /* the binary file, and e->checksum; false after diag() */
const char *emit_weight_name(Emit *e, uint64_t offset); /* the array in the C file that holds the weight at offset */
DType emit_weight_dtype(Emit *e, uint64_t offset);
bool emit_has_fast(const Emit *e);                   /* header_c.c: NAME_init takes a fast memory */
bool emit_uses_strings(const Emit *e);               /* header_c.c: lathe_string must be defined */
const BufRef *emit_ref(Emit *e, const Value *v);
bool emit_symbol_is_input(Emit *e, uint32_t i);      /* header_c.c: the caller sets this symbol */
bool emit_symbol_is_output(Emit *e, uint32_t i);     /* … the run reports it */
void emit_short_parameters(Emit *e, Writer *h);      /* parameters of NAME() */

#endif
