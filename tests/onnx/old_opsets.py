#!/usr/bin/env python3
"""Old operator versions against ONNX Runtime.

Builds one small model per operator and opset, has it imported and exported again (the export is in the newest form), and
compares what ONNX Runtime computes for both. Opsets that ONNX Runtime does not run are compared with numpy here.

    old_opsets.py LATHE        LATHE is the lathe command

Needs the Python packages onnx and onnxruntime. Exit code 1 if a model differs.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper

ort.set_default_logger_severity(4)
rng = np.random.default_rng(7)
CASES = []  # (name, opset, model, feeds, expected or None)


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def case(name, opset, op, feeds, outputs, expected=None, consts=None, inputs=None, domain="", types=None, **attrs):
    """One node: feeds are graph inputs in order, consts initializers; inputs overrides the node's input list."""
    consts = consts or {}
    names = inputs if inputs is not None else list(feeds) + list(consts)
    node = helper.make_node(op, names, outputs, name=name, domain=domain, **attrs)
    ins = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()]
    outs = [helper.make_tensor_value_info(o, (types or {}).get(o, T.FLOAT), None) for o in outputs if o]
    inits = [numpy_helper.from_array(v, k) for k, v in consts.items()]
    if opset < 9 and domain == "":  # IR versions of the time: initializers are inputs too
        ins += [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in consts.items()]
    graph = helper.make_graph([node], "g", ins, outs, inits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=3 if opset < 9 else 8)
    CASES.append((f"{name}@{opset}", model, feeds, expected))


def softmax(x, axis, f):
    m = x.reshape(int(np.prod(x.shape[:axis])), -1).astype(np.float64)
    e = np.exp(m - m.max(1, keepdims=True))
    s = e / e.sum(1, keepdims=True)
    r = {"Softmax": s, "LogSoftmax": np.log(s), "Hardmax": (m == m.max(1, keepdims=True)).astype(np.float64)}[f]
    return [r.reshape(x.shape).astype(np.float32)]


X = f32(2, 3, 4, 5)

# broadcasting asked for
A, B = f32(2, 3, 4, 5), f32(3, 4)
OPS = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
for op, f in OPS.items():
    for v in (1, 6):
        case(op, v, op, {"a": A, "b": B}, ["y"], [f(A, B[None, :, :, None])], broadcast=1, axis=1)
        case(op + "_neg", v, op, {"a": A, "b": B}, ["y"], [f(A, B[None, :, :, None])], broadcast=1, axis=-3)
        case(op + "_suffix", v, op, {"a": A, "b": f32(4, 5)}, ["y"], None, broadcast=1)
        CASES[-1] = (*CASES[-1][:3], [f(A, CASES[-1][2]["b"])])
    case(op, 7, op, {"a": A, "b": f32(4, 1)}, ["y"])
    case(op + "_const", 6, op, {"a": A}, ["y"], [f(A, B[None, :, :, None])], consts={"b": B}, broadcast=1, axis=1)
P = np.abs(A)
case("Pow", 1, "Pow", {"a": P, "b": B}, ["y"], [np.power(P, B[None, :, :, None])], broadcast=1, axis=1)
for op, f in {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}.items():
    case(op, 1, op, {"a": A > 0, "b": B > 0}, ["y"], [f(A > 0, (B > 0)[None, :, :, None])], broadcast=1, axis=1, types={"y": T.BOOL})
for op, f in {"Greater": np.greater, "Less": np.less}.items():
    case(op, 1, op, {"a": A, "b": B}, ["y"], [f(A, B[None, :, :, None])], broadcast=1, axis=1, types={"y": T.BOOL})
I = rng.integers(0, 3, (2, 3, 4)).astype(np.int32)
case("Equal", 1, "Equal", {"a": I, "b": I[0, :, 0].copy()}, ["y"], [I == I[0, :, 0][None, :, None]], broadcast=1, axis=1, types={"y": T.BOOL})
for v in (1, 6):
    s = np.array([0.1, 0.2, 0.3], np.float32)
    case("PRelu_channel", v, "PRelu", {"x": X}, ["y"], [np.where(X < 0, X * s[None, :, None, None], X)], consts={"s": s})
    case("PRelu_dynamic", v, "PRelu", {"x": X, "s": s}, ["y"], [np.where(X < 0, X * s[None, :, None, None], X)])
    s1 = np.array([0.25], np.float32)
    case("PRelu_one", v, "PRelu", {"x": X}, ["y"], [np.where(X < 0, X * s1, X)], consts={"s": s1})
