/* Every scalar function in every element type, emitted and run, against the interpreter.
 *
 * One model is built with a kernel per (function, type): out[i] = fn(a[i], b[i]), for values that include every corner
 * (zeros, extremes, NaN, infinities, subnormals, shifts past the width) and random bits; the same for conversions
 * between all pairs of types and through all storage types. The C is compiled with undefined behaviour trapping.
 *     test_scalars "clang-19 -O2" …      one run per compiler command given */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codegen/codegen.h"
#include "lathe.h"
#include "passes/pass.h"

enum { N = 1024 };

static Context cx;
static Module *m;
static VEC(Kernel *) kernels;
static VEC(Value **) arguments;

typedef struct Column { DType dtype; Value *a, *b; void *data_a, *data_b; } Column;
static Column column[DT_COUNT]; /* inputs of each storage type */

static const DType compute[] = {DT_BOOL, DT_U8, DT_I8, DT_U16, DT_I16, DT_U32, DT_I32, DT_U64, DT_I64, DT_F32, DT_F64};
enum { N_COMPUTE = sizeof compute / sizeof *compute };
static const DType storage[] = {DT_F16, DT_BF16, DT_F8E4M3FN, DT_F8E4M3FNUZ, DT_F8E5M2, DT_F8E5M2FNUZ, DT_F4E2M1, DT_F8E8M0, DT_U4, DT_I4, DT_U2, DT_I2};
enum { N_STORAGE = sizeof storage / sizeof *storage };

static const Type *vector_of(DType t) { return type_tensor(&cx, t, 1, (Dim[]){dim_const(&cx, N)}); }

/* ---- data ------------------------------------------------------------------------------------------------------------ */
static uint64_t state = 88172645463325252u;
static uint64_t next_random(void) { return state ^= state << 13, state ^= state >> 7, state ^= state << 17; }

static void put_f32(unsigned char *p, float x) { memcpy(p, &x, sizeof x); }
static void put_f64(unsigned char *p, double x) { memcpy(p, &x, sizeof x); }

static void *make_data(DType t, int which) {
    static const double corner[] = {0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 1.5, -1.5, 2.5, 3, 7, -7, 100, 127, 128, 128.5, -128, -128.5, -129, 255, 255.5, 256, 32767, 32768, -32769, 65535, 65536,
                                    2147483647.0, 2147483648.0, -2147483648.0, -2147483904.0, 4294967296.0, 9.2233720368547758e18, -9.2233720368547758e18, 1.8446744073709552e19, 1e30, -1e30,
                                    1e-30, 1e-40, -1e-45, 3.4028235e38, INFINITY, -INFINITY, NAN, 88.7, -88, -104, 0.3333, 1e-3, 1e5};
    enum { CORNERS = sizeof corner / sizeof *corner };
    size_t bytes = dtype_bytes(&cx, t, N), size = dtype_bits(t) < 8 ? 1 : dtype_bits(t) / 8;
    unsigned char *p = arena_alloc(&cx.arena, bytes + 8);
    for (size_t i = 0; i < bytes / size; i++) {
        uint64_t r = next_random();
        size_t c = which == 0 ? i / CORNERS : i % CORNERS; /* the first N pairs meet every corner with many others */
        if (t == DT_F32 && c < CORNERS) put_f32(p + i * 4, (float)corner[c]);
        else if (t == DT_F64 && c < CORNERS) put_f64(p + i * 8, corner[c]);
        else if (t == DT_F32 && i % 2) put_f32(p + i * 4, (float)((double)(int64_t)r / 9e17));
        else if (t == DT_F64 && i % 2) put_f64(p + i * 8, (double)(int64_t)r / 9e17);
        else if (t == DT_BOOL) p[i] = r & 1;
        else if (dtype_is_int(t) && i % 3 == 0) r = (uint64_t)((int64_t)(r % 11) - 5), memcpy(p + i * size, &r, size); /* small ones, zero too */
        else if (dtype_is_int(t) && i % 17 == 0) r = (uint64_t)1 << (dtype_bits(t) - 1), memcpy(p + i * size, &r, size);
        else if (dtype_is_int(t) && i % 19 == 0) r = ((uint64_t)1 << (dtype_bits(t) - 1)) - 1, memcpy(p + i * size, &r, size);
        else memcpy(p + i * size, &r, size);
    }
    return p;
}

