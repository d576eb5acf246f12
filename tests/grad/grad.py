#!/usr/bin/env python3
"""Gradient rules against finite differences in double: grad.py LATHE OPS.DEF [--only RE] [--cc CC]

A case (cases.py) is one operator on random operands. z = sum(y * w) with fixed weights w; the model has a Gradient node of z with respect
to every operand, and one of sum(dz/dx * v), for second derivatives. z must be what it is without a gradient. Many cases make one model: lathe compiles it, cc builds it, and
the function is called with every element of every operand moved up and down in turn, all cases at once. Each gradient must agree with
the central difference of what it is the gradient of. A differentiable row of ops.def that no case covers is a failure.
Prints the failures and `N passed, N failed`.
"""
import argparse
import concurrent.futures
import ctypes
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cases import CASES, Constant

STEP, LIMIT = 1e-5, 1e-5  # of central differences; largest error relative to the gradient's largest element
BATCH = 24                # cases in one model
OPSETS = [helper.make_opsetid("", 26), helper.make_opsetid("ai.onnx.preview.training", 1), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.preview", 1)]
node = helper.make_node


def constant(name, value):
    return node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def weighted_sum(name, value, phase):
    """name = sum over i of cos(1.7 i + phase) * value[i]"""
    n = lambda suffix: f"{name}_{suffix}"
    return [constant(n("flat"), np.array([-1], np.int64)), node("Reshape", [value, n("flat")], [n("v")]), node("Size", [n("v")], [n("n")]),
            constant(n("0"), np.array(0, np.int64)), constant(n("1"), np.array(1, np.int64)), node("Range", [n("0"), n("n"), n("1")], [n("i")]),
            node("Cast", [n("i")], [n("d")], to=TensorProto.DOUBLE), constant(n("a"), np.array(1.7)), constant(n("b"), np.array(phase)),
            node("Mul", [n("d"), n("a")], [n("p")]), node("Add", [n("p"), n("b")], [n("q")]), node("Cos", [n("q")], [n("w")]),
            node("Mul", [n("v"), n("w")], [n("vw")]), node("ReduceSum", [n("vw")], [name], keepdims=0)]


def renamed(graph, prefix, names):
    """A copy of a region with names of its own; $k becomes the name of operand k."""
    new = lambda n: names[int(n[1:])] if n.startswith("$") else f"{prefix}_{n}" if n else n
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    for n in copy.node:
        n.input[:], n.output[:] = [new(i) for i in n.input], [new(o) for o in n.output]
    for v in [*copy.input, *copy.output]:
        v.name = new(v.name)
    for a in [a for n in copy.node for a in n.attribute if a.HasField("g")]: # regions in regions
        a.g.CopyFrom(renamed(a.g, prefix, names))
    return copy


class Part:
    """One case inside a model: its nodes, inputs and outputs, all names with a prefix of its own."""

    def __init__(self, case, prefix):
        self.case, self.nodes, self.inputs, self.outputs = case, [], {}, []
        names = []
        for i, x in enumerate(case["inputs"]):
            name = f"{prefix}x{i}"
            if x is None:
                names.append("")
                continue
            names.append(name)
            if isinstance(x, Constant):
                self.nodes.append(constant(name, x.value))
            else:
                self.inputs[name] = np.array(x, np.float64)
        self.own = names[:len(names) - case["captures"]]
        if case["positive"]:
            self.nodes += [constant(prefix + "zero", np.array(0.0)), node("Greater", [names[0], prefix + "zero"], [prefix + "condition"])]
            self.own[0] = prefix + "condition"
        out = self.operator(prefix + "y", names)
        self.differentiate(prefix + "z", [out[i] for i in case["wanted"]], 0.3)
        plain = self.operator(prefix + "p", names)  # not differentiated, so never expanded for it
        self.total(prefix + "p", [plain[i] for i in case["wanted"]], 0.3)
        if case["second"]:
            self.differentiate(prefix + "s", [f"{prefix}z_d{x}" for x in self.inputs], 0.9)

    def operator(self, name, names):
        out = [f"{name}{i}" for i in range(self.case["outputs"])]
        attributes = {k: renamed(v, name, names) if isinstance(v, onnx.GraphProto) else v for k, v in self.case["attributes"].items()}
        self.nodes.append(node(self.case["op"], self.own, out, name=self.case["name"], domain=self.case["domain"], **attributes))
        return out

    def total(self, name, values, phase):
        for i, v in enumerate(values):
            self.nodes += weighted_sum(f"{name}_{i}", v, phase + i)
        self.nodes.append(node("Sum", [f"{name}_{i}" for i in range(len(values))], [name]))

    def differentiate(self, name, values, phase):
        """Outputs: the sum `name` and its gradients."""
        self.total(name, values, phase)
        xs = list(self.inputs)
        self.nodes.append(node("Gradient", xs, [f"{name}_d{x}" for x in xs], name=self.case["name"], xs=xs, y=name, domain="ai.onnx.preview.training"))
        self.outputs.append((name, xs, [f"{name}_d{x}" for x in xs]))


class Program:
    """A model of parts as a function."""

    def __init__(self, options, folder, parts):
        self.parts, self.x, self.y = parts, {}, {}
        for i, p in enumerate(parts):
            self.x.update(p.inputs)
            self.y[f"c{i}_p"] = np.zeros(())
            for z, xs, ds in p.outputs:
                self.y[z] = np.zeros(())
                self.y.update({d: np.zeros_like(p.inputs[x]) for x, d in zip(xs, ds)})
        info = lambda name, a: helper.make_tensor_value_info(name, TensorProto.DOUBLE, a.shape)
        graph = helper.make_graph([n for p in parts for n in p.nodes], "g", [info(*i) for i in self.x.items()], [info(*i) for i in self.y.items()])
        path = folder / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=OPSETS, ir_version=10), path)
        self.problem = self.run([options.lathe, "compile", path, "-o", folder / "m.c", "--name", "m", "--target", "generic"])
        if not self.problem:
            self.problem = self.run([options.cc, "-O1", "-w", "-shared", "-fPIC", "-o", folder / "m.so", folder / "m.c", "-lm"])
        if not self.problem:
            self.function = ctypes.CDLL(str(folder / "m.so")).m

    @staticmethod
    def run(command):
        result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        return "" if result.returncode == 0 else (result.stderr.strip() or f"exit code {result.returncode}")

    def __call__(self):
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in [*self.x.values(), *self.y.values()]]
        code = self.function(*pointers)
        if code != 0:
            raise RuntimeError(f"error code {code}")

    def check(self):
        """{case name: problem} by central differences, the k-th element of every case's operands at a time."""
        self()
        gradients = {k: v.copy() for k, v in self.y.items()}
        changed = {p.case["name"]: f"its sum is {self.y[f'c{i}_z']} when it is differentiated, else {self.y[f'c{i}_p']}"
                   for i, p in enumerate(self.parts) if not abs(self.y[f"c{i}_z"] - self.y[f"c{i}_p"]) <= 1e-9 * abs(self.y[f"c{i}_p"]) + 1e-12}
        places = [[(name, i) for name, x in p.inputs.items() for i in range(x.size)] for p in self.parts]
        differences = {k: np.zeros(v.size) for k, v in self.y.items()}
        for k in range(max(map(len, places))):
            moved = [(p, *place[k]) for p, place in zip(self.parts, places) if k < len(place)]
            values = []
            for sign in (1, -1):
                for _, name, i in moved:
                    self.x[name].flat[i] += sign * STEP
                self()
                values.append({z: float(self.y[z]) for p in self.parts for z, _, _ in p.outputs})
                for p, name, i in moved:
                    self.x[name].flat[i] -= sign * STEP
            for p, name, i in moved:
                for z, xs, ds in p.outputs:
                    differences[ds[xs.index(name)]][i] = (values[0][z] - values[1][z]) / (2 * STEP)
        return {p.case["name"]: changed.get(p.case["name"]) or self.worst(p, gradients, differences) for p in self.parts}

    @staticmethod
    def worst(part, gradients, differences):
        for order, (z, xs, ds) in enumerate(part.outputs):
            scale = max(1e-3, *(np.max(np.abs(differences[d]), initial=0) for d in ds))
            for x, d in zip(xs, ds):
                error = np.max(np.abs(gradients[d].ravel() - differences[d]), initial=0) / scale
                if not error <= (LIMIT, 10 * LIMIT)[order]:
                    return f"{('gradient', 'second derivative')[order]} by operand {x.split('x')[-1]}: error {error:.1e}\n{gradients[d].ravel()[:12]}\n{differences[d][:12]}"
        return ""


