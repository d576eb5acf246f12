/* LabelEncoder: a table of keys and values, searched for each element.
 *
 *     keys ["b", "a"], values [0, 1]   ->   key = ["a", "b"], value = [1, 0, default]
 *     for i:  find the first place with key[place] >= x[i];  y[i] = value[key[place] == x[i] ? place : 2]
 *
 * Of equal keys the last one counts. NaN is a key like any other: the largest. */
#include <stdlib.h>

#include "ir/shape/label.h"
#include "passes/lower.h"
#include "passes/rules.h"

/* ---- the table ---------------------------------------------------------------------------------------------------- */
static size_t element_size(DType t) { return t == DT_STRING ? sizeof(Str) : dtype_bits(t) / 8; }

static Value *vector(Module *m, DType t, uint32_t n, const void *data) {
    return value_const(m, type_tensor(m->cx, t, 1, (Dim[]){dim_const(m->cx, n)}), data, false);
}

static const void *list_data(Context *cx, const LabelList *l) {
    switch (l->kind) {
    case ATTR_STRINGS: return l->list->strings.v;
    case ATTR_INTS: return l->list->ints.v;
    case ATTR_FLOATS: {
        float *f = ARENA_ARRAY(&cx->arena, float, l->n);
        for (uint32_t i = 0; i < l->n; i++) f[i] = (float)l->list->floats.v[i];
        return f;
    }
    case ATTR_TENSOR: return l->list->tensor.data->data;
    case ATTR_INT: case ATTR_FLOAT: case ATTR_STRING: case ATTR_GRAPH: case ATTR_TYPE: break;
    }
    context_escape(cx, "a list of labels of another kind");
}

typedef struct Entry { const char *text; double real; int64_t whole; uint64_t natural; uint32_t at; } Entry; /* fields that a type does not use are equal */

static int by_key(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    int order = x->text != NULL ? strcmp(x->text, y->text) : 0;
    bool nan_x = x->real != x->real, nan_y = y->real != y->real;
    if (order == 0) order = nan_x || nan_y ? nan_x - nan_y : (x->real > y->real) - (x->real < y->real);
    if (order == 0) order = (x->whole > y->whole) - (x->whole < y->whole);
    if (order == 0) order = (x->natural > y->natural) - (x->natural < y->natural);
    return order != 0 ? order : (x->at < y->at) - (x->at > y->at); /* the last of equal keys is found first */
}

static const Entry *sorted_keys(Context *cx, const Value *keys, uint32_t n) {
    Entry *e = ARENA_ARRAY(&cx->scratch, Entry, n);
    DType t = keys->type->dtype;
    for (uint32_t i = 0; i < n; i++) {
        e[i] = (Entry){.at = i};
        if (t == DT_STRING) e[i].text = str_text(cx, ((const Str *)keys->data->data)[i]);
        else if (dtype_is_float(t)) e[i].real = const_f64(keys, i);
        else if (t == DT_U64) e[i].natural = (uint64_t)const_i64(keys, i);
        else e[i].whole = const_i64(keys, i);
    }
    qsort(e, n, sizeof *e, by_key);
    return e;
}

/* Writes the value of what is not among the keys to *to; false after a diagnostic. */
static bool default_value(Lower *lo, const Node *n, DType t, void *to) {
    Context *cx = lo->cx;
    if (attr_has(n, AT_LabelEncoder_default_tensor)) {
        const Attr *a = attr_at(n, AT_LabelEncoder_default_tensor);
        if (a->tensor.type->dtype != t || a->tensor.data->bytes != element_size(t)) {
            diag(cx, SEV_ERROR, n->loc, "default_tensor is not one element of the type of the values");
            return false;
        }
        memcpy(to, a->tensor.data->data, element_size(t));
        return true;
    }
    Str text = attr_s(n, AT_LabelEncoder_default_string);
    float single = (float)attr_f(n, AT_LabelEncoder_default_float);
    double real = attr_f(n, AT_LabelEncoder_default_float);
    int64_t whole = attr_i(n, AT_LabelEncoder_default_int64); /* two's complement: the low bytes come first */
    memcpy(to, t == DT_STRING ? (const void *)&text : t == DT_F32 ? (const void *)&single : t == DT_F64 ? (const void *)&real : (const void *)&whole, element_size(t));
    return true;
}

