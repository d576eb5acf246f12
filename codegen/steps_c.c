/* Prints NAME_steps: the plan as a list of kernel calls that every thread walks.
 *
 *     k0_conv(in->image, (const float *)(w + 0), (float *)(a + 64), tid, nt);
 *     lathe_barrier(nt);
 *     k1_gather((float *)(a + 64), in->ids, out->y, &err);   code = lathe_first(code, &err, 2);
 *
 * A barrier stands before a step only if the step reads or writes memory that another thread may have written or read
 * since the last barrier. Steps of thread 0 alone need none between them. */
#include "codegen/emit.h"

typedef struct Access {
    BufRef ref;
    uint64_t bytes;
    bool write, shared; /* shared: by all threads; else by thread 0 only */
} Access;

typedef struct Walk {
    Emit *e;
    VEC(Access) pending; /* since the last barrier */
    uint32_t *kernel_index; /* by kernel id */
    uint32_t number;     /* of the step, in program order */
    VEC(const Value *) message; /* exchanges of the function, by number of the request; NULL: waited for */
    bool faulty, ends;   /* the function being printed has a step that can fail; one that jumps to the end then */
    uint32_t entries;    /* bit of the entry that is printed: steps of others are left out */
    Writer *w;
    VEC(DimPair) compared; /* sizes that the run has compared before it comes here */
} Walk;

const BufRef *emit_ref(Emit *e, const Value *v) { return &e->plan->ref[v->id]; }

/* Upper bound of the bytes of a tensor. */
static uint64_t value_bytes(Emit *e, const Value *v) {
    uint64_t bits = dtype_bits(v->type->dtype);
    for (uint32_t i = 0; i < v->type->rank; i++) {
        int64_t hi = dim_hi(e->cx, v->type->dim[i]);
        if (__builtin_mul_overflow(bits, hi < 0 ? 0 : (uint64_t)hi, &bits)) return UINT64_MAX / 4;
    }
    return bits / 8 + 1;
}

static bool overlap(const Access *a, const Access *b) {
    if (a->ref.space != b->ref.space) return false;
    switch (a->ref.space) {
    case SPACE_OUTPUT: return a->ref.index == b->ref.index;
    case SPACE_ARENA: case SPACE_STATE: return a->ref.offset < b->ref.offset + b->bytes && b->ref.offset < a->ref.offset + a->bytes;
    case SPACE_NONE: case SPACE_INPUT: case SPACE_WEIGHT: return false; /* never written */
    }
    return true;
}

static void barrier(Walk *k) {
    if (k->e->any_parallel) cw_line(k->w, "lathe_barrier(%snt);", k->e->pool ? "team, " : ""), k->e->uses_barrier = true;
    k->pending.n = 0;
}

/* Called with all accesses of one step: puts a barrier before it if needed. */
static void order(Walk *k, const Access *access, uint32_t n) {
    bool wait = false;
    for (uint32_t i = 0; i < k->pending.n && !wait; i++) {
        const Access *p = &k->pending.v[i];
        for (uint32_t j = 0; j < n && !wait; j++) {
            const Access *a = &access[j];
            wait = (a->write || p->write) && (a->shared || p->shared) && overlap(a, p);
        }
    }
    if (wait) barrier(k);
    for (uint32_t j = 0; j < n; j++) {
        if (access[j].ref.space != SPACE_ARENA && access[j].ref.space != SPACE_OUTPUT && access[j].ref.space != SPACE_STATE) continue;
        vec_push(&k->e->cx->scratch, &k->pending, access[j]);
    }
}

static Access access_of(Walk *k, const Value *v, bool write, bool shared) {
    return (Access){*emit_ref(k->e, v), value_bytes(k->e, v), write, shared};
}

/* Views may give the same memory another element type. */
static const char *cast_pointer(Emit *e, DType want, DType have, const char *constant, Str text) {
    if (strcmp(dtype_ctype(want), dtype_ctype(have)) == 0) return str_text(e->cx, text);
    return str_text(e->cx, str_format(e->cx, "(%s%s *)%s", constant, dtype_ctype(want), str_text(e->cx, text)));
}

