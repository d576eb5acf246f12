#!/usr/bin/env python3
"""Losses of the training tests by torch: fixture.py DUMP FOLDER

DUMP is a folder that `harness --dump` filled (first state and data, the same for every case); FOLDER gets CASE.txt with a
loss per batch. Needs torch; run by hand when cases change: the files are part of the tests.
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np
import torch
from torch import nn

BATCHES, BATCH, FEATURES = 12, 64, 20
optim = torch.optim


def warm_cosine(s, warmup=3, steps=9, floor=0.1):
    if s < warmup:
        return (s + 1) / warmup
    u = min((s - warmup) / (steps - warmup), 1)
    return floor + (1 - floor) * (1 + math.cos(math.pi * u)) / 2


def grouped(params, **settings):
    lists = {"bias": [], "fc3": [], "rest": []}
    for name, p in params:
        lists["bias" if name.endswith("bias") else "fc3" if name.startswith("fc3") else "rest"].append(p)
    lr, decay = settings["lr"], settings["weight_decay"]
    return optim.AdamW([{"params": lists["bias"], "lr": 2 * lr, "weight_decay": 0}, {"params": lists["fc3"], "lr": lr / 2}, {"params": lists["rest"]}], lr=lr, weight_decay=decay)


def plain(kind, **settings):
    return lambda params: kind([p for _, p in params], **settings)


CASES = {
    "sgd": dict(make=plain(optim.SGD, lr=0.1)),
    "momentum": dict(make=plain(optim.SGD, lr=0.05, momentum=0.9)),
    "nesterov": dict(make=plain(optim.SGD, lr=0.05, momentum=0.8, nesterov=True)),
    "adagrad": dict(make=plain(optim.Adagrad, lr=0.05)),
    "rmsprop": dict(make=plain(optim.RMSprop, lr=0.005, alpha=0.9, eps=1e-5)),
    "adam": dict(make=plain(optim.Adam, lr=0.01)),
    "adamw": dict(make=plain(optim.AdamW, lr=0.01, weight_decay=0.1)),
    "decay": dict(make=plain(optim.SGD, lr=0.1, weight_decay=0.05)),
    "clip": dict(make=plain(optim.SGD, lr=0.5), clip=0.1),
    "cosine": dict(make=plain(optim.Adam, lr=0.02), schedule=warm_cosine),
    "linear": dict(make=plain(optim.SGD, lr=0.2), schedule=lambda s: 1 - min(s / 8, 1)),
    "step": dict(make=plain(optim.SGD, lr=0.2), schedule=lambda s: 0.3 ** (s // 3)),
    "groups": dict(make=lambda params: grouped(params, lr=0.01, weight_decay=0.1)),
    "frozen": dict(make=plain(optim.SGD, lr=0.05, momentum=0.9), freeze="fc1"),
    "average": dict(make=plain(optim.SGD, lr=0.1)),
    "scaled": dict(make=plain(optim.SGD, lr=0.1)),
    "separate": dict(make=plain(optim.Adam, lr=0.01)),
    "mask": dict(make=plain(optim.Adam, lr=0.01), shift=1),
    "norm": dict(make=plain(optim.Adam, lr=0.01), norm=True),
    "accumulate": dict(make=plain(optim.SGD, lr=0.05, momentum=0.9), accumulate=2, clip=0.5),
}


def safetensors(path):
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + n])
    kinds = {"F32": np.float32, "I64": np.int64}
    return {k: np.frombuffer(data[8 + n :][slice(*v["data_offsets"])], kinds[v["dtype"]]).reshape(v["shape"]) for k, v in header.items() if k != "__metadata__"}


class Net(nn.Module):
    def __init__(self, first, norm, shift):
        super().__init__()
        for name, shape in (("fc1", (20, 32)), ("fc2", (32, 16)), ("fc3", (16, 5))):
            layer = nn.Linear(*shape)
            layer.weight.data = torch.tensor(first[f"{name}/weight"].T.copy())
            layer.bias.data = torch.tensor(first[f"{name}/bias"].copy())
            setattr(self, name, layer)
        self.shift = shift
        self.norm = nn.BatchNorm1d(32) if norm else nn.Identity()

    def forward(self, x):
        return self.fc3(torch.tanh(self.fc2(torch.relu(self.norm(self.fc1(x))) + self.shift)))


def losses(case, first, x, labels):
    net = Net(first, case.get("norm", False), case.get("shift", 0))
    params = [(n, p) for n, p in net.named_parameters() if not n.startswith(case.get("freeze", "-"))]
    opt = case["make"](params)
    schedule = case.get("schedule")
    scheduler = optim.lr_scheduler.LambdaLR(opt, schedule) if schedule else None
    every, out = case.get("accumulate", 1), []
    for s in range(BATCHES):
        loss = nn.functional.cross_entropy(net(x[s]), labels[s])
        (loss / every).backward()
        out.append(loss.item())
        if (s + 1) % every:
            continue
        if "clip" in case:
            nn.utils.clip_grad_norm_([p for _, p in params], case["clip"])
        opt.step()
        opt.zero_grad()
        if scheduler:
            scheduler.step()
    return out


def main():
    dump, folder = map(pathlib.Path, sys.argv[1:])
    first = safetensors(dump / "first.safetensors")
    data = (dump / "data.bin").read_bytes()
    n = BATCHES * BATCH * FEATURES * 4
    x = torch.tensor(np.frombuffer(data[:n], np.float32).reshape(BATCHES, BATCH, FEATURES).copy())
    labels = torch.tensor(np.frombuffer(data[n:], np.int64).reshape(BATCHES, BATCH).copy())
    folder.mkdir(exist_ok=True)
    for name, case in CASES.items():
        (folder / f"{name}.txt").write_text("".join(f"{v:.9g}\n" for v in losses(case, first, x, labels)))


if __name__ == "__main__":
    main()
