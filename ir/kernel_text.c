/* The text of kernels: kernel_print. Kernels are shared when they print equal (name and comment aside), so the text
 * holds everything that matters: types of constants, strides, and each operand in its place.
 *
 *     kernel k3_relu(b0: f32[N,64] in, b1: f32[N,64] out) {
 *         for i0 < dim(N) parallel(2)
 *             for i1 < 64
 *                 let t0 = exp(b0[i0, i1])
 *                 b1[i0, i1] = (t0 / (t0 + 1.0))
 *     }
 *
 * i: loop variables, v: mutable scalars, t: expressions that a statement reads more than once, b: buffers. Constants
 * are i64 without a point and f32 with one; other types follow after a colon. */
#include "ir/kernel_text.h"

#include <math.h>

#include "ir/contract.h"
#include "ir/text_number.h"

static const char *infix(Fn fn) {
    static const char *const sign[FN_COUNT] = {
        [FN_ADD] = "+", [FN_SUB] = "-", [FN_MUL] = "*", [FN_DIV] = "/", [FN_EQ] = "==", [FN_NE] = "!=",
        [FN_LT] = "<", [FN_LE] = "<=", [FN_GT] = ">", [FN_GE] = ">=", [FN_AND] = "&", [FN_OR] = "|", [FN_XOR] = "^",
    };
    return sign[fn];
}

static void print_const(KernelText *t, const Expr *e) {
    DType d = (DType)e->dtype;
    if (!dtype_is_float(d)) {
        cw_printf(t->w, dtype_class(d) == 'U' ? "%llu" : "%lld", (unsigned long long)e->c.i);
        if (d != DT_I64) cw_printf(t->w, ":%s", dtype_text(d));
        return;
    }
    uint64_t bits = 0;
    float f = (float)e->c.f;
    if (d == DT_F64) memcpy(&bits, &e->c.f, sizeof bits);
    else memcpy(&bits, &f, sizeof f);
    number_print(t->w, d, bits);
    if (e->c.f == rint(e->c.f) && fabs(e->c.f) < 1e7) cw_printf(t->w, ".0");
    if (d != DT_F32) cw_printf(t->w, ":%s", dtype_text(d));
}

static void print_var(KernelText *t, uint32_t var) {
    bool loop = t->k->var[var].extent != NULL;
    if (t->var_name[var] == 0) t->var_name[var] = loop ? ++t->n_loop : ++t->n_scalar;
    cw_printf(t->w, "%s%u", loop ? "i" : "v", t->var_name[var] - 1);
}

static void print_list(KernelText *t, uint32_t n, Expr *const *e) {
    for (uint32_t i = 0; i < n; i++) {
        cw_printf(t->w, "%s", i != 0 ? ", " : "");
        kernel_text_expr(t, e[i]);
    }
}

static void print_fn(KernelText *t, const Expr *e) {
    Fn fn = (Fn)e->fn;
    if (infix(fn) != NULL && e->n_arg == 2) {
        cw_printf(t->w, "(");
        kernel_text_expr(t, e->arg[0]);
        cw_printf(t->w, " %s ", infix(fn));
        kernel_text_expr(t, e->arg[1]);
        cw_printf(t->w, ")");
        return;
    }
    cw_printf(t->w, "%s", fn_text(fn));
    if (fn == FN_CAST || fn == FN_BITCAST) cw_printf(t->w, "<%s>", dtype_text((DType)e->dtype));
    if (fn == FN_ROUND_TO) cw_printf(t->w, "<%s>", dtype_text((DType)e->c.i));
    if (fn == FN_REQUIRE) cw_printf(t->w, "<%lld>", (long long)e->c.i);
    cw_printf(t->w, "(");
    print_list(t, e->n_arg, e->arg);
    cw_printf(t->w, ")");
}

