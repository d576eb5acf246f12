/* Which top-level loops may be split over threads, and how many nested loops form one range.
 *
 * A loop variable v is independent when, for every buffer argument written inside the loop, some dimension d is
 * indexed by exactly v (or v*tile + lane) in every store and every load of that buffer within the loop: different iterations then touch
 * different elements. Scalars declared outside and changed inside, and runtime calls, make a loop sequential.
 * Stack arrays declared inside are private; arrays are kernel-wide here, so they count as private per thread. */
#include "passes/lower.h"

enum { ANY = -2, NONE = -1 }; /* ANY: not accessed so far */

typedef struct Access {
    Context *cx;
    const Kernel *k;
    uint32_t var;
    uint32_t *seen_dims;  /* by buffer: bit d set while every access so far has index d == var */
    bool *stored;         /* by buffer */
    bool *declared;       /* by variable: declared inside the loop */
    bool ok;
} Access;

static bool mentions(const Expr *e, uint32_t var) {
    if (e->kind == E_VAR) return e->ref == var;
    for (uint32_t i = 0; i < e->n_arg; i++)
        if (mentions(e->arg[i], var)) return true;
    return false;
}

/* Splits a sum into the addend var*c and the range of the rest; false unless var stands in one addend of this form. */
static bool split_sum(const Access *a, const Expr *e, int64_t *size, int64_t *lo, int64_t *hi) {
    if (e->kind == E_FN && e->fn == FN_ADD) return split_sum(a, e->arg[0], size, lo, hi) && split_sum(a, e->arg[1], size, lo, hi);
    if (!mentions(e, a->var)) {
        int64_t from, to;
        ex_range(a->k, a->cx, e, &from, &to);
        return from >= 0 && to < INT64_MAX / 64 && (*lo += from, *hi += to, true);
    }
    bool plain = e->kind == E_VAR, scaled = e->kind == E_FN && e->fn == FN_MUL && e->arg[0]->kind == E_VAR && e->arg[1]->kind == E_CONST;
    if ((!plain && !scaled) || *size != 0) return false;
    *size = plain ? 1 : e->arg[1]->c.i;
    return *size > 0;
}

/* e is var, or var*c + rest with 0 <= rest < c: different iterations give different values. */
static bool separates(const Access *a, const Expr *e) {
    int64_t size = 0, lo = 0, hi = 0;
    return split_sum(a, e, &size, &lo, &hi) && size > 0 && hi < size;
}

static void access_index(Access *a, uint32_t buf, Expr *const *idx) {
    uint32_t dims = 0;
    for (uint32_t d = 0; d < a->k->buf[buf].rank; d++)
        if (separates(a, idx[d])) dims |= 1u << d;
    a->seen_dims[buf] &= dims;
}

static void access_expr(Access *a, const Expr *e) {
    if (e == NULL) return;
    if (e->kind == E_LOAD) access_index(a, e->ref, e->arg);
    for (uint32_t i = 0; i < e->n_arg; i++) access_expr(a, e->arg[i]);
}

static void access_stmts(Access *a, const Stmt *s) {
    for (; s != NULL && a->ok; s = s->next) {
        access_expr(a, s->extent);
        access_expr(a, s->val);
        switch (s->kind) {
        case S_STORE:
            for (uint32_t i = 0; i < a->k->buf[s->buf].rank; i++) access_expr(a, s->idx[i]);
            access_index(a, s->buf, s->idx);
            a->stored[s->buf] = true;
            break;
        case S_LOCAL: a->declared[s->var] = true; break;
        case S_SET: a->ok &= a->declared[s->var]; break;
        case S_CALL: case S_CONTRACT: a->ok = false; break;
        case S_FOR: case S_IF: case S_WHILE: break;
        }
        access_stmts(a, s->body);
        access_stmts(a, s->orelse);
    }
}

static bool independent(Context *cx, const Kernel *k, const Stmt *loop) {
    Access a = {.cx = cx, .k = k, .var = loop->var, .ok = true};
    a.seen_dims = ARENA_ARRAY(&cx->scratch, uint32_t, k->n_buf);
    a.stored = ARENA_ARRAY(&cx->scratch, bool, k->n_buf);
    a.declared = ARENA_ARRAY(&cx->scratch, bool, k->n_var);
    for (uint32_t b = 0; b < k->n_buf; b++) a.seen_dims[b] = ~0u;
    access_stmts(&a, loop->body);
    for (uint32_t b = 0; b < k->n_buf && a.ok; b++)
        if (a.stored[b] && k->buf[b].kind != BUF_LOCAL && (a.seen_dims[b] == 0 || dtype_bits(k->buf[b].dtype) < 8)) a.ok = false; /* packed: neighbours share bytes */
    return a.ok;
}

/* Does anything in the loop read or write a stack array that something outside it touches too? Then the phases of
 * different threads would not share it: keep the kernel serial. */
static bool touches_local(const Kernel *k, const Stmt *s);

static bool expr_touches_local(const Kernel *k, const Expr *e) {
    if (e == NULL) return false;
    if (e->kind == E_LOAD && k->buf[e->ref].kind == BUF_LOCAL) return true;
    for (uint32_t i = 0; i < e->n_arg; i++)
        if (expr_touches_local(k, e->arg[i])) return true;
    return false;
}

static bool touches_local(const Kernel *k, const Stmt *s) {
    for (; s != NULL; s = s->next) {
        if (s->kind == S_STORE && k->buf[s->buf].kind == BUF_LOCAL) return true;
        if (expr_touches_local(k, s->val) || touches_local(k, s->body) || touches_local(k, s->orelse)) return true;
        for (uint32_t i = 0; i < s->n_arg; i++)
            if (s->arg[i].is_buf ? k->buf[s->arg[i].buf].kind == BUF_LOCAL : expr_touches_local(k, s->arg[i].expr)) return true;
    }
    return false;
}

void kernel_parallelize(Context *cx, Kernel *k) {
    uint32_t with_locals = 0;
    for (Stmt *s = k->body; s != NULL; s = s->next) {
        Stmt one = *s;
        one.next = NULL;
        with_locals += touches_local(k, &one);
    }
    for (Stmt *s = k->body; s != NULL; s = s->next) {
        if (s->kind == S_LOCAL) return; /* a scalar that outlives a phase: all phases on one thread */
    }
    for (Stmt *s = k->body; s != NULL; s = s->next) {
        if (s->kind != S_FOR || s->parallel != 0 || s->phases) continue;
        Stmt one = *s;
        one.next = NULL;
        if (with_locals > 1 && touches_local(k, &one)) continue;
        uint16_t depth = 0;
        for (Stmt *loop = s; loop != NULL && loop->kind == S_FOR && loop->next == (loop == s ? s->next : NULL); loop = loop->body) {
            if (!ex_is_const(loop->extent, 1) && !independent(cx, k, loop)) break;
            /* A nested extent may use outer variables (triangles): it cannot join the common range then. */
            bool rectangular = loop == s || loop->extent->kind == E_CONST || loop->extent->kind == E_DIM;
            if (!rectangular) break;
            depth++;
        }
        s->parallel = depth;
    }
}
