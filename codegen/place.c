/* Decides, for one kernel, which expressions get a name and where they are computed.
 *
 *     for i0 < N                              for (int64_t i0 = 0; i0 < N; i0++) {
 *       for i1 < 64                               const float t1 = sqrtf(b1[i0] + 1e-5f);      one computation,
 *         b2[i0,i1] = b0[i0,i1] /      ->         for (int64_t i1 = 0; i1 < 64; i1++) {         out of the inner loop
 *             sqrt(b1[i0] + 1e-5)                     b2[i0 * 64 + i1] = b0[i0 * 64 + i1] / t1;
 *
 * Equal expressions are one pointer, but a load or a mutable scalar has a new value after each store. Every buffer and
 * variable carries a stamp, the time of its newest change; the stamp of an expression is the newest stamp of what it
 * reads, and (expression, stamp) is an Item: one value. Entering and leaving a loop changes everything that the loop
 * changes, and a loop variable is stamped when its loop is entered, so that "stamp <= time of a place" says both that
 * the value is right there and that its variables are in scope.
 *
 * Loads and run-time checks never move out of a condition or of a loop that may run zero times: they are "guarded"
 * and belong to a region, the innermost such block.
 *
 * Items are placed from the outside in (arguments are made before what uses them): an item used more than once is
 * named and computed at the nearest place that all its uses share; costly invariants move out of loops. */
#include "codegen/emit.h"
#include "ir/contract.h"

struct Block {
    Block *parent;
    const Stmt *owner;      /* loop, if or while it is the body of; NULL: top level */
    Point at;               /* where the owner stands */
    uint32_t depth, id, region;
    uint32_t owner_time;
    bool transparent;       /* between loops printed as one range: nothing can stand here */
};

typedef struct ItemTable {
    Item **slot;
    uint32_t n, n_slot;
    uint32_t *memo_serial; /* by Expr id: the item found for it in the current statement */
    Item **memo;
    uint32_t n_memo, serial;
    uint32_t *var_stamp, *buf_stamp, clock, n_block;
} ItemTable;

/* ---- statement table ---------------------------------------------------------------------------------------------- */
static uint32_t stmt_slot(const Emit *e, const Stmt *s) {
    uint32_t i = (uint32_t)hash_mix(7, (uint64_t)(uintptr_t)s) & (e->n_info_slot - 1);
    while (e->info[i].stmt != NULL && e->info[i].stmt != s) i = (i + 1) & (e->n_info_slot - 1);
    return i;
}

StmtInfo *emit_info(Emit *e, const Stmt *s) { return &e->info[stmt_slot(e, s)]; }

static uint32_t count_stmts(const Stmt *s) {
    uint32_t n = 0;
    for (; s != NULL; s = s->next) n += 1 + count_stmts(s->body) + count_stmts(s->orelse);
    return n;
}

/* ---- items --------------------------------------------------------------------------------------------------------- */
static bool is_trivial(const Expr *x) { return x->kind == E_CONST || x->kind == E_VAR || x->kind == E_DIM; }

static bool is_costly(const Expr *x) {
    if (x->kind == E_LOAD) return true;
    if (x->kind != E_FN) return false;
    switch (fn_class((Fn)x->fn)) {
    case FC_FLOAT: return x->fn != FN_FMA;
    case FC_ARITH: return x->fn == FN_DIV || x->fn == FN_FLOORDIV || x->fn == FN_FMOD || x->fn == FN_MOD || x->fn == FN_POW;
    case FC_COMPARE: case FC_BITS: case FC_TEST: return false;
    case FC_SPECIAL: return x->fn == FN_INDEX || x->fn == FN_REQUIRE || x->fn == FN_ROUND_TO;
    }
    return false;
}

static uint64_t item_hash(const Expr *x, uint32_t stamp, uint32_t region) {
    return hash_mix(hash_mix(x->id, stamp), region);
}

static Item *find_item(Emit *e, const Expr *x, uint32_t stamp, uint32_t region, bool *fresh) {
    ItemTable *t = e->item_table;
    uint32_t i = (uint32_t)item_hash(x, stamp, region) & (t->n_slot - 1);
    for (; t->slot[i] != NULL; i = (i + 1) & (t->n_slot - 1)) {
        Item *it = t->slot[i];
        if (it->x == x && it->stamp == stamp && it->region == region) {
            *fresh = false;
            return it;
        }
    }
    Item *it = ARENA_NEW(&e->cx->scratch, Item);
    *it = (Item){.x = x, .stamp = stamp, .region = region, .name = -1, .order = e->items.n};
    t->slot[i] = it;
    t->n++;
    vec_push(&e->cx->scratch, &e->items, it);
    *fresh = true;
    if (t->n * 2 > t->n_slot) {
        t->n_slot *= 2;
        t->slot = ARENA_ARRAY(&e->cx->scratch, Item *, t->n_slot);
        for (uint32_t k = 0; k < e->items.n; k++) {
            Item *o = e->items.v[k];
            uint32_t j = (uint32_t)item_hash(o->x, o->stamp, o->region) & (t->n_slot - 1);
            while (t->slot[j] != NULL) j = (j + 1) & (t->n_slot - 1);
            t->slot[j] = o;
        }
    }
    return it;
}

