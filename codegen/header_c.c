/* Prints NAME.h: what the user of an emitted model sees. */
#include <ctype.h>

#include "codegen/emit.h"
#include "ir/target.h"

/* "N: 1..64, rows of x": text about a type for a comment. */
static void type_comment(Emit *e, Writer *h, const char *prefix, const Value *v) {
    Writer w = {.arena = &e->cx->scratch};
    cw_printf(&w, "%s", prefix);
    type_print(e->cx, &w, v->type);
    if (v->name != 0) cw_printf(&w, ", \"%s\"", str_text(e->cx, v->name));
    cw_comment(h, cw_cstr(&w));
}

static bool occurs(Emit *e, Dim d, uint32_t symbol) {
    const DimNode *n = dim_node(e->cx, d);
    if (n->kind == DIM_SYMBOL) return n->symbol == symbol;
    if (n->a != 0 && (occurs(e, n->a, symbol) || occurs(e, n->b, symbol))) return true;
    for (uint32_t i = 0; i < n->n_term; i++)
        for (uint32_t j = 0; j < n->term[i].n_factor; j++)
            if (occurs(e, n->term[i].factor[j], symbol)) return true;
    return false;
}

static bool occurs_in(Emit *e, Value *const *v, uint32_t n, uint32_t symbol) {
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < v[i]->type->rank; d++)
            if (occurs(e, v[i]->type->dim[d], symbol)) return true;
    return false;
}

/* Which symbols the caller sets, and which the outputs report. */
bool emit_symbol_is_input(Emit *e, uint32_t i) {
    const DimNode *n = dim_node(e->cx, dim_symbol_at(e->cx, i));
    if (n->runtime) return false;
    return e->symbol_used[i] || occurs_in(e, e->m->main->in, e->m->main->n_in, i) || occurs_in(e, e->m->main->out, e->m->main->n_out, i);
}

bool emit_symbol_is_output(Emit *e, uint32_t i) {
    return dim_node(e->cx, dim_symbol_at(e->cx, i))->runtime && occurs_in(e, e->m->main->out, e->m->main->n_out, i);
}

static void macros(Emit *e, Writer *h) {
    const Plan *p = e->plan;
    const char *up = e->upper;
    cw_printf(h, "#define %s_ARENA_BYTES %lluu /* working memory of one run */\n", up, (unsigned long long)e->arena_bytes);
    if (emit_has_fast(e)) cw_printf(h, "#define %s_FAST_BYTES %lluu /* of working memory that is fast, beside the arena */\n", up, (unsigned long long)e->fast_bytes);
    cw_printf(h, "#define %s_WEIGHT_BYTES %lluu\n", up, (unsigned long long)e->weight_bytes);
    if (e->trains) cw_printf(h, "#define %s_STATE_BYTES %lluu /* parameters, what the optimizer keeps, counters */\n", up, (unsigned long long)p->state_bytes);
    cw_printf(h, "#define %s_ALIGN %uu /* of the arena%s and of external weights */\n", up, p->align, e->trains ? ", the state" : "");
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++) {
        const DimNode *n = dim_node(e->cx, dim_symbol_at(e->cx, i));
        if (!emit_symbol_is_input(e, i) && !emit_symbol_is_output(e, i)) continue;
        Writer name = {.arena = &e->cx->scratch};
        for (const char *c = e->symbol_name[i]; *c != 0; c++) cw_printf(&name, "%c", toupper((unsigned char)*c));
        const char *macro = names_unique(&e->global, str_text(e->cx, str_format(e->cx, "%s_MAX_%s", up, cw_cstr(&name))));
        cw_printf(h, "#define %s %lld\n", macro, (long long)n->hi);
    }
    cw_printf(h, "\n/* What every call returns. The kind of an error is code %% 16; the rest says which input or step: %s_error has the text. */\n", e->name);
    static const char *const kinds[] = {"OK 0", "ERROR_ARGUMENT 1 /* a null pointer, an arena too small or misaligned */", "ERROR_SHAPE 2 /* a dimension outside its bounds */",
                                        "ERROR_INDEX 3 /* an index in the data is out of range */", "ERROR_BOUND 4 /* a data-dependent size exceeds its bound */",
                                        "ERROR_WEIGHTS 5 /* external weights of another model, or damaged */", "ERROR_VALUE 6 /* a value that the operator does not allow */",
                                        "ERROR_MACHINE 7 /* the system refuses instructions that the code was compiled for */"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) cw_printf(h, "#define %s_%s\n", up, kinds[i]);
    if (emit_is_sharded(e)) {
        cw_printf(h, "#define %s_ERROR_PROCESSES %d /* ctx.comm has not %s_PROCESSES processes */\n", up, LATHE_RT_PROCESSES, up);
        cw_printf(h, "#define %s_PROCESSES %u /* that train together; each keeps its part of the optimizer's state */\n", up, e->m->options->shard_optimizer);
    }
}

