"""Random operators, whose numbers no other implementation draws: what is known of the distribution, and that seeds repeat.

    u = RandomUniform() -> mean, variance, smallest >= low, largest < high"""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from suite import add, model_of

N = 100000


def node(op, ins, outs, **attrs):
    return helper.make_node(op, ins.split(), outs.split(), **attrs)


def const(name, a):
    return numpy_helper.from_array(np.asarray(a), name)


# Mean, variance and third central moment of r, in double.
MOMENTS = [node("Cast", "r", "d", to=TensorProto.DOUBLE), node("ReduceMean", "d", "mean", keepdims=0), node("Sub", "d mean", "c"), node("Mul", "c c", "cc"),
           node("ReduceMean", "cc", "variance", keepdims=0), node("Mul", "cc c", "ccc"), node("ReduceMean", "ccc", "skew", keepdims=0)]
# How unlike neighbours are: the mean product of deviations a step apart, 0 for independent draws.
LAGGED = [node("Slice", "c first last", "c0"), node("Slice", "c second end", "c1"), node("Mul", "c0 c1", "lag"), node("ReduceMean", "lag", "lagged", keepdims=0)]
ENDS = [const("first", np.int64([0])), const("last", np.int64([N - 1])), const("second", np.int64([1])), const("end", np.int64([N]))]


def distribution(name, draws, feeds, mean, variance, skew, atol, low=None, high=None, lag=True, inits=()):
    nodes, outs, want = draws + MOMENTS, ["mean", "variance", "skew"], [np.float64(v) for v in (mean, variance, skew)]
    inits = list(inits)
    if lag:
        nodes, outs, want, inits = nodes + LAGGED, outs + ["lagged"], want + [np.float64(0)], inits + ENDS
    if low is not None:
        nodes = nodes + [node("ReduceMin", "d", "smallest", keepdims=0), node("ReduceMax", "d", "largest", keepdims=0), node("GreaterOrEqual", "smallest low", "above"),
                         node("LessOrEqual", "largest high", "below")]
        inits += [const("low", np.float64(low)), const("high", np.float64(high))]
        outs, want = outs + ["above", "below"], want + [np.array(True), np.array(True)]
    add(name, model_of(nodes, feeds, outs, inits), feeds, want, rtol=0, atol=atol)


