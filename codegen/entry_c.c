/* Prints the entry points of an emitted model: NAME_init, NAME_run, NAME_call, NAME_error and NAME. */
#include "codegen/emit.h"
#include "ir/target.h"

static bool weights_are_external(const Emit *e) { return e->weights == LATHE_WEIGHTS_FILE && e->weight_bytes != 0; }

void emit_checksum(Emit *e) {
    Writer *w = &e->run;
    const char *up = e->upper;
    if (weights_are_external(e)) {
        cw_printf(w, "static uint64_t checksum(const unsigned char *p)\n{\n    uint64_t lane[8] = {1, 2, 3, 4, 5, 6, 7, 8}, h = 0;\n"
                     "    for (size_t at = 0; at < %s_WEIGHT_BYTES; at += 64) {\n        uint64_t x[8];\n        memcpy(x, p + at, 64);\n"
                     "        for (int i = 0; i < 8; i++) {\n            const uint64_t y = (lane[i] ^ x[i]) * 0x9E3779B97F4A7C15u;\n"
                     "            lane[i] = y ^ y >> 32;\n        }\n    }\n    for (int i = 0; i < 8; i++) {\n        h = (h ^ lane[i]) * 0x9E3779B97F4A7C15u;\n"
                     "        h ^= h >> 29;\n    }\n    return h;\n}\n\n", up);
    }
}

/* Arena and weights: the part of NAME_init that all modules have. */
void emit_bind_memory(Emit *e) {
    Writer *w = &e->run;
    const char *n = e->name, *up = e->upper;
    bool external = weights_are_external(e);
    if (module_target(e->m)->scalable) {
        emit_need(e, "lathe_vector_width_fits");
        cw_printf(w, "    if (!lathe_vector_width_fits()) return %s_ERROR_MACHINE;\n", up);
    }
    if (e->n_version > 1) {
        cw_printf(w, "    ctx->version = %s_version();\n    if (ctx->version < 0) return %s_ERROR_MACHINE;\n", n, up);
    } else if (e->any_tiles) {
        emit_need(e, "lathe_amx_request");
        cw_printf(w, "    if (lathe_amx_request() != 0) return %s_ERROR_MACHINE;\n", up);
    }
    if (e->arena_bytes != 0)
        cw_printf(w, "    if (arena == NULL || arena_bytes < %s_ARENA_BYTES || (uintptr_t)arena %% %s_ALIGN != 0) return %s_ERROR_ARGUMENT;\n", up, up, up);
    else cw_printf(w, "    (void)arena_bytes;\n");
    if (e->fast_bytes != 0)
        cw_printf(w, "    if (fast == NULL || fast_bytes < %s_FAST_BYTES || (uintptr_t)fast %% %s_ALIGN != 0) return %s_ERROR_ARGUMENT;\n", up, up, up);
    else if (emit_has_fast(e)) cw_printf(w, "    (void)fast_bytes;\n");
    if (external) {
        cw_printf(w, "    if (weights == NULL || (uintptr_t)weights %% %s_ALIGN != 0) return %s_ERROR_ARGUMENT;\n", up, up);
        const char *fits = e->shared != NULL ? "<" : "!="; /* a shared file grows */
        cw_printf(w, "    if (weight_bytes %s %s_WEIGHT_BYTES || checksum((const unsigned char *)weights) != 0x%016llXu) return %s_ERROR_WEIGHTS;\n", fits, up,
                  (unsigned long long)e->checksum, up);
        cw_printf(w, "    ctx->weights = weights;\n");
    } else {
        cw_printf(w, "    (void)weights, (void)weight_bytes;\n");
        if (e->weights == LATHE_WEIGHTS_INCBIN && e->weight_bytes != 0) cw_printf(w, "    ctx->weights = %s_weight_data;\n", n);
        else cw_printf(w, "    ctx->weights = NULL;\n");
    }
    cw_printf(w, "    ctx->arena = arena;\n    ctx->threads = 0;\n");
    if (emit_has_fast(e)) cw_printf(w, "    ctx->fast = fast;\n");
    if (e->profile) cw_printf(w, "    ctx->tick = NULL;\n    ctx->tick_user = NULL;\n");
    if (e->pool) cw_printf(w, "    ctx->pool = NULL;\n    ctx->yield = NULL;\n    ctx->user = NULL;\n");
}

