#!/usr/bin/env python3
"""Models as torch exports them, with everything dynamic, against ONNX Runtime at several sizes.

    exported.py LATHE FOLDER [--only REGEX] [--exporter script|dynamo|both]

Each model is a small network of a kind that people export: convolutions, detection heads with NonMaxSuppression, TopK and
NonZero, transformers with key-value caches, loops and branches from torch.jit.script, audio front ends. The file is compiled
once with its dims left dynamic and run at every listed size. Prints a line per model and size and `N passed, N failed`.
Needs torch (and onnxscript for the dynamo exporter).
"""
import argparse
import pathlib
import re
import subprocess
import sys
import warnings

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

warnings.filterwarnings("ignore")


class Case:
    def __init__(self, name, module, sizes, dynamic, inputs, script=False, limit=1e-4, opset=17, exporters=("script", "dynamo")):
        self.name, self.module, self.sizes, self.dynamic, self.inputs = name, module, sizes, dynamic, inputs
        self.script, self.limit, self.opset, self.exporters = script, limit, opset, exporters


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 16, 1)
        self.n, self.fc = nn.BatchNorm2d(8), nn.Linear(16, 5)

    def forward(self, x):
        x = F.hardswish(self.n(self.a(x)))
        x = x + F.silu(self.b(x))
        x = F.adaptive_avg_pool2d(F.relu6(self.c(x)), 1)
        return self.fc(x.flatten(1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.d2, self.u = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1), nn.Conv2d(24, 8, 3, padding=1)
        self.t, self.o = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        p = F.pad(x, (0, (4 - w % 4) % 4, 0, (4 - h % 4) % 4), mode="replicate")
        a = F.relu(self.d1(p))
        b = F.relu(self.d2(a))
        b = F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False)
        y = self.o(self.t(F.relu(self.u(torch.cat([a, b], 1)))))
        return y[:, :, :h, :w]


class Detector(nn.Module):
    """A one-stage head: grid of anchors from run-time sizes, decode, top k, gather."""

    def __init__(self):
        super().__init__()
        self.body, self.box, self.cls = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        f = F.relu(self.body(x))
        h, w = f.shape[2], f.shape[3]
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        centers = torch.stack([xs, ys], -1).reshape(-1, 2).float() * 4
        box = self.box(f).flatten(2).transpose(1, 2)
        xy = centers + box[..., :2]
        wh = box[..., 2:].exp().clamp(max=50)
        boxes = torch.cat([xy - wh / 2, xy + wh / 2], -1)
        scores = self.cls(f).flatten(2).transpose(1, 2).sigmoid()
        best, label = scores.max(-1)
        s, i = best.topk(5, dim=1)
        return torch.gather(boxes, 1, i.unsqueeze(-1).expand(-1, -1, 4)), s, torch.gather(label, 1, i)


class NonZeroHead(nn.Module):
    def forward(self, x):
        mask = x[0, 0] > 0.5
        where = mask.nonzero()
        picked = x[0, :, where[:, 0], where[:, 1]]
        return where, picked, picked.sum(1)


class MaskSelect(nn.Module):
    def forward(self, x, y):
        keep = x.sum(-1) > 0
        a = x[keep]
        b = torch.cat([a, y], 0)
        return b, torch.softmax(b @ b.T, -1)