case("PRelu", 7, "PRelu", {"x": X, "s": f32(3, 1, 1)}, ["y"])
a, b, c = f32(3, 4), f32(4, 5), f32(5)
for v in (1, 6):
    case("Gemm", v, "Gemm", {"a": a, "b": b, "c": c}, ["y"], [a @ b * 2 + c], broadcast=1, alpha=2.0)
for v in (7, 9, 11):
    case("Gemm", v, "Gemm", {"a": a.T.copy(), "b": b, "c": c}, ["y"], transA=1)

# consumed_inputs
for op, f in {"Relu": lambda x: np.maximum(x, 0), "Exp": np.exp, "Neg": np.negative, "Abs": np.abs, "Floor": np.floor, "Tanh": np.tanh,
              "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Ceil": np.ceil, "Reciprocal": lambda x: 1 / x}.items():
    case(op, 1, op, {"x": X}, ["y"], [f(X)], consumed_inputs=[0])
    case(op, 6, op, {"x": X}, ["y"], None if op != "Floor" else [f(X)])
case("Sum", 1, "Sum", {"a": A, "b": X}, ["y"], [A + X], consumed_inputs=[0, 0])
case("Sum", 6, "Sum", {"a": A, "b": X}, ["y"])
case("Max", 6, "Max", {"a": A, "b": X}, ["y"])
case("Mean", 6, "Mean", {"a": A, "b": X}, ["y"])
case("Selu", 1, "Selu", {"x": X}, ["y"], [np.where(X > 0, 1.0507 * X, 1.0507 * 1.6732 * (np.exp(X) - 1)).astype(np.float32)])
case("Selu", 6, "Selu", {"x": X}, ["y"])
case("Elu", 1, "Elu", {"x": X}, ["y"], [np.where(X > 0, X, np.exp(X) - 1)], consumed_inputs=[0])
case("LeakyRelu", 6, "LeakyRelu", {"x": X}, ["y"], alpha=0.2)
case("HardSigmoid", 6, "HardSigmoid", {"x": X}, ["y"])

# attributes to inputs
for v in (1, 6):
    case("Clip", v, "Clip", {"x": X}, ["y"], [np.clip(X, -0.5, 0.5)], min=-0.5, max=0.5)
    case("Clip_min", v, "Clip", {"x": X}, ["y"], [np.clip(X, 0, None)], min=0.0)
case("Clip", 7, "Clip", {"x": X}, ["y"], max=0.25)
case("Clip_f16", 6, "Clip", {"x": X.astype(np.float16)}, ["y"], [np.clip(X.astype(np.float16), np.float16(-0.1), np.float16(0.1))], min=-0.1, max=0.1, types={"y": T.FLOAT16})
for v in (11, 12):
    case("Clip", v, "Clip", {"x": X}, ["y"], consts={"lo": np.float32(-0.1).reshape(())})
case("Concat", 1, "Concat", {"a": A, "b": X}, ["y"], [np.concatenate([A, X], 1)])
case("Concat", 4, "Concat", {"a": A, "b": X}, ["y"], axis=2)
case("Cast", 1, "Cast", {"x": X}, ["y"], [X.astype(np.int32)], to="INT32", types={"y": T.INT32})
case("Cast", 6, "Cast", {"x": X}, ["y"], to=T.INT64, types={"y": T.INT64})
for v in (9, 13):
    case("Cast", v, "Cast", {"x": X}, ["y"], to=T.DOUBLE, types={"y": T.DOUBLE})
case("Pad", 1, "Pad", {"x": X}, ["y"], [np.pad(X, ((0, 0), (0, 0), (1, 0), (2, 1)), constant_values=1.5)], paddings=[0, 0, 1, 2, 0, 0, 0, 1], value=1.5)
for v in (2, 7, 10):
    case("Pad", v, "Pad", {"x": X}, ["y"], [np.pad(X, ((0, 0), (0, 0), (1, 0), (2, 1)), constant_values=-2)], pads=[0, 0, 1, 2, 0, 0, 0, 1], value=-2.0)
    case("Pad_edge", v, "Pad", {"x": X}, ["y"], mode="edge", pads=[0, 0, 1, 2, 0, 0, 0, 1])
    case("Pad_reflect", v, "Pad", {"x": X}, ["y"], mode="reflect", pads=[0, 0, 1, 2, 0, 0, 0, 1])
