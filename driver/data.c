#include "driver/data.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "driver/text.h"
#include "driver/values.h"

/* Matching tensors with a model; every problem is reported, the count says whether to go on. */
typedef struct Matcher {
    Driver *d;
    LatheModel *m;
    uint32_t n_in, n_out, n_error, n_unreadable;
    const LatheTensorInfo *in, *out;
    const LatheSymbolInfo *symbol;
    uint32_t n_symbol;
    Tensors part_in, part_out; /* parts of the sequences and optionals of the set that is being read */
} Matcher;

static void fail(Matcher *x, const char *format, ...) LATHE_PRINTF(2, 3);
static void fail(Matcher *x, const char *format, ...) {
    Writer w = {.arena = &x->d->arena};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    driver_error(x->d, "%s", printable(x->d, cw_cstr(&w)));
    x->n_error++;
}

static Matcher matcher(Driver *d, LatheModel *m) {
    Matcher x = {.d = d, .m = m, .n_in = lathe_input_count(m), .n_out = lathe_output_count(m), .n_symbol = lathe_symbol_count(m)};
    LatheTensorInfo *in = ARENA_ARRAY(&d->arena, LatheTensorInfo, x.n_in), *out = ARENA_ARRAY(&d->arena, LatheTensorInfo, x.n_out);
    LatheSymbolInfo *symbol = ARENA_ARRAY(&d->arena, LatheSymbolInfo, x.n_symbol);
    for (uint32_t i = 0; i < x.n_in; i++) in[i] = lathe_input_info(m, i);
    for (uint32_t i = 0; i < x.n_out; i++) out[i] = lathe_output_info(m, i);
    for (uint32_t i = 0; i < x.n_symbol; i++) symbol[i] = lathe_symbol_info(m, i);
    x.in = in;
    x.out = out;
    x.symbol = symbol;
    return x;
}

static const char *names(Driver *d, uint32_t n, const LatheTensorInfo *info) {
    Writer w = {.arena = &d->arena};
    cw_text(&w, "", 0);
    for (uint32_t i = 0; i < n; i++) cw_printf(&w, "%s\"%s\"", i == 0 ? "" : ", ", info[i].name);
    return n == 0 ? "none" : w.text;
}

/* ---- putting tensors in their places ---------------------------------------------------------------------------- */
/* Stores t as the input or output called name, or when name is NULL as the first one that is still empty. */
static void place(Matcher *x, const char *what, uint32_t n, const LatheTensorInfo *info, Tensor *slots, const char *name, Tensor t, const char *from) {
    uint32_t i = 0;
    while (i < n && (name != NULL ? strcmp(info[i].name, name) != 0 : slots[i].data != NULL)) i++;
    if (i == n && name != NULL && value_of_part(n, info, name) != n) {
        t.name = name;
        vec_push(&x->d->arena, info == x->in ? &x->part_in : &x->part_out, t);
    } else if (i == n && name != NULL) fail(x, "%s: the model has no %s \"%s\"; its %ss: %s", from, what, name, what, names(x->d, n, info));
    else if (i == n) fail(x, "%s: the model has only %u %s%s: %s", from, n, what, n == 1 ? "" : "s", names(x->d, n, info));
    else if (slots[i].data != NULL) fail(x, "%s: %s \"%s\" is given twice", from, what, info[i].name);
    else slots[i] = t;
}

static void place_all(Matcher *x, const char *what, uint32_t n, const LatheTensorInfo *info, Tensor *slots, const char *path) {
    Tensors list;
    if (!tensors_read(x->d, path, n == 1 ? info[0].kind : -1, &list)) {
        x->n_unreadable++;
        return;
    }
    for (uint32_t i = 0; i < list.n; i++) {
        bool positional = strncmp(list.v[i].name, "arr_", 4) == 0 || list.v[i].name[0] == 0; /* numpy.savez without names */
        place(x, what, n, info, slots, positional ? NULL : list.v[i].name, list.v[i], path);
    }
}

