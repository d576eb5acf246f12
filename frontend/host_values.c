#include "frontend/host_values.h"

const char **host_string_pointers(Context *cx, const HostTensor *t) {
    const char **p = ARENA_ARRAY(&cx->arena, const char *, t->numel);
    for (int64_t i = 0; i < t->numel; i++) p[i] = str_text(cx, ((const Str *)t->data)[i]);
    return p;
}

void host_strings(Context *cx, HostTensor *t, const char *const *p) {
    Str *s = ARENA_ARRAY(&cx->arena, Str, t->numel);
    for (int64_t i = 0; i < t->numel; i++) s[i] = str_intern(cx, p[i] != NULL ? p[i] : "");
    t->data = s;
    t->bytes = (size_t)t->numel * sizeof *s;
}

/* A zeroed tensor of the upper bounds that info gives. */
static HostTensor blank(Context *cx, const LatheTensorInfo *info) {
    HostTensor t = {.kind = HOST_TENSOR, .dtype = dtype_from_onnx((int32_t)info->dtype), .rank = info->rank, .numel = 1};
    for (uint32_t i = 0; i < info->rank; i++) {
        t.dim[i] = info->hi[i];
        t.numel *= info->hi[i];
    }
    t.bytes = t.dtype == DT_STRING ? (size_t)t.numel * sizeof(Str) : dtype_bytes(cx, t.dtype, t.numel);
    t.data = arena_alloc(&cx->arena, t.bytes);
    return t;
}

static bool pack_element(Context *cx, const HostTensor *e, HostTensor *dims, HostTensor *data, int64_t slot) {
    int64_t room = data->dim[1];
    size_t width = data->dtype == DT_STRING ? sizeof(Str) : dtype_bits(data->dtype) / 8;
    if (e->dtype != data->dtype || e->numel > room || width == 0) {
        diag(cx, SEV_ERROR, (Loc){0}, "element %lld of a sequence has %lld elements of %s, at most %lld of %s fit", (long long)slot, (long long)e->numel, dtype_text(e->dtype),
             (long long)room, dtype_text(data->dtype));
        return false;
    }
    for (uint32_t d = 0; d < (uint32_t)dims->dim[1]; d++) ((int64_t *)dims->data)[slot * dims->dim[1] + d] = d < e->rank ? e->dim[d] : -1;
    if (e->numel != 0) memcpy((char *)data->data + (size_t)(slot * room) * width, e->data, (size_t)e->numel * width);
    return true;
}

bool host_pack(Context *cx, const HostTensor *v, LatheGroup group, const LatheTensorInfo *info, HostTensor *part) {
    for (uint32_t i = 0; i < group.n; i++) part[i] = blank(cx, &info[i]);
    uint32_t at = 0;
    if (group.optional) {
        bool wrapped = v->kind == HOST_OPTIONAL, present = !wrapped || v->n_elem == 1;
        *(uint8_t *)part[at++].data = present;
        if (!present) return true;
        if (wrapped) v = &v->elem[0];
    }
    if (!group.sequence) {
        if (v->kind != HOST_TENSOR) {
            diag(cx, SEV_ERROR, (Loc){0}, "a tensor is expected");
            return false;
        }
        part[at] = *v;
        return true;
    }
    if (v->kind != HOST_SEQUENCE || v->n_elem > (uint64_t)part[at + 2].dim[0]) {
        diag(cx, SEV_ERROR, (Loc){0}, "a sequence of at most %lld elements is expected", (long long)part[at + 2].dim[0]);
        return false;
    }
    *(int64_t *)part[at].data = v->n_elem;
    for (uint32_t i = 0; i < v->n_elem; i++)
        if (!pack_element(cx, &v->elem[i], &part[at + 1], &part[at + 2], i)) return false;
    return true;
}

void host_unpack(Context *cx, LatheGroup group, const HostTensor *part, HostTensor *v) {
    HostTensor inner = part[group.optional];
    if (group.sequence) {
        const HostTensor *length = &part[group.optional], *dims = length + 1, *data = length + 2;
        inner = (HostTensor){.kind = HOST_SEQUENCE, .n_elem = (uint32_t)*(const int64_t *)length->data};
        inner.elem = ARENA_ARRAY(&cx->arena, HostTensor, inner.n_elem);
        size_t width = data->dtype == DT_STRING ? sizeof(Str) : dtype_bits(data->dtype) / 8;
        for (uint32_t i = 0; i < inner.n_elem; i++) {
            HostTensor *e = &inner.elem[i];
            *e = (HostTensor){.kind = HOST_TENSOR, .dtype = data->dtype, .rank = group.rank, .numel = 1};
            for (uint32_t d = 0; d < e->rank; d++) {
                int64_t size = ((const int64_t *)dims->data)[i * dims->dim[1] + d];
                if (size < 0) e->rank = d; /* elements may differ in rank */
                else e->dim[d] = size, e->numel *= size;
            }
            e->bytes = (size_t)e->numel * width;
            e->data = (char *)data->data + (size_t)(i * data->dim[1]) * width;
        }
    }
    if (!group.optional) {
        *v = inner;
        return;
    }
    *v = (HostTensor){.kind = HOST_OPTIONAL, .n_elem = *(const uint8_t *)part[0].data != 0};
    v->elem = ARENA_ARRAY(&cx->arena, HostTensor, 1);
    v->elem[0] = inner;
}
