/* Reads the text form of the graph IR: ir/text.c says what it looks like.
 *
 * Any input is accepted as input: nesting is bounded, memory is bounded by the length of the text, every error has line and
 * column, and parsing goes on after the statement with the error so that several are reported at once. Names may be used
 * before their definition; whether that is right is for the verifier. */
#include "base/map.h"
#include "ir/graph.h"
#include "ir/text_number.h"

enum { NESTING_MAX = 64, ERROR_MAX = 50 };

/* ---- lexing ----------------------------------------------------------------------------------------------------- */
typedef enum TokenKind {
    T_END,
    T_NAME,   /* a word: operator, keyword, symbol, `_` */
    T_NUMBER, /* unsigned: the sign is a T_PUNCT */
    T_STRING, /* at, n: between the quotes, escapes untouched */
    T_VALUE,  /* %name, %name#2, %7 */
    T_AT,     /* @name */
    T_BLOB,   /* #3 */
    T_ARROW,
    T_DOTS,
    T_PUNCT,
    T_BAD     /* reported by the lexer */
} TokenKind;

typedef struct Token {
    TokenKind kind;
    const char *at;
    size_t n;
    uint32_t line, column;
    bool first;      /* on its line */
    Str name;        /* VALUE, AT */
    uint32_t number; /* VALUE: occurrence of a name, number + 1 without one; BLOB */
} Token;

typedef struct Named { Value *value; bool defined; Token use; } Named;
typedef struct Symbol { Dim dim; int64_t lo, hi; bool runtime, declared; } Symbol;
typedef struct Blob { ConstData *data; size_t bytes; Token use; } Blob;

typedef struct Parser {
    Context *cx;
    Module *m;
    const char *file, *text, *end, *pos, *line_start;
    uint32_t line, n_error;
    Token token;       /* the current one */
    bool fresh_line;   /* nothing but space since the last newline */
    int brace;         /* open { before the current token */
    Map value_at;      /* (name, number) -> index in values + 1 */
    VEC(Named) values;
    Map symbol_at;     /* symbol -> index in symbols + 1 */
    VEC(Symbol) symbols;
    VEC(Blob) blobs;   /* mentioned by constants, by number; data NULL: not mentioned */
    uint32_t n_node;
    bool has_graph;
} Parser;

static bool fail(Parser *p, Token at, const char *format, ...) LATHE_PRINTF(3, 4);
static bool fail(Parser *p, Token at, const char *format, ...) {
    if (at.kind == T_BAD || p->n_error++ >= ERROR_MAX) return false;
    Writer w = {.arena = &p->cx->scratch};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    Loc loc = {.file = str_format(p->cx, "%s:%u:%u", p->file, at.line, at.column)};
    diag(p->cx, SEV_ERROR, loc, "%s", cw_cstr(&w));
    return false;
}

/* The text of a token for messages, without control characters and not too long. */
static const char *shown(Parser *p, Token t) {
    if (t.kind == T_END) return "the end of the text";
    Writer w = {.arena = &p->cx->scratch};
    cw_text(&w, "'", 1);
    for (size_t i = 0; i < t.n && i < 40; i++) cw_text(&w, t.at[i] >= ' ' && t.at[i] < 127 ? &t.at[i] : "?", 1);
    cw_text(&w, t.n > 40 ? "...'" : "'", t.n > 40 ? 4 : 1);
    return cw_cstr(&w);
}

static void skip_space(Parser *p) {
    for (; p->pos < p->end; p->pos++) {
        char c = *p->pos;
        if (c == '/' && p->end - p->pos > 1 && p->pos[1] == '/') {
            while (p->pos < p->end && *p->pos != '\n') p->pos++;
            if (p->pos == p->end) return;
            c = '\n';
        }
        if (c == '\n') {
            p->line++;
            p->line_start = p->pos + 1;
            p->fresh_line = true;
        } else if (c != ' ' && c != '\t' && c != '\r') {
            return;
        }
    }
}

/* At an opening quote: the token's at and n become what is between the quotes. */
static bool lex_string(Parser *p, Token *t) {
    t->at = ++p->pos;
    while (p->pos < p->end && *p->pos != '"' && *p->pos != '\n') p->pos += *p->pos == '\\' && p->end - p->pos > 1 ? 2 : 1;
    if (p->pos >= p->end || *p->pos != '"') {
        p->pos = p->pos < p->end ? p->pos : p->end;
        return fail(p, *t, "this string has no end");
    }
    t->n = (size_t)(p->pos++ - t->at);
    return true;
}

