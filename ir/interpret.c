/* Runs a kernel inside the compiler: how constants are folded, with the same kernels that are printed as C.
 *
 * Each statement's expressions are compiled once into a straight list of instructions. The innermost loops run in
 * chunks of LANES iterations, an instruction at a time over the chunk, so that the cost of interpreting is shared:
 *
 *     for i < n:  y[i] = exp(x[i] * 2)      ->  load 256 x; multiply 256; exp 256; store 256; next chunk
 *
 * A chunk is only taken when the loop's statements do not read what they write; otherwise it runs with one lane. */
#include <math.h>

#include "ir/kernel.h"
#include "ir/small_float.h"

enum { LANES = 256 };

typedef struct Inst {
    const Expr *e;
    uint32_t *arg;   /* instruction numbers */
    bool varies;     /* depends on the chunked loop's variable */
    Scalar *lane;    /* LANES results, or one when it does not vary */
} Inst;

typedef struct Code {
    const Stmt *s;
    Inst *inst;
    uint32_t n_inst;
    uint32_t *idx, extent, val;   /* instruction numbers of the statement's operands; NONE if it has none */
    struct Code *body, *orelse, *next;
    bool chunked;                 /* FOR: its body runs in chunks */
} Code;

enum { NONE = UINT32_MAX };

typedef struct Run {
    Context *cx;
    const Kernel *k;
    void *const *buf;        /* arguments */
    void **local;            /* stack arrays, by buffer */
    const int64_t *dims;
    int64_t **stride, **size; /* by buffer and dimension */
    Scalar *var;
    uint32_t chunk_var;      /* variable of the running chunk or NONE */
    int64_t chunk_start;
    uint32_t lanes;
    int error;
} Run;

/* ---- compiling --------------------------------------------------------------------------------------------------- */
typedef struct Compiler {
    Run *r;
    VEC(Inst) inst;
    uint32_t chunk_var;
} Compiler;

static uint32_t compile_expr(Compiler *c, const Expr *e) {
    for (uint32_t i = 0; i < c->inst.n; i++)
        if (c->inst.v[i].e == e) return i;
    Arena *a = &c->r->cx->scratch;
    Inst in = {.e = e, .varies = e->kind == E_VAR && e->ref == c->chunk_var};
    in.arg = ARENA_ARRAY(a, uint32_t, e->n_arg);
    for (uint32_t i = 0; i < e->n_arg; i++) {
        in.arg[i] = compile_expr(c, e->arg[i]);
        in.varies |= c->inst.v[in.arg[i]].varies;
    }
    in.lane = ARENA_ARRAY(a, Scalar, in.varies ? LANES : 1);
    vec_push(a, &c->inst, in);
    return c->inst.n - 1;
}

static bool reads(const Expr *e, const Stmt *loop, const Kernel *k) { /* something the loop's statements write */
    for (const Stmt *s = loop->body; s != NULL; s = s->next) {
        if (e->kind == E_LOAD && s->kind == S_STORE && s->buf == e->ref) return true;
        if (e->kind == E_VAR && s->kind == S_SET && s->var == e->ref) return true;
    }
    for (uint32_t i = 0; i < e->n_arg; i++)
        if (reads(e->arg[i], loop, k)) return true;
    return false;
}

static bool can_chunk(const Stmt *loop, const Kernel *k) {
    for (const Stmt *s = loop->body; s != NULL; s = s->next) {
        if (s->kind != S_STORE && !(s->kind == S_SET && s->reduce != FN_NONE)) return false;
        if (reads(s->val, loop, k)) return false;
        for (uint32_t i = 0; s->kind == S_STORE && i < k->buf[s->buf].rank; i++)
            if (reads(s->idx[i], loop, k)) return false;
    }
    return loop->body != NULL;
}