for dtype, to in (("f32", TensorProto.FLOAT), ("f64", TensorProto.DOUBLE), ("f16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)):
    small = 0.03 if dtype in ("f16", "bf16") else 0.02
    distribution(f"random_uniform_{dtype}", [node("RandomUniform", "", "r", shape=[N], dtype=to, low=-1.0, high=3.0, seed=3.0)], {}, 1, 16 / 12, 0, small * 2, -1, 3)
    distribution(f"random_normal_{dtype}", [node("RandomNormal", "", "r", shape=[N], dtype=to, mean=0.5, scale=1.5, seed=4.0)], {}, 0.5, 2.25, 0, small * 5, -12, 12)
distribution("random_uniform_default", [node("RandomUniform", "", "r", shape=[N])], {}, 0.5, 1 / 12, 0, 0.01, 0, 1)
distribution("random_normal_default", [node("RandomNormal", "", "r", shape=[N])], {}, 0, 1, 0, 0.05, -8, 8)
X = np.zeros((N,), np.float32)
distribution("random_uniform_like", [node("RandomUniformLike", "x", "r", low=2.0, high=4.0)], {"x": X}, 3, 4 / 12, 0, 0.02, 2, 4)
distribution("random_normal_like", [node("RandomNormalLike", "x", "r", mean=-1.0, scale=0.5, seed=9.0)], {"x": X}, -1, 0.25, 0, 0.02, -5, 3)
distribution("random_uniform_like_f64", [node("RandomUniformLike", "x", "r", dtype=TensorProto.DOUBLE)], {"x": X.astype(np.int64)}, 0.5, 1 / 12, 0, 0.01, 0, 1)
for p in (0.0, 0.1, 0.5, 0.9, 1.0):
    feeds = {"x": np.full((N,), p, np.float32)}
    for seed in ({}, {"seed": 5.0}):
        distribution(f"bernoulli_{int(p * 10)}_{'seeded' if seed else 'free'}", [node("Bernoulli", "x", "r", **seed)], feeds, p, p * (1 - p), p * (1 - p) * (1 - 2 * p), 0.012, 0, 1)
distribution("bernoulli_f64", [node("Bernoulli", "x", "r", dtype=TensorProto.INT32)], {"x": np.full((N,), 0.25)}, 0.25, 0.1875, 0.09375, 0.012, 0, 1)
# Every element has its own probability: halves of the vector, 0 and 1.
feeds = {"x": np.repeat(np.float32([0, 1]), 50)}
add("bernoulli_certain", model_of([node("Bernoulli", "x", "r", dtype=TensorProto.BOOL)], feeds, ["r"]), feeds, [np.repeat([False, True], 50)])

# Multinomial: logarithms of weights; how often each class comes.
weights = np.float32([0.1, 0.2, 0.3, 0.4])
logs = np.log(np.stack([weights, weights[::-1], weights])).astype(np.float32) + np.float32([[0], [1.5], [-2]])
for dtype, to in (("i32", TensorProto.INT32), ("i64", TensorProto.INT64)):
    classes = [node("OneHot", "r depth values", "hits", axis=-1), node("ReduceMean", "hits axis", "often", keepdims=0)]
    inits = [const("depth", np.int64(4)), const("values", np.float32([0, 1])), const("axis", np.int64([1]))]
    add(f"multinomial_{dtype}", model_of([node("Multinomial", "x", "r", sample_size=20000, dtype=to, seed=2.0)] + classes, {"x": logs}, ["often"], inits), {"x": logs},
        [np.stack([weights, weights[::-1], weights])], rtol=0, atol=0.02)
feeds = {"x": np.log(np.float32([[1e-30, 1, 1e-30], [1, 1e-30, 1e-30]]))}
add("multinomial_certain", model_of([node("Multinomial", "x", "r", sample_size=5)], feeds, ["r"]), feeds, [np.int32([[1] * 5, [0] * 5])])

# The same seed twice gives the same numbers, another seed or none gives others.
for op, attrs in (("RandomUniform", {"shape": [64]}), ("RandomNormal", {"shape": [64]}), ("Bernoulli", None), ("Multinomial", {"sample_size": 64})):
    feeds = {} if attrs and "shape" in attrs else {"x": np.full((1, 64) if op == "Multinomial" else (64,), 0.5, np.float32)}
    ins = "x" if feeds else ""
    draws = [node(op, ins, f"r{i}", **({"seed": s} if s is not None else {}), **(attrs or {})) for i, s in enumerate((7.0, 7.0, 8.0, None, None))]
    same = []
    for i, (a, b) in enumerate(((0, 1), (0, 2), (0, 3), (3, 4))):
        same += [node("Sub", f"r{a} r{b}", f"d{i}"), node("Abs", f"d{i}", f"e{i}"), node("ReduceMax", f"e{i}", f"m{i}", keepdims=0), node("Cast", f"m{i}", f"s{i}", to=TensorProto.BOOL)]
    add(f"{op.lower()}_seeds", model_of(draws + same, feeds, ["s0", "s1", "s2", "s3"]), feeds, [np.array(v) for v in (False, True, True, True)])
# Training with dropout keeps the mean; what is kept is scaled.
feeds = {"x": np.ones((N,), np.float32)}
distribution("dropout_training", [node("Dropout", "x ratio on", "r", seed=1)], feeds, 1, 0.25 / 0.75, 0.25 * (-1) + 0.75 * (1 / 3) ** 3, 0.02, 0, 4 / 3 + 1e-6,
             inits=[const("ratio", np.float32(0.25)), const("on", np.array(True))])
