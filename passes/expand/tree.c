/* TreeEnsembleRegressor, TreeEnsembleClassifier and TreeEnsemble: their attribute lists become constant tables.
 *
 *     %y = TreeEnsembleRegressor(%x) {nodes_... = [...]}    ->    %y = TreeScores(%x, tables...) {targets = 1}
 *
 * The two older operators name nodes by (tree, node) pairs; TreeEnsemble numbers inner nodes and leaves apart. Both are
 * brought to one numbering, and every node is checked to be reached once at most, so that a walk always ends. After that a
 * set membership test becomes a chain of equality tests with common children. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "passes/expand/build.h"
#include "passes/expand/ml.h"
#include "passes/lower/tree.h"
#include "passes/rules.h"

typedef struct Tables {
    Module *m;
    Node *n;
    int64_t count, cap;                               /* nodes */
    int64_t *feature, *mode, *yes, *no, *missing, *first;
    double *value;
    int64_t n_weight, *target, n_root, *root;
    double *weight;
} Tables;

static void tables_alloc(Tables *t, int64_t nodes, int64_t weights, int64_t roots) {
    Arena *a = &t->m->cx->arena;
    size_t n = (size_t)nodes;
    t->count = t->cap = nodes;
    t->feature = ARENA_ARRAY(a, int64_t, n);
    t->mode = ARENA_ARRAY(a, int64_t, n);
    t->yes = ARENA_ARRAY(a, int64_t, n);
    t->no = ARENA_ARRAY(a, int64_t, n);
    t->missing = ARENA_ARRAY(a, int64_t, n);
    t->first = ARENA_ARRAY(a, int64_t, n + 1);
    t->value = ARENA_ARRAY(a, double, n);
    t->n_weight = weights;
    t->target = ARENA_ARRAY(a, int64_t, (size_t)weights);
    t->weight = ARENA_ARRAY(a, double, (size_t)weights);
    t->n_root = roots;
    t->root = ARENA_ARRAY(a, int64_t, (size_t)roots);
}

/* Every node reachable from the roots is reached once. */
static bool tables_check(Tables *t, int64_t targets) {
    bool *seen = ARENA_ARRAY(&t->m->cx->arena, bool, (size_t)t->count);
    int64_t *stack = ARENA_ARRAY(&t->m->cx->arena, int64_t, (size_t)t->count + 2);
    for (int64_t r = 0; r < t->n_root; r++) {
        int64_t n = 0;
        if (t->root[r] < 0 || t->root[r] >= t->count) return expand_fail(t->m, t->n, "a tree starts at a node that does not exist");
        stack[n++] = t->root[r];
        while (n > 0) {
            int64_t i = stack[--n];
            if (seen[i]) return expand_fail(t->m, t->n, "a node has two parents");
            seen[i] = true;
            if (t->mode[i] == TREE_LEAF) continue;
            if (t->yes[i] < 0 || t->yes[i] >= t->count || t->no[i] < 0 || t->no[i] >= t->count) return expand_fail(t->m, t->n, "a node has a child that does not exist");
            if (t->feature[i] < 0) return expand_fail(t->m, t->n, "a node tests a negative feature");
            if (n + 2 > t->count + 2) return expand_fail(t->m, t->n, "a node has two parents");
            stack[n++] = t->yes[i];
            stack[n++] = t->no[i];
        }
    }
    for (int64_t w = 0; w < t->n_weight; w++)
        if (t->target[w] < 0 || t->target[w] >= targets) return expand_fail(t->m, t->n, "a leaf weighs a target that does not exist");
    return true;
}

static Value *scores(Tables *t, int64_t targets, TreeAggregate aggregate) {
    Module *m = t->m;
    int64_t one_more = t->count + 1;
    DType f = t->n->in[0]->type->dtype == DT_F64 ? DT_F64 : DT_F32;
    Value *in[TREE_IN_COUNT] = {ml_rows(m, t->n)};
    in[TREE_IN_FEATURE] = expand_ints(m, 1, &t->count, t->feature);
    in[TREE_IN_VALUE] = expand_floats(m, 1, &t->count, t->value, f);
    in[TREE_IN_MODE] = expand_ints(m, 1, &t->count, t->mode);
    in[TREE_IN_YES] = expand_ints(m, 1, &t->count, t->yes);
    in[TREE_IN_NO] = expand_ints(m, 1, &t->count, t->no);
    in[TREE_IN_MISSING] = expand_ints(m, 1, &t->count, t->missing);
    in[TREE_IN_FIRST] = expand_ints(m, 1, &one_more, t->first);
    in[TREE_IN_TARGET] = expand_ints(m, 1, &t->n_weight, t->target);
    in[TREE_IN_WEIGHT] = expand_floats(m, 1, &t->n_weight, t->weight, f);
    in[TREE_IN_ROOT] = expand_ints(m, 1, &t->n_root, t->root);
    Node *s = expand_node(m, t->n, OP_TreeScores, TREE_IN_COUNT, in, 1);
    attr_set_i(s, AT_TreeScores_targets, targets);
    attr_set_i(s, AT_TreeScores_aggregate, aggregate);
    return expand_result(m, s);
}

