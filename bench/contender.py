"""One contender in a process of its own: reads commands (a line of JSON each) from standard input, answers on standard output.

    {"do": "load", "kind": "lathe"|"ort"|"openvino"|"openvino_bf16"|"openvino_default", "model": path, "threads": n, …}   -> {"ok": true, …} or {"error": text}
    {"do": "time", "samples": n, "batch": k}                                -> {"seconds": [per call]}
    {"do": "outputs", "to": path.npz}                                       -> {"ok": true}
"""
import ctypes
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "driver"))
import peer


class Peer:
    def __init__(self, kind, model, threads, inputs, **_):
        self.call, self.results, self.names = peer.load(kind.replace("_", "-"), model, threads, inputs)

    def time(self, samples, batch):
        return [peer.seconds_of(self.call, batch) for _ in range(samples)]

    def outputs(self):
        return dict(zip(self.names, self.results()))


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
                contender = (Lathe if command["kind"] == "lathe" else Peer)(inputs=inputs, **command)
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
