/* Probes: outputs of the model that measure its values, so that calibration is a run of emitted C.
 *
 *     CHANNELS   %m = ReduceMax(Abs(%x))  %a = ReduceMean(Abs(%x))  %c = ReduceMean(%x) over all dims but one
 *     RANGE      %min = ReduceMin(%x)  %max = ReduceMax(%x)
 *     HISTOGRAM  %bin = clip(floor((%x - low) * bins / (high - low)));  %h = ScatterElements(0, %bin, 1) {reduction = add}
 *     SQUARES    %h = MatMul(Transpose(%x), %x), x as rows of its last dimension */
#include "passes/quantize/quantize.h"

static Node *append(Module *m, Op op, uint32_t n_in, Value *const *in) { return node_new(m, m->main, NULL, op, n_in, in, 1); }

static Value *result(Module *m, Node *n) { return node_infer(m, n) ? n->out[0] : NULL; }

static Value *plain(Module *m, Op op, uint32_t n_in, Value *const *in) { return result(m, append(m, op, n_in, in)); }

static bool output(Module *m, Value *v) {
    if (v == NULL) return false;
    v->name = str_format(m->cx, "probe.%u", m->main->n_out);
    graph_add_output(m, m->main, v);
    return true;
}

static Value *reduce_all(Module *m, Op op, AttrSlot keepdims, Value *x) {
    Node *n = append(m, op, 1, &x);
    attr_set_i(n, keepdims, 0);
    return result(m, n);
}

static Value *scalar(Module *m, double v) { return value_const_scalar(m, DT_F32, v); }

static Value *cast(Module *m, Value *v, DType t) {
    Node *n = append(m, OP_Cast, 1, &v);
    attr_set_i(n, AT_Cast_to, dtype_to_onnx(t));
    return result(m, n);
}

static Value *reshape(Module *m, Value *v, uint32_t rank, const int64_t *shape) { return plain(m, OP_Reshape, 2, (Value *[]){v, value_const_i64(m, rank, shape)}); }

static Value *histogram(Module *m, Value *x, QuantizeRange r) {
    double width = r.high > r.low ? r.high - r.low : 1;
    Value *flat = reshape(m, x, 1, (int64_t[]){-1});
    Value *at = plain(m, OP_Mul, 2, (Value *[]){plain(m, OP_Sub, 2, (Value *[]){flat, scalar(m, r.low)}), scalar(m, QUANTIZE_BINS / width)});
    Value *bin = cast(m, plain(m, OP_Clip, 3, (Value *[]){plain(m, OP_Floor, 1, &at), scalar(m, 0), scalar(m, QUANTIZE_BINS - 1)}), DT_I64);
    Value *one = plain(m, OP_Max, 2, (Value *[]){plain(m, OP_Sub, 2, (Value *[]){bin, bin}), value_const_scalar(m, DT_I64, 1)});
    Value *zeros = value_const_i64(m, QUANTIZE_BINS, (int64_t[QUANTIZE_BINS]){0});
    Node *n = append(m, OP_ScatterElements, 3, (Value *[]){zeros, bin, one});
    attr_set_s(n, AT_ScatterElements_reduction, str_intern(m->cx, "add"));
    return result(m, n);
}

static Value *squares(Module *m, Value *x) {
    const Type *t = x->type;
    if (!dim_is_const(m->cx, t->dim[t->rank - 1])) return NULL;
    Value *rows = reshape(m, x, 2, (int64_t[]){-1, dim_value(m->cx, t->dim[t->rank - 1])});
    Node *turned = append(m, OP_Transpose, 1, &rows);
    attr_set_ints(m->cx, turned, AT_Transpose_perm, (int64_t[]){1, 0}, 2);
    return plain(m, OP_MatMul, 2, (Value *[]){result(m, turned), rows});
}

/* Over all dims but `axis`. */
static Value *reduce_channels(Module *m, Op op, AttrSlot keepdims, Value *x, uint32_t axis) {
    int64_t axes[RANK_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < x->type->rank; i++)
        if (i != axis) axes[n++] = i;
    Node *made = append(m, op, 2, (Value *[]){x, value_const_i64(m, n, axes)});
    attr_set_i(made, keepdims, 0);
    return result(m, made);
}

uint32_t *quantize_axes(Module *m, const QuantizeSites *sites, const QuantizePoints *points) {
    uint32_t *axis = ARENA_ARRAY(&m->cx->scratch, uint32_t, points->n + 1);
    for (uint32_t i = 0; i < points->n; i++) axis[i] = points->v[i]->type->rank - 1u;
    for (uint32_t i = 0; i < sites->n; i++)
        if (sites->v[i].conv) axis[sites->v[i].point] = 1;
    return axis;
}

bool quantize_probe(Module *m, QuantizeProbe probe, const QuantizePoints *points, const QuantizeRange *range, const uint32_t *axis, uint32_t only) {
    for (uint32_t i = 0; i < points->n; i++) {
        Value *x = points->v[i];
        switch (probe) {
        case PROBE_CHANNELS: {
            Value *size = plain(m, OP_Abs, 1, &x);
            if (!output(m, reduce_channels(m, OP_ReduceMax, AT_ReduceMax_keepdims, size, axis[i])) || !output(m, reduce_channels(m, OP_ReduceMean, AT_ReduceMean_keepdims, size, axis[i])) ||
                !output(m, reduce_channels(m, OP_ReduceMean, AT_ReduceMean_keepdims, x, axis[i]))) return false;
            break;
        }
        case PROBE_RANGE:
            if (!output(m, reduce_all(m, OP_ReduceMin, AT_ReduceMin_keepdims, x)) || !output(m, reduce_all(m, OP_ReduceMax, AT_ReduceMax_keepdims, x))) return false;
            break;
        case PROBE_HISTOGRAM:
            if (!output(m, histogram(m, x, range[i]))) return false;
            break;
        case PROBE_SQUARES:
            if (i == only && !output(m, squares(m, x))) return false;
            break;
        }
    }
    return true;
}
