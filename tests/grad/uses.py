#!/usr/bin/env python3
"""What gradients are used for, against formulas: uses.py LATHE. Frozen weights, tensors in between, two losses, tied weights, the gradient penalty of a
WGAN (a gradient inside a loss), fake quantization, frozen integer weights. Prints a line per case and `N passed, N failed`."""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

node = helper.make_node
rng = np.random.default_rng(3)
CASES = []


def gradient(y, xs, outputs):
    return node("Gradient", xs, outputs, xs=xs, y=y, domain="ai.onnx.preview.training")


def case(name, inputs, constants, nodes, want):
    """want: {output: array}"""
    CASES.append((name, inputs, constants, nodes, want))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# y = sum(tanh(x w1) w2): w1 is not asked for
X, W1, W2 = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(5, 2))
H = np.tanh(X @ W1)
LAYERS = [node("MatMul", ["x", "w1"], ["a"]), node("Tanh", ["a"], ["h"]), node("MatMul", ["h", "w2"], ["o"]), node("ReduceSum", ["o"], ["y"], keepdims=0)]
DH = np.broadcast_to(W2.sum(1), H.shape)
case("frozen weights", {"x": X}, {"w1": W1, "w2": W2}, [*LAYERS, gradient("y", ["w2"], ["dw2"])], {"dw2": np.repeat(H.sum(0)[:, None], 2, 1)})
case("only inputs", {"x": X}, {"w1": W1, "w2": W2}, [*LAYERS, gradient("y", ["x"], ["dx"])], {"dx": (DH * (1 - H * H)) @ W1.T})
case("a tensor in between", {"x": X}, {"w1": W1, "w2": W2}, [*LAYERS, gradient("y", ["h"], ["dh"])], {"dh": DH})
case("inputs and what depends on them", {"x": X}, {"w1": W1, "w2": W2}, [*LAYERS, gradient("y", ["x", "a"], ["dx", "da"])],
     {"da": DH * (1 - H * H), "dx": (DH * (1 - H * H)) @ W1.T})

# two losses over one body
case("two losses", {"x": X}, {"w1": W1, "w2": W2}, [*LAYERS, node("Mul", ["h", "h"], ["s"]), node("ReduceSum", ["s"], ["z"], keepdims=0),
     gradient("y", ["w1"], ["dy"]), gradient("z", ["w1"], ["dz"])], {"dy": X.T @ (DH * (1 - H * H)), "dz": X.T @ (2 * H * (1 - H * H))})

# one weight in two places, once transposed
V = rng.normal(size=(3, 5))
case("tied weights", {"x": X}, {"v": V}, [node("MatMul", ["x", "v"], ["h"]), node("Transpose", ["v"], ["t"], perm=[1, 0]), node("MatMul", ["h", "t"], ["o"]),
     node("Mul", ["o", "o"], ["q"]), node("ReduceSum", ["q"], ["y"], keepdims=0), gradient("y", ["v"], ["dv"])],
     {"dv": X.T @ (2 * (X @ V @ V.T)) @ V + (2 * (X @ V @ V.T)).T @ X @ V})


# penalty = mean((|d critic / d x| - 1)^2), critic = sum(sigmoid(x w) u), by w: differences in double
def penalty(w, u):
    s = sigmoid(X @ w)
    g = (s * (1 - s) * u) @ w.T
    return np.mean((np.sqrt((g * g).sum(1)) - 1) ** 2)


def difference(f, w, step=1e-6):
    d = np.zeros_like(w)
    for i in np.ndindex(w.shape):
        up, down = w.copy(), w.copy()
        up[i] += step
        down[i] -= step
        d[i] = (f(up) - f(down)) / (2 * step)
    return d


U = rng.normal(size=5)
case("gradient penalty", {"x": X}, {"w": W1, "u": U, "one": np.array(1.0), "axis": np.array([1])}, [
    node("MatMul", ["x", "w"], ["a"]), node("Sigmoid", ["a"], ["s"]), node("MatMul", ["s", "u"], ["c"]), node("ReduceSum", ["c"], ["critic"], keepdims=0),
    gradient("critic", ["x"], ["g"]), node("ReduceL2", ["g", "axis"], ["norm"], keepdims=0), node("Sub", ["norm", "one"], ["e"]), node("Mul", ["e", "e"], ["e2"]),
    node("ReduceMean", ["e2"], ["penalty"], keepdims=0), gradient("penalty", ["w", "u"], ["dw", "du"])],
    {"dw": difference(lambda w: penalty(w, U), W1), "du": difference(lambda u: penalty(W1, u), U), "penalty": np.array(penalty(W1, U))})

