/* Support vector machines of ai.onnx.ml out of matrix products.
 *
 *     K = kernel(x, support vectors) [N,S]     regressor:   K c + rho
 *                                              classifier:  one score for each pair of classes, K W + rho [N,P]
 *
 * Column (i,j) of W has the coefficients of the vectors of classes i and j against each other, and 0 for all others. A
 * positive score is a vote for class i, another one for class j; the class with most votes wins, the first of equals. */
#include <math.h>

#include "passes/expand/build.h"
#include "passes/expand/ml.h"
#include "passes/rules.h"

static Value *number(Module *m, const Value *like, double v) { return value_const_scalar(m, like->type->dtype, v); }

/* A list of numbers that is given and not empty, else NULL. */
static const Attr *floats(const Node *n, AttrSlot slot) { return attr_has(n, slot) && attr_at(n, slot)->floats.n != 0 ? attr_at(n, slot) : NULL; }

typedef struct SvmKernel { const char *type; const Attr *params; } SvmKernel;

/* Kernel values [N,S] of the rows x and the support vectors sv [S,F]. */
static Value *kernel_values(Module *m, Node *n, SvmKernel kernel, Value *x, Value *sv) {
    const Attr *p = kernel.params;
    double gamma = p != NULL ? p->floats.v[0] : 0, coef = p != NULL && p->floats.n > 1 ? p->floats.v[1] : 0;
    double degree = p != NULL && p->floats.n > 2 ? p->floats.v[2] : 3;
    Value *dot = build2(m, n, OP_MatMul, x, expand_transpose(m, n, sv, 2, (int64_t[]){1, 0}));
    if (strcmp(kernel.type, "LINEAR") == 0) return dot;
    if (strcmp(kernel.type, "RBF") == 0) {
        Value *xx = expand_reduce_axis(m, n, OP_ReduceSumSquare, x, 1, true), *ss = expand_reduce_axis(m, n, OP_ReduceSumSquare, sv, 1, false);
        Value *d = build2(m, n, OP_Sub, build2(m, n, OP_Add, xx, ss), build2(m, n, OP_Mul, dot, number(m, x, 2)));
        return build1(m, n, OP_Exp, build2(m, n, OP_Mul, d, number(m, x, -gamma)));
    }
    Value *line = build2(m, n, OP_Add, build2(m, n, OP_Mul, dot, number(m, x, gamma)), number(m, x, coef));
    if (strcmp(kernel.type, "SIGMOID") == 0) return build1(m, n, OP_Tanh, line);
    if (strcmp(kernel.type, "POLY") == 0) return build2(m, n, OP_Pow, line, number(m, x, degree));
    expand_fail(m, n, "kernel_type must be LINEAR, POLY, RBF or SIGMOID");
    return NULL;
}

static bool features_of(Module *m, const Node *n, const Value *x, int64_t *features) {
    Dim f = x->type->dim[1];
    if (!dim_is_const(m->cx, f) || dim_value(m->cx, f) < 1) return expand_fail(m, n, "the number of features must be known at compile time");
    *features = dim_value(m->cx, f);
    return true;
}

/* The reference implementation and ONNX Runtime leave post_transform out, and so does this. */
bool expand_svm_regressor(Module *m, Node *n, Value **out) {
    const Attr *c = floats(n, AT_SVMRegressor_coefficients), *v = floats(n, AT_SVMRegressor_support_vectors), *rho = floats(n, AT_SVMRegressor_rho);
    Value *x = ml_rows(m, n), *y;
    int64_t features;
    if (!features_of(m, n, x, &features)) return false;
    if (c == NULL) return expand_fail(m, n, "coefficients are missing");
    int64_t count = c->floats.n;
    if (v != NULL) {
        SvmKernel kernel = {str_text(m->cx, attr_s(n, AT_SVMRegressor_kernel_type)), floats(n, AT_SVMRegressor_kernel_params)};
        if ((int64_t)v->floats.n != count * features) return expand_fail(m, n, "support_vectors has not one row per coefficient");
        Value *k = kernel_values(m, n, kernel, x, expand_floats(m, 2, (int64_t[]){count, features}, v->floats.v, x->type->dtype));
        if (k == NULL) return false;
        y = build2(m, n, OP_MatMul, k, expand_floats(m, 2, (int64_t[]){count, 1}, c->floats.v, x->type->dtype));
    } else {
        if (count != features) return expand_fail(m, n, "there is not one coefficient per feature");
        y = build2(m, n, OP_MatMul, x, expand_floats(m, 2, (int64_t[]){count, 1}, c->floats.v, x->type->dtype));
    }
    if (rho != NULL) y = build2(m, n, OP_Add, y, number(m, y, rho->floats.v[0]));
    if (attr_i(n, AT_SVMRegressor_one_class) != 0)
        y = build3(m, n, OP_Where, build2(m, n, OP_Greater, y, number(m, y, 0)), number(m, y, 1), number(m, y, -1));
    out[0] = expand_cast(m, n, y, DT_F32);
    return out[0] != NULL;
}

