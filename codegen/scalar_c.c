/* The scalar functions of ir/scalars.def in C. Every one is defined for every input: integers wrap around through
 * unsigned arithmetic, division by zero gives 0, shifts past the width give 0, float to integer saturates, NaN wins in
 * min and max. What plain C does right is printed as plain C; the rest calls a helper `static inline` function, made
 * from a template for its type and put into the file once:
 *
 *     lathe_div_i32(a, b)        from        $T lathe_div_$S($T a, $T b) { … }
 *
 * Float functions with a runtime/ implementation (lathe_exp_f32 …) come from there; the others are libm's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "codegen/emit.h"

const char *emit_ctype(DType t) { return t == DT_BOOL ? "int" : dtype_ctype(t); }

/* ---- templates: $T the C type, $S its short name, $W an unsigned type at least 32 bits wide, $B its bits, $F the
 *      suffix of libm functions ("f" or ""), $L suffix of float literals ------------------------------------------------ */
typedef struct Template { const char *op, *classes, *text; } Template;
static const Template templates[] = {
    {"add", "IU", "static inline $T lathe_add_$S($T a, $T b) {\n    return ($T)(($W)a + ($W)b);\n}\n"},
    {"sub", "IU", "static inline $T lathe_sub_$S($T a, $T b) {\n    return ($T)(($W)a - ($W)b);\n}\n"},
    {"mul", "IU", "static inline $T lathe_mul_$S($T a, $T b) {\n    return ($T)(($W)a * ($W)b);\n}\n"},
    {"neg", "IU", "static inline $T lathe_neg_$S($T a) {\n    return ($T)(0u - ($W)a);\n}\n"},
    {"abs", "I", "static inline $T lathe_abs_$S($T a) {\n    return ($T)(a < 0 ? ($T)(0u - ($W)a) : a);\n}\n"},
    {"sign", "I", "static inline $T lathe_sign_$S($T a) {\n    return ($T)((a > 0) - (a < 0));\n}\n"},
    {"div", "I", "static inline $T lathe_div_$S($T a, $T b) { /* x / 0 is 0 */\n    return ($T)(b == 0 ? ($T)0 : b == -1 ? ($T)(0u - ($W)a) : ($T)(a / b));\n}\n"},
    {"div", "U", "static inline $T lathe_div_$S($T a, $T b) { /* x / 0 is 0 */\n    return ($T)(b == 0 ? ($T)0 : ($T)(a / b));\n}\n"},
    {"floordiv", "I",
     "static inline $T lathe_floordiv_$S($T a, $T b) { /* toward minus infinity; x / 0 is 0 */\n    if (b == 0 || b == -1) return ($T)(b == 0 ? ($T)0 : ($T)(0u - ($W)a));\n"
     "    const $T q = ($T)(a / b);\n    return ($T)(q - (a % b != 0 && (a < 0) != (b < 0)));\n}\n"},
    {"floordiv", "U", "static inline $T lathe_floordiv_$S($T a, $T b) { /* x / 0 is 0 */\n    return ($T)(b == 0 ? ($T)0 : ($T)(a / b));\n}\n"},
    {"floordiv", "F",
     "static inline $T lathe_floordiv_$S($T a, $T b) { /* of the quotient before it is rounded to $T */\n    return ($T)floor((double)a / (double)b);\n}\n"},
    {"fmod", "I", "static inline $T lathe_fmod_$S($T a, $T b) { /* sign of a; x % 0 is 0 */\n    return ($T)(b == 0 || b == -1 ? ($T)0 : ($T)(a % b));\n}\n"},
    {"fmod", "U", "static inline $T lathe_fmod_$S($T a, $T b) { /* x % 0 is 0 */\n    return ($T)(b == 0 ? ($T)0 : ($T)(a % b));\n}\n"},
    {"mod", "I",
     "static inline $T lathe_mod_$S($T a, $T b) { /* sign of b; x % 0 is 0 */\n    if (b == 0 || b == -1) return 0;\n    const $T r = ($T)(a % b);\n"
     "    return ($T)(r != 0 && (r < 0) != (b < 0) ? ($T)(r + b) : r);\n}\n"},
    {"mod", "U", "static inline $T lathe_mod_$S($T a, $T b) { /* x % 0 is 0 */\n    return ($T)(b == 0 ? ($T)0 : ($T)(a % b));\n}\n"},
    {"pow", "I",
     "static inline $T lathe_pow_$S($T a, $T b) { /* wraps around; 1 / a^n truncates */\n    if (b < 0) return ($T)(a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0);\n"
     "    $W r = 1, x = ($W)a;\n    for (; b != 0; b = ($T)(b >> 1)) {\n        if (b & 1) r *= x;\n        x *= x;\n    }\n    return ($T)r;\n}\n"},
    {"pow", "U",
     "static inline $T lathe_pow_$S($T a, $T b) { /* wraps around */\n    $W r = 1, x = ($W)a;\n    for (; b != 0; b = ($T)(b >> 1)) {\n        if (b & 1) r *= x;\n        x *= x;\n    }\n"
     "    return ($T)r;\n}\n"},
    {"min", "IU", "static inline $T lathe_min_$S($T a, $T b) {\n    return ($T)(a < b ? a : b);\n}\n"},
    {"max", "IU", "static inline $T lathe_max_$S($T a, $T b) {\n    return ($T)(a > b ? a : b);\n}\n"},
    {"shl", "I", "static inline $T lathe_shl_$S($T a, $T b) {\n    return ($T)(b >= 0 && b < $B ? ($T)(($W)a << b) : ($T)0);\n}\n"},
    {"shl", "U", "static inline $T lathe_shl_$S($T a, $T b) {\n    return ($T)(b < $Bu ? ($T)(($W)a << b) : ($T)0);\n}\n"},
    {"shr", "I", "static inline $T lathe_shr_$S($T a, $T b) {\n    return ($T)(($T)(a >> (b >= 0 && b < $B ? b : $B - 1)));\n}\n"},
    {"shr", "U", "static inline $T lathe_shr_$S($T a, $T b) {\n    return ($T)(b < $Bu ? ($T)(a >> b) : ($T)0);\n}\n"},
    {"min", "F", "static inline $T lathe_min_$S($T a, $T b) { /* NaN wins */\n    return ((a < b) | (a != a)) ? a : b;\n}\n"},
    {"max", "F", "static inline $T lathe_max_$S($T a, $T b) { /* NaN wins */\n    return ((a > b) | (a != a)) ? a : b;\n}\n"},
    {"at_least", "F", "static inline $T lathe_at_least_$S($T x, $T low) { /* low is neither NaN nor 0; NaN stays */\n    return low > x ? low : x;\n}\n"},
    {"at_most", "F", "static inline $T lathe_at_most_$S($T x, $T high) { /* high is neither NaN nor 0; NaN stays */\n    return high < x ? high : x;\n}\n"},
    {"sign", "F", "static inline $T lathe_sign_$S($T a) { /* NaN stays */\n    return a != a ? a : ($T)((a > 0) - (a < 0));\n}\n"},
    {"mod", "F",
     "static inline $T lathe_mod_$S($T a, $T b) { /* sign of b */\n    const $T r = fmod$F(a, b);\n    return r != 0 && (r < 0) != (b < 0) ? r + b : r;\n}\n"},
    {"sigmoid", "F", "static inline $T lathe_sigmoid_$S($T x) {\n    const $T y = exp$F(-fabs$F(x));\n    return (x < 0 ? y : 1.0$L) / (1.0$L + y);\n}\n"},
    {"isnan", "F", "static inline int lathe_isnan_$S($T x) {\n    return x != x;\n}\n"},
    {"isinf", "F", "static inline int lathe_isinf_$S($T x) {\n    return (x - x != 0) & (x == x);\n}\n"},
    /* checks: the fault bits of a kernel are collected in a local and reported once, at its end */
    {"index", "I",
     "static inline int64_t lathe_index(int64_t i, int64_t n, int *fault) { /* i when 0 <= i < n, else a fault and 0 */\n    const int ok = (i >= 0) & (i < n);\n"
     "    *fault |= !ok << 3;\n    return ok ? i : 0;\n}\n"},
    {"fault", "I",
     "static inline int lathe_fault(int code) { /* the fault bit of an error code of runtime code */\n    return code == 0 ? 0 : code > 0 && code < 31 ? 1 << code : 1 << 6;\n}\n"},
    {"share", "I",
     "static inline int64_t lathe_share(int64_t n, int64_t grain, int64_t part, int64_t parts) { /* where part begins when n is split in multiples of grain */\n"
     "    const int64_t grains = (n + grain - 1) / grain, begin = grain * (grains / parts * part + (part < grains % parts ? part : grains % parts));\n    return begin < n ? begin : n;\n}\n"},
};

