/* Symbolic dimensions: canonical polynomials over atoms.
 *
 * An atom is a symbol, or floordiv/mod/min/max of two dims. A polynomial is a sum of coef * product-of-atoms, terms
 * sorted by their factor lists, no zero coefficient, no single-atom polynomial (that is the atom itself), no constant
 * polynomial (that is a CONST). Equal expressions therefore have equal ids. The order of terms and factors depends on
 * the expressions themselves, never on ids, so text read back prints the same. Bounds saturate to "unknown"; an
 * expression whose coefficients overflow, or with more than POLY_TERMS terms, is unknown (0). */
#include "ir/type.h"

enum { POLY_TERMS = 1024 }; /* products of sums grow exponentially: models have a handful of terms */

typedef struct DimTable {
    DimNode *node; /* by id; 0 unused */
    uint32_t n, cap;
    uint32_t *slot, n_slot;
    Dim *symbol;
    uint32_t n_symbol, cap_symbol;
} DimTable;

static uint64_t node_hash(const DimNode *d) {
    uint64_t h = hash_mix((uint64_t)d->kind, (uint64_t)d->value);
    h = hash_mix(h, d->name);
    h = hash_mix(h, ((uint64_t)d->a << 32) | d->b);
    for (uint32_t i = 0; i < d->n_term; i++) {
        h = hash_mix(h, (uint64_t)d->term[i].coef);
        for (uint32_t j = 0; j < d->term[i].n_factor; j++) h = hash_mix(h, d->term[i].factor[j]);
    }
    return h;
}

static int compare_factors(const Context *cx, const DimTerm *a, const DimTerm *b) {
    if (a->n_factor != b->n_factor) return a->n_factor < b->n_factor ? 1 : -1; /* higher degree first */
    for (uint32_t i = 0; i < a->n_factor; i++)
        if (a->factor[i] != b->factor[i]) return dim_order(cx, a->factor[i], b->factor[i]);
    return 0;
}

