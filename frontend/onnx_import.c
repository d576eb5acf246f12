/* ONNX files to IR: graphs, scopes, nodes.
 *
 *     node { input: "x" input: "w" output: "y" op_type: "MatMul" }   ->   %y = MatMul(%x, %w)
 *
 * Names become pointers here: each graph has a scope, a node's inputs are looked up outward through the scopes, so a
 * region simply refers to the values it captures. A name nobody defines gives a poisoned value and one diagnostic, and
 * the import goes on: one run reports every problem. */
#include "frontend/onnx_import.h"

#include "frontend/onnx_file.h"
#include "frontend/upgrade.h"

/* ---- names ------------------------------------------------------------------------------------------------------ */
Value *scope_find(const Scope *scope, Str name) {
    for (; scope != NULL; scope = scope->outer) {
        Value *v = id_map_get(&scope->values, name);
        if (v != NULL) return v;
    }
    return NULL;
}

void scope_put(Importer *im, Scope *scope, Str name, Value *v) {
    id_map_put(&im->cx->arena, &scope->values, name, v);
}

Str unique_name(Importer *im, Str name) {
    Context *cx = im->cx;
    /* The pointer holds the next suffix to try, so that a name used n times costs n tries in all. */
    uintptr_t next = (uintptr_t)id_map_get(&im->taken, name);
    if (next == 0) {
        id_map_put(&cx->arena, &im->taken, name, (void *)(uintptr_t)2);
        return name;
    }
    Str fresh;
    do fresh = str_format(cx, "%s_%zu", str_text(cx, name), (size_t)next++);
    while (id_map_get(&im->taken, fresh) != NULL);
    id_map_put(&cx->arena, &im->taken, name, (void *)next);
    id_map_put(&cx->arena, &im->taken, fresh, (void *)(uintptr_t)2);
    return fresh;
}

static Str intern(Importer *im, const char *text) {
    return text != NULL && text[0] != 0 ? str_intern(im->cx, text) : 0;
}

/* Binds a new definition. A graph defines a name once. */
static void define(Importer *im, Scope *scope, Loc loc, Str name, Value *v) {
    if (id_map_get(&scope->values, name) != NULL) {
        diag(im->cx, SEV_ERROR, loc, "value \"%s\" is defined twice", str_text(im->cx, name));
        return;
    }
    /* The main graph's names were all taken before the first node, so that nothing else gets them. */
    v->name = scope->outer == NULL && scope->frame->caller == NULL ? name : unique_name(im, name);
    scope_put(im, scope, name, v);
}

static Value *use(Importer *im, Scope *scope, Loc loc, const char *text) {
    Str name = intern(im, text);
    if (name == 0) return NULL;
    Value *v = scope_find(scope, name);
    if (v == im->absent) return NULL;
    if (v == NULL) {
        diag(im->cx, SEV_ERROR, loc, "value \"%s\" is not defined before its use", text);
        v = value_new(im->m, NULL, name);
        v->poison = true;
        scope_put(im, scope, name, v);
    }
    return v;
}

/* ---- opsets ----------------------------------------------------------------------------------------------------- */
int64_t opset_version(const Frame *frame, OpDomain domain) {
    for (uint32_t i = 0; i < frame->n_opset; i++) {
        OpDomain d;
        if (domain_find(frame->opset[i].domain, &d) && d == domain) return frame->opset[i].version;
    }
    return frame->caller != NULL ? opset_version(frame->caller, domain) : 1;
}

