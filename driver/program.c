#include "driver/program.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/interrupt.h"
#include "driver/progress.h"
#include "driver/text.h"
#include "driver/tune.h"

/* ---- reading and compiling -------------------------------------------------------------------------------------- */
static void hold_signals(void *user, bool begins) {
    (void)user;
    if (begins) interrupt_hold();
    else interrupt_release();
}

static void staging_changed(void *user, const char *directory, bool there) {
    (void)user;
    if (there) interrupt_add(directory);
    else interrupt_forget(directory);
}

static const LatheStagingHooks staging_hooks = {.hold = hold_signals, .changed = staging_changed};

LatheModel *model_open(Driver *d, const char *path, Exit *code) {
    const char *base = file_base_name(path);
    LatheModel *m = lathe_model_new(arena_strdup(&d->arena, base, strcspn(base, ".")));
    if (m == NULL) {
        driver_error(d, "out of memory");
        *code = BROKEN;
        return NULL;
    }
    lathe_on_staging(m, &staging_hooks);
    if (strcmp(path, "-") == 0) path = "/dev/stdin";
    bool is_text = text_ends_with(path, ".lir") || strcmp(path, "/dev/stdin") == 0;
    LatheStatus status = is_text ? lathe_import_ir(m, path) : lathe_import_onnx(m, path);
    if (status == LATHE_OK) return m;
    *code = driver_model_failed(d, m, status);
    lathe_model_free(m);
    return NULL;
}

static const char *const *terminated(Driver *d, const Texts *list) {
    Texts copy = {0};
    for (uint32_t i = 0; i < list->n; i++) vec_push(&d->arena, &copy, list->v[i]);
    vec_push(&d->arena, &copy, NULL);
    return copy.v;
}

LatheOptions request_options(Driver *d, const Request *r, const Variant *v) {
    LatheOptions o = lathe_options();
    if (r->level >= 0) o.opt_level = r->level;
    o.name = r->name;
    o.target = r->target;
    o.weights = (LatheWeights)r->weights;
    o.precision = (LathePrecision)r->precision;
    o.distributed = (LatheDistributed)r->train.distributed;
    o.shard_optimizer = r->train.shard_optimizer > UINT32_MAX ? UINT32_MAX : (uint32_t)r->train.shard_optimizer;
    o.fast_math = r->fast_math;
    o.dims = terminated(d, &r->dims);
    o.disable = terminated(d, &r->disable);
    o.dump = r->dump;
    o.dump_to = r->dump != NULL ? stdout : NULL;
    o.time_passes = r->time_passes ? stderr : NULL;
    o.verify_ir = r->verify_ir;
    o.memory = r->memory_bytes;
    o.fast_memory = r->fast_bytes;
    o.rest_memory = r->rest_bytes;
    o.recompute = r->recompute;
    if (v == NULL) return o;
    if (v->level >= 0) o.opt_level = v->level;
    if (v->disable != NULL) o.disable = v->disable;
    o.profile = v->profile;
    o.choices = v->choices;
    return o;
}

/* ---- building --------------------------------------------------------------------------------------------------- */
/* The emitted code always has the name `model`: no text of the user's reaches the glue. */
static const char glue[] =
    "#include \"model.c\"\n"
    "#include <stddef.h>\n"
    "size_t lathe_glue_ctx_bytes(void) { return sizeof(model_ctx); }\n"
    "#ifdef MODEL_FAST_BYTES /* the arena behind the fast memory, in one piece */\n"
    "#define GLUE_FAST MODEL_FAST_BYTES\n"
    "#define GLUE_INIT(arena, bytes) (unsigned char *)(arena) + MODEL_FAST_BYTES, (bytes) - MODEL_FAST_BYTES, (arena), MODEL_FAST_BYTES\n"
    "#else\n"
    "#define GLUE_FAST 0u\n"
    "#define GLUE_INIT(arena, bytes) (arena), (bytes)\n"
    "#endif\n"
    "size_t lathe_glue_arena_bytes(void) { return MODEL_ARENA_BYTES + GLUE_FAST; }\n"
    "size_t lathe_glue_weight_bytes(void) { return MODEL_WEIGHT_BYTES; }\n"
    "size_t lathe_glue_align(void) { return MODEL_ALIGN; }\n"
    "int lathe_glue_init(void *ctx, void *arena, size_t arena_bytes, const void *weights, size_t weight_bytes) {\n"
    "    return model_init((model_ctx *)ctx, GLUE_INIT(arena, arena_bytes), weights, weight_bytes);\n"
    "}\n"
    "int lathe_glue_call(void *ctx, int threads, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims) {\n"
    "    ((model_ctx *)ctx)->threads = threads;\n"
    "    return model_call((model_ctx *)ctx, in, in_dims, out, out_dims);\n"
    "}\n"
    "const char *lathe_glue_error(int code) { return model_error(code); }\n";
