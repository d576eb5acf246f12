/* Prints what a module that trains has instead of NAME_run: NAME_init with a state and a seed, one function for each entry
 * (NAME_predict, NAME_train_step …), NAME_save and NAME_load.
 *
 * A checkpoint is a safetensors file (a JSON header, then the tensors one after the other). Everything in the header but a
 * checksum of the data is known here, so saving is writing constants and the state; loading compares the header byte by
 * byte and reads all of the data once for the checksum before it changes anything. */
#include "codegen/emit.h"

/* ---- names and sizes ------------------------------------------------------------------------------------------------------ */
static const char *entry_name(Emit *e, uint32_t i) { return str_text(e->cx, e->m->entry[i].name); }

static uint64_t state_bytes(Emit *e, uint32_t i) {
    const Type *t = state_in(e->m, i)->type;
    return dtype_bytes(e->cx, t->dtype, dim_value(e->cx, type_numel(e->cx, t)));
}

static const char *dtype_name(DType d) { /* of safetensors */
    switch (d) {
    case DT_F32: return "F32";
    case DT_F64: return "F64";
    case DT_F16: return "F16";
    case DT_BF16: return "BF16";
    case DT_I64: return "I64";
    case DT_I32: return "I32";
    default: return "U8";
    }
}

static void json_string(Writer *w, const char *text) {
    cw_printf(w, "\"");
    for (; *text != 0; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') cw_printf(w, "\\%c", c);
        else if (c < 0x20) cw_printf(w, "\\u%04x", c);
        else cw_text(w, text, 1);
    }
    cw_printf(w, "\"");
}

static const char json_start[] = "{\"__metadata__\":{\"format\":\"lathe\",\"checksum\":\"";

/* What follows the checksum's sixteen digits, padded so that the header is a multiple of eight bytes. */
static Writer json_rest(Emit *e) {
    Writer w = {.arena = &e->cx->scratch};
    uint64_t at = 0;
    cw_printf(&w, "\"");
    if (emit_is_sharded(e)) cw_printf(&w, ",\"processes\":\"%u\"", e->m->options->shard_optimizer);
    cw_printf(&w, "}");
    for (uint32_t i = 0; i < e->m->n_state; i++) {
        const Type *t = state_in(e->m, i)->type;
        uint64_t bytes = state_bytes(e, i);
        cw_printf(&w, ",");
        json_string(&w, str_text(e->cx, e->m->state[i].name));
        cw_printf(&w, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(t->dtype));
        for (uint32_t d = 0; d < t->rank; d++) cw_printf(&w, "%s%lld", d != 0 ? "," : "", (long long)dim_value(e->cx, t->dim[d]));
        cw_printf(&w, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)(at + bytes));
        at += bytes;
    }
    cw_printf(&w, "}");
    while ((sizeof json_start - 1 + 16 + w.n) % 8 != 0) cw_printf(&w, " ");
    return w;
}

bool emit_is_distributed(const Emit *e) { return e->trains && e->m->options != NULL && e->m->options->distributed == LATHE_MPI; }
bool emit_is_sharded(const Emit *e) { return emit_is_distributed(e) && e->m->options->shard_optimizer != 0; }

