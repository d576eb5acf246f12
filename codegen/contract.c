/* Prints micro-kernels, and the statements that call them.
 *
 *     static void lathe_tile_6x64(const float *a, int64_t a_row, ..., const float *b, int64_t b_k, float *out)
 *     {
 *         lathe_v16 c0_0 = {0}, ...;                          6 * 4 accumulators
 *         for (... n1) for (... n2)                           taps of a convolution; 1 for a matrix product
 *             for (int64_t i = 0; i < n; i++) {
 *                 const lathe_v16 b0 = *(const lathe_u16 *)b, ...;
 *                 c0_0 += p[0] * b0; ...
 *
 * They are vector-extension C, which clang and gcc take for every target: a vector wider than the machine's is split by
 * the compiler. All bounds of the accumulators are literal, so they stay in registers; one function per number of rows,
 * since the last rows of a matrix are fewer. Nothing in them belongs to one layer. */
#include "ir/contract.h"

#include "codegen/emit.h"

static void print_vector_type(Emit *e, uint32_t vector) {
    if (emit_once(e, str_intern(e->cx, "contract macros")))
        cw_printf(&e->helpers,
                  "/* Micro-kernels: full vector width, own functions, inner loops as they are. */\n"
                  "#if defined(__clang__)\n#define LATHE_ROLLED LATHE_PRAGMA(clang loop unroll(disable) vectorize(disable))\n"
                  "#define LATHE_MICRO __attribute__((noinline, min_vector_width(512)))\n"
                  "#else\n#define LATHE_ROLLED LATHE_PRAGMA(GCC unroll 1)\n#define LATHE_MICRO __attribute__((noinline))\n#endif\n\n");
    if (!emit_once(e, str_format(e->cx, "lathe_v%u", vector))) return;
    cw_printf(&e->helpers,
              "typedef float lathe_v%u __attribute__((vector_size(%u)));\n"
              "typedef float lathe_u%u __attribute__((vector_size(%u), aligned(4), may_alias));\n\n",
              vector, vector * 4, vector, vector * 4);
}

static const char *tile_parameters = "const float *a, int64_t a_row, int64_t a_k, int64_t n1, int64_t a_1, int64_t n2, int64_t a_2, int64_t n, const float *from, int64_t b_1, int64_t b_2, int64_t b_k, float *out";

/* How far ahead of a stream one line per row of a panel is fetched. Processors follow a stream to the end of its page of 4 KiB by
 * themselves; a line of the next one makes them go on there. Measured: 18 to 25 % more bytes per second, the same from 1 KiB to a page. */
enum { STREAM_BYTES = 2048 };

static Str tile_name(Emit *e, const Contract *c, const char *upto, uint32_t rows) {
    Str ahead = c->ahead != 0 ? str_format(e->cx, "_ahead%u", c->ahead) : str_intern(e->cx, "");
    return str_format(e->cx, "lathe_tile%s%s%s%s%s%s_%s%ux%u", c->stream ? "_stream" : "", c->add ? "_add" : "", c->finish ? "_bias" : "", c->low ? "_low" : "", c->high ? "_high" : "", str_text(e->cx, ahead), upto, rows, c->cols);
}

/* The parameters, or with types `false` the arguments that hand them on, that a variant has besides the usual ones. */
static const char *finish_more(Emit *e, const Contract *c, bool types) {
    Writer w = {.arena = &e->cx->scratch};
    if (c->finish) cw_printf(&w, ", %sout_row, %sbias", types ? "int64_t " : "", types ? "const float *" : "");
    if (c->low) cw_printf(&w, ", %slow", types ? "float " : "");
    if (c->high) cw_printf(&w, ", %shigh", types ? "float " : "");
    return cw_cstr(&w);
}