static void check_opsets(Importer *im) {
    Loc loc = {.file = im->file};
    for (size_t i = 0; i < im->model->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *o = im->model->opset_import[i];
        OpDomain d;
        if (domain_find(o->domain != NULL ? o->domain : "", &d) && d == DOMAIN_ONNX && o->version > ONNX_OPSET_NEWEST)
            diag(im->cx, SEV_WARNING, loc, "opset %lld is newer than %d, the newest one known; its operators are read as those of %d",
                 (long long)o->version, ONNX_OPSET_NEWEST, ONNX_OPSET_NEWEST);
    }
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */
/* The attributes of a node; inside a function, references are replaced by what the call gave. */
static void bind_attrs(Importer *im, const Scope *scope, const Onnx__NodeProto *n, RawNode *raw) {
    Context *cx = im->cx;
    for (size_t i = 0; i < n->n_attribute; i++) {
        const Onnx__AttributeProto *a = n->attribute[i];
        Binding b = {a, str_intern(cx, a->name != NULL ? a->name : ""), scope};
        if (a->ref_attr_name != NULL && a->ref_attr_name[0] != 0) {
            Str wanted = str_intern(cx, a->ref_attr_name);
            const Binding *given = NULL;
            for (uint32_t k = 0; k < scope->frame->n_binding; k++)
                if (scope->frame->binding[k].name == wanted) given = &scope->frame->binding[k];
            if (given == NULL) continue; /* not given and no default: as if the attribute were not there */
            b.attr = given->attr;
            b.scope = given->scope;
        }
        vec_push(&cx->arena, &raw->attr, b);
    }
}

static bool attr_is_harmless(const char *name) {
    return strcmp(name, "doc_string") == 0 || name[0] == '_';
}

static bool set_attrs(Importer *im, const RawNode *raw, Node *n) {
    Context *cx = im->cx;
    const OpInfo *info = op_info(n->op);
    bool ok = true;
    bool *given = ARENA_ARRAY(&cx->scratch, bool, n->n_attr);
    for (uint32_t i = 0; i < raw->attr.n; i++) {
        const char *name = str_text(cx, raw->attr.v[i].name);
        uint32_t k = 0;
        while (k < n->n_attr && strcmp(attr_info(info->attr_first + k)->name, name) != 0) k++;
        if (k == n->n_attr) {
            if (!attr_is_harmless(name)) diag(cx, SEV_WARNING, n->loc, "attribute %s is not known and ignored", name);
        } else if (given[k]) {
            diag(cx, SEV_ERROR, n->loc, "attribute %s is given twice", name);
            ok = false;
        } else {
            given[k] = true;
            ok = import_attr(im, raw->attr.v[i].scope, n, info->attr_first + k, raw->attr.v[i].attr) && ok;
        }
    }
    for (uint32_t k = 0; k < n->n_attr; k++) {
        const AttrInfo *a = attr_info(info->attr_first + k);
        if (a->def[0] != '!' || given[k]) continue;
        diag(cx, SEV_ERROR, n->loc, "attribute %s is missing", a->name);
        ok = false;
    }
    return ok;
}

static bool check_count(Importer *im, Loc loc, const char *what, uint32_t n, uint32_t min, uint32_t max) {
    if (n >= min && n <= max) return true;
    Writer w = {.arena = &im->cx->scratch};
    if (max == MANY) cw_printf(&w, "at least %u", min);
    else if (min == max) cw_printf(&w, "%u", min);
    else cw_printf(&w, "%u to %u", min, max);
    diag(im->cx, SEV_ERROR, loc, "%u %s, it takes %s", n, what, cw_cstr(&w));
    return false;
}

/* Operators that may leave out inputs before their last required one: a bit per input. */
static uint32_t optional_inputs(Op op) {
    static const struct { Op op; uint32_t mask; } rows[] = {
        {OP_Loop, 0x3},                             /* trip count, condition */
        {OP_DynamicQuantizeLSTM, 0xF8}, {OP_AttnLSTM, 0xF8}, /* B, sequence_lens, initial_h, initial_c, P */
        {OP_DecoderAttention, 0xE0},                /* key_padding_mask, key_cache, value_cache */
        {OP_DecoderMaskedSelfAttention, 0x28},      /* mask_index, attention_bias */
        {OP_GroupQueryAttention, 0x1E},             /* key, value, past_key, past_value */
        {OP_PackedMultiHeadAttention, 0xE},         /* key, value, bias */
        {OP_EmbedLayerNormalization, 0x12},         /* segment_ids, segment_embedding */
        {OP_QEmbedLayerNormalization, 0x8492},      /* and the mask, the scale and zero point of segment_embedding */
        {OP_QLinearAdd, 0x24}, {OP_QLinearMul, 0x24}, /* zero points of A and B */
        {OP_QLinearLeakyRelu, 0x4}, {OP_QLinearSigmoid, 0x4}, {OP_QLinearReduceMean, 0x4}, {OP_QLinearAveragePool, 0x4}, {OP_QLinearSoftmax, 0x4},
        {OP_MoE, 0x8}, {OP_QMoE, 0x18},             /* biases, scales */
        {OP_BeamSearch, 0x4},                       /* min_length */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].op == op) return rows[i].mask;
    return 0;
}

