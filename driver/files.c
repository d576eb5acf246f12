#include "driver/files.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/progress.h"
#include "driver/text.h"
#include "driver/values.h"
#include "frontend/host_values.h"
#include "frontend/tensor_file.h"

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* Digits compare by value: set_2 before set_10. */
static int by_number(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    while (*x != 0 && *y != 0) {
        if (isdigit((unsigned char)*x) && isdigit((unsigned char)*y)) {
            char *end_x, *end_y;
            unsigned long long n = strtoull(x, &end_x, 10), m = strtoull(y, &end_y, 10);
            if (n != m) return n < m ? -1 : 1;
            x = end_x;
            y = end_y;
        } else if (*x != *y) {
            break;
        } else {
            x++;
            y++;
        }
    }
    return (unsigned char)*x - (unsigned char)*y;
}

Texts directory_entries(Driver *d, const char *path, const char *prefix, const char *suffix) {
    Texts names = {0};
    DIR *dir = opendir(path);
    if (dir == NULL) return names;
    size_t p = strlen(prefix), s = strlen(suffix);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        size_t n = strlen(e->d_name);
        if (n >= p + s && memcmp(e->d_name, prefix, p) == 0 && memcmp(e->d_name + n - s, suffix, s) == 0)
            vec_push(&d->arena, &names, arena_strdup(&d->arena, e->d_name, n));
    }
    closedir(dir);
    if (names.n != 0) qsort(names.v, names.n, sizeof *names.v, by_number);
    return names;
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */
/* What the reader found wrong is printed once. */
static bool report(Driver *d, bool good) {
    Context *cx = &d->files;
    if (good) return true;
    Writer w = {.arena = &d->arena};
    diag_print(cx, &w);
    progress_clear(d);
    fputs(cw_cstr(&w), stderr);
    cx->diags.n = cx->n_error = 0;
    return false;
}

/* Failed internal checks of the reader leave through cx->escape. */
bool files_guarded(Driver *d, FileBody *body, const char *path, void *user) {
    jmp_buf here;
    d->files.escape = &here;
    if (setjmp(here) != 0) {
        driver_error(d, "%s: %s", path, d->files.internal_error);
        return false;
    }
    bool good = body(d, path, user);
    d->files.escape = NULL;
    return report(d, good);
}

typedef struct Reading { Tensors *list; int kind; } Reading;

static const Type *type_of_kind(Context *cx, int kind) {
    const Type *tensor = type_tensor(cx, DT_F32, RANK_UNKNOWN, NULL);
    switch (kind) {
    case 1: return type_sequence(cx, tensor, 0);
    case 2: return type_optional(cx, tensor);
    case 3: return type_optional(cx, type_sequence(cx, tensor, 0));
    default: return NULL;
    }
}

static bool fits(const HostTensor *h) {
    bool good = h->kind != HOST_MAP && h->rank <= LATHE_RANK_MAX;
    for (uint32_t i = 0; good && h->kind != HOST_TENSOR && i < h->n_elem; i++) good = fits(&h->elem[i]);
    return good;
}

static bool read_body(Driver *d, const char *path, void *user) {
    Context *cx = &d->files;
    const Reading *r = user;
    HostTensor one, *all = &one;
    uint32_t n = 1;
    if (!(text_ends_with(path, ".npz") ? npz_load(cx, path, &n, &all) : tensor_file_load(cx, path, type_of_kind(cx, r->kind), &one))) return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!fits(&all[i])) {
            diag(cx, SEV_ERROR, (Loc){.file = str_intern(cx, path)}, "expected a tensor, a sequence or an optional, found %s", all[i].kind == HOST_MAP ? "a map" : "too many dims");
            return false;
        }
        vec_push(&d->arena, r->list, tensor_from_host(d, &all[i]));
    }
    return true;
}

bool tensors_read(Driver *d, const char *path, int kind, Tensors *list) {
    *list = (Tensors){0};
    return files_guarded(d, read_body, path, &(Reading){list, kind});
}

static bool write_body(Driver *d, const char *path, void *user) {
    const Tensor *t = user;
    HostTensor h = {.kind = HOST_TENSOR, .dtype = dtype_from_onnx(t->number), .rank = t->rank, .numel = tensor_count(t), .bytes = t->bytes, .data = t->data};
    for (uint32_t k = 0; k < t->rank; k++) h.dim[k] = t->dim[k];
    if (h.dtype == DT_STRING) host_strings(&d->files, &h, t->data);
    return tensor_file_save(&d->files, path, &h);
}

bool tensor_write_npy(Driver *d, const char *path, const Tensor *t) {
    return files_guarded(d, write_body, path, (void *)(uintptr_t)t);
}