/* "NAME=FILE" or "FILE". A name may hold '=' itself: the longest prefix that is an input counts. */
static void place_input(Matcher *x, Tensor *slots, const char *option) {
    const char *name = NULL, *path = option;
    for (const char *e = strchr(option, '='); e != NULL; e = strchr(e + 1, '=')) {
        const char *prefix = arena_strdup(&x->d->arena, option, (size_t)(e - option));
        bool known = false;
        for (uint32_t i = 0; i < x->n_in; i++) known = known || strcmp(x->in[i].name, prefix) == 0;
        if (known || name == NULL) {
            name = prefix;
            path = e + 1;
        }
    }
    Tensors list;
    int kind = -1;
    for (uint32_t i = 0; i < x->n_in; i++)
        if (name != NULL ? strcmp(x->in[i].name, name) == 0 : x->n_in == 1) kind = x->in[i].kind;
    if (!tensors_read(x->d, path, kind, &list)) x->n_unreadable++;
    else if (list.n != 1) fail(x, "%s: expected one tensor, found %u; use --inputs for .npz files", path, list.n);
    else place(x, "input", x->n_in, x->in, slots, name, list.v[0], path);
}

/* ---- checking --------------------------------------------------------------------------------------------------- */
static const LatheSymbolInfo *symbol_named(const Matcher *x, const char *name, uint32_t *index) {
    for (uint32_t s = 0; s < x->n_symbol; s++) {
        if (strcmp(x->symbol[s].name, name) != 0) continue;
        *index = s;
        return &x->symbol[s];
    }
    return NULL;
}

static void check_dim(Matcher *x, const char *from, const LatheTensorInfo *info, const Tensor *t, uint32_t i, int64_t *bound) {
    uint32_t s;
    const LatheSymbolInfo *symbol = symbol_named(x, info->dim[i], &s);
    long long size = t->dim[i];
    if (symbol != NULL && bound[s] >= 0 && bound[s] != size)
        fail(x, "%s: input \"%s\" has %lld in dim %u, but %s is %lld in another input", from, info->name, size, i, symbol->name, (long long)bound[s]);
    if (symbol != NULL) bound[s] = size;
    if (info->lo[i] == info->hi[i] && size != info->hi[i]) {
        fail(x, "%s: input \"%s\" has shape [%s], dim %u must be %lld: the model takes %s", from, info->name, shape_text(x->d, t->rank, t->dim), i,
             (long long)info->hi[i], dims_text(x->d, info));
    } else if (symbol != NULL && symbol->hi < 0 && size == 0) {
        return; /* nobody bounded it, and nothing is a size: an empty cache */
    } else if (size < info->lo[i] || (info->hi[i] >= 0 && size > info->hi[i])) {
        fail(x, "%s: input \"%s\" has shape [%s], dim %u (%s) is bounded by %lld..%lld; change the bound with --dim", from, info->name,
             shape_text(x->d, t->rank, t->dim), i, info->dim[i], (long long)info->lo[i], (long long)info->hi[i]);
    }
}

static bool check_rank_and_type(Matcher *x, const char *from, const LatheTensorInfo *info, const Tensor *t) {
    if (t->number != (int)info->dtype)
        fail(x, "%s: input \"%s\" is %s, the model takes %s", from, t->name, element_name(t->number), dims_text(x->d, info));
    if (t->rank == info->rank || info->open_rank) return !info->open_rank;
    fail(x, "%s: input \"%s\" has shape [%s], %u dims; the model takes %s", from, t->name, shape_text(x->d, t->rank, t->dim), t->rank, dims_text(x->d, info));
    return false;
}

/* Elements of a sequence may have different sizes, so their dims bind no symbols. */
static void check_elements(Matcher *x, const char *from, const LatheTensorInfo *info, const Tensor *sequence) {
    for (uint32_t e = 0; e < sequence->n_elem; e++) {
        Tensor t = sequence->elem[e];
        t.name = driver_format(x->d, "%s.%u", info->name, e);
        if (t.kind != TENSOR) fail(x, "%s: \"%s\" is not a tensor", from, t.name);
        else if (check_rank_and_type(x, from, info, &t))
            for (uint32_t k = 0; k < t.rank; k++)
                if (t.dim[k] < info->lo[k] || (info->hi[k] >= 0 && t.dim[k] > info->hi[k]))
                    fail(x, "%s: input \"%s\" has shape [%s]; the model takes %s", from, t.name, shape_text(x->d, t.rank, t.dim), dims_text(x->d, info));
    }
}