static bool check_arity(Importer *im, const RawNode *raw, Op op) {
    const OpInfo *info = op_info(op);
    if (!check_count(im, raw->loc, "inputs", raw->in.n, info->in_min, info->in_max)) return false;
    if (!check_count(im, raw->loc, "outputs", raw->n_out, info->out_min, info->out_max)) return false;
    uint32_t optional = optional_inputs(op);
    for (uint32_t i = 0; i < info->in_min; i++) {
        if (raw->in.v[i] != NULL || (optional >> i & 1) != 0) continue;
        diag(im->cx, SEV_ERROR, raw->loc, "input %u is missing", i);
        return false;
    }
    return true;
}

Node *import_build(RawNode *raw) {
    Importer *im = raw->im;
    Scope *scope = raw->scope;
    Op op = op_find(raw->domain, raw->op);
    if (op == OP_NONE || raw->domain == DOMAIN_LATHE) {
        const char *domain = domain_text(raw->domain);
        diag(im->cx, SEV_ERROR, raw->loc, "operator %s of domain %s, version %lld, is not supported", raw->op, domain[0] != 0 ? domain : "ai.onnx",
             (long long)raw->version);
        return NULL;
    }
    while (raw->in.n > op_info(op)->in_min && raw->in.v[raw->in.n - 1] == NULL) raw->in.n--;
    if (!check_arity(im, raw, op)) return NULL;
    /* Regions of the node read what stands before it: built first, they cannot see its outputs. */
    Node *n = node_new(im->m, scope->graph, NULL, op, raw->in.n, raw->in.v, raw->n_out);
    n->loc = raw->loc;
    if (!set_attrs(im, raw, n)) {
        node_remove(n);
        return NULL;
    }
    return n;
}

static Value *poisoned(Importer *im) {
    Value *v = value_new(im->m, NULL, 0);
    v->poison = true;
    return v;
}

/* The values of a map follow its keys where an operator reads them. */
static bool use_maps(Importer *im, RawNode *raw) {
    bool reads = raw->domain == DOMAIN_ML && (strcmp(raw->op, "CastMap") == 0 || strcmp(raw->op, "DictVectorizer") == 0);
    for (uint32_t i = 0; i < raw->in.n; i++) {
        Value *v = raw->in.v[i], *values = v != NULL ? id_map_get(&im->map_values, v->id + 1) : NULL;
        if ((values != NULL) == reads || (v != NULL && v->poison)) {
            if (values == NULL || raw->in.n != 1) continue;
            vec_push(&im->cx->arena, &raw->in, values);
            return true;
        }
        diag(im->cx, SEV_ERROR, raw->loc, reads ? "input %u is not a map" : "input %u is a map, which only CastMap and DictVectorizer read", i);
        return false;
    }
    return true;
}

/* out[i]: the values of the node's outputs; all NULL when an error was reported. */
static void import_op(Importer *im, Scope *scope, RawNode *raw, const Onnx__NodeProto *n, Value **out) {
    const Onnx__FunctionProto *f = find_function(im, n);
    if (f != NULL) {
        inline_call(im, scope, raw->loc, f, n, raw->attr.n, raw->attr.v, raw->in.n, raw->in.v, out);
        return;
    }
    if (!domain_find(n->domain != NULL ? n->domain : "", &raw->domain)) {
        diag(im->cx, SEV_ERROR, raw->loc, "operator %s of domain %s is not supported", raw->op, n->domain);
        return;
    }
    if (!use_maps(im, raw)) return;
    raw->version = opset_version(scope->frame, raw->domain);
    if (raw->domain == DOMAIN_ONNX && raw->version > ONNX_OPSET_NEWEST) raw->version = ONNX_OPSET_NEWEST;
    if (raw->domain == DOMAIN_ONNX && strcmp(raw->op, "Constant") == 0 && raw->n_out == 1) {
        out[0] = import_constant(im, raw->loc, raw->attr.n, raw->attr.v);
        return;
    }
    if (!upgrade_node(raw)) return;
    if (raw->result != NULL) {
        memcpy(out, raw->result, raw->n_out * sizeof *out);
        return;
    }
    Node *node = import_build(raw);
    if (node == NULL) return;
    for (uint32_t i = 0; i < raw->n_out; i++) {
        if (!raw->wanted[i]) node->out[i] = NULL;
        out[i] = node->out[i];
    }
}

