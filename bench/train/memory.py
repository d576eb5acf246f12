#!/usr/bin/env python3
"""Memory of training steps: memory.py MODELS [--names gpt,…] [--rounds 3] [--seconds 1]

MODELS is the program built from models.c. For each model: what its tensors would take if each had a place of its own (unplanned), the arena; the fewest
segments of recomputation with which the arena is at most 40 % of unplanned, and the time of a step then against that without (shortest of interleaved
rounds); the smallest arena of all numbers of segments, without and with activations in bfloat16; all that against the tensors PyTorch has at the same time at
most. In megabytes; `total` is arena and state.
"""
import argparse
import os
import pathlib
import re
import subprocess
import tempfile

import torch_nets
from peers import FLAGS, timed

BYTES = {"f64": 8, "i64": 8, "u64": 8, "f32": 4, "i32": 4, "u32": 4, "f16": 2, "bf16": 2, "u8": 1, "i8": 1, "bool": 1}
SEGMENTS = (2, 3, 4, 6, 8, 12)
SHARE = 0.4  # of unplanned


def compiled(models, name, folder, segments, precision):
    """The folder, the arena, the bytes of all values that have a place in it."""
    place = folder / f"{name}-{segments}-{precision}"
    place.mkdir()
    text = subprocess.run([models, name, place, str(segments), precision, "plan_memory"], check=True, capture_output=True, text=True).stdout
    values = {}
    for value, dtype, dims in re.findall(r'(%\d+|"[^"]*"): (\w+)\[([\d,]*)\] @ arena', text):
        size = BYTES[dtype]
        for d in filter(None, dims.split(",")):
            size *= int(d)
        values[value] = size
    return place, int(re.search(r"arena (\d+) bytes", text)[1]), sum(values.values())


def program(place):
    subprocess.run([os.environ.get("CC", "cc"), *FLAGS, f"-I{place}", place / "main.c", place / "net.c", "-lm", "-o", place / "run"], check=True)
    return place / "run"


def slower(a, b, rounds, seconds):
    best = {a: 1e9, b: 1e9}
    for _ in range(rounds):
        for run in best:
            best[run] = min(best[run], float(timed([run, seconds, 1], 1).split()[0]))
    return best[b] / best[a]


def state_bytes(place):
    return int(re.search(r"STATE_BYTES (\d+)", (place / "net.h").read_text())[1])


def row(o, name, folder):
    plain, arena, unplanned = compiled(o.models, name, folder, 0, "f32")
    choices = {n: compiled(o.models, name, folder, n, "f32")[:2] for n in SEGMENTS}
    short = min(compiled(o.models, name, folder, n, "bf16")[1] for n in (0, *SEGMENTS))
    fits = [n for n in choices if choices[n][1] <= SHARE * unplanned]
    budget = "met without" if arena <= SHARE * unplanned else "–"
    if arena > SHARE * unplanned and fits:
        budget = f"{fits[0]} segments, {choices[fits[0]][1] / 1e6:.1f}, time x {slower(program(plain), program(choices[fits[0]][0]), o.rounds, o.seconds):.2f}"
    least = min(arena, *(a for _, a in choices.values()))
    step, kept = torch_nets.step_of(name, False)
    step()
    theirs, state = torch_nets.peak_bytes(step, kept), state_bytes(plain)
    totals = " | ".join(f"{(a + state) / 1e6:.1f} ({(a + state) / theirs:.2f})" for a in (arena, least, short))
    print(f"| {name} | {unplanned / 1e6:.1f} | {arena / 1e6:.1f} | {budget} | {theirs / 1e6:.1f} | {totals} |", flush=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("models")
    a.add_argument("--names", default="mlp,lenet,resnet20,lstm,gpt,lora,vae,unet,ppo")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--seconds", type=float, default=1)
    o = a.parse_args()
    print("| model | unplanned | arena | 40 % of unplanned | PyTorch | total (share of PyTorch's) | least with recomputation | and with bfloat16 |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in o.names.split(","):
            row(o, name, pathlib.Path(folder))


if __name__ == "__main__":
    main()