static int compare_i64(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

int dim_order(const Context *cx, Dim a, Dim b) {
    if (a == b) return 0;
    if (a == 0 || b == 0) return a == 0 ? -1 : 1;
    const DimNode *x = dim_node(cx, a), *y = dim_node(cx, b);
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    switch (x->kind) {
    case DIM_CONST: return compare_i64(x->value, y->value);
    case DIM_SYMBOL: return compare_i64(x->symbol, y->symbol);
    case DIM_POLY:
        for (uint32_t i = 0; i < x->n_term && i < y->n_term; i++) {
            int c = compare_factors(cx, &x->term[i], &y->term[i]);
            if (c == 0) c = compare_i64(x->term[i].coef, y->term[i].coef);
            if (c != 0) return c;
        }
        return compare_i64(x->n_term, y->n_term);
    case DIM_FLOORDIV: case DIM_MOD: case DIM_MIN: case DIM_MAX: break;
    }
    int c = dim_order(cx, x->a, y->a);
    return c != 0 ? c : dim_order(cx, x->b, y->b);
}

static bool node_equal(const DimNode *a, const DimNode *b) {
    if (a->kind != b->kind || a->value != b->value || a->name != b->name || a->a != b->a || a->b != b->b || a->n_term != b->n_term) return false;
    for (uint32_t i = 0; i < a->n_term; i++)
        if (a->term[i].coef != b->term[i].coef || a->term[i].n_factor != b->term[i].n_factor ||
            (a->term[i].n_factor != 0 && memcmp(a->term[i].factor, b->term[i].factor, a->term[i].n_factor * sizeof(Dim)) != 0))
            return false;
    return true;
}

static DimTable *table(Context *cx) {
    DimTable *t = cx->dims;
    if (t == NULL) {
        t = cx->dims = ARENA_NEW(&cx->arena, DimTable);
        t->n = 1;
        t->cap = 64;
        t->node = ARENA_ARRAY(&cx->arena, DimNode, t->cap);
        t->n_slot = 256;
        t->slot = ARENA_ARRAY(&cx->arena, uint32_t, t->n_slot);
    }
    return t;
}

static void set_bounds(Context *cx, DimNode *d);

static void fill_slots(DimTable *t) {
    for (uint32_t k = 1; k < t->n; k++) {
        uint32_t j = (uint32_t)node_hash(&t->node[k]) & (t->n_slot - 1);
        while (t->slot[j] != 0) j = (j + 1) & (t->n_slot - 1);
        t->slot[j] = k;
    }
}

static Dim intern(Context *cx, DimNode *d) {
    DimTable *t = table(cx);
    uint64_t h = node_hash(d);
    uint32_t i = (uint32_t)h & (t->n_slot - 1);
    for (; t->slot[i] != 0; i = (i + 1) & (t->n_slot - 1))
        if (node_equal(&t->node[t->slot[i]], d)) return t->slot[i];
    set_bounds(cx, d);
    t->node = vec_grow(&cx->arena, t->node, t->n, &t->cap, sizeof *t->node);
    t->node[t->n] = *d;
    t->slot[i] = t->n;
    Dim id = t->n++;
    if (t->n * 2 > t->n_slot) {
        t->n_slot *= 2;
        t->slot = ARENA_ARRAY(&cx->arena, uint32_t, t->n_slot);
        fill_slots(t);
    }
    return id;
}

DimMark dim_mark(Context *cx) {
    return (DimMark){table(cx)->n, table(cx)->n_symbol};
}

void dim_release(Context *cx, DimMark mark) {
    DimTable *t = cx->dims;
    if (t->n == mark.n) return;
    t->n = mark.n;
    t->n_symbol = mark.n_symbol;
    memset(t->slot, 0, t->n_slot * sizeof *t->slot);
    fill_slots(t);
}

const DimNode *dim_node(const Context *cx, Dim d) {
    static const DimNode unknown; /* what entry 0 of the table is, before there is a table */
    return cx->dims != NULL ? &cx->dims->node[d] : &unknown;
}

Dim dim_const(Context *cx, int64_t value) {
    DimNode d = {.kind = DIM_CONST, .value = value};
    return intern(cx, &d);
}

Dim dim_symbol(Context *cx, Str name, int64_t lo, int64_t hi) {
    DimTable *t = table(cx);
    DimNode d = {.kind = DIM_SYMBOL, .name = name, .lo = lo, .hi = hi, .symbol = t->n_symbol};
    Dim id = intern(cx, &d);
    if (t->node[id].symbol == t->n_symbol) { /* new */
        t->symbol = vec_grow(&cx->arena, t->symbol, t->n_symbol, &t->cap_symbol, sizeof *t->symbol);
        t->symbol[t->n_symbol++] = id;
    }
    return id;
}

Dim dim_runtime(Context *cx, const char *prefix, int64_t lo, int64_t hi) {
    uint32_t before = table(cx)->n_symbol;
    Dim id = 0;
    for (uint32_t k = before; cx->dims->n_symbol == before; k++) /* the model may use such names itself */
        id = dim_symbol(cx, str_format(cx, "%s_%u", prefix, k), lo, hi);
    cx->dims->node[id].runtime = true;
    return id;
}

void dim_set_runtime(Context *cx, Dim symbol, bool runtime) {
    CHECK(cx, dim_node(cx, symbol)->kind == DIM_SYMBOL);
    cx->dims->node[symbol].runtime = runtime;
}

void dim_set_assumed(Context *cx, Dim symbol, bool assumed) {
    CHECK(cx, dim_node(cx, symbol)->kind == DIM_SYMBOL);
    cx->dims->node[symbol].assumed = assumed;
}

void dim_set_bounds(Context *cx, Dim symbol, int64_t lo, int64_t hi) {
    CHECK(cx, dim_node(cx, symbol)->kind == DIM_SYMBOL);
    cx->dims->node[symbol].lo = lo;
    cx->dims->node[symbol].hi = hi;
    for (Dim d = 1; d < cx->dims->n; d++) set_bounds(cx, &cx->dims->node[d]); /* arguments have smaller ids */
}

bool dim_is_const(const Context *cx, Dim d) {
    return d != 0 && dim_node(cx, d)->kind == DIM_CONST;
}

int64_t dim_value(const Context *cx, Dim d) {
    return dim_node(cx, d)->value;
}

int64_t dim_lo(const Context *cx, Dim d) {
    return d != 0 ? dim_node(cx, d)->lo : 0;
}

int64_t dim_hi(const Context *cx, Dim d) {
    return d != 0 ? dim_node(cx, d)->hi : INT64_MAX;
}

uint32_t dim_symbol_count(const Context *cx) {
    return cx->dims != NULL ? cx->dims->n_symbol : 0;
}

Dim dim_symbol_at(const Context *cx, uint32_t index) {
    return cx->dims->symbol[index];
}

/* ---- bounds: interval arithmetic, saturating ---- */
static int64_t sat_add(int64_t a, int64_t b) {
    int64_t r;
    if (a == INT64_MAX || b == INT64_MAX) return INT64_MAX;
    if (a == INT64_MIN || b == INT64_MIN) return INT64_MIN;
    if (__builtin_add_overflow(a, b, &r)) return a > 0 ? INT64_MAX : INT64_MIN;
    return r;
}

static int64_t sat_mul(int64_t a, int64_t b) {
    int64_t r;
    if (a == 0 || b == 0) return 0;
    if (__builtin_mul_overflow(a, b, &r)) return (a > 0) == (b > 0) ? INT64_MAX : INT64_MIN;
    return r;
}

static void interval_mul(int64_t *lo, int64_t *hi, int64_t lo2, int64_t hi2) {
    int64_t p[4] = {sat_mul(*lo, lo2), sat_mul(*lo, hi2), sat_mul(*hi, lo2), sat_mul(*hi, hi2)};
    *lo = *hi = p[0];
    for (int i = 1; i < 4; i++) {
        if (p[i] < *lo) *lo = p[i];
        if (p[i] > *hi) *hi = p[i];
    }
}

static int64_t floordiv(int64_t a, int64_t b) {
    int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

static void set_bounds(Context *cx, DimNode *d) {
    int64_t la = dim_lo(cx, d->a), ha = dim_hi(cx, d->a), lb = dim_lo(cx, d->b), hb = dim_hi(cx, d->b);
    switch (d->kind) {
    case DIM_CONST:
        d->lo = d->hi = d->value;
        break;
    case DIM_SYMBOL:
        break;
    case DIM_POLY:
        d->lo = d->hi = 0;
        for (uint32_t i = 0; i < d->n_term; i++) {
            int64_t lo = d->term[i].coef, hi = lo;
            for (uint32_t j = 0; j < d->term[i].n_factor; j++)
                interval_mul(&lo, &hi, dim_lo(cx, d->term[i].factor[j]), dim_hi(cx, d->term[i].factor[j]));
            d->lo = sat_add(d->lo, lo);
            d->hi = sat_add(d->hi, hi);
        }
        break;
    case DIM_FLOORDIV:
        d->lo = INT64_MIN;
        d->hi = INT64_MAX;
        if (lb > 0) {
            d->lo = la == INT64_MIN ? INT64_MIN : floordiv(la, la >= 0 ? hb : lb);
            d->hi = ha == INT64_MAX ? INT64_MAX : floordiv(ha, ha >= 0 ? lb : hb);
        }
        break;
    case DIM_MOD:
        d->lo = lb > 0 ? 0 : INT64_MIN;
        d->hi = lb > 0 && hb != INT64_MAX ? hb - 1 : INT64_MAX;
        if (la >= 0 && ha < d->hi) d->hi = ha;
        break;
    case DIM_MIN:
        d->lo = la < lb ? la : lb;
        d->hi = ha < hb ? ha : hb;
        break;
    case DIM_MAX:
        d->lo = la > lb ? la : lb;
        d->hi = ha > hb ? ha : hb;
        break;
    }
}

/* ---- polynomial arithmetic ---- */
typedef struct Poly { DimTerm *term; uint32_t n; } Poly;

static Poly poly_of(Context *cx, Dim d) {
    const DimNode *n = dim_node(cx, d);
    Poly p = {ARENA_ARRAY(&cx->arena, DimTerm, n->kind == DIM_POLY ? n->n_term : 1), 0};
    if (n->kind == DIM_POLY) {
        p.n = n->n_term;
        memcpy(p.term, n->term, n->n_term * sizeof *p.term);
    } else if (n->kind == DIM_CONST) {
        if (n->value != 0) p.term[p.n++] = (DimTerm){.coef = n->value};
    } else {
        Dim *f = ARENA_NEW(&cx->arena, Dim);
        *f = d;
        p.term[p.n++] = (DimTerm){1, 1, f};
    }
    return p;
}

static Dim dim_of(Context *cx, Poly p) {
    if (p.n == 0) return dim_const(cx, 0);
    if (p.n == 1 && p.term[0].n_factor == 0) return dim_const(cx, p.term[0].coef);
    if (p.n == 1 && p.term[0].n_factor == 1 && p.term[0].coef == 1) return p.term[0].factor[0];
    DimNode d = {.kind = DIM_POLY, .n_term = p.n, .term = p.term};
    return intern(cx, &d);
}

/* Adds coef * factors to p, keeping the terms sorted. p.term must have room. False when the coefficient overflows. */
static bool poly_add_term(Context *cx, Poly *p, DimTerm t) {
    uint32_t i = 0;
    while (i < p->n && compare_factors(cx, &p->term[i], &t) < 0) i++;
    if (i < p->n && compare_factors(cx, &p->term[i], &t) == 0) {
        if (__builtin_add_overflow(p->term[i].coef, t.coef, &p->term[i].coef)) return false;
        if (p->term[i].coef == 0) {
            memmove(p->term + i, p->term + i + 1, (p->n - i - 1) * sizeof *p->term);
            p->n--;
        }
        return true;
    }
    memmove(p->term + i + 1, p->term + i, (p->n - i) * sizeof *p->term);
    p->term[i] = t;
    p->n++;
    return true;
}

Dim dim_add(Context *cx, Dim a, Dim b) {
    if (a == 0 || b == 0) return 0;
    if (dim_is_const(cx, a) && dim_is_const(cx, b)) {
        int64_t r;
        return __builtin_add_overflow(dim_value(cx, a), dim_value(cx, b), &r) ? 0 : dim_const(cx, r);
    }
    Poly pa = poly_of(cx, a), pb = poly_of(cx, b);
    Poly r = {ARENA_ARRAY(&cx->arena, DimTerm, pa.n + pb.n), 0};
    for (uint32_t i = 0; i < pa.n; i++) r.term[r.n++] = pa.term[i];
    for (uint32_t i = 0; i < pb.n; i++)
        if (!poly_add_term(cx, &r, pb.term[i])) return 0;
    return r.n <= POLY_TERMS ? dim_of(cx, r) : 0;
}

Dim dim_sub(Context *cx, Dim a, Dim b) {
    return dim_add(cx, a, dim_mul(cx, b, dim_const(cx, -1)));
}

Dim dim_mul(Context *cx, Dim a, Dim b) {
    if (a == 0 || b == 0) return 0;
    if (dim_is_const(cx, a) && dim_is_const(cx, b)) {
        int64_t r;
        return __builtin_mul_overflow(dim_value(cx, a), dim_value(cx, b), &r) ? 0 : dim_const(cx, r);
    }
    Poly pa = poly_of(cx, a), pb = poly_of(cx, b);
    if ((size_t)pa.n * pb.n > POLY_TERMS) return 0;
    Poly r = {ARENA_ARRAY(&cx->arena, DimTerm, (size_t)pa.n * pb.n + 1), 0};
    for (uint32_t i = 0; i < pa.n; i++) {
        for (uint32_t j = 0; j < pb.n; j++) {
            DimTerm ta = pa.term[i], tb = pb.term[j], t = {.n_factor = ta.n_factor + tb.n_factor};
            if (t.n_factor > POLY_TERMS || __builtin_mul_overflow(ta.coef, tb.coef, &t.coef)) return 0;
            Dim *f = ARENA_ARRAY(&cx->arena, Dim, t.n_factor);
            uint32_t x = 0, y = 0;
            for (uint32_t k = 0; k < t.n_factor; k++) /* merge of two sorted lists */
                f[k] = y >= tb.n_factor || (x < ta.n_factor && dim_order(cx, ta.factor[x], tb.factor[y]) <= 0) ? ta.factor[x++] : tb.factor[y++];
            t.factor = f;
            if (!poly_add_term(cx, &r, t)) return 0;
        }
    }
    return dim_of(cx, r);
}

/* t / by, if every factor of by is in t and the coefficient divides. */
static bool term_divide(Context *cx, DimTerm t, DimTerm by, DimTerm *q) {
    if (by.coef == -1 ? t.coef == INT64_MIN : t.coef % by.coef != 0) return false;
    if (t.n_factor < by.n_factor) return false;
    Dim *f = ARENA_ARRAY(&cx->arena, Dim, t.n_factor);
    uint32_t n = 0, j = 0;
    for (uint32_t i = 0; i < t.n_factor; i++) {
        if (j < by.n_factor && t.factor[i] == by.factor[j])
            j++;
        else
            f[n++] = t.factor[i];
    }
    *q = (DimTerm){t.coef / by.coef, n, f};
    return j == by.n_factor;
}

/* Exact polynomial division by long division on leading terms; false if there is a remainder. */
static bool poly_divide(Context *cx, Dim a, Dim b, Dim *quotient) {
    Dim rest = a, q = dim_const(cx, 0);
    for (int round = 0; round < 64; round++) {
        if (dim_is_const(cx, rest) && dim_value(cx, rest) == 0) {
            *quotient = q;
            return true;
        }
        Poly pr = poly_of(cx, rest), pb = poly_of(cx, b);
        DimTerm *t = ARENA_NEW(&cx->arena, DimTerm); /* the interned node keeps it */
        if (pb.n == 0 || !term_divide(cx, pr.term[0], pb.term[0], t)) return false;
        Dim d = dim_of(cx, (Poly){t, 1});
        q = dim_add(cx, q, d);
        rest = dim_sub(cx, rest, dim_mul(cx, d, b));
        if (rest == 0 || q == 0) return false;
    }
    return false;
}

static Dim binary(Context *cx, DimKind kind, Dim a, Dim b) {
    DimNode d = {.kind = kind, .a = a, .b = b};
    return intern(cx, &d);
}

Dim dim_floordiv(Context *cx, Dim a, Dim b) {
    if (a == 0 || b == 0) return 0;
    if (dim_is_const(cx, b)) {
        int64_t vb = dim_value(cx, b);
        if (vb == 0) return 0;
        if (vb == 1) return a;
        if (vb == -1) return dim_mul(cx, a, b);
        if (dim_is_const(cx, a)) return dim_const(cx, floordiv(dim_value(cx, a), vb));
    }
    Dim q;
    if (poly_divide(cx, a, b, &q)) return q;
    if (dim_is_const(cx, b) && dim_value(cx, b) > 0) { /* (k*b*x + r) / b = k*x + r / b */
        int64_t vb = dim_value(cx, b);
        Poly p = poly_of(cx, a), out = {ARENA_ARRAY(&cx->arena, DimTerm, p.n + 1), 0}, rest = {ARENA_ARRAY(&cx->arena, DimTerm, p.n + 1), 0};
        for (uint32_t i = 0; i < p.n; i++) {
            DimTerm t = p.term[i];
            int64_t k = floordiv(t.coef, vb);
            if (k != 0 && (t.coef % vb == 0 || t.n_factor == 0)) {
                out.term[out.n++] = (DimTerm){k, t.n_factor, t.factor};
                t.coef -= k * vb;
            }
            if (t.coef != 0) rest.term[rest.n++] = t;
        }
        if (out.n != 0) return dim_add(cx, dim_of(cx, out), dim_floordiv(cx, dim_of(cx, rest), b));
        if (dim_lo(cx, a) >= 0 && dim_hi(cx, a) < vb) return dim_const(cx, 0);
    }
    return binary(cx, DIM_FLOORDIV, a, b);
}

Dim dim_ceildiv(Context *cx, Dim a, Dim b) {
    if (a == 0 || b == 0) return 0;
    Dim q;
    if (!(dim_is_const(cx, b) && dim_value(cx, b) == 0) && poly_divide(cx, a, b, &q)) return q;
    Dim unit = dim_const(cx, dim_is_const(cx, b) && dim_value(cx, b) < 0 ? -1 : 1); /* symbolic divisors are sizes: positive */
    return dim_floordiv(cx, dim_add(cx, a, dim_sub(cx, b, unit)), b);
}

Dim dim_mod(Context *cx, Dim a, Dim b) {
    if (a == 0 || b == 0) return 0;
    if (dim_is_const(cx, b) && dim_value(cx, b) == 0) return 0;
    if (dim_is_const(cx, a) && dim_is_const(cx, b)) {
        int64_t vb = dim_value(cx, b), r = vb == -1 ? 0 : dim_value(cx, a) % vb;
        return dim_const(cx, r != 0 && (r < 0) != (vb < 0) ? r + vb : r);
    }
    Dim q;
    if (poly_divide(cx, a, b, &q)) return dim_const(cx, 0);
    if (dim_lo(cx, a) >= 0 && dim_hi(cx, a) < dim_lo(cx, b)) return a;
    return binary(cx, DIM_MOD, a, b);
}

Dim dim_min(Context *cx, Dim a, Dim b) {
    if (a == 0 || b == 0) return 0;
    if (a == b) return a;
    Dim d = dim_sub(cx, a, b);
    if (dim_hi(cx, a) <= dim_lo(cx, b) || (d != 0 && dim_hi(cx, d) <= 0)) return a;
    if (dim_hi(cx, b) <= dim_lo(cx, a) || (d != 0 && dim_lo(cx, d) >= 0)) return b;
    return dim_order(cx, a, b) < 0 ? binary(cx, DIM_MIN, a, b) : binary(cx, DIM_MIN, b, a);
}

Dim dim_max(Context *cx, Dim a, Dim b) {
    if (a == 0 || b == 0) return 0;
    if (a == b) return a;
    Dim d = dim_sub(cx, a, b);
    if (dim_hi(cx, a) <= dim_lo(cx, b) || (d != 0 && dim_hi(cx, d) <= 0)) return b;
    if (dim_hi(cx, b) <= dim_lo(cx, a) || (d != 0 && dim_lo(cx, d) >= 0)) return a;
    return dim_order(cx, a, b) < 0 ? binary(cx, DIM_MAX, a, b) : binary(cx, DIM_MAX, b, a);
}

/* ---- substitution, evaluation, text ---- */
static Dim rebuild(Context *cx, DimKind kind, Dim a, Dim b) {
    switch (kind) {
    case DIM_FLOORDIV: return dim_floordiv(cx, a, b);
    case DIM_MOD: return dim_mod(cx, a, b);
    case DIM_MIN: return dim_min(cx, a, b);
    case DIM_MAX: return dim_max(cx, a, b);
    case DIM_CONST: case DIM_SYMBOL: case DIM_POLY: break;
    }
    return 0;
}

Dim dim_substitute(Context *cx, Dim d, const Dim *map) {
    if (d == 0) return 0;
    DimNode n = *dim_node(cx, d); /* a copy: the table may move */
    switch (n.kind) {
    case DIM_CONST: return d;
    case DIM_SYMBOL: return map[n.symbol] != 0 ? map[n.symbol] : d;
    case DIM_POLY: {
        Dim sum = dim_const(cx, 0);
        for (uint32_t i = 0; i < n.n_term; i++) {
            Dim product = dim_const(cx, n.term[i].coef);
            for (uint32_t j = 0; j < n.term[i].n_factor; j++) product = dim_mul(cx, product, dim_substitute(cx, n.term[i].factor[j], map));
            sum = dim_add(cx, sum, product);
        }
        return sum;
    }
    case DIM_FLOORDIV: case DIM_MOD: case DIM_MIN: case DIM_MAX: break;
    }
    return rebuild(cx, n.kind, dim_substitute(cx, n.a, map), dim_substitute(cx, n.b, map));
}

int64_t dim_eval(const Context *cx, Dim d, const int64_t *value) {
    const DimNode *n = dim_node(cx, d);
    int64_t a = 0, b = 0;
    if (n->a != 0) a = dim_eval(cx, n->a, value);
    if (n->b != 0) b = dim_eval(cx, n->b, value);
    switch (n->kind) {
    case DIM_CONST: return n->value;
    case DIM_SYMBOL: return value[n->symbol];
    case DIM_POLY: {
        int64_t sum = 0;
        for (uint32_t i = 0; i < n->n_term; i++) {
            int64_t product = n->term[i].coef;
            for (uint32_t j = 0; j < n->term[i].n_factor; j++) product = sat_mul(product, dim_eval(cx, n->term[i].factor[j], value));
            sum = sat_add(sum, product);
        }
        return sum;
    }
    case DIM_FLOORDIV: return b == 0 ? 0 : b == -1 ? sat_mul(a, -1) : floordiv(a, b);
    case DIM_MOD: return b == 0 || b == -1 ? 0 : a - floordiv(a, b) * b;
    case DIM_MIN: return a < b ? a : b;
    case DIM_MAX: return a > b ? a : b;
    }
    return 0;
}

static bool plain_name(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i != 0 && c >= '0' && c <= '9')) return false;
    }
    return n != 0;
}

