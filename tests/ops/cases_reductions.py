"""Reductions of many rows to one element per column: shapes of every size around the parts that rows are shared in."""
import functools

import numpy as np

import suite
from suite import f32

case = functools.partial(suite.case, opset=21, consts=(1,), rtol=1e-3, atol=1e-3)
NUMPY = {"ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min}


def reference(op, axes, keep):
    return lambda x, *_: NUMPY[op](x.astype(np.float64), axis=tuple(axes), keepdims=bool(keep)).astype(x.dtype)


for op in NUMPY:
    for shape, axes in (((7, 33, 35, 5), (0, 1, 2)), ((9, 40, 130), (0, 1)), ((1031, 16), (0,)), ((300, 1, 64, 1), (0, 1)), ((3, 1, 700, 97), (0, 1, 2)), ((2, 257, 64), (-3, -2))):
        for keep in (0, 1):
            name = f"{op.lower()}_{'_'.join(map(str, shape))}_{keep}"
            case(name, op, [f32(*shape), np.int64(axes)], {"keepdims": keep}, ref=reference(op, axes, keep))
    case(f"{op.lower()}_rows_of_the_run", op, [f32(37, 20, 12, 24), np.int64([0, 1, 2])], {"keepdims": 0}, dyn={0: ["N", 20, "W", 24]}, ref=reference(op, (0, 1, 2), 0))
    case(f"{op.lower()}_f64", op, [f32(600, 30).astype(np.float64), np.int64([0])], {"keepdims": 0}, ref=reference(op, (0,), 0))
for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"):
    case(f"{op.lower()}_tall", op, [np.abs(f32(11, 50, 32)) + np.float32(0.1), np.int64([0, 1])], {"keepdims": 0})
