/* Prints a kernel as a C function.
 *
 *     / * relu f32[N,64] "block1/relu" * /
 *     static LATHE_NOINLINE void k3_relu(const float *restrict b0, float *restrict b1, const int64_t *dims, int tid, int nt) {
 *         const int64_t N = dims[0];
 *         const int64_t begin = lathe_share(N, 1, tid, nt), end = lathe_share(N, 1, tid + 1, nt);
 *         for (int64_t i0 = begin; i0 < end; i0++) {
 *             LATHE_SIMD
 *             for (int64_t i1 = 0; i1 < 64; i1++) {
 *                 b1[i0 * 64 + i1] = lathe_max_f32(b0[i0 * 64 + i1], 0.0f);
 *
 * Thread tid of nt runs its contiguous share of a parallel loop; other top-level statements are for thread 0; between
 * them all threads meet. A kernel too small for that is printed without any of it and called by thread 0 alone. */
#include "codegen/emit.h"
#include "ir/target.h"

static const double SERIAL_BELOW = 12000; /* scalar operations: about what a barrier costs, many times over */
enum { ROWS_ENOUGH = 16, MOST_ADDENDS = 8, BINDS_AS_ADDEND = 13 };

static bool has_loop(const Stmt *s) {
    for (; s != NULL; s = s->next) {
        bool loops = s->kind == S_FOR && !ex_is_const(s->extent, 1);
        if (loops || s->kind == S_WHILE || s->kind == S_CALL || s->kind == S_CONTRACT || has_loop(s->body) || has_loop(s->orelse)) return true;
    }
    return false;
}

/* ---- which innermost loops may run several iterations at once -------------------------------------------------------------- */
typedef struct SimdCheck {
    Emit *e;
    uint32_t var;
    bool ok, floats;         /* floats: some reduction adds or multiplies floats */
    VEC(const Stmt *) stores, sets;
    VEC(const Stmt *) extremes; /* float min and max: reduced as integers (runtime/reduce.h) */
    VEC(uint32_t) declared;
    Writer clauses;
} SimdCheck;

/* The coefficient of var in e, when e is affine in it with a constant; false otherwise. */
static bool coefficient(const Expr *x, uint32_t var, int64_t *c) {
    *c = 0;
    if (x->kind == E_VAR) {
        *c = x->ref == var;
        return true;
    }
    if (x->kind == E_CONST || x->kind == E_DIM) return true;
    int64_t a, b;
    if (x->kind == E_FN && (x->fn == FN_ADD || x->fn == FN_SUB)) {
        if (!coefficient(x->arg[0], var, &a) || !coefficient(x->arg[1], var, &b)) return false;
        return x->fn == FN_ADD ? !__builtin_add_overflow(a, b, c) : !__builtin_sub_overflow(a, b, c);
    }
    if (x->kind == E_FN && x->fn == FN_MUL && x->arg[1]->kind == E_CONST) return coefficient(x->arg[0], var, &a) && !__builtin_mul_overflow(a, x->arg[1]->c.i, c);
    for (uint32_t i = 0; i < x->n_arg; i++)
        if (!coefficient(x->arg[i], var, &a) || a != 0) return false;
    return true;
}

static bool distinct_elements(const SimdCheck *c, const Stmt *store) {
    for (uint32_t d = 0; d < c->e->k->buf[store->buf].rank; d++) {
        int64_t k;
        if (coefficient(store->idx[d], c->var, &k) && k != 0) return true;
    }
    return false;
}

static void collect(SimdCheck *c, const Stmt *s) {
    Arena *scratch = &c->e->cx->scratch;
    for (; s != NULL; s = s->next) {
        if (s->kind == S_STORE) {
            vec_push(scratch, &c->stores, s);
            c->ok &= dtype_bits(c->e->k->buf[s->buf].dtype) >= 8 && distinct_elements(c, s);
        }
        if (s->kind == S_LOCAL) vec_push(scratch, &c->declared, s->var);
        if (s->kind == S_SET) vec_push(scratch, &c->sets, s);
        collect(c, s->body);
        collect(c, s->orelse);
    }
}

static bool same_index(uint32_t rank, Expr *const *a, Expr *const *b) {
    for (uint32_t i = 0; i < rank; i++)
        if (a[i] != b[i]) return false;
    return true;
}

static bool is_declared(const SimdCheck *c, uint32_t var) {
    for (uint32_t i = 0; i < c->declared.n; i++)
        if (c->declared.v[i] == var) return true;
    return false;
}

