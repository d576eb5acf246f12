"""The cases of grad.py: an operator, its operands, its attributes. Every differentiable row of ir/ops.def has at least one.

    case("Gemm", X(3, 4), X(4, 5), X(5), alpha=0.5)        X: numbers to differentiate by; I, C: constants; None: left out
"""
import numpy as np
from onnx import TensorProto, helper

node = helper.make_node
CASES = []


class Constant:
    def __init__(self, value):
        self.value = np.asarray(value)


def random(shape, low, high, seed):
    return np.random.default_rng(seed).uniform(low, high, shape)


def X(*shape, low=0.3, high=2.0, signs=False, seed=0):
    """Random numbers in [low, high); with signs=True half of them negative. Nothing lies near the kink at 0."""
    x = random(shape, low, high, 1009 * seed + sum(shape) + 7 * len(shape))
    if signs:
        x *= np.where(random(shape, 0, 1, seed + 99) < 0.5, -1.0, 1.0)
    return x


def S(*shape, **options):
    return X(*shape, signs=True, **options)


def C(value, dtype=np.float64):
    return Constant(np.asarray(value, dtype))


def I(*values):
    return Constant(np.array(values, np.int64))


def N(value):
    return Constant(np.array(value, np.int64))


def case(op, *inputs, domain="", outputs=1, wanted=None, label="", second=True, covers=(), captures=0, positive=False, **attributes):
    """outputs: how many the node has; wanted: which of them count (all by default); second: derivatives of derivatives are compared, too.
    captures: the last so many operands are not the node's but read by its regions, as $2 for number 2; positive: operand 0 is
    the condition x > 0."""
    text = " ".join([op, label, *(f"{k}={v if not hasattr(v, 'name') else 'graph'}" for k, v in attributes.items())]).replace("  ", " ")
    CASES.append({"op": op, "inputs": inputs, "attributes": attributes, "domain": domain, "outputs": outputs, "name": text, "second": second, "captures": captures, "positive": positive,
                  "wanted": range(outputs) if wanted is None else wanted, "covers": {op, *covers}})


def variants(op, *inputs, **lists):
    """One case per value of one attribute: variants("Elu", x, alpha=[0.5, 2.0])."""
    (name, values), = lists.items()
    for v in values:
        case(op, *inputs, **{name: v})


MS = "com.microsoft"

# ---- pointwise
for op in ("Abs", "Atan", "Asinh", "Cos", "Cosh", "Erf", "Exp", "Identity", "Neg", "Sigmoid", "Sin", "Sinh", "Tanh", "Softplus", "Softsign", "Mish", "Relu",
           "Elu", "Celu", "Selu", "LeakyRelu", "HardSwish", "Gelu", "Swish", "Reciprocal"):
    case(op, S(2, 3))
for op in ("Log", "Sqrt"):
    case(op, X(2, 3))
for op in ("Asin", "Acos", "Atanh", "Tan"):
    case(op, S(2, 3, low=0.1, high=0.8))
case("Acosh", X(2, 3, low=1.2, high=3))
variants("Elu", S(2, 3), alpha=[0.5, 2.0])
variants("Celu", S(2, 3), alpha=[0.5, 2.0])
case("Selu", S(2, 3), alpha=1.2, gamma=0.7)
variants("LeakyRelu", S(2, 3), alpha=[0.2])
case("HardSigmoid", S(3, 4), alpha=0.3, beta=0.4)
case("HardSwish", S(3, 4, low=0.5, high=4), label="saturated")
variants("ThresholdedRelu", S(2, 3), alpha=[0.8])
case("Shrink", S(3, 4), lambd=0.9, bias=0.3)
variants("Gelu", S(2, 3), approximate=["tanh", "none"])
variants("Swish", S(2, 3), alpha=[1.5])
for op in ("Ceil", "Floor", "Round", "Sign"):
    case(op, S(2, 3))
for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"):
    case(op, S(2, 3), S(2, 3, seed=1))
    case(op, S(2, 3), S(3, seed=1), label="broadcast")
    case(op, S(2, 1, 3), S(4, 1, seed=1), label="both broadcast")
for op in ("Max", "Min", "Sum", "Mean"):
    case(op, S(2, 3), S(2, 3, seed=1), S(3, seed=2), label="three")
    case(op, S(2, 3), label="one")
case("Mod", S(2, 3), X(2, 3, seed=1), fmod=1)
case("Pow", X(2, 3), S(2, 3, seed=1))
case("Pow", X(2, 3), S(3, seed=1), label="broadcast")
case("Pow", S(2, 3), C(2), label="square")
case("Pow", S(2, 3), C(3), label="cube")
case("Pow", S(2, 3), N(3), label="integer power")
case("Pow", X(2, 3), C(-0.5), label="root")
case("Where", Constant(np.array([[True, False, True]])), S(2, 3), S(1, seed=1))
case("Clip", S(3, 4), label="no bounds")
case("Clip", S(3, 4), C(-0.7), C(0.9))
case("Clip", S(3, 4), np.array(-0.7), np.array(0.9), label="bounds that train")
case("Clip", S(3, 4), None, C(0.9), label="from above")
case("PRelu", S(2, 3, 4), X(3, 1, seed=1))
case("SwiGLU", S(2, 3), S(2, 3, seed=1), alpha=1.3)
case("Cast", S(2, 3), to=11)
case("CastLike", S(2, 3), C(1.0))
case("BiasGelu", S(2, 3), S(3, seed=1), domain=MS)
case("FastGelu", S(2, 3), domain=MS)
case("FastGelu", S(2, 3), S(3, seed=1), domain=MS, label="bias")
case("Gelu", S(2, 3), domain=MS, label="contrib", covers=["Ms_Gelu"])
case("QuickGelu", S(2, 3), domain=MS, alpha=1.5)
case("Dropout", S(2, 3), C(0.0), Constant(np.array(True)), label="nothing dropped")
case("Dropout", S(4, 3), C(0.5), Constant(np.array(True)), label="seeded", seed=3)