static Code *compile_stmts(Run *r, const Stmt *s, uint32_t chunk_var) {
    Code *first = NULL, **tail = &first;
    for (; s != NULL; s = s->next) {
        Arena *a = &r->cx->scratch;
        Code *c = ARENA_NEW(a, Code);
        Compiler comp = {.r = r, .chunk_var = chunk_var};
        uint32_t rank = s->kind == S_STORE ? r->k->buf[s->buf].rank : 0;
        c->s = s;
        c->idx = ARENA_ARRAY(a, uint32_t, rank);
        for (uint32_t i = 0; i < rank; i++) c->idx[i] = compile_expr(&comp, s->idx[i]);
        c->extent = s->extent != NULL ? compile_expr(&comp, s->extent) : NONE;
        c->val = s->val != NULL ? compile_expr(&comp, s->val) : NONE;
        c->inst = comp.inst.v;
        c->n_inst = comp.inst.n;
        c->chunked = s->kind == S_FOR && can_chunk(s, r->k);
        c->body = compile_stmts(r, s->body, c->chunked ? s->var : NONE);
        c->orelse = compile_stmts(r, s->orelse, NONE);
        *tail = c;
        tail = &c->next;
        if (s->kind == S_CALL || s->kind == S_CONTRACT) r->error = LATHE_RT_VALUE; /* not for the interpreter */
    }
    return first;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */
static Scalar load_element(DType d, const void *p, int64_t i) {
    Scalar s = {0};
    switch (d) {
    case DT_F32: s.f32 = ((const float *)p)[i]; break;
    case DT_F64: s.f64 = ((const double *)p)[i]; break;
    case DT_U8: case DT_BOOL: s.u = ((const uint8_t *)p)[i]; break;
    case DT_I8: s.i = ((const int8_t *)p)[i]; break;
    case DT_U16: s.u = ((const uint16_t *)p)[i]; break;
    case DT_I16: s.i = ((const int16_t *)p)[i]; break;
    case DT_U32: s.u = ((const uint32_t *)p)[i]; break;
    case DT_I32: s.i = ((const int32_t *)p)[i]; break;
    case DT_I64: case DT_U64: s.i = ((const int64_t *)p)[i]; break;
    case DT_F16: case DT_BF16: s.f32 = small_float_decode(d, ((const uint16_t *)p)[i]); break;
    case DT_F8E4M3FN: case DT_F8E4M3FNUZ: case DT_F8E5M2: case DT_F8E5M2FNUZ: case DT_F8E8M0:
        s.f32 = small_float_decode(d, ((const uint8_t *)p)[i]);
        break;
    case DT_U4: case DT_I4: case DT_F4E2M1: {
        uint32_t bits = ((const uint8_t *)p)[i / 2] >> (i % 2 * 4) & 15;
        if (d == DT_F4E2M1) s.f32 = small_float_decode(d, bits);
        else s.i = d == DT_I4 && bits > 7 ? (int64_t)bits - 16 : (int64_t)bits;
        break;
    }
    case DT_U2: case DT_I2: {
        uint32_t bits = ((const uint8_t *)p)[i / 4] >> (i % 4 * 2) & 3;
        s.i = d == DT_I2 && bits > 1 ? (int64_t)bits - 4 : (int64_t)bits;
        break;
    }
    case DT_NONE: case DT_STRING: case DT_C64: case DT_C128: case DT_COUNT: break;
    }
    return s;
}

static void store_element(DType d, void *p, int64_t i, Scalar s) {
    switch (d) {
    case DT_F32: ((float *)p)[i] = s.f32; break;
    case DT_F64: ((double *)p)[i] = s.f64; break;
    case DT_U8: case DT_BOOL: case DT_I8: ((uint8_t *)p)[i] = (uint8_t)s.u; break;
    case DT_U16: case DT_I16: ((uint16_t *)p)[i] = (uint16_t)s.u; break;
    case DT_U32: case DT_I32: ((uint32_t *)p)[i] = (uint32_t)s.u; break;
    case DT_I64: case DT_U64: ((uint64_t *)p)[i] = s.u; break;
    case DT_F16: case DT_BF16: ((uint16_t *)p)[i] = (uint16_t)small_float_encode(d, s.f32, false); break;
    case DT_F8E4M3FN: case DT_F8E4M3FNUZ: case DT_F8E5M2: case DT_F8E5M2FNUZ: case DT_F8E8M0:
        ((uint8_t *)p)[i] = (uint8_t)small_float_encode(d, s.f32, false);
        break;
    case DT_U4: case DT_I4: case DT_F4E2M1: {
        uint8_t *b = (uint8_t *)p + i / 2;
        uint32_t bits = d == DT_F4E2M1 ? small_float_encode(d, s.f32, false) : (uint32_t)s.u & 15;
        *b = i % 2 != 0 ? (uint8_t)((*b & 15) | bits << 4) : (uint8_t)((*b & 240) | bits);
        break;
    }
    case DT_U2: case DT_I2: {
        uint8_t *b = (uint8_t *)p + i / 4;
        int shift = (int)(i % 4) * 2;
        *b = (uint8_t)((*b & ~(3 << shift)) | (int)(s.u & 3) << shift);
        break;
    }
    case DT_NONE: case DT_STRING: case DT_C64: case DT_C128: case DT_COUNT: break;
    }
}

static void *storage(const Run *r, uint32_t buf) { return buf < r->k->n_arg ? r->buf[buf] : r->local[buf]; }

/* Element number for lane l; -1 when an index is outside: a masked-off lane may ask for anything. */
static int64_t element(const Run *r, uint32_t buf, const Inst *inst, const uint32_t *idx, uint32_t l) {
    int64_t at = 0;
    for (uint32_t d = 0; d < r->k->buf[buf].rank; d++) {
        const Inst *in = &inst[idx[d]];
        int64_t i = in->lane[in->varies ? l : 0].i;
        if (i < 0 || i >= r->size[buf][d]) return -1;
        at += i * r->stride[buf][d];
    }
    return at;
}

/* ---- executing --------------------------------------------------------------------------------------------------- */
/* The frequent f32 functions, a loop each; false: not among them. */
static bool fast_f32(Fn fn, Scalar *o, const Scalar *a, const Scalar *b, uint32_t sa, uint32_t sb, uint32_t n) {
#define LOOP(expression)                                            \
    for (uint32_t l = 0; l < n; l++) {                              \
        float x = a[l * sa].f32, y = b != NULL ? b[l * sb].f32 : 0; \
        (void)y;                                                    \
        o[l].f32 = (expression);                                    \
    }                                                               \
    return true
    switch (fn) {
    case FN_ADD: LOOP(x + y);
    case FN_SUB: LOOP(x - y);
    case FN_MUL: LOOP(x * y);
    case FN_DIV: LOOP(x / y);
    case FN_NEG: LOOP(-x);
    case FN_SQRT: LOOP(sqrtf(x));
    default: return false;
    }
#undef LOOP
}

static void execute(Run *r, const Code *c) {
    const Kernel *k = r->k;
    for (uint32_t i = 0; i < c->n_inst; i++) {
        Inst *in = &c->inst[i];
        const Expr *e = in->e;
        uint32_t n = in->varies ? r->lanes : 1;
        switch ((ExprKind)e->kind) {
        case E_CONST:
            if (e->dtype == DT_F32) in->lane[0].f32 = (float)e->c.f;
            else if (e->dtype == DT_F64) in->lane[0].f64 = e->c.f;
            else in->lane[0].i = e->c.i;
            break;
        case E_DIM: in->lane[0].i = dim_eval(r->cx, e->ref, r->dims); break;
        case E_VAR:
            for (uint32_t l = 0; l < n; l++) {
                if (in->varies) in->lane[l].i = r->chunk_start + l;
                else in->lane[l] = r->var[e->ref];
            }
            break;
        case E_LOAD: {
            const void *p = storage(r, e->ref);
            for (uint32_t l = 0; l < n; l++) {
                int64_t at = element(r, e->ref, c->inst, in->arg, l);
                in->lane[l] = at >= 0 ? load_element(k->buf[e->ref].dtype, p, at) : (Scalar){0};
            }
            break;
        }
        case E_FN: {
            const Inst *arg[3] = {0};
            for (uint32_t a = 0; a < e->n_arg; a++) arg[a] = &c->inst[in->arg[a]];
            if (e->dtype == DT_F32 && arg[0]->e->dtype == DT_F32 &&
                fast_f32((Fn)e->fn, in->lane, arg[0]->lane, e->n_arg > 1 ? arg[1]->lane : NULL, arg[0]->varies, e->n_arg > 1 && arg[1]->varies, n))
                break;
            DType from = (DType)arg[e->n_arg == 3 && e->fn == FN_SELECT ? 1 : 0]->e->dtype;
            for (uint32_t l = 0; l < n; l++) {
                Scalar x[3] = {0};
                for (uint32_t a = 0; a < e->n_arg; a++) x[a] = arg[a]->lane[arg[a]->varies ? l : 0];
                int error = 0;
                in->lane[l] = scalar_eval((Fn)e->fn, (DType)e->dtype, from, x, e->c.i, &error);
                if (error != 0 && r->error == 0) r->error = error;
            }
            break;
        }
        }
    }
}

static Scalar combine(Run *r, Fn reduce, DType d, Scalar a, Scalar b) {
    int error = 0;
    Scalar s = scalar_eval(reduce, d, d, (Scalar[]){a, b}, 0, &error);
    if (error != 0 && r->error == 0) r->error = error;
    return s;
}

static void run_stmts(Run *r, const Code *c);

static void store(Run *r, const Code *c) {
    const Stmt *s = c->s;
    const Buf *b = &r->k->buf[s->buf];
    void *p = storage(r, s->buf);
    const Inst *val = &c->inst[c->val];
    for (uint32_t l = 0; l < r->lanes; l++) {
        int64_t at = element(r, s->buf, c->inst, c->idx, l);
        if (at < 0) {
            if (r->error == 0) r->error = LATHE_RT_INDEX;
            continue;
        }
        Scalar v = val->lane[val->varies ? l : 0];
        if (s->reduce != FN_NONE) v = combine(r, (Fn)s->reduce, dtype_compute(b->dtype), load_element(b->dtype, p, at), v);
        store_element(b->dtype, p, at, v);
    }
}

static void run_for(Run *r, const Code *c) {
    int64_t n = c->inst[c->extent].lane[0].i;
    uint32_t outer_var = r->chunk_var, outer_lanes = r->lanes;
    for (int64_t i = 0; i < n && r->error == 0;) {
        r->var[c->s->var].i = i;
        r->chunk_start = i;
        r->lanes = c->chunked ? (uint32_t)(n - i < LANES ? n - i : LANES) : 1;
        r->chunk_var = c->chunked ? c->s->var : NONE;
        i += r->lanes;
        run_stmts(r, c->body);
    }
    r->chunk_var = outer_var;
    r->lanes = outer_lanes;
}

static void run_stmts(Run *r, const Code *c) {
    for (; c != NULL && r->error == 0; c = c->next) {
        const Stmt *s = c->s;
        execute(r, c);
        switch (s->kind) {
        case S_FOR: run_for(r, c); break;
        case S_LOCAL: r->var[s->var] = c->inst[c->val].lane[0]; break;
        case S_SET: {
            const Inst *v = &c->inst[c->val];
            DType d = r->k->var[s->var].dtype;
            for (uint32_t l = 0; l < r->lanes; l++) {
                Scalar x = v->lane[v->varies ? l : 0];
                r->var[s->var] = s->reduce != FN_NONE ? combine(r, (Fn)s->reduce, d, r->var[s->var], x) : x;
            }
            break;
        }
        case S_STORE: store(r, c); break;
        case S_IF: run_stmts(r, c->inst[c->val].lane[0].i != 0 ? c->body : c->orelse); break;
        case S_WHILE:
            while (c->inst[c->val].lane[0].i != 0 && r->error == 0) {
                run_stmts(r, c->body);
                execute(r, c);
            }
            break;
        case S_CALL: case S_CONTRACT: break; /* refused while compiling */
        }
    }
}

int kernel_interpret(Context *cx, const Kernel *k, void *const *buf, const int64_t *dims) {
    Run r = {.cx = cx, .k = k, .buf = buf, .dims = dims, .chunk_var = NONE, .lanes = 1};
    Arena *a = &cx->scratch;
    r.local = ARENA_ARRAY(a, void *, k->n_buf);
    r.stride = ARENA_ARRAY(a, int64_t *, k->n_buf);
    r.size = ARENA_ARRAY(a, int64_t *, k->n_buf);
    r.var = ARENA_ARRAY(a, Scalar, k->n_var);
    for (uint32_t b = 0; b < k->n_buf; b++) {
        const Buf *d = &k->buf[b];
        if (d->dtype == DT_STRING || dtype_class(d->dtype) == 'C') return LATHE_RT_VALUE;
        r.stride[b] = ARENA_ARRAY(a, int64_t, d->rank);
        r.size[b] = ARENA_ARRAY(a, int64_t, d->rank);
        int64_t stride = 1;
        for (uint32_t i = d->rank; i-- > 0;) {
            r.size[b][i] = dim_eval(cx, d->dim[i], dims);
            r.stride[b][i] = d->stride != NULL ? dim_eval(cx, d->stride[i], dims) : stride;
            stride *= r.size[b][i];
        }
        if (d->kind == BUF_LOCAL) r.local[b] = arena_alloc(a, dtype_bytes(cx, d->dtype, stride));
    }
    Code *code = compile_stmts(&r, k->body, NONE);
    if (r.error == 0) run_stmts(&r, code);
    return r.error;
}
