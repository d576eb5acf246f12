/* Operators on strings: calls of runtime/string.h. Text of new strings stands in scratch that lives to the end of the
 * run, since results point into it. */
#include <string.h>

#include "ir/shape/text.h"
#include "passes/lower.h"
#include "passes/regex.h"
#include "passes/rules.h"

enum { STRING_BYTES = 256 }; /* LATHE_STRING_BYTES of runtime/string.h */

static uint32_t text_area(Lower *lo, Dim strings, int64_t bytes_each) {
    Context *cx = lo->cx;
    Dim bytes = dim_mul(cx, dim_const(cx, dim_hi(cx, strings) > 0 ? dim_hi(cx, strings) : 1), dim_const(cx, bytes_each));
    Value *v = lower_scratch(lo, type_tensor(cx, DT_U8, 1, &bytes));
    v->persistent = true;
    return lower_buf(lo, v);
}

static Value *strings_constant(Lower *lo, uint32_t n, const Str *s) {
    Str none = str_intern(lo->cx, "");
    return value_const(lo->m, type_tensor(lo->cx, DT_STRING, 1, (Dim[]){dim_const(lo->cx, n != 0 ? n : 1)}), n != 0 ? s : &none, false);
}

/* Row-major position of idx in t. */
static Expr *position(Lower *lo, const Type *t, Expr *const *idx) {
    Expr *at = lx_i(lo, 0);
    for (uint32_t d = 0; d < t->rank; d++) at = lx_add(lo, lx_mul(lo, at, lx_dim(lo, t->dim[d])), idx[d]);
    return at;
}

/* The position of the element of v that belongs to idx of a broadcast result of rank `rank`. */
static Expr *broadcast_position(Lower *lo, const Value *v, uint32_t rank, Expr *const *idx) {
    const Type *t = v->type;
    Expr *own[RANK_MAX];
    for (uint32_t d = 0; d < t->rank; d++) own[d] = t->dim[d] == dim_const(lo->cx, 1) ? lx_i(lo, 0) : idx[d + rank - t->rank];
    return position(lo, t, own);
}

bool lower_string_concat(Lower *lo, const Node *n) {
    const Type *t = n->out[0]->type;
    uint32_t a = lower_buf(lo, n->in[0]), b = lower_buf(lo, n->in[1]), out = lower_buf(lo, n->out[0]), text = text_area(lo, type_numel(lo->cx, t), STRING_BYTES);
    Expr *idx[RANK_MAX];
    lower_for_type(lo, t, idx);
    CallArg arg[] = {arg_buf(a), arg_expr(broadcast_position(lo, n->in[0], t->rank, idx)), arg_buf(b), arg_expr(broadcast_position(lo, n->in[1], t->rank, idx)),
                     arg_buf(text), arg_buf(out), arg_expr(position(lo, t, idx))};
    lower_call(lo, "lathe_string_concat", 7, arg);
    lower_end_n(lo, t->rank);
    return true;
}

bool lower_regex_full_match(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    Str pattern = attr_has(n, AT_RegexFullMatch_pattern) ? attr_s(n, AT_RegexFullMatch_pattern) : 0;
    Dfa dfa;
    const char *error = regex_compile(cx, str_text(cx, pattern), str_size(cx, pattern), &dfa);
    if (error != NULL) {
        diag(cx, SEV_ERROR, n->loc, "pattern \"%s\" cannot be compiled: %s", str_text(cx, pattern), error);
        return false;
    }
    Value *next = value_const(lo->m, type_tensor(cx, DT_I32, 2, (Dim[]){dim_const(cx, dfa.n), dim_const(cx, 256)}), dfa.next, false);
    Value *accept = value_const(lo->m, type_tensor(cx, DT_U8, 1, (Dim[]){dim_const(cx, dfa.n)}), dfa.accept, false);
    const Type *t = n->out[0]->type;
    uint32_t x = lower_buf(lo, n->in[0]), out = lower_buf(lo, n->out[0]), table = lower_constant(lo, next), final = lower_constant(lo, accept);
    Expr *i = lower_for_dim(lo, type_numel(cx, t));
    lower_call(lo, "lathe_string_match", 5, (CallArg[]){arg_buf(x), arg_expr(i), arg_buf(table), arg_buf(final), arg_buf(out)});
    lower_end(lo);
    return true;
}

