"""com.microsoft: layouts, sampling and distances."""
import numpy as np

from suite import MS, case, f32, rng

X = f32(2, 7, 6, 4)


def windows(x, dim, size, step):
    count = (x.shape[dim] - size) // step + 1
    return np.stack([np.moveaxis(np.take(x, range(i * step, i * step + size), dim), dim, -1) for i in range(count)], dim)


def conv(x, w, b):
    """3x3, one pixel around."""
    p = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    n, height, width, _ = x.shape
    return sum(p[:, i:i + height, j:j + width] @ w[:, i, j].T for i in range(3) for j in range(3)) + b


case("nhwc_conv", "NhwcConv", [X, f32(3, 3, 3, 4), f32(3)], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, MS, ref=lambda x, w, b: conv(x, w, b))
case("nhwc_conv_dynamic", "NhwcConv", [X, f32(3, 3, 3, 4), f32(3)], {"pads": [1, 1, 1, 1]}, MS, dyn={0: ["N", 7, 6, 4]}, ref=lambda x, w, b: conv(x, w, b), consts=(1, 2))
for kind in (np.int8, np.uint8):
    x = rng(3).integers(0, 100, (2, 6, 4, 3)).astype(kind)
    case(f"nhwc_max_pool_{np.dtype(kind).name}", "NhwcMaxPool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]}, MS)
for mode in ("bilinear", "nearest", "bicubic"):
    for pad in ("zeros", "border", "reflection"):
        case(f"ms_grid_sample_{mode}_{pad}", "GridSample", [f32(1, 2, 5, 4), f32(1, 3, 3, 2, scale=0.8)], {"mode": mode, "padding_mode": pad}, MS, rtol=1e-3, atol=1e-4)
case("ms_grid_sample_align", "GridSample", [f32(1, 2, 5, 4), f32(1, 3, 3, 2, scale=0.8)], {"align_corners": 1}, MS)
for name, pads in (("zero", [0, 0, 0, 0]), ("some", [1, 0, 1, 2])):
    case(f"conv_transpose_pads_{name}", "ConvTransposeWithDynamicPads", [f32(1, 2, 4, 4), f32(2, 3, 3, 3), np.int64(pads), f32(3)], {"strides": [2, 2]}, MS, consts=(2,))
case("sample_op", "SampleOp", [X], {}, MS)
for metric in ("euclidean", "sqeuclidean"):
    for kind in (np.float32, np.float64):
        case(f"cdist_{metric}_{np.dtype(kind).name}", "CDist", [f32(5, 3).astype(kind), f32(4, 3).astype(kind)], {"metric": metric}, MS, rtol=1e-3,
             dyn={0: ["M", 3]} if kind == np.float32 else None)
for name, dim, size, step in (("last", -1, 2, 1), ("middle", 1, 3, 2), ("first", 0, 2, 1), ("whole", 2, 6, 3)):
    case(f"unfold_{name}", "UnfoldTensor", [X], {"dim": dim, "size": size, "step": step}, MS, ref=lambda x, d=dim % 4, s=size, t=step: windows(x, d, s, t))
ROIS = np.float32([[0.1, 0.2, 0.7, 0.9], [0, 0, 1, 1], [0.8, 0.9, 0.1, 0.3], [-0.2, 0.1, 1.4, 0.6]])
for mode in ("bilinear", "nearest"):
    for size in ([3, 4], [1, 1], [9, 2]):
        rois = ROIS if mode == "bilinear" else ROIS * 0.97 + np.float32(0.011)  # no place is half way between two pixels
        case(f"crop_and_resize_{mode}_{size[0]}_{size[1]}", "CropAndResize", [f32(2, 3, 6, 5), rois, np.int32([0, 1, 1, 0]), np.int32(size)],
             {"mode": mode, "extrapolation_value": 0.25}, MS, consts=(3,))
case("crop_and_resize_dynamic", "CropAndResize", [f32(2, 3, 6, 5), ROIS, np.int32([0, 1, 1, 0]), np.int32([3, 4])], {}, MS, consts=(3,),
     dyn={0: ["N", 3, "H", "W"], 1: ["R", 4], 2: ["R"]})
for kind in (np.float32, np.float64, np.float16):
    case(f"inverse_{np.dtype(kind).name}", "Inverse", [f32(2, 3, 5, 5).astype(kind)], {}, MS, rtol=2e-2 if kind == np.float16 else 1e-3, atol=2e-2 if kind == np.float16 else 1e-4,
         ref=lambda x: np.linalg.inv(x.astype(np.float64)).astype(x.dtype))
case("inverse_exchange", "Inverse", [np.float32([[0, 2, 1], [1, 0, 0], [0, 0, 4]])], {}, MS)
case("inverse_one", "Inverse", [np.float32([[4]])], {}, MS)
