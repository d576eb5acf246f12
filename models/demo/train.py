#!/usr/bin/env python3
"""Trains the demo's image classifier on Fashion-MNIST and writes fashion.onnx and one test image per class.

    apt-get install dataset-fashion-mnist
    python3 -m venv venv && venv/bin/pip install torch numpy onnx
    venv/bin/python train.py --epochs 10

The net: a 3x3 convolution, a residual block, two depthwise-separable blocks with a skip, global average, one dense layer;
batch normalisation after every convolution. It takes pixels in 0..1 (the first two nodes normalise them) and gives
probabilities. The ONNX file is written node by node, so that batch normalisation stays a node of its own.
"""
import argparse
import gzip
import os
import pathlib
import time

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
MEAN, STD = 0.2860, 0.3530
CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"]


def read_idx(path):
    with gzip.open(path) as f:
        data = f.read()
    rank = data[3]
    dims = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(dims)


def load(folder, split):
    images = read_idx(f"{folder}/{split}-images-idx3-ubyte.gz")
    labels = read_idx(f"{folder}/{split}-labels-idx1-ubyte.gz")
    return torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


class Net(nn.Module):
    """Layers carry the names they have in the ONNX file."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.res1, self.res1_bn = nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48)
        self.res2, self.res2_bn = nn.Conv2d(48, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48)
        self.skip, self.skip_bn = nn.Conv2d(24, 48, 1, bias=False), nn.BatchNorm2d(48)
        self.wide, self.wide_bn = nn.Conv2d(48, 96, 3, padding=1, bias=False), nn.BatchNorm2d(96)
        self.dw, self.dw_bn = nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False), nn.BatchNorm2d(96)
        self.pw, self.pw_bn = nn.Conv2d(96, 96, 1, bias=False), nn.BatchNorm2d(96)
        self.head = nn.Linear(96, 10)

    def forward(self, x):
        x = (x - MEAN) / STD
        x = F.max_pool2d(F.relu(self.stem_bn(self.stem(x))), 2)
        y = self.res2_bn(self.res2(F.relu(self.res1_bn(self.res1(x)))))
        x = F.max_pool2d(F.relu(y + self.skip_bn(self.skip(x))), 2)
        x = F.relu(self.wide_bn(self.wide(x)))
        y = self.pw_bn(self.pw(F.relu(self.dw_bn(self.dw(x)))))
        x = F.relu(y + x)
        return self.head(F.dropout(x.mean((2, 3)), 0.1, self.training))


def augment(x, rng):
    """A random flip of each image and a random shift of the batch by up to two pixels."""
    flip = torch.rand(len(x), generator=rng) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    dy, dx = torch.randint(-2, 3, (2,), generator=rng).tolist()
    return F.pad(x, (2, 2, 2, 2))[:, :, 2 + dy:30 + dy, 2 + dx:30 + dx]


def accuracy(net, images, labels):
    net.eval()
    with torch.no_grad():
        right = sum(int((net(images[i:i + 500].float() / 255).argmax(1) == labels[i:i + 500]).sum()) for i in range(0, len(images), 500))
    return right / len(images)


def train(net, images, labels, test, epochs, batch):
    rng = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.02)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        order, start = torch.randperm(len(images), generator=rng), time.time()
        for i in range(0, len(images) - batch + 1, batch):
            index = order[i:i + batch]
            loss = F.cross_entropy(net(augment(images[index].float() / 255, rng)), labels[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2}/{epochs}  loss {loss.item():.3f}  test accuracy {accuracy(net, *test):.4f}  {time.time() - start:.0f} s", flush=True)


class Graph:
    """Collects the nodes and weights of the ONNX file; every method returns the name of its result."""

    def __init__(self, net):
        self.net, self.nodes, self.weights = net, [], []

    def weight(self, name, array):
        self.weights.append(onh.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(oh.make_node(op, inputs, [name + "/out"], name=name, **attributes))
        return name + "/out"

    def conv_bn(self, x, name):
        conv, bn = getattr(self.net, name), getattr(self.net, name + "_bn")
        size, pad = list(conv.kernel_size), list(conv.padding) * 2
        x = self.node("Conv", [x, self.weight(name + "/weight", conv.weight.detach().numpy())], name, kernel_shape=size, pads=pad, group=conv.groups)
        values = [("scale", bn.weight), ("bias", bn.bias), ("mean", bn.running_mean), ("variance", bn.running_var)]
        names = [self.weight(f"{name}_bn/{key}", v.detach().numpy()) for key, v in values]
        return self.node("BatchNormalization", [x] + names, name + "_bn", epsilon=bn.eps)

    def relu(self, x, name):
        return self.node("Relu", [x], name)

    def pool(self, x, name):
        return self.node("MaxPool", [x], name, kernel_shape=[2, 2], strides=[2, 2])


def export(net, path):
    g = Graph(net)
    x = g.node("Sub", ["image", g.weight("mean", np.float32(MEAN))], "center")
    x = g.node("Div", [x, g.weight("std", np.float32(STD))], "scale")
    x = g.pool(g.relu(g.conv_bn(x, "stem"), "stem_relu"), "stem_pool")
    y = g.conv_bn(g.relu(g.conv_bn(x, "res1"), "res1_relu"), "res2")
    x = g.pool(g.relu(g.node("Add", [y, g.conv_bn(x, "skip")], "res_add"), "res_relu"), "res_pool")
    x = g.relu(g.conv_bn(x, "wide"), "wide_relu")
    y = g.conv_bn(g.relu(g.conv_bn(x, "dw"), "dw_relu"), "pw")
    x = g.relu(g.node("Add", [y, x], "pw_add"), "pw_relu")
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x], "average")], "flatten", axis=1)
    head = [g.weight("head/weight", net.head.weight.detach().numpy()), g.weight("head/bias", net.head.bias.detach().numpy())]
    x = g.node("Gemm", [x] + head, "head", transB=1)
    g.nodes.append(oh.make_node("Softmax", [x], ["probability"], name="softmax", axis=-1))
    inputs = [oh.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 1, 28, 28])]
    outputs = [oh.make_tensor_value_info("probability", onnx.TensorProto.FLOAT, ["N", 10])]
    graph = oh.make_graph(g.nodes, "fashion", inputs, outputs, g.weights)
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8, producer_name="lathe demo")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_samples(images, labels, folder):
    """The first test image of each class, as a binary PGM that any image viewer opens."""
    folder.mkdir(exist_ok=True)
    for c, name in enumerate(CLASSES):
        pixels = images[int((labels == c).nonzero()[0])].numpy().tobytes()
        (folder / f"{c}-{name}.pgm").write_bytes(b"P5\n28 28\n255\n" + pixels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    a = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(a.threads)
    test = load(a.data, "t10k")
    net = Net()
    train(net, *load(a.data, "train"), test, a.epochs, a.batch)
    export(net, a.out / "fashion.onnx")
    write_samples(*test, a.out / "images")
    size = (a.out / "fashion.onnx").stat().st_size
    print(f"fashion.onnx: {size} bytes, test accuracy {accuracy(net, *test):.4f}")


if __name__ == "__main__":
    main()
