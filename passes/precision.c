/* precision: with --precision bf16, contractions read bfloat16.
 *
 *     %c = ConvChannelsLast(%b, %w)              %h = Cast(%b) {to = bf16}
 *     %d = Add(%c, %b)                  ->       %c = ConvChannelsLast(%h, %w')      f32 result, w' holds bf16 numbers
 *                                                %d = Add(%c, Cast(%h) {to = f32})
 *
 * A value that some contraction reads is kept in bfloat16 only: its other readers see the rounded numbers, and memory
 * moves half the bytes. The Cast runs in the epilogue of whatever computes the value. Operators that only pick or move
 * elements (MaxPool, Concat, views) commute with rounding, so the Cast goes before them. Sums are f32 all along, and so is
 * everything that is not next to a contraction: norms, softmax, residual streams that no contraction reads directly.
 *
 * The error of a contraction of length K is that of rounding its inputs: each product is off by at most 2^-7.99 of itself,
 * independently, so a sum is typically off by 2^-9 of sqrt(sum of squared products). */
#include "ir/shape/convolution.h"
#include "ir/small_float.h"
#include "lathe.h"
#include "passes/pass.h"

typedef struct Precision {
    Context *cx;
    Module *m;
    Value **half;     /* by value id: its bfloat16 form */
    uint32_t n_value; /* size of half */
    uint32_t *uses;   /* by value id, when all is rewritten */
    bool changed;
} Precision;

static bool f32_tensor(const Value *v) {
    return v != NULL && v->type != NULL && v->type->kind == TYPE_TENSOR && v->type->rank != RANK_UNKNOWN && v->type->dtype == DT_F32;
}

/* ---- which contractions -------------------------------------------------------------------------------------------------- */
static bool wide_convolution(Precision *p, const Node *n) {
    ConvGeometry g;
    if (n->op != OP_ConvChannelsLast || !conv_geometry(p->m, n, &g)) return false;
    return dim_is_const(p->cx, g.in_channels) && dim_is_const(p->cx, g.out_group) && dim_value(p->cx, g.out_group) >= 8 && g.spatial <= 3;
}

/* A window of every channel: only what it reads is rounded, its weights are few. */
static bool depthwise(Precision *p, const Node *n) {
    ConvGeometry g;
    if (n->op != OP_ConvChannelsLast || !conv_geometry(p->m, n, &g) || !dim_is_const(p->cx, g.in_channels) || g.group < 2 || g.spatial > 2) return false;
    return dim_value(p->cx, g.in_group) == 1 && dim_is_const(p->cx, g.out_group) && dim_value(p->cx, g.out_group) == 1;
}

/* A MatMul or Gemm of rows with a constant matrix, which may have dimensions of one in front. */
static bool linear(Precision *p, const Node *n) {
    if (n->op != OP_MatMul && n->op != OP_Gemm) return false;
    const Type *x = n->in[0]->type, *w = n->in[1]->type;
    if (w->rank < 2 || x->rank < w->rank || !type_is_static(p->cx, w) || dim_value(p->cx, type_numel(p->cx, w)) == 0) return false;
    for (uint32_t i = 0; i + 2 < w->rank; i++)
        if (dim_value(p->cx, w->dim[i]) != 1) return false;
    return n->op == OP_MatMul || (attr_i(n, AT_Gemm_transA) == 0 && attr_f(n, AT_Gemm_alpha) == 1);
}

static bool wanted(Precision *p, const Node *n) {
    if (n->op != OP_ConvChannelsLast && n->op != OP_MatMul && n->op != OP_Gemm) return false;
    if (!f32_tensor(n->in[0]) || !f32_tensor(n->in[1]) || n->in[0]->data != NULL || n->in[1]->data == NULL) return false;
    return wide_convolution(p, n) || depthwise(p, n) || linear(p, n);
}

/* ---- the two forms --------------------------------------------------------------------------------------------------------- */
static Value *cast(Precision *p, Node *at, Graph *g, Value *v, DType to) {
    Node *n = node_new(p->m, g, at, OP_Cast, 1, &v, 1);
    attr_set_i(n, AT_Cast_to, dtype_to_onnx(to));
    if (v->def != NULL) n->loc = v->def->loc;
    n->loc.op = str_intern(p->cx, "Cast");
    return node_infer(p->m, n) ? n->out[0] : NULL;
}

/* Does the operator only pick elements of its tensors, so that rounding may come before it? */
static bool commutes(const Node *n) {
    switch ((int)n->op) {
    case OP_MaxPoolChannelsLast: case OP_Concat: case OP_Transpose: case OP_Identity: return true;
    default: return op_is_reshape(n->op);
    }
}

static Value *half_of(Precision *p, Value *v);

static Value *half_through(Precision *p, Node *n) {
    uint32_t tensors = n->op == OP_Concat ? n->n_in : 1;
    Value *in[16];
    if (n->n_in > 16) return NULL;
    for (uint32_t i = 0; i < n->n_in; i++) {
        in[i] = n->in[i];
        if (i < tensors && (!f32_tensor(in[i]) || in[i]->data != NULL || in[i]->def == NULL || in[i]->def->graph != n->graph)) return NULL;
    }
    for (uint32_t i = 0; i < tensors; i++)
        if ((in[i] = half_of(p, in[i])) == NULL) return NULL;
    Node *made = node_new(p->m, n->graph, n, (Op)n->op, n->n_in, in, n->n_out);
    made->loc = n->loc;
    for (uint32_t i = 0; i < n->n_attr; i++) made->attr[i] = n->attr[i];
    return node_infer(p->m, made) ? made->out[0] : NULL;
}