static const void *reordered(Context *cx, const void *data, const Entry *e, uint32_t n, size_t size, size_t more) {
    char *to = ARENA_ARRAY(&cx->arena, char, (n + more) * size);
    for (uint32_t i = 0; i < n; i++) memcpy(to + i * size, (const char *)data + e[i].at * size, size);
    return to;
}

/* ---- the search --------------------------------------------------------------------------------------------------- */
static Expr *is_nan(Lower *lo, Expr *x) { return dtype_is_float((DType)x->dtype) ? lx_1(lo, FN_ISNAN, x) : ex_i(lo->cx, DT_BOOL, 0); }

static Expr *is_below(Lower *lo, Expr *key, Expr *x) {
    Expr *below = lx_2(lo, FN_LT, key, x);
    if (!dtype_is_float((DType)x->dtype)) return below;
    return lx_2(lo, FN_OR, below, lx_2(lo, FN_AND, is_nan(lo, x), lx_2(lo, FN_EQ, key, key)));
}

static Expr *is_same(Lower *lo, Expr *key, Expr *x) {
    Expr *same = lx_2(lo, FN_EQ, key, x);
    if (!dtype_is_float((DType)x->dtype)) return same;
    return lx_2(lo, FN_OR, same, lx_2(lo, FN_AND, is_nan(lo, x), is_nan(lo, key)));
}

static Expr *key_at(Lower *lo, uint32_t keys, Expr *place, uint32_t n) {
    Expr *safe = lx_2(lo, FN_INDEX, place, lx_i(lo, n));
    return lower_load_buf(lo, keys, &safe);
}

bool lower_label_encoder(Lower *lo, const Node *n) {
    Context *cx = lo->cx;
    LabelList keys, values;
    if (!label_lists(lo->m, n, &keys, &values)) return false;
    const void *key_data = list_data(cx, &keys);
    size_t key_size = element_size(keys.dtype), value_size = element_size(values.dtype);
    const Entry *order = sorted_keys(cx, vector(lo->m, keys.dtype, keys.n, key_data), keys.n);
    char *value_data = (char *)(uintptr_t)reordered(cx, list_data(cx, &values), order, values.n, value_size, 1);
    if (!default_value(lo, n, values.dtype, value_data + values.n * value_size)) return false;
    uint32_t key = lower_constant(lo, vector(lo->m, keys.dtype, keys.n, reordered(cx, key_data, order, keys.n, key_size, 0)));
    uint32_t value = lower_constant(lo, vector(lo->m, values.dtype, values.n + 1, value_data));
    uint32_t in = lower_flat(lo, n->in[0]), out = lower_flat(lo, n->out[0]);
    Expr *i = lower_for_dim(lo, type_numel(cx, n->in[0]->type)), *x = lower_load_buf(lo, in, &i), *one = lx_i(lo, 1), *count = lx_i(lo, keys.n);
    Expr *from = lower_local(lo, DT_I64, lx_i(lo, 0)), *to = lower_local(lo, DT_I64, count);
    lower_while(lo, lx_2(lo, FN_LT, from, to));
    Expr *middle = lower_local(lo, DT_I64, lx_2(lo, FN_FLOORDIV, lx_add(lo, from, to), lx_i(lo, 2)));
    lower_if(lo, is_below(lo, key_at(lo, key, middle, keys.n), x));
    lower_set(lo, from, lx_add(lo, middle, one));
    lower_else(lo);
    lower_set(lo, to, middle);
    lower_end_n(lo, 2);
    Expr *place = lx_2(lo, FN_MIN, from, lx_i(lo, (int64_t)keys.n - 1));
    Expr *found = lx_2(lo, FN_AND, lx_2(lo, FN_LT, from, count), is_same(lo, key_at(lo, key, place, keys.n), x));
    Expr *at = lx_2(lo, FN_INDEX, lx_select(lo, found, place, count), lx_i(lo, keys.n + 1));
    lower_store_buf(lo, out, &i, FN_NONE, lower_load_buf(lo, value, &at));
    lower_end(lo);
    return true;
}