# ---- movement
case("Transpose", S(2, 3, 4))
case("Transpose", S(2, 3, 4), perm=[1, 2, 0])
case("Reshape", S(2, 6), I(3, 4))
case("Flatten", S(2, 3, 4), axis=2)
case("Squeeze", S(2, 1, 3), I(1))
case("Unsqueeze", S(2, 3), I(0, 2))
case("Expand", S(2, 1, 3), I(5, 2, 4, 3))
case("ExpandDims", S(2, 3), Constant(np.array(1, np.int32)), domain=MS)
case("Concat", S(2, 3), S(2, 1, seed=1), S(2, 4, seed=2), axis=1)
case("Concat", S(2, 3), S(1, 3, seed=1), axis=-2)
case("Split", S(2, 7), I(3, 4), axis=1, outputs=2)
case("Split", S(2, 6), axis=1, num_outputs=3, outputs=3, wanted=[0, 2], label="one part unused")
case("Slice", S(4, 6), I(1, 2), I(3, 5))
case("Slice", S(4, 6), I(-3), I(-1), I(1), label="from the end")
case("Slice", S(4, 6), I(5, 0), I(-9, 4), I(1, 0), I(-2, 3), label="steps")
case("Pad", S(2, 3), I(1, 0, 2, 1))
case("Pad", S(2, 3), I(1, -1, 0, 2), np.array(0.7), label="crops, value trains")
case("Pad", S(2, 3), I(2, 1), None, I(1), label="axes")
case("Tile", S(2, 3), I(2, 3))
case("Tile", S(2, 3), I(1, 1), label="once")
case("Trilu", S(3, 4), N(1), upper=0)
case("Trilu", S(2, 3, 4))
case("Trilu", S(3, 3), domain=MS, label="contrib", covers=["Ms_Trilu"])
case("ReverseSequence", S(4, 3), I(2, 4, 1))
case("DepthToSpace", S(1, 8, 2, 3), blocksize=2, mode="DCR")
case("DepthToSpace", S(1, 8, 2, 3), blocksize=2, mode="CRD")
case("SpaceToDepth", S(1, 2, 4, 6), blocksize=2)
case("CenterCropPad", S(5, 4), I(3, 7))
case("CenterCropPad", S(5, 4), I(8), axes=[0])
case("Compress", S(3, 4), Constant(np.array([True, False, True])), axis=0)

# ---- gather and scatter
case("Gather", S(5, 3), Constant(np.array([[0, 2], [2, -1]])))
case("Gather", S(5, 3), I(2, 0, 2, 2), axis=1, label="repeated")
case("Gather", S(5, 3), N(3), label="one")
case("GatherElements", S(3, 4), Constant(np.array([[0, 2, 1, 0], [2, 2, 1, -1]])), axis=0)
case("GatherND", S(3, 4, 2), Constant(np.array([[0, 1], [2, 3], [0, 1]])))
case("GatherND", S(2, 4, 2), Constant(np.array([[1], [3]])), batch_dims=1)
INDEX = Constant(np.array([[0, 2, 1], [1, 0, 2]]))
for reduction in ("none", "add", "mul", "max", "min"):
    case("ScatterElements", S(3, 3), INDEX, S(2, 3, seed=1), axis=0, reduction=reduction)
    case("ScatterND", S(4, 3), Constant(np.array([[1], [3]])), S(2, 3, seed=1), reduction=reduction)

# ---- reductions
for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd"):
    case(op, S(2, 3, 4))
    case(op, S(2, 3, 4), I(1), keepdims=1)
    case(op, S(2, 3, 4), I(0, -1), keepdims=0)
case("ReduceLogSum", X(2, 3, 4), I(1), keepdims=0)
case("ReduceSum", S(2, 3), I(), noop_with_empty_axes=1)
case("ReduceProd", np.array([[0.0, 1.5, 2.0], [0.5, 0.0, 0.0]]), I(1), label="zeros")
for op in ("GlobalAveragePool", "GlobalMaxPool"):
    case(op, S(2, 3, 4, 5))
variants("GlobalLpPool", S(2, 3, 4, 5), p=[1, 2, 3])
variants("LpNormalization", S(2, 3, 4), p=[1, 2])
case("LpNormalization", S(2, 3, 4), axis=1)
for op in ("CumSum", "CumProd"):
    for exclusive in (0, 1):
        for reverse in (0, 1):
            case(op, S(2, 4), N(1), exclusive=exclusive, reverse=reverse)
for op in ("Softmax", "LogSoftmax"):
    variants(op, S(2, 3, 4), axis=[-1, 1, 0])

# ---- losses
LABELS = Constant(np.array([1, 0, 3, 1]))
for op in ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"):
    for reduction in ("mean", "sum", "none"):
        case(op, S(4, 5), LABELS, reduction=reduction)
        case(op, S(4, 5), LABELS, C([0.5, 1, 2, 0.3, 1]), reduction=reduction, ignore_index=3, label="weights")
    case(op, S(2, 3, 4), Constant(np.array([[0, 2, 1, 1], [2, 2, 0, 1]])), ignore_index=1, label="more dimensions")
case("SoftmaxCrossEntropyLoss", S(4, 5), LABELS, outputs=2, label="with log probabilities")

# ---- normalisations
for axis in (-1, 1):
    case("LayerNormalization", S(2, 3, 4), S(*((4,) if axis == -1 else (3, 4)), seed=1), S(*((4,) if axis == -1 else (3, 4)), seed=2), axis=axis)
    case("RMSNormalization", S(2, 3, 4), S(*((4,) if axis == -1 else (3, 4)), seed=1), axis=axis)
case("LayerNormalization", S(2, 5), S(5, seed=1), label="no bias", epsilon=0.1)
case("GroupNormalization", S(2, 4, 3, 2), S(4, seed=1), S(4, seed=2), num_groups=2)
case("InstanceNormalization", S(2, 3, 4), S(3, seed=1), S(3, seed=2))
case("BatchNormalization", S(2, 3, 4), S(3, seed=1), S(3, seed=2), S(3, seed=3), X(3, seed=4))
case("BatchNormalization", S(4, 3), S(3, seed=1), S(3, seed=2), S(3, seed=3), X(3, seed=4), label="rank 2")
case("BatchNormalization", S(3, 2, 4), S(2, seed=1), S(2, seed=2), C([0.1, 0.2]), C([1.0, 2.0]), training_mode=1, outputs=3, wanted=[0])
case("SkipLayerNormalization", S(2, 3, 4), S(2, 3, 4, seed=1), S(4, seed=2), S(4, seed=3), S(4, seed=4), domain=MS)
case("SkipSimplifiedLayerNormalization", S(2, 3, 4), S(2, 3, 4, seed=1), S(4, seed=2), domain=MS)

# ---- contractions
case("MatMul", S(2, 3), S(3, 4, seed=1))
case("MatMul", S(5, 2, 3), S(5, 3, 4, seed=1), label="batch")
case("MatMul", S(5, 2, 3), S(3, 4, seed=1), label="one matrix for all")
case("MatMul", S(2, 3), S(5, 3, 4, seed=1), label="one matrix on the left")
case("MatMul", S(2, 1, 2, 3), S(4, 3, 2, seed=1), label="both broadcast")
case("MatMul", S(3), S(3, seed=1), label="vectors")
case("MatMul", S(3), S(2, 3, 4, seed=1), label="vector on the left")
case("MatMul", S(2, 4, 3), S(3, seed=1), label="vector on the right")
for a in (0, 1):
    for b in (0, 1):
        case("Gemm", S(*((4, 2) if a else (2, 4))), S(*((3, 4) if b else (4, 3)), seed=1), S(3, seed=2), transA=a, transB=b, alpha=0.5, beta=2.0)
        case("FusedMatMul", S(2, *((4, 2) if a else (2, 4))), S(2, *((3, 4) if b else (4, 3)), seed=1), transA=a, transB=b, alpha=0.5, domain=MS)