static const char profile_glue[] =
    "void lathe_glue_tick(void *ctx, void (*tick)(void *, unsigned, int), void *user) {\n"
    "    ((model_ctx *)ctx)->tick = tick;\n    ((model_ctx *)ctx)->tick_user = user;\n}\n";

static bool symbol(Driver *d, void *handle, const char *name, void *pointer) {
    void *s = dlsym(handle, name);
    if (s == NULL) {
        driver_error(d, "the built model lacks %s: %s", name, dlerror());
        return false;
    }
    memcpy(pointer, &s, sizeof s);
    return true;
}

/* Weights that are a file of their own are mapped, not copied. */
static bool map_weights(Driver *d, const char *path, Program *p) {
    int f = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (f < 0 && errno == ENOENT) return true; /* they are in the object */
    if (f < 0 || fstat(f, &st) != 0) {
        driver_error(d, "cannot read %s: %s", path, strerror(errno));
        if (f >= 0) close(f);
        return false;
    }
    p->mapped_bytes = p->weight_bytes = (size_t)st.st_size;
    if (st.st_size != 0) p->weights = mmap(NULL, p->mapped_bytes, PROT_READ, MAP_PRIVATE, f, 0);
    close(f);
    if (p->weights != MAP_FAILED) return true;
    p->weights = NULL;
    driver_error(d, "cannot map %s: %s", path, strerror(errno));
    return false;
}

static const size_t HUGE_PAGE = 2 << 20;

static bool allocate(Driver *d, size_t align, size_t n, void **memory) {
    if (align < sizeof(void *)) align = sizeof(void *);
    bool large = n >= 2 * HUGE_PAGE;
    if (large) align = HUGE_PAGE;
    if (posix_memalign(memory, align, n != 0 ? n : align) == 0) {
#ifdef MADV_HUGEPAGE
        if (large) (void)madvise(*memory, n, MADV_HUGEPAGE); /* advice only: the program runs without them, too */
#endif
        return true;
    }
    *memory = NULL;
    driver_error(d, "the model needs %zu bytes of memory; the machine does not have them", n);
    return false;
}

/* The object is never unloaded: threads of its OpenMP runtime may still be parked in it. */
static bool load(Driver *d, const char *object, bool profile, bool weights_in_file, const char *weights_file, Program *p) {
    void *handle = dlopen(object, RTLD_NOW | RTLD_LOCAL);
    size_t (*ctx_bytes)(void), (*arena_bytes)(void), (*align)(void);
    if (handle == NULL) {
        driver_error(d, "cannot load the built model: %s", dlerror());
        return false;
    }
    if (!symbol(d, handle, "lathe_glue_ctx_bytes", &ctx_bytes) || !symbol(d, handle, "lathe_glue_arena_bytes", &arena_bytes) ||
        !symbol(d, handle, "lathe_glue_align", &align) || !symbol(d, handle, "lathe_glue_init", &p->init) ||
        !symbol(d, handle, "lathe_glue_call", &p->call) || !symbol(d, handle, "lathe_glue_error", &p->error))
        return false;
    if (profile && !symbol(d, handle, "lathe_glue_tick", &p->set_tick)) return false;
    if (weights_in_file && !map_weights(d, weights_file, p)) return false;
    p->arena_bytes = arena_bytes();
    if (!allocate(d, align(), p->arena_bytes, &p->arena) || !allocate(d, 64, ctx_bytes(), &p->ctx)) return false;
    memset(p->ctx, 0, ctx_bytes());
    int code = p->init(p->ctx, p->arena, p->arena_bytes, p->weights, p->weights != NULL ? p->weight_bytes : 0);
    if (code == 0) return true;
    driver_error(d, "the built model does not start: %s (code %d)", p->error(code), code);
    return false;
}

static Exit build(Driver *d, const Request *r, bool profile, const char *dir, Program *p) {
    Toolchain t;
    if (!toolchain_find(d, r, &t)) return BROKEN;
    const char *text = driver_format(d, "%s%s", glue, profile ? profile_glue : "");
    if (!driver_write_file(d, driver_format(d, "%s/glue.c", dir), text, strlen(text))) return BROKEN;
    const char *object;
    double start = driver_now();
    Exit e = toolchain_build(d, r, &t, dir, "glue.c", &object, &p->cached);
    if (e != DONE) return e;
    if (!p->cached) p->build_seconds = driver_now() - start;
    p->openmp = t.openmp;
    struct stat st;
    if (stat(object, &st) == 0) p->code_bytes = (size_t)st.st_size;
    bool in_file = r->weights == LATHE_WEIGHTS_FILE;
    return load(d, object, profile, in_file, driver_format(d, "%s/model.bin", dir), p) ? DONE : BROKEN;
}