static void instantiate(Emit *e, const Template *t, DType d) {
    bool wide = dtype_bits(d) == 64;
    for (const char *p = t->text; *p != 0; p++) {
        if (*p != '$') {
            cw_text(&e->helpers, p, 1);
            continue;
        }
        switch (*++p) {
        case 'T': cw_printf(&e->helpers, "%s", dtype_ctype(d)); break;
        case 'S': cw_printf(&e->helpers, "%s", dtype_text(d)); break;
        case 'W': cw_printf(&e->helpers, "%s", wide ? "uint64_t" : "uint32_t"); break;
        case 'B': cw_printf(&e->helpers, "%u", dtype_bits(d)); break;
        case 'F': cw_printf(&e->helpers, "%s", d == DT_F32 ? "f" : ""); break;
        case 'L': cw_printf(&e->helpers, "%s", d == DT_F32 ? "f" : ""); break;
        }
    }
    cw_printf(&e->helpers, "\n");
}

bool emit_once(Emit *e, Str name) {
    for (uint32_t i = 0; i < e->helper_names.n; i++)
        if (e->helper_names.v[i] == name) return false;
    vec_push(&e->cx->scratch, &e->helper_names, name);
    return true;
}

const char *emit_scalar_helper(Emit *e, const char *op, DType d) {
    bool untyped = strcmp(op, "index") == 0 || strcmp(op, "share") == 0 || strcmp(op, "fault") == 0;
    Str name = untyped ? str_format(e->cx, "lathe_%s", op) : str_format(e->cx, "lathe_%s_%s", op, dtype_text(d));
    if (!emit_once(e, name)) return str_text(e->cx, name);
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        if (strcmp(templates[i].op, op) != 0 || strchr(templates[i].classes, dtype_class(d)) == NULL) continue;
        if (d == DT_F32 && strcmp(op, "sigmoid") == 0) continue; /* runtime/ has a better one */
        instantiate(e, &templates[i], d);
        return str_text(e->cx, name);
    }
    emit_need(e, str_text(e->cx, name));
    return str_text(e->cx, name);
}

