/* Prints expressions (Items), buffer elements and dimensions. Precedence follows C: 0 anything, 12 sums, 13 products,
 * 14 unary and casts, 15 primary; a text that binds weaker than asked is put in parentheses. */
#include "codegen/emit.h"

const char *emit_buf(Emit *e, uint32_t buf) {
    e->buf_used[buf] = true;
    return e->buf_name[buf];
}

const char *emit_var(Emit *e, uint32_t var) {
    if (e->var_name[var] == NULL) {
        const Var *v = &e->k->var[var];
        Str wish = v->name != 0 ? v->name : str_format(e->cx, v->extent != NULL ? "i%u" : "v%u", var);
        e->var_name[var] = names_unique(&e->local, str_text(e->cx, wish));
    }
    return e->var_name[var];
}

/* ---- dimensions -------------------------------------------------------------------------------------------------------- */
/* The kernel's local copy of a symbol's slot in dims. */
static const char *symbol_text(Emit *e, const DimNode *n, const char *const *given) {
    if (given != NULL) return given[n->symbol];
    if (e->local_symbol[n->symbol] == NULL) e->local_symbol[n->symbol] = names_unique(&e->local, str_text(e->cx, n->name));
    return e->local_symbol[n->symbol];
}

static void print_dim(Emit *e, Writer *w, Dim d, const char *const *symbol, int prec) {
    const DimNode *n = dim_node(e->cx, d);
    const char *helper = NULL;
    switch (n->kind) {
    case DIM_CONST: cw_printf(w, n->value < 0 && prec > 13 ? "(%lld)" : "%lld", (long long)n->value); return;
    case DIM_SYMBOL: cw_printf(w, "%s", symbol_text(e, n, symbol)); return;
    case DIM_POLY: {
        bool product = n->term[0].n_factor + (n->term[0].coef != 1 && n->term[0].coef != -1) > 1;
        bool paren = prec > (n->n_term > 1 ? 12 : product ? 13 : 14);
        if (paren) cw_printf(w, "(");
        for (uint32_t i = 0; i < n->n_term; i++) {
            DimTerm t = n->term[i];
            bool minus = t.coef < 0;
            uint64_t size = minus ? 0u - (uint64_t)t.coef : (uint64_t)t.coef;
            cw_printf(w, i == 0 ? (minus ? "-" : "") : minus ? " - " : " + ");
            if (size != 1 || t.n_factor == 0) cw_printf(w, "%llu%s", (unsigned long long)size, t.n_factor != 0 ? " * " : "");
            for (uint32_t j = 0; j < t.n_factor; j++) {
                if (j != 0) cw_printf(w, " * ");
                print_dim(e, w, t.factor[j], symbol, 14);
            }
        }
        if (paren) cw_printf(w, ")");
        return;
    }
    case DIM_FLOORDIV: helper = "floordiv"; break;
    case DIM_MOD: helper = "mod"; break;
    case DIM_MIN: helper = "min"; break;
    case DIM_MAX: helper = "max"; break;
    }
    cw_printf(w, "%s(", emit_scalar_helper(e, helper, DT_I64));
    print_dim(e, w, n->a, symbol, 0);
    cw_printf(w, ", ");
    print_dim(e, w, n->b, symbol, 0);
    cw_printf(w, ")");
}

const char *emit_dim_text(Emit *e, Dim d, const char *const *symbol, int prec) {
    Writer w = {.arena = &e->cx->scratch};
    print_dim(e, &w, d, symbol, prec);
    return cw_cstr(&w);
}

const char *emit_dim(Emit *e, Dim d) { return emit_dim_text(e, d, NULL, 14); }

/* ---- buffer elements ----------------------------------------------------------------------------------------------------- */
static const char *packed_helper(Emit *e, const char *verb, DType t) {
    if (t == DT_F4E2M1) t = DT_U4;
    Str name = str_format(e->cx, "lathe_%s_%s", verb, dtype_text(t));
    emit_need(e, str_text(e->cx, name));
    return str_text(e->cx, name);
}

