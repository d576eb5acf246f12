#include "driver/values.h"

#include <string.h>

#include "driver/text.h"
#include "frontend/host_values.h"

static char given; /* what data of sequences and optionals points to */

/* ---- parts by name ---------------------------------------------------------------------------------------------- */
typedef enum PartKind { PART_NONE, PART_ELEMENT, PART_LENGTH, PART_PRESENT } PartKind;

/* "s.12" is element 12 of s. */
static PartKind part_of(const LatheTensorInfo *info, const char *name, uint32_t *index) {
    size_t n = strlen(info->name);
    if (info->kind == 0 || strncmp(name, info->name, n) != 0 || name[n] != '.') return PART_NONE;
    const char *suffix = name + n + 1;
    bool sequence = info->kind != 2, optional = info->kind != 1;
    if (optional && strcmp(suffix, "present") == 0) return PART_PRESENT;
    if (!sequence) return PART_NONE;
    if (strcmp(suffix, "length") == 0) return PART_LENGTH;
    size_t digits = strspn(suffix, "0123456789");
    if (digits == 0 || digits > 8 || suffix[digits] != 0 || (digits > 1 && suffix[0] == '0')) return PART_NONE;
    *index = 0;
    for (size_t i = 0; i < digits; i++) *index = *index * 10 + (uint32_t)(suffix[i] - '0');
    return PART_ELEMENT;
}

uint32_t value_of_part(uint32_t n, const LatheTensorInfo *info, const char *name) {
    uint32_t i = 0, index;
    while (i < n && part_of(&info[i], name, &index) == PART_NONE) i++;
    return i;
}

static Tensor optional_of(Driver *d, const char *name, const Tensor *held) {
    Tensor v = {.name = name, .kind = OPTIONAL, .data = &given, .n_elem = held != NULL, .elem = ARENA_ARRAY(&d->arena, Tensor, 1)};
    if (held != NULL) v.elem[0] = *held;
    return v;
}

/* length and present: -1 when not given. */
typedef struct Assembly { int64_t length, present; Tensor *elem; uint32_t n_elem, n_given; } Assembly;

static const char *take_number(Driver *d, const Tensor *t, int64_t hi, int64_t *number) {
    ElementClass c = element_class(t->number);
    bool whole = c == ELEMENT_BOOL || c == ELEMENT_SIGNED || c == ELEMENT_UNSIGNED;
    double x = whole && t->kind == TENSOR && tensor_count(t) == 1 ? element_f64(t->number, t->data, 0) : -1;
    if (x < 0 || x > (double)hi) return driver_format(d, "\"%s\" must be one number from 0 to %lld", t->name, (long long)hi);
    if (*number >= 0) return driver_format(d, "\"%s\" is given twice", t->name);
    *number = (int64_t)x;
    return NULL;
}

static const char *take_element(Driver *d, const Tensor *t, uint32_t index, Assembly *a) {
    if (index >= a->n_elem) return driver_format(d, "\"%s\" is given, but not all elements before it", t->name);
    if (a->elem[index].data != NULL) return driver_format(d, "\"%s\" is given twice", t->name);
    a->elem[index] = *t;
    a->n_given++;
    return NULL;
}

static const char *collect(Driver *d, const LatheTensorInfo *info, const Tensors *parts, Assembly *a) {
    uint32_t index;
    *a = (Assembly){.length = -1, .present = -1};
    for (uint32_t i = 0; i < parts->n; i++) a->n_elem += part_of(info, parts->v[i].name, &index) == PART_ELEMENT;
    a->elem = ARENA_ARRAY(&d->arena, Tensor, a->n_elem);
    const char *problem = NULL;
    for (uint32_t i = 0; i < parts->n && problem == NULL; i++) {
        switch (part_of(info, parts->v[i].name, &index)) {
        case PART_NONE: break;
        case PART_ELEMENT: problem = take_element(d, &parts->v[i], index, a); break;
        case PART_LENGTH: problem = take_number(d, &parts->v[i], INT32_MAX, &a->length); break;
        case PART_PRESENT: problem = take_number(d, &parts->v[i], 1, &a->present); break;
        }
    }
    return problem;
}

const char *value_assemble(Driver *d, const LatheTensorInfo *info, const Tensors *parts, Tensor *v) {
    if (info->kind == 0) return NULL;
    Assembly a;
    const char *problem = collect(d, info, parts, &a);
    if (problem != NULL) return problem;
    if (a.length >= 0 && a.length != a.n_elem) return driver_format(d, "\"%s.length\" is %lld, but there are %u elements", info->name, (long long)a.length, a.n_elem);
    bool sequence = a.n_elem != 0 || a.length == 0;
    if (sequence && v->data != NULL) return driver_format(d, "\"%s\" is given twice, as a whole and by its elements", info->name);
    if (sequence) *v = (Tensor){.name = info->name, .kind = SEQUENCE, .data = &given, .n_elem = a.n_elem, .elem = a.elem};
    if (a.present == 0 && v->data != NULL && !(v->kind == OPTIONAL && v->n_elem == 0))
        return driver_format(d, "\"%s\" is given, but \"%s.present\" says that it is not there", info->name, info->name);
    if (a.present == 1 && v->data == NULL) return driver_format(d, "\"%s.present\" says that it is there, but there is no \"%s\"", info->name, info->name);
    if (a.present == 0) *v = optional_of(d, info->name, NULL);
    if (v->data == NULL) return NULL;
    if (info->kind != 1 && v->kind != OPTIONAL) *v = optional_of(d, info->name, v);
    const Tensor *held = info->kind == 1 ? v : v->n_elem != 0 ? &v->elem[0] : NULL;
    if (held != NULL && held->kind != (info->kind == 2 ? TENSOR : SEQUENCE))
        return info->kind == 2 ? driver_format(d, "\"%s\" holds a tensor", info->name) : driver_format(d, "\"%s\" is a sequence: its elements are \"%s.0\", \"%s.1\" …", info->name, info->name, info->name);
    return NULL;
}

