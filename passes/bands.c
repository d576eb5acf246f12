/* With a limit of memory: the first layers of an image network run in bands of lines (patch-based execution, Lin et al. 2021), so that
 * none of their large tensors exists as a whole. A band reads the lines its windows reach, so neighbouring bands compute some lines twice.
 *
 *     %a = Conv(%x)  %b = Relu(%a)  %y = MaxPool(%b)
 *  ->
 *     %x0 = Slice(%x) lines 0..13    %a0 = Conv(%x0)  %b0 = Relu(%a0)  %y0 = MaxPool(%b0)      first half of the result's lines
 *     %x1 = Slice(%x) lines 11..24   %a1 = Conv(%x1)  %b1 = Relu(%a1)  %y1 = MaxPool(%b1)
 *     %y = Concat(%y0, %y1)
 *
 * The region is a run of convolutions, pools, pointwise operators and concatenations of channels, all channels last. It may end wherever
 * one tensor alone goes on. For every such end and every height of a band the memory is estimated from the lines that are alive, and the
 * arithmetic from those computed twice; the least arithmetic that stays within the limit wins. The estimate knows what fusion will join,
 * but not the kernels' scratch memory exactly: who asks for a limit looks at the plan and asks for less if it is missed. */
#include "ir/shape/convolution.h"
#include "ir/shape/window.h"
#include "lathe.h"
#include "passes/lifetime.h"
#include "passes/lower.h"
#include "passes/pass.h"

enum { MOST_REGION = 400 };
enum { LINES = 1, LINES_BEFORE = 2 }; /* the axis of the lines: channels last, and before the change to that */
static const uint64_t SCRATCH_MOST = 384 << 10; /* what most convolutions take at most beside their operands: Winograd's blocks */

typedef struct Lines { int64_t from, to; } Lines; /* [from, to); from == to: none */
typedef struct Reach { int64_t stride, before, reach; } Reach; /* result line o reads lines o*stride - before, so many from there on */

typedef struct Bands {
    Context *cx;
    Module *m;
    Node **node;        /* of the main graph, in order */
    uint32_t n, begin, end; /* the longest region: nodes [begin, end) */
    uint32_t *last_use; /* by value id: position of the last reader; n: an output or read in a region */
    uint32_t *position; /* by node id */
    Reach *reach;       /* by position, of nodes of the region */
    uint8_t *axis;      /* by value id: LINES_BEFORE for results of the region that are not channels last yet, else 0 */
    Lines *need;        /* by value id: the lines of one band */
    Value **part;       /* by value id: they as a tensor */
    uint64_t *alive;    /* by value id, while memory is estimated: the bytes that it is the last holder of */
} Bands;

typedef struct Choice { uint32_t end; int64_t lines; uint64_t bytes; double work; } Choice; /* lines: of a band; 0: no bands */

static int64_t size_of(const Bands *b, const Value *v, uint32_t axis) { return dim_value(b->cx, v->type->dim[axis]); }

static uint32_t axis_of(const Bands *b, const Value *v) { return b->axis[v->id] != 0 ? b->axis[v->id] : (uint32_t)LINES; }
static int64_t height(const Bands *b, const Value *v) { return size_of(b, v, axis_of(b, v)); }

static bool is_image(const Bands *b, const Value *v) {
    if (v == NULL || v->type == NULL || v->type->kind != TYPE_TENSOR || v->type->rank != 4 || dtype_bits(v->type->dtype) < 8) return false;
    for (uint32_t d = 0; d < 4; d++)
        if (!dim_is_const(b->cx, v->type->dim[d]) || dim_value(b->cx, v->type->dim[d]) < 1) return false;
    return true;
}

static bool constants_from(const Node *n, uint32_t first) {
    for (uint32_t i = first; i < n->n_in; i++)
        if (n->in[i] != NULL && n->in[i]->data == NULL) return false;
    return true;
}

