/* lathe verify: does the compiled model compute what it should? Against outputs that came with the model, or, when there
 * are none, against the same graph compiled without any optimisation. */
#include <string.h>

#include "driver/commands.h"
#include "driver/compare.h"
#include "driver/text.h"
#include "driver/values.h"

static const double BF16_RANGE = 3e-2; /* of the reference's range: what networks lose to bfloat16 inputs, with a margin */

static const Option options[] = {
    {"--data", OPT_TEXTS, "DIR", "input_K.pb and output_K.pb, test_data_set_* folders with them, or NAME.in.npz and NAME.ref.npz (may be repeated)", offsetof(Request, data)},
    {"--expect", OPT_TEXTS, "FILE", "expected outputs for --input or --inputs: .npz by name, .npy or .pb in order", offsetof(Request, expect)},
    {"--rtol", OPT_REAL, "R", "every element: |a-b| <= atol + rtol * |b|", offsetof(Request, rtol)},
    {"--atol", OPT_REAL, "A", "(either switches to this rule; the other is then 0)", offsetof(Request, atol)},
    {"--range-tol", OPT_REAL, "T", "largest difference over the range of the output (default 1e-4 for float32, 3e-2 with --precision bf16)", offsetof(Request, range_tol)},
    {"--threads", OPT_LIST, "1,2", "run with each of these; all must give the same bits (default: all processors)", offsetof(Request, threads)},
    {0},
};
static const Option *const tables[] = {data_options, options, compile_options, build_options, help_options, NULL};

typedef struct Verify {
    Driver *d;
    const Request *r;
    Tolerance tolerance;
    Threads threads;
    Table table;
    uint32_t n_output, n_bad;
} Verify;

/* ---- comparing -------------------------------------------------------------------------------------------------- */
static const char *verdict_of_shape(Verify *v, const Tensor *got, const Tensor *want) {
    if (got->number != want->number)
        return driver_format(v->d, "type %s, expected %s", element_name(got->number), element_name(want->number));
    if (got->rank == want->rank && (got->rank == 0 || memcmp(got->dim, want->dim, got->rank * sizeof *got->dim) == 0)) return NULL;
    return driver_format(v->d, "shape [%s], expected [%s]", shape_text(v->d, got->rank, got->dim), shape_text(v->d, want->rank, want->dim));
}

static void compare_output(Verify *v, const DataSet *set, const Tensor *got, const Tensor *want) {
    Table *t = &v->table;
    v->n_output++;
    table_cell(t, set->name);
    table_cell(t, got->name);
    table_cell(t, driver_format(v->d, "%s[%s]", element_name(got->number), shape_text(v->d, got->rank, got->dim)));
    const char *wrong = verdict_of_shape(v, got, want);
    if (wrong != NULL) {
        table_row(t, "-,-,-,-");
        table_cell(t, driver_format(v->d, "FAIL: %s", wrong));
        v->n_bad++;
        return;
    }
    Comparison c = compare_elements(got->number, tensor_count(got), got->data, want->data, &v->tolerance);
    table_row(t, "%.3g,%.3g,%llu,%.3g", c.max_abs, c.max_rel, (unsigned long long)c.max_ulp, c.range_rel);
    if (c.pass) {
        table_cell(t, "ok");
        return;
    }
    v->n_bad++;
    table_cell(t, driver_format(v->d, "FAIL: %lld of %lld elements, worst at %lld", (long long)c.n_bad, (long long)c.n, (long long)c.worst));
}

/* An output that may be a sequence or an optional: tensor by tensor when it is built the same way. */
static void compare_value(Verify *v, const DataSet *set, const Tensor *got, const Tensor *want) {
    Tensors a = {0}, b = {0};
    Tensor held = *value_held(got), expected = *value_held(want);
    held.name = expected.name = got->name;
    value_leaves(v->d, &held, &a);
    value_leaves(v->d, &expected, &b);
    bool same = a.n == b.n && held.kind == expected.kind;
    for (uint32_t i = 0; same && i < a.n; i++) compare_output(v, set, &a.v[i], &b.v[i]);
    if (same) return;
    static const char *const kinds[] = {[TENSOR] = "a tensor", [SEQUENCE] = "a sequence", [OPTIONAL] = "an empty optional"};
    table_cell(&v->table, set->name);
    table_cell(&v->table, got->name);
    table_cell(&v->table, kinds[held.kind]);
    table_row(&v->table, "-,-,-,-");
    table_cell(&v->table, driver_format(v->d, "FAIL: %s of %u, expected %s of %u", kinds[held.kind], held.n_elem, kinds[expected.kind], expected.n_elem));
    v->n_output++;
    v->n_bad++;
}