/* Float to integer, saturating, NaN to 0. */
const char *emit_cast_helper(Emit *e, DType to, DType from) {
    Str name = str_format(e->cx, "lathe_%s_from_%s", dtype_text(to), dtype_text(from));
    if (!emit_once(e, name)) return str_text(e->cx, name);
    bool is_signed = dtype_class(to) == 'I', single = from == DT_F32;
    unsigned bits = dtype_bits(to);
    double hi = ldexp(1, (int)(is_signed ? bits - 1 : bits)), lo = is_signed ? -hi : 0;
    char max[32];
    snprintf(max, sizeof max, "%s%u_MAX", is_signed ? "INT" : "UINT", bits);
    const char *f = single ? "f" : "";
    cw_printf(&e->helpers, "static inline %s %s(%s x) { /* saturates; NaN gives 0 */\n", dtype_ctype(to), str_text(e->cx, name), dtype_ctype(from));
    cw_printf(&e->helpers, "    const int over = x >= %.1f%s, under = x < %.1f%s;\n", hi, f, lo, f);
    cw_printf(&e->helpers, "    const %s r = (%s)(((x == x) & !over & !under) ? x : 0.0%s);\n", dtype_ctype(to), dtype_ctype(to), f);
    if (is_signed) cw_printf(&e->helpers, "    return over ? %s : under ? INT%u_MIN : r;\n}\n\n", max, bits);
    else cw_printf(&e->helpers, "    return over ? %s : r;\n}\n\n", max);
    return str_text(e->cx, name);
}

static const char *bitcast_helper(Emit *e, DType to, DType from) {
    Str name = str_format(e->cx, "lathe_%s_bits_%s", dtype_text(to), dtype_text(from));
    if (!emit_once(e, name)) return str_text(e->cx, name);
    cw_printf(&e->helpers, "static inline %s %s(%s x) { /* the same bits */\n    %s y;\n    memcpy(&y, &x, sizeof y);\n    return y;\n}\n\n", dtype_ctype(to),
              str_text(e->cx, name), dtype_ctype(from), dtype_ctype(to));
    return str_text(e->cx, name);
}

