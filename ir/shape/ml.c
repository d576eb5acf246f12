/* Shapes of ai.onnx.ml: rows of features [N,F] (or one row [F]) to scores, labels or features. */
#include "ir/shape/shape.h"

static const Type *rows_in(Module *m, Node *n, Dim *rows, Dim *features) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return NULL;
    if (t->rank != 1 && t->rank != 2) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 has rank %u, [N,F] is needed", t->rank);
        return NULL;
    }
    *rows = t->rank == 2 ? t->dim[0] : dim_const(m->cx, 1);
    *features = t->dim[t->rank - 1];
    return t;
}

static uint32_t count_of(const Node *n, const char *name) {
    AttrSlot slot = attr_named(n, name);
    const Attr *a = slot != AT_COUNT && attr_has(n, slot) ? attr_at(n, slot) : NULL;
    return a != NULL ? a->ints.n : 0;
}

bool shape_ml_regressor(Module *m, Node *n) {
    Dim rows, features;
    if (rows_in(m, n, &rows, &features) == NULL) return false;
    AttrSlot targets = attr_named(n, n->op == OP_LinearRegressor ? "targets" : "n_targets");
    int64_t count = targets != AT_COUNT && attr_has(n, targets) ? attr_i(n, targets) : 1;
    if (count < 1) return shape_fail(m, n, "the number of targets must be positive");
    DType t = n->op == OP_TreeEnsemble ? n->in[0]->type->dtype : DT_F32;
    shape_out(m, n, 0, t, 2, (Dim[]){rows, dim_const(m->cx, count)});
    return true;
}

bool shape_ml_classifier(Module *m, Node *n) {
    Dim rows, features;
    if (rows_in(m, n, &rows, &features) == NULL) return false;
    uint32_t ints = count_of(n, "classlabels_ints") + count_of(n, "classlabels_int64s"), strings = count_of(n, "classlabels_strings");
    uint32_t count = ints > strings ? ints : strings;
    if (count < 2) return shape_fail(m, n, "at least two class labels are needed");
    shape_out(m, n, 0, strings != 0 ? DT_STRING : DT_I64, 1, &rows);
    shape_out(m, n, 1, DT_F32, 2, (Dim[]){rows, dim_const(m->cx, count)});
    return true;
}

bool shape_ml_same(Module *m, Node *n) { /* Binarizer, Imputer keep the element type; Scaler, Normalizer give floats */
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    DType d = n->op == OP_Scaler || n->op == OP_Normalizer ? DT_F32 : t->dtype;
    shape_out(m, n, 0, d, t->rank, t->dim);
    return true;
}

bool shape_feature_vectorizer(Module *m, Node *n) {
    Dim rows = 0, total = dim_const(m->cx, 0), r, f;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const Type *t = shape_in(m, n, i);
        if (t == NULL) return false;
        if (t->rank != 1 && t->rank != 2) return shape_fail(m, n, "inputs must be [N,F]");
        r = t->rank == 2 ? t->dim[0] : dim_const(m->cx, 1);
        f = t->dim[t->rank - 1];
        rows = i == 0 ? r : shape_unify(m, n, rows, r, "rows");
        if (rows == 0) return false;
        total = dim_add(m->cx, total, f);
    }
    shape_out(m, n, 0, DT_F32, 2, (Dim[]){rows, total});
    return true;
}

bool shape_one_hot_encoder(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    Dim dim[RANK_MAX];
    for (uint32_t a = 0; a < t->rank; a++) dim[a] = t->dim[a];
    uint32_t count = count_of(n, t->dtype == DT_STRING ? "cats_strings" : "cats_int64s");
    if (t->rank + 1 > RANK_MAX || count == 0) return shape_fail(m, n, "there are no categories of the input's kind");
    dim[t->rank] = dim_const(m->cx, count);
    shape_out(m, n, 0, DT_F32, t->rank + 1, dim);
    return true;
}

/* TreeScores: rows [N,F] and tables of nodes to [N, targets]. */
bool shape_tree_scores(Module *m, Node *n) {
    Dim rows, features;
    const Type *t = rows_in(m, n, &rows, &features);
    if (t == NULL) return false;
    shape_out(m, n, 0, t->dtype == DT_F64 ? DT_F64 : DT_F32, 2, (Dim[]){rows, dim_const(m->cx, attr_i(n, AT_TreeScores_targets))});
    return true;
}

/* ZipMap: its list of maps with the same keys is a table, a row for each; see passes/expand/ml.c. */
bool shape_zip_map(Module *m, Node *n) {
    Dim rows, classes;
    const Type *t = rows_in(m, n, &rows, &classes);
    if (t == NULL) return false;
    n->out[0]->declared = NULL; /* as a sequence of maps */
    shape_out(m, n, 0, t->dtype, 2, (Dim[]){rows, classes});
    return true;
}

bool shape_pair_probabilities(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    shape_out(m, n, 0, DT_F32, 2, (Dim[]){t->dim[0], dim_const(m->cx, attr_i(n, AT_PairProbabilities_classes))});
    return true;
}
