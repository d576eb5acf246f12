/* What shape rules that look at one operand only leave open: element types and ranks of the others.
 *
 *     %y = ScatterElements(%x, %i, %u)        i has x's rank, u has i's dims and x's element type
 *     %y = PRelu(%x, %slope)                  slope has x's element type
 *
 * Models are not trusted: what kernels count on is checked here, once for every inference. */
#include "ir/shape/shape.h"

static bool wrong(Module *m, const Node *n, const char *what, uint32_t i, const Type *t) {
    Writer w = {.arena = &m->cx->scratch};
    type_print(m->cx, &w, t);
    diag(m->cx, SEV_ERROR, n->loc, "input %u is %s: %s", i, cw_cstr(&w), what);
    return false;
}

static const Type *type_of(const Node *n, uint32_t i) { return i < n->n_in && n->in[i] != NULL ? n->in[i]->type : NULL; }

/* Operators of real functions. */
static bool wants_floats(Op op) {
    switch (op) {
    case OP_Acos: case OP_Acosh: case OP_Asin: case OP_Asinh: case OP_Atan: case OP_Atanh: case OP_Celu: case OP_Cos: case OP_Cosh: case OP_Elu: case OP_Erf: case OP_Exp:
    case OP_Ceil: case OP_Floor: case OP_Round: case OP_LpNormalization: case OP_Gelu: case OP_HardSigmoid: case OP_HardSwish: case OP_IsInf: case OP_IsNaN: case OP_LeakyRelu: case OP_Log: case OP_LogSoftmax: case OP_Mish: case OP_Reciprocal:
    case OP_Selu: case OP_Sigmoid: case OP_Sin: case OP_Sinh: case OP_Softmax: case OP_Softplus: case OP_Softsign: case OP_Sqrt: case OP_Swish: case OP_Tan: case OP_Tanh:
    case OP_ThresholdedRelu: return true;
    default: return false; /* all others look at their types themselves, or take any */
    }
}

static bool same_type(Module *m, const Node *n, uint32_t i) {
    const Type *a = type_of(n, 0), *b = type_of(n, i);
    if (a == NULL || b == NULL || a->dtype == b->dtype) return true;
    return wrong(m, n, "the element type of input 0 is needed", i, b);
}

static bool least_rank(Module *m, const Node *n, uint32_t i, uint32_t rank, const char *what) {
    const Type *t = type_of(n, i);
    return t == NULL || t->rank >= rank || wrong(m, n, what, i, t);
}

/* slope reads one element per element of x: it may have fewer dims, never more */
static bool fits_into(Module *m, Node *n, uint32_t i) {
    const Type *x = type_of(n, 0), *t = type_of(n, i);
    if (x == NULL || t == NULL) return true;
    if (t->rank > x->rank) return wrong(m, n, "it has more dims than input 0", i, t);
    uint32_t rank;
    Dim dim[RANK_MAX];
    return shape_broadcast(m, n, x, t, &rank, dim);
}

/* x [time, batch, …] or [batch, time, …], lengths [batch] */
static bool reverse_sequence(Module *m, Node *n) {
    const Type *x = type_of(n, 0), *lengths = type_of(n, 1);
    if (x == NULL || lengths == NULL) return true;
    uint32_t time, batch;
    if (x->rank < 2) return wrong(m, n, "at least two dims are needed", 0, x);
    if (lengths->rank != 1) return wrong(m, n, "a vector of lengths is needed", 1, lengths);
    if (!shape_axis(m, n, attr_i(n, AT_ReverseSequence_time_axis), x->rank, &time)) return false;
    if (!shape_axis(m, n, attr_i(n, AT_ReverseSequence_batch_axis), x->rank, &batch)) return false;
    return shape_unify(m, n, x->dim[batch], lengths->dim[0], "batch and lengths") != 0;
}