static const char *tile_more(Emit *e, const Contract *c, bool types) {
    Writer w = {.arena = &e->cx->scratch};
    if (c->ahead != 0) cw_printf(&w, ", %sahead", types ? "const float *" : "");
    cw_printf(&w, "%s", finish_more(e, c, types));
    return cw_cstr(&w);
}

/* Vectors between bounds; a NaN stays one. By pointer: gcc warns of vectors as results where the machine has none of that width. */
static void print_bound(Emit *e, uint32_t v, const char *name, const char *op) {
    print_vector_type(e, v);
    if (!emit_once(e, str_format(e->cx, "lathe_%s_v%u", name, v))) return;
    if (emit_once(e, str_format(e->cx, "lathe_i%u", v))) cw_printf(&e->helpers, "typedef int32_t lathe_i%u __attribute__((vector_size(%u)));\n\n", v, v * 4);
    cw_printf(&e->helpers,
              "static inline void lathe_%s_v%u(lathe_v%u *x, float bound)\n{\n"
              "    lathe_v%u all = {0};\n    all += bound;\n"
              "    const lathe_i%u outside = (lathe_i%u)(*x %s all);\n"
              "    *x = (lathe_v%u)((outside & (lathe_i%u)all) | (~outside & (lathe_i%u)*x));\n}\n\n",
              name, v, v, v, v, v, op, v, v, v);
}

/* What the bounds of a variant need. */
static void print_bounds(Emit *e, const Contract *c) {
    if (c->low) print_bound(e, c->vector, "least", "<");
    if (c->high) print_bound(e, c->vector, "greatest", ">");
}

/* The sums c0_0 … between their bounds to out, row after row: those of the result, out_row apart, or of a dense tile. */
static void print_results(Writer *w, const Contract *c, uint32_t rows) {
    uint32_t v = c->vector, nv = c->cols / v;
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t j = 0; c->low && j < nv; j++) cw_line(w, "lathe_least_v%u(&c%u_%u, low);", v, r, j);
        for (uint32_t j = 0; c->high && j < nv; j++) cw_line(w, "lathe_greatest_v%u(&c%u_%u, high);", v, r, j);
        cw_begin(w);
        for (uint32_t j = 0; j < nv; j++) cw_printf(w, "%s*(lathe_u%u *)(out + %u) = c%u_%u;", j != 0 ? " " : "", v, c->finish ? j * v : r * c->cols + j * v, r, j);
        cw_printf(w, "\n");
        if (c->finish && r + 1 < rows) cw_line(w, "out += out_row;");
    }
    if (c->finish && rows == 1) cw_line(w, "(void)out_row;");
}

