"""com.microsoft: layers that carry a state from call to call: causal convolutions and linear attention."""
import itertools

import numpy as np

from suite import MS, case, f32

X, W = f32(2, 6, 9), f32(6, 1, 4)
for dilation, last, past in itertools.product((1, 2, 3), (0, 1), (True, False)):
    rows = 3 * dilation
    x, state = X, f32(2, 6, rows, seed=1)
    if last:
        x, state = np.ascontiguousarray(x.transpose(0, 2, 1)), np.ascontiguousarray(state.transpose(0, 2, 1))
    inputs = [x, W, f32(6), state] if past else [x, W]
    name = f"causal_conv_{dilation}_{'last' if last else 'first'}_{'past' if past else 'start'}"
    dims = ["B", "L", 6] if last else ["B", 6, "L"]
    case(name, "CausalConvWithState", inputs, {"dilation": dilation, "channels_last": last, "activation": "silu" if past else "none"}, MS, n_out=2, consts=(1, 2) if past else (1,),
         dyn={0: dims, **({3: ["B", rows, 6] if last else ["B", 6, rows]} if past else {})})
case("causal_conv_short", "CausalConvWithState", [X[:, :, :1], W, None, f32(2, 6, 3)], {"activation": "swish"}, MS, n_out=2)

for rule in ("linear", "gated", "delta", "gated_delta"):
    q, k, v = (f32(2, 5, 16, seed=s, scale=0.3) for s in range(3))
    gated, delta = "gated" in rule, "delta" in rule
    decay = -np.abs(f32(2, 5, 2, seed=3)) if gated else None
    beta = 1 / (1 + np.exp(-f32(2, 5, 2, seed=4))) if delta else None
    attrs = {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": rule}
    for state in (None, f32(2, 2, 8, 8, seed=5, scale=0.2)):
        inputs = [q, k, v, state, decay, beta.astype(np.float32) if beta is not None else None]
        while inputs[-1] is None:
            inputs.pop()
        case(f"linear_attention_{rule}_{'start' if state is None else 'past'}", "LinearAttention", inputs, attrs, MS, n_out=2, dyn={0: ["B", "T", 16], 1: ["B", "T", 16], 2: ["B", "T", 16]})