static void check_input(Matcher *x, const char *from, const LatheTensorInfo *info, const Tensor *v, int64_t *bound) {
    switch (v->kind) {
    case OPTIONAL:
        if (v->n_elem != 0) check_input(x, from, info, &v->elem[0], bound);
        return;
    case SEQUENCE: check_elements(x, from, info, v); return;
    case TENSOR: {
        Tensor t = *v;
        t.name = info->name;
        if (!check_rank_and_type(x, from, info, &t)) return;
        for (uint32_t k = 0; k < t.rank; k++) check_dim(x, from, info, &t, k, bound);
        return;
    }
    }
}

static void check_inputs(Matcher *x, const DataSet *set) {
    int64_t *bound = ARENA_ARRAY(&x->d->arena, int64_t, x->n_symbol);
    for (uint32_t s = 0; s < x->n_symbol; s++) bound[s] = -1;
    Writer missing = {.arena = &x->d->arena};
    uint32_t n_missing = 0;
    for (uint32_t i = 0; i < x->n_in; i++) {
        if (set->in[i].data != NULL && x->in[i].kind == 0 && set->in[i].kind != TENSOR)
            fail(x, "%s: input \"%s\" is a tensor, not a sequence or an optional", set->name, x->in[i].name);
        else if (set->in[i].data != NULL) check_input(x, set->name, &x->in[i], &set->in[i], bound);
        else cw_printf(&missing, "%s\"%s\" (%s)", n_missing++ == 0 ? "" : ", ", x->in[i].name, dims_text(x->d, &x->in[i]));
    }
    if (n_missing != 0) fail(x, "%s: no data for input%s %s", set->name, n_missing == 1 ? "" : "s", missing.text);
}

/* Whole values from the parts that were found. */
static void assemble(Matcher *x, const DataSet *set) {
    for (uint32_t i = 0; i < x->n_in + (set->want != NULL ? x->n_out : 0); i++) {
        bool input = i < x->n_in;
        const LatheTensorInfo *info = input ? &x->in[i] : &x->out[i - x->n_in];
        const char *problem = value_assemble(x->d, info, input ? &x->part_in : &x->part_out, input ? &set->in[i] : &set->want[i - x->n_in]);
        if (problem != NULL) fail(x, "%s: %s", set->name, problem);
    }
    x->part_in = x->part_out = (Tensors){0};
}

static void check_kinds(Matcher *x) {
    static const char *const kinds[] = {"a tensor", "a sequence", "an optional", "an optional"};
    for (uint32_t i = 0; i < x->n_in; i++)
        if (x->in[i].kind != 0) fail(x, "input \"%s\" is %s; this command runs models of tensors only", x->in[i].name, kinds[x->in[i].kind]);
}

/* ---- sets ------------------------------------------------------------------------------------------------------- */
static DataSet new_set(Matcher *x, const char *name, bool expects) {
    return (DataSet){
        .name = name,
        .in = ARENA_ARRAY(&x->d->arena, Tensor, x->n_in),
        .want = expects ? ARENA_ARRAY(&x->d->arena, Tensor, x->n_out) : NULL,
    };
}

/* input_K.pb and output_K.pb: K is the position. */
static void place_numbered(Matcher *x, const char *dir, const char *what, uint32_t n, const LatheTensorInfo *info, Tensor *slots) {
    for (uint32_t k = 0; k < n; k++) {
        const char *path = driver_format(x->d, "%s/%s_%u.pb", dir, what, k);
        if (!file_exists(path)) continue;
        Tensors list;
        if (!tensors_read(x->d, path, info[k].kind, &list)) x->n_unreadable++;
        else if (list.n == 1) place(x, what, n, info, slots, info[k].name, list.v[0], path);
        else fail(x, "%s: expected one tensor, found %u", path, list.n);
    }
}

/* NAME.in.npz and NAME.ref.npz. */
static void read_pair(Matcher *x, const char *dir, const char *in_name, DataSets *sets) {
    const char *path = driver_format(x->d, "%s/%s", dir, in_name);
    DataSet set = new_set(x, path, true);
    place_all(x, "input", x->n_in, x->in, set.in, path);
    const char *want = driver_format(x->d, "%.*s.ref.npz", (int)(strlen(path) - strlen(".in.npz")), path);
    place_all(x, "output", x->n_out, x->out, set.want, want);
    assemble(x, &set);
    vec_push(&x->d->arena, sets, set);
}