case("Gemm", S(2, 4), S(4, 3, seed=1), label="no C")
case("Gemm", S(2, 4), S(4, 3, seed=1), S(2, 1, seed=2), label="column")
case("TransposeMatMul", S(4, 2), S(4, 3, seed=1), transA=1, domain=MS)
case("FusedGemm", S(2, 4), S(4, 3, seed=1), S(3, seed=2), activation="LeakyRelu", activation_alpha=0.2, domain=MS)

# ---- attention
case("Attention", S(1, 2, 3, 4), S(1, 2, 5, 4, seed=1), S(1, 2, 5, 4, seed=2))
case("Attention", S(1, 2, 3, 4), S(1, 2, 3, 4, seed=1), S(1, 2, 3, 4, seed=2), is_causal=1, softcap=2.0)
case("Attention", S(1, 4, 3, 4), S(1, 2, 3, 4, seed=1), S(1, 2, 3, 4, seed=2), S(3, 3, seed=3), scale=0.7, label="mask, grouped")
case("Attention", S(1, 3, 8), S(1, 3, 8, seed=1), S(1, 3, 8, seed=2), Constant(np.tril(np.ones((3, 3), bool))), q_num_heads=2, kv_num_heads=2, label="mask of bools")

# ---- pools
for op in ("MaxPool", "AveragePool"):
    case(op, S(1, 2, 5, 6), kernel_shape=[2, 2], strides=[2, 2])
    case(op, S(1, 2, 5, 6), kernel_shape=[3, 2], pads=[1, 0, 1, 1])
    case(op, S(1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[0, 1, 0, 1])
    case(op, S(2, 1, 9), kernel_shape=[3], dilations=[2])
    case(op, S(1, 1, 3, 4, 4), kernel_shape=[2, 2, 2], strides=[1, 2, 2], auto_pad="SAME_UPPER")
case("MaxPool", S(1, 2, 5, 6), kernel_shape=[2, 2], storage_order=1, outputs=2, wanted=[0])
case("AveragePool", S(1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)

# ---- convolutions
case("Conv", S(2, 3, 7), S(4, 3, 3, seed=1), S(4, seed=2), pads=[1, 2], strides=[2])
case("Conv", S(1, 2, 5, 6), S(3, 2, 3, 2, seed=1), S(3, seed=2), strides=[2, 1], pads=[1, 0, 1, 1])
case("Conv", S(2, 4, 6, 5), S(6, 2, 3, 3, seed=1), group=2, dilations=[2, 1], pads=[2, 1, 2, 1])
case("Conv", S(1, 3, 6, 6), S(3, 1, 3, 3, seed=1), S(3, seed=2), group=3, label="depthwise", auto_pad="SAME_UPPER", strides=[2, 2])
case("Conv", S(1, 2, 4, 4), S(3, 2, 1, 1, seed=1), label="1x1")
case("Conv", S(1, 1, 3, 4, 3), S(2, 1, 2, 2, 2, seed=1), S(2, seed=2), label="3-d")
case("ConvTranspose", S(1, 3, 4), S(3, 2, 3, seed=1), S(2, seed=2), strides=[2], pads=[1, 0], output_padding=[1])
case("ConvTranspose", S(1, 4, 3, 4), S(4, 3, 3, 2, seed=1), group=2, strides=[2, 1], dilations=[1, 2])
case("ConvTranspose", S(1, 2, 3, 3), S(2, 2, 2, 2, seed=1), strides=[2, 2], output_shape=[7, 7], label="wider than reached")
case("FusedConv", S(1, 2, 5, 5), S(3, 2, 3, 3, seed=1), S(3, seed=2), S(1, 3, 3, 3, seed=3), activation="Tanh", domain=MS)
case("SimplifiedLayerNormalization", S(2, 3, 4), S(4, seed=1))

# ---- recurrent: X [T, B, I], W [D, gates*H, I], R [D, gates*H, H], B [D, 2*gates*H]
def recurrent(op, gates, directions=1, lengths=False, state=True, peephole=False, x=(3, 2, 2), hidden=2, **attributes):
    small = dict(low=0.2, high=0.9)
    batch = x[0] if attributes.get("layout") else x[1]
    initial = (batch, directions, hidden) if attributes.get("layout") else (directions, batch, hidden)
    inputs = [S(*x), S(directions, gates * hidden, x[2], seed=1, **small), S(directions, gates * hidden, hidden, seed=2, **small),
              S(directions, 2 * gates * hidden, seed=3, **small), Constant(np.array([x[0], x[0] - 1], np.int32)) if lengths else None]
    inputs += [S(*initial, seed=4)] if state else []
    inputs += [S(*initial, seed=5)] if state and gates == 4 else []
    inputs += [S(directions, 3 * hidden, seed=6)] if peephole else []
    case(op, *inputs, hidden_size=hidden, outputs=3 if gates == 4 else 2, label=" ".join(["lengths"] * lengths + ["no state"] * (not state) + ["peephole"] * peephole), **attributes)


for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    recurrent(op, gates)
    recurrent(op, gates, directions=2, direction="bidirectional", lengths=True)
    recurrent(op, gates, direction="reverse", state=False)
    recurrent(op, gates, direction="reverse", lengths=True)
    recurrent(op, gates, layout=1, x=(2, 3, 2))
recurrent("LSTM", 4, peephole=True)
recurrent("LSTM", 4, input_forget=1, clip=0.8)
recurrent("GRU", 3, linear_before_reset=1, activations=["HardSigmoid", "ScaledTanh"], activation_alpha=[0.25, 1.1], activation_beta=[0.45, 0.9])
recurrent("RNN", 1, activations=["Affine"], activation_alpha=[0.6], activation_beta=[0.1])

for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    recurrent(op, gates, x=(1, 3, 2), directions=2, direction="bidirectional")


def attention_lstm(label, directions=1, layer=0, lengths=False, state=False, peephole=False, **attributes):
    steps, batch, inputs, hidden, rows, depth, width = 3, 2, 2, 2, 3, 2, 2
    states = [S(directions, batch, hidden, seed=s) if state else None for s in (4, 5)]
    case("AttnLSTM", S(steps, batch, inputs), S(directions, 4 * hidden, inputs + (layer or depth), seed=1), S(directions, 4 * hidden, hidden, seed=2), S(directions, 8 * hidden, seed=3),
         Constant(np.array([3, 2], np.int32)) if lengths else None, *states, S(directions, 3 * hidden, seed=6) if peephole else None, S(directions, hidden, width, seed=7), S(directions, depth, width, seed=8),
         S(directions, width, seed=9), S(batch, rows, depth, seed=10), Constant(np.array([2, 3], np.int32)) if lengths else None, *([S(directions, depth + hidden, layer, seed=11)] if layer else []),
         domain=MS, hidden_size=hidden, outputs=3, label=label, **attributes)


attention_lstm("context")
attention_lstm("layer", layer=3, state=True, peephole=True)
attention_lstm("both", directions=2, layer=3, lengths=True, direction="bidirectional")

# ---- control flow
def graph(inputs, outputs, *nodes):
    """inputs: (name, type); outputs: names, or (name, type) where it is no tensor of doubles; SEQ: a sequence of such tensors."""
    one = lambda n, t: helper.make_tensor_sequence_value_info(n, TensorProto.DOUBLE, None) if t == SEQ else helper.make_tensor_value_info(n, t, None)
    results = [o if isinstance(o, tuple) else (o, TensorProto.DOUBLE) for o in outputs]
    return helper.make_graph([node(op, i, o, **a) for op, i, o, a in nodes], "region", [one(*i) for i in inputs], [one(*o) for o in results])


D, BOOL, INT, SEQ = TensorProto.DOUBLE, TensorProto.BOOL, TensorProto.INT64, "sequence"
CELL = graph([("h", D), ("x", D)], ["next", "y"], ("Mul", ["x", "h"], ["m"], {}), ("Tanh", ["m"], ["next"], {}), ("Add", ["next", "x"], ["y"], {}))
case("Scan", S(2), S(4, 2, seed=1), body=CELL, num_scan_inputs=1, outputs=2)
case("Scan", S(2), S(2, 4, seed=1), body=CELL, num_scan_inputs=1, outputs=2, scan_input_axes=[1], scan_input_directions=[1], scan_output_axes=[1], scan_output_directions=[1])
PRODUCT = graph([("h", D), ("x", D)], ["next", "y"], ("Add", ["h", "x"], ["s"], {}), ("Softmax", ["s"], ["p"], {}), ("MatMul", ["p", "$2"], ["q"], {}),
                ("Tanh", ["q"], ["next"], {}), ("Identity", ["h"], ["y"], {}))
case("Scan", S(2, 3), S(4, 2, 3, seed=1), S(3, 3, seed=2), body=PRODUCT, num_scan_inputs=1, outputs=2, captures=1, label="weights from outside")
case("If", Constant(np.array(True)), S(2, 3), S(3, seed=1), captures=2, then_branch=graph([], ["a"], ("Mul", ["$1", "$2"], ["a"], {})), else_branch=graph([], ["b"], ("Exp", ["$1"], ["b"], {})))
case("If", S(), S(2, 3), S(3, seed=1), captures=2, positive=True, label="condition of the run", then_branch=graph([], ["a"], ("Mul", ["$1", "$2"], ["a"], {})),
     else_branch=graph([], ["b"], ("Exp", ["$1"], ["b"], {})))
STEP = graph([("i", INT), ("c", BOOL), ("h", D)], ["go", "next", "y"], ("Identity", ["c"], ["go"], {}), ("Cast", ["i"], ["k"], {"to": D}), ("Add", ["h", "k"], ["s"], {}),
             ("Mul", ["s", "$3"], ["m"], {}), ("Tanh", ["m"], ["next"], {}), ("Mul", ["m", "m"], ["y"], {}))
case("Loop", N(3), Constant(np.array(True)), S(2), S(2, seed=1), body=STEP, outputs=2, captures=1)
case("Loop", N(0), Constant(np.array(True)), S(2), S(2, seed=1), body=STEP, outputs=2, wanted=[0], captures=1, label="no iteration")
EARLY = graph([("i", INT), ("c", BOOL), ("h", D)], ["go", "next"], ("Mul", ["h", "$3"], ["next"], {}), ("ReduceSum", ["next"], ["s"], {"keepdims": 0}),
              ("Constant", [], ["limit"], {"value_floats": [4.0]}), ("Cast", ["limit"], ["l"], {"to": D}), ("Squeeze", ["l"], ["l0"], {}), ("Less", ["s", "l0"], ["go"], {}))
case("Loop", N(6), Constant(np.array(True)), X(2), X(2, low=1.2, high=1.5, seed=1), body=EARLY, captures=1, label="ends early")

# ---- sequences: inside a branch, since a case is one operator
TRUE, ZEROS = Constant(np.array(True)), graph([], ["no"], ("Identity", ["$1"], ["no"], {}))


def sequences(label, *operands, nodes, covers, condition=TRUE):
    """The branch's last result is y: its tanh, by which second derivatives are something, is the case's."""
    branch = graph([], ["t"], *nodes, ("Tanh", ["y"], ["t"], {}))
    case("If", condition, *operands, captures=len(operands), positive=not isinstance(condition, Constant), label=label, then_branch=branch, else_branch=ZEROS, covers=covers)


def number(name, value):
    return ("Constant", [], [name], {"value_int": value})


PAIR = ("SequenceConstruct", ["$1", "$2"], ["s"], {})
for condition in (TRUE, S()):
    when = "" if condition is TRUE else ", condition of the run"
    sequences("one of two" + when, S(2, 3), S(2, 3, seed=1), condition=condition, covers=["SequenceConstruct", "SequenceAt"],
              nodes=[PAIR, number("p", -1), ("SequenceAt", ["s", "p"], ["e"], {}), ("Mul", ["e", "$1"], ["y"], {})])
    sequences("joined" + when, S(2, 3), S(2, 3, seed=1), condition=condition, covers=["ConcatFromSequence"], nodes=[PAIR, ("ConcatFromSequence", ["s"], ["y"], {"axis": 1})])
sequences("of two sizes", S(2, 3), S(1, 3, seed=1), covers=[], nodes=[PAIR, ("ConcatFromSequence", ["s"], ["y"], {"axis": 0})])
sequences("one of two sizes", S(2, 3), S(1, 3, seed=1), covers=[], nodes=[PAIR, number("p", 1), ("SequenceAt", ["s", "p"], ["e"], {}), ("Mul", ["e", "$1"], ["y"], {})])
sequences("stacked", S(2, 3), S(2, 3, seed=1), covers=[], nodes=[PAIR, ("ConcatFromSequence", ["s"], ["y"], {"axis": -1, "new_axis": 1})])
sequences("put between and taken out", S(2, 3), S(2, 3, seed=1), covers=["SequenceInsert", "SequenceErase"],
          nodes=[PAIR, ("Mul", ["$1", "$2"], ["m"], {}), number("p", 1), ("SequenceInsert", ["s", "m", "p"], ["i"], {}), number("q", -3), ("SequenceErase", ["i", "q"], ["e"], {}),
                 ("SequenceInsert", ["e", "m"], ["j"], {}), ("SequenceErase", ["j"], ["k"], {}), ("ConcatFromSequence", ["k"], ["y"], {"axis": 0})])
sequences("put in front, larger", S(2, 3), S(3, 3, seed=1), covers=[],
          nodes=[("SequenceConstruct", ["$1"], ["s"], {}), number("p", 0), ("SequenceInsert", ["s", "$2", "p"], ["i"], {}), ("ConcatFromSequence", ["i"], ["y"], {"axis": 0})])
sequences("in slices", S(4, 3), covers=["SplitToSequence"],
          nodes=[("SplitToSequence", ["$1"], ["s"], {"axis": 1, "keepdims": 0}), number("p", 1), ("SequenceAt", ["s", "p"], ["e"], {}), ("ConcatFromSequence", ["s"], ["c"], {"axis": 0, "new_axis": 1}),
                 ("Mul", ["c", "e"], ["y"], {})])
sequences("in parts", S(2, 5), covers=[],
          nodes=[number("n", 2), ("SplitToSequence", ["$1", "n"], ["s"], {"axis": -1}), number("p", 2), ("SequenceAt", ["s", "p"], ["e"], {}), ("ReduceSum", ["e"], ["r"], {}),
                 ("ConcatFromSequence", ["s"], ["c"], {"axis": 1}), ("Mul", ["c", "r"], ["y"], {})])
sequences("in given parts", S(2, 5), covers=[],
          nodes=[("Constant", [], ["n"], {"value_ints": [1, 3, 1]}), ("SplitToSequence", ["$1", "n"], ["s"], {"axis": 1}), number("p", 1), ("SequenceAt", ["s", "p"], ["e"], {}),
                 ("ReduceSum", ["e"], ["r"], {}), ("ConcatFromSequence", ["s"], ["c"], {"axis": 1}), ("Mul", ["c", "r"], ["y"], {})])
EACH = graph([("e", D), ("w", D)], ["f"], ("Mul", ["e", "w"], ["m"], {}), ("Sigmoid", ["m"], ["f"], {}))
sequences("mapped", S(3, 2), S(1, 2, seed=1), covers=["SequenceMap"],
          nodes=[("SplitToSequence", ["$1"], ["s"], {"axis": 0}), ("SequenceMap", ["s", "$2"], ["t2"], {"body": EACH}), ("ConcatFromSequence", ["t2"], ["y"], {"axis": 0})])
GROW = graph([("i", INT), ("c", BOOL), ("h", D), ("acc", SEQ)], ["go", "next", ("longer", SEQ)], ("Identity", ["c"], ["go"], {}), ("Mul", ["h", "$2"], ["m"], {}), ("Sin", ["m"], ["next"], {}),
             ("SequenceInsert", ["acc", "next"], ["longer"], {}))
GROWN = [number("n", 3), ("SequenceEmpty", [], ["empty"], {"dtype": D}), ("Loop", ["n", "", "$1", "empty"], ["last", "all"], {"body": GROW})]
sequences("built in a loop", S(1, 2), S(1, 2, seed=1), covers=[], nodes=[*GROWN, ("ConcatFromSequence", ["all"], ["y"], {"axis": 0})])
sequences("one of those built in a loop", S(1, 2), S(1, 2, seed=1), covers=[],
          nodes=[*GROWN, number("p", 1), ("SequenceAt", ["all", "p"], ["e"], {}), ("Mul", ["e", "last"], ["y"], {})])
READ = graph([("i", INT), ("c", BOOL), ("h", D)], ["go", "next"], ("Identity", ["c"], ["go"], {}), ("SequenceAt", ["s", "i"], ["e"], {}), ("Mul", ["h", "e"], ["m"], {}), ("Add", ["m", "e"], ["next"], {}))
sequences("read in a loop", S(1, 2), S(3, 2, seed=1), covers=[],
          nodes=[("SplitToSequence", ["$2"], ["s"], {"axis": 0}), number("n", 3), ("Loop", ["n", "", "$1"], ["y"], {"body": READ})])
sequences("optional", S(2, 3), covers=["Optional", "OptionalGetElement"],
          nodes=[("Optional", ["$1"], ["o"], {}), ("OptionalGetElement", ["o"], ["e"], {}), ("Mul", ["e", "$1"], ["y"], {})])

# ---- Einsum
case("Einsum", S(2, 3), S(3, 4, seed=1), equation="ij,jk->ik")
case("Einsum", S(2, 3, 4), S(2, 4, 5, seed=1), S(2, 5, seed=2), equation="bij,bjk,bk->bi")
case("Einsum", S(2, 3, 4), equation="bij->b")
case("Einsum", S(3, 3), equation="ii->i")
case("Einsum", S(3, 3), equation="ii")
case("Einsum", S(2, 1, 3, 4), S(5, 4, 2, seed=1), equation="...ij,...jk->...ik")
case("Einsum", S(2), S(3, seed=1), equation="i,j->ij")

# ---- padding by elements of the operand
for mode in ("reflect", "edge", "wrap"):
    case("Pad", S(3, 4), I(1, 2, 2, 1), mode=mode)

# ---- windows and sampling
case("MeanVarianceNormalization", S(2, 3, 4, 2))
case("MeanVarianceNormalization", S(2, 3, 4), axes=[2])
case("LRN", S(1, 5, 2, 3), size=3, alpha=0.5, beta=0.7, bias=1.2)
case("LRN", S(2, 4), size=2, alpha=0.5)
for p in (1, 2, 3):
    case("LpPool", S(1, 2, 5, 6), kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 0, 1], p=p)
case("LpPool", S(2, 1, 7), kernel_shape=[3], strides=[2], ceil_mode=1)
case("Col2Im", S(1, 12, 4), I(4, 4), I(2, 3), pads=[0, 1, 0, 1], strides=[2, 3])
case("Col2Im", S(1, 4, 9), I(4, 4), I(2, 2))
case("MaxUnpool", S(1, 1, 2, 2), Constant(np.array([[[[5, 7], [13, 15]]]])), kernel_shape=[2, 2], strides=[2, 2])
case("MaxUnpool", S(1, 1, 2, 2), Constant(np.array([[[[5, 7], [13, 15]]]])), I(1, 1, 5, 5), kernel_shape=[2, 2], strides=[2, 2])
case("CausalConvWithState", S(2, 3, 5), S(3, 1, 4, seed=1), S(3, seed=2), S(2, 3, 3, seed=3), outputs=2, activation="silu")
case("CausalConvWithState", S(1, 2, 5), S(2, 1, 3, seed=1), outputs=2)
RESIZED = Constant(np.array([1, 1, 6, 7], np.int64))
SCALES = Constant(np.array([1, 1, 2, 3], np.float32))
case("Resize", S(1, 2, 3, 2), None, SCALES, label="nearest, whole factors")
case("Resize", S(1, 2, 3, 2), None, SCALES, label="nearest, whole factors", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
case("Resize", S(1, 1, 4, 5), None, None, RESIZED, mode="nearest")
for mode in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"):
    case("Resize", S(1, 1, 4, 5), None, None, RESIZED, mode="linear", coordinate_transformation_mode=mode)
case("Resize", S(1, 1, 4, 5), None, None, RESIZED, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1)
case("Resize", S(1, 1, 6, 7), None, None, Constant(np.array([1, 1, 3, 4], np.int64)), mode="linear", antialias=1)
case("Resize", S(1, 1, 4, 4), Constant(np.array([0.1, 0.2, 0.8, 1.2], np.float32)), None, I(5, 3), mode="linear", coordinate_transformation_mode="tf_crop_and_resize",
     axes=[2, 3], extrapolation_value=10.0)
case("AffineGrid", S(2, 2, 3), I(2, 1, 3, 4))
case("AffineGrid", S(1, 3, 4), I(1, 1, 2, 3, 2), align_corners=1)
GRID = np.random.default_rng(7).uniform(-1.3, 1.3, (1, 2, 3, 2))
for padding in ("zeros", "border", "reflection"):
    case("GridSample", S(1, 2, 4, 5), GRID, padding_mode=padding, second=padding != "reflection")
    case("GridSample", S(1, 2, 4, 5), GRID, padding_mode=padding, mode="cubic", align_corners=1, second=padding != "reflection")
case("GridSample", S(1, 2, 4, 5), Constant(GRID), mode="nearest")
case("GridSample", S(1, 1, 3, 4, 2), np.random.default_rng(8).uniform(-0.9, 0.9, (1, 1, 2, 2, 3)))
case("DeformConv", S(1, 2, 4, 4), S(2, 2, 2, 2, seed=1), X(1, 8, 3, 3, low=0.1, high=0.4, seed=2), S(2, seed=3), S(1, 4, 3, 3, seed=4))
case("DeformConv", S(1, 4, 4, 4), S(2, 2, 2, 2, seed=1), X(1, 16, 3, 3, low=0.1, high=0.4, seed=2), group=2, offset_group=2)
ROIS = C([[0.5, 0.7, 3.2, 2.9], [1.1, 0.2, 4.4, 3.6]])
for mode in ("avg", "max"):
    for ratio in (0, 2):
        case("RoiAlign", S(1, 2, 5, 6), ROIS, I(0, 0), output_height=2, output_width=3, sampling_ratio=ratio, mode=mode, second=mode == "avg")
case("MaxRoiPool", S(1, 2, 5, 6), C([[0, 0, 1, 3, 3], [0, 2, 0, 5, 4]]), pooled_shape=[2, 2])
case("MaxRoiPool", S(2, 1, 5, 5), C([[1, 0, 0, 4, 4], [0, 3, 3, 9, 9], [0, 8, 8, 9, 9]]), pooled_shape=[2, 3], spatial_scale=0.9, label="beyond the image")
MASK = Constant(np.array([[[[1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 0, 1], [0, 0, 0, 1, 1]]]], np.int32))
case("MaxpoolWithMask", S(1, 2, 4, 5), MASK, domain=MS, kernel_shape=[2, 2], strides=[2, 2])
case("MaxpoolWithMask", S(1, 2, 4, 5), MASK, domain=MS, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
for mode in ("bilinear", "nearest"):
    case("CropAndResize", S(2, 2, 5, 4), C([[0.11, 0.07, 0.83, 0.94], [0.9, 0.31, 0.2, 0.6], [-0.3, 0.2, 0.61, 1.3]]), Constant(np.array([0, 1, 0], np.int32)),
         Constant(np.array([3, 2], np.int32)), domain=MS, mode=mode, extrapolation_value=0.7)
case("CropAndResize", S(1, 2, 5, 4), np.array([[0.11, 0.07, 0.83, 0.94]]), Constant(np.array([0], np.int32)), Constant(np.array([2, 3], np.int32)), domain=MS, label="by the region")
case("CropAndResize", S(1, 2, 5, 4), np.array([[0.13, 0.07, 0.83, 0.94]]), Constant(np.array([0], np.int32)), Constant(np.array([1, 1], np.int32)), domain=MS, label="one point")

# ---- transforms
case("DFT", S(1, 5, 1), None, N(1))
case("DFT", S(1, 6, 2), None, N(1), label="complex")
case("DFT", S(1, 6, 2), None, N(1), inverse=1)
case("DFT", S(1, 6, 1), None, N(1), onesided=1)
case("DFT", S(1, 5, 1), None, N(1), onesided=1)
case("DFT", S(2, 5, 3, 1), N(8), N(1), label="filled with zeros")
case("DFT", S(1, 9, 1), N(4), N(1), onesided=1, label="cut")
case("DFT", S(1, 4, 2), N(6), N(1), onesided=1, inverse=1)
case("STFT", S(1, 10, 1), N(3), X(4), N(4))
case("STFT", S(2, 10, 1), N(2), None, N(5), onesided=0)
case("Det", S(3, 3))
case("Det", S(2, 2, 2))
case("Det", np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.5, 1.5, 1.0]]), label="singular")
case("Inverse", np.array([[3.0, 1.0, 0.5], [0.2, -2.0, 0.7], [1.0, 0.4, 2.5]]), domain=MS)
case("Inverse", np.array([[[3.0, 1.0], [0.2, -2.0]], [[0.3, 1.5], [2.0, 0.1]]]), domain=MS, label="batch")