static void init(Emit *e) {
    Writer *w = &e->run;
    emit_checksum(e);
    cw_printf(w, "int %s_init(%s_ctx *ctx, void *arena, size_t arena_bytes, %sconst void *weights, size_t weight_bytes)\n{\n", e->name, e->name, emit_has_fast(e) ? "void *fast, size_t fast_bytes, " : "");
    cw_printf(w, "    if (ctx == NULL) return %s_ERROR_ARGUMENT;\n", e->upper);
    emit_bind_memory(e);
    if (e->m->run_number != 0) cw_printf(w, "    ctx->runs = 0;\n");
    cw_printf(w, "    return %s_OK;\n}\n\n", e->upper);
}

/* Could the tensor have no elements for some dims the caller may choose? */
static bool may_be_empty(Emit *e, const Type *t) {
    for (uint32_t i = 0; i < t->rank; i++)
        if (dim_lo(e->cx, t->dim[i]) < 1) return true;
    return false;
}

static void random_draws(Graph *g, void *user) {
    bool *any = user;
    FOR_NODES(n, g) *any |= (op_info(n->op)->flags & OPF_RANDOM) != 0;
}

bool emit_draws_random(Emit *e, uint32_t mask) {
    const uint32_t *entries = entry_masks(e->m);
    bool any = false;
    FOR_NODES(n, e->m->main) {
        if (!(entries[n->id] & mask)) continue;
        any |= (op_info(n->op)->flags & OPF_RANDOM) != 0;
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present) graph_visit(n->attr[i].graph, random_draws, &any);
    }
    return any;
}

/* The number that random operators of this call are keyed with, and the next one for the next call. */
static void number_run(Emit *e, uint32_t mask) {
    Writer *w = &e->run;
    if (e->m->run_number == 0) return;
    uint32_t slot = dim_node(e->cx, e->m->run_number)->symbol;
    if (!e->trains) cw_printf(w, "    dims[%u] = ctx->runs;\n    ctx->runs = ctx->runs < INT64_MAX ? ctx->runs + 1 : 0;\n", slot);
    else if (emit_draws_random(e, mask)) {
        cw_printf(w, "    dims[%u] = *%s_random(ctx);\n", slot, e->name);
        if (emit_is_distributed(e)) /* other numbers in every process */
            cw_printf(w, "    {\n        int rank = 0;\n        MPI_Comm_rank(ctx->comm, &rank);\n        dims[%u] = (dims[%u] ^ (int64_t)rank << 40) & INT64_MAX;\n    }\n", slot, slot);
    }
}

/* Does some of the entries send something to the other processes? */
static bool exchanges(Emit *e, uint32_t mask) {
    const uint32_t *entries = entry_masks(e->m);
    FOR_NODES(n, e->m->main)
        if (n->op == OP_ExchangeWait && (entries[n->id] & mask)) return true;
    return false;
}

