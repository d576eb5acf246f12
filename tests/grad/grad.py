#!/usr/bin/env python3
"""Gradient rules against finite differences in double: grad.py LATHE

Each case is a small graph y = f(a, b); the model has a Gradient node of y with respect to its inputs, lathe compiles and
runs it in double, and every element is compared with the central difference of sum(y), which onnx's reference
evaluator computes. Prints a line per case and `N passed, N failed`.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

STEP, LIMIT = 1e-5, 1e-6  # of central differences; largest error relative to the gradient's largest element
SHAPES = {"same": [(2, 3), (2, 3)], "broadcast": [(2, 3), (3,)], "ones": [(2, 1, 3), (4, 1)], "one": [(2, 3)]}
node = helper.make_node


def ints(name, values):
    return node("Constant", [], [name], value_ints=values)


CASES = [(f"{op} {shape}", SHAPES[shape], [node(op, ["a", "b"], ["y"])]) for op in ("Add", "Sub", "Mul", "Div") for shape in ("same", "broadcast", "ones")]
CASES += [(op, SHAPES["one"], [node(op, ["a"], ["y"])]) for op in ("Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Sigmoid", "Tanh", "Sin", "Cos", "Relu", "Abs", "Identity")]
CASES += [
    ("MatMul", [(2, 3), (3, 4)], [node("MatMul", ["a", "b"], ["y"])]),
    ("MatMul batched", [(5, 2, 3), (5, 3, 4)], [node("MatMul", ["a", "b"], ["y"])]),
    ("MatMul broadcast", [(5, 2, 3), (3, 4)], [node("MatMul", ["a", "b"], ["y"])]),
    ("Transpose", [(2, 3), (3, 2)], [node("Transpose", ["a"], ["t"], perm=[1, 0]), node("Mul", ["t", "b"], ["y"])]),
    ("Reshape", [(2, 3), (6,)], [ints("s", [6]), node("Reshape", ["a", "s"], ["t"]), node("Mul", ["t", "b"], ["y"])]),
    ("two uses", SHAPES["same"], [node("Mul", ["a", "b"], ["t"]), node("Tanh", ["t"], ["u"]), node("Mul", ["u", "a"], ["y"])]),
    ("layer", [(4, 3), (3, 2)], [node("MatMul", ["a", "b"], ["t"]), node("Sigmoid", ["t"], ["u"]), node("Mul", ["u", "u"], ["y"])]),
]


def model_of(nodes, shapes, gradient):
    names = ["a", "b"][: len(shapes)]
    inputs = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, s) for n, s in zip(names, shapes)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)]
    if gradient:
        nodes = [*nodes, node("Gradient", names, ["d" + n for n in names], xs=names, y="y", domain="ai.onnx.preview.training")]
        outputs = [helper.make_tensor_value_info("d" + n, TensorProto.DOUBLE, s) for n, s in zip(names, shapes)]
    graph = helper.make_graph(nodes, "case", inputs, outputs)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.preview.training", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def differences(evaluate, inputs):
    gradients = {}
    for name, x in inputs.items():
        d = gradients["d" + name] = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            at = x[i]
            x[i] = at + STEP
            up = evaluate(inputs)
            x[i] = at - STEP
            d[i] = (up - evaluate(inputs)) / (2 * STEP)
            x[i] = at
    return gradients


def run(lathe, folder, name, shapes, nodes):
    rng = np.random.default_rng(0)
    inputs = {n: rng.uniform(0.5, 2, s) for n, s in zip("ab", shapes)}
    forward = ReferenceEvaluator(model_of(nodes, shapes, False))
    want = differences(lambda x: float(np.sum(forward.run(None, x)[0])), inputs)
    onnx.save(model_of(nodes, shapes, True), folder / "m.onnx")
    command = [lathe, "run", folder / "m.onnx", "--output", folder / "out"]
    for n, x in inputs.items():
        np.save(folder / f"{n}.npy", x)
        command += ["--input", f"{n}={folder / n}.npy"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        return (result.stderr.splitlines() or ["failed"])[0]
    for n, d in want.items():
        got = np.load(folder / "out" / f"{n}.npy")
        error = np.max(np.abs(got - d)) / np.max(np.abs(d)) if got.shape == d.shape else np.inf
        if not error <= LIMIT:
            return f"{n}: error {error:.1e}"
    return ""


def main():
    lathe = pathlib.Path(sys.argv[1]).resolve()
    failed = 0
    for name, shapes, nodes in CASES:
        with tempfile.TemporaryDirectory() as folder:
            problem = run(lathe, pathlib.Path(folder), name, shapes, nodes)
        failed += bool(problem)
        print(f"{name:20} {problem or 'ok'}", flush=True)
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