/* The micro-kernel of exactly `rows` rows. */
static const char *tile_function(Emit *e, const Contract *c, uint32_t rows) {
    Str name = tile_name(e, c, "", rows);
    if (!emit_once(e, name)) return str_text(e->cx, name);
    uint32_t v = c->vector, nv = c->cols / v;
    print_vector_type(e, v);
    print_bounds(e, c);
    Writer *w = &e->helpers;
    w->indent = 0;
    cw_line(w, "LATHE_MICRO static void %s(%s%s)", str_text(e->cx, name), tile_parameters, tile_more(e, c, true));
    cw_open(w, "{");
    for (uint32_t j = 0; c->finish && j < nv; j++) cw_line(w, "const lathe_v%u s%u = *(const lathe_u%u *)(bias + %u);", v, j, v, j * v);
    for (uint32_t r = 0; r < rows; r++) {
        cw_begin(w);
        cw_printf(w, "lathe_v%u ", v);
        for (uint32_t j = 0; j < nv; j++) {
            if (c->add) cw_printf(w, "%sc%u_%u = *(const lathe_u%u *)(out + %u)", j != 0 ? ", " : "", r, j, v, r * c->cols + j * v);
            else if (c->finish) cw_printf(w, "%sc%u_%u = s%u", j != 0 ? ", " : "", r, j, j);
            else cw_printf(w, "%sc%u_%u = {0}", j != 0 ? ", " : "", r, j);
        }
        cw_printf(w, ";\n");
    }
    cw_line(w, "for (int64_t i1 = 0; i1 < n1; i1++)");
    cw_open(w, "for (int64_t i2 = 0; i2 < n2; i2++) {");
    cw_line(w, "const float *p = a + i1 * a_1 + i2 * a_2, *b = from + i1 * b_1 + i2 * b_2;");
    cw_line(w, "LATHE_ROLLED");
    cw_open(w, "for (int64_t i = 0; i < n; i++) {");
    cw_begin(w);
    cw_printf(w, "const lathe_v%u ", v);
    for (uint32_t j = 0; j < nv; j++) cw_printf(w, "%sb%u = *(const lathe_u%u *)(b + %u)", j != 0 ? ", " : "", j, v, j * v);
    cw_printf(w, ";\n");
    for (uint32_t r = 0; r < rows; r++) {
        cw_begin(w);
        cw_printf(w, "const float x%u = p[%s%s];", r, r == 0 ? "0" : r == 1 ? "a_row" : "", r > 1 ? str_text(e->cx, str_format(e->cx, "%u * a_row", r)) : "");
        for (uint32_t j = 0; j < nv; j++) cw_printf(w, " c%u_%u += x%u * b%u;", r, j, r, j);
        cw_printf(w, "\n");
    }
    if (c->ahead != 0) cw_line(w, "__builtin_prefetch(ahead, 0, 2);");
    if (c->ahead != 0) cw_line(w, "ahead += %u;", c->ahead);
    if (c->stream) cw_line(w, "__builtin_prefetch((const void *)((uintptr_t)b + %u), 0, 2);", STREAM_BYTES); /* by number: a pointer may not leave its object */
    cw_line(w, "p += a_k;");
    cw_line(w, "b += b_k;");
    cw_close(w, "}");
    cw_close(w, "}");
    print_results(w, c, rows);
    if (rows == 1) cw_line(w, "(void)a_row;");
    cw_close(w, "}");
    cw_printf(w, "\n");
    return str_text(e->cx, name);
}

/* One function for a number of rows that is known at run time only: 1 <= rows <= c->rows. */
static const char *tile_choice(Emit *e, const Contract *c) {
    Str name = tile_name(e, c, "upto", c->rows);
    if (!emit_once(e, name)) return str_text(e->cx, name);
    for (uint32_t r = 1; r <= c->rows; r++) tile_function(e, c, r);
    Writer *w = &e->helpers;
    cw_line(w, "static void %s(int64_t rows, %s%s)", str_text(e->cx, name), tile_parameters, tile_more(e, c, true));
    cw_open(w, "{");
    cw_open(w, "switch (rows) {");
    for (uint32_t r = 1; r <= c->rows; r++) {
        Str label = r < c->rows ? str_format(e->cx, "case %u", r) : str_intern(e->cx, "default");
        cw_line(w, "%s: %s(a, a_row, a_k, n1, a_1, n2, a_2, n, from, b_1, b_2, b_k, out%s); break;", str_text(e->cx, label), tile_function(e, c, r), tile_more(e, c, false));
    }
    cw_close(w, "}");
    cw_close(w, "}");
    cw_printf(w, "\n");
    return str_text(e->cx, name);
}

/* Elements of the image: floats, or bytes and bfloat16 that are converted as they are loaded. */
static const char *depthwise_element(DType a) { return a == DT_U8 ? "uint8_t" : a == DT_I8 ? "int8_t" : a == DT_BF16 ? "uint16_t" : "float"; }
static char depthwise_letter(DType a) { return a == DT_U8 ? 'u' : a == DT_I8 ? 's' : 'h'; }
static bool has_zero(DType a) { return a == DT_U8 || a == DT_I8; }

