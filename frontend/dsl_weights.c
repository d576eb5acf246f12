/* Values of parameters from outside: arrays, .npy and safetensors files. Either everything asked for is loaded or nothing
 * changes; every mismatch is reported. */
#include "frontend/dsl.h"
#include "frontend/safetensors.h"

static DslParam *find_param(LatheModel *m, const char *name) {
    Builder *b = dsl_builder(m);
    for (uint32_t i = 0; i < b->params.n; i++)
        if (strcmp(str_text(&m->cx, b->params.v[i].value->name), name) == 0) return &b->params.v[i];
    diag(&m->cx, SEV_ERROR, (Loc){0}, "the model has no parameter called \"%s\"%s%s", name, b->params.n != 0 ? "; its first one is " : "",
         b->params.n != 0 ? str_text(&m->cx, b->params.v[0].value->name) : "");
    return NULL;
}

static void set_data(LatheModel *m, DslParam *p, const void *data) {
    ConstData *c = ARENA_NEW(&m->cx.arena, ConstData);
    *c = (ConstData){.data = data, .bytes = p->value->data->bytes};
    p->value->data = c;
    p->loaded = true;
}

/* Does t hold what p wants? Compared as types, so that the message shows both. */
static bool fits(LatheModel *m, const DslParam *p, const HostTensor *t, Loc loc) {
    Context *cx = &m->cx;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = dim_const(cx, t->dim[i]);
    const Type *found = t->kind == HOST_TENSOR ? type_tensor(cx, t->dtype, t->rank, dim) : NULL;
    if (found == p->value->type) return true;
    Writer a = {.arena = &cx->scratch}, b = {.arena = &cx->scratch};
    type_print(cx, &a, p->value->type);
    type_print(cx, &b, found);
    diag(cx, SEV_ERROR, loc, "parameter \"%s\" is %s, the file has %s", str_text(cx, p->value->name), cw_cstr(&a), cw_cstr(&b));
    return false;
}

typedef struct LoadRequest { const char *name, *path; const void *data; size_t bytes; } LoadRequest;

static LatheStatus load_array(LatheModel *m, void *user) {
    const LoadRequest *r = user;
    DslParam *p = find_param(m, r->name);
    if (p == NULL) return LATHE_ERROR_MODEL;
    size_t wanted = p->value->data->bytes;
    if (r->bytes != wanted) {
        diag(&m->cx, SEV_ERROR, (Loc){0}, "parameter \"%s\" has %zu bytes, %zu were given", r->name, wanted, r->bytes);
        return LATHE_ERROR_MODEL;
    }
    void *own = arena_alloc(&m->cx.arena, wanted);
    if (wanted != 0) memcpy(own, r->data, wanted);
    set_data(m, p, own);
    return LATHE_OK;
}

LatheStatus lathe_load_array(LatheModel *m, const char *name, const void *data, size_t bytes) {
    return model_enter(m, load_array, &(LoadRequest){.name = name, .data = data, .bytes = bytes});
}

static LatheStatus load_npy(LatheModel *m, void *user) {
    const LoadRequest *r = user;
    DslParam *p = find_param(m, r->name);
    HostTensor t;
    if (p == NULL) return LATHE_ERROR_MODEL;
    if (!tensor_file_load(&m->cx, r->path, p->value->type, &t)) return LATHE_ERROR_FILE;
    if (!fits(m, p, &t, (Loc){.file = str_intern(&m->cx, r->path)})) return LATHE_ERROR_MODEL;
    set_data(m, p, t.data);
    return LATHE_OK;
}

LatheStatus lathe_load_npy(LatheModel *m, const char *name, const char *path) {
    return model_enter(m, load_npy, &(LoadRequest){.name = name, .path = path});
}

static LatheStatus load_safetensors(LatheModel *m, void *path) {
    Context *cx = &m->cx;
    Builder *b = dsl_builder(m);
    SafeTensors file;
    if (!safetensors_load(cx, path, &file)) return LATHE_ERROR_FILE;
    Loc loc = {.file = str_intern(cx, path)};
    uint32_t before = cx->n_error;
    for (uint32_t i = 0; i < b->params.n; i++) {
        const char *name = str_text(cx, b->params.v[i].value->name);
        const HostTensor *t = safetensors_find(&file, cx, name);
        if (t == NULL) diag(cx, SEV_ERROR, loc, "parameter \"%s\" is not in the file", name);
        else fits(m, &b->params.v[i], t, loc);
    }
    if (cx->n_error != before) return LATHE_ERROR_MODEL;
    for (uint32_t i = 0; i < b->params.n; i++)
        set_data(m, &b->params.v[i], safetensors_find(&file, cx, str_text(cx, b->params.v[i].value->name))->data);
    return LATHE_OK;
}

LatheStatus lathe_load_safetensors(LatheModel *m, const char *path) {
    return model_enter(m, load_safetensors, (void *)(uintptr_t)path);
}

/* ---- trained weights back into a model ------------------------------------------------------------------------------- */
typedef struct Checkpoint { LatheModel *m; const SafeTensors *file; Loc loc; bool *seen; VEC(Value *) value; VEC(const HostTensor *) tensor; } Checkpoint;

static void match(Checkpoint *c, Value *v) {
    Context *cx = &c->m->cx;
    if (v == NULL || v->data == NULL || v->name == 0 || c->seen[v->id]) return;
    c->seen[v->id] = true;
    const HostTensor *t = safetensors_find(c->file, cx, str_text(cx, v->name));
    DslParam p = {.value = v};
    if (t == NULL || !fits(c->m, &p, t, c->loc)) return;
    vec_push(&cx->scratch, &c->value, v);
    vec_push(&cx->scratch, &c->tensor, t);
}

static void match_graph(Graph *g, void *user) {
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_in; i++) match(user, n->in[i]);
    }
}

static LatheStatus load_checkpoint(LatheModel *m, void *path) {
    Context *cx = &m->cx;
    SafeTensors file;
    if (!safetensors_load(cx, path, &file)) return LATHE_ERROR_FILE;
    Checkpoint c = {.m = m, .file = &file, .loc = {.file = str_intern(cx, path)}, .seen = ARENA_ARRAY(&cx->scratch, bool, m->m->n_value)};
    uint32_t before = cx->n_error;
    graph_visit(m->m->main, match_graph, &c);
    if (cx->n_error != before) return LATHE_ERROR_MODEL;
    if (c.value.n == 0) {
        diag(cx, SEV_ERROR, c.loc, "no tensor of the file has the name of a constant of the model");
        return LATHE_ERROR_MODEL;
    }
    for (uint32_t i = 0; i < c.value.n; i++) {
        ConstData *d = ARENA_NEW(&cx->arena, ConstData);
        *d = (ConstData){.data = c.tensor.v[i]->data, .bytes = c.value.v[i]->data->bytes};
        c.value.v[i]->data = d;
    }
    diag(cx, SEV_NOTE, c.loc, "%u tensors of the model are those of the file", c.value.n);
    return LATHE_OK;
}

LatheStatus lathe_load_checkpoint(LatheModel *m, const char *path) {
    return model_enter(m, load_checkpoint, (void *)(uintptr_t)path);
}
