/* Gradient rules (passes/grad/ *.c; the column grad of ops.def names each rule).
 *
 *     bool grad_sqrt(Grad *g) {                                        // y = sqrt(x)
 *         g->dx[0] = g_div(g, g->dy[0], g_times(g, g->n->out[0], 2));
 *         return true;
 *     }
 *
 * A rule may use the node's inputs and outputs, and only operators that have rules themselves, so that gradients can be differentiated
 * again. It leaves dx[i] NULL where nothing flows; what is built for an input that is not wanted is removed afterwards. Names of the column
 * with a meaning of their own: `zero` (piecewise constant: nothing flows), `expansion` (the operator is replaced by simpler ones first,
 * passes/grad/expansion.c), `missing` (differentiable, but there is no rule yet), `none` (not differentiable). */
#ifndef LATHE_PASSES_GRAD_H
#define LATHE_PASSES_GRAD_H
#include "passes/expand/build.h"

typedef struct Grad {
    Module *m;
    Node *n;             /* the operator being differentiated */
    Node *at;            /* new nodes stand before it */
    Value *const *dy;    /* gradients of the outputs; NULL: none flows there */
    Value **dx;          /* takes those of the inputs, NULL at first */
    const bool *wanted;  /* by input: somebody asks for its gradient */
    struct Backward *walk;
} Grad;

/* For operators with regions, which read values that are no inputs of theirs: is v's gradient asked for, and a contribution to it. */
bool g_reached(const Grad *g, const Value *v);
bool g_contribute(Grad *g, Value *v, Value *d);
/* Replaces the operators of graph `region` between wrt and y that are differentiated through expansions. */
bool grad_expand_region(Module *m, Graph *region, uint32_t n_y, Value *const *y, uint32_t n_wrt, Value *const *wrt);

GradFn grad_missing; /* for rows of ops.def that have no rule yet */

/* The result of n, a GroupNormalization, InstanceNormalization or RMSNormalization of x, by the very operators that its gradient uses: equal ones are shared. */
Value *grad_norm_again(Module *m, Node *at, Node *n, Value *x);

/* The simpler operators an operator becomes before it is differentiated: an expansion made for this, or that of column expand; NULL when
 * the operator has a rule of its own. */
ExpandFn *grad_expansion_of(Module *m, const Node *n);

/* Expansions that only gradients use. */
ExpandFn grad_expand_loop, grad_expand_recurrent, grad_expand_mean_variance_norm, grad_expand_lrn, grad_expand_lp_pool, grad_expand_pad;
bool grad_loss_shares_partition(const Node *n);
ExpandFn grad_expand_class_loss;
ExpandFn grad_expand_col2im, grad_expand_causal_conv, grad_expand_bias_split_gelu, grad_expand_affine_grid, grad_expand_stft;
ExpandFn grad_expand_crop_and_resize, grad_expand_max_pool_mask, grad_expand_max_roi_pool_adjoint;
ExpandFn grad_expand_grid_sample, grad_expand_deform_conv, grad_expand_linear_attention, grad_expand_dequantize;
/* Is v the integers of a QuantizeLinear? They are no floats, but the gradient of fake quantization passes through them. */
bool grad_is_quantized(const Value *v);

/* ---- building -------------------------------------------------------------------------------------------------------------------- */
static inline Value *g_1(Grad *g, Op op, Value *a) { return build1(g->m, g->at, op, a); }
static inline Value *g_2(Grad *g, Op op, Value *a, Value *b) { return build2(g->m, g->at, op, a, b); }
static inline Value *g_3(Grad *g, Op op, Value *a, Value *b, Value *c) { return build3(g->m, g->at, op, a, b, c); }
static inline Value *g_add(Grad *g, Value *a, Value *b) { return g_2(g, OP_Add, a, b); }
static inline Value *g_sub(Grad *g, Value *a, Value *b) { return g_2(g, OP_Sub, a, b); }
static inline Value *g_mul(Grad *g, Value *a, Value *b) { return g_2(g, OP_Mul, a, b); }
static inline Value *g_div(Grad *g, Value *a, Value *b) { return g_2(g, OP_Div, a, b); }
static inline Value *g_neg(Grad *g, Value *a) { return g_1(g, OP_Neg, a); }
static inline Value *g_where(Grad *g, Value *c, Value *a, Value *b) { return g_3(g, OP_Where, c, a, b); }
static inline Value *g_num(Grad *g, const Value *like, double c) { return value_const_scalar(g->m, like->type->dtype, c); }
static inline Value *g_times(Grad *g, Value *a, double c) { return c == 1 ? a : g_mul(g, a, g_num(g, a, c)); }
static inline Value *g_plus(Grad *g, Value *a, double c) { return g_add(g, a, g_num(g, a, c)); }
static inline Value *g_shape(Grad *g, Value *v) { return g_1(g, OP_Shape, v); }
static inline Value *g_in(const Grad *g, uint32_t i) { return expand_input(g->n, i); }
static inline bool g_wants(const Grad *g, uint32_t i) { return g_in(g, i) != NULL && g->wanted[i]; }

Value *g_reshape_like(Grad *g, Value *v, Value *like);
Value *g_expand_like(Grad *g, Value *v, Value *like);
Value *g_filled_like(Grad *g, Value *like, double c);          /* of like's shape */
Value *g_dy(Grad *g, uint32_t i);                              /* dy[i], zeros when none flows */
/* The gradient of a broadcast: d summed over the axes along which x was repeated, in x's shape. */
Value *g_sum_to(Grad *g, Value *d, Value *x);
/* v summed over the axes of the mask, which stay as 1. */
Value *g_sum(Grad *g, Value *v, uint32_t mask);
Value *g_mean(Grad *g, Value *v, uint32_t mask);
Value *g_axes(Grad *g, uint32_t mask);                         /* i64 vector of the axes in the mask */
/* How many elements of v fall on one when the axes of the mask are reduced, in v's dtype. */
Value *g_count(Grad *g, Value *v, uint32_t mask);
Value *g_size(Grad *g, Value *v, uint32_t axis);               /* i64[1] */
uint32_t g_axis(const Grad *g, int64_t axis, uint32_t rank);   /* not negative */
/* A new node with attributes still to set; g_done infers it and gives output 0. */
Node *g_node(Grad *g, Op op, uint32_t n_in, Value *const *in, uint32_t n_out);
static inline Value *g_done(Grad *g, Node *n) { return expand_result(g->m, n); }
static inline Value *g_transpose(Grad *g, Value *v, const int64_t *perm) { return expand_transpose(g->m, g->at, v, v->type->rank, perm); }
static inline Value *g_cast(Grad *g, Value *v, DType t) { return expand_cast(g->m, g->at, v, t); }
/* alpha * op(a) op(b), op transposing the last two dimensions where asked. */
Value *g_matmul(Grad *g, Value *a, bool trans_a, Value *b, bool trans_b, double alpha);
Value *g_probability(Grad *g, Value *x, Value *top); /* exp(x - top) */
/* More outputs for the node being differentiated: its outputs [0, n) exist afterwards (statistics that were not asked for before). */
bool g_need_outputs(Grad *g, uint32_t n);
bool node_need_outputs(Module *m, Node *n, uint32_t count);
/* Adds to count[id] how often each value is read in g and the regions inside it. */
void grad_count_reads(Graph *g, uint32_t *count);
/* dx = scatter-add of d along axis by index, in the type of x: the adjoint of Gather. */
Value *g_gather_adjoint(Grad *g, Value *d, Value *index, Value *x, int64_t axis);

#endif
