/* Scaled dot-product attention out of matrix products and a softmax: shared by the attention operators of all domains. */
#ifndef LATHE_PASSES_EXPAND_ATTENTION_H
#define LATHE_PASSES_EXPAND_ATTENTION_H
#include "ir/graph.h"

typedef struct AttentionParts {
    Value *q, *k, *v;            /* [B,Hq,S,D], [B,H,T,D], [B,H,T,E]; past already joined */
    double scale, softcap;       /* scores = q k^T * scale; softcap 0: none */
    Value *mask;                 /* NULL, or bool (true: attend) or float (added), broadcast to [B,Hq,S,T]; a shorter last axis masks the rest */
    Value *valid;                /* NULL, or [B] integers: keys from there on are padding */
    Value *past;                 /* NULL, or a tensor whose dimension 2 counts keys in front of the first query */
    Value *sink;                 /* NULL, or [Hq] or a scalar: a score per head that takes part in the sum of the softmax and has no value */
    bool causal;
    int64_t left, right;         /* window around the query's position; -1: open */
    DType softmax_type;          /* DT_NONE: as it comes */
    int64_t scores_mode;         /* which scores to give back: 0 raw, 1 capped, 2 with bias, 3 probabilities */
    Graph *score_mod, *prob_mod; /* regions applied to scores and probabilities, or NULL */
} AttentionParts;

/* Nodes before `at`; the result [B,Hq,S,E], and *scores (if not NULL) as scores_mode says. NULL after a diagnostic. */
Value *attention_build(Module *m, Node *at, const AttentionParts *p, Value **scores);
/* A padding mask and a float bias (either may be NULL) as part of p: [B] counts valid keys; [B,T] or [B,S,T] says which keys are valid. */
bool attention_padding_mask(Module *m, Node *n, Value *mask, Value *bias, AttentionParts *p);
/* The scale that the attribute says, else that of the head size of q [B,H,S,D]; 0 after a diagnostic. */
double attention_scale(Module *m, const Node *n, AttrSlot slot, const Value *q);
/* [B,L,H*D] to [B,H,L,D] and back. */
Value *attention_split_heads(Module *m, Node *at, Value *v, int64_t heads);
Value *attention_join_heads(Module *m, Node *at, Value *v);
Value *attention_concat(Module *m, Node *at, Value *a, Value *b, int64_t axis);
/* Attention of n, whose inputs are numbered as those of com.microsoft's Attention, over a buffer that past and present share; beams:
 * cache_indirection or NULL. */
bool expand_self_attention_in_place(Module *m, Node *n, Value *beams, bool causal, Value **out);

#endif