static void print_whole(KernelText *t, const Expr *e) {
    switch ((ExprKind)e->kind) {
    case E_CONST: print_const(t, e); return;
    case E_VAR: print_var(t, e->ref); return;
    case E_DIM:
        cw_printf(t->w, "dim(");
        dim_print(t->cx, t->w, e->ref);
        cw_printf(t->w, ")");
        return;
    case E_LOAD:
        cw_printf(t->w, "b%u[", e->ref);
        print_list(t, e->n_arg, e->arg);
        cw_printf(t->w, "]");
        return;
    case E_FN: print_fn(t, e); return;
    }
}

void kernel_text_expr(KernelText *t, const Expr *e) {
    uint32_t temp = map_get(&t->temp, e->id + UINT64_C(1));
    if (temp != 0) cw_printf(t->w, "t%u", temp - 1);
    else print_whole(t, e);
}

/* ---- what a statement shares ---- */
static bool is_leaf(const Expr *e) {
    if (e->kind == E_FN) return false;
    for (uint32_t i = 0; i < e->n_arg; i++)
        if (e->arg[i]->n_arg != 0) return false;
    return true;
}

/* Counts the places that read each expression; arguments come before what uses them in `order`. */
typedef struct Sharing { Arena *arena; Map reads; VEC(const Expr *) order; } Sharing;

static void count_reads(Sharing *s, const Expr *e) {
    if (is_leaf(e)) return;
    uint32_t *reads = map_at(s->arena, &s->reads, e->id);
    if ((*reads)++ != 0) return;
    for (uint32_t i = 0; i < e->n_arg; i++) count_reads(s, e->arg[i]);
    vec_push(s->arena, &s->order, e);
}

void kernel_text_shared(KernelText *t, uint32_t n, const Expr *const *e) {
    Sharing s = {.arena = &t->cx->scratch};
    t->temp = (Map){0};
    for (uint32_t i = 0; i < n; i++)
        if (e[i] != NULL) count_reads(&s, e[i]);
    for (uint32_t i = 0; i < s.order.n; i++) {
        const Expr *x = s.order.v[i];
        if (map_get(&s.reads, x->id) < 2) continue;
        cw_begin(t->w);
        cw_printf(t->w, "let t%u = ", t->n_temp);
        print_whole(t, x);
        cw_printf(t->w, "\n");
        *map_at(s.arena, &t->temp, x->id + UINT64_C(1)) = ++t->n_temp;
    }
}

/* ---- statements ---- */
static void print_block(KernelText *t, const Stmt *s);

static void print_body(KernelText *t, const Stmt *body) {
    t->w->indent++;
    print_block(t, body);
    t->w->indent--;
}

static void share1(KernelText *t, const Expr *e) {
    kernel_text_shared(t, 1, (const Expr *const[]){e});
    cw_begin(t->w);
}

static void print_assign(KernelText *t, const Stmt *s) {
    if (s->reduce != FN_NONE) cw_printf(t->w, " %s= ", fn_text((Fn)s->reduce));
    else cw_printf(t->w, " = ");
    kernel_text_expr(t, s->val);
    cw_printf(t->w, "\n");
}

static void print_store(KernelText *t, const Stmt *s) {
    uint32_t rank = t->k->buf[s->buf].rank;
    const Expr *e[RANK_MAX + 1] = {s->val};
    for (uint32_t i = 0; i < rank && i < RANK_MAX; i++) e[i + 1] = s->idx[i];
    kernel_text_shared(t, rank + 1, e);
    cw_begin(t->w);
    cw_printf(t->w, "b%u[", s->buf);
    print_list(t, rank, s->idx);
    cw_printf(t->w, "]");
    print_assign(t, s);
}

