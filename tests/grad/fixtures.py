#!/usr/bin/env python3
"""Makes tests/grad/models/: small models with their losses and gradients as PyTorch computes them. fixtures.py FOLDER (needs torch and onnx)

Each model is a module whose forward gives the loss. It is exported as ONNX with its parameters, a Gradient node of the loss with respect to every
parameter is added, and loss and gradients of one batch are stored beside it: NAME.onnx, NAME.npz. The files are committed; this script says where
they come from and makes others when the models change.
"""
import pathlib
import sys

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import TensorProto, helper


class Mlp(nn.Module):
    inputs = lambda self: (torch.randn(6, 12), torch.randint(0, 5, (6,)))

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 10), nn.GELU(), nn.Linear(10, 5))

    def forward(self, x, label):
        return F.cross_entropy(self.layers(x), label)


class Block(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.norm2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        self.short = nn.Sequential() if a == b else nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.short(x))


class ResNet(nn.Module):
    inputs = lambda self: (torch.randn(3, 3, 10, 10), torch.randint(0, 4, (3,)))

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6)
        self.blocks, self.head = nn.Sequential(Block(6, 6, 1), Block(6, 10, 2)), nn.Linear(10, 4)

    def forward(self, x, label):
        y = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        return F.cross_entropy(self.head(self.blocks(y).mean((2, 3))), label)


class Lstm(nn.Module):
    inputs = lambda self: (torch.randint(0, 11, (3, 7)), torch.randint(0, 11, (3, 7)))

    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(11, 8), nn.LSTM(8, 9, 2, batch_first=True), nn.Linear(9, 11)

    def forward(self, x, label):
        y = self.head(self.lstm(self.embed(x))[0])
        return F.cross_entropy(y.flatten(0, 1), label.flatten())


class Gpt(nn.Module):
    inputs = lambda self: (torch.randint(0, 13, (2, 6)), torch.randint(0, 13, (2, 6)))

    def __init__(self, width=12, heads=3, layers=2):
        super().__init__()
        self.token, self.position, self.heads = nn.Embedding(13, width), nn.Parameter(torch.randn(6, width) * 0.1), heads
        part = lambda: nn.ModuleDict(dict(norm1=nn.LayerNorm(width), qkv=nn.Linear(width, 3 * width), out=nn.Linear(width, width), norm2=nn.LayerNorm(width),
                                          up=nn.Linear(width, 4 * width), down=nn.Linear(4 * width, width)))
        self.parts, self.norm = nn.ModuleList(part() for _ in range(layers)), nn.LayerNorm(width)

    def attention(self, p, x):
        b, t, c = x.shape
        q, k, v = (u.reshape(b, t, self.heads, c // self.heads).transpose(1, 2) for u in p["qkv"](x).split(c, 2))
        s = (q @ k.transpose(-1, -2)) * (c // self.heads) ** -0.5
        s = s.masked_fill(torch.ones(t, t).tril() == 0, float("-inf"))
        return p["out"]((F.softmax(s, -1) @ v).transpose(1, 2).reshape(b, t, c))

    def forward(self, x, label):
        h = self.token(x) + self.position
        for p in self.parts:
            h = h + self.attention(p, p["norm1"](h))
            h = h + p["down"](F.gelu(p["up"](p["norm2"](h)), approximate="tanh"))
        logits = self.norm(h) @ self.token.weight.t()  # tied
        return F.cross_entropy(logits.flatten(0, 1), label.flatten(), ignore_index=3)


class UNet(nn.Module):
    inputs = lambda self: (torch.randn(2, 1, 8, 8), torch.rand(2), torch.randn(2, 1, 8, 8))

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 8))
        self.inside, self.down, self.middle = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.norm1, self.norm2, self.norm3 = nn.GroupNorm(2, 4), nn.GroupNorm(2, 8), nn.GroupNorm(3, 12)
        self.up, self.outside = nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(12, 1, 3, 1, 1)

    def forward(self, x, t, noise):
        angle = t[:, None] * torch.tensor([1.0, 10.0])
        time = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        a = self.inside(x)
        b = self.down(F.silu(self.norm1(a))) + time[:, :, None, None]
        b = b + self.middle(F.silu(self.norm2(b)))
        c = torch.cat([F.interpolate(b, scale_factor=2.0, mode="nearest") * 0.5 + self.up(b), a], 1)
        return F.mse_loss(self.outside(F.silu(self.norm3(c))), noise)


class Vae(nn.Module):
    inputs = lambda self: (torch.rand(4, 20), torch.randn(4, 3))

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Sequential(nn.Linear(20, 12), nn.ELU(), nn.Linear(12, 6)), nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 20))

    def forward(self, x, noise):
        mean, log_variance = self.encode(x).chunk(2, 1)
        y = self.decode(mean + noise * (0.5 * log_variance).exp())
        divergence = -0.5 * (1 + log_variance - mean ** 2 - log_variance.exp()).sum(1).mean()
        return F.binary_cross_entropy_with_logits(y, x, reduction="sum") / 4 + divergence


def make(folder, kind):
    torch.manual_seed(1)
    model = kind().train()
    inputs = model.inputs()
    names = [f"input{i}" for i in range(len(inputs))]
    path = folder / f"{kind.__name__.lower()}.onnx"
    buffers = {k: v.clone() for k, v in model.state_dict().items()}
    torch.onnx.export(model, inputs, str(path), input_names=names, output_names=["loss"], opset_version=17, dynamo=False, do_constant_folding=False,
                      training=torch.onnx.TrainingMode.TRAINING)
    model.load_state_dict(buffers)
    loss = model(*inputs)
    loss.backward()
    onnx_model = onnx.load(path)
    stored = {i.name for i in onnx_model.graph.initializer}
    gradients = {k: v.grad.numpy() for k, v in model.named_parameters() if k in stored}
    rest = {k for k, _ in model.named_parameters()} - set(gradients)
    if rest:
        sys.exit(f"{path}: parameters {sorted(rest)} are not in the file under their names")
    xs = list(gradients)
    onnx_model.graph.node.append(helper.make_node("Gradient", xs, ["d " + x for x in xs], xs=xs, y="loss", domain="ai.onnx.preview.training"))
    onnx_model.graph.output.extend(helper.make_tensor_value_info("d " + x, TensorProto.FLOAT, gradients[x].shape) for x in xs)
    onnx_model.opset_import.append(helper.make_opsetid("ai.onnx.preview.training", 1))
    del onnx_model.graph.value_info[:]
    onnx_model.producer_name, onnx_model.producer_version = "", ""
    for n in onnx_model.graph.node:
        n.doc_string = ""
    onnx.save(onnx_model, path)
    np.savez_compressed(path.with_suffix(".npz"), **dict(zip(names, (x.numpy() for x in inputs))), loss=loss.detach().numpy(), **{"d " + k: v for k, v in gradients.items()})


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    for kind in (Mlp, ResNet, Lstm, Gpt, UNet, Vae):
        make(target, kind)