/* v in bfloat16, made right behind v's definition. */
static Value *half_of(Precision *p, Value *v) {
    if (v->id < p->n_value && p->half[v->id] != NULL) return p->half[v->id];
    Value *made = NULL;
    if (v->def != NULL && commutes(v->def) && v->def->n_out == 1) made = half_through(p, v->def);
    if (made == NULL) {
        Graph *g = v->def != NULL ? v->def->graph : p->m->main;
        made = cast(p, v->def != NULL ? v->def->next : g->first, g, v, DT_BF16);
    }
    if (made != NULL && v->id < p->n_value) p->half[v->id] = made;
    return made;
}

static Value *rounded_weights(Precision *p, const Value *w) {
    int64_t n = dim_value(p->cx, type_numel(p->cx, w->type));
    float *data = ARENA_ARRAY(&p->cx->arena, float, n);
    const float *from = w->data->data;
    for (int64_t i = 0; i < n; i++) data[i] = small_float_decode(DT_BF16, small_float_encode(DT_BF16, from[i], false));
    return value_const(p->m, w->type, data, true);
}

/* ---- rewriting -------------------------------------------------------------------------------------------------------------- */
static void rewrite_linear(Precision *p, Node *n, Value *x) {
    bool gemm = n->op == OP_Gemm, transposed = gemm && attr_i(n, AT_Gemm_transB) != 0;
    Value *w = n->in[1], *y = n->out[0];
    if (transposed) {
        Dim dim[2] = {w->type->dim[1], w->type->dim[0]};
        w = value_const(p->m, type_tensor(p->cx, DT_F32, 2, dim), const_transpose(p->cx, w, (uint32_t[]){1, 0}), true);
    } else if (w->type->rank > 2) {
        w = value_const(p->m, type_tensor(p->cx, DT_F32, 2, w->type->dim + w->type->rank - 2), w->data->data, true);
    }
    Node *product = node_new(p->m, n->graph, n, OP_MixedMatMul, 2, (Value *[]){x, rounded_weights(p, w)}, 1);
    product->loc = n->loc;
    product->loc.op = str_intern(p->cx, "MixedMatMul");
    if (!node_infer(p->m, product)) return;
    Value *sum = product->out[0];
    if (gemm && n->n_in > 2 && n->in[2] != NULL && attr_f(n, AT_Gemm_beta) != 0) {
        Value *c = n->in[2];
        if (attr_f(n, AT_Gemm_beta) != 1) c = build2(p->m, n, OP_Mul, c, value_const_scalar(p->m, DT_F32, attr_f(n, AT_Gemm_beta)));
        sum = build2(p->m, n, OP_Add, sum, c);
    }
    /* The result keeps its name and its readers: the last new node defines the old value. */
    Node *last = sum->def;
    n->out[0] = NULL;
    node_remove(n);
    last->out[0] = y;
    y->def = last;
    y->def_out = 0;
}

static void rewrite(Precision *p, Node *n) {
    if (!wanted(p, n)) return;
    Value *x = half_of(p, n->in[0]);
    if (x == NULL) return;
    p->changed = true;
    if (n->op == OP_ConvChannelsLast) {
        n->in[0] = x;
        if (!depthwise(p, n)) n->in[1] = rounded_weights(p, n->in[1]);
    } else {
        rewrite_linear(p, n, x);
    }
}

/* Other readers of a value that has a bfloat16 form read that one. Depthwise convolutions and pools take it as it is. */
static void share(Precision *p, Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        Value *v = n->in[i];
        if (v == NULL || v->id >= p->n_value || p->half[v->id] == NULL || v->def == NULL || v->data != NULL || n->op == OP_Cast) continue;
        Value *half = p->half[v->id];
        if (half->def == NULL || half->def == n || half->def->graph != n->graph) continue;
        if (n->op == OP_ConvChannelsLast && i == 0) n->in[0] = half;
        else if (!commutes(n)) n->in[i] = cast(p, n, n->graph, half, DT_F32);
    }
}

/* ---- what rounding hides ------------------------------------------------------------------------------------------------------ */
/* A Gelu of which nobody reads more than its bfloat16 form needs no more than 5e-5, a third of a step at 0.05 and less above. */
static void roughen(Precision *p, Node *rounding) {
    Node *gelu = rounding->op == OP_Cast && rounding->out[0]->type->dtype == DT_BF16 ? rounding->in[0]->def : NULL;
    if (gelu == NULL || gelu->op != OP_Gelu || gelu->graph != rounding->graph || p->uses[gelu->out[0]->id] != 1) return;
    if (!f32_tensor(gelu->out[0]) || !attr_s_is(p->cx, gelu, AT_Gelu_approximate, "none")) return;
    Node *rough = node_new(p->m, gelu->graph, gelu, OP_RoughGelu, 1, gelu->in, 1);
    rough->loc = gelu->loc;
    if (!node_infer(p->m, rough)) return;
    rounding->in[0] = rough->out[0];
    node_remove(gelu);
}

static void visit_roundings(Graph *g, void *user) {
    FOR_NODES(n, g) roughen(user, n);
}

static void visit(Graph *g, void *user) {
    Precision *p = user;
    FOR_NODES(n, g) rewrite(p, n);
}

static void visit_readers(Graph *g, void *user) {
    Precision *p = user;
    FOR_NODES(n, g) share(p, n);
}

bool pass_precision(Context *cx, Module *m) {
    if (m->options == NULL || m->options->precision != LATHE_PRECISION_BF16) return false;
    Precision p = {.cx = cx, .m = m, .n_value = m->n_value};
    p.half = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    graph_visit(m->main, visit, &p);
    if (!p.changed) return false;
    graph_visit(m->main, visit_readers, &p);
    pass_dce(cx, m); /* what nobody reads any more in float32 */
    p.uses = module_use_counts(m);
    graph_visit(m->main, visit_roundings, &p);
    return true;
}
