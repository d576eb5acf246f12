/* Element types, symbolic dimensions, and value types: all interned, so equal things have equal ids or pointers. */
#ifndef LATHE_IR_TYPE_H
#define LATHE_IR_TYPE_H
#include "base/context.h"

typedef enum DType {
    DT_NONE,
#define DTYPE(NAME, onnx, text, bits, class, ctype, compute) DT_##NAME,
#include "ir/dtypes.def"
#undef DTYPE
    DT_COUNT
} DType;

const char *dtype_text(DType d);            /* "f32" */
const char *dtype_ctype(DType d);           /* storage type in emitted C, "uint16_t" for f16 */
uint32_t dtype_bits(DType d);               /* storage bits per element; 4 and 2 for packed types */
DType dtype_compute(DType d);               /* type of a loaded element in expressions: f16 -> f32, u4 -> u8 */
char dtype_class(DType d);                  /* 'B' 'U' 'I' 'F' 'C' 'S' */
DType dtype_from_onnx(int32_t number);      /* DT_NONE when unknown */
int32_t dtype_to_onnx(DType d);
DType dtype_from_text(const char *text);
static inline bool dtype_is_float(DType d) { return dtype_class(d) == 'F'; }
static inline bool dtype_is_int(DType d) { return dtype_class(d) == 'I' || dtype_class(d) == 'U'; }
/* Bytes of n elements; packed types round up to whole bytes. Escapes on overflow. */
size_t dtype_bytes(Context *cx, DType d, int64_t n);

/* ---- dimensions -------------------------------------------------------------------------------------------------
 * A Dim is an integer expression over symbols, kept in a canonical polynomial form: 2*N + N == 3*N has one id.
 * Symbols carry bounds: from the user (--dim N=1..64) or, for data-dependent sizes, from the operator that makes them. */
typedef uint32_t Dim; /* 0 = unknown */

typedef enum { DIM_CONST, DIM_SYMBOL, DIM_POLY, DIM_FLOORDIV, DIM_MOD, DIM_MIN, DIM_MAX } DimKind;
typedef struct DimTerm { int64_t coef; uint32_t n_factor; const Dim *factor; } DimTerm; /* factors: atoms, ascending */
typedef struct DimNode {
    DimKind kind;
    int64_t value;                 /* CONST */
    Str name;                      /* SYMBOL */
    uint32_t symbol;               /* SYMBOL: dense index, the slot of the emitted dims array */
    bool runtime;                  /* SYMBOL: set by a kernel of the model itself (data-dependent), not by the caller */
    bool assumed;                  /* SYMBOL: nobody gave its upper bound; inference may raise it */
    uint32_t n_term; const DimTerm *term; /* POLY */
    Dim a, b;                      /* FLOORDIV, MOD, MIN, MAX */
    int64_t lo, hi;                /* bounds; hi == INT64_MAX: none */
} DimNode;

Dim dim_const(Context *cx, int64_t value);
/* The symbol called name; made with these bounds when new, otherwise the existing one (bounds unchanged). */
Dim dim_symbol(Context *cx, Str name, int64_t lo, int64_t hi);
/* A fresh data-dependent symbol (NonZero, Loop outputs): its value is stored at run time by the kernel that knows it. */
Dim dim_runtime(Context *cx, const char *prefix, int64_t lo, int64_t hi);
void dim_set_bounds(Context *cx, Dim symbol, int64_t lo, int64_t hi);
void dim_set_runtime(Context *cx, Dim symbol, bool runtime);
void dim_set_assumed(Context *cx, Dim symbol, bool assumed);
Dim dim_add(Context *cx, Dim a, Dim b);
Dim dim_sub(Context *cx, Dim a, Dim b);
Dim dim_mul(Context *cx, Dim a, Dim b);
Dim dim_floordiv(Context *cx, Dim a, Dim b); /* exact polynomial division is found: 6*N*T / (2*N) = 3*T. Toward -inf */
Dim dim_ceildiv(Context *cx, Dim a, Dim b);
Dim dim_mod(Context *cx, Dim a, Dim b);      /* sign of b, as Python */
Dim dim_min(Context *cx, Dim a, Dim b);
Dim dim_max(Context *cx, Dim a, Dim b);
const DimNode *dim_node(const Context *cx, Dim d);
bool dim_is_const(const Context *cx, Dim d);
int64_t dim_value(const Context *cx, Dim d); /* of a constant */
int64_t dim_lo(const Context *cx, Dim d);
int64_t dim_hi(const Context *cx, Dim d);    /* INT64_MAX when unbounded */
uint32_t dim_symbol_count(const Context *cx);
Dim dim_symbol_at(const Context *cx, uint32_t index);
/* Replaces symbols: map[symbol index], 0 = keep. */
Dim dim_substitute(Context *cx, Dim d, const Dim *map);
/* Forgets every dim made since the mark: for trial inference whose results are thrown away. */
typedef struct DimMark { uint32_t n, n_symbol; } DimMark;
DimMark dim_mark(Context *cx);
void dim_release(Context *cx, DimMark mark);
int64_t dim_eval(const Context *cx, Dim d, const int64_t *symbol_values);
/* A total order that depends on the expressions only, not on when they were made: <0, 0, >0. */
int dim_order(const Context *cx, Dim a, Dim b);
/* "4", "N", "2*N + 1", "floordiv(N, 2)", "\"batch size\" + 1": also what the parser reads. */
void dim_print(const Context *cx, Writer *w, Dim d);

/* ---- value types ------------------------------------------------------------------------------------------------ */
typedef enum { TYPE_TENSOR, TYPE_SEQUENCE, TYPE_OPTIONAL, TYPE_MAP } TypeKind;
enum { RANK_UNKNOWN = 255, RANK_MAX = 16 };
typedef struct Type {
    TypeKind kind;
    DType dtype;              /* TENSOR; MAP: value type (key in key_dtype) */
    DType key_dtype;
    uint8_t rank;             /* TENSOR; RANK_UNKNOWN before inference */
    const Dim *dim;           /* TENSOR; rank entries, each 0 if unknown */
    const struct Type *elem;  /* SEQUENCE, OPTIONAL */
    Dim length;               /* SEQUENCE, MAP: number of elements */
} Type;

const Type *type_tensor(Context *cx, DType dtype, uint32_t rank, const Dim *dim); /* interned: compare with == */
const Type *type_sequence(Context *cx, const Type *elem, Dim length);
const Type *type_optional(Context *cx, const Type *elem);
const Type *type_map(Context *cx, DType key, DType value, Dim length); /* ai.onnx.ml: a map from scalars to scalars; length 0: not known */
void type_print(const Context *cx, Writer *w, const Type *t); /* f32[N,64]  seq<f32[2,3]>  optional<…>  f32[*] */
const Type *type_substitute(Context *cx, const Type *t, const Dim *map); /* dim_substitute in every dim */
Dim type_rows(Context *cx, const Type *t);       /* product of all dims but the last */
Dim type_numel(Context *cx, const Type *t);      /* product of the dims; 0 if one is unknown */
/* May both describe one value? Kinds, element types, ranks and constant dims must be equal; unknown agrees with all. */
bool type_agrees(const Context *cx, const Type *a, const Type *b);
bool type_is_static(const Context *cx, const Type *t); /* all dims constant */
bool type_same_dims(const Type *a, const Type *b);     /* both tensors of known rank with equal dims; NULL: false */

#endif
