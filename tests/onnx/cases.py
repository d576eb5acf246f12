#!/usr/bin/env python3
"""Dumps every backend case of the onnx package into a folder, for tests/onnx/conformance.

    cases.py DIR

DIR/KIND/NAME/ gets model.onnx and test_data_set_N/{input,output}_M.pb, KIND being node, simple, pytorch-operator,
pytorch-converted or light; DIR/cases.txt gets a line `KIND/NAME rtol atol data_sets` for each, in order of the names.
The light models ship an output but no input: as in onnx's own runner it is a ramp from 0 to 1.
"""
import json
import sys
import warnings
from pathlib import Path

import numpy
import onnx
from onnx import numpy_helper

DEFAULT_TOLERANCE = (1e-3, 1e-7)  # relative, absolute: what onnx's runner takes where a case names none


def message_of(value, info):
    """A value in the protobuf message that its declared type asks for."""
    if hasattr(value, "SerializeToString"):
        return value
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    if kind == "map_type":
        return numpy_helper.from_dict(value, info.name)
    return numpy_helper.from_array(numpy.asarray(value), info.name)


def write_values(folder, what, values, infos):
    for i, value in enumerate(values):
        data = value if isinstance(value, bytes) else message_of(value, infos[i]).SerializeToString(deterministic=True)
        (folder / f"{what}_{i}.pb").write_bytes(data)


def write_case(folder, model, data_sets):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    for i, (inputs, outputs) in enumerate(data_sets):
        data = folder / f"test_data_set_{i}"
        data.mkdir(exist_ok=True)
        write_values(data, "input", inputs, model.graph.input)
        write_values(data, "output", outputs, model.graph.output)


def read_values(folder, what):
    count = len(list(folder.glob(f"{what}_*.pb")))
    return [(folder / f"{what}_{i}.pb").read_bytes() for i in range(count)]


def node_cases():
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        yield "node", case.name, case.model, case.data_sets, (case.rtol, case.atol)


def folder_cases(root):
    for kind in ("simple", "pytorch-operator", "pytorch-converted"):
        for folder in sorted(f for f in (root / kind).iterdir() if (f / "model.onnx").exists()):
            sets = [(read_values(s, "input"), read_values(s, "output")) for s in sorted(folder.glob("test_data_set_*"))]
            yield kind, folder.name, onnx.load(folder / "model.onnx"), sets, DEFAULT_TOLERANCE


def ramp(info):
    shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
    count = int(numpy.prod(shape))
    return message_of((numpy.arange(count).reshape(shape) / count).astype(numpy.float32), info)


def light_cases(root):
    for about in sorted((root / "real").glob("*/data.json")):
        facts = json.loads(about.read_text())
        path = root / "light" / facts["url"].rpartition("/")[2]
        model = onnx.load(path)
        constants = {t.name for t in model.graph.initializer}
        inputs = [ramp(i) for i in model.graph.input if i.name not in constants]
        outputs = [path.with_name(path.stem + "_output_0.pb").read_bytes()]
        yield "light", path.stem, model, [(inputs, outputs)], (facts["rtol"], facts["atol"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = Path(sys.argv[1])
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    warnings.simplefilter("ignore")
    lines = []
    for cases in (node_cases(), folder_cases(root), light_cases(root)):
        for kind, name, model, sets, (rtol, atol) in cases:
            write_case(target / kind / name, model, sets)
            lines.append(f"{kind}/{name} {rtol:g} {atol:g} {len(sets)}\n")
    (target / "cases.txt").write_text("".join(sorted(lines)))
    print(f"{len(lines)} cases in {target}")


if __name__ == "__main__":
    main()
