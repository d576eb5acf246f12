/* Operators on maps out of ordinary ones. A map is two tensors of one size, keys and values, in any order.
 *
 *     DictVectorizer {string_vocabulary = ["c", "b", "a"]}:  {a: 1, z: 5, c: 2}  ->  [[2, 0, 1]]
 *     CastMap {map_form = "SPARSE", max_map = 5}:            {3: 1.5, 0: -7}     ->  [[-7, 0, 0, 1.5, 0]]
 *
 * Both scatter the values into a row with one place more than the result has: it takes what belongs nowhere. Where a key
 * stands in the map twice, its last value counts; ONNX Runtime, which these follow, has maps without such keys. */
#include "passes/expand/build.h"
#include "passes/rules.h"

/* row[place[i]] = values[i] in a row of n + 1 elements that are `otherwise`. */
static Value *scattered(Module *m, Node *at, int64_t n, Value *otherwise, Value *place, Value *values) {
    if (otherwise == NULL || place == NULL || values == NULL) return NULL;
    Value *row = build2(m, at, OP_Expand, otherwise, value_const_i64(m, 1, (int64_t[]){n + 1}));
    return row != NULL ? build3(m, at, OP_ScatterElements, row, place, values) : NULL;
}

static Value *as_row(Module *m, Node *at, Value *v) { return v != NULL ? build2(m, at, OP_Unsqueeze, v, value_const_i64(m, 1, (int64_t[]){0})) : NULL; }

static Value *text_constant(Module *m, const char *text) {
    Str s = str_intern(m->cx, text);
    return value_const(m, type_tensor(m->cx, DT_STRING, 0, NULL), &s, false);
}

/* ---- DictVectorizer ------------------------------------------------------------------------------------------------ */
/* The place of every key in the vocabulary of n words; n for the others. */
static Value *places(Module *m, Node *at, Value *keys, const Attr *words, AttrSlot slot, int64_t n) {
    Node *label = expand_node(m, at, OP_LabelEncoder, 1, &keys, 1);
    int64_t *place = ARENA_ARRAY(&m->cx->scratch, int64_t, n);
    for (int64_t i = 0; i < n; i++) place[i] = i;
    *attr_at(label, slot) = *words;
    attr_at(label, slot)->present = true;
    attr_set_ints(m->cx, label, AT_LabelEncoder_values_int64s, place, (uint32_t)n);
    attr_set_i(label, AT_LabelEncoder_default_int64, n);
    return expand_result(m, label);
}

bool expand_dict_vectorizer(Module *m, Node *n, Value **out) {
    Context *cx = m->cx;
    Value *keys = n->in[0], *values = n->in[1];
    bool text = keys->type->dtype == DT_STRING;
    const Attr *words = attr_at(n, text ? AT_DictVectorizer_string_vocabulary : AT_DictVectorizer_int64_vocabulary);
    uint32_t count = !words->present ? 0 : text ? words->strings.n : words->ints.n;
    if (count == 0) return expand_fail(m, n, "there is no vocabulary of the keys' type");
    Dim dim = dim_const(cx, count);
    Value *known = text ? value_const(m, type_tensor(cx, DT_STRING, 1, &dim), words->strings.v, false) : value_const_i64(m, count, words->ints.v);
    AttrSlot slot = text ? AT_LabelEncoder_keys_strings : AT_LabelEncoder_keys_int64s;
    Value *otherwise = values->type->dtype == DT_STRING ? text_constant(m, "") : value_const_scalar(m, values->type->dtype, 0);
    Value *row = scattered(m, n, count, otherwise, places(m, n, keys, words, slot, count), values);
    /* a word that the vocabulary has twice has one place, from which both columns read */
    Value *column = places(m, n, known, words, slot, count);
    if (row == NULL || column == NULL) return false;
    out[0] = as_row(m, n, expand_gather(m, n, row, column, 0));
    return out[0] != NULL;
}

/* ---- CastMap ------------------------------------------------------------------------------------------------------- */
static Value *converted(Module *m, Node *n, Value *v, DType to) {
    if (to != DT_STRING || v->type->dtype == DT_STRING) return expand_cast(m, n, v, to);
    v = expand_cast(m, n, v, DT_F64);
    if (v == NULL) return NULL;
    Node *format = expand_node(m, n, OP_FormatNumbers, 1, &v, 1); /* std::to_string is what ONNX Runtime has here */
    attr_set_i(format, AT_FormatNumbers_decimals, 6);
    return expand_result(m, format);
}

static Value *in_order_of_keys(Module *m, Node *n, Value *v) {
    Value *size = build1(m, n, OP_Shape, n->in[0]);
    if (v == NULL || size == NULL) return NULL;
    Node *sort = expand_node(m, n, OP_TopK, 2, (Value *[]){n->in[0], size}, 2);
    attr_set_i(sort, AT_TopK_largest, 0);
    if (!node_infer(m, sort)) return NULL;
    return expand_gather(m, n, v, sort->out[1], 0);
}

/* Keys beyond the row count as its end. Negative ones are no index of anything, so that the run refuses them. */
static Value *key_places(Module *m, Node *n, int64_t size) {
    Value *keys = n->in[0], *limit = build2(m, n, OP_Min, keys, value_const_scalar(m, DT_I64, (double)size));
    Value *negative = build2(m, n, OP_Less, keys, value_const_scalar(m, DT_I64, 0));
    if (limit == NULL || negative == NULL) return NULL;
    return build3(m, n, OP_Where, negative, value_const_i64(m, 1, (int64_t[]){INT64_MIN}), limit);
}

bool expand_cast_map(Module *m, Node *n, Value **out) {
    Context *cx = m->cx;
    bool to_text = attr_s_is(cx, n, AT_CastMap_cast_to, "TO_STRING"), to_int = attr_s_is(cx, n, AT_CastMap_cast_to, "TO_INT64");
    if (!to_text && !to_int && !attr_s_is(cx, n, AT_CastMap_cast_to, "TO_FLOAT")) return expand_fail(m, n, "cast_to must be TO_FLOAT, TO_STRING or TO_INT64");
    if (n->in[0]->type->dtype != DT_I64) return expand_fail(m, n, "the keys must be int64");
    DType to = to_text ? DT_STRING : to_int ? DT_I64 : DT_F32;
    Value *values = converted(m, n, n->in[1], to);
    if (attr_s_is(cx, n, AT_CastMap_map_form, "SPARSE")) {
        int64_t size = attr_i(n, AT_CastMap_max_map);
        if (size < 1 || size > INT32_MAX) return expand_fail(m, n, "max_map must be 1 or more");
        Value *row = scattered(m, n, size, to_text ? text_constant(m, "0.f") : value_const_scalar(m, to, 0), key_places(m, n, size), values);
        values = row != NULL ? expand_slice(m, n, row, 0, size, 0) : NULL;
    } else if (attr_s_is(cx, n, AT_CastMap_map_form, "DENSE")) {
        values = in_order_of_keys(m, n, values);
    } else {
        return expand_fail(m, n, "map_form must be DENSE or SPARSE");
    }
    out[0] = as_row(m, n, values);
    return out[0] != NULL;
}
