"""Writes the small models of the command-line tests (they are checked in; this says what is in them).

    python3 make_models.py        needs the packages onnx and numpy
"""
import os

import numpy as np
from onnx import TensorProto, helper, numpy_helper

here = os.path.dirname(os.path.abspath(__file__))


def tensor(name, dims, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, dims)


def save(name, nodes, inputs, outputs, constants=(), opset=17, domains=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants])
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, producer_name="")
    with open(os.path.join(here, name + ".onnx"), "wb") as f:
        f.write(model.SerializeToString())


weights = (np.arange(32, dtype=np.float32).reshape(8, 4) - 15.5) / 16
bias = np.linspace(-1, 1, 4, dtype=np.float32)

# y = relu(x * w + b), x: f32[N, 8], the batch is symbolic
save("dense", [helper.make_node("MatMul", ["x", "w"], ["xw"], name="fc/matmul"), helper.make_node("Add", ["xw", "b"], ["z"], name="fc/bias"),
               helper.make_node("Relu", ["z"], ["y"], name="act")],
     [tensor("x", ["N", 8])], [tensor("y", ["N", 4])], [("w", weights), ("b", bias)])
# sum = a + b of fixed shape, an i64 input beside it
save("fixed", [helper.make_node("Add", ["a", "b"], ["s"], name="add"), helper.make_node("Gather", ["s", "i"], ["y"], name="pick")],
     [tensor("a", [3, 4]), tensor("b", [3, 4]), tensor("i", [2], TensorProto.INT64)], [tensor("y", [2, 4])])
# two operators nobody has, and a domain nobody knows
save("unsupported", [helper.make_node("Relu", ["x"], ["r"], name="fine"), helper.make_node("Frobnicate", ["r"], ["f"], name="layer1/frob"),
                     helper.make_node("Warp", ["f"], ["g"], name="layer2/warp", domain="com.example"), helper.make_node("Frobnicate", ["g"], ["y"], name="layer3/frob")],
     [tensor("x", [2, 3])], [tensor("y", [2, 3])], domains=["com.example"])
# an image of any size, but not smaller than the kernel
save("window", [helper.make_node("Conv", ["x", "k"], ["y"], name="window")], [tensor("x", [1, 1, "H", "W"])], [tensor("y", [1, 1, "P", "Q"])],
     [("k", np.linspace(-1, 1, 144, dtype=np.float32).reshape(1, 1, 12, 12))])
# a sequence, an optional and an optional sequence: in and out; elements of any size
floats = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
row = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
sequence, optional = helper.make_sequence_type_proto(floats), helper.make_optional_type_proto(row)
then = helper.make_graph([helper.make_node("OptionalGetElement", ["o"], ["held"]), helper.make_node("SequenceInsert", ["s", "held"], ["more"], name="insert")],
                         "then", [], [helper.make_value_info("more", sequence)])
other = helper.make_graph([helper.make_node("Identity", ["s"], ["same"])], "else", [], [helper.make_value_info("same", sequence)])
save("sequence", [helper.make_node("OptionalHasElement", ["o"], ["has"]), helper.make_node("If", ["has"], ["longer"], then_branch=then, else_branch=other),
                  helper.make_node("SequenceLength", ["s"], ["n"]), helper.make_node("Identity", ["o"], ["maybe"]), helper.make_node("OptionalHasElement", ["t"], ["listed"])],
     [helper.make_value_info("s", sequence), helper.make_value_info("o", optional), helper.make_value_info("t", helper.make_optional_type_proto(sequence))],
     [helper.make_value_info("longer", sequence), tensor("n", [], TensorProto.INT64), helper.make_value_info("maybe", optional),
      tensor("listed", [], TensorProto.BOOL)], opset=18)
# names that would break out of a comment, a string, or the directory of the outputs
save("hostile", [helper.make_node("Neg", ["in*/ \"\\\n"], ["../../out"], name="*/ int main(void) { return 1; } /*")],
     [tensor("in*/ \"\\\n", [2, 3])], [tensor("../../out", [2, 3])])

# 328 MiB of weights in a file that large.sh makes: packed, transposed or widened by the compiler, and the last two equal
nodes, outside, at, value = [], [], 0, "x"
D = 2048