static Exit compile(Driver *d, const Request *r, const Variant *v, const char *dir, Program *p) {
    LatheOptions o = request_options(d, r, v);
    Progress progress = progress_start(d);
    o.output = driver_format(d, "%s/model.c", dir);
    o.name = "model";
    o.dims = NULL; /* applied before */
    o.progress = progress_step;
    o.progress_user = &progress;
    LatheStatus status = lathe_compile(p->model, &o);
    progress_clear(d);
    if (status != LATHE_OK) return driver_model_failed(d, p->model, status);
    p->stats = lathe_stats(p->model);
    p->n_in = lathe_input_count(p->model);
    p->n_out = lathe_output_count(p->model);
    p->in = ARENA_ARRAY(&d->arena, LatheTensorInfo, p->n_in);
    p->out = ARENA_ARRAY(&d->arena, LatheTensorInfo, p->n_out);
    for (uint32_t i = 0; i < p->n_in; i++) p->in[i] = lathe_input_info(p->model, i);
    for (uint32_t i = 0; i < p->n_out; i++) p->out[i] = lathe_output_info(p->model, i);
    p->n_in_group = lathe_input_group_count(p->model);
    p->n_out_group = lathe_output_group_count(p->model);
    p->in_group = ARENA_ARRAY(&d->arena, LatheGroup, p->n_in_group);
    p->out_group = ARENA_ARRAY(&d->arena, LatheGroup, p->n_out_group);
    for (uint32_t i = 0; i < p->n_in_group; i++) p->in_group[i] = lathe_input_group(p->model, i);
    for (uint32_t i = 0; i < p->n_out_group; i++) p->out_group[i] = lathe_output_group(p->model, i);
    return DONE;
}

static Exit set_dims(Driver *d, LatheModel *m, const char *const *dims) {
    LatheStatus status = dims != NULL ? lathe_set_dims(m, dims) : LATHE_OK;
    return status == LATHE_OK ? DONE : driver_model_failed(d, m, status);
}

static Exit set_shapes(Driver *d, LatheModel *m, const Sizes *sizes) {
    for (uint32_t i = 0; i < sizes->shapes.n; i++) {
        const InputShape *s = &sizes->shapes.v[i];
        LatheStatus status = lathe_shape_input(m, s->input, s->rank, s->dim);
        if (status != LATHE_OK) return driver_model_failed(d, m, status);
    }
    return DONE;
}

LatheModel *model_open_with_dims(Driver *d, const Request *r, Exit *code) {
    LatheModel *m = model_open(d, r->files.v[0], code);
    if (m == NULL) return NULL;
    *code = set_dims(d, m, terminated(d, &r->dims));
    if (*code == DONE) return m;
    lathe_model_free(m);
    return NULL;
}

/* v with the choices of -O3, where it says none. */
static Exit with_choices(Driver *d, const Request *r, const Variant *v, Variant *own) {
    int level = v != NULL && v->level >= 0 ? v->level : r->level;
    *own = v != NULL ? *v : (Variant){.level = -1};
    if (level != 3 || own->choices != NULL || own->change != NULL) return DONE;
    Texts choices = {0};
    Exit e = tune(d, r, &choices);
    own->choices = terminated(d, &choices);
    return e;
}

Exit program_make(Driver *d, const Request *r, const Variant *given, const Sizes *sizes, Program *p) {
    Variant own;
    const Variant *v = &own;
    Exit e = with_choices(d, r, given, &own);
    if (e != DONE) return e;
    Request files = *r; /* loading needs no assembler work: constants that are not embedded on request are mapped */
    if (files.weights == LATHE_WEIGHTS_AUTO) files.weights = LATHE_WEIGHTS_FILE;
    *p = (Program){.model = model_open_with_dims(d, r, &e)};
    if (p->model == NULL) return e;
    if (sizes != NULL) e = set_shapes(d, p->model, sizes);
    if (e == DONE && sizes != NULL) e = set_dims(d, p->model, sizes->dims);
    if (e == DONE && v->change != NULL) {
        LatheStatus status = v->change(p->model, v->user);
        if (status != LATHE_OK) e = driver_model_failed(d, p->model, status);
    }
    const char *dir = e == DONE ? driver_temp_dir(d) : NULL;
    if (e == DONE && dir == NULL) e = BROKEN;
    if (e == DONE) e = compile(d, &files, v, dir, p);
    if (e == DONE) e = build(d, &files, v->profile, dir, p);
    if (dir != NULL) driver_remove_dir(dir);
    if (e != DONE) program_free(p);
    return e;
}

int program_call(Program *p, int threads, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims) {
    return p->call(p->ctx, threads, in, in_dims, out, out_dims);
}

void program_free(Program *p) {
    if (p->mapped_bytes != 0) munmap(p->weights, p->mapped_bytes);
    free(p->ctx);
    free(p->arena);
    lathe_model_free(p->model);
    *p = (Program){0};
}
