/* Gradients of operators that pick or place elements by index.
 *
 *     Gather:           y = x[index]                dx = zeros; dx[index] += dy                         (GatherGrad)
 *     ScatterElements:  y = x with y[index] = u     dx = dy with 0 at index, du = dy[index]
 *
 * Additions run in the order of the indices, whatever the number of threads. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

Value *g_gather_adjoint(Grad *g, Value *d, Value *index, Value *x, int64_t axis) {
    Node *n = g_node(g, OP_GatherGrad, 2, (Value *[]){d, index}, 1);
    attr_set_i(n, AT_GatherGrad_axis, axis);
    *attr_at(n, AT_GatherGrad_type) = (Attr){.present = true, .type = x->type};
    return g_done(g, n);
}

bool grad_gather(Grad *g) {
    g->dx[0] = g_gather_adjoint(g, g->dy[0], g->n->in[1], g->n->in[0], attr_i(g->n, AT_Gather_axis));
    return true;
}

bool grad_gather_adjoint(Grad *g) { /* GatherGrad is linear: its adjoint is Gather */
    g->dx[0] = expand_gather(g->m, g->at, g->dy[0], g->n->in[1], attr_i(g->n, AT_GatherGrad_axis));
    return true;
}

static Value *scatter_add(Grad *g, Value *to, Value *index, Value *d, int64_t axis) {
    Node *n = g_node(g, OP_ScatterElements, 3, (Value *[]){to, index, d}, 1);
    attr_set_i(n, AT_ScatterElements_axis, axis);
    attr_set_s(n, AT_ScatterElements_reduction, str_intern(g->m->cx, "add"));
    return g_done(g, n);
}

static Value *gather_elements(Grad *g, Value *v, Value *index, int64_t axis) {
    Node *n = g_node(g, OP_GatherElements, 2, (Value *[]){v, index}, 1);
    attr_set_i(n, AT_GatherElements_axis, axis);
    return g_done(g, n);
}

bool grad_gather_elements(Grad *g) {
    int64_t axis = attr_i(g->n, AT_GatherElements_axis);
    g->dx[0] = scatter_add(g, g_filled_like(g, g->n->in[0], 0), g->n->in[1], g->dy[0], axis);
    return true;
}

static Value *scatter_nd(Grad *g, Value *to, Value *index, Value *d, const char *reduction) {
    Node *n = g_node(g, OP_ScatterND, 3, (Value *[]){to, index, d}, 1);
    attr_set_s(n, AT_ScatterND_reduction, str_intern(g->m->cx, reduction));
    return g_done(g, n);
}

static Value *gather_nd(Grad *g, Value *v, Value *index) { return g_2(g, OP_GatherND, v, index); }

bool grad_gather_nd(Grad *g) {
    Value *index = g->n->in[1];
    if (g->n->op == OP_GatherND && attr_i(g->n, AT_GatherND_batch_dims) != 0) {
        /* the batch positions become part of the index */
        uint32_t batch = (uint32_t)attr_i(g->n, AT_GatherND_batch_dims), rank = index->type->rank;
        Value *part[RANK_MAX], *shape = g_shape(g, index);
        Value *column = g_2(g, OP_Expand, value_const_i64(g->m, 1, (int64_t[]){1}),
                            expand_concat(g->m, g->at, 2, (Value *[]){expand_slice(g->m, g->at, shape, 0, rank - 1, 0), value_const_i64(g->m, 1, (int64_t[]){1})}, 0));
        for (uint32_t a = 0; a < batch; a++) {
            Node *sum = g_node(g, OP_CumSum, 2, (Value *[]){column, value_const_scalar(g->m, DT_I64, a)}, 1);
            attr_set_i(sum, AT_CumSum_exclusive, 1); /* 0, 1, 2, … along axis a */
            part[a] = g_done(g, sum);
        }
        part[batch] = g_cast(g, index, DT_I64);
        index = expand_concat(g->m, g->at, batch + 1, part, -1);
    }
    g->dx[0] = scatter_nd(g, g_filled_like(g, g->n->in[0], 0), index, g->dy[0], "add");
    return true;
}

/* What reduction does to the target and to the updates; ties of max and min share as the order of writes says: the first that gave the
 * result takes all of it would need the order, so equal ones split the gradient evenly. */
typedef Value *Read(Grad *g, Value *v, Value *index, int64_t axis);
typedef Value *Write(Grad *g, Value *to, Value *index, Value *d, int64_t axis, const char *reduction);

static Value *read_elements(Grad *g, Value *v, Value *index, int64_t axis) { return gather_elements(g, v, index, axis); }
static Value *read_nd(Grad *g, Value *v, Value *index, int64_t axis) { return (void)axis, gather_nd(g, v, index); }
static Value *write_elements(Grad *g, Value *to, Value *index, Value *d, int64_t axis, const char *reduction) {
    Node *n = g_node(g, OP_ScatterElements, 3, (Value *[]){to, index, d}, 1);
    attr_set_i(n, AT_ScatterElements_axis, axis);
    attr_set_s(n, AT_ScatterElements_reduction, str_intern(g->m->cx, reduction));
    return g_done(g, n);
}
static Value *write_nd(Grad *g, Value *to, Value *index, Value *d, int64_t axis, const char *reduction) {
    (void)axis;
    return scatter_nd(g, to, index, d, reduction);
}

static bool scatter_gradient(Grad *g, Read *read, Write *write, int64_t axis, Str reduction) {
    Value *x = g->n->in[0], *index = g->n->in[1], *u = g->n->in[2], *y = g->n->out[0], *dy = g->dy[0];
    const char *how = str_text(g->m->cx, reduction);
    if (strcmp(how, "add") == 0) {
        g->dx[0] = dy;
        g->dx[2] = read(g, dy, index, axis);
    } else if (strcmp(how, "mul") == 0) { /* y / u and y / x */
        g->dx[0] = g_mul(g, dy, write(g, g_filled_like(g, x, 1), index, u, axis, "mul"));
        g->dx[2] = g_div(g, read(g, g_mul(g, dy, y), index, axis), u);
    } else if (strcmp(how, "max") == 0 || strcmp(how, "min") == 0) {
        Value *from_x = g_cast(g, g_2(g, OP_Equal, x, y), x->type->dtype);
        Value *from_u = g_cast(g, g_2(g, OP_Equal, u, read(g, y, index, axis)), x->type->dtype);
        Value *share = g_div(g, dy, write(g, from_x, index, from_u, axis, "add"));
        g->dx[0] = g_mul(g, share, from_x);
        g->dx[2] = g_mul(g, read(g, share, index, axis), from_u);
    } else { /* the last one written stays; where nothing is written twice that is all */
        g->dx[0] = write(g, dy, index, g_filled_like(g, u, 0), axis, "none");
        g->dx[2] = read(g, dy, index, axis);
    }
    return true;
}

bool grad_scatter_elements(Grad *g) {
    return scatter_gradient(g, read_elements, write_elements, attr_i(g->n, AT_ScatterElements_axis), attr_s(g->n, AT_ScatterElements_reduction));
}

bool grad_scatter_nd(Grad *g) { return scatter_gradient(g, read_nd, write_nd, 0, attr_s(g->n, AT_ScatterND_reduction)); }
