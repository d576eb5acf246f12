/* ai.onnx.ml out of ordinary operators: scalers and encoders, linear models, support vector regression. */
#include "passes/expand/ml.h"

#include <math.h>

#include "ir/shape/reduce.h"
#include "passes/expand/build.h"
#include "passes/rules.h"

static bool fail(Module *m, const Node *n, const char *what) {
    diag(m->cx, SEV_ERROR, n->loc, "%s", what);
    return false;
}

static Value *number(Module *m, const Value *like, double v) { return value_const_scalar(m, like->type->dtype, v); }

Value *ml_rows(Module *m, Node *at) {
    Value *x = at->in[0];
    if (x->type->dtype != DT_F64) x = expand_cast(m, at, x, DT_F32);
    return x->type->rank == 1 ? build2(m, at, OP_Unsqueeze, x, value_const_i64(m, 1, (int64_t[]){0})) : x;
}

/* ---- results of classifiers -------------------------------------------------------------------------------------- */
/* exp(x - max) / sum over the classes whose score is not 0; those stay 0. */
static Value *softmax_zero(Module *m, Node *at, Value *x) {
    Value *zero = number(m, x, 0), *is_zero = build2(m, at, OP_Equal, x, zero);
    Value *top = expand_reduce_axis(m, at, OP_ReduceMax, x, 1, true);
    Value *e = build3(m, at, OP_Where, is_zero, zero, build1(m, at, OP_Exp, build2(m, at, OP_Sub, x, top)));
    Value *sum = expand_reduce_axis(m, at, OP_ReduceSum, e, 1, true);
    return build2(m, at, OP_Div, e, build3(m, at, OP_Where, build2(m, at, OP_Equal, sum, zero), number(m, x, 1), sum));
}

/* sqrt(2) * inverse error function of 2x - 1, by Winitzki's formula with a = 0.147. */
static Value *probit(Module *m, Node *at, Value *x) {
    const double a = 0.147, pi = 3.14159265358979323846;
    Value *one = number(m, x, 1), *u = build2(m, at, OP_Sub, build2(m, at, OP_Mul, x, number(m, x, 2)), one);
    Value *log = build1(m, at, OP_Log, build2(m, at, OP_Mul, build2(m, at, OP_Sub, one, u), build2(m, at, OP_Add, one, u)));
    Value *v = build2(m, at, OP_Add, build2(m, at, OP_Mul, log, number(m, x, 0.5)), number(m, x, 2 / (pi * a)));
    Value *root = build1(m, at, OP_Sqrt, build2(m, at, OP_Sub, build2(m, at, OP_Mul, v, v), build2(m, at, OP_Mul, log, number(m, x, 1 / a))));
    Value *size = build1(m, at, OP_Sqrt, build2(m, at, OP_Sub, root, v));
    return build2(m, at, OP_Mul, build2(m, at, OP_Mul, build1(m, at, OP_Sign, u), size), number(m, x, sqrt(2)));
}

Value *ml_post_transform(Module *m, Node *at, Value *scores, const char *name) {
    if (scores == NULL || strcmp(name, "NONE") == 0) return scores;
    if (strcmp(name, "LOGISTIC") == 0) return build1(m, at, OP_Sigmoid, scores);
    if (strcmp(name, "SOFTMAX") == 0) return expand_softmax(m, at, scores, 1);
    if (strcmp(name, "SOFTMAX_ZERO") == 0) return softmax_zero(m, at, scores);
    if (strcmp(name, "PROBIT") == 0) return probit(m, at, scores);
    fail(m, at, "post_transform must be NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT");
    return NULL;
}

static const Attr *list(const Node *n, const char *name) {
    AttrSlot slot = attr_named(n, name);
    return slot != AT_COUNT && attr_has(n, slot) ? attr_at(n, slot) : NULL;
}

Value *ml_labels(Module *m, Node *at, Value *index) {
    const Attr *ints = list(at, "classlabels_int64s"), *strings = list(at, "classlabels_strings");
    if (ints == NULL) ints = list(at, "classlabels_ints");
    if (strings != NULL && strings->strings.n != 0) {
        Dim n = dim_const(m->cx, strings->strings.n);
        return expand_gather(m, at, value_const(m, type_tensor(m->cx, DT_STRING, 1, &n), strings->strings.v, true), index, 0);
    }
    int64_t n = ints->ints.n;
    return expand_gather(m, at, expand_ints(m, 1, &n, ints->ints.v), index, 0);
}

