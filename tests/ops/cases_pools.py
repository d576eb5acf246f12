"""Pools that no backend case has: MaxRoiPool, GlobalLpPool."""
import functools

import numpy as np

import suite
from suite import f32

case = functools.partial(suite.case, opset=21)  # what ONNX Runtime has these for

X = f32(2, 3, 9, 12)
# batch, left, top, right, bottom: inside, a single pixel, beyond the image on every side, turned around, between pixels
ROIS = np.array([[0, 1, 1, 7, 6], [1, 0, 0, 11, 8], [1, 4, 4, 4, 4], [0, -5, -3, 20, 20], [0, 8, 7, 2, 1], [1, 2.4, 1.6, 7.3, 6.7], [0, 13, 10, 30, 30]], np.float32)
for size in ((1, 1), (2, 3), (7, 7)):
    for scale in (1.0, 0.5):
        case(f"max_roi_pool_{size[0]}_{size[1]}_{scale}".replace(".", ""), "MaxRoiPool", [X, ROIS], {"pooled_shape": list(size), "spatial_scale": scale})
case("max_roi_pool_rois", "MaxRoiPool", [X, ROIS], {"pooled_shape": [2, 2]}, dyn={0: ["N", 3, "H", "W"], 1: ["rois", 5]})

for rank, shape in ((1, (2, 3, 7)), (2, (2, 3, 5, 4)), (3, (2, 3, 2, 3, 4))):
    for p in (1, 2, 3):
        case(f"global_lp_pool_{rank}_{p}", "GlobalLpPool", [f32(*shape)], {"p": p}, dyn={0: ["N", 3] + [f"s{i}" for i in range(rank)]} if p == 2 else None)
case("global_lp_pool_one", "GlobalLpPool", [f32(2, 3, 1, 1)])
case("global_lp_pool_f64", "GlobalLpPool", [f32(2, 3, 4, 4).astype(np.float64)], ref=lambda x: np.sqrt((x * x).sum(axis=(2, 3), keepdims=True)))
