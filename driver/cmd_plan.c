/* lathe plan: offsets for blocks of memory that a CSV file lists by lifetime and size.
 *
 *     id,lower,upper,size              id,lower,upper,size,offset
 *     a,0,3,4                    →     a,0,3,4,0
 *     b,2,5,8                          b,2,5,8,4
 *
 * Columns may stand in any order; others are carried along. `alignment` and `gaps` ("3-5 7-9": free in these times) may be absent;
 * an `offset` column is written over. Every plan is checked here against the rows alone before it is reported. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver/commands.h"
#include "driver/text.h"

static const Option plan_options[] = {
    {"--capacity", OPT_COUNT, "BYTES", "the arena must not be larger; without it, it becomes as small as can be found", offsetof(Request, capacity)},
    {"-o", OPT_TEXT, "OFFSETS.csv", "write the columns of the file and the offsets here", offsetof(Request, output)},
    {0},
};
static const Option *const tables[] = {plan_options, help_options, NULL};

enum { ID, LOWER, UPPER, SIZE, ALIGNMENT, GAPS, OFFSET, N_COLUMNS, MOST_ERRORS = 20 };
static const char *const column_name[N_COLUMNS] = {"id", "lower", "upper", "size", "alignment", "gaps", "offset"};

typedef struct Sheet {
    Driver *d;
    const char *path;
    int32_t column[N_COLUMNS]; /* -1: absent */
    uint32_t n_column, n_error;
    Texts header;
    VEC(Texts) row;
    VEC(uint32_t) line;        /* by row, for messages */
    VEC(LatheBlock) block;
} Sheet;