/* The type of a vector of them, if it is not floats. */
static void print_depthwise_type(Emit *e, DType a, uint32_t v) {
    Writer *w = &e->helpers;
    if (a == DT_F32 || !emit_once(e, str_format(e->cx, "lathe_bytes_%s%u", depthwise_element(a), v))) return;
    if (a == DT_BF16) cw_printf(w, "typedef uint32_t lathe_w%u __attribute__((vector_size(%u), may_alias));\n", v, 4 * v);
    cw_printf(w, "typedef %s lathe_%cb%u __attribute__((vector_size(%u), aligned(1), may_alias));\n\n", depthwise_element(a), depthwise_letter(a), v, a == DT_BF16 ? 2 * v : v);
}

/* The vector at a + pixel * a_x + at. */
static void print_pixels(Writer *w, DType a, uint32_t v, uint32_t pixel, uint32_t at) {
    if (a == DT_F32) cw_printf(w, "*(const lathe_u%u *)(a + %u * a_x + %u)", v, pixel, at);
    else if (a == DT_BF16) cw_printf(w, "(lathe_v%u)(__builtin_convertvector(*(const lathe_hb%u *)(a + %u * a_x + %u), lathe_w%u) << 16)", v, v, pixel, at, v);
    else cw_printf(w, "__builtin_convertvector(*(const lathe_%cb%u *)(a + %u * a_x + %u), lathe_v%u) - zero", depthwise_letter(a), v, pixel, at, v);
}

static Str depthwise_name(Emit *e, const Contract *c, DType a, const char *upto, uint32_t rows) {
    Str edges = c->left != 0 || c->right != 0 ? str_format(e->cx, "_left%u_right%u", c->left, c->right) : str_intern(e->cx, "");
    Str dilation = c->dilation != 1 ? str_format(e->cx, "_dilation%u", c->dilation) : str_intern(e->cx, "");
    return str_format(e->cx, "lathe_depthwise_%s%s%s%s%s%s%ux%u_taps%u_step%u%s%s", c->ring ? "ring_" : "", c->finish ? "bias_" : "", c->low ? "low_" : "", c->high ? "high_" : "", a == DT_F32 ? "" : a == DT_BF16 ? "bf16_" : a == DT_U8 ? "u8_" : "s8_", upto, rows, c->cols, c->taps_x, c->step,
                      str_text(e->cx, dilation), str_text(e->cx, edges));
}

/* What follows the image's element type in the list of parameters. */
static const char *depthwise_parameters(Emit *e, const Contract *c, DType a) {
    return str_text(e->cx, str_format(e->cx, " *a, int64_t a_x, int64_t a_y, int64_t taps_y, const float *b, float *out%s%s%s", has_zero(a) ? ", float zero" : "", c->ring ? ", int64_t wrap, int64_t back" : "",
                                      finish_more(e, c, true)));
}