const char *emit_small_encode(Emit *e, DType storage) {
    Str name = str_format(e->cx, "lathe_%s_from_f32", dtype_text(storage));
    emit_need(e, str_text(e->cx, name));
    return str_text(e->cx, name);
}

const char *emit_small_decode(Emit *e, DType storage) {
    Str name = str_format(e->cx, "lathe_f32_from_%s", dtype_text(storage));
    emit_need(e, str_text(e->cx, name));
    return str_text(e->cx, name);
}

/* ---- constants ------------------------------------------------------------------------------------------------------- */
static void float_literal(Writer *w, DType t, double v, int prec) {
    if (isnan(v) || isinf(v)) {
        bool minus = isinf(v) && v < 0;
        if (t == DT_F32) cw_printf(w, minus ? (prec > 14 ? "(-INFINITY)" : "-INFINITY") : isnan(v) ? "NAN" : "INFINITY");
        else cw_printf(w, prec > 14 ? "(%s(double)%s)" : "%s(double)%s", minus ? "-" : "", isnan(v) ? "NAN" : "INFINITY");
        return;
    }
    char text[40];
    for (int digits = t == DT_F32 ? 6 : 15; digits <= 17; digits++) { /* the shortest that reads back the same */
        snprintf(text, sizeof text, "%.*g", digits, v);
        double back = strtod(text, NULL);
        if (t == DT_F32 ? (float)back == (float)v : back == v) break;
    }
    if (strpbrk(text, ".e") == NULL) strcat(text, ".0");
    bool wrap = text[0] == '-' && prec > 13;
    cw_printf(w, "%s%s%s%s", wrap ? "(" : "", text, t == DT_F32 ? "f" : "", wrap ? ")" : "");
}

void emit_constant(Writer *w, DType t, const Expr *x, int prec) {
    if (dtype_is_float(t)) {
        float_literal(w, t, x->c.f, prec);
        return;
    }
    int64_t v = x->c.i;
    if (dtype_class(t) == 'C') {
        cw_printf(w, "%s_real(%lld)", dtype_ctype(t), (long long)v);
    } else if (t == DT_U64 || t == DT_U32) {
        cw_printf(w, "%lluu", (unsigned long long)(t == DT_U32 ? (uint64_t)(uint32_t)v : (uint64_t)v));
    } else if (v == INT64_MIN) {
        cw_printf(w, "INT64_MIN");
    } else if (v == INT32_MIN) {
        cw_printf(w, t == DT_I64 ? "(int64_t)INT32_MIN" : "INT32_MIN");
    } else {
        cw_printf(w, v < 0 && prec > 13 ? "(%lld)" : "%lld", (long long)v);
    }
}

/* ---- functions ------------------------------------------------------------------------------------------------------- */
enum { P_NONE = 0, P_COND = 3, P_OR = 6, P_XOR = 7, P_AND = 8, P_EQ = 9, P_REL = 10, P_ADD = 12, P_MUL = 13, P_UNARY = 14, P_PRIMARY = 15 };

static void open_paren(Writer *w, bool yes) { if (yes) cw_printf(w, "("); }
static void close_paren(Writer *w, bool yes) { if (yes) cw_printf(w, ")"); }

static void infix(Emit *e, Writer *w, const Item *it, const char *op, int own, int left, int right, int prec) {
    open_paren(w, prec > own);
    emit_item(e, w, it->arg[0], left);
    cw_printf(w, " %s ", op);
    emit_item(e, w, it->arg[1], right);
    close_paren(w, prec > own);
}

static void call(Emit *e, Writer *w, const Item *it, const char *name) {
    cw_printf(w, "%s(", name);
    for (uint32_t i = 0; i < it->n_arg; i++) {
        if (i != 0) cw_printf(w, ", ");
        emit_item(e, w, it->arg[i], P_NONE);
    }
    cw_printf(w, ")");
}

static void cast_text(Emit *e, Writer *w, const char *type, const Item *a, int prec) {
    open_paren(w, prec > P_UNARY);
    cw_printf(w, "(%s)", type);
    emit_item(e, w, a, P_UNARY);
    close_paren(w, prec > P_UNARY);
}