/* The pointer to a value: in->x, out->y, w3_bias, (float *)(a + 128). */
static const char *pointer(Walk *k, const Value *v, DType t, bool write) {
    Emit *e = k->e;
    const BufRef *r = emit_ref(e, v);
    const Graph *g = e->m->main;
    const char *constant = write ? "" : "const ";
    switch (r->space) {
    case SPACE_INPUT: return cast_pointer(e, t, g->in[r->index]->type->dtype, constant, str_format(e->cx, "in->%s", e->in_name[r->index]));
    case SPACE_OUTPUT: return cast_pointer(e, t, g->out[r->index]->type->dtype, constant, str_format(e->cx, "out->%s", e->out_name[r->index]));
    case SPACE_WEIGHT:
        if (e->embed || t == DT_STRING) return cast_pointer(e, t, emit_weight_dtype(e, r->offset), constant, str_intern(e->cx, emit_weight_name(e, r->offset)));
        return str_text(e->cx, str_format(e->cx, "(const %s *)(w + %llu)", dtype_ctype(t), (unsigned long long)r->offset));
    case SPACE_ARENA: {
        bool fast = r->offset < e->plan->fast_bytes;
        return str_text(e->cx, str_format(e->cx, "(%s%s *)(%s + %llu)", constant, dtype_ctype(t), fast ? "f" : "a", (unsigned long long)(fast ? r->offset : r->offset - e->plan->fast_bytes)));
    }
    case SPACE_STATE: return str_text(e->cx, str_format(e->cx, "(%s%s *)(s + %llu)", constant, dtype_ctype(t), (unsigned long long)r->offset));
    case SPACE_NONE: break;
    }
    context_escape(e->cx, "a step uses a value without a place");
}

static StepFault *note_fault(Walk *k, const Step *s) {
    uint32_t number = k->e->n_in + k->e->n_out + k->number + 1; /* smaller ones are inputs and outputs */
    cw_printf(k->w, " code = lathe_first(code, &err, %u);", number);
    StepFault f = {number, s, NULL};
    k->faulty = true;
    for (uint32_t i = 0; i < k->e->faults.n; i++)
        if (k->e->faults.v[i].number == number) return &k->e->faults.v[i]; /* seen in another entry, or in this step before */
    vec_push(&k->e->cx->scratch, &k->e->faults, f);
    return &k->e->faults.v[k->e->faults.n - 1];
}

/* Sizes that inference took to be equal: the first step that relies on it compares them. All threads see the same dims, so
 * all of them end. */
static void compare_sizes(Walk *k, const Step *s, const Node *n) {
    Emit *e = k->e;
    for (uint32_t i = 0; i < n->n_agree; i++) {
        DimPair p = n->agree[i];
        bool known = p.a == p.b;
        for (uint32_t c = 0; c < k->compared.n && !known; c++) known = k->compared.v[c].a == p.a && k->compared.v[c].b == p.b && (k->compared.v[c].broadcast <= p.broadcast);
        if (known) continue;
        vec_push(&e->cx->scratch, &k->compared, p);
        emit_use_dim(e, p.a);
        emit_use_dim(e, p.b);
        const char *a = emit_dim_text(e, p.a, e->dims_slot, 10), *b = emit_dim_text(e, p.b, e->dims_slot, 10);
        if (p.broadcast) cw_open(k->w, "if (%s != %s && %s != 1) {", b, a, b);
        else cw_open(k->w, "if (%s != %s) {", b, a);
        cw_line(k->w, "err |= 1 << %d;", LATHE_RT_SHAPE);
        cw_begin(k->w);
        StepFault *f = note_fault(k, s);
        if (f->unequal == NULL) f->unequal = n;
        cw_printf(k->w, "\n");
        cw_line(k->w, "goto end;");
        cw_close(k->w, "}");
        k->ends = true;
    }
}

static void compare_step_sizes(Walk *k, const Step *s) {
    if (s->node == NULL) return;
    compare_sizes(k, s, s->node);
    if (s->node->op != OP_Fused) return;
    for (const Node *n = attr_at(s->node, AT_Fused_body)->graph->first; n != NULL; n = n->next) compare_sizes(k, s, n);
}

/* A profile sees each call by itself: all threads meet before and behind it. */
static void print_tick(Walk *k, const Step *s, bool ends) {
    if (!k->e->profile) return;
    barrier(k);
    cw_line(k->w, "if (%sctx->tick != NULL) ctx->tick(ctx->tick_user, %uu, %d);", k->e->any_parallel ? "tid == 0 && " : "", s->time, ends);
    if (!ends) barrier(k);
}