# ---- selection
case("TopK", S(3, 5), I(2), outputs=2, wanted=[0])
case("TopK", S(5, 3), I(2), axis=0, largest=0, outputs=2, wanted=[0])
case("TensorScatter", S(2, 5, 3), S(2, 2, 3, seed=1), I(1, 3))
case("TensorScatter", S(2, 4, 3), S(2, 2, 3, seed=1), I(3, 1), mode="circular")
ANGLES = np.random.default_rng(5).uniform(0, 3, (4, 2))
case("RotaryEmbedding", S(1, 2, 3, 4), C(np.cos(ANGLES)), C(np.sin(ANGLES)), Constant(np.array([[0, 2, 3]])))
case("RotaryEmbedding", S(1, 3, 8), C(np.cos(ANGLES)[None, :3]), C(np.sin(ANGLES)[None, :3]), num_heads=2, interleaved=1)
case("RotaryEmbedding", S(1, 3, 8), Constant(np.array([[0, 2, 3]])), C(np.cos(ANGLES)), C(np.sin(ANGLES)), domain=MS, num_heads=2, covers=["Ms_RotaryEmbedding"], label="contrib")

# ---- linear attention
for rule, extra in (("linear", []), ("gated", [S(1, 3, 2, seed=4)]), ("delta", [None, X(1, 3, 2, low=0.2, high=0.9, seed=5)]),
                    ("gated_delta", [S(1, 3, 4, seed=4), X(1, 3, 1, low=0.2, high=0.9, seed=5)])):
    case("LinearAttention", S(1, 3, 8, low=0.1, high=0.7), S(1, 3, 4, seed=1, low=0.1, high=0.7), S(1, 3, 6, seed=2), S(1, 2, 2, 3, seed=3), *extra, q_num_heads=4, kv_num_heads=2,
         outputs=2, update_rule=rule)