/* ---- classifier --------------------------------------------------------------------------------------------------- */
typedef struct Svm {
    Module *m;
    Node *n;
    Value *x;
    int64_t features, classes, pairs, vectors;
    const int64_t *per_class;
} Svm;

/* Scores of all pairs [N,P]. */
static Value *pair_scores(Svm *s) {
    Module *m = s->m;
    const Attr *c = floats(s->n, AT_SVMClassifier_coefficients), *v = floats(s->n, AT_SVMClassifier_support_vectors), *rho = floats(s->n, AT_SVMClassifier_rho);
    if (c == NULL || v == NULL || rho == NULL || (int64_t)c->floats.n != (s->classes - 1) * s->vectors || (int64_t)v->floats.n != s->vectors * s->features ||
        (int64_t)rho->floats.n < s->pairs) {
        expand_fail(m, s->n, "coefficients, support_vectors and rho do not fit vectors_per_class and the number of features");
        return NULL;
    }
    double *w = ARENA_ARRAY(&m->cx->arena, double, (size_t)(s->vectors * s->pairs));
    int64_t pair = 0, start_i = 0;
    for (int64_t i = 0; i < s->classes; start_i += s->per_class[i++]) {
        int64_t start_j = start_i + s->per_class[i];
        for (int64_t j = i + 1; j < s->classes; start_j += s->per_class[j++], pair++) {
            for (int64_t k = start_i; k < start_i + s->per_class[i]; k++) w[k * s->pairs + pair] = c->floats.v[(j - 1) * s->vectors + k];
            for (int64_t k = start_j; k < start_j + s->per_class[j]; k++) w[k * s->pairs + pair] = c->floats.v[i * s->vectors + k];
        }
    }
    SvmKernel kernel = {str_text(m->cx, attr_s(s->n, AT_SVMClassifier_kernel_type)), floats(s->n, AT_SVMClassifier_kernel_params)};
    DType t = s->x->type->dtype;
    Value *k = kernel_values(m, s->n, kernel, s->x, expand_floats(m, 2, (int64_t[]){s->vectors, s->features}, v->floats.v, t));
    if (k == NULL) return NULL;
    Value *y = build2(m, s->n, OP_MatMul, k, expand_floats(m, 2, (int64_t[]){s->vectors, s->pairs}, w, t));
    return build2(m, s->n, OP_Add, y, expand_floats(m, 1, &s->pairs, rho->floats.v, t));
}

/* The class with most votes [N]. */
static Value *elected(Svm *s, Value *scores) {
    Module *m = s->m;
    double *vote = ARENA_ARRAY(&m->cx->arena, double, (size_t)(s->pairs * s->classes)), *base = ARENA_ARRAY(&m->cx->arena, double, (size_t)s->classes);
    int64_t pair = 0;
    for (int64_t i = 0; i < s->classes; i++) {
        for (int64_t j = i + 1; j < s->classes; j++, pair++) { /* j has the vote, unless the score gives it to i */
            vote[pair * s->classes + i] = 1;
            vote[pair * s->classes + j] = -1;
            base[j]++;
        }
    }
    Value *won = expand_cast(m, s->n, build2(m, s->n, OP_Greater, scores, number(m, scores, 0)), DT_F32);
    Value *votes = build2(m, s->n, OP_MatMul, won, expand_floats(m, 2, (int64_t[]){s->pairs, s->classes}, vote, DT_F32));
    return expand_arg_max(m, s->n, build2(m, s->n, OP_Add, votes, expand_floats(m, 1, &s->classes, base, DT_F32)), 1, false);
}