static Str unescape(Parser *p, const char *at, size_t n) {
    Writer w = {.arena = &p->cx->scratch};
    for (size_t i = 0; i < n; i++) {
        char c = at[i];
        if (c == '\\' && i + 1 < n) {
            c = at[++i];
            if (c >= '0' && c <= '7') {
                unsigned x = 0;
                for (int k = 0; k < 3 && i < n && at[i] >= '0' && at[i] <= '7'; k++) x = x * 8 + (unsigned)(at[i++] - '0');
                i--;
                c = (char)(unsigned char)x;
            } else if (c == 'n' || c == 't') {
                c = c == 'n' ? '\n' : '\t';
            }
        }
        cw_text(&w, &c, 1);
    }
    return str_intern_n(p->cx, cw_cstr(&w), w.n);
}

static bool lex_digits(Parser *p, Token *t, uint32_t *out) {
    uint64_t x = 0;
    const char *from = p->pos;
    for (; p->pos < p->end && is_digit(*p->pos); p->pos++)
        if (x < UINT32_MAX) x = x * 10 + (uint64_t)(*p->pos - '0');
    if (p->pos == from || x >= UINT32_MAX) return fail(p, *t, "a number below 4294967295 is needed after '%.*s'", (int)(from - t->at < 40 ? from - t->at : 40), t->at);
    *out = (uint32_t)x;
    return true;
}

/* After % or @: a bare or quoted name. */
static bool lex_name(Parser *p, Token *t) {
    if (p->pos < p->end && *p->pos == '"') {
        Token s = *t;
        if (!lex_string(p, &s)) return false;
        t->name = unescape(p, s.at, s.n);
        return true;
    }
    const char *from = p->pos;
    while (p->pos < p->end && is_name_char(*p->pos)) p->pos++;
    if (p->pos == from) return fail(p, *t, "a name is needed after '%c'", *t->at);
    t->name = str_intern_n(p->cx, from, (size_t)(p->pos - from));
    return true;
}

static bool lex_value(Parser *p, Token *t) {
    if (p->pos < p->end && is_digit(*p->pos)) {
        if (!lex_digits(p, t, &t->number)) return false;
        t->number++;
        return true;
    }
    if (!lex_name(p, t)) return false;
    if (str_size(p->cx, t->name) == 0) return fail(p, *t, "a value's name cannot be empty");
    t->number = 1;
    if (p->pos >= p->end || *p->pos != '#') return true;
    p->pos++;
    return lex_digits(p, t, &t->number);
}

static void lex_number(Parser *p) {
    bool hex = p->end - p->pos > 1 && p->pos[0] == '0' && (p->pos[1] == 'x' || p->pos[1] == 'X');
    for (; p->pos < p->end; p->pos++) {
        char c = *p->pos;
        bool exponent = (c == '+' || c == '-') && !hex && (p->pos[-1] == 'e' || p->pos[-1] == 'E');
        bool point = c == '.' && !(p->end - p->pos > 1 && p->pos[1] == '.');
        if (!is_letter(c) && !is_digit(c) && !exponent && !point) return;
    }
}

static bool lex(Parser *p, Token *t) {
    char c = *p->pos;
    if (c == '"') return t->kind = T_STRING, lex_string(p, t);
    if (is_digit(c)) return t->kind = T_NUMBER, lex_number(p), true;
    if (is_letter(c)) {
        t->kind = T_NAME;
        while (p->pos < p->end && (is_letter(*p->pos) || is_digit(*p->pos))) p->pos++;
        return true;
    }
    p->pos++;
    if (c == '%') return t->kind = T_VALUE, lex_value(p, t);
    if (c == '@') return t->kind = T_AT, lex_name(p, t);
    if (c == '#') return t->kind = T_BLOB, lex_digits(p, t, &t->number);
    t->kind = T_PUNCT;
    if (p->pos < p->end && ((c == '-' && *p->pos == '>') || (c == '.' && *p->pos == '.'))) {
        p->pos++;
        t->kind = c == '-' ? T_ARROW : T_DOTS;
        return true;
    }
    if (c != 0 && strchr("{}()[]<>,;:=*+-?", c) != NULL) return true;
    return fail(p, *t, "unexpected character %s", shown(p, (Token){.kind = T_PUNCT, .at = t->at, .n = 1}));
}

static void advance(Parser *p) {
    if (p->token.kind == T_PUNCT) p->brace += *p->token.at == '{' ? 1 : *p->token.at == '}' ? -1 : 0;
    skip_space(p);
    Token t = {.kind = T_END, .at = p->pos, .line = p->line, .column = (uint32_t)(p->pos - p->line_start) + 1, .first = p->fresh_line};
    p->fresh_line = false;
    if (p->pos < p->end) {
        bool ok = lex(p, &t);
        if (t.kind != T_STRING) t.n = (size_t)(p->pos - t.at);
        if (!ok) t.kind = T_BAD;
    }
    p->token = t;
}

/* ---- parsing: small pieces -------------------------------------------------------------------------------------- */
static bool at_char(const Parser *p, char c) {
    return p->token.kind == T_PUNCT && *p->token.at == c;
}

