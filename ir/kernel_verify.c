/* The verifier of kernels: what must be true before a kernel is printed or interpreted.
 *
 *   1  Arguments stand before stack arrays; every buffer index is below n_buf, every variable below n_var.
 *   2  A loop's variable is read inside the loop only; a scalar after its declaration, in that block or deeper.
 *   3  A load or store has one i64 index per dimension; nothing is stored into an input.
 *   4  Expressions have the types their functions have: loads the compute type of the buffer, comparisons bool, and so on.
 *   5  A store's value has the compute type of the buffer, a scalar's value the scalar's type, conditions are bool,
 *      extents i64.
 *   6  Values are accumulated by add, mul, min, max, and, or.
 *   7  Only a phase is parallel, over as many perfectly nested loops as it says; a loop of phases stands at top level.
 *   8  Phases: a scalar declared at top level is not read in a parallel loop; a stack array that a parallel loop uses
 *      belongs to that loop alone (each thread has its own).
 *   9  Calls and contractions name what they call.
 *
 * A broken invariant is an error: `kernel k3_relu: invariant 4: add of f32 and i64`. */
#include "base/map.h"
#include "ir/kernel.h"

typedef struct KernelCheck {
    Context *cx;
    const Kernel *k;
    bool *visible;      /* by variable */
    bool *outer_scalar; /* by variable: declared at top level */
    uint32_t *phase;    /* by buffer: first phase that uses it, + 1 */
    bool *shared;       /* by buffer: used by several phases */
    bool *in_parallel;  /* by buffer: used by a parallel phase */
    uint32_t n_phase;
    bool parallel;      /* inside a parallel loop */
    bool phases;        /* the statement stands in the body of a loop of phases */
    Map seen;           /* expressions of the statement that have been looked at */
    VEC(uint32_t) scope;
    bool ok;
} KernelCheck;

static void wrong(KernelCheck *c, int invariant, const char *format, ...) LATHE_PRINTF(3, 4);
static void wrong(KernelCheck *c, int invariant, const char *format, ...) {
    Writer w = {.arena = &c->cx->scratch};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    diag(c->cx, SEV_ERROR, (Loc){0}, "kernel %s: invariant %d: %s", str_text(c->cx, c->k->name), invariant, cw_cstr(&w));
    c->ok = false;
}

static const char *type_of(const Expr *e) {
    return dtype_text((DType)e->dtype);
}

/* ---- expressions ---- */
static bool use_buf(KernelCheck *c, uint32_t buf) {
    if (buf >= c->k->n_buf) {
        wrong(c, 1, "buffer %u, the kernel has %u", buf, c->k->n_buf);
        return false;
    }
    if (c->phase[buf] == 0) c->phase[buf] = c->n_phase + 1;
    c->shared[buf] |= c->phase[buf] != c->n_phase + 1;
    c->in_parallel[buf] |= c->parallel;
    return true;
}

static void check_var(KernelCheck *c, const Expr *e) {
    if (e->ref >= c->k->n_var) {
        wrong(c, 1, "variable %u, the kernel has %u", e->ref, c->k->n_var);
        return;
    }
    if (!c->visible[e->ref]) wrong(c, 2, "variable %u is read outside its block", e->ref);
    if (c->parallel && c->outer_scalar[e->ref]) wrong(c, 8, "scalar %u of a serial phase is read in a parallel loop", e->ref);
    if (e->dtype != c->k->var[e->ref].dtype) wrong(c, 4, "variable %u is %s, read as %s", e->ref, dtype_text(c->k->var[e->ref].dtype), type_of(e));
}

static void check_index(KernelCheck *c, uint32_t n, Expr *const *idx) {
    for (uint32_t i = 0; i < n; i++)
        if (idx[i]->dtype != DT_I64) wrong(c, 3, "index %u is %s", i, type_of(idx[i]));
}

static void check_load(KernelCheck *c, const Expr *e) {
    if (!use_buf(c, e->ref)) return;
    const Buf *b = &c->k->buf[e->ref];
    if (e->n_arg != b->rank) wrong(c, 3, "buffer %u of rank %u is read at %u indices", e->ref, b->rank, e->n_arg);
    check_index(c, e->n_arg, e->arg);
    if (e->dtype != dtype_compute(b->dtype)) wrong(c, 4, "a load of %s gives %s", dtype_text(b->dtype), type_of(e));
}

static bool numeric(DType d) {
    return dtype_is_float(d) || dtype_is_int(d) || dtype_class(d) == 'C';
}

static bool same_arguments(const Expr *e) {
    for (uint32_t i = 1; i < e->n_arg; i++)
        if (e->arg[i]->dtype != e->arg[0]->dtype) return false;
    return true;
}