/* ---- which nodes can run in bands ------------------------------------------------------------------------------------- */
static bool conv_reach(Bands *b, const Node *n, Reach *r) {
    ConvGeometry g;
    if (!is_image(b, n->in[0]) || !constants_from(n, 1) || !conv_geometry(b->m, n, &g) || g.spatial != 2 || !g.channels_last) return false;
    if (!dim_is_const(b->cx, g.begin[0]) || !dim_is_const(b->cx, g.kernel[0]) || !dim_is_const(b->cx, g.begin[1]) || !dim_is_const(b->cx, g.end[1])) return false;
    *r = (Reach){g.stride[0], dim_value(b->cx, g.begin[0]), (dim_value(b->cx, g.kernel[0]) - 1) * g.dilation[0] + 1};
    return true;
}

static bool pool_window(Bands *b, Node *n, Window *w) {
    const Type *t = n->in[0]->type;
    AttrSlot slot = attr_named(n, "kernel_shape");
    Dim kernel[2] = {dim_const(b->cx, attr_ints_at(n, slot, 0)), dim_const(b->cx, attr_ints_at(n, slot, 1))};
    return window_resolve(b->m, n, 2, &t->dim[LINES], kernel, w) && dim_is_const(b->cx, w->before[0]) && dim_is_const(b->cx, w->before[1]) && dim_is_const(b->cx, w->after[1]);
}

static bool pool_reach(Bands *b, Node *n, Reach *r) {
    Window w;
    /* rounding up: the mean's divisor would need to know what is padding and what lies behind it */
    bool rounds_up = attr_i(n, attr_named(n, "ceil_mode")) != 0;
    if (!is_image(b, n->in[0]) || (rounds_up && n->op != OP_MaxPoolChannelsLast) || !pool_window(b, n, &w)) return false;
    *r = (Reach){w.stride[0], dim_value(b->cx, w.before[0]), (dim_value(b->cx, w.kernel[0]) - 1) * w.dilation[0] + 1};
    return true;
}

/* Operands of the result's size, or the same for all lines. */
static bool is_linewise(const Bands *b, const Node *n, uint32_t line_axis) {
    const Type *t = n->out[0]->type;
    AttrSlot axis = attr_named(n, "axis");
    if (!(op_info(n->op)->flags & OPF_INPLACE) || !(op_info(n->op)->flags & OPF_PURE) || op_rules(n->op).define == NULL) return false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        const Value *v = n->in[i];
        if (v == NULL) continue;
        if (v->type == NULL || v->type->kind != TYPE_TENSOR || v->type->rank > 4) return false;
        Dim all = type_numel(b->cx, v->type);
        if (axis != AT_COUNT && i > 0 && (!dim_is_const(b->cx, all) || dim_value(b->cx, all) != 1)) return false;
        bool whole = is_image(b, v) && type_same_dims(v->type, t), same = v->type->rank < 4 - line_axis || v->type->dim[v->type->rank + line_axis - 4] == dim_const(b->cx, 1);
        if (!whole && (!same || (v->data == NULL && v->def != NULL && b->position[v->def->id] >= b->begin && v->def->graph == b->m->main))) return false;
    }
    return true;
}

static bool is_channels_concat(const Bands *b, const Node *n) {
    if (n->op != OP_Concat || (attr_i(n, AT_Concat_axis) != 3 && attr_i(n, AT_Concat_axis) != -1)) return false;
    for (uint32_t i = 0; i < n->n_in; i++)
        if (!is_image(b, n->in[i])) return false;
    return true;
}

/* The change to channels last of a tensor from outside. */
static bool is_entrance(const Bands *b, const Node *n) {
    if (n->op != OP_Transpose || n->n_out != 1 || !is_image(b, n->in[0]) || !is_image(b, n->out[0])) return false;
    static const int64_t perm[4] = {0, 2, 3, 1};
    for (uint32_t i = 0; i < 4; i++)
        if (attr_ints_at(n, AT_Transpose_perm, i) != perm[i]) return false;
    return n->in[0]->def == NULL || n->in[0]->def->graph != b->m->main || b->position[n->in[0]->def->id] < b->begin;
}

static bool in_bands(Bands *b, Node *n, Reach *r) {
    *r = (Reach){1, 0, 1};
    if (n->n_out != 1 || n->n_in == 0 || n->in[0] == NULL || !is_image(b, n->out[0])) return false;
    switch ((int)n->op) {
    case OP_ConvChannelsLast: case OP_IntegerConvChannelsLast: return conv_reach(b, n, r);
    case OP_MaxPoolChannelsLast: case OP_AveragePoolChannelsLast: return pool_reach(b, n, r);
    case OP_Concat: return is_channels_concat(b, n);
    case OP_Transpose: return is_entrance(b, n);
    default: return is_linewise(b, n, LINES);
    }
}