def external(dims, dtype, size):
    global at
    w = TensorProto(name=f"w{len(outside)}", data_type=dtype, dims=dims, data_location=TensorProto.EXTERNAL)
    length = size * int(np.prod(dims))
    for key, text in ("location", "outside.bin"), ("offset", str(at)), ("length", str(length)):
        w.external_data.add(key=key, value=text)
    at += length
    outside.append(w)
    return w.name


def layer(op, *inputs, **attributes):
    global value
    value = f"v{len(nodes)}"
    nodes.append(helper.make_node(op, inputs, [value], **attributes))
    return value


for i in range(4):
    layer("MatMul", value, external([D, D], TensorProto.FLOAT, 4))
    layer("Gemm", value, external([D, D], TensorProto.FLOAT, 4), transB=1)
    x = value
    layer("MatMul", x, layer("Transpose", external([D, D], TensorProto.FLOAT, 4), perm=[1, 0]))
    x = value
    layer("MatMul", x, layer("Cast", external([D, D], TensorProto.FLOAT16, 2), to=TensorProto.FLOAT))
layer("Reshape", value, "image")
for i in range(2):
    layer("Conv", value, external([1024, 1024, 3, 3], TensorProto.FLOAT, 4), pads=[1, 1, 1, 1])
layer("Reshape", value, "row")
for i in range(2):
    layer("MatMul", value, external([D, D], TensorProto.FLOAT, 4))
shapes = [numpy_helper.from_array(np.array([-1, 1024, 1, 2], np.int64), "image"), numpy_helper.from_array(np.array([-1, D], np.int64), "row")]
graph = helper.make_graph(nodes, "large", [tensor("x", ["N", D])], [tensor(value, ["N", D])], outside + shapes)
with open(os.path.join(here, "large.onnx"), "wb") as f:
    f.write(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="").SerializeToString())

# data for dense: right, wrong in shape, wrong in type; references right and wrong; the same as ONNX test data
data = os.path.join(here, "data")
os.makedirs(os.path.join(data, "dense", "test_data_set_0"), exist_ok=True)
x = np.linspace(-2, 2, 16, dtype=np.float32).reshape(2, 8)
y = np.maximum(x @ weights + bias, 0)
np.save(os.path.join(data, "x.npy"), x)
np.save(os.path.join(data, "x_f64.npy"), x.astype(np.float64))
np.save(os.path.join(data, "x_2x7.npy"), x[:, :7])
np.save(os.path.join(data, "x_100x8.npy"), np.zeros((100, 8), np.float32))
np.save(os.path.join(data, "y.npy"), y)
np.save(os.path.join(data, "y_off.npy"), y + np.float32(0.01))
np.save(os.path.join(data, "a.npy"), np.arange(12, dtype=np.float32).reshape(3, 4))
np.save(os.path.join(data, "a_2x3.npy"), np.ones((2, 3), np.float32))
np.save(os.path.join(data, "i.npy"), np.array([2, 0], dtype=np.int64))
np.save(os.path.join(data, "i_out_of_range.npy"), np.array([2, 3], dtype=np.int64))
np.savez(os.path.join(data, "dense.in.npz"), x=x)
np.savez(os.path.join(data, "dense.ref.npz"), y=y)
for name, value in [("input_0", x), ("output_0", y)]:
    with open(os.path.join(data, "dense", "test_data_set_0", name + ".pb"), "wb") as f:
        f.write(numpy_helper.from_array(value).SerializeToString())

# data for sequence: elements of different sizes; nothing; parts that do not fit together; the sequence of ONNX test data
a, b, o = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((1, 4), np.float32), np.array([7, 8], np.float32)
np.savez(os.path.join(data, "sequence.in.npz"), **{"s.0": a, "s.1": b, "o": o, "t.0": a})
np.savez(os.path.join(data, "sequence.ref.npz"), **{"longer.0": a, "longer.1": b, "longer.2": o, "n": np.int64(2), "maybe": o, "listed": np.bool_(True)})
np.savez(os.path.join(data, "sequence_none.npz"), **{"s.length": np.int64(0), "o.present": np.bool_(False), "t.present": np.bool_(False)})
np.savez(os.path.join(data, "sequence_gap.npz"), **{"s.0": a, "s.2": b, "o": o, "o.present": np.bool_(False), "t": a})
np.savez(os.path.join(data, "sequence_wrong.npz"), **{"s.0": a.astype(np.int64), "o": np.zeros(3, np.float32), "t.present": np.bool_(False)})
