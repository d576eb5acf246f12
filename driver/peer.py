"""Another runtime in a process of its own, for `lathe bench --against`.

    python peer.py KIND MODEL THREADS DIR      DIR/inputs.json: [[name, file.npy], …]

Says "ready" or "error TEXT", then answers lines of standard input until it ends:

    time N       N calls                       -> "seconds S", per call
    outputs      writes DIR/KIND-THREADS-0.npy … -> "outputs COUNT"
"""
import json
import os
import sys
import time

kind, model, threads, directory = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(threads)
answers = os.fdopen(os.dup(1), "w", buffering=1)  # what libraries print must not come between
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def load_ort(np, inputs):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()  # no copies in the timed call
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding), binding.copy_outputs_to_cpu


def load_openvino(np, inputs):
    import openvino
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
               "INFERENCE_PRECISION_HINT": "bf16" if kind == "openvino-bf16" else "f32"}
    core = openvino.Core()
    net = core.read_model(model)
    net.reshape({name: array.shape for name, array in inputs.items()})
    request = core.compile_model(net, "CPU", options).create_infer_request()
    for name, array in inputs.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
    return request.infer, lambda: [request.get_output_tensor(i).data for i in range(len(net.outputs))]


def for_onnx2torch():
    """The model in an opset that onnx2torch knows, without an attribute of Reshape that it refuses (and that few models mean)."""
    import onnx
    import onnx.version_converter
    found = onnx.load(model)
    for node in found.graph.node:
        if node.op_type == "Reshape":
            kept = [a for a in node.attribute if a.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
    opset = next((o.version for o in found.opset_import if o.domain in ("", "ai.onnx")), 17)
    return onnx.version_converter.convert_version(found, 17) if opset > 17 else found


def load_torch(np, inputs):
    import onnx2torch
    import torch
    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    with torch.inference_mode():  # torch.compile refuses the module, which computes shapes as tensors
        frozen = torch.jit.freeze(torch.jit.trace(onnx2torch.convert(for_onnx2torch()).eval(), tensors))
    result = []

    def call():
        with torch.inference_mode():
            result[:] = [frozen(*tensors)]

    def outputs():
        found = result[0] if isinstance(result[0], (tuple, list)) else result
        return [t.numpy() for t in found]
    return call, outputs


def main():
    import numpy as np
    with open(os.path.join(directory, "inputs.json"), encoding="utf-8") as f:
        inputs = {name: np.ascontiguousarray(np.load(os.path.join(directory, file))) for name, file in json.load(f)}
    load = {"ort": load_ort, "openvino": load_openvino, "openvino-bf16": load_openvino, "torch": load_torch}[kind]
    call, outputs = load(np, inputs)
    call()
    print("ready", file=answers)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "time":
            n = int(rest[0])
            start = time.perf_counter()
            for _ in range(n):
                call()
            print("seconds", (time.perf_counter() - start) / n, file=answers)
        else:
            results = outputs()
            for i, array in enumerate(results):
                np.save(os.path.join(directory, f"{kind}-{threads}-{i}.npy"), np.asarray(array))
            print("outputs", len(results), file=answers)


try:
    main()
except Exception as e:
    text = " ".join(f"{type(e).__name__}: {e}".split())
    print("error", text[:500], file=answers)
