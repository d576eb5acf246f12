/* Sequences and optionals.
 *
 * A sequence type is seq<element; length>. Dims that differ between elements are run-time symbols: they carry the
 * bounds, while the sizes themselves stand beside the data (passes/sequences.c says how). An element taken out gets
 * fresh symbols of the same bounds. Elements may differ in rank, too: the type has the highest, and an element of lower
 * rank has the size -1 from its end on, which is outside of any bounds: taking it out as a tensor is a run-time error. */
#include "ir/shape/shape.h"

enum { DEFAULT_LENGTH = 64 }; /* elements, where nothing gives a bound */

static const Type *unknown_tensor(Context *cx, DType d) { return type_tensor(cx, d, RANK_UNKNOWN, NULL); }

static Dim either_dim(Context *cx, Dim a, Dim b) {
    int64_t lo = dim_lo(cx, a), hi = dim_hi(cx, a), lo2 = dim_lo(cx, b), hi2 = dim_hi(cx, b);
    return a == b ? a : dim_runtime(cx, "any", lo < lo2 ? lo : lo2, hi > hi2 ? hi : hi2);
}

/* The element type of a sequence that holds both. */
static const Type *join_elements(Module *m, Node *n, const Type *a, const Type *b) {
    Context *cx = m->cx;
    bool ranks = a != NULL && b != NULL && a->kind == TYPE_TENSOR && b->kind == TYPE_TENSOR && a->dtype == b->dtype && a->rank != b->rank;
    if (!ranks || a->rank == RANK_UNKNOWN || b->rank == RANK_UNKNOWN) return shape_join(m, n, a, b);
    const Type *longer = a->rank > b->rank ? a : b, *shorter = longer == a ? b : a;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < longer->rank; i++) {
        const DimNode *d = dim_node(cx, longer->dim[i]);
        bool own = i >= shorter->rank && d->kind == DIM_SYMBOL && d->runtime; /* it may stay: -1 is outside of its bounds */
        dim[i] = i < shorter->rank ? either_dim(cx, longer->dim[i], shorter->dim[i]) : own ? longer->dim[i] : dim_runtime(cx, "any", d->lo, d->hi);
    }
    return type_tensor(cx, longer->dtype, longer->rank, dim);
}

/* The type that holds both: dims that differ become symbols; an empty sequence's element of unknown rank fits any. */
const Type *shape_join(Module *m, Node *n, const Type *a, const Type *b) {
    Context *cx = m->cx;
    if (a == b || b == NULL) return a;
    if (a == NULL) return b;
    if (a->kind == b->kind && a->kind == TYPE_OPTIONAL) {
        const Type *elem = shape_join(m, n, a->elem, b->elem);
        return elem != NULL ? type_optional(cx, elem) : NULL;
    }
    if (a->kind == b->kind && a->kind == TYPE_SEQUENCE) {
        const Type *elem = join_elements(m, n, a->elem, b->elem);
        if (elem == NULL) return NULL;
        int64_t lo = dim_lo(cx, a->length), hi = dim_hi(cx, a->length), lo2 = dim_lo(cx, b->length), hi2 = dim_hi(cx, b->length);
        return type_sequence(cx, elem, a->length == b->length ? a->length : dim_runtime(cx, "len", lo < lo2 ? lo : lo2, hi > hi2 ? hi : hi2));
    }
    bool fits = a->kind == TYPE_TENSOR && b->kind == TYPE_TENSOR && a->dtype == b->dtype;
    if (fits && a->rank == RANK_UNKNOWN) return b;
    if (fits && b->rank == RANK_UNKNOWN) return a;
    if (!fits || a->rank != b->rank) {
        Writer w = {.arena = &cx->scratch};
        type_print(cx, &w, a);
        cw_printf(&w, " and ");
        type_print(cx, &w, b);
        diag(cx, SEV_ERROR, n->loc, "%s cannot be one type; equal element type and rank are needed", cw_cstr(&w));
        return NULL;
    }
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < a->rank; i++) dim[i] = either_dim(cx, a->dim[i], b->dim[i]);
    return type_tensor(cx, a->dtype, a->rank, dim);
}

/* Elements of a model's own sequences: sizes the file does not give are run-time symbols with the default bound. The length is the caller's: one
 * that is given is the most there may be. */
const Type *shape_open_elements(Context *cx, const Type *t) {
    if (t->kind == TYPE_OPTIONAL) return type_optional(cx, shape_open_elements(cx, t->elem));
    if (t->kind != TYPE_SEQUENCE) return t;
    const Type *e = t->elem;
    Dim dim[RANK_MAX], length = t->length;
    if (length == 0 || dim_is_const(cx, length)) length = dim_runtime(cx, "len", 0, length != 0 ? dim_value(cx, length) : DEFAULT_LENGTH);
    if (e->kind != TYPE_TENSOR || e->rank == RANK_UNKNOWN) return type_sequence(cx, e, length);
    for (uint32_t i = 0; i < e->rank; i++) dim[i] = e->dim[i] != 0 ? e->dim[i] : dim_runtime(cx, "element", 0, DEFAULT_LENGTH);
    return type_sequence(cx, type_tensor(cx, e->dtype, e->rank, dim), length);
}