static void read_numbered(Matcher *x, const char *dir, DataSets *sets) {
    if (directory_entries(x->d, dir, "output_", ".pb").n == 0) {
        fail(x, "%s: no data found; expected input_K.pb and output_K.pb, test_data_set_* folders with them, or NAME.in.npz and NAME.ref.npz", dir);
        return;
    }
    DataSet set = new_set(x, dir, true);
    place_numbered(x, dir, "input", x->n_in, x->in, set.in);
    place_numbered(x, dir, "output", x->n_out, x->out, set.want);
    assemble(x, &set);
    vec_push(&x->d->arena, sets, set);
}

/* model: its file name. A folder with data of many models has a pair that is named like the model: then only that counts. */
static void read_directory(Matcher *x, const char *dir, const char *model, DataSets *sets) {
    const char *base = file_base_name(model), *dot = strrchr(base, '.');
    const char *own = driver_format(x->d, "%.*s.in.npz", (int)(dot != NULL ? (size_t)(dot - base) : strlen(base)), base);
    Texts sub = directory_entries(x->d, dir, "test_data_set_", ""), pairs = directory_entries(x->d, dir, "", ".in.npz");
    for (uint32_t i = 0; i < sub.n; i++) read_numbered(x, driver_format(x->d, "%s/%s", dir, sub.v[i]), sets);
    if (file_exists(driver_format(x->d, "%s/%s", dir, own))) {
        read_pair(x, dir, own, sets);
    } else {
        for (uint32_t i = 0; i < pairs.n; i++) read_pair(x, dir, pairs.v[i], sets);
    }
    if (sub.n == 0 && pairs.n == 0) read_numbered(x, dir, sets);
}

Exit data_read(Driver *d, const Request *r, LatheModel *m, DataSets *sets) {
    Matcher x = matcher(d, m);
    *sets = (DataSets){0};
    if (r->input.n != 0 || r->inputs.n != 0 || r->expect.n != 0) {
        DataSet set = new_set(&x, "--input", r->expect.n != 0);
        for (uint32_t i = 0; i < r->inputs.n; i++) place_all(&x, "input", x.n_in, x.in, set.in, r->inputs.v[i]);
        for (uint32_t i = 0; i < r->input.n; i++) place_input(&x, set.in, r->input.v[i]);
        for (uint32_t i = 0; i < r->expect.n; i++) place_all(&x, "output", x.n_out, x.out, set.want, r->expect.v[i]);
        assemble(&x, &set);
        vec_push(&d->arena, sets, set);
    }
    for (uint32_t i = 0; i < r->data.n; i++) read_directory(&x, r->data.v[i], r->files.v[0], sets);
    for (uint32_t i = 0; i < sets->n && x.n_error + x.n_unreadable == 0; i++) check_inputs(&x, &sets->v[i]);
    return x.n_unreadable != 0 ? BROKEN : x.n_error != 0 ? BAD_USAGE : DONE;
}

/* ---- calibration ------------------------------------------------------------------------------------------------ */
/* How many batches of the model the set holds: 1 when it fits as it is, 0 when its inputs disagree. */
static int64_t batches(const Matcher *x, const DataSet *set) {
    int64_t n = 0;
    for (uint32_t i = 0; i < x->n_in; i++) {
        const Tensor *t = &set->in[i];
        int64_t batch = x->in[i].rank > 0 && x->in[i].lo[0] == x->in[i].hi[0] ? x->in[i].lo[0] : 0, own = 1;
        if (t->data != NULL && t->rank == x->in[i].rank && batch > 0 && t->dim[0] > batch && t->dim[0] % batch == 0) own = t->dim[0] / batch;
        if (n != 0 && own != n) return 0;
        n = own;
    }
    return n != 0 ? n : 1;
}

static void add_batches(Matcher *x, const DataSet *set, DataSets *sets) {
    int64_t n = batches(x, set);
    for (int64_t b = 0; b < (n > 1 ? n : 1); b++) {
        DataSet part = new_set(x, set->name, false);
        for (uint32_t i = 0; i < x->n_in; i++) {
            part.in[i] = set->in[i];
            if (n <= 1 || part.in[i].data == NULL) continue;
            part.in[i].dim[0] /= n;
            part.in[i].bytes /= (size_t)n;
            part.in[i].data = (char *)part.in[i].data + (size_t)b * part.in[i].bytes;
        }
        check_inputs(x, &part);
        vec_push(&x->d->arena, sets, part);
    }
}