static bool is_conv(const Node *n) { return n->op == OP_ConvChannelsLast || n->op == OP_IntegerConvChannelsLast; }

static bool has_window(const Node *n) { return is_conv(n) || n->op == OP_MaxPoolChannelsLast || n->op == OP_AveragePoolChannelsLast; }

/* A pointwise operator whose result node p alone reads, element for element. */
static bool feeds(const Bands *b, uint32_t p) {
    const Node *n = b->node[p - 1], *reader = b->node[p];
    return n->n_out == 1 && n->n_in != 0 && n->out[0] == reader->in[0] && b->last_use[n->out[0]->id] == p && is_image(b, n->out[0]);
}

/* From the first window on, and before it the change to channels last with what leads to that. */
static void find_region(Bands *b) {
    Reach none;
    b->begin = 0;
    while (b->begin < b->n && !(has_window(b->node[b->begin]) && in_bands(b, b->node[b->begin], &none))) b->begin++;
    if (b->begin > 0 && b->begin < b->n && b->node[b->begin]->in[0] == b->node[b->begin - 1]->out[0] && is_entrance(b, b->node[b->begin - 1])) {
        b->begin--;
        while (b->begin > 0 && feeds(b, b->begin) && is_linewise(b, b->node[b->begin - 1], LINES_BEFORE)) {
            b->begin--;
            b->axis[b->node[b->begin]->out[0]->id] = LINES_BEFORE;
            b->reach[b->begin] = (Reach){1, 0, 1};
        }
    }
    for (b->end = b->begin; b->end < b->n && b->end - b->begin < MOST_REGION; b->end++) {
        const Node *n = b->node[b->end];
        bool before = n->n_out == 1 && n->out[0] != NULL && b->axis[n->out[0]->id] != 0;
        bool entrance = n->n_in == 1 && n->in[0] != NULL && b->axis[n->in[0]->id] != 0;
        if (entrance) b->reach[b->end] = (Reach){1, 0, 1};
        if (!before && !entrance && !in_bands(b, b->node[b->end], &b->reach[b->end])) break;
    }
}

/* The only value that nodes behind `end` read of the region, or NULL. */
static Value *goes_on(const Bands *b, uint32_t end) {
    Value *only = NULL;
    for (uint32_t i = b->begin; i < end; i++) {
        if (b->last_use[b->node[i]->out[0]->id] < end) continue;
        if (only != NULL) return NULL;
        only = b->node[i]->out[0];
    }
    return only;
}

/* ---- lines of a band ----------------------------------------------------------------------------------------------------- */
static bool inside(const Bands *b, const Value *v) {
    return v->def != NULL && v->def->graph == b->m->main && b->position[v->def->id] >= b->begin && b->position[v->def->id] < b->end;
}

/* Lines of an operand that has `size` of them, for lines `of` of the result. */
static Lines reached(const Reach *r, Lines of, int64_t size) {
    Lines l = {of.from * r->stride - r->before, (of.to - 1) * r->stride - r->before + r->reach};
    if (l.from < 0) l.from = 0;
    if (l.from > size - 1) l.from = size - 1;
    if (l.to > size) l.to = size;
    if (l.to < l.from + 1) l.to = l.from + 1;
    return l;
}

static void need_lines(Bands *b, uint32_t end, const Value *result, Lines lines) {
    for (uint32_t i = b->begin; i < end; i++) b->need[b->node[i]->out[0]->id] = (Lines){0, 0};
    b->need[result->id] = lines;
    for (uint32_t i = end; i-- > b->begin;) {
        const Node *n = b->node[i];
        Lines of = b->need[n->out[0]->id];
        for (uint32_t k = 0; k < n->n_in && of.to > of.from; k++) {
            Value *v = n->in[k];
            if (v == NULL || v->data != NULL || !inside(b, v)) continue;
            Lines l = reached(&b->reach[i], of, height(b, v)), *all = &b->need[v->id];
            if (all->to == all->from) *all = l;
            if (l.from < all->from) all->from = l.from;
            if (l.to > all->to) all->to = l.to;
        }
    }
}

