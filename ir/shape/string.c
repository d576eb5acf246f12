/* Operators on strings. */
#include "ir/shape/shape.h"
#include "ir/shape/text.h"

enum { MOST_PARTS = 64 }; /* parts of one string that StringSplit gives at most; more is a run-time error */

bool shape_string_concat(Module *m, Node *n) {
    const Type *a = shape_in(m, n, 0), *b = shape_in(m, n, 1);
    uint32_t rank;
    Dim dim[RANK_MAX];
    if (a == NULL || b == NULL || !shape_broadcast(m, n, a, b, &rank, dim)) return false;
    shape_out(m, n, 0, DT_STRING, rank, dim);
    return true;
}

bool shape_regex_full_match(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    shape_out(m, n, 0, DT_BOOL, t->rank, t->dim);
    return true;
}

bool shape_string_normalizer(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    if (t->rank != 1 && !(t->rank == 2 && dim_lo(m->cx, t->dim[0]) <= 1)) {
        diag(m->cx, SEV_ERROR, n->loc, "the input has rank %u; [C] and [1,C] are allowed", t->rank);
        return false;
    }
    Dim dim[2] = {t->dim[0], t->dim[t->rank - 1]};
    if (t->rank == 2) dim[0] = shape_unify(m, n, dim[0], dim_const(m->cx, 1), "the first of two dims");
    if (dim[0] == 0) return false;
    bool drops = attr_has(n, AT_StringNormalizer_stopwords) && attr_at(n, AT_StringNormalizer_stopwords)->strings.n != 0;
    int64_t hi = dim_hi(m->cx, dim[t->rank - 1]);
    if (drops || dim_lo(m->cx, dim[t->rank - 1]) < 1) dim[t->rank - 1] = dim_runtime(m->cx, "words", 1, hi < 1 ? 1 : hi); /* no word left: one that is empty */
    shape_out(m, n, 0, DT_STRING, t->rank, dim);
    return true;
}

bool shape_string_split(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL || t->rank + 1u > RANK_MAX) return false;
    Dim dim[RANK_MAX];
    for (uint32_t i = 0; i < t->rank; i++) dim[i] = t->dim[i];
    shape_out(m, n, 1, DT_I64, t->rank, dim);
    int64_t most = attr_has(n, AT_StringSplit_maxsplit) ? attr_i(n, AT_StringSplit_maxsplit) + 1 : MOST_PARTS;
    dim[t->rank] = dim_runtime(m->cx, "parts", 0, most < 1 || most > MOST_PARTS ? MOST_PARTS : most);
    shape_out(m, n, 0, DT_STRING, t->rank + 1u, dim);
    return true;
}

bool shape_tf_idf(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    if (t->rank != 1 && t->rank != 2) {
        diag(m->cx, SEV_ERROR, n->loc, "the input has rank %u; [C] and [N,C] are allowed", t->rank);
        return false;
    }
    const Attr *index = attr_at(n, AT_TfIdfVectorizer_ngram_indexes);
    int64_t columns = 0;
    for (uint32_t i = 0; i < index->ints.n; i++)
        if (index->ints.v[i] >= columns) columns = index->ints.v[i] + 1;
    Dim dim[2] = {t->dim[0], dim_const(m->cx, columns)};
    if (t->rank == 1) dim[0] = dim[1];
    shape_out(m, n, 0, DT_F32, t->rank, dim);
    return true;
}

bool tokenizer_by_character(const Module *m, const Node *n) {
    const Attr *separators = attr_at(n, AT_Tokenizer_separators);
    if (separators->present && separators->strings.n == 1 && str_size(m->cx, separators->strings.v[0]) == 0) return true;
    return attr_has(n, AT_Tokenizer_tokenexp) && attr_s_is(m->cx, n, AT_Tokenizer_tokenexp, ".");
}

bool shape_tokenizer(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    if (t == NULL) return false;
    bool pattern = attr_has(n, AT_Tokenizer_tokenexp) && str_size(m->cx, attr_s(n, AT_Tokenizer_tokenexp)) != 0, split = attr_at(n, AT_Tokenizer_separators)->present && attr_at(n, AT_Tokenizer_separators)->strings.n != 0;
    const char *wrong = t->dtype != DT_STRING || (t->rank != 1 && t->rank != 2) ? "strings [C] or [N,C] are needed" : pattern == split ? "either separators or tokenexp is needed"
                        : attr_i(n, AT_Tokenizer_mincharnum) < 1 ? "mincharnum must be positive" : NULL;
    if (wrong != NULL) {
        diag(m->cx, SEV_ERROR, n->loc, "%s", wrong);
        return false;
    }
    Dim dim[3] = {t->dim[0], t->dim[t->rank - 1]};
    int64_t most = (tokenizer_by_character(m, n) ? 4 * MOST_PARTS - 2 : MOST_PARTS) + (attr_i(n, AT_Tokenizer_mark) != 0 ? 2 : 0);
    dim[t->rank] = shape_data_dim(m, n, 0, t->rank, 0, most);
    shape_out(m, n, 0, DT_STRING, t->rank + 1u, dim);
    return true;
}