/* Probabilities of the classes [N,C] from those of the pairs, each a logistic function of the pair's score. */
static Value *probabilities(Svm *s, Value *scores) {
    Module *m = s->m;
    const Attr *a = floats(s->n, AT_SVMClassifier_prob_a), *b = floats(s->n, AT_SVMClassifier_prob_b);
    if (b == NULL || (int64_t)a->floats.n != s->pairs || (int64_t)b->floats.n != s->pairs) {
        expand_fail(m, s->n, "prob_a and prob_b have not one number per pair of classes");
        return NULL;
    }
    DType t = scores->type->dtype;
    Value *line = build2(m, s->n, OP_Add, build2(m, s->n, OP_Mul, scores, expand_floats(m, 1, &s->pairs, a->floats.v, t)), expand_floats(m, 1, &s->pairs, b->floats.v, t));
    Value *p = expand_cast(m, s->n, build1(m, s->n, OP_Sigmoid, build1(m, s->n, OP_Neg, line)), DT_F32);
    p = build3(m, s->n, OP_Clip, p, value_const_scalar(m, DT_F32, 1e-7), value_const_scalar(m, DT_F32, 1 - 1e-7));
    Node *node = expand_node(m, s->n, OP_PairProbabilities, 1, &p, 1);
    attr_set_i(node, AT_PairProbabilities_classes, s->classes);
    return expand_result(m, node);
}

/* Without support vectors: a linear model per class. */
static Value *linear_scores(Svm *s) {
    Module *m = s->m;
    const Attr *c = floats(s->n, AT_SVMClassifier_coefficients), *rho = floats(s->n, AT_SVMClassifier_rho);
    if (c == NULL || rho == NULL || (int64_t)c->floats.n != s->classes * s->features) {
        expand_fail(m, s->n, "coefficients has not one row per class, or rho is missing");
        return NULL;
    }
    Value *w = expand_floats(m, 2, (int64_t[]){s->classes, s->features}, c->floats.v, s->x->type->dtype);
    Value *y = build2(m, s->n, OP_MatMul, s->x, expand_transpose(m, s->n, w, 2, (int64_t[]){1, 0}));
    return build2(m, s->n, OP_Add, y, number(m, y, rho->floats.v[0]));
}

static bool all_positive(const Attr *a) {
    for (uint32_t i = 0; a != NULL && i < a->floats.n; i++)
        if (a->floats.v[i] < 0) return false;
    return a != NULL;
}

bool expand_svm_classifier(Module *m, Node *n, Value **out) {
    Svm s = {.m = m, .n = n, .x = ml_rows(m, n), .classes = ml_label_count(n)};
    const Attr *per_class = attr_at(n, AT_SVMClassifier_vectors_per_class);
    if (s.classes < 2) return expand_fail(m, n, "at least two class labels are needed");
    if (!features_of(m, n, s.x, &s.features)) return false;
    s.pairs = s.classes * (s.classes - 1) / 2;
    if (per_class->present) {
        if (per_class->ints.n != s.classes) return expand_fail(m, n, "vectors_per_class has not one number per class");
        s.per_class = per_class->ints.v;
        for (int64_t i = 0; i < s.classes; i++) {
            if (s.per_class[i] < 0 || s.per_class[i] > INT32_MAX) return expand_fail(m, n, "vectors_per_class has a number that is not one of vectors");
            s.vectors += s.per_class[i];
        }
    }
    const char *post = str_text(m->cx, attr_s(n, AT_SVMClassifier_post_transform));
    Value *scores = s.vectors > 0 ? pair_scores(&s) : linear_scores(&s), *winner;
    if (scores == NULL) return false;
    bool likely = s.vectors > 0 && floats(n, AT_SVMClassifier_prob_a) != NULL;
    winner = s.vectors > 0 ? elected(&s, scores) : expand_arg_max(m, n, scores, 1, false);
    Value *result = expand_cast(m, n, likely ? probabilities(&s, scores) : scores, DT_F32);
    if (result == NULL || winner == NULL) return false;
    if (s.classes == 2 && !likely && all_positive(attr_at(n, AT_SVMClassifier_coefficients))) { /* then a high score is one for the second class */
        Value *top = s.vectors > 0 ? value_const_scalar(m, DT_F32, 1) : expand_reduce_axis(m, n, OP_ReduceMax, result, 1, false);
        winner = build3(m, n, OP_Where, build2(m, n, OP_GreaterOrEqual, top, value_const_scalar(m, DT_F32, 0.5)), value_const_scalar(m, DT_I64, 1), winner);
    }
    out[0] = ml_labels(m, n, winner);
    if (s.vectors > 0 && !likely && s.pairs == 1) result = expand_concat(m, n, 2, (Value *[]){build1(m, n, OP_Neg, result), result}, 1);
    out[1] = ml_post_transform(m, n, result, post);
    return out[0] != NULL && out[1] != NULL;
}