static bool is_tensor(Module *m, const Node *n, uint32_t i) {
    const Type *t = type_of(n, i);
    return t == NULL || t->kind == TYPE_TENSOR || wrong(m, n, "a tensor is needed", i, t);
}

static bool scatter_elements(Module *m, Node *n) {
    const Type *x = type_of(n, 0), *index = type_of(n, 1), *updates = type_of(n, 2);
    if (x == NULL || index == NULL || updates == NULL) return true;
    if (index->rank != x->rank || x->rank == 0) return wrong(m, n, "as many dims as the data are needed, at least one", 1, index);
    if (updates->rank != x->rank) return wrong(m, n, "the dims of the indices are needed", 2, updates);
    uint32_t axis;
    if (!shape_axis(m, n, attr_i(n, AT_ScatterElements_axis), x->rank, &axis)) return false;
    for (uint32_t d = 0; d < x->rank; d++)
        if (shape_unify(m, n, index->dim[d], updates->dim[d], "indices and updates") == 0) return false;
    return same_type(m, n, 2);
}

/* updates: the dims of the indices but the last, then those of the data that a row of indices leaves open */
static bool scatter_nd(Module *m, Node *n) {
    const Type *x = type_of(n, 0), *index = type_of(n, 1), *updates = type_of(n, 2);
    if (x == NULL || index == NULL || updates == NULL) return true;
    if (index->rank == 0 || !dim_is_const(m->cx, index->dim[index->rank - 1])) return wrong(m, n, "a last dim of constant size is needed", 1, index);
    int64_t depth = dim_value(m->cx, index->dim[index->rank - 1]);
    uint32_t batch = index->rank - 1u;
    if (depth < 0 || depth > x->rank) return wrong(m, n, "its last dim is larger than the rank of the data", 1, index);
    if (updates->rank != batch + x->rank - depth) return wrong(m, n, "the dims of the indices but the last, then the rest of the data's, are needed", 2, updates);
    for (uint32_t d = 0; d < updates->rank; d++) {
        Dim want = d < batch ? index->dim[d] : x->dim[depth + d - batch];
        if (shape_unify(m, n, want, updates->dim[d], "updates") == 0) return false;
    }
    return same_type(m, n, 2);
}

/* Operators without the flag VIEW that pass elements on as they are. */
static bool passes_on(Op op) {
    switch (op) {
    case OP_Identity: case OP_Where: case OP_Gather: case OP_GatherElements: case OP_GatherND: case OP_ScatterElements: case OP_ScatterND: case OP_Compress: case OP_Optional:
    case OP_OptionalGetElement: case OP_OptionalHasElement: case OP_SequenceAt: case OP_SequenceConstruct: case OP_SequenceErase: case OP_SequenceInsert:
    case OP_SequenceLength: case OP_SplitToSequence: case OP_ConcatFromSequence: return true;
    default: return false;
    }
}

/* Complex numbers are moved, never computed with; of strings, what goes element by element compares and converts. */
static bool takes_class(Module *m, const Node *n, uint32_t i) {
    const Type *t = type_of(n, i);
    if (t == NULL || t->kind != TYPE_TENSOR) return true;
    const OpInfo *op = op_info((Op)n->op);
    if (op->domain == DOMAIN_LATHE || (op->flags & (OPF_VIEW | OPF_REGION)) || passes_on((Op)n->op)) return true;
    if (dtype_class(t->dtype) == 'C') return wrong(m, n, "the operator does not take complex numbers", i, t);
    bool converts = n->op == OP_Cast || n->op == OP_CastLike || n->op == OP_Equal;
    return t->dtype != DT_STRING || converts || !(op->flags & OPF_INPLACE) || wrong(m, n, "the operator does not take strings", i, t);
}

/* All operands of one numeric type: products of numbers. */
static bool numbers(Module *m, const Node *n) {
    const Type *x = type_of(n, 0);
    if (x != NULL && !dtype_is_float(x->dtype) && !dtype_is_int(x->dtype)) return wrong(m, n, "numbers are needed", 0, x);
    for (uint32_t i = 1; i < n->n_in; i++)
        if (!same_type(m, n, i)) return false;
    return true;
}

