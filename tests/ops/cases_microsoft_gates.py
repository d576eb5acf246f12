"""com.microsoft: gates, norms and positions of transformers."""
import numpy as np

from suite import MS, case, f32, rng

X = f32(2, 3, 8)
for dtype in (np.float32, np.float16):
    t, tol = np.dtype(dtype).name, 1e-2 if dtype == np.float16 else 1e-4
    x, y, gate = X.astype(dtype), f32(2, 3, 8, seed=1).astype(dtype), f32(2, 3, 1, seed=2).astype(dtype)
    near = {"rtol": tol, "atol": tol}
    if dtype == np.float32:
        case(f"gated_add_{t}", "GatedAdd", [x, y, gate], {}, MS, **near, dyn={0: ["B", "S", 8], 1: ["B", "S", 8], 2: ["B", "S", 1]})
    case(f"scaled_silu_{t}", "ScaledSiLU", [x], {"alpha": 0.7}, MS, **near)
    case(f"scaled_silu_scale_{t}", "ScaledSiLU", [x, np.array(1.5, dtype)], {}, MS, **near)
    for activation in ("silu", "swish", "sigmoid"):
        case(f"gated_rms_norm_{activation}_{t}", "GatedRMSNorm", [x, (1 + f32(4, scale=0.1)).astype(dtype), y], {"activation": activation, "epsilon": 1e-4}, MS, **near,
             dyn={0: ["B", "S", 8], 2: ["B", "S", 8]} if activation == "silu" else None)
    for name, scale in (("none", None), ("all", f32(8)), ("branch", f32(4)), ("matrix", f32(2, 4))):
        inputs = [x] if scale is None else [x, scale.astype(dtype)]
        case(f"branchwise_rms_norm_{name}_{t}", "BranchwiseRMSNorm", inputs, {"num_branches": 2}, MS, **near)
        case(f"branchwise_rms_norm_{name}_grouped_{t}", "BranchwiseRMSNorm", [x.reshape(2, 3, 2, 4), *inputs[1:]], {}, MS, **near)
    case(f"linear_attention_gate_{t}", "LinearAttentionGate", [x, f32(8), f32(8, seed=1), y], {}, MS, **near, n_out=2)
    case(f"linear_attention_gate_one_{t}", "LinearAttentionGate", [x, f32(8), f32(8, seed=1)], {}, MS, **near, dyn={0: ["B", "S", 8]})
    key, query, value = f32(2, 3, 2, 4).astype(dtype), f32(2, 3, 2, 4, seed=1).astype(dtype), f32(2, 3, 4).astype(dtype)
    scales = [(1 + f32(2, 4, seed=i, scale=0.1)).astype(dtype) for i in range(3)]
    case(f"engram_gate_{t}", "EngramGate", [key, query, value, *scales[:2]], {}, MS, **near)
    case(f"engram_gate_normed_{t}", "EngramGate", [key, query, value, *scales], {"epsilon": 1e-4}, MS, **near, n_out=2, dyn={0: ["B", "S", 2, 4], 1: ["B", "S", 2, 4], 2: ["B", "S", 4]})
    grouped, flat = x.reshape(2, 3, 2, 4), x
    for name, mix in (("branch", (2, 3, 2)), ("one", (2, 3, 2, 1)), ("full", (2, 3, 2, 4))):
        gates = f32(*mix).astype(dtype)
        case(f"hyper_pre_mix_{name}_{t}", "HyperConnectionPreMix", [grouped, gates], {"reduction_scale": 0.5}, MS, **near)
        case(f"hyper_pre_mix_{name}_flat_{t}", "HyperConnectionPreMix", [flat, gates], {"num_branches": 2}, MS, **near)
        case(f"hyper_post_mix_{name}_{t}", "HyperConnectionPostMix", [grouped, value, gates], {}, MS, **near)
        case(f"hyper_post_mix_{name}_flat_{t}", "HyperConnectionPostMix", [flat, value, gates, f32(2, 3, 2, 2).astype(dtype)], {"num_branches": 2}, MS, **near)
case("hyper_pre_mix_flat_gates", "HyperConnectionPreMix", [X, f32(2, 3, 8, seed=1)], {"num_branches": 2}, MS)
for groups, best in ((1, 1), (4, 2)):
    case(f"moe_group_router_{groups}", "MoEGroupRouter", [f32(5, 8), f32(8, scale=0.1)], {"n_group": groups, "topk_group": best, "top_k": 3}, MS, dyn={0: ["T", 8]})
case("moe_group_router_rows", "MoEGroupRouter", [f32(2, 3, 8), f32(8, scale=0.1)], {"n_group": 2, "topk_group": 1, "group_topk": 9, "top_k": 2, "router_sentinel": -50.0}, MS)