static bool uses(const Emit *e, DType t) {
    const Graph *g = e->m->main;
    for (uint32_t i = 0; i < g->n_in + g->n_out; i++)
        if ((i < g->n_in ? g->in[i] : g->out[i - g->n_in])->type->dtype == t) return true;
    for (const Plan *p = e->m->plan; p != NULL; p = p->before)
        for (uint32_t k = 0; k < p->n_kernel; k++)
            for (uint32_t b = 0; b < p->kernel[k]->n_buf; b++)
                if (p->kernel[k]->buf[b].dtype == t) return true;
    return false;
}

bool emit_has_fast(const Emit *e) { return e->m->options != NULL && e->m->options->fast_memory != 0 && !e->trains; }

bool emit_uses_strings(const Emit *e) { return uses(e, DT_STRING); }

/* Guarded: headers of several models may define it. The function makes constants, which C and C++ have no common form for. */
static void complex_type(const Emit *e, Writer *h, DType t, const char *guard, const char *part) {
    if (!uses(e, t)) return;
    const char *c = dtype_ctype(t);
    cw_printf(h, "\n#ifndef %s\n#define %s\ntypedef struct %s { %s re, im; } %s;\n", guard, guard, c, part, c);
    cw_printf(h, "static inline %s %s_real(%s re) { %s z; z.re = re; z.im = 0; return z; }\n#endif\n", c, c, part, c);
}

static void version_field(const Emit *e, Writer *h) {
    cw_printf(h, "    int version;         /* which code runs, chosen by %s_init, or a lower one that you set:", e->name);
    for (uint32_t i = 0; i < e->n_version; i++) cw_printf(h, " %u %s%s", i, e->version[i].target->name, i + 1 < e->n_version ? "," : " */\n");
}

static void structs(Emit *e, Writer *h) {
    const Graph *g = e->m->main;
    const char *n = e->name;
    if (emit_uses_strings(e)) cw_printf(h, "\ntypedef const char *lathe_string; /* UTF-8, ends with a zero byte; what outputs point to is valid until the next run */\n");
    complex_type(e, h, DT_C64, "LATHE_C64", "float");
    complex_type(e, h, DT_C128, "LATHE_C128", "double");
    cw_printf(h, "\ntypedef struct %s_ctx {\n    void *arena;         /* %s_ARENA_BYTES, not shared between runs at the same time */\n", n, e->upper);
    if (emit_has_fast(e)) cw_printf(h, "    void *fast;          /* %s_FAST_BYTES, the same */\n", e->upper);
    if (e->trains) cw_printf(h, "    void *state;         /* %s_STATE_BYTES, changed by training */\n", e->upper);
    cw_printf(h, "    const void *weights; /* may be shared */\n");
    if (e->pool) emit_pool_fields(e, h);
    else cw_printf(h, "    int threads;         /* 0: as many as OpenMP gives */\n");
    if (e->n_version > 1) version_field(e, h);
    if (e->profile) cw_printf(h, "    void (*tick)(void *user, unsigned step, int ends); /* told when a kernel call begins and ends, by thread 0; may be NULL */\n    void *tick_user;\n");
    if (e->m->run_number != 0 && !e->trains) cw_printf(h, "    int64_t runs;        /* so far: random operators without a seed draw other numbers in each */\n");
    if (emit_is_distributed(e)) cw_printf(h, "    MPI_Comm comm;       /* the processes that train together: MPI_COMM_WORLD, or what you set it to */\n");
    cw_printf(h, "} %s_ctx;\n", n);
    cw_printf(h, "\ntypedef struct %s_inputs {\n", n);
    for (uint32_t i = 0; i < e->n_in; i++) {
        cw_printf(h, "    const %s *%s; ", dtype_ctype(g->in[i]->type->dtype), e->in_name[i]);
        type_comment(e, h, "", g->in[i]);
        cw_printf(h, "\n");
    }
    bool any = e->n_in != 0;
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++) {
        if (!emit_symbol_is_input(e, i)) continue;
        const DimNode *d = dim_node(e->cx, dim_symbol_at(e->cx, i));
        cw_printf(h, "    int64_t %s; /* %lld to %lld */\n", e->symbol_name[i], (long long)d->lo, (long long)d->hi);
        any = true;
    }
    if (!any) cw_printf(h, "    int unused; /* the model has no inputs */\n");
    cw_printf(h, "} %s_inputs;\n\ntypedef struct %s_outputs {\n", n, n);
    for (uint32_t i = 0; i < e->n_out; i++) {
        if (!emit_field_is_new(e, i)) continue;
        cw_printf(h, "    %s *%s; ", dtype_ctype(g->out[i]->type->dtype), e->out_name[i]);
        type_comment(e, h, "", g->out[i]);
        cw_printf(h, "\n");
    }
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++)
        if (emit_symbol_is_output(e, i)) cw_printf(h, "    int64_t *%s; /* written: a size that depends on the data; may be null */\n", e->symbol_name[i]);
    if (e->n_out == 0) cw_printf(h, "    int unused;\n");
    cw_printf(h, "} %s_outputs;\n\n", n);
}

