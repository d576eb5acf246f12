"""com.microsoft: what optimisers fuse, and ai.onnx's experimental operators. Many have kernels for CUDA only: formulas say what is expected of them."""
import numpy as np
from onnx import TensorProto, helper

from suite import MS, add, case, f32, i8, model_of, rng, u8


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(x):
    return (1 / (1 + np.exp(-x))).astype(x.dtype)


def fast_gelu(x):
    return (0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x ** 3)))).astype(x.dtype)


X = f32(2, 3, 4)
case("bias_add", "BiasAdd", [X, f32(4), f32(2, 3, 4, seed=1)], {}, MS, ref=lambda x, b, s: x + b + s, dyn={0: ["N", "S", 4], 2: ["N", "S", 4]})
case("bias_dropout", "BiasDropout", [X, f32(4), f32(2, 3, 4, seed=1)], {}, MS, ref=lambda x, b, r: x + b + r)
case("bias_dropout_mask", "BiasDropout", [X, f32(4), None, np.float32(0.3), np.bool_(False)], {}, MS, n_out=2, consts=(3, 4), ref=lambda x, b, r, p, t: (x + b, np.ones(x.shape, bool)))
case("bias_softmax_inner", "BiasSoftmax", [f32(2, 3, 4, 5), f32(2, 1, 1, 5)], {"axis": 3, "is_inner_broadcast": 1}, MS, ref=lambda x, b: softmax(x + b))
case("bias_softmax_outer", "BiasSoftmax", [f32(2, 3, 4, 5), f32(4, 5)], {"axis": 3, "is_inner_broadcast": 0}, MS, ref=lambda x, b: softmax(x + b))
case("bias_softmax_axis", "BiasSoftmax", [f32(2, 3, 4, 5), f32(2, 1, 4, 5)], {"axis": 2, "is_inner_broadcast": 1}, MS, dyn={0: ["N", "H", "S", "T"], 1: ["N", 1, "S", "T"]},
     ref=lambda x, b: softmax((x + b).reshape(2, 3, 20)).reshape(x.shape))


def complex_product(a, b, conjugate=False):
    a, b = a[..., 0] + 1j * a[..., 1], b[..., 0] + 1j * b[..., 1]
    y = a * (b.conj() if conjugate else b)
    return np.stack([y.real, y.imag], -1).astype(np.float32)


case("complex_mul", "ComplexMul", [f32(3, 4, 2), f32(3, 4, 2, seed=1)], {}, MS, ref=complex_product)
case("complex_mul_broadcast", "ComplexMul", [f32(3, 1, 2), f32(4, 2)], {}, MS, ref=complex_product, dyn={0: ["N", 1, 2]})
case("complex_mul_conj", "ComplexMulConj", [f32(3, 4, 2), f32(3, 4, 2, seed=1)], {}, MS, ref=lambda a, b: complex_product(a, b, True))
for name, bias in (("", []), ("_bias", [f32(5)])):
    case(f"gemm_fast_gelu{name}", "GemmFastGelu", [X, f32(4, 5), *bias], {}, MS, ref=lambda x, w, b=0: fast_gelu(x @ w + b))
for activation, f in (("Relu", lambda y: np.maximum(y, 0)), ("LeakyRelu", lambda y: np.where(y < 0, np.float32(0.2) * y, y)), ("Softmax", softmax)):
    case(f"matmul_activation_{activation}", "FusedMatMulActivation", [X, f32(5, 4)], {"activation": activation, "alpha": 0.5, "transB": 1, **({"activation_alpha": 0.2} if activation == "LeakyRelu" else {})}, MS,
         ref=lambda a, b, f=f: f(np.float32(0.5) * (a @ b.T)))


