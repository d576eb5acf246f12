/* Prints calls of the micro-kernels for quantized weights: groups with scales (runtime/tile_block.h), and integers (runtime/tile_i8.h). The runtime has one body for every panel width and both
 * signs; each pair that a model uses becomes a function of its own, where they are literals:
 *
 *     static void lathe_tile_u8x64(int64_t rows, const uint8_t *a, ..., const int8_t *b, int32_t *out)
 *     {
 *         const lathe_i8_call c = {a, a_end, a_row, n1, a_1, n2, a_2, n, b};
 *         lathe_i8_tile(&c, rows, 4, 0, out);
 *     } */
#include "codegen/emit.h"
#include "ir/contract.h"

static const char *tile_function(Emit *e, const Contract *c, bool is_signed) {
    Str name = str_format(e->cx, "lathe_tile_%s8x%u", is_signed ? "s" : "u", c->cols);
    emit_need(e, "lathe_i8_tile");
    if (!emit_once(e, name)) return str_text(e->cx, name);
    Writer *w = &e->helpers;
    const char *type = is_signed ? "int8_t" : "uint8_t", *as = is_signed ? "(const uint8_t *)" : "";
    w->indent = 0;
    cw_line(w, "static __attribute__((noinline)) void %s(int64_t rows, const %s *a, const %s *a_end, int64_t a_row, int64_t n1, int64_t a_1, int64_t n2, int64_t a_2, int64_t n, const int8_t *b, int32_t *out)",
            str_text(e->cx, name), type, type);
    cw_open(w, "{");
    cw_line(w, "const lathe_i8_call c = {%sa, %sa_end, a_row, n1, a_1, n2, a_2, n, b};", as, as);
    cw_line(w, "lathe_i8_tile(&c, rows, %u, %d, out);", c->cols / 16, is_signed);
    cw_close(w, "}");
    cw_printf(w, "\n");
    return str_text(e->cx, name);
}

void contract_int_emit(Emit *e, const Stmt *s, const char *const *text) {
    bool is_signed = e->k->buf[s->arg[TILE_A].buf].dtype == DT_I8;
    e->uses_tiles = true;
    cw_line(e->w, "%s(%s, %s + (%s), %s + (%s), %s, %s, %s, %s, %s, %s, %s + (%s), %s);", tile_function(e, s->contract, is_signed), text[TILE_ROWS], text[TILE_A], text[TILE_A_AT],
            text[TILE_A], text[TILE_A_END], text[TILE_A_ROW], text[TILE_N1], text[TILE_A_1], text[TILE_N2], text[TILE_A_2], text[TILE_K], text[TILE_B], text[TILE_B_AT], text[TILE_OUT]);
}

void contract_block_emit(Emit *e, const Stmt *s, const char *const *text) {
    bool floats = s->n_arg == BLOCK_FLOAT_ARGS;
    const char *name = str_text(e->cx, str_format(e->cx, "lathe_block_%s%u", floats ? "tile" : "int", s->contract->bits));
    emit_need(e, name);
    if (floats)
        cw_line(e->w, "%s(%s, %s + (%s), %s, %s, %s, %s + (%s), %s);", name, text[BLOCK_ROWS], text[BLOCK_A], text[BLOCK_A_AT], text[BLOCK_A_ROW], text[BLOCK_K], text[BLOCK_GROUP], text[BLOCK_B],
                text[BLOCK_B_AT], text[BLOCK_OUT]);
    else
        cw_line(e->w, "%s(%s, %s + (%s), %s, %s + (%s), %s + (%s), %s, %s, %s + (%s), %s);", name, text[BLOCK_ROWS], text[BLOCK_A], text[BLOCK_A_AT], text[BLOCK_A_ROW], text[BLOCK_SCALE],
                text[BLOCK_GROUPS_AT], text[BLOCK_TOTAL], text[BLOCK_GROUPS_AT], text[BLOCK_GROUPS], text[BLOCK_GROUP], text[BLOCK_B], text[BLOCK_B_AT], text[BLOCK_OUT]);
}
