"""Every element type through the families of operators: arithmetic, comparison, reduction, movement, casts.

Small floats are computed in float32 and rounded once; integers wrap; what is expected comes from numpy."""
import ml_dtypes as ml
import numpy as np
from onnx import helper

from suite import add, case, model_of, rng

BF, F16 = ml.bfloat16, np.float16
FLOATS = {"f16": F16, "bf16": BF, "f32": np.float32, "f64": np.float64}
INTS = {f"{s}{b}": np.dtype(f"{'int' if s == 'i' else 'uint'}{b}").type for s in "iu" for b in (8, 16, 32, 64)}
PACKED = {"i4": ml.int4, "u4": ml.uint4, "i2": ml.int2, "u2": ml.uint2}
F8 = {"f8e4m3": ml.float8_e4m3fn, "f8e4m3uz": ml.float8_e4m3fnuz, "f8e5m2": ml.float8_e5m2, "f8e5m2uz": ml.float8_e5m2fnuz}
COMPLEX = {"c64": np.complex64, "c128": np.complex128}


def data(t, shape, seed=0):
    g = rng(seed)
    if t in PACKED:
        i = ml.iinfo(PACKED[t])
        return g.integers(int(i.min), int(i.max) + 1, shape).astype(np.int8).astype(PACKED[t])
    if t in INTS:
        i = np.iinfo(INTS[t])
        return g.integers(max(i.min, -100), min(i.max, 100), shape).astype(INTS[t])
    if t in COMPLEX:
        return (g.standard_normal(shape) + 1j * g.standard_normal(shape)).astype(COMPLEX[t])
    if t == "bool":
        return g.integers(0, 2, shape).astype(bool)
    if t == "str":
        return np.array([f"s{v}" for v in g.integers(0, 9, shape).ravel()], object).reshape(shape)
    return g.standard_normal(shape).astype(np.float32).astype({**FLOATS, **F8}[t])


def wide(f):
    """f in float32 for the small floats, back in their type."""
    def run(*v):
        small = [x for x in v if x is not None and x.dtype in (np.dtype(BF), np.dtype(F16))]
        if not small:
            return f(*v)
        y = f(*[x.astype(np.float32) if x.dtype in (np.dtype(BF), np.dtype(F16)) else x for x in v])
        return tuple(v.astype(small[0].dtype) if v.dtype == np.float32 else v for v in y) if isinstance(y, tuple) else y.astype(small[0].dtype) if y.dtype == np.float32 else y
    return run


def tolerance(t):
    return {"f16": (2e-3, 1e-3), "bf16": (1e-2, 1e-2), "f32": (1e-5, 1e-6), "f64": (1e-12, 1e-14)}.get(t, (0, 0))


def check(name, op, t, inputs, f, attrs=None, **more):
    rtol, atol = tolerance(t)
    with np.errstate(all="ignore"):
        case(f"types_{name}_{t}", op, inputs, attrs, ref=wide(f), rtol=rtol, atol=atol, opset=24, **more)


def truncated(x, y):
    return np.abs(x) // np.abs(y) * np.sign(x) * np.sign(y)


def scattered(v, i, u):
    y = v.copy()
    for a in range(i.shape[0]):
        for b in range(i.shape[1]):
            y[a, b, i[a, b, 0]] = u[a, b, 0]
    return y


def largest(x, k):
    order = np.argsort(-x.astype(np.float64), 1, kind="stable")[:, :k]
    return np.take_along_axis(x, order, 1), order


