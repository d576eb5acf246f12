/* Weights of several models in one file: a tensor that is there already is not written again.
 *
 *     lathe compile prefill.onnx -o prefill.c --share-weights net.bin          net.bin: every tensor once, each at a multiple
 *     lathe compile decode.onnx  -o decode.c  --share-weights net.bin          of 64 bytes; net.bin.index: offset, size, hash
 *
 * The program maps net.bin once and gives it to the NAME_init of each model. Files only grow at their end, so that programs made
 * before stay right: each checks the part of the file that existed when it was made. The index says how far the file is
 * whole; what a failed run left behind it is cut off by the next. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codegen/emit.h"

typedef struct Tensor { uint64_t offset, bytes, hash; } Tensor;

struct SharedWeights {
    const char *path;
    const unsigned char *old; /* mapped: what the file holds now */
    uint64_t old_bytes, bytes; /* before and after this model */
    VEC(Tensor) entry;
    VEC(PlanWeight) added;    /* tensors of this model that are new, in order of their offsets */
};

static uint64_t round_up(uint64_t n) { return (n + 63) / 64 * 64; }

static uint64_t content_hash(const unsigned char *p, size_t n) {
    uint64_t h = n * UINT64_C(0x9E3779B97F4A7C15);
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        h = (h ^ x) * UINT64_C(0xD6E8FEB86659FD93);
        h ^= h >> 32;
    }
    for (; n != 0; p++, n--) h = (h ^ *p) * UINT64_C(0x100000001B3);
    return h;
}

static const char *index_path(Emit *e, const char *path) { return str_text(e->cx, str_format(e->cx, "%s.index", path)); }

static bool failed(Emit *e, const char *path, const char *reason) {
    diag(e->cx, SEV_ERROR, (Loc){0}, "shared weights %s: %s", path, reason);
    return false;
}

static bool read_index(Emit *e, struct SharedWeights *s) {
    const char *path = index_path(e, s->path);
    FILE *f = fopen(path, "r");
    unsigned long long offset, bytes, hash;
    if (f == NULL) return access(s->path, F_OK) != 0 || failed(e, s->path, "it exists, but its .index does not: it was not made by --share-weights");
    while (fscanf(f, "%llu %llu %llx", &offset, &bytes, &hash) == 3) {
        Tensor x = {offset, bytes, hash};
        if (offset != s->old_bytes || bytes > UINT64_MAX / 2 - offset) break;
        s->old_bytes = round_up(offset + bytes);
        vec_push(&e->cx->scratch, &s->entry, x);
    }
    bool whole = feof(f) != 0;
    fclose(f);
    return whole || failed(e, path, "it is damaged");
}

static bool map_old(Emit *e, struct SharedWeights *s) {
    if (s->old_bytes == 0) return true;
    int f = open(s->path, O_RDONLY);
    struct stat st;
    bool good = f >= 0 && fstat(f, &st) == 0 && (uint64_t)st.st_size >= s->old_bytes;
    void *p = good ? mmap(NULL, s->old_bytes, PROT_READ, MAP_PRIVATE, f, 0) : MAP_FAILED;
    if (f >= 0) close(f);
    if (p == MAP_FAILED) return failed(e, s->path, good ? strerror(errno) : "it is shorter than its .index says");
    s->old = p;
    return true;
}

/* Are the bytes of v, which stand in e's room if it is a made one, those at offset? Added tensors stand in order of their offsets. */
static bool has_bytes(const struct SharedWeights *s, uint64_t offset, const Value *v, const void *bytes) {
    if (offset < s->old_bytes) return memcmp(s->old + offset, bytes, v->data->bytes) == 0;
    uint32_t lo = 0, hi = s->added.n;
    while (lo + 1 < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (s->added.v[mid].offset <= offset) lo = mid;
        else hi = mid;
    }
    return const_equal(s->added.v[lo].value, v);
}

/* The place of v's bytes: where equal ones stand, or at the end. */
static uint64_t place(Emit *e, struct SharedWeights *s, Value *v, uint64_t **slot, uint64_t mask) {
    bool text = v->type->dtype == DT_STRING; /* always in the C file; takes a place so that places differ */
    size_t n = text ? 0 : v->data->bytes;
    const void *bytes = const_bytes(v, &e->room);
    uint64_t hash = content_hash(bytes, n), i = hash & mask;
    for (; !text && n != 0 && (*slot)[i] != 0; i = (i + 1) & mask) {
        const Tensor *x = &s->entry.v[(*slot)[i] - 1];
        if (x->hash == hash && x->bytes == n && has_bytes(s, x->offset, v, bytes)) return x->offset;
    }
    Tensor x = {s->bytes, n != 0 ? n : 64, n != 0 ? hash : 0};
    vec_push(&e->cx->scratch, &s->entry, x);
    PlanWeight w = {v, s->bytes};
    vec_push(&e->cx->scratch, &s->added, w);
    if (!text && n != 0) (*slot)[i] = s->entry.n;
    s->bytes += round_up(x.bytes);
    return x.offset;
}

