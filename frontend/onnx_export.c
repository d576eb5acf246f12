/* IR to ONNX files.
 *
 *     %y = MatMul(%x, %w)   ->   node { input: "x" input: "w" output: "y" op_type: "MatMul" }
 *
 * Constants become initializers of the main graph, where regions see them too; Fused nodes are written as the nodes of
 * their body; regions are subgraphs. Every value gets a name of its own: the model's if it is free. The messages are
 * built in scratch memory around the IR's own data and stream to the file, so weights are not copied. */
#include "frontend/onnx_export.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/id_map.h"
#include "frontend/onnx.h"
#include "onnx.pb-c.h"

/* protobuf messages end at 2 GB; the graph itself needs some of it. */
#define INLINE_BYTES_MAX (UINT64_C(1900) << 20)

typedef VEC(Onnx__NodeProto *) NodeList;

typedef struct Exporter {
    Module *m;
    Context *cx;
    Str *name;       /* by value id; 0: none yet */
    Str *output;     /* names of main's outputs that are constants; 0: the value's own */
    IdMap taken;     /* names of values in use */
    IdMap taken_nodes;
    VEC(Onnx__TensorProto *) initializers;
    VEC(const ConstData *) weights; /* of the initializers, same order */
    bool failed;
} Exporter;

#define NEW(e, T, name) ((T *)new_message((e)->cx, &name##__descriptor))

static void *new_message(Context *cx, const ProtobufCMessageDescriptor *type) {
    void *p = arena_alloc(&cx->scratch, type->sizeof_message);
    protobuf_c_message_init(type, p);
    return p;
}

static char *text_of(const Exporter *e, Str s) {
    return (char *)(uintptr_t)str_text(e->cx, s);
}

/* ---- names ------------------------------------------------------------------------------------------------------ */
/* wanted, or wanted_2, ...: the map holds the last suffix given to a name, so that n equal names cost n tries. */
static Str take_name(Exporter *e, IdMap *taken, Str wanted) {
    Str name = wanted;
    uintptr_t last = (uintptr_t)id_map_get(taken, wanted);
    while (id_map_get(taken, name) != NULL) name = str_format(e->cx, "%s_%zu", text_of(e, wanted), (size_t)++last);
    if (name != wanted) id_map_put(&e->cx->scratch, taken, wanted, (void *)last);
    id_map_put(&e->cx->scratch, taken, name, (void *)(uintptr_t)1);
    return name;
}

static Str free_name(Exporter *e, Str wanted) {
    return take_name(e, &e->taken, wanted);
}

static Str name_value(Exporter *e, const Value *v) {
    if (e->name[v->id] == 0) e->name[v->id] = free_name(e, v->name != 0 ? v->name : str_format(e->cx, "v%u", v->id));
    return e->name[v->id];
}

/* ---- types ------------------------------------------------------------------------------------------------------ */
static Onnx__TensorShapeProto *shape_message(Exporter *e, const Type *t) {
    Onnx__TensorShapeProto *s = NEW(e, Onnx__TensorShapeProto, onnx__tensor_shape_proto);
    s->n_dim = t->rank;
    s->dim = arena_array(&e->cx->scratch, t->rank, sizeof *s->dim);
    for (uint32_t i = 0; i < t->rank; i++) {
        Onnx__TensorShapeProto__Dimension *d = s->dim[i] = NEW(e, Onnx__TensorShapeProto__Dimension, onnx__tensor_shape_proto__dimension);
        if (t->dim[i] == 0) continue;
        if (dim_is_const(e->cx, t->dim[i])) {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            d->dim_value = dim_value(e->cx, t->dim[i]);
        } else {
            Writer w = {.arena = &e->cx->scratch};
            dim_print(e->cx, &w, t->dim[i]);
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            d->dim_param = (char *)(uintptr_t)cw_cstr(&w);
        }
    }
    return s;
}

