#!/usr/bin/env python3
"""Times training steps of lathe's C and of PyTorch by turns: peers.py MODELS [--names mlp,…] [--threads 1,2] [--rounds 3] [--seconds 1]

MODELS is the program built from models.c. For each model and number of threads, rounds of: lathe, PyTorch eager with its fused optimizer, and
torch.compile (with --compiled); each keeps the shortest step of all rounds. The definitions are those of models.c. Prints a
table: milliseconds of a step, how much faster lathe is than the best of the others, working memory.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FLAGS = ["-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-w"]


def torch_step(name, compiled):
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.manual_seed(0)
    ints = torch.randint

    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.c1, self.b1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
            self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
            self.skip = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) if stride != 1 or i != o else nn.Identity()

        def forward(self, x):
            return F.relu(self.b2(self.c2(F.relu(self.b1(self.c1(x))))) + self.skip(x))

    class Attention(nn.Module):
        def __init__(self, c, heads):
            super().__init__()
            self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(c), nn.LayerNorm(c)
            self.qkv, self.out, self.up, self.down = nn.Linear(c, 3 * c), nn.Linear(c, c), nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(5000, 192), nn.Parameter(torch.randn(128, 192) * 0.02)
            self.layers, self.norm = nn.Sequential(*[Attention(192, 6) for _ in range(6)]), nn.LayerNorm(192)

        def forward(self, i):
            return F.linear(self.norm(self.layers(self.tokens(i) + self.positions)), self.tokens.weight)

    class Vae(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.m, self.v, self.d1, self.d2 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20), nn.Linear(20, 400), nn.Linear(400, 784)

        def forward(self, x, noise):
            h = F.relu(self.e(x))
            mean, log = self.m(h), self.v(h)
            r = self.d2(F.relu(self.d1(mean + noise * torch.exp(0.5 * log))))
            return F.binary_cross_entropy_with_logits(r, x, reduction="sum") - 0.5 * torch.sum(1 + log - mean * mean - log.exp())

    class Actor(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.p, self.v = nn.Linear(4, 128), nn.Linear(128, 128), nn.Linear(128, 2), nn.Linear(128, 1)

        def forward(self, s, action, old, advantage, back):
            h = torch.tanh(self.b(torch.tanh(self.a(s))))
            logs, value = F.log_softmax(self.p(h), -1), self.v(h)[:, 0]
            r = torch.exp(logs.gather(1, action[:, None])[:, 0] - old)
            entropy = -(logs.exp() * logs).sum(1).mean()
            return -torch.min(r * advantage, r.clamp(0.8, 1.2) * advantage).mean() + 0.5 * F.mse_loss(value, back) - 0.01 * entropy

    def ce(net):
        return lambda x, y: F.cross_entropy(net(x).flatten(0, -2), y.flatten())

    def momentum(p):
        return torch.optim.SGD(p, 1e-3, momentum=0.9, fused=not compiled or None)

    def adam(p):
        return torch.optim.Adam(p, 1e-4, fused=not compiled or None)

    def adamw(p):
        return torch.optim.AdamW(p, 1e-4, fused=not compiled or None)

    if name == "mlp":
        net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        loss, data, make = ce(net), (torch.randn(64, 784), ints(10, (64,))), momentum
    elif name == "lenet":
        net = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
        loss, data, make = ce(net), (torch.randn(64, 1, 28, 28), ints(10, (64,))), momentum
    elif name == "resnet20":
        stages = [Block(16 if i < 4 else 32 if i < 7 else 64, 16 << i // 3, 2 if i and i % 3 == 0 else 1) for i in range(9)]
        net = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
        loss, data, make = ce(net), (torch.randn(32, 3, 32, 32), ints(10, (32,))), momentum
    elif name == "vae":
        net = Vae()
        loss, data, make = net, (torch.rand(64, 784), torch.randn(64, 20)), adam
    elif name == "gpt":
        net = Gpt()
        loss, data, make = ce(net), (ints(5000, (8, 128)), ints(5000, (8, 128))), adamw
    else:
        net = Actor()
        loss, data, make = net, (torch.randn(64, 4), ints(2, (64,)), -torch.rand(64), torch.randn(64), torch.randn(64)), adam
    optimizer = make(net.parameters())
    forward = torch.compile(loss) if compiled else loss
    update = torch.compile(lambda: optimizer.step()) if compiled else optimizer.step

    def step():
        optimizer.zero_grad(set_to_none=True)
        forward(*data).backward()
        update()

    return step


def memory():
    text = pathlib.Path("/proc/self/status").read_text()
    return {k: int(v) / 1e3 for k, v in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", text)}


def worker(name, compiled, threads, seconds):
    import time

    import torch

    torch.set_num_threads(threads)
    (torch.randn(64, 64) @ torch.randn(64, 64)).sum()
    before = memory()["VmRSS"]
    step = torch_step(name, compiled)
    for _ in range(3):
        step()
    best, end = 1e9, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    print(f"{best * 1e3:.4f} {memory()['VmHWM'] - before:.1f}")


def timed(command, threads):
    pin = ["taskset", "-c", "0"] if threads == 1 else []
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
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
    a.add_argument("--worker", nargs=3)
    o = a.parse_args()
    if o.worker:
        return worker(o.worker[0], o.worker[1] == "compiled", int(o.worker[2]), o.seconds)
    names = o.names.split(",") if o.names else subprocess.run([o.models], capture_output=True, text=True).stdout.split()
    print("| model | threads | lathe, ms | PyTorch, ms | compiled, ms | faster | lathe, MB | PyTorch, MB |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            run = lathe(o.models, name, pathlib.Path(folder), os.environ.get("CC", "cc"))
            for threads in map(int, o.threads.split(",")):
                ours, eager, compiled, mb, theirs = [], [], [], 0, 0
                for _ in range(o.rounds):
                    text = timed([run, o.seconds, threads], threads)
                    ours.append(float(text.split()[0]))
                    mb = sum(float(x) for x in re.findall(r"(?:arena|state) ([\d.]+) MB", text))
                    for kind, times in (("eager", eager), ("compiled", compiled)):
                        if kind == "compiled" and not o.compiled:
                            continue
                        text = timed([sys.executable, __file__, o.models, "--worker", name, kind, threads, "--seconds", o.seconds], threads)
                        if text:
                            times.append(float(text.split()[0]))
                            theirs = float(text.split()[1]) if kind == "eager" else theirs
                best = min(eager + compiled, default=float("nan"))
                other = f"{min(compiled):.3g}" if compiled else "–"
                print(f"| {name} | {threads} | {min(ours):.3g} | {min(eager, default=float('nan')):.3g} | {other} | {best / min(ours):.2f} | {mb:.1f} | {theirs:.0f} |", flush=True)


if __name__ == "__main__":
    main()
