/* Which argument of a kernel may be written over which other one: see in_place.h.
 *
 *     for i0  for i1   b1[i0, i1] = max(b0[i0, i1], 0)          b1 over b0: element i of the result needs element i of the operand
 *     for i0  for i1   b1[i0, i1] = max(b0[i1, i0], 0)          not: other elements are read later */
#include "passes/in_place.h"

typedef struct InPlace { const Kernel *k; Dim one; uint32_t in, out; Expr *const *idx; bool stored, ok; uint64_t vars; } InPlace;

/* Along a dimension of size 1 every index is 0, however it is written. */
static bool same_index(const InPlace *c, uint32_t buf, Expr *const *a, Expr *const *b) {
    const Buf *of = &c->k->buf[buf];
    for (uint32_t d = 0; d < of->rank; d++)
        if (a[d] != b[d] && of->dim[d] != c->one) return false;
    return true;
}

static void check_loads(InPlace *c, const Expr *e, uint32_t depth) {
    if (e == NULL || !c->ok) return;
    if (depth == 0) c->ok = false;
    if (e->kind == E_LOAD && e->ref == c->out) c->ok = false;
    if (e->kind == E_LOAD && e->ref == c->in && (c->stored || !same_index(c, c->in, (Expr *const *)e->arg, c->idx))) c->ok = false;
    for (uint32_t i = 0; i < e->n_arg; i++) check_loads(c, e->arg[i], depth - 1);
}

static Expr *const *find_store(const Stmt *s, uint32_t buf) {
    for (; s != NULL; s = s->next) {
        if (s->kind == S_STORE && s->buf == buf) return s->idx;
        Expr *const *inner = find_store(s->body, buf);
        if (inner != NULL) return inner;
    }
    return NULL;
}

static void check_body(InPlace *c, const Stmt *s) {
    for (; s != NULL && c->ok; s = s->next) {
        c->ok = s->kind == S_STORE || s->kind == S_LOCAL || s->kind == S_SET;
        check_loads(c, s->val, 48);
        for (uint32_t d = 0; s->kind == S_STORE && d < c->k->buf[s->buf].rank; d++) check_loads(c, s->idx[d], 48);
        if (s->kind != S_STORE || s->buf != c->out) continue;
        c->ok &= s->reduce == FN_NONE && same_index(c, c->out, s->idx, c->idx);
        c->stored = true;
    }
}

/* Does the kernel compute element i of `out` from element i of `in` only, one nest, every element once? */
static bool works_in_place(Context *cx, const Kernel *k, uint32_t in, uint32_t out) {
    const Buf *a = &k->buf[in], *b = &k->buf[out];
    if (a->kind != BUF_IN || b->kind != BUF_OUT || dtype_bits(a->dtype) != dtype_bits(b->dtype) || dtype_bits(a->dtype) < 8) return false;
    if (a->rank != b->rank || a->stride != NULL || b->stride != NULL || a->rank > 32) return false;
    for (uint32_t d = 0; d < a->rank; d++)
        if (a->dim[d] != b->dim[d]) return false;
    const Stmt *s = k->body;
    if (s == NULL || s->next != NULL) return false;
    InPlace c = {.k = k, .one = dim_const(cx, 1), .in = in, .out = out, .idx = find_store(s, out), .ok = true};
    if (c.idx == NULL && b->rank != 0) return false;
    for (; s->kind == S_FOR; s = s->body) { /* each loop variable indexes some dimension by itself */
        bool found = s->extent->kind == E_CONST && s->extent->c.i == 1;
        for (uint32_t d = 0; d < b->rank; d++) found |= c.idx[d]->kind == E_VAR && c.idx[d]->ref == s->var;
        if (!found || s->body == NULL || (s->body->kind == S_FOR && s->body->next != NULL)) return false;
    }
    check_body(&c, s);
    return c.ok && c.stored;
}

/* The same for a kernel around an anchor, which stores every element of its outputs once, at whatever loops: a block that
 * stores out[idx] may read in[idx] before, and nothing else reads `in`. */
static bool reads_buffer(const Expr *e, uint32_t buf, uint32_t depth) {
    if (e == NULL) return false;
    if (depth == 0 || (e->kind == E_LOAD && e->ref == buf)) return true;
    for (uint32_t i = 0; i < e->n_arg; i++)
        if (reads_buffer(e->arg[i], buf, depth - 1)) return true;
    return false;
}

static bool mentions(const Stmt *s, uint32_t a, uint32_t b) { /* outside of s->val */
    if (s->kind == S_STORE && (s->buf == a || s->buf == b)) return true;
    for (uint32_t i = 0; i < s->n_arg; i++) {
        if (s->arg[i].is_buf && (s->arg[i].buf == a || s->arg[i].buf == b)) return true;
        if (!s->arg[i].is_buf && (reads_buffer(s->arg[i].expr, a, 48) || reads_buffer(s->arg[i].expr, b, 48))) return true;
    }
    return reads_buffer(s->extent, a, 48) || reads_buffer(s->extent, b, 48);
}

static bool list_mentions(const Stmt *s, uint32_t a, uint32_t b) {
    for (; s != NULL; s = s->next)
        if (mentions(s, a, b) || reads_buffer(s->val, a, 48) || reads_buffer(s->val, b, 48) || list_mentions(s->body, a, b) || list_mentions(s->orelse, a, b)) return true;
    return false;
}

static const Stmt *store_in_list(const Stmt *s, uint32_t buf) {
    for (; s != NULL; s = s->next)
        if (s->kind == S_STORE && s->buf == buf) return s;
    return NULL;
}

static bool block_in_place(Context *cx, const Kernel *k, const Stmt *first, uint32_t in, uint32_t out, bool *stored) {
    const Stmt *store = store_in_list(first, out);
    InPlace c = {.k = k, .one = dim_const(cx, 1), .in = in, .out = out, .ok = true};
    if (store == NULL) {
        for (const Stmt *s = first; s != NULL; s = s->next) {
            if (mentions(s, in, out) || reads_buffer(s->val, in, 48) || reads_buffer(s->val, out, 48)) return false;
            if (!block_in_place(cx, k, s->body, in, out, stored) || !block_in_place(cx, k, s->orelse, in, out, stored)) return false;
        }
        return true;
    }
    c.idx = store->idx;
    for (const Stmt *s = first; s != NULL && c.ok; s = s->next) {
        check_loads(&c, s->val, 48);
        c.ok &= !list_mentions(s->body, in, out) && !list_mentions(s->orelse, in, out);
        if (s != store) c.ok &= !mentions(s, in, out);
        else c.ok &= s->reduce == FN_NONE;
        c.stored |= s == store;
    }
    *stored = true;
    return c.ok;
}

static bool anchor_in_place(Context *cx, const Kernel *k, uint32_t in, uint32_t out) {
    const Buf *a = &k->buf[in], *b = &k->buf[out];
    if (a->kind != BUF_IN || b->kind != BUF_OUT || a->dtype != b->dtype || dtype_bits(a->dtype) < 8 || a->rank != b->rank || a->stride != NULL || b->stride != NULL) return false;
    for (uint32_t d = 0; d < a->rank; d++)
        if (a->dim[d] != b->dim[d]) return false;
    bool stored = false;
    return block_in_place(cx, k, k->body, in, out, &stored) && stored;
}

/* A residual sum in the epilogue of a convolution goes where its other operand was. */
bool step_in_place(Context *cx, const Step *s, uint32_t in, uint32_t out) {
    return works_in_place(cx, s->kernel, in, out) || (s->node != NULL && s->node->op == OP_Fused && anchor_in_place(cx, s->kernel, in, out));
}
