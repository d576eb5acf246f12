/* simplify: local rewrites that make the graph smaller or its operators cheaper, applied until none applies.
 *
 *     before:  %c = Conv(%x, %w)                       after:  %y = Conv(%x, %w2, %b2)
 *              %n = BatchNormalization(%c, %s, %b, %mean, %var)
 *              %y = Identity(%n)
 *
 * Every rule is a row; the files in passes/simplify/ hold them. Results are the same numbers up to the order and number
 * of floating-point roundings. What needs more than one operator's pattern (LayerNormalization out of nine nodes) is in
 * recognize.c. */
#include "passes/pass.h"
#include "passes/simplify/simplify.h"

#define RULE(op, rewrite) {OP_##op, simplify_##rewrite}
static const Rule rules[] = {
    RULE(Identity, same_type),
    RULE(StopGradient, same_type), /* the walk is over */
    RULE(StraightThrough, same_type),
    RULE(Cast, same_type),
    RULE(Cast, cast),
    RULE(CastLike, castlike),
    RULE(Reshape, same_type),
    RULE(Reshape, reshape),
    RULE(Reshape, reshape_operand),
    RULE(Squeeze, same_type),
    RULE(Squeeze, to_reshape),
    RULE(Unsqueeze, same_type),
    RULE(Unsqueeze, to_reshape),
    RULE(Flatten, same_type),
    RULE(Flatten, to_reshape),
    RULE(Expand, same_type),
    RULE(Expand, expand_operand),
    RULE(Tile, same_type),
    RULE(Transpose, transpose),
    RULE(Transpose, transpose_product),
    RULE(MatMul, matmul_transpose),
    RULE(FusedMatMul, matmul_transpose),
    RULE(Slice, slice),
    RULE(Pad, pad),
    RULE(Concat, concat),
    RULE(Split, split),
    RULE(Dropout, dropout),
    RULE(Where, where),
    RULE(Add, neutral),
    RULE(Add, shift),
    RULE(Add, matmul_add),
    RULE(Add, chain),
    RULE(Sub, neutral),
    RULE(Sub, shift),
    RULE(Mul, neutral),
    RULE(Mul, scale),
    RULE(Mul, chain),
    RULE(Div, neutral),
    RULE(Div, scale),
    RULE(Div, div),
    RULE(Pow, neutral),
    RULE(Pow, pow),
    RULE(Neg, twice),
    RULE(Not, twice),
    RULE(Relu, twice),
    RULE(Abs, twice),
    RULE(Floor, twice),
    RULE(Ceil, twice),
    RULE(Round, twice),
    RULE(Clip, clip),
    RULE(Sum, single),
    RULE(Mean, single),
    RULE(Max, single),
    RULE(Min, single),
    RULE(BatchNormalization, batch_norm),
    RULE(Conv, pad_conv),
    RULE(Gemm, gemm_transpose),
};

bool pass_simplify(Context *cx, Module *m) {
    (void)cx;
    return rewrite_module(m, rules, sizeof rules / sizeof *rules);
}
