/* Parameters and constants of the C DSL. A parameter is a constant of the graph that has a name and first values; training
 * and the loading of weights find it in the builder's list. */
#include "frontend/dsl.h"

#include <stdio.h>

#include "ir/small_float.h"

typedef struct ParamRequest {
    const char *name;
    DType dtype;
    uint32_t rank;
    const int64_t *shape;
    LatheInit init;
    const void *data;
    LatheValue out;
} ParamRequest;

/* The type of r, or NULL after a diagnostic. Sizes whose product overflows are found here. */
static const Type *checked_type(LatheModel *m, const ParamRequest *r, const char *what) {
    Context *cx = &m->cx;
    Loc loc = {.op = str_intern(cx, what), .node = r->name != NULL ? str_intern(cx, r->name) : 0};
    uint32_t before = cx->n_error;
    if (m->compiled) diag(cx, SEV_ERROR, loc, "this model was compiled, nothing can be added to it");
    if (r->dtype == DT_NONE || r->dtype == DT_STRING) diag(cx, SEV_ERROR, loc, "unknown element type");
    if (r->rank > RANK_MAX) diag(cx, SEV_ERROR, loc, "rank %u, at most %d is supported", r->rank, RANK_MAX);
    if (cx->n_error != before) return NULL;
    Dim dim[RANK_MAX];
    int64_t n = 1;
    bool overflow = false;
    for (uint32_t i = 0; i < r->rank; i++) {
        if (r->shape[i] < 0) diag(cx, SEV_ERROR, loc, "dim %u is %lld, it must not be negative", i, (long long)r->shape[i]);
        overflow |= __builtin_mul_overflow(n, r->shape[i], &n);
        dim[i] = dim_const(cx, r->shape[i]);
    }
    if (cx->n_error != before) return NULL;
    if (overflow || n > INT64_C(1) << 40) {
        diag(cx, SEV_ERROR, loc, "more than 2^40 elements");
        return NULL;
    }
    return type_tensor(cx, r->dtype, r->rank, dim);
}