/* ---- estimates ----------------------------------------------------------------------------------------------------------- */
static uint64_t line_bytes(const Bands *b, const Value *v) { return value_bytes_most(b->cx, v) / (uint64_t)height(b, v); }

/* The operand whose memory the result of n takes, or that is computed on the way: NULL if it is none. */
static const Value *taken(const Bands *b, const Node *n, uint32_t at) {
    bool pointwise = (op_info(n->op)->flags & OPF_INPLACE) != 0;
    if (!pointwise && !op_is_reshape(n->op)) return NULL;
    for (uint32_t i = n->n_in; i-- > 0;) {
        const Value *v = n->in[i];
        if (v == NULL || b->alive[v->id] == 0 || b->last_use[v->id] != at) continue;
        if (op_is_reshape(n->op) || (type_same_dims(v->type, n->out[0]->type) && v->type->dtype == n->out[0]->type->dtype)) return v;
    }
    return NULL;
}

/* Most bytes alive while nodes [from, to) run, over what is alive before; banded: for the lines in b->need. */
static uint64_t most_alive(Bands *b, uint32_t from, uint32_t to, bool banded, const Value *stays, uint64_t start) {
    uint64_t now = start, most = start;
    for (uint32_t i = from; i < to; i++) {
        const Node *n = b->node[i];
        for (uint32_t o = 0; o < n->n_out; o++) {
            const Value *v = n->out[o];
            if (v == NULL || b->last_use[v->id] == 0) continue;
            Lines l = b->need[v->id];
            uint64_t bytes = banded ? line_bytes(b, v) * (uint64_t)(l.to - l.from) : value_bytes_most(b->cx, v);
            const Value *in = o == 0 ? taken(b, n, i) : NULL;
            if (in != NULL) now -= b->alive[in->id], b->alive[in->id] = 0;
            b->alive[v->id] = bytes;
            now += bytes;
        }
        bool dense = n->op == OP_ConvChannelsLast && b->reach[i].reach > 1 && size_of(b, n->in[1], 1) > 1;
        uint64_t scratch = dense && n->in[0]->data == NULL ? b->alive[n->in[0]->id] + b->alive[n->in[0]->id] / 16 : 0;
        if (scratch > SCRATCH_MOST) scratch = SCRATCH_MOST;
        if (now + scratch > most) most = now + scratch;
        for (uint32_t k = 0; k < n->n_in; k++) {
            const Value *v = n->in[k];
            if (v == NULL || b->last_use[v->id] != i || v == stays) continue;
            now -= b->alive[v->id];
            b->alive[v->id] = 0;
        }
    }
    return most;
}

static void forget_alive(Bands *b) { memset(b->alive, 0, b->m->n_value * sizeof *b->alive); }

static double work_of(const Bands *b, const Node *n, int64_t lines) {
    double each = (double)line_bytes(b, n->out[0]) * (double)lines;
    if (!is_conv(n)) return each;
    double weights = 1;
    for (uint32_t d = 1; d < n->in[1]->type->rank; d++) weights *= (double)size_of(b, n->in[1], d);
    return each * (weights + 1);
}

static Choice estimate(Bands *b, uint32_t end, const Value *result, int64_t lines, uint64_t rest) {
    Choice c = {.end = end, .lines = lines, .bytes = rest};
    int64_t high = height(b, result), bands = (high + lines - 1) / lines;
    for (int64_t k = 0; k < bands; k++) {
        int64_t times = k == 2 && bands > 5 ? bands - 4 : 1; /* bands far from both ends are alike */
        k += times - 1;
        int64_t from = k * lines, to = from + lines < high ? from + lines : high;
        need_lines(b, end, result, (Lines){from, to});
        forget_alive(b);
        uint64_t most = most_alive(b, b->begin, end, true, result, line_bytes(b, result) * (uint64_t)from);
        if (most > c.bytes) c.bytes = most;
        for (uint32_t i = b->begin; i < end; i++) {
            Lines l = b->need[b->node[i]->out[0]->id];
            c.work += work_of(b, b->node[i], l.to - l.from) * (double)times;
        }
    }
    uint64_t joined = 2 * value_bytes_most(b->cx, result);
    if (joined > c.bytes) c.bytes = joined;
    for (uint32_t i = end; i < b->end; i++) c.work += work_of(b, b->node[i], height(b, b->node[i]->out[0]));
    return c;
}

