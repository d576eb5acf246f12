"""Older forms of operators: what opsets 1 to 12 wrote, against ONNX Runtime where it still reads them, else against numpy."""
import numpy as np
from onnx import TensorProto

from suite import ONNX, case, f32

X, R = f32(2, 3, 4), f32(1, 2, 3, 3)


def old(name, op, opset, inputs, attrs=None, ref="ort", **more):
    case(f"{op.lower()}_{opset}_{name}", op, inputs, attrs, ONNX, opset=opset, ref=ref, **more)


def padded(mode, pads, value=0.0):
    width = list(zip(pads[: len(pads) // 2], pads[len(pads) // 2:]))
    return lambda x: np.pad(x, width, mode, **({"constant_values": value} if mode == "constant" else {}))


# Attributes that became inputs.
P4 = [0, 0, 1, 2, 0, 0, 2, 1]
old("constant", "Pad", 2, [R], {"pads": P4, "value": 1.5})
old("reflect", "Pad", 2, [R], {"pads": P4, "mode": "reflect"})
old("edge", "Pad", 2, [R], {"pads": P4, "mode": "edge"})
old("default", "Pad", 2, [R], {"pads": P4})
old("constant", "Pad", 1, [R], {"paddings": P4, "value": 1.5}, ref=padded("constant", P4, 1.5))
old("input", "Pad", 11, [R, np.int64(P4), np.float32(2.5)], consts=(1,))
for opset in (1, 6):
    old("bounds", "Clip", opset, [X], {"min": -0.5, "max": 0.5}, ref=lambda x: np.clip(x, -0.5, 0.5))
    old("low", "Clip", opset, [X], {"min": 0.0}, ref=lambda x: np.maximum(x, 0))
    old("none", "Clip", opset, [X], ref=lambda x: x)
old("input", "Clip", 11, [X, np.float32(-0.5), np.float32(0.5)], consts=(1, 2))
for name, starts, ends, axes in (("plain", [0, 1, 0], [2, 3, 2], None), ("axes", [1, 0], [3, 9], [1, 2]), ("negative", [-3], [-1], [2])):
    attrs = {"starts": starts, "ends": ends, **({"axes": axes} if axes else {})}
    old(name, "Slice", 1, [X], attrs)
    old(name, "Slice", 10, [X, np.int64(starts), np.int64(ends)] + ([np.int64(axes)] if axes else []), consts=(1, 2) + ((3,) if axes else ()))
old("steps", "Slice", 10, [X, np.int64([3, -1]), np.int64([-99, -99]), np.int64([2, 1]), np.int64([-2, -1])], consts=(1, 2, 3, 4))
old("axes", "Squeeze", 1, [f32(1, 3, 1, 2)], {"axes": [0, 2]})
old("all", "Squeeze", 1, [f32(1, 3, 1, 2)])
old("negative", "Squeeze", 11, [f32(1, 3, 1, 2)], {"axes": [-2]})
old("axes", "Unsqueeze", 1, [X], {"axes": [0, 2]})
old("negative", "Unsqueeze", 11, [X], {"axes": [-1]})
old("equal", "Split", 2, [f32(2, 6)], {"axis": 1}, n_out=3)
old("lengths", "Split", 2, [f32(2, 6)], {"axis": 1, "split": [1, 3, 2]}, n_out=3)
old("negative", "Split", 11, [f32(2, 6)], {"axis": -1, "split": [4, 2]}, n_out=2)
old("shape", "Reshape", 1, [X], {"shape": [4, -1]}, ref=lambda x: x.reshape(4, -1))
old("zero", "Reshape", 5, [X, np.int64([0, -1])], consts=(1,))
old("repeats", "Tile", 6, [f32(2, 3), np.int64([2, 1])], consts=(1,))
for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"):
    x = np.abs(X) + 0.1
    old("all", op, 1, [x], {"keepdims": 0}, rtol=1e-3)
    old("axes", op, 1, [x], {"axes": [0, 2]}, rtol=1e-3)
    old("negative", op, 11, [x], {"axes": [-1], "keepdims": 0}, dyn={0: ["N", 3, 4]}, rtol=1e-3)

# Softmax before 13 sees a matrix: axes in front of `axis` and those from it on.
for op in ("Softmax", "LogSoftmax", "Hardmax"):
    for opset in (1, 11):
        for axis in (0, 1, 2) + ((-2,) if opset == 11 else ()):
            old(f"axis{axis}".replace("-", "m"), op, opset, [X], {"axis": axis})
        old("default", op, opset, [X], dyn={0: ["N", 3, 4]})

# Broadcasting that had to be asked for.
for op, f in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide), ("Pow", lambda a, b: np.power(np.abs(a), b))):
    a = np.abs(X) if op == "Pow" else X
    old("axis", op, 6 if op != "Pow" else 1, [a, f32(3)], {"broadcast": 1, "axis": 1}, ref=lambda a, b, f=f: f(a, b[:, None]))
    old("trailing", op, 6 if op != "Pow" else 1, [a, f32(4)], {"broadcast": 1}, ref=lambda a, b, f=f: f(a, b))
    old("same", op, 1, [a, f32(2, 3, 4, seed=2)], ref=lambda a, b, f=f: f(a, b))
for op, f in (("Greater", np.greater), ("Less", np.less)):
    old("axis", op, 1, [X, f32(3)], {"broadcast": 1, "axis": 1}, ref=lambda a, b, f=f: f(a, b[:, None]))
    old("plain", op, 7, [X, f32(4)])
    old("i32", op, 9, [np.int32([1, 2, 3]), np.int32([2, 2, 2])])
for op, f in (("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor)):
    old("axis", op, 1, [X > 0, f32(3) > 0], {"broadcast": 1, "axis": 1}, ref=lambda a, b, f=f: f(a, b[:, None]))
old("axis", "Equal", 1, [np.int32(X * 2), np.int32([1, 0, -1])], {"broadcast": 1, "axis": 1}, ref=lambda a, b: a == b[:, None])
old("axis", "PRelu", 6, [R, np.float32([0.5, 0.25])], ref=lambda x, s: np.where(x < 0, x * s[:, None, None], x))
old("many", "Sum", 1, [X, X + 1, X * 2], ref=lambda *v: sum(v))
old("many", "Sum", 6, [X, X + 1, X * 2], ref=lambda *v: sum(v))
old("broadcast", "Mean", 8, [X, f32(4), f32(3, 1)])
old("broadcast", "Max", 8, [X, f32(4), f32(3, 1)])
old("plain", "Min", 6, [X, f32(2, 3, 4, seed=3)])
for opset in (6, 7, 9, 11):
    a, b, c = f32(3, 4), f32(4, 5), f32(5) if opset > 6 else f32(3, 5)
    old("plain", "Gemm", opset, [a, b, c], {"alpha": 0.5, "beta": 2.0}, ref=lambda a, b, c: 0.5 * (a @ b) + 2 * c)
old("broadcast", "Gemm", 6, [f32(3, 4), f32(4, 5), f32(5)], {"broadcast": 1, "transA": 0}, ref=lambda a, b, c: a @ b + c)
old("transposed", "Gemm", 9, [f32(4, 3), f32(5, 4), f32(3, 1)], {"transA": 1, "transB": 1})

# Normalization and dropout of training times.
BN = [f32(2, 3, 4, 5), np.abs(f32(3)) + 0.5, f32(3, seed=1), f32(3, seed=2), np.abs(f32(3, seed=3)) + 0.5]


def batch_norm(x, s, b, m, v, eps=1e-5):
    at = (1, 3) + (1,) * (x.ndim - 2)
    return (x - m.reshape(at)) / np.sqrt(v.reshape(at) + eps) * s.reshape(at) + b.reshape(at)


old("test", "BatchNormalization", 1, BN, {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1], "epsilon": 1e-3}, ref=lambda *v: batch_norm(*v, eps=1e-3), consts=(1, 2, 3, 4))
old("test", "BatchNormalization", 6, BN, {"is_test": 1}, ref=batch_norm, consts=(1, 2, 3, 4))
old("plain", "BatchNormalization", 7, BN)
old("plain", "BatchNormalization", 9, BN, {"epsilon": 1e-3}, dyn={0: ["N", 3, 4, 5]})
old("test", "Dropout", 1, [X], {"is_test": 1, "ratio": 0.3}, ref=lambda x: x)
old("test", "Dropout", 6, [X], {"is_test": 1}, ref=lambda x: x)
old("plain", "Dropout", 7, [X], {"ratio": 0.3})
old("plain", "Dropout", 10, [X], {"ratio": 0.3})
old("mask", "Dropout", 10, [X], n_out=2, ref=lambda x: (x, np.ones(x.shape, bool)))
old("plain", "Dropout", 12, [X, np.float32(0.3)])
old("plain", "InstanceNormalization", 1, [f32(2, 3, 4), f32(3), f32(3, seed=1)], {"epsilon": 1e-3, "consumed_inputs": [0, 0, 0]},
    ref=lambda x, s, b: (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-3) * s[:, None] + b[:, None])
old("plain", "InstanceNormalization", 6, [f32(2, 3, 4), f32(3), f32(3, seed=1)])
old("plain", "LpNormalization", 1, [X], {"axis": 1, "p": 1})
for op in ("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Floor", "Ceil", "Reciprocal"):
    f = {"Relu": lambda x: np.maximum(x, 0), "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Tanh": np.tanh, "Exp": np.exp, "Abs": np.abs, "Neg": np.negative, "Floor": np.floor, "Ceil": np.ceil,
         "Reciprocal": lambda x: 1 / x}[op]
    old("consumed", op, 1, [X], {"consumed_inputs": [0]}, ref=lambda x, f=f: f(x))

# Sampling.
for mode in ("nearest", "linear"):
    old(f"scales_{mode}", "Upsample", 7, [R], {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]})
    old(f"scales_{mode}", "Upsample", 9, [R, np.float32([1, 1, 2, 3])], {"mode": mode}, consts=(1,))
    old(f"up_{mode}", "Resize", 10, [R, np.float32([1, 1, 2, 3])], {"mode": mode}, consts=(1,))
    old(f"down_{mode}", "Resize", 10, [f32(1, 2, 6, 6), np.float32([1, 1, 0.5, 0.6])], {"mode": mode}, consts=(1,))
    old(f"sizes_{mode}", "Resize", 11, [R, np.float32([]), np.float32([]), np.int64([1, 2, 5, 7])], {"mode": mode}, consts=(1, 2, 3))
old("nearest", "Upsample", 1, [R], {"height_scale": 2.0, "width_scale": 3.0, "mode": "nearest"}, ref=lambda x: x.repeat(2, 2).repeat(3, 3))

# Selection.
old("attr", "TopK", 1, [X], {"k": 2, "axis": 1}, n_out=2)
old("input", "TopK", 10, [X, np.int64([2])], {"axis": 2}, n_out=2, consts=(1,))
old("smallest", "TopK", 11, [X, np.int64([2])], {"axis": -1, "largest": 0}, n_out=2, consts=(1,))
old("plain", "ArgMax", 1, [X], {"axis": 1})
old("negative", "ArgMin", 11, [X], {"axis": -1, "keepdims": 0})
old("plain", "Gather", 1, [X, np.int64([2, 0])], {"axis": 1})
old("plain", "Scatter", 9, [X, np.int64([[[0], [1], [2]]]), np.float32([[[9], [8], [7]]])], {"axis": 2})
old("negative", "ScatterElements", 11, [X, np.int64([[[0], [-1], [2]]]), np.float32([[[9], [8], [7]]])], {"axis": -1})
old("plain", "OneHot", 9, [np.int64([1, -1, 7]), np.int64(3), np.float32([2, 5])], consts=(1,))
old("axis1", "Concat", 1, [f32(2, 3), f32(2, 2)], ref=lambda a, b: np.concatenate([a, b], 1))
old("axis", "Concat", 4, [f32(2, 3), f32(1, 3)], {"axis": 0})
old("axis2", "Flatten", 1, [X], {"axis": 2})
old("negative", "Flatten", 11, [X], {"axis": -1})

# Cast by name, and later by number.
old("name", "Cast", 1, [X], {"to": "INT32"}, ref=lambda x: x.astype(np.int32))
for to, kind in ((TensorProto.INT64, np.int64), (TensorProto.BOOL, bool), (TensorProto.DOUBLE, np.float64), (TensorProto.UINT8, np.uint8)):
    old(np.dtype(kind).name, "Cast", 6, [np.abs(X) * 3], {"to": to})
old("f16", "Cast", 9, [X], {"to": TensorProto.FLOAT16})
old("value", "ConstantOfShape", 9, [np.int64([2, 3])], consts=(0,))
old("shape", "Expand", 8, [f32(3, 1), np.int64([2, 3, 4])], consts=(1,))

# Windows.
I = f32(1, 2, 7, 7)
for opset in (1, 8, 10, 11):
    old("pads", "MaxPool", opset, [I], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]})
