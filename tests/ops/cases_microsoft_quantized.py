"""com.microsoft: operators on integers with a scale and a zero point, and products with weights in blocks."""
import itertools

import ml_dtypes
import numpy as np

from suite import MS, case, f32, i8, rng, u8


def scale(v):
    return np.array(v, np.float32)


def zero(v, like):
    return np.array(v, like.dtype)


def ints(dtype, *shape, seed=0):
    return i8(*shape, seed=seed) if dtype == "i8" else u8(*shape, seed=seed)


def quantized(x, s, like, zero=None):
    """x in steps of s: for what ONNX Runtime does not take though its schema has it (mostly zero points left out)."""
    return np.clip(np.rint(x.astype(np.float32) / s) + (0 if zero is None else int(zero)), np.iinfo(like.dtype).min, np.iinfo(like.dtype).max).astype(like.dtype)


def mean_of(axes, keep):
    return lambda x, sx, zx, sy, zy=None: quantized(((x.astype(np.float64) - (0 if zx is None else int(zx))) * sx).mean(tuple(axes), keepdims=bool(keep)), sy, x, zy)


# ---- elementwise
for t, za, zb, zy in (("u8", 120, 3, 100), ("i8", -5, 7, 10)):
    a, b, row = ints(t, 3, 5, 4), ints(t, 3, 5, 4, seed=1), ints(t, 4, seed=2)
    for op, sy in (("QLinearAdd", 0.11), ("QLinearMul", 1.3)):
        name = op.lower()
        quant = [scale(0.07), zero(za, a)], [scale(0.031), zero(zb, a)], [scale(sy), zero(zy, a)]
        case(f"{name}_{t}", op, [a, *quant[0], b, *quant[1], *quant[2]], {}, MS, dyn={0: ["N", "M", 4], 3: ["N", "M", 4]}, consts=(1, 2, 4, 5, 6, 7))
        case(f"{name}_{t}_broadcast", op, [a, *quant[0], row, *quant[1], *quant[2]], {}, MS)
        case(f"{name}_{t}_left", op, [row, *quant[0], a, *quant[1], *quant[2]], {}, MS, consts=(0,))
        case(f"{name}_{t}_no_zeros", op, [a, quant[0][0], None, b, quant[1][0], None, quant[2][0]], {}, MS,
             ref=lambda a, sa, za, b, sb, zb, s, op=op: quantized((a * sa + b * sb) if op == "QLinearAdd" else (a * sa) * (b * sb), s, a))
    case(f"qlinearsigmoid_{t}", "QLinearSigmoid", [a, scale(0.03), zero(za, a), scale(1 / 256), zero(0 if t == "u8" else -128, a)], {}, MS, dyn={0: ["N", "M", 4]}, consts=(1, 2, 3, 4))
    case(f"qlinearsigmoid_{t}_no_zero", "QLinearSigmoid", [a, scale(0.03), None, scale(1 / 128)], {}, MS, ref=lambda a, sa, za, s: quantized(1 / (1 + np.exp(-(a * sa))), s, a))
    case(f"qlinearleakyrelu_{t}", "QLinearLeakyRelu", [a, scale(0.03), zero(za, a), scale(0.02), zero(zy, a)], {"alpha": 0.2}, MS, dyn={0: ["N", "M", 4]}, consts=(1, 2, 3, 4))
    case(f"qlinearleakyrelu_{t}_no_zero", "QLinearLeakyRelu", [a, scale(0.03), None, scale(0.02)], {}, MS, ref=lambda a, sa, za, s: quantized(np.where(a < 0, np.float32(0.01), np.float32(1)) * (a * sa), s, a))
    choose = rng(3).integers(0, 2, (3, 5, 4)).astype(bool)
    case(f"qlinearwhere_{t}", "QLinearWhere", [choose, a, scale(0.07), zero(za, a), b, scale(0.031), zero(zb, a), scale(0.05), zero(zy, a)], {}, MS, consts=(2, 3, 5, 6, 7, 8), dyn={0: ["N", "M", 4], 1: ["N", "M", 4], 4: ["N", "M", 4]})
    case(f"qlinearwhere_{t}_broadcast", "QLinearWhere", [choose[:, :1], a, scale(0.07), zero(za, a), row, scale(0.031), zero(zb, a), scale(0.05), zero(zy, a)], {}, MS, consts=(2, 3, 5, 6, 7, 8))
    for axis in (0, 1, -1):
        case(f"qlinearconcat_{t}_{axis}", "QLinearConcat", [scale(0.05), zero(zy, a), a, scale(0.07), zero(za, a), b, scale(0.031), zero(zb, a)], {"axis": axis}, MS, consts=(0, 1, 3, 4, 6, 7))
    case(f"qlinearconcat_{t}_one", "QLinearConcat", [scale(0.05), zero(zy, a), a, scale(0.07), zero(za, a)], {"axis": 0}, MS, consts=(0, 1, 3, 4), dyn={2: ["N", "M", 4]})

    # ---- pools, means, softmax
    image = ints(t, 2, 3, 9, 8)
    quant = [scale(0.05), zero(za, a), scale(0.043), zero(zy, a)]
    fixed = (1, 2, 3, 4)
    case(f"qlinearaveragepool_{t}", "QLinearAveragePool", [image, *quant], {"kernel_shape": [3, 2]}, MS, consts=fixed, dyn={0: ["N", 3, "H", "W"]})
    case(f"qlinearaveragepool_{t}_strides", "QLinearAveragePool", [image, *quant], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, MS, consts=fixed)
    case(f"qlinearaveragepool_{t}_count", "QLinearAveragePool", [image, *quant], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}, MS, consts=fixed)
    case(f"qlinearaveragepool_{t}_ceil", "QLinearAveragePool", [image, *quant], {"kernel_shape": [2, 3], "strides": [2, 3], "ceil_mode": 1}, MS, consts=fixed)
    case(f"qlinearaveragepool_{t}_same", "QLinearAveragePool", [image, *quant], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, MS, consts=fixed)
    case(f"qlinearaveragepool_{t}_channels_last", "QLinearAveragePool", [image, *quant], {"kernel_shape": [3, 2], "channels_last": 1}, MS, consts=fixed)
    case(f"qlinearaveragepool_{t}_1d", "QLinearAveragePool", [image[0], *quant], {"kernel_shape": [3]}, MS, consts=fixed)
    case(f"qlinearaveragepool_{t}_no_zeros", "QLinearAveragePool", [image, quant[0], None, quant[2]], {"kernel_shape": [3, 2]}, MS,
         ref=lambda x, sx, zx, sy: quantized(np.lib.stride_tricks.sliding_window_view(x * sx, (3, 2), (2, 3)).mean((-2, -1)), sy, x))
    for last in (0, 1):
        case(f"qlinearglobalaveragepool_{t}_{last}", "QLinearGlobalAveragePool", [image, *quant], {"channels_last": last}, MS, consts=fixed, dyn={0: ["N", "C", "H", "W"]} if last == 0 else None)
    for axes, keep in (([1], 1), ([2, 3], 0), ([-1], 0), ([0, 2], 1), ([0, 1, 2, 3], 0)):
        case(f"qlinearreducemean_{t}_{'_'.join(map(str, axes))}_{keep}".replace("-", "m"), "QLinearReduceMean", [image, *quant], {"axes": axes, "keepdims": keep}, MS, consts=fixed, ref=mean_of(axes, keep))
    case(f"qlinearreducemean_{t}_no_zeros", "QLinearReduceMean", [image, quant[0], None, quant[2]], {"axes": [2, 3], "keepdims": 1}, MS, dyn={0: ["N", 3, "H", "W"]}, ref=mean_of([2, 3], 1))
    for opset, axis in itertools.product((9, 13), (1, -1, 2)):
        case(f"qlinearsoftmax_{t}_{opset}_{axis}".replace("-", "m"), "QLinearSoftmax", [image[0], scale(0.05), zero(za, a), scale(1 / 256), zero(0 if t == "u8" else -128, a)],
             {"opset": opset, "axis": axis}, MS, consts=fixed, dyn={0: ["N", 9, "W"]} if axis == -1 else None)
    case(f"qlinearsoftmax_{t}_no_zero", "QLinearSoftmax", [image[0], scale(0.05), None, scale(1 / 256), zero(0 if t == "u8" else -128, a)], {"opset": 13}, MS, consts=(1, 3, 4))