case("LinearAttention", S(1, 3, 4), S(1, 3, 4, seed=1), S(1, 3, 4, seed=2), domain=MS, q_num_heads=2, kv_num_heads=2, update_rule="linear", outputs=2,
     label="contrib", covers=["Ms_LinearAttention"])
case("BiasSplitGelu", S(2, 6), S(6, seed=1), domain=MS)

# ---- attention of other makers
case("MultiHeadAttention", S(1, 3, 4), S(1, 3, 4, seed=1), S(1, 3, 4, seed=2), domain=MS, num_heads=2)
case("Attention", S(1, 3, 4), S(4, 12, seed=1), S(12, seed=2), domain=MS, num_heads=2, unidirectional=1, label="contrib", covers=["Ms_Attention"])
case("EmbedLayerNormalization", Constant(np.array([[0, 2, 1]], np.int32)), Constant(np.array([[0, 1, 1]], np.int32)), S(3, 4), S(5, 4, seed=1), S(2, 4, seed=2), S(4, seed=3),
     S(4, seed=4), domain=MS)
MODIFIER = helper.make_graph([node("Tanh", ["s"], ["m"])], "modifier", *([helper.make_tensor_value_info(v, D, ["b", "h", "q", "k"])] for v in "sm"))
case("FlexAttention", S(1, 2, 3, 4), S(1, 2, 5, 4, seed=1), S(1, 2, 5, 4, seed=2), domain="ai.onnx.preview", score_mod=MODIFIER)