/* The element number of buf[idx]. */
static Expr *linear_index(Emit *e, const Buf *b, Expr *const *idx) {
    Context *cx = e->cx;
    Expr *sum = ex_i64(cx, 0), *stride = ex_i64(cx, 1);
    for (uint32_t i = b->rank; i-- > 0;) {
        Expr *s = b->stride != NULL ? ex_dim(cx, b->stride[i]) : stride;
        sum = ex_2(e->k, cx, FN_ADD, ex_2(e->k, cx, FN_MUL, idx[i], s), sum);
        stride = ex_2(e->k, cx, FN_MUL, stride, ex_dim(cx, b->dim[i]));
    }
    return sum;
}

static bool memo_get(ItemTable *t, uint32_t id, Item **it) {
    if (id >= t->n_memo || t->memo_serial[id] != t->serial) return false;
    *it = t->memo[id];
    return true;
}

static void memo_set(Emit *e, uint32_t id, Item *it) {
    ItemTable *t = e->item_table;
    if (id >= t->n_memo) {
        uint32_t n = (id + 1) * 2;
        uint32_t *serial = ARENA_ARRAY(&e->cx->scratch, uint32_t, n);
        Item **memo = ARENA_ARRAY(&e->cx->scratch, Item *, n);
        if (t->n_memo != 0) {
            memcpy(serial, t->memo_serial, t->n_memo * sizeof *serial);
            memcpy(memo, t->memo, t->n_memo * sizeof *memo);
        }
        t->memo_serial = serial;
        t->memo = memo;
        t->n_memo = n;
    }
    t->memo_serial[id] = t->serial;
    t->memo[id] = it;
}

