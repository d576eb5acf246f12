/* Random inputs a model accepts. What a model accepts cannot be seen from outside (an index must be below a table's size,
 * an image larger than a kernel), so a few sizes and integer ranges are tried until the model runs. */
#include "driver/data.h"

static bool has_open_dim(const LatheModel *m) {
    for (uint32_t i = 0; i < lathe_symbol_count(m); i++) {
        LatheSymbolInfo s = lathe_symbol_info(m, i);
        if (s.lo != s.hi) return true;
    }
    return false;
}

/* What the inputs are: the file's, before compilation makes several tensors of a sequence or an optional. Usable after the model is gone. */
static LatheTensorInfo *input_infos(Driver *d, const LatheModel *m) {
    LatheTensorInfo *info = ARENA_ARRAY(&d->arena, LatheTensorInfo, lathe_input_count(m));
    for (uint32_t i = 0; i < lathe_input_count(m); i++) {
        info[i] = lathe_input_info(m, i);
        info[i].name = driver_format(d, "%s", info[i].name);
    }
    return info;
}

/* The same with the final bounds of tensors. */
static LatheTensorInfo *final_infos(Driver *d, const Program *p, const LatheTensorInfo *file) {
    LatheTensorInfo *info = ARENA_ARRAY(&d->arena, LatheTensorInfo, p->n_in_group);
    for (uint32_t i = 0; i < p->n_in_group; i++) info[i] = file[i].kind == 0 ? p->in[p->in_group[i].first] : file[i];
    return info;
}

/* Finds integers small enough for the compiled c->program. c->set is set when true. */
static Exit try_values(Driver *d, const Request *r, RandomCase *c, const LatheTensorInfo *file, int64_t size, int *code) {
    const LatheTensorInfo *info = final_infos(d, &c->program, file);
    static const int64_t below[] = {10, 2, 1};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        c->set = data_random(d, c->program.n_in_group, info, (uint64_t)r->seed, below[i], size);
        Call call;
        Exit e = call_prepare(d, &c->program, &c->set, &call);
        if (e != DONE) return e;
        *code = call_run(&c->program, 0, &call);
        call_free(&call);
        if (*code == 0) return DONE;
    }
    return DONE;
}

Exit random_case(Driver *d, const Request *r, RandomCase *c) {
    static const int64_t sizes[] = {8, 32, 128};
    *c = (RandomCase){.description = ""};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        Exit e = DONE;
        LatheModel *m = model_open_with_dims(d, r, &e);
        if (m == NULL) return e;
        const LatheTensorInfo *info = input_infos(d, m);
        DataSets sets = {0};
        vec_push(&d->arena, &sets, data_random(d, lathe_input_count(m), info, (uint64_t)r->seed, 1, sizes[i]));
        c->sizes = data_sizes(d, m, &sets);
        bool open = has_open_dim(m);
        lathe_model_free(m);
        bool last = !open || i + 1 == sizeof sizes / sizeof *sizes;
        d->quiet = !last;
        e = program_make(d, r, NULL, &c->sizes, &c->program);
        d->quiet = false;
        if (e == DIFFERS && !last) continue; /* not even compiled at this size: an image smaller than a kernel */
        if (e != DONE) return e;
        int code = 0;
        e = try_values(d, r, c, info, sizes[i], &code);
        if (e == DONE && code == 0) {
            if (open) c->description = driver_format(d, " with open dims at %lld where their bounds allow (choose with --dim)", (long long)sizes[i]);
            return DONE;
        }
        if (e == DONE && last) driver_error(d, "the model accepts no random inputs: %s (code %d); give data with --inputs", c->program.error(code), code);
        program_free(&c->program);
        if (e != DONE || last) return e != DONE ? e : DIFFERS;
    }
    return DIFFERS;
}
