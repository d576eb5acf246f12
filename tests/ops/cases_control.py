"""If, Loop and Scan alone; sequences and optionals: captured values, shapes that change from turn to turn, nested regions."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from suite import add, f32, model_of

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def node(op, ins, outs, **attrs):
    return helper.make_node(op, ins.split(), outs.split(), **attrs)


def info(name, t=F, dims=None):
    return helper.make_tensor_value_info(name, t, dims)


def const(name, a):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(a), name))


def region(nodes, ins, outs):
    return helper.make_graph(nodes, "region", ins, outs)


X, Y = f32(3, 4), f32(3, 4, seed=1)
for flag in (False, True):
    # A branch reads values of the graph around it, and one gives it back as it is.
    then = region([node("Add", "x y", "t")], [], [info("t")])
    other = region([node("Identity", "y", "e")], [], [info("e")])
    add(f"if_captured_{flag}".lower(), model_of([node("If", "c", "r", then_branch=then, else_branch=other)], {"c": np.array(flag), "x": X, "y": Y}, ["r"]),
        {"c": np.array(flag), "x": X, "y": Y}, "ort")
    # Branches of different sizes.
    then = region([node("Concat", "x y", "t", axis=0)], [], [info("t")])
    other = region([node("Neg", "x", "e")], [], [info("e")])
    add(f"if_sizes_{flag}".lower(), model_of([node("If", "c", "r", then_branch=then, else_branch=other)], {"c": np.array(flag), "x": X, "y": Y}, ["r"]),
        {"c": np.array(flag), "x": X, "y": Y}, "ort")
    # Two outputs, and an If inside a branch whose condition is computed there.
    inner_then = region([node("Exp", "x", "it")], [], [info("it")])
    inner_else = region([node("Abs", "x", "ie")], [], [info("ie")])
    then = region([const("zero", np.float32(0)), node("ReduceSum", "x", "sum", keepdims=0), node("Greater", "sum zero", "p"),
                   node("If", "p", "t", then_branch=inner_then, else_branch=inner_else), node("Sub", "t y", "t2")], [], [info("t"), info("t2")])
    other = region([node("Relu", "x", "e"), node("Relu", "y", "e2")], [], [info("e"), info("e2")])
    add(f"if_nested_{flag}".lower(), model_of([node("If", "c", "r s", then_branch=then, else_branch=other)], {"c": np.array(flag), "x": X, "y": Y}, ["r", "s"]),
        {"c": np.array(flag), "x": X, "y": Y}, "ort")


def loop(body_nodes, carried, scans, ends=True):
    """The body's region: i, condition, carried values a0.. -> condition, b0.., s0.."""
    ins = [info("i", I, []), info("k", B, [])] + [info(f"a{n}", t, d) for n, (t, d) in enumerate(carried)]
    outs = [info("kk", B, [])] + [info(f"b{n}", t, d) for n, (t, d) in enumerate(carried)] + [info(f"s{n}", t) for n, t in enumerate(scans)]
    return region(body_nodes + ([node("Identity", "k", "kk")] if ends else []), ins, outs)


TRIPS = np.int64(4)
for trips in (0, 1, 4):
    t = np.int64(trips)
    body = loop([node("Add", "a0 y", "b0"), node("ReduceSum", "b0", "s0", keepdims=0)], [(F, [3, 4])], [F])
    feeds = {"n": t, "x": X, "y": Y}
    add(f"loop_captured_{trips}", model_of([helper.make_node("Loop", ["n", "", "x"], ["r", "s"], body=body)], feeds, ["r", "s"], dims={"n": []}), feeds, "ort")
# The condition ends it; the number of turns is open.
body = loop([const("limit", np.float32(100)), node("Mul", "a0 a0", "b0"), node("ReduceMax", "b0", "m", keepdims=0), node("Less", "m limit", "kk"), node("Identity", "m", "s0")],
            [(F, [3])], [F], ends=False)
