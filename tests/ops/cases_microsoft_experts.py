"""com.microsoft: mixtures of experts, in floats and quantized."""
import itertools

import numpy as np

from cases_microsoft_quantized import packed
from suite import CASES, MS, case, f32, rng

E, I, F = 4, 32, 16
X, ROUTER, W1, W2 = f32(5, I), f32(5, E), f32(E, F, I, scale=0.3), f32(E, I, F, scale=0.3)
for norm, k in itertools.product((0, 1), (1, 2, 4)):
    case(f"moe_{norm}_{k}", "MoE", [X, ROUTER, W1, None, W2], {"k": k, "normalize_routing_weights": norm}, MS, consts=(2, 4), dyn={0: ["T", I], 1: ["T", E]})
for activation in ("relu", "gelu", "silu", "identity"):
    case(f"moe_{activation}", "MoE", [X.reshape(1, 5, I), ROUTER, W1, f32(E, F), W2, f32(E, I)], {"k": 2, "activation_type": activation}, MS, consts=(2, 3, 4, 5))
for limit in (None, 0.5):
    attrs = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.2, "activation_beta": 0.7, **({"swiglu_limit": limit} if limit else {})}
    case(f"moe_swiglu_{'limit' if limit else 'free'}", "MoE", [X, ROUTER, f32(E, 2 * F, I, scale=0.3), f32(E, 2 * F), W2, f32(E, I)], attrs, MS, consts=(2, 3, 4, 5), dyn={0: ["T", I], 1: ["T", E]})


def top(router, k):
    order = np.argsort(-router, 1)[:, :k]
    e = np.exp(np.take_along_axis(router, order, 1))
    w = np.zeros_like(router)
    np.put_along_axis(w, order, e / e.sum(1, keepdims=True), 1)
    return w


def swiglu(x, router, w1, b1, w2, b2, w3, b3):
    g, l = (np.einsum("ti,efi->etf", x, w) + b[:, None] for w, b in ((w1, b1), (w3, b3)))
    y = np.einsum("etf,eif->eti", g / (1 + np.exp(-g)) * l, w2) + b2[:, None]
    return np.einsum("eti,te->ti", y, top(router, 2)).astype(np.float32)


third = [X, ROUTER, W1, f32(E, F), W2, f32(E, I), f32(E, F, I, seed=3, scale=0.3), f32(E, F, seed=4)]
case("moe_swiglu_third", "MoE", third, {"k": 2, "activation_type": "swiglu", "normalize_routing_weights": 1}, MS, ref=swiglu)  # not on its CPU
halves = [X, ROUTER, np.concatenate([third[2], third[6]], 1), np.concatenate([third[3], third[7]], 1), W2, third[5]]
case("moe_swiglu_halves", "MoE", halves, {"k": 2, "activation_type": "swiglu", "normalize_routing_weights": 1, "swiglu_fusion": 2}, MS, ref=lambda *_: swiglu(*third))

for bits, block, zeros, fixed in itertools.product((4, 8), (0, 16), (False, True), (False, True)):
    wide = 2 * F

    def weights(n, k, seed):
        s = np.abs(f32(E, n, k // block, seed=seed) if block else f32(E, n, seed=seed)) * 0.02 + 0.01
        z = rng(seed).integers(0, 1 << bits, s.shape).astype(np.uint8)
        return packed(rng(seed).integers(0, 1 << bits, (E, n, k)).astype(np.uint8), bits), s, packed(z, bits) if zeros else None

    (w1, s1, z1), (w2, s2, z2) = weights(wide, I, 1), weights(I, F, 2)
    inputs = [X, ROUTER, w1, s1, f32(E, wide), w2, s2, f32(E, I), None, None, None, z1, z2]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": bits, "normalize_routing_weights": 1, "weights_prepacked": 0, **({"block_size": block} if block else {})}
    name = f"qmoe_{bits}_{block}_{'zeros' if zeros else 'middle'}_{'fixed' if fixed else 'inputs'}"
    # with constant experts of 8 bits in blocks it rounds the tokens to 8 bits as well: what it gives for others is meant
    ref = (lambda *_, same=name.replace("fixed", "inputs"): CASES[same][2][0]) if fixed and bits == 8 and block else "ort"
    case(name, "QMoE", inputs, attrs, MS, consts=[i for i in range(2, len(inputs)) if inputs[i] is not None] if fixed else (), dyn={0: ["T", I], 1: ["T", E]}, ref=ref,
         atol=2e-3 if bits == 8 else 1e-5)  # of 8 bits, results are up to 4000 and terms cancel

# experts that no token chooses, one token, many tokens
ALONE = np.full((5, E), -5, np.float32)
ALONE[:, 2] = 5
case("moe_one_expert", "MoE", [X, ALONE, W1, f32(E, F), W2, f32(E, I)], {"k": 1}, MS, consts=(2, 3, 4, 5), dyn={0: ["T", I], 1: ["T", E]})
case("moe_one_token", "MoE", [X[:1], ROUTER[:1], W1, f32(E, F), W2, f32(E, I)], {"k": 2, "activation_type": "silu"}, MS, consts=(2, 3, 4, 5))
case("moe_inputs", "MoE", [X, ROUTER, W1, f32(E, F), W2, f32(E, I)], {"k": 2, "activation_type": "silu"}, MS)
