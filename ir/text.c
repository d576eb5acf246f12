/* The text form of the graph IR; this file prints it, ir/text_parse.c reads it: module_print(module_parse(text)) is text
 * again, byte for byte, for every text that module_print wrote.
 *
 *     module @mlp
 *     file "mlp.onnx"
 *     meta "producer" = "torch"
 *     dim N = 1..64
 *     dim nz_1 = 0..24 runtime
 *
 *     graph @main(%x: f32[N,64]) -> (%y) {
 *         %w = const f32[64,10] #0
 *         %0 = MatMul(%x, %w) : f32[N,10]   @"fc1/MatMul"
 *         %y, _ = LayerNormalization(%0, %w, _) {axis = 1, epsilon = 1e-06} : f32[N,10], _
 *     }
 *     #0 = "base64..."
 *
 * - Values: %name is the model's name, quoted when it is not made of letters, digits, '_', '.' and '/'; values without
 *   a name get numbers in the order of the text. One namespace for the whole module, regions included: a second value
 *   of the same name is %name#2. `_` stands for an input left out or an output nobody wants.
 * - Constants stand before their first use, up to INLINE_MAX elements in place, larger ones after the graph.
 * - Attributes that have their default are not printed; `axis = _` is one without the value its default would give.
 *   Region graphs are attributes. Float attributes are floats: 0.1 is 0.1f (a final d makes it a double).
 * - `: type = [dims]` adds the contents of a small integer tensor where they are known; `: type poison` marks a value
 *   whose definition had an error, `: type declared type` one that the file says another type of.
 * - @"name" is the node's name in the model; `from "Op"` follows when it came from another operator.
 * Line comments start with //. */

#include "base/map.h"
#include "ir/graph.h"
#include "ir/text_number.h"

enum { INLINE_MAX = 16 };

/* ---- printing --------------------------------------------------------------------------------------------------- */
typedef struct Printer {
    Module *m;
    Context *cx;
    Writer *w;
    uint32_t *key;          /* by value id: number + 1 of an unnamed value, occurrence of a named one; 0 = not yet printed */
    bool *defined;          /* by value id: constants that have been printed */
    Map seen;               /* name -> occurrences */
    uint32_t n_number;
    VEC(const ConstData *) blob;
} Printer;

static void print_string(Printer *p, Str s) {
    cw_string(p->w, str_text(p->cx, s), str_size(p->cx, s));
}

static void print_name(Printer *p, Str s) {
    const char *text = str_text(p->cx, s);
    size_t n = str_size(p->cx, s);
    bool bare = n != 0 && !is_digit(text[0]) && text[0] != '.';
    for (size_t i = 0; i < n; i++) bare = bare && is_name_char(text[i]);
    if (bare) cw_text(p->w, text, n);
    else print_string(p, s);
}

static void print_value(Printer *p, const Value *v) {
    if (v == NULL) {
        cw_printf(p->w, "_");
        return;
    }
    uint32_t *key = &p->key[v->id];
    cw_printf(p->w, "%%");
    if (str_size(p->cx, v->name) == 0) {
        if (*key == 0) *key = ++p->n_number;
        cw_printf(p->w, "%u", *key - 1);
        return;
    }
    if (*key == 0) *key = ++*map_at(&p->cx->scratch, &p->seen, v->name);
    print_name(p, v->name);
    if (*key > 1) cw_printf(p->w, "#%u", *key);
}

static void print_type(Printer *p, const Value *v) {
    if (v == NULL) {
        cw_printf(p->w, "_");
        return;
    }
    type_print(p->cx, p->w, v->type);
    if (v->poison) cw_printf(p->w, " poison");
    if (v->declared != NULL && v->declared != v->type) {
        cw_printf(p->w, " declared ");
        type_print(p->cx, p->w, v->declared);
    }
    if (v->sym == NULL) return;
    cw_printf(p->w, " = [");
    for (uint32_t i = 0; i < v->n_sym; i++) {
        cw_printf(p->w, "%s", i != 0 ? ", " : "");
        dim_print(p->cx, p->w, v->sym[i]);
    }
    cw_printf(p->w, "]");
}