static const Type *sequence_in(Module *m, Node *n, uint32_t i) {
    const Type *t = n->in[i] != NULL ? n->in[i]->type : NULL;
    if (t != NULL && t->kind == TYPE_SEQUENCE) return t;
    diag(m->cx, SEV_ERROR, n->loc, "input %u is not a sequence", i);
    return NULL;
}

static Dim length_of(Module *m, const Type *seq) { return seq->length != 0 ? seq->length : dim_runtime(m->cx, "len", 0, DEFAULT_LENGTH); }

bool shape_sequence_empty(Module *m, Node *n) {
    DType d = attr_has(n, AT_SequenceEmpty_dtype) ? dtype_from_onnx((int32_t)attr_i(n, AT_SequenceEmpty_dtype)) : DT_F32;
    n->out[0]->type = type_sequence(m->cx, unknown_tensor(m->cx, d), dim_const(m->cx, 0));
    return true;
}

bool shape_sequence_construct(Module *m, Node *n) {
    const Type *elem = NULL;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (shape_in(m, n, i) == NULL) return false;
        elem = join_elements(m, n, elem, n->in[i]->type);
        if (elem == NULL) return false;
    }
    n->out[0]->type = type_sequence(m->cx, elem, dim_const(m->cx, n->n_in));
    return true;
}

bool shape_sequence_insert(Module *m, Node *n) {
    const Type *seq = sequence_in(m, n, 0);
    if (seq == NULL || shape_in(m, n, 1) == NULL) return false;
    const Type *elem = join_elements(m, n, seq->elem, n->in[1]->type);
    if (elem == NULL) return false;
    n->out[0]->type = type_sequence(m->cx, elem, dim_add(m->cx, length_of(m, seq), dim_const(m->cx, 1)));
    return true;
}

bool shape_sequence_erase(Module *m, Node *n) {
    const Type *seq = sequence_in(m, n, 0);
    if (seq == NULL) return false;
    n->out[0]->type = type_sequence(m->cx, seq->elem, dim_max(m->cx, dim_sub(m->cx, length_of(m, seq), dim_const(m->cx, 1)), dim_const(m->cx, 0)));
    return true;
}

/* The type of one element, its own run-time sizes under new names. */
static const Type *fresh_element(Module *m, const Type *elem) {
    Context *cx = m->cx;
    if (elem->kind != TYPE_TENSOR || elem->rank == RANK_UNKNOWN) return elem;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < elem->rank; i++) {
        const DimNode *d = dim_node(cx, elem->dim[i]);
        dim[i] = d->kind == DIM_SYMBOL && d->runtime ? dim_runtime(cx, "at", d->lo, d->hi) : elem->dim[i];
    }
    return type_tensor(cx, elem->dtype, elem->rank, dim);
}

bool shape_sequence_at(Module *m, Node *n) {
    const Type *seq = sequence_in(m, n, 0);
    if (seq == NULL) return false;
    n->out[0]->type = fresh_element(m, seq->elem);
    return true;
}

bool shape_sequence_length(Module *m, Node *n) {
    const Type *seq = sequence_in(m, n, 0);
    if (seq == NULL) return false;
    n->out[0]->type = type_tensor(m->cx, DT_I64, 0, NULL);
    Dim len = length_of(m, seq);
    if (dim_is_const(m->cx, len)) shape_set_sym(m, n->out[0], 1, &len);
    return true;
}

bool shape_split_to_sequence(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *t = shape_in(m, n, 0);
    uint32_t axis, count = 0;
    if (t == NULL || !shape_axis(m, n, attr_i(n, AT_SplitToSequence_axis), t->rank, &axis)) return false;
    Dim dim[RANK_MAX], total = t->dim[axis], length = 0, one = dim_const(cx, 1);
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    uint32_t rank = t->rank;
    if (n->n_in < 2 || n->in[1] == NULL) { /* slices of one */
        length = total;
        dim[axis] = one;
        if (attr_i(n, AT_SplitToSequence_keepdims) == 0) {
            for (uint32_t i = axis; i + 1 < rank; i++) dim[i] = dim[i + 1];
            rank--;
        }
    } else {
        const Type *split = shape_in(m, n, 1);
        const Dim *size = value_dims(m, n->in[1], &count);
        if (split == NULL) return false;
        if (split->rank == 0) { /* equal parts, the last one may be smaller */
            Dim part = size != NULL ? size[0] : 0;
            length = part != 0 ? dim_ceildiv(cx, total, part) : dim_runtime(cx, "len", 0, dim_hi(cx, total));
            bool even = part != 0 && dim_mul(cx, dim_floordiv(cx, total, part), part) == total;
            dim[axis] = even ? part : dim_runtime(cx, "part", 0, part != 0 ? dim_hi(cx, part) : dim_hi(cx, total));
        } else {
            length = split->dim[0];
            bool same = size != NULL && count != 0;
            for (uint32_t i = 1; i < count && same; i++) same = size[i] == size[0];
            dim[axis] = same ? size[0] : dim_runtime(cx, "part", 0, dim_hi(cx, total));
        }
    }
    n->out[0]->type = type_sequence(cx, type_tensor(cx, t->dtype, rank, dim), length);
    return true;
}