typedef struct Move { uint64_t from, to; Value *value; } Move;

static int by_from(const void *a, const void *b) {
    const Move *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

static int by_offset(const void *a, const void *b) {
    const PlanWeight *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

bool shared_weights_open(Emit *e, const char *path) {
    Plan *p = e->plan;
    Arena *scratch = &e->cx->scratch;
    struct SharedWeights *s = e->shared = ARENA_NEW(scratch, struct SharedWeights);
    s->path = path;
    if (!read_index(e, s) || !map_old(e, s)) return false;
    s->bytes = s->old_bytes;
    uint64_t size = 64;
    while (size < 2 * (uint64_t)(s->entry.n + p->n_weight + 1)) size *= 2;
    uint64_t *slot = ARENA_ARRAY(scratch, uint64_t, size);
    for (uint32_t k = 0; k < s->entry.n; k++) {
        uint64_t i = s->entry.v[k].hash & (size - 1);
        while (slot[i] != 0) i = (i + 1) & (size - 1);
        slot[i] = k + 1;
    }
    Move *move = ARENA_ARRAY(scratch, Move, p->n_weight);
    for (uint32_t i = 0; i < p->n_weight; i++) {
        move[i] = (Move){p->weight[i].offset, place(e, s, p->weight[i].value, &slot, size - 1), p->weight[i].value};
        p->weight[i].offset = move[i].to;
    }
    if (p->n_weight != 0) {
        qsort(move, p->n_weight, sizeof *move, by_from);
        qsort(p->weight, p->n_weight, sizeof *p->weight, by_offset);
    }
    for (const Plan *of = p; of != NULL; of = of->before) {
        for (uint32_t v = 0; v < of->n_ref; v++) {
            if (of->ref[v].space != SPACE_WEIGHT) continue;
            Move key = {.from = of->ref[v].offset};
            const Move *found = bsearch(&key, move, p->n_weight, sizeof *move, by_from);
            CHECK(e->cx, found != NULL);
            of->ref[v].offset = found->to;
        }
    }
    e->weight_bytes = p->weight_bytes = s->bytes;
    return true;
}

/* Calls put on the whole file as it will be, or, from > 0, on what comes behind that. */
bool shared_weights_each(const Emit *e, uint64_t from, bool (*put)(void *user, const unsigned char *bytes, size_t n), void *user) {
    const struct SharedWeights *s = e->shared;
    if (from < s->old_bytes && !put(user, s->old + from, s->old_bytes - from)) return false;
    for (uint32_t i = 0; i < s->added.n; i++) {
        const Value *v = s->added.v[i].value;
        size_t n = v->type->dtype == DT_STRING ? 0 : v->data->bytes, whole = n / 64 * 64, rest = n - whole;
        const unsigned char *bytes = const_bytes(v, &e->room);
        if (whole != 0 && !put(user, bytes, whole)) return false;
        unsigned char last[64] = {0};
        if (rest != 0) memcpy(last, bytes + whole, rest);
        if ((rest != 0 || n == 0) && !put(user, last, 64)) return false;
    }
    return true;
}

static bool put_file(void *user, const unsigned char *bytes, size_t n) { return fwrite(bytes, 1, n, user) == n; }

bool shared_weights_write(Emit *e) {
    struct SharedWeights *s = e->shared;
    const char *index = index_path(e, s->path), *fresh = str_text(e->cx, str_format(e->cx, "%s.new", index));
    FILE *f = fopen(s->path, s->old_bytes != 0 ? "r+b" : "wb");
    bool good = f != NULL && ftruncate(fileno(f), (off_t)s->old_bytes) == 0 && fseeko(f, (off_t)s->old_bytes, SEEK_SET) == 0 && shared_weights_each(e, s->old_bytes, put_file, f);
    if (f != NULL) good &= fclose(f) == 0;
    f = good ? fopen(fresh, "w") : NULL;
    good = f != NULL;
    for (uint32_t i = 0; i < s->entry.n && good; i++)
        good = fprintf(f, "%llu %llu %llx\n", (unsigned long long)s->entry.v[i].offset, (unsigned long long)s->entry.v[i].bytes, (unsigned long long)s->entry.v[i].hash) > 0;
    if (f != NULL) good &= fclose(f) == 0;
    good = good && rename(fresh, index) == 0;
    return good || failed(e, s->path, strerror(errno));
}

void shared_weights_close(Emit *e) {
    if (e->shared != NULL && e->shared->old != NULL) munmap((void *)(uintptr_t)e->shared->old, e->shared->old_bytes);
}