static bool better(const Choice *a, const Choice *than, uint64_t limit) {
    bool fits = a->bytes <= limit, other = than->bytes <= limit;
    if (fits != other) return fits;
    return fits ? a->work < than->work : a->bytes < than->bytes;
}

/* Heights to try: those that give another number of bands, fewer and fewer of them as bands get thin. */
static int64_t next_height(int64_t high, int64_t lines) {
    int64_t bands = (high + lines - 1) / lines, more = bands + 1 + bands / 8;
    return more > high ? (lines > 1 ? 1 : 0) : (high + more - 1) / more < lines ? (high + more - 1) / more : lines - 1;
}

static Choice choose(Bands *b, uint64_t limit) {
    forget_alive(b);
    Choice best = {.end = b->begin, .bytes = most_alive(b, 0, b->n, false, NULL, 0)};
    for (uint32_t i = b->begin; i < b->end; i++) best.work += work_of(b, b->node[i], height(b, b->node[i]->out[0]));
    if (best.bytes <= limit) return best;
    for (uint32_t end = b->begin + 1; end <= b->end; end++) {
        const Value *result = goes_on(b, end);
        Reach *last = &b->reach[end - 1];
        if (result == NULL || (last->reach == 1 && end < b->end && is_linewise(b, b->node[end], LINES) && b->last_use[result->id] == end)) continue; /* go on to what fuses */
        forget_alive(b);
        b->alive[result->id] = value_bytes_most(b->cx, result);
        uint64_t rest = most_alive(b, end, b->n, false, NULL, value_bytes_most(b->cx, result));
        for (int64_t lines = next_height(height(b, result), height(b, result)); lines > 0; lines = next_height(height(b, result), lines)) {
            Choice c = estimate(b, end, result, lines, rest);
            if (better(&c, &best, limit)) best = c;
        }
    }
    return best;
}

/* ---- rewriting ------------------------------------------------------------------------------------------------------------- */
/* Lines of v, which has those in `have` only. */
static Value *cut(Bands *b, Node *at, Value *v, uint32_t axis, Lines have, Lines want) {
    if (have.from == want.from && have.to == want.to) return v;
    int64_t from = want.from - have.from, to = want.to - have.from, along = axis;
    Value *in[4] = {v, value_const_i64(b->m, 1, &from), value_const_i64(b->m, 1, &to), value_const_i64(b->m, 1, &along)};
    Node *n = node_new(b->m, b->m->main, at, OP_Slice, 4, in, 1);
    n->loc = at->loc;
    return node_infer(b->m, n) ? n->out[0] : NULL;
}

static Value *operand(Bands *b, Node *at, uint32_t position, Value *v, Lines of) {
    const Node *n = b->node[position];
    if (v == NULL || v->data != NULL) return v;
    if (inside(b, v)) return cut(b, at, b->part[v->id], axis_of(b, v), b->need[v->id], reached(&b->reach[position], of, height(b, v)));
    if (!is_image(b, v)) return v;
    uint32_t axis = n->op == OP_Transpose ? (uint32_t)LINES_BEFORE : axis_of(b, n->out[0]);
    int64_t size = size_of(b, v, axis);
    if (size == 1 && height(b, n->out[0]) > 1) return v; /* the same for all lines */
    return cut(b, at, v, axis, (Lines){0, size}, reached(&b->reach[position], of, size));
}