static void import_node(Importer *im, Scope *scope, const Onnx__NodeProto *n, uint32_t index) {
    Context *cx = im->cx;
    const char *op = n->op_type != NULL ? n->op_type : "";
    Loc loc = {im->file, 0, str_intern(cx, op), index};
    if (n->name != NULL && n->name[0] != 0) loc.node = str_format(cx, "%s%s", str_text(cx, scope->frame->prefix), n->name);
    if (n->n_input >= MANY || n->n_output >= MANY) {
        diag(cx, SEV_ERROR, loc, "more than %d inputs or outputs", MANY - 1);
        return;
    }
    RawNode raw = {.im = im, .scope = scope, .loc = loc, .op = op, .n_out = (uint32_t)n->n_output};
    for (size_t i = 0; i < n->n_input; i++) vec_push(&cx->arena, &raw.in, use(im, scope, loc, n->input[i]));
    while (raw.n_out > 1 && intern(im, n->output[raw.n_out - 1]) == 0) raw.n_out--;
    bool *wanted = ARENA_ARRAY(&cx->arena, bool, raw.n_out);
    for (uint32_t i = 0; i < raw.n_out; i++) wanted[i] = intern(im, n->output[i]) != 0;
    raw.wanted = wanted;
    bind_attrs(im, scope, n, &raw);
    Value **out = ARENA_ARRAY(&cx->arena, Value *, raw.n_out);
    uint32_t errors = cx->n_error, first_new = im->m->n_value;
    if (scope->frame->caller != NULL) im->inlined++;
    import_op(im, scope, &raw, n, out);
    for (uint32_t i = 0; i < raw.n_out; i++) {
        if (!wanted[i]) continue;
        Str name = intern(im, n->output[i]);
        if (out[i] == NULL && cx->n_error == errors) continue; /* an upgrade that does not give this output: unless it is used */
        Value *v = out[i] != NULL ? out[i] : poisoned(im);
        /* What a function made gets the name the call gives it; an input that it passed on keeps its own. */
        if (v->id >= first_new) define(im, scope, loc, name, v);
        else if (id_map_get(&scope->values, name) != NULL) diag(cx, SEV_ERROR, loc, "value \"%s\" is defined twice", str_text(cx, name));
        else scope_put(im, scope, name, v);
    }
}

void import_nodes(Importer *im, Scope *scope, size_t n, Onnx__NodeProto *const *nodes) {
    const uint32_t *order = execution_order(im->cx, n, nodes);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = order != NULL ? order[i] : i;
        import_node(im, scope, nodes[at], at);
    }
}

/* ---- graphs ----------------------------------------------------------------------------------------------------- */
static const char *quoted(Importer *im, const char *kind, const char *name) {
    return str_text(im->cx, str_format(im->cx, "%s \"%s\"", kind, name != NULL ? name : ""));
}

static void define_initializer(Importer *im, Scope *scope, Loc loc, const char *name, bool decoded, const TensorBytes *t) {
    Value *v = decoded ? tensor_bytes_const(im->m, t) : poisoned(im);
    if (intern(im, name) != 0) define(im, scope, loc, intern(im, name), v);
}