/* Reads of stored buffers must be of the element this very iteration stores; reduced scalars must not be read. */
static void check_reads(SimdCheck *c, const Item *it, uint32_t budget) {
    const Expr *x = it->x;
    /* Run-time checks meet in the fault bits, which no reduction clause names. */
    if (budget == 0 || (x->kind == E_FN && (x->fn == FN_INDEX || x->fn == FN_REQUIRE))) c->ok = false;
    if (!c->ok) return;
    for (uint32_t i = 0; x->kind == E_LOAD && i < c->stores.n; i++) {
        const Stmt *s = c->stores.v[i];
        if (s->buf == x->ref && !same_index(c->e->k->buf[s->buf].rank, s->idx, (Expr *const *)x->arg)) c->ok = false;
    }
    for (uint32_t i = 0; x->kind == E_VAR && i < c->sets.n; i++)
        if (c->sets.v[i]->var == x->ref && !is_declared(c, x->ref)) c->ok = false;
    for (uint32_t i = 0; i < it->n_arg; i++) check_reads(c, it->arg[i], budget - 1);
}

static void check_statements(SimdCheck *c, const Stmt *s) {
    for (; s != NULL && c->ok; s = s->next) {
        const StmtInfo *info = emit_info(c->e, s);
        for (uint32_t i = 0; i < info->n_root; i++) check_reads(c, info->root[i], 64);
        check_statements(c, s->body);
        check_statements(c, s->orelse);
    }
}

/* What stands before and after an innermost loop. */
typedef struct LoopFrame { const char *hint; const Stmt *const *extreme; uint32_t n_extreme; } LoopFrame;

static const char *key_type(DType t) { return t == DT_F32 ? "int32_t" : "int64_t"; }

static const char *key_helper(Emit *e, Fn reduce, DType t) {
    Str name = str_format(e->cx, "lathe_%s_key_%s", reduce == FN_MIN ? "min" : reduce == FN_MAX ? "max" : "from", dtype_text(t));
    if (reduce == FN_NONE) name = str_format(e->cx, "lathe_from_key_%s", dtype_text(t));
    emit_need(e, str_text(e->cx, name));
    return str_text(e->cx, name);
}

static void open_frame(Emit *e, const LoopFrame *f) {
    for (uint32_t i = 0; i < f->n_extreme; i++) {
        const Stmt *s = f->extreme[i];
        DType t = e->k->var[s->var].dtype;
        const char *v = emit_var(e, s->var);
        cw_line(e->w, "%s %s_key = %s(%s);", key_type(t), v, key_helper(e, (Fn)s->reduce, t), v);
        e->reduced_as_key[s->var] = true;
    }
    if (f->hint != NULL) cw_line(e->w, "%s", f->hint);
}

static void close_frame(Emit *e, const LoopFrame *f) {
    for (uint32_t i = 0; i < f->n_extreme; i++) {
        const char *v = emit_var(e, f->extreme[i]->var);
        cw_line(e->w, "%s = %s(%s_key);", v, key_helper(e, FN_NONE, e->k->var[f->extreme[i]->var].dtype), v);
        e->reduced_as_key[f->extreme[i]->var] = false;
    }
}

static void print_key_set(Emit *e, const Stmt *s, const StmtInfo *info) {
    DType t = e->k->var[s->var].dtype;
    const char *v = emit_var(e, s->var), *choose = emit_scalar_helper(e, s->reduce == FN_MIN ? "min" : "max", t == DT_F32 ? DT_I32 : DT_I64);
    cw_line(e->w, "%s_key = %s(%s_key, %s(%s));", v, choose, v, key_helper(e, (Fn)s->reduce, t), emit_text(e, info->root[0], 0));
}

/* ---- how many vectors an innermost loop works on at a time --------------------------------------------------------------------
 * An elementary function is a chain of 20 dependent instructions. The processor looks ahead far enough to overlap a few iterations of a loop
 * with one of them, but not of a loop with eight; so iterations are interleaved, more of them where more functions follow each other. */
static bool is_elementary(const Expr *x) {
    if (x->kind != E_FN || x->dtype != DT_F32) return false;
    switch ((int)x->fn) {
    case FN_EXP: case FN_EXP_BELOW: case FN_EXPM1: case FN_LOG: case FN_LOG1P: case FN_TANH: case FN_ERF: case FN_SIGMOID: return true;
    default: return false;
    }
}