static void problem(Sheet *t, uint32_t line, const char *text) {
    if (t->n_error++ < MOST_ERRORS) driver_error(t->d, "%s:%u: %s", t->path, line, text);
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */
static const char *trimmed(Driver *d, const char *from, const char *end) {
    while (from < end && (*from == ' ' || *from == '\t')) from++;
    while (end > from && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) end--;
    return arena_strdup(&d->arena, from, (size_t)(end - from));
}

static Texts split(Driver *d, const char *from, const char *end) {
    Texts fields = {0};
    for (const char *p = from;; p++) {
        if (p < end && *p != ',') continue;
        vec_push(&d->arena, &fields, trimmed(d, from, p));
        if (p >= end) return fields;
        from = p + 1;
    }
}

static bool read_header(Sheet *t, Texts fields) {
    t->header = fields;
    t->n_column = fields.n;
    for (int c = 0; c < N_COLUMNS; c++) t->column[c] = -1;
    for (uint32_t i = 0; i < fields.n; i++)
        for (int c = 0; c < N_COLUMNS; c++) {
            if (strcmp(fields.v[i], column_name[c]) != 0) continue;
            if (t->column[c] >= 0) problem(t, 1, driver_format(t->d, "column %s is there twice", column_name[c]));
            t->column[c] = (int32_t)i;
        }
    for (int c = ID; c <= SIZE; c++)
        if (t->column[c] < 0) problem(t, 1, driver_format(t->d, "column %s is missing: the first line must name id, lower, upper and size", column_name[c]));
    return t->n_error == 0;
}

/* A whole number from 0 to 2^63 - 1 at *p, moved behind it. */
static bool number_at(const char **p, int64_t *value) {
    const char *c = *p;
    int64_t x = 0;
    if (*c < '0' || *c > '9') return false;
    for (; *c >= '0' && *c <= '9'; c++)
        if (__builtin_mul_overflow(x, 10, &x) || __builtin_add_overflow(x, *c - '0', &x)) return false;
    *p = c;
    *value = x;
    return true;
}

static int64_t number(Sheet *t, uint32_t line, const Texts *row, int c) {
    const char *p = row->v[t->column[c]];
    int64_t value = 0;
    if (number_at(&p, &value) && *p == 0) return value;
    const char *text = printable(t->d, row->v[t->column[c]]);
    problem(t, line, driver_format(t->d, "%s is \"%s\": expected a whole number from 0 to 9223372036854775807", column_name[c], text));
    return 0;
}

static void read_gaps(Sheet *t, uint32_t line, const char *text, LatheBlock *b) {
    VEC(LatheGap) gaps = {0};
    int64_t from = b->lower, used = b->upper - b->lower;
    for (const char *p = text; *p != 0;) {
        LatheGap g = {0};
        bool good = number_at(&p, &g.lower) && *p == '-' && (p++, number_at(&p, &g.upper)) && (*p == 0 || *p == ' ');
        if (!good || g.lower < from || g.lower >= g.upper || g.upper > b->upper) {
            problem(t, line, driver_format(t->d, "gaps are \"%s\": expected \"LOWER-UPPER LOWER-UPPER …\", ascending, inside of the lifetime", printable(t->d, text)));
            return;
        }
        while (*p == ' ') p++;
        from = g.upper;
        used -= g.upper - g.lower;
        vec_push(&t->d->arena, &gaps, g);
    }
    if (used == 0) problem(t, line, "the gaps leave nothing of the lifetime");
    b->gap = gaps.v;
    b->n_gap = gaps.n;
}

static void read_row(Sheet *t, uint32_t line, Texts row) {
    if (row.n != t->n_column) {
        problem(t, line, driver_format(t->d, "%u fields where the first line has %u", row.n, t->n_column));
        return;
    }
    uint32_t before = t->n_error;
    LatheBlock b = {.lower = number(t, line, &row, LOWER), .upper = number(t, line, &row, UPPER), .size = (uint64_t)number(t, line, &row, SIZE), .align = 1};
    const char *align = t->column[ALIGNMENT] >= 0 ? row.v[t->column[ALIGNMENT]] : "";
    if (*align != 0) {
        b.align = (uint64_t)number(t, line, &row, ALIGNMENT);
        if (b.align == 0 && t->n_error == before) problem(t, line, "alignment is 0: expected 1 or more");
    }
    if (t->n_error != before) return;
    if (b.lower >= b.upper) {
        problem(t, line, driver_format(t->d, "lower %lld is not below upper %lld", (long long)b.lower, (long long)b.upper));
        return;
    }
    if (t->column[GAPS] >= 0) read_gaps(t, line, row.v[t->column[GAPS]], &b);
    vec_push(&t->d->arena, &t->row, row);
    vec_push(&t->d->arena, &t->line, line);
    vec_push(&t->d->arena, &t->block, b);
}

typedef struct Id { const char *text; uint32_t row; } Id;

static int by_text(const void *pa, const void *pb) {
    const Id *a = pa, *b = pb;
    int c = strcmp(a->text, b->text);
    return c != 0 ? c : (a->row > b->row) - (a->row < b->row);
}

static void check_ids(Sheet *t) {
    Id *id = ARENA_ARRAY(&t->d->arena, Id, t->row.n);
    for (uint32_t i = 0; i < t->row.n; i++) id[i] = (Id){t->row.v[i].v[t->column[ID]], i};
    if (t->row.n != 0) qsort(id, t->row.n, sizeof *id, by_text);
    for (uint32_t i = 1; i < t->row.n; i++)
        if (strcmp(id[i].text, id[i - 1].text) == 0)
            problem(t, t->line.v[id[i].row], driver_format(t->d, "id %s was used before, in line %u", printable(t->d, id[i].text), t->line.v[id[i - 1].row]));
}

static void check_sum(Sheet *t) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->block.n; i++) {
        const LatheBlock *b = &t->block.v[i];
        if (!__builtin_add_overflow(sum, b->size, &sum) && !__builtin_add_overflow(sum, b->align, &sum) && sum >> 62 == 0) continue;
        problem(t, t->line.v[i], "the sizes of the rows up to here add up to 2^62 bytes or more");
        return;
    }
}

static bool read_table(Sheet *t, const char *text, size_t n) {
    const char *p = text, *end = text + n;
    if (memchr(text, 0, n) != NULL) {
        problem(t, 1, "this is no text file");
        return false;
    }
    for (uint32_t line = 1; p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (stop == NULL) stop = end;
        bool blank = *trimmed(t->d, p, stop) == 0;
        if (line == 1 && !read_header(t, split(t->d, p, stop))) return false;
        if (line > 1 && !blank) read_row(t, line, split(t->d, p, stop));
        p = stop + (stop < end);
    }
    if (t->n_column == 0) problem(t, 1, "the file is empty");
    else if (t->n_error == 0 && t->row.n == 0) problem(t, 1, "there are no rows");
    check_ids(t);
    if (t->n_error == 0) check_sum(t);
    if (t->n_error > MOST_ERRORS) driver_error(t->d, "%s: %u more problems", t->path, t->n_error - MOST_ERRORS);
    return t->n_error == 0;
}

/* ---- checking: from the rows and offsets alone --------------------------------------------------------------------- */
static bool in_use(const LatheBlock *b, int64_t time) {
    if (time < b->lower || time >= b->upper) return false;
    for (uint32_t i = 0; i < b->n_gap; i++)
        if (time >= b->gap[i].lower && time < b->gap[i].upper) return false;
    return true;
}

