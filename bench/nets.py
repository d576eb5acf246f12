"""The networks of the benchmark, built as ONNX graphs with seeded random weights (no training framework is needed).

    Net().image(3, 224).conv(64, 7, 2).relu().max_pool(3, 2) ...

What they are: the published architectures at their usual sizes, batch 1. Weights are random but scaled so that
activations keep their size through the layers; batch normalisations are present, as exporters leave them.
"""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Net:
    """A graph under construction. Layer methods take and return tensor names; self.shape knows their shapes."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.inputs, self.shape = [], [], [], {}

    def fresh(self, what):
        return f"{what}_{len(self.nodes)}_{len(self.constants)}"

    def constant(self, array, what="c"):
        name = self.fresh(what)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, *shape, fan_in=None):
        fan_in = fan_in or int(np.prod(shape[1:]))
        return self.constant((self.random.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32), "w")

    def input(self, name, shape, dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        self.shape[name] = list(shape)
        return name

    def node(self, op, inputs, shape, **attributes):
        name = self.fresh(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.shape[name] = list(shape)
        return name

    def model(self, name, outputs):
        outs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, self.shape[o]) for o in outputs]
        graph = helper.make_graph(self.nodes, name, self.inputs, outs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    # ---- images
    def conv(self, x, channels, kernel, stride=1, groups=1, bias=False):
        n, c, h, w = self.shape[x]
        pad = kernel // 2
        out = [n, channels, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1]
        inputs = [x, self.weight(channels, c // groups, kernel, kernel)]
        if bias:
            inputs.append(self.constant(np.zeros(channels, np.float32), "b"))
        return self.node("Conv", inputs, out, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups)

    def batch_norm(self, x):
        c = self.shape[x][1]
        scale, shift, mean = (self.random.normal(m, .1, c).astype(np.float32) for m in (1, 0, 0))
        var = self.random.uniform(.8, 1.2, c).astype(np.float32)
        return self.node("BatchNormalization", [x] + [self.constant(v, "bn") for v in (scale, shift, mean, var)], self.shape[x], epsilon=1e-5)

    def relu(self, x):
        return self.node("Relu", [x], self.shape[x])

    def relu6(self, x):
        return self.node("Clip", [x, self.constant(np.float32(0)), self.constant(np.float32(6))], self.shape[x])

    def conv_bn_relu(self, x, channels, kernel, stride=1, groups=1, act="relu"):
        x = self.batch_norm(self.conv(x, channels, kernel, stride, groups))
        return getattr(self, act)(x) if act else x

    def max_pool(self, x, kernel, stride, pad=0):
        n, c, h, w = self.shape[x]
        out = [n, c, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1]
        return self.node("MaxPool", [x], out, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def global_pool(self, x):
        n, c = self.shape[x][:2]
        return self.node("Flatten", [self.node("GlobalAveragePool", [x], [n, c, 1, 1])], [n, c], axis=1)

    def add(self, a, b):
        return self.node("Add", [a, b], self.shape[a])

    def concat(self, parts, axis=1):
        out = list(self.shape[parts[0]])
        out[axis] = sum(self.shape[p][axis] for p in parts)
        return self.node("Concat", parts, out, axis=axis)

    def upsample(self, x):
        n, c, h, w = self.shape[x]
        return self.node("Resize", [x, "", self.constant(np.array([1, 1, 2, 2], np.float32))], [n, c, 2 * h, 2 * w], mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    # ---- sequences
    def dense(self, x, out):
        *batch, k = self.shape[x]
        y = self.node("MatMul", [x, self.weight(k, out, fan_in=2 * k)], [*batch, out])
        return self.node("Add", [y, self.constant(self.random.normal(0, .02, out).astype(np.float32), "b")], [*batch, out])

    def layer_norm(self, x):
        d = self.shape[x][-1]
        return self.node("LayerNormalization", [x, self.constant(np.ones(d, np.float32)), self.constant(np.zeros(d, np.float32))], self.shape[x], axis=-1, epsilon=1e-5)

    def gelu(self, x):
        s = self.shape[x]
        e = self.node("Erf", [self.node("Mul", [x, self.constant(np.float32(2 ** -.5))], s)], s)
        return self.node("Mul", [self.node("Mul", [x, self.node("Add", [e, self.constant(np.float32(1))], s)], s), self.constant(np.float32(.5))], s)

    def reshape(self, x, shape):
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x, perm):
        return self.node("Transpose", [x], [self.shape[x][p] for p in perm], perm=perm)

    def attention(self, x, heads, causal):
        n, s, d = self.shape[x]
        head = d // heads
        q, k, v = (self.reshape(self.dense(x, d), [n, s, heads, head]) for _ in range(3))
        q, v, k = self.transpose(q, [0, 2, 1, 3]), self.transpose(v, [0, 2, 1, 3]), self.transpose(k, [0, 2, 3, 1])
        scores = self.node("MatMul", [q, k], [n, heads, s, s])
        scores = self.node("Mul", [scores, self.constant(np.float32(head ** -.5))], [n, heads, s, s])
        if causal:
            mask = np.triu(np.full((1, 1, s, s), -1e9, np.float32), 1)
            scores = self.node("Add", [scores, self.constant(mask, "mask")], [n, heads, s, s])
        p = self.node("Softmax", [scores], [n, heads, s, s], axis=-1)
        y = self.transpose(self.node("MatMul", [p, v], [n, heads, s, head]), [0, 2, 1, 3])
        return self.dense(self.reshape(y, [n, s, d]), d)

    def embedding(self, ids, vocabulary, d):
        return self.node("Gather", [self.constant(self.random.normal(0, .5, (vocabulary, d)).astype(np.float32), "table"), ids], [*self.shape[ids], d], axis=0)


# ---- the networks ---------------------------------------------------------------------------------------------------
def mlp():
    n = Net()
    x = n.input("x", [1, 784])
    for width in (512, 256):
        x = n.relu(n.dense(x, width))
    return n.model("mlp", [n.dense(x, 10)])


def lenet():
    n = Net()
    x = n.input("x", [1, 1, 28, 28])
    x = n.max_pool(n.relu(n.conv(x, 6, 5, bias=True)), 2, 2)
    x = n.max_pool(n.relu(n.conv(x, 16, 5, bias=True)), 2, 2)
    x = n.node("Flatten", [x], [1, 16 * 7 * 7], axis=1)
    for width in (120, 84):
        x = n.relu(n.dense(x, width))
    return n.model("lenet", [n.dense(x, 10)])


def chain():
    """Pointwise operators on a large tensor: what fusion is for."""
    n = Net()
    x = n.input("x", [1, 64, 256, 256])
    y = x
    for _ in range(4):
        s = n.node("Sigmoid", [y], n.shape[y])
        y = n.node("Mul", [y, s], n.shape[y])
        y = n.add(y, x)
        y = n.node("Tanh", [y], n.shape[y])
    return n.model("chain", [y])


def resnet(name, blocks, bottleneck):
    n = Net()
    x = n.max_pool(n.conv_bn_relu(n.input("x", [1, 3, 224, 224]), 64, 7, 2), 3, 2, 1)
    for stage, count in enumerate(blocks):
        width = 64 << stage
        out = width * 4 if bottleneck else width
        for i in range(count):
            stride = 2 if i == 0 and stage > 0 else 1
            if bottleneck:
                y = n.conv_bn_relu(n.conv_bn_relu(x, width, 1), width, 3, stride)
                y = n.conv_bn_relu(y, out, 1, act=None)
            else:
                y = n.conv_bn_relu(n.conv_bn_relu(x, width, 3, stride), out, 3, act=None)
            if stride != 1 or n.shape[x][1] != out:
                x = n.conv_bn_relu(x, out, 1, stride, act=None)
            x = n.relu(n.add(y, x))
    return n.model(name, [n.dense(n.global_pool(x), 1000)])


def mobilenet_v2(n=None):
    n = n or Net()
    x = n.conv_bn_relu(n.input("x", [1, 3, 224, 224]), 32, 3, 2, act="relu6")
    for expand, channels, count, first_stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for i in range(count):
            stride, c = (first_stride if i == 0 else 1), n.shape[x][1]
            y = n.conv_bn_relu(x, c * expand, 1, act="relu6") if expand != 1 else x
            y = n.conv_bn_relu(y, c * expand, 3, stride, groups=c * expand, act="relu6")
            y = n.conv_bn_relu(y, channels, 1, act=None)
            x = n.add(x, y) if stride == 1 and c == channels else y
    x = n.conv_bn_relu(x, 1280, 1, act="relu6")
    return n.model("mobilenet_v2", [n.dense(n.global_pool(x), 1000)])


def unet():
    n = Net()
    def block(x, c):
        return n.conv_bn_relu(n.conv_bn_relu(x, c, 3), c, 3)
    x, skips = n.input("x", [1, 3, 128, 128]), []
    for c in (32, 64, 128):
        x = block(x, c)
        skips.append(x)
        x = n.max_pool(x, 2, 2)
    x = block(x, 256)
    for c in (128, 64, 32):
        x = block(n.concat([n.conv(n.upsample(x), c, 3), skips.pop()]), c)
    return n.model("unet", [n.conv(x, 2, 1, bias=True)])


def transformer(name, sequence, layers, d, heads, vocabulary, causal, logits):
    n = Net()
    ids = n.input("ids", [1, sequence], TensorProto.INT64)
    x = n.embedding(ids, vocabulary, d)
    x = n.node("Add", [x, n.constant(n.random.normal(0, .1, (1, sequence, d)).astype(np.float32), "position")], n.shape[x])
    for _ in range(layers):
        if causal:  # pre-norm, as GPT
            x = n.add(x, n.attention(n.layer_norm(x), heads, True))
            x = n.add(x, n.dense(n.gelu(n.dense(n.layer_norm(x), 4 * d)), d))
        else:       # post-norm, as BERT
            x = n.layer_norm(n.add(x, n.attention(x, heads, False)))
            x = n.layer_norm(n.add(x, n.dense(n.gelu(n.dense(x, 4 * d)), d)))
    if causal:
        x = n.layer_norm(x)
    return n.model(name, [n.dense(x, vocabulary) if logits else x])


def lstm():
    n = Net()
    steps, hidden = 128, 256
    x = n.embedding(n.input("ids", [steps, 1], TensorProto.INT64), 1000, hidden)
    for _ in range(2):
        w = n.random.uniform(-1, 1, (1, 4 * hidden, hidden)).astype(np.float32) * hidden ** -.5
        r = n.random.uniform(-1, 1, (1, 4 * hidden, hidden)).astype(np.float32) * hidden ** -.5
        b = n.random.uniform(-1, 1, (1, 8 * hidden)).astype(np.float32) * hidden ** -.5
        y = n.node("LSTM", [x, n.constant(w), n.constant(r), n.constant(b)], [steps, 1, 1, hidden], hidden_size=hidden)
        x = n.reshape(y, [steps, 1, hidden])
    return n.model("lstm", [n.dense(x, 1000)])


NETS = {
    "mlp": mlp, "lenet": lenet, "chain": chain,
    "resnet18": lambda: resnet("resnet18", [2, 2, 2, 2], False),
    "resnet50": lambda: resnet("resnet50", [3, 4, 6, 3], True),
    "mobilenet_v2": mobilenet_v2, "unet": unet, "lstm": lstm,
    "bert_small": lambda: transformer("bert_small", 128, 6, 384, 12, 8000, False, False),
    "gpt_small": lambda: transformer("gpt_small", 64, 6, 384, 6, 8000, True, True),
}