# ---- GroupNorm
def group_norm(x, gamma, beta, groups=2, last=True, silu=False, epsilon=1e-5):
    y = np.moveaxis(x, -1, 1) if last else x
    g = y.reshape(len(y), groups, -1)
    g = (g - g.mean(2, keepdims=True)) / np.sqrt(g.var(2, keepdims=True) + epsilon)
    y = g.reshape(y.shape) * gamma.reshape(-1, 1, 1) + beta.reshape(-1, 1, 1)
    y = y * sigmoid(y) if silu else y
    return (np.moveaxis(y, 1, -1) if last else y).astype(x.dtype)


for last in (1, 0):
    for silu in (1, 0):
        attrs = {"groups": 2, "activation": silu, "channels_last": last}
        x = f32(2, 3, 5, 4) if last else f32(2, 4, 3, 5)
        case(f"group_norm_{last}{silu}", "GroupNorm", [x, 1 + f32(4, scale=0.1), f32(4)], attrs, MS, ref=lambda x, g, b, l=last, s=silu: group_norm(x, g, b, last=l, silu=s),
             dyn={0: ["N", "H", "W", 4] if last else ["N", 4, "H", "W"]})
for name, skip in (("", (2, 3, 5, 4)), ("_row", (2, 4)), ("_pixel", (2, 1, 1, 4))):
    def skip_norm(x, g, b, s, bias):
        total = x + (s.reshape(2, 1, 1, 4) if s.ndim == 2 else s) + bias
        return group_norm(total, g, b, silu=True), total

    case(f"skip_group_norm{name}", "SkipGroupNorm", [f32(2, 3, 5, 4), 1 + f32(4, scale=0.1), f32(4), f32(*skip, seed=1), f32(4, seed=2)], {"groups": 2, "activation": 1}, MS, n_out=2, ref=skip_norm)


# ---- convolutions
def conv(x, w, b):
    """3x3, one pixel around; channels last, w [M,C,3,3]."""
    p = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    _, height, width, _ = x.shape
    return sum(p[:, i:i + height, j:j + width] @ w[:, :, i, j].T for i in range(3) for j in range(3)) + b


IMAGE = f32(2, 7, 6, 4)
case("nhwc_fused_conv", "NhwcFusedConv", [IMAGE, f32(3, 4, 3, 3), f32(3)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "activation": "Relu"}, MS, ref=lambda x, w, b: np.maximum(conv(x, w, b), 0))
case("nhwc_fused_conv_sum", "NhwcFusedConv", [IMAGE, f32(3, 4, 3, 3), f32(3), f32(2, 7, 6, 3)], {"pads": [1, 1, 1, 1]}, MS, ref=lambda x, w, b, z: conv(x, w, b) + z)
for last in (0, 1):
    x = u8(1, 6, 5, 4) if last else u8(1, 4, 6, 5)
    case(f"ms_qlinear_conv_{last}", "QLinearConv", [x, np.float32(0.05), np.uint8(120), i8(3, 4, 3, 3), np.float32(0.02), np.int8(0), np.float32(0.4), np.uint8(128), np.int32([10, -20, 30])],
         {"channels_last": last, "pads": [1, 1, 1, 1]}, MS, consts=tuple(range(1, 9)), atol=1)

# ---- other names
case("torch_embedding", "TorchEmbedding", [f32(5, 3), np.int64([[1, 4], [0, 0]])], {}, MS, ref=lambda w, i: w[i])
for mode in ("constant", "reflect", "edge"):
    case(f"ms_pad_{mode}", "Pad", [X, np.int64([0, 1, 2, 0, 0, 1])] + ([np.float32([7])] if mode == "constant" else []), {"mode": mode}, MS, consts=(1,))
