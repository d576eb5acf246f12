"""Other runtimes: how a model is loaded into one, and one in a process of its own for `lathe bench --against`.

    python peer.py KIND MODEL THREADS DIR      DIR/inputs.json: [[name, file.npy], …]

Says "ready" or "error TEXT", then answers lines of standard input until it ends:

    time N       N calls                       -> "seconds S", per call
    outputs      writes DIR/KIND-THREADS-0.npy … -> "outputs COUNT"
"""
import json
import os
import sys
import time

PRECISION = {"openvino": "f32", "openvino-bf16": "bf16", "openvino-default": None}


def load_ort(kind, model, threads, inputs):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()  # no copies in the timed call
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    names = [o.name for o in session.get_outputs()]
    for name in names:
        binding.bind_output(name)
    return lambda: session.run_with_iobinding(binding), binding.copy_outputs_to_cpu, names


def load_openvino(kind, model, threads, inputs):
    import openvino
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if PRECISION[kind]:
        options["INFERENCE_PRECISION_HINT"] = PRECISION[kind]
    core = openvino.Core()
    net = core.read_model(model)
    net.reshape({name: array.shape for name, array in inputs.items()})
    request = core.compile_model(net, "CPU", options).create_infer_request()
    for name, array in inputs.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
    names = [min(o.get_names()) if o.get_names() else str(i) for i, o in enumerate(net.outputs)]
    return request.infer, lambda: [request.get_output_tensor(i).data for i in range(len(names))], names


def for_onnx2torch(model):
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


def load_torch(kind, model, threads, inputs):
    import onnx2torch
    import torch
    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    with torch.inference_mode():  # torch.compile refuses the module, which computes shapes as tensors
        frozen = torch.jit.freeze(torch.jit.trace(onnx2torch.convert(for_onnx2torch(model)).eval(), tensors))
    result = []

    def call():
        with torch.inference_mode():
            result[:] = [frozen(*tensors)]

    def outputs():
        found = result[0] if isinstance(result[0], (tuple, list)) else result
        return [t.numpy() for t in found]
    return call, outputs, None


def load(kind, model, threads, inputs):
    """Loads a model with its inputs by name: a function that runs it, one that gives the outputs, and their names (None: not known)."""
    loaders = {"ort": load_ort, "torch": load_torch, **{k: load_openvino for k in PRECISION}}
    return loaders[kind](kind, model, threads, inputs)


def seconds_of(call, n):
    """Per call, of n calls."""
    start = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - start) / n


def serve(kind, model, threads, directory, answers):
    import numpy as np
    with open(os.path.join(directory, "inputs.json"), encoding="utf-8") as f:
        inputs = {name: np.ascontiguousarray(np.load(os.path.join(directory, file))) for name, file in json.load(f)}
    call, outputs, _ = load(kind, model, threads, inputs)
    call()
    print("ready", file=answers)
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "time":
            print("seconds", seconds_of(call, int(rest[0])), file=answers)
        else:
            results = outputs()
            for i, array in enumerate(results):
                np.save(os.path.join(directory, f"{kind}-{threads}-{i}.npy"), np.asarray(array))
            print("outputs", len(results), file=answers)


def main():
    kind, model, threads, directory = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # what libraries print must not come between
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        serve(kind, model, threads, directory, answers)
    except Exception as e:
        text = " ".join(f"{type(e).__name__}: {e}".split())
        print("error", text[:500], file=answers)


if __name__ == "__main__":
    main()