static void import_initializers(Importer *im, Scope *scope, Loc loc, const Onnx__GraphProto *g) {
    TensorBytes t;
    for (size_t i = 0; i < g->n_initializer; i++) {
        const char *name = g->initializer[i]->name;
        bool ok = tensor_decode(im->cx, loc, quoted(im, "initializer", name), &im->external, g->initializer[i], &t);
        define_initializer(im, scope, loc, name, ok, &t);
    }
    for (size_t i = 0; i < g->n_sparse_initializer; i++) {
        const Onnx__SparseTensorProto *s = g->sparse_initializer[i];
        const char *name = s->values != NULL ? s->values->name : NULL;
        bool ok = sparse_tensor_decode(im->cx, loc, quoted(im, "sparse initializer", name), &im->external, s, &t);
        define_initializer(im, scope, loc, name, ok, &t);
    }
}

/* A map is two tensors of one size: `scores` of map<string,f32> is scores_keys: string[scores_size] and scores: f32[scores_size].
 * Its name stands for the keys, which lead to the values. */
static void import_map(Importer *im, Scope *scope, const Type *map, Str name) {
    Dim size = map->length;
    Value *keys = graph_add_input(im->m, scope->graph, type_tensor(im->cx, map->key_dtype, 1, &size), 0);
    Value *values = graph_add_input(im->m, scope->graph, type_tensor(im->cx, map->dtype, 1, &size), name);
    keys->name = unique_name(im, str_format(im->cx, "%s_keys", str_text(im->cx, name)));
    scope_put(im, scope, name, keys);
    id_map_put(&im->cx->arena, &im->map_values, keys->id + 1, values);
}

/* Inputs that have an initializer are constants, as in old files. */
static void import_inputs(Importer *im, Scope *scope, Loc loc, const Onnx__GraphProto *g, bool symbols) {
    for (size_t i = 0; i < g->n_input; i++) {
        const Onnx__ValueInfoProto *info = g->input[i];
        Str name = intern(im, info->name);
        if (name != 0 && id_map_get(&scope->values, name) != NULL) continue;
        uint32_t errors = im->cx->n_error;
        const char *what = quoted(im, "input", info->name);
        const Type *type = import_type(im, loc, what, info->type, symbols, info->name != NULL ? info->name : "in");
        if (type != NULL && type->kind == TYPE_MAP && name != 0) {
            import_map(im, scope, type, name);
            continue;
        }
        Value *v = graph_add_input(im->m, scope->graph, type, 0);
        v->poison = type == NULL && symbols;
        if (v->poison && im->cx->n_error == errors) diag(im->cx, SEV_ERROR, loc, "%s has no type", what);
        if (name != 0) define(im, scope, loc, name, v);
    }
}

static void import_outputs(Importer *im, Scope *scope, Loc loc, const Onnx__GraphProto *g) {
    for (size_t i = 0; i < g->n_output; i++) {
        const char *text = g->output[i]->name;
        Str name = intern(im, text);
        Value *v = name != 0 ? scope_find(scope, name) : NULL;
        if (v == NULL) {
            diag(im->cx, SEV_ERROR, loc, "%s is not computed by the graph", quoted(im, "output", text));
            v = poisoned(im);
        }
        if (id_map_get(&im->map_values, v->id + 1) != NULL) diag(im->cx, SEV_ERROR, loc, "%s is a map; only tensors, sequences and optionals can be outputs", quoted(im, "output", text));
        if (v->declared == NULL) v->declared = import_type(im, loc, quoted(im, "output", text), g->output[i]->type, false, "");
        graph_add_output(im->m, scope->graph, v);
    }
    for (size_t i = 0; i < g->n_value_info; i++) {
        Str name = intern(im, g->value_info[i]->name);
        Value *v = name != 0 ? scope_find(scope, name) : NULL;
        if (v != NULL && v->declared == NULL) v->declared = import_type(im, loc, quoted(im, "value", g->value_info[i]->name), g->value_info[i]->type, false, "");
    }
}

Graph *import_region(Importer *im, const Scope *outer, Loc loc, const Onnx__GraphProto *g) {
    Scope scope = {.outer = outer, .frame = outer->frame};
    scope.graph = graph_new(im->m, outer->graph, g->name != NULL ? g->name : "");
    import_initializers(im, &scope, loc, g);
    import_inputs(im, &scope, loc, g, false);
    import_nodes(im, &scope, g->n_node, g->node);
    import_outputs(im, &scope, loc, g);
    return scope.graph;
}