# ---- quantize, dequantize
for t in ("u8", "i8", "u16", "i16"):
    d = {"u8": np.uint8, "i8": np.int8, "u16": np.uint16, "i16": np.int16}[t]
    x = f32(3, 4, scale=20)
    q = rng(4).integers(np.iinfo(d).min, np.iinfo(d).max + 1, (3, 4)).astype(d)
    z = np.array(17, d)
    case(f"ms_quantize_{t}", "QuantizeLinear", [x, scale(0.3), z], {}, MS, dyn={0: ["N", 4]})
    case(f"ms_quantize_{t}_axis", "QuantizeLinear", [x, scale([0.3, 0.5, 0.2, 0.1]), np.array([1, 2, 3, 4], d)], {"axis": 1}, MS, consts=(1, 2))
    case(f"ms_dequantize_{t}", "DequantizeLinear", [q, scale(0.3), z], {}, MS, dyn={0: ["N", 4]})
    case(f"ms_dequantize_{t}_axis", "DequantizeLinear", [q, scale([0.3, 0.5, 0.2]), np.array([1, 2, 3], d)], {"axis": 0}, MS, consts=(1, 2))
case("ms_dequantize_no_zero", "DequantizeLinear", [u8(3, 4), scale(0.3)], {}, MS)
case("ms_dequantize_i32", "DequantizeLinear", [rng(1).integers(-1000, 1000, (3, 4)).astype(np.int32), scale(0.3)], {}, MS)
case("ms_quantize_no_zero", "QuantizeLinear", [f32(3, 4, scale=20), scale(0.3)], {}, MS)