/* Is plain C arithmetic right: floats, 64-bit index arithmetic that stays in range, unsigned of int's width and more. */
static bool plain(const Emit *e, const Item *it) {
    DType t = (DType)it->x->dtype;
    if (dtype_is_float(t) || t == DT_U32 || t == DT_U64) return true;
    if (t != DT_I64 && t != DT_I32) return false;
    int64_t lo, hi;
    ex_range(e->k, e->cx, it->x, &lo, &hi);
    if (t == DT_I64) return lo != INT64_MIN && hi != INT64_MAX;
    return lo > INT32_MIN && hi < INT32_MAX; /* the range of a sum that can wrap is the whole type */
}

static bool non_negative(const Emit *e, const Expr *x) {
    int64_t lo, hi;
    ex_range(e->k, e->cx, x, &lo, &hi);
    return lo >= 0;
}

static void arithmetic(Emit *e, Writer *w, const Item *it, int prec) {
    DType t = (DType)it->x->dtype;
    bool is_float = dtype_is_float(t);
    const Expr *b = it->n_arg > 1 ? it->x->arg[1] : NULL;
    switch ((Fn)it->x->fn) {
    case FN_ADD:
        if (!plain(e, it)) break;
        if (!is_float && b->kind == E_CONST && b->c.i < 0 && b->c.i != INT64_MIN && t != DT_U32 && t != DT_U64) {
            open_paren(w, prec > P_ADD);
            emit_item(e, w, it->arg[0], P_ADD);
            cw_printf(w, " - %lld", (long long)-b->c.i);
            close_paren(w, prec > P_ADD);
        } else if (!is_float && it->arg[1]->name < 0 && b->kind == E_FN && b->fn == FN_MUL && ex_is_const(b->arg[1], -1)) {
            open_paren(w, prec > P_ADD);
            emit_item(e, w, it->arg[0], P_ADD);
            cw_printf(w, " - ");
            emit_item(e, w, it->arg[1]->arg[0], P_MUL);
            close_paren(w, prec > P_ADD);
        } else {
            infix(e, w, it, "+", P_ADD, P_ADD, is_float ? P_MUL : P_ADD, prec);
        }
        return;
    case FN_SUB:
        if (!plain(e, it)) break;
        infix(e, w, it, "-", P_ADD, P_ADD, P_MUL, prec);
        return;
    case FN_MUL:
        if (!plain(e, it)) break;
        if (!is_float && t != DT_U32 && t != DT_U64 && ex_is_const(b, -1)) {
            open_paren(w, prec > P_UNARY);
            cw_printf(w, "-");
            emit_item(e, w, it->arg[0], P_PRIMARY);
            close_paren(w, prec > P_UNARY);
        } else {
            infix(e, w, it, "*", P_MUL, P_MUL, P_UNARY, prec);
        }
        return;
    case FN_DIV:
        if (is_float || (b->kind == E_CONST && b->c.i > 0 && (t == DT_I64 || t == DT_I32))) {
            infix(e, w, it, "/", P_MUL, P_MUL, P_UNARY, prec);
            return;
        }
        break;
    case FN_FLOORDIV: case FN_MOD:
        if (!is_float && b->kind == E_CONST && b->c.i > 0 && (t == DT_I64 || t == DT_I32) && non_negative(e, it->x->arg[0])) {
            infix(e, w, it, it->x->fn == FN_MOD ? "%" : "/", P_MUL, P_MUL, P_UNARY, prec);
            return;
        }
        if (t == DT_I64 && b->kind == E_DIM && non_negative(e, it->x->arg[0]) && dim_lo(e->cx, b->ref) > 0) {
            infix(e, w, it, it->x->fn == FN_MOD ? "%" : "/", P_MUL, P_MUL, P_UNARY, prec);
            return;
        }
        break;
    case FN_FMOD:
        if (is_float) {
            call(e, w, it, t == DT_F32 ? "fmodf" : "fmod");
            return;
        }
        break;
    case FN_POW:
        if (is_float) {
            call(e, w, it, t == DT_F32 ? emit_scalar_helper(e, "pow", t) : "pow");
            return;
        }
        break;
    case FN_NEG:
        if (is_float) {
            open_paren(w, prec > P_UNARY);
            cw_printf(w, "-");
            emit_item(e, w, it->arg[0], P_PRIMARY);
            close_paren(w, prec > P_UNARY);
            return;
        }
        break;
    case FN_ABS:
        if (is_float) {
            call(e, w, it, t == DT_F32 ? "fabsf" : "fabs");
            return;
        }
        if (dtype_class(t) == 'U') {
            emit_item(e, w, it->arg[0], prec);
            return;
        }
        break;
    case FN_SIGN:
        if (dtype_class(t) == 'U') {
            open_paren(w, prec > P_UNARY);
            cw_printf(w, "(%s)(", emit_ctype(t));
            emit_item(e, w, it->arg[0], P_EQ + 1);
            cw_printf(w, " != 0)");
            close_paren(w, prec > P_UNARY);
            return;
        }
        break;
    case FN_MIN: case FN_MAX: /* with a constant that is not 0, which has a sign, one comparison does */
        if (is_float && it->x->arg[1]->kind == E_CONST && fabs(it->x->arg[1]->c.f) > 1e-37) {
            call(e, w, it, emit_scalar_helper(e, it->x->fn == FN_MAX ? "at_least" : "at_most", t));
            return;
        }
        break;
    default: break; /* the others of class ARITH are helpers for every type */
    }
    call(e, w, it, emit_scalar_helper(e, fn_text((Fn)it->x->fn), t));
}

