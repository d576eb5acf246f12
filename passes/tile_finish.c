/* What follows a convolution's sum, when a micro-kernel can do it while the sums are in registers: a constant bias, and a
 * smallest and a greatest value (Relu, Clip). The tile then goes to memory once, finished.
 *
 *     min(max(sum + bias[c], 0), 6)   ->   bias 1, low 0, high 6 */
#include <math.h>

#include "passes/lower_conv.h"

static bool constant_operand(const Expr *e, Fn fn, const Expr **rest, Expr **constant) {
    if (e->kind != E_FN || e->fn != fn || e->dtype != DT_F32) return false;
    int at = e->arg[0]->kind == E_CONST ? 0 : 1;
    *constant = e->arg[at];
    *rest = e->arg[1 - at];
    return (*constant)->kind == E_CONST && !isnan((*constant)->c.f);
}

/* e is `sum` within bounds: sets low and high, NULL where there is none. */
static bool match(const Expr *e, const Expr *sum, TileFinish *f) {
    const Expr *rest;
    Expr *c;
    if (constant_operand(e, FN_MIN, &rest, &c)) f->high = c, e = rest;
    if (constant_operand(e, FN_MAX, &rest, &c)) f->low = c, e = rest;
    return e == sum;
}

/* The bias of all panels, zeros behind the channels. */
static uint32_t pack_bias(Lower *lo, const Value *bias, int64_t channels, int64_t padded) {
    float *packed = tile_storage(lo->cx, padded * 4);
    for (int64_t i = 0; i < channels && bias != NULL; i++) packed[i] = (float)const_f64(bias, i);
    Dim dim = dim_const(lo->cx, padded);
    return lower_weight(lo, type_tensor(lo->cx, DT_F32, 1, &dim), packed);
}

bool tile_finish(Lower *lo, const Value *sum, const Value *bias, const Value *to, int64_t channels, int64_t padded, TileFinish *f) {
    *f = (TileFinish){0};
    if (sum->type->dtype != DT_F32 || to->type->dtype != DT_F32 || (bias != NULL && (bias->data == NULL || bias->type->dtype != DT_F32))) return false;
    Expr *idx[RANK_MAX], *any = ex_var(lo->k, lo->cx, kernel_add_var(lo->k, lo->cx, (Var){.dtype = DT_F32})); /* stands for the sum */
    for (uint32_t i = 0; i < sum->type->rank; i++) idx[i] = lx_i(lo, 0);
    const Expr *e = sum == to ? any : lower_through(lo, sum, to, idx, any);
    if (!match(e, any, f)) return false;
    f->bias = pack_bias(lo, bias, channels, padded);
    return true;
}