old("halves", "AveragePool", 1, [f32(1, 2, 6, 4)], {"kernel_shape": [2, 2], "strides": [2, 2]}, ref=lambda x: x.reshape(1, 2, 3, 2, 2, 2).mean((3, 5)))
for opset in (7, 10, 11):
    old("pads", "AveragePool", opset, [I], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]})
    old("same", "AveragePool", opset, [I], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"})
old("include", "AveragePool", 7, [I], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1})
old("ceil", "MaxPool", 10, [I], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})
old("ceil", "AveragePool", 10, [I], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})
old("dilated", "MaxPool", 10, [I], {"kernel_shape": [2, 2], "dilations": [2, 2]})
old("plain", "LpPool", 2, [I], {"kernel_shape": [3, 3], "p": 2})
old("same", "Conv", 1, [I, f32(3, 2, 3, 3)], {"auto_pad": "SAME_LOWER", "strides": [2, 2]})
old("group", "Conv", 1, [I, f32(4, 1, 3, 3), f32(4)], {"group": 2, "dilations": [2, 2]})
old("plain", "ConvTranspose", 1, [f32(1, 2, 4, 4), f32(2, 3, 3, 3)], {"strides": [2, 2], "output_padding": [1, 1]})
old("shape", "ConvTranspose", 1, [f32(1, 2, 4, 4), f32(2, 3, 3, 3)], {"strides": [2, 2], "output_shape": [8, 8]})
# Recurrence of opset 7: X[seq, batch, in], W[dirs, gates*hidden, in], R, B.
for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    old("plain", op, 7, [f32(5, 2, 3), f32(1, gates * 4, 3, scale=0.5), f32(1, gates * 4, 4, scale=0.5), f32(1, gates * 8)], {"hidden_size": 4}, n_out=2)
    old("both", op, 7, [f32(5, 2, 3), f32(2, gates * 4, 3, scale=0.5), f32(2, gates * 4, 4, scale=0.5)], {"hidden_size": 4, "direction": "bidirectional"}, n_out=2)
old("lengths", "LSTM", 7, [f32(5, 2, 3), f32(1, 16, 3, scale=0.5), f32(1, 16, 4, scale=0.5), f32(1, 32), np.int32([3, 5])], {"hidden_size": 4}, n_out=3)
