/* ai.onnx.ml out of ordinary operators: scalers and encoders, linear models, support vector regression. */
#include "passes/expand/ml.h"

#include <math.h>

#include "passes/expand/build.h"
#include "passes/rules.h"

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
    expand_fail(m, at, "post_transform must be NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT");
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

int64_t ml_label_count(const Node *n) {
    const Attr *ints = list(n, "classlabels_int64s"), *strings = list(n, "classlabels_strings");
    if (ints == NULL) ints = list(n, "classlabels_ints");
    return strings != NULL && strings->strings.n != 0 ? strings->strings.n : ints != NULL ? ints->ints.n : 0;
}

Value *ml_two_scores(Module *m, Node *at, Value *s, const char *post, bool share) {
    if (s == NULL) return NULL;
    if (strcmp(post, "PROBIT") == 0) s = probit(m, at, s);
    bool logistic = strcmp(post, "LOGISTIC") == 0 && !share;
    Value *other = share ? build2(m, at, OP_Sub, number(m, s, 1), s) : build1(m, at, OP_Neg, s);
    Value *both = expand_concat(m, at, 2, (Value *[]){other, s}, 1);
    return logistic ? build1(m, at, OP_Sigmoid, both) : both;
}

/* ---- linear models ----------------------------------------------------------------------------------------------- */
/* x [N,F] times coefficients [C,F], plus intercepts: [N,C]. */
static Value *linear(Module *m, Node *n, int64_t rows) {
    const Attr *c = list(n, "coefficients"), *b = list(n, "intercepts");
    Value *x = ml_rows(m, n);
    Dim f = x->type->dim[1];
    if (c == NULL || rows < 1 || !dim_is_const(m->cx, f) || (int64_t)c->floats.n != rows * dim_value(m->cx, f)) {
        expand_fail(m, n, "the number of coefficients is not that of the features times that of the results");
        return NULL;
    }
    Value *w = expand_floats(m, 2, (int64_t[]){rows, dim_value(m->cx, f)}, c->floats.v, x->type->dtype);
    Value *y = build2(m, n, OP_MatMul, x, expand_transpose(m, n, w, 2, (int64_t[]){1, 0}));
    if (b != NULL && b->floats.n != 0) {
        if ((int64_t)b->floats.n != rows) {
            expand_fail(m, n, "there is not one intercept per result");
            return NULL;
        }
        y = build2(m, n, OP_Add, y, expand_floats(m, 1, &rows, b->floats.v, x->type->dtype));
    }
    return expand_cast(m, n, y, DT_F32);
}

bool expand_linear_regressor(Module *m, Node *n, Value **out) {
    const char *post = str_text(m->cx, attr_s(n, AT_LinearRegressor_post_transform));
    Value *y = linear(m, n, attr_i(n, AT_LinearRegressor_targets));
    /* one score alone has no others to be compared with: as in ONNX Runtime, only PROBIT changes it */
    out[0] = attr_i(n, AT_LinearRegressor_targets) > 1 || strcmp(post, "PROBIT") == 0 ? ml_post_transform(m, n, y, post) : y;
    return out[0] != NULL;
}