void emit_call_body(Emit *e, const char *steps, uint32_t mask) {
    Writer *w = &e->run;
    const Graph *g = e->m->main;
    const char *up = e->upper;
    uint32_t n_symbol = dim_symbol_count(e->cx), *reads = entry_inputs(e->m);
    cw_printf(w, "    int64_t dims[%u] = {0};\n    int status = %s_OK;\n", n_symbol + 1, up); /* and whether the run has to end */
    cw_printf(w, "    if (ctx == NULL || in == NULL || out == NULL) return %s_ERROR_ARGUMENT;\n", up);
    for (uint32_t i = 0; i < e->n_in; i++)
        if ((reads[i] & mask) && !may_be_empty(e, g->in[i]->type)) cw_printf(w, "    if (in->%s == NULL) return %u + %s_ERROR_ARGUMENT;\n", e->in_name[i], (i + 1) * 16, up);
    for (uint32_t i = 0; i < e->n_out; i++)
        if ((entry_owners(e->m, i) & mask) && !may_be_empty(e, g->out[i]->type))
            cw_printf(w, "    if (out->%s == NULL) return %u + %s_ERROR_ARGUMENT;\n", e->out_name[i], (e->n_in + i + 1) * 16, up);
    for (uint32_t i = 0; i < n_symbol; i++) {
        if (!emit_symbol_is_input(e, i)) continue;
        const DimNode *d = dim_node(e->cx, dim_symbol_at(e->cx, i));
        cw_printf(w, "    if (in->%s < %lld || in->%s > %lld) return %s_ERROR_SHAPE;\n    dims[%u] = in->%s;\n", e->symbol_name[i], (long long)d->lo, e->symbol_name[i],
                  (long long)d->hi, up, i, e->symbol_name[i]);
    }
    number_run(e, mask);
    if (emit_is_sharded(e) && exchanges(e, mask)) {
        cw_printf(w, "    int rank = 0;\n    if (%s_process(ctx, &rank) != %s_OK) return %s_ERROR_PROCESSES;\n", e->name, up, up);
        if (e->m->process != 0) cw_printf(w, "    dims[%u] = rank;\n", dim_node(e->cx, e->m->process)->symbol);
    }
    emit_check_given_sizes(e, w);
    if (e->any_parallel && e->pool) {
        emit_run_by_pool(e, steps);
    } else if (e->any_parallel) {
        cw_printf(w, "#ifdef _OPENMP\n    const int threads = ctx->threads > 0 ? ctx->threads : omp_get_max_threads();\n    if (threads > 1) {\n"
                     "#pragma omp parallel num_threads(threads)\n        %s(ctx, in, out, dims, omp_get_thread_num(), omp_get_num_threads(), &status);\n    } else\n#endif\n", steps);
        cw_printf(w, "    {\n        %s(ctx, in, out, dims, 0, 1, &status);\n    }\n", steps);
    } else {
        cw_printf(w, "    %s(ctx, in, out, dims, 0, 1, &status); /* too small for a second thread to help */\n", steps);
    }
    for (uint32_t i = 0; i < n_symbol; i++)
        if (emit_symbol_is_output(e, i)) cw_printf(w, "    if (out->%s != NULL) *out->%s = dims[%u];\n", e->symbol_name[i], e->symbol_name[i], i);
    if (e->trains && e->m->run_number != 0 && emit_draws_random(e, mask)) { /* a call that failed may be made again */
        cw_printf(w, "    if (status == %s_OK) *%s_random(ctx) = *%s_random(ctx) < INT64_MAX ? *%s_random(ctx) + 1 : 0;\n", up, e->name, e->name, e->name);
    }
}

static void run(Emit *e) {
    Writer *w = &e->run;
    const char *n = e->name;
    cw_printf(w, "int %s_run(%s_ctx *ctx, const %s_inputs *in, const %s_outputs *out)\n{\n", n, n, n, n);
    emit_call_body(e, emit_steps_name(e, 0), 1);
    cw_printf(w, "    return status;\n}\n\n");
}

/* ---- NAME_call: dims to symbols ------------------------------------------------------------------------------------------ */
/* d = coef * symbol + rest for exactly one caller-set symbol not bound yet; the others must be bound. */
static bool solvable(Emit *e, Dim d, const bool *bound, uint32_t *symbol, int64_t *coef, Dim *rest) {
    Context *cx = e->cx;
    const DimNode *n = dim_node(cx, d);
    if (n->kind == DIM_SYMBOL) {
        *symbol = n->symbol;
        *coef = 1;
        *rest = dim_const(cx, 0);
        return !bound[n->symbol] && !n->runtime;
    }
    if (n->kind != DIM_POLY) return false;
    bool found = false;
    for (uint32_t i = 0; i < n->n_term; i++) {
        DimTerm t = n->term[i];
        for (uint32_t j = 0; j < t.n_factor; j++) {
            const DimNode *f = dim_node(cx, t.factor[j]);
            if (f->kind != DIM_SYMBOL || f->runtime) return false;
            if (bound[f->symbol]) continue;
            if (found || t.n_factor != 1) return false;
            found = true;
            *symbol = f->symbol;
            *coef = t.coef;
        }
    }
    if (!found) return false;
    *rest = dim_sub(cx, d, dim_mul(cx, dim_symbol_at(cx, *symbol), dim_const(cx, *coef)));
    return true;
}