static bool token_is(Token t, const char *word) {
    return t.kind == T_NAME && t.n == strlen(word) && memcmp(t.at, word, t.n) == 0;
}

static bool accept(Parser *p, char c) {
    if (!at_char(p, c)) return false;
    advance(p);
    return true;
}

static bool accept_word(Parser *p, const char *word) {
    if (!token_is(p->token, word)) return false;
    advance(p);
    return true;
}

static bool expect(Parser *p, char c, const char *where) {
    if (accept(p, c)) return true;
    return fail(p, p->token, "'%c' is needed %s, not %s", c, where, shown(p, p->token));
}

/* The current token, which must be of this kind. */
static bool take(Parser *p, TokenKind kind, const char *what, Token *t) {
    if (p->token.kind != kind) return fail(p, p->token, "%s is needed, not %s", what, shown(p, p->token));
    *t = p->token;
    advance(p);
    return true;
}

static bool parse_string(Parser *p, Str *s) {
    Token t = {0};
    if (!take(p, T_STRING, "a string", &t)) return false;
    *s = unescape(p, t.at, t.n);
    return true;
}

/* An optional sign and a number, inf or nan, as zero-terminated text. */
static bool number_text(Parser *p, char *text, size_t size) {
    bool minus = accept(p, '-');
    Token t = p->token;
    if (t.kind != T_NUMBER && !token_is(t, "inf") && !token_is(t, "nan")) return fail(p, t, "a number is needed, not %s", shown(p, t));
    advance(p);
    if (t.n + 2 > size) return fail(p, t, "this number is too long");
    text[0] = '-';
    memcpy(text + minus, t.at, t.n);
    text[t.n + minus] = 0;
    return true;
}

static bool parse_number(Parser *p, DType d, uint64_t *bits) {
    char text[64];
    Token at = p->token;
    if (!number_text(p, text, sizeof text)) return false;
    return number_read(d, text, bits) || fail(p, at, "%s is not a number of type %s", text, dtype_text(d));
}

static bool parse_i64(Parser *p, int64_t *x) {
    uint64_t bits;
    if (!parse_number(p, DT_I64, &bits)) return false;
    *x = (int64_t)bits;
    return true;
}

static bool parse_f64(Parser *p, double *x) {
    char text[64];
    Token at = p->token;
    if (!number_text(p, text, sizeof text)) return false;
    return number_read_attr(text, x) || fail(p, at, "%s is not a number", text);
}

/* ---- dims and types ---- */
/* While the text is read symbols have no bounds: a dim that was simplified under the printed bounds must not be
 * simplified further. They are set at the end. */
static Symbol *symbol_for(Parser *p, Str name) {
    uint32_t before = dim_symbol_count(p->cx);
    Dim d = dim_symbol(p->cx, name, INT64_MIN, INT64_MAX);
    uint32_t *at = map_at(&p->cx->scratch, &p->symbol_at, d);
    if (*at == 0) {
        bool fresh = dim_symbol_count(p->cx) != before;
        Symbol s = {d, fresh ? 0 : dim_lo(p->cx, d), fresh ? INT64_MAX : dim_hi(p->cx, d), dim_node(p->cx, d)->runtime, false};
        vec_push(&p->cx->scratch, &p->symbols, s);
        *at = p->symbols.n;
    }
    return &p->symbols.v[*at - 1];
}

static bool parse_dim(Parser *p, int depth, Dim *d);

static bool parse_dim_function(Parser *p, Token name, int depth, Dim *d) {
    Dim a, b;
    if (!parse_dim(p, depth + 1, &a) || !expect(p, ',', "between the arguments") || !parse_dim(p, depth + 1, &b) || !expect(p, ')', "after the arguments"))
        return false;
    if (token_is(name, "floordiv")) *d = dim_floordiv(p->cx, a, b);
    else if (token_is(name, "mod")) *d = dim_mod(p->cx, a, b);
    else if (token_is(name, "min")) *d = dim_min(p->cx, a, b);
    else if (token_is(name, "max")) *d = dim_max(p->cx, a, b);
    else return fail(p, name, "%s is not a function of dimensions: floordiv, mod, min, max are", shown(p, name));
    return true;
}

static bool parse_dim_factor(Parser *p, int depth, Dim *d) {
    Token t = p->token;
    if (accept(p, '(')) return parse_dim(p, depth + 1, d) && expect(p, ')', "after the dimension");
    if (t.kind == T_NUMBER) {
        int64_t x;
        if (!parse_i64(p, &x)) return false;
        *d = dim_const(p->cx, x);
        return true;
    }
    if (t.kind != T_NAME && t.kind != T_STRING) return fail(p, t, "a dimension is needed, not %s", shown(p, t));
    advance(p);
    if (t.kind == T_NAME && accept(p, '(')) return parse_dim_function(p, t, depth, d);
    *d = symbol_for(p, t.kind == T_STRING ? unescape(p, t.at, t.n) : str_intern_n(p->cx, t.at, t.n))->dim;
    return true;
}