static bool well_typed(const Expr *e) {
    DType d = (DType)e->dtype, a = (DType)e->arg[0]->dtype;
    switch (fn_class((Fn)e->fn)) {
    case FC_ARITH: return same_arguments(e) && d == a && (numeric(d) || d == DT_BOOL);
    case FC_FLOAT: return same_arguments(e) && d == a && (d == DT_F32 || d == DT_F64);
    case FC_COMPARE: return same_arguments(e) && d == DT_BOOL;
    case FC_BITS: return same_arguments(e) && d == a && (dtype_is_int(d) || d == DT_BOOL);
    case FC_TEST: return d == DT_BOOL && dtype_is_float(a);
    case FC_SPECIAL: break;
    }
    Fn fn = (Fn)e->fn;
    if (fn == FN_SELECT) return a == DT_BOOL && e->arg[1]->dtype == d && e->arg[2]->dtype == d;
    if (fn == FN_ROUND_TO) return d == a && dtype_compute((DType)e->c.i) == d;
    if (fn == FN_BITCAST) return dtype_bits(d) == dtype_bits(a);
    if (fn == FN_INDEX) return d == DT_I64 && a == DT_I64 && e->arg[1]->dtype == DT_I64;
    if (fn == FN_REQUIRE) return a == DT_BOOL && e->arg[1]->dtype == d;
    return fn == FN_CAST;
}

static void check_fn(KernelCheck *c, const Expr *e) {
    Fn fn = (Fn)e->fn;
    if (fn == FN_NONE || fn >= FN_COUNT || e->n_arg != fn_arity(fn)) {
        wrong(c, 4, "%s with %u arguments", fn < FN_COUNT ? fn_text(fn) : "unknown function", e->n_arg);
        return;
    }
    if (well_typed(e)) return;
    wrong(c, 4, "%s gives %s from %s%s%s", fn_text(fn), type_of(e), type_of(e->arg[0]), e->n_arg > 1 ? " and " : "", e->n_arg > 1 ? type_of(e->arg[1]) : "");
}

static void check_expr(KernelCheck *c, const Expr *e) {
    uint32_t *seen = map_at(&c->cx->scratch, &c->seen, e->id);
    if (*seen != 0) return;
    *seen = 1;
    if (e->dtype == DT_NONE || dtype_compute((DType)e->dtype) != (DType)e->dtype) wrong(c, 4, "an expression is %s, no type to compute in", type_of(e));
    for (uint32_t i = 0; i < e->n_arg; i++) check_expr(c, e->arg[i]);
    switch ((ExprKind)e->kind) {
    case E_CONST: return;
    case E_VAR: check_var(c, e); return;
    case E_DIM:
        if (e->dtype != DT_I64 || e->ref == 0) wrong(c, 4, "a size is %s", type_of(e));
        return;
    case E_LOAD: check_load(c, e); return;
    case E_FN: check_fn(c, e); return;
    }
}

/* ---- statements ---- */
static void need(KernelCheck *c, const Expr *e, DType d, const char *what) {
    if (e == NULL) wrong(c, 5, "%s is missing", what);
    else if (e->dtype != d) wrong(c, 5, "%s is %s, %s is needed", what, type_of(e), dtype_text(d));
    if (e != NULL) check_expr(c, e);
}

static void check_reduce(KernelCheck *c, const Stmt *s) {
    Fn fn = (Fn)s->reduce;
    bool good = fn == FN_NONE || fn == FN_ADD || fn == FN_MUL || fn == FN_MIN || fn == FN_MAX || fn == FN_AND || fn == FN_OR;
    if (!good) wrong(c, 6, "values are accumulated by %s", fn < FN_COUNT ? fn_text(fn) : "an unknown function");
}

static void declare(KernelCheck *c, uint32_t var) {
    c->visible[var] = true;
    vec_push(&c->cx->scratch, &c->scope, var);
}

static bool known_var(KernelCheck *c, uint32_t var) {
    if (var < c->k->n_var) return true;
    wrong(c, 1, "variable %u, the kernel has %u", var, c->k->n_var);
    return false;
}

static void check_block(KernelCheck *c, const Stmt *s, uint32_t depth);

static void check_parallel(KernelCheck *c, const Stmt *s, uint32_t depth) {
    if (s->phases && (depth != 0 || s->parallel != 0)) wrong(c, 7, "a loop of phases is %s", depth != 0 ? "inside another statement" : "parallel itself");
    if (s->parallel == 0) return;
    if (depth != 0 && !c->phases) wrong(c, 7, "a loop inside another statement is parallel");
    const Stmt *inner = s;
    for (uint32_t i = 1; i < s->parallel; i++) {
        inner = inner->body;
        if (inner != NULL && inner->kind == S_FOR && inner->next == NULL) continue;
        wrong(c, 7, "parallel(%u), but only %u loops are nested perfectly", s->parallel, i);
        return;
    }
}

