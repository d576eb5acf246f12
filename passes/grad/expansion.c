/* Operators that are differentiated as what they are made of: the column grad of ops.def says `expansion`. The operator is replaced in
 * place, before the walk, so that values of the forward pass (gates of an LSTM, attention probabilities) are there for the backward pass.
 *
 * Most have an expansion anyhow (column expand). Here are those that need another one, or only sometimes one. */
#include "passes/grad/grad.h"
#include "passes/lower.h"
#include "passes/rules.h"

bool grad_expansion(Grad *g) {
    diag(g->m->cx, SEV_ERROR, g->n->loc, "its gradient is not supported: it should have been replaced by simpler operators");
    return false;
}

bool grad_is_quantized(const Value *v) {
    return v != NULL && v->def != NULL && (v->def->op == OP_QuantizeLinear || v->def->op == OP_Ms_QuantizeLinear);
}

ExpandFn *grad_expansion_of(Module *m, const Node *n) {
    switch ((int)n->op) {
    case OP_BatchNormalization: return attr_i(n, AT_BatchNormalization_training_mode) != 0 ? expand_batch_norm : NULL;
    case OP_RNN: case OP_GRU: case OP_LSTM: case OP_RecurrentSteps: return grad_expand_recurrent;
    case OP_Loop: return grad_expand_loop;
    case OP_MeanVarianceNormalization: return grad_expand_mean_variance_norm;
    case OP_LRN: return grad_expand_lrn;
    case OP_SoftmaxCrossEntropyLoss: return grad_loss_shares_partition(n) ? grad_expand_class_loss : NULL;
    case OP_LpPool: return grad_expand_lp_pool;
    case OP_Pad: return attr_s_is(m->cx, n, AT_Pad_mode, "constant") ? NULL : grad_expand_pad;
    case OP_Col2Im: return grad_expand_col2im;
    case OP_CausalConvWithState: return grad_expand_causal_conv;
    case OP_BiasSplitGelu: return grad_expand_bias_split_gelu;
    case OP_AffineGrid: return grad_expand_affine_grid;
    case OP_STFT: return grad_expand_stft;
    case OP_GridSample: return grad_expand_grid_sample;
    case OP_CropAndResize: return grad_expand_crop_and_resize;
    case OP_MaxpoolWithMask: return grad_expand_max_pool_mask;
    case OP_MaxRoiPoolGrad: return grad_expand_max_roi_pool_adjoint;
    case OP_DeformConv: return grad_expand_deform_conv;
    case OP_LinearAttention: case OP_Ms_LinearAttention: return grad_expand_linear_attention;
    case OP_DequantizeLinear: case OP_Ms_DequantizeLinear: return grad_is_quantized(n->in[0]) ? grad_expand_dequantize : NULL;
    default: break;
    }
    OpRules rules = op_rules(n->op);
    return rules.grad == grad_expansion ? rules.expand : NULL;
}
