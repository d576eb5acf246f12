"""What the files of cases share: building models of one or a few nodes, and writing them as test cases.

    case("scaler", "Scaler", [x], {"offset": [1.0], "scale": [2.0]}, domain=ML)

A case is a folder as in ONNX's backend tests, with one line in cases.txt, so that the program of tests/onnx runs them.
Expected results come from ONNX Runtime; from the reference implementation of ONNX where that lacks the operator
(ref="onnx"); or from a function of the inputs (ref=function).
"""
import os

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

ort.set_default_logger_severity(4)
ML, MS, ONNX = "ai.onnx.ml", "com.microsoft", ""
OPSETS = {ONNX: 22, ML: 3, MS: 1}
CASES, MISTAKES = {}, []


def rng(seed=0):
    return np.random.default_rng(seed)


def f32(*shape, seed=0, scale=1.0):
    return (rng(seed + sum(shape)).standard_normal(shape) * scale).astype(np.float32)


def u8(*shape, seed=0, high=256):
    return rng(seed + sum(shape)).integers(0, high, shape).astype(np.uint8)


def i8(*shape, seed=0):
    return rng(seed + sum(shape)).integers(-128, 128, shape).astype(np.int8)


def onnx_type(a):
    a = a[0] if isinstance(a, list) else a
    return TensorProto.STRING if a.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(a.dtype)


def parts(value, name=""):
    """The tensors that a feed is for a compiled model, by name: a map is its keys and its values."""
    if not isinstance(value, dict):
        return {name: value}
    keys, values = list(value), list(value.values())
    return {f"{name}_keys": np.array(keys, dtype=object if isinstance(keys[0], str) else np.int64), name: np.array(values, dtype=object if isinstance(values[0], str) else np.asarray(values).dtype)}


def type_of(a, dims):
    if isinstance(a, dict):
        keys, values = parts(a).values()
        return helper.make_map_type_proto(onnx_type(keys), helper.make_tensor_type_proto(onnx_type(values), []))
    if isinstance(a, list):
        return helper.make_sequence_type_proto(helper.make_tensor_type_proto(onnx_type(a), [None] * a[0].ndim))
    return helper.make_tensor_type_proto(onnx_type(a), dims if dims is not None else a.shape)


def model_of(nodes, feeds, outs, inits=(), opsets=None, dims=None, ir=10, functions=()):
    """feeds: name -> array (or a list of them: a sequence); outs: names, or (name, type proto); dims: name -> dims of an input."""
    infos = [helper.make_value_info(k, type_of(v, (dims or {}).get(k))) for k, v in feeds.items()]
    outs = [helper.make_value_info(o, onnx.TypeProto()) if isinstance(o, str) else helper.make_value_info(*o) for o in outs]
    graph = helper.make_graph(nodes, "g", infos, outs, list(inits))
    imports = [helper.make_opsetid(d, v) for d, v in {**OPSETS, **(opsets or {})}.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))


def typed(model, values):
    """The outputs' element types and ranks, from what they turned out to be."""
    for o, v in zip(model.graph.output, values):
        if o.type.WhichOneof("value") is None:
            o.type.CopyFrom(type_of(v, None if isinstance(v, list) else [None] * np.ndim(v)))
    return model


def evaluate(model, feeds, ref):
    if ref == "onnx":
        return ReferenceEvaluator(model).run(None, feeds)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


def save(folder, name, value):
    proto = numpy_helper.from_list(value) if isinstance(value, list) else numpy_helper.from_array(np.asarray(value, dtype=object if np.asarray(value).dtype.kind in "US" else None))
    with open(os.path.join(folder, name), "wb") as f:
        f.write(proto.SerializeToString())


def add(name, model, feeds, want, rtol=1e-4, atol=1e-5):
    """want: the expected outputs, or "ort", "onnx"."""
    assert name not in CASES, name
    feeds = {k: v if isinstance(v, (list, dict)) else np.asarray(v) for k, v in feeds.items()}
    if isinstance(want, str):
        try:
            want = evaluate(model, feeds, want)
        except Exception as e:  # a case that the reference cannot run is a mistake in the suite
            MISTAKES.append(f"{name}: {e}")
            return
    CASES[name] = (typed(model, want), feeds, want, rtol, atol)


def case(name, op, inputs, attrs=None, domain=ONNX, n_out=1, consts=(), dyn=None, opset=None, ref="ort", rtol=1e-4, atol=1e-5, types=None, outs=None):
    """One node. inputs: arrays, dicts (maps) or None; consts: numbers of inputs that are initializers; dyn: input number -> names or sizes of
    its dims; outs: which outputs are wanted; types: element types of outputs."""
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(inputs)]
    feeds = {f"x{i}": a for i, a in enumerate(inputs) if a is not None and i not in consts}
    inits = [numpy_helper.from_array(inputs[i], f"x{i}") for i in consts if inputs[i] is not None]
    results = [f"y{i}" if outs is None or i in outs else "" for i in range(n_out)]
    node = helper.make_node(op, names, results, domain=domain, name=name, **(attrs or {}))
    dims = {f"x{i}": d for i, d in (dyn or {}).items()}
    kept = [r for r in results if r]
    model = model_of([node], feeds, kept, inits, {domain: opset} if opset else None, dims)
    if callable(ref):
        want = ref(*inputs)
        want = list(want) if isinstance(want, tuple) else [want]
    else:
        want = ref
    add(name, model, feeds, want, rtol, atol)


def write(folder):
    with open(os.path.join(folder, "cases.txt"), "w") as index:
        for name, (model, feeds, want, rtol, atol) in sorted(CASES.items()):
            place = os.path.join(folder, "ops", name, "test_data_set_0")
            os.makedirs(place)
            onnx.save(model, os.path.join(folder, "ops", name, "model.onnx"))
            for i, v in enumerate(tensor for x, value in feeds.items() for tensor in parts(value, x).values()):
                save(place, f"input_{i}.pb", v)
            for i, v in enumerate(want):
                save(place, f"output_{i}.pb", v)
            index.write(f"ops/{name} {rtol} {atol} 1\n")