/* ---- the older operators: nodes by (tree, node) ------------------------------------------------------------------ */
typedef struct Key { int64_t tree, node, index; } Key;

static int compare_keys(const void *a, const void *b) {
    const Key *x = a, *y = b;
    if (x->tree != y->tree) return x->tree < y->tree ? -1 : 1;
    return (x->node > y->node) - (x->node < y->node);
}

static int64_t key_find(const Key *key, int64_t n, int64_t tree, int64_t node) {
    Key want = {tree, node, 0}, *hit = bsearch(&want, key, (size_t)n, sizeof *key, compare_keys);
    return hit != NULL ? hit->index : -1;
}

static const Attr *list(const Tables *t, const char *name) {
    AttrSlot slot = attr_named(t->n, name);
    return slot != AT_COUNT && attr_has(t->n, slot) ? attr_at(t->n, slot) : NULL;
}

/* Element i of a list of floats, or of the tensor form of it. */
static bool float_list(const Tables *t, const char *name, const char *as_tensor, uint32_t count, double *v) {
    const Attr *a = list(t, name), *b = list(t, as_tensor);
    if (a != NULL && a->floats.n == count) {
        for (uint32_t i = 0; i < count; i++) v[i] = a->floats.v[i];
        return true;
    }
    if (b == NULL) return false;
    Value x = {.type = b->tensor.type, .data = b->tensor.data};
    Dim n = type_numel(t->m->cx, x.type);
    if (!dim_is_const(t->m->cx, n) || dim_value(t->m->cx, n) != count) return false;
    for (uint32_t i = 0; i < count; i++) v[i] = const_f64(&x, i);
    return true;
}

static TreeMode mode_of(const char *s) {
    static const char *const names[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};
    for (int i = 0; i < 6; i++)
        if (strcmp(s, names[i]) == 0) return (TreeMode)i;
    return TREE_LEAF;
}

static bool read_nodes(Tables *t, const Key *key) {
    const Attr *tree = list(t, "nodes_treeids"), *feature = list(t, "nodes_featureids"), *yes = list(t, "nodes_truenodeids");
    const Attr *no = list(t, "nodes_falsenodeids"), *mode = list(t, "nodes_modes"), *missing = list(t, "nodes_missing_value_tracks_true");
    uint32_t n = (uint32_t)t->count;
    if (feature == NULL || feature->ints.n != n || yes == NULL || yes->ints.n != n || no == NULL || no->ints.n != n || mode == NULL || mode->strings.n != n)
        return expand_fail(t->m, t->n, "the lists of nodes differ in length");
    if (!float_list(t, "nodes_values", "nodes_values_as_tensor", n, t->value)) return expand_fail(t->m, t->n, "nodes_values has not one entry per node");
    for (uint32_t i = 0; i < n; i++) {
        t->feature[i] = feature->ints.v[i];
        t->mode[i] = mode_of(str_text(t->m->cx, mode->strings.v[i]));
        t->missing[i] = missing != NULL && i < missing->ints.n && missing->ints.v[i] != 0;
        if (t->mode[i] == TREE_LEAF) continue;
        t->yes[i] = key_find(key, t->count, tree->ints.v[i], yes->ints.v[i]);
        t->no[i] = key_find(key, t->count, tree->ints.v[i], no->ints.v[i]);
    }
    return true;
}