/* In what is printed in place: a temporary counts where it is computed. */
static uint32_t count_elementary(const Item *it) {
    uint32_t n = is_elementary(it->x);
    for (uint32_t i = 0; i < it->n_arg; i++) n += it->arg[i]->name > 0 ? 0 : count_elementary(it->arg[i]);
    return n;
}

static uint32_t elementary_in(Emit *e, const Stmt *s) {
    uint32_t n = 0;
    for (; s != NULL; s = s->next) {
        const StmtInfo *info = emit_info(e, s);
        for (uint32_t i = 0; i < info->n_root; i++) n += info->root[i]->name > 0 ? 0 : count_elementary(info->root[i]);
        for (const Item *t = info->temps; t != NULL; t = t->next) n += count_elementary(t);
        n += elementary_in(e, s->body) + elementary_in(e, s->orelse);
    }
    return n;
}

/* 1: as the compiler likes. What does not fill all the vectors runs one after the other, so it has to be little. */
static uint32_t interleaved(Emit *e, const Stmt *loop) {
    const Target *t = module_target(e->m);
    const int64_t lanes = t->vector_bits / 32;
    int64_t lo, hi;
    ex_range(e->k, e->cx, loop->extent, &lo, &hi);
    const uint32_t functions = lanes < 4 ? 0 : elementary_in(e, loop->body);
    if (functions == 0) return 1;
    uint32_t several = functions > 1 && t->registers >= 32 ? 8 : 4;
    while (several > 1 && (lo < lanes * several || (lo % (lanes * several) >= lanes && lo < 16 * lanes * several))) several /= 2;
    return several;
}

/* Does the loop round enough numbers to bfloat16 to fill vectors of float? Compilers take the conversion for a dear one, and
 * make the vectors short. */
static bool rounds_whole_vectors(const Emit *e, const Stmt *loop, const SimdCheck *c) {
    const int lanes = emit_half(e);
    int64_t lo, hi;
    if (lanes < 16) return false;
    ex_range(e->k, e->cx, loop->extent, &lo, &hi);
    for (uint32_t i = 0; i < c->stores.n; i++)
        if (e->k->buf[c->stores.v[i]->buf].dtype == DT_BF16) return lo >= lanes;
    return false;
}

static LoopFrame loop_frame(Emit *e, const Stmt *loop) {
    const LoopFrame none = {0};
    if (has_loop(loop->body)) return none;
    SimdCheck c = {.e = e, .var = loop->var, .ok = true};
    c.clauses.arena = &e->cx->scratch;
    collect(&c, loop->body);
    for (uint32_t i = 0; i < c.stores.n && c.ok; i++) /* two stores to one buffer: only to the same element */
        for (uint32_t j = 0; j < i; j++)
            if (c.stores.v[i]->buf == c.stores.v[j]->buf && !same_index(e->k->buf[c.stores.v[i]->buf].rank, c.stores.v[i]->idx, c.stores.v[j]->idx)) c.ok = false;
    for (uint32_t i = 0; i < c.sets.n && c.ok; i++) {
        const Stmt *s = c.sets.v[i];
        if (is_declared(&c, s->var) || !e->var_read[s->var]) continue; /* not printed */
        static const struct { Fn fn; const char *op; } ops[] = {{FN_ADD, "+"}, {FN_MUL, "*"}, {FN_AND, "&"}, {FN_OR, "|"}};
        const char *op = NULL;
        for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
            if (ops[k].fn == s->reduce) op = ops[k].op;
        DType t = e->k->var[s->var].dtype;
        bool extreme = dtype_is_float(t) && (s->reduce == FN_MIN || s->reduce == FN_MAX);
        if (extreme) op = s->reduce == FN_MIN ? "min" : "max";
        for (uint32_t j = 0; j < i; j++) c.ok &= c.sets.v[j]->var != s->var || c.sets.v[j]->reduce == s->reduce;
        if (op == NULL || t == DT_BOOL || (!dtype_is_float(t) && dtype_bits(t) < 32)) return none;
        bool repeated = false;
        for (uint32_t j = 0; j < i; j++) repeated |= c.sets.v[j]->var == s->var;
        if (!repeated) cw_printf(&c.clauses, extreme ? " reduction(%s : %s_key)" : " reduction(%s : %s)", op, emit_var(e, s->var));
        if (extreme && !repeated) vec_push(&e->cx->scratch, &c.extremes, s);
    }
    check_statements(&c, loop->body);
    if (!c.ok || (c.stores.n == 0 && c.sets.n == 0)) return none;
    const uint32_t several = interleaved(e, loop);
    const char *hint = "LATHE_SIMD";
    if (c.clauses.n == 0 && rounds_whole_vectors(e, loop, &c)) hint = str_text(e->cx, str_format(e->cx, "LATHE_SIMD_WIDE(%u)", several));
    else if (c.clauses.n != 0) hint = str_text(e->cx, str_format(e->cx, "LATHE_SIMD_REDUCE(%s)", cw_cstr(&c.clauses) + 1));
    else if (several > 1) hint = str_text(e->cx, str_format(e->cx, "LATHE_SIMD_BY(%u)", several));
    return (LoopFrame){hint, c.extremes.v, c.extremes.n};
}

