"""Small whole models of many families, each at several sizes with open dims, and once with every dim pinned.

    model("gcn", "float[N,8] x, int64[2,E] edge", "float[N,4] y", BODY, {"w": W}, sizes)

BODY is text as onnx.parser reads it; weights are arrays by name; sizes: feeds, one dict each. Detection heads, decoders with Loop, point
clouds, audio front ends, quantized and old exports, pipelines of ai.onnx.ml, graphs, text."""
import numpy as np
import onnx
from onnx import numpy_helper, parser

from suite import add, f32, i8, rng, u8


def build(inputs, outputs, body, weights, opset, domains, functions):
    imports = ", ".join(f'"{d}":{v}' for d, v in {"": opset, **domains}.items())
    m = parser.parse_model(f"<ir_version: {10 if opset < 23 else 11}, opset_import: [{imports}]> g ({inputs}) => ({outputs}) {{ {body} }} {functions}")
    m.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items())
    return m


def model(name, inputs, outputs, body, weights, sizes, opset=21, domains={}, functions="", rtol=1e-4, atol=1e-5, want="ort"):
    for i, feeds in enumerate(sizes):
        add(f"model_{name}_{i}", build(inputs, outputs, body, weights, opset, domains, functions), feeds, want, rtol, atol)
    pinned = build(inputs, outputs, body, weights, opset, domains, functions)
    for x in pinned.graph.input:
        if x.type.HasField("tensor_type"):
            for d, n in zip(x.type.tensor_type.shape.dim, np.shape(sizes[0][x.name])):
                d.dim_value = n
    add(f"model_{name}_pinned", pinned, sizes[0], want, rtol, atol)


def ints(*shape, high, seed=0):
    return rng(seed + sum(shape)).integers(0, high, shape).astype(np.int64)


# ---- detection ------------------------------------------------------------------------------------------------------------
# An anchor head: boxes and scores of two levels, non-maximum suppression, the picked boxes with their scores.
SSD = """
    f1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
    r1 = Relu (f1)
    f2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
    r2 = Relu (f2)
    a1 = Conv <kernel_shape=[1,1]> (r1, h)
    a2 = Conv <kernel_shape=[1,1]> (r2, h)
    t1 = Transpose <perm=[0,2,3,1]> (a1)
    t2 = Transpose <perm=[0,2,3,1]> (a2)
    shape = Constant <value = int64[3] {0, -1, 7}> ()
    one = Constant <value_ints = [1]> ()
    s1 = Shape <start=0, end=1> (x)
    minus = Constant <value_ints = [-1]> ()
    seven = Constant <value_ints = [7]> ()
    to = Concat <axis=0> (s1, minus, seven)
    b1 = Reshape (t1, to)
    b2 = Reshape (t2, to)
    all = Concat <axis=1> (b1, b2)
    cuts = Constant <value_ints = [4, 3]> ()
    raw, logits = Split <axis=2> (all, cuts)
    corner = Sigmoid (raw)
    scores0 = Sigmoid (logits)
    scores = Transpose <perm=[0,2,1]> (scores0)
    most = Constant <value_ints = [5]> ()
    iou = Constant <value_float = 0.4> ()
    low = Constant <value_float = 0.5> ()
    picked = NonMaxSuppression (corner, scores, most, iou, low)
    at = Gather <axis=1> (picked, columns)
    box = GatherND (corner, at)
    score = GatherND (scores, picked)
"""
W_SSD = {"w1": f32(8, 3, 3, 3, scale=0.4), "w2": f32(8, 8, 3, 3, scale=0.3), "h": f32(7, 8, 1, 1), "columns": np.array([0, 2], np.int64)}
model("ssd", "float[N,3,H,W] x", "int64[K,3] picked, float[K,4] box, float[K] score", SSD, W_SSD,
      [{"x": f32(1, 3, 16, 12)}, {"x": f32(2, 3, 9, 33)}, {"x": np.zeros((1, 3, 4, 4), np.float32)}])

# Two stages: the best boxes of a map, features of them by RoiAlign, a class each.
RCNN = """
    map = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
    heat0 = ReduceMean <keepdims=0> (map, channels)
    flat = Flatten <axis=1> (heat0)
    count0 = Size (flat)
    count1 = Min (count0, most)
    one = Constant <value_ints = [1]> ()
    k = Reshape (count1, one)
    score, at0 = TopK <axis=1> (flat, k)
    at = Squeeze (at0, zero)
    width0 = Shape <start=3, end=4> (x)
    row = Div (at, width0)
    column = Mod (at, width0)
    y0 = Cast <to=1> (row)
    x0 = Cast <to=1> (column)
    y1 = Add (y0, size)
    x1 = Add (x0, size)
    b4 = Concat <axis=0> (x0, y0, x1, y1)
    four = Constant <value_ints = [4, -1]> ()
    b5 = Reshape (b4, four)
    boxes = Transpose <perm=[1,0]> (b5)
    length = Shape (at)
    batch = ConstantOfShape <value = int64[1] {0}> (length)
    crop = RoiAlign <output_height=2, output_width=2, sampling_ratio=2, spatial_scale=1.0, mode="avg"> (map, boxes, batch)
    vector = Flatten <axis=1> (crop)
    logits = Gemm (vector, c)
    y = Softmax <axis=-1> (logits)
"""
model("rcnn", "float[1,3,H,W] x", "float[K,4] boxes, float[K,5] y", RCNN,
      {"w": f32(4, 3, 3, 3), "c": f32(16, 5, scale=0.3), "channels": np.array([1], np.int64), "most": np.int64(6), "zero": np.array([0], np.int64), "size": np.array([3], np.float32)},
      [{"x": f32(1, 3, 10, 7)}, {"x": f32(1, 3, 1, 3)}, {"x": f32(1, 3, 20, 31)}])

