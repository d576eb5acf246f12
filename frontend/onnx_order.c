/* Execution order. ONNX asks for nodes sorted by their dependencies, and some files are not; those are sorted here.
 * Nodes that depend on each other in a circle stay at the end, in file order: the import then reports what they read. */
#include "frontend/onnx_import.h"

typedef VEC(Str) Names;

typedef struct Order {
    Context *cx;
    IdMap producer;             /* Str -> index + 1 of the node that computes it */
    uint32_t *waits;            /* per node: how many of its reads are not computed yet */
    struct { uint32_t *v, n, cap; } *readers; /* per node: who waits for it, once per read */
} Order;

static void add_name(Context *cx, Names *names, const char *text) {
    if (text != NULL && text[0] != 0) vec_push(&cx->scratch, names, str_intern(cx, text));
}

/* Names that a node reads; for graphs inside it, also names that turn out to be their own. */
static void collect_reads(Context *cx, const Onnx__NodeProto *n, Names *names) {
    for (size_t i = 0; i < n->n_input; i++) add_name(cx, names, n->input[i]);
    for (size_t i = 0; i < n->n_attribute; i++) {
        const Onnx__GraphProto *g = n->attribute[i]->g;
        if (g == NULL) continue;
        for (size_t k = 0; k < g->n_node; k++) collect_reads(cx, g->node[k], names);
        for (size_t k = 0; k < g->n_output; k++) add_name(cx, names, g->output[k]->name);
    }
}

static bool is_sorted(const Order *o, size_t n, Onnx__NodeProto *const *nodes) {
    for (size_t i = 0; i < n; i++) {
        Names reads = {0};
        collect_reads(o->cx, nodes[i], &reads);
        for (uint32_t k = 0; k < reads.n; k++)
            if ((uintptr_t)id_map_get(&o->producer, reads.v[k]) > i + 1) return false;
    }
    return true;
}

static void link_readers(Order *o, size_t n, Onnx__NodeProto *const *nodes) {
    Arena *a = &o->cx->scratch;
    for (uint32_t i = 0; i < n; i++) {
        Names reads = {0};
        collect_reads(o->cx, nodes[i], &reads);
        for (uint32_t k = 0; k < reads.n; k++) {
            uintptr_t from = (uintptr_t)id_map_get(&o->producer, reads.v[k]);
            if (from == 0 || from == i + 1) continue;
            vec_push(a, &o->readers[from - 1], i);
            o->waits[i]++;
        }
    }
}

const uint32_t *execution_order(Context *cx, size_t n, Onnx__NodeProto *const *nodes) {
    Order o = {.cx = cx};
    for (uint32_t i = 0; i < n; i++)
        for (size_t k = 0; k < nodes[i]->n_output; k++)
            if (nodes[i]->output[k][0] != 0) id_map_put(&cx->scratch, &o.producer, str_intern(cx, nodes[i]->output[k]), (void *)(uintptr_t)(i + 1));
    if (is_sorted(&o, n, nodes)) return NULL;
    o.waits = ARENA_ARRAY(&cx->scratch, uint32_t, n);
    o.readers = arena_array(&cx->scratch, n, sizeof *o.readers);
    link_readers(&o, n, nodes);
    uint32_t *order = ARENA_ARRAY(&cx->scratch, uint32_t, n), n_ready = 0;
    for (uint32_t i = 0; i < n; i++)
        if (o.waits[i] == 0) order[n_ready++] = i;
    for (uint32_t i = 0; i < n_ready; i++) {
        for (uint32_t k = 0; k < o.readers[order[i]].n; k++)
            if (--o.waits[o.readers[order[i]].v[k]] == 0) order[n_ready++] = o.readers[order[i]].v[k];
    }
    for (uint32_t i = 0; i < n; i++)
        if (o.waits[i] != 0) order[n_ready++] = i;
    return order;
}
