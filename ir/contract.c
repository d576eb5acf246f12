#include "ir/contract.h"

#include "ir/kernel_text.h"

void contract_print(struct KernelText *t, const Stmt *s) {
    const Contract *c = s->contract;
    Writer *w = t->w;
    const Expr *shared[TILE_FINISH_ARGS];
    for (uint32_t i = 0; i < s->n_arg; i++) shared[i] = s->arg[i].is_buf ? NULL : s->arg[i].expr;
    kernel_text_shared(t, s->n_arg, shared);
    cw_begin(w);
    switch (c->kind) {
    case CONTRACT_TILE:
        cw_printf(w, "tile_%ux%u%s", c->rows, c->cols, c->add ? "_add" : "");
        if (c->ahead != 0) cw_printf(w, "_ahead%u", c->ahead);
        if (c->stream) cw_printf(w, "_stream");
        if (c->finish) cw_printf(w, "_bias%s%s", c->low ? "_low" : "", c->high ? "_high" : "");
        cw_printf(w, "_v%u(", c->vector);
        break;
    case CONTRACT_TILE_BF16: cw_printf(w, "tile_bf16_%ux%u(", c->rows, c->cols); break;
    case CONTRACT_TILE_I8: cw_printf(w, "tile_i8_%ux%u(", c->rows, c->cols); break;
    case CONTRACT_BLOCK: cw_printf(w, "block_%ux%u_bits%u(", c->rows, c->cols, c->bits); break;
    case CONTRACT_DEPTHWISE:
        cw_printf(w, "depthwise_%ux%u_taps%u_step%u", c->rows, c->cols, c->taps_x, c->step);
        if (c->dilation != 1) cw_printf(w, "_dilation%u", c->dilation);
        cw_printf(w, "_left%u_right%u%s%s%s%s_v%u(", c->left, c->right, c->ring ? "_ring" : "", c->finish ? "_bias" : "", c->low ? "_low" : "", c->high ? "_high" : "", c->vector);
        break;
    }
    for (uint32_t i = 0; i < s->n_arg; i++) {
        if (i != 0) cw_printf(w, ", ");
        if (s->arg[i].is_buf) cw_printf(w, "b%u", s->arg[i].buf);
        else kernel_text_expr(t, s->arg[i].expr);
    }
    cw_printf(w, ")\n");
}

static double bound(const Stmt *s, uint32_t arg) {
    const Expr *e = s->arg[arg].expr;
    return e->kind == E_CONST ? (double)e->c.i : 64;
}

double contract_work(const Stmt *s) {
    const Contract *c = s->contract;
    switch (c->kind) {
    case CONTRACT_TILE: case CONTRACT_TILE_BF16: case CONTRACT_TILE_I8: return (double)c->rows * c->cols * bound(s, TILE_N1) * bound(s, TILE_N2) * bound(s, TILE_K);
    case CONTRACT_BLOCK: return (double)c->rows * c->cols * bound(s, BLOCK_K);
    case CONTRACT_DEPTHWISE: return (double)c->rows * c->cols * c->taps_x * c->taps_x;
    }
    return 0;
}