/* Copies of a call's outputs, to compare a later run with. */
static Tensor *copied(Driver *d, const Tensor *t, uint32_t n) {
    Tensor *copy = ARENA_ARRAY(&d->arena, Tensor, n);
    for (uint32_t i = 0; i < n; i++) {
        copy[i] = t[i];
        if (t[i].kind != TENSOR) {
            copy[i].elem = copied(d, t[i].elem, t[i].n_elem);
            continue;
        }
        copy[i].data = arena_alloc(&d->arena, t[i].bytes);
        memcpy(copy[i].data, t[i].data, t[i].bytes);
    }
    return copy;
}

static bool same_bits(Verify *v, const Tensor *a, const Tensor *b) {
    Tensors x = {0}, y = {0};
    value_leaves(v->d, a, &x);
    value_leaves(v->d, b, &y);
    bool same = x.n == y.n;
    for (uint32_t i = 0; same && i < x.n; i++) {
        const Tensor *p = &x.v[i], *q = &y.v[i];
        same = p->number == q->number && p->bytes == q->bytes;
        if (same && element_class(p->number) == ELEMENT_STRING) same = compare_elements(p->number, tensor_count(p), p->data, q->data, &v->tolerance).pass;
        else if (same) same = memcmp(p->data, q->data, p->bytes) == 0;
    }
    return same;
}

static void check_same_bits(Verify *v, const DataSet *set, const Tensor *first, const Tensor *now, uint32_t n, int threads) {
    for (uint32_t i = 0; i < n; i++) {
        if (same_bits(v, &first[i], &now[i])) continue;
        driver_error(v->d, "%s: output %s has other bits with %d threads than with %d", set->name, printable(v->d, now[i].name), threads, v->threads.v[0]);
        v->n_bad++;
    }
}

/* Runs p on set for every number of threads; *out: copies of the outputs of the first. The code of the emitted function. */
static Exit run_all(Verify *v, Program *p, const DataSet *set, int *code, Tensor **out) {
    Call c;
    Exit e = call_prepare(v->d, p, set, &c);
    if (e != DONE) return e;
    *out = NULL;
    for (uint32_t i = 0; i < v->threads.n; i++) {
        *code = call_run(p, v->threads.v[i], &c);
        if (*code != 0) break;
        Tensor *now = call_outputs(v->d, &c);
        if (now == NULL) e = BROKEN;
        else if (*out == NULL) *out = copied(v->d, now, p->n_out_group);
        else check_same_bits(v, set, *out, now, p->n_out_group, v->threads.v[i]);
    }
    call_free(&c);
    return e;
}

static void report_stop(Verify *v, const Program *p, const DataSet *set, int code, int reference_code) {
    if (set->want != NULL) driver_error(v->d, "%s: the model stopped: %s (code %d)", set->name, p->error(code), code);
    else if (code == reference_code) driver_error(v->d, "%s: the model stops, optimised or not: %s (code %d); give other inputs", set->name, p->error(code), code);
    else driver_error(v->d, "%s: the model gives code %d (%s), its unoptimised build code %d (%s)", set->name, code, p->error(code), reference_code, p->error(reference_code));
}

static Exit verify_set(Verify *v, Program *p, Program *reference, const DataSet *set) {
    int code = 0, reference_code = 0;
    Tensor *got = NULL, *want = set->want;
    Exit e = DONE;
    if (want == NULL) e = run_all(v, reference, set, &reference_code, &want);
    if (e == DONE) e = run_all(v, p, set, &code, &got);
    if (e != DONE) return e;
    if (code != 0 || reference_code != 0) {
        report_stop(v, p, set, code, reference_code);
        v->n_bad++;
        return DONE;
    }
    for (uint32_t i = 0; i < p->n_out_group; i++)
        if (want[i].data != NULL) compare_value(v, set, &got[i], &want[i]);
    return DONE;
}