static void print_kernel_step(Walk *k, const Step *s) {
    Emit *e = k->e;
    compare_step_sizes(k, s);
    const KernelSignature *sig = &e->signature[k->kernel_index[s->kernel->id]];
    Access *access = ARENA_ARRAY(&e->cx->scratch, Access, s->n_value);
    for (uint32_t i = 0; i < s->n_value; i++) access[i] = access_of(k, s->value[i], s->kernel->buf[i].kind != BUF_IN, sig->parallel);
    order(k, access, s->n_value);
    print_tick(k, s, false);
    Writer *w = k->w;
    cw_begin(w);
    bool guard = !sig->parallel && e->any_parallel;
    if (guard) cw_printf(w, sig->err ? "if (tid == 0) { " : "if (tid == 0) ");
    cw_printf(w, "%s(", sig->name);
    for (uint32_t i = 0; i < s->n_value; i++)
        cw_printf(w, "%s%s", i != 0 ? ", " : "", pointer(k, s->value[i], s->kernel->buf[i].dtype, s->kernel->buf[i].kind != BUF_IN));
    const char *comma = s->n_value != 0 ? ", " : "";
    if (sig->dims) cw_printf(w, "%sdims", comma), comma = ", ";
    if (sig->parallel) cw_printf(w, "%stid, nt%s", comma, e->pool ? ", team" : ""), comma = ", ";
    if (sig->err) cw_printf(w, "%s&err", comma);
    cw_printf(w, ");");
    if (sig->err) note_fault(k, s);
    cw_printf(w, guard && sig->err ? " }\n" : "\n");
    print_tick(k, s, true);
}

/* dims[symbol] = value, on one thread. Beyond its bounds the step fails, and the run ends for all threads: kernels behind it
 * could not rely on sizes that belong together. The slot behind the symbols' says so. */
static void set_symbol(Walk *k, const Step *s, const char *value) {
    Emit *e = k->e;
    const DimNode *n = dim_node(e->cx, s->symbol);
    barrier(k); /* every thread reads dims */
    if (e->any_parallel) cw_open(k->w, "if (tid == 0) {");
    cw_line(k->w, "dims[%u] = lathe_bound(%s, %lld, %lld, &err);", n->symbol, value, (long long)n->lo, (long long)n->hi);
    emit_check_run_sizes(e, k->w, n->symbol);
    cw_begin(k->w);
    note_fault(k, s);
    cw_printf(k->w, "\n");
    if (e->any_parallel) cw_line(k->w, "dims[%u] = code;", dim_symbol_count(e->cx));
    if (e->any_parallel) cw_close(k->w, "}");
    e->uses_bound = k->ends = true;
    barrier(k);
    if (e->any_parallel) cw_line(k->w, "if (dims[%u] != 0) goto end;", dim_symbol_count(e->cx));
    else cw_line(k->w, "if (code != 0) goto end;");
}

static void print_dim_step(Walk *k, const Step *s) {
    set_symbol(k, s, str_text(k->e->cx, str_format(k->e->cx, "*%s", pointer(k, s->value[0], DT_I64, false))));
}

static void print_let_step(Walk *k, const Step *s) { set_symbol(k, s, emit_dim_text(k->e, s->dim, k->e->dims_slot, 0)); }

static void print_copy_step(Walk *k, const Step *s) {
    Emit *e = k->e;
    const Type *t = s->value[0]->type;
    Access access[2] = {access_of(k, s->value[0], false, false), access_of(k, s->value[1], true, false)};
    order(k, access, 2);
    Writer n = {.arena = &e->cx->scratch}, some = {.arena = &e->cx->scratch};
    uint32_t bits = dtype_bits(t->dtype);
    const char *numel = emit_dim_text(e, type_numel(e->cx, t), e->dims_slot, 12);
    if (dim_lo(e->cx, type_numel(e->cx, t)) < 1) { /* no elements, perhaps no memory: nothing for memcpy */
        cw_printf(&some, "if (%s%s > 0) ", e->any_parallel ? "tid == 0 && " : "", numel);
    } else if (e->any_parallel) {
        cw_printf(&some, "if (tid == 0) ");
    }
    if (bits >= 8) cw_printf(&n, "(size_t)(%s) * %u", numel, bits / 8);
    else cw_printf(&n, "(size_t)((%s + %u) / %u)", numel, 8 / bits - 1, 8 / bits);
    cw_line(k->w, "%smemcpy(%s, %s, %s);", cw_cstr(&some), pointer(k, s->value[1], t->dtype, true),
            pointer(k, s->value[0], t->dtype, false), cw_cstr(&n));
}