/* Weights sorted by node. */
static bool read_weights(Tables *t, const Key *key, const char *prefix) {
    Arena *a = &t->m->cx->arena;
    char name[4][48];
    snprintf(name[0], sizeof name[0], "%s_treeids", prefix);
    snprintf(name[1], sizeof name[1], "%s_nodeids", prefix);
    snprintf(name[2], sizeof name[2], "%s_ids", prefix);
    snprintf(name[3], sizeof name[3], "%s_weights", prefix);
    const Attr *tree = list(t, name[0]), *node = list(t, name[1]), *id = list(t, name[2]);
    uint32_t n = (uint32_t)t->n_weight;
    char tensor[64];
    snprintf(tensor, sizeof tensor, "%s_as_tensor", name[3]);
    double *weight = ARENA_ARRAY(a, double, n);
    if (tree == NULL || tree->ints.n != n || node == NULL || node->ints.n != n || !float_list(t, name[3], tensor, n, weight))
        return expand_fail(t->m, t->n, "the lists of weights differ in length");
    int64_t *at = ARENA_ARRAY(a, int64_t, n), *fill = ARENA_ARRAY(a, int64_t, (size_t)t->count + 1);
    for (uint32_t i = 0; i < n; i++) {
        at[i] = key_find(key, t->count, tree->ints.v[i], node->ints.v[i]);
        if (at[i] < 0) return expand_fail(t->m, t->n, "a weight belongs to a node that does not exist");
        t->first[at[i] + 1]++;
    }
    for (int64_t i = 0; i < t->count; i++) t->first[i + 1] += t->first[i];
    for (int64_t i = 0; i < t->count; i++) fill[i] = t->first[i];
    for (uint32_t i = 0; i < n; i++) {
        int64_t k = fill[at[i]]++;
        t->target[k] = id->ints.v[i];
        t->weight[k] = weight[i];
    }
    return true;
}

/* prefix: "target" or "class", of the lists of weights. */
static bool read_pairs(Tables *t, const char *prefix) {
    char name[48];
    snprintf(name, sizeof name, "%s_ids", prefix);
    const Attr *tree = list(t, "nodes_treeids"), *node = list(t, "nodes_nodeids"), *id = list(t, name);
    if (tree == NULL || node == NULL || id == NULL || tree->ints.n != node->ints.n || tree->ints.n == 0) return expand_fail(t->m, t->n, "the lists of nodes are missing or differ in length");
    uint32_t n = tree->ints.n;
    Key *key = ARENA_ARRAY(&t->m->cx->arena, Key, n);
    for (uint32_t i = 0; i < n; i++) key[i] = (Key){tree->ints.v[i], node->ints.v[i], i};
    qsort(key, n, sizeof *key, compare_keys);
    int64_t roots = 0;
    for (uint32_t i = 0; i < n; i++) {
        roots += i == 0 || key[i].tree != key[i - 1].tree;
        if (i != 0 && key[i].tree == key[i - 1].tree && key[i].node == key[i - 1].node) return expand_fail(t->m, t->n, "two nodes have the same number");
    }
    tables_alloc(t, n, id->ints.n, roots);
    for (uint32_t i = 0, k = 0; i < n;) { /* the root of a tree is its first node in the file */
        uint32_t end = i;
        int64_t first = key[i].index;
        for (; end < n && key[end].tree == key[i].tree; end++) first = key[end].index < first ? key[end].index : first;
        t->root[k++] = first;
        i = end;
    }
    return read_nodes(t, key) && read_weights(t, key, prefix);
}

static Value *with_base(Tables *t, Value *s, int64_t targets) {
    const Attr *a = list(t, "base_values"), *b = list(t, "base_values_as_tensor");
    if ((a == NULL || a->floats.n == 0) && b == NULL) return s;
    double *base = ARENA_ARRAY(&t->m->cx->arena, double, (size_t)targets);
    if (!float_list(t, "base_values", "base_values_as_tensor", (uint32_t)targets, base)) {
        if (!float_list(t, "base_values", "base_values_as_tensor", 1, base)) {
            expand_fail(t->m, t->n, "base_values has not one entry per target");
            return NULL;
        }
        targets = 1;
    }
    return build2(t->m, t->n, OP_Add, s, expand_floats(t->m, 1, &targets, base, s->type->dtype));
}