/* bool arithmetic happens on 0 and 1 in an int. */
static void logic(Emit *e, Writer *w, const Item *it, int prec) {
    switch ((Fn)it->x->fn) {
    case FN_AND: case FN_MUL: case FN_MIN: infix(e, w, it, "&", P_AND, P_UNARY, P_UNARY, prec); return;
    case FN_OR: case FN_ADD: case FN_MAX: infix(e, w, it, "|", P_OR, P_UNARY, P_UNARY, prec); return;
    case FN_XOR: case FN_SUB: infix(e, w, it, "^", P_XOR, P_UNARY, P_UNARY, prec); return;
    case FN_NOT:
        open_paren(w, prec > P_UNARY);
        cw_printf(w, "!");
        emit_item(e, w, it->arg[0], P_PRIMARY);
        close_paren(w, prec > P_UNARY);
        return;
    default: emit_item(e, w, it->arg[0], prec); return; /* abs, sign: the value itself */
    }
}

static void bits(Emit *e, Writer *w, const Item *it, int prec) {
    DType t = (DType)it->x->dtype;
    bool small = dtype_bits(t) < 32;
    const char *op = it->x->fn == FN_AND ? "&" : it->x->fn == FN_OR ? "|" : "^";
    if (it->x->fn == FN_SHL || it->x->fn == FN_SHR) {
        call(e, w, it, emit_scalar_helper(e, fn_text((Fn)it->x->fn), t));
        return;
    }
    open_paren(w, prec > P_UNARY && (small || it->x->fn == FN_NOT));
    if (small) cw_printf(w, "(%s)(", emit_ctype(t));
    if (it->x->fn == FN_NOT) {
        cw_printf(w, "~");
        emit_item(e, w, it->arg[0], P_PRIMARY);
    } else {
        int own = it->x->fn == FN_AND ? P_AND : it->x->fn == FN_OR ? P_OR : P_XOR;
        infix(e, w, it, op, own, P_UNARY, P_UNARY, small ? P_NONE : prec);
    }
    if (small) cw_printf(w, ")");
    close_paren(w, prec > P_UNARY && (small || it->x->fn == FN_NOT));
}

/* The function of runtime/math_f32.h for fn, the fast one where there is one and --fast-math asks for it. */
static const char *float_helper(Emit *e, Fn fn) {
    if (e->m->options == NULL || !e->m->options->fast_math) return fn_text(fn);
    switch (fn) {
    case FN_EXP: case FN_EXP_BELOW: return "exp_fast";
    case FN_TANH: return "tanh_fast";
    case FN_SIGMOID: return "sigmoid_fast";
    case FN_SIN: return "sin_fast";
    case FN_COS: return "cos_fast";
    default: return fn_text(fn);
    }
}

