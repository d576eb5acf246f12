/* join_rows: kernels one after the other that go through the same rows become one kernel, row by row.
 *
 *     for i0 < 1024 parallel(1)                      for i0 < 1024 parallel(1)
 *       … b1[i0, i1] = gate(…)                         … b1[i1] = gate(…)
 *     for i0 < 1024 parallel(1)             ->         … sum of b1[i1], b2[i0, i1] = b1[i1] / sum
 *       … sum of b1[i0, i1] …
 *       … b2[i0, i1] = b1[i0, i1] / sum
 *
 * Fusion (passes/fuse.c) joins operators around one reduction. A chain of norms, softmaxes and pointwise operators with several readers still
 * is several kernels, each of which reads from memory what another wrote. When every element that passes between two of them
 * is of the row at hand, their loops over rows can be one: what nobody else reads then is an array on the stack, and threads
 * need not meet in between.
 *
 * Only kernels that are one parallel loop nest over tensors of constant sizes take part; what calls micro-kernels or may fail at run time
 * does not. A joined kernel is split over threads at the loops that all its parts share, so these have to give enough iterations. */
#include "base/id_map.h"
#include "ir/plan.h"
#include "passes/lower.h"
#include "passes/pass.h"

enum { MOST_PARTS = 24, ROWS_ENOUGH = 64, MOST_ROW_BYTES = 128 << 10, MOST_LOCAL_BYTES = 16 << 10, MOST_STACK_BYTES = 64 << 10 };

typedef struct Joiner {
    Context *cx;
    Module *m;
    Plan *plan;
    uint32_t n;        /* values */
    uint32_t *uses;    /* by value id: how many kernel arguments and other operands of steps it is */
    bool *fixed;       /* by value id: must stay in memory */
} Joiner;

/* Consecutive steps that may be one, and the number of loops that they have in common. */
typedef struct Group { Step *step[MOST_PARTS]; uint32_t n, depth; } Group;

static void count_uses(Joiner *j, const Step *s) {
    for (; s != NULL; s = s->next) {
        for (uint32_t i = 0; i < s->n_value; i++) {
            if (s->value[i] == NULL) continue;
            j->uses[s->value[i]->id]++;
            if (s->kind != STEP_KERNEL) j->fixed[s->value[i]->id] = true;
        }
        count_uses(j, s->body);
        count_uses(j, s->orelse);
    }
}

static void find_fixed(Joiner *j) {
    const Graph *g = j->m->main;
    for (uint32_t i = 0; i < g->n_out; i++) j->fixed[g->out[i]->id] = true;
    for (uint32_t i = 0; i < j->plan->n_alias; i++) {
        if (j->plan->alias[i] == NULL) continue;
        j->fixed[i] = true;
        j->fixed[j->plan->alias[i]->id] = true;
    }
    count_uses(j, j->plan->first);
}

/* ---- which kernels ------------------------------------------------------------------------------------------------------------ */
static bool plain_expr(const Expr *e) {
    if (e == NULL) return true;
    if (e->kind == E_DIM || (e->kind == E_FN && (e->fn == FN_INDEX || e->fn == FN_REQUIRE))) return false;
    for (uint32_t i = 0; i < e->n_arg; i++)
        if (!plain_expr(e->arg[i])) return false;
    return true;
}

static bool plain_stmts(const Kernel *k, const Stmt *s) {
    for (; s != NULL; s = s->next) {
        if (s->kind == S_CALL || s->kind == S_CONTRACT || s->kind == S_WHILE || s->phases) return false;
        if (!plain_expr(s->extent) || !plain_expr(s->val)) return false;
        for (uint32_t d = 0; s->kind == S_STORE && d < k->buf[s->buf].rank; d++)
            if (!plain_expr(s->idx[d])) return false;
        if (!plain_stmts(k, s->body) || !plain_stmts(k, s->orelse)) return false;
    }
    return true;
}

static bool is_candidate(const Joiner *j, const Step *s) {
    if (s->kind != STEP_KERNEL || s->n_checked != 0 || s->kernel->inplace) return false;
    const Kernel *k = s->kernel;
    if (k->body == NULL || k->body->kind != S_FOR || k->body->next != NULL || k->body->parallel == 0 || k->body->phases) return false;
    for (uint32_t i = 0; i < k->n_buf; i++) {
        const Buf *b = &k->buf[i];
        if (b->kind == BUF_INOUT || dtype_bits(b->dtype) < 8 || b->stride != NULL) return false;
        for (uint32_t d = 0; d < b->rank; d++)
            if (!dim_is_const(j->cx, b->dim[d])) return false;
    }
    return plain_stmts(k, k->body);
}

