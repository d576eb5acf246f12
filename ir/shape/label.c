/* LabelEncoder: see label.h. The result has the shape of the input and the type of the values. */
#include "ir/shape/label.h"

#include "ir/shape/shape.h"

typedef struct Source { AttrSlot slot; AttrKind kind; DType dtype; } Source;

static bool find_list(Module *m, const Node *n, const char *what, const Source source[4], LabelList *l) {
    *l = (LabelList){0};
    for (int i = 0; i < 4; i++) {
        if (!attr_has(n, source[i].slot)) continue;
        const Attr *a = attr_at(n, source[i].slot);
        if (l->list != NULL) {
            diag(m->cx, SEV_ERROR, n->loc, "%s are given by two attributes", what);
            return false;
        }
        *l = (LabelList){.list = a, .kind = source[i].kind, .dtype = source[i].dtype};
        if (l->kind == ATTR_STRINGS) l->n = a->strings.n;
        else if (l->kind == ATTR_INTS) l->n = a->ints.n;
        else if (l->kind == ATTR_FLOATS) l->n = a->floats.n;
        else {
            l->dtype = a->tensor.type->dtype;
            l->n = (uint32_t)dim_value(m->cx, type_numel(m->cx, a->tensor.type));
        }
    }
    if (l->n == 0) diag(m->cx, SEV_ERROR, n->loc, "no %s are given", what);
    return l->n != 0;
}

static bool usable(DType t) { return t == DT_STRING || t == DT_F32 || t == DT_F64 || (dtype_is_int(t) && dtype_bits(t) >= 8); }

bool label_lists(Module *m, const Node *n, LabelList *keys, LabelList *values) {
    static const Source key[4] = {{AT_LabelEncoder_keys_strings, ATTR_STRINGS, DT_STRING}, {AT_LabelEncoder_keys_int64s, ATTR_INTS, DT_I64},
                                  {AT_LabelEncoder_keys_floats, ATTR_FLOATS, DT_F32}, {AT_LabelEncoder_keys_tensor, ATTR_TENSOR, DT_NONE}};
    static const Source value[4] = {{AT_LabelEncoder_values_strings, ATTR_STRINGS, DT_STRING}, {AT_LabelEncoder_values_int64s, ATTR_INTS, DT_I64},
                                    {AT_LabelEncoder_values_floats, ATTR_FLOATS, DT_F32}, {AT_LabelEncoder_values_tensor, ATTR_TENSOR, DT_NONE}};
    if (!find_list(m, n, "keys", key, keys) || !find_list(m, n, "values", value, values)) return false;
    if (keys->n != values->n) diag(m->cx, SEV_ERROR, n->loc, "there are %u keys and %u values", keys->n, values->n);
    else if (!usable(keys->dtype) || !usable(values->dtype)) diag(m->cx, SEV_ERROR, n->loc, "keys and values must be strings, floats, doubles or integers");
    else return true;
    return false;
}

bool shape_label_encoder(Module *m, Node *n) {
    const Type *t = shape_in(m, n, 0);
    LabelList keys, values;
    if (t == NULL || !label_lists(m, n, &keys, &values)) return false;
    if (t->dtype != keys.dtype) {
        diag(m->cx, SEV_ERROR, n->loc, "input 0 has elements of another type than the keys");
        return false;
    }
    shape_out(m, n, 0, values.dtype, t->rank, t->dim);
    return true;
}