bool expand_tree_regressor(Module *m, Node *n, Value **out) {
    Tables t = {.m = m, .n = n};
    if (!read_pairs(&t, "target")) return false;
    AttrSlot how = AT_TreeEnsembleRegressor_aggregate_function;
    TreeAggregate aggregate = attr_s_is(m->cx, n, how, "AVERAGE") ? TREE_AVERAGE : attr_s_is(m->cx, n, how, "MIN") ? TREE_MIN
                              : attr_s_is(m->cx, n, how, "MAX") ? TREE_MAX : TREE_SUM;
    int64_t targets = attr_has(n, AT_TreeEnsembleRegressor_n_targets) ? attr_i(n, AT_TreeEnsembleRegressor_n_targets) : 1;
    Value *s = tables_check(&t, targets) ? scores(&t, targets, aggregate) : NULL;
    if (s != NULL) s = with_base(&t, s, targets);
    if (s == NULL) return false;
    s = ml_post_transform(m, n, expand_cast(m, n, s, DT_F32), str_text(m->cx, attr_s(n, AT_TreeEnsembleRegressor_post_transform)));
    out[0] = s;
    return s != NULL;
}

/* Two classes, but weights for one score only: s says how much for class 1. */
static bool binary_result(Tables *t, Value *s, Value **out, bool positive) {
    Module *m = t->m;
    Node *n = t->n;
    const char *post = str_text(m->cx, attr_s(n, AT_TreeEnsembleClassifier_post_transform));
    Value *limit = value_const_scalar(m, DT_F32, positive ? 0.5 : 0);
    out[1] = ml_two_scores(m, n, s, post, positive);
    Value *is = expand_cast(m, n, build2(m, n, OP_Greater, s, limit), DT_I64);
    out[0] = ml_labels(m, n, build2(m, n, OP_Squeeze, is, value_const_i64(m, 1, (int64_t[]){1})));
    return out[0] != NULL && out[1] != NULL;
}

bool expand_tree_classifier(Module *m, Node *n, Value **out) {
    Tables t = {.m = m, .n = n};
    if (!read_pairs(&t, "class")) return false;
    int64_t classes = dim_value(m->cx, n->out[1] != NULL ? n->out[1]->type->dim[1] : dim_const(m->cx, 2));
    bool single = classes == 2, positive = true;
    for (int64_t w = 0; w < t.n_weight; w++) {
        single &= t.target[w] == t.target[0];
        positive &= t.weight[w] >= 0;
    }
    for (int64_t w = 0; single && w < t.n_weight; w++) t.target[w] = 0;
    Value *s = tables_check(&t, single ? 1 : classes) ? scores(&t, single ? 1 : classes, TREE_SUM) : NULL;
    if (s == NULL) return false;
    s = expand_cast(m, n, s, DT_F32);
    if (single) {
        const Attr *base = list(&t, "base_values");
        if (base != NULL && base->floats.n != 0) s = build2(m, n, OP_Add, s, value_const_scalar(m, DT_F32, base->floats.v[base->floats.n - 1]));
        return binary_result(&t, s, out, positive);
    }
    s = with_base(&t, s, classes);
    if (s == NULL) return false;
    out[0] = ml_labels(m, n, expand_arg_max(m, n, s, 1, false));
    out[1] = ml_post_transform(m, n, s, str_text(m->cx, attr_s(n, AT_TreeEnsembleClassifier_post_transform)));
    return out[0] != NULL && out[1] != NULL;
}

/* ---- TreeEnsemble: inner nodes and leaves numbered apart ---------------------------------------------------------- */
/* How many members each set has, in the order of the MEMBER nodes: sets stand behind each other, NaN between. */
static bool expand_members(Tables *t, int64_t inner) {
    const Attr *sets = list(t, "membership_values");
    Value v = {0};
    int64_t n = 0, at = 0;
    if (sets != NULL) {
        v = (Value){.type = sets->tensor.type, .data = sets->tensor.data};
        n = dim_value(t->m->cx, type_numel(t->m->cx, v.type));
    }
    for (int64_t i = 0; i < inner; i++) {
        if (t->mode[i] != TREE_MEMBER) continue;
        int64_t node = i, yes = t->yes[i], no = t->no[i], missing = t->missing[i], feature = t->feature[i];
        bool any = false;
        for (; at < n && !isnan(const_f64(&v, at)); at++) {
            if (any) { /* one more test after the last one fails */
                if (t->count == t->cap) return expand_fail(t->m, t->n, "membership_values does not fit the nodes");
                t->no[node] = t->count;
                node = t->count++;
            }
            t->feature[node] = feature;
            t->value[node] = const_f64(&v, at);
            t->mode[node] = TREE_EQ;
            t->yes[node] = yes;
            t->no[node] = no;
            t->missing[node] = missing;
            any = true;
        }
        at++;
        if (!any) return expand_fail(t->m, t->n, "a membership test has no members");
    }
    return true;
}