static void add_column(DType t) {
    Column *c = &column[t];
    c->dtype = t;
    c->a = graph_add_input(m, m->main, vector_of(t), str_format(&cx, "a_%s", dtype_text(t)));
    c->b = graph_add_input(m, m->main, vector_of(t), str_format(&cx, "b_%s", dtype_text(t)));
    c->data_a = make_data(t, 0);
    c->data_b = make_data(t, 1);
}

/* ---- kernels ----------------------------------------------------------------------------------------------------------- */
typedef struct Builder { Kernel *k; Value *arg[3]; Expr *i; } Builder;

static uint32_t add_buf(Builder *b, BufKind kind, Value *v) {
    Dim *dim = ARENA_NEW(&cx.arena, Dim);
    *dim = dim_const(&cx, N);
    uint32_t buf = kernel_add_buf(b->k, &cx, (Buf){.kind = kind, .dtype = v->type->dtype, .rank = 1, .dim = dim, .value = v});
    b->k->n_arg = b->k->n_buf;
    b->arg[buf] = v;
    return buf;
}

static Builder begin(void) {
    Builder b = {.k = kernel_new(&cx)};
    uint32_t var = kernel_add_var(b.k, &cx, (Var){.dtype = DT_I64, .extent = ex_i64(&cx, N)});
    b.i = ex_var(b.k, &cx, var);
    return b;
}

static Expr *load(Builder *b, Value *v) { return ex_load(b->k, &cx, add_buf(b, BUF_IN, v), &b->i); }

static void finish(Builder *b, const char *name, DType out, Expr *e) {
    Value *v = value_new(m, vector_of(out), str_intern(&cx, name));
    graph_add_output(m, m->main, v);
    Stmt *store = ARENA_NEW(&cx.arena, Stmt), *loop = ARENA_NEW(&cx.arena, Stmt);
    *store = (Stmt){.kind = S_STORE, .buf = add_buf(b, BUF_OUT, v), .idx = ARENA_NEW(&cx.arena, Expr *), .val = e};
    store->idx[0] = b->i;
    *loop = (Stmt){.kind = S_FOR, .var = 0, .extent = ex_i64(&cx, N), .body = store};
    b->k->body = loop;
    b->k->name = b->k->comment = v->name;
    b->k->id = kernels.n;
    Value **arg = ARENA_ARRAY(&cx.arena, Value *, 3);
    memcpy(arg, b->arg, sizeof b->arg);
    vec_push(&cx.arena, &kernels, b->k);
    vec_push(&cx.arena, &arguments, arg);
}

static void add_function(Fn fn, DType t) {
    Builder b = begin();
    Expr *x[3] = {load(&b, column[t].a)};
    if (fn_arity(fn) > 1) x[1] = load(&b, column[t].b);
    if (fn_arity(fn) > 2) x[2] = x[0];
    if (fn == FN_SELECT) x[2] = x[1], x[1] = x[0], x[0] = ex_2(b.k, &cx, FN_LT, x[1], x[2]);
    bool truth = fn_class(fn) == FC_COMPARE || fn_class(fn) == FC_TEST;
    Expr *e = fn == FN_SELECT ? ex_select(b.k, &cx, x[0], x[1], x[2]) : ex_fn(b.k, &cx, fn, truth ? DT_BOOL : t, fn_arity(fn), x);
    finish(&b, str_text(&cx, str_format(&cx, "%s_%s", fn_text(fn), dtype_text(t))), truth ? DT_BOOL : t, e);
}

static bool applies(Fn fn, DType t) {
    bool is_float = dtype_is_float(t), is_bool = t == DT_BOOL;
    switch (fn_class(fn)) {
    case FC_ARITH: return !is_bool || fn == FN_MIN || fn == FN_MAX;
    case FC_FLOAT: case FC_TEST: return is_float;
    case FC_COMPARE: return true;
    case FC_BITS: return !is_float && !(is_bool && (fn == FN_SHL || fn == FN_SHR));
    case FC_SPECIAL: return fn == FN_SELECT;
    }
    return false;
}