static const Stmt *loop_at(const Kernel *k, uint32_t depth) {
    const Stmt *s = k->body;
    while (depth-- > 0) s = s->body;
    return s;
}

/* ---- whether two of them may be joined ------------------------------------------------------------------------------------------ */
static bool row_index(const Kernel *k, uint32_t depth, Expr *const *idx) {
    for (uint32_t d = 0; d < depth; d++)
        if (idx[d]->kind != E_VAR || idx[d]->ref != loop_at(k, d)->var) return false;
    return true;
}

static bool row_loads(const Kernel *k, uint32_t depth, uint32_t buf, const Expr *e) {
    if (e == NULL) return true;
    if (e->kind == E_LOAD && e->ref == buf && !row_index(k, depth, (Expr *const *)e->arg)) return false;
    for (uint32_t i = 0; i < e->n_arg; i++)
        if (!row_loads(k, depth, buf, e->arg[i])) return false;
    return true;
}

static bool row_stmts(const Kernel *k, uint32_t depth, uint32_t buf, const Stmt *s) {
    for (; s != NULL; s = s->next) {
        if (!row_loads(k, depth, buf, s->extent) || !row_loads(k, depth, buf, s->val)) return false;
        if (s->kind == S_STORE && s->buf == buf && !row_index(k, depth, s->idx)) return false;
        for (uint32_t d = 0; s->kind == S_STORE && d < k->buf[s->buf].rank; d++)
            if (!row_loads(k, depth, buf, s->idx[d])) return false;
        if (!row_stmts(k, depth, buf, s->body) || !row_stmts(k, depth, buf, s->orelse)) return false;
    }
    return true;
}

static uint64_t row_bytes(const Joiner *j, const Buf *b, uint32_t depth) {
    uint64_t bytes = dtype_bits(b->dtype) / 8;
    for (uint32_t d = depth; d < b->rank; d++) {
        uint64_t n = (uint64_t)dim_value(j->cx, b->dim[d]);
        if (n != 0 && bytes > MOST_ROW_BYTES / n) return MOST_ROW_BYTES + 1;
        bytes *= n;
    }
    return bytes;
}

/* Is every access to the argument of the row that the outer loops are at? */
static bool stays_in_row(const Joiner *j, const Kernel *k, uint32_t arg, uint32_t depth) {
    return k->buf[arg].rank >= depth && row_bytes(j, &k->buf[arg], depth) <= MOST_ROW_BYTES && row_stmts(k, depth, arg, k->body);
}

/* Nothing that one of them writes may be read or written elsewhere than in its row by the other. */
static bool compatible(const Joiner *j, const Step *a, const Step *b, uint32_t depth, bool *flows) {
    for (uint32_t x = 0; x < a->n_value; x++) {
        for (uint32_t y = 0; y < b->n_value; y++) {
            bool a_writes = a->kernel->buf[x].kind != BUF_IN, b_writes = b->kernel->buf[y].kind != BUF_IN;
            if ((!a_writes && !b_writes) || plan_root(j->plan, a->value[x]) != plan_root(j->plan, b->value[y])) continue;
            if (a->value[x] != b->value[y] || b_writes) return false;
            if (!stays_in_row(j, a->kernel, x, depth) || !stays_in_row(j, b->kernel, y, depth)) return false;
            *flows = true;
        }
    }
    return true;
}

static bool has_inner_loop(const Kernel *k, uint32_t depth) {
    for (const Stmt *s = loop_at(k, depth - 1)->body; s != NULL; s = s->next)
        if (s->kind == S_FOR) return true;
    return false;
}

/* How many of the outer loops a and b have in common, with loops left inside that become vectors. */
static uint32_t common_depth(const Kernel *a, uint32_t depth, const Kernel *b) {
    uint32_t n = 0;
    while (n < depth && n < b->body->parallel) {
        const Expr *x = loop_at(a, n)->extent, *y = loop_at(b, n)->extent;
        if (x->kind != E_CONST || y->kind != E_CONST || x->c.i != y->c.i) break;
        n++;
    }
    while (n != 0 && (!has_inner_loop(a, n) || !has_inner_loop(b, n))) n--;
    return n;
}

static int64_t iterations(const Kernel *k, uint32_t depth) {
    int64_t n = 1;
    for (uint32_t d = 0; d < depth; d++)
        if (__builtin_mul_overflow(n, loop_at(k, d)->extent->c.i, &n)) return INT64_MAX;
    return n;
}