for v in (11, 13):
    case("Pad", v, "Pad", {"x": X}, ["y"], consts={"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])})
REDUCE = ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"]
for op in REDUCE:
    x = np.abs(X) + 0.1
    for v in (1, 7, 11, 12):
        case(op, v, op, {"x": x}, ["y"], axes=[1, 3], keepdims=0)
        case(op + "_all", v, op, {"x": x}, ["y"])
    if op != "ReduceSum":
        case(op, 13, op, {"x": x}, ["y"], axes=[-1])
    else:
        case(op, 13, op, {"x": x}, ["y"], consts={"axes": np.array([-1])})
for op in ("ArgMax", "ArgMin"):
    for v in (1, 7, 11, 12):
        case(op, v, op, {"x": X}, ["y"], axis=2, keepdims=0, types={"y": T.INT64})
case("Reshape", 1, "Reshape", {"x": X}, ["y"], [X.reshape(2, -1)], shape=[0, -1])
for v in (5, 13):
    case("Reshape", v, "Reshape", {"x": X}, ["y"], consts={"s": np.array([0, 12, -1])})
for v in (1, 7):
    case("Slice", v, "Slice", {"x": X}, ["y"], [X[:, 1:3, :, -4:-1]], axes=[1, 3], starts=[1, -4], ends=[3, -1])
    case("Slice_noaxes", v, "Slice", {"x": X}, ["y"], [X[0:1, 1:1000]], starts=[0, 1], ends=[1, 1000])
case("Slice", 10, "Slice", {"x": X}, ["y"], consts={"s": np.array([4]), "e": np.array([0]), "a": np.array([3]), "st": np.array([-2])})
case("Split", 1, "Split", {"x": X}, ["y", "z"], [X[:1], X[1:]], axis=0)
case("Split_input", 1, "Split", {"x": X}, ["y", "z"], [X[:, :1], X[:, 1:]], axis=1, split=[1, 2])
for v in (2, 7, 11):
    case("Split", v, "Split", {"x": X}, ["y", "z"], axis=2)
    case("Split_sizes", v, "Split", {"x": X}, ["y", "z"], axis=3, split=[2, 3])
case("Split", 13, "Split", {"x": X}, ["y", "z"], axis=2)
case("Split_sizes", 13, "Split", {"x": X}, ["y", "z"], consts={"s": np.array([2, 3])}, axis=3)
Q = f32(1, 3, 1, 5)
for v in (1, 7, 11):
    case("Squeeze", v, "Squeeze", {"x": Q}, ["y"], axes=[0, 2])
    case("Squeeze_all", v, "Squeeze", {"x": Q}, ["y"])
    case("Unsqueeze", v, "Unsqueeze", {"x": Q}, ["y"], axes=[0, 3])
case("Unsqueeze", 13, "Unsqueeze", {"x": Q}, ["y"], consts={"a": np.array([-1])})
case("Tile", 1, "Tile", {"x": X}, ["y"], [np.tile(X, (1, 3, 1, 1))], consts={"t": np.float32(3).reshape(1), "a": np.float32(1).reshape(1)})
case("Tile", 6, "Tile", {"x": X}, ["y"], consts={"t": np.array([1, 2, 1, 3])})
for v in (1, 7):
    case("TopK", v, "TopK", {"x": X}, ["y", "i"], k=2, axis=-1 if v > 1 else 3, types={"i": T.INT64})
case("TopK", 10, "TopK", {"x": X}, ["y", "i"], consts={"k": np.array([2])}, axis=1, types={"i": T.INT64})
case("TopK", 11, "TopK", {"x": X}, ["y", "i"], consts={"k": np.array([2])}, axis=1, largest=0, types={"i": T.INT64})

# Softmax as a matrix
for op in ("Softmax", "LogSoftmax", "Hardmax"):
    for v in (1, 7, 11, 12):
        for axis in (0, 1, 2, 3):
            case(f"{op}_axis{axis}", v, op, {"x": X}, ["y"], softmax(X, axis, op), axis=axis)
        case(op, v, op, {"x": X}, ["y"], softmax(X, 1, op))
    case(op + "_neg", 11, op, {"x": X}, ["y"], softmax(X, 2, op), axis=-2)
    case(op, 13, op, {"x": X}, ["y"], axis=1)

# normalisation
S, Bi, M, V = f32(3), f32(3), f32(3), np.abs(f32(3)) + 0.5
bn = (X - M[:, None, None]) / np.sqrt(V[:, None, None] + 1e-5) * S[:, None, None] + Bi[:, None, None]
P3 = {"s": S, "b": Bi, "m": M, "v": V}
case("BatchNormalization", 1, "BatchNormalization", {"x": X}, ["y"], [bn], consts=P3, consumed_inputs=[0, 0, 0, 1, 1], is_test=1)
case("BatchNormalization", 6, "BatchNormalization", {"x": X}, ["y"], [bn], consts=P3, is_test=1)
case("BatchNormalization_outputs", 6, "BatchNormalization", {"x": X}, ["y", "m2", "v2"], None, consts=P3, is_test=1)
CASES.pop()  # extra outputs at test time are not computed: reported when read
for v in (7, 9, 14):
    case("BatchNormalization", v, "BatchNormalization", {"x": X}, ["y"], [bn], consts=P3)
SP = {k: (np.abs(f32(3, 4, 5)) + 0.5) for k in ("s", "b", "m", "v")}
for v in (7, 8):
    case("BatchNormalization_spatial0", v, "BatchNormalization", {"x": X}, ["y"], [(X - SP["m"]) / np.sqrt(SP["v"] + 1e-3) * SP["s"] + SP["b"]], consts=SP, spatial=0, epsilon=1e-3)
case("InstanceNormalization", 1, "InstanceNormalization", {"x": X}, ["y"], None, consts={"s": S, "b": Bi}, consumed_inputs=[0, 0, 0])
xi = (X - X.mean((2, 3), keepdims=True)) / np.sqrt(X.var((2, 3), keepdims=True) + 1e-5) * S[:, None, None] + Bi[:, None, None]
CASES[-1] = (*CASES[-1][:3], [xi])
G = f32(2, 4, 3, 3)
for v in (18, 20):
    g = G.reshape(2, 2, 2, 3, 3)
    n = ((g - g.mean((2, 3, 4), keepdims=True)) / np.sqrt(g.var((2, 3, 4), keepdims=True) + 1e-5))
    gs, gb = f32(2), f32(2)
    want = (n * gs[None, :, None, None, None] + gb[None, :, None, None, None]).reshape(G.shape)
    case("GroupNormalization", v, "GroupNormalization", {"x": G}, ["y"], [want], consts={"s": gs, "b": gb}, num_groups=2)
case("LRN", 1, "LRN", {"x": X}, ["y"], size=3)
for v in (1, 6):
    case("Dropout", v, "Dropout", {"x": X}, ["y"], [X], is_test=1, ratio=0.3)
for v in (7, 10):
    case("Dropout", v, "Dropout", {"x": X}, ["y"], ratio=0.3)
case("Dropout_mask", 7, "Dropout", {"x": X}, ["y", "m"], [X, np.ones_like(X)], ratio=0.3)
case("Dropout_mask", 10, "Dropout", {"x": X}, ["y", "m"], [X, np.ones(X.shape, bool)], ratio=0.3, types={"m": T.BOOL})
case("Dropout", 12, "Dropout", {"x": X}, ["y"])

# resampling
UP = f32(1, 2, 3, 4)
for mode in ("nearest", "linear"):
    case("Upsample_" + mode, 7, "Upsample", {"x": UP}, ["y"], mode=mode, scales=[1.0, 1.0, 2.0, 3.0])
    case("Upsample_" + mode, 9, "Upsample", {"x": UP}, ["y"], consts={"s": np.array([1, 1, 2, 1.5], np.float32)}, mode=mode)
    for n, s in {"up": [1, 1, 2, 1.7], "down": [1, 1, 0.6, 0.6], "both": [1, 1, 0.6, 1.8]}.items():
        case(f"Resize_{mode}_{n}", 10, "Resize", {"x": UP}, ["y"], consts={"s": np.array(s, np.float32)}, mode=mode)
case("Upsample", 1, "Upsample", {"x": UP}, ["y"], [UP.repeat(2, 2).repeat(3, 3)], mode="nearest", height_scale=2.0, width_scale=3.0)
E0 = np.array([], np.float32)
for v in (11, 13):
    case("Resize", v, "Resize", {"x": UP}, ["y"], consts={"roi": E0, "s": np.array([1, 1, 2, 2], np.float32)}, mode="linear")
    case("Resize_sizes", v, "Resize", {"x": UP}, ["y"], consts={"roi": E0, "s": E0, "z": np.array([1, 2, 5, 7])}, mode="nearest")
    case("Resize_tf", v if v < 13 else 12, "Resize", {"x": UP}, ["y"], consts={"roi": E0, "s": np.array([1, 1, 1.5, 1.5], np.float32)}, mode="nearest", coordinate_transformation_mode="tf_half_pixel_for_nn")
RX, ROIS, BI = np.abs(f32(1, 1, 6, 6)), np.array([[0, 0, 3, 3], [1, 1, 4.5, 5]], np.float32), np.array([0, 0])
for v in (10, 16):
    case("RoiAlign", v, "RoiAlign", {"x": RX}, ["y"], consts={"r": ROIS, "b": BI}, output_height=2, output_width=2, sampling_ratio=2)
GS = (rng.uniform(-1, 1, (1, 3, 3, 2))).astype(np.float32)
for mode in ("bilinear", "bicubic", "nearest"):
    case("GridSample_" + mode, 16, "GridSample", {"x": RX, "g": GS}, ["y"], mode=mode)
case("GridSample", 20, "GridSample", {"x": RX, "g": GS}, ["y"], mode="cubic")

# pooling and convolution
for v in (1, 7, 10, 11):
    case("MaxPool", v, "MaxPool", {"x": X}, ["y"], kernel_shape=[2, 2], strides=[1, 2], pads=[0, 1, 1, 0])
    case("AveragePool", v, "AveragePool", {"x": X}, ["y"], kernel_shape=[2, 2], strides=[1, 2], pads=[0, 1, 1, 0])
    case("Conv", v, "Conv", {"x": X}, ["y"], consts={"w": f32(2, 3, 2, 2)}, pads=[1, 1, 0, 0])
    case("ConvTranspose", v, "ConvTranspose", {"x": X}, ["y"], consts={"w": f32(3, 2, 2, 2)}, strides=[2, 2])
case("GlobalLpPool", 1, "GlobalLpPool", {"x": X}, ["y"], [np.sqrt((X**2).sum((2, 3), keepdims=True))], p=2.0)
case("GlobalLpPool", 2, "GlobalLpPool", {"x": X}, ["y"], p=2)
case("LpPool", 1, "LpPool", {"x": X}, ["y"], None, kernel_shape=[2, 2], p=2.0)
w = np.lib.stride_tricks.sliding_window_view(X, (2, 2), (2, 3))
CASES[-1] = (*CASES[-1][:3], [np.sqrt((w**2).sum((-1, -2)))])
case("LpPool", 11, "LpPool", {"x": X}, ["y"], kernel_shape=[2, 2])

# recurrent
for op, g in {"RNN": 1, "GRU": 3, "LSTM": 4}.items():
    R = {"w": f32(1, g * 3, 4), "r": f32(1, g * 3, 3), "b": f32(1, g * 6)}
    outs = ["y", "yh"] + (["yc"] if op == "LSTM" else [])
    case(op, 7, op, {"x": f32(5, 2, 4)}, outs, consts=R, hidden_size=3)
    feeds = {"x": f32(5, 2, 4)}
    case(op, 7, op, feeds, outs, consts=R, hidden_size=3)
    model = CASES[-1][1]
    want = ort.InferenceSession(model.SerializeToString()).run(None, feeds)
    case(op, 1, op, feeds, outs, want, consts=R, hidden_size=3, output_sequence=1)

# gather and scatter
for v in (9, 10, 11):
    case("Scatter", v, "Scatter", {"x": f32(3, 3)}, ["y"], consts={"i": np.array([[1, 0, 2], [0, 2, 1]]), "u": f32(2, 3)}, axis=0)
case("ScatterElements", 11, "ScatterElements", {"x": f32(3, 3)}, ["y"], consts={"i": np.array([[1, 0, 2], [0, 2, 1]]), "u": f32(2, 3)}, axis=0)
case("Gather", 1, "Gather", {"x": X}, ["y"], consts={"i": np.array([2, 0])}, axis=1)

# signal
for v in (17,):
    case("DFT", v, "DFT", {"x": f32(1, 6, 4, 1)}, ["y"], axis=2)
    case("DFT_default", v, "DFT", {"x": f32(1, 6, 1)}, ["y"])

# types of the time
for v in (7, 9, 13):
    case("Equal", v, "Equal", {"a": I, "b": I}, ["y"], types={"y": T.BOOL})
for v in (1, 13):
    case("Transpose", v, "Transpose", {"x": X}, ["y"], perm=[0, 2, 3, 1])
    case("Flatten", v if v > 1 else 1, "Flatten", {"x": X}, ["y"], axis=2)
case("Shape", 1, "Shape", {"x": X}, ["y"], types={"y": T.INT64})
case("MatMul", 1, "MatMul", {"a": a, "b": b}, ["y"])
case("Hardmax", 13, "Hardmax", {"x": X}, ["y"])


def scan8():
    """Scan-8: a running sum per sample of a batch."""
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "x"], ["s2"]), helper.make_node("Identity", ["s2"], ["o"])], "body",
        [helper.make_tensor_value_info("s", T.FLOAT, [2]), helper.make_tensor_value_info("x", T.FLOAT, [2])],
        [helper.make_tensor_value_info("s2", T.FLOAT, [2]), helper.make_tensor_value_info("o", T.FLOAT, [2])])
    s, x = f32(3, 2), f32(3, 4, 2)
    want = s[:, None] + np.cumsum(x, 1)
    case("Scan", 8, "Scan", {"s": s, "x": x}, ["f", "o"], [want[:, -1], want], inputs=["", "s", "x"], body=body, num_scan_inputs=1)
    rev = s[:, None] + np.cumsum(x[:, ::-1], 1)
    case("Scan_reverse", 8, "Scan", {"s": s, "x": x}, ["f", "o"], [rev[:, -1], rev], inputs=["", "s", "x"], body=body, num_scan_inputs=1, directions=[1])