/* Numbers are hashed by an expansion. */
bool lower_murmur_hash(Lower *lo, const Node *n) {
    uint32_t x = lower_buf(lo, n->in[0]), out = lower_flat(lo, n->out[0]);
    Dim count = type_numel(lo->cx, n->out[0]->type);
    uint32_t hash = n->out[0]->type->dtype == DT_U32 ? out : lower_buf(lo, lower_scratch(lo, type_tensor(lo->cx, DT_U32, 1, &count)));
    Expr *i = lower_for_dim(lo, count);
    lower_call(lo, "lathe_string_hash", 4, (CallArg[]){arg_buf(x), arg_expr(i), arg_expr(lx_i(lo, attr_i(n, AT_MurmurHash3_seed))), arg_buf(hash)});
    if (hash != out) lower_store_buf(lo, out, &i, FN_NONE, lx_cast(lo, DT_I32, lower_load_buf(lo, hash, &i)));
    lower_end(lo);
    return true;
}

static int64_t case_action(const Context *cx, const Node *n) {
    if (attr_s_is(cx, n, AT_StringNormalizer_case_change_action, "UPPER")) return 1;
    return attr_s_is(cx, n, AT_StringNormalizer_case_change_action, "LOWER") ? 2 : 0;
}

bool lower_string_normalizer(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type, *to = n->out[0]->type;
    const Attr *stop = attr_at(n, AT_StringNormalizer_stopwords);
    uint32_t n_stop = stop->present ? stop->strings.n : 0;
    Dim words = t->dim[t->rank - 1], kept = to->dim[to->rank - 1];
    uint32_t x = lower_buf(lo, n->in[0]), out = lower_buf(lo, n->out[0]), text = text_area(lo, words, STRING_BYTES);
    uint32_t list = lower_constant(lo, strings_constant(lo, n_stop, n_stop != 0 ? stop->strings.v : NULL));
    bool counted = dim_node(lo->cx, kept)->kind == DIM_SYMBOL && dim_node(lo->cx, kept)->runtime;
    Value *cell = counted ? lower_dim_cell(lo, kept) : lower_scratch(lo, type_tensor(lo->cx, DT_I64, 0, NULL));
    CallArg arg[] = {arg_buf(x), arg_expr(lx_dim(lo, words)), arg_buf(list), arg_expr(lx_i(lo, n_stop)), arg_expr(lx_i(lo, attr_i(n, AT_StringNormalizer_is_case_sensitive) == 0)),
                     arg_expr(lx_i(lo, case_action(lo->cx, n))), arg_buf(text), arg_buf(out), arg_buf(lower_buf(lo, cell))};
    lower_call(lo, "lathe_string_normalize", 9, arg);
    return true;
}

bool lower_string_split(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    const Type *t = n->in[0]->type;
    /* Either output may be unwanted, but the call writes both. */
    const Type *parts = n->out[0] != NULL ? n->out[0]->type : NULL;
    int64_t limit = parts != NULL ? dim_hi(cx, parts->dim[parts->rank - 1]) : 64;
    Dim count = type_numel(cx, t), most = dim_const(cx, dim_hi(cx, count) > 0 ? dim_hi(cx, count) : 1);
    Str delimiter = attr_has(n, AT_StringSplit_delimiter) ? attr_s(n, AT_StringSplit_delimiter) : 0;
    uint32_t x = lower_buf(lo, n->in[0]), text = text_area(lo, count, 2 * STRING_BYTES);
    uint32_t out = parts != NULL ? lower_buf(lo, n->out[0]) : lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_STRING, 2, (Dim[]){most, dim_const(cx, limit)})));
    uint32_t z = n->out[1] != NULL ? lower_buf(lo, n->out[1]) : lower_buf(lo, lower_scratch(lo, type_tensor(cx, DT_I64, 1, &most)));
    Value *cell = parts != NULL ? lower_dim_cell(lo, parts->dim[parts->rank - 1]) : lower_scratch(lo, type_tensor(cx, DT_I64, 0, NULL));
    uint32_t cut = lower_constant(lo, strings_constant(lo, 1, delimiter != 0 ? &delimiter : (Str[]){str_intern(cx, "")}));
    int64_t splits = attr_has(n, AT_StringSplit_maxsplit) ? attr_i(n, AT_StringSplit_maxsplit) : -1;
    CallArg arg[] = {arg_buf(x), arg_expr(lx_dim(lo, count)), arg_buf(cut), arg_expr(lx_i(lo, splits)), arg_expr(lx_i(lo, limit)), arg_buf(text), arg_buf(out), arg_buf(z), arg_buf(lower_buf(lo, cell))};
    lower_call(lo, "lathe_string_split", 9, arg);
    return true;
}