/* Adds the step to the group if it can be: *flows says whether it reads what the group writes. */
static bool extend(const Joiner *j, Group *g, Step *s, bool *flows) {
    if (g->n == MOST_PARTS || s->entries != g->step[0]->entries || !is_candidate(j, s)) return false;
    uint32_t depth = common_depth(g->step[0]->kernel, g->depth, s->kernel);
    if (depth == 0 || iterations(s->kernel, depth) < ROWS_ENOUGH) return false;
    *flows = false;
    for (uint32_t i = 0; i < g->n; i++)
        if (!compatible(j, g->step[i], s, depth, flows)) return false;
    g->depth = depth;
    g->step[g->n++] = s;
    return true;
}

/* ---- the joined kernel --------------------------------------------------------------------------------------------------------------- */
typedef struct Row { const Value *value; uint32_t first, last, buf; } Row; /* used by parts first … last */

typedef struct Joined {
    Joiner *j;
    Kernel *k;
    uint32_t depth;
    VEC(Value *) value;      /* by argument */
    VEC(Row) row;            /* values that become arrays of one row */
    VEC(uint32_t) last_part; /* by array: the last part that uses it so far */
    uint64_t stack;
    /* of the part being copied */
    const Kernel *part;
    uint32_t *buf_map, *var_map;
    bool *is_row;            /* by buffer of the part: it has become an array of one row */
    IdMap copies;            /* by expression id + 1 */
} Joined;

/* Does only the group read and write v? */
static bool is_private(const Joiner *j, const Group *g, const Value *v) {
    if (v->def == NULL || v->persistent || v->data != NULL || j->fixed[v->id]) return false;
    uint32_t uses = 0;
    bool written = false;
    for (uint32_t i = 0; i < g->n; i++) {
        for (uint32_t a = 0; a < g->step[i]->n_value; a++) {
            uses += g->step[i]->value[a] == v;
            written |= g->step[i]->value[a] == v && g->step[i]->kernel->buf[a].kind != BUF_IN;
        }
    }
    return written && uses == j->uses[v->id];
}

static uint32_t find_value(const Joined *g, const Value *v) {
    uint32_t i = 0;
    while (i < g->value.n && g->value.v[i] != v) i++;
    return i;
}

static Row *find_row(Joined *g, const Value *v) {
    for (uint32_t i = 0; i < g->row.n; i++)
        if (g->row.v[i].value == v) return &g->row.v[i];
    return NULL;
}

/* Values that become arrays of one row, as many as the stack should hold. */
static void choose_rows(Joined *g, const Group *group) {
    for (uint32_t i = 0; i < group->n; i++) {
        const Step *s = group->step[i];
        for (uint32_t a = 0; a < s->n_value; a++) {
            const Buf *b = &s->kernel->buf[a];
            Row *known = find_row(g, s->value[a]);
            if (known != NULL) known->last = i;
            if (b->kind == BUF_IN || !is_private(g->j, group, s->value[a]) || !stays_in_row(g->j, s->kernel, a, g->depth)) continue;
            uint64_t bytes = row_bytes(g->j, b, g->depth);
            if (bytes > MOST_LOCAL_BYTES || g->stack + bytes > MOST_STACK_BYTES) continue;
            g->stack += bytes;
            const Row row = {s->value[a], i, i, UINT32_MAX};
            vec_push(&g->j->cx->scratch, &g->row, row);
        }
    }
}

/* What the group writes counts as written. */
static void add_arguments(Joined *g, const Group *group) {
    for (uint32_t i = 0; i < group->n; i++) {
        const Step *s = group->step[i];
        for (uint32_t a = 0; a < s->n_value; a++) {
            uint32_t known = find_value(g, s->value[a]);
            if (find_row(g, s->value[a]) != NULL) continue;
            if (known == g->value.n) {
                vec_push(&g->j->cx->scratch, &g->value, s->value[a]);
                kernel_add_buf(g->k, g->j->cx, s->kernel->buf[a]);
            } else if (s->kernel->buf[a].kind == BUF_OUT) {
                g->k->buf[known].kind = BUF_OUT;
            }
        }
    }
    g->k->n_arg = g->k->n_buf;
}

/* An array like b for the parts first … last: one that no part needs any more, if there is one. */
static uint32_t add_array(Joined *g, const Buf *b, uint32_t first, uint32_t last) {
    for (uint32_t i = 0; i < g->last_part.n; i++) {
        const Buf *old = &g->k->buf[g->k->n_arg + i];
        if (g->last_part.v[i] >= first || old->dtype != b->dtype || old->rank != b->rank) continue;
        if (b->rank != 0 && memcmp(old->dim, b->dim, b->rank * sizeof *b->dim) != 0) continue;
        g->last_part.v[i] = last;
        return g->k->n_arg + i;
    }
    vec_push(&g->j->cx->scratch, &g->last_part, last);
    return kernel_add_buf(g->k, g->j->cx, *b);
}