static void check_for(KernelCheck *c, const Stmt *s, uint32_t depth) {
    need(c, s->extent, DT_I64, "a loop's extent");
    if (!known_var(c, s->var)) return;
    check_parallel(c, s, depth);
    uint32_t mine = c->scope.n;
    bool before = c->parallel;
    c->parallel |= s->parallel != 0;
    bool listed = c->phases;
    c->phases = s->phases; /* for the statements of the body alone */
    declare(c, s->var);
    check_block(c, s->body, depth + 1);
    c->phases = listed;
    while (c->scope.n > mine) c->visible[c->scope.v[--c->scope.n]] = false;
    c->parallel = before;
}

static void check_scalar(KernelCheck *c, const Stmt *s, uint32_t depth) {
    if (!known_var(c, s->var)) return;
    need(c, s->val, c->k->var[s->var].dtype, "a scalar's value");
    check_reduce(c, s);
    if (s->kind == S_LOCAL) {
        declare(c, s->var);
        c->outer_scalar[s->var] = depth == 0;
    } else if (!c->visible[s->var]) {
        wrong(c, 2, "scalar %u is set outside its block", s->var);
    } else if (c->parallel && c->outer_scalar[s->var]) {
        wrong(c, 8, "scalar %u of a serial phase is set in a parallel loop", s->var);
    }
}

static void check_store(KernelCheck *c, const Stmt *s) {
    check_reduce(c, s);
    if (!use_buf(c, s->buf)) return;
    const Buf *b = &c->k->buf[s->buf];
    need(c, s->val, dtype_compute(b->dtype), "a stored value");
    if (b->kind == BUF_IN) wrong(c, 3, "buffer %u is an input, it is stored into", s->buf);
    check_index(c, b->rank, s->idx);
    for (uint32_t i = 0; i < b->rank; i++) check_expr(c, s->idx[i]);
}

static void check_call(KernelCheck *c, const Stmt *s) {
    if (s->name == 0) wrong(c, 9, "a call names no function");
    for (uint32_t i = 0; i < s->n_arg; i++) {
        if (s->arg[i].is_buf) use_buf(c, s->arg[i].buf);
        else if (s->arg[i].expr == NULL) wrong(c, 9, "argument %u of %s is missing", i, str_text(c->cx, s->name));
        else check_expr(c, s->arg[i].expr);
    }
}

static void check_stmt(KernelCheck *c, const Stmt *s, uint32_t depth) {
    c->seen = (Map){0};
    switch (s->kind) {
    case S_FOR: check_for(c, s, depth); return;
    case S_LOCAL: case S_SET: check_scalar(c, s, depth); return;
    case S_STORE: check_store(c, s); return;
    case S_IF: case S_WHILE:
        need(c, s->val, DT_BOOL, "a condition");
        check_block(c, s->body, depth + 1);
        check_block(c, s->orelse, depth + 1);
        return;
    case S_CALL: check_call(c, s); return;
    case S_CONTRACT:
        if (s->contract == NULL) wrong(c, 9, "a contraction says nothing about itself");
        return;
    }
}

static void check_block(KernelCheck *c, const Stmt *s, uint32_t depth) {
    uint32_t mine = c->scope.n;
    for (; s != NULL; s = s->next) {
        check_stmt(c, s, depth);
        if (depth == 0 || c->phases) c->n_phase++;
    }
    while (c->scope.n > mine) c->visible[c->scope.v[--c->scope.n]] = false;
}

static void check_bufs(KernelCheck *c) {
    const Kernel *k = c->k;
    if (k->n_arg > k->n_buf) wrong(c, 1, "%u arguments, %u buffers", k->n_arg, k->n_buf);
    for (uint32_t i = 0; i < k->n_buf; i++) {
        bool local = k->buf[i].kind == BUF_LOCAL;
        if (local != (i >= k->n_arg)) wrong(c, 1, "buffer %u is %s", i, local ? "a stack array among the arguments" : "an argument among the stack arrays");
        if (local && c->shared[i] && c->in_parallel[i]) wrong(c, 8, "stack array %u of a parallel loop is used in another phase", i);
    }
}

bool kernel_verify(Context *cx, const Kernel *k) {
    Arena *a = &cx->scratch;
    KernelCheck c = {.cx = cx, .k = k, .ok = true};
    c.visible = ARENA_ARRAY(a, bool, k->n_var);
    c.outer_scalar = ARENA_ARRAY(a, bool, k->n_var);
    c.phase = ARENA_ARRAY(a, uint32_t, k->n_buf);
    c.shared = ARENA_ARRAY(a, bool, k->n_buf);
    c.in_parallel = ARENA_ARRAY(a, bool, k->n_buf);
    check_block(&c, k->body, 0);
    check_bufs(&c);
    return c.ok;
}