void emit_load(Emit *e, Writer *w, uint32_t buf, const char *index) {
    DType t = e->k->buf[buf].dtype;
    const char *b = emit_buf(e, buf);
    bool packed = dtype_bits(t) < 8, decode = dtype_is_float(t) && dtype_compute(t) != t;
    if (t == DT_BOOL) cw_printf(w, "(");
    if (decode) cw_printf(w, "%s(", emit_small_decode(e, t));
    if (packed) cw_printf(w, "%s(%s, %s)", packed_helper(e, "load", t), b, index);
    else cw_printf(w, "%s[%s]", b, index);
    if (decode) cw_printf(w, ")");
    if (t == DT_BOOL) cw_printf(w, " != 0)");
}

void emit_store(Emit *e, uint32_t buf, const char *index, const char *value) {
    DType t = e->k->buf[buf].dtype;
    const char *b = emit_buf(e, buf);
    Writer v = {.arena = &e->cx->scratch};
    if (dtype_is_float(t) && dtype_compute(t) != t) cw_printf(&v, "%s(%s)", emit_small_encode(e, t), value);
    else if (t == DT_BOOL || (dtype_bits(t) < 32 && !dtype_is_float(t))) cw_printf(&v, "(%s)(%s)", dtype_ctype(dtype_compute(t)), value);
    else cw_printf(&v, "%s", value);
    if (dtype_bits(t) < 8) cw_line(e->w, "%s(%s, %s, %s);", packed_helper(e, "store", t), b, index, cw_cstr(&v));
    else cw_line(e->w, "%s[%s] = %s;", b, index, cw_cstr(&v));
}

const char *emit_reduce(Emit *e, Fn reduce, DType t, const char *target, const char *value) {
    Writer w = {.arena = &e->cx->scratch};
    bool plain = dtype_is_float(t) || t == DT_U32 || t == DT_U64;
    const char *cast = dtype_bits(t) < 32 && dtype_is_int(t) ? dtype_ctype(t) : NULL;
    switch (reduce) {
    case FN_ADD:
        if (plain) cw_printf(&w, "%s += %s", target, value);
        else if (t == DT_BOOL) cw_printf(&w, "%s |= %s", target, value);
        else cw_printf(&w, "%s = %s(%s, %s)", target, emit_scalar_helper(e, "add", t), target, value);
        break;
    case FN_MUL:
        if (plain) cw_printf(&w, "%s *= %s", target, value);
        else if (t == DT_BOOL) cw_printf(&w, "%s &= %s", target, value);
        else cw_printf(&w, "%s = %s(%s, %s)", target, emit_scalar_helper(e, "mul", t), target, value);
        break;
    case FN_MIN: case FN_MAX:
        if (t == DT_BOOL) cw_printf(&w, "%s %s %s", target, reduce == FN_MIN ? "&=" : "|=", value);
        else cw_printf(&w, "%s = %s(%s, %s)", target, emit_scalar_helper(e, fn_text(reduce), t), target, value);
        break;
    case FN_AND: case FN_OR: case FN_XOR: {
        const char *op = reduce == FN_AND ? "&" : reduce == FN_OR ? "|" : "^";
        if (cast != NULL) cw_printf(&w, "%s = (%s)(%s %s (%s))", target, cast, target, op, value);
        else cw_printf(&w, "%s %s= %s", target, op, value);
        break;
    }
    default: cw_printf(&w, "%s = %s", target, value); break; /* FN_NONE: the verifier allows no other */
    }
    return cw_cstr(&w);
}

/* ---- indices into what may be empty --------------------------------------------------------------------------------------- */
static bool reads_memory(const Expr *x) {
    if (x->kind == E_LOAD) return true;
    for (uint32_t i = 0; i < x->n_arg; i++)
        if (reads_memory(x->arg[i])) return true;
    return false;
}

static void collect_sizes(Emit *e, const Item *it, const Item **size, uint32_t *n) {
    const Expr *x = it->x;
    if (x->kind == E_LOAD) return; /* looks after itself */
    for (uint32_t i = 0; i < it->n_arg; i++) collect_sizes(e, it->arg[i], size, n);
    if (x->kind != E_FN || x->fn != FN_INDEX || reads_memory(x->arg[1])) return; /* sizes in memory are those of buffers with room */
    int64_t lo, hi;
    ex_range(e->k, e->cx, x->arg[1], &lo, &hi);
    bool known = lo > 0 || *n == RANK_MAX;
    for (uint32_t i = 0; i < *n; i++) known |= size[i]->x == x->arg[1];
    if (!known) size[(*n)++] = it->arg[1];
}