/* The padding of a window operator on a band: what of the reach lies outside of the image. */
static void set_padding(Bands *b, Node *made, uint32_t position, Lines of) {
    Node *n = b->node[position];
    const Reach *r = &b->reach[position];
    int64_t size = height(b, n->in[0]), pads[4];
    Lines read = reached(r, of, size);
    pads[0] = read.from - (of.from * r->stride - r->before);
    pads[2] = (of.to - 1) * r->stride - r->before + r->reach - read.to;
    if (is_conv(n)) {
        ConvGeometry g;
        CHECK(b->cx, conv_geometry(b->m, n, &g));
        pads[1] = dim_value(b->cx, g.begin[1]);
        pads[3] = dim_value(b->cx, g.end[1]);
    } else {
        Window w;
        CHECK(b->cx, pool_window(b, n, &w));
        pads[1] = dim_value(b->cx, w.before[1]);
        pads[3] = dim_value(b->cx, w.after[1]);
    }
    attr_set_ints(b->cx, made, attr_named(made, "pads"), pads, 4);
    attr_set_s(made, attr_named(made, "auto_pad"), str_intern(b->cx, "NOTSET"));
}

static bool copy_node(Bands *b, Node *at, uint32_t position) {
    const Node *n = b->node[position];
    Lines of = b->need[n->out[0]->id];
    Value **in = ARENA_ARRAY(&b->cx->scratch, Value *, n->n_in);
    for (uint32_t k = 0; k < n->n_in; k++) {
        in[k] = operand(b, at, position, n->in[k], of);
        if (in[k] == NULL && n->in[k] != NULL) return false;
    }
    Node *made = node_new(b->m, b->m->main, at, (Op)n->op, n->n_in, in, 1);
    for (uint32_t i = 0; i < n->n_attr; i++) made->attr[i] = n->attr[i];
    made->loc = n->loc;
    if (has_window(n)) set_padding(b, made, position, of);
    if (!node_infer(b->m, made)) return false;
    b->part[n->out[0]->id] = made->out[0];
    return true;
}

static bool rewrite(Bands *b, const Choice *c) {
    Value *result = goes_on(b, c->end);
    Node *at = b->node[c->end - 1]->next;
    int64_t high = height(b, result), bands = (high + c->lines - 1) / c->lines;
    Value **part = ARENA_ARRAY(&b->cx->scratch, Value *, bands);
    if (at == NULL) return false;
    b->end = c->end;
    for (int64_t k = 0; k < bands; k++) {
        int64_t to = (k + 1) * c->lines;
        need_lines(b, c->end, result, (Lines){k * c->lines, to < high ? to : high});
        for (uint32_t i = b->begin; i < c->end; i++)
            if (b->need[b->node[i]->out[0]->id].to != 0 && !copy_node(b, at, i)) return false;
        part[k] = b->part[result->id];
    }
    Node *join = node_new(b->m, b->m->main, at, OP_Concat, (uint32_t)bands, part, 1);
    attr_set_i(join, AT_Concat_axis, axis_of(b, result));
    join->loc = result->def->loc;
    if (!node_infer(b->m, join)) return false;
    value_replace(b->m, result, join->out[0]);
    for (uint32_t i = c->end; i-- > b->begin;) node_remove(b->node[i]);
    return true;
}

/* ---- the pass -------------------------------------------------------------------------------------------------------------- */
bool pass_bands(Context *cx, Module *m) {
    uint64_t limit = m->options->memory;
    if (limit == 0 || m->n_state != 0) return false;
    Bands bands = {.cx = cx, .m = m}, *b = &bands;
    b->node = ARENA_ARRAY(&cx->scratch, Node *, m->n_node);
    b->position = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_node);
    FOR_NODES(n, m->main) {
        b->position[n->id] = b->n;
        b->node[b->n++] = n;
    }
    b->last_use = ARENA_ARRAY(&cx->scratch, uint32_t, m->n_value);
    b->reach = ARENA_ARRAY(&cx->scratch, Reach, b->n + 1);
    b->axis = ARENA_ARRAY(&cx->scratch, uint8_t, m->n_value);
    b->need = ARENA_ARRAY(&cx->scratch, Lines, m->n_value);
    b->part = ARENA_ARRAY(&cx->scratch, Value *, m->n_value);
    b->alive = ARENA_ARRAY(&cx->scratch, uint64_t, m->n_value);
    last_readers(m, b->position, b->n, b->last_use);
    find_region(b);
    Choice c = choose(b, limit);
    if (c.lines == 0) return false;
    if (!rewrite(b, &c)) diag(cx, SEV_ERROR, (Loc){0}, "internal error: the first layers do not go into bands");
    return true;
}