feeds = {"n": np.int64(9), "c": np.array(True), "x": np.float32([1.1, 2, 1.5])}
add("loop_condition", model_of([helper.make_node("Loop", ["n", "c", "x"], ["r", "s"], body=body)], feeds, ["r", "s"]), feeds, "ort")
feeds = {"n": np.int64(9), "c": np.array(False), "x": np.float32([1.1, 2, 1.5])}
add("loop_condition_false", model_of([helper.make_node("Loop", ["n", "c", "x"], ["r", "s"], body=body)], feeds, ["r", "s"]), feeds, "ort")
# Two carried values that are exchanged, one of them also scanned.
body = loop([node("Identity", "a1", "b0"), node("Add", "a0 a1", "b1"), node("Identity", "a0", "s0")], [(F, [3, 4]), (F, [3, 4])], [F])
add("loop_exchange", model_of([helper.make_node("Loop", ["n", "", "x", "y"], ["r", "q", "s"], body=body)], {"n": TRIPS, "x": X, "y": Y}, ["r", "q", "s"]), {"n": TRIPS, "x": X, "y": Y}, "ort")
# The turn's number picks a row.
body = loop([const("zero", np.int64(0)), node("Gather", "y i", "row", axis=0), node("Add", "a0 row", "b0"), node("Cast", "i", "f", to=F), node("Mul", "row f", "s0")], [(F, [4])], [F])
feeds = {"n": np.int64(3), "x": f32(4), "y": Y}
add("loop_rows", model_of([helper.make_node("Loop", ["n", "", "x"], ["r", "s"], body=body)], feeds, ["r", "s"]), feeds, "ort")
# A loop in a loop, the inner one as long as the outer one's turn says.
inner = region([node("Add", "ia one", "ib"), node("Identity", "ik", "ikk")], [info("ii", I, []), info("ik", B, []), info("ia", F, [])], [info("ikk", B, []), info("ib", F, [])])
body = loop([const("one", np.float32(1)), helper.make_node("Loop", ["i", "", "a0"], ["b0"], body=inner), node("Identity", "b0", "s0")], [(F, [])], [F])
add("loop_nested", model_of([helper.make_node("Loop", ["n", "", "x"], ["r", "s"], body=body)], {"n": TRIPS, "x": np.float32(0.5)}, ["r", "s"]), {"n": TRIPS, "x": np.float32(0.5)}, "ort")
# An If inside a loop.
then = region([node("Add", "a0 y", "t")], [], [info("t")])
other = region([node("Sub", "a0 y", "e")], [], [info("e")])
body = loop([const("two", np.int64(2)), const("zero", np.int64(0)), node("Mod", "i two", "odd"), node("Equal", "odd zero", "even"), node("If", "even", "b0", then_branch=then, else_branch=other),
             node("Identity", "b0", "s0")], [(F, [3, 4])], [F])
feeds = {"n": np.int64(3), "x": X, "y": Y}
add("loop_if", model_of([helper.make_node("Loop", ["n", "", "x"], ["r", "s"], body=body)], feeds, ["r", "s"]), feeds, "ort")
# The carried value grows by a row in each turn; the number of turns is a constant.
body = loop([node("Concat", "a0 y", "b0", axis=0)], [(F, None)], [])
feeds = {"x": X, "y": Y}
add("loop_growing", model_of([const("n", np.int64(3)), helper.make_node("Loop", ["n", "", "x"], ["r"], body=body)], feeds, ["r"]), feeds, "ort")

# Scan: directions, axes, captured values, several states.
SEQ = f32(5, 2, 3)
for name, attrs in (("forward", {}), ("reverse_in", {"scan_input_directions": [1]}), ("reverse_out", {"scan_output_directions": [1]}), ("axis_in", {"scan_input_axes": [1]}),
                    ("axis_out", {"scan_output_axes": [1]}), ("axis_negative", {"scan_input_axes": [-1], "scan_output_axes": [-1]})):
    axis = attrs.get("scan_input_axes", [0])[0]
    row = np.take(SEQ, 0, axis).shape
    body = region([node("Add", "a zi", "b"), node("Mul", "b w", "si")], [info("a", F, list(row)), info("zi", F, list(row))], [info("b"), info("si")])
    feeds = {"h": f32(*row, seed=3), "z": SEQ, "w": f32(*row, seed=4)}
    nodes = [helper.make_node("Scan", ["h", "z"], ["r", "s"], body=body, num_scan_inputs=1, **attrs)]
    add(f"scan_{name}", model_of(nodes, feeds, ["r", "s"]), feeds, "ort")
body = region([node("Add", "a zi", "t"), node("Tanh", "t", "b"), node("Mul", "b q", "u"), node("Sub", "c u", "d"), node("Identity", "d", "s0"), node("ReduceSum", "b", "s1", keepdims=0)],
              [info("a", F, [2]), info("c", F, [2]), info("zi", F, [2]), info("q", F, [])], [info("b"), info("d"), info("s0"), info("s1")])
feeds = {"h": f32(2, seed=1), "g": f32(2, seed=2), "z": f32(6, 2), "p": f32(6)}
add("scan_two_states", model_of([helper.make_node("Scan", ["h", "g", "z", "p"], ["r0", "r1", "s0", "s1"], body=body, num_scan_inputs=2)], feeds, ["r0", "r1", "s0", "s1"]), feeds, "ort")
add("scan_dynamic", model_of([helper.make_node("Scan", ["h", "g", "z", "p"], ["r0", "r1", "s0", "s1"], body=body, num_scan_inputs=2)], feeds, ["r0", "r1", "s0", "s1"], dims={"z": ["T", 2], "p": ["T"]}), feeds, "ort")

# Sequences.
A, C, D = f32(2, 3), f32(2, 3, seed=5), f32(2, 3, seed=6)
seq = [A, C, D]
add("sequence_construct_at", model_of([node("SequenceConstruct", "x y", "s"), node("SequenceAt", "s i", "r"), node("SequenceLength", "s", "n")], {"x": A, "y": C, "i": np.int64(-1)}, ["r", "n"]),
    {"x": A, "y": C, "i": np.int64(-1)}, "ort")