static void print_steps(Walk *k, const Step *s);

static void print_if_step(Walk *k, const Step *s) {
    Access c = access_of(k, s->value[0], false, true);
    uint32_t number = k->number++;
    order(k, &c, 1);
    cw_open(k->w, "{"); /* C++ allows no goto past a declaration into its scope */
    cw_line(k->w, "const int taken%u = *%s != 0;", number, pointer(k, s->value[0], DT_BOOL, false));
    barrier(k); /* every thread has read the condition before anything in the branches, or behind them, may overwrite it */
    cw_open(k->w, "if (taken%u) {", number);
    print_steps(k, s->body);
    if (s->orelse != NULL) {
        barrier(k);
        k->w->indent--;
        cw_open(k->w, "} else {");
        print_steps(k, s->orelse);
    }
    barrier(k);
    cw_close(k->w, "}");
    cw_close(k->w, "}");
}

static void print_loop_step(Walk *k, const Step *s) {
    Emit *e = k->e;
    Str i = str_format(e->cx, "i%u", k->number);
    const char *v = str_text(e->cx, i);
    barrier(k);
    cw_open(k->w, "for (int64_t %s = 0;; %s++) {", v, v);
    if (s->n_value > 2 && s->value[2] != NULL) cw_line(k->w, "%s*%s = %s;", e->any_parallel ? "if (tid == 0) " : "", pointer(k, s->value[2], DT_I64, true), v);
    cw_begin(k->w);
    cw_printf(k->w, "if (");
    if (s->value[0] != NULL) cw_printf(k->w, "%s >= *%s", v, pointer(k, s->value[0], DT_I64, false));
    if (s->value[0] != NULL && s->value[1] != NULL) cw_printf(k->w, " || ");
    if (s->value[1] != NULL) cw_printf(k->w, "!*%s", pointer(k, s->value[1], DT_BOOL, false));
    if (s->value[0] == NULL && s->value[1] == NULL) cw_printf(k->w, "0");
    cw_printf(k->w, ") break;\n");
    if (s->symbol != 0 && dim_hi(e->cx, s->symbol) != INT64_MAX) { /* more iterations than the outputs have room for */
        cw_open(k->w, "if (%s >= %lld) {", v, (long long)dim_hi(e->cx, s->symbol));
        cw_line(k->w, "err |= 1 << %d;", LATHE_RT_BOUND);
        cw_begin(k->w);
        note_fault(k, s);
        cw_printf(k->w, "\n");
        cw_line(k->w, "break;");
        cw_close(k->w, "}");
    }
    barrier(k);
    k->number++;
    print_steps(k, s->body);
    barrier(k);
    cw_close(k->w, "}");
    barrier(k);
}

static void publish_fault(Walk *k) {
    Writer *w = k->w;
    k->faulty = true;
    cw_line(w, "if (code != 0) {");
    emit_critical(k->e, w, true);
    cw_line(w, "    if (*status == 0 || code < *status) *status = code;");
    emit_critical(k->e, w, false);
    cw_line(w, "}");
    barrier(k);
}

/* ---- several processes ---- */
static void print_exchange_step(Walk *k, const Step *s) {
    Emit *e = k->e;
    const Value *v = s->value[s->n_value - 1], *from = s->value[0];
    Access a[2] = {access_of(k, v, true, false), access_of(k, from, false, false)};
    const char *p = pointer(k, v, v->type->dtype, true), *guard = e->any_parallel ? "if (tid == 0) " : "", *type = v->type->dtype == DT_F64 ? "MPI_DOUBLE" : "MPI_FLOAT";
    long long n = (long long)dim_value(e->cx, type_numel(e->cx, v->type));
    uint32_t request = k->message.n;
    order(k, a, s->n_value);
    if (s->node->op == OP_AllGatherStart) {
        long long part = n / (long long)attr_i(s->node, AT_AllGatherStart_processes);
        cw_line(k->w, "%sMPI_Iallgather(%s, %lld, %s, %s, %lld, %s, ctx->comm, &request[%u]);", guard, pointer(k, from, v->type->dtype, false), part, type, p, part, type, request);
    } else if (s->node->op == OP_ReduceScatterStart) {
        long long part = n / (long long)attr_i(s->node, AT_ReduceScatterStart_processes);
        cw_line(k->w, "%sMPI_Ireduce_scatter_block(MPI_IN_PLACE, %s, %lld, %s, MPI_SUM, ctx->comm, &request[%u]);", guard, p, part, type, request);
    } else {
        if (attr_i(s->node, AT_AllReduceStart_nan_on_failure) != 0) {
            publish_fault(k);
            cw_line(k->w, "if (%s*status != 0) *%s = NAN; /* the others must not go on, either */", e->any_parallel ? "tid == 0 && " : "", p);
        }
        cw_line(k->w, "%sMPI_Iallreduce(MPI_IN_PLACE, %s, %lld, %s, MPI_SUM, ctx->comm, &request[%u]);", guard, p, n, type, request);
    }
    vec_push(&e->cx->scratch, &k->message, v);
}