static uint32_t array_of_row(Joined *g, Row *row, Buf b) {
    if (row->buf != UINT32_MAX) return row->buf;
    b.rank = (uint8_t)(b.rank - g->depth);
    b.dim += g->depth;
    b.kind = BUF_LOCAL;
    b.value = NULL;
    return row->buf = add_array(g, &b, row->first, row->last);
}

static Expr *copy_expr(Joined *g, Expr *e) {
    if (e == NULL) return NULL;
    Context *cx = g->j->cx;
    if (e->kind == E_VAR) return ex_var(g->k, cx, g->var_map[e->ref]);
    if (e->kind != E_LOAD && e->n_arg == 0) return e;
    Expr *known = id_map_get(&g->copies, e->id + 1);
    if (known != NULL) return known;
    Expr **arg = ARENA_ARRAY(&cx->scratch, Expr *, e->n_arg + 1), *r;
    for (uint32_t i = 0; i < e->n_arg; i++) arg[i] = copy_expr(g, e->arg[i]);
    if (e->kind == E_LOAD) {
        r = ex_load(g->k, cx, g->buf_map[e->ref], g->is_row[e->ref] ? arg + g->depth : arg);
    } else {
        r = expr_rebuild(cx, e, arg);
    }
    id_map_put(&cx->scratch, &g->copies, e->id + 1, r);
    return r;
}

static Stmt *copy_stmts(Joined *g, const Stmt *s) {
    Context *cx = g->j->cx;
    Stmt *first = NULL, **tail = &first;
    for (; s != NULL; s = s->next) {
        Stmt *c = ARENA_NEW(&cx->arena, Stmt);
        *c = *s;
        c->next = NULL;
        c->extent = copy_expr(g, s->extent);
        c->val = copy_expr(g, s->val);
        if (s->kind == S_FOR || s->kind == S_LOCAL || s->kind == S_SET) c->var = g->var_map[s->var];
        if (s->kind == S_STORE) {
            c->buf = g->buf_map[s->buf];
            uint32_t skip = g->is_row[s->buf] ? g->depth : 0, rank = g->part->buf[s->buf].rank;
            c->idx = ARENA_ARRAY(&cx->arena, Expr *, rank - skip + 1);
            for (uint32_t d = skip; d < rank; d++) c->idx[d - skip] = copy_expr(g, s->idx[d]);
        }
        c->body = copy_stmts(g, s->body);
        c->orelse = copy_stmts(g, s->orelse);
        *tail = c;
        tail = &c->next;
    }
    return first;
}

/* The statements of a part inside its outer loops, over the buffers and outer loop variables of the joined kernel. */
static Stmt *copy_part(Joined *g, const Step *s, uint32_t part, const uint32_t *outer) {
    Context *cx = g->j->cx;
    const Kernel *k = g->part = s->kernel;
    g->copies = (IdMap){0};
    g->buf_map = ARENA_ARRAY(&cx->scratch, uint32_t, k->n_buf);
    g->var_map = ARENA_ARRAY(&cx->scratch, uint32_t, k->n_var);
    g->is_row = ARENA_ARRAY(&cx->scratch, bool, k->n_buf);
    for (uint32_t b = 0; b < k->n_buf; b++) {
        Row *row = b < k->n_arg ? find_row(g, s->value[b]) : NULL;
        g->is_row[b] = row != NULL;
        if (row != NULL) g->buf_map[b] = array_of_row(g, row, k->buf[b]);
        else g->buf_map[b] = b < k->n_arg ? find_value(g, s->value[b]) : add_array(g, &k->buf[b], part, part);
    }
    for (uint32_t v = 0; v < k->n_var; v++) {
        uint32_t d = 0;
        while (d < g->depth && loop_at(k, d)->var != v) d++;
        g->var_map[v] = d < g->depth ? outer[d] : kernel_add_var(g->k, cx, k->var[v]);
    }
    for (uint32_t v = 0; v < k->n_var; v++) /* an extent may use variables of outer loops */
        if (g->k->var[g->var_map[v]].extent != NULL) g->k->var[g->var_map[v]].extent = copy_expr(g, k->var[v].extent);
    return copy_stmts(g, loop_at(k, g->depth - 1)->body);
}

