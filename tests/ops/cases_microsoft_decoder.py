"""com.microsoft: attention of decoders, with caches that are written in place, and of packed batches."""
import numpy as np
import onnxruntime as ort
from onnx import helper

from suite import MS, case, f32, model_of, rng

B, H, D, M = 4, 2, 4, 6


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---- MultiHeadAttention and DecoderMaskedMultiHeadAttention over a shared buffer
def decode(name, past=3, steps=1, beams=False, mask=None, added=None, bias=None, causal=False, packed=False, op="both"):
    q, k, v = (f32(B, steps, H * D, seed=i) for i in range(3))
    cache = [f32(B, H, M, D, seed=3), f32(B, H, M, D, seed=4)]
    indirection = rng(1).integers(0, 2, (B // 2, 2, M)).astype(np.int32) if beams else None
    length = np.int32([past])
    dims = {0: ["B", "S", H * D], 1: ["B", "S", H * D], 2: ["B", "S", H * D]}
    if op in ("both", "mha"):
        inputs = [q, k, v, bias, mask, added, *cache, length, indirection]
        case(f"mha_shared_{name}", "MultiHeadAttention", inputs, {"num_heads": H, "unidirectional": int(causal)}, MS, n_out=3,
             dyn={**dims, 6: ["B", H, "M", D], 7: ["B", H, "M", D]} if not beams else None)
    if op in ("both", "decoder"):
        qkv = [np.concatenate([q, k, v], 2), None, None] if packed else [q, k, v]
        inputs = [*qkv, mask, added, *cache, length, np.int32([2]) if beams else None, indirection, bias]
        case(f"decoder_mha_{name}", "DecoderMaskedMultiHeadAttention", inputs, {"num_heads": H, "past_present_share_buffer": 1}, MS, n_out=3,
             dyn={**dims, 5: ["B", H, "M", D], 6: ["B", H, "M", D]} if not beams and not packed else None)


MASK = np.int32([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 1]])
decode("step")
decode("first", past=0)
decode("last", past=5)
decode("beams", beams=True)
decode("beams_first", past=0, beams=True)
decode("mask", mask=MASK)
decode("bias", bias=f32(3 * H * D))
decode("added", added=f32(1, H, 1, 4))
decode("all", mask=MASK, added=f32(1, H, 1, 4), bias=f32(3 * H * D))
decode("beams_all", mask=MASK, added=f32(1, H, 1, 4), bias=f32(3 * H * D), beams=True, op="decoder")
decode("steps", past=2, steps=3, op="mha")
decode("steps_causal_added", past=2, steps=3, causal=True, added=f32(1, H, 3, 5), op="mha")
decode("steps_causal", past=2, steps=3, causal=True, op="mha")
KEYS = [f32(B, H, 5, D, seed=5), f32(B, H, 5, D, seed=6)]
case("decoder_mha_cross", "DecoderMaskedMultiHeadAttention", [f32(B, 1, H * D), *KEYS], {"num_heads": H}, MS, dyn={0: ["B", 1, H * D], 1: ["B", H, "T", D], 2: ["B", H, "T", D]})
case("decoder_mha_cross_mask", "DecoderMaskedMultiHeadAttention", [f32(B, 1, H * D), *KEYS, np.int32([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])], {"num_heads": H}, MS)
case("decoder_mha_cross_bias", "DecoderMaskedMultiHeadAttention", [f32(B, 1, H * D), *KEYS, *[None] * 7, f32(3 * H * D)], {"num_heads": H, "scale": 0.3}, MS)


def without_sharing(q, k, v, mask, added, past_k, past_v):
    """Not what ONNX Runtime's CPU does: past is joined with the new key."""
    heads = [x.reshape(B, 1, H, D).transpose(0, 2, 1, 3) for x in (q, k, v)]
    keys, values = np.concatenate([past_k, heads[1]], 2), np.concatenate([past_v, heads[2]], 2)
    scores = softmax(heads[0] @ keys.transpose(0, 1, 3, 2) / np.float32(np.sqrt(D)))
    return (scores @ values).transpose(0, 2, 1, 3).reshape(B, 1, H * D), keys, values


case("decoder_mha_joined", "DecoderMaskedMultiHeadAttention", [f32(B, 1, H * D), f32(B, 1, H * D, seed=1), f32(B, 1, H * D, seed=2), None, None, f32(B, H, 3, D), f32(B, H, 3, D, seed=1)], {"num_heads": H}, MS,
     n_out=3, ref=without_sharing)


# ---- packed batches: tokens behind one another, without padding; ONNX Runtime has these on CUDA only
COUNTS = [1, 4, 2]
S = 4
REAL = [b * S + s for b, n in enumerate(COUNTS) for s in range(n)]
OFFSETS = np.int32(REAL + [i for i in range(len(COUNTS) * S) if i not in REAL]).reshape(len(COUNTS), S)
ENDS = np.int32(np.cumsum([0, *COUNTS]))


def attend_packed(q, k, v, added=None, scale=None):
    """[T,H*D] each; every sequence by itself."""
    out = np.zeros_like(v)
    for b, (start, end) in enumerate(zip(ENDS, ENDS[1:])):
        parts = [x[start:end].reshape(end - start, H, -1).transpose(1, 0, 2) for x in (q, k, v)]
        scores = parts[0] @ parts[1].transpose(0, 2, 1) * np.float32(scale or 1 / np.sqrt(parts[0].shape[2]))
        if added is not None:
            n = end - start
            scores = scores + np.broadcast_to(added, (len(COUNTS), H, S, S))[b, :, :n, :n]
        out[start:end] = (softmax(scores) @ parts[2]).transpose(1, 0, 2).reshape(end - start, -1)
    return out


def packed_heads(q, k, v, bias, offsets, ends, added=None):
    if k is None:
        q, k, v = (q[:, :, i].reshape(len(REAL), H * D) for i in range(3))
    if bias is not None:
        q, k, v = q + bias[:H * D], k + bias[H * D:2 * H * D], v + bias[2 * H * D:]
    return attend_packed(q, k, v, added)


T = len(REAL)
TOKENS = [f32(T, H * D), f32(T, H * D, seed=1), f32(T, H * D, seed=2)]
WHERE = [OFFSETS, ENDS]
for name, inputs in (("", [*TOKENS, None, *WHERE]), ("_bias", [*TOKENS, f32(3 * H * D), *WHERE]), ("_qkv", [f32(T, H, 3, D), None, None, None, *WHERE]), ("_added", [*TOKENS, None, *WHERE, f32(1, H, S, S)]),
                     ("_values", [*TOKENS[:2], f32(T, H * 6, seed=2), f32(2 * H * D + H * 6), *WHERE])):
    case(f"packed_mha{name}", "PackedMultiHeadAttention", inputs, {"num_heads": H}, MS, ref=packed_heads)
case("packed_mha_dynamic", "PackedMultiHeadAttention", [*TOKENS, None, *WHERE], {"num_heads": H}, MS, ref=packed_heads,
     dyn={0: ["T", H * D], 1: ["T", H * D], 2: ["T", H * D], 4: ["B", "S"], 5: ["Ends"]})


def packed_projection(x, w, bias, offsets, ends, added=None):
    y = x @ w + bias
    return attend_packed(y[:, :H * D], y[:, H * D:2 * H * D], y[:, 2 * H * D:], added)


PROJECTED = [f32(T, 5), f32(5, 3 * H * D, scale=0.3), f32(3 * H * D)]
case("packed_attention", "PackedAttention", [*PROJECTED, *WHERE], {"num_heads": H}, MS, ref=packed_projection, consts=(1, 2))
case("packed_attention_added", "PackedAttention", [*PROJECTED, *WHERE, f32(3, H, S, S)], {"num_heads": H}, MS, ref=packed_projection, consts=(1, 2))
case("packed_attention_sizes", "PackedAttention", [f32(T, 5), f32(5, 2 * H * D + 6, scale=0.3), f32(2 * H * D + 6), *WHERE], {"num_heads": H, "qkv_hidden_sizes": [H * D, H * D, 6]}, MS, ref=packed_projection,
     dyn={0: ["T", 5], 3: ["B", "S"], 4: ["Ends"]})

PADDED = f32(3, S, 5)
case("remove_padding", "RemovePadding", [PADDED, np.int32(COUNTS)], {}, MS, n_out=4, ref=lambda x, n: (x.reshape(-1, 5)[REAL], OFFSETS, ENDS, np.int32([4])))
case("remove_padding_dynamic", "RemovePadding", [PADDED, np.int32(COUNTS)], {}, MS, n_out=4, ref=lambda x, n: (x.reshape(-1, 5)[REAL], OFFSETS, ENDS, np.int32([4])), dyn={0: ["B", "S", 5], 1: ["B"]})
case("remove_padding_all", "RemovePadding", [PADDED, np.int32([0, 0, 0])], {}, MS, n_out=4,
     ref=lambda x, n: (x.reshape(-1, 5)[:0], np.arange(12, dtype=np.int32).reshape(3, 4), np.int32([0, 0, 0, 0]), np.int32([0])))


def restored(x, offsets):
    y = np.zeros((offsets.size, x.shape[1]), np.float32)
    y[offsets.reshape(-1)[:len(x)]] = x
    return y.reshape(*offsets.shape, -1)


case("restore_padding", "RestorePadding", [f32(T, 5), OFFSETS], {}, MS, ref=restored)
case("restore_padding_dynamic", "RestorePadding", [f32(T, 5), OFFSETS], {}, MS, ref=restored, dyn={0: ["T", 5], 1: ["B", "S"]})


# ---- SparseAttention
BLOCK, LONG = 16, 64
ROWS = np.int32([[0, 1, 3, 5, 8], [0, 1, 3, 6, 9]])
COLUMNS = np.int32([[0, 0, 1, 1, 2, 1, 2, 3, -1], [0, 0, 1, 0, 1, 2, 0, 2, 3]])
TURNS = np.arange(LONG)[:, None] / 100 ** (np.arange(8) / 8)


def in_place(attrs):
    """ONNX Runtime wants past and present in one memory: caches are bound as inputs and as outputs."""

    def run(*inputs):
        feeds = {f"x{i}": v for i, v in enumerate(inputs) if v is not None}
        node = helper.make_node("SparseAttention", [f"x{i}" if v is not None else "" for i, v in enumerate(inputs)], ["y0", "y1", "y2"], domain=MS, **attrs)
        session = ort.InferenceSession(model_of([node], feeds, ["y0", "y1", "y2"]).SerializeToString(), providers=["CPUExecutionProvider"])
        values, binding = {k: ort.OrtValue.ortvalue_from_numpy(v.copy()) for k, v in feeds.items()}, session.io_binding()
        for k, v in values.items():
            binding.bind_ortvalue_input(k, v)
        binding.bind_output("y0")
        binding.bind_ortvalue_output("y1", values["x3"])
        binding.bind_ortvalue_output("y2", values["x4"])
        session.run_with_iobinding(binding)
        return tuple(v.copy() for v in binding.copy_outputs_to_cpu())

    return run


def one_step(qkv, _k, _v, past_k, past_v, rows, columns, _longest, totals):
    """One packed token per sequence. With sequences of different lengths ONNX Runtime's heads behind the first read the wrong scores."""
    b, d = len(totals), past_k.shape[3]
    y, keys, values = np.zeros((b, 4 * d), np.float32), past_k.copy(), past_v.copy()
    for i, total in enumerate(totals):
        keys[i, :, total - 1], values[i, :, total - 1] = qkv[i, 0, 4 * d:6 * d].reshape(2, d), qkv[i, 0, 6 * d:].reshape(2, d)
        for h in range(4):
            row = rows[h % 2][(total - 1) // BLOCK:][:2]
            at = [t for t in range(total) if t // BLOCK in columns[h % 2][row[0]:row[1]]]
            y[i, h * d:h * d + d] = softmax(keys[i, h // 2, at] @ qkv[i, 0, h * d:h * d + d] / np.float32(np.sqrt(d))) @ values[i, h // 2, at]
    return y[:, None], keys, values


def sparse(name, s, totals, packed=False, rotary=None, heads=4, kv=2, layouts=2, dyn=False, ref=None, **attrs):
    b, d, longest = len(totals), 16, max(totals)
    parts = [f32(b, s, heads * d), f32(b, s, kv * d, seed=1), f32(b, s, kv * d, seed=2)]
    qkv = [np.concatenate(parts, 2), None, None] if packed else parts
    inputs = [*qkv, f32(b, kv, LONG, d, seed=3), f32(b, kv, LONG, d, seed=4), ROWS[:layouts], COLUMNS[:layouts], np.int32([longest]), np.int32(totals)]
    if rotary is not None:
        inputs += [np.cos(TURNS).astype(np.float32), np.sin(TURNS).astype(np.float32)]
        attrs |= {"do_rotary": 1, "rotary_interleaved": rotary}
    attrs |= {"num_heads": heads, "kv_num_heads": kv, "sparse_block_size": BLOCK}
    case(f"sparse_attention_{name}", "SparseAttention", inputs, attrs, MS, n_out=3, ref=ref or in_place(attrs),
         dyn={0: ["B", "S", qkv[0].shape[2]], 3: ["B", kv, LONG, d], 4: ["B", kv, LONG, d], 8: ["B"]} if dyn and packed else None)


sparse("prompt", 40, [40, 40])
sparse("prompt_packed", 40, [40, 40], packed=True, dyn=True)
sparse("step", 1, [50, 50])
sparse("step_ragged", 1, [20, 64], packed=True, ref=one_step)
sparse("step_rotary", 1, [47, 47], rotary=0)
sparse("prompt_rotary", 20, [20, 20], rotary=1)
sparse("one_layout", 1, [50], layouts=1, scale=0.2)


# ---- DecoderAttention and DecoderMaskedSelfAttention, which ONNX Runtime has on CUDA only, and Attention over a shared buffer, which its CPU refuses
def decoder_attention(query, key, q_weight, kv_weight, bias, padding, key_cache, value_cache, static_kv, use_past, has_state, has_padding):
    """Time first: query [S,B,I], key [T,B,I]."""
    split = lambda x: x.reshape(*x.shape[:2], H, -1).transpose(1, 2, 0, 3)
    width = query.shape[2]
    q = split(query @ q_weight + bias[:width])
    kv = [split(x) for x in np.split((key if static_kv[0] else query) @ kv_weight + bias[width:], 2, 2)]
    if use_past[0] and has_state[0]:
        kv = [c if static_kv[0] else np.concatenate([c, x], 2) for c, x in zip((key_cache, value_cache), kv)]
    scores = q @ kv[0].transpose(0, 1, 3, 2) / np.float32(np.sqrt(q.shape[3]))
    if has_padding[0]:
        scores = np.where(padding[:, None, None], -np.inf, scores).astype(np.float32)
    return (softmax(scores) @ kv[1]).transpose(2, 0, 1, 3).reshape(query.shape), *kv


for fixed, past, state, padding in ((s, p, l, m) for s in (0, 1) for p, l in ((0, 0), (0, 1), (1, 0), (1, 1)) for m in (0, 1)):
    steps, length, before, batch = 3, 5, 4, 2
    keys = (before if past and state else length) if fixed else before + steps if past and state else steps
    mask = rng(keys).integers(0, 2, (batch, keys)).astype(bool)
    mask[:, 1] = False
    inputs = [f32(steps, batch, H * D), f32(length, batch, H * D, seed=1), f32(H * D, H * D, scale=0.4), f32(H * D, 2 * H * D, scale=0.4), f32(3 * H * D), mask if padding else None,
              f32(batch, H, before, D, seed=2) if past and state else None, f32(batch, H, before, D, seed=3) if past and state else None, *(np.array([bool(v)]) for v in (fixed, past, state, padding))]
    case(f"decoder_attention_{'cross' if fixed else 'self'}{'_past' * past}{'_state' * state}{'_padding' * padding}", "DecoderAttention", inputs, {"num_heads": H}, MS, n_out=3, ref=decoder_attention,
         consts=(2, 3, 4, 8, 9, 10, 11), dyn={0: ["S", "B", H * D], 1: ["T", "B", H * D], **({5: ["B", "K"]} if padding and not fixed else {}), **({i: ["B", H, "P", D] for i in (6, 7)} if past and state else {})})


def shared_buffer(x, w, bias, mask, past, added, length, beams=None, indirection=None, causal=False, scale=None):
    """Attention over a buffer [2,B,H,M,D] whose first rows count."""
    steps, total = x.shape[1], int(length[0]) + x.shape[1]
    q, k, v = (p.reshape(*x.shape[:2], H, D).transpose(0, 2, 1, 3) for p in np.split(x @ w + bias, 3, 2))
    present = past.copy()
    present[:, :, :, length[0]:total] = k, v
    keys, values = (present[i, :, :, :total].copy() for i in range(2))
    if indirection is not None:
        width = indirection.shape[1]
        for b in range(len(x)):
            for t in range(length[0]):
                beam = b // width * width + indirection[b // width, b % width, t]
                keys[b, :, t], values[b, :, t] = present[0, beam, :, t], present[1, beam, :, t]
    scores = q @ keys.transpose(0, 1, 3, 2) * np.float32(scale or 1 / np.sqrt(D))
    if added is not None:
        scores = scores + added
    allowed = np.ones((1, 1, steps, total), bool)
    if mask is not None:
        allowed = allowed & (mask[:, None, None] != 0)
    if causal:
        allowed = allowed & (np.arange(total) <= np.arange(steps)[:, None] + length[0])
    return (softmax(np.where(allowed, scores, -np.inf).astype(np.float32)) @ values).transpose(0, 2, 1, 3).reshape(*x.shape[:2], H * D), present


WEIGHTS = [f32(5, 3 * H * D, scale=0.4), f32(3 * H * D)]
CACHE = f32(2, B, H, M, D)
MASKS = np.int32([[1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 1]])
BEAMS = [np.int32([2]), rng(1).integers(0, 2, (B // 2, 2, M)).astype(np.int32)]
for name, before, mask, added, beams, attrs in (("step", 3, None, None, [], {}), ("first", 0, None, None, [], {}), ("last", 5, None, None, [], {"scale": 0.3}), ("mask", 3, MASKS, None, [], {}),
                                                ("added", 3, None, f32(1, H, 1, 4), [], {}), ("beams", 3, None, None, BEAMS, {}), ("beams_mask", 3, MASKS, None, BEAMS, {})):
    case(f"decoder_self_attention_{name}", "DecoderMaskedSelfAttention", [f32(B, 1, 5), *WEIGHTS, mask, CACHE, added, np.int32([before]), *beams], {"num_heads": H, "past_present_share_buffer": 1, **attrs}, MS,
         n_out=2, consts=(1, 2), ref=lambda *a, attrs=attrs: shared_buffer(*a, **attrs), dyn={0: ["B", 1, 5], 4: [2, "B", H, "M", D]} if not beams and mask is None else None)
for name, before, steps, causal, mask in (("step", 3, 1, 1, None), ("prompt", 0, 4, 1, None), ("prompt_mask", 0, 4, 1, MASKS | np.int32([1, 0, 0, 0])), ("more", 2, 3, 1, None), ("open", 2, 2, 0, MASKS)):
    case(f"ms_attention_shared_{name}", "Attention", [f32(B, steps, 5), *WEIGHTS, mask, CACHE, None, np.int32([before])], {"num_heads": H, "past_present_share_buffer": 1, "unidirectional": causal}, MS, n_out=2,
         consts=(1, 2), ref=lambda *a, causal=causal: shared_buffer(*a, causal=causal), dyn={0: ["B", "S", 5], 4: [2, "B", H, "M", D]})