SHAPE = (3, 5)
for t in {**FLOATS, **INTS}:
    a, b = data(t, SHAPE, 1), data(t, SHAPE, 2)
    nonzero = np.where(b == 0, np.ones_like(b), b)
    check("add", "Add", t, [a, b], lambda x, y: x + y)
    check("sub", "Sub", t, [a, b], lambda x, y: x - y)
    check("mul", "Mul", t, [a, b], lambda x, y: x * y)
    check("div", "Div", t, [a, nonzero], lambda x, y: x / y if x.dtype.kind == "f" else truncated(x.astype(np.int64), y.astype(np.int64)).astype(x.dtype))
    check("max", "Max", t, [a, b], np.maximum)
    check("min", "Min", t, [a, b], np.minimum)
    check("sum3", "Sum", t, [a, b, a], lambda x, y, z: x + y + z) if t in FLOATS else None
    check("abs", "Abs", t, [a], np.abs)
    check("sign", "Sign", t, [a], np.sign)
    if t[0] != "u":
        check("neg", "Neg", t, [a], np.negative)
    check("equal", "Equal", t, [a, np.where(b > 0, a, b)], np.equal)
    check("less", "Less", t, [a, b], np.less)
    check("greater_or_equal", "GreaterOrEqual", t, [a, b], np.greater_equal)
    check("clip", "Clip", t, [a, np.asarray(1).astype(a.dtype), np.asarray(50).astype(a.dtype)], lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi), consts=(1, 2))
    if t in FLOATS or t in ("i32", "i64"):
        check("relu", "Relu", t, [a], lambda x: np.maximum(x, 0 * x))
        check("pow", "Pow", t, [a, np.asarray(2).astype(a.dtype)], lambda x, y: x * x)
    if t in INTS:
        check("mod", "Mod", t, [a, nonzero], np.mod)
        check("fmod", "Mod", t, [a, nonzero], np.fmod, {"fmod": 1})
        check("bitwise_and", "BitwiseAnd", t, [a, b], np.bitwise_and)
        check("bitwise_xor", "BitwiseXor", t, [a, b], np.bitwise_xor)
        check("bitwise_or", "BitwiseOr", t, [a, b], np.bitwise_or)
        check("bitwise_not", "BitwiseNot", t, [a], np.bitwise_not)
        if t[0] == "u":
            s = (b % np.asarray(8, b.dtype)).astype(b.dtype)
            check("shift_left", "BitShift", t, [a, s], np.left_shift, {"direction": "LEFT"})
            check("shift_right", "BitShift", t, [a, s], np.right_shift, {"direction": "RIGHT"})
    else:
        for op, f in (("Exp", np.exp), ("Tanh", np.tanh), ("Sqrt", lambda x: np.sqrt(np.abs(x))), ("Sin", np.sin), ("Cos", np.cos), ("Floor", np.floor), ("Ceil", np.ceil), ("Round", np.round),
                      ("Reciprocal", lambda x: 1 / x), ("Sigmoid", lambda x: 1 / (1 + np.exp(-x)))):
            x = np.abs(a) if op == "Sqrt" else a
            check(op.lower(), op, t, [x], f)
        check("isnan", "IsNaN", t, [np.where(a > 0, a, np.asarray(np.nan).astype(a.dtype))], np.isnan)
        check("matmul", "MatMul", t, [data(t, (4, 6)), data(t, (6, 5), 3)], lambda x, y: x @ y)
        check("softmax", "Softmax", t, [a], lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True))
        check("layer_norm", "LayerNormalization", t, [a, data(t, (5,), 4)], lambda x, s: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + np.asarray(1e-5, x.dtype)) * s)
    if t in FLOATS or t in ("i32", "i64", "u32", "u64"):
        axes = np.int64([1])
        for op, f in (("ReduceSum", np.sum), ("ReduceMax", np.max), ("ReduceMin", np.min), ("ReduceProd", np.prod), ("ReduceSumSquare", lambda x, axis, keepdims: np.sum(x * x, axis=axis, keepdims=keepdims)),
                      ("ReduceL1", lambda x, axis, keepdims: np.sum(np.abs(x), axis=axis, keepdims=keepdims))):
            small = (a % np.asarray(3, a.dtype)).astype(a.dtype) if t in INTS and op == "ReduceProd" else a
            check(op.lower(), op, t, [small, axes], lambda x, n, f=f: f(x, axis=1, keepdims=True).astype(x.dtype), consts=(1,))
    if t in ("i8", "u8"):
        for op, f in (("ReduceMax", np.max), ("ReduceMin", np.min)):
            check(op.lower(), op, t, [a, np.int64([1])], lambda x, n, f=f: f(x, axis=1, keepdims=True), consts=(1,))
    check("argmax", "ArgMax", t, [a], lambda x: np.argmax(x, 1)[:, None], {"axis": 1})
    if t not in ("bf16",):
        check("topk", "TopK", t, [a, np.int64([2])], lambda x, k: largest(x, 2), {"axis": 1}, n_out=2, consts=(1,))
    check("cumsum", "CumSum", t, [a, np.int64(1)], lambda x, n: np.cumsum(x, 1, dtype=x.dtype), consts=(1,)) if t in FLOATS or t in ("i32", "i64", "u32", "u64") else None