# fake quantization: straight through, but not where the value is saturated
F, SCALE, ZERO = rng.normal(size=(3, 4)).astype(np.float32) * 3, np.array([0.02, 0.01, 0.05], np.float32), np.array([3, -4, 0], np.int8)
Q = np.rint(F / SCALE[:, None]) + ZERO[:, None].astype(int)
INSIDE = (F >= (-128 - ZERO[:, None].astype(int)) * SCALE[:, None]) & (F <= (127 - ZERO[:, None].astype(int)) * SCALE[:, None])
D = (np.clip(Q, -128, 127) - ZERO[:, None].astype(int)) * SCALE[:, None]
case("fake quantization", {"x": F}, {"s": SCALE, "z": ZERO}, [node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=0), node("DequantizeLinear", ["q", "s", "z"], ["d"], axis=0),
     node("Mul", ["d", "d"], ["m"]), node("ReduceSum", ["m"], ["y"], keepdims=0), gradient("y", ["x"], ["dx"])], {"dx": np.where(INSIDE, 2 * D, 0), "d": D})

# frozen integer weights: dX only
INTS = rng.integers(-8, 8, (4, 3)).astype(np.int8)
case("integer weights", {"x": F}, {"q": INTS, "s": np.array(0.3, np.float32)}, [node("DequantizeLinear", ["q", "s"], ["w"]), node("MatMul", ["x", "w"], ["o"]),
     node("ReduceSum", ["o"], ["y"], keepdims=0), gradient("y", ["x"], ["dx"])], {"dx": np.broadcast_to(INTS.sum(1) * np.float32(0.3), F.shape)})

# packed frozen weights of 4 bits in blocks of 16 along K = 20: the last block is half full, so is a byte of zero points
CODES, ZEROS = rng.integers(0, 16, (3, 32)), rng.integers(0, 16, (3, 2))
SCALES, A = rng.uniform(0.1, 0.5, (3, 2)).astype(np.float32), rng.normal(size=(2, 5, 20)).astype(np.float32)
DENSE = ((CODES - np.repeat(ZEROS, 16, 1)) * np.repeat(SCALES, 16, 1))[:, :20]
PACKED = {"b": (CODES[:, ::2] | CODES[:, 1::2] << 4).astype(np.uint8).reshape(3, 2, 8), "s": SCALES.ravel(), "z": (ZEROS[:, 0] | ZEROS[:, 1] << 4).astype(np.uint8)}
case("packed integer weights", {"a": A}, PACKED, [node("MatMulNBits", ["a", "b", "s", "z"], ["o"], K=20, N=3, bits=4, block_size=16, domain="com.microsoft"),
     node("Mul", ["o", "o"], ["q"]), node("ReduceSum", ["q"], ["y"], keepdims=0), gradient("y", ["a"], ["da"])], {"da": 2 * (A @ DENSE.T) @ DENSE})


def run(lathe, folder, inputs, constants, nodes, want):
    info = lambda name, a: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
    float_type = TensorProto.FLOAT if any(x.dtype == np.float32 for x in inputs.values()) else TensorProto.DOUBLE
    graph = helper.make_graph(nodes, "g", [info(*i) for i in inputs.items()], [helper.make_tensor_value_info(n, float_type, w.shape) for n, w in want.items()],
                              [numpy_helper.from_array(a, n) for n, a in constants.items()])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.preview.training", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "m.onnx")
    command = [lathe, "run", folder / "m.onnx", "--output", folder / "out"]
    for n, x in inputs.items():
        np.save(folder / f"{n}.npy", x)
        command += ["--input", f"{n}={folder / n}.npy"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        return result.stderr.strip()[:400]
    limit = 1e-5 if float_type == TensorProto.FLOAT else 1e-7
    for n, w in want.items():
        got = np.load(folder / "out" / f"{n}.npy")
        error = np.max(np.abs(got - w)) / np.max(np.abs(w)) if got.shape == w.shape else np.inf
        if not error <= limit:
            return f"{n}: error {error:.1e}"
    return ""


def main():
    failed = 0
    for name, *rest in CASES:
        with tempfile.TemporaryDirectory() as folder:
            problem = run(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(folder), *rest)
        failed += bool(problem)
        print(f"{name:32} {problem or 'ok'}", flush=True)
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
