/* AttentionMix: takes the operands of an attention apart, and what its ways of being computed share.
 *
 *     body = { %s = AttentionScores(%x, %x) {q = …, k = …}  %a = Add(%s, %mask)  %y = AttentionMix(%a, %x) {v = …} }
 */
#include "passes/lower/attention_parts.h"

#include "passes/lower/rows.h"
#include "passes/rules.h"

Expr *define_attention_scores(Lower *lo, const Node *n, uint32_t out, Expr *const *idx) {
    (void)out, (void)idx;
    diag(lo->cx, SEV_ERROR, n->loc, "attention scores are read by their AttentionMix only");
    return lx_const(lo, DT_F32, 0);
}

Expr *attention_matrix_at(Lower *lo, const AttentionParts *p, const OperandView *v, int64_t group) {
    Expr *at = lx_i(lo, v->offset);
    for (uint32_t i = 0; i < p->lead; i++) {
        Expr *own = i == p->lead - 1 && group > 1 ? lx_div(lo, p->idx[i], lx_i(lo, group)) : p->idx[i];
        at = lx_add(lo, at, lx_mul(lo, own, lx_dim(lo, v->step[i])));
    }
    return at;
}

Expr *attention_finished_score(Lower *lo, AttentionParts *p, Expr *score) {
    lo->bound = p->scores->out[0];
    lo->bound_idx = p->idx;
    lo->bound_val = score;
    Expr *e = lower_load(lo, p->mix->in[0], p->idx);
    lo->bound = NULL;
    return e;
}

void attention_store(Lower *lo, const AttentionParts *p, Expr *query, Expr *d, Expr *e) {
    Expr *idx[RANK_MAX];
    for (uint32_t i = 0; i < p->lead; i++) idx[i] = p->idx[i];
    idx[p->lead] = query;
    idx[p->lead + 1] = d;
    if (attr_i(p->mix, AT_AttentionMix_rows_first) != 0) {
        Expr *head = idx[1];
        idx[1] = idx[2];
        idx[2] = head;
    }
    lower_store(lo, p->mix->out[0], idx, e);
}

Expr *attention_inverse(Lower *lo, const AttentionParts *p, Expr *sum) {
    Expr *one = lx_const(lo, DT_F32, 1);
    if (attr_i(p->mix, AT_AttentionMix_masked) != 0) sum = lx_select(lo, lx_2(lo, FN_EQ, sum, lx_const(lo, DT_F32, 0)), one, sum);
    return lx_div(lo, one, sum);
}

/* The Concat in the body that makes v. */
static const Node *concat_of(const Lower *lo, const Value *v) { return v->def != NULL && v->def->graph == lo->body && v->def->op == OP_Concat ? v->def : NULL; }

bool lower_attention_mix(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    const Node *scores = lo->body != NULL ? lo->body->first : NULL;
    while (scores != NULL && scores->op != OP_AttentionScores) scores = scores->next;
    AttentionParts p = {.scores = scores, .mix = n};
    if (scores == NULL || !operand_view(cx, scores, AT_AttentionScores_q, scores->in[0]->type, &p.q) ||
        !operand_view(cx, scores, AT_AttentionScores_k, scores->in[1]->type, &p.k) || !operand_view(cx, n, AT_AttentionMix_v, n->in[1]->type, &p.v) ||
        !dim_is_const(cx, p.q.size[p.q.rank - 1]) || !dim_is_const(cx, p.v.size[p.v.rank - 1])) {
        diag(cx, SEV_ERROR, n->loc, "AttentionMix stands in one Fused node behind its AttentionScores, with heads of constant size");
        return false;
    }
    p.lead = p.q.rank - 2u;
    p.m = p.q.size[p.lead];
    p.n = p.k.size[p.lead];
    p.size = dim_value(cx, p.q.size[p.lead + 1]);
    p.width = dim_value(cx, p.v.size[p.lead + 1]);
    p.keys = concat_of(lo, scores->in[1]);
    p.values = concat_of(lo, n->in[1]);
    p.plain = n->in[0] == scores->out[0];
    if (attention_is_few(cx, &p)) lower_attention_few(lo, &p);
    else lower_attention_tiles(lo, &p);
    return true;
}