# ---- decoders with Loop ---------------------------------------------------------------------------------------------------
# Encoder GRU, greedy decoder that ends at token 0, the tokens as scan outputs.
SEQ2SEQ = """
    e = Gather (embed, ids)
    all, h3 = GRU <hidden_size=8> (e, wx, wh)
    h0 = Squeeze (h3, zero)
    start = Constant <value_ints = [1]> ()
    yes = Constant <value = bool {1}> ()
    last, h, tokens = Loop (steps, yes, start, h0) <body = turn (int64 i, bool c, int64[1] t, float[1,8] s) => (bool more, int64[1] t1, float[1,8] s1, int64[1] out) {
        v = Gather (embed, t)
        cat = Concat <axis=1> (v, s)
        z = Gemm (cat, dw)
        s1 = Tanh (z)
        logits = Gemm (s1, dv)
        t1 = ArgMax <axis=1, keepdims=0> (logits)
        stop = Constant <value_int = 0> ()
        scalar = Squeeze (t1)
        same = Equal (scalar, stop)
        more = Not (same)
        out = Identity (t1)
    }>
"""
W_S2S = {"embed": f32(12, 6), "wx": f32(1, 24, 6), "wh": f32(1, 24, 8), "zero": np.array([0], np.int64), "dw": f32(14, 8), "dv": f32(8, 12)}
model("seq2seq", "int64[T,1] ids, int64 steps", "int64[1] last, float[1,8] h, int64[S,1] tokens", SEQ2SEQ, W_S2S,
      [{"ids": ints(5, 1, high=12), "steps": np.int64(9)}, {"ids": ints(1, 1, high=12), "steps": np.int64(0)}, {"ids": ints(17, 1, high=12, seed=3), "steps": np.int64(30)}])

# Three hypotheses: the best continuations of all, their histories gathered and grown in each turn.
BEAM = """
    yes = Constant <value = bool {1}> ()
    s, y = Loop (steps, yes, score0, ids0) <body = turn (int64 i, bool c, float[3,1] a, int64[3,L] h) => (bool more, float[3,1] a1, int64[3,L1] h1) {
        lastc = Gather <axis=1> (h, end)
        lastv = Squeeze (lastc, end1)
        e = Gather (table, lastv)
        p = LogSoftmax <axis=1> (e)
        total = Add (p, a)
        row = Reshape (total, flat)
        best, at = TopK <axis=0> (row, three)
        parent = Div (at, seven)
        token = Mod (at, seven)
        old = Gather <axis=0> (h, parent)
        new = Unsqueeze (token, end1)
        h1 = Concat <axis=1> (old, new)
        a1 = Unsqueeze (best, end1)
        more = Identity (c)
    }>
"""
model("beam", "int64 steps, float[3,1] score0, int64[3,P] ids0", "float[3,1] s, int64[3,Q] y", BEAM,
      {"end": np.array([-1], np.int64), "end1": np.array([1], np.int64), "table": f32(7, 7), "flat": np.array([-1], np.int64), "three": np.array([3], np.int64), "seven": np.int64(7)},
      [{"steps": np.int64(6), "score0": np.array([[0], [-9], [-9]], np.float32), "ids0": np.ones((3, 1), np.int64)},
       {"steps": np.int64(0), "score0": np.zeros((3, 1), np.float32), "ids0": np.ones((3, 4), np.int64)}])