static void print_wait(Walk *k, uint32_t request) {
    cw_line(k->w, "%sMPI_Wait(&request[%u], MPI_STATUS_IGNORE);", k->e->any_parallel ? "if (tid == 0) " : "", request);
}

static void print_arrive_step(Walk *k, const Step *s) {
    const BufRef *place = emit_ref(k->e, s->value[0]);
    for (uint32_t i = 0; i < s->n_value; i++) { /* what is sent is read until now */
        Access a = access_of(k, s->value[i], i == 0, false);
        order(k, &a, 1);
    }
    for (uint32_t i = 0; i < k->message.n; i++) {
        const BufRef *r = k->message.v[i] != NULL ? emit_ref(k->e, k->message.v[i]) : NULL;
        if (r == NULL || r->space != place->space || r->offset != place->offset) continue;
        print_wait(k, i);
        k->message.v[i] = NULL;
    }
}

/* What failed so far on any thread ends the call here, on all of them. */
static void print_gate_step(Walk *k) {
    Writer *w = k->w;
    cw_open(w, "{");
    publish_fault(k);
    cw_line(w, "const int stop = *status;");
    barrier(k);
    cw_open(w, "if (stop != 0) {");
    for (uint32_t i = 0; i < k->message.n; i++)
        if (k->message.v[i] != NULL) print_wait(k, i);
    cw_line(w, "return;");
    cw_close(w, "}");
    cw_close(w, "}");
}

static uint32_t count_steps(const Step *s) {
    uint32_t n = 0;
    for (; s != NULL; s = s->next) n += 1 + (s->kind == STEP_IF || s->kind == STEP_LOOP) + count_steps(s->body) + count_steps(s->orelse);
    return n;
}

static void print_steps(Walk *k, const Step *s) {
    uint32_t n_compared = k->compared.n; /* what is compared in a branch or a loop's body is not behind it */
    for (; s != NULL; s = s->next) {
        if (k->entries != 0 && !(s->entries & k->entries)) {
            k->number += 1 + (s->kind == STEP_IF || s->kind == STEP_LOOP) + count_steps(s->body) + count_steps(s->orelse);
            continue;
        }
        switch (s->kind) {
        case STEP_KERNEL: print_kernel_step(k, s); break;
        case STEP_DIM: print_dim_step(k, s); break;
        case STEP_LET: print_let_step(k, s); break;
        case STEP_COPY: print_copy_step(k, s); break;
        case STEP_GATE: print_gate_step(k); break;
        case STEP_EXCHANGE: print_exchange_step(k, s); break;
        case STEP_ARRIVE: print_arrive_step(k, s); break;
        case STEP_IF: case STEP_LOOP: {
            uint32_t outer = k->entries;
            k->entries = 0; /* regions belong to the step */
            if (s->kind == STEP_IF) print_if_step(k, s);
            else print_loop_step(k, s);
            k->entries = outer;
            break;
        }
        }
        k->number++;
    }
    k->compared.n = n_compared;
}

const char *emit_steps_name(Emit *e, uint32_t entry) {
    if (!e->trains) return str_text(e->cx, str_format(e->cx, "%s_steps", e->name));
    return str_text(e->cx, str_format(e->cx, "%s_%s_steps", e->name, str_text(e->cx, e->m->entry[entry].name)));
}