/* ---- the header ----------------------------------------------------------------------------------------------------------- */
void emit_train_functions(Emit *e, Writer *h) {
    const char *n = e->name, *up = e->upper;
    bool external = e->weights == LATHE_WEIGHTS_FILE;
    cw_printf(h, "/* The tensors of the state, in the order of a checkpoint. dtype: ONNX's number. */\n");
    cw_printf(h, "#define %s_TENSORS %u\n", up, e->m->n_state);
    cw_printf(h, "typedef struct %s_tensor {\n    const char *name;\n    size_t offset, bytes; /* in the state */\n    int dtype, rank;\n    int64_t dim[8];\n} %s_tensor;\n", n, n);
    cw_printf(h, "extern const %s_tensor %s_tensors[%s_TENSORS];\n\n", n, n, up);
    cw_printf(h, "/* Fills ctx and sets the state to its first values: parameters by seed, everything else to 0. arena: at least %s_ARENA_BYTES,\n"
                 " * state: at least %s_STATE_BYTES, both aligned to %s_ALIGN and kept as long as ctx. ", up, up, up);
    cw_printf(h, external ? "weights: the contents of the model's .bin file. */\n" : "weights: NULL, they are part of the program. */\n");
    cw_printf(h, "int %s_init(%s_ctx *ctx, void *arena, size_t arena_bytes, void *state, size_t state_bytes, const void *weights, size_t weight_bytes, uint64_t seed);\n\n", n, n);
    for (uint32_t i = 0; i < e->m->n_entry; i++) {
        const Entry *entry = &e->m->entry[i];
        cw_printf(h, "/* %s */\nint %s_%s(%s_ctx *ctx, const %s_inputs *in, const %s_outputs *out);\n\n", entry->purpose, n, entry_name(e, i), n, n, n);
    }
    cw_printf(h, "/* Checkpoints: the whole state as a safetensors file, through the caller's functions; they return 0 when all n bytes were\n"
                 " * written or read. A file that is cut off, damaged or of another model is %s_ERROR_WEIGHTS; the state stays as it was. */\n", up);
    if (emit_is_sharded(e))
        cw_printf(h, "/* Every process saves its own state, into a file of its own, and loads that one: another process's is refused. */\n");
    cw_printf(h, "typedef int (*%s_write)(void *user, const void *bytes, size_t n);                 /* one after the other */\n", n);
    cw_printf(h, "typedef int (*%s_read)(void *user, uint64_t offset, void *bytes, size_t n);       /* from anywhere, more than once */\n", n);
    cw_printf(h, "int %s_save(const %s_ctx *ctx, %s_write write, void *user);\nint %s_load(%s_ctx *ctx, %s_read read, void *user);\n\n", n, n, n, n, n, n);
    if (emit_is_distributed(e)) {
        cw_printf(h, "/* The state of process 0%s becomes everyone's; %s_init does it, too. All processes of ctx->comm call it, as they do all functions that\n"
                     " * train: MPI_Init_thread with MPI_THREAD_FUNNELED comes first, and only the thread that calls uses MPI. */\nint %s_broadcast(%s_ctx *ctx);\n\n",
                  emit_is_sharded(e) ? ", without its part of what the optimizer keeps," : "", n, n, n);
    }
    cw_printf(h, "/* What a returned code means; never NULL. */\nconst char *%s_error(int code);\n\n", n);
}

/* ---- NAME_init ------------------------------------------------------------------------------------------------------------ */
static const char *weight_text(Emit *e, const Value *v) {
    uint64_t offset = emit_ref(e, v)->offset;
    if (e->embed) return emit_weight_name(e, offset);
    return str_text(e->cx, str_format(e->cx, "(const unsigned char *)ctx->weights + %llu", (unsigned long long)offset));
}

/* A random stream per parameter, from its name: FNV-1a. */
static uint64_t stream_of(const char *name) {
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name != 0; name++) h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

static void call_init(Emit *e, uint32_t i, const char *function, double a, double b) {
    const Type *t = state_in(e->m, i)->type;
    emit_need(e, function);
    cw_printf(&e->run, "    %s((float *)(s + %llu), %lld, %.17g, %.17g, seed, 0x%llXu);\n", function, (unsigned long long)e->m->state[i].offset,
              (long long)dim_value(e->cx, type_numel(e->cx, t)), a, b, (unsigned long long)stream_of(str_text(e->cx, e->m->state[i].name)));
}

static void first_values(Emit *e, uint32_t i) {
    Writer *w = &e->run;
    const State *s = &e->m->state[i];
    const Type *t = state_in(e->m, i)->type;
    unsigned long long at = s->offset;
    if (s->same_as != 0) {
        cw_printf(w, "    memcpy(s + %llu, s + %llu, %llu);\n", at, (unsigned long long)e->m->state[s->same_as - 1].offset, (unsigned long long)state_bytes(e, i));
        return;
    }
    if (s->first != NULL) {
        cw_printf(w, "    memcpy(s + %llu, %s, %llu);\n", at, weight_text(e, s->first), (unsigned long long)state_bytes(e, i));
        return;
    }
    int64_t shape[RANK_MAX];
    for (uint32_t d = 0; d < t->rank; d++) shape[d] = dim_value(e->cx, t->dim[d]);
    LatheInit r = init_resolve(s->init, t->rank, shape);
    switch (r.kind) {
    case LATHE_INIT_NORMAL: call_init(e, i, "lathe_init_normal", r.a, r.b); break;
    case LATHE_INIT_UNIFORM: call_init(e, i, "lathe_init_uniform", r.a, r.b); break;
    case LATHE_INIT_TRUNCATED: call_init(e, i, "lathe_init_truncated", r.a, r.b); break;
    case LATHE_INIT_ORTHOGONAL:
        call_init(e, i, "lathe_init_normal", 0, 1);
        emit_need(e, "lathe_init_orthogonal");
        cw_printf(w, "    lathe_init_orthogonal((float *)(s + %llu), %lld, %lld, %.17g);\n", at, (long long)(t->rank > 0 ? shape[0] : 1),
                  (long long)(dim_value(e->cx, type_numel(e->cx, t)) / (t->rank > 0 && shape[0] != 0 ? shape[0] : 1)), r.a);
        break;
    case LATHE_INIT_DEFAULT: case LATHE_INIT_CONSTANT: case LATHE_INIT_GLOROT_UNIFORM: case LATHE_INIT_GLOROT_NORMAL: case LATHE_INIT_KAIMING_UNIFORM:
    case LATHE_INIT_KAIMING_NORMAL:
        if (r.a == 0) break; /* all of the state is 0 to begin with */
        emit_need(e, "lathe_init_constant");
        cw_printf(w, "    lathe_init_constant((float *)(s + %llu), %lld, %.17g);\n", at, (long long)dim_value(e->cx, type_numel(e->cx, t)), r.a);
        break;
    }
}