/* A name's random stream. FNV-1a, so that it is a property of the text alone. */
static uint64_t stream_of(const char *name) {
    uint64_t h = 0xCBF29CE484222325u;
    for (; *name != 0; name++) h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

static void *first_values(LatheModel *m, const ParamRequest *r, const Type *type) {
    Context *cx = &m->cx;
    int64_t n = dim_value(cx, type_numel(cx, type));
    void *data = arena_alloc(&cx->arena, dtype_bytes(cx, type->dtype, n));
    float *values = type->dtype == DT_F32 ? data : ARENA_ARRAY(&cx->scratch, float, n);
    dsl_init_fill(cx, values, r->rank, r->shape, r->init, dsl_builder(m)->seed, stream_of(r->name));
    switch (type->dtype) {
    case DT_F32: break;
    case DT_F64:
        for (int64_t i = 0; i < n; i++) ((double *)data)[i] = (double)values[i];
        break;
    case DT_F16: case DT_BF16:
        for (int64_t i = 0; i < n; i++) ((uint16_t *)data)[i] = (uint16_t)small_float_encode(type->dtype, values[i], true);
        break;
    default: return NULL;
    }
    return data;
}

static LatheStatus make_param(LatheModel *m, void *user) {
    ParamRequest *r = user;
    Context *cx = &m->cx;
    Builder *b = dsl_builder(m);
    r->name = str_text(cx, dsl_scoped(m, r->name));
    Loc loc = {.op = str_intern(cx, "parameter"), .node = str_intern(cx, r->name)};
    const Type *type = checked_type(m, r, "parameter");
    if (type == NULL) return LATHE_ERROR_MODEL;
    for (uint32_t i = 0; i < b->params.n; i++)
        if (b->params.v[i].value->name == loc.node) diag(cx, SEV_ERROR, loc, "a second parameter of this name: give the layers different names, or open a lathe_scope");
    void *data = first_values(m, r, type);
    if (data == NULL) {
        diag(cx, SEV_ERROR, loc, "element type %s: parameters are f32, f64, f16 or bf16; other constants are made by lathe_const", dtype_text(type->dtype));
        return LATHE_ERROR_MODEL;
    }
    Value *v = value_const(m->m, type, data, true);
    v->name = loc.node;
    DslParam p = {v, r->init, false};
    vec_push(&cx->arena, &b->params, p);
    r->out = dsl_handle(m, v);
    return LATHE_OK;
}

LatheValue lathe_param(LatheModel *m, const char *name, LatheDType dtype, uint32_t rank, const int64_t *shape, LatheInit init) {
    ParamRequest r = {.name = name, .dtype = dtype_from_onnx((int32_t)dtype), .rank = rank, .shape = shape, .init = init};
    model_enter(m, make_param, &r);
    return r.out;
}

LatheValue dsl_layer_param(LatheModel *m, const char *name, const char *part, DType dtype, uint32_t rank, const int64_t *shape,
                           LatheInit init, LatheInit fallback) {
    char full[256];
    int n = snprintf(full, sizeof full, "%s/%s", name, part);
    if (n >= (int)sizeof full) {
        dsl_problem(m, SEV_ERROR, OP_NONE, NULL, "parameter \"%s\": the name has %d bytes, at most %zu are supported", full, n, sizeof full - 1);
        return (LatheValue){0};
    }
    LatheInit chosen = init.kind == LATHE_INIT_DEFAULT ? fallback : init;
    return lathe_param(m, full, (LatheDType)dtype_to_onnx(dtype), rank, shape, chosen);
}

/* ---- constants -------------------------------------------------------------------------------------------------- */
static LatheStatus make_const(LatheModel *m, void *user) {
    ParamRequest *r = user;
    const Type *type = checked_type(m, r, "constant");
    if (type != NULL) r->out = dsl_handle(m, value_const(m->m, type, r->data, false));
    return LATHE_OK;
}

LatheValue lathe_const(LatheModel *m, LatheDType dtype, uint32_t rank, const int64_t *shape, const void *data) {
    ParamRequest r = {.dtype = dtype_from_onnx((int32_t)dtype), .rank = rank, .shape = shape, .data = data};
    model_enter(m, make_const, &r);
    return r.out;
}

LatheValue dsl_i64(LatheModel *m, uint32_t n, const int64_t *v) {
    return lathe_const(m, LATHE_I64, 1, (int64_t[]){n}, v);
}

LatheValue dsl_i64_scalar(LatheModel *m, int64_t v) {
    return lathe_const(m, LATHE_I64, 0, NULL, &v);
}

typedef struct ScalarRequest { DType dtype; double value; LatheValue out; } ScalarRequest;

static LatheStatus make_scalar(LatheModel *m, void *user) {
    ScalarRequest *r = user;
    if (r->dtype == DT_NONE || r->dtype == DT_STRING) diag(&m->cx, SEV_ERROR, (Loc){.op = str_intern(&m->cx, "constant")}, "unknown element type");
    else r->out = dsl_handle(m, value_const_scalar(m->m, r->dtype, r->value));
    return LATHE_OK;
}

LatheValue lathe_scalar(LatheModel *m, LatheDType dtype, double value) {
    ScalarRequest r = {.dtype = dtype_from_onnx((int32_t)dtype), .value = value};
    model_enter(m, make_scalar, &r);
    return r.out;
}

LatheValue lathe_scalar_like(LatheValue v, double value) {
    return lathe_is_null(v) ? (LatheValue){0} : lathe_scalar(v.model, lathe_dtype(v), value);
}

/* ---- what there is ---------------------------------------------------------------------------------------------- */
static LatheStatus set_seed(LatheModel *m, void *seed) {
    dsl_builder(m)->seed = *(const uint64_t *)seed;
    return LATHE_OK;
}

void lathe_seed(LatheModel *m, uint64_t seed) {
    model_enter(m, set_seed, &seed);
}

typedef struct ParamAt { uint32_t i; LatheParam *out; } ParamAt;

static LatheStatus param_at(LatheModel *m, void *user) {
    const ParamAt *r = user;
    const Value *v = dsl_builder(m)->params.v[r->i].value;
    const Type *t = v->type;
    *r->out = (LatheParam){.value = dsl_handle(m, dsl_builder(m)->params.v[r->i].value), .data = v->data->data, .bytes = v->data->bytes};
    LatheTensorInfo *info = &r->out->info;
    info->name = str_text(&m->cx, v->name);
    info->dtype = (LatheDType)dtype_to_onnx(t->dtype);
    info->rank = t->rank;
    for (uint32_t i = 0; i < t->rank; i++) {
        Writer w = {.arena = &m->cx.arena};
        dim_print(&m->cx, &w, t->dim[i]);
        info->lo[i] = info->hi[i] = dim_value(&m->cx, t->dim[i]);
        info->dim[i] = cw_cstr(&w);
    }
    return LATHE_OK;
}

bool lathe_param_at(LatheModel *m, uint32_t i, LatheParam *p) {
    if (m == NULL || m->dead || m->builder == NULL || i >= m->builder->params.n) return false;
    return model_enter(m, param_at, &(ParamAt){i, p}) == LATHE_OK;
}