case("ms_pad_row", "Pad", [X, np.int64([[0, 1, 2, 0, 0, 1]])], {}, MS, consts=(1,), dyn={0: ["N", 3, 4]})
case("ms_range", "Range", [np.float32(1), np.float32(4), np.float32(0.5)], {}, MS, consts=(0, 1, 2))
case("ms_range_vectors", "Range", [np.int64([2]), np.int64([7])], {}, MS, consts=(0, 1))
case("mul_integer", "MulInteger", [u8(3, 4), np.uint8(100), u8(4, seed=1), np.uint8(7)], {}, MS, ref=lambda a, za, b, zb: (a.astype(np.int32) - int(za)) * (b.astype(np.int32) - int(zb)))
case("mul_integer_plain", "MulInteger", [i8(3, 4), None, i8(3, 4, seed=1)], {}, MS, ref=lambda a, _, b: a.astype(np.int32) * b.astype(np.int32))
case("reduce_sum_integer", "ReduceSumInteger", [u8(3, 4, 5)], {"axes": [1], "keepdims": 1}, MS, ref=lambda x: x.sum(1, keepdims=True).astype(np.uint32))
case("reduce_sum_integer_signed", "ReduceSumInteger", [i8(3, 4, 5)], {"axes": [0, 2], "keepdims": 0}, MS, ref=lambda x: x.astype(np.int32).sum((0, 2)).astype(np.int32))
BAD = np.float32([1, np.inf, 2])
for name, inputs, attrs, want in (("yes", [X, f32(3)], {}, True), ("inf", [X, BAD], {}, False), ("nan", [np.float32([np.nan])], {}, False), ("only_inf", [np.float32([np.nan])], {"isinf_only": 1}, True),
                                  ("only_nan", [BAD], {"isnan_only": 1}, True)):
    case(f"is_all_finite_{name}", "IsAllFinite", inputs, attrs, MS, ref=lambda *x, w=want: np.array(w))
A, B = np.float32([[0, 2, 0], [1, 0, 0]]), f32(3, 4)
sparse = helper.make_sparse_tensor(helper.make_tensor("a", TensorProto.FLOAT, [2], [2.0, 1.0]), helper.make_tensor("a_index", TensorProto.INT64, [2], [1, 3]), [2, 3])
node = helper.make_node("SparseToDenseMatMul", ["a", "x"], ["y"], domain=MS, alpha=0.5)
model = model_of([node], {"x": B}, ["y"])
model.graph.sparse_initializer.append(sparse)
add("sparse_matmul", model, {"x": B}, [np.float32(0.5) * (A @ B)])

# ---- ai.onnx, experimental
OLD = {"opset": 8}
case("affine", "Affine", [f32(5)], {"alpha": 0.5, "beta": -1.0}, **OLD)
case("affine_default", "Affine", [f32(5)], {}, **OLD, dyn={0: ["N"]})
case("scale", "Scale", [X], {"scale": 2.5}, **OLD)
case("scaled_tanh", "ScaledTanh", [X], {"alpha": 2.0, "beta": 0.5}, **OLD)
case("parametric_softplus", "ParametricSoftplus", [X], {"alpha": 2.0, "beta": 0.5}, **OLD)
case("image_scaler", "ImageScaler", [f32(2, 3, 4, 5)], {"scale": 0.5, "bias": [1.0, 2.0, 3.0]}, **OLD)
case("crop", "Crop", [f32(2, 3, 6, 7)], {"border": [1, 2, 3, 0]}, **OLD)
case("crop_scale", "Crop", [f32(2, 3, 6, 7)], {"border": [1, 2, 3, 0], "scale": [3, 2]}, **OLD, dyn={0: ["N", 3, 6, 7]})
case("dynamic_slice", "DynamicSlice", [f32(4, 6), np.int64([1, 2]), np.int64([4, -1])], {}, **OLD, consts=(1, 2))
case("dynamic_slice_axes", "DynamicSlice", [f32(4, 6), np.int64([2]), np.int64([100]), np.int64([1])], {}, **OLD)
case("given_tensor_fill", "GivenTensorFill", [], {"values": [1.0, 2.0, 3.0, 4.0], "shape": [2, 2]}, **OLD, ref=lambda: np.float32([[1, 2], [3, 4]]))