static void init(Emit *e) {
    Writer *w = &e->run;
    const char *n = e->name, *up = e->upper;
    emit_checksum(e);
    cw_printf(w, "int %s_init(%s_ctx *ctx, void *arena, size_t arena_bytes, void *state, size_t state_bytes, const void *weights, size_t weight_bytes, uint64_t seed)\n{\n", n, n);
    cw_printf(w, "    if (ctx == NULL || state == NULL || state_bytes < %s_STATE_BYTES || (uintptr_t)state %% %s_ALIGN != 0) return %s_ERROR_ARGUMENT;\n", up, up, up);
    emit_bind_memory(e);
    cw_printf(w, "    ctx->state = state;\n    unsigned char *const s = (unsigned char *)state;\n    (void)seed;\n    memset(s, 0, %s_STATE_BYTES);\n", up);
    for (uint32_t i = 0; i < e->m->n_state; i++) {
        if (e->m->state[i].role == STATE_RANDOM)
            cw_printf(w, "    const int64_t first = (int64_t)(seed %% 0x3FFFFFFFFFFFFFFFu);\n    memcpy(s + %llu, &first, 8);\n", (unsigned long long)e->m->state[i].offset);
        else first_values(e, i);
    }
    if (emit_is_distributed(e)) {
        cw_printf(w, "    ctx->comm = MPI_COMM_WORLD;\n    return %s_broadcast(ctx);\n}\n\n", n);
        return;
    }
    cw_printf(w, "    return %s_OK;\n}\n\n", up);
}

/* With a divided state: which tensors of it are this process's own, and NAME_process. */
static void own_parts(Emit *e) {
    Writer *w = &e->run;
    if (!emit_is_sharded(e)) return;
    cw_printf(w, "static const unsigned char own_part[%s_TENSORS] = {", e->upper);
    for (uint32_t i = 0; i < e->m->n_state; i++) cw_printf(w, i % 40 == 0 ? "%s\n    %d" : "%s%d", i == 0 ? "" : ",", e->m->state[i].own);
    cw_printf(w, "\n};\n\n/* The number of this process, if as many take part as the code was compiled for. */\nstatic int %s_process(const %s_ctx *ctx, int *rank)\n{\n", e->name, e->name);
    cw_printf(w, "    int n = 0;\n    MPI_Comm_rank(ctx->comm, rank);\n    MPI_Comm_size(ctx->comm, &n);\n    return n == %s_PROCESSES ? %s_OK : %s_ERROR_PROCESSES;\n}\n\n",
              e->upper, e->upper, e->upper);
}

static void broadcast(Emit *e) {
    Writer *w = &e->run;
    if (!emit_is_distributed(e)) return;
    cw_printf(w, "int %s_broadcast(%s_ctx *ctx)\n{\n    if (ctx == NULL || ctx->state == NULL) return %s_ERROR_ARGUMENT;\n", e->name, e->name, e->upper);
    if (emit_is_sharded(e)) cw_printf(w, "    int rank = 0;\n    if (%s_process(ctx, &rank) != %s_OK) return %s_ERROR_PROCESSES;\n", e->name, e->upper, e->upper);
    cw_printf(w, "    for (int i = 0; i < %s_TENSORS; i++)\n        if (%sMPI_Bcast((unsigned char *)ctx->state + %s_tensors[i].offset, (int)%s_tensors[i].bytes, MPI_BYTE, 0, ctx->comm) != MPI_SUCCESS) return %s_ERROR_VALUE;\n",
              e->upper, emit_is_sharded(e) ? "!own_part[i] && " : "", e->name, e->name, e->upper);
    cw_printf(w, "    return %s_OK;\n}\n\n", e->upper);
}