/* ---- statements -------------------------------------------------------------------------------------------------------------- */
static void print_call(Emit *e, const Stmt *s, const StmtInfo *info) {
    Writer w = {.arena = &e->cx->scratch};
    const char *function = str_text(e->cx, s->name);
    emit_need(e, function);
    uint32_t root = 0;
    cw_printf(&w, "%s(", function);
    for (uint32_t i = 0; i < s->n_arg; i++) {
        if (i != 0) cw_printf(&w, ", ");
        if (s->arg[i].is_buf) cw_printf(&w, "%s", emit_buf(e, s->arg[i].buf));
        else emit_item(e, &w, info->root[root++], 0);
    }
    e->uses_fault = true;
    cw_line(e->w, "fault |= lathe_fault(%s));", cw_cstr(&w));
    emit_scalar_helper(e, "fault", DT_I64);
}

/* An element of a small float type that goes from one buffer to another: the bits are copied, not converted. */
static bool is_small_copy(Emit *e, const Stmt *s, const StmtInfo *info) {
    const Item *load = info->root[1];
    DType t = e->k->buf[s->buf].dtype;
    return load->x->kind == E_LOAD && load->name <= 0 && e->k->buf[load->x->ref].dtype == t && dtype_is_float(t) && dtype_compute(t) != t && dtype_bits(t) >= 8 &&
           !emit_load_guarded(e, load);
}

/* The addends of an index that is printed in place. False: too many, or one that can be negative. */
static bool addends(Emit *e, const Item *it, const Item **to, uint32_t *n) {
    if (it->name <= 0 && it->x->kind == E_FN && it->x->fn == FN_ADD) return addends(e, it->arg[0], to, n) && addends(e, it->arg[1], to, n);
    int64_t low, high;
    ex_range(e->k, e->cx, it->x, &low, &high);
    if (*n == MOST_ADDENDS || low < 0) return false;
    to[(*n)++] = it;
    return true;
}

/* A byte of a row: `(b + (rest))[i]` with the innermost variable i by itself. As one sum, LLVM makes an `or` of it where i has bits of its own,
 * and then does not see that neighbours are stored together. */
static bool print_byte_of_row(Emit *e, const Stmt *s, const StmtInfo *info) {
    const Item *part[MOST_ADDENDS];
    uint32_t n = 0, row = MOST_ADDENDS;
    DType t = e->k->buf[s->buf].dtype;
    if ((t != DT_U8 && t != DT_I8) || !addends(e, info->root[0], part, &n) || n < 2) return false;
    for (uint32_t i = 0; i < n; i++)
        if (part[i]->x->kind == E_VAR && (row == MOST_ADDENDS || part[i]->x->ref > part[row]->x->ref)) row = i;
    if (row == MOST_ADDENDS) return false;
    Writer rest = {.arena = &e->cx->scratch};
    for (uint32_t i = 0; i < n; i++) {
        if (i == row) continue;
        if (rest.n != 0) cw_printf(&rest, " + ");
        emit_item(e, &rest, part[i], BINDS_AS_ADDEND);
    }
    const char *index = emit_text(e, part[row], 0), *value = emit_text(e, info->root[1], 0);
    cw_line(e->w, "(%s + (%s))[%s] = (%s)(%s);", emit_buf(e, s->buf), cw_cstr(&rest), index, emit_ctype(t), value);
    return true;
}

