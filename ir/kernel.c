/* Kernels and their expressions. Expressions are hash-consed in the Context; the constructors fold constants and keep
 * index arithmetic in a simple normal form (constants to the right, products distributed over sums), so that reading
 * through a reshape or a transpose ends in a plain index again:
 *
 *     ((i*64 + j) / 64)  ->  i          ((i*64 + j) mod 64)  ->  j           with 0 <= j < 64 from j's loop
 */
#include "ir/kernel.h"

#include <math.h>

typedef struct FnInfo { const char *text; uint8_t arity; FnClass class; } FnInfo;
static const FnInfo fns[FN_COUNT] = {
    [FN_NONE] = {"none", 0, FC_SPECIAL},
#define FN(NAME, n, name, cls, derivative) [FN_##NAME] = {.text = name, .arity = n, .class = FC_##cls},
#include "ir/scalars.def"
#undef FN
};

const char *fn_text(Fn fn) { return fns[fn].text; }
uint32_t fn_arity(Fn fn) { return fns[fn].arity; }
FnClass fn_class(Fn fn) { return fns[fn].class; }

/* ---- hash-consing ------------------------------------------------------------------------------------------------ */
typedef struct ExprTable {
    Expr **slot;
    uint32_t n, n_slot;
} ExprTable;

static uint64_t expr_hash(const Expr *e) {
    uint64_t h = hash_mix((uint64_t)e->kind | (uint64_t)e->dtype << 8 | (uint64_t)e->fn << 16, e->ref);
    h = hash_mix(h, (uint64_t)e->c.i);
    for (uint32_t i = 0; i < e->n_arg; i++) h = hash_mix(h, e->arg[i]->id);
    return h;
}

static bool expr_equal(const Expr *a, const Expr *b) {
    if (a->kind != b->kind || a->dtype != b->dtype || a->fn != b->fn || a->ref != b->ref || a->n_arg != b->n_arg || a->c.i != b->c.i) return false;
    for (uint32_t i = 0; i < a->n_arg; i++)
        if (a->arg[i] != b->arg[i]) return false;
    return true;
}

static Expr *intern(Context *cx, Expr head, uint32_t n_arg, Expr *const *arg) {
    ExprTable *t = cx->exprs;
    if (t == NULL) {
        t = cx->exprs = ARENA_NEW(&cx->arena, ExprTable);
        t->n_slot = 1024;
        t->slot = ARENA_ARRAY(&cx->arena, Expr *, t->n_slot);
    }
    Expr *e = arena_alloc(&cx->arena, sizeof *e + n_arg * sizeof *arg);
    *e = head;
    e->n_arg = n_arg;
    for (uint32_t i = 0; i < n_arg; i++) e->arg[i] = arg[i];
    uint32_t i = (uint32_t)expr_hash(e) & (t->n_slot - 1);
    for (; t->slot[i] != NULL; i = (i + 1) & (t->n_slot - 1))
        if (expr_equal(t->slot[i], e)) return t->slot[i];
    e->id = t->n++;
    t->slot[i] = e;
    if (t->n * 2 > t->n_slot) {
        Expr **old = t->slot;
        uint32_t n_old = t->n_slot;
        t->n_slot *= 2;
        t->slot = ARENA_ARRAY(&cx->arena, Expr *, t->n_slot);
        for (uint32_t k = 0; k < n_old; k++) {
            if (old[k] == NULL) continue;
            uint32_t j = (uint32_t)expr_hash(old[k]) & (t->n_slot - 1);
            while (t->slot[j] != NULL) j = (j + 1) & (t->n_slot - 1);
            t->slot[j] = old[k];
        }
    }
    return e;
}

/* ---- leaves ------------------------------------------------------------------------------------------------------ */
Expr *ex_f(Context *cx, DType dtype, double v) {
    Expr e = {.kind = E_CONST, .dtype = (uint8_t)dtype};
    e.c.f = dtype == DT_F32 ? (double)(float)v : v;
    return intern(cx, e, 0, NULL);
}