# operators that are no longer, or never were, part of the standard
def old(op, expected=None, **attrs):
    case(op, 1, op, {"x": UP}, ["y"], expected, **attrs)


old("Affine", [UP * 2 + 0.5], alpha=2.0, beta=0.5)
old("ScaledTanh", [2 * np.tanh(0.5 * UP)], alpha=2.0, beta=0.5)
old("ParametricSoftplus", [2 * np.log1p(np.exp(0.5 * UP))], alpha=2.0, beta=0.5)
old("ImageScaler", [UP * 2 + np.array([1, -1], np.float32)[None, :, None, None]], scale=2.0, bias=[1.0, -1.0])
old("Crop", [UP[:, :, 1:, 1:-2]], border=[1, 1, 2, 0])
old("Crop", [UP[:, :, 1:2, 1:3]], border=[1, 1, 0, 0], scale=[1, 2])
case("SimplifiedLayerNormalization", 17, "SimplifiedLayerNormalization", {"x": X}, ["y"], consts={"s": f32(5)}, axis=-1, epsilon=1e-5)


scan8()
case("LabelEncoder_to_text", 1, "LabelEncoder", {"x": np.array([2, 0, 1, 7])}, ["y"], [np.array(["c", "a", "b", "?"])], domain="ai.onnx.ml", types={"y": T.STRING},
     classes_strings=["a", "b", "c"], default_string="?")
