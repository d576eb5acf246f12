"""What has to be shipped to run a model, how long a process needs to its first result, and its peak memory: lathe, ONNX Runtime, OpenVINO.

Every measurement is a fresh process that reads the model, runs it once on zeros and ends; contenders take turns, ROUNDS times. Shipped are,
beside the model itself, the shared libraries of a runtime (not the Python that starts it here) and, for lathe, the program. Writes FOOTPRINT.md.
"""
import argparse
import datetime
import glob
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx

import compare
import nets

ROUNDS = 7
LIBRARIES = {
    "ort": ("onnxruntime", ["capi/libonnxruntime.so*", "capi/onnxruntime_pybind11_state*.so"]),
    "openvino": ("openvino", ["libs/libopenvino.so*", "libs/libopenvino_intel_cpu_plugin.so", "libs/libopenvino_onnx_frontend.so*", "libs/libtbb.so*"]),
}
TITLES = {"lathe": "lathe", "ort": "ONNX Runtime", "openvino": "OpenVINO"}
FIRST = {
    "ort": """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: numpy.zeros(session.get_inputs()[0].shape, numpy.float32)})
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")))
""",
    "openvino": """
import sys, numpy, openvino
core = openvino.Core()
compiled = core.compile_model(core.read_model(sys.argv[1]), "CPU", {"INFERENCE_NUM_THREADS": int(sys.argv[2]), "INFERENCE_PRECISION_HINT": "f32"})
compiled([numpy.zeros(list(compiled.inputs[0].shape), numpy.float32)])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")))
""",
}


def libraries(kind):
    """Bytes of a runtime's shared libraries."""
    package, patterns = LIBRARIES[kind]
    root = os.path.dirname(importlib.util.find_spec(package).origin)
    files = {os.path.realpath(f) for p in patterns for f in glob.glob(os.path.join(root, p))}
    return sum(os.path.getsize(f) for f in files)


def build(lathe, cc, path, directory):
    """The program that holds the model; its path."""
    model = onnx.load(path)
    sizes = [4 * int(np.prod([d.dim_value for d in v.type.tensor_type.shape.dim])) for v in (model.graph.input[0], model.graph.output[0])]
    subprocess.run([lathe, "compile", path, "-o", os.path.join(directory, "model.c"), "--weights", "incbin"], check=True, capture_output=True)
    program = os.path.join(directory, "first")
    flags = [f for f in compare.build_flags() if f not in ("-shared", "-fPIC")]
    subprocess.run([cc, *flags, "-I", directory, f"-DIN_BYTES={sizes[0]}", f"-DOUT_BYTES={sizes[1]}", "-o", program,
                    os.path.join(compare.HERE, "first.c"), "-lm"], check=True, capture_output=True, cwd=directory)
    subprocess.run(["strip", program], check=True)
    return program


def once(command, threads):
    """Seconds from the start of the process to its end, and its peak resident memory in bytes, which it prints itself: what the
    system tells its parent includes the parent's own."""
    start = time.perf_counter()
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}).stdout
    return time.perf_counter() - start, int(text.split("VmHWM:")[1].split()[0]) * 1024


def measure(path, arguments, cc, directory):
    """Rows of one model: contender, bytes shipped, bytes of the model, median seconds, largest memory."""
    program = build(arguments.lathe, cc, path, directory)
    commands = {"lathe": [program]}
    for kind, text in FIRST.items():
        commands[kind] = [sys.executable, "-c", text, path, str(arguments.threads)]
    seconds, memory = {k: [] for k in commands}, {k: 0 for k in commands}
    for _ in range(ROUNDS):
        for kind, command in commands.items():
            s, m = once(command, arguments.threads)
            seconds[kind].append(s)
            memory[kind] = max(memory[kind], m)
    with open(os.path.join(directory, "model.h")) as f:
        weights = int(re.search(r"MODEL_WEIGHT_BYTES (\d+)", f.read())[1])
    rows = []
    for kind in commands:
        model = weights if kind == "lathe" else os.path.getsize(path)
        shipped = os.path.getsize(program) - weights if kind == "lathe" else libraries(kind)
        rows.append((kind, shipped, model, statistics.median(seconds[kind]), min(seconds[kind]), memory[kind]))
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*", default=["mobilenet_v2", "resnet50"], help="names of nets.py or .onnx files with one float input and output")
    p.add_argument("--lathe", required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--out", default=os.path.join(compare.HERE, "FOOTPRINT.md"))
    arguments = p.parse_args()
    cc, cc_version = compare.compiler()
    lines = ["# What a deployed model takes", "",
             f"{compare.cpu()}, {os.cpu_count()} processors; {datetime.date.today()}. {cc_version}; ONNX Runtime {compare.version('onnxruntime')}, OpenVINO {compare.version('openvino')}.", "",
             f"From the start of a process to the end of its first inference, {arguments.threads} threads: median (minimum) of {ROUNDS} processes; peak: resident memory. shipped: what comes",
             "beside the model: the program without its weights, or a runtime's shared libraries (started from Python here, which is in their times and memory). model: the .onnx",
             "file, or lathe's weights, packed for this CPU (more than the file where 3x3 kernels are kept transformed). Reproduce with `bench/run footprint`.", "",
             "| model | contender | shipped MB | model MB | first result s | peak MB |", "|---|---|---|---|---|---|"]
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as directory:
            path = name
            if not name.endswith(".onnx"):
                path = os.path.join(directory, name + ".onnx")
                onnx.save(nets.NETS[name](), path)
            for kind, shipped, model, median, least, memory in measure(os.path.abspath(path), arguments, cc, directory):
                lines.append(f"| {os.path.basename(name).removesuffix('.onnx')} | {TITLES[kind]} | {shipped / 1e6:.2f} | {model / 1e6:.1f} | {median:.3f} ({least:.3f}) | {memory / 1e6:.0f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    with open(arguments.out, "w") as f:
        f.write(text)


if __name__ == "__main__":
    main()
