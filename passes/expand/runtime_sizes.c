/* Reductions, Resize, AffineGrid, MaxUnpool, Col2Im, DFT and STFT whose sizes come from operands of the run: the sizes are computed
 * by ordinary operators and bound (bind.h) before the operator, which stays.
 *
 *     %y = ReduceSum(%x, %axes)      ->      %s = Where(axis listed in %axes, 1, Shape(%x))
 *                                            BindDims(%s) {type = f32[ReduceSum_0, ReduceSum_1]}
 *                                            %y = ReduceSum(%x, %axes)
 *
 * Without keepdims the reduction keeps its axes and a Squeeze drops them. */
#include "ir/shape/fourier.h"
#include "ir/shape/reduce.h"
#include "ir/shape/resize.h"
#include "passes/expand/bind.h"
#include "passes/rules.h"

static bool bound_before(const Node *n) { return n->prev != NULL && n->prev->op == OP_BindDims; }

static Value *cast(Module *m, Node *at, Value *v, DType t) {
    if (v->type->dtype == t) return v;
    Node *n = node_new(m, at->graph, at, OP_Cast, 1, &v, 1);
    n->loc = at->loc;
    attr_set_i(n, AT_Cast_to, dtype_to_onnx(t));
    node_infer(m, n);
    return n->out[0];
}

static Value *shape_of(Module *m, Node *at, Value *x) { return build1(m, at, OP_Shape, x); }

static const Type *dims_type(Module *m, uint32_t n, const Dim *dim) { return type_tensor(m->cx, DT_I64, n, dim); }

/* [rank] i64: 1 where axes lists the axis. An axis out of range is the run-time error "index" of the Gather that counts
 * negative ones from the end. */
static Value *listed(Module *m, Node *at, Value *axes, uint32_t rank) {
    int64_t number[RANK_MAX];
    for (uint32_t a = 0; a < rank; a++) number[a] = a;
    Dim column[2] = {dim_const(m->cx, rank), dim_const(m->cx, 1)};
    Value *all = value_const(m, type_tensor(m->cx, DT_I64, 2, column), number, false);
    Value *wrapped = build2(m, at, OP_Gather, value_const_i64(m, rank, number), axes);
    Value *hit = cast(m, at, build2(m, at, OP_Equal, all, wrapped), DT_I64);
    Node *any = node_new(m, at->graph, at, OP_ReduceMax, 2, (Value *[]){hit, value_const_i64(m, 1, (int64_t[]){1})}, 1);
    any->loc = at->loc;
    attr_set_i(any, AT_ReduceMax_keepdims, 0);
    node_infer(m, any);
    return any->out[0];
}

bool expand_reduce(Module *m, Node *n, Value **out) {
    uint32_t mask, rank = n->in[0]->type->rank;
    bool runtime;
    if (!reduce_mask(m, n, &mask, &runtime) || !runtime) return false;
    Value *axes = cast(m, n, n->in[1], DT_I64);
    if (reduce_keepdims(n)) {
        if (rank == 0 || bound_before(n)) return false;
        Value *one = value_const_i64(m, 1, (int64_t[]){1});
        Value *is = cast(m, n, listed(m, n, axes, rank), DT_BOOL);
        bind_dims(m, n, build3(m, n, OP_Where, is, one, shape_of(m, n, n->in[0])), n->out[0]->type);
        return false;
    }
    Node *keep = node_new(m, n->graph, n, (Op)n->op, n->n_in, n->in, 1);
    keep->loc = n->loc;
    attr_set_i(keep, attr_named(n, "keepdims"), 1);
    attr_set_i(keep, attr_named(n, "noop_with_empty_axes"), attr_i(n, attr_named(n, "noop_with_empty_axes")));
    if (!node_infer(m, keep)) return false;
    Node *squeeze = node_new(m, n->graph, n, OP_Squeeze, 2, (Value *[]){keep->out[0], axes}, 1);
    squeeze->loc = n->loc;
    squeeze->out[0]->declared = n->out[0]->declared;
    out[0] = squeeze->out[0];
    return node_infer(m, squeeze);
}

/* Given, but known to the run only. */
static bool operand_unknown(Module *m, const Node *n, uint32_t i) {
    uint32_t count;
    return i < n->n_in && n->in[i] != NULL && value_dims(m, n->in[i], &count) == NULL;
}

static bool all_const(const Module *m, const Type *t) {
    for (uint32_t a = 0; a < t->rank; a++)
        if (!dim_is_const(m->cx, t->dim[a])) return false;
    return true;
}

bool expand_resize(Module *m, Node *n, Value **out) {
    (void)out;
    ResizePlan p;
    uint32_t count;
    if (!resize_resolve(m, n, &p)) return false;
    bool runtime_sizes = !p.runtime_scales && operand_unknown(m, n, 3);
    if ((!p.runtime_scales && !runtime_sizes) || bound_before(n)) return false;
    Dim dim[RANK_MAX];
    int64_t axis[RANK_MAX];
    for (count = 0; count < p.n_axis; count++) {
        dim[count] = p.out[p.axis[count]];
        axis[count] = p.axis[count];
    }
    if (p.runtime_ratio) { /* the run's sizes are wishes; only declared ones are supported */
        if (all_const(m, n->out[0]->type)) return false;
        diag(m->cx, SEV_ERROR, n->loc, "keep_aspect_ratio_policy needs sizes known at compile time");
        return false;
    }
    Value *sizes = n->in[3];
    if (p.runtime_scales) {
        Value *have = build2(m, n, OP_Gather, shape_of(m, n, n->in[0]), value_const_i64(m, count, axis));
        Value *exact = build2(m, n, OP_Mul, cast(m, n, have, DT_F32), cast(m, n, n->in[2], DT_F32));
        sizes = cast(m, n, build1(m, n, OP_Floor, exact), DT_I64);
    }
    bind_dims(m, n, cast(m, n, sizes, DT_I64), dims_type(m, count, dim));
    return false;
}

