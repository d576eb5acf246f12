#include "passes/lifetime.h"

uint64_t value_bytes_most(const Context *cx, const Value *v) {
    uint64_t bits = v->type != NULL && v->type->kind == TYPE_TENSOR ? dtype_bits(v->type->dtype) : 0;
    for (uint32_t d = 0; bits != 0 && d < v->type->rank; d++) {
        int64_t hi = dim_hi(cx, v->type->dim[d]);
        if (__builtin_mul_overflow(bits, hi > 0 ? (uint64_t)hi : 0, &bits) || bits > (uint64_t)1 << 44) return (uint64_t)1 << 41;
    }
    return (bits + 7) / 8;
}

void last_readers(Module *m, const uint32_t *position, uint32_t elsewhere, uint32_t *last) {
    Uses uses = module_uses(m);
    for (uint32_t v = 0; v < m->n_value; v++) {
        for (uint32_t u = uses.first[v]; u < uses.first[v + 1]; u++) {
            const Node *n = uses.use[u].node;
            uint32_t at = n != NULL && n->graph == m->main ? position[n->id] : elsewhere;
            if (at > last[v]) last[v] = at;
        }
    }
}