# ---- SwiGLU: no kernel for the CPU
def swiglu(gate, up=None, alpha=1.0, beta=0.0, limit=0.0):
    if up is None:
        gate, up = np.split(gate, 2, -1)
    if limit > 0:
        gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    return (gate / (1 + np.exp(-alpha * gate)) * (up + beta)).astype(np.float32)


case("ms_swiglu", "SwiGLU", [X, f32(2, 3, 8, seed=1)], {}, MS, ref=swiglu)
case("ms_swiglu_joint", "SwiGLU", [X], {"activation_alpha": 1.702, "activation_beta": 1.0, "limit": 0.7}, MS, ref=lambda x: swiglu(x, None, 1.702, 1, 0.7), dyn={0: ["B", "S", 8]})

# ---- MRotaryEmbedding
ANGLES = np.arange(20)[:, None] / 100 ** (np.arange(6) / 6)
CACHES = [np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)]
POSITIONS = rng(1).integers(0, 20, (3, 2, 5)).astype(np.int64)
for layout in (0, 1):
    for interleaved in (0, 1):
        attrs = {"mrope_section": [2, 2, 2] if layout else [1, 2, 3], "mrope_layout": layout, "interleaved": interleaved}
        case(f"m_rotary_{layout}{interleaved}", "MRotaryEmbedding", [f32(2, 5, 24), POSITIONS, *CACHES], {**attrs, "num_heads": 2}, MS, consts=(2, 3), dyn={0: ["B", "S", 24], 1: [3, "B", "S"]})
        case(f"m_rotary_heads_{layout}{interleaved}", "MRotaryEmbedding", [f32(2, 2, 5, 12), POSITIONS, *CACHES], attrs, MS)
case("m_rotary_part", "MRotaryEmbedding", [f32(2, 5, 32), POSITIONS, *CACHES], {"mrope_section": [1, 2, 3], "num_heads": 2, "rotary_embedding_dim": 12}, MS)


def gemma(e, q, q_rotated, k, k_rotated):
    c, s = (f(e).astype(np.float16)[:, None] for f in (np.cos, np.sin))
    return q * c + q_rotated * s, k * c + k_rotated * s


case("gemma_rotary", "GemmaRotaryEmbedding", [f32(2, 3, 4), *(f32(2, 2, 3, 4, seed=i).astype(np.float16) for i in range(4))], {}, MS, n_out=2, ref=gemma, rtol=1e-2, atol=1e-2)


# ---- biases by position: kernels for CUDA only
def gated_bias(q, q_bias, rel_pos, w, b, a, offsets=None):
    if offsets is not None:
        padded = np.zeros((offsets.size, q.shape[1]), np.float32)
        padded[offsets.reshape(-1)[:len(q)]] = q
        q = padded.reshape(*offsets.shape, -1)
    q = (q + q_bias).reshape(*q.shape[:2], 2, 4).transpose(0, 2, 1, 3)
    u, r = np.split(1 / (1 + np.exp(-(q @ w + b).reshape(*q.shape[:3], 2, -1).sum(-1))), 2, -1)
    return ((u * (r * a - 1) + 2) * rel_pos).astype(np.float32)


GATED = [f32(8), f32(1, 2, 3, 3), f32(4, 6), f32(6), f32(1, 2, 1, 1)]
case("gated_position_bias", "GatedRelativePositionBias", [X, *GATED], {"num_heads": 2}, MS, ref=gated_bias, dyn={0: ["B", 3, 8]})
case("gated_position_bias_packed", "GatedRelativePositionBias", [f32(4, 8), *GATED, np.int32([[0, 3, 4], [5, 1, 2]])], {"num_heads": 2}, MS, ref=gated_bias)


def relative_bias(table, query, key, both, far):
    """As in T5."""
    distance = np.arange(int(key))[None] - np.arange(int(query))[:, None]
    buckets, bucket = table.shape[0], np.zeros_like(distance)
    if both:
        buckets //= 2
        bucket = (distance > 0) * buckets
        distance = np.abs(distance)
    else:
        distance = -np.minimum(distance, 0)
    exact = buckets // 2
    large = exact + (np.log(np.maximum(distance, 1) / exact) / np.log(far / exact) * (buckets - exact)).astype(np.int64)
    bucket = bucket + np.where(distance < exact, distance, np.minimum(large, buckets - 1))
    return table.reshape(table.shape[1], table.shape[0])[:, bucket][None]


for both in (0, 1):
    for query, key in ((9, 9), (1, 30)):
        case(f"relative_position_bias_{both}_{key}", "RelativePositionBias", [f32(8, 2), np.int64(query), np.int64(key)], {"max_distance": 20, "is_bidirectional": both}, MS, consts=(1, 2),
             ref=lambda t, q, k, b=both: relative_bias(t, q, k, b, 20))