/* Two blocks meet when one is in use at a moment when the other begins to be. */
static bool meet_at_start(const LatheBlock *a, const LatheBlock *b) {
    if (in_use(a, a->lower) && in_use(b, a->lower)) return true;
    for (uint32_t i = 0; i < a->n_gap; i++)
        if (in_use(a, a->gap[i].upper) && in_use(b, a->gap[i].upper)) return true;
    return false;
}

static int by_lower(const void *pa, const void *pb) {
    const LatheBlock *a = *(const LatheBlock *const *)pa, *b = *(const LatheBlock *const *)pb;
    return (a->lower > b->lower) - (a->lower < b->lower);
}

static bool placement_is_right(Driver *d, const LatheBlock *block, uint32_t n, uint64_t height) {
    const LatheBlock **order = ARENA_ARRAY(&d->arena, const LatheBlock *, n);
    for (uint32_t i = 0; i < n; i++) {
        order[i] = &block[i];
        if (block[i].offset % block[i].align != 0 || block[i].offset > height || block[i].size > height - block[i].offset) return false;
    }
    qsort(order, n, sizeof *order, by_lower);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = i + 1; j < n && order[j]->lower < order[i]->upper; j++) {
            const LatheBlock *a = order[i], *b = order[j];
            if (a->offset >= b->offset + b->size || b->offset >= a->offset + a->size) continue;
            if (meet_at_start(a, b) || meet_at_start(b, a)) return false;
        }
    return true;
}

/* ---- the command --------------------------------------------------------------------------------------------------- */
static void write_line(Writer *w, const Sheet *t, const Texts *fields, const char *offset) {
    for (uint32_t i = 0; i < fields->n; i++) {
        const char *text = (int32_t)i == t->column[OFFSET] ? offset : fields->v[i];
        if (i != 0) cw_text(w, ",", 1);
        cw_text(w, text, strlen(text));
    }
    if (t->column[OFFSET] < 0) cw_printf(w, ",%s", offset);
    cw_text(w, "\n", 1);
}

static bool write_table(Sheet *t, const char *path) {
    Writer w = {.arena = &t->d->arena};
    write_line(&w, t, &t->header, column_name[OFFSET]);
    for (uint32_t i = 0; i < t->row.n; i++) write_line(&w, t, &t->row.v[i], driver_format(t->d, "%llu", (unsigned long long)t->block.v[i].offset));
    return driver_write_file(t->d, path, w.text, w.n);
}

static Exit solve(Sheet *t, const Request *r) {
    LatheModel *m = lathe_model_new("plan");
    if (m == NULL) return driver_error(t->d, "out of memory"), BROKEN;
    LathePlacement p = {0};
    uint64_t capacity = (uint64_t)r->capacity;
    LatheStatus status = lathe_place_blocks(m, t->block.v, t->block.n, capacity, &p);
    Exit e = DONE;
    if (status != LATHE_OK && (status != LATHE_ERROR_MODEL || p.height == 0)) e = driver_model_failed(t->d, m, status);
    lathe_model_free(m);
    if (e != DONE) return e;
    if (!placement_is_right(t->d, t->block.v, t->block.n, p.height)) {
        driver_error(t->d, "the plan is wrong: blocks overlap"); /* a mistake of the solver */
        return BROKEN;
    }
    printf("blocks      %u\nheight      %llu\nlower bound %llu\n", t->block.n, (unsigned long long)p.height, (unsigned long long)p.lower_bound);
    if (capacity != 0) printf("capacity    %llu\n", (unsigned long long)capacity);
    if (capacity != 0 && p.height > capacity) {
        const char *why = p.lower_bound > capacity ? "more is alive at one time" : "no plan that small was found";
        driver_error(t->d, "%s: the capacity of %llu bytes is not met: %s", t->path, (unsigned long long)capacity, why);
        return DIFFERS;
    }
    return r->output == NULL || write_table(t, r->output) ? DONE : BROKEN;
}

static Exit plan(Driver *d, const Request *r) {
    Sheet t = {.d = d, .path = r->files.v[0]};
    size_t n;
    char *text = driver_read_file(d, t.path, &n);
    if (text == NULL) return BROKEN;
    return read_table(&t, text, n) ? solve(&t, r) : DIFFERS;
}

const Command plan_command = {
    .name = "plan", .files = "FILE.csv", .min_files = 1, .max_files = 1, .options = tables, .run = plan,
    .summary = "place blocks of memory with given lifetimes and sizes in one arena",
    .details = "FILE.csv names its columns in the first line: id, lower, upper, size; alignment and gaps may be there too.\n"
               "Prints the height and the lower bound; exit code 1 when the capacity is not met, and nothing is written then.\n",
};