static void print_plain_store(Emit *e, const Stmt *s, const StmtInfo *info) {
    if (s->reduce == FN_NONE && print_byte_of_row(e, s, info)) return;
    const char *index = emit_text(e, info->root[0], 0);
    DType t = dtype_compute(e->k->buf[s->buf].dtype);
    if (s->reduce == FN_NONE && is_small_copy(e, s, info)) {
        const Item *load = info->root[1];
        cw_line(e->w, "%s[%s] = %s[%s];", emit_buf(e, s->buf), index, emit_buf(e, load->x->ref), emit_text(e, load->arg[0], 0));
        return;
    }
    if (s->reduce == FN_NONE) {
        emit_store(e, s->buf, index, emit_text(e, info->root[1], 0));
        return;
    }
    const char *value = emit_text(e, info->root[1], 0);
    if (t == e->k->buf[s->buf].dtype && t != DT_BOOL) { /* elements are their own C type: update in place */
        Str target = str_format(e->cx, "%s[%s]", emit_buf(e, s->buf), index);
        cw_line(e->w, "%s;", emit_reduce(e, (Fn)s->reduce, t, str_text(e->cx, target), value));
        return;
    }
    Writer old = {.arena = &e->cx->scratch};
    emit_load(e, &old, s->buf, index);
    cw_open(e->w, "{");
    cw_line(e->w, "%s sum = %s;", emit_ctype(t), cw_cstr(&old));
    cw_line(e->w, "%s;", emit_reduce(e, (Fn)s->reduce, t, "sum", value));
    emit_store(e, s->buf, index, "sum");
    cw_close(e->w, "}");
}

static void print_store(Emit *e, const Stmt *s, const StmtInfo *info) {
    Writer some = {.arena = &e->cx->scratch};
    bool guard = emit_not_empty(e, &some, info->root[0]);
    if (guard) cw_open(e->w, "if (%s) {", cw_cstr(&some));
    print_plain_store(e, s, info);
    if (!guard) return;
    e->w->indent--;
    cw_open(e->w, "} else {");
    cw_line(e->w, "fault |= 1 << %d;", LATHE_RT_INDEX);
    cw_close(e->w, "}");
}

static void print_statement(Emit *e, const Stmt *s) {
    StmtInfo *info = emit_info(e, s);
    emit_temps(e, info);
    switch (s->kind) {
    case S_FOR: {
        if (s->extent->kind == E_CONST && s->extent->c.i == 1 && !e->var_read[s->var]) {
            emit_block(e, s->body);
            break;
        }
        const LoopFrame frame = loop_frame(e, s);
        const char *v = emit_var(e, s->var);
        open_frame(e, &frame);
        cw_open(e->w, "for (int64_t %s = 0; %s < %s; %s++) {", v, v, emit_text(e, info->root[0], 11), v);
        emit_block(e, s->body);
        cw_close(e->w, "}");
        close_frame(e, &frame);
        break;
    }
    case S_LOCAL: {
        if (!e->var_read[s->var]) break;
        DType t = e->k->var[s->var].dtype;
        cw_line(e->w, "%s %s = %s;", emit_ctype(t), emit_var(e, s->var), emit_text(e, info->root[0], 0));
        break;
    }
    case S_SET:
        if (!e->var_read[s->var]) break;
        if (e->reduced_as_key[s->var]) {
            print_key_set(e, s, info);
            break;
        }
        cw_line(e->w, "%s;", emit_reduce(e, (Fn)s->reduce, e->k->var[s->var].dtype, emit_var(e, s->var), emit_text(e, info->root[0], 0)));
        break;
    case S_STORE: print_store(e, s, info); break;
    case S_IF:
        cw_open(e->w, "if (%s) {", emit_text(e, info->root[0], 0));
        emit_block(e, s->body);
        if (s->orelse != NULL) {
            e->w->indent--;
            cw_open(e->w, "} else {");
            emit_block(e, s->orelse);
        }
        cw_close(e->w, "}");
        break;
    case S_WHILE:
        cw_open(e->w, "for (;;) {");
        emit_temps(e, info->condition);
        cw_line(e->w, "if (!(%s)) break;", emit_text(e, info->condition->root[0], 0));
        emit_block(e, s->body);
        cw_close(e->w, "}");
        break;
    case S_CALL: print_call(e, s, info); break;
    case S_CONTRACT: contract_emit(e, e->k, s); break;
    }
}

void emit_block(Emit *e, const Stmt *first) {
    for (const Stmt *s = first; s != NULL; s = s->next) print_statement(e, s);
}

