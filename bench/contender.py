"""One contender in a process of its own: reads commands (a line of JSON each) from standard input, answers on standard output.

    {"do": "load", "kind": "lathe"|"ort"|"openvino"|"openvino_bf16"|"openvino_default", "model": path, "threads": n, …}   -> {"ok": true, …} or {"error": text}
    {"do": "time", "samples": n, "batch": k}                                -> {"seconds": [per call]}
    {"do": "outputs", "to": path.npz}                                       -> {"ok": true}
"""
import ctypes
import json
import os
import sys
import time

import numpy as np


class Ort:
    def __init__(self, model, threads, inputs, **_):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()  # no copies in the timed call
        for name, array in inputs.items():
            self.binding.bind_cpu_input(name, array)
        self.names = [o.name for o in self.session.get_outputs()]
        for name in self.names:
            self.binding.bind_output(name)

    def time(self, samples, batch):
        seconds = []
        for _ in range(samples):
            start = time.perf_counter()
            for _ in range(batch):
                self.session.run_with_iobinding(self.binding)
            seconds.append((time.perf_counter() - start) / batch)
        return seconds

    def outputs(self):
        return dict(zip(self.names, self.binding.copy_outputs_to_cpu()))


class OpenVino:
    precision = "f32"

    def __init__(self, model, threads, inputs, **_):
        import openvino
        core = openvino.Core()
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        if self.precision:
            options["INFERENCE_PRECISION_HINT"] = self.precision
        net = core.read_model(model)
        net.reshape({name: array.shape for name, array in inputs.items()})
        self.request = core.compile_model(net, "CPU", options).create_infer_request()
        self.names = [min(o.get_names()) if o.get_names() else str(i) for i, o in enumerate(net.outputs)]
        for name, array in inputs.items():
            self.request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def time(self, samples, batch):
        seconds = []
        for _ in range(samples):
            start = time.perf_counter()
            for _ in range(batch):
                self.request.infer()
            seconds.append((time.perf_counter() - start) / batch)
        return seconds

    def outputs(self):
        return {n: self.request.get_output_tensor(i).data for i, n in enumerate(self.names)}


class OpenVinoBf16(OpenVino):
    precision = "bf16"


class OpenVinoDefault(OpenVino):
    """What OpenVINO chooses itself: for quantized models, bfloat16 between the integers where the CPU has it."""
    precision = None


def in_huge_pages(path):
    """The file as an array that starts at a huge page; NumPy asks for such pages itself."""
    page, size = 2 << 20, os.path.getsize(path)
    memory = np.empty(size + page, np.uint8)
    start = -memory.ctypes.data % page
    memory[start:start + size] = np.fromfile(path, np.uint8)
    return memory[start:start + size]


class Lathe:
    def __init__(self, model, threads, inputs, library, weights, input_names, output_names, output_shapes, **_):
        self.library, self.threads, self.names = ctypes.CDLL(library), threads, output_names
        self.library.bench_error.restype = ctypes.c_char_p
        self.weights = None
        if os.path.exists(weights) and os.path.getsize(weights) > 0:
            self.weights = in_huge_pages(weights)
        pointer = self.weights.ctypes.data if self.weights is not None else None
        self.check(self.library.bench_init(ctypes.c_void_p(pointer), ctypes.c_size_t(0 if self.weights is None else self.weights.size)))
        self.arrays = [np.ascontiguousarray(inputs[n]) for n in input_names]
        self.results = [np.zeros(s, np.float32) for s in output_shapes]
        dims = [d for a in self.arrays for d in a.shape]
        self.in_pointers = (ctypes.c_void_p * max(1, len(self.arrays)))(*[a.ctypes.data for a in self.arrays])
        self.out_pointers = (ctypes.c_void_p * max(1, len(self.results)))(*[a.ctypes.data for a in self.results])
        self.in_dims = (ctypes.c_int64 * max(1, len(dims)))(*dims)
        self.out_dims = (ctypes.c_int64 * max(1, sum(len(s) for s in output_shapes)))()

    def check(self, code):
        if code != 0:
            raise RuntimeError(self.library.bench_error(code).decode())

    def time(self, samples, batch):
        seconds = (ctypes.c_double * samples)()
        self.check(self.library.bench_run(self.threads, self.in_pointers, self.in_dims, self.out_pointers, self.out_dims, samples, batch, seconds))
        return list(seconds)

    def outputs(self):
        return dict(zip(self.names, self.results))


def main():
    contender = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "load":
                inputs = dict(np.load(command.pop("inputs")))
                kinds = {"ort": Ort, "openvino": OpenVino, "openvino_bf16": OpenVinoBf16, "openvino_default": OpenVinoDefault, "lathe": Lathe}
                contender = kinds[command.pop("kind")](inputs=inputs, **command)
                contender.time(1, 1)
                answer = {"ok": True}
            elif command["do"] == "time":
                answer = {"seconds": contender.time(command["samples"], command["batch"])}
            else:
                np.savez(command["to"], **contender.outputs())
                answer = {"ok": True}
        except Exception as e:  # the parent decides what to do about it
            answer = {"error": f"{type(e).__name__}: {e}"[:500]}
        print(json.dumps(answer), flush=True)


main()