Expr *ex_i(Context *cx, DType dtype, int64_t v) {
    Expr e = {.kind = E_CONST, .dtype = (uint8_t)dtype};
    e.c.i = v;
    return intern(cx, e, 0, NULL);
}

Expr *ex_i64(Context *cx, int64_t v) { return ex_i(cx, DT_I64, v); }

Expr *ex_const(Context *cx, DType dtype, double v) {
    return dtype_is_float(dtype) ? ex_f(cx, dtype, v) : ex_i(cx, dtype, (int64_t)v);
}

Expr *ex_dim(Context *cx, Dim d) {
    CHECK(cx, d != 0);
    if (dim_is_const(cx, d)) return ex_i64(cx, dim_value(cx, d));
    return intern(cx, (Expr){.kind = E_DIM, .dtype = DT_I64, .ref = d}, 0, NULL);
}

Expr *ex_var(Kernel *k, Context *cx, uint32_t var) {
    return intern(cx, (Expr){.kind = E_VAR, .dtype = (uint8_t)k->var[var].dtype, .ref = var}, 0, NULL);
}

Expr *ex_load(Kernel *k, Context *cx, uint32_t buf, Expr *const *idx) {
    const Buf *b = &k->buf[buf];
    return intern(cx, (Expr){.kind = E_LOAD, .dtype = (uint8_t)dtype_compute(b->dtype), .ref = buf}, b->rank, idx);
}

bool ex_is_const(const Expr *e, int64_t i) {
    if (e->kind != E_CONST) return false;
    return dtype_is_float((DType)e->dtype) ? e->c.f == (double)i : e->c.i == i;
}

/* ---- ranges ------------------------------------------------------------------------------------------------------ */
typedef struct Range { int64_t lo, hi; } Range; /* MIN or MAX: unbounded on that side */

static int64_t clamp_add(int64_t a, int64_t b) {
    int64_t r;
    if (a == INT64_MIN || b == INT64_MIN) return INT64_MIN;
    if (a == INT64_MAX || b == INT64_MAX) return INT64_MAX;
    return __builtin_add_overflow(a, b, &r) ? (a > 0 ? INT64_MAX : INT64_MIN) : r;
}

static int64_t clamp_mul(int64_t a, int64_t b) {
    int64_t r;
    if (a == 0 || b == 0) return 0;
    return __builtin_mul_overflow(a, b, &r) ? ((a > 0) == (b > 0) ? INT64_MAX : INT64_MIN) : r;
}