static bool parse_dim_term(Parser *p, int depth, Dim *d) {
    bool minus = accept(p, '-');
    if (!parse_dim_factor(p, depth, d)) return false;
    while (accept(p, '*')) {
        Dim f;
        if (!parse_dim_factor(p, depth, &f)) return false;
        *d = dim_mul(p->cx, *d, f);
    }
    if (minus) *d = dim_mul(p->cx, *d, dim_const(p->cx, -1));
    return true;
}

static bool parse_dim(Parser *p, int depth, Dim *d) {
    Token at = p->token;
    if (depth > NESTING_MAX) return fail(p, at, "dimensions nest deeper than %d", NESTING_MAX);
    if (depth == 0 && accept(p, '?')) {
        *d = 0;
        return true;
    }
    if (!parse_dim_term(p, depth, d)) return false;
    while (at_char(p, '+') || at_char(p, '-')) {
        bool minus = at_char(p, '-');
        Dim t;
        if (!minus) advance(p);
        if (!parse_dim_term(p, depth, &t)) return false;
        *d = dim_add(p->cx, *d, t);
    }
    return *d != 0 || fail(p, at, "this dimension is too large");
}

/* Comma-separated dims up to the closing bracket. */
static bool parse_dims(Parser *p, uint32_t max, uint32_t *n, Dim **dims) {
    VEC(Dim) list = {0};
    while (!at_char(p, ']')) {
        Dim d;
        Token at = p->token;
        if (list.n != 0 && !expect(p, ',', "between dimensions")) return false;
        if (!parse_dim(p, 0, &d)) return false;
        if (list.n == max) return fail(p, at, "more than %u dimensions", max);
        vec_push(&p->cx->arena, &list, d);
    }
    advance(p);
    *n = list.n;
    *dims = list.n != 0 ? list.v : ARENA_NEW(&p->cx->arena, Dim);
    return true;
}

static bool parse_dtype(Parser *p, DType *d) {
    Token t;
    if (!take(p, T_NAME, "an element type", &t)) return false;
    char text[16] = {0};
    if (t.n < sizeof text) memcpy(text, t.at, t.n);
    *d = dtype_from_text(text);
    return *d != DT_NONE || fail(p, t, "%s is not an element type", shown(p, t));
}

static bool parse_tensor(Parser *p, const Type **type) {
    DType d;
    Dim *dims = NULL;
    uint32_t rank = RANK_UNKNOWN;
    Token at = p->token;
    if (!parse_dtype(p, &d) || !expect(p, '[', "after the element type")) return false;
    if (accept(p, '*')) {
        if (!expect(p, ']', "after '*'")) return false;
    } else {
        if (!parse_dims(p, RANK_MAX, &rank, &dims)) return false;
        for (uint32_t i = 0; i < rank; i++)
            if (dim_is_const(p->cx, dims[i]) && dim_value(p->cx, dims[i]) < 0) return fail(p, at, "dimension %u is negative", i);
    }
    *type = type_tensor(p->cx, d, rank, dims);
    return true;
}

static bool parse_type(Parser *p, int depth, const Type **type) {
    const Type *elem;
    if (depth > NESTING_MAX) return fail(p, p->token, "types nest deeper than %d", NESTING_MAX);
    if (accept(p, '?')) {
        *type = NULL;
        return true;
    }
    if (accept_word(p, "map")) {
        DType key, value;
        if (!expect(p, '<', "after 'map'") || !parse_dtype(p, &key) || !expect(p, ',', "after the key type") || !parse_dtype(p, &value)) return false;
        *type = type_map(p->cx, key, value, 0);
        return expect(p, '>', "after the value type");
    }
    bool sequence = token_is(p->token, "seq");
    if (!sequence && !token_is(p->token, "optional")) return parse_tensor(p, type);
    advance(p);
    if (!expect(p, '<', "before the element's type") || !parse_type(p, depth + 1, &elem)) return false;
    Dim length = 0;
    if (sequence && accept(p, ';') && !parse_dim(p, 0, &length)) return false;
    *type = sequence ? type_sequence(p->cx, elem, length) : type_optional(p->cx, elem);
    return expect(p, '>', "after the element's type");
}