static bool one_byte(Module *m, const Node *n, uint32_t i) {
    const Type *t = type_of(n, i);
    if (t == NULL || (dtype_bits(t->dtype) == 8 && t->dtype != DT_BOOL && t->dtype != DT_STRING)) return true;
    return wrong(m, n, "8-bit numbers are needed", i, t);
}

static bool of_type(Module *m, const Node *n, uint32_t i, DType dtype, const char *what) {
    const Type *t = type_of(n, i);
    return t == NULL || t->dtype == dtype || wrong(m, n, what, i, t);
}

/* (codes, scale, zero point) at first: the zero point has the type of the codes, the scale is a float. */
static bool quantized(Module *m, const Node *n, uint32_t first) {
    const Type *codes = type_of(n, first), *scale = type_of(n, first + 1);
    if (!one_byte(m, n, first)) return false;
    if (scale != NULL && !dtype_is_float(scale->dtype)) return wrong(m, n, "a scale is a float", first + 1, scale);
    return codes == NULL || of_type(m, n, first + 2, codes->dtype, "a zero point has the type of what it belongs to");
}

static bool qlinear(Module *m, const Node *n) { /* a and b with scales and zero points, then the result's */
    const Type *scale = type_of(n, 6);
    if (!quantized(m, n, 0) || !quantized(m, n, 3)) return false;
    if (scale != NULL && !dtype_is_float(scale->dtype)) return wrong(m, n, "a scale is a float", 6, scale);
    if (n->op == OP_QLinearConv && !of_type(m, n, 8, DT_I32, "a bias is int32")) return false;
    return one_byte(m, n, 7);
}

static bool integer_product(Module *m, const Node *n) { /* a, b, zero points of both */
    const Type *a = type_of(n, 0), *b = type_of(n, 1);
    if (!one_byte(m, n, 0) || !one_byte(m, n, 1)) return false;
    if (a != NULL && !of_type(m, n, 2, a->dtype, "a zero point has the type of what it belongs to")) return false;
    return b == NULL || of_type(m, n, 3, b->dtype, "a zero point has the type of what it belongs to");
}

/* Weights of classes: a vector of the scores' type. */
static bool class_weights(Module *m, Node *n) {
    const Type *x = type_of(n, 0), *labels = type_of(n, 1), *w = type_of(n, 2);
    if (x != NULL && !dtype_is_float(x->dtype)) return wrong(m, n, "floats are needed", 0, x);
    if (labels != NULL && !dtype_is_int(labels->dtype)) return wrong(m, n, "labels are integers", 1, labels);
    if (x == NULL || w == NULL) return true;
    if (w->rank != 1) return wrong(m, n, "a vector with a weight per class is needed", 2, w);
    return same_type(m, n, 2) && shape_unify(m, n, x->dim[1], w->dim[0], "classes and weights") != 0;
}

/* rate, step, then tensors in groups (values, gradients, states): one group has one type. */
static bool optimizer(Module *m, Node *n) {
    uint32_t groups = n->op == OP_Adam ? 4 : 3, count = (n->n_in - 2) / groups;
    const Type *rate = type_of(n, 0), *step = type_of(n, 1);
    if (rate != NULL && (rate->rank != 0 || !dtype_is_float(rate->dtype))) return wrong(m, n, "a rate is one float", 0, rate);
    if (step != NULL && (step->rank != 0 || !dtype_is_int(step->dtype))) return wrong(m, n, "a step is one integer", 1, step);
    for (uint32_t i = 2 + count; i < n->n_in; i++) {
        const Type *x = type_of(n, 2 + (i - 2) % count), *t = type_of(n, i);
        if (x == NULL || t == NULL) continue;
        if (t->dtype != x->dtype || t->rank != x->rank) return wrong(m, n, "gradients and states have the type of the values", i, t);
        for (uint32_t d = 0; d < t->rank; d++)
            if (shape_unify(m, n, x->dim[d], t->dim[d], "values, gradients and states") == 0) return false;
    }
    return true;
}