/* Names of the main graph are what callers of the emitted code see: nothing else may take one. */
static void take_main_names(Importer *im, const Onnx__GraphProto *g) {
    void *taken = (void *)(uintptr_t)2;
    Arena *a = &im->cx->arena;
    for (size_t i = 0; i < g->n_initializer; i++) if (intern(im, g->initializer[i]->name)) id_map_put(a, &im->taken, intern(im, g->initializer[i]->name), taken);
    for (size_t i = 0; i < g->n_input; i++) if (intern(im, g->input[i]->name)) id_map_put(a, &im->taken, intern(im, g->input[i]->name), taken);
    for (size_t i = 0; i < g->n_node; i++)
        for (size_t k = 0; k < g->node[i]->n_output; k++)
            if (intern(im, g->node[i]->output[k])) id_map_put(a, &im->taken, intern(im, g->node[i]->output[k]), taken);
}

/* A function may hand an input or a constant straight to an output of the model; the output keeps the file's name. */
static void name_outputs(Importer *im, const Onnx__GraphProto *g) {
    Graph *main = im->m->main;
    for (uint32_t i = 0; i < main->n_out; i++) {
        Str name = intern(im, g->output[i]->name);
        if (main->out[i]->name == name || main->out[i]->poison) continue;
        Node *n = node_new(im->m, main, NULL, OP_Identity, 1, &main->out[i], 1);
        n->loc.file = im->file;
        n->out[0]->name = name;
        main->out[i] = n->out[0];
    }
}

static void keep_metadata(Importer *im) {
    Module *m = im->m;
    size_t n = im->model->n_metadata_props;
    m->meta_key = ARENA_ARRAY(&im->cx->arena, Str, n);
    m->meta_value = ARENA_ARRAY(&im->cx->arena, Str, n);
    m->n_meta = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        m->meta_key[i] = intern(im, im->model->metadata_props[i]->key);
        m->meta_value[i] = intern(im, im->model->metadata_props[i]->value);
    }
}

static const OpsetImport *opsets(Importer *im) {
    size_t n = im->model->n_opset_import;
    OpsetImport *o = ARENA_ARRAY(&im->cx->arena, OpsetImport, n);
    for (size_t i = 0; i < n; i++) {
        const char *domain = im->model->opset_import[i]->domain;
        o[i] = (OpsetImport){domain != NULL ? domain : "", im->model->opset_import[i]->version};
    }
    return o;
}

bool onnx_import(Module *m, const char *path) {
    Context *cx = m->cx;
    uint32_t errors = cx->n_error;
    Importer im = {.m = m, .cx = cx, .file = str_intern(cx, path), .external = {.folder = folder_of(cx, path)}};
    im.absent = value_new(m, NULL, 0);
    Loc loc = {.file = im.file};
    FileBytes bytes;
    if (!file_load(cx, path, &bytes)) return false;
    im.model = message_parse(cx, loc, &onnx__model_proto__descriptor, "an ONNX model", bytes);
    if (im.model == NULL) return false;
    const Onnx__GraphProto *g = im.model->graph;
    if (g == NULL) {
        diag(cx, SEV_ERROR, loc, "not an ONNX model: it has no graph");
        return false;
    }
    check_opsets(&im);
    index_functions(&im);
    keep_metadata(&im);
    Frame frame = {.opset = opsets(&im), .n_opset = (uint32_t)im.model->n_opset_import};
    Scope scope = {.frame = &frame, .graph = m->main};
    if (g->name != NULL && g->name[0] != 0) m->main->name = str_intern(cx, g->name);
    take_main_names(&im, g);
    import_initializers(&im, &scope, loc, g);
    import_inputs(&im, &scope, loc, g, true);
    import_nodes(&im, &scope, g->n_node, g->node);
    import_outputs(&im, &scope, loc, g);
    name_outputs(&im, g);
    return cx->n_error == errors;
}