# ---- integers times a scale: the scale trains
WEIGHTS = Constant(np.array([[3, -5, 7], [1, 0, -2]], np.int8))
case("DequantizeLinear", WEIGHTS, X(2), Constant(np.array([1, -2], np.int8)), axis=0)
case("DequantizeLinear", WEIGHTS, np.array(0.3))
case("DequantizeLinear", WEIGHTS, np.array(0.3), Constant(np.array(2, np.int8)), domain=MS, label="contrib", covers=["Ms_DequantizeLinear"])

# ---- com.microsoft: through their expansions
for metric in ("euclidean", "sqeuclidean"):
    case("CDist", S(3, 2), S(4, 2, seed=1), domain=MS, metric=metric)
case("SampleOp", S(2, 3), domain=MS)
case("UnfoldTensor", S(2, 5), domain=MS, dim=-1, size=3, step=2)
case("ConvTransposeWithDynamicPads", S(1, 2, 3, 3), S(2, 2, 3, 3, seed=1), N([1, 0, 1, 2]), S(2, seed=2), domain=MS, strides=[2, 2])
case("GridSample", S(1, 2, 4, 5), GRID, domain=MS, mode="bilinear", padding_mode="border", label="contrib", covers=["Ms_GridSample"])
case("NhwcConv", S(1, 4, 4, 2), S(3, 3, 3, 2, seed=1), S(3, seed=2), domain=MS, pads=[1, 1, 1, 1])
case("NhwcMaxPool", S(1, 4, 4, 2), domain=MS, kernel_shape=[2, 2])
case("CausalConvWithState", S(1, 2, 4), S(2, 1, 3, seed=1), S(2, seed=2), S(1, 2, 2, seed=3), domain=MS, outputs=2, label="contrib", covers=["Ms_CausalConvWithState"])
CODES = np.random.default_rng(11).integers(0, 256, 96, dtype=np.uint8)
case("MatMulNBits", S(2, 32), Constant(CODES.reshape(3, 2, 16)[:, :1]), C(np.array([0.1, 0.2, 0.3])), domain=MS, K=32, N=3, bits=4, block_size=32)
case("MatMulBnb4", S(2, 32), Constant(CODES[:48]), C(np.array([0.1, 0.2, 0.3])), domain=MS, K=32, N=3, block_size=32, quant_type=1)
case("MoE", S(3, 4), S(3, 2, seed=1), S(2, 5, 4, seed=2), S(2, 5, seed=3), S(2, 4, 5, seed=4), S(2, 4, seed=5), domain=MS, k=2, activation_type="silu")
case("GroupQueryAttention", S(1, 3, 8), S(1, 3, 4, seed=1), S(1, 3, 4, seed=2), None, None, Constant(np.array([2], np.int32)), Constant(np.array(3, np.int32)), domain=MS,
     num_heads=4, kv_num_heads=2)