static bool has_rank(Module *m, const Node *n, uint32_t i, uint32_t rank) {
    const Type *t = type_of(n, i);
    if (t == NULL || t->rank == rank) return true;
    return wrong(m, n, rank == 1 ? "a vector is needed" : "as many dims as input 0 has are needed", i, t);
}

/* Operators of any number of operands, none of which may be left out. */
static bool all_given(Module *m, const Node *n) {
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (n->in[i] != NULL) continue;
        diag(m->cx, SEV_ERROR, n->loc, "input %u is missing", i);
        return false;
    }
    return true;
}

static bool deform_conv(Module *m, const Node *n) { /* x, weights, offset, bias, mask */
    const Type *x = type_of(n, 0);
    if (x == NULL) return true;
    for (uint32_t i = 1; i < n->n_in; i++)
        if (!same_type(m, n, i) || !has_rank(m, n, i, i == 3 ? 1 : x->rank)) return false;
    return true;
}

static bool tensor_scatter(Module *m, const Node *n) { /* cache, update, positions */
    const Type *x = type_of(n, 0), *positions = type_of(n, 2);
    if (x == NULL) return true;
    if (positions != NULL && positions->dtype != DT_I64) return wrong(m, n, "positions are int64", 2, positions);
    return least_rank(m, n, 0, 2, "a batch and positions are needed") && same_type(m, n, 1) && has_rank(m, n, 1, x->rank) && has_rank(m, n, 2, 1);
}

bool shape_operands_fit(Module *m, Node *n) {
    const Type *x = type_of(n, 0);
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!takes_class(m, n, i)) return false;
    if (wants_floats((Op)n->op) && x != NULL && !dtype_is_float(x->dtype)) return wrong(m, n, "floats are needed", 0, x);
    switch ((Op)n->op) {
    case OP_Gemm: case OP_Einsum: return numbers(m, n);
    case OP_QLinearMatMul: case OP_QLinearConv: return qlinear(m, n);
    case OP_MatMulInteger: case OP_ConvInteger: return integer_product(m, n);
    case OP_SoftmaxCrossEntropyLoss: case OP_NegativeLogLikelihoodLoss: return class_weights(m, n);
    case OP_Adagrad: case OP_Adam: case OP_Momentum: return optimizer(m, n);
    case OP_Min: case OP_Max: case OP_Sum: case OP_Mean: case OP_Concat: case OP_SequenceConstruct: return all_given(m, n);
    case OP_DeformConv: return deform_conv(m, n);
    case OP_TensorScatter: return tensor_scatter(m, n);
    case OP_CumSum: return type_of(n, 1) == NULL || type_of(n, 1)->rank == 0 || has_rank(m, n, 1, 1);
    case OP_MatMul: return same_type(m, n, 1);
    case OP_PRelu: return same_type(m, n, 1) && fits_into(m, n, 1);
    case OP_Clip: case OP_Range: return same_type(m, n, 1) && same_type(m, n, 2);
    case OP_Not: return x == NULL || x->dtype == DT_BOOL || wrong(m, n, "booleans are needed", 0, x);
    case OP_ReverseSequence: return reverse_sequence(m, n);
    case OP_SequenceInsert: return is_tensor(m, n, 2);
    case OP_SequenceAt: case OP_SequenceErase: return is_tensor(m, n, 1);
    case OP_Trilu: return least_rank(m, n, 0, 2, "a matrix is needed");
    case OP_ScatterElements: return scatter_elements(m, n);
    case OP_ScatterND: return scatter_nd(m, n);
    default: return true;
    }
}