def run(options, cases):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        program = Program(options, folder, [Part(c, f"c{i}_") for i, c in enumerate(cases)])
        if program.problem and len(cases) > 1:  # one by one: which?
            return {k: v for c in cases for k, v in run(options, [c]).items()}
        if program.problem:
            return {cases[0]["name"]: program.problem[:600]}
        try:
            return program.check()
        except RuntimeError as error:
            return {k: v for c in cases for k, v in run(options, [c]).items()} if len(cases) > 1 else {cases[0]["name"]: str(error)}


def uncovered(path):
    """Differentiable operators of ops.def that no case names; those of lathe's own are met through the others, those that are not compiled cannot be."""
    covered = {name for c in CASES for name in c["covers"]}
    rows = re.findall(r"^OP\((\w+), (\w+), .*, (\w+), (\w+), (\w+), (\w+)\)", pathlib.Path(path).read_text(), re.M)
    by_passes = re.compile("If|Loop|Scan|Optional|Sequence|SplitToSequence|ConcatFromSequence")
    compiled = lambda row: any(rule != "none" for rule in (row[2], row[4], row[5])) or by_passes.match(row[0])
    return [row[0] for row in rows if row[1] != "LATHE" and row[3] not in ("none", "missing", "zero") and compiled(row) and row[0] not in covered]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lathe", type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("ops")
    parser.add_argument("--only", default="")
    parser.add_argument("--cc", default=os.environ.get("CC", "cc"))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    cases = [c for c in CASES if re.search(options.only, c["name"])]
    batches = [cases[i:i + BATCH] for i in range(0, len(cases), BATCH)]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for problems in pool.map(lambda b: run(options, b), batches):
            for name, problem in problems.items():
                failed += bool(problem)
                if problem:
                    print(f"{name}: {problem}", flush=True)
    if not options.only:
        for op in uncovered(options.ops):
            failed += 1
            print(f"{op}: differentiable, but no case covers it")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