bool shape_concat_from_sequence(Module *m, Node *n) {
    Context *cx = m->cx;
    const Type *seq = sequence_in(m, n, 0);
    if (seq == NULL) return false;
    const Type *e = seq->elem;
    if (e->kind != TYPE_TENSOR || e->rank == RANK_UNKNOWN) {
        diag(cx, SEV_ERROR, n->loc, "the rank of the sequence's elements is not known");
        return false;
    }
    bool stack = attr_i(n, AT_ConcatFromSequence_new_axis) != 0;
    uint32_t axis, rank = e->rank + stack;
    if (!shape_axis(m, n, attr_i(n, AT_ConcatFromSequence_axis), rank, &axis)) return false;
    Dim dim[RANK_MAX], len = length_of(m, seq);
    const Type *one = fresh_element(m, e);
    for (uint32_t i = 0, k = 0; i < rank; i++) dim[i] = stack && i == axis ? len : one->dim[k++];
    if (!stack) {
        const DimNode *d = dim_node(cx, e->dim[axis]);
        bool varies = d->kind == DIM_SYMBOL && d->runtime;
        dim[axis] = varies ? 0 : dim_mul(cx, len, e->dim[axis]);
    }
    int64_t most;
    const DimNode *l = dim_node(cx, len);
    if (dim[axis] == 0 || (l->kind != DIM_CONST && l->runtime)) {
        if (__builtin_mul_overflow(dim_hi(cx, len), stack ? 1 : dim_hi(cx, e->dim[axis]), &most)) most = INT64_MAX;
        dim[axis] = dim_runtime(cx, "cat", 0, most);
    }
    n->out[0]->type = type_tensor(cx, e->dtype, rank, dim);
    return true;
}

/* The body runs once per element: its inputs are elements of sequences, or whole tensors. */
bool shape_sequence_map(Module *m, Node *n) {
    Graph *body = attr_at(n, AT_SequenceMap_body)->graph;
    const Type *seq = sequence_in(m, n, 0);
    if (seq == NULL) return false;
    if (body->n_in != n->n_in || body->n_out < n->n_out) {
        diag(m->cx, SEV_ERROR, n->loc, "the body takes %u and gives %u values, the node has %u and %u", body->n_in, body->n_out, n->n_in, n->n_out);
        return false;
    }
    for (uint32_t i = 0; i < n->n_in; i++) {
        const Type *t = n->in[i]->type;
        if (body->in[i]->type == NULL || n->out[0]->type == NULL) body->in[i]->type = t != NULL && t->kind == TYPE_SEQUENCE ? fresh_element(m, t->elem) : t;
    }
    if (!graph_infer(m, body)) return false;
    for (uint32_t i = 0; i < n->n_out; i++)
        if (n->out[i] != NULL) n->out[i]->type = type_sequence(m->cx, body->out[i]->type, length_of(m, seq));
    return true;
}

/* ---- optionals --------------------------------------------------------------------------------------------------- */
bool shape_optional(Module *m, Node *n) {
    const Type *elem = n->n_in > 0 && n->in[0] != NULL ? n->in[0]->type : attr_has(n, AT_Optional_type) ? attr_at(n, AT_Optional_type)->type : NULL;
    if (elem == NULL) {
        diag(m->cx, SEV_ERROR, n->loc, "an empty optional needs the attribute `type`");
        return false;
    }
    n->out[0]->type = shape_open_elements(m->cx, type_optional(m->cx, elem));
    return true;
}

bool shape_optional_has_element(Module *m, Node *n) {
    n->out[0]->type = type_tensor(m->cx, DT_BOOL, 0, NULL);
    const Value *v = n->n_in > 0 ? n->in[0] : NULL;
    Dim known = dim_const(m->cx, v != NULL);
    if (v == NULL || v->type == NULL || v->type->kind != TYPE_OPTIONAL) shape_set_sym(m, n->out[0], 1, &known);
    return true;
}

bool shape_optional_get_element(Module *m, Node *n) {
    if (n->in[0] == NULL || n->in[0]->type == NULL) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 is missing");
        return false;
    }
    n->out[0]->type = n->in[0]->type->kind == TYPE_OPTIONAL ? n->in[0]->type->elem : n->in[0]->type;
    return true;
}