static void float_function(Emit *e, Writer *w, const Item *it, int prec) {
    DType t = (DType)it->x->dtype;
    const char *f = t == DT_F32 ? "f" : "";
    switch ((Fn)it->x->fn) {
    case FN_FMA:
        open_paren(w, prec > P_ADD);
        emit_item(e, w, it->arg[0], P_MUL);
        cw_printf(w, " * ");
        emit_item(e, w, it->arg[1], P_UNARY);
        cw_printf(w, " + ");
        emit_item(e, w, it->arg[2], P_MUL);
        close_paren(w, prec > P_ADD);
        return;
    case FN_RECIP:
        open_paren(w, prec > P_MUL);
        cw_printf(w, "1.0%s / ", f);
        emit_item(e, w, it->arg[0], P_UNARY);
        close_paren(w, prec > P_MUL);
        return;
    case FN_FLOOR: case FN_CEIL: case FN_RINT: case FN_TRUNC: case FN_TAN: case FN_ASIN: case FN_ACOS: case FN_ATAN: case FN_SINH: case FN_COSH:
    case FN_ASINH: case FN_ACOSH: case FN_ATANH:
        call(e, w, it, str_text(e->cx, str_format(e->cx, "%s%s", fn_text((Fn)it->x->fn), f)));
        return;
    case FN_SIGMOID:
        call(e, w, it, emit_scalar_helper(e, t == DT_F32 ? float_helper(e, FN_SIGMOID) : "sigmoid", t));
        return;
    default: /* exp, log, …: our own vectorisable functions for float, libm for double */
        if (t == DT_F32) call(e, w, it, emit_scalar_helper(e, float_helper(e, (Fn)it->x->fn), t));
        else call(e, w, it, it->x->fn == FN_EXP_BELOW ? "exp" : fn_text((Fn)it->x->fn));
        return;
    }
}

/* Is x the float `lesser(greater(y, low), high)` in the form of quantization (passes/lower/quantize.c), within the range of
 * a type of at most 16 bits? Then C's own cast is defined for it. */
static bool is_clamped(const Expr *x, DType to) {
    const Expr *const *a = (const Expr *const *)x->arg;
    if (x->kind != E_FN || x->fn != FN_SELECT || a[0]->kind != E_FN || a[0]->fn != FN_LT || a[0]->arg[0] != a[1] || a[0]->arg[1] != a[2]) return false;
    const Expr *y = a[1], *high = a[2];
    if (y->kind != E_FN || y->fn != FN_SELECT || y->arg[0]->kind != E_FN || y->arg[0]->fn != FN_GT || y->arg[0]->arg[0] != y->arg[1] || y->arg[0]->arg[1] != y->arg[2]) return false;
    const Expr *low = y->arg[2];
    uint32_t bits = dtype_bits(to);
    if (bits > 16 || low->kind != E_CONST || high->kind != E_CONST) return false;
    double least = dtype_class(to) == 'U' ? 0 : -(double)(1 << (bits - 1)), most = (double)(1 << (dtype_class(to) == 'U' ? bits : bits - 1)) - 1;
    return low->c.f >= least && high->c.f <= most && low->c.f <= high->c.f;
}

static void cast(Emit *e, Writer *w, const Item *it, int prec) {
    DType to = (DType)it->x->dtype, from = (DType)it->x->arg[0]->dtype;
    if (to == from) {
        emit_item(e, w, it->arg[0], prec);
    } else if (to == DT_BOOL) {
        open_paren(w, prec > P_EQ);
        emit_item(e, w, it->arg[0], P_EQ + 1);
        cw_printf(w, dtype_is_float(from) ? (from == DT_F32 ? " != 0.0f" : " != 0.0") : " != 0");
        close_paren(w, prec > P_EQ);
    } else if (dtype_is_float(from) && dtype_is_int(to) && is_clamped(it->x->arg[0], to)) {
        cast_text(e, w, dtype_ctype(to), it->arg[0], prec);
    } else if (dtype_is_float(from) && dtype_is_int(to)) {
        call(e, w, it, emit_cast_helper(e, to, from));
    } else {
        cast_text(e, w, dtype_ctype(to), it->arg[0], prec);
    }
}