/* ---- programs --------------------------------------------------------------------------------------------------- */
/* Every optional pass but the folding of constants. */
static const char *const *all_but_folding(Driver *d) {
    Texts list = {0};
    for (uint32_t i = 0; lathe_pass_name(i) != NULL; i++)
        if (lathe_pass_optional(i) && strcmp(lathe_pass_name(i), "fold_consts") != 0) vec_push(&d->arena, &list, lathe_pass_name(i));
    vec_push(&d->arena, &list, NULL);
    return list.v;
}

/* The same graph with no optimisation. Some models cannot be compiled like that: sizes that are computed from constants
 * have no bound before these are folded. Then folding, which does not run on emitted code, is all they get. */
static Exit make_reference(Verify *v, const Sizes *sizes, Program *p) {
    static const char *const none[] = {NULL};
    Request plain = *v->r;
    plain.dump = NULL;
    v->d->quiet = true;
    Exit e = program_make(v->d, &plain, &(Variant){.name = "unoptimised", .level = 0, .disable = none}, sizes, p);
    v->d->quiet = false;
    if (e != DIFFERS) return e;
    driver_note(v->d, "without any optimisation this model has sizes without bounds: the reference has its constants folded");
    return program_make(v->d, &plain, &(Variant){.name = "folded", .level = 1, .disable = all_but_folding(v->d)}, sizes, p);
}

static Exit verify_given(Verify *v, const DataSets *sets, const Sizes *sizes) {
    bool needs_reference = false;
    for (uint32_t i = 0; i < sets->n; i++) needs_reference = needs_reference || sets->v[i].want == NULL;
    Program p, reference = {0};
    Exit e = program_make(v->d, v->r, NULL, sizes, &p);
    if (e != DONE) return e;
    if (needs_reference) e = make_reference(v, sizes, &reference);
    for (uint32_t i = 0; e == DONE && i < sets->n; i++) e = verify_set(v, &p, &reference, &sets->v[i]);
    if (needs_reference) program_free(&reference);
    program_free(&p);
    return e;
}

static Exit verify_random(Verify *v) {
    RandomCase c;
    Exit e = random_case(v->d, v->r, &c);
    if (e != DONE) return e;
    driver_note(v->d, "no data given: random inputs%s, compared with an unoptimised build", c.description);
    Program reference;
    e = make_reference(v, &c.sizes, &reference);
    if (e == DONE) {
        e = verify_set(v, &c.program, &reference, &c.set);
        program_free(&reference);
    }
    program_free(&c.program);
    return e;
}

static Exit verify(Driver *d, const Request *r) {
    Verify v = {.d = d, .r = r, .table = table_new(d, "data,output,type,max abs,max rel,max ULP,of range,verdict")};
    v.tolerance = (Tolerance){r->rtol > 0 ? r->rtol : 0, r->atol > 0 ? r->atol : 0, r->range_tol, r->rtol >= 0 || r->atol >= 0};
    if (r->precision == LATHE_PRECISION_BF16 && v.tolerance.range_tol < 0) v.tolerance.range_tol = BF16_RANGE;
    if (!threads_all(d, r, &v.threads)) return BAD_USAGE;
    if (v.threads.n == 0) vec_push(&d->arena, &v.threads, 0);
    if (r->expect.n != 0 && r->input.n == 0 && r->inputs.n == 0) {
        driver_error(d, "--expect needs --input or --inputs");
        return BAD_USAGE;
    }
    DataSets sets;
    Sizes sizes;
    Exit e = data_open(d, r, &sets, &sizes);
    if (e == DONE) e = sets.n != 0 ? verify_given(&v, &sets, &sizes) : verify_random(&v);
    if (e != DONE) return e;
    if (v.n_output != 0) table_print(&v.table, stdout);
    if (v.n_bad == 0 && v.n_output != 0) printf("verified: %u output%s\n", v.n_output, v.n_output == 1 ? "" : "s");
    else printf("NOT verified: %u problem%s\n", v.n_bad, v.n_bad == 1 ? "" : "s");
    return v.n_bad == 0 && v.n_output != 0 ? DONE : DIFFERS;
}

const Command verify_command = {
    .name = "verify", .files = "MODEL", .min_files = 1, .max_files = 1, .options = tables, .run = verify,
    .summary = "check a compiled model against given outputs, or against an unoptimised build",
};