static void print_elements(Printer *p, const Type *t, const ConstData *data, size_t n) {
    DType d = number_dtype(t->dtype);
    cw_printf(p->w, "[");
    for (size_t i = 0; i < n; i++) {
        cw_printf(p->w, "%s", i != 0 ? ", " : "");
        if (d == DT_STRING) {
            Str s;
            memcpy(&s, (const char *)data->data + i * sizeof s, sizeof s);
            print_string(p, s);
        } else {
            number_print(p->w, d, number_get(data->data, d, i));
        }
    }
    cw_printf(p->w, "]");
}

static void print_data(Printer *p, const Type *t, const ConstData *data) {
    type_print(p->cx, p->w, t);
    cw_printf(p->w, " ");
    size_t n = (size_t)dim_value(p->cx, type_numel(p->cx, t));
    if (t->dtype == DT_STRING || n <= INLINE_MAX) {
        print_elements(p, t, data, number_dtype(t->dtype) != t->dtype ? 2 * n : n);
        return;
    }
    cw_printf(p->w, "#%u", p->blob.n);
    vec_push(&p->cx->scratch, &p->blob, data);
}

static void print_constant(Printer *p, const Value *v) {
    if (v == NULL || v->data == NULL || v->def != NULL || p->defined[v->id]) return;
    p->defined[v->id] = true;
    cw_begin(p->w);
    print_value(p, v);
    cw_printf(p->w, " = const ");
    print_data(p, v->type, v->data);
    cw_printf(p->w, "\n");
}

static void print_graph(Printer *p, const Graph *g);

static void print_attr(Printer *p, const Attr *a, const AttrInfo *info) {
    Writer *w = p->w;
    cw_printf(w, "%s = ", info->name);
    if (!a->present) {
        cw_printf(w, "_");
        return;
    }
    switch (info->kind) {
    case ATTR_INT: cw_printf(w, "%lld", (long long)a->i); return;
    case ATTR_FLOAT: number_print_attr(w, a->f); return;
    case ATTR_STRING: print_string(p, a->s); return;
    case ATTR_INTS:
        for (uint32_t i = 0; i < a->ints.n; i++) cw_printf(w, "%s%lld", i != 0 ? ", " : "[", (long long)a->ints.v[i]);
        cw_printf(w, a->ints.n != 0 ? "]" : "[]");
        return;
    case ATTR_FLOATS:
        for (uint32_t i = 0; i < a->floats.n; i++) {
            cw_printf(w, "%s", i != 0 ? ", " : "[");
            number_print_attr(w, a->floats.v[i]);
        }
        cw_printf(w, a->floats.n != 0 ? "]" : "[]");
        return;
    case ATTR_STRINGS:
        for (uint32_t i = 0; i < a->strings.n; i++) {
            cw_printf(w, "%s", i != 0 ? ", " : "[");
            print_string(p, a->strings.v[i]);
        }
        cw_printf(w, a->strings.n != 0 ? "]" : "[]");
        return;
    case ATTR_TENSOR: print_data(p, a->tensor.type, a->tensor.data); return;
    case ATTR_GRAPH: print_graph(p, a->graph); return;
    case ATTR_TYPE: type_print(p->cx, w, a->type); return;
    }
}