static void bind(Emit *e) {
    Writer *w = &e->run;
    const Graph *g = e->m->main;
    uint32_t n_symbol = dim_symbol_count(e->cx);
    bool *bound = ARENA_ARRAY(&e->cx->scratch, bool, n_symbol);
    for (bool progress = true; progress;) {
        progress = false;
        uint32_t at = 0;
        for (uint32_t i = 0; i < e->n_in; i++) {
            for (uint32_t d = 0; d < g->in[i]->type->rank; d++, at++) {
                uint32_t s;
                int64_t coef;
                Dim rest;
                if (!solvable(e, g->in[i]->type->dim[d], bound, &s, &coef, &rest)) continue;
                const DimNode *node = dim_node(e->cx, dim_symbol_at(e->cx, s));
                bound[s] = progress = true;
                if (coef == 1 && dim_is_const(e->cx, rest) && dim_value(e->cx, rest) == 0)
                    cw_printf(w, "    dims[%u] = in_dims[%u];\n", s, at);
                else cw_printf(w, "    dims[%u] = (in_dims[%u] - %s) / %lld;\n", s, at, emit_dim_text(e, rest, e->dims_slot, 13), (long long)coef);
                cw_printf(w, "    if (dims[%u] < %lld || dims[%u] > %lld) return %u + %s_ERROR_SHAPE;\n", s, (long long)node->lo, s, (long long)node->hi, (i + 1) * 16, e->upper);
            }
        }
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < e->n_in; i++) {
        for (uint32_t d = 0; d < g->in[i]->type->rank; d++, at++)
            cw_printf(w, "    if (in_dims%s[%u] != %s) return %u + %s_ERROR_SHAPE;\n", "", at, emit_dim_text(e, g->in[i]->type->dim[d], e->dims_slot, 10), (i + 1) * 16, e->upper);
    }
}

static bool any_symbolic_input(Emit *e) {
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++)
        if (emit_symbol_is_input(e, i)) return true;
    return false;
}