/* ---- checkpoints ---------------------------------------------------------------------------------------------------------- */
static void tensor_table(Emit *e) {
    Writer *w = &e->run;
    cw_printf(w, "const %s_tensor %s_tensors[%s_TENSORS] = {\n", e->name, e->name, e->upper);
    for (uint32_t i = 0; i < e->m->n_state; i++) {
        const Type *t = state_in(e->m, i)->type;
        const char *name = str_text(e->cx, e->m->state[i].name);
        cw_printf(w, "    {");
        cw_string(w, name, strlen(name));
        cw_printf(w, ", %llu, %llu, %d, %u, {", (unsigned long long)e->m->state[i].offset, (unsigned long long)state_bytes(e, i), dtype_to_onnx(t->dtype), t->rank);
        for (uint32_t d = 0; d < 8; d++) cw_printf(w, "%s%lld", d != 0 ? ", " : "", d < t->rank ? (long long)dim_value(e->cx, t->dim[d]) : 0);
        cw_printf(w, "}},\n");
    }
    cw_printf(w, "};\n\n");
}

/* The header as an array of bytes: a string literal may be too long for a compiler. */
static void byte_array(Writer *w, const char *name, const char *bytes, size_t n) {
    cw_printf(w, "static const unsigned char %s[%zu] = {", name, n);
    for (size_t i = 0; i < n; i++) cw_printf(w, i % 24 == 0 ? "%s\n    %u" : "%s%u", i == 0 ? "" : ",", (unsigned char)bytes[i]);
    cw_printf(w, "\n};\n");
}

/* The checksum depends on which process the state is of. */
static void add_process(Emit *e) {
    if (!emit_is_sharded(e)) return;
    cw_printf(&e->run, "    int rank = 0;\n    if (%s_process(ctx, &rank) != %s_OK) return %s_ERROR_PROCESSES;\n    sum += (uint64_t)rank;\n", e->name, e->upper, e->upper);
}