/* ---- Tokenizer ---------------------------------------------------------------------------------------------------- */
typedef struct Tables { /* of all patterns, the states of one behind those of another */
    int32_t *next;
    uint8_t *accept;
    int64_t *start;
    uint32_t n_state, n;
} Tables;

static bool add_pattern(Lower *lo, const Node *n, Str pattern, Tables *t) {
    Dfa dfa;
    const char *error = regex_compile(lo->cx, str_text(lo->cx, pattern), str_size(lo->cx, pattern), &dfa);
    if (error != NULL) {
        diag(lo->cx, SEV_ERROR, n->loc, "pattern \"%s\" cannot be compiled: %s", str_text(lo->cx, pattern), error);
        return false;
    }
    uint32_t all = t->n_state + dfa.n;
    int32_t *next = ARENA_ARRAY(&lo->cx->arena, int32_t, (size_t)all * 256);
    uint8_t *accept = ARENA_ARRAY(&lo->cx->arena, uint8_t, all);
    if (t->n_state != 0) memcpy(next, t->next, (size_t)t->n_state * 256 * sizeof *next), memcpy(accept, t->accept, t->n_state);
    for (uint32_t i = 0; i < dfa.n * 256; i++) next[t->n_state * 256 + i] = dfa.next[i] < 0 ? -1 : dfa.next[i] + (int32_t)t->n_state;
    memcpy(accept + t->n_state, dfa.accept, dfa.n);
    t->start[t->n++] = t->n_state;
    *t = (Tables){next, accept, t->start, all, t->n};
    return true;
}

bool lower_tokenizer(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    const Type *x = n->in[0]->type, *y = n->out[0]->type;
    const Attr *separators = attr_at(n, AT_Tokenizer_separators);
    bool characters = tokenizer_by_character(lo->m, n), matches = attr_has(n, AT_Tokenizer_tokenexp) && str_size(cx, attr_s(n, AT_Tokenizer_tokenexp)) != 0;
    uint32_t count = characters ? 0 : matches ? 1 : separators->strings.n;
    Tables t = {.start = ARENA_ARRAY(&cx->arena, int64_t, count + 1u)};
    for (uint32_t i = 0; i < count; i++)
        if (!add_pattern(lo, n, matches ? attr_s(n, AT_Tokenizer_tokenexp) : separators->strings.v[i], &t)) return false;
    if (count == 0) t.next = ARENA_ARRAY(&cx->arena, int32_t, 256), t.accept = ARENA_ARRAY(&cx->arena, uint8_t, 1), t.n_state = 1;
    Str pad = attr_s(n, AT_Tokenizer_pad_value);
    Dim strings = type_numel(cx, x), width = y->dim[y->rank - 1], states = dim_const(cx, t.n_state);
    int64_t most = dim_hi(cx, width) - (attr_i(n, AT_Tokenizer_mark) != 0 ? 2 : 0);
    uint32_t next = lower_constant(lo, value_const(lo->m, type_tensor(cx, DT_I32, 2, (Dim[]){states, dim_const(cx, 256)}), t.next, false));
    uint32_t accept = lower_constant(lo, value_const(lo->m, type_tensor(cx, DT_U8, 1, &states), t.accept, false)), start = lower_constant(lo, value_const_i64(lo->m, count + 1u, t.start));
    CallArg arg[] = {arg_buf(lower_buf(lo, n->in[0])), arg_expr(lx_dim(lo, strings)), arg_buf(next), arg_buf(accept), arg_buf(start), arg_expr(lx_i(lo, count)), arg_expr(lx_i(lo, matches)),
                     arg_expr(lx_i(lo, attr_i(n, AT_Tokenizer_mincharnum))), arg_expr(lx_i(lo, attr_i(n, AT_Tokenizer_mark) != 0)), arg_buf(lower_constant(lo, strings_constant(lo, 1, &pad))),
                     arg_expr(lx_i(lo, most)), arg_buf(text_area(lo, strings, 2 * STRING_BYTES)), arg_buf(lower_buf(lo, n->out[0])), arg_buf(lower_buf(lo, lower_dim_cell(lo, width)))};
    lower_call(lo, "lathe_tokenize", sizeof arg / sizeof *arg, arg);
    return true;
}

