/* Rfft and Irfft of com.microsoft: transforms of real signals over the last signal_ndim axes, by DFT.
 *
 *     Rfft(x [.., n])          ->   DFT(x [.., n, 1]) {onesided}            [.., n/2+1, 2]
 *     Irfft(x [.., n/2+1, 2])  ->   DFT(x) {inverse, onesided} [.., n, 1]   [.., n]
 *
 * The axes in front of the last one are transformed as complex numbers, after it and (inverse) before it. */
#include "passes/expand/build.h"
#include "passes/expand/chain.h"
#include "passes/rules.h"

static Value *transform(const Chain *c, Value *x, int64_t axis, bool inverse, bool onesided) {
    if (x == NULL) return NULL;
    Node *n = expand_node(c->m, c->n, OP_DFT, 3, (Value *[]){x, NULL, chain_int(c, axis)}, 1);
    attr_set_i(n, AT_DFT_inverse, inverse);
    attr_set_i(n, AT_DFT_onesided, onesided);
    return chain_node(c, n);
}

static bool plain(const Chain *c, AttrSlot normalized, AttrSlot onesided, int64_t axes, int64_t rank) {
    if (attr_i(c->n, normalized) != 0 || attr_i(c->n, onesided) != 1) return expand_fail(c->m, c->n, "normalized must be 0 and onesided 1");
    return (axes >= 1 && axes <= rank) || expand_fail(c->m, c->n, "signal_ndim must be from 1 to the number of the input's dims");
}

bool expand_rfft(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    int64_t rank = n->in[0]->type->rank, axes = attr_i(n, AT_Rfft_signal_ndim);
    if (!plain(&c, AT_Rfft_normalized, AT_Rfft_onesided, axes, rank)) return false;
    Value *y = transform(&c, chain_unsqueeze(&c, n->in[0], -1), rank - 1, false, true);
    for (int64_t i = 2; i <= axes; i++) y = transform(&c, y, rank - i, false, false);
    out[0] = y;
    return y != NULL;
}

bool expand_irfft(Module *m, Node *n, Value **out) {
    Chain c = {m, n};
    int64_t rank = (int64_t)n->in[0]->type->rank - 1, axes = attr_i(n, AT_Irfft_signal_ndim);
    if (!plain(&c, AT_Irfft_normalized, AT_Irfft_onesided, axes, rank)) return false;
    Value *y = n->in[0];
    for (int64_t i = axes; i >= 2; i--) y = transform(&c, y, rank - i, true, false);
    out[0] = chain_squeeze(&c, transform(&c, y, rank - 1, true, true), -1);
    return out[0] != NULL;
}