static void check_finite(Matcher *x, const DataSet *set) {
    for (uint32_t i = 0; i < x->n_in; i++) {
        const Tensor *t = &set->in[i];
        if (t->data == NULL || t->number != LATHE_F32) continue;
        const float *v = t->data;
        for (size_t k = 0; k < t->bytes / sizeof *v; k++) {
            if (isfinite(v[k])) continue;
            fail(x, "%s: input \"%s\" holds %s at element %zu; calibration data must be finite", set->name, x->in[i].name, isnan(v[k]) ? "NaN" : "infinity", k);
            return;
        }
    }
}

Exit data_calibration(Driver *d, LatheModel *m, const char *dir, DataSets *sets, Tensor *labels) {
    Matcher x = matcher(d, m);
    check_kinds(&x);
    Texts arrays = directory_entries(d, dir, "", ".npy"), archives = directory_entries(d, dir, "", ".npz");
    *labels = (Tensor){0};
    for (uint32_t i = 0; i < arrays.n + archives.n; i++) {
        const char *name = i < arrays.n ? arrays.v[i] : archives.v[i - arrays.n], *path = driver_format(d, "%s/%s", dir, name);
        if (strcmp(name, "labels.npy") == 0) {
            Tensors list;
            if (!tensors_read(d, path, 0, &list) || list.n != 1) x.n_unreadable++;
            else *labels = list.v[0];
            continue;
        }
        DataSet set = new_set(&x, path, false);
        place_all(&x, "input", x.n_in, x.in, set.in, path);
        if (x.n_error + x.n_unreadable == 0) check_finite(&x, &set);
        if (x.n_error + x.n_unreadable == 0) add_batches(&x, &set, sets);
    }
    if (sets->n == 0 && x.n_error + x.n_unreadable == 0) fail(&x, "%s: no calibration data: expected .npy or .npz files", dir);
    return x.n_unreadable != 0 ? BROKEN : x.n_error != 0 ? BAD_USAGE : DONE;
}

/* ---- random inputs ---------------------------------------------------------------------------------------------- */
static uint64_t next_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double random_element(int number, int64_t int_below, uint64_t *state) {
    uint64_t z = next_random(state);
    switch (element_class(number)) {
    case ELEMENT_BOOL: return (double)(z & 1);
    case ELEMENT_UNSIGNED: case ELEMENT_SIGNED: return (double)(z % (uint64_t)int_below);
    case ELEMENT_FLOAT: return (double)(z >> 11) * 0x1p-52 - 1;
    case ELEMENT_NONE: case ELEMENT_COMPLEX: case ELEMENT_STRING: return 0;
    }
    return 0;
}

static void random_words(Tensor *t, int64_t n, uint64_t *state) {
    static const char *const words[] = {"", "a", "1", "-2.5", "monday", "Tuesday", "two words", "\xC3\xA4\xC3\xB6\xC3\xBC"};
    for (int64_t i = 0; i < n; i++) ((const char **)t->data)[i] = words[next_random(state) % (sizeof words / sizeof *words)];
}

static int64_t clamp(int64_t x, int64_t lo, int64_t hi) {
    if (hi >= 0 && x > hi) x = hi;
    return x < lo ? lo : x;
}

static Tensor random_tensor(Driver *d, const LatheTensorInfo *info, int64_t int_below, int64_t size, uint64_t *state) {
    Tensor t = {.name = driver_format(d, "%s", info->name), .number = (int)info->dtype, .rank = info->rank};
    for (uint32_t k = 0; k < info->rank; k++) t.dim[k] = clamp(size, info->lo[k], info->hi[k]);
    int64_t n = tensor_count(&t);
    t.bytes = element_bytes(t.number, n);
    t.data = arena_alloc(&d->arena, t.bytes);
    int part = element_class(t.number) == ELEMENT_COMPLEX ? (t.number == 14 ? LATHE_F32 : LATHE_F64) : t.number;
    if (part != t.number) n *= 2;
    if (element_class(part) == ELEMENT_STRING) {
        random_words(&t, n, state);
        return t;
    }
    for (int64_t e = 0; e < n; e++) element_store(part, t.data, e, random_element(part, int_below, state));
    return t;
}