static void name_joined(Joined *g, const Group *group) {
    Context *cx = g->j->cx;
    Writer comment = {.arena = &cx->scratch};
    for (uint32_t i = 0; i < group->n; i++) cw_printf(&comment, "%s%s", i != 0 ? "; " : "", str_text(cx, group->step[i]->kernel->comment));
    g->k->name = str_format(cx, "rows_%s_x%u", str_text(cx, group->step[0]->kernel->name), group->n);
    g->k->comment = str_intern(cx, cw_cstr(&comment));
}

static Kernel *join(Joiner *j, const Group *group, Value ***value) {
    Context *cx = j->cx;
    Joined g = {.j = j, .k = kernel_new(cx), .depth = group->depth};
    const Kernel *lead = group->step[0]->kernel;
    uint32_t outer[RANK_MAX * 4];
    choose_rows(&g, group);
    add_arguments(&g, group);
    *value = ARENA_ARRAY(&cx->arena, Value *, g.k->n_arg + 1);
    for (uint32_t i = 0; i < g.k->n_arg; i++) (*value)[i] = g.value.v[i];
    Stmt **tail = &g.k->body;
    for (uint32_t d = 0; d < group->depth; d++) {
        const Stmt *loop = loop_at(lead, d);
        Stmt *s = ARENA_NEW(&cx->arena, Stmt);
        outer[d] = kernel_add_var(g.k, cx, lead->var[loop->var]);
        *s = (Stmt){.kind = S_FOR, .var = outer[d], .extent = loop->extent, .parallel = (uint16_t)(d == 0 ? group->depth : 0)};
        *tail = s;
        tail = &s->body;
    }
    for (uint32_t i = 0; i < group->n; i++) {
        *tail = copy_part(&g, group->step[i], i, outer);
        while (*tail != NULL) tail = &(*tail)->next;
    }
    name_joined(&g, group);
    return g.k;
}

/* ---- the pass -------------------------------------------------------------------------------------------------------------------------- */
static void append_kernel(Joiner *j, Kernel *k) {
    Kernel **list = ARENA_ARRAY(&j->cx->arena, Kernel *, j->plan->n_kernel + 1);
    memcpy(list, j->plan->kernel, j->plan->n_kernel * sizeof *list);
    k->id = j->plan->n_kernel;
    list[j->plan->n_kernel++] = k;
    j->plan->kernel = list;
}

static Group find_group(const Joiner *j, Step *first) {
    Group g = {.step = {first}, .n = 1, .depth = first->kernel->body->parallel};
    uint32_t useful = 1, depth = g.depth; /* up to the last step that reads what another one wrote */
    bool flows;
    for (Step *s = first->next; s != NULL && extend(j, &g, s, &flows); s = s->next)
        if (flows) useful = g.n, depth = g.depth;
    g.n = useful;
    g.depth = depth;
    return g;
}

/* Where the joined steps came from, each once, but for the last one. */
static const Node *const *nodes_before_last(const Joiner *j, const Group *g, uint32_t *n) {
    const Node **node = ARENA_ARRAY(&j->cx->arena, const Node *, g->n), *last = g->step[g->n - 1]->node;
    *n = 0;
    for (uint32_t i = 0; i + 1 < g->n; i++) {
        const Node *from = g->step[i]->node;
        if (from != NULL && from != last && (*n == 0 || node[*n - 1] != from)) node[(*n)++] = from;
    }
    return node;
}

bool pass_join_rows(Context *cx, Module *m) {
    if (m->n_state != 0 || !pass_enabled(m, "fuse")) return false; /* states are placed by the kernels that write them */
    Joiner j = {.cx = cx, .m = m, .plan = m->plan, .n = m->n_value};
    j.uses = ARENA_ARRAY(&cx->scratch, uint32_t, j.n);
    j.fixed = ARENA_ARRAY(&cx->scratch, bool, j.n);
    find_fixed(&j);
    bool changed = false;
    for (Step *s = m->plan->first; s != NULL; s = s->next) {
        if (!is_candidate(&j, s)) continue;
        Group g = find_group(&j, s);
        if (g.n < 2) continue;
        Value **value;
        Kernel *k = join(&j, &g, &value);
        append_kernel(&j, k);
        s->joined = nodes_before_last(&j, &g, &s->n_joined);
        s->next = g.step[g.n - 1]->next;
        s->node = g.step[g.n - 1]->node;
        s->kernel = k;
        s->value = value;
        s->n_value = k->n_arg;
        m->plan->n_step -= g.n - 1;
        changed = true;
    }
    return changed;
}