/* ---- leaves ------------------------------------------------------------------------------------------------------ */
static Tensor number_tensor(Driver *d, const char *name, int number, int64_t x) {
    Tensor t = {.name = name, .number = number, .bytes = element_bytes(number, 1)};
    t.data = arena_alloc(&d->arena, sizeof x);
    element_store(number, t.data, 0, (double)x);
    return t;
}

void value_leaves(Driver *d, const Tensor *v, Tensors *list) {
    switch (v->kind) {
    case TENSOR: vec_push(&d->arena, list, *v); return;
    case OPTIONAL: {
        vec_push(&d->arena, list, number_tensor(d, driver_format(d, "%s.present", v->name), LATHE_BOOL, v->n_elem));
        if (v->n_elem == 0) return;
        Tensor held = v->elem[0];
        held.name = v->name;
        value_leaves(d, &held, list);
        return;
    }
    case SEQUENCE:
        vec_push(&d->arena, list, number_tensor(d, driver_format(d, "%s.length", v->name), LATHE_I64, v->n_elem));
        for (uint32_t i = 0; i < v->n_elem; i++) {
            Tensor e = v->elem[i];
            e.name = driver_format(d, "%s.%u", v->name, i);
            value_leaves(d, &e, list);
        }
        return;
    }
}

const Tensor *value_held(const Tensor *v) {
    return v->kind == OPTIONAL && v->n_elem == 1 ? &v->elem[0] : v;
}

/* ---- the tensors of emitted code ----------------------------------------------------------------------------------- */
static HostTensor to_host(Context *cx, const Tensor *t) {
    static const HostKind kinds[] = {[TENSOR] = HOST_TENSOR, [SEQUENCE] = HOST_SEQUENCE, [OPTIONAL] = HOST_OPTIONAL};
    HostTensor h = {.kind = kinds[t->kind], .n_elem = t->n_elem};
    if (t->kind != TENSOR) {
        h.elem = ARENA_ARRAY(&cx->arena, HostTensor, t->n_elem);
        for (uint32_t i = 0; i < t->n_elem; i++) h.elem[i] = to_host(cx, &t->elem[i]);
        return h;
    }
    h.dtype = dtype_from_onnx(t->number);
    h.rank = t->rank;
    h.numel = tensor_count(t);
    h.bytes = t->bytes;
    h.data = t->data;
    for (uint32_t i = 0; i < t->rank; i++) h.dim[i] = t->dim[i];
    if (h.dtype == DT_STRING) host_strings(cx, &h, t->data);
    return h;
}

static Tensor from_host(Driver *d, const char *name, const HostTensor *h) {
    Tensor t = {.name = name, .kind = h->kind == HOST_SEQUENCE ? SEQUENCE : h->kind == HOST_OPTIONAL ? OPTIONAL : TENSOR};
    if (t.kind != TENSOR) {
        t.data = &given;
        t.n_elem = h->n_elem;
        t.elem = ARENA_ARRAY(&d->arena, Tensor, h->n_elem);
        for (uint32_t i = 0; i < h->n_elem; i++) t.elem[i] = from_host(d, name, &h->elem[i]);
        return t;
    }
    t.number = dtype_to_onnx(h->dtype);
    t.rank = h->rank;
    for (uint32_t i = 0; i < t.rank; i++) t.dim[i] = h->dim[i];
    t.data = h->data;
    t.bytes = h->bytes;
    if (h->dtype == DT_STRING) {
        t.data = (void *)(uintptr_t)host_string_pointers(&d->files, h);
        t.bytes = (size_t)h->numel * sizeof(char *);
    }
    if (t.data == NULL) t.data = &given; /* no elements, but there */
    return t;
}

Tensor tensor_from_host(Driver *d, const HostTensor *h) { return from_host(d, str_text(&d->files, h->name), h); }

typedef struct Packing { const Tensor *in; Tensor *out; LatheGroup group; const LatheTensorInfo *info; } Packing;

static bool pack_body(Driver *d, const char *name, void *user) {
    Packing *p = user;
    HostTensor h = to_host(&d->files, p->in), part[4];
    if (!host_pack(&d->files, &h, p->group, p->info, part)) return false;
    for (uint32_t i = 0; i < p->group.n; i++) p->out[i] = from_host(d, name, &part[i]);
    return true;
}

bool value_pack(Driver *d, const Tensor *v, LatheGroup group, const LatheTensorInfo *info, Tensor *part) {
    return files_guarded(d, pack_body, v->name, &(Packing){v, part, group, info});
}

static bool unpack_body(Driver *d, const char *name, void *user) {
    Packing *p = user;
    HostTensor part[4], h;
    for (uint32_t i = 0; i < p->group.n; i++) part[i] = to_host(&d->files, &p->in[i]);
    host_unpack(&d->files, p->group, part, &h);
    *p->out = from_host(d, name, &h);
    return true;
}

bool value_unpack(Driver *d, LatheGroup group, const Tensor *part, Tensor *v) {
    return files_guarded(d, unpack_body, part[group.n - 1].name, &(Packing){.in = part, .out = v, .group = group});
}