static void add_kernels(void) {
    for (int fn = 1; fn < FN_COUNT; fn++)
        for (int t = 0; t < N_COMPUTE; t++)
            if (applies((Fn)fn, compute[t])) add_function((Fn)fn, compute[t]);
    for (int from = 0; from < N_COMPUTE; from++) {
        for (int to = 0; to < N_COMPUTE; to++) {
            if (from == to) continue;
            Builder b = begin();
            finish(&b, str_text(&cx, str_format(&cx, "cast_%s_%s", dtype_text(compute[from]), dtype_text(compute[to]))), compute[to],
                   ex_cast(b.k, &cx, compute[to], load(&b, column[compute[from]].a)));
            if (compute[from] == DT_BOOL || compute[to] == DT_BOOL || dtype_bits(compute[from]) != dtype_bits(compute[to])) continue;
            Builder c = begin();
            Expr *x = load(&c, column[compute[from]].a);
            finish(&c, str_text(&cx, str_format(&cx, "bitcast_%s_%s", dtype_text(compute[from]), dtype_text(compute[to]))), compute[to],
                   ex_fn(c.k, &cx, FN_BITCAST, compute[to], 1, &x));
        }
    }
    for (int s = 0; s < N_STORAGE; s++) { /* decode, encode, and rounding in a register */
        DType t = dtype_compute(storage[s]);
        const char *name = dtype_text(storage[s]);
        Builder d = begin(), e = begin(), r = begin();
        finish(&d, str_text(&cx, str_format(&cx, "load_%s", name)), t, load(&d, column[storage[s]].a));
        finish(&e, str_text(&cx, str_format(&cx, "store_%s", name)), storage[s], load(&e, column[t].a));
        finish(&r, str_text(&cx, str_format(&cx, "round_%s", name)), t, ex_round_to(r.k, &cx, storage[s], load(&r, column[t].a)));
    }
}

static void build_plan(void) {
    Plan *p = plan_new(m);
    Step **tail = &p->first;
    p->kernel = kernels.v;
    p->n_kernel = p->n_step = kernels.n;
    for (uint32_t i = 0; i < kernels.n; i++) {
        Step *s = ARENA_NEW(&cx.arena, Step);
        *s = (Step){.kind = STEP_KERNEL, .kernel = kernels.v[i], .value = arguments.v[i], .n_value = kernels.v[i]->n_arg};
        *tail = s;
        tail = &s->next;
    }
}

/* ---- comparing ------------------------------------------------------------------------------------------------------------ */
static double element(DType t, const void *data, size_t i, int64_t *bits) {
    float f;
    double d = 0;
    *bits = 0;
    if (dtype_bits(t) >= 8) memcpy(bits, (const char *)data + i * (dtype_bits(t) / 8), dtype_bits(t) / 8);
    else *bits = ((const unsigned char *)data)[i];
    if (t == DT_F32) return memcpy(&f, (const char *)data + i * 4, 4), (double)f;
    if (t == DT_F64) memcpy(&d, (const char *)data + i * 8, 8);
    return d;
}

static bool is_inexact(const char *name) {
    static const char *const inexact[] = {"exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "tanh", "erf", "sigmoid", "pow_f", "recip", "fma", "sqrt", "fmod_f", "mod_f"};
    for (size_t i = 0; i < sizeof inexact / sizeof *inexact; i++)
        if (strncmp(name, inexact[i], strlen(inexact[i])) == 0) return true;
    return false;
}

static bool agree(const char *name, DType t, double got, int64_t got_bits, double want, int64_t want_bits) {
    if (got_bits == want_bits) return true;
    if (t != DT_F32 && t != DT_F64) return false;
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (got == want) return true;
    double unit = t == DT_F32 ? 1.2e-7 : 2.3e-16, smallest = t == DT_F32 ? 1e-44 : 1e-322;
    return is_inexact(name) && fabs(got - want) <= 4 * unit * fabs(want) + smallest;
}

static int compare(uint32_t k, const void *got, const void *want) {
    const Value *out = m->main->out[k];
    const char *name = str_text(&cx, out->name);
    DType t = out->type->dtype;
    size_t n = dtype_bits(t) < 8 ? dtype_bytes(&cx, t, N) : N;
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t gb, wb;
        double g = element(t, got, i, &gb), w = element(t, want, i, &wb);
        if (agree(name, t, g, gb, w, wb)) continue;
        if (bad++ < 3) printf("%s[%zu]: %.9g (0x%llx), expected %.9g (0x%llx)\n", name, i, g, (unsigned long long)gb, w, (unsigned long long)wb);
    }
    return bad != 0;
}

typedef int CallFn(void *ctx, const void *const *in, const int64_t *in_dims, void *const *out, int64_t *out_dims);
typedef int InitFn(void *ctx, void *arena, size_t arena_bytes, const void *weights, size_t weight_bytes);