void dim_print(const Context *cx, Writer *w, Dim d) {
    static const char *const word[] = {[DIM_FLOORDIV] = "floordiv", [DIM_MOD] = "mod", [DIM_MIN] = "min", [DIM_MAX] = "max"};
    if (d == 0) {
        cw_printf(w, "?");
        return;
    }
    const DimNode *n = dim_node(cx, d);
    switch (n->kind) {
    case DIM_CONST:
        cw_printf(w, "%lld", (long long)n->value);
        return;
    case DIM_SYMBOL:
        if (plain_name(str_text(cx, n->name), str_size(cx, n->name))) cw_printf(w, "%s", str_text(cx, n->name));
        else cw_string(w, str_text(cx, n->name), str_size(cx, n->name));
        return;
    case DIM_POLY:
        for (uint32_t i = 0; i < n->n_term; i++) {
            DimTerm t = n->term[i];
            uint64_t size = t.coef < 0 ? -(uint64_t)t.coef : (uint64_t)t.coef;
            cw_printf(w, "%s", i == 0 ? (t.coef < 0 ? "-" : "") : t.coef < 0 ? " - " : " + ");
            if (t.n_factor == 0 || size != 1) cw_printf(w, "%llu%s", (unsigned long long)size, t.n_factor != 0 ? "*" : "");
            for (uint32_t j = 0; j < t.n_factor; j++) {
                if (j != 0) cw_printf(w, "*");
                dim_print(cx, w, t.factor[j]);
            }
        }
        return;
    case DIM_FLOORDIV: case DIM_MOD: case DIM_MIN: case DIM_MAX: break;
    }
    cw_printf(w, "%s(", word[n->kind]);
    dim_print(cx, w, n->a);
    cw_printf(w, ", ");
    dim_print(cx, w, n->b);
    cw_printf(w, ")");
}
