/* Attention as the ways to compute it see it (attention_parts.c): attention_tiles.c for many queries, attention_few.c for one or a few. */
#ifndef LATHE_PASSES_LOWER_ATTENTION_PARTS_H
#define LATHE_PASSES_LOWER_ATTENTION_PARTS_H
#include "ir/shape/operand_view.h"
#include "passes/lower.h"

enum { ATTENTION_MOST_FEW = 7 }; /* up to so many queries, a vector of queries has more idle lanes than sums across vectors cost */

typedef struct AttentionParts {
    const Node *scores, *mix;
    const Node *keys, *values;    /* Concat: the kernel makes this tensor, too; NULL: it is there */
    OperandView q, k, v;
    uint32_t lead;                /* leading dimensions */
    Dim m, n;                     /* queries, keys */
    int64_t size, width;          /* columns of q and k, of v */
    bool plain;                   /* softmax reads the scores as they are */
    Expr *idx[RANK_MAX];          /* of the scores: lead open loops, then query and key */
} AttentionParts;

/* Element offset of the operand's matrix for the open head; `group` heads of the scores share one of the operand. */
Expr *attention_matrix_at(Lower *lo, const AttentionParts *p, const OperandView *v, int64_t group);
/* What softmax reads at p->idx: `score` through the pointwise operators behind the product. */
Expr *attention_finished_score(Lower *lo, AttentionParts *p, Expr *score);
/* Stores the result at column d of query `query`. */
void attention_store(Lower *lo, const AttentionParts *p, Expr *query, Expr *d, Expr *e);
/* 1 / sum; of a masked softmax 1 where every score was -inf. */
Expr *attention_inverse(Lower *lo, const AttentionParts *p, Expr *sum);

/* Few queries whose keys and values lie in memory row by row: rows of consecutive elements. */
bool attention_is_few(const Context *cx, const AttentionParts *p);
void lower_attention_few(Lower *lo, AttentionParts *p);
void lower_attention_tiles(Lower *lo, const AttentionParts *p);

#endif