/* ---- TfIdfVectorizer ------------------------------------------------------------------------------------------------ */
/* Plain loops: for each row, skip distance, place and n-gram of the pool, one comparison chain of its items. */

static Value *pool_values(Lower *lo, const Node *n, uint32_t *count) {
    const Attr *s = attr_at(n, AT_TfIdfVectorizer_pool_strings), *i = attr_at(n, AT_TfIdfVectorizer_pool_int64s);
    if (s->present && s->strings.n != 0) {
        *count = s->strings.n;
        return strings_constant(lo, s->strings.n, s->strings.v);
    }
    *count = i->present ? i->ints.n : 0;
    return value_const_i64(lo->m, *count, i->ints.v);
}

bool lower_tf_idf(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    const Value *x = n->in[0];
    const Type *t = x->type;
    const Attr *counts = attr_at(n, AT_TfIdfVectorizer_ngram_counts), *columns = attr_at(n, AT_TfIdfVectorizer_ngram_indexes), *weights = attr_at(n, AT_TfIdfVectorizer_weights);
    uint32_t n_pool, grams = columns->ints.n;
    const Value *pool = pool_values(lo, n, &n_pool);
    Dim rows = t->rank == 2 ? t->dim[0] : dim_const(cx, 1), length = t->dim[t->rank - 1], width = n->out[0]->type->dim[n->out[0]->type->rank - 1];
    bool idf = attr_s_is(cx, n, AT_TfIdfVectorizer_mode, "IDF"), both = attr_s_is(cx, n, AT_TfIdfVectorizer_mode, "TFIDF");
    Value *column = value_const_i64(lo->m, grams, columns->ints.v), *weight = NULL;
    if ((idf || both) && weights->present) {
        float *w = ARENA_ARRAY(&cx->scratch, float, grams);
        for (uint32_t i = 0; i < grams && i < weights->floats.n; i++) w[i] = (float)weights->floats.v[i];
        weight = value_const(lo->m, type_tensor(cx, DT_F32, 1, (Dim[]){dim_const(cx, grams)}), w, false);
    }
    Dim out_dims[2] = {rows, width};
    uint32_t out = lower_view(lo, n->out[0], 2, out_dims), in = lower_view(lo, x, 2, (Dim[]){rows, length});
    uint32_t pool_buf = lower_constant(lo, pool), column_buf = lower_constant(lo, column), weight_buf = weight != NULL ? lower_constant(lo, weight) : 0;
    Expr *row = lower_for_dim(lo, rows), *zero = lx_i(lo, 0);
    Expr *clear = lower_for_dim(lo, width);
    lower_store_buf(lo, out, (Expr *[]){row, clear}, FN_NONE, ex_f(cx, DT_F32, 0));
    lower_end(lo);
    uint32_t first_gram = 0;
    for (uint32_t k = 0; k < counts->ints.n; k++) { /* n-grams of size k + 1 start at counts[k] in the pool */
        int64_t size = k + 1, from = counts->ints.v[k], to = k + 1 < counts->ints.n ? counts->ints.v[k + 1] : n_pool;
        if (from < 0 || to > n_pool || to < from || (to - from) % size != 0 || first_gram + (to - from) / size > grams) {
            diag(cx, SEV_ERROR, n->loc, "ngram_counts does not cut the pool of %u items into n-grams for %u indexes", n_pool, grams);
            return false;
        }
        int64_t here = (to - from) / size;
        bool wanted = size >= attr_i(n, AT_TfIdfVectorizer_min_gram_length) && size <= attr_i(n, AT_TfIdfVectorizer_max_gram_length);
        if (wanted && here != 0) {
            int64_t skips = size > 1 ? attr_i(n, AT_TfIdfVectorizer_max_skip_count) + 1 : 1;
            Expr *skip = lower_for(lo, lx_i(lo, skips)), *stride = lx_add(lo, skip, lx_i(lo, 1));
            Expr *places = lx_sub(lo, lx_dim(lo, length), lx_mul(lo, stride, lx_i(lo, size - 1)));
            Expr *place = lower_for(lo, lx_2(lo, FN_MAX, places, zero)), *gram = lower_for(lo, lx_i(lo, here));
            Expr *same = ex_i(cx, DT_BOOL, 1);
            for (int64_t j = 0; j < size; j++) {
                Expr *have = lower_load_buf(lo, in, (Expr *[]){row, lx_add(lo, place, lx_mul(lo, stride, lx_i(lo, j)))});
                Expr *want = lower_load_buf(lo, pool_buf, (Expr *[]){lx_add(lo, lx_mul(lo, gram, lx_i(lo, size)), lx_i(lo, from + j))});
                if (have->dtype != DT_STRING) have = lx_cast(lo, DT_I64, have);
                same = lx_2(lo, FN_AND, same, lx_2(lo, FN_EQ, have, want));
            }
            lower_if(lo, same);
            Expr *g = lx_add(lo, gram, lx_i(lo, first_gram)), *at = lower_load_buf(lo, column_buf, &g), *one = ex_f(cx, DT_F32, 1);
            Expr *amount = weight != NULL ? lower_load_buf(lo, weight_buf, &g) : one;
            if (idf) lower_store_buf(lo, out, (Expr *[]){row, at}, FN_NONE, amount);
            else lower_store_buf(lo, out, (Expr *[]){row, at}, FN_ADD, amount);
            lower_end_n(lo, 4);
        }
        first_gram += (uint32_t)here;
    }
    lower_end(lo);
    return true;
}

