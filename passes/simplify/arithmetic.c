/* Rules for pointwise arithmetic with constants. What is not exact is at most another rounding of the same value. */
#include <math.h>
#include <stdlib.h>

#include "passes/simplify/simplify.h"

/* x + 0, x - 0, x * 1, x / 1, x ^ 1 -> x, where the constant does not broadcast x. */
bool simplify_neutral(Rewriter *r, Node *n) {
    bool either = n->op == OP_Add || n->op == OP_Mul;
    double neutral = n->op == OP_Add || n->op == OP_Sub ? 0 : 1;
    for (uint32_t i = 0; i < 2; i++) {
        if (i == 1 && !either) break;
        Value *x = n->in[i], *c = n->in[1 - i];
        if (rw_same_type(x, n->out[0]) && rw_is(r->cx, c, neutral)) return rw_replace(r, n, x);
    }
    return false;
}

/* x^2 -> x*x, x^3 -> x*x*x, x^-1 -> 1/x */
bool simplify_pow(Rewriter *r, Node *n) {
    Value *x = n->in[0];
    double e;
    if (!rw_splat(r->cx, n->in[1], &e) || !rw_same_type(x, n->out[0])) return false;
    if (e == 2) return rw_replace(r, n, rw_build2(r, n, OP_Mul, x, x));
    if (e == 3) return rw_replace(r, n, rw_build2(r, n, OP_Mul, rw_build2(r, n, OP_Mul, x, x), x));
    if (e == -1 && rw_float(x)) return rw_replace(r, n, rw_build1(r, n, OP_Reciprocal, x));
    return false;
}

/* Exponents e with 2^e and 2^-e normal numbers of the type. */
static int exponent_limit(DType d) {
    return d == DT_F64 ? 1021 : d == DT_F32 || d == DT_BF16 ? 125 : d == DT_F16 ? 13 : -1;
}

/* x / c -> x * (1/c) where every element of c is a power of two: exact. */
bool simplify_div(Rewriter *r, Node *n) {
    Value *c = n->in[1];
    if (c->data == NULL || !rw_float(c)) return false;
    int limit = exponent_limit(c->type->dtype);
    int64_t count = dim_value(r->cx, type_numel(r->cx, c->type));
    if (count == 0 || count > 65536) return false;
    for (int64_t i = 0; i < count; i++) {
        int e;
        double f = frexp(const_f64(c, i), &e);
        if (fabs(f) != 0.5 || abs(e - 1) > limit) return false;
    }
    Value *inverse = rw_build1(r, n, OP_Reciprocal, c);
    return rw_replace(r, n, rw_build2(r, n, OP_Mul, n->in[0], inverse));
}

/* Relu(Relu(x)), Abs(Abs(x)), Floor, Ceil, Round -> once; Neg(Neg(x)), Not(Not(x)) -> x. */
bool simplify_twice(Rewriter *r, Node *n) {
    Node *inner = rw_def(r, n->in[0], (Op)n->op);
    if (inner == NULL) return false;
    bool undoes = n->op == OP_Neg || n->op == OP_Not;
    return rw_replace(r, n, undoes ? inner->in[0] : n->in[0]);
}

static bool all_usable(const Context *cx, const Value *v) { /* finite, and not flushed to zero */
    if (v->data == NULL) return false;
    if (!rw_float(v)) return true;
    int64_t n = dim_value(cx, type_numel((Context *)(uintptr_t)cx, v->type));
    for (int64_t i = 0; i < n; i++) {
        double x = const_f64(v, i);
        if (!isfinite(x) || (x != 0 && fabs(x) < 0x1p-100)) return false;
    }
    return true;
}

static Value *constant_side(const Node *n, Value **other) {
    for (uint32_t i = 0; i < 2; i++) {
        *other = n->in[1 - i];
        if (n->in[i]->data != NULL && (*other)->data == NULL) return n->in[i];
    }
    return NULL;
}