/* ---- linear models ----------------------------------------------------------------------------------------------- */
/* x [N,F] times coefficients [C,F], plus intercepts: [N,C]. */
static Value *linear(Module *m, Node *n, int64_t rows) {
    const Attr *c = list(n, "coefficients"), *b = list(n, "intercepts");
    Value *x = ml_rows(m, n);
    Dim f = x->type->dim[1];
    if (c == NULL || rows < 1 || !dim_is_const(m->cx, f) || (int64_t)c->floats.n != rows * dim_value(m->cx, f)) {
        fail(m, n, "the number of coefficients is not that of the features times that of the results");
        return NULL;
    }
    Value *w = expand_floats(m, 2, (int64_t[]){rows, dim_value(m->cx, f)}, c->floats.v, x->type->dtype);
    Value *y = build2(m, n, OP_MatMul, x, expand_transpose(m, n, w, 2, (int64_t[]){1, 0}));
    if (b != NULL && b->floats.n != 0) {
        if ((int64_t)b->floats.n != rows) {
            fail(m, n, "there is not one intercept per result");
            return NULL;
        }
        y = build2(m, n, OP_Add, y, expand_floats(m, 1, &rows, b->floats.v, x->type->dtype));
    }
    return expand_cast(m, n, y, DT_F32);
}

bool expand_linear_regressor(Module *m, Node *n, Value **out) {
    Value *y = linear(m, n, attr_i(n, AT_LinearRegressor_targets));
    out[0] = ml_post_transform(m, n, y, str_text(m->cx, attr_s(n, AT_LinearRegressor_post_transform)));
    return out[0] != NULL;
}

bool expand_linear_classifier(Module *m, Node *n, Value **out) {
    const Attr *c = list(n, "coefficients");
    Dim f = n->in[0]->type->dim[n->in[0]->type->rank - 1];
    if (c == NULL || !dim_is_const(m->cx, f) || dim_value(m->cx, f) < 1) return fail(m, n, "the number of features must be known at compile time");
    int64_t rows = (int64_t)c->floats.n / dim_value(m->cx, f);
    Value *s = linear(m, n, rows);
    if (s == NULL) return false;
    if (rows == 1) s = expand_concat(m, n, 2, (Value *[]){build1(m, n, OP_Neg, s), s}, 1);
    if (s == NULL) return false;
    out[0] = ml_labels(m, n, expand_arg_max(m, n, s, 1, false));
    out[1] = ml_post_transform(m, n, s, str_text(m->cx, attr_s(n, AT_LinearClassifier_post_transform)));
    return out[0] != NULL && out[1] != NULL;
}

/* Kernel values [N,S] of the rows x and the support vectors sv [S,F]. */
static Value *kernel_values(Module *m, Node *n, Value *x, Value *sv) {
    const Attr *p = list(n, "kernel_params");
    double gamma = p != NULL && p->floats.n > 0 ? p->floats.v[0] : 0, coef = p != NULL && p->floats.n > 1 ? p->floats.v[1] : 0;
    double degree = p != NULL && p->floats.n > 2 ? p->floats.v[2] : 3;
    AttrSlot type = attr_named(n, "kernel_type");
    Value *dot = build2(m, n, OP_MatMul, x, expand_transpose(m, n, sv, 2, (int64_t[]){1, 0}));
    if (attr_s_is(m->cx, n, type, "LINEAR")) return dot;
    if (attr_s_is(m->cx, n, type, "RBF")) {
        Value *xx = expand_reduce_axis(m, n, OP_ReduceSumSquare, x, 1, true), *ss = expand_reduce_axis(m, n, OP_ReduceSumSquare, sv, 1, false);
        Value *d = build2(m, n, OP_Sub, build2(m, n, OP_Add, xx, ss), build2(m, n, OP_Mul, dot, number(m, x, 2)));
        return build1(m, n, OP_Exp, build2(m, n, OP_Mul, d, number(m, x, -gamma)));
    }
    Value *line = build2(m, n, OP_Add, build2(m, n, OP_Mul, dot, number(m, x, gamma)), number(m, x, coef));
    if (attr_s_is(m->cx, n, type, "SIGMOID")) return build1(m, n, OP_Tanh, line);
    return build2(m, n, OP_Pow, line, number(m, x, degree));
}

bool expand_svm_regressor(Module *m, Node *n, Value **out) {
    const Attr *c = list(n, "coefficients"), *v = list(n, "support_vectors"), *rho = list(n, "rho");
    Value *x = ml_rows(m, n), *y;
    Dim f = x->type->dim[1];
    if (c == NULL || !dim_is_const(m->cx, f)) return fail(m, n, "coefficients are missing, or the number of features is not known at compile time");
    int64_t count = c->floats.n, features = dim_value(m->cx, f);
    if (v != NULL && v->floats.n != 0) {
        if ((int64_t)v->floats.n != count * features) return fail(m, n, "support_vectors has not one row per coefficient");
        Value *sv = expand_floats(m, 2, (int64_t[]){count, features}, v->floats.v, x->type->dtype);
        y = build2(m, n, OP_MatMul, kernel_values(m, n, x, sv), expand_floats(m, 2, (int64_t[]){count, 1}, c->floats.v, x->type->dtype));
    } else {
        if (count != features) return fail(m, n, "there is not one coefficient per feature");
        y = build2(m, n, OP_MatMul, x, expand_floats(m, 2, (int64_t[]){count, 1}, c->floats.v, x->type->dtype));
    }
    if (rho != NULL && rho->floats.n != 0) y = build2(m, n, OP_Add, y, number(m, y, rho->floats.v[0]));
    if (attr_i(n, AT_SVMRegressor_one_class) != 0)
        y = build3(m, n, OP_Where, build2(m, n, OP_Greater, y, number(m, y, 0)), number(m, y, 1), number(m, y, -1));
    out[0] = ml_post_transform(m, n, expand_cast(m, n, y, DT_F32), str_text(m->cx, attr_s(n, AT_SVMRegressor_post_transform)));
    return out[0] != NULL;
}