static bool tree_ensemble_result(Tables *t, Value **out) {
    static const char *const post[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
    Module *m = t->m;
    int64_t which = attr_i(t->n, AT_TreeEnsemble_post_transform), aggregate = attr_i(t->n, AT_TreeEnsemble_aggregate_function);
    if (which < 0 || which > 4 || aggregate < TREE_AVERAGE || aggregate > TREE_MAX) return expand_fail(t->m, t->n, "unknown post_transform or aggregate_function");
    Value *s = scores(t, dim_value(m->cx, t->n->out[0]->type->dim[1]), (TreeAggregate)aggregate);
    if (s != NULL) s = ml_post_transform(m, t->n, s, post[which]);
    if (s != NULL) out[0] = expand_cast(m, t->n, s, t->n->in[0]->type->dtype);
    return s != NULL && out[0] != NULL;
}

bool expand_tree_ensemble(Module *m, Node *n, Value **out) {
    Tables t = {.m = m, .n = n};
    const Attr *feature = list(&t, "nodes_featureids"), *yes = list(&t, "nodes_truenodeids"), *no = list(&t, "nodes_falsenodeids");
    const Attr *yes_leaf = list(&t, "nodes_trueleafs"), *no_leaf = list(&t, "nodes_falseleafs"), *roots = list(&t, "tree_roots");
    const Attr *id = list(&t, "leaf_targetids"), *mode = list(&t, "nodes_modes"), *missing = list(&t, "nodes_missing_value_tracks_true");
    if (feature == NULL || yes == NULL || no == NULL || yes_leaf == NULL || no_leaf == NULL || roots == NULL || id == NULL || mode == NULL)
        return expand_fail(t.m, t.n, "the lists of nodes are missing");
    uint32_t inner = feature->ints.n, leaves = id->ints.n;
    if (yes->ints.n != inner || no->ints.n != inner || yes_leaf->ints.n != inner || no_leaf->ints.n != inner) return expand_fail(t.m, t.n, "the lists of nodes differ in length");
    const Attr *sets = list(&t, "membership_values");
    int64_t extra = sets != NULL ? dim_value(m->cx, type_numel(m->cx, sets->tensor.type)) : 0;
    tables_alloc(&t, (int64_t)inner + leaves + extra, leaves, roots->ints.n);
    t.count = (int64_t)inner + leaves;
    Value modes = {.type = mode->tensor.type, .data = mode->tensor.data};
    Dim mode_count = type_numel(m->cx, modes.type);
    double *split = ARENA_ARRAY(&m->cx->arena, double, inner);
    if (dim_value(m->cx, mode_count) != inner || !float_list(&t, "", "nodes_splits", inner, split) || !float_list(&t, "", "leaf_weights", leaves, t.weight))
        return expand_fail(t.m, t.n, "the lists of nodes differ in length");
    for (uint32_t i = 0; i < inner; i++) {
        t.feature[i] = feature->ints.v[i];
        t.mode[i] = const_i64(&modes, i);
        if (t.mode[i] < TREE_LEQ || t.mode[i] > TREE_MEMBER) return expand_fail(t.m, t.n, "a node has an unknown mode");
        t.value[i] = split[i];
        t.yes[i] = yes->ints.v[i] + (yes_leaf->ints.v[i] != 0 ? inner : 0);
        t.no[i] = no->ints.v[i] + (no_leaf->ints.v[i] != 0 ? inner : 0);
        t.missing[i] = missing != NULL && i < missing->ints.n && missing->ints.v[i] != 0;
    }
    for (uint32_t i = 0; i < leaves; i++) {
        t.mode[inner + i] = TREE_LEAF;
        t.target[i] = id->ints.v[i];
    }
    for (uint32_t i = 0; i < roots->ints.n; i++) t.root[i] = roots->ints.v[i];
    if (!tables_check(&t, dim_value(m->cx, n->out[0]->type->dim[1])) || !expand_members(&t, inner)) return false;
    int64_t w = 0;
    for (int64_t i = 0; i < t.cap; i++) { /* leaf k has weight k */
        t.first[i] = w;
        w += i >= inner && i < (int64_t)inner + leaves;
    }
    t.first[t.cap] = w;
    return tree_ensemble_result(&t, out);
}