static void helpers(Emit *e, Writer *w, bool faults) {
    if (faults) {
        cw_printf(w, "/* The code of the first step that failed; its fault bits are taken and cleared. */\n");
        cw_printf(w, "static int lathe_first(int code, int *err, int step)\n{\n    int kind = 0;\n    for (int bit = 1; bit < 15 && kind == 0; bit++)\n"
                     "        if (*err >> bit & 1) kind = bit;\n    *err = 0;\n    return code != 0 || kind == 0 ? code : step * 16 + kind;\n}\n\n");
    }
    if (e->uses_bound)
        cw_printf(w, "static int64_t lathe_bound(int64_t n, int64_t lo, int64_t hi, int *err)\n{\n    if (n >= lo && n <= hi) return n;\n    *err |= 1 << %d;\n"
                     "    return n < lo ? lo : hi;\n}\n\n", LATHE_RT_BOUND);
}

static void steps_function(Emit *e, Writer *w, uint32_t entry, const Writer *body, bool faults, bool ends, uint32_t messages) {
    cw_printf(w, "static void %s(const %s_ctx *ctx, const %s_inputs *in, const %s_outputs *out, int64_t *dims, int tid, int nt, int *status%s)\n{\n",
              emit_steps_name(e, entry), e->name, e->name, e->name, e->pool && e->any_parallel ? ", lathe_team *team" : "");
    cw_printf(w, "    unsigned char *const a = (unsigned char *)ctx->arena;\n");
    if (e->plan->fast_bytes != 0) cw_printf(w, "    unsigned char *const f = (unsigned char *)ctx->fast;\n");
    if (e->trains) cw_printf(w, "    unsigned char *const s = (unsigned char *)ctx->state;\n");
    if (!e->embed && e->weight_bytes != 0) cw_printf(w, "    const unsigned char *const w = (const unsigned char *)ctx->weights;\n");
    if (faults) cw_printf(w, "    int err = 0, code = 0;\n");
    if (messages != 0) cw_printf(w, "    MPI_Request request[%u]; /* thread 0's */\n", messages);
    cw_printf(w, "    (void)a, (void)in, (void)out, (void)dims, (void)tid, (void)nt, (void)status;\n");
    if (e->pool && e->any_parallel) cw_printf(w, "    (void)team;\n");
    if (messages != 0) cw_printf(w, "    (void)request;\n");
    if (e->trains) cw_printf(w, "    (void)s%s;\n", !e->embed && e->weight_bytes != 0 ? ", (void)w" : "");
    cw_text(w, body->text != NULL ? body->text : "", body->n);
    if (ends) cw_printf(w, "end:\n");
    if (faults) {
        cw_printf(w, "    if (code != 0) {\n");
        emit_critical(e, w, true);
        cw_printf(w, "        if (*status == 0 || code < *status) *status = code;\n");
        emit_critical(e, w, false);
        cw_printf(w, "    }\n");
    }
    cw_printf(w, "}\n\n");
    if (e->pool && e->any_parallel && e->n_version == 1) emit_task(e, w, emit_steps_name(e, entry));
}

void emit_steps(Emit *e) {
    emit_collect_sizes(e);
    emit_mark_sizes(e);
    Walk k = {.e = e};
    uint32_t max_id = 0, n_entry = e->trains ? e->m->n_entry : 1;
    for (uint32_t i = 0; i < e->plan->n_kernel; i++)
        if (e->plan->kernel[i]->id > max_id) max_id = e->plan->kernel[i]->id;
    k.kernel_index = ARENA_ARRAY(&e->cx->scratch, uint32_t, max_id + 1);
    for (uint32_t i = 0; i < e->plan->n_kernel; i++) k.kernel_index[e->plan->kernel[i]->id] = i;
    Writer functions = {.arena = &e->cx->scratch};
    bool faults = false;
    e->uses_bound = false;
    for (uint32_t i = 0; i < n_entry; i++) {
        if (e->trains && e->m->entry[i].calls != NULL) continue;
        Writer body = {.arena = &e->cx->scratch, .indent = 1};
        k.w = &body;
        k.number = e->first_step;
        k.pending.n = 0;
        k.faulty = k.ends = false;
        k.message.n = 0;
        k.entries = e->trains ? 1u << i : 0;
        print_steps(&k, e->plan->first);
        faults |= k.faulty;
        steps_function(e, &functions, i, &body, k.faulty, k.ends, k.message.n);
    }
    helpers(e, &e->run, faults);
    cw_text(&e->run, functions.text != NULL ? functions.text : "", functions.n);
}