bool expand_linear_classifier(Module *m, Node *n, Value **out) {
    const Attr *c = list(n, "coefficients");
    Dim f = n->in[0]->type->dim[n->in[0]->type->rank - 1];
    if (c == NULL || !dim_is_const(m->cx, f) || dim_value(m->cx, f) < 1) return expand_fail(m, n, "the number of features must be known at compile time");
    int64_t rows = (int64_t)c->floats.n / dim_value(m->cx, f);
    Value *s = linear(m, n, rows);
    if (s == NULL) return false;
    const char *post = str_text(m->cx, attr_s(n, AT_LinearClassifier_post_transform));
    if (rows == 1) { /* a positive score is one for the second class */
        Value *second = expand_cast(m, n, build2(m, n, OP_Greater, s, number(m, s, 0)), DT_I64);
        out[0] = ml_labels(m, n, build2(m, n, OP_Squeeze, second, value_const_i64(m, 1, (int64_t[]){1})));
        out[1] = ml_two_scores(m, n, s, post, strcmp(post, "LOGISTIC") != 0);
    } else {
        out[0] = ml_labels(m, n, expand_arg_max(m, n, s, 1, false));
        out[1] = ml_post_transform(m, n, s, post);
    }
    return out[0] != NULL && out[1] != NULL;
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
    if (a == NULL || a->ints.n == 0) return expand_fail(m, n, "there are no imputed values of the input's kind");
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

static void set_list(Node *to, AttrSlot slot, const Attr *from) {
    *attr_at(to, slot) = *from;
    attr_at(to, slot)->present = true;
}

/* The place of each string in the list, or -1. */
static Value *places(Module *m, Node *n, Value *x, const Attr *strings) {
    int64_t *place = ARENA_ARRAY(&m->cx->arena, int64_t, strings->strings.n);
    for (uint32_t i = 0; i < strings->strings.n; i++) place[i] = i;
    Node *label = expand_node(m, n, OP_LabelEncoder, 1, &x, 1);
    set_list(label, AT_LabelEncoder_keys_strings, strings);
    attr_set_ints(m->cx, label, AT_LabelEncoder_values_int64s, place, strings->strings.n);
    attr_set_i(label, AT_LabelEncoder_default_int64, -1);
    return expand_result(m, label);
}

/* A category that is not listed gives zeros, or with zeros = 0 is an error, which the reference implementation ignores, too. */
bool expand_one_hot_encoder(Module *m, Node *n, Value **out) {
    const Attr *cats = list(n, "cats_int64s"), *strings = list(n, "cats_strings");
    bool text = n->in[0]->type->dtype == DT_STRING;
    if ((text ? strings : cats) == NULL || (text ? strings->strings.n : cats->ints.n) == 0) return expand_fail(m, n, "there are no categories of the input's kind");
    int64_t count = text ? strings->strings.n : cats->ints.n, *place = ARENA_ARRAY(&m->cx->arena, int64_t, (size_t)count);
    for (int64_t i = 0; i < count; i++) place[i] = text ? i : cats->ints.v[i];
    Value *x = text ? places(m, n, n->in[0], strings) : expand_cast(m, n, n->in[0], DT_I64);
    Value *wide = x != NULL ? build2(m, n, OP_Unsqueeze, x, value_const_i64(m, 1, (int64_t[]){-1})) : NULL;
    if (wide == NULL) return false;
    out[0] = expand_cast(m, n, build2(m, n, OP_Equal, wide, expand_ints(m, 1, &count, place)), DT_F32);
    return out[0] != NULL;
}

/* A LabelEncoder between strings and integers, in the direction that the input's type says. */
bool expand_category_mapper(Module *m, Node *n, Value **out) {
    const Attr *ints = list(n, "cats_int64s"), *strings = list(n, "cats_strings");
    if (ints == NULL || strings == NULL) return expand_fail(m, n, "cats_int64s and cats_strings must be given");
    Node *label = expand_node(m, n, OP_LabelEncoder, 1, n->in, 1);
    bool text = n->in[0]->type->dtype == DT_STRING;
    set_list(label, text ? AT_LabelEncoder_keys_strings : AT_LabelEncoder_keys_int64s, text ? strings : ints);
    set_list(label, text ? AT_LabelEncoder_values_int64s : AT_LabelEncoder_values_strings, text ? ints : strings);
    attr_set_i(label, AT_LabelEncoder_default_int64, attr_i(n, AT_CategoryMapper_default_int64));
    attr_set_s(label, AT_LabelEncoder_default_string, attr_s(n, AT_CategoryMapper_default_string));
    out[0] = expand_result(m, label);
    return out[0] != NULL;
}

/* A list of maps with the same keys is a table: row k has the values of map k, in the order of the class labels. */
bool expand_zip_map(Module *m, Node *n, Value **out) {
    Value *x = n->in[0];
    if (x->type->rank == 1) x = build2(m, n, OP_Unsqueeze, x, value_const_i64(m, 1, (int64_t[]){0}));
    out[0] = build1(m, n, OP_Identity, x);
    return out[0] != NULL;
}