/* {a = 1, b = 2} in the line; one attribute per line when there are region graphs. */
static void print_attrs(Printer *p, const Node *n) {
    const OpInfo *op = op_info((Op)n->op);
    uint32_t printed = 0;
    bool lines = false;
    for (uint32_t i = 0; i < n->n_attr; i++)
        lines |= attr_kind(n, i) == ATTR_GRAPH && n->attr[i].present;
    for (uint32_t i = 0; i < n->n_attr; i++) {
        AttrSlot slot = (AttrSlot)(op->attr_first + i);
        Attr def = attr_default(p->cx, slot);
        if (attr_equal(&n->attr[i], &def, attr_info(slot)->kind)) continue;
        if (printed++ == 0 && lines) p->w->indent++;
        cw_printf(p->w, "%s", printed != 1 ? "," : " {");
        if (lines) {
            cw_printf(p->w, "\n");
            cw_begin(p->w);
        } else if (printed != 1) {
            cw_printf(p->w, " ");
        }
        print_attr(p, &n->attr[i], attr_info(slot));
    }
    if (printed != 0 && lines) {
        p->w->indent--;
        cw_printf(p->w, "\n");
        cw_begin(p->w);
    }
    if (printed != 0) cw_printf(p->w, "}");
}

static void print_types(Printer *p, const Node *n) {
    bool any = false;
    for (uint32_t i = 0; i < n->n_out; i++) any |= n->out[i] != NULL && (n->out[i]->type != NULL || n->out[i]->poison || n->out[i]->sym != NULL || n->out[i]->declared != NULL);
    if (!any) return;
    for (uint32_t i = 0; i < n->n_out; i++) {
        cw_printf(p->w, "%s", i != 0 ? ", " : " : ");
        print_type(p, n->out[i]);
    }
}

static void print_loc(Printer *p, const Node *n) {
    bool moved = strcmp(str_text(p->cx, n->loc.op), op_name((Op)n->op)) != 0;
    if (n->loc.node == 0 && !moved) return;
    cw_printf(p->w, "   @");
    print_string(p, n->loc.node);
    if (!moved) return;
    cw_printf(p->w, " from ");
    print_string(p, n->loc.op);
}

static void print_node(Printer *p, const Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) print_constant(p, n->in[i]);
    cw_begin(p->w);
    for (uint32_t i = 0; i < n->n_out; i++) {
        cw_printf(p->w, "%s", i != 0 ? ", " : "");
        print_value(p, n->out[i]);
    }
    cw_printf(p->w, "%s%s(", n->n_out != 0 ? " = " : "", op_info((Op)n->op)->name);
    for (uint32_t i = 0; i < n->n_in; i++) {
        cw_printf(p->w, "%s", i != 0 ? ", " : "");
        print_value(p, n->in[i]);
    }
    cw_printf(p->w, ")");
    print_attrs(p, n);
    print_types(p, n);
    print_loc(p, n);
    cw_printf(p->w, "\n");
}

static void print_graph(Printer *p, const Graph *g) {
    cw_printf(p->w, "graph @");
    print_name(p, g->name);
    cw_printf(p->w, "(");
    for (uint32_t i = 0; i < g->n_in; i++) {
        cw_printf(p->w, "%s", i != 0 ? ", " : "");
        print_value(p, g->in[i]);
        cw_printf(p->w, ": ");
        print_type(p, g->in[i]);
    }
    cw_printf(p->w, ") -> (");
    for (uint32_t i = 0; i < g->n_out; i++) {
        cw_printf(p->w, "%s", i != 0 ? ", " : "");
        print_value(p, g->out[i]);
    }
    cw_printf(p->w, ") {\n");
    p->w->indent++;
    FOR_NODES(n, g) print_node(p, n);
    for (uint32_t i = 0; i < g->n_out; i++) print_constant(p, g->out[i]);
    p->w->indent--;
    cw_begin(p->w);
    cw_printf(p->w, "}");
}

/* ---- which symbols the module mentions ---- */
typedef struct SymbolUse { Context *cx; bool *used; } SymbolUse;

static void use_dim(SymbolUse *u, Dim d) {
    if (d == 0) return;
    const DimNode *n = dim_node(u->cx, d);
    if (n->kind == DIM_SYMBOL) u->used[n->symbol] = true;
    for (uint32_t i = 0; i < n->n_term; i++)
        for (uint32_t j = 0; j < n->term[i].n_factor; j++) use_dim(u, n->term[i].factor[j]);
    use_dim(u, n->a);
    use_dim(u, n->b);
}