/* Depthwise: every pixel vector is loaded once per row of taps and meets all the results it belongs to. */
static const char *depthwise_function(Emit *e, const Contract *c, DType a, uint32_t rows) {
    Str name = depthwise_name(e, c, a, "", rows);
    if (!emit_once(e, name)) return str_text(e->cx, name);
    print_bounds(e, c);
    uint32_t v = c->vector, nv = c->cols / v, pixels = (rows - 1) * c->step + (c->taps_x - 1u) * c->dilation + 1;
    print_vector_type(e, v);
    Writer *w = &e->helpers;
    print_depthwise_type(e, a, v);
    cw_line(w, "LATHE_MICRO static void %s(const %s%s)", str_text(e->cx, name), depthwise_element(a), depthwise_parameters(e, c, a));
    cw_open(w, "{");
    for (uint32_t j = 0; j < nv; j++) {
        cw_begin(w);
        cw_printf(w, "lathe_v%u ", v);
        for (uint32_t r = 0; r < rows && !c->finish; r++) cw_printf(w, "%sc%u_%u = {0}", r != 0 ? ", " : "", r, j);
        for (uint32_t r = 0; r < rows && c->finish; r++) cw_printf(w, "%sc%u_%u = *(const lathe_u%u *)(bias + %u)", r != 0 ? ", " : "", r, j, v, j * v);
        cw_printf(w, ";\n");
    }
    cw_line(w, "LATHE_ROLLED");
    cw_open(w, "for (int64_t y = 0; y < taps_y; y++) {");
    for (uint32_t j = 0; j < nv; j++) {
        cw_open(w, "{");
        cw_begin(w);
        cw_printf(w, "const lathe_v%u ", v);
        for (uint32_t x = 0; x < c->taps_x; x++) cw_printf(w, "%sb%u = *(const lathe_u%u *)(b + %u)", x != 0 ? ", " : "", x, v, x * c->cols + j * v);
        cw_printf(w, ";\n");
        for (uint32_t pixel = c->left; pixel + c->right < pixels; pixel++) {
            bool loaded = false;
            for (uint32_t r = 0; r < rows; r++) {
                if (pixel < r * c->step || (pixel - r * c->step) % c->dilation != 0 || (pixel - r * c->step) / c->dilation >= c->taps_x) continue;
                if (!loaded) {
                    cw_begin(w);
                    cw_printf(w, "const lathe_v%u x%u = ", v, pixel);
                    print_pixels(w, a, v, pixel - c->left, j * v);
                    cw_printf(w, ";");
                    loaded = true;
                }
                cw_printf(w, " c%u_%u += x%u * b%u;", r, j, pixel, (pixel - r * c->step) / c->dilation);
            }
            if (loaded) cw_printf(w, "\n");
        }
        cw_close(w, "}");
    }
    cw_line(w, "a += a_y;");
    if (c->ring) cw_line(w, "if (y + 1 == wrap) a -= back;");
    cw_line(w, "b += %u;", c->taps_x * c->cols);
    cw_close(w, "}");
    if (pixels - c->left - c->right <= 1) cw_line(w, "(void)a_x;");
    print_results(w, c, rows);
    cw_close(w, "}");
    cw_printf(w, "\n");
    return str_text(e->cx, name);
}

static const char *depthwise_choice(Emit *e, const Contract *c, DType a) {
    Str name = depthwise_name(e, c, a, "upto", c->rows);
    if (!emit_once(e, name)) return str_text(e->cx, name);
    for (uint32_t r = 1; r <= c->rows; r++) depthwise_function(e, c, a, r);
    Writer *w = &e->helpers;
    cw_line(w, "static void %s(int64_t rows, const %s%s)", str_text(e->cx, name), depthwise_element(a), depthwise_parameters(e, c, a));
    cw_open(w, "{");
    cw_open(w, "switch (rows) {");
    for (uint32_t r = 1; r <= c->rows; r++) {
        Str label = r < c->rows ? str_format(e->cx, "case %u", r) : str_intern(e->cx, "default");
        cw_line(w, "%s: %s(a, a_x, a_y, taps_y, b, out%s%s%s); break;", str_text(e->cx, label), depthwise_function(e, c, a, r), has_zero(a) ? ", zero" : "",
                c->ring ? ", wrap, back" : "", finish_more(e, c, false));
    }
    cw_close(w, "}");
    cw_close(w, "}");
    cw_printf(w, "\n");
    return str_text(e->cx, name);
}