# ---- products
for ta, tb in (("u8", "u8"), ("u8", "i8"), ("i8", "i8")):
    a, b = ints(ta, 5, 8), ints(tb, 8, 6)
    columns = (np.arange(6) * 0.01 + 0.02).astype(np.float32)
    zeros = np.arange(6).astype(b.dtype)
    name = f"{ta}_{tb}"
    case(f"matmulintegertofloat_{name}", "MatMulIntegerToFloat", [a, b, scale(0.03), scale(0.02)], {}, MS, dyn={0: ["N", 8]}, consts=(1, 2, 3))
    case(f"matmulintegertofloat_{name}_zeros", "MatMulIntegerToFloat", [a, b, scale(0.03), scale(0.02), zero(7, a), zero(3, b), f32(6)], {}, MS, dyn={0: ["N", 8]}, consts=(1, 3, 5, 6))
    case(f"matmulintegertofloat_{name}_columns", "MatMulIntegerToFloat", [a, b, scale(0.03), columns, zero(7, a), zeros, f32(6)], {}, MS, consts=(1, 3, 5, 6))
    case(f"matmulintegertofloat_{name}_inputs", "MatMulIntegerToFloat", [ints(ta, 2, 3, 5, 8), b, scale(0.03), columns, None, zeros], {}, MS, dyn={0: ["B", 3, "N", 8]})
    for trans_a, trans_b in itertools.product((0, 1), (0, 1)):
        x, w = (a.T.copy() if trans_a else a), (b.T.copy() if trans_b else b)
        attrs = {"transA": trans_a, "transB": trans_b, "alpha": 1.5}
        base = [x, scale(0.03), zero(7, a), w, scale(0.02), zero(3, b)]
        c = rng(2).integers(-500, 500, (6,)).astype(np.int32)
        case(f"qgemm_{name}_{trans_a}{trans_b}", "QGemm", [*base, c, scale(1.1), zero(9, a)], attrs, MS, consts=(1, 2, 3, 4, 5, 6, 7, 8))
        case(f"qgemm_{name}_{trans_a}{trans_b}_real", "QGemm", [*base, c], attrs, MS, consts=(3,))
    case(f"qgemm_{name}_columns", "QGemm", [a, scale(0.03), zero(7, a), b, columns, zeros, None, scale(1.1), zero(9, a)], {}, MS, consts=(3, 4, 5), dyn={0: ["N", 8]})
    case(f"qgemm_{name}_matrix", "QGemm", [a, scale(0.03), zero(7, a), b, scale(0.02), zero(3, b), rng(2).integers(-500, 500, (5, 6)).astype(np.int32)], {}, MS)