void emit_short_parameters(Emit *e, Writer *h) {
    const Graph *g = e->m->main;
    const char *comma = "";
    for (uint32_t i = 0; i < e->n_in; i++) cw_printf(h, "%sconst %s *%s", comma, dtype_ctype(g->in[i]->type->dtype), e->in_name[i]), comma = ", ";
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++)
        if (emit_symbol_is_input(e, i)) cw_printf(h, "%sint64_t %s", comma, e->symbol_name[i]), comma = ", ";
    for (uint32_t i = 0; i < e->n_out; i++) cw_printf(h, "%s%s *%s", comma, dtype_ctype(g->out[i]->type->dtype), e->out_name[i]), comma = ", ";
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++)
        if (emit_symbol_is_output(e, i)) cw_printf(h, "%sint64_t *%s", comma, e->symbol_name[i]), comma = ", ";
    if (comma[0] == 0) cw_printf(h, "void");
}

static void functions(Emit *e, Writer *h) {
    const char *n = e->name;
    bool external = e->weights == LATHE_WEIGHTS_FILE;
    cw_printf(h, "/* Fills ctx. arena: at least %s_ARENA_BYTES, aligned to %s_ALIGN. ", e->upper, e->upper);
    cw_printf(h, external ? "weights: the contents of the model's .bin file, aligned the same, kept as long as ctx. */\n" : "weights: NULL, they are part of the program. */\n");
    if (emit_has_fast(e)) cw_printf(h, "/* fast: at least %s_FAST_BYTES of the fast memory, aligned the same. */\n", e->upper);
    cw_printf(h, "int %s_init(%s_ctx *ctx, void *arena, size_t arena_bytes, %sconst void *weights, size_t weight_bytes);\n\n", n, n, emit_has_fast(e) ? "void *fast, size_t fast_bytes, " : "");
    cw_printf(h, "/* One inference. Two runs at the same time need two contexts with their own arenas. */\n");
    cw_printf(h, "int %s_run(%s_ctx *ctx, const %s_inputs *in, const %s_outputs *out);\n\n", n, n, n, n);
    cw_printf(h, "/* The same for callers that do not know the model: pointers in order, in_dims the dims of all inputs one after the other\n"
                 " * (may be NULL when none is symbolic), out_dims receives those of the outputs (may be NULL). */\n");
    cw_printf(h, "int %s_call(%s_ctx *ctx, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims);\n\n", n, n);
    cw_printf(h, "/* What a returned code means; never NULL. */\nconst char *%s_error(int code);\n\n", n);
    if (!external && e->arena_bytes <= (1u << 30)) {
        cw_printf(h, "#ifndef LATHE_NO_STATIC_ARENA\n/* Everything in one call, with a static context: not to be called by two threads at the same time. */\nint %s(", n);
        emit_short_parameters(e, h);
        cw_printf(h, ");\n#endif\n\n");
    }
}

void emit_header(Emit *e, Writer *h) {
    cw_printf(h, "/* Generated by lathe " LATHE_VERSION ". Yours to use under any terms.\n *\n");
    if (e->trains) cw_printf(h, " * %s_init(&ctx, …, seed), then for every batch   int code = %s_train_step(&ctx, &in, &out);   and %s_save, %s_load */\n", e->name, e->name, e->name, e->name);
    else cw_printf(h, " * int code = %s_run(&ctx, &in, &out);   after   %s_init(&ctx, arena, sizeof arena, %sNULL, 0) */\n", e->name, e->name, emit_has_fast(e) ? "fast, sizeof fast, " : "");
    cw_printf(h, "#ifndef %s_H\n#define %s_H\n#include <stddef.h>\n#include <stdint.h>\n%s\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n", e->upper, e->upper, emit_is_distributed(e) ? "#include <mpi.h>\n" : "");
    macros(e, h);
    structs(e, h);
    if (e->trains) emit_train_functions(e, h);
    else functions(e, h);
    cw_printf(h, "#ifdef __cplusplus\n}\n#endif\n#endif\n");
}