# ---- point clouds ---------------------------------------------------------------------------------------------------------
POINTNET = """
    t0 = Conv <kernel_shape=[1]> (x, w1)
    t1 = Relu (t0)
    t2 = ReduceMax <keepdims=0> (t1, last)
    t3 = Gemm (t2, w2)
    nine = Constant <value_ints = [-1, 3, 3]> ()
    t4 = Reshape (t3, nine)
    turn = Add (t4, eye)
    moved = MatMul (turn, x)
    f0 = Conv <kernel_shape=[1]> (moved, w1)
    f1 = InstanceNormalization (f0, scale, bias)
    f2 = LeakyRelu <alpha=0.1> (f1)
    global0 = ReduceMax <keepdims=1> (f2, last)
    shape = Shape (f2)
    global = Expand (global0, shape)
    cat = Concat <axis=1> (f2, global)
    y0 = Conv <kernel_shape=[1]> (cat, w3)
    y = LogSoftmax <axis=1> (y0)
"""
model("pointnet", "float[B,3,P] x", "float[B,5,P] y", POINTNET,
      {"w1": f32(8, 3, 1), "last": np.array([2], np.int64), "w2": f32(8, 9, scale=0.2), "eye": np.eye(3, dtype=np.float32), "scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32), "w3": f32(5, 16, 1)},
      [{"x": f32(2, 3, 17)}, {"x": f32(1, 3, 2)}, {"x": f32(3, 3, 64)}])

# Farthest point sampling in a Loop, then the k nearest neighbours of each sample.
SAMPLE = """
    yes = Constant <value = bool {1}> ()
    first = Constant <value_ints = [0]> ()
    shape = Shape <start=0, end=1> (p)
    far = ConstantOfShape <value = float[1] {1e10}> (shape)
    d, l, picked0 = Loop (count, yes, far, first) <body = turn (int64 i, bool c, float[P] best, int64[1] at) => (bool more, float[P] best1, int64[1] at1, int64[1] out) {
        q = Gather (p, at)
        diff = Sub (p, q)
        sq = Mul (diff, diff)
        dist = ReduceSum <keepdims=0> (sq, one)
        best1 = Min (best, dist)
        at1 = ArgMax <axis=0, keepdims=1> (best1)
        more = Identity (c)
        out = Identity (at)
    }>
    picked = Reshape (picked0, flat)
    center = Gather (p, picked)
    c1 = Unsqueeze (center, one)
    p1 = Unsqueeze (p, zero)
    delta = Sub (c1, p1)
    norm = ReduceL2 <keepdims=0> (delta, two)
    three = Constant <value_ints = [3]> ()
    near, index = TopK <axis=1, largest=0> (norm, three)
    group = Gather (p, index)
    y = Sub (group, c1)
"""
model("sampling", "float[P,3] p, int64 count", "int64[S] picked, float[S,3] near, float[S,3,3] y", SAMPLE,
      {"one": np.array([1], np.int64), "zero": np.array([0], np.int64), "two": np.array([2], np.int64), "flat": np.array([-1], np.int64)},
      [{"p": f32(20, 3), "count": np.int64(4)}, {"p": f32(3, 3), "count": np.int64(3)}])

# ---- sound ----------------------------------------------------------------------------------------------------------------
MEL = """
    size = Constant <value_int = 32> ()
    hop = Constant <value_int = 8> ()
    window = HannWindow (size)
    pads = Constant <value = int64[4] {0, 16, 0, 16}> ()
    padded = Pad <mode="reflect"> (x, pads)
    s = STFT (padded, hop, window)
    power0 = ReduceSumSquare <keepdims=0> (s, last)
    bands = Constant <value_int = 10> ()
    rate = Constant <value_int = 8000> ()
    low = Constant <value_float = 50.0> ()
    high = Constant <value_float = 3800.0> ()
    mel = MelWeightMatrix (bands, size, rate, low, high)
    m = MatMul (power0, mel)
    floor = Constant <value_float = 0.000001> ()
    m1 = Max (m, floor)
    l = Log (m1)
    mean = ReduceMean <keepdims=1> (l, time)
    y = Sub (l, mean)
"""
model("mel", "float[B,T] x", "float[B,F,10] y", MEL, {"last": np.array([3], np.int64), "time": np.array([1], np.int64)},
      [{"x": f32(2, 50)}, {"x": f32(1, 33)}, {"x": f32(1, 64)}], opset=17 + 1, rtol=1e-3, atol=1e-3)

# Spectrum, a gain per bin, back, overlap and add.
VOCODER = """
    length = Constant <value_int = 16> ()
    back = Constant <value_int = 0> ()
    spectrum = DFT <onesided=0> (x, length, one)
    g = Mul (spectrum, gain)
    wave = DFT <inverse=1> (g, length, one)
    re = Gather <axis=2> (wave, first)
    three = Unsqueeze (re, zero)
    frames = Transpose <perm=[0,2,1]> (three)
    y = ConvTranspose <kernel_shape=[16], strides=[4]> (frames, eye)
"""
model("vocoder", "float[F,16,1] x", "float[1,1,T] y", VOCODER,
      {"one": np.int64(1), "gain": np.abs(f32(1, 16, 1)), "first": np.int64(0), "zero": np.array([0], np.int64), "eye": np.eye(16, dtype=np.float32).reshape(16, 1, 16)},
      [{"x": f32(3, 16, 1)}, {"x": f32(1, 16, 1)}], opset=20)

# ---- quantized ------------------------------------------------------------------------------------------------------------
QDQ = """
    q0 = QuantizeLinear (x, sx, zx)
    x1 = DequantizeLinear (q0, sx, zx)
    w1 = DequantizeLinear <axis=0> (cw, cs, cz)
    c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x1, w1, bias)
    r1 = Relu (c1)
    q1 = QuantizeLinear (r1, s1, z1)
    x2 = DequantizeLinear (q1, s1, z1)
    w2 = DequantizeLinear <axis=0> (dw, cs, cz)
    c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], group=8> (x2, w2)
    sum = Add (c2, x2)
    q2 = QuantizeLinear (sum, s2, zx)
    x3 = DequantizeLinear (q2, s2, zx)
    pool = GlobalAveragePool (x3)
    flat = Flatten (pool)
    w3 = DequantizeLinear (fw, sx, fz)
    y = Gemm <transB=1> (flat, w3)
"""
W_QDQ = {"sx": np.float32(0.03), "zx": np.uint8(120), "cw": i8(8, 3, 3, 3), "cs": np.linspace(0.002, 0.01, 8, dtype=np.float32), "cz": np.zeros(8, np.int8), "bias": f32(8), "s1": np.float32(0.05), "z1": np.uint8(0),
         "dw": i8(8, 1, 3, 3), "s2": np.float32(0.06), "fw": i8(4, 8), "fz": np.int8(0)}
model("qdq_net", "float[N,3,H,W] x", "float[N,4] y", QDQ, W_QDQ, [{"x": f32(2, 3, 8, 9)}, {"x": f32(1, 3, 1, 1)}, {"x": f32(3, 3, 15, 4)}], rtol=1e-2, atol=2e-2)

# As quantizers of 2019 wrote it: integers between QLinear operators.
QLINEAR = """
    q = QuantizeLinear (x, s, z)
    c = QLinearConv <kernel_shape=[3,3], pads=[1,1,1,1]> (q, s, z, w, ws, wz, s2, z2, b)
    shape = Shape (c)
    first = Slice (shape, begin, finish)
    rest = Constant <value = int64[1] {-1}> ()
    to = Concat <axis=0> (first, rest)
    f = Reshape (c, to)
    d = DequantizeLinear (f, s2, z2)
    y = ReduceSum <axes=[1], keepdims=1> (d)
"""
model("qlinear_old", "float[N,2,H,W] x", "float[N,1] y", QLINEAR,
      {"s": np.float32(0.02), "z": np.uint8(128), "w": u8(4, 2, 3, 3), "ws": np.float32(0.01), "wz": np.uint8(130), "s2": np.float32(0.08), "z2": np.uint8(100), "b": np.array([5, -3, 100, 0], np.int32),
       "begin": np.array([0], np.int64), "finish": np.array([1], np.int64)}, [{"x": f32(2, 2, 6, 8)}, {"x": f32(1, 2, 2, 2)}], opset=10, rtol=1e-3, atol=0.2)

DYNAMIC = """
    q, s, z = DynamicQuantizeLinear (x)
    m = MatMulInteger (q, w, z, wz)
    f = Cast <to=1> (m)
    scale = Mul (s, ws)
    v = Mul (f, scale)
    g = Add (v, b)
    half = Constant <value_float = 0.5> ()
    root = Constant <value_float = 1.4142135> ()
    e0 = Div (g, root)
    e1 = Erf (e0)
    one = Constant <value_float = 1.0> ()
    e2 = Add (e1, one)
    e3 = Mul (g, e2)
    e = Mul (e3, half)
    q2, s2, z2 = DynamicQuantizeLinear (e)
    m2 = MatMulInteger (q2, w2, z2)
    f2 = Cast <to=1> (m2)
    scale2 = Mul (s2, ws)
    y = Mul (f2, scale2)
"""
model("dynamic_int8", "float[B,T,16] x", "float[B,T,8] y", DYNAMIC, {"w": i8(16, 24), "wz": i8(24, seed=5), "ws": np.float32(0.004), "b": f32(24), "w2": i8(24, 8)},
      [{"x": f32(2, 5, 16)}, {"x": f32(1, 1, 16)}, {"x": np.zeros((1, 3, 16), np.float32)}], rtol=1e-2, atol=1e-2)

# ---- ai.onnx.ml -----------------------------------------------------------------------------------------------------------
ML = {"ai.onnx.ml": 3}
PIPELINE = """
    filled = ai.onnx.ml.Imputer <imputed_value_floats=[0.5, -1.0, 2.0], replaced_value_float=nan> (x)
    scaled = ai.onnx.ml.Scaler <offset=[0.1, 0.2, 0.3], scale=[2.0, 0.5, 1.5]> (filled)
    hot0 = ai.onnx.ml.OneHotEncoder <cats_int64s=[3, 5, 9], zeros=1> (c)
    hot = Reshape (hot0, to)
    all = ai.onnx.ml.FeatureVectorizer <inputdimensions=[3, 3]> (scaled, hot)
    label, score = ai.onnx.ml.TreeEnsembleClassifier <classlabels_int64s=[10, 20, 30], post_transform="SOFTMAX",
        nodes_treeids=[0,0,0,0,0,1,1,1], nodes_nodeids=[0,1,2,3,4,0,1,2], nodes_featureids=[0,3,0,0,0,2,0,0], nodes_values=[0.2,0.5,0.0,0.0,0.0,1.0,0.0,0.0],
        nodes_modes=["BRANCH_LEQ","BRANCH_GT","LEAF","LEAF","LEAF","BRANCH_LT","LEAF","LEAF"], nodes_truenodeids=[1,3,0,0,0,1,0,0], nodes_falsenodeids=[2,4,0,0,0,2,0,0],
        nodes_missing_value_tracks_true=[0,0,0,0,0,1,0,0], class_treeids=[0,0,0,1,1], class_nodeids=[2,3,4,1,2], class_ids=[0,1,2,0,2], class_weights=[1.5,0.5,2.0,0.25,1.0]> (all)
    best = ReduceMax <keepdims=0> (score, axis)
"""
model("pipeline", "float[N,3] x, int64[N,1] c", "int64[N] label, float[N,3] score, float[N] best", PIPELINE, {"to": np.array([-1, 3], np.int64), "axis": np.array([1], np.int64)},
      [{"x": np.where(rng(1).random((6, 3)) < 0.3, np.nan, f32(6, 3)).astype(np.float32), "c": np.array([[3], [5], [9], [4], [3], [9]], np.int64)},
       {"x": f32(1, 3), "c": np.array([[5]], np.int64)}], opset=18, domains=ML)

SVM = """
    n = ai.onnx.ml.Normalizer <norm="L2"> (x)
    b = ai.onnx.ml.Binarizer <threshold=0.1> (n)
    cat = Concat <axis=1> (n, b)
    a = ai.onnx.ml.SVMRegressor <kernel_type="RBF", kernel_params=[0.4, 0.0, 3.0], coefficients=[1.0, -0.5, 0.7], n_supports=3, rho=[0.3],
        support_vectors=[0.1,0.2,0.3,0.4, 1.0,0.0,0.5,0.1, 0.9,0.8,0.1,0.0]> (cat)
    l = ai.onnx.ml.LinearRegressor <coefficients=[0.5,-1.0,2.0,0.25], intercepts=[0.1], targets=1> (cat)
    y = Add (a, l)
"""
model("svm", "float[N,2] x", "float[N,1] y", SVM, {}, [{"x": f32(5, 2)}, {"x": f32(1, 2)}], opset=18, domains=ML)

TEXT = """
    low = StringNormalizer <case_change_action="NONE", is_case_sensitive=1, stopwords=["the"]> (words)
    count = TfIdfVectorizer <max_gram_length=2, max_skip_count=1, min_gram_length=1, mode="TFIDF", ngram_counts=[0, 3], ngram_indexes=[0,1,2,3,4],
        pool_strings=["cat","sat","mat","cat","sat","sat","mat"], weights=[1.0,2.0,0.5,1.5,3.0]> (low)
    row = Unsqueeze (count, zero)
    label, score = ai.onnx.ml.LinearClassifier <classlabels_strings=["no","yes"], coefficients=[0.5,-1.0,0.25,1.0,2.0, -0.5,1.0,-0.25,0.0,1.0], intercepts=[0.1,-0.2], post_transform="SOFTMAX"> (row)
    code = ai.onnx.ml.LabelEncoder <keys_strings=["no","yes"], values_floats=[0.0,1.0]> (label)
    long = StringConcat (label, mark)
"""
model("text", "string[T] words", "string[1] label, float[1,2] score, float[1] code, string[1] long", TEXT, {"zero": np.array([0], np.int64), "mark": np.array(["!"], dtype=object)},
      [{"words": np.array(["the", "cat", "sat", "on", "the", "mat"], dtype=object)}, {"words": np.array(["dog"], dtype=object)}], opset=20, domains=ML)

LOOKUP = """
    low = StringNormalizer <case_change_action="LOWER"> (words)
    id = ai.onnx.ml.LabelEncoder <keys_strings=["cat","sat","mat"], values_int64s=[1,2,3], default_int64=0> (low)
    e = Gather (table, id)
    mean = ReduceMean <keepdims=1> (e, zero)
    y = Gemm (mean, w)
    ok = RegexFullMatch <pattern="[a-z]+"> (words)
    part, n = StringSplit <delimiter="a"> (words)
"""
model("lookup", "string[T] words", "float[1,2] y, bool[T] ok, int64[T] n", LOOKUP, {"table": f32(4, 5), "w": f32(5, 2), "zero": np.array([0], np.int64)},
      [{"words": np.array(["cat", "Mat", "saat", "x1"], dtype=object)}, {"words": np.array([""], dtype=object)}], opset=20, domains=ML, want="onnx")

# ---- graphs ---------------------------------------------------------------------------------------------------------------
GCN = """
    source = Gather <axis=0> (edge, zero)
    target = Gather <axis=0> (edge, one)
    n = Shape <start=0, end=1> (x)
    nothing = ConstantOfShape <value = float[1] {0}> (n)
    ones0 = Shape (target)
    ones = ConstantOfShape <value = float[1] {1}> (ones0)
    degree0 = ScatterElements <axis=0, reduction="add"> (nothing, target, ones)
    unit = Constant <value_float = 1.0> ()
    degree = Add (degree0, unit)
    root = Sqrt (degree)
    inverse = Reciprocal (root)
    a = Gather (inverse, source)
    b = Gather (inverse, target)
    norm0 = Mul (a, b)
    norm = Unsqueeze (norm0, axis)
    h = MatMul (x, w)
    message0 = Gather (h, source)
    message = Mul (message0, norm)
    place = Unsqueeze (target, axis)
    own0 = Unsqueeze (degree, axis)
    own = Div (h, own0)
    sum = ScatterND <reduction="add"> (own, place, message)
    y = Relu (sum)
"""
model("gcn", "float[N,8] x, int64[2,E] edge", "float[N,4] y", GCN, {"w": f32(8, 4), "zero": np.int64(0), "one": np.int64(1), "axis": np.array([1], np.int64)},
      [{"x": f32(6, 8), "edge": ints(2, 14, high=6)}, {"x": f32(1, 8), "edge": np.zeros((2, 0), np.int64)}, {"x": f32(9, 8), "edge": ints(2, 1, high=9)}])

# Attention over the edges into a node, and the mean of what distinct groups of nodes have.
GAT = """
    source = Gather <axis=0> (edge, zero)
    target = Gather <axis=0> (edge, one)
    h = MatMul (x, w)
    hs = Gather (h, source)
    ht = Gather (h, target)
    cat = Concat <axis=1> (hs, ht)
    e0 = MatMul (cat, a)
    e1 = LeakyRelu <alpha=0.2> (e0)
    e = Squeeze (e1, axis)
    n = Shape <start=0, end=1> (x)
    least = ConstantOfShape <value = float[1] {-1e30}> (n)
    most = ScatterElements <reduction="max"> (least, target, e)
    m = Gather (most, target)
    d = Sub (e, m)
    p = Exp (d)
    nothing = ConstantOfShape (n)
    total = ScatterElements <reduction="add"> (nothing, target, p)
    t = Gather (total, target)
    alpha0 = Div (p, t)
    alpha = Unsqueeze (alpha0, axis)
    weighted = Mul (hs, alpha)
    shape = Shape (h)
    empty = ConstantOfShape (shape)
    place = Unsqueeze (target, axis)
    y = ScatterND <reduction="add"> (empty, place, weighted)
    used, first, back, count = Unique <axis=0, sorted=1> (target)
    kept = Gather (y, used)
"""
model("gat", "float[N,6] x, int64[2,E] edge", "float[N,3] y, int64[U] used, int64[U] count, float[U,3] kept", GAT,
      {"w": f32(6, 3), "a": f32(6, 1), "zero": np.int64(0), "one": np.int64(1), "axis": np.array([1], np.int64)},
      [{"x": f32(5, 6), "edge": ints(2, 11, high=5)}, {"x": f32(2, 6), "edge": ints(2, 3, high=2)}])

SAGE = """
    mask = Greater (degree, limit)
    kept = Compress <axis=0> (x, mask)
    where0 = NonZero (mask)
    index = Transpose <perm=[1,0]> (where0)
    mean = ReduceMean <keepdims=1> (kept, zero)
    centered = Sub (kept, mean)
    norm = LpNormalization <axis=1, p=2> (centered)
    gram = Einsum <equation="id,jd->ij"> (norm, norm)
    up = Trilu <upper=1> (gram)
    back = ScatterND (x, index, norm)
"""
model("sage", "float[N,4] x, int64[N] degree", "float[K,K] up, float[N,4] back", SAGE, {"limit": np.int64(2), "zero": np.array([0], np.int64)},
      [{"x": f32(7, 4), "degree": ints(7, high=6)}, {"x": f32(3, 4), "degree": np.array([9, 9, 9], np.int64)}])

# ---- old exports ----------------------------------------------------------------------------------------------------------
OLD7 = """
    c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
    n = BatchNormalization (c, g, b, m, v)
    d = Dropout <ratio=0.5> (n)
    r = PRelu (d, slope)
    p = AveragePool <kernel_shape=[2,2], strides=[2,2], count_include_pad=1, pads=[1,1,1,1]> (r)
    u = Upsample <mode="nearest", scales=[1.0,1.0,2.0,2.0]> (p)
    z = Pad <pads=[0,0,1,0,0,0,0,1], value=0.25> (u)
    s = Slice <axes=[2,3], starts=[1,0], ends=[2147483647,-1]> (z)
    h = Softmax (s)
    t, k = TopK <axis=3, k=2> (s)
    f = Squeeze <axes=[0]> (t)
    y = Clip <min=-0.5, max=0.5> (f)
"""
model("opset7", "float[1,2,H,W] x", "float[3,P,2] y, float[1,3,P,Q] h", OLD7,
      {"w": f32(3, 2, 3, 3), "g": np.ones(3, np.float32), "b": f32(3), "m": f32(3, seed=1), "v": np.abs(f32(3, seed=2)) + 0.5, "slope": np.full((3, 1, 1), 0.2, np.float32)},
      [{"x": f32(1, 2, 5, 6)}, {"x": f32(1, 2, 1, 2)}, {"x": f32(1, 2, 12, 3)}], opset=7)

OLD9 = """
    n = Shape (x)
    zero = ConstantOfShape <value = float[1] {-1}> (n)
    some = NonZero (x)
    hot = OneHot <axis=-1> (ids, depth, values)
    big = Greater (x, zero)
    w = Where (big, x, zero)
    k = Scatter <axis=0> (w, at, update)
    s = Sinh (k)
    e = EyeLike <k=1> (k)
    y = Add (s, e)
    up = Upsample <mode="linear"> (image, scales)
"""
model("opset9", "float[A,B] x, int64[I] ids, int64[U,V] at, float[U,V] update, float[1,1,H,W] image", "float[A,B] y, float[I,5] hot, int64[2,K] some, float[1,1,P,Q] up", OLD9,
      {"depth": np.int64(5), "values": np.array([0, 3], np.float32), "scales": np.array([1, 1, 2, 3], np.float32)},
      [{"x": np.round(f32(3, 4), 0), "ids": ints(4, high=5), "at": np.array([[2, 0, 1, 0]], np.int64), "update": f32(1, 4), "image": f32(1, 1, 3, 2)},
       {"x": f32(2, 2), "ids": np.array([-1], np.int64), "at": np.array([[1]], np.int64), "update": f32(1, 1), "image": f32(1, 1, 1, 1)}], opset=9)


# ---- new operators and functions ------------------------------------------------------------------------------------------
DECODER = """
    n = RMSNormalization <axis=-1, epsilon=0.00001> (x, g)
    q0 = MatMul (n, wq)
    k0 = MatMul (n, wk)
    v0 = MatMul (n, wv)
    q = RotaryEmbedding <num_heads=4> (q0, cos, sin, at)
    k = RotaryEmbedding <num_heads=2> (k0, cos, sin, at)
    o, pk, pv = Attention <is_causal=1, q_num_heads=4, kv_num_heads=2> (q, k, v0, , past_k, past_v)
    p = MatMul (o, wo)
    h = Add (x, p)
    n2 = LayerNormalization <axis=-1> (h, g)
    u = MatMul (n2, wu)
    s = Gelu <approximate="tanh"> (u)
    d = MatMul (s, wd)
    y = Add (h, d)
"""
W_DEC = {"g": np.linspace(0.5, 1.5, 32, dtype=np.float32), "wq": f32(32, 32, scale=0.2), "wk": f32(32, 16, scale=0.2), "wv": f32(32, 16, scale=0.2), "wo": f32(32, 32, scale=0.2), "wu": f32(32, 48, scale=0.2), "wd": f32(48, 32, scale=0.2),
         "cos": np.cos(np.outer(np.arange(40), 1 / 10 ** np.arange(4))).astype(np.float32), "sin": np.sin(np.outer(np.arange(40), 1 / 10 ** np.arange(4))).astype(np.float32)}


def decode(b, t, past, seed=0):
    return {"x": f32(b, t, 32, seed=seed), "at": np.tile(np.arange(past, past + t, dtype=np.int64), (b, 1)), "past_k": f32(b, 2, past, 8), "past_v": f32(b, 2, past, 8, seed=1)}


model("decoder23", "float[B,T,32] x, int64[B,T] at, float[B,2,P,8] past_k, float[B,2,P,8] past_v", "float[B,T,32] y, float[B,2,S,8] pk, float[B,2,S,8] pv", DECODER, W_DEC,
      [decode(2, 3, 4), decode(1, 1, 20), decode(1, 6, 1)], opset=23, want="onnx")

FUNCTIONS = """
<opset_import: ["":21, "local":1], domain: "local">
scaled (v, factor) => (r) { r0 = Mul (v, factor) r = Softsign (r0) }
<opset_import: ["":21, "local":1], domain: "local">
block <slope> (v, m) => (r) { a = MatMul (v, m) l = LeakyRelu <alpha: float = @slope> (a) two = Constant <value_float = 2.0> () r = local.scaled (l, two) }
"""
model("functions", "float[N,4] x", "float[N,4] y", "h = local.block <slope=0.3> (x, w) y = local.block <slope=-0.5> (h, w)", {"w": f32(4, 4)}, [{"x": f32(3, 4)}, {"x": f32(1, 4)}],
      domains={"local": 1}, functions=FUNCTIONS)

# ---- images and sequences -------------------------------------------------------------------------------------------------
PREPARE = """
    f = Cast <to=1> (image)
    c = Transpose <perm=[2,0,1]> (f)
    b = Unsqueeze (c, zero)
    h = Shape <start=0, end=1> (image)
    w = Shape <start=1, end=2> (image)
    short = Min (h, w)
    s0 = Cast <to=1> (short)
    eight = Constant <value_floats = [8.0]> ()
    ratio = Div (eight, s0)
    one = Constant <value_floats = [1.0, 1.0]> ()
    scales = Concat <axis=0> (one, ratio, ratio)
    r = Resize <mode="linear", coordinate_transformation_mode="half_pixel", antialias=1> (b, , scales)
    size = Constant <value_ints = [8, 8]> ()
    crop = CenterCropPad <axes=[2,3]> (r, size)
    d = Sub (crop, mean)
    y = Div (d, deviation)
"""
model("prepare", "uint8[H,W,3] image", "float[1,3,8,8] y", PREPARE,
      {"zero": np.array([0], np.int64), "mean": np.array([120, 110, 100], np.float32).reshape(1, 3, 1, 1), "deviation": np.array([58, 57, 56], np.float32).reshape(1, 3, 1, 1)},
      [{"image": u8(12, 17, 3)}, {"image": u8(20, 9, 3)}, {"image": u8(8, 8, 3)}], opset=20, rtol=1e-3, atol=1e-3)

# A spatial transformer: the picture is turned by a matrix that a small net reads off it.
TRANSFORMER = """
    p = GlobalAveragePool (x)
    f = Flatten (p)
    t0 = Gemm (f, w, identity)
    to = Constant <value_ints = [-1, 2, 3]> ()
    theta = Reshape (t0, to)
    size = Shape (x)
    grid = AffineGrid <align_corners=0> (theta, size)
    y = GridSample <mode="linear", padding_mode="reflection", align_corners=0> (x, grid)
"""
model("spatial", "float[N,2,H,W] x", "float[N,2,H,W] y", TRANSFORMER, {"w": f32(2, 6, scale=0.2), "identity": np.array([1, 0, 0, 0, 1, 0], np.float32)},
      [{"x": f32(2, 2, 6, 5)}, {"x": f32(1, 2, 1, 9)}], opset=20, rtol=1e-3, atol=1e-3)

PIECES = """
    parts = SplitToSequence <axis=0> (x, cuts)
    mapped = SequenceMap <body = each (float[P,3] v) => (float[3] r) { r = ReduceMax <keepdims=0> (v, zero) }> (parts)
    y = ConcatFromSequence <axis=0, new_axis=1> (mapped)
    n = SequenceLength (parts)
    last = SequenceAt (parts, minus)
"""
model("pieces", "float[T,3] x, int64[K] cuts", "float[K,3] y, int64 n, float[L,3] last", PIECES, {"zero": np.array([0], np.int64), "minus": np.int64(-1)},
      [{"x": f32(7, 3), "cuts": np.array([2, 1, 4], np.int64)}, {"x": f32(2, 3), "cuts": np.array([2], np.int64)}])

BRANCH = """
    n = Size (x)
    limit = Constant <value_int = 12> ()
    large = Greater (n, limit)
    y = If (large) <then_branch = big () => (float[A] r) {
        flat = Constant <value_ints = [-1]> ()
        v = Reshape (x, flat)
        four = Constant <value_ints = [4]> ()
        r, i = TopK (v, four)
    }, else_branch = small () => (float[B] r) {
        r = ReduceSum <keepdims=0> (x, axis)
    }>
    z = CumSum <reverse=1> (y, zero)
"""
model("branch", "float[N,3] x", "float[M] z", BRANCH, {"axis": np.array([0], np.int64), "zero": np.int64(0)}, [{"x": f32(3, 3)}, {"x": f32(6, 3)}, {"x": f32(1, 3)}])

# Kalman filter as a Scan with two carried values.
KALMAN = """
    m, p, track = Scan <num_scan_inputs=1, body = step (float[2,1] s, float[2,2] c, float[1,1] z) => (float[2,1] s2, float[2,2] c2, float[2,1] o) {
        s1 = MatMul (f, s)
        fc = MatMul (f, c)
        ft = Transpose (f)
        fcf = MatMul (fc, ft)
        c1 = Add (fcf, q)
        ht = Transpose (h)
        ch = MatMul (c1, ht)
        hc = MatMul (h, ch)
        v = Add (hc, r)
        k = Div (ch, v)
        e0 = MatMul (h, s1)
        e = Sub (z, e0)
        ke = MatMul (k, e)
        s2 = Add (s1, ke)
        kh = MatMul (k, h)
        khc = MatMul (kh, c1)
        c2 = Sub (c1, khc)
        o = Identity (s2)
    }> (s0, c0, z)
"""
model("kalman", "float[T,1,1] z", "float[2,1] m, float[2,2] p, float[T,2,1] track", KALMAN,
      {"f": np.array([[1, 1], [0, 1]], np.float32), "h": np.array([[1, 0]], np.float32), "q": np.eye(2, dtype=np.float32) * 0.1, "r": np.array([[0.5]], np.float32), "s0": np.zeros((2, 1), np.float32), "c0": np.eye(2, dtype=np.float32)},
      [{"z": f32(9, 1, 1)}, {"z": f32(1, 1, 1)}])

# A hash of integers in buckets: bits, shifts, remainders of negative numbers.
BUCKET = """
    u = Cast <to=12> (id)
    s = BitShift <direction="RIGHT"> (u, three)
    x = BitwiseXor (u, s)
    m = Mul (x, prime)
    t = BitShift <direction="LEFT"> (m, three)
    a = BitwiseAnd (t, mask)
    i = Cast <to=7> (a)
    b = Mod (i, buckets)
    e = Gather (table, b)
    signed = Mod (id, minus)
    f = Mod <fmod=1> (id, minus)
    y = ReduceSum <keepdims=0> (e, one)
"""
model("bucket", "int64[N,K] id", "float[N,3] y, int64[N,K] signed, int64[N,K] f", BUCKET,
      {"three": np.uint32(3), "prime": np.uint32(2654435761), "mask": np.uint32(0xFFFF0), "buckets": np.int64(11), "table": f32(11, 3), "minus": np.int64(-7), "one": np.array([1], np.int64)},
      [{"id": ints(4, 3, high=100000) - 5}, {"id": np.array([[-1, 2 ** 31, 0]], np.int64)}])

# ---- antialiased resizing by what only the run knows ------------------------------------------------------------------------
for mode in ("linear", "cubic"):
    for name, (size, to) in {"shrink": ((9, 14), (4, 5)), "grow": ((3, 4), (7, 6)), "mixed": ((16, 3), (1, 9))}.items():
        for exclude in (0, 1):
            feeds = {"x": f32(1, 2, *size), "to": np.array([1, 2, *to], np.int64)}
            model(f"resize_{mode}_{name}_{exclude}", "float[N,C,H,W] x, int64[4] to", "float[N,C,P,Q] y",
                  f'y = Resize <mode="{mode}", antialias=1, exclude_outside={exclude}, cubic_coeff_a=-0.5> (x, , , to)', {}, [feeds], want="onnx", opset=19)
    feeds = {"x": f32(1, 2, 11, 8), "scales": np.array([1, 1, 0.4, 0.63], np.float32)}
    model(f"resize_{mode}_scales", "float[N,C,H,W] x, float[4] scales", "float[N,C,P,Q] y", f'y = Resize <mode="{mode}", antialias=1> (x, , scales)', {}, [feeds], want="onnx", opset=19)