case("LabelEncoder_from_text", 1, "LabelEncoder", {"x": np.array(["b", "zz"])}, ["y"], [np.array([1, -5])], domain="ai.onnx.ml", types={"y": T.INT64},
     classes_strings=["a", "b", "c"], default_int64=-5)


def run(model, feeds):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def equal(a, b):
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "OUSb" or b.dtype.kind in "OUSb":
        return bool((a == b).all())
    return np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-4, atol=1e-5, equal_nan=True)


def main():
    lathe, bad, skipped = sys.argv[1], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name, model, feeds, expected in CASES:
            source, target = os.path.join(folder, "in.onnx"), os.path.join(folder, "out.onnx")
            onnx.save(model, source)
            if os.path.exists(target):
                os.remove(target)
            # dce: a pass that needs no inferred types, so that only import and export are tested
            done = subprocess.run([lathe, "export", "--run", "dce", "-o", target, source], capture_output=True, text=True)
            if not os.path.exists(target):
                print(f"{name}: not imported: {done.stdout}{done.stderr}")
                bad += 1
                continue
            want = expected
            if want is None:
                try:
                    want = run(model.SerializeToString(), feeds)
                except Exception as e:
                    print(f"{name}: no reference: {str(e)[:120]}")
                    skipped += 1
                    continue
            exported = onnx.load(target)
            for new, old in zip(exported.graph.output, model.graph.output):
                new.type.CopyFrom(old.type)
            try:
                got = run(exported.SerializeToString(), feeds)
            except Exception as e:
                print(f"{name}: the export does not run: {str(e)[:300]}")
                bad += 1
                continue
            if len(got) != len(want) or not all(map(equal, want, got)):
                print(f"{name}: differs")
                bad += 1
    print(f"{len(CASES)} models, {bad} wrong, {skipped} without a reference")
    sys.exit(1 if bad else 0)


main()