class Block(nn.Module):
    def __init__(self, d=16, h=2):
        super().__init__()
        self.h, self.d = h, d
        self.qkv, self.o, self.n1, self.n2 = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.f1, self.f2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x, past_k, past_v):
        b, t, d = x.shape
        q, k, v = self.qkv(self.n1(x)).reshape(b, t, 3, self.h, d // self.h).permute(2, 0, 3, 1, 4)
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        s = k.shape[2]
        mask = torch.ones(t, s).tril(diagonal=s - t) == 0
        a = (q @ k.transpose(-1, -2) / (d // self.h) ** 0.5).masked_fill(mask, float("-inf")).softmax(-1) @ v
        x = x + self.o(a.transpose(1, 2).reshape(b, t, d))
        return x + self.f2(F.gelu(self.f1(self.n2(x)))), k, v


class Decoder(nn.Module):
    """Token ids, positions that follow the cache, one block, logits of the last token."""

    def __init__(self):
        super().__init__()
        self.e, self.p, self.b, self.n, self.o = nn.Embedding(50, 16), nn.Embedding(64, 16), Block(), nn.LayerNorm(16), nn.Linear(16, 50, bias=False)

    def forward(self, ids, past_k, past_v):
        at = past_k.shape[2] + torch.arange(ids.shape[1])
        x, k, v = self.b(self.e(ids) + self.p(at), past_k, past_v)
        return self.o(self.n(x))[:, -1], k, v


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.l = nn.Embedding(50, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0)

    def forward(self, ids, mask):
        x = self.l(self.e(ids), src_key_padding_mask=mask == 0)
        m = mask.unsqueeze(-1).float()
        pooled = (x * m).sum(1) / m.sum(1).clamp(min=1e-9)
        return F.normalize(pooled, dim=1)


class Sdpa(nn.Module):
    def forward(self, q, k, v, m):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=m)


class Rope(nn.Module):
    def forward(self, x):
        t, d = x.shape[2], x.shape[3]
        f = 1.0 / (10000 ** (torch.arange(0, d, 2).float() / d))
        a = torch.outer(torch.arange(t).float(), f)
        c, s = a.cos().repeat_interleave(2, -1), a.sin().repeat_interleave(2, -1)
        r = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        return x * c + r * s


class Greedy(nn.Module):
    """A loop with a data-dependent end: the sequence grows by the best token."""

    def __init__(self):
        super().__init__()
        self.e, self.g, self.o = nn.Embedding(12, 8), nn.Linear(8, 8), nn.Linear(8, 12)

    def forward(self, ids: torch.Tensor, steps: torch.Tensor):
        n = int(steps)
        for i in range(n):
            h = torch.tanh(self.g(self.e(ids))).mean(1)
            ids = torch.cat([ids, self.o(h).argmax(-1, keepdim=True)], 1)
        return ids


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor):
        if x.sum() > 0:
            y = self.a(x)
        else:
            y = self.b(x) * 2
        total = torch.zeros(4)
        for i in range(x.shape[0]):
            if y[i].sum() > 0:
                total = total + y[i]
            else:
                total = total - y[i]
        return y, total


class ListLoop(nn.Module):
    def forward(self, x: torch.Tensor):
        parts = []
        for i in range(x.shape[0]):
            parts.append(x[i] * float(i) + x[i].sum())
        return torch.stack(parts)


class Spectrogram(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.hann_window(32))
        self.register_buffer("mel", torch.rand(17, 8))

    def forward(self, x):
        s = torch.stft(x, 32, 8, window=self.w, return_complex=False, center=True, pad_mode="reflect", onesided=True)
        power = s.pow(2).sum(-1)
        return torch.log(power.transpose(1, 2) @ self.mel + 1e-6)


class Crnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.l, self.o = nn.Conv2d(1, 4, 3, (2, 1), 1), nn.LSTM(16, 8, bidirectional=True, batch_first=True), nn.Linear(16, 6)

    def forward(self, x):
        f = F.max_pool2d(F.relu(self.c(x)), (2, 2))
        b, c, h, w = f.shape
        y, _ = self.l(f.permute(0, 3, 1, 2).reshape(b, w, c * h))
        return self.o(y).log_softmax(-1)


class Gru(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.GRU(6, 8, num_layers=2)

    def forward(self, x, h):
        return self.g(x, h)


class Swin(nn.Module):
    """Windows of 4 by 4 with padding, roll, and back."""

    def forward(self, x):
        b, h, w, c = x.shape
        ph, pw = (4 - h % 4) % 4, (4 - w % 4) % 4
        x = F.pad(x, (0, 0, 0, pw, 0, ph))
        H, W = h + ph, w + pw
        x = torch.roll(x, (-2, -2), (1, 2))
        v = x.view(b, H // 4, 4, W // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        a = (v @ v.transpose(1, 2)).softmax(-1) @ v
        y = a.view(b, H // 4, W // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, H, W, c)
        return torch.roll(y, (2, 2), (1, 2))[:, :h, :w]


class Scatter(nn.Module):
    def forward(self, x, index, rows):
        y = torch.zeros(x.shape[0], 8).scatter_add(1, index, x)
        z = y.clone()
        z[rows] = 1.0
        return y, z, torch.bincount(rows, minlength=4) if False else z.cumsum(0)


class Misc(nn.Module):
    def forward(self, x):
        s, i = x.sort(-1, descending=True)
        u = x.unfold(1, 3, 2)
        e = torch.einsum("bi,bj->bij", x, x)
        w = torch.where(x > 0, x, x.new_zeros(1))
        return s, i, u, e, w.std(-1), x.var(0, unbiased=False), x.argmin(-1), torch.logsumexp(x, 0), x.flip(1), x.tril() if x.dim() > 1 else x


class GridWarp(nn.Module):
    def forward(self, x, t):
        g = F.affine_grid(t, x.shape, align_corners=False)
        return F.grid_sample(x, g, align_corners=False)


class Pixel(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x):
        return F.interpolate(F.pixel_shuffle(self.c(x), 2), scale_factor=0.5, mode="nearest") + F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)


def rand(*shape):
    return torch.randn(*shape)


def ids(limit, *shape):
    return torch.randint(0, limit, shape)


N, T, H, W, S = "N", "T", "H", "W", "S"
CASES = [
    Case("convnet", ConvNet, [(1, 16, 16), (3, 33, 20), (2, 64, 64)], {"x": {0: N, 2: H, 3: W}}, lambda n, h, w: {"x": rand(n, 3, h, w)}),
    Case("unet", UNet, [(1, 16, 16), (2, 18, 30), (1, 31, 17)], {"x": {0: N, 2: H, 3: W}}, lambda n, h, w: {"x": rand(n, 1, h, w)}),
    Case("detector", Detector, [(1, 32, 32), (2, 60, 44)], {"x": {0: N, 2: H, 3: W}}, lambda n, h, w: {"x": rand(n, 3, h, w)}),
    Case("nonzero", NonZeroHead, [(8, 8), (5, 12)], {"x": {2: H, 3: W}}, lambda h, w: {"x": rand(1, 2, h, w)}),
    Case("mask_select", MaskSelect, [(6, 2), (11, 0), (1, 3)], {"x": {0: N}, "y": {0: T}}, lambda n, t: {"x": rand(n, 4), "y": rand(t, 4)}),
    Case("decoder", Decoder, [(1, 5, 0), (2, 1, 7), (1, 3, 3)], {"ids": {0: N, 1: T}, "past_k": {0: N, 2: S}, "past_v": {0: N, 2: S}},
         lambda n, t, s: {"ids": ids(50, n, t), "past_k": rand(n, 2, s, 8), "past_v": rand(n, 2, s, 8)}),
    Case("encoder", Encoder, [(1, 7), (3, 12)], {"ids": {0: N, 1: T}, "mask": {0: N, 1: T}}, lambda n, t: {"ids": ids(50, n, t), "mask": (torch.arange(t) < t - 2).long().expand(n, t).contiguous()}),
    Case("sdpa", Sdpa, [(1, 4, 6), (2, 9, 3)], {"q": {0: N, 2: T}, "k": {0: N, 2: S}, "v": {0: N, 2: S}, "m": {0: T, 1: S}},
         lambda n, t, s: {"q": rand(n, 2, t, 8), "k": rand(n, 2, s, 8), "v": rand(n, 2, s, 8), "m": rand(t, s)}),
    Case("rope", Rope, [(1, 5), (2, 16)], {"x": {0: N, 2: T}}, lambda n, t: {"x": rand(n, 2, t, 8)}),
    Case("greedy", Greedy, [(1, 3, 4), (2, 5, 0), (1, 1, 9)], {"ids": {0: N, 1: T}}, lambda n, t, s: {"ids": ids(12, n, t), "steps": torch.tensor(s)}, script=True, exporters=("script",)),
    Case("branch", Branch, [(3,), (8,), (1,)], {"x": {0: N}}, lambda n: {"x": rand(n, 4)}, script=True, exporters=("script",)),
    Case("list_loop", ListLoop, [(3,), (1,), (7,)], {"x": {0: N}}, lambda n: {"x": rand(n, 4)}, script=True, exporters=("script",)),
    Case("spectrogram", Spectrogram, [(1, 100), (2, 333)], {"x": {0: N, 1: T}}, lambda n, t: {"x": rand(n, t)}),
    Case("crnn", Crnn, [(1, 20), (2, 57)], {"x": {0: N, 3: W}}, lambda n, w: {"x": rand(n, 1, 16, w)}),
    Case("gru", Gru, [(5, 1), (9, 3)], {"x": {0: T, 1: N}, "h": {1: N}}, lambda t, n: {"x": rand(t, n, 6), "h": rand(2, n, 8)}),
    Case("swin", Swin, [(1, 8, 8), (2, 9, 14)], {"x": {0: N, 1: H, 2: W}}, lambda n, h, w: {"x": rand(n, h, w, 4)}),
    Case("scatter", Scatter, [(4, 3), (6, 8)], {"x": {0: N, 1: T}, "index": {0: N, 1: T}, "rows": {0: S}}, lambda n, t: {"x": rand(n, t), "index": ids(8, n, t), "rows": torch.tensor([0, n - 1])}),
    Case("misc", Misc, [(2, 9), (5, 5)], {"x": {0: N, 1: T}}, lambda n, t: {"x": rand(n, t)}),
    Case("grid", GridWarp, [(1, 6, 6), (2, 9, 5)], {"x": {0: N, 2: H, 3: W}, "t": {0: N}}, lambda n, h, w: {"x": rand(n, 2, h, w), "t": rand(n, 2, 3)}),
    Case("pixel", Pixel, [(1, 6, 6), (2, 9, 5)], {"x": {0: N, 2: H, 3: W}}, lambda n, h, w: {"x": rand(n, 3, h, w)}),
]


def export(case, exporter, path):
    torch.manual_seed(1)
    module = case.module().eval()
    example = case.inputs(*case.sizes[0])
    arguments = tuple(example.values())
    if exporter == "script":
        model = torch.jit.script(module) if case.script else module
        torch.onnx.export(model, arguments, path, input_names=list(example), dynamic_axes=case.dynamic, opset_version=case.opset, dynamo=False)
        return
    dims = {}
    shapes = {name: {k: torch.export.Dim.DYNAMIC for k in case.dynamic.get(name, {})} for name in example}
    torch.onnx.export(module, arguments, path, input_names=list(example), dynamic_shapes=tuple(shapes.values()), dynamo=True, opset_version=18, external_data=False, verbose=False)


def main():
    ap = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    ap.add_argument("lathe", type=pathlib.Path)
    ap.add_argument("folder", type=pathlib.Path)
    ap.add_argument("--only", default="")
    ap.add_argument("--exporter", choices=["script", "dynamo", "both"], default="both")
    args = ap.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    passed = failed = 0
    for case in CASES:
        for exporter in case.exporters:
            name = f"{case.name}.{exporter}"
            if not re.search(args.only, name) or args.exporter not in ("both", exporter):
                continue
            path = args.folder / f"{name}.onnx"
            if not path.exists():
                try:
                    export(case, exporter, str(path))
                except Exception as e:  # the exporter's limits are not ours
                    print(f"{name:24} not exported: {str(e).splitlines()[0][:90] if str(e) else type(e).__name__}", flush=True)
                    continue
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for size in case.sizes:
                torch.manual_seed(sum(size) + 7)
                values = case.inputs(*size)
                feed = {i.name: values[i.name].numpy() for i in session.get_inputs()}
                try:
                    outputs = session.run(None, feed)
                except Exception as e:
                    print(f"{name:24} {size} ONNX Runtime: {str(e)[:90]}")
                    continue
                np.savez(args.folder / "in.npz", **feed)
                np.savez(args.folder / "out.npz", **{o.name: v for o, v in zip(session.get_outputs(), outputs)})
                command = [args.lathe, "verify", path, "--inputs", args.folder / "in.npz", "--expect", args.folder / "out.npz", "--range-tol", str(case.limit)]
                run = subprocess.run(command, capture_output=True, text=True)
                good = run.returncode == 0
                passed, failed = passed + good, failed + (not good)
                problem = [l for l in (run.stderr + run.stdout).splitlines() if "error" in l or "FAIL" in l or "differ" in l]
                print(f"{name:24} {str(size):14} {'ok' if good else (problem or [run.stderr[-200:] or run.returncode])[0]}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