static Onnx__TypeProto *tensor_type_message(Exporter *e, DType dtype, Onnx__TensorShapeProto *shape) {
    Onnx__TypeProto *p = NEW(e, Onnx__TypeProto, onnx__type_proto);
    p->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    p->tensor_type = NEW(e, Onnx__TypeProto__Tensor, onnx__type_proto__tensor);
    p->tensor_type->has_elem_type = true;
    p->tensor_type->elem_type = dtype_to_onnx(dtype);
    p->tensor_type->shape = shape;
    return p;
}

static Onnx__TypeProto *type_message(Exporter *e, const Type *t) {
    if (t->kind == TYPE_TENSOR) return tensor_type_message(e, t->dtype, t->rank != RANK_UNKNOWN ? shape_message(e, t) : NULL);
    Onnx__TypeProto *p = NEW(e, Onnx__TypeProto, onnx__type_proto);
    switch (t->kind) {
    case TYPE_TENSOR: break;
    case TYPE_SEQUENCE:
        p->value_case = ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
        p->sequence_type = NEW(e, Onnx__TypeProto__Sequence, onnx__type_proto__sequence);
        p->sequence_type->elem_type = type_message(e, t->elem);
        break;
    case TYPE_OPTIONAL:
        p->value_case = ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE;
        p->optional_type = NEW(e, Onnx__TypeProto__Optional, onnx__type_proto__optional);
        p->optional_type->elem_type = type_message(e, t->elem);
        break;
    case TYPE_MAP:
        p->value_case = ONNX__TYPE_PROTO__VALUE_MAP_TYPE;
        p->map_type = NEW(e, Onnx__TypeProto__Map, onnx__type_proto__map);
        p->map_type->has_key_type = true;
        p->map_type->key_type = dtype_to_onnx(t->key_dtype);
        p->map_type->value_type = tensor_type_message(e, t->dtype, NEW(e, Onnx__TensorShapeProto, onnx__tensor_shape_proto));
        break;
    }
    return p;
}