static uint32_t max2(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* The item of x as read by the current statement, in a block of this region. */
static Item *item_of(Emit *e, const Expr *x, uint32_t region) {
    ItemTable *t = e->item_table;
    Item *it;
    if (memo_get(t, x->id, &it)) return it;
    uint32_t n_arg = x->kind == E_LOAD ? 1 : x->n_arg, stamp = 0, weight = 1, height = 0;
    bool guarded = x->kind == E_LOAD || (x->kind == E_FN && (x->fn == FN_INDEX || x->fn == FN_REQUIRE));
    Item **arg = ARENA_ARRAY(&e->cx->scratch, Item *, n_arg);
    for (uint32_t i = 0; i < n_arg; i++) {
        const Expr *a = x->kind == E_LOAD ? linear_index(e, &e->k->buf[x->ref], x->arg) : x->arg[i];
        arg[i] = item_of(e, a, region);
        stamp = max2(stamp, arg[i]->stamp);
        weight += arg[i]->weight;
        height = max2(height, arg[i]->height);
        guarded |= arg[i]->guarded;
    }
    if (x->kind == E_VAR) stamp = t->var_stamp[x->ref];
    if (x->kind == E_LOAD) stamp = max2(stamp, t->buf_stamp[x->ref]);
    bool fresh;
    it = find_item(e, x, stamp, guarded ? region : 0, &fresh);
    if (fresh) {
        it->arg = arg;
        it->n_arg = n_arg;
        it->guarded = guarded;
        it->weight = is_trivial(x) ? 0 : weight < 1000 ? weight : 1000;
        it->costly = is_costly(x);
        for (uint32_t i = 0; i < n_arg; i++) it->costly |= arg[i]->costly;
        for (uint32_t i = 0; i < n_arg; i++) arg[i]->uses++;
        it->height = is_trivial(x) || x->dtype == DT_I64 ? 0 : height + 1; /* index arithmetic stays in its brackets */
        /* Very deep expressions are cut so that lines stay readable. */
        if (it->height > 6) it->force = true, it->height = 1;
    }
    memo_set(e, x->id, it);
    return it;
}

/* ---- places ---------------------------------------------------------------------------------------------------------- */
static Point common(Point a, Point b) {
    while (a.block != b.block) {
        if (a.block->depth >= b.block->depth) a = a.block->at;
        else b = b.block->at;
    }
    return a.pos <= b.pos ? a : b;
}

static void use_at(Item *it, Point p) {
    it->point = it->has_point ? common(it->point, p) : p;
    it->has_point = true;
}

/* Out of blocks where no statement can stand, and costly invariants out of loops. */
static void settle(Item *it) {
    Point p = it->point;
    for (;;) {
        Block *b = p.block;
        if (b->parent == NULL) break;
        if (b->transparent) {
            p = b->at;
            continue;
        }
        bool may_leave = it->stamp <= b->owner_time && (!it->guarded || b->region != b->id) && b->owner->kind != S_IF;
        /* Through transparent blocks at once: the destination must be able to hold it. */
        Block *to = b->parent;
        const Block *inner = b;
        while (may_leave && to->transparent) {
            may_leave = it->stamp <= to->owner_time && (!it->guarded || to->region != to->id);
            inner = to;
            to = to->parent;
        }
        if (!may_leave || !it->costly) break;
        p = inner->at;
    }
    it->point = p;
}

static bool is_cheap_index(const Item *it) {
    return it->x->dtype == DT_I64 && !it->costly && it->weight < 4;
}

static StmtInfo *info_at(Point p);

/* Names every item that deserves it; those that were hoisted get a name even with one use. */
static void place_items(Emit *e) {
    for (uint32_t i = e->items.n; i-- > 0;) { /* users first */
        Item *it = e->items.v[i];
        if (is_trivial(it->x) || !it->has_point) continue;
        Point used = it->point;
        settle(it);
        bool hoisted = used.block != it->point.block && it->costly;
        bool named = it->force || hoisted || (it->uses > 1 && !is_cheap_index(it));
        Point p = named ? it->point : used;
        if (named) it->name = 0;
        for (uint32_t a = 0; a < it->n_arg; a++) use_at(it->arg[a], p);
    }
    int32_t number = 0;
    for (uint32_t i = 0; i < e->items.n; i++) { /* arguments first */
        Item *it = e->items.v[i];
        if (it->name != 0) continue;
        it->name = ++number;
        StmtInfo *at = info_at(it->point);
        if (at->temps_last != NULL) at->temps_last->next = it;
        else at->temps = it;
        at->temps_last = it;
    }
}

/* ---- walking the kernel ------------------------------------------------------------------------------------------------ */
typedef struct StmtList { StmtInfo **v; uint32_t n; } StmtList;

/* Position -> statement of each block. */
typedef struct BlockStmts { Block block; StmtList list; } BlockStmts;

static StmtInfo *info_at(Point p) {
    return ((BlockStmts *)p.block)->list.v[p.pos];
}

static Block *block_new(Emit *e, Block *parent, const Stmt *owner, Point at, uint32_t n_stmt) {
    BlockStmts *b = ARENA_NEW(&e->cx->scratch, BlockStmts);
    b->block = (Block){.parent = parent, .owner = owner, .at = at, .depth = parent != NULL ? parent->depth + 1 : 0};
    b->block.id = ++e->item_table->n_block;
    b->block.region = parent != NULL ? parent->region : b->block.id;
    b->block.owner_time = e->item_table->clock;
    b->list.v = ARENA_ARRAY(&e->cx->scratch, StmtInfo *, n_stmt + 1);
    return &b->block;
}

/* Everything that s and what follows change gets a new stamp. In an in-place kernel arguments share memory. */
static void touch_buf(Emit *e, uint32_t buf) {
    ItemTable *t = e->item_table;
    t->buf_stamp[buf] = t->clock;
    for (uint32_t i = 0; e->k->inplace && buf < e->k->n_arg && i < e->k->n_arg; i++)
        if (e->k->shares == NULL || e->k->shares[i] == e->k->shares[buf]) t->buf_stamp[i] = t->clock;
}

static void touch(Emit *e, const Stmt *s) {
    ItemTable *t = e->item_table;
    switch (s->kind) {
    case S_LOCAL: case S_SET: t->var_stamp[s->var] = t->clock; break;
    case S_STORE: touch_buf(e, s->buf); break;
    case S_CALL:
        for (uint32_t i = 0; i < s->n_arg; i++)
            if (s->arg[i].is_buf) touch_buf(e, s->arg[i].buf);
        break;
    case S_CONTRACT: touch_buf(e, s->arg[0].buf); break; /* the tile is all it writes */
    case S_FOR: case S_IF: case S_WHILE: break;
    }
    for (const Stmt *b = s->body; b != NULL; b = b->next) touch(e, b);
    for (const Stmt *b = s->orelse; b != NULL; b = b->next) touch(e, b);
}

static Item *root(Emit *e, StmtInfo *info, const Expr *x, Point p) {
    Item *it = item_of(e, x, p.block->region);
    it->uses++;
    use_at(it, p);
    info->root[info->n_root++] = it;
    return it;
}

static uint32_t block_size(const Stmt *s) {
    uint32_t n = 0;
    for (; s != NULL; s = s->next) n++;
    return n;
}

static void walk(Emit *e, Block *b, const Stmt *first, uint32_t pos, uint32_t collapsed);

static void walk_body(Emit *e, const Stmt *s, StmtInfo *info, uint32_t collapsed) {
    ItemTable *t = e->item_table;
    bool is_loop = s->kind == S_FOR || s->kind == S_WHILE;
    info->body = block_new(e, info->point.block, s, info->point, block_size(s->body) + 1);
    int64_t lo = 0, hi;
    if (s->kind == S_FOR) ex_range(e->k, e->cx, s->extent, &lo, &hi);
    if (s->kind != S_FOR || lo < 1) info->body->region = info->body->id;
    info->body->transparent = collapsed > 1;
    t->clock++;
    if (is_loop) touch(e, s);
    if (s->kind == S_FOR) t->var_stamp[s->var] = t->clock;
    uint32_t pos = 0;
    if (s->kind == S_WHILE) { /* the condition is computed inside, before the first statement */
        t->serial++;
        info->condition = ARENA_NEW(&e->cx->scratch, StmtInfo);
        info->condition->root = ARENA_ARRAY(&e->cx->scratch, Item *, 1);
        ((BlockStmts *)info->body)->list.v[0] = info->condition;
        root(e, info->condition, s->val, (Point){info->body, 0});
        pos = 1;
    }
    walk(e, info->body, s->body, pos, collapsed > 1 ? collapsed - 1 : 0);
    if (s->orelse != NULL) {
        info->orelse = block_new(e, info->point.block, s, info->point, block_size(s->orelse));
        info->orelse->region = info->orelse->id;
        walk(e, info->orelse, s->orelse, 0, 0);
    }
    t->clock++;
    touch(e, s);
}

/* Which scalars some expression reads; what is stored into the others is not printed. */
static void mark_read_expr(Emit *e, const Expr *x) {
    Item *seen;
    if (x == NULL || memo_get(e->item_table, x->id, &seen)) return;
    memo_set(e, x->id, NULL);
    if (x->kind == E_VAR) e->var_read[x->ref] = true;
    for (uint32_t i = 0; i < x->n_arg; i++) mark_read_expr(e, x->arg[i]);
}

static void mark_read(Emit *e, const Stmt *s) {
    for (; s != NULL; s = s->next) {
        mark_read_expr(e, s->extent);
        mark_read_expr(e, s->val);
        for (uint32_t d = 0; s->kind == S_STORE && d < e->k->buf[s->buf].rank; d++) mark_read_expr(e, s->idx[d]);
        for (uint32_t i = 0; i < s->n_arg; i++)
            if (!s->arg[i].is_buf) mark_read_expr(e, s->arg[i].expr);
        mark_read(e, s->body);
        mark_read(e, s->orelse);
    }
}

static bool lists_phases(const Emit *e, const Block *b) { return !e->serial && (b->parent == NULL || b->owner->phases); }

static void walk(Emit *e, Block *b, const Stmt *first, uint32_t pos, uint32_t collapsed) {
    ItemTable *t = e->item_table;
    for (const Stmt *s = first; s != NULL; s = s->next, pos++) {
        StmtInfo *info = &e->info[stmt_slot(e, s)];
        *info = (StmtInfo){.stmt = s, .point = {b, pos}, .time = t->clock};
        if (lists_phases(e, b) && s->parallel == 0 && !s->phases) {
            /* A phase of thread 0 in a parallel kernel: its loads stay inside the `if (tid == 0)` it is printed in. */
            Block *phase = block_new(e, b, s, info->point, 1);
            phase->region = phase->id;
            info->point = (Point){phase, 0};
            ((BlockStmts *)phase)->list.v[0] = info;
            StmtInfo *outside = ARENA_NEW(&e->cx->scratch, StmtInfo);
            outside->stmt = s;
            info->condition = outside;
            ((BlockStmts *)b)->list.v[pos] = outside;
        } else {
            ((BlockStmts *)b)->list.v[pos] = info;
        }
        uint32_t rank = s->kind == S_STORE ? e->k->buf[s->buf].rank : 0;
        info->root = ARENA_ARRAY(&e->cx->scratch, Item *, s->n_arg + 2 + (rank != 0));
        t->serial++;
        /* While this statement's expressions are read, nothing it writes has changed yet. */
        switch (s->kind) {
        case S_FOR: {
            root(e, info, s->extent, info->point);
            uint32_t depth = lists_phases(e, b) ? s->parallel : collapsed;
            walk_body(e, s, info, depth);
            break;
        }
        case S_WHILE: walk_body(e, s, info, 0); break;
        case S_IF:
            root(e, info, s->val, info->point);
            walk_body(e, s, info, 0);
            break;
        case S_LOCAL: case S_SET:
            if (!e->var_read[s->var]) break;
            root(e, info, s->val, info->point);
            t->clock++;
            touch(e, s);
            break;
        case S_STORE:
            root(e, info, linear_index(e, &e->k->buf[s->buf], s->idx), info->point);
            root(e, info, s->val, info->point);
            t->clock++;
            touch(e, s);
            break;
        case S_CALL: case S_CONTRACT:
            for (uint32_t i = 0; i < s->n_arg; i++)
                if (!s->arg[i].is_buf) root(e, info, s->arg[i].expr, info->point);
            t->clock++;
            touch(e, s);
            break;
        }
    }
}

void place_kernel(Emit *e, Kernel *k) {
    Context *cx = e->cx;
    ItemTable *t = e->item_table;
    if (t == NULL) t = e->item_table = ARENA_NEW(&cx->scratch, ItemTable);
    t->n = 0;
    t->n_slot = 256;
    t->slot = ARENA_ARRAY(&cx->scratch, Item *, t->n_slot);
    t->var_stamp = ARENA_ARRAY(&cx->scratch, uint32_t, k->n_var);
    t->buf_stamp = ARENA_ARRAY(&cx->scratch, uint32_t, k->n_buf);
    t->clock = 1;
    t->n_block = 0;
    e->items.n = 0;
    uint32_t n = count_stmts(k->body);
    for (e->n_info_slot = 16; e->n_info_slot < 2 * n; e->n_info_slot *= 2) continue;
    e->info = ARENA_ARRAY(&cx->scratch, StmtInfo, e->n_info_slot);
    Block *top = block_new(e, NULL, NULL, (Point){0}, block_size(k->body));
    top->region = 0;
    e->var_read = ARENA_ARRAY(&cx->scratch, bool, k->n_var);
    t->serial++;
    mark_read(e, k->body);
    walk(e, top, k->body, 0, 0);
    place_items(e);
    for (uint32_t i = 0; i < k->n_var; i++) /* loop variables of dimensions without stride are not read after all */
        if (k->var[i].extent != NULL) e->var_read[i] = false;
    for (uint32_t i = 0; i < e->items.n; i++)
        if (e->items.v[i]->x->kind == E_VAR) e->var_read[e->items.v[i]->x->ref] = true;
}

/* ---- cost ---------------------------------------------------------------------------------------------------------------- */
/* Each distinct expression of a statement counts once. */
static double expr_cost(Emit *e, const Expr *x) {
    Item *seen;
    if (x == NULL || is_trivial(x) || memo_get(e->item_table, x->id, &seen)) return 0;
    memo_set(e, x->id, NULL);
    double cost = x->dtype == DT_I64 ? 0.25 : 1;
    if (x->kind == E_FN && fn_class((Fn)x->fn) == FC_FLOAT) cost = 8;
    for (uint32_t i = 0; i < x->n_arg; i++) cost += expr_cost(e, x->arg[i]);
    return cost;
}

static double stmts_cost(Emit *e, const Kernel *k, const Stmt *s) {
    double cost = 0;
    for (; s != NULL; s = s->next) {
        e->item_table->serial++;
        cost += 1 + expr_cost(e, s->val);
        double times = 1;
        if (s->kind == S_FOR) {
            int64_t lo, hi;
            ex_range(k, e->cx, s->extent, &lo, &hi);
            times = hi == INT64_MAX ? 1e9 : (double)hi;
        }
        if (s->kind == S_WHILE) times = 64;
        if (s->kind == S_CALL) cost += 1000;
        if (s->kind == S_CONTRACT) cost += contract_work(s) / 8;
        cost += times * (stmts_cost(e, k, s->body) + stmts_cost(e, k, s->orelse));
    }
    return cost;
}

double kernel_cost(Emit *e, const Kernel *k) {
    if (e->item_table == NULL) e->item_table = ARENA_NEW(&e->cx->scratch, ItemTable);
    return stmts_cost(e, k, k->body);
}