# Elements move: every type there is.
MOVED = [*FLOATS, *INTS, "bool", "str", *PACKED, *F8, *COMPLEX]
for t in MOVED:
    x, y = data(t, (2, 3, 4), 7), data(t, (2, 3, 4), 8)
    check("identity", "Identity", t, [x], lambda v: v)
    check("transpose", "Transpose", t, [x], lambda v: v.transpose(2, 0, 1), {"perm": [2, 0, 1]})
    check("reshape", "Reshape", t, [x, np.int64([4, 6])], lambda v, s: v.reshape(4, 6), consts=(1,))
    check("squeeze", "Squeeze", t, [data(t, (1, 5, 1)), np.int64([0])], lambda v, s: v[0], consts=(1,))
    check("unsqueeze", "Unsqueeze", t, [x, np.int64([1])], lambda v, s: v[:, None], consts=(1,))
    check("flatten", "Flatten", t, [x], lambda v: v.reshape(2, 12))
    if t in PACKED or t in F8:
        continue  # what the standard lets these types through
    check("slice", "Slice", t, [x, np.int64([1, -1]), np.int64([3, -9]), np.int64([1, 2]), np.int64([1, -2])], lambda v, *s: v[:, 1:3, ::-2], consts=(1, 2, 3, 4))
    check("concat", "Concat", t, [x, y], lambda v, w: np.concatenate([v, w], 1), {"axis": 1})
    check("gather", "Gather", t, [x, np.int64([3, -1, 0])], lambda v, i: v[..., i], {"axis": 2})
    check("gather_elements", "GatherElements", t, [x, np.int64(rng(1).integers(0, 3, (2, 3, 4)))], lambda v, i: np.take_along_axis(v, i, 1), {"axis": 1})
    check("gather_nd", "GatherND", t, [x, np.int64([[1, 2], [0, -1]])], lambda v, i: np.stack([v[1, 2], v[0, -1]]))
    check("scatter_elements", "ScatterElements", t, [x, np.int64([[[2], [0], [1]]]), data(t, (1, 3, 1), 9)], lambda v, i, u: scattered(v, i, u), {"axis": 2})
    check("expand", "Expand", t, [data(t, (3, 1)), np.int64([2, 3, 4])], lambda v, s: np.broadcast_to(v, (2, 3, 4)).copy(), consts=(1,))
    check("tile", "Tile", t, [x, np.int64([1, 2, 2])], lambda v, r: np.tile(v, (1, 2, 2)), consts=(1,))
    check("where", "Where", t, [data("bool", (3, 1)), x, y], lambda c, v, w: np.where(c, v, w))
    check("depth_to_space", "DepthToSpace", t, [data(t, (1, 4, 2, 2))], lambda v: v.reshape(1, 2, 2, 1, 2, 2).transpose(0, 3, 4, 1, 5, 2).reshape(1, 1, 4, 4), {"blocksize": 2})
    check("reverse_sequence", "ReverseSequence", t, [data(t, (4, 2)), np.int64([2, 3])], lambda v, n: np.stack([np.concatenate([v[:k, i][::-1], v[k:, i]]) for i, k in enumerate(n)], 1))
    if t != "str":
        check("pad", "Pad", t, [data(t, (2, 3)), np.int64([0, 1, 2, 0])], lambda v, p: np.pad(v, [(0, 2), (1, 0)]), consts=(1,))
        check("trilu", "Trilu", t, [data(t, (4, 5))], np.triu)
        check("pad_edge", "Pad", t, [data(t, (2, 3)), np.int64([0, 1, 2, 0])], lambda v, p: np.pad(v, [(0, 2), (1, 0)], "edge"), {"mode": "edge"}, consts=(1,))

# Casts between all numbers: small values that every type holds, then rounding of halves.
NUMBERS = {**FLOATS, **INTS, **PACKED, **F8, "bool": bool}
small = np.float32([0, 1, 1, 0, 1, 1, 0])
for a, ta in NUMBERS.items():
    others = {b: tb for b, tb in NUMBERS.items() if b != a}
    nodes = [helper.make_node("Cast", ["x"], [b], to=helper.np_dtype_to_tensor_dtype(np.dtype(tb))) for b, tb in others.items()]
    feeds = {"x": small.astype(ta)}
    add(f"types_cast_{a}", model_of(nodes, feeds, list(others), opsets={"": 25}, ir=13), feeds, [small.astype(tb) for tb in others.values()], 0, 0)
values = np.float32([0.0, -0.0, 1.0009765, 1.00390625, 65504, 65519.9, 65520, 1e-8, 6e-8, -3.1415927, 1e38, 3.4e38, np.inf, -np.inf])
for b, tb in (("f16", F16), ("bf16", BF)):
    for a, ta in (("f32", np.float32), ("f64", np.float64)):
        feeds = {"x": values.astype(ta)}
        with np.errstate(all="ignore"):
            add(f"types_cast_rounding_{a}_{b}", model_of([helper.make_node("Cast", ["x"], ["y"], to=helper.np_dtype_to_tensor_dtype(np.dtype(tb)))], feeds, ["y"]), feeds,
                [feeds["x"].astype(np.float32).astype(tb)], 0, 0)