/* ---- parallel loops ------------------------------------------------------------------------------------------------------------ */
typedef struct Nest { const Stmt *loop[RANK_MAX * 4]; const char *extent[RANK_MAX * 4]; uint32_t n; } Nest;

static const char *product(Emit *e, const Nest *nest, uint32_t first, uint32_t n) {
    Writer w = {.arena = &e->cx->scratch};
    for (uint32_t i = first; i < n; i++) cw_printf(&w, "%s%s", i != first ? " * " : "", nest->extent[i]);
    return first < n ? cw_cstr(&w) : "1";
}

static int64_t least_product(Emit *e, const Nest *nest, uint32_t n) {
    int64_t p = 1;
    for (uint32_t i = 0; i < n; i++) {
        int64_t lo, hi;
        ex_range(e->k, e->cx, nest->loop[i]->extent, &lo, &hi);
        if (lo < 0) lo = 0;
        if (__builtin_mul_overflow(p, lo, &p)) return INT64_MAX;
    }
    return p;
}

static void print_share(Emit *e, const char *total, int grain) {
    const char *share = emit_scalar_helper(e, "share", DT_I64);
    cw_line(e->w, "const int64_t begin = %s(%s, %d, tid, nt), end = %s(%s, %d, tid + 1, nt);", share, total, grain, share, total, grain);
}

/* Variables of loops first..n-1 from the common index `from`. */
static void print_split(Emit *e, const Nest *nest, uint32_t n, const char *from) {
    for (uint32_t i = 0; i < n; i++) {
        const char *below = product(e, nest, i + 1, n), *v = emit_var(e, nest->loop[i]->var);
        bool last = i + 1 == n;
        if (!e->var_read[nest->loop[i]->var]) continue;
        if (i == 0 && last) cw_line(e->w, "const int64_t %s = %s;", v, from);
        else if (i == 0) cw_line(e->w, n == 2 ? "const int64_t %s = %s / %s;" : "const int64_t %s = %s / (%s);", v, from, below);
        else if (last) cw_line(e->w, "const int64_t %s = %s %% %s;", v, from, nest->extent[i]);
        else cw_line(e->w, i + 2 == n ? "const int64_t %s = %s / %s %% %s;" : "const int64_t %s = %s / (%s) %% %s;", v, from, below, nest->extent[i]);
    }
}

static void print_rows(Emit *e, const Nest *nest, uint32_t n, const Stmt *body) {
    print_share(e, product(e, nest, 0, n), 1);
    if (n == 1) {
        const char *v = emit_var(e, nest->loop[0]->var);
        cw_open(e->w, "for (int64_t %s = begin; %s < end; %s++) {", v, v, v);
    } else {
        cw_open(e->w, "for (int64_t at = begin; at < end; at++) {");
        print_split(e, nest, n, "at");
    }
    emit_block(e, body);
    cw_close(e->w, "}");
}

/* The innermost loop is split too: each thread runs whole and partial rows of it. */
static void print_segments(Emit *e, const Nest *nest) {
    const Stmt *inner = nest->loop[nest->n - 1];
    const LoopFrame frame = loop_frame(e, inner);
    const char *v = emit_var(e, inner->var), *row = nest->extent[nest->n - 1];
    print_share(e, product(e, nest, 0, nest->n), 64);
    if (nest->n > 1) {
        cw_open(e->w, "for (int64_t at = begin; at < end;) {");
        cw_line(e->w, "const int64_t row = at / %s, first = at %% %s, last = end - at < %s - first ? first + end - at : %s;", row, row, row, row);
        print_split(e, nest, nest->n - 1, "row");
    }
    open_frame(e, &frame);
    if (nest->n > 1) cw_open(e->w, "for (int64_t %s = first; %s < last; %s++) {", v, v, v);
    else cw_open(e->w, "for (int64_t %s = begin; %s < end; %s++) {", v, v, v);
    emit_block(e, inner->body);
    cw_close(e->w, "}");
    if (nest->n > 1) {
        cw_line(e->w, "at += last - first;");
        cw_close(e->w, "}");
    }
}