static Onnx__ValueInfoProto *value_info(Exporter *e, const Value *v, Str name) {
    Onnx__ValueInfoProto *p = NEW(e, Onnx__ValueInfoProto, onnx__value_info_proto);
    p->name = text_of(e, name);
    const Type *type = v->type != NULL ? v->type : v->declared;
    if (type != NULL) p->type = type_message(e, type);
    return p;
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */
static ProtobufCBinaryData bytes_of(const Exporter *e, Str s) {
    return (ProtobufCBinaryData){str_size(e->cx, s), (uint8_t *)text_of(e, s)};
}

static Onnx__TensorProto *tensor_message(Exporter *e, const Type *t, const ConstData *data) {
    Onnx__TensorProto *p = NEW(e, Onnx__TensorProto, onnx__tensor_proto);
    p->has_data_type = true;
    p->data_type = dtype_to_onnx(t->dtype);
    p->n_dims = t->rank;
    p->dims = ARENA_ARRAY(&e->cx->scratch, int64_t, t->rank);
    for (uint32_t i = 0; i < t->rank; i++) p->dims[i] = dim_value(e->cx, t->dim[i]);
    if (t->dtype != DT_STRING) {
        p->has_raw_data = true;
        p->raw_data = (ProtobufCBinaryData){data->bytes, (uint8_t *)(uintptr_t)data->data};
        return p;
    }
    p->n_string_data = data->bytes / sizeof(Str);
    p->string_data = ARENA_ARRAY(&e->cx->scratch, ProtobufCBinaryData, p->n_string_data);
    for (size_t i = 0; i < p->n_string_data; i++) p->string_data[i] = bytes_of(e, ((const Str *)data->data)[i]);
    return p;
}

/* The name under which a node reads v; a constant is written where it is first read. */
static char *read_name(Exporter *e, const Value *v) {
    if (v == NULL) return (char *)(uintptr_t)"";
    bool first = e->name[v->id] == 0;
    Str name = name_value(e, v);
    if (first && v->data != NULL) {
        Onnx__TensorProto *p = tensor_message(e, v->type, v->data);
        p->name = text_of(e, name);
        vec_push(&e->cx->scratch, &e->initializers, p);
        vec_push(&e->cx->scratch, &e->weights, v->data);
    }
    return text_of(e, name);
}

/* ---- attributes ------------------------------------------------------------------------------------------------- */
static bool ints_equal(const Attr *a, const char *def) {
    for (uint32_t i = 0; i < a->ints.n; i++) {
        char *end;
        if (strtoll(def, &end, 10) != a->ints.v[i] || end == def) return false;
        def = *end == ',' ? end + 1 : end;
    }
    return *def == 0;
}

bool attr_is_default(const Node *n, AttrSlot slot) {
    const AttrInfo *info = attr_info(slot);
    const Attr *a = attr_at(n, slot);
    if (!a->present) return true;
    if (info->def[0] == 0 || info->def[0] == '!') return false;
    switch (info->kind) {
    case ATTR_INT: return a->i == strtoll(info->def, NULL, 10);
    case ATTR_FLOAT: return a->f == (double)strtof(info->def, NULL);
    case ATTR_INTS: return ints_equal(a, info->def);
    case ATTR_STRING: case ATTR_FLOATS: case ATTR_STRINGS: case ATTR_TENSOR: case ATTR_GRAPH: case ATTR_TYPE: return false;
    }
    return false;
}

static Onnx__GraphProto *graph_message(Exporter *e, const Graph *g);

#define KIND(name) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name

static Onnx__AttributeProto *attr_message(Exporter *e, const AttrInfo *info, const Attr *a) {
    Context *cx = e->cx;
    Onnx__AttributeProto *p = NEW(e, Onnx__AttributeProto, onnx__attribute_proto);
    p->name = (char *)(uintptr_t)info->name;
    p->has_type = true;
    switch (info->kind) {
    case ATTR_INT: p->type = KIND(INT); p->has_i = true; p->i = a->i; break;
    case ATTR_FLOAT: p->type = KIND(FLOAT); p->has_f = true; p->f = (float)a->f; break;
    case ATTR_STRING: p->type = KIND(STRING); p->has_s = true; p->s = bytes_of(e, a->s); break;
    case ATTR_INTS: p->type = KIND(INTS); p->n_ints = a->ints.n; p->ints = (int64_t *)(uintptr_t)a->ints.v; break;
    case ATTR_FLOATS:
        p->type = KIND(FLOATS);
        p->n_floats = a->floats.n;
        p->floats = ARENA_ARRAY(&cx->scratch, float, a->floats.n);
        for (uint32_t i = 0; i < a->floats.n; i++) p->floats[i] = (float)a->floats.v[i];
        break;
    case ATTR_STRINGS:
        p->type = KIND(STRINGS);
        p->n_strings = a->strings.n;
        p->strings = ARENA_ARRAY(&cx->scratch, ProtobufCBinaryData, a->strings.n);
        for (uint32_t i = 0; i < a->strings.n; i++) p->strings[i] = bytes_of(e, a->strings.v[i]);
        break;
    case ATTR_TENSOR: p->type = KIND(TENSOR); p->t = tensor_message(e, a->tensor.type, a->tensor.data); break;
    case ATTR_GRAPH: p->type = KIND(GRAPH); p->g = graph_message(e, a->graph); break;
    case ATTR_TYPE: p->type = KIND(TYPE_PROTO); p->tp = type_message(e, a->type); break;
    }
    return p;
}

/* ---- nodes and graphs ------------------------------------------------------------------------------------------- */
static void write_nodes(Exporter *e, const Graph *g, NodeList *list);

/* The nodes of the body, reading the node's inputs and writing its outputs. */
static void write_fused(Exporter *e, const Node *n, NodeList *list) {
    const Graph *body = attr_at(n, AT_Fused_body)->graph;
    for (uint32_t i = 0; i < body->n_in && i < n->n_in; i++) {
        read_name(e, n->in[i]);
        if (n->in[i] != NULL) e->name[body->in[i]->id] = e->name[n->in[i]->id];
    }
    for (uint32_t i = 0; i < body->n_out && i < n->n_out; i++) {
        if (n->out[i] == NULL) continue;
        e->name[body->out[i]->id] = name_value(e, n->out[i]);
    }
    write_nodes(e, body, list);
}

static void write_attrs(Exporter *e, const Node *n, Onnx__NodeProto *p) {
    AttrSlot first = op_info(n->op)->attr_first;
    p->attribute = arena_array(&e->cx->scratch, n->n_attr, sizeof *p->attribute);
    for (AttrSlot slot = first; slot < first + n->n_attr; slot++)
        if (!attr_is_default(n, slot)) p->attribute[p->n_attribute++] = attr_message(e, attr_info(slot), attr_at(n, slot));
}

static void write_node(Exporter *e, const Node *n, NodeList *list) {
    Context *cx = e->cx;
    if (n->op == OP_Fused) {
        write_fused(e, n, list);
        return;
    }
    if (op_info(n->op)->domain == DOMAIN_LATHE) {
        diag(cx, SEV_ERROR, n->loc, "%s has no form in ONNX; export before passes that make it run", op_name(n->op));
        e->failed = true;
        return;
    }
    if (n->op == OP_CastMap || n->op == OP_DictVectorizer) { /* their inputs were maps once */
        diag(cx, SEV_ERROR, n->loc, "the keys and values that it reads cannot be written as a map; export after expand");
        e->failed = true;
        return;
    }
    Onnx__NodeProto *p = NEW(e, Onnx__NodeProto, onnx__node_proto);
    p->op_type = (char *)(uintptr_t)op_name(n->op);
    p->domain = (char *)(uintptr_t)domain_text(op_info(n->op)->domain);
    if (n->loc.node != 0) p->name = text_of(e, take_name(e, &e->taken_nodes, n->loc.node));
    p->input = ARENA_ARRAY(&cx->scratch, char *, n->n_in);
    p->output = ARENA_ARRAY(&cx->scratch, char *, n->n_out);
    for (p->n_input = 0; p->n_input < n->n_in; p->n_input++) p->input[p->n_input] = read_name(e, n->in[p->n_input]);
    write_attrs(e, n, p); /* regions name what they read before the outputs get their names */
    for (p->n_output = 0; p->n_output < n->n_out; p->n_output++) {
        const Value *v = n->out[p->n_output];
        p->output[p->n_output] = v != NULL ? text_of(e, name_value(e, v)) : (char *)(uintptr_t)"";
    }
    vec_push(&cx->scratch, list, p);
}

static void write_nodes(Exporter *e, const Graph *g, NodeList *list) {
    FOR_NODES(n, g) write_node(e, n, list);
}

static void write_identity(Exporter *e, const char *from, Str to, NodeList *list) {
    Onnx__NodeProto *p = NEW(e, Onnx__NodeProto, onnx__node_proto);
    p->op_type = (char *)(uintptr_t)"Identity";
    p->n_input = p->n_output = 1;
    p->input = ARENA_ARRAY(&e->cx->scratch, char *, 1);
    p->output = ARENA_ARRAY(&e->cx->scratch, char *, 1);
    p->input[0] = (char *)(uintptr_t)from;
    p->output[0] = text_of(e, to);
    vec_push(&e->cx->scratch, list, p);
}

/* An output must be computed in its own graph, once: one that is an input, a constant, a value of an outer graph or
 * listed before is copied. */
static bool needs_copy(const Graph *g, uint32_t i) {
    const Value *v = g->out[i];
    if (v->def == NULL || v->def->graph != g) return true;
    for (uint32_t k = 0; k < i; k++)
        if (g->out[k] == v) return true;
    return false;
}

static Onnx__GraphProto *graph_message(Exporter *e, const Graph *g) {
    Context *cx = e->cx;
    Onnx__GraphProto *p = NEW(e, Onnx__GraphProto, onnx__graph_proto);
    NodeList nodes = {0};
    p->name = g->name != 0 ? text_of(e, g->name) : (char *)(uintptr_t)"graph";
    p->input = arena_array(&cx->scratch, g->n_in, sizeof *p->input);
    p->output = arena_array(&cx->scratch, g->n_out, sizeof *p->output);
    for (p->n_input = 0; p->n_input < g->n_in; p->n_input++)
        p->input[p->n_input] = value_info(e, g->in[p->n_input], name_value(e, g->in[p->n_input]));
    write_nodes(e, g, &nodes);
    for (p->n_output = 0; p->n_output < g->n_out; p->n_output++) {
        const Value *v = g->out[p->n_output];
        Str name;
        if (needs_copy(g, (uint32_t)p->n_output)) {
            const char *from = read_name(e, v);
            name = g == e->m->main && e->output[p->n_output] != 0 ? e->output[p->n_output] : free_name(e, str_format(cx, "%s_out", from));
            write_identity(e, from, name, &nodes);
        } else {
            name = name_value(e, v);
        }
        p->output[p->n_output] = value_info(e, v, name);
    }
    p->node = nodes.v;
    p->n_node = nodes.n;
    return p;
}

/* Names that a caller of the model sees come first. */
static void name_interface(Exporter *e) {
    const Graph *g = e->m->main;
    for (uint32_t i = 0; i < g->n_in; i++) name_value(e, g->in[i]);
    for (uint32_t i = 0; i < g->n_out; i++) {
        if (!needs_copy(g, i)) name_value(e, g->out[i]);
        else if (g->out[i]->data != NULL && g->out[i]->name != 0) e->output[i] = free_name(e, g->out[i]->name);
    }
}

/* ---- the model -------------------------------------------------------------------------------------------------- */
static void add_opset(Exporter *e, Onnx__ModelProto *p, const char *domain, int64_t version) {
    Onnx__OperatorSetIdProto *o = p->opset_import[p->n_opset_import++] = NEW(e, Onnx__OperatorSetIdProto, onnx__operator_set_id_proto);
    o->domain = (char *)(uintptr_t)domain;
    o->has_version = true;
    o->version = version;
}

static Onnx__StringStringEntryProto *entry(Exporter *e, const char *key, const char *value) {
    Onnx__StringStringEntryProto *p = NEW(e, Onnx__StringStringEntryProto, onnx__string_string_entry_proto);
    p->key = (char *)(uintptr_t)key;
    p->value = (char *)(uintptr_t)value;
    return p;
}

static Onnx__ModelProto *model_message(Exporter *e) {
    Context *cx = e->cx;
    Opsets o = opsets_needed(e->m);
    Onnx__ModelProto *p = NEW(e, Onnx__ModelProto, onnx__model_proto);
    p->has_ir_version = true;
    p->ir_version = o.ir_version;
    p->producer_name = (char *)(uintptr_t)"lathe";
    p->opset_import = arena_array(&cx->scratch, DOMAIN_COUNT, sizeof *p->opset_import);
    for (int d = 0; d < DOMAIN_LATHE; d++)
        if (o.used[d]) add_opset(e, p, domain_text((OpDomain)d), d == DOMAIN_ONNX ? o.onnx : d == DOMAIN_ML ? o.ml : 1);
    p->metadata_props = arena_array(&cx->scratch, e->m->n_meta, sizeof *p->metadata_props);
    for (uint32_t i = 0; i < e->m->n_meta; i++)
        p->metadata_props[p->n_metadata_props++] = entry(e, text_of(e, e->m->meta_key[i]), text_of(e, e->m->meta_value[i]));
    p->graph = graph_message(e, e->m->main);
    p->graph->initializer = e->initializers.v;
    p->graph->n_initializer = e->initializers.n;
    return p;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */
typedef struct FileBuffer {
    ProtobufCBuffer base;
    FILE *file;
    int error;
} FileBuffer;

static void append(ProtobufCBuffer *base, size_t n, const uint8_t *data) {
    FileBuffer *b = (FileBuffer *)base;
    if (b->error == 0 && n != 0 && fwrite(data, 1, n, b->file) != n) b->error = errno != 0 ? errno : EIO;
}

static bool finish_file(Exporter *e, const char *path, FileBuffer *b) {
    if (b->file == NULL) b->error = errno;
    else if (fclose(b->file) != 0 && b->error == 0) b->error = errno;
    if (b->error == 0) return true;
    if (b->file != NULL) unlink(path);
    diag(e->cx, SEV_ERROR, (Loc){.file = str_intern(e->cx, path)}, "cannot write: %s", strerror(b->error));
    return false;
}

static bool is_moved(const Onnx__TensorProto *t) {
    return t->has_raw_data && t->raw_data.len >= 1024;
}

static size_t to_page(uint64_t at) {
    return (size_t)(-at & 4095);
}

/* Says in each tensor of 1 KiB and more where its data will stand: at multiples of 4096, as mapping wants. */
static void refer_to_weights(Exporter *e, const char *path) {
    const char *slash = strrchr(path, '/');
    uint64_t at = 0;
    for (uint32_t i = 0; i < e->initializers.n; i++) {
        Onnx__TensorProto *t = e->initializers.v[i];
        if (!is_moved(t)) continue;
        at += to_page(at);
        t->n_external_data = 3;
        t->external_data = arena_array(&e->cx->scratch, 3, sizeof *t->external_data);
        t->external_data[0] = entry(e, "location", slash != NULL ? slash + 1 : path);
        t->external_data[1] = entry(e, "offset", text_of(e, str_format(e->cx, "%llu", (unsigned long long)at)));
        t->external_data[2] = entry(e, "length", text_of(e, str_format(e->cx, "%zu", t->raw_data.len)));
        t->has_data_location = true;
        t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
        at += t->raw_data.len;
    }
}

static bool write_weights(Exporter *e, const char *path) {
    static const uint8_t zeros[4096];
    refer_to_weights(e, path); /* allocates: not while a file is open */
    FileBuffer b = {.base = {append}, .file = fopen(path, "wb")};
    uint64_t at = 0;
    for (uint32_t i = 0; b.file != NULL && i < e->initializers.n; i++) {
        Onnx__TensorProto *t = e->initializers.v[i];
        if (!is_moved(t)) continue;
        append(&b.base, to_page(at), zeros);
        append(&b.base, t->raw_data.len, t->raw_data.data);
        at += to_page(at) + t->raw_data.len;
        t->has_raw_data = false;
    }
    return finish_file(e, path, &b);
}

static bool write_model(Exporter *e, const char *path, const Onnx__ModelProto *p) {
    FileBuffer b = {.base = {append}, .file = fopen(path, "wb")};
    if (b.file != NULL) protobuf_c_message_pack_to_buffer(&p->base, &b.base);
    return finish_file(e, path, &b);
}

static uint64_t weight_bytes(const Exporter *e) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < e->weights.n; i++) bytes += e->weights.v[i]->bytes;
    return bytes;
}