static void generic_call(Emit *e) {
    Writer *w = &e->run;
    const Graph *g = e->m->main;
    const char *n = e->name, *up = e->upper;
    uint32_t n_symbol = dim_symbol_count(e->cx);
    bool symbolic = any_symbolic_input(e);
    cw_printf(w, "static int %s_bind(const int64_t *in_dims, int64_t *dims)\n{\n    (void)dims;\n", n);
    cw_printf(w, symbolic ? "    if (in_dims == NULL) return %s_ERROR_SHAPE;\n" : "    if (in_dims == NULL) return %s_OK;\n", up);
    bind(e);
    cw_printf(w, "    return %s_OK;\n}\n\n", up);
    cw_printf(w, "int %s_call(%s_ctx *ctx, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims)\n{\n", n, n);
    cw_printf(w, "    int64_t dims[%u] = {0};\n    %s_inputs i;\n    %s_outputs o;\n", n_symbol != 0 ? n_symbol : 1, n, n);
    cw_printf(w, "    int code = %s_bind(in_dims, dims);\n    if (code != %s_OK) return code;\n", n, up);
    if (e->n_in != 0) cw_printf(w, "    if (in == NULL) return %s_ERROR_ARGUMENT;\n", up);
    else cw_printf(w, "    (void)in;\n");
    if (e->n_out != 0) cw_printf(w, "    if (out == NULL) return %s_ERROR_ARGUMENT;\n", up);
    else cw_printf(w, "    (void)out;\n");
    bool any = false;
    for (uint32_t i = 0; i < e->n_in; i++, any = true) cw_printf(w, "    i.%s = (const %s *)in[%u];\n", e->in_name[i], dtype_ctype(g->in[i]->type->dtype), i);
    for (uint32_t i = 0; i < n_symbol; i++) {
        if (emit_symbol_is_input(e, i)) cw_printf(w, "    i.%s = dims[%u];\n", e->symbol_name[i], i), any = true;
    }
    if (!any) cw_printf(w, "    i.unused = 0;\n");
    for (uint32_t i = 0; i < e->n_out; i++) cw_printf(w, "    o.%s = (%s *)out[%u];\n", e->out_name[i], dtype_ctype(g->out[i]->type->dtype), i);
    for (uint32_t i = 0; i < n_symbol; i++)
        if (emit_symbol_is_output(e, i)) cw_printf(w, "    o.%s = &dims[%u];\n", e->symbol_name[i], i);
    if (e->n_out == 0) cw_printf(w, "    o.unused = 0;\n");
    cw_printf(w, "    code = %s_run(ctx, &i, &o);\n", n);
    uint32_t at = 0;
    Writer set = {.arena = &e->cx->scratch};
    for (uint32_t i = 0; i < e->n_out; i++)
        for (uint32_t d = 0; d < g->out[i]->type->rank; d++, at++)
            cw_printf(&set, "    out_dims[%u] = %s;\n", at, emit_dim_text(e, g->out[i]->type->dim[d], e->dims_slot, 0));
    if (at != 0) cw_printf(w, "    if (out_dims == NULL) return code;\n%s", cw_cstr(&set));
    else cw_printf(w, "    (void)out_dims;\n");
    cw_printf(w, "    return code;\n}\n\n");
}

static void five_lines(Emit *e) {
    Writer *w = &e->run;
    const char *n = e->name, *up = e->upper;
    if (e->weights == LATHE_WEIGHTS_FILE || e->arena_bytes > (1u << 30)) return;
    cw_printf(w, "#ifndef LATHE_NO_STATIC_ARENA /* for callers of %s_run only: saves the memory */\nint %s(", n, n);
    emit_short_parameters(e, w);
    cw_printf(w, ")\n{\n    static unsigned char lathe_arena[%s_ARENA_BYTES + 1] LATHE_ALIGN64;\n", up);
    if (emit_has_fast(e)) cw_printf(w, "    static unsigned char lathe_fast[%s_FAST_BYTES + 1] LATHE_ALIGN64;\n", up);
    cw_printf(w, "    %s_ctx ctx;\n    %s_inputs in;\n    %s_outputs out;\n", n, n, n);
    cw_printf(w, "    const int code = %s_init(&ctx, lathe_arena, sizeof lathe_arena, %sNULL, 0);\n    if (code != %s_OK) return code;\n", n, emit_has_fast(e) ? "lathe_fast, sizeof lathe_fast, " : "", up);
    if (e->m->run_number != 0) cw_printf(w, "    static int64_t runs = 0;\n    ctx.runs = runs++;\n");
    bool any = false;
    for (uint32_t i = 0; i < e->n_in; i++, any = true) cw_printf(w, "    in.%s = %s;\n", e->in_name[i], e->in_name[i]);
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++) {
        if (emit_symbol_is_input(e, i)) cw_printf(w, "    in.%s = %s;\n", e->symbol_name[i], e->symbol_name[i]), any = true;
    }
    if (!any) cw_printf(w, "    in.unused = 0;\n");
    for (uint32_t i = 0; i < e->n_out; i++) cw_printf(w, "    out.%s = %s;\n", e->out_name[i], e->out_name[i]);
    for (uint32_t i = 0; i < dim_symbol_count(e->cx); i++)
        if (emit_symbol_is_output(e, i)) cw_printf(w, "    out.%s = %s;\n", e->symbol_name[i], e->symbol_name[i]);
    if (e->n_out == 0) cw_printf(w, "    out.unused = 0;\n");
    cw_printf(w, "    return %s_run(&ctx, &in, &out);\n}\n#endif\n", n);
}