add("sequence_empty_insert", model_of([node("SequenceEmpty", "", "e"), node("SequenceInsert", "e x", "s"), node("SequenceInsert", "s y i", "t"), node("ConcatFromSequence", "t", "r", axis=0)],
                                      {"x": A, "y": C, "i": np.int64(0)}, ["r"]), {"x": A, "y": C, "i": np.int64(0)}, "ort")
for at in (-3, 0, 1, 2):
    feeds = {"s": seq, "i": np.int64(at)}
    add(f"sequence_erase_{at}".replace("-", "m"), model_of([node("SequenceErase", "s i", "r")], feeds, ["r"]), feeds, "ort")
    feeds = {"s": seq, "x": A + 1, "i": np.int64(at)}
    add(f"sequence_insert_{at}".replace("-", "m"), model_of([node("SequenceInsert", "s x i", "r")], feeds, ["r"]), feeds, "ort")
    feeds = {"s": seq, "i": np.int64(at)}
    add(f"sequence_at_{at}".replace("-", "m"), model_of([node("SequenceAt", "s i", "r")], feeds, ["r"]), feeds, "ort")
add("sequence_erase_last", model_of([node("SequenceErase", "s", "r")], {"s": seq}, ["r"]), {"s": seq}, "ort")
add("sequence_length", model_of([node("SequenceLength", "s", "r")], {"s": seq}, ["r"]), {"s": seq}, "ort")
for axis, new in ((0, 0), (1, 0), (-1, 0), (0, 1), (2, 1), (-1, 1)):
    add(f"concat_from_sequence_{axis}_{new}".replace("-", "m"), model_of([node("ConcatFromSequence", "s", "r", axis=axis, new_axis=new)], {"s": seq}, ["r"]), {"s": seq}, "ort")
add("concat_from_sequence_uneven", model_of([node("ConcatFromSequence", "s", "r", axis=0)], {"s": [A, f32(1, 3), f32(4, 3)]}, ["r"]), {"s": [A, f32(1, 3), f32(4, 3)]}, "ort")
L = f32(7, 3)
for name, split, attrs in (("ones", None, {}), ("ones_flat", None, {"keepdims": 0}), ("by_two", np.int64(2), {}), ("lengths", np.int64([1, 4, 2]), {}), ("columns", np.int64(2), {"axis": 1}), ("negative", np.int64([2, 1]), {"axis": -1})):
    given = [] if split is None else [const("n", split)]
    add(f"split_to_sequence_{name}", model_of(given + [node("SplitToSequence", "x" if split is None else "x n", "r", **attrs)], {"x": L}, ["r"]), {"x": L}, "ort")
add("split_concat", model_of([node("SplitToSequence", "x", "s", axis=0), node("ConcatFromSequence", "s", "r", axis=1)], {"x": L}, ["r"], dims={"x": ["N", 3]}), {"x": L}, "ort")
# A sequence built in a loop, as exporters write lists.
ins = [info("i", I, []), info("k", B, []), helper.make_value_info("a", helper.make_sequence_type_proto(helper.make_tensor_type_proto(F, None)))]
outs = [info("kk", B, []), helper.make_value_info("b", helper.make_sequence_type_proto(helper.make_tensor_type_proto(F, None)))]
body = region([node("Cast", "i", "f", to=F), node("Mul", "x f", "xf"), node("SequenceInsert", "a xf", "b"), node("Identity", "k", "kk")], ins, outs)
add("sequence_in_loop", model_of([node("SequenceEmpty", "", "e"), const("n", np.int64(3)), helper.make_node("Loop", ["n", "", "e"], ["s"], body=body), node("ConcatFromSequence", "s", "r", axis=0, new_axis=1)],
                                 {"x": A}, ["r"]), {"x": A}, "ort")
for kind, values in (("i64", [np.int64([1, 2]), np.int64([3, 4])]), ("f64", [np.float64([1, 2]), np.float64([3, 4])]), ("bool", [np.array([True, False]), np.array([False, False])]),
                     ("str", [np.array(["a", "bc"], object), np.array(["", "d"], object)])):
    add(f"sequence_at_{kind}", model_of([node("SequenceAt", "s i", "r")], {"s": values, "i": np.int64(1)}, ["r"]), {"s": values, "i": np.int64(1)}, [values[1]])

# Optionals.
for what, given in (("tensor", A), ("sequence", seq)):
    element = helper.make_tensor_type_proto(F, [2, 3])
    t = helper.make_sequence_type_proto(element) if what == "sequence" else element
    add(f"optional_{what}", model_of([helper.make_node("Optional", ["x"], ["o"]), node("OptionalHasElement", "o", "h"), node("OptionalGetElement", "o", "r")], {"x": given}, ["h", "r"]), {"x": given}, [np.array(True), given])
    add(f"optional_none_{what}", model_of([helper.make_node("Optional", [], ["o"], type=t), node("OptionalHasElement", "o", "h"), node("Identity", "x", "r")], {"x": A}, ["h", "r"]), {"x": A}, [np.array(False), A])