for tb in ("u8", "i8"):
    b, columns = ints(tb, 8, 6), (np.arange(6) * 0.01 + 0.02).astype(np.float32)
    case(f"dynamicquantizematmul_{tb}", "DynamicQuantizeMatMul", [f32(5, 8), b, scale(0.02)], {}, MS, dyn={0: ["N", 8]}, consts=(1, 2), rtol=1e-3, atol=1e-3)
    case(f"dynamicquantizematmul_{tb}_columns", "DynamicQuantizeMatMul", [f32(2, 5, 8), b, columns, np.arange(6).astype(b.dtype), f32(6)], {}, MS, consts=(1, 2, 3, 4), dyn={0: ["B", "N", 8]})
    case(f"dynamicquantizematmul_{tb}_inputs", "DynamicQuantizeMatMul", [f32(5, 8), b, scale(0.02), zero(3, b)], {}, MS)
w16 = rng(1).integers(-300, 300, (5, 8)).astype(np.int16)
case("matmulinteger16", "MatMulInteger16", [w16, rng(2).integers(-300, 300, (8, 6)).astype(np.int16)], {}, MS, dyn={0: ["N", 8]})

# ---- attention and embeddings
for tw, one in itertools.product(("u8", "i8"), (True, False)):
    x, w = u8(2, 4, 8), ints(tw, 8, 24)
    sw, zw = (scale(0.01), zero(3, w)) if one else ((np.arange(24) * 0.0005 + 0.01).astype(np.float32), np.arange(24).astype(w.dtype))
    base = [x, w, f32(24), scale(0.02), sw]
    name = f"{tw}_{'tensor' if one else 'columns'}"
    case(f"qattention_{name}", "QAttention", [*base, None, zero(120, x), zw], {"num_heads": 2}, MS, consts=(1, 2, 3, 4, 6, 7), dyn={0: ["B", "S", 8]})
    case(f"qattention_{name}_mask", "QAttention", [*base, np.int32([2, 4]), zero(120, x), zw], {"num_heads": 2}, MS, consts=(1,))
    case(f"qattention_{name}_causal", "QAttention", [*base, None, zero(120, x), zw], {"num_heads": 2, "unidirectional": 1}, MS, consts=(1, 2, 3, 4, 6, 7))
    if one:
        case(f"qattention_{name}_past", "QAttention", [*base, None, zero(120, x), zw, f32(2, 2, 2, 3, 4)], {"num_heads": 2, "unidirectional": 1}, MS, consts=(1, 2, 3, 4, 6, 7), n_out=2,
             dyn={0: ["B", "S", 8], 8: [2, "B", 2, "P", 4]})
    case(f"qattention_{name}_no_zeros", "QAttention", base, {"num_heads": 4}, MS)
ids, segments = rng(1).integers(0, 10, (2, 5)).astype(np.int32), rng(2).integers(0, 2, (2, 5)).astype(np.int32)
tables = [u8(10, 8), u8(6, 8), u8(2, 8), u8(8), u8(8, seed=1)]
scales, zeros = [scale(v) for v in (0.02, 0.03, 0.01, 0.015, 0.01)], [np.array(v, np.uint8) for v in (100, 120, 128, 2, 125)]
mask = np.int32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
case("qembed", "QEmbedLayerNormalization", [ids, segments, *tables, mask, *scales, *zeros], {"epsilon": 1e-6}, MS, n_out=2, consts=range(2, 7))
case("qembed_no_mask", "QEmbedLayerNormalization", [ids, segments, *tables, None, *scales, *zeros], {"epsilon": 1e-6}, MS, n_out=2, consts=range(2, 7), dyn={0: ["B", "S"], 1: ["B", "S"]})
case("qembed_no_segments", "QEmbedLayerNormalization", [ids, None, *tables[:2], None, *tables[3:], mask, *scales[:2], None, *scales[3:], *zeros[:2], None, *zeros[3:]], {"epsilon": 1e-6}, MS, n_out=2)