/* ---- messages ---------------------------------------------------------------------------------------------------------------- */
static void message_case(Emit *e, uint32_t code, const char *text) {
    cw_printf(&e->run, "    case %u: return ", code);
    cw_string(&e->run, text, strlen(text));
    cw_printf(&e->run, ";\n");
}

static const char *about(Emit *e, const char *what, const Value *v, const char *problem) {
    Writer t = {.arena = &e->cx->scratch};
    cw_printf(&t, "%s \"%s\": %s ", what, str_text(e->cx, v->name), problem);
    type_print(e->cx, &t, v->type);
    return cw_cstr(&t);
}

/* The nodes of a step that an error can come from: in a kernel of several, those whose indices it checks. */
static void fault_nodes(Emit *e, Writer *w, const StepFault *f, uint32_t kind) {
    const Step *s = f->step;
    bool checked = kind == LATHE_RT_INDEX && s->n_checked != 0;
    uint32_t n = checked ? s->n_checked : 1, shown = n < 4 ? n : 4;
    for (uint32_t i = 0; i < shown; i++) {
        const Node *node = checked ? s->checked[i] : kind == LATHE_RT_SHAPE && f->unequal != NULL ? f->unequal : s->node;
        Loc loc = node != NULL ? node->loc : (Loc){0};
        cw_printf(w, "%s%s \"%s\"", i != 0 ? " or " : "", str_text(e->cx, loc.op), str_text(e->cx, loc.node));
    }
    if (shown < n) cw_printf(w, " or %u others", n - shown);
}

void emit_messages(Emit *e) {
    Writer *w = &e->run;
    const Graph *g = e->m->main;
    static const struct { uint32_t kind; const char *text; } kinds[] = {
        {LATHE_RT_INDEX, "index out of range"}, {LATHE_RT_BOUND, "a size exceeds its bound"}, {LATHE_RT_SHAPE, "sizes that do not fit"}, {LATHE_RT_VALUE, "a value that is not allowed"}};
    cw_printf(w, "const char *%s_error(int code)\n{\n    switch (code) {\n", e->name);
    for (uint32_t i = 0; i < e->n_in; i++) {
        message_case(e, (i + 1) * 16 + LATHE_RT_ARGUMENT, about(e, "input", g->in[i], "null pointer, expected"));
        message_case(e, (i + 1) * 16 + LATHE_RT_SHAPE, about(e, "input", g->in[i], "dims do not fit"));
    }
    for (uint32_t i = 0; i < e->n_out; i++) message_case(e, (e->n_in + i + 1) * 16 + LATHE_RT_ARGUMENT, about(e, "output", g->out[i], "null pointer, expected"));
    for (uint32_t i = 0; i < e->faults.n; i++) {
        const StepFault *f = &e->faults.v[i];
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            Writer t = {.arena = &e->cx->scratch};
            fault_nodes(e, &t, f, kinds[k].kind);
            cw_printf(&t, ": %s", kinds[k].text);
            message_case(e, f->number * 16 + kinds[k].kind, cw_cstr(&t));
        }
    }
    cw_printf(w, "    }\n    switch (code %% 16) {\n");
    static const char *const general[] = {"no error", "null pointer, or an arena that is too small or misaligned", "a dimension is outside its bounds", "index out of range",
                                          "a size exceeds its bound", "the weights belong to another model or are damaged", "a value that is not allowed",
                                          "this machine refuses instructions, or has no vectors of the width, that the code was compiled for"};
    for (uint32_t i = 0; i < sizeof general / sizeof *general; i++) message_case(e, i, general[i]);
    if (emit_is_sharded(e))
        message_case(e, LATHE_RT_PROCESSES, str_text(e->cx, str_format(e->cx, "the communicator has another number of processes than the %u among which the optimizer's state is divided",
                                                                      e->m->options->shard_optimizer)));
    cw_printf(w, "    }\n    return \"unknown error code\";\n}\n\n");
}

void emit_entry(Emit *e) {
    init(e);
    run(e);
    generic_call(e);
    emit_messages(e);
    five_lines(e);
}