/* ---- numbers in text -------------------------------------------------------------------------------------------------- */
bool lower_format_numbers(Lower *lo, const Node *n) {
    const Type *t = n->in[0]->type;
    uint32_t x = lower_buf(lo, n->in[0]), out = lower_buf(lo, n->out[0]), text = text_area(lo, type_numel(lo->cx, t), STRING_BYTES);
    Expr *i = lower_for_dim(lo, type_numel(lo->cx, t));
    CallArg arg[] = {arg_buf(x), arg_expr(i), arg_buf(text), arg_buf(out), arg_expr(lx_i(lo, attr_i(n, AT_FormatNumbers_decimals)))};
    if (t->dtype == DT_F64) lower_call(lo, "lathe_f64_to_string", 5, arg);
    else lower_call(lo, t->dtype == DT_U64 ? "lathe_u64_to_string" : "lathe_i64_to_string", 4, arg);
    lower_end(lo);
    return true;
}

bool lower_parse_numbers(Lower *lo, const Node *n) {
    const Type *t = n->out[0]->type;
    const char *parse = t->dtype == DT_F64 ? "lathe_string_to_f64" : t->dtype == DT_U64 ? "lathe_string_to_u64" : "lathe_string_to_i64";
    uint32_t x = lower_buf(lo, n->in[0]), one = lower_array(lo, t->dtype, 1, (Dim[]){dim_const(lo->cx, 1)});
    Expr *idx[RANK_MAX], *zero = lx_i(lo, 0);
    lower_for_type(lo, t, idx);
    lower_call(lo, parse, 3, (CallArg[]){arg_buf(x), arg_expr(position(lo, t, idx)), arg_buf(one)});
    lower_store(lo, n->out[0], idx, lower_load_buf(lo, one, &zero));
    lower_end_n(lo, t->rank);
    return true;
}
