/* Calling a program: pointers and dims as the emitted NAME_call takes them. */
#include <stdlib.h>
#include <string.h>

#include "driver/data.h"
#include "driver/text.h"
#include "driver/values.h"

int64_t tensor_count(const Tensor *t) {
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

/* Bytes an output needs at the upper bounds of its dims; false if that is not a size. */
static bool output_bytes(const LatheTensorInfo *info, size_t *bytes) {
    int64_t n = 1;
    for (uint32_t i = 0; i < info->rank; i++)
        if (info->hi[i] < 0 || __builtin_mul_overflow(n, info->hi[i], &n)) return false;
    if (n > INT64_MAX / 16) return false;
    *bytes = element_bytes((int)info->dtype, n);
    return true;
}

/* The tensors of all inputs, one after the other: a sequence or an optional is several. */
static Tensor *input_tensors(Driver *d, const Program *p, const DataSet *set) {
    Tensor *t = ARENA_ARRAY(&d->arena, Tensor, p->n_in);
    for (uint32_t i = 0; i < p->n_in_group; i++) {
        LatheGroup g = p->in_group[i];
        if (!g.sequence && !g.optional) t[g.first] = set->in[i];
        else if (!value_pack(d, &set->in[i], g, &p->in[g.first], &t[g.first])) return NULL;
    }
    return t;
}

Exit call_prepare(Driver *d, const Program *p, const DataSet *set, Call *c) {
    uint32_t n_in_dim = 0, n_out_dim = 0;
    *c = (Call){0};
    const Tensor *in = input_tensors(d, p, set);
    if (in == NULL) return BAD_USAGE;
    for (uint32_t i = 0; i < p->n_in; i++) n_in_dim += in[i].rank;
    for (uint32_t i = 0; i < p->n_out; i++) n_out_dim += p->out[i].rank;
    *c = (Call){
        .p = p,
        .in = ARENA_ARRAY(&d->arena, const void *, p->n_in),
        .in_dims = ARENA_ARRAY(&d->arena, int64_t, n_in_dim),
        .out = ARENA_ARRAY(&d->arena, void *, p->n_out),
        .out_dims = ARENA_ARRAY(&d->arena, int64_t, n_out_dim),
    };
    int64_t *dim = c->in_dims;
    for (uint32_t i = 0; i < p->n_in; i++) {
        c->in[i] = in[i].data;
        if (in[i].rank != 0) memcpy(dim, in[i].dim, in[i].rank * sizeof *dim);
        dim += in[i].rank;
    }
    for (uint32_t i = 0; i < p->n_out; i++) {
        size_t bytes = 0;
        bool good = output_bytes(&p->out[i], &bytes) && posix_memalign(&c->out[i], 64, bytes != 0 ? bytes : 64) == 0;
        if (good) continue;
        c->out[i] = NULL;
        driver_error(d, "no memory for output %s, %s at its upper bounds; bound its dims with --dim", printable(d, p->out[i].name), dims_text(d, &p->out[i]));
        call_free(c);
        return BROKEN;
    }
    return DONE;
}

/* Text of results stands in the program's arena, where the next run writes. */
static void own_strings(Driver *d, Tensor *t) {
    const char *const *from = t->data;
    const char **own = ARENA_ARRAY(&d->arena, const char *, tensor_count(t));
    for (int64_t i = 0; i < tensor_count(t); i++) own[i] = from[i] != NULL ? arena_strdup(&d->arena, from[i], strlen(from[i])) : "";
    t->data = (void *)(uintptr_t)own;
}

Tensor *call_outputs(Driver *d, const Call *c) {
    Tensor *t = ARENA_ARRAY(&d->arena, Tensor, c->p->n_out);
    const int64_t *dim = c->out_dims;
    for (uint32_t i = 0; i < c->p->n_out; i++) {
        const LatheTensorInfo *info = &c->p->out[i];
        t[i] = (Tensor){.name = info->name, .number = (int)info->dtype, .rank = info->rank, .data = c->out[i]};
        if (info->rank != 0) memcpy(t[i].dim, dim, info->rank * sizeof *dim);
        dim += info->rank;
        t[i].bytes = element_bytes(t[i].number, tensor_count(&t[i]));
        if (element_class(t[i].number) == ELEMENT_STRING) own_strings(d, &t[i]);
    }
    Tensor *value = ARENA_ARRAY(&d->arena, Tensor, c->p->n_out_group);
    for (uint32_t i = 0; i < c->p->n_out_group; i++) {
        LatheGroup g = c->p->out_group[i];
        value[i] = t[g.first];
        if ((g.sequence || g.optional) && !value_unpack(d, g, &t[g.first], &value[i])) return NULL;
    }
    return value;
}

void call_free(Call *c) {
    for (uint32_t i = 0; c->p != NULL && i < c->p->n_out; i++) free(c->out[i]);
    *c = (Call){0};
}
