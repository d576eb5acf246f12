/* DynamicTimeWarping and BifurcationDetector: calls of runtime/alignment.h. */
#include "passes/lower.h"
#include "passes/lower/operand.h"
#include "passes/rules.h"

bool lower_dynamic_time_warping(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    Dim rows = t->dim[t->rank - 2], columns = t->dim[t->rank - 1], one = dim_const(lo->cx, 1);
    Dim line = dim_mul(lo->cx, dim_const(lo->cx, 2), dim_add(lo->cx, columns, one)), all = dim_mul(lo->cx, rows, columns);
    uint32_t cost = lower_buf(lo, n->in[0]), path = lower_buf(lo, n->out[0]);
    uint32_t total = lower_buf(lo, lower_scratch(lo, type_tensor(lo->cx, DT_F32, 1, &line))), step = lower_buf(lo, lower_scratch(lo, type_tensor(lo->cx, DT_U8, 1, &all)));
    CallArg arg[] = {arg_buf(cost), arg_expr(lx_dim(lo, rows)), arg_expr(lx_dim(lo, columns)), arg_buf(total), arg_buf(step), arg_buf(path), arg_buf(lower_buf(lo, lower_dim_cell(lo, n->out[0]->type->dim[1])))};
    lower_call(lo, "lathe_time_warp", sizeof arg / sizeof *arg, arg);
    return true;
}

bool lower_bifurcation(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    bool predicted = has_in(n, 3);
    Dim source = n->in[0]->type->dim[0], current = n->in[1]->type->dim[0], one = dim_const(cx, 1), tokens = predicted ? dim_add(cx, current, n->in[3]->type->dim[0]) : current;
    uint32_t in[4];
    for (uint32_t i = 0; i < 4; i++) in[i] = lower_buf(lo, n->in[i == 3 && !predicted ? 1 : i]);
    /* either output may be unwanted, but the call writes both */
    Value *out = n->out[0] != NULL ? n->out[0] : lower_scratch(lo, type_tensor(cx, DT_I64, 1, &tokens)), *match = n->out[1] != NULL ? n->out[1] : lower_scratch(lo, type_tensor(cx, DT_I64, 1, &one));
    bool counted = n->out[0] != NULL && predicted;
    Value *cell = counted ? lower_dim_cell(lo, n->out[0]->type->dim[0]) : lower_scratch(lo, type_tensor(cx, DT_I64, 0, NULL));
    CallArg arg[] = {arg_buf(in[0]), arg_expr(lx_dim(lo, source)), arg_buf(in[1]), arg_expr(lx_dim(lo, current)), arg_buf(in[2]), arg_buf(in[3]),
                     arg_expr(predicted ? lx_dim(lo, n->in[3]->type->dim[0]) : lx_i(lo, -1)), arg_expr(lx_i(lo, attr_i(n, AT_BifurcationDetector_min_ngram_size))),
                     arg_expr(lx_i(lo, attr_i(n, AT_BifurcationDetector_max_ngram_size))), arg_buf(lower_buf(lo, out)), arg_buf(lower_buf(lo, match)), arg_buf(lower_buf(lo, cell))};
    lower_call(lo, "lathe_bifurcation", sizeof arg / sizeof *arg, arg);
    return true;
}