/* An optional that holds something, a sequence of two. */
static Tensor random_value(Driver *d, const LatheTensorInfo *info, int64_t int_below, int64_t size, uint64_t *state) {
    Tensor v = random_tensor(d, info, int_below, size, state);
    Tensors parts = {0};
    if (info->kind == 0) return v;
    if (info->kind != 2) {
        for (uint32_t i = 0; i < 2; i++) {
            Tensor e = random_tensor(d, info, int_below, size, state);
            e.name = driver_format(d, "%s.%u", info->name, i);
            vec_push(&d->arena, &parts, e);
        }
        v.data = NULL;
    }
    value_assemble(d, info, &parts, &v);
    return v;
}

DataSet data_random(Driver *d, uint32_t n, const LatheTensorInfo *info, uint64_t seed, int64_t int_below, int64_t size) {
    DataSet set = {.name = "random inputs", .in = ARENA_ARRAY(&d->arena, Tensor, n)};
    uint64_t state = seed * 0x9E3779B97F4A7C15u;
    for (uint32_t i = 0; i < n; i++) set.in[i] = random_value(d, &info[i], int_below, size, &state);
    return set;
}

/* ---- bounds ----------------------------------------------------------------------------------------------------- */
typedef struct Range { int64_t lo, hi; } Range;

/* Sizes that the symbol has in v, an input described by info. */
static void widen(const LatheTensorInfo *info, const Tensor *v, const char *symbol, Range *r) {
    for (uint32_t i = 0; v->kind != TENSOR && i < v->n_elem; i++) widen(info, &v->elem[i], symbol, r);
    for (uint32_t a = 0; v->kind == TENSOR && v->data != NULL && a < info->rank; a++) {
        if (strcmp(info->dim[a], symbol) != 0) continue;
        if (v->dim[a] < r->lo) r->lo = v->dim[a];
        if (v->dim[a] > r->hi) r->hi = v->dim[a];
    }
}

static const char *const *symbol_bounds(Driver *d, const LatheModel *m, const DataSets *sets) {
    Texts dims = {0};
    for (uint32_t s = 0; s < lathe_symbol_count(m); s++) {
        LatheSymbolInfo symbol = lathe_symbol_info(m, s);
        Range r = {INT64_MAX, -1};
        for (uint32_t i = 0; i < sets->n; i++) {
            for (uint32_t k = 0; k < lathe_input_count(m); k++) {
                LatheTensorInfo info = lathe_input_info(m, k);
                widen(&info, &sets->v[i].in[k], symbol.name, &r);
            }
        }
        if (symbol.hi >= 0 || r.hi < 0) continue;
        vec_push(&d->arena, &dims, driver_format(d, "%s=%lld..%lld", symbol.name, (long long)(r.lo < 1 ? r.lo : 1), (long long)(r.hi > 1 ? r.hi : 1)));
    }
    vec_push(&d->arena, &dims, NULL);
    return dims.v;
}

/* The largest rank and dims among the tensors of v. */
static void cover(const Tensor *v, InputShape *s) {
    for (uint32_t i = 0; v->kind != TENSOR && i < v->n_elem; i++) cover(&v->elem[i], s);
    if (v->kind != TENSOR || v->data == NULL) return;
    if (v->rank > s->rank) s->rank = v->rank;
    for (uint32_t a = 0; a < v->rank; a++)
        if (v->dim[a] > s->dim[a]) s->dim[a] = v->dim[a];
}

Sizes data_sizes(Driver *d, const LatheModel *m, const DataSets *sets) {
    Sizes sizes = {.dims = symbol_bounds(d, m, sets)};
    for (uint32_t k = 0; k < lathe_input_count(m); k++) {
        LatheTensorInfo info = lathe_input_info(m, k);
        InputShape shape = {.input = k};
        if (info.kind == 0 && !info.open_rank) continue;
        for (uint32_t i = 0; i < sets->n; i++) cover(&sets->v[i].in[k], &shape);
        if (shape.rank != 0) vec_push(&d->arena, &sizes.shapes, shape);
    }
    return sizes;
}

Exit data_open(Driver *d, const Request *r, DataSets *sets, Sizes *sizes) {
    Exit e = DONE;
    LatheModel *m = model_open_with_dims(d, r, &e);
    if (m == NULL) return e;
    e = data_read(d, r, m, sets);
    if (e == DONE && sets->n == 0 && lathe_input_count(m) == 0) vec_push(&d->arena, sets, ((DataSet){.name = "no inputs"}));
    if (e == DONE) *sizes = data_sizes(d, m, sets);
    lathe_model_free(m);
    return e;
}