# ---- com.microsoft: decoders and packed batches
I32 = lambda v: Constant(np.array(v, np.int32))
case("MultiHeadAttention", S(1, 1, 4), S(1, 1, 4, seed=1), S(1, 1, 4, seed=2), None, None, None, S(1, 2, 3, 2, seed=3), S(1, 2, 3, 2, seed=4), I32([1]), domain=MS, label="shared", num_heads=2, outputs=3)
case("DecoderMaskedMultiHeadAttention", S(2, 1, 4), S(2, 1, 4, seed=1), S(2, 1, 4, seed=2), None, None, S(2, 2, 3, 2, seed=3), S(2, 2, 3, 2, seed=4), I32([2]), None, I32([[[1, 0, 0], [1, 0, 1]]]),
     domain=MS, num_heads=2, past_present_share_buffer=1, outputs=3)
FLAGS = lambda *flags: [Constant(np.array([bool(f)])) for f in flags]
DECODER = S(2, 1, 4), S(3, 1, 4, seed=1), S(4, 4, seed=2), S(4, 8, seed=3), S(12, seed=4)
case("DecoderAttention", *DECODER, None, S(1, 2, 2, 2, seed=5), S(1, 2, 2, 2, seed=6), *FLAGS(0, 1, 1, 0), domain=MS, num_heads=2, outputs=3, label="self")
case("DecoderAttention", *DECODER, Constant(np.array([[False, True, False]])), None, None, *FLAGS(1, 0, 0, 1), domain=MS, num_heads=2, outputs=3, label="cross")
case("DecoderMaskedSelfAttention", S(2, 1, 3), S(3, 12, seed=1), S(12, seed=2), None, S(2, 2, 2, 3, 2, seed=3), None, I32([1]), domain=MS, num_heads=2, past_present_share_buffer=1, outputs=2)
PACKED = I32([[0, 2, 3], [1, 4, 5]]), I32([0, 1, 3])
case("PackedMultiHeadAttention", S(3, 4), S(3, 4, seed=1), S(3, 4, seed=2), S(12, seed=3), *PACKED, domain=MS, num_heads=2)
case("PackedAttention", S(3, 4), S(4, 12, seed=1), S(12, seed=2), *PACKED, domain=MS, num_heads=2)
case("RemovePadding", S(2, 3, 2), I32([1, 2]), domain=MS, outputs=4, wanted=[0])
case("RestorePadding", S(3, 2), PACKED[0], domain=MS)