static int64_t floor_div(int64_t a, int64_t b) {
    int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t neg(int64_t x) { return x == INT64_MIN ? INT64_MAX : x == INT64_MAX ? INT64_MIN : -x; }
static int64_t min2(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max2(int64_t a, int64_t b) { return a > b ? a : b; }

static Range type_range(DType d) {
    uint32_t bits = dtype_bits(d);
    if (d == DT_BOOL) return (Range){0, 1};
    if (!dtype_is_int(d) || bits == 64) return (Range){INT64_MIN, INT64_MAX};
    if (dtype_class(d) == 'U') return (Range){0, ((int64_t)1 << bits) - 1};
    return (Range){-((int64_t)1 << (bits - 1)), ((int64_t)1 << (bits - 1)) - 1};
}

static Range range_of(const Kernel *k, const Context *cx, const Expr *e, int depth) {
    Range all = type_range((DType)e->dtype);
    if (depth == 0 || dtype_is_float((DType)e->dtype)) return all;
    switch ((ExprKind)e->kind) {
    case E_CONST: return (Range){e->c.i, e->c.i};
    case E_DIM: return (Range){dim_lo(cx, e->ref), dim_hi(cx, e->ref)};
    case E_VAR:
        if (k != NULL && e->ref < k->n_var && k->var[e->ref].extent != NULL) {
            Range n = range_of(k, cx, k->var[e->ref].extent, depth - 1);
            return (Range){0, n.hi == INT64_MAX ? INT64_MAX : max2(0, n.hi - 1)};
        }
        return all;
    case E_LOAD: return k != NULL ? type_range(k->buf[e->ref].dtype) : all;
    case E_FN: break;
    }
    if (e->n_arg == 0) return all;
    Range a = range_of(k, cx, e->arg[0], depth - 1), b = e->n_arg > 1 ? range_of(k, cx, e->arg[1], depth - 1) : a;
    Range r = all;
    switch ((Fn)e->fn) {
    case FN_ADD: r = (Range){clamp_add(a.lo, b.lo), clamp_add(a.hi, b.hi)}; break;
    case FN_SUB: r = (Range){clamp_add(a.lo, neg(b.hi)), clamp_add(a.hi, neg(b.lo))}; break;
    case FN_MUL: {
        int64_t p[4] = {clamp_mul(a.lo, b.lo), clamp_mul(a.lo, b.hi), clamp_mul(a.hi, b.lo), clamp_mul(a.hi, b.hi)};
        r = (Range){min2(min2(p[0], p[1]), min2(p[2], p[3])), max2(max2(p[0], p[1]), max2(p[2], p[3]))};
        break;
    }
    case FN_FLOORDIV:
        if (b.lo > 0 && a.lo >= 0) r = (Range){b.hi == INT64_MAX ? 0 : a.lo / b.hi, a.hi == INT64_MAX ? INT64_MAX : a.hi / b.lo};
        else if (b.lo > 0 && b.lo == b.hi && a.lo != INT64_MIN && a.hi != INT64_MAX) r = (Range){floor_div(a.lo, b.lo), floor_div(a.hi, b.lo)};
        break;
    case FN_DIV:
        if (b.lo > 0 && a.lo >= 0) r = (Range){0, a.hi == INT64_MAX ? INT64_MAX : a.hi / b.lo};
        break;
    case FN_MOD:
        if (b.lo > 0) r = (Range){0, b.hi == INT64_MAX ? INT64_MAX : b.hi - 1};
        if (b.lo > 0 && a.lo >= 0) r.hi = min2(r.hi, a.hi);
        break;
    case FN_MIN: r = (Range){min2(a.lo, b.lo), min2(a.hi, b.hi)}; break;
    case FN_MAX: r = (Range){max2(a.lo, b.lo), max2(a.hi, b.hi)}; break;
    case FN_NEG: r = (Range){neg(a.hi), neg(a.lo)}; break;
    case FN_INDEX: r = (Range){0, b.hi == INT64_MAX ? INT64_MAX : max2(0, b.hi - 1)}; break;
    case FN_CAST:
        if (!dtype_is_float((DType)e->arg[0]->dtype) && e->arg[0]->dtype != DT_U64 && a.lo >= all.lo && a.hi <= all.hi) r = a;
        break;
    case FN_SELECT: {
        Range c = range_of(k, cx, e->arg[2], depth - 1);
        r = (Range){min2(b.lo, c.lo), max2(b.hi, c.hi)};
        break;
    }
    default: break; /* every other function: all values of the type */
    }
    /* Wrapping arithmetic that may leave the type's range can be anything. */
    if (r.lo < all.lo || r.hi > all.hi) return all;
    return r;
}

void ex_range(const Kernel *k, const Context *cx, const Expr *e, int64_t *lo, int64_t *hi) {
    Range r = range_of(k, cx, e, 20);
    *lo = r.lo;
    *hi = r.hi;
}

Expr *expr_rebuild(Context *cx, const Expr *e, Expr *const *arg) { return intern(cx, *e, e->n_arg, arg); }

/* ---- simplifying constructors ------------------------------------------------------------------------------------ */
static Expr *raw_fn(Context *cx, Fn fn, DType dtype, uint32_t n, Expr *const *arg) {
    return intern(cx, (Expr){.kind = E_FN, .dtype = (uint8_t)dtype, .fn = (uint16_t)fn}, n, arg);
}

static Scalar scalar_of(const Expr *e) {
    Scalar s = {0};
    if (e->dtype == DT_F32) s.f32 = (float)e->c.f;
    else if (e->dtype == DT_F64) s.f64 = e->c.f;
    else s.i = e->c.i;
    return s;
}

static Expr *fold(Context *cx, Fn fn, DType dtype, uint32_t n, Expr *const *arg) {
    Scalar a[3] = {0};
    for (uint32_t i = 0; i < n; i++) a[i] = scalar_of(arg[i]);
    int error = 0;
    Scalar r = scalar_eval(fn, dtype, (DType)arg[n == 3 ? 1 : 0]->dtype, a, 0, &error);
    if (error != 0) return NULL;
    return dtype == DT_F32 ? ex_f(cx, dtype, (double)r.f32) : dtype == DT_F64 ? ex_f(cx, dtype, r.f64) : ex_i(cx, dtype, r.i);
}

static bool is_fn(const Expr *e, Fn fn) { return e->kind == E_FN && e->fn == fn; }

typedef struct Sum { Expr *term[64]; uint32_t n; } Sum; /* addends of an i64 sum */

static bool addends(Expr *e, Sum *s) {
    if (is_fn(e, FN_ADD)) return addends(e->arg[0], s) && addends(e->arg[1], s);
    if (s->n == 64) return false;
    s->term[s->n++] = e;
    return true;
}

/* e / d if e is a multiple of d by its form, else NULL. */
static Expr *exact_quotient(Kernel *k, Context *cx, Expr *e, Expr *d) {
    if (e == d) return ex_i64(cx, 1);
    if (e->kind == E_CONST && d->kind == E_CONST && d->c.i != 0 && e->c.i % d->c.i == 0 && d->c.i != -1) return ex_i64(cx, e->c.i / d->c.i);
    if (e->kind == E_DIM || d->kind == E_DIM) {
        Dim de = e->kind == E_DIM ? e->ref : e->kind == E_CONST ? dim_const(cx, e->c.i) : 0;
        Dim dd = d->kind == E_DIM ? d->ref : d->kind == E_CONST ? dim_const(cx, d->c.i) : 0;
        if (de != 0 && dd != 0) {
            Dim q = dim_floordiv(cx, de, dd);
            if (q != 0 && dim_mul(cx, q, dd) == de) return ex_dim(cx, q);
        }
    }
    if (!is_fn(e, FN_MUL)) return NULL;
    Expr *q = exact_quotient(k, cx, e->arg[1], d);
    if (q != NULL) return ex_2(k, cx, FN_MUL, e->arg[0], q);
    q = exact_quotient(k, cx, e->arg[0], d);
    return q != NULL ? ex_2(k, cx, FN_MUL, q, e->arg[1]) : NULL;
}

/* Splits the sum e into d * quotient + rest by the form of its addends. False if nothing divides. */
static bool split_multiple(Kernel *k, Context *cx, Expr *e, Expr *d, Expr **quotient, Expr **rest) {
    Sum s = {0};
    Range whole = range_of(k, cx, e, 12); /* where the sum could wrap around, dividing its addends would be wrong */
    if (whole.lo == INT64_MIN || whole.hi == INT64_MAX || !addends(e, &s)) return false;
    Expr *q = ex_i64(cx, 0), *r = ex_i64(cx, 0);
    bool any = false;
    for (uint32_t i = 0; i < s.n; i++) {
        Expr *t = exact_quotient(k, cx, s.term[i], d);
        if (t == NULL && s.term[i]->kind == E_CONST && d->kind == E_CONST && d->c.i > 0 && (s.term[i]->c.i >= d->c.i || s.term[i]->c.i < 0)) {
            int64_t f = floor_div(s.term[i]->c.i, d->c.i);
            q = ex_2(k, cx, FN_ADD, q, ex_i64(cx, f));
            r = ex_2(k, cx, FN_ADD, r, ex_i64(cx, s.term[i]->c.i - f * d->c.i));
            any = true;
            continue;
        }
        any |= t != NULL;
        if (t != NULL) q = ex_2(k, cx, FN_ADD, q, t);
        else r = ex_2(k, cx, FN_ADD, r, s.term[i]);
    }
    *quotient = q;
    *rest = r;
    return any;
}

/* 0 <= e < d, from ranges; for a loop variable whose extent is d itself, and for products of the two. */
static bool within(const Kernel *k, const Context *cx, const Expr *e, const Expr *d) {
    Range re = range_of(k, cx, e, 12), rd = range_of(k, cx, d, 12);
    if (re.lo < 0) return false;
    if (re.hi < rd.lo) return true;
    if (e->kind == E_VAR && k != NULL && k->var[e->ref].extent == d) return true;
    if (is_fn(e, FN_INDEX) && e->arg[1] == d) return true;
    if (is_fn(e, FN_MOD) && e->arg[1] == d && rd.lo > 0) return true;
    return false;
}

/* 0 <= e < d for mixed-radix sums x*s + y, where y is within s and x within d / s: symbolic reshapes need it. */
static bool within_radix(Kernel *k, Context *cx, Expr *e, Expr *d, int depth) {
    if (within(k, cx, e, d)) return true;
    if (depth == 0 || !is_fn(e, FN_ADD)) return false;
    Sum s = {0};
    if (!addends(e, &s)) return false;
    for (uint32_t i = 0; i < s.n; i++) { /* try each multiplied addend as the leading digit */
        if (!is_fn(s.term[i], FN_MUL)) continue;
        Expr *radix = s.term[i]->arg[1], *q, *r;
        Expr *digits = exact_quotient(k, cx, d, radix);
        if (digits == NULL || !split_multiple(k, cx, e, radix, &q, &r)) continue;
        if (within_radix(k, cx, q, digits, depth - 1) && within_radix(k, cx, r, radix, depth - 1)) return true;
    }
    return false;
}

/* A total order for commutative integer arguments: dims behind the rest, constants last, else by age. */
static bool before(const Expr *a, const Expr *b) {
    int ra = a->kind == E_CONST ? 2 : a->kind == E_DIM, rb = b->kind == E_CONST ? 2 : b->kind == E_DIM;
    return ra != rb ? ra < rb : a->id < b->id;
}

static Expr *simplify_i64(Kernel *k, Context *cx, Fn fn, Expr *a, Expr *b) {
    switch (fn) {
    case FN_SUB: return a == b ? ex_i64(cx, 0) : ex_2(k, cx, FN_ADD, a, ex_2(k, cx, FN_MUL, b, ex_i64(cx, -1)));
    case FN_ADD:
        if (ex_is_const(b, 0)) return a;
        if (ex_is_const(a, 0)) return b;
        if (a->kind == E_CONST) return ex_2(k, cx, FN_ADD, b, a);
        if (b->kind == E_CONST && is_fn(a, FN_ADD) && a->arg[1]->kind == E_CONST)
            return ex_2(k, cx, FN_ADD, a->arg[0], ex_2(k, cx, FN_ADD, a->arg[1], b));
        if (b->kind != E_CONST && is_fn(a, FN_ADD) && a->arg[1]->kind == E_CONST) /* constants to the outside */
            return ex_2(k, cx, FN_ADD, ex_2(k, cx, FN_ADD, a->arg[0], b), a->arg[1]);
        if (b->kind != E_CONST && is_fn(b, FN_ADD) && b->arg[1]->kind == E_CONST)
            return ex_2(k, cx, FN_ADD, ex_2(k, cx, FN_ADD, a, b->arg[0]), b->arg[1]);
        if ((a->kind == E_DIM) && (b->kind == E_DIM || b->kind == E_CONST)) {
            Dim d = dim_add(cx, a->ref, b->kind == E_DIM ? b->ref : dim_const(cx, b->c.i));
            if (d != 0) return ex_dim(cx, d);
        }
        /* x - x: one addend may cancel another */
        if (is_fn(b, FN_MUL) && ex_is_const(b->arg[1], -1)) {
            Sum s = {0};
            if (addends(a, &s)) {
                for (uint32_t i = 0; i < s.n; i++) {
                    if (s.term[i] != b->arg[0]) continue;
                    Expr *sum = ex_i64(cx, 0);
                    for (uint32_t j = 0; j < s.n; j++)
                        if (j != i) sum = ex_2(k, cx, FN_ADD, sum, s.term[j]);
                    return sum;
                }
            }
        }
        return NULL;
    case FN_MUL:
        if (ex_is_const(b, 1)) return a;
        if (ex_is_const(a, 1)) return b;
        if (ex_is_const(a, 0) || ex_is_const(b, 0)) return ex_i64(cx, 0);
        if (a->kind != b->kind && !before(a, b)) return ex_2(k, cx, FN_MUL, b, a);
        if (a->kind == E_DIM && (b->kind == E_DIM || b->kind == E_CONST)) {
            Dim d = dim_mul(cx, a->ref, b->kind == E_DIM ? b->ref : dim_const(cx, b->c.i));
            if (d != 0) return ex_dim(cx, d);
        }
        if (b->kind == E_CONST || b->kind == E_DIM) { /* strides: distribute and merge */
            if (is_fn(a, FN_ADD)) return ex_2(k, cx, FN_ADD, ex_2(k, cx, FN_MUL, a->arg[0], b), ex_2(k, cx, FN_MUL, a->arg[1], b));
            if (is_fn(a, FN_MUL) && (a->arg[1]->kind == E_CONST || a->arg[1]->kind == E_DIM))
                return ex_2(k, cx, FN_MUL, a->arg[0], ex_2(k, cx, FN_MUL, a->arg[1], b));
        }
        return NULL;
    case FN_FLOORDIV: {
        Expr *q, *r;
        if (ex_is_const(b, 1)) return a;
        if (range_of(k, cx, b, 12).lo <= 0) return NULL;
        if (within_radix(k, cx, a, b, 4)) return ex_i64(cx, 0);
        if (split_multiple(k, cx, a, b, &q, &r)) return ex_2(k, cx, FN_ADD, q, ex_2(k, cx, FN_FLOORDIV, r, b));
        if (is_fn(a, FN_FLOORDIV) && range_of(k, cx, a->arg[1], 12).lo > 0)
            return ex_2(k, cx, FN_FLOORDIV, a->arg[0], ex_2(k, cx, FN_MUL, a->arg[1], b));
        /* (x*c + y) / (c*e) = x / e when y is within c */
        if (b->kind == E_CONST) {
            Sum s = {0};
            if (!addends(a, &s)) return NULL;
            for (uint32_t i = 0; i < s.n; i++) {
                if (!is_fn(s.term[i], FN_MUL) || s.term[i]->arg[1]->kind != E_CONST) continue;
                int64_t c = s.term[i]->arg[1]->c.i;
                if (c <= 1 || b->c.i % c != 0) continue;
                if (!split_multiple(k, cx, a, s.term[i]->arg[1], &q, &r) || !within_radix(k, cx, r, s.term[i]->arg[1], 4)) continue;
                return ex_2(k, cx, FN_FLOORDIV, q, ex_i64(cx, b->c.i / c));
            }
        }
        return NULL;
    }
    case FN_MOD: {
        Expr *q, *r;
        if (ex_is_const(b, 1)) return ex_i64(cx, 0);
        if (range_of(k, cx, b, 12).lo <= 0) return NULL;
        if (within_radix(k, cx, a, b, 4)) return a;
        if (split_multiple(k, cx, a, b, &q, &r)) return ex_2(k, cx, FN_MOD, r, b);
        if (is_fn(a, FN_MOD) && exact_quotient(k, cx, a->arg[1], b) != NULL) return ex_2(k, cx, FN_MOD, a->arg[0], b);
        if (b->kind == E_CONST) { /* (x*c + y) mod (c*e) = (x mod e)*c + y when y is within c */
            Sum s = {0};
            if (!addends(a, &s)) return NULL;
            for (uint32_t i = 0; i < s.n; i++) {
                if (!is_fn(s.term[i], FN_MUL) || s.term[i]->arg[1]->kind != E_CONST) continue;
                int64_t c = s.term[i]->arg[1]->c.i;
                if (c <= 1 || b->c.i % c != 0) continue;
                if (!split_multiple(k, cx, a, s.term[i]->arg[1], &q, &r) || !within_radix(k, cx, r, s.term[i]->arg[1], 4)) continue;
                Expr *high = ex_2(k, cx, FN_MUL, ex_2(k, cx, FN_MOD, q, ex_i64(cx, b->c.i / c)), ex_i64(cx, c));
                return ex_2(k, cx, FN_ADD, high, r);
            }
        }
        return NULL;
    }
    case FN_INDEX: return within_radix(k, cx, a, b, 4) ? a : NULL;
    default: return NULL; /* the other functions have no index rules */
    }
}

static Expr *simplify_order(Kernel *k, Context *cx, Fn fn, Expr *a, Expr *b) { /* integer min, max and comparisons by ranges */
    if (dtype_is_float((DType)a->dtype) || a->dtype == DT_U64 || a->dtype == DT_STRING) return NULL;
    Range ra = range_of(k, cx, a, 12), rb = range_of(k, cx, b, 12);
    bool below = ra.hi < rb.lo || (fn == FN_LT && within(k, cx, a, b)), above = ra.lo > rb.hi;
    switch (fn) {
    case FN_MIN: return a == b || ra.hi <= rb.lo ? a : ra.lo >= rb.hi ? b : NULL;
    case FN_MAX: return a == b || ra.lo >= rb.hi ? a : ra.hi <= rb.lo ? b : NULL;
    case FN_LT: return below ? ex_i(cx, DT_BOOL, 1) : ra.lo >= rb.hi || a == b ? ex_i(cx, DT_BOOL, 0) : NULL;
    case FN_LE: return ra.hi <= rb.lo || a == b ? ex_i(cx, DT_BOOL, 1) : above ? ex_i(cx, DT_BOOL, 0) : NULL;
    case FN_GT: return above ? ex_i(cx, DT_BOOL, 1) : ra.hi <= rb.lo || a == b ? ex_i(cx, DT_BOOL, 0) : NULL;
    case FN_GE: return ra.lo >= rb.hi || a == b ? ex_i(cx, DT_BOOL, 1) : ra.hi < rb.lo ? ex_i(cx, DT_BOOL, 0) : NULL;
    case FN_EQ: return a == b ? ex_i(cx, DT_BOOL, 1) : below || above ? ex_i(cx, DT_BOOL, 0) : NULL;
    case FN_NE: return a == b ? ex_i(cx, DT_BOOL, 0) : below || above ? ex_i(cx, DT_BOOL, 1) : NULL;
    default: return NULL;
    }
}

Expr *ex_fn(Kernel *k, Context *cx, Fn fn, DType dtype, uint32_t n, Expr *const *arg) {
    CHECK(cx, n == fns[fn].arity);
    bool constant = fn != FN_INDEX && fn != FN_REQUIRE && fn != FN_ROUND_TO;
    for (uint32_t i = 0; i < n; i++) constant &= arg[i]->kind == E_CONST;
    if (constant) {
        Expr *e = fold(cx, fn, dtype, n, arg);
        if (e != NULL) return e;
    }
    Expr *a = arg[0], *b = n > 1 ? arg[1] : NULL;
    if (n == 2 && a->dtype == DT_I64) {
        Expr *e = simplify_i64(k, cx, fn, a, b);
        if (e != NULL) return e;
    }
    if (n == 2) {
        Expr *e = simplify_order(k, cx, fn, a, b);
        if (e != NULL) return e;
    }
    if (fn == FN_AND && dtype == DT_BOOL) {
        if (a == b || ex_is_const(a, 1) || ex_is_const(b, 0)) return b;
        if (ex_is_const(b, 1) || ex_is_const(a, 0)) return a;
    }
    if (fn == FN_OR && dtype == DT_BOOL) {
        if (a == b || ex_is_const(a, 0) || ex_is_const(b, 1)) return b;
        if (ex_is_const(b, 0) || ex_is_const(a, 1)) return a;
    }
    if (fn == FN_MUL && dtype_is_float(dtype)) {
        if (ex_is_const(b, 1)) return a;
        if (ex_is_const(a, 1)) return b;
    }
    if (fn == FN_REQUIRE && ex_is_const(a, 1)) return b;
    if ((fn == FN_ADD || fn == FN_MUL || fn == FN_MIN || fn == FN_MAX) && dtype_is_int(dtype) && !before(a, b) && a != b)
        return ex_fn(k, cx, fn, dtype, 2, (Expr *[]){b, a});
    return raw_fn(cx, fn, dtype, n, arg);
}

Expr *ex_select(Kernel *k, Context *cx, Expr *c, Expr *a, Expr *b) {
    if (c->kind == E_CONST) return c->c.i != 0 ? a : b;
    if (a == b) return a;
    return ex_fn(k, cx, FN_SELECT, (DType)a->dtype, 3, (Expr *[]){c, a, b});
}

Expr *ex_cast(Kernel *k, Context *cx, DType dtype, Expr *a) {
    CHECK(cx, dtype == dtype_compute(dtype));
    if (a->dtype == dtype) return a;
    return ex_fn(k, cx, FN_CAST, dtype, 1, &a);
}

Expr *ex_round_to(Kernel *k, Context *cx, DType storage, Expr *a) {
    (void)k;
    if (dtype_compute(storage) == storage) return a;
    if (a->kind == E_FN && a->fn == FN_ROUND_TO && a->c.i == (int64_t)storage) return a;
    if (a->kind == E_LOAD && k != NULL && k->buf[a->ref].dtype == storage) return a;
    Expr head = {.kind = E_FN, .dtype = a->dtype, .fn = FN_ROUND_TO};
    head.c.i = storage;
    return intern(cx, head, 1, &a);
}

/* ---- substitution ------------------------------------------------------------------------------------------------ */
typedef struct Memo { const Expr *from; Expr *to; } Memo;
typedef struct Substitution {
    Kernel *k;
    Context *cx;
    Expr *const *map;
    uint32_t n_map;
    VEC(Memo) memo;
} Substitution;

static Expr *substitute(Substitution *s, Expr *e) {
    if (e->kind == E_VAR) return e->ref < s->n_map && s->map[e->ref] != NULL ? s->map[e->ref] : e;
    if (e->n_arg == 0) return e;
    for (uint32_t i = s->memo.n; i-- > 0 && s->memo.n - i < 64;)
        if (s->memo.v[i].from == e) return s->memo.v[i].to;
    Expr **arg = ARENA_ARRAY(&s->cx->scratch, Expr *, e->n_arg);
    bool same = true;
    for (uint32_t i = 0; i < e->n_arg; i++) {
        arg[i] = substitute(s, e->arg[i]);
        same &= arg[i] == e->arg[i];
    }
    Expr *r = e;
    if (!same) {
        if (e->kind == E_LOAD) r = ex_load(s->k, s->cx, e->ref, arg);
        else if (e->fn == FN_ROUND_TO) r = ex_round_to(s->k, s->cx, (DType)e->c.i, arg[0]);
        else if (e->fn == FN_REQUIRE) r = intern(s->cx, *e, e->n_arg, arg);
        else r = ex_fn(s->k, s->cx, (Fn)e->fn, (DType)e->dtype, e->n_arg, arg);
    }
    Memo m = {e, r};
    vec_push(&s->cx->scratch, &s->memo, m);
    return r;
}

Expr *ex_substitute(Kernel *k, Context *cx, Expr *e, Expr *const *map, uint32_t n_map) {
    Substitution s = {.k = k, .cx = cx, .map = map, .n_map = n_map};
    return substitute(&s, e);
}

Expr *ex_require(Context *cx, Expr *ok, Expr *x, int code) {
    if (ex_is_const(ok, 1)) return x;
    Expr head = {.kind = E_FN, .dtype = x->dtype, .fn = FN_REQUIRE};
    head.c.i = code;
    return intern(cx, head, 2, (Expr *[]){ok, x});
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */
Kernel *kernel_new(Context *cx) {
    return ARENA_NEW(&cx->arena, Kernel);
}

uint32_t kernel_add_buf(Kernel *k, Context *cx, Buf b) {
    k->buf = vec_grow(&cx->arena, k->buf, k->n_buf, &k->cap_buf, sizeof b);
    k->buf[k->n_buf] = b;
    return k->n_buf++;
}

uint32_t kernel_add_var(Kernel *k, Context *cx, Var v) {
    k->var = vec_grow(&cx->arena, k->var, k->n_var, &k->cap_var, sizeof v);
    k->var[k->n_var] = v;
    return k->n_var++;
}
