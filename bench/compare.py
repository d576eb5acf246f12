"""Times lathe against ONNX Runtime and OpenVINO on the networks of nets.py (or on .onnx files) and writes RESULTS.md.

Each contender is a process of its own and is stopped (SIGSTOP) while it is not its turn, so that nobody's waiting
threads disturb the other. They take turns in rounds; median and minimum are over the samples of all rounds. Outputs are
compared before anything is timed.
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx

import nets

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS, SLICE = 5, 0.25  # seconds per turn


class Contender:
    def __init__(self, **load):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "contender.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.samples, self.batch, self.error = [], 1, None
        self.ask(do="load", **load)
        if not self.error:
            self.warm_up()
        self.stop()

    def ask(self, **command):
        if self.error:
            return {}
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"the process ended with {self.process.wait()}"}
        self.error = answer.get("error")
        return answer

    def warm_up(self):
        """A tenth of a second, so that pages are mapped and threads have found their cores; learns how long a call is."""
        start, fastest = time.perf_counter(), float("inf")
        while time.perf_counter() - start < 0.1 and not self.error:
            fastest = min(fastest, *self.ask(do="time", samples=2, batch=1).get("seconds", [1]))
        self.seconds = max(fastest, 1e-7)
        self.batch = max(1, int(20e-6 / self.seconds))

    def stop(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def turn(self):
        if self.error:
            return
        os.kill(self.process.pid, signal.SIGCONT)
        self.ask(do="time", samples=1, batch=self.batch)
        n = int(min(200, max(3, SLICE / (self.seconds * self.batch)))) if self.seconds < 1 else 1
        self.samples += self.ask(do="time", samples=n, batch=self.batch).get("seconds", [])
        self.stop()

    def outputs(self, path):
        os.kill(self.process.pid, signal.SIGCONT)
        self.ask(do="outputs", to=path)
        self.stop()
        return None if self.error else dict(np.load(path))

    def end(self):
        os.kill(self.process.pid, signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def random_inputs(model, seed=1):
    random, inputs = np.random.default_rng(seed), {}
    constants = {c.name for c in model.graph.initializer}
    for i in model.graph.input:
        if i.name in constants:
            continue
        t = i.type.tensor_type
        shape = [d.dim_value if d.dim_value > 0 else 1 for d in t.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)
        inputs[i.name] = random.standard_normal(shape).astype(dtype) if np.issubdtype(dtype, np.floating) else random.integers(0, 100, shape).astype(dtype)
    return inputs


def compiler():
    for name in filter(None, [os.environ.get("CC"), "clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14", "gcc"]):
        try:
            version = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
            return name, version
        except (OSError, subprocess.CalledProcessError):
            continue
    sys.exit("no C compiler found")


def build_flags():
    """The flags `lathe bench` uses, too."""
    flags = ["-std=gnu11", "-O3", "-march=native", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared", "-w"]
    try:
        with open("/proc/cpuinfo") as f:
            if " avx512f " in f.read():
                flags.append("-mprefer-vector-width=512")
    except OSError:
        pass
    return flags


def build(lathe, cc, path, directory, precision):
    """Compiles a model with lathe and the C compiler; the seconds of both, and the library."""
    start = time.perf_counter()
    subprocess.run([lathe, "compile", path, "-o", os.path.join(directory, "model.c"), "--weights", "file", "--precision", precision], check=True, capture_output=True, text=True)
    compiled = time.perf_counter()
    library = os.path.join(directory, "model.so")
    subprocess.run([cc, *build_flags(), "-I", directory, "-o", library, os.path.join(HERE, "plugin.c"), "-lm"], check=True, capture_output=True, text=True)
    return compiled - start, time.perf_counter() - compiled, library


def worst_error(got, want):
    return max(float(np.max(np.abs(got[k].astype(np.float64) - want[k])) / max(1e-30, float(np.max(np.abs(want[k]))))) for k in want)


def peers_of(arguments):
    """Who is measured beside lathe: contender kind and the name in the table."""
    names = {"ort": "ONNX Runtime", "openvino": "OpenVINO"}
    kinds = arguments.peers.split(",")
    if arguments.precision == "bf16":  # OpenVINO's default on CPUs that have it; ONNX Runtime computes in fp32
        return [("openvino_bf16", "OpenVINO bf16")] if "openvino" in kinds else []
    return [(k, names[k]) for k in kinds]


def measure(name, path, threads, arguments, cc):
    """The row of one model: for every number of threads the figures of lathe and its peers, and what compiling took."""
    with tempfile.TemporaryDirectory() as directory:
        inputs = random_inputs(onnx.load(path, load_external_data=False))
        inputs_file = os.path.join(directory, "in.npz")
        np.savez(inputs_file, **inputs)
        compile_seconds, build_seconds, library = build(arguments.lathe, cc, path, directory, arguments.precision)
        row = {"model": name, "compile_s": compile_seconds, "build_s": build_seconds, "results": []}
        for n in threads:
            reference = Contender(kind="ort", model=path, threads=n, inputs=inputs_file)
            want = reference.outputs(os.path.join(directory, "want.npz"))
            if want is None:
                raise RuntimeError(reference.error)
            lathe = Contender(kind="lathe", model=path, threads=n, inputs=inputs_file, library=library, weights=os.path.join(directory, "model.bin"),
                              input_names=list(inputs), output_names=list(want), output_shapes=[list(w.shape) for w in want.values()])
            got = lathe.outputs(os.path.join(directory, "got.npz"))
            error = worst_error(got, want) if got is not None else float("nan")
            peers = {k: reference if k == "ort" else Contender(kind=k, model=path, threads=n, inputs=inputs_file) for k, _ in peers_of(arguments)}
            for _ in range(ROUNDS):
                for c in (lathe, *peers.values()):
                    c.turn()
            for c in {lathe, reference, *peers.values()}:
                c.end()
            if lathe.error:
                raise RuntimeError(lathe.error)
            figures = {k: None if c.error or not c.samples else (statistics.median(c.samples) * 1e3, min(c.samples) * 1e3)
                       for k, c in {"lathe": lathe, **peers}.items()}
            row["results"].append({"threads": n, "error": error, "ms": figures})
        return row


def cpu():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def speed_up(r):
    """The fastest peer's median over lathe's."""
    best = min((v[0] for k, v in r["ms"].items() if k != "lathe" and v), default=None)
    return best / r["ms"]["lathe"][0] if best else None


def markdown(rows, failed, cc_version, lathe_version, arguments):
    peers = peers_of(arguments)
    lines = ["# lathe against other runtimes", "",
             f"{cpu()}, {os.cpu_count()} processors, {platform.system()} {platform.release()}; {datetime.date.today()}.",
             f"lathe {lathe_version} with {cc_version}; ONNX Runtime {version('onnxruntime')}, OpenVINO {version('openvino')}. {arguments.precision}, batch as in the model.", "",
             "Milliseconds, median (minimum), of interleaved rounds; speed-up: the fastest peer's median over lathe's. error: largest difference from ONNX Runtime's",
             "fp32 outputs over the largest output. compile: lathe, then the C compiler, seconds. Reproduce with `bench/run`.", "",
             f"| model | threads | lathe | {' | '.join(title for _, title in peers)} | speed-up | error | compile |", "|---" * (6 + len(peers)) + "|"]
    for row in rows:
        for r in row["results"]:
            figures = ["–" if r["ms"][k] is None else f"{r['ms'][k][0]:.3g} ({r['ms'][k][1]:.3g})" for k in ["lathe"] + [k for k, _ in peers]]
            ratio = speed_up(r)
            lines.append(f"| {row['model']} | {r['threads']} | {' | '.join(figures)} | {f'{ratio:.2f}' if ratio else '–'} | {r['error']:.1e} | "
                         f"{row['compile_s']:.2f} + {row['build_s']:.1f} |")
    for n in sorted({r["threads"] for row in rows for r in row["results"]}):
        ratios = [speed_up(r) for row in rows for r in row["results"] if r["threads"] == n and speed_up(r)]
        if ratios:
            lines.append(f"| geometric mean | {n} | {' | '.join([''] * (1 + len(peers)))} | {statistics.geometric_mean(ratios):.2f} | | |")
    lines += [""] + [f"* {name}: not measured: {why}" for name, why in failed]
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*", help="names of nets.py or .onnx files (default: all of nets.py)")
    p.add_argument("--lathe", required=True)
    p.add_argument("--threads", default="1,2")
    p.add_argument("--peers", default="ort,openvino", help="of ort, openvino (default: both)")
    p.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    p.add_argument("--out", default=os.path.join(HERE, "RESULTS.md"))
    p.add_argument("--json", help="also write the figures here")
    arguments = p.parse_args()
    cc, cc_version = compiler()
    lathe_version = subprocess.run([arguments.lathe, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    rows, failed = [], []
    threads = [int(n) for n in arguments.threads.split(",")]
    names = arguments.models or list(nets.NETS)
    with tempfile.TemporaryDirectory() as directory:
        for i, name in enumerate(names):
            print(f"[{i + 1}/{len(names)}] {name}", file=sys.stderr, flush=True)
            path = name
            if not name.endswith(".onnx"):
                path = os.path.join(directory, name + ".onnx")
                onnx.save(nets.NETS[name](), path)
            try:
                rows.append(measure(os.path.basename(name).removesuffix(".onnx"), path, threads, arguments, cc))
            except subprocess.CalledProcessError as e:
                failed.append((name, (e.stderr.strip().splitlines() or ["no message"])[0].replace(directory + "/", "")))
            except RuntimeError as e:
                failed.append((name, str(e).splitlines()[0]))
    text = markdown(rows, failed, cc_version, lathe_version, arguments)
    print(text)
    with open(arguments.out, "w") as f:
        f.write(text)
    if arguments.json:
        with open(arguments.json, "w") as f:
            json.dump({"rows": rows, "failed": failed}, f, indent=1)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