/* ---- constants ---- */
static bool parse_elements(Parser *p, const Type *t, size_t n, ConstData **data) {
    DType d = number_dtype(t->dtype);
    VEC(uint64_t) list = {0};
    Token at = p->token;
    advance(p);
    while (!at_char(p, ']')) {
        uint64_t bits = 0;
        Str s = 0;
        if (list.n != 0 && !expect(p, ',', "between elements")) return false;
        if (d == DT_STRING ? !parse_string(p, &s) : !parse_number(p, d, &bits)) return false;
        if (d == DT_STRING) bits = s;
        vec_push(&p->cx->scratch, &list, bits);
    }
    advance(p);
    if (d != t->dtype) n *= 2;
    if (list.n != n) return fail(p, at, "%u numbers are given, the type has %zu", list.n, n);
    size_t bytes = d == DT_STRING ? n * sizeof(Str) : dtype_bytes(p->cx, d, (int64_t)n);
    char *own = arena_alloc(&p->cx->arena, bytes);
    for (size_t i = 0; i < n; i++) {
        Str s = (Str)list.v[i];
        if (d == DT_STRING) memcpy(own + i * sizeof s, &s, sizeof s);
        else number_set(own, d, i, list.v[i]);
    }
    *data = ARENA_NEW(&p->cx->arena, ConstData);
    **data = (ConstData){.data = own, .bytes = bytes};
    return true;
}

static bool parse_blob_use(Parser *p, const Type *t, size_t n, ConstData **data) {
    Token at = p->token;
    advance(p);
    if (t->dtype == DT_STRING) return fail(p, at, "strings are written in place");
    if (at.number > p->blobs.n) return fail(p, at, "blobs are numbered in order: #%u is next", p->blobs.n);
    if (at.number < p->blobs.n) return fail(p, at, "#%u belongs to another constant", at.number);
    *data = ARENA_NEW(&p->cx->arena, ConstData);
    Blob b = {*data, dtype_bytes(p->cx, t->dtype, (int64_t)n), at};
    vec_push(&p->cx->scratch, &p->blobs, b);
    return true;
}

static bool parse_data(Parser *p, const Type **type, ConstData **data) {
    Token at = p->token;
    if (!parse_type(p, 0, type)) return false;
    Dim numel = *type != NULL && type_is_static(p->cx, *type) ? type_numel(p->cx, *type) : 0;
    if (numel == 0 || dim_value(p->cx, numel) > INT64_MAX / 256) return fail(p, at, "a constant needs a tensor type of constant, moderate size");
    size_t n = (size_t)dim_value(p->cx, numel);
    if (p->token.kind == T_BLOB) return parse_blob_use(p, *type, n, data);
    if (!at_char(p, '[')) return fail(p, p->token, "'[' or '#' is needed before the elements, not %s", shown(p, p->token));
    return parse_elements(p, *type, n, data);
}

static bool parse_blob(Parser *p) {
    Token number = p->token, t;
    advance(p);
    if (!expect(p, '=', "after the blob's number") || !take(p, T_STRING, "base64 in quotes", &t)) return false;
    if (number.number >= p->blobs.n) return fail(p, number, "no constant uses #%u", number.number);
    Blob *b = &p->blobs.v[number.number];
    if (b->data->data != NULL) return fail(p, number, "#%u is defined twice", number.number);
    /* The text bounds what is allocated: a small file cannot ask for much memory. */
    if (t.n / 4 < b->bytes / 3) return fail(p, t, "#%u has less than its %zu bytes", number.number, b->bytes);
    char *own = arena_alloc(&p->cx->arena, b->bytes);
    *b->data = (ConstData){.data = own, .bytes = b->bytes};
    return base64_read(t.at, t.n, own, b->bytes) || fail(p, t, "this is not base64 of %zu bytes", b->bytes);
}

/* ---- values, nodes, graphs -------------------------------------------------------------------------------------- */
/* The value a token names, made when new. Text may use a value before its definition: whether that is right is the
 * verifier's business, only values without any definition are an error here. */
static Named *named(Parser *p, Token t) {
    uint32_t *at = map_at(&p->cx->scratch, &p->value_at, (uint64_t)t.name << 32 | t.number);
    if (*at == 0) {
        Named n = {value_new(p->m, NULL, t.name), false, t};
        vec_push(&p->cx->scratch, &p->values, n);
        *at = p->values.n;
    }
    return &p->values.v[*at - 1];
}

static bool define(Parser *p, Token t, Value **v) {
    Named *n = named(p, t);
    if (n->defined) return fail(p, t, "%s is defined twice", shown(p, t));
    n->defined = true;
    *v = n->value;
    return true;
}

static bool parse_typed(Parser *p, Value *v) {
    if (!parse_type(p, 0, &v->type)) return false;
    v->poison = accept_word(p, "poison");
    if (accept_word(p, "declared") && !parse_type(p, 0, &v->declared)) return false;
    if (!accept(p, '=')) return true;
    Dim *dims;
    if (!expect(p, '[', "before the contents") || !parse_dims(p, UINT32_MAX, &v->n_sym, &dims)) return false;
    for (uint32_t i = 0; i < v->n_sym; i++)
        if (dims[i] == 0) return fail(p, p->token, "known contents cannot hold '?'");
    v->sym = dims;
    return true;
}

