/* TreeScores: every row walks down every tree; what the leaves it reaches weigh is added up by target.
 *
 *     for row:  out = start
 *       for tree:  i = root[tree];  while mode[i] != LEAF:  i = test(x[row, feature[i]], value[i]) ? yes[i] : no[i]
 *                  for w in first[i] .. first[i+1]:  out[target[w]] += weight[w]
 *
 * The tables are constants whose indices the expansion has checked (passes/expand/tree.c): every walk ends. */
#include "passes/lower/rows.h"
#include "passes/lower/tree.h"
#include "passes/rules.h"

static Expr *table(Lower *lo, const Node *n, TreeOperand which, Expr *i) { return lower_load(lo, n->in[which], &i); }

static Expr *test(Lower *lo, Expr *mode, Expr *x, Expr *value) {
    static const Fn compare[] = {[TREE_LEQ] = FN_LE, [TREE_LT] = FN_LT, [TREE_GTE] = FN_GE, [TREE_GT] = FN_GT, [TREE_EQ] = FN_EQ, [TREE_NEQ] = FN_NE};
    Expr *e = lx_2(lo, FN_LE, x, value);
    for (int i = TREE_LT; i <= TREE_NEQ; i++) e = lx_select(lo, lx_2(lo, FN_EQ, mode, lx_i(lo, i)), lx_2(lo, compare[i], x, value), e);
    return e;
}

static bool all_equal_mode(const Value *mode, int64_t *only) { /* most files have one kind of test */
    int64_t n = (int64_t)(mode->data->bytes / sizeof(int64_t));
    *only = -1;
    for (int64_t i = 0; i < n; i++) {
        int64_t v = const_i64(mode, i);
        if (v == TREE_LEAF) continue;
        if (*only >= 0 && v != *only) return false;
        *only = v;
    }
    return *only >= 0;
}

bool lower_tree_scores(Lower *lo, const Node *n) {
    const Type *x = n->in[0]->type, *y = n->out[0]->type;
    DType t = lower_float_type(x->dtype);
    int64_t aggregate = attr_i(n, AT_TreeScores_aggregate), only;
    Fn join = aggregate == TREE_MIN ? FN_MIN : aggregate == TREE_MAX ? FN_MAX : FN_ADD;
    Expr *start = join == FN_ADD ? lx_const(lo, t, 0) : join == FN_MIN ? lower_highest(lo, t) : lower_lowest(lo, t);
    Value *sum = lower_scratch(lo, type_tensor(lo->cx, t, 2, y->dim));
    Dim trees = n->in[TREE_IN_ROOT]->type->dim[0];
    Expr *row = lower_for_dim(lo, y->dim[0]), *c = lower_for_dim(lo, y->dim[1]);
    lower_store(lo, sum, (Expr *[]){row, c}, start);
    lower_end(lo);
    Expr *tree = lower_for_dim(lo, trees), *node = lower_local(lo, DT_I64, table(lo, n, TREE_IN_ROOT, tree));
    lower_while(lo, lx_2(lo, FN_NE, table(lo, n, TREE_IN_MODE, node), lx_i(lo, TREE_LEAF)));
    Expr *feature = lx_2(lo, FN_INDEX, table(lo, n, TREE_IN_FEATURE, node), lx_dim(lo, x->dim[x->rank - 1]));
    Expr *idx[2] = {row, feature};
    Expr *value = lower_local(lo, t, lx_cast(lo, t, lower_load(lo, n->in[0], x->rank == 2 ? idx : &feature)));
    Expr *mode = all_equal_mode(n->in[TREE_IN_MODE], &only) ? lx_i(lo, only) : table(lo, n, TREE_IN_MODE, node);
    Expr *yes = test(lo, mode, value, lx_cast(lo, t, table(lo, n, TREE_IN_VALUE, node)));
    Expr *missing = lx_2(lo, FN_NE, table(lo, n, TREE_IN_MISSING, node), lx_i(lo, 0));
    yes = lx_2(lo, FN_OR, yes, lx_2(lo, FN_AND, lx_1(lo, FN_ISNAN, value), missing));
    lower_set(lo, node, lx_select(lo, yes, table(lo, n, TREE_IN_YES, node), table(lo, n, TREE_IN_NO, node)));
    lower_end(lo);
    Expr *first = lower_local(lo, DT_I64, table(lo, n, TREE_IN_FIRST, node));
    Expr *count = lx_sub(lo, table(lo, n, TREE_IN_FIRST, lx_add(lo, node, lx_i(lo, 1))), first);
    Expr *w = lx_add(lo, first, lower_for(lo, count));
    lower_store_reduce(lo, sum, (Expr *[]){row, table(lo, n, TREE_IN_TARGET, w)}, join, lx_cast(lo, t, table(lo, n, TREE_IN_WEIGHT, w)));
    lower_end_n(lo, 2);
    c = lower_for_dim(lo, y->dim[1]);
    Expr *out[2] = {row, c}, *e = lower_load(lo, sum, out);
    if (aggregate == TREE_AVERAGE) e = lx_div(lo, e, lx_cast(lo, t, lx_dim(lo, trees)));
    lower_store(lo, n->out[0], out, e);
    lower_end_n(lo, 2);
    return true;
}

/* runtime/svm.h does the work. */
bool lower_pair_probabilities(Lower *lo, const Node *n) {
    Dim k = n->out[0]->type->dim[1], room = dim_mul(lo->cx, dim_add(lo->cx, k, dim_const(lo->cx, 1)), k);
    uint32_t scratch = lower_buf(lo, lower_scratch(lo, type_tensor(lo->cx, DT_F32, 1, &room)));
    CallArg arg[] = {arg_buf(lower_buf(lo, n->in[0])), arg_buf(lower_buf(lo, n->out[0])), arg_buf(scratch), arg_expr(lx_dim(lo, n->out[0]->type->dim[0])), arg_expr(lx_dim(lo, k))};
    lower_call(lo, "lathe_pair_probabilities", 5, arg);
    return true;
}