# ---- com.microsoft: signals and words
case("Rfft", S(2, 6), domain=MS)
case("Rfft", S(3, 4), domain=MS, signal_ndim=2)
case("Irfft", S(2, 4, 2), domain=MS, signal_ndim=1)
case("WordConvEmbedding", I32([[1, 2, 0], [0, 0, 0]]), S(3, 1, 2, 2), S(3, seed=1), S(3, 2, seed=2), domain=MS)
case("SparseToDenseMatMul", S(4, 2), S(3, 4, seed=1), domain=MS, transA=1, transB=1, alpha=0.5)

# ---- com.microsoft: fused operators, gates and positions; experimental operators
case("BiasAdd", S(2, 3, 4), S(4, seed=1), S(2, 3, 4, seed=2), domain=MS)
case("BiasDropout", S(2, 3), S(3, seed=1), S(2, 3, seed=2), domain=MS)
case("BiasSoftmax", S(2, 3, 4), S(2, 1, 4, seed=1), domain=MS, axis=2, is_inner_broadcast=1)
case("ComplexMul", S(3, 2), S(3, 2, seed=1), domain=MS)
case("ComplexMulConj", S(3, 2), S(3, 2, seed=1), domain=MS)
case("FusedMatMulActivation", S(2, 3), S(3, 4, seed=1), domain=MS, activation="Tanh", alpha=0.5)
case("GemmFastGelu", S(2, 3), S(3, 4, seed=1), S(4, seed=2), domain=MS)
case("GroupNorm", S(1, 2, 3, 4), S(4, seed=1), S(4, seed=2), domain=MS, groups=2, activation=1)
case("NhwcFusedConv", S(1, 4, 4, 2), S(3, 2, 3, 3, seed=1), S(3, seed=2), domain=MS, pads=[1, 1, 1, 1], activation="Tanh")
case("Pad", S(2, 3), N([0, 1, 1, 0]), domain=MS, label="contrib", covers=["Ms_Pad"])
case("SkipGroupNorm", S(1, 2, 3, 4), S(4, seed=1), S(4, seed=2), S(1, 4, seed=3), S(4, seed=4), domain=MS, groups=2, activation=0, outputs=2)
case("TorchEmbedding", S(4, 3), N([[1, 0], [3, 1]]), domain=MS)
case("BranchwiseRMSNorm", S(2, 4), S(2, seed=1), domain=MS, num_branches=2)
case("EngramGate", S(1, 2, 2, 3), S(1, 2, 2, 3, seed=1), S(1, 2, 3, seed=2), S(2, 3, seed=3), S(2, 3, seed=4), S(2, 3, seed=5), domain=MS, outputs=2)
case("GatedAdd", S(2, 3), S(2, 3, seed=1), S(2, 1, seed=2), domain=MS)
case("GatedRMSNorm", S(2, 4), S(2, seed=1), S(2, 4, seed=2), domain=MS)
case("GatedRelativePositionBias", S(1, 2, 4), S(4, seed=1), S(1, 2, 2, 2, seed=2), S(2, 4, seed=3), S(4, seed=4), S(1, 2, 1, 1, seed=5), domain=MS, num_heads=2)
case("GemmaRotaryEmbedding", S(1, 2, 3), *(S(1, 2, 2, 3, seed=i) for i in range(1, 5)), domain=MS, outputs=2)
case("HyperConnectionPostMix", S(2, 2, 3), S(2, 3, seed=1), S(2, 2, seed=2), S(2, 2, 2, seed=3), domain=MS)
case("HyperConnectionPreMix", S(2, 2, 3), S(2, 2, seed=1), domain=MS, reduction_scale=0.5)
case("LinearAttentionGate", S(1, 2, 3), S(3, seed=1), S(3, seed=2), S(1, 2, 3, seed=3), domain=MS, outputs=2)
case("MRotaryEmbedding", S(1, 2, 3, 4), Constant(np.array([[[0, 2, 3]], [[1, 0, 2]], [[3, 1, 0]]])), C(np.cos(ANGLES)), C(np.sin(ANGLES)), domain=MS, mrope_section=[ANGLES.shape[1] - 2, 1, 1])
case("MoEGroupRouter", S(2, 4), S(4, seed=1), domain=MS, top_k=2, outputs=1)
case("RelativePositionBias", S(4, 2), N(3), N(3), domain=MS, max_distance=8)
case("ScaledSiLU", S(2, 3), domain=MS, alpha=0.7)
case("SwiGLU", S(2, 3), S(2, 3, seed=1), domain=MS, activation_beta=1.0, label="contrib", covers=["Ms_SwiGLU"])
case("Affine", S(2, 3), alpha=0.5, beta=1.0)
case("Crop", S(1, 1, 4, 4), border=[1, 0, 1, 2])
case("ImageScaler", S(1, 2, 2, 2), scale=0.5, bias=[1.0, 2.0])
case("ParametricSoftplus", S(2, 3), alpha=2.0, beta=0.5)
case("Scale", S(2, 3), scale=0.5)
case("ScaledTanh", S(2, 3), alpha=2.0, beta=0.5)
case("SparseAttention", S(1, 1, 4), S(1, 1, 4, seed=1), S(1, 1, 4, seed=2), S(1, 2, 4, 2, seed=3), S(1, 2, 4, 2, seed=4), I32([[0, 1, 3]]), I32([[0, 0, 1]]), I32([3]), I32([3]), domain=MS,
     num_heads=2, kv_num_heads=2, sparse_block_size=2, outputs=3)
