/* What the two ways of lowering RecurrentSteps share: the operands and the pointwise part of the cells. */
#ifndef LATHE_PASSES_LOWER_RECURRENT_H
#define LATHE_PASSES_LOWER_RECURRENT_H
#include "passes/lower.h"

typedef struct Activation { const char *name; double alpha, beta; } Activation;

typedef struct Steps {
    Lower *lo;
    const Node *n;
    DType t;
    bool batch_first, bidirectional, reverse;
    uint32_t n_gate;
    Dim time, batch, hidden;
    Expr *size;                     /* H */
    Activation act[2][3];           /* by direction */
    Value *gate, *h, *c, *reset;    /* scratch [D, B, gates*H] and [D, B, H] */
    Value *level;                   /* 8-bit R: h as integers minus their zero point, i16 scratch [D, B, H]; else NULL */
    Expr *level_scale;              /* and what one of them is worth at this step */
    Expr *d, *b, *at;               /* at: the time index of the current step */
} Steps;

const Value *recurrent_operand(const Steps *s, uint32_t i);          /* NULL: left out */
Expr *recurrent_gate(Steps *s, uint32_t gate, Expr *j);              /* row of R of unit j's gate */
/* All at the current direction, sequence and step: d, b, at. */
Expr *recurrent_activate(Steps *s, uint32_t which, Expr *x);         /* the cell's function number `which` */
Expr *recurrent_clipped(Steps *s, Expr *x);
Expr *recurrent_projected(Steps *s, Expr *g);                        /* the input's share of gate row g */
Expr *recurrent_bias(Steps *s, Expr *g, bool recurrent);             /* of gate row g: the input's, or the recurrent product's */
Expr *recurrent_peephole(Steps *s, Expr *x, uint32_t which, Expr *j, Expr *c);
Expr *recurrent_initial(Steps *s, uint32_t i, Expr *const *j);       /* initial_h (5) or initial_c (6) of unit *j */
void recurrent_store(Steps *s, Expr *j, Expr *at, Expr *e);          /* Y of unit j at time index `at`, if it is wanted */

/* On micro-kernels; false when the node does not fit and nothing was written. passes/lower_recurrent.c */
bool lower_recurrent_tiles(Steps *s);

#endif
