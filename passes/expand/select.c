/* Operators that keep some elements, as an index computed first and a gather:
 *
 *     %y = Compress(%x, %c) {axis = 1}     ->    %i = NonZeroIndex(%c)   %y = Gather(%x, %i) {axis = 1}
 *
 * The number of kept elements is the runtime symbol of the index; the gather's result then has it among its dims. */
#include "passes/expand/build.h"
#include "passes/rules.h"

static Node *add_node(Module *m, Node *at, Op op, uint32_t n_in, Value *const *in, uint32_t n_out) {
    Node *n = node_new(m, at->graph, at, op, n_in, in, n_out);
    n->loc = at->loc;
    return n;
}

static Value *flatten(Module *m, Node *at, Value *x) { return build2(m, at, OP_Reshape, x, value_const_i64(m, 1, (int64_t[]){-1})); }

/* The type of n's output already names a symbol for the count: the index takes it over. */
static void adopt_symbol(Node *index, uint32_t out, const Context *cx, Dim d) {
    const DimNode *node = dim_node(cx, d);
    if (node->kind != DIM_SYMBOL || !node->runtime) return;
    index->out[out]->type = type_tensor((Context *)(uintptr_t)cx, DT_I64, 1, &d);
}

static Value *gather(Module *m, Node *at, Value *x, Value *index, int64_t axis) {
    Node *g = add_node(m, at, OP_Gather, 2, (Value *[]){x, index}, 1);
    attr_set_i(g, AT_Gather_axis, axis);
    node_infer(m, g);
    return g->out[0];
}

bool expand_compress(Module *m, Node *n, Value **out) {
    bool flat = !attr_has(n, AT_Compress_axis);
    int64_t axis = flat ? 0 : attr_i(n, AT_Compress_axis);
    const Type *t = n->out[0]->type;
    Node *index = add_node(m, n, OP_NonZeroIndex, 1, &n->in[1], 1);
    adopt_symbol(index, 0, m->cx, t->dim[axis < 0 ? axis + t->rank : axis]);
    if (!node_infer(m, index)) return false;
    out[0] = gather(m, n, flat ? flatten(m, n, n->in[0]) : n->in[0], index->out[0], axis);
    return true;
}

bool expand_non_zero(Module *m, Node *n, Value **out) {
    const Type *t = n->in[0]->type;
    Node *index = add_node(m, n, OP_NonZeroIndex, 1, &n->in[0], 1);
    adopt_symbol(index, 0, m->cx, n->out[0]->type->dim[1]);
    if (!node_infer(m, index)) return false;
    Node *unravel = add_node(m, n, OP_UnravelIndex, 1, &index->out[0], 1);
    attr_at(unravel, AT_UnravelIndex_space)->present = true;
    attr_at(unravel, AT_UnravelIndex_space)->type = t;
    if (!node_infer(m, unravel)) return false;
    out[0] = unravel->out[0];
    return true;
}

/* Rows to compare: the axis in front, everything else behind it. */
static Value *rows_along(Module *m, Node *at, Value *x, int64_t axis) {
    uint32_t rank = x->type->rank;
    int64_t perm[RANK_MAX];
    perm[0] = axis;
    for (uint32_t i = 0, k = 1; i < rank; i++)
        if (i != axis) perm[k++] = i;
    Node *t = add_node(m, at, OP_Transpose, 1, &x, 1);
    attr_set_ints(m->cx, t, AT_Transpose_perm, perm, rank);
    node_infer(m, t);
    Node *f = add_node(m, at, OP_Flatten, 1, &t->out[0], 1);
    node_infer(m, f);
    return f->out[0];
}

bool expand_unique(Module *m, Node *n, Value **out) {
    bool flat = !attr_has(n, AT_Unique_axis);
    int64_t axis = flat ? 0 : attr_i(n, AT_Unique_axis);
    Value *x = n->in[0];
    axis = axis < 0 ? axis + x->type->rank : axis;
    Value *source = flat ? flatten(m, n, x) : x;
    Value *rows = flat ? build2(m, n, OP_Reshape, x, value_const_i64(m, 2, (int64_t[]){-1, 1})) : rows_along(m, n, x, axis);
    Node *unique = add_node(m, n, OP_UniqueRows, 1, &rows, 3);
    attr_set_i(unique, AT_UniqueRows_sorted, attr_i(n, AT_Unique_sorted));
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL && i != 2) adopt_symbol(unique, 0, m->cx, n->out[i]->type->dim[i == 0 ? axis : 0]);
    if (!node_infer(m, unique)) return false;
    if (n->out[0] != NULL) out[0] = gather(m, n, source, unique->out[0], axis);
    for (uint32_t i = 1; i < n->n_out; i++) out[i] = unique->out[i - 1];
    return true;
}

/* Numbers to strings by way of the widest type of their kind; bools are 1 and 0. */
static Value *formatted(Module *m, Node *n) {
    Value *x = n->in[0];
    DType from = x->type->dtype, wide = dtype_is_float(from) ? DT_F64 : from == DT_U64 ? DT_U64 : DT_I64;
    x = expand_cast(m, n, x, wide);
    return x != NULL ? build1(m, n, OP_FormatNumbers, x) : NULL;
}

/* Strings to numbers: what they say as f64, i64 or u64, and from there to the wanted type. */
bool expand_string_cast(Module *m, Node *n, Value **out) {
    DType from = n->in[0]->type->dtype, to = n->out[0]->type->dtype;
    if (from != DT_STRING && to == DT_STRING) return (out[0] = formatted(m, n)) != NULL;
    if (from != DT_STRING) return false;
    if (to == DT_STRING) {
        out[0] = n->in[0];
        return true;
    }
    Node *parse = node_new(m, n->graph, n, OP_ParseNumbers, 1, n->in, 1);
    parse->loc = n->loc;
    attr_set_i(parse, AT_ParseNumbers_to, dtype_to_onnx(to == DT_U64 ? DT_U64 : dtype_is_int(to) ? DT_I64 : DT_F64));
    if (!node_infer(m, parse)) return false;
    Node *cast = node_new(m, n->graph, n, OP_Cast, 1, parse->out, 1);
    cast->loc = n->loc;
    attr_set_i(cast, AT_Cast_to, dtype_to_onnx(to));
    out[0] = cast->out[0];
    return node_infer(m, cast);
}
