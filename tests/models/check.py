"""check.py LATHE PROGRAM FOLDER: runs PROGRAM --out FOLDER, which writes .onnx files; for two sizes of every symbolic dim runs
each in ONNX Runtime on seeded inputs and lets `lathe verify` compare."""
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime

lathe, program, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
SIZES = [{"N": 1, "T": 5}, {"N": 4, "T": 24}]


def sample(info, sizes, rng):
    shape = [sizes[d] if isinstance(d, str) else d for d in info.shape]
    if info.type == "tensor(int64)":
        return rng.integers(0, 16, shape)
    if info.type == "tensor(bool)":
        return rng.integers(0, 2, shape).astype(bool)
    assert info.type == "tensor(float)", info.type
    return rng.standard_normal(shape).astype(np.float32)


def check(model):
    onnx.checker.check_model(onnx.load(model), full_check=True)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for number, sizes in enumerate(SIZES):
        data = folder / f"{model.stem}-{number}"
        data.mkdir(exist_ok=True)
        rng = np.random.default_rng(number)
        feed = {i.name: sample(i, sizes, rng) for i in session.get_inputs()}
        results = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed)))
        assert all(np.isfinite(r).all() for r in results.values() if r.dtype == np.float32), "not finite"
        np.savez(data / f"{model.stem}.in.npz", **feed)
        np.savez(data / f"{model.stem}.ref.npz", **results)
        subprocess.run([lathe, "verify", str(model), "--data", str(data), "--threads", "1,2"], check=True)


folder.mkdir(parents=True, exist_ok=True)
subprocess.run([program, "--out", str(folder)], check=True)
models = sorted(folder.glob("*.onnx"))
assert models, "the program wrote no model"
for path in models:
    print(path.name, flush=True)
    check(path)