typedef VEC(Token) Tokens;

/* %a, _, %b: up to the token that is neither. */
static bool parse_names(Parser *p, bool absent, Tokens *list) {
    do {
        Token t = p->token;
        bool none = token_is(t, "_");
        if (t.kind != T_VALUE && !(absent && none)) return fail(p, t, "a value is needed, not %s", shown(p, t));
        if (list->n == UINT16_MAX) return fail(p, t, "more than %u values", UINT16_MAX);
        vec_push(&p->cx->scratch, list, t);
        advance(p);
    } while (accept(p, ','));
    return true;
}

static bool parse_graph(Parser *p, Graph *g, int depth);

static bool parse_attr_value(Parser *p, Node *n, AttrSlot slot, int depth) {
    Context *cx = p->cx;
    Attr *a = attr_at(n, slot);
    AttrKind kind = attr_info(slot)->kind;
    *a = (Attr){.present = true};
    if (accept_word(p, "_")) {
        a->present = false;
        return true;
    }
    bool list = kind == ATTR_INTS || kind == ATTR_FLOATS || kind == ATTR_STRINGS;
    if (list && !expect(p, '[', "before the list")) return false;
    VEC(int64_t) ints = {0};
    VEC(double) floats = {0};
    VEC(Str) strings = {0};
    for (bool first = true; list && !accept(p, ']'); first = false) {
        int64_t i = 0;
        double f = 0;
        Str s = 0;
        if (!first && !expect(p, ',', "in the list")) return false;
        if (kind == ATTR_INTS ? !parse_i64(p, &i) : kind == ATTR_FLOATS ? !parse_f64(p, &f) : !parse_string(p, &s)) return false;
        vec_push(&cx->arena, &ints, i);
        vec_push(&cx->arena, &floats, f);
        vec_push(&cx->arena, &strings, s);
    }
    switch (kind) {
    case ATTR_INT: return parse_i64(p, &a->i);
    case ATTR_FLOAT: return parse_f64(p, &a->f);
    case ATTR_STRING: return parse_string(p, &a->s);
    case ATTR_INTS: a->ints.v = ints.v, a->ints.n = ints.n; return true;
    case ATTR_FLOATS: a->floats.v = floats.v, a->floats.n = floats.n; return true;
    case ATTR_STRINGS: a->strings.v = strings.v, a->strings.n = strings.n; return true;
    case ATTR_TENSOR: {
        ConstData *data = NULL;
        if (!parse_data(p, &a->tensor.type, &data)) return false;
        a->tensor.data = data;
        return true;
    }
    case ATTR_GRAPH:
        a->graph = graph_new(p->m, n->graph, "");
        return parse_graph(p, a->graph, depth + 1);
    case ATTR_TYPE: return parse_type(p, 0, &a->type);
    }
    return false;
}

/* name = value, ... up to the closing brace. */
static bool parse_attrs(Parser *p, Node *n, int depth) {
    AttrSlot first = (AttrSlot)op_info((Op)n->op)->attr_first;
    bool *given = ARENA_ARRAY(&p->cx->scratch, bool, n->n_attr);
    do {
        Token t;
        uint32_t i = 0;
        if (!take(p, T_NAME, "an attribute's name", &t)) return false;
        while (i < n->n_attr && !token_is(t, attr_info((AttrSlot)(first + i))->name)) i++;
        if (i == n->n_attr) return fail(p, t, "%s has no attribute %s", op_info((Op)n->op)->name, shown(p, t));
        if (given[i]) return fail(p, t, "attribute %s is given twice", shown(p, t));
        given[i] = true;
        if (!expect(p, '=', "after the attribute's name") || !parse_attr_value(p, n, (AttrSlot)(first + i), depth)) return false;
    } while (accept(p, ','));
    return expect(p, '}', "after the attributes");
}

static bool parse_types(Parser *p, Node *n) {
    for (uint32_t i = 0; i < n->n_out; i++) {
        if (i != 0 && !expect(p, ',', "between the types of the outputs")) return false;
        if (n->out[i] == NULL ? !accept_word(p, "_") && !fail(p, p->token, "output %u is left out, its type must be '_'", i) : !parse_typed(p, n->out[i]))
            return false;
    }
    return true;
}

static Op op_find_enum(Token t) {
    for (int op = 1; op < OP_COUNT; op++)
        if (token_is(t, op_info((Op)op)->name)) return (Op)op;
    return OP_NONE;
}

