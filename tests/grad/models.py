#!/usr/bin/env python3
"""Whole models against PyTorch: models.py LATHE. For every models/NAME.onnx (fixtures.py made them) loss and every parameter's gradient must agree with
those stored in NAME.npz: the largest error within 1e-4 of the largest element. Prints a line per model and `N passed, N failed`."""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx

LIMIT = 1e-4


def run(lathe, path):
    stored = np.load(path.with_suffix(".npz"))
    graph = onnx.load(path).graph
    inputs = [i.name for i in graph.input if i.name not in {w.name for w in graph.initializer}]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = [lathe, "run", path, "--output", folder / "out"]
        for n in inputs:
            np.save(folder / f"{n}.npy", stored[n])
            command += ["--input", f"{n}={folder / n}.npy"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            return result.stderr.strip()[:500]
        results = {o.name: np.load(path) for o in graph.output for path in [find(folder / "out", o.name)]}
    worst, where = 0.0, ""
    for name, want in ((k, stored[k]) for k in stored.files if k not in inputs):
        scale = max(float(np.max(np.abs(want))), 1e-6)
        error = float(np.max(np.abs(results[name] - want))) / scale if results[name].shape == want.shape else np.inf
        if not error <= worst:
            worst, where = error, name
    return "" if worst <= LIMIT else f"{where}: error {worst:.1e}"


def find(folder, name):
    exact = folder / f"{name}.npy"
    if exact.exists():
        return exact
    plain = "".join(c if c.isalnum() else "_" for c in name)
    return next(p for p in folder.iterdir() if "".join(c if c.isalnum() else "_" for c in p.stem) == plain)


def main():
    models = sorted((pathlib.Path(__file__).parent / "models").glob("*.onnx"))
    failed = 0
    for path in models:
        problem = run(pathlib.Path(sys.argv[1]).resolve(), path)
        failed += bool(problem)
        print(f"{path.stem:8} {problem or 'ok'}", flush=True)
    print(f"{len(models) - failed} passed, {failed} failed")
    return failed != 0 or not models


if __name__ == "__main__":
    sys.exit(main())
