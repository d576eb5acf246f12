#!/usr/bin/env python3
"""Quantized models against ONNX Runtime, code by code.

    quantized.py LATHE CACHE [--only REGEX] [MODEL.onnx…]

For the quantized models of real.py, and for .onnx files with QDQ or integer operators: the last codes before the outputs (results of
QuantizeLinear, DynamicQuantizeLinear, or integer operators with 8-bit results) become outputs themselves, both run the model on the same inputs, and the
share of codes that differ by at most one is counted. Models whose outputs are floats of dynamic products are compared in steps of 1/255 of the
output's range. In a deep network one rounding that falls the other way spreads; so ONNX Runtime is compared with itself, without its optimizations, too.
Prints a row per model with the number of calls of integer kernels; the exit status says whether each model has some and agrees on 99.9 %, or as well
as ONNX Runtime does with itself (less 2 %).
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

import real

SHARE, SPREAD = 0.999, 0.02
CODES = {"QuantizeLinear": 0, "DynamicQuantizeLinear": 0, "QLinearConv": 0, "QLinearMatMul": 0, "QLinearAdd": 0}
QUANTIZED = re.compile(r"\.int8|traceforge")


def last_codes(model):
    """Names of codes that no other codes are computed from."""
    produced, later = {o: n for n in model.graph.node for o in n.output}, set()
    names = [n.output[CODES[n.op_type]] for n in model.graph.node if n.op_type in CODES]
    for name in names:
        pending, seen = list(produced[name].input), set()
        while pending:
            v = pending.pop()
            if v in seen or v not in produced:
                continue
            seen.add(v)
            pending += produced[v].input
        later |= seen
    return [n for n in names if n not in later]


def with_codes(path, to):
    """The model with its last codes as additional outputs; their names."""
    model = onnx.load(path)
    names = last_codes(model)
    own = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in own)
    onnx.save(model, to)
    return names


def integer_kernels(lathe, path, folder):
    """How many steps of lathe's plan compute on integers."""
    out = folder / "kernels" / "m.c"
    out.parent.mkdir(exist_ok=True)
    run = subprocess.run([lathe, "compile", path, "-o", out], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError((run.stderr.strip().splitlines() or ["failed"])[0])
    return len(re.findall(r"lathe_tile_[us]8x\d+\(|lathe_block_int\d\(|lathe_depthwise_[us]8\w*\(", out.read_text().split("static LATHE_NOINLINE", 1)[-1]))


def onnx_runtime(path, level):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.graph_optimization_level = 1, level
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def share_of_near(codes, got, want):
    """Elements within one step, all of them, the largest difference in steps."""
    near = total = worst = 0
    for n in codes:
        step = 1 if np.issubdtype(want[n].dtype, np.integer) else max(float(np.ptp(want[n])) / 255, 1e-30)
        difference = np.abs(got[n].astype(np.float64) - want[n].astype(np.float64)) / step
        near, total, worst = near + int((difference <= 1).sum()), total + difference.size, max(worst, float(difference.max(initial=0)))
    return near, total, worst


def compare(lathe, path, shapes, seed, folder):
    names = with_codes(path, folder / "codes.onnx")
    session = onnx_runtime(folder / "codes.onnx", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    plain = onnx_runtime(folder / "codes.onnx", onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    given = path.with_suffix("").with_suffix(".in.npz")
    inputs = dict(np.load(given)) if given.exists() else real.make_inputs(session, shapes, np.random.default_rng(seed))
    outputs = [o.name for o in session.get_outputs()]
    want, again = (dict(zip(outputs, s.run(outputs, inputs))) for s in (session, plain))
    np.savez(folder / "in.npz", **inputs)
    out = folder / "out"
    run = subprocess.run([lathe, "run", folder / "codes.onnx", "--inputs", folder / "in.npz", "-o", out], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError((run.stderr.strip().splitlines() or ["failed"])[-1])
    got = {p.stem: np.load(p) for p in out.glob("*.npy")}
    codes = [n for n in names if n in want and n in got] or [o for o in want if np.issubdtype(want[o].dtype, np.floating)]
    near, total, worst = share_of_near(codes, got, want)
    return near, total, worst, share_of_near(codes, again, want)[0]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("lathe", type=pathlib.Path)
    ap.add_argument("cache", type=pathlib.Path)
    ap.add_argument("models", nargs="*", type=pathlib.Path)
    ap.add_argument("--only", default="")
    args = ap.parse_args()
    entries = [(m, {}) for m in args.models]
    for requirement, name, _, shapes in [] if args.models else real.MODELS:
        if QUANTIZED.search(requirement + name) and re.search(args.only, name):
            entries.append((next(iter(real.fetch(args.cache, requirement).glob("**/" + name))), shapes))
    failed = 0
    for path, shapes in entries:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            try:
                integers = integer_kernels(args.lathe, path, folder)
                near, total, worst, itself = compare(args.lathe, path, shapes, 0, folder)
                good = integers > 0 and near >= min(SHARE * total, itself - SPREAD * total)
                print(f"{path.name:20} {integers:3} integer calls, within one step {100 * near / max(total, 1):7.3f} % of {total}, largest {worst:.2g}; "
                      f"ONNX Runtime with itself {100 * itself / max(total, 1):7.3f} %  {'ok' if good else 'FAIL'}", flush=True)
            except (RuntimeError, StopIteration) as e:
                good = False
                print(f"{path.name:28} {e}", flush=True)
            failed += not good
    print(f"{len(entries) - failed} agree, {failed} do not")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