static void use_type(SymbolUse *u, const Type *t) {
    for (; t != NULL; t = t->elem) {
        for (uint32_t i = 0; t->kind == TYPE_TENSOR && t->rank != RANK_UNKNOWN && i < t->rank; i++) use_dim(u, t->dim[i]);
        use_dim(u, t->length);
    }
}

static void use_value(SymbolUse *u, const Value *v) {
    if (v == NULL) return;
    use_type(u, v->type);
    use_type(u, v->declared);
    for (uint32_t i = 0; v->sym != NULL && i < v->n_sym; i++) use_dim(u, v->sym[i]);
}

static void use_graph(Graph *g, void *user) {
    SymbolUse *u = user;
    for (uint32_t i = 0; i < g->n_in; i++) use_value(u, g->in[i]);
    for (uint32_t i = 0; i < g->n_out; i++) use_value(u, g->out[i]);
    FOR_NODES(n, g) {
        for (uint32_t i = 0; i < n->n_out; i++) use_value(u, n->out[i]);
        for (uint32_t i = 0; i < n->n_in; i++) use_value(u, n->in[i]);
        for (uint32_t i = 0; i < n->n_attr; i++)
            if (attr_kind(n, i) == ATTR_TYPE && n->attr[i].present) use_type(u, n->attr[i].type);
    }
}

static void print_dims(Module *m, Writer *w) {
    Context *cx = m->cx;
    uint32_t n = dim_symbol_count(cx);
    SymbolUse u = {cx, ARENA_ARRAY(&cx->scratch, bool, n)};
    graph_visit(m->main, use_graph, &u);
    for (uint32_t i = 0; i < n; i++) {
        if (!u.used[i]) continue;
        const DimNode *d = dim_node(cx, dim_symbol_at(cx, i));
        cw_printf(w, "dim ");
        dim_print(cx, w, dim_symbol_at(cx, i));
        cw_printf(w, " = ");
        if (d->lo != INT64_MIN) cw_printf(w, "%lld", (long long)d->lo);
        cw_printf(w, "..");
        if (d->hi != INT64_MAX) cw_printf(w, "%lld", (long long)d->hi);
        cw_printf(w, "%s\n", d->runtime ? " runtime" : "");
    }
}

/* The file the model came from. Text that was read from IR text belongs to that text, which is not worth recording. */
static Str origin_file(Module *m) {
    Str file = m->main->first != NULL ? m->main->first->loc.file : 0;
    size_t n = str_size(m->cx, file);
    return n >= 4 && strcmp(str_text(m->cx, file) + n - 4, ".lir") == 0 ? 0 : file;
}

void module_print(Module *m, Writer *w) {
    Context *cx = m->cx;
    Printer p = {.m = m, .cx = cx, .w = w, .key = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_value), .defined = ARENA_ARRAY(&cx->scratch, bool, m->n_value)};
    cw_printf(w, "module @");
    print_name(&p, m->name);
    cw_printf(w, "\n");
    if (origin_file(m) != 0) {
        cw_printf(w, "file ");
        print_string(&p, origin_file(m));
        cw_printf(w, "\n");
    }
    for (uint32_t i = 0; i < m->n_meta; i++) {
        cw_printf(w, "meta ");
        print_string(&p, m->meta_key[i]);
        cw_printf(w, " = ");
        print_string(&p, m->meta_value[i]);
        cw_printf(w, "\n");
    }
    print_dims(m, w);
    cw_printf(w, "\n");
    print_graph(&p, m->main);
    cw_printf(w, "\n");
    for (uint32_t i = 0; i < p.blob.n; i++) {
        cw_printf(w, "#%u = \"", i);
        base64_print(w, p.blob.v[i]->data, p.blob.v[i]->bytes);
        cw_printf(w, "\"\n");
    }
}