/* (x * a) * b -> x * (a*b), (x + a) + b -> x + (a+b): small constants, nothing else reads the middle. */
bool simplify_chain(Rewriter *r, Node *n) {
    Value *mid, *x, *b = constant_side(n, &mid);
    if (b == NULL || !rw_single(r, mid)) return false;
    Node *inner = rw_def(r, mid, (Op)n->op);
    if (inner == NULL || !(rw_float(x = inner->out[0]) || dtype_is_int(x->type->dtype))) return false;
    Value *a = constant_side(inner, &x);
    if (a == NULL || a->data->bytes > 65536 || b->data->bytes > 65536 || !all_usable(r->cx, a) || !all_usable(r->cx, b)) return false;
    Value *both = rw_build2(r, n, (Op)n->op, a, b);
    if (!all_usable(r->cx, both)) {
        rw_discard(r, both);
        return false;
    }
    return rw_replace(r, n, rw_build2(r, n, (Op)n->op, x, both));
}

/* Does every value of type a survive a cast to b and back? */
static bool lossless(DType a, DType b) {
    static const uint8_t digits[DT_COUNT] = {[DT_F64] = 53, [DT_F32] = 24, [DT_F16] = 11, [DT_BF16] = 8};
    static const uint16_t range[DT_COUNT] = {[DT_F64] = 1024, [DT_F32] = 128, [DT_F16] = 16, [DT_BF16] = 128};
    char ca = dtype_class(a), cb = dtype_class(b);
    if (a == b) return true;
    if (ca == 'B') return cb == 'U' || cb == 'I' || digits[b] != 0;
    bool ints = (ca == 'U' || ca == 'I') && (cb == 'U' || cb == 'I');
    if (ints) return ca == cb ? dtype_bits(a) <= dtype_bits(b) : ca == 'U' && dtype_bits(a) < dtype_bits(b);
    if (ca == 'U' || ca == 'I') return digits[b] != 0 && dtype_bits(a) - (ca == 'I') <= digits[b];
    return digits[a] != 0 && digits[b] != 0 && digits[a] <= digits[b] && range[a] <= range[b];
}

/* Cast(Cast(x, wide), t) -> Cast(x, t) */
bool simplify_cast(Rewriter *r, Node *n) {
    Node *inner = rw_def(r, n->in[0], OP_Cast);
    if (inner == NULL) return false;
    Value *x = inner->in[0];
    if (x->type->kind != TYPE_TENSOR || !lossless(x->type->dtype, n->in[0]->type->dtype)) return false;
    if (rw_same_type(x, n->out[0])) return rw_replace(r, n, x);
    return rw_replace(r, n, rw_value(r, rw_copy(r, n, n, 1, &x)));
}

bool simplify_castlike(Rewriter *r, Node *n) {
    Node *cast = rw_node(r, n, OP_Cast, 1, n->in);
    attr_set_i(cast, AT_Cast_to, dtype_to_onnx(n->in[1]->type->dtype));
    attr_set_i(cast, AT_Cast_saturate, attr_i(n, AT_CastLike_saturate));
    attr_set_s(cast, AT_Cast_round_mode, attr_s(n, AT_CastLike_round_mode));
    return rw_replace(r, n, rw_value(r, cast));
}

bool simplify_clip(Rewriter *r, Node *n) {
    bool bounded = (n->n_in > 1 && n->in[1] != NULL) || (n->n_in > 2 && n->in[2] != NULL);
    return !bounded && rw_same_type(n->in[0], n->out[0]) && rw_replace(r, n, n->in[0]);
}

/* Sum, Mean, Max, Min of one tensor; Sum of two is Add. */
bool simplify_single(Rewriter *r, Node *n) {
    if (n->n_in == 1) return rw_same_type(n->in[0], n->out[0]) && rw_replace(r, n, n->in[0]);
    if (n->op != OP_Sum || n->n_in != 2) return false;
    return rw_replace(r, n, rw_build2(r, n, OP_Add, n->in[0], n->in[1]));
}
