"""Normalisations between convolutions, which are channels last there: instances and groups, written as one node and as exporters write groups;
batches in training."""
import numpy as np
from onnx import helper, numpy_helper

from suite import add, f32, model_of


def conv(x, y, w, spatial):
    return helper.make_node("Conv", [x, w], [y], kernel_shape=[3] * spatial, pads=[1] * 2 * spatial)


def between(name, size, channels, groups, form, shift=0.0, dims=None, affine=True, activation=True):
    """conv, normalisation, activation, conv. form: instance, group, reshaped."""
    spatial = len(size) - 2
    x = f32(*size) + np.float32(shift)
    per = groups if form == "reshaped" else channels
    inits = {"w": f32(channels, size[1], *[3] * spatial, scale=0.3), "v": f32(5, channels, *[3] * spatial, seed=1, scale=0.2),
             "s": f32(per, seed=2) + np.float32(1), "b": f32(per, seed=3)}
    nodes = [conv("x", "a", "w", spatial)]
    if form == "reshaped":
        inits |= {"parts": np.array([0, groups, -1], np.int64), "gamma": f32(channels, *[1] * spatial, seed=4), "beta": f32(channels, *[1] * spatial, seed=5)}
        nodes += [helper.make_node("Shape", ["a"], ["full"]), helper.make_node("Reshape", ["a", "parts"], ["p"]),
                  helper.make_node("InstanceNormalization", ["p", "s", "b"], ["q"], epsilon=1e-3), helper.make_node("Reshape", ["q", "full"], ["n0"])]
        nodes += [helper.make_node("Mul", ["n0", "gamma"], ["n1"]), helper.make_node("Add", ["n1", "beta"], ["n"])] if affine else [helper.make_node("Identity", ["n0"], ["n"])]
    elif form == "group":
        nodes.append(helper.make_node("GroupNormalization", ["a", "s", "b"], ["n"], num_groups=groups))
    else:
        nodes.append(helper.make_node("InstanceNormalization", ["a", "s", "b"], ["n"]))
    if activation:
        nodes += [helper.make_node("Sigmoid", ["n"], ["g"]), helper.make_node("Mul", ["n", "g"], ["c"])]
    nodes.append(conv("c" if activation else "n", "y", "v", spatial))
    model = model_of(nodes, {"x": x}, ["y"], [numpy_helper.from_array(v, k) for k, v in inits.items()], opsets={"": 21}, dims={"x": dims} if dims else None)
    add(f"norm_{name}", model, {"x": x}, "ort")


between("instance_1", (2, 3, 50), 6, 6, "instance")
between("instance_2", (2, 3, 9, 7), 20, 20, "instance")
between("instance_3", (1, 2, 4, 5, 6), 7, 7, "instance", activation=False)
between("instance_dynamic", (2, 3, 9, 7), 12, 12, "instance", dims=["N", 3, "H", "W"])
between("instance_pixel", (2, 3, 1, 1), 8, 8, "instance")
between("group_2", (2, 3, 9, 7), 24, 4, "group")
between("group_one", (1, 3, 8, 8), 16, 1, "group", activation=False)
between("group_pieces", (1, 3, 40, 37), 64, 8, "group")
between("group_far_from_zero", (1, 3, 24, 24), 32, 4, "group", shift=60.0, activation=False)
between("reshaped_2", (2, 3, 9, 7), 24, 4, "reshaped")
between("reshaped_plain", (1, 3, 20, 20), 40, 8, "reshaped", affine=False)
between("reshaped_1", (3, 2, 31), 10, 5, "reshaped")
between("reshaped_dynamic", (2, 3, 9, 7), 24, 4, "reshaped", dims=["N", 3, "H", "W"])


def behind_convolution(name, norm, extra, outs, space=(9, 10), dims=None):
    """Conv -> norm -> Relu, added to the convolution's result -> Conv."""
    x, window = f32(3, 4, *space), (3,) * len(space)
    inits = {"w": f32(8, 4, *window, seed=1, scale=0.3), "v": f32(5, 8, *window, seed=2, scale=0.3), "scale": f32(8, seed=3) + np.float32(1), "bias": f32(8, seed=4), **extra}
    same = {"kernel_shape": window, "pads": [1] * 2 * len(space)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], **same), norm, helper.make_node("Relu", ["b"], ["c"]), helper.make_node("Add", ["a", "c"], ["d"]), helper.make_node("Conv", ["d", "v"], ["y"], **same)]
    model = model_of(nodes, {"x": x}, ["y", *outs], [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in inits.items()], {"": 21}, {"x": dims} if dims else None)
    add(f"norm_{name}", model, {"x": x}, "onnx")


for groups in (1, 8):
    behind_convolution(f"group_{groups}", helper.make_node("GroupNormalization", ["a", "scale", "bias"], ["b"], num_groups=groups), {}, [])
behind_convolution("group_line", helper.make_node("GroupNormalization", ["a", "scale", "bias"], ["b"], num_groups=4), {}, [], (33,))
behind_convolution("group_run", helper.make_node("GroupNormalization", ["a", "scale", "bias"], ["b"], num_groups=4, epsilon=1e-3), {}, [], dims=["N", 4, "H", "W"])
behind_convolution("instance", helper.make_node("InstanceNormalization", ["a", "scale", "bias"], ["b"]), {}, [])
behind_convolution("instance_volume", helper.make_node("InstanceNormalization", ["a", "scale", "bias"], ["b"], epsilon=1e-2), {}, [], (5, 4, 6))
running = {"mean": f32(8, seed=5), "variance": np.abs(f32(8, seed=6)) + np.float32(0.5)}
for name, space in (("batch", (9, 10)), ("batch_line", (200,)), ("batch_large", (30, 31))):
    train = helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "variance"], ["b", "m", "s"], training_mode=1, momentum=0.8)
    behind_convolution(name, train, running, ["m", "s"], space)
behind_convolution("batch_run", helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "variance"], ["b", "m"], training_mode=1), running, ["m"], dims=["N", 4, "H", 10])