static void print_parallel(Emit *e, const Stmt *s) {
    Nest nest = {.n = 0};
    const Stmt *l = s;
    for (uint32_t depth = 1; depth <= s->parallel && nest.n < RANK_MAX * 4; depth++, l = l->body) {
        bool once = ex_is_const(l->extent, 1) && !e->var_read[l->var];
        if (once && (nest.n != 0 || depth < s->parallel)) continue;
        nest.loop[nest.n] = l;
        nest.extent[nest.n++] = emit_text(e, emit_info(e, l)->root[0], 15);
    }
    const Stmt *inner = nest.loop[nest.n - 1]; /* loops of one iteration below it are skipped over by print_statement */
    bool flat = !has_loop(inner->body);
    if (!flat) print_rows(e, &nest, nest.n, inner->body);
    else if (nest.n > 1 && least_product(e, &nest, nest.n - 1) >= ROWS_ENOUGH) print_rows(e, &nest, nest.n - 1, inner);
    else print_segments(e, &nest);
}

static void print_phases(Emit *e, const Stmt *first, bool several);

static void phase_barrier(Emit *e) {
    cw_line(e->w, "lathe_barrier(%snt);", e->pool ? "team, " : "");
    e->uses_barrier = true;
}

/* Every thread goes through the loop; an iteration ends with a barrier. */
static void print_phase_loop(Emit *e, const Stmt *s) {
    emit_temps(e, emit_info(e, s));
    const char *v = emit_var(e, s->var);
    cw_open(e->w, "for (int64_t %s = 0; %s < %s; %s++) {", v, v, emit_text(e, emit_info(e, s)->root[0], 11), v);
    print_phases(e, s->body, true);
    phase_barrier(e);
    cw_close(e->w, "}");
}

static void print_phases(Emit *e, const Stmt *first, bool several) {
    bool met = true; /* a barrier stands here already */
    for (const Stmt *s = first; s != NULL; s = s->next) {
        if (!met) phase_barrier(e);
        met = s->phases;
        if (s->phases) {
            print_phase_loop(e, s);
        } else if (s->parallel != 0) {
            emit_temps(e, emit_info(e, s)); /* outside the braces: later phases may use them, too */
            if (several) cw_open(e->w, "{");
            print_parallel(e, s);
            if (several) cw_close(e->w, "}");
        } else {
            emit_temps(e, emit_info(e, s)->condition);
            cw_open(e->w, "if (tid == 0) {");
            print_statement(e, s);
            cw_close(e->w, "}");
        }
    }
}

/* ---- the function ---------------------------------------------------------------------------------------------------------------- */
static bool stores_packed(const Kernel *k) {
    for (uint32_t i = 0; i < k->n_arg; i++)
        if (k->buf[i].kind != BUF_IN && dtype_bits(k->buf[i].dtype) < 8) return true; /* two threads must not share a byte */
    return false;
}

static bool has_parallel(const Kernel *k) {
    for (const Stmt *s = k->body; s != NULL; s = s->next) {
        if (s->parallel != 0) return true;
        for (const Stmt *b = s->phases ? s->body : NULL; b != NULL; b = b->next)
            if (b->parallel != 0) return true;
    }
    return false;
}

/* In an in-place kernel: does another argument share this one's memory? */
static bool is_shared(const Kernel *k, uint32_t arg) {
    if (!k->inplace || k->shares == NULL) return k->inplace;
    for (uint32_t i = 0; i < k->n_arg; i++)
        if (i != arg && k->shares[i] == k->shares[arg]) return true;
    return false;
}

static const char *parameter(Emit *e, uint32_t arg) {
    const Buf *b = &e->k->buf[arg];
    const char *name = e->buf_name[arg], *access = b->kind == BUF_IN ? "const " : "", *restricted = is_shared(e->k, arg) ? "" : "restrict ";
    return str_text(e->cx, str_format(e->cx, "%s%s *%s%s", access, dtype_ctype(b->dtype), restricted, name));
}

static void print_locals(Emit *e, Writer *w) {
    for (uint32_t i = e->k->n_arg; i < e->k->n_buf; i++) {
        const Buf *b = &e->k->buf[i];
        int64_t n = 1;
        for (uint32_t d = 0; d < b->rank; d++) CHECK(e->cx, !__builtin_mul_overflow(n, dim_hi(e->cx, b->dim[d]), &n));
        n = (int64_t)dtype_bytes(e->cx, b->dtype, n) / (dtype_bits(b->dtype) < 8 ? 1 : dtype_bits(b->dtype) / 8);
        if (e->buf_used[i]) cw_line(w, "%s %s[%lld] LATHE_ALIGN64;", dtype_ctype(b->dtype), e->buf_name[i], (long long)(n > 0 ? n : 1));
    }
}