/* Operator(inputs) {attributes} : types @loc */
static bool parse_node(Parser *p, Graph *g, const Tokens *outs, int depth) {
    Context *cx = p->cx;
    Tokens ins = {0};
    Token name;
    if (!take(p, T_NAME, "an operator", &name)) return false;
    Op op = op_find_enum(name);
    if (op == OP_NONE) return fail(p, name, "there is no operator %s", shown(p, name));
    if (!expect(p, '(', "before the inputs")) return false;
    if (!at_char(p, ')') && !parse_names(p, true, &ins)) return false;
    if (!expect(p, ')', "after the inputs")) return false;
    Value **in = ARENA_ARRAY(&cx->scratch, Value *, ins.n);
    for (uint32_t i = 0; i < ins.n; i++) in[i] = ins.v[i].kind == T_VALUE ? named(p, ins.v[i])->value : NULL;
    Node *n = node_new(p->m, g, NULL, op, ins.n, in, 0);
    n->n_out = (uint16_t)outs->n;
    n->out = ARENA_ARRAY(&cx->arena, Value *, outs->n);
    n->loc.file = str_intern(cx, p->file);
    n->loc.index = p->n_node++;
    for (uint32_t i = 0; i < outs->n; i++) {
        if (outs->v[i].kind != T_VALUE) continue;
        if (!define(p, outs->v[i], &n->out[i])) return false;
        n->out[i]->def = n;
        n->out[i]->def_out = (uint16_t)i;
    }
    if (accept(p, '{') && !parse_attrs(p, n, depth)) return false;
    if (accept(p, ':') && !parse_types(p, n)) return false;
    if (p->token.kind != T_AT) return true;
    n->loc.node = str_size(cx, p->token.name) != 0 ? p->token.name : 0;
    advance(p);
    return !accept_word(p, "from") || parse_string(p, &n->loc.op);
}

static bool parse_constant(Parser *p, const Tokens *outs) {
    Value *v;
    ConstData *data = NULL;
    if (outs->n != 1 || outs->v[0].kind != T_VALUE) return fail(p, p->token, "a constant has one name");
    if (!define(p, outs->v[0], &v)) return false;
    if (!parse_data(p, &v->type, &data)) return false;
    v->data = data;
    return true;
}

/* [outputs =] constant or node, on a new line */
static bool parse_statement(Parser *p, Graph *g, Tokens *outs, int depth) {
    Token at = p->token;
    bool assigns = at.kind == T_VALUE || token_is(at, "_");
    if (assigns && (!parse_names(p, true, outs) || !expect(p, '=', "after the outputs"))) return false;
    if (!(accept_word(p, "const") ? parse_constant(p, outs) : parse_node(p, g, outs, depth))) return false;
    return p->token.first || at_char(p, '}') || fail(p, p->token, "a new line is needed before %s", shown(p, p->token));
}

/* After an error: on to the next statement of the graph whose statements stand at this brace level. What the statement
 * would have defined counts as defined, so that its readers stay silent. */
static void recover(Parser *p, int level, const Tokens *outs) {
    for (uint32_t i = 0; i < outs->n; i++)
        if (outs->v[i].kind == T_VALUE) named(p, outs->v[i])->defined = true;
    while (p->token.kind != T_END && p->brace >= level) {
        bool closes = at_char(p, '}');
        bool starts = p->token.first && (p->token.kind == T_VALUE || p->token.kind == T_NAME);
        if (p->brace == level && (closes || starts)) return;
        advance(p);
    }
}

static bool parse_statements(Parser *p, Graph *g, int depth) {
    int level = p->brace;
    while (!at_char(p, '}') && p->token.kind != T_END && p->n_error < ERROR_MAX && p->brace >= level) {
        Tokens outs = {0};
        const char *before = p->token.at;
        if (parse_statement(p, g, &outs, depth)) continue;
        if (p->token.at == before) advance(p);
        recover(p, level, &outs);
    }
    return expect(p, '}', "after the graph");
}

/* graph @name(inputs) -> (outputs) { statements } */
static bool parse_graph(Parser *p, Graph *g, int depth) {
    Token t;
    Tokens outs = {0};
    if (depth > NESTING_MAX) return fail(p, p->token, "graphs nest deeper than %d", NESTING_MAX);
    if (!accept_word(p, "graph")) return fail(p, p->token, "'graph' is needed, not %s", shown(p, p->token));
    if (!take(p, T_AT, "@ and the graph's name", &t) || !expect(p, '(', "before the inputs")) return false;
    g->name = t.name;
    for (bool first = true; !accept(p, ')'); first = false) {
        Value *v;
        if (!first && !expect(p, ',', "between the inputs")) return false;
        if (!take(p, T_VALUE, "an input", &t) || !define(p, t, &v) || !expect(p, ':', "before the input's type") || !parse_typed(p, v)) return false;
        graph_adopt_input(p->m, g, v);
    }
    if (!take(p, T_ARROW, "'->'", &t) || !expect(p, '(', "before the outputs")) return false;
    if (!at_char(p, ')') && !parse_names(p, false, &outs)) return false;
    if (!expect(p, ')', "after the outputs") || !expect(p, '{', "before the graph's nodes")) return false;
    if (!parse_statements(p, g, depth)) return false;
    for (uint32_t i = 0; i < outs.n; i++) graph_add_output(p->m, g, named(p, outs.v[i])->value);
    return true;
}

