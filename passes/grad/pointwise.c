/* Gradients of pointwise operators. */
#include "passes/grad/grad.h"
#include "passes/rules.h"

Value *grad_scalar(Module *m, const Value *v, double c) { return value_const_scalar(m, v->type->dtype, c); }

Value *grad_unbroadcast(Module *m, Node *at, Value *d, const Value *x) {
    Context *cx = m->cx;
    const Type *from = d->type, *to = x->type;
    int64_t axes[RANK_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < from->rank; i++) {
        bool added = i + to->rank < from->rank;
        Dim own = added ? 0 : to->dim[i + to->rank - from->rank];
        if (added || (own != from->dim[i] && own == dim_const(cx, 1))) axes[n++] = i;
    }
    if (n == 0) return d;
    Value *sum = build2(m, at, OP_ReduceSum, d, value_const_i64(m, n, axes)); /* keepdims */
    return from->rank == to->rank ? sum : build2(m, at, OP_Reshape, sum, build1(m, at, OP_Shape, (Value *)(uintptr_t)x));
}

static Value *mul(Module *m, Node *at, Value *a, Value *b) { return build2(m, at, OP_Mul, a, b); }
static Value *sub(Module *m, Node *at, Value *a, Value *b) { return build2(m, at, OP_Sub, a, b); }

bool grad_identity(Module *m, Node *n, Node *at, Value *const *dy, Value **dx) {
    (void)m, (void)n, (void)at;
    dx[0] = dy[0];
    return true;
}

bool grad_arithmetic(Module *m, Node *n, Node *at, Value *const *dy, Value **dx) {
    Value *a = n->in[0], *b = n->in[1], *da = dy[0], *db = dy[0];
    switch ((Op)n->op) {
    case OP_Add: break;
    case OP_Sub: db = build1(m, at, OP_Neg, dy[0]); break;
    case OP_Mul:
        da = mul(m, at, dy[0], b);
        db = mul(m, at, dy[0], a);
        break;
    case OP_Div: /* d(a/b) = da/b - y db/b */
        da = build2(m, at, OP_Div, dy[0], b);
        db = build1(m, at, OP_Neg, mul(m, at, da, n->out[0]));
        break;
    default: return false;
    }
    dx[0] = grad_unbroadcast(m, at, da, a);
    dx[1] = grad_unbroadcast(m, at, db, b);
    return true;
}

/* Functions of one operand whose derivative is an expression of operand and result. */
bool grad_unary(Module *m, Node *n, Node *at, Value *const *dy, Value **dx) {
    Value *x = n->in[0], *y = n->out[0], *one = grad_scalar(m, x, 1), *d = NULL;
    switch ((Op)n->op) {
    case OP_Neg: dx[0] = build1(m, at, OP_Neg, dy[0]); return true;
    case OP_Exp: d = y; break;
    case OP_Log: dx[0] = build2(m, at, OP_Div, dy[0], x); return true;
    case OP_Sqrt: dx[0] = build2(m, at, OP_Div, dy[0], mul(m, at, y, grad_scalar(m, x, 2))); return true;
    case OP_Reciprocal: d = build1(m, at, OP_Neg, mul(m, at, y, y)); break;
    case OP_Sigmoid: d = mul(m, at, y, sub(m, at, one, y)); break;
    case OP_Tanh: d = sub(m, at, one, mul(m, at, y, y)); break;
    case OP_Sin: d = build1(m, at, OP_Cos, x); break;
    case OP_Cos: d = build1(m, at, OP_Neg, build1(m, at, OP_Sin, x)); break;
    case OP_Relu: /* zero at zero, as everybody does */
        dx[0] = build3(m, at, OP_Where, build2(m, at, OP_Greater, x, grad_scalar(m, x, 0)), dy[0], grad_scalar(m, x, 0));
        return true;
    case OP_Abs: d = build1(m, at, OP_Sign, x); break;
    default: return false;
    }
    dx[0] = mul(m, at, dy[0], d);
    return true;
}
