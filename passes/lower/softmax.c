/* Softmax and LogSoftmax along one axis, as one kernel:
 *
 *     m = max x;   s = sum exp(x - m);   softmax = exp(x - m) / s;   log_softmax = x - m - log s
 *
 * MaskedSoftmax gives 0 for a row of -inf, where softmax would be 0/0.
 * Softmax of f16 and bf16 rounds where ONNX's definition by ordinary operators does: x - m, exp and the finished sum.
 * The running sum is f32, or long rows would stop growing.
 * A row that fits the stack is kept there between the passes, so exp runs once per element. */
#include "passes/lower/rows.h"
#include "passes/rules.h"

/* exp(x - top), each step rounded to `step`. */
static Expr *exp_below(Lower *lo, DType step, Expr *x, Expr *top) {
    return ex_round_to(lo->k, lo->cx, step, lx_1(lo, FN_EXP_BELOW, ex_round_to(lo->k, lo->cx, step, lx_sub(lo, x, top))));
}

bool lower_softmax(Lower *lo, const Node *n) {
    const Value *x = n->in[0];
    bool log_form = n->op == OP_LogSoftmax;
    int64_t a = attr_i(n, attr_named(n, "axis"));
    uint32_t axis = (uint32_t)(a < 0 ? a + x->type->rank : a);
    DType t = dtype_compute(x->type->dtype), step = log_form ? t : x->type->dtype;
    Rows r;
    rows_open(&r, lo, x->type->rank, x->type->dim, 1u << axis);
    RowStage stage = {0};
    bool again = lower_is_computed(lo, x);
    if (again || !log_form) stage = rows_stage(&r, t);

    RowAcc top = rows_acc(&r, t, lower_lowest(lo, t));
    rows_each(&r);
    Expr *e = lower_load(lo, x, r.idx);
    if (again) rows_put(&r, stage, e);
    rows_add(&r, top, FN_MAX, e);
    rows_each_end(&r);
    bool masked = n->op == OP_MaskedSoftmax;
    if (masked) { /* all -inf: subtract 0, so that exp gives 0 and not NaN */
        rows_lane(&r);
        Expr *m = rows_get(&r, top), *lowest = lower_lowest(lo, t);
        rows_add(&r, top, FN_NONE, lx_select(lo, lx_2(lo, FN_EQ, m, lowest), lx_const(lo, t, 0), m));
        rows_lane_end(&r);
    }

    RowAcc sum = rows_acc(&r, t, lx_const(lo, t, 0));
    rows_each(&r);
    e = again && stage.on ? rows_take(&r, stage) : lower_load(lo, x, r.idx);
    e = exp_below(lo, step, e, rows_get(&r, top));
    if (!log_form && stage.on) {
        rows_put(&r, stage, e);
        e = rows_take(&r, stage);
    }
    rows_add(&r, sum, FN_ADD, e);
    rows_each_end(&r);

    rows_lane(&r);
    Expr *s = ex_round_to(lo->k, lo->cx, step, rows_get(&r, sum));
    if (masked) s = lx_select(lo, lx_2(lo, FN_EQ, s, lx_const(lo, t, 0)), lx_const(lo, t, 1), s);
    rows_add(&r, sum, FN_NONE, log_form ? lx_1(lo, FN_LOG, s) : lx_div(lo, lx_const(lo, t, 1), s));
    rows_lane_end(&r);

    rows_each(&r);
    if (log_form) {
        e = stage.on ? rows_take(&r, stage) : lower_load(lo, x, r.idx);
        e = lx_sub(lo, lx_sub(lo, e, rows_get(&r, top)), rows_get(&r, sum)); /* in this order: x and m may be large */
    } else {
        e = stage.on ? rows_take(&r, stage) : exp_below(lo, step, lower_load(lo, x, r.idx), rows_get(&r, top));
        e = lx_mul(lo, e, rows_get(&r, sum));
    }
    lower_store(lo, n->out[0], r.idx, e);
    rows_each_end(&r);
    rows_close(&r);
    return true;
}
