"""com.microsoft: layers that carry a state: causal convolutions, linear attention, an LSTM with attention."""
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

# AttnLSTM: X, W, R, B, sequence_lens, initial_h, initial_c, P, QW, MW, V, M, memory_seq_lens, AW.
def attention_lstm(name, d=1, aw=0, lens=None, memory_lens=None, bias=True, state=False, peephole=False, n_out=3, outs=None, sizes=(5, 2, 3, 4, 6, 4, 3), dyn=True, weights=True, **attrs):
    t, b, i, h, s, depth, k = sizes
    a, scale = aw or depth, 1 / max(h, 4) ** 0.5
    inputs = [f32(t, b, i), f32(d, 4 * h, i + a, scale=scale), f32(d, 4 * h, h, scale=scale, seed=1), f32(d, 8 * h, scale=0.5) if bias else None, np.int32(lens) if lens else None,
              f32(d, b, h, seed=2) if state else None, f32(d, b, h, seed=3) if state else None, f32(d, 3 * h, seed=4) if peephole else None,
              f32(d, h, k, seed=5, scale=2 * scale), f32(d, depth, k, seed=6, scale=2 * scale), f32(d, k, seed=7), f32(b, s, depth, seed=8), np.int32(memory_lens) if memory_lens else None, f32(d, depth + h, aw, scale=scale, seed=9) if aw else None]
    while inputs[-1] is None:
        inputs.pop()
    consts = [j for j in (1, 2, 3, 7, 8, 9, 10, 13) if weights and j < len(inputs) and inputs[j] is not None]
    case(f"attention_lstm_{name}", "AttnLSTM", inputs, {"hidden_size": h, "direction": "bidirectional" if d == 2 else "forward", **attrs}, MS, n_out=n_out, outs=outs, consts=consts,
         dyn={0: ["T", "B", i], 11: ["B", "S", depth], **{j: [2, "B", h] if d == 2 else [1, "B", h] for j in (5, 6) if state}, **{j: ["B"] for j in (4, 12) if j < len(inputs) and inputs[j] is not None}} if dyn else None)


attention_lstm("plain")
attention_lstm("fixed", dyn=False, weights=False)
attention_lstm("layer", aw=5)
attention_lstm("no_bias", bias=False, aw=4)
attention_lstm("reverse", direction="reverse")
attention_lstm("reverse_lengths", direction="reverse", lens=[2, 5], aw=5)
attention_lstm("lengths", lens=[4, 2], memory_lens=[3, 6], state=True)
attention_lstm("memory_lengths", memory_lens=[1, 5], aw=3)
attention_lstm("both", d=2)
attention_lstm("both_inputs", d=2, aw=5, state=True, weights=False, dyn=False)
attention_lstm("both_lengths", d=2, aw=5, lens=[5, 3], memory_lens=[6, 2], state=True, peephole=True)
attention_lstm("both_short", d=2, lens=[3, 1], memory_lens=[2, 4])
attention_lstm("peephole", peephole=True, state=True)
attention_lstm("forget", peephole=True, input_forget=1)
attention_lstm("clip", clip=0.3, aw=5)
attention_lstm("activations", activations=["HardSigmoid", "Relu", "Softsign"], activation_alpha=[0.3], activation_beta=[0.4])
attention_lstm("both_activations", d=2, activations=["Sigmoid", "Elu", "Tanh", "HardSigmoid", "LeakyRelu", "Affine"], activation_alpha=[0.7, 0.25, 0.1, 0.8], activation_beta=[0.45, 0.1])
attention_lstm("sequence", outs=[0])
attention_lstm("last", outs=[0, 2], lens=[2, 4])
attention_lstm("one_step", sizes=(1, 1, 2, 3, 1, 2, 1))
attention_lstm("wide", d=2, sizes=(7, 3, 16, 40, 11, 24, 20), aw=32, lens=[7, 4, 1], memory_lens=[11, 1, 6])
attention_lstm("wide_forward", sizes=(6, 4, 32, 128, 9, 64, 48), aw=64)
