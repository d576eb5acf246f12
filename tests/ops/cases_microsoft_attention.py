"""com.microsoft: attention with and without caches, rotary embeddings, norms with a skip, gelus, fused products."""
import itertools

import numpy as np

from onnx import helper

from suite import MS, case, evaluate, f32, model_of, rng

# ---- GroupQueryAttention
H, KV, D = 4, 2, 16
ANGLES = np.arange(32)[:, None] / 10000 ** (np.arange(D // 2) / (D // 2))
COS, SIN = np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)
B = 2


def rms(x, weight, heads, epsilon):
    x = x.reshape(*x.shape[:2], heads, -1)
    return (x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight).reshape(*x.shape[:2], -1).astype(np.float32)


def with_norms(attrs, n_out, epsilon):
    """ONNX Runtime has no norms of queries and keys on the CPU: they are computed here, and the rest is its."""

    def run(*inputs):
        inputs = [rms(inputs[0], inputs[14], H, epsilon), rms(inputs[1], inputs[15], KV, epsilon), *inputs[2:9]]
        feeds = {f"x{i}": v for i, v in enumerate(inputs) if v is not None}
        node = helper.make_node("GroupQueryAttention", [f"x{i}" if v is not None else "" for i, v in enumerate(inputs)], [f"y{i}" for i in range(n_out)], domain=MS, **attrs)
        return tuple(evaluate(model_of([node], feeds, [f"y{i}" for i in range(n_out)]), feeds, "ort"))

    return run


def gqa(name, s, past=None, lengths=None, total=None, packed=False, extra=None, batch=B, dyn=True, n_out=3, norm=False, bias=None, positions=None, sink=None, d=D, dtype=np.float32, outs=None, tol=None, **attrs):
    """One step: s new tokens behind `past` cached rows; lengths: keys of each sequence afterwards; extra: rows of the cache in all."""
    kept = 0 if past is None else past
    lengths = [kept + s] * batch if lengths is None else lengths
    total = max(lengths) if total is None else total
    q = f32(batch, s, (H + 2 * KV) * d) if packed else f32(batch, s, H * d)
    k, v = (None, None) if packed else (f32(batch, s, KV * d, seed=1), f32(batch, s, KV * d, seed=2))
    rows = kept if extra is None else extra
    cache = [None, None] if past is None else [f32(batch, KV, rows, d, seed=3), f32(batch, KV, rows, d, seed=4)]
    rotary = [COS[:, : d // 2], SIN[:, : d // 2]] if attrs.get("do_rotary") else [None, None]
    norms = [1 + f32(d, seed=5, scale=0.1), 1 + f32(d, seed=6, scale=0.1)] if norm else [None, None]
    inputs = [q, k, v, *cache, np.int32(lengths) - 1, np.array([total], np.int32), *rotary, positions, bias, sink, None, None, *norms]
    inputs = [i.astype(dtype) if i is not None and i.dtype == np.float32 else i for i in inputs]
    while inputs[-1] is None:
        inputs.pop()
    dims = {0: ["B", "S", q.shape[2]], 5: ["B"]}
    if not packed:
        dims |= {1: ["B", "S", KV * d], 2: ["B", "S", KV * d]}
    if past is not None:
        dims |= {3: ["B", KV, "P", d], 4: ["B", KV, "P", d]}
    if positions is not None:
        dims[9] = ["B", "S"]
    case(f"gqa_{name}", "GroupQueryAttention", inputs, {"num_heads": H, "kv_num_heads": KV, **attrs}, MS, n_out=n_out, outs=outs, consts=[i for i in (7, 8, 14, 15) if i < len(inputs) and inputs[i] is not None],
         ref=with_norms({"num_heads": H, "kv_num_heads": KV, **attrs}, n_out, attrs.get("qk_norm_epsilon", 1e-6)) if norm else "ort",
         dyn=dims if dyn else None, rtol=tol or 1e-4, atol=tol or 1e-5)


for packed in (False, True):
    p = "_packed" if packed else ""
    gqa(f"prompt{p}", 5, packed=packed)
    gqa(f"prompt_rotary{p}", 5, packed=packed, do_rotary=1)
    gqa(f"step{p}", 1, past=6, packed=packed)
    gqa(f"step_rotary{p}", 1, past=6, packed=packed, do_rotary=1)
    gqa(f"step_window{p}", 1, past=6, packed=packed, do_rotary=1, local_window_size=3)
    gqa(f"prompt_window{p}", 6, packed=packed, local_window_size=2)
gqa("prompt_empty_past", 5, past=0, do_rotary=1)
gqa("step_fixed", 1, past=6, dyn=False, do_rotary=1)
gqa("steps", 3, past=4, batch=1, do_rotary=1)
gqa("steps_window", 3, past=4, batch=1, do_rotary=1, local_window_size=2)
gqa("step_interleaved", 1, past=6, do_rotary=1, rotary_interleaved=1)
gqa("prompt_interleaved", 4, do_rotary=1, rotary_interleaved=1)
gqa("step_positions", 1, past=6, do_rotary=1, positions=np.int64([[3], [9]]))
gqa("step_softcap", 1, past=6, softcap=0.7)
gqa("prompt_softcap", 4, softcap=0.7)
gqa("step_scale", 1, past=6, scale=0.3)
gqa("step_smooth", 1, past=6, smooth_softmax=1)
gqa("prompt_smooth", 4, smooth_softmax=1)
gqa("step_sink", 1, past=6, sink=f32(H))
gqa("prompt_sink", 4, sink=f32(H), do_rotary=1)
gqa("step_bias", 1, past=6, bias=f32(B, H, 1, 7))
gqa("prompt_bias", 4, bias=f32(1, 1, 4, 4))
gqa("step_norm", 1, past=6, norm=True, do_rotary=1)
gqa("prompt_norm", 4, norm=True, qk_norm_epsilon=1e-3)
gqa("step_ragged", 1, past=6, lengths=[4, 7], total=7, do_rotary=1)
gqa("step_shared", 1, past=6, lengths=[7, 7], extra=10, do_rotary=1)
gqa("step_shared_ragged", 1, past=6, lengths=[3, 7], extra=10, do_rotary=1, local_window_size=3)
gqa("steps_shared", 3, past=4, extra=10, batch=1, do_rotary=1)
gqa("prompt_shared", 4, past=0, extra=9, lengths=[4, 4], do_rotary=1)
gqa("step_f16", 1, past=6, dtype=np.float16, tol=1e-2)
gqa("prompt_output_only", 5, outs=[0], do_rotary=1)
gqa("both_ways", 4, causal=0)
gqa("step_scores", 1, past=6, n_out=4, qk_output=1)
gqa("step_probabilities", 1, past=6, n_out=4, qk_output=2)
gqa("prompt_scores", 4, n_out=4, qk_output=1, softcap=0.7)
gqa("prompt_probabilities", 4, n_out=4, qk_output=2)

# ---- MultiHeadAttention
Q, K, V = f32(2, 3, 16), f32(2, 5, 16, seed=1), f32(2, 5, 24, seed=2)
DIMS = {0: ["B", "S", 16], 1: ["B", "T", 16], 2: ["B", "T", 24]}
HEADS = {"num_heads": 4}
case("mha", "MultiHeadAttention", [Q, K, V], HEADS, MS, dyn=DIMS)
case("mha_bias", "MultiHeadAttention", [Q, K, V, f32(56)], HEADS, MS, dyn=DIMS, consts=(3,))
case("mha_scale", "MultiHeadAttention", [Q, K, V], {**HEADS, "scale": 0.3}, MS)
case("mha_causal", "MultiHeadAttention", [Q, K[:, :3], V[:, :3]], {**HEADS, "unidirectional": 1}, MS)
case("mha_mask_lengths", "MultiHeadAttention", [Q, K, V, None, np.int32([2, 5])], HEADS, MS)
case("mha_mask_keys", "MultiHeadAttention", [Q, K, V, None, np.int32([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])], HEADS, MS, dyn={**DIMS, 4: ["B", "T"]})
case("mha_mask_full", "MultiHeadAttention", [Q, K, V, None, rng(1).integers(0, 2, (2, 3, 5)).astype(np.int32) | np.eye(5, dtype=np.int32)[:3]], HEADS, MS)
case("mha_attention_bias", "MultiHeadAttention", [Q, K, V, None, None, f32(2, 4, 3, 5)], HEADS, MS)
case("mha_attention_bias_one", "MultiHeadAttention", [Q, K, V, None, None, f32(1, 1, 3, 5)], HEADS, MS)
case("mha_all", "MultiHeadAttention", [Q, K, V, f32(56), np.int32([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]), f32(1, 4, 3, 5)], HEADS, MS, consts=(3,))
case("mha_cross", "MultiHeadAttention", [Q, f32(2, 4, 5, 4), f32(2, 4, 5, 4, seed=1)], HEADS, MS)
case("mha_past", "MultiHeadAttention", [Q, K[:, :3], V[:, :3, :16], None, None, None, f32(2, 4, 2, 4), f32(2, 4, 2, 4, seed=1)], HEADS, MS, n_out=3,
     dyn={0: ["B", "S", 16], 1: ["B", "S", 16], 2: ["B", "S", 16], 6: ["B", 4, "P", 4], 7: ["B", 4, "P", 4]})

# ---- Attention
X, W = f32(2, 4, 8), f32(8, 24, scale=0.3)
base = [X, W, f32(24)]
case("ms_attention", "Attention", base, {"num_heads": 2}, MS, consts=(1, 2), dyn={0: ["B", "S", 8]})
case("ms_attention_causal", "Attention", base, {"num_heads": 2, "unidirectional": 1}, MS, consts=(1, 2))
case("ms_attention_scale", "Attention", base, {"num_heads": 2, "scale": 0.2}, MS)
case("ms_attention_sizes", "Attention", [X, f32(8, 28, scale=0.3), f32(28)], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 12]}, MS, consts=(1, 2))
case("ms_attention_lengths", "Attention", [*base, np.int32([2, 4])], {"num_heads": 2}, MS)
case("ms_attention_mask", "Attention", [*base, np.int32([[1, 1, 0, 0], [1, 1, 1, 0]])], {"num_heads": 2}, MS, dyn={0: ["B", "S", 8], 3: ["B", "S"]})
case("ms_attention_mask3", "Attention", [*base, np.tril(np.ones((2, 4, 4), np.int32))], {"num_heads": 2}, MS)
case("ms_attention_past", "Attention", [*base, None, f32(2, 2, 2, 3, 4)], {"num_heads": 2, "unidirectional": 1}, MS, n_out=2, consts=(1, 2), dyn={0: ["B", "S", 8], 4: [2, "B", 2, "P", 4]})
case("ms_attention_bias", "Attention", [*base, None, None, f32(2, 2, 4, 4)], {"num_heads": 2}, MS)
case("ms_attention_no_bias", "Attention", [X, W, None], {"num_heads": 4}, MS)

# ---- RotaryEmbedding
for interleaved in (0, 1):
    case(f"ms_rotary_{interleaved}", "RotaryEmbedding", [f32(2, 5, 64), np.int64([[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]), COS, SIN], {"interleaved": interleaved}, MS, consts=(2, 3), dyn={0: ["B", "S", 64], 1: ["B", "S"]})
    case(f"ms_rotary_{interleaved}_offset", "RotaryEmbedding", [f32(2, 4, 5, 16), np.int64([3]), COS, SIN], {"interleaved": interleaved}, MS)
    case(f"ms_rotary_{interleaved}_part", "RotaryEmbedding", [f32(2, 5, 32), np.int64([2]), COS[:, :2], SIN[:, :2]], {"interleaved": interleaved, "num_heads": 4, "rotary_embedding_dim": 4}, MS, consts=(2, 3))

# ---- norms
X, S = f32(2, 3, 8), f32(2, 3, 8, seed=1)
for dtype in (np.float32, np.float16):
    x, s, g, b, more = (a.astype(dtype) for a in (X, S, 1 + f32(8, scale=0.1), f32(8, seed=2), f32(8, seed=3)))
    t, tol = np.dtype(dtype).name, 1e-2 if dtype == np.float16 else 1e-4
    dims = {0: ["B", "S", 8], 1: ["B", "S", 8]}
    case(f"skip_norm_{t}", "SkipLayerNormalization", [x, s, g, b], {"epsilon": 1e-5}, MS, dyn=dims, consts=(2, 3), rtol=tol, atol=tol)
    case(f"skip_norm_{t}_bias", "SkipLayerNormalization", [x, s, g, b, more], {"epsilon": 1e-5}, MS, n_out=4, outs=[0, 3], rtol=tol, atol=tol)
    case(f"skip_norm_{t}_no_beta", "SkipLayerNormalization", [x, s, g], {}, MS, rtol=tol, atol=tol)
    case(f"skip_norm_{t}_row", "SkipLayerNormalization", [x, s[:1], g, b], {}, MS, rtol=tol, atol=tol)
    case(f"skip_rms_{t}", "SkipSimplifiedLayerNormalization", [x, s, g], {"epsilon": 1e-5}, MS, dyn=dims, consts=(2,), rtol=tol, atol=tol)
    case(f"skip_rms_{t}_bias", "SkipSimplifiedLayerNormalization", [x, s, g, more], {}, MS, n_out=4, outs=[0, 3], rtol=tol, atol=tol)
ids, segments = rng(1).integers(0, 10, (2, 5)).astype(np.int32), rng(2).integers(0, 2, (2, 5)).astype(np.int32)
tables = [f32(10, 8), f32(6, 8), f32(2, 8), 1 + f32(8, scale=0.1), f32(8, seed=1)]
mask = np.int32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
case("embed", "EmbedLayerNormalization", [ids, segments, *tables, mask], {"epsilon": 1e-6}, MS, n_out=2, consts=range(2, 7), dyn={0: ["B", "S"], 1: ["B", "S"], 7: ["B", "S"]})
case("embed_no_mask", "EmbedLayerNormalization", [ids, segments, *tables], {}, MS, n_out=2)
case("embed_no_segments", "EmbedLayerNormalization", [ids, None, *tables[:2], None, *tables[3:], mask], {}, MS, n_out=2)
case("embed_positions", "EmbedLayerNormalization", [ids, segments, *tables, None, np.int32([[4, 3, 2, 1, 0], [0, 1, 2, 3, 4]])], {}, MS, n_out=2)
case("embed_sum", "EmbedLayerNormalization", [ids, segments, *tables, mask], {}, MS, n_out=3)

# ---- gelus
case("bias_gelu", "BiasGelu", [f32(3, 8), f32(8)], {}, MS, dyn={0: ["N", 8]}, consts=(1,))
case("fast_gelu", "FastGelu", [f32(3, 8)], {}, MS, dyn={0: ["N", 8]})
case("fast_gelu_bias", "FastGelu", [f32(3, 8), f32(8)], {}, MS)
case("ms_gelu", "Gelu", [f32(3, 8)], {}, MS, dyn={0: ["N", 8]})
case("quick_gelu", "QuickGelu", [f32(3, 8)], {}, MS, dyn={0: ["N", 8]})
case("quick_gelu_alpha", "QuickGelu", [f32(3, 8)], {"alpha": 1.1}, MS)


def split_gelu(x, b):
    from math import erf
    left, right = np.split(x + b, 2, -1)
    return (left * right * 0.5 * (1 + np.vectorize(erf)(right / np.sqrt(2)))).astype(np.float32)


case("bias_split_gelu", "BiasSplitGelu", [f32(2, 3, 16), f32(16)], {}, MS, dyn={0: ["N", "S", 16]}, ref=split_gelu)

# ---- products
for a, b, x, y in itertools.product((0, 1), repeat=4):
    left, right = (2, 3, 4, 5), (2, 3, 5, 6)

    def laid(shape, trans, batch):
        """What the operator reads as `shape`: the last two axes swapped, or the batch's moved behind the rows'."""
        axes = list(range(4))
        if trans:
            axes[2], axes[3] = axes[3], axes[2]
        v = f32(*shape).transpose(axes)
        return np.ascontiguousarray(v.transpose(2, 0, 1, 3) if batch else v)

    case(f"fused_matmul_{a}{b}{x}{y}", "FusedMatMul", [laid(left, a, x), laid(right, b, y)], {"alpha": 0.5, "transA": a, "transB": b, "transBatchA": x, "transBatchB": y}, MS)
case("fused_matmul_dynamic", "FusedMatMul", [f32(2, 5, 4), f32(6, 5)], {"transA": 1, "transB": 1, "alpha": 2.0}, MS, dyn={0: ["B", 5, "M"], 1: ["N", 5]})
case("fused_matmul_f64", "FusedMatMul", [f32(4, 5).astype(np.float64), f32(6, 5).astype(np.float64)], {"transB": 1}, MS)
case("transpose_matmul", "TransposeMatMul", [f32(5, 4), f32(6, 5)], {"transA": 1, "transB": 1, "alpha": 2.0}, MS)
ACTIVATIONS = {"Relu": [], "Sigmoid": [], "Tanh": [], "LeakyRelu": [0.2], "Clip": [-0.5, 1.5], "HardSigmoid": [0.3, 0.4]}
for activation, params in ACTIVATIONS.items():
    image, w = f32(2, 3, 7, 6), f32(4, 3, 3, 3, scale=0.3)
    case(f"fused_conv_{activation}".lower(), "FusedConv", [image, w, f32(4)], {"activation": activation, "pads": [1, 1, 1, 1], "strides": [2, 1], **({"activation_params": params} if params else {})}, MS,
         consts=(1, 2), dyn={0: ["N", 3, "H", "W"]})
    if activation != "Clip":
        gemm = {"activation": activation, "alpha": 0.5, "beta": 2.0, "transB": 1}
        gemm |= dict(zip(("activation_alpha", "activation_beta"), params))
        case(f"fused_gemm_{activation}".lower(), "FusedGemm", [f32(5, 8), f32(6, 8), f32(6)], gemm, MS, consts=(1, 2), dyn={0: ["N", 8]})
case("fused_conv_sum", "FusedConv", [f32(2, 3, 7, 6), f32(4, 3, 3, 3, scale=0.3), f32(4), f32(2, 4, 5, 4)], {"activation": "Relu"}, MS, consts=(1, 2))