static void **new_outputs(void) {
    void **out = ARENA_ARRAY(&cx.arena, void *, m->main->n_out);
    for (uint32_t i = 0; i < m->main->n_out; i++) out[i] = arena_alloc(&cx.arena, dtype_bytes(&cx, m->main->out[i]->type->dtype, N) + 64);
    return out;
}

static int run(const char *compiler, const char *dir, void *const *want) {
    Writer w = {.arena = &cx.arena};
    cw_printf(&w, "%s -Wall -Wextra -Wconversion -Wshadow -Wvla -Wdouble-promotion -Werror -fsanitize=undefined,float-cast-overflow -fsanitize-undefined-trap-on-error -fPIC "
                  "-shared -o %s/scalars.so %s/scalars.c -lm", compiler, dir, dir);
    printf("%s\n", compiler);
    fflush(stdout);
    if (system(cw_cstr(&w)) != 0) return 1;
    Writer path = {.arena = &cx.arena};
    cw_printf(&path, "%s/scalars.so", dir);
    void *lib = dlopen(cw_cstr(&path), RTLD_NOW);
    if (lib == NULL) return printf("%s\n", dlerror()), 1;
    InitFn *init = (InitFn *)(uintptr_t)dlsym(lib, "scalars_init");
    CallFn *call = (CallFn *)(uintptr_t)dlsym(lib, "scalars_call");
    void *ctx[4] = {0};
    const void **in = ARENA_ARRAY(&cx.arena, const void *, m->main->n_in);
    for (int t = 0; t < DT_COUNT; t++) {
        for (uint32_t i = 0; i < m->main->n_in; i++) {
            if (m->main->in[i] == column[t].a && column[t].a != NULL) in[i] = column[t].data_a;
            if (m->main->in[i] == column[t].b && column[t].b != NULL) in[i] = column[t].data_b;
        }
    }
    void *arena = aligned_alloc(64, (m->plan->arena_bytes + 64) / 64 * 64), **out = new_outputs();
    int failed = init(ctx, arena, m->plan->arena_bytes, NULL, 0) != 0 || call(ctx, in, NULL, out, NULL) != 0;
    if (failed) printf("the call failed\n");
    for (uint32_t k = 0; k < kernels.n && !failed; k++) failed |= compare(k, out[k], want[k]) << 1;
    dlclose(lib);
    free(arena);
    return failed;
}

int main(int argc, char **argv) {
    jmp_buf escape;
    static const LatheOptions options = {.opt_level = 2};
    char dir[] = "/tmp/lathe-scalars-XXXXXX";
    context_init(&cx);
    cx.escape = &escape;
    if (setjmp(escape) != 0) return printf("%s\n", cx.internal_error), 1;
    if (mkdtemp(dir) == NULL) return 1;
    m = module_new(&cx, "scalars");
    m->options = &options;
    for (int t = 0; t < N_COMPUTE; t++) add_column(compute[t]);
    for (int t = 0; t < N_STORAGE; t++) add_column(storage[t]);
    add_kernels();
    build_plan();
    pass_plan_memory(&cx, m);
    Writer path = {.arena = &cx.arena};
    cw_printf(&path, "%s/scalars.c", dir);
    if (!codegen_emit(m, cw_cstr(&path))) return 1;
    void **want = new_outputs();
    int failed = 0;
    for (uint32_t k = 0; k < kernels.n; k++) { /* the interpreter runs them on the same inputs */
        void *buf[3];
        for (uint32_t i = 0; i < kernels.v[k]->n_arg; i++) {
            const Value *v = arguments.v[k][i];
            const Column *c = &column[v->type->dtype];
            buf[i] = v == c->a ? c->data_a : v == c->b ? c->data_b : want[k];
        }
        if (kernel_interpret(&cx, kernels.v[k], buf, NULL) != 0) failed = 1, printf("%s: the interpreter failed\n", str_text(&cx, kernels.v[k]->name));
    }
    for (int i = 1; i < argc; i++) failed |= run(argv[i], dir, want);
    printf("%u kernels, %d compilers: %s\n", kernels.n, argc - 1, failed ? "FAILED" : "ok");
    Writer clean = {.arena = &cx.arena};
    cw_printf(&clean, "rm -r %s", dir);
    if (!failed && system(cw_cstr(&clean)) != 0) failed = 1;
    context_free(&cx);
    return failed || kernels.n < 300;
}
