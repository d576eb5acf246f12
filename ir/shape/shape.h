/* Helpers of the shape rules (ir/shape/ *.c, one file per operator family; ops.def names each rule).
 * A rule sets n->out[k]->type for every output that is wanted, and out->sym where it can tell the contents.
 * On a problem: diag(cx, SEV_ERROR, n->loc, "...") and return false (the outputs become poison).
 * Dims that depend on run-time data are fresh dim_runtime symbols with bounds. */
#ifndef LATHE_IR_SHAPE_H
#define LATHE_IR_SHAPE_H
#include "ir/graph.h"

bool shape_fail(Module *m, Node *n, const char *what); /* that diagnostic; false */
/* Type of input i as a tensor of known rank, or NULL after a diagnostic. Optional inputs: check n->in[i] first. */
const Type *shape_in(Module *m, Node *n, uint32_t i);
void shape_out(Module *m, Node *n, uint32_t i, DType dtype, uint32_t rank, const Dim *dim); /* ignores outputs left out */
bool shape_broadcast(Module *m, Node *n, const Type *a, const Type *b, uint32_t *rank, Dim *dim); /* numpy rules; dim[RANK_MAX] */
/* axis in [-rank, rank) to [0, rank); false after a diagnostic. */
bool shape_axis(Module *m, Node *n, int64_t axis, uint32_t rank, uint32_t *out);
void shape_set_sym(Module *m, Value *v, uint32_t n, const Dim *dim); /* contents of a small integer tensor */
/* Do two dims agree? Equal ids agree; a constant against another constant must be equal; a symbol against anything
 * else may agree at run time (the emitted code checks it). Returns the more precise of the two, 0 after a diagnostic. */
Dim shape_unify(Module *m, Node *n, Dim a, Dim b, const char *what);

/* A size that only the run decides, in [lo, hi]: dimension `axis` of output `out`. The constant the file declares, if it
 * declares one (the run checks it), else a runtime symbol; the same symbol when the rule runs again. */
Dim shape_runtime_dim(Module *m, Node *n, uint32_t out, uint32_t axis, int64_t lo, int64_t hi);
/* The same, but never the declared constant: for sizes that depend on the elements of data. */
Dim shape_data_dim(Module *m, Node *n, uint32_t out, uint32_t axis, int64_t lo, int64_t hi);
/* Number of elements of input i, a vector or scalar whose length must be constant; false after a diagnostic. */
bool shape_length(Module *m, Node *n, uint32_t i, uint32_t *length);
static inline bool shape_has_in(const Node *n, uint32_t i) { return i < n->n_in && n->in[i] != NULL; }
/* Operand i as constants (axes, steps, …); NULL when it is not constant. *count = number of elements. */
const int64_t *shape_constants(Module *m, Node *n, uint32_t i, uint32_t *count);
/* The type both fit in: dims and lengths that differ become run-time symbols within both bounds. NULL operands give the
 * other one; NULL after a diagnostic when element types or ranks differ. */
const Type *shape_join(Module *m, Node *n, const Type *a, const Type *b);

/* If's attribute `keep` while types are inferred: both branches, and a number of one as a vector, as in the other. */
enum { IF_VECTORS = 2 };

/* t with run-time symbols for the open sizes of sequences (the model's own inputs). */
const Type *shape_open_elements(Context *cx, const Type *t);

/* What the rules of ops.def are: declared here for all. */
#define OP(name, domain, in_min, in_max, out_min, out_max, flags, shape, expand, grad, define, lower) ShapeFn shape_##shape;
#define ATTR(op, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR

/* Element types and ranks of the operands that n's rule did not look at (operands.c); false after a diag(). */
bool shape_operands_fit(Module *m, Node *n);

#endif