static void special(Emit *e, Writer *w, const Item *it, int prec) {
    const Expr *x = it->x;
    bool narrow;
    switch ((Fn)x->fn) {
    case FN_SELECT:
        narrow = dtype_is_int((DType)x->dtype) && dtype_bits((DType)x->dtype) < 32; /* C made an int of it */
        if (narrow) cw_printf(w, "(%s)", emit_ctype((DType)x->dtype));
        open_paren(w, prec > P_COND || narrow);
        emit_item(e, w, it->arg[0], P_EQ);
        cw_printf(w, " ? ");
        emit_item(e, w, it->arg[1], P_COND + 1);
        cw_printf(w, " : ");
        emit_item(e, w, it->arg[2], P_COND);
        close_paren(w, prec > P_COND || narrow);
        return;
    case FN_CAST: cast(e, w, it, prec); return;
    case FN_ROUND_TO: {
        DType storage = (DType)x->c.i;
        if (dtype_is_int(storage)) { /* packed integers keep their low bits */
            Str name = str_format(e->cx, "lathe_wrap_%s", dtype_text(storage));
            emit_need(e, str_text(e->cx, name));
            call(e, w, it, str_text(e->cx, name));
            return;
        }
        const char *encode = emit_small_encode(e, storage), *decode = emit_small_decode(e, storage);
        cw_printf(w, "%s(%s(", decode, encode);
        emit_item(e, w, it->arg[0], P_NONE);
        cw_printf(w, "))");
        return;
    }
    case FN_BITCAST: call(e, w, it, bitcast_helper(e, (DType)x->dtype, (DType)x->arg[0]->dtype)); return;
    case FN_INDEX:
        e->uses_fault = true;
        cw_printf(w, "%s(", emit_scalar_helper(e, "index", DT_I64));
        emit_item(e, w, it->arg[0], P_NONE);
        cw_printf(w, ", ");
        emit_item(e, w, it->arg[1], P_NONE);
        cw_printf(w, ", &fault)");
        return;
    case FN_REQUIRE: /* the comma operator keeps it an expression */
        e->uses_fault = true;
        cw_printf(w, "(fault |= !(");
        emit_item(e, w, it->arg[0], P_NONE);
        cw_printf(w, ") << %d, ", (int)x->c.i);
        emit_item(e, w, it->arg[1], P_COND);
        cw_printf(w, ")");
        return;
    default: context_escape(e->cx, "a scalar function of class SPECIAL without C spelling");
    }
}

void emit_scalar(Emit *e, Writer *w, const Item *it, int prec) {
    static const struct { Fn fn; const char *op; int prec; } compare[] = {
        {FN_EQ, "==", P_EQ}, {FN_NE, "!=", P_EQ}, {FN_LT, "<", P_REL}, {FN_LE, "<=", P_REL}, {FN_GT, ">", P_REL}, {FN_GE, ">=", P_REL}};
    DType t = (DType)it->x->dtype;
    switch (fn_class((Fn)it->x->fn)) {
    case FC_ARITH:
        if (t == DT_BOOL) logic(e, w, it, prec);
        else arithmetic(e, w, it, prec);
        return;
    case FC_BITS:
        if (t == DT_BOOL) logic(e, w, it, prec);
        else bits(e, w, it, prec);
        return;
    case FC_FLOAT: float_function(e, w, it, prec); return;
    case FC_COMPARE:
        if (it->x->arg[0]->dtype == DT_STRING) {
            emit_need(e, "lathe_string_compare");
            cw_printf(w, "(lathe_string_compare(");
            emit_item(e, w, it->arg[0], P_NONE);
            cw_printf(w, ", ");
            emit_item(e, w, it->arg[1], P_NONE);
            cw_printf(w, ")");
            for (size_t i = 0; i < sizeof compare / sizeof *compare; i++)
                if (compare[i].fn == it->x->fn) cw_printf(w, " %s 0)", compare[i].op);
            return;
        }
        for (size_t i = 0; i < sizeof compare / sizeof *compare; i++)
            if (compare[i].fn == it->x->fn) infix(e, w, it, compare[i].op, compare[i].prec, P_ADD, P_ADD, prec);
        return;
    case FC_TEST:
        if (it->x->fn == FN_ISINF) {
            call(e, w, it, emit_scalar_helper(e, "isinf", (DType)it->x->arg[0]->dtype));
            return;
        }
        cw_printf(w, "%s(", emit_scalar_helper(e, "isnan", (DType)it->x->arg[0]->dtype));
        emit_item(e, w, it->arg[0], P_NONE);
        cw_printf(w, ")");
        return;
    case FC_SPECIAL: special(e, w, it, prec); return;
    }
}