static void print_call(KernelText *t, const Stmt *s) {
    const Expr **e = ARENA_ARRAY(&t->cx->scratch, const Expr *, s->n_arg);
    for (uint32_t i = 0; i < s->n_arg; i++) e[i] = s->arg[i].is_buf ? NULL : s->arg[i].expr;
    kernel_text_shared(t, s->n_arg, e);
    cw_begin(t->w);
    cw_printf(t->w, "call %s(", str_text(t->cx, s->name));
    for (uint32_t i = 0; i < s->n_arg; i++) {
        cw_printf(t->w, "%s", i != 0 ? ", " : "");
        if (s->arg[i].is_buf) cw_printf(t->w, "b%u", s->arg[i].buf);
        else kernel_text_expr(t, e[i]);
    }
    cw_printf(t->w, ")\n");
}

static void print_stmt(KernelText *t, const Stmt *s) {
    switch (s->kind) {
    case S_FOR:
        share1(t, s->extent);
        cw_printf(t->w, "for ");
        print_var(t, s->var);
        cw_printf(t->w, " < ");
        kernel_text_expr(t, s->extent);
        if (s->parallel != 0) cw_printf(t->w, " parallel(%u)", s->parallel);
        if (s->phases) cw_printf(t->w, " phases");
        cw_printf(t->w, "\n");
        print_body(t, s->body);
        return;
    case S_LOCAL:
        share1(t, s->val);
        cw_printf(t->w, "local ");
        print_var(t, s->var);
        cw_printf(t->w, ": %s", dtype_text(t->k->var[s->var].dtype));
        print_assign(t, s);
        return;
    case S_SET:
        share1(t, s->val);
        print_var(t, s->var);
        print_assign(t, s);
        return;
    case S_STORE: print_store(t, s); return;
    case S_IF: case S_WHILE:
        share1(t, s->val);
        cw_printf(t->w, "%s ", s->kind == S_IF ? "if" : "while");
        kernel_text_expr(t, s->val);
        cw_printf(t->w, "\n");
        print_body(t, s->body);
        if (s->orelse == NULL) return;
        cw_line(t->w, "else");
        print_body(t, s->orelse);
        return;
    case S_CALL: print_call(t, s); return;
    case S_CONTRACT: contract_print(t, s); return;
    }
}

static void print_block(KernelText *t, const Stmt *s) {
    for (; s != NULL; s = s->next) print_stmt(t, s);
}

static void print_buf(KernelText *t, uint32_t i) {
    static const char *const kinds[] = {[BUF_IN] = " in", [BUF_OUT] = " out", [BUF_INOUT] = " inout", [BUF_LOCAL] = ""};
    const Buf *b = &t->k->buf[i];
    cw_printf(t->w, "b%u: %s[", i, dtype_text(b->dtype));
    for (uint32_t d = 0; d < b->rank; d++) {
        cw_printf(t->w, "%s", d != 0 ? "," : "");
        dim_print(t->cx, t->w, b->dim[d]);
    }
    cw_printf(t->w, "]");
    for (uint32_t d = 0; b->stride != NULL && d < b->rank; d++) {
        cw_printf(t->w, "%s", d != 0 ? "," : " strides [");
        dim_print(t->cx, t->w, b->stride[d]);
    }
    cw_printf(t->w, "%s%s", b->stride != NULL && b->rank != 0 ? "]" : "", kinds[b->kind]);
}

void kernel_print(Context *cx, Writer *w, const Kernel *k) {
    KernelText t = {.cx = cx, .w = w, .k = k, .var_name = ARENA_ARRAY(&cx->scratch, uint32_t, k->n_var)};
    cw_begin(w);
    cw_printf(w, "kernel %s(", str_text(cx, k->name));
    for (uint32_t i = 0; i < k->n_arg; i++) {
        cw_printf(w, "%s", i != 0 ? ", " : "");
        print_buf(&t, i);
    }
    cw_printf(w, ")%s {\n", k->inplace ? " inplace" : "");
    w->indent++;
    for (uint32_t i = k->n_arg; i < k->n_buf; i++) {
        cw_begin(w);
        cw_printf(w, "array ");
        print_buf(&t, i);
        cw_printf(w, "\n");
    }
    print_block(&t, k->body);
    w->indent--;
    cw_line(w, "}");
}