static bool outputs_typed(Exporter *e) {
    const Graph *g = e->m->main;
    for (uint32_t i = 0; i < g->n_out; i++) {
        if (g->out[i]->type != NULL || g->out[i]->declared != NULL) continue;
        diag(e->cx, SEV_ERROR, (Loc){0}, "output \"%s\" has no type: shapes were not inferred", str_text(e->cx, g->out[i]->name));
        return false;
    }
    return true;
}

bool export_model(Module *m, const char *path, uint64_t inline_bytes_max) {
    Exporter e = {.m = m, .cx = m->cx, .name = ARENA_ARRAY(&m->cx->scratch, Str, m->n_value + 1)};
    e.output = ARENA_ARRAY(&m->cx->scratch, Str, m->main->n_out);
    if (!outputs_typed(&e)) return false;
    name_interface(&e);
    const Onnx__ModelProto *p = model_message(&e);
    if (e.failed) return false;
    const char *data_path = str_text(m->cx, str_format(m->cx, "%s.data", path));
    bool external = weight_bytes(&e) > inline_bytes_max;
    if (external && !write_weights(&e, data_path)) return false;
    if (write_model(&e, path, p)) return true;
    if (external) unlink(data_path);
    return false;
}

bool onnx_export(Module *m, const char *path) {
    return export_model(m, path, INLINE_BYTES_MAX);
}
