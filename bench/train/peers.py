#!/usr/bin/env python3
"""Times training steps of lathe's C, PyTorch and JAX by turns: peers.py MODELS [--names mlp,…] [--threads 1,2] [--rounds 3] [--seconds 1]

MODELS is the program built from models.c. For each model and number of threads, rounds of: lathe, PyTorch eager with its fused optimizer,
torch.compile (with --compiled) and JAX (with --jax PYTHON, an interpreter that has it); each keeps the shortest step of all rounds. Prints a table:
milliseconds of a step, how much faster lathe is than the best of the others; memory: arena and state, the tensors that PyTorch had at
the same time at most, and what its process grew by.
"""
import argparse
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

FLAGS = ["-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-w"]


def memory():
    text = pathlib.Path("/proc/self/status").read_text()
    return {k: int(v) / 1e3 for k, v in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", text)}


def shortest(step, seconds):
    for _ in range(3):
        step()
    start = time.perf_counter()
    step()
    inner = 1 + int(1e-3 / (time.perf_counter() - start))
    best, end = 1e9, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(inner):
            step()
        best = min(best, (time.perf_counter() - start) / inner)
    return best


def worker(name, kind, threads, seconds):
    """Prints milliseconds, megabytes that the process grew by, megabytes of tensors (PyTorch eager only)."""
    if kind == "jax":
        import jax_nets

        return print(f"{shortest(jax_nets.step_of(name), seconds) * 1e3:.5f} 0 0")
    import torch
    import torch_nets

    torch.set_num_threads(threads)
    (torch.randn(64, 64) @ torch.randn(64, 64)).sum()
    before = memory()["VmRSS"]
    step, kept = torch_nets.step_of(name, kind == "compiled")
    best = shortest(step, seconds)
    grown = memory()["VmHWM"] - before
    print(f"{best * 1e3:.5f} {grown:.1f} {torch_nets.peak_bytes(step, kept) / 1e6 if kind == 'eager' else 0:.2f}")


def timed(command, threads):
    pin = ["taskset", "-c", "0"] if threads == 1 else []
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
    r = subprocess.run(pin + [str(c) for c in command], capture_output=True, text=True, env=env)
    return r.stdout if r.returncode == 0 else ""


def lathe(models, name, folder, cc):
    place = folder / name
    place.mkdir()
    subprocess.run([models, name, place], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([cc, *FLAGS, f"-I{place}", place / "main.c", place / "net.c", "-lm", "-o", place / "run"], check=True)
    return place / "run"


def main():
    a = argparse.ArgumentParser()
    a.add_argument("models")
    a.add_argument("--names")
    a.add_argument("--threads", default="1,2")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--seconds", type=float, default=1)
    a.add_argument("--compiled", action="store_true")
    a.add_argument("--jax", help="a Python that has JAX")
    a.add_argument("--worker", nargs=3)
    o = a.parse_args()
    if o.worker:
        return worker(o.worker[0], o.worker[1], int(o.worker[2]), o.seconds)
    names = o.names.split(",") if o.names else subprocess.run([o.models], capture_output=True, text=True).stdout.split()
    kinds = {"eager": sys.executable, **({"compiled": sys.executable} if o.compiled else {}), **({"jax": o.jax} if o.jax else {})}
    print("| model | threads | lathe, ms | PyTorch, ms | compiled, ms | JAX, ms | faster | lathe, MB | PyTorch's tensors, MB | its process, MB |\n" + "|---" * 10 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            run = lathe(o.models, name, pathlib.Path(folder), os.environ.get("CC", "cc"))
            for threads in map(int, o.threads.split(",")):
                row(o, kinds, name, run, threads)


def row(o, kinds, name, run, threads):
    best, ours, mb, tensors, process = dict.fromkeys(("eager", "compiled", "jax"), math.inf), math.inf, 0, 0, 0
    for _ in range(o.rounds):
        text = timed([run, o.seconds, threads], threads)
        ours = min(ours, float(text.split()[0]))
        mb = sum(float(x) for x in re.findall(r"(?:arena|state) ([\d.]+) MB", text))
        for kind, python in kinds.items():
            text = timed([python, __file__, o.models, "--worker", name, kind, threads, "--seconds", o.seconds], threads).split()
            if not text:
                continue
            best[kind] = min(best[kind], float(text[-3]))
            if kind == "eager":
                process, tensors = float(text[-2]), float(text[-1])
    times = " | ".join(f"{t:.3g}" if t < math.inf else "–" for t in (ours, *best.values()))
    print(f"| {name} | {threads} | {times} | {min(best.values()) / ours:.2f} | {mb:.1f} | {tensors:.1f} | {process:.0f} |", flush=True)


if __name__ == "__main__":
    main()