/* ---- features ---------------------------------------------------------------------------------------------------- */
bool expand_binarizer(Module *m, Node *n, Value **out) {
    Value *x = n->in[0];
    out[0] = expand_cast(m, n, build2(m, n, OP_Greater, x, number(m, x, attr_f(n, AT_Binarizer_threshold))), x->type->dtype);
    return out[0] != NULL;
}

/* A list of one or F numbers as a constant that broadcasts over [N,F]. */
static Value *per_feature(Module *m, const Attr *a, double otherwise) {
    if (a == NULL || a->floats.n == 0) return value_const_scalar(m, DT_F32, otherwise);
    return expand_floats(m, 1, (int64_t[]){a->floats.n}, a->floats.v, DT_F32);
}

bool expand_scaler(Module *m, Node *n, Value **out) {
    Value *x = expand_cast(m, n, n->in[0], DT_F32);
    x = build2(m, n, OP_Sub, x, per_feature(m, list(n, "offset"), 0));
    out[0] = build2(m, n, OP_Mul, x, per_feature(m, list(n, "scale"), 1));
    return out[0] != NULL;
}

bool expand_normalizer(Module *m, Node *n, Value **out) {
    Value *x = expand_cast(m, n, n->in[0], DT_F32), *size;
    int64_t axis = (int64_t)x->type->rank - 1;
    if (attr_s_is(m->cx, n, AT_Normalizer_norm, "MAX")) size = expand_reduce_axis(m, n, OP_ReduceMax, x, axis, true);
    else if (attr_s_is(m->cx, n, AT_Normalizer_norm, "L1")) size = expand_reduce_axis(m, n, OP_ReduceL1, x, axis, true);
    else size = expand_reduce_axis(m, n, OP_ReduceL2, x, axis, true);
    Value *none = build2(m, n, OP_Equal, size, number(m, x, 0));
    out[0] = build2(m, n, OP_Div, x, build3(m, n, OP_Where, none, number(m, x, 1), size));
    return out[0] != NULL;
}

bool expand_imputer(Module *m, Node *n, Value **out) {
    Value *x = n->in[0], *with;
    bool real = dtype_is_float(x->type->dtype);
    const Attr *a = list(n, real ? "imputed_value_floats" : "imputed_value_int64s");
    if (a == NULL || a->ints.n == 0) return fail(m, n, "there are no imputed values of the input's kind");
    with = real ? expand_cast(m, n, per_feature(m, a, 0), x->type->dtype) : expand_ints(m, 1, (int64_t[]){a->ints.n}, a->ints.v);
    double replaced = attr_f(n, AT_Imputer_replaced_value_float);
    Value *hit;
    if (real && isnan(replaced)) hit = build1(m, n, OP_IsNaN, x);
    else if (real) hit = build2(m, n, OP_Equal, x, number(m, x, replaced));
    else hit = build2(m, n, OP_Equal, x, value_const_i64(m, 1, (int64_t[]){attr_i(n, AT_Imputer_replaced_value_int64)}));
    out[0] = build3(m, n, OP_Where, hit, with, x);
    return out[0] != NULL;
}

bool expand_feature_vectorizer(Module *m, Node *n, Value **out) {
    Value **part = ARENA_ARRAY(&m->cx->arena, Value *, n->n_in);
    for (uint32_t i = 0; i < n->n_in; i++) {
        part[i] = expand_cast(m, n, n->in[i], DT_F32);
        if (part[i]->type->rank == 1) part[i] = build2(m, n, OP_Unsqueeze, part[i], value_const_i64(m, 1, (int64_t[]){0}));
    }
    out[0] = expand_concat(m, n, n->n_in, part, 1);
    return out[0] != NULL;
}

/* A category that is not listed gives zeros, or with zeros = 0 is an error, which the reference implementation ignores, too. */
bool expand_one_hot_encoder(Module *m, Node *n, Value **out) {
    const Attr *cats = list(n, "cats_int64s");
    Value *x = expand_cast(m, n, n->in[0], DT_I64);
    Value *wide = build2(m, n, OP_Unsqueeze, x, value_const_i64(m, 1, (int64_t[]){-1}));
    out[0] = expand_cast(m, n, build2(m, n, OP_Equal, wide, expand_ints(m, 1, (int64_t[]){cats->ints.n}, cats->ints.v)), DT_F32);
    return out[0] != NULL;
}