# ---- weights in blocks
def packed(codes, bits):
    """Codes along the last axis, low bits first."""
    each = 8 // bits
    pad = -codes.shape[-1] % each
    codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], pad), np.uint8)], -1).reshape(*codes.shape[:-1], -1, each)
    return np.bitwise_or.reduce(codes << (np.arange(each, dtype=np.uint8) * bits), axis=-1).astype(np.uint8)


def nbits(name, k, n, bits, block, zeros=None, bias=False, rows=(3,), fixed=True, level=0, group=None, dtype=np.float32, rtol=1e-4, atol=1e-4, dyn=None):
    blocks = (k + block - 1) // block
    codes = rng(k).integers(0, 1 << bits, (n, blocks * block)).astype(np.uint8)
    w = packed(codes, bits).reshape(n, blocks, block * bits // 8)
    z = None
    if zeros == "packed":
        z = packed(rng(5).integers(0, 1 << bits, (n, blocks)).astype(np.uint8), bits)
    elif zeros == "real":
        z = f32(n, blocks).astype(dtype) + 7
    s = (np.abs(f32(n, blocks, seed=4)) * 0.1 + 0.01).astype(dtype)
    inputs = [f32(*rows, k).astype(dtype), w, s, z, group, f32(n).astype(dtype) if bias else None]
    ref = "ort"
    if group is not None or (zeros == "real" and bits == 8):  # not on its CPU
        of = group if group is not None else np.arange(k) // block
        real = ((codes[:, :k] - z[:, of]) * s[:, of]).astype(np.float32)
        ref = lambda x, *_: x @ real.T
    while inputs[-1] is None:
        inputs.pop()
    case(f"matmulnbits_{name}", "MatMulNBits", inputs, {"K": k, "N": n, "bits": bits, "block_size": block, **({"accuracy_level": level} if level else {})}, MS,
         consts=[i for i in range(1, len(inputs)) if inputs[i] is not None] if fixed else (), rtol=rtol, atol=atol, dyn=dyn, ref=ref)


for bits in (2, 4, 8):
    nbits(f"{bits}", 64, 10, bits, 32, dyn={0: ["N", 64]})
    nbits(f"{bits}_zeros", 64, 10, bits, 16, "packed", bias=True, rows=(2, 3))
    nbits(f"{bits}_inputs", 48, 10, bits, 32, "packed", fixed=False)
    if bits != 2:
        nbits(f"{bits}_real_zeros", 96, 10, bits, 32, "real")
        nbits(f"{bits}_real_zeros_inputs", 96, 10, bits, 32, "real", fixed=False)
    nbits(f"{bits}_ragged", 40, 7, bits, 16, "packed")
    nbits(f"{bits}_f16", 64, 10, bits, 32, "packed", dtype=np.float16, rtol=1e-2, atol=1e-2)
nbits("4_groups", 64, 10, 4, 32, "real", group=rng(7).integers(0, 2, 64).astype(np.int32))
nbits("4_groups_inputs", 64, 10, 4, 32, "real", group=rng(7).integers(0, 2, 64).astype(np.int32), fixed=False)
nbits("4_integers", 128, 16, 4, 32, "packed", level=4, rtol=3e-2, atol=5e-2)

NF4 = np.float32([-1, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0, 0.0795803, 0.1609302, 0.24611230, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1])
for kind, block, trans in itertools.product((0, 1), (16, 32), (1,)):
    k, n = 32, 10
    codes = u8(k * n // 2, seed=9)
    most = np.abs(f32((k * n + block - 1) // block, seed=3)) + 0.1
    for fixed in (True, False):
        case(f"matmulbnb4_{kind}_{block}_{'fixed' if fixed else 'inputs'}", "MatMulBnb4", [f32(3, k), codes, most], {"K": k, "N": n, "block_size": block, "quant_type": kind, "transB": trans}, MS,
             consts=(1, 2) if fixed else (), dyn={0: ["N", k]})
case("matmulbnb4_ragged", "MatMulBnb4", [f32(3, 21), u8(53, seed=9), np.abs(f32(4, seed=3)) + 0.1], {"K": 21, "N": 5, "block_size": 32, "quant_type": 1}, MS, consts=(1, 2))
case("matmulbnb4_f16", "MatMulBnb4", [f32(3, 32).astype(np.float16), u8(160, seed=9), (np.abs(f32(10, seed=3)) + 0.1).astype(np.float16)], {"K": 32, "N": 10, "block_size": 32, "quant_type": 1}, MS,
     consts=(1, 2), rtol=1e-2, atol=1e-2, ref=lambda x, b, s: (x.astype(np.float32) @ (NF4[np.stack([b >> 4, b & 15], 1).reshape(10, 32)] * s[:, None]).astype(np.float32).T).astype(np.float16))


# ---- rows of a table in blocks
OUTSIDE = np.int64([[0, 2, -1], [6, -7, 5], [1, 2**40, -(2**63)]])
for bits, given in itertools.product((2, 4, 8), (True, False)):
    codes = rng(bits).integers(0, 1 << bits, (6, 64)).astype(np.uint8)
    s = np.abs(f32(6, 4, seed=4)) * 0.1 + 0.01
    z = packed(rng(5).integers(0, 1 << bits, (6, 4)).astype(np.uint8), bits) if given else None
    attrs = {"bits": bits, "block_size": 16, "quantize_axis": 1, "gather_axis": 0}
    inputs = [packed(codes, bits), np.int64([[0, 2, -1], [5, -6, 3]]), s] + ([z] if given else [])
    name = f"gatherblock_u8_{bits}_{'zeros' if given else 'middle'}"
    case(name, "GatherBlockQuantized", inputs, attrs, MS, consts=(0, 2, 3) if given else (0, 2), dyn={1: ["N", 3]})
    case(f"{name}_i32", "GatherBlockQuantized", [inputs[0], np.array(4, np.int32), *inputs[2:]], attrs, MS, consts=(0, 2, 3) if given else (0, 2))
    case(f"{name}_inputs", "GatherBlockQuantized", inputs, attrs, MS)
    case(f"{name}_outside", "GatherBlockQuantized", [inputs[0], OUTSIDE, *inputs[2:]], attrs, MS, consts=(0, 2, 3) if given else (0, 2))
for t in ("uint4", "int4"):
    like = getattr(ml_dtypes, t)
    low = -8 if t == "int4" else 0
    codes = rng(1).integers(low, low + 16, (4, 6, 32)).astype(np.int8).astype(like)
    for gather, along in ((0, 2), (1, 2), (2, 1), (0, -1), (2, 0)):
        scales = [4, 6, 32]
        scales[along] = (scales[along] + 15) // 16
        s = (np.abs(f32(*scales, seed=4)) * 0.1 + 0.01).astype(np.float32)
        z = rng(6).integers(low, low + 16, scales).astype(np.int8).astype(like)
        attrs = {"block_size": 16, "quantize_axis": along, "gather_axis": gather}
        name = f"gatherblock_{t}_{gather}_{along}".replace("-", "m")
        case(name, "GatherBlockQuantized", [codes, np.int64([[0, 2, -1]]), s, z], attrs, MS, consts=(0, 2, 3), dyn={1: ["N", "M"]})
        case(f"{name}_middle", "GatherBlockQuantized", [codes, np.int64([0, 3, 7]), s], attrs, MS, consts=(0, 2))
for t, block, scales in itertools.product(("float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"), (0, 16), ((4, 6, 2), (1, 1, 2), (1, 6, 2))):
    codes, blocks = f32(4, 6, 32).astype(getattr(ml_dtypes, t)), 2 if block else 1
    s = np.abs(f32(*scales[:2], min(scales[2], blocks), seed=4)) * 0.1 + 0.01
    case(f"gatherblock_{t}_{block}_{'_'.join(map(str, scales))}", "GatherBlockQuantized", [codes, np.int64([[0, 2, -1], [1, 4, -5]]), s], {"block_size": block, "quantize_axis": 2}, MS, consts=(0, 2), dyn={1: ["N", 3]})