void contract_emit(Emit *e, const Kernel *k, const Stmt *s) {
    (void)k;
    const Contract *c = s->contract;
    const StmtInfo *info = emit_info(e, s);
    const char *text[TILE_FINISH_ARGS];
    for (uint32_t i = 0, root = 0; i < s->n_arg; i++) text[i] = s->arg[i].is_buf ? emit_buf(e, s->arg[i].buf) : emit_text(e, info->root[root++], 0);
    const Expr *rows = s->arg[TILE_ROWS].expr;
    bool literal = rows->kind == E_CONST;
    uint32_t n = literal ? (uint32_t)rows->c.i : c->rows;
    Str first = literal ? 0 : str_format(e->cx, "%s, ", text[TILE_ROWS]);
    Str more = c->kind == CONTRACT_TILE && c->ahead ? str_format(e->cx, ", %s + (%s)", text[TILE_B], text[TILE_AHEAD]) : str_intern(e->cx, "");
    if (c->finish && c->kind == CONTRACT_TILE) more = str_format(e->cx, "%s, %s, %s + (%s)%s%s%s%s", str_text(e->cx, more), text[TILE_OUT_ROW], text[TILE_BIAS], text[TILE_BIAS_AT], c->low ? ", " : "", c->low ? text[TILE_LOW] : "",
                                      c->high ? ", " : "", c->high ? text[TILE_HIGH] : "");
    switch (c->kind) {
    case CONTRACT_TILE:
        cw_line(e->w, "%s(%s%s + (%s), %s, %s, %s, %s, %s, %s, %s, %s + (%s), %s, %s, %s, %s + (%s)%s);", literal ? tile_function(e, c, n) : tile_choice(e, c), str_text(e->cx, first),
                text[TILE_A], text[TILE_A_AT], text[TILE_A_ROW], text[TILE_A_K], text[TILE_N1], text[TILE_A_1], text[TILE_N2], text[TILE_A_2], text[TILE_K], text[TILE_B],
                text[TILE_B_AT], text[TILE_B_1], text[TILE_B_2], text[TILE_B_K], text[TILE_OUT], text[TILE_OUT_AT], str_text(e->cx, more));
        break;
    case CONTRACT_TILE_BF16:
        emit_need(e, "lathe_tile_bf16");
        e->uses_tiles = true;
        cw_line(e->w, "lathe_tile_bf16(%s, %s + (%s), %s, %s, %s, %s, %s, %s, %s + (%s), %s);", text[TILE_ROWS], text[TILE_A], text[TILE_A_AT], text[TILE_A_ROW],
                text[TILE_N1], text[TILE_A_1], text[TILE_N2], text[TILE_A_2], text[TILE_K], text[TILE_B], text[TILE_B_AT], text[TILE_OUT]);
        break;
    case CONTRACT_TILE_I8: contract_int_emit(e, s, text); break;
    case CONTRACT_BLOCK: contract_block_emit(e, s, text); break;
    case CONTRACT_DEPTHWISE: {
        DType a = e->k->buf[s->arg[DW_A].buf].dtype;
        Str ring = c->ring ? str_format(e->cx, ", %s, %s", text[DW_WRAP], text[DW_BACK]) : str_intern(e->cx, "");
        if (c->finish) more = str_format(e->cx, ", %s, %s + (%s)%s%s%s%s", text[DW_OUT_ROW], text[DW_BIAS], text[DW_BIAS_AT], c->low ? ", " : "", c->low ? text[DW_LOW] : "", c->high ? ", " : "",
                                         c->high ? text[DW_HIGH] : "");
        Str out_at = c->finish ? str_format(e->cx, " + (%s)", text[DW_OUT_AT]) : str_intern(e->cx, "");
        cw_line(e->w, "%s(%s%s + (%s), %s, %s, %s, %s + (%s), %s%s%s%s%s%s);", literal ? depthwise_function(e, c, a, n) : depthwise_choice(e, c, a), str_text(e->cx, first), text[DW_A],
                text[DW_A_AT], text[DW_A_X], text[DW_A_Y], text[DW_TAPS_Y], text[DW_B], text[DW_B_AT], text[DW_OUT], str_text(e->cx, out_at), has_zero(a) ? ", " : "", has_zero(a) ? text[DW_ZERO] : "", str_text(e->cx, ring), c->finish ? str_text(e->cx, more) : "");
        break;
    }
    }
}