/* Is x made by a choice that has no right answer in an empty dimension: a clamp, a remainder? */
static bool chooses(const Expr *x) {
    if (x->kind == E_FN && (x->fn == FN_MIN || x->fn == FN_MAX || x->fn == FN_MOD || x->fn == FN_FMOD || x->fn == FN_SELECT)) return true;
    for (uint32_t i = 0; x->kind != E_LOAD && i < x->n_arg; i++)
        if (chooses(x->arg[i])) return true;
    return false;
}

/* A load at a clamped position, whose value is thrown away where there is no element: the dims that must not be empty. */
static bool print_room(Emit *e, Writer *w, const Expr *load) {
    const Buf *b = &e->k->buf[load->ref];
    bool any = false;
    for (uint32_t d = 0; d < b->rank; d++) {
        if (dim_lo(e->cx, b->dim[d]) > 0 || !chooses(load->arg[d])) continue;
        cw_printf(w, "%s%s > 0", any ? " && " : "", emit_dim(e, b->dim[d]));
        any = true;
    }
    return any;
}

bool emit_not_empty(Emit *e, Writer *w, const Item *index) {
    const Item *size[RANK_MAX];
    uint32_t n = 0;
    collect_sizes(e, index, size, &n);
    for (uint32_t i = 0; i < n; i++) {
        cw_printf(w, i != 0 ? " && " : "");
        emit_item(e, w, size[i], 11);
        cw_printf(w, " > 0");
    }
    e->uses_fault |= n != 0;
    return n != 0;
}

bool emit_load_guarded(Emit *e, const Item *load) {
    Writer ignored = {.arena = &e->cx->scratch};
    return emit_not_empty(e, &ignored, load->arg[0]) || print_room(e, &ignored, load->x);
}

/* ---- items ------------------------------------------------------------------------------------------------------------------ */
static void print_in_place(Emit *e, Writer *w, const Item *it, int prec) {
    const Expr *x = it->x;
    switch ((ExprKind)x->kind) {
    case E_CONST: emit_constant(w, (DType)x->dtype, x, prec); return;
    case E_VAR: cw_printf(w, "%s", emit_var(e, x->ref)); return;
    case E_DIM: print_dim(e, w, x->ref, NULL, prec); return;
    case E_LOAD: {
        Writer index = {.arena = &e->cx->scratch}, some = {.arena = &e->cx->scratch}, room = {.arena = &e->cx->scratch};
        emit_item(e, &index, it->arg[0], 0);
        bool guard = emit_not_empty(e, &some, it->arg[0]), clamped = !guard && print_room(e, &room, x);
        if (guard) cw_printf(w, "(%s ? ", cw_cstr(&some));
        if (clamped) cw_printf(w, "(%s ? ", cw_cstr(&room));
        emit_load(e, w, x->ref, cw_cstr(&index));
        if (clamped) cw_printf(w, " : (%s)0)", emit_ctype((DType)x->dtype));
        if (guard) cw_printf(w, " : (fault |= 1 << %d, (%s)0))", LATHE_RT_INDEX, emit_ctype((DType)x->dtype));
        return;
    }
    case E_FN: emit_scalar(e, w, it, prec); return;
    }
}

void emit_item(Emit *e, Writer *w, const Item *it, int prec) {
    if (it->name > 0) cw_printf(w, "t%d", it->name);
    else print_in_place(e, w, it, prec);
}

const char *emit_text(Emit *e, const Item *it, int prec) {
    Writer w = {.arena = &e->cx->scratch};
    emit_item(e, &w, it, prec);
    return cw_cstr(&w);
}

void emit_temps(Emit *e, const StmtInfo *info) {
    for (const Item *it = info->temps; it != NULL; it = it->next) {
        Writer w = {.arena = &e->cx->scratch};
        DType t = (DType)it->x->dtype;
        print_in_place(e, &w, it, 0);
        cw_line(e->w, "const %s t%d = %s;", emit_ctype(t), it->name, cw_cstr(&w));
    }
}