/* ---- the module ------------------------------------------------------------------------------------------------- */
/* dim N = 1..64 runtime */
static bool parse_symbol(Parser *p) {
    Token t = p->token;
    int64_t lo = INT64_MIN, hi = INT64_MAX;
    if (t.kind != T_NAME && t.kind != T_STRING) return fail(p, t, "a symbol is needed, not %s", shown(p, t));
    advance(p);
    Symbol *s = symbol_for(p, t.kind == T_STRING ? unescape(p, t.at, t.n) : str_intern_n(p->cx, t.at, t.n));
    if (s->declared) return fail(p, t, "%s is declared twice", shown(p, t));
    s->declared = true;
    if (!expect(p, '=', "after the symbol")) return false;
    if (p->token.kind != T_DOTS && !parse_i64(p, &lo)) return false;
    if (p->token.kind != T_DOTS) return fail(p, p->token, "'..' is needed between the bounds, not %s", shown(p, p->token));
    advance(p);
    if ((p->token.kind == T_NUMBER || at_char(p, '-')) && !parse_i64(p, &hi)) return false;
    if (lo > hi) return fail(p, t, "the bounds of %s are empty", shown(p, t));
    s->lo = lo;
    s->hi = hi;
    s->runtime = accept_word(p, "runtime");
    return true;
}

static bool parse_meta(Parser *p) {
    Module *m = p->m;
    Str key, value;
    if (!parse_string(p, &key) || !expect(p, '=', "after the key") || !parse_string(p, &value)) return false;
    Str *keys = ARENA_ARRAY(&p->cx->arena, Str, m->n_meta + 1), *values = ARENA_ARRAY(&p->cx->arena, Str, m->n_meta + 1);
    for (uint32_t i = 0; i < m->n_meta; i++) keys[i] = m->meta_key[i], values[i] = m->meta_value[i];
    keys[m->n_meta] = key;
    values[m->n_meta++] = value;
    m->meta_key = keys;
    m->meta_value = values;
    return true;
}

static bool parse_top(Parser *p) {
    Token t = p->token;
    if (t.kind == T_BLOB) return parse_blob(p);
    if (token_is(t, "graph")) {
        if (p->has_graph) return fail(p, t, "a module has one graph");
        p->has_graph = true;
        return parse_graph(p, p->m->main, 0);
    }
    advance(p);
    if (token_is(t, "module")) {
        if (!take(p, T_AT, "@ and the module's name", &t)) return false;
        p->m->name = t.name;
        return true;
    }
    if (token_is(t, "file")) {
        Str file;
        if (!parse_string(p, &file)) return false;
        p->file = str_text(p->cx, file);
        return true;
    }
    if (token_is(t, "meta")) return parse_meta(p);
    if (token_is(t, "dim")) return parse_symbol(p);
    return fail(p, t, "a module, file, meta, dim, graph or #blob is needed, not %s", shown(p, t));
}

static void finish(Parser *p) {
    for (uint32_t i = 0; i < p->symbols.n; i++) {
        Symbol *s = &p->symbols.v[i];
        dim_set_bounds(p->cx, s->dim, s->lo, s->hi);
        dim_set_runtime(p->cx, s->dim, s->runtime);
    }
    for (uint32_t i = 0; i < p->blobs.n; i++)
        if (p->blobs.v[i].data->data == NULL) fail(p, p->blobs.v[i].use, "#%u is not defined", i);
    for (uint32_t i = 0; i < p->values.n; i++)
        if (!p->values.v[i].defined) fail(p, p->values.v[i].use, "%s is not defined", shown(p, p->values.v[i].use));
    if (!p->has_graph) fail(p, p->token, "there is no graph");
}

Module *module_parse(Context *cx, const char *file, const char *text, size_t n) {
    Parser p = {.cx = cx, .m = module_new(cx, "model"), .file = file, .text = text, .end = text + n, .pos = text, .line_start = text, .line = 1, .fresh_line = true};
    advance(&p);
    while (p.token.kind != T_END && p.n_error < ERROR_MAX) {
        const char *before = p.token.at;
        if (parse_top(&p)) continue;
        if (p.token.at == before) advance(&p);
        p.brace = 0;
        while (p.token.kind != T_END && !(p.token.first && (p.token.kind == T_NAME || p.token.kind == T_BLOB))) advance(&p);
    }
    finish(&p);
    return p.n_error == 0 ? p.m : NULL;
}