/* Elements from.. of a vector. */
static Value *tail(Module *m, Node *at, Value *v, int64_t from) {
    Value *start = value_const_i64(m, 1, &from), *end = value_const_i64(m, 1, (int64_t[]){INT64_MAX});
    return build3(m, at, OP_Slice, v, start, end);
}

bool expand_window_sizes(Module *m, Node *n, Value **out) {
    (void)out;
    const Type *y = n->out[0]->type;
    if (bound_before(n)) return false;
    if (n->op == OP_AffineGrid && operand_unknown(m, n, 1)) {
        bind_dims(m, n, tail(m, n, n->in[1], 2), dims_type(m, y->rank - 2, y->dim + 1));
    } else if (n->op == OP_MaxUnpool && n->n_in > 2 && n->in[2] != NULL && operand_unknown(m, n, 2)) {
        bind_dims(m, n, n->in[2], y);
    } else if (n->op == OP_Col2Im && (operand_unknown(m, n, 1) || operand_unknown(m, n, 2))) {
        Value *size = build2(m, n, OP_ReduceProd, n->in[2], value_const_i64(m, 1, (int64_t[]){0}));
        Value *rows = build2(m, n, OP_Gather, shape_of(m, n, n->in[0]), value_const_i64(m, 1, (int64_t[]){1}));
        Node *concat = node_new(m, n->graph, n, OP_Concat, 2, (Value *[]){build2(m, n, OP_Div, rows, size), n->in[1]}, 1);
        concat->loc = n->loc;
        attr_set_i(concat, AT_Concat_axis, 0);
        if (node_infer(m, concat)) bind_dims(m, n, concat->out[0], dims_type(m, y->rank - 1, y->dim + 1));
    }
    return false;
}

/* The operand as an i64 vector of one element, or another value when it is left out. */
static Value *vector_of(Module *m, Node *n, uint32_t i, Value *otherwise) {
    return i < n->n_in && n->in[i] != NULL ? bind_vector(m, n, n->in[i]) : otherwise;
}

static Value *constant(Module *m, int64_t v) { return value_const_i64(m, 1, &v); }

static Value *half_plus_one(Module *m, Node *at, Value *v) {
    return build2(m, at, OP_Add, build2(m, at, OP_Div, v, constant(m, 2)), constant(m, 1));
}

bool expand_dft(Module *m, Node *n, Value **out) {
    (void)out;
    DftPlan p;
    if (bound_before(n) || !dft_resolve(m, n, &p) || !p.runtime) return false;
    const Type *x = n->in[0]->type;
    int64_t number[RANK_MAX];
    for (uint32_t a = 0; a < x->rank; a++) number[a] = a;
    Value *axes = value_const_i64(m, x->rank, number), *have = shape_of(m, n, n->in[0]);
    Value *axis = build2(m, n, OP_Mod, vector_of(m, n, 2, constant(m, -2)), constant(m, x->rank));
    Value *length = build2(m, n, OP_Gather, have, axis);
    if (p.real_out) length = build2(m, n, OP_Mul, build2(m, n, OP_Sub, length, constant(m, 1)), constant(m, 2));
    length = vector_of(m, n, 1, length);
    if (p.onesided && !p.inverse) length = half_plus_one(m, n, length);
    Value *sizes = build3(m, n, OP_Where, build2(m, n, OP_Equal, axes, axis), length, have);
    Value *last = build2(m, n, OP_Equal, axes, constant(m, (int64_t)x->rank - 1));
    bind_dims(m, n, build3(m, n, OP_Where, last, constant(m, p.real_out ? 1 : 2), sizes), n->out[0]->type);
    return false;
}

bool expand_stft(Module *m, Node *n, Value **out) {
    (void)out;
    StftPlan p;
    if (bound_before(n) || !stft_resolve(m, n, &p) || !p.runtime) return false;
    Value *samples = build2(m, n, OP_Gather, shape_of(m, n, n->in[0]), constant(m, 1));
    Value *window = n->n_in > 2 && n->in[2] != NULL ? shape_of(m, n, n->in[2]) : samples, *length = vector_of(m, n, 3, window);
    Value *room = build2(m, n, OP_Div, build2(m, n, OP_Sub, samples, length), vector_of(m, n, 1, NULL));
    Value *frames = build2(m, n, OP_Add, room, constant(m, 1));
    Value *bins = attr_i(n, AT_STFT_onesided) != 0 ? half_plus_one(m, n, length) : length;
    Node *concat = node_new(m, n->graph, n, OP_Concat, 2, (Value *[]){frames, bins}, 1);
    concat->loc = n->loc;
    attr_set_i(concat, AT_Concat_axis, 0);
    if (node_infer(m, concat)) bind_dims(m, n, concat->out[0], dims_type(m, 2, (Dim[]){p.frames, p.out}));
    return false;
}