static void checkpoint(Emit *e) {
    Writer *w = &e->run, rest = json_rest(e);
    const char *n = e->name, *up = e->upper;
    size_t start = sizeof json_start - 1, size = start + 16 + rest.n;
    byte_array(w, "json_start", json_start, start);
    byte_array(w, "json_rest", rest.text, rest.n);
    emit_need(e, "lathe_checkpoint_sum");
    emit_need(e, "lathe_checkpoint_hex");
    cw_printf(w, "\nint %s_save(const %s_ctx *ctx, %s_write write, void *user)\n{\n", n, n, n);
    cw_printf(w, "    if (ctx == NULL || ctx->state == NULL || write == NULL) return %s_ERROR_ARGUMENT;\n", up);
    cw_printf(w, "    const unsigned char *const s = (const unsigned char *)ctx->state;\n    unsigned char size[8], digits[16];\n    uint64_t sum = 1;\n");
    add_process(e);
    cw_printf(w, "    for (int i = 0; i < 8; i++) size[i] = (unsigned char)((uint64_t)%zu >> 8 * i);\n", size);
    cw_printf(w, "    for (int i = 0; i < %s_TENSORS; i++) sum = lathe_checkpoint_sum(sum, s + %s_tensors[i].offset, %s_tensors[i].bytes);\n", up, n, n);
    cw_printf(w, "    lathe_checkpoint_hex(digits, sum);\n    if (write(user, size, 8) != 0 || write(user, json_start, sizeof json_start) != 0 || write(user, digits, 16) != 0) return %s_ERROR_WEIGHTS;\n", up);
    cw_printf(w, "    if (write(user, json_rest, sizeof json_rest) != 0) return %s_ERROR_WEIGHTS;\n", up);
    cw_printf(w, "    for (int i = 0; i < %s_TENSORS; i++)\n        if (write(user, s + %s_tensors[i].offset, %s_tensors[i].bytes) != 0) return %s_ERROR_WEIGHTS;\n    return %s_OK;\n}\n\n", up, n, n, up, up);
    cw_printf(w, "int %s_load(%s_ctx *ctx, %s_read read, void *user)\n{\n", n, n, n);
    cw_printf(w, "    if (ctx == NULL || ctx->state == NULL || read == NULL) return %s_ERROR_ARGUMENT;\n", up);
    cw_printf(w, "    unsigned char *const s = (unsigned char *)ctx->state;\n    unsigned char part[4096], digits[16], wanted[16];\n    uint64_t at = 0, sum = 1;\n");
    add_process(e);
    cw_printf(w, "    if (read(user, 0, part, 8) != 0) return %s_ERROR_WEIGHTS;\n    for (int i = 0; i < 8; i++)\n        if (part[i] != (unsigned char)((uint64_t)%zu >> 8 * i)) return %s_ERROR_WEIGHTS;\n", up, size, up);
    cw_printf(w, "    for (at = 0; at < %zu;) { /* the header, but for the checksum */\n        const size_t n = %zu - at < sizeof part ? (size_t)(%zu - at) : sizeof part;\n", size, size, size);
    cw_printf(w, "        if (read(user, 8 + at, part, n) != 0) return %s_ERROR_WEIGHTS;\n        for (size_t k = 0; k < n; k++, at++) {\n", up);
    cw_printf(w, "            if (at >= %zu && at < %zu) wanted[at - %zu] = part[k];\n            else if (part[k] != (at < %zu ? json_start[at] : json_rest[at - %zu])) return %s_ERROR_WEIGHTS;\n        }\n    }\n",
              start, start + 16, start, start, start + 16, up);
    cw_printf(w, "    for (int i = 0; i < %s_TENSORS; i++) {\n        for (size_t done = 0; done < %s_tensors[i].bytes;) {\n            const size_t left = %s_tensors[i].bytes - done, n = left < sizeof part ? left : sizeof part;\n", up, n, n);
    cw_printf(w, "            if (read(user, 8 + at, part, n) != 0) return %s_ERROR_WEIGHTS;\n            sum = lathe_checkpoint_sum(sum, part, n);\n            done += n;\n            at += n;\n        }\n    }\n", up);
    cw_printf(w, "    lathe_checkpoint_hex(digits, sum);\n    if (memcmp(digits, wanted, 16) != 0) return %s_ERROR_WEIGHTS;\n", up);
    cw_printf(w, "    at = %zu;\n    for (int i = 0; i < %s_TENSORS; i++) {\n        if (read(user, at, s + %s_tensors[i].offset, %s_tensors[i].bytes) != 0) return %s_ERROR_WEIGHTS;\n        at += %s_tensors[i].bytes;\n    }\n    return %s_OK;\n}\n\n",
              size + 8, up, n, n, up, n, up);
}

/* ---- entries -------------------------------------------------------------------------------------------------------------- */
static void entry(Emit *e, uint32_t i) {
    Writer *w = &e->run;
    const Entry *entry = &e->m->entry[i];
    const char *n = e->name, *up = e->upper;
    cw_printf(w, "int %s_%s(%s_ctx *ctx, const %s_inputs *in, const %s_outputs *out)\n{\n", n, entry_name(e, i), n, n, n);
    if (entry->calls == NULL) {
        emit_call_body(e, emit_steps_name(e, i), 1u << i);
        cw_printf(w, "    return status;\n}\n\n");
        return;
    }
    cw_printf(w, "    int code = %s_OK;\n", up);
    for (uint32_t k = 0; k < entry->n_calls; k++) {
        if (k + 1 == entry->n_calls && entry->every > 1)
            cw_printf(w, "    if (code == %s_OK && *(const int64_t *)((const unsigned char *)ctx->state + %llu) < %u) return code; /* more batches for this step */\n", up,
                      (unsigned long long)e->m->state[entry->batches].offset, entry->every);
        cw_printf(w, "    if (code == %s_OK) code = %s_%s(ctx, in, out);\n", up, n, entry_name(e, entry->calls[k]));
    }
    cw_printf(w, "    return code;\n}\n\n");
}

static void random_key(Emit *e) {
    if (e->m->run_number == 0) return;
    for (uint32_t i = 0; i < e->m->n_state; i++)
        if (e->m->state[i].role == STATE_RANDOM)
            cw_printf(&e->run, "static int64_t *%s_random(const %s_ctx *ctx)\n{\n    return (int64_t *)((unsigned char *)ctx->state + %llu);\n}\n\n", e->name, e->name,
                      (unsigned long long)e->m->state[i].offset);
}

void emit_train_entry(Emit *e) {
    own_parts(e);
    broadcast(e);
    init(e);
    random_key(e);
    for (uint32_t i = 0; i < e->m->n_entry; i++) entry(e, i);
    tensor_table(e);
    checkpoint(e);
    emit_messages(e);
}