void emit_kernel(Emit *e, uint32_t index) {
    Context *cx = e->cx;
    Kernel *k = e->plan->kernel[index];
    KernelSignature *sig = &e->signature[index];
    uint32_t n_symbol = dim_symbol_count(cx);
    e->k = k;
    e->local = (Names){.cx = cx};
    e->var_name = ARENA_ARRAY(&cx->scratch, const char *, k->n_var);
    e->buf_name = ARENA_ARRAY(&cx->scratch, const char *, k->n_buf);
    e->buf_used = ARENA_ARRAY(&cx->scratch, bool, k->n_buf);
    e->local_symbol = ARENA_ARRAY(&cx->scratch, const char *, n_symbol);
    e->reduced_as_key = ARENA_ARRAY(&cx->scratch, bool, k->n_var);
    e->uses_fault = e->uses_tiles = false;
    static const char *const own[] = {"at", "row", "first", "last", "begin", "end", "sum", "key", "dims", "tid", "nt", "team", "err", "fault"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) names_reserve(&e->local, own[i]);
    for (uint32_t i = 0; i < k->n_buf; i++) {
        e->buf_name[i] = str_text(cx, str_format(cx, "b%u", i));
        names_reserve(&e->local, e->buf_name[i]);
    }
    e->serial = e->tiny || !has_parallel(k) || stores_packed(k) || kernel_cost(e, k) < SERIAL_BELOW;
    place_kernel(e, k);
    for (uint32_t i = 0; i < e->items.n; i++)
        if (e->items.v[i]->name > 0) names_reserve(&e->local, str_text(cx, str_format(cx, "t%d", e->items.v[i]->name)));
    Writer body = {.arena = &cx->scratch, .indent = 1};
    e->w = &body;
    if (e->serial) emit_block(e, k->body);
    else print_phases(e, k->body, k->body->next != NULL);

    Writer *w = &e->kernels;
    sig->name = names_unique(&e->global, str_text(cx, str_format(cx, "k%u_%s", index, str_text(cx, k->name))));
    sig->parallel = !e->serial;
    sig->err = e->uses_fault;
    for (uint32_t i = 0; i < n_symbol; i++) {
        sig->dims |= e->local_symbol[i] != NULL;
        e->symbol_used[i] |= e->local_symbol[i] != NULL;
    }
    if (k->comment != 0) {
        cw_comment(w, str_text(cx, k->comment));
        cw_printf(w, "\n");
    }
    cw_printf(w, "static LATHE_NOINLINE void %s(", sig->name);
    for (uint32_t i = 0; i < k->n_arg; i++) cw_printf(w, "%s%s", i != 0 ? ", " : "", parameter(e, i));
    const char *comma = k->n_arg != 0 ? ", " : "";
    if (sig->dims) cw_printf(w, "%sconst int64_t *dims", comma), comma = ", ";
    if (sig->parallel) cw_printf(w, "%sint tid, int nt%s", comma, e->pool ? ", lathe_team *team" : ""), comma = ", ";
    if (sig->err) cw_printf(w, "%sint *err", comma);
    if (k->n_arg == 0 && !sig->dims && !sig->parallel && !sig->err) cw_printf(w, "void");
    cw_printf(w, ")\n{\n");
    w->indent = 1;
    for (uint32_t i = 0; i < n_symbol; i++)
        if (e->local_symbol[i] != NULL) cw_line(w, "const int64_t %s = dims[%u];", e->local_symbol[i], i);
    for (uint32_t i = 0; i < k->n_arg; i++)
        if (!e->buf_used[i]) cw_line(w, "(void)%s;", e->buf_name[i]);
    print_locals(e, w);
    if (e->pool && sig->parallel) cw_line(w, "(void)team;");
    if (sig->err) cw_line(w, "int fault = 0;");
    if (e->uses_tiles) {
        emit_need(e, "lathe_amx_configure");
        emit_need(e, "lathe_amx_release");
        cw_line(w, "lathe_amx_configure(16);");
        e->any_tiles = true;
    }
    cw_text(w, body.text != NULL ? body.text : "", body.n);
    if (e->uses_tiles) cw_line(w, "lathe_amx_release();");
    if (sig->err) cw_line(w, "*err |= fault;");
    w->indent = 0;
    cw_printf(w, "}\n\n");
}
