"""Times quantized networks and products: lathe against OpenVINO (quantized by NNCF) and ONNX Runtime; writes QUANTIZATION.md.

    quantized.py --lathe BUILD/lathe                       the networks of NETWORKS, and the products
    quantized.py --lathe BUILD/lathe a.onnx b.onnx:int8    other networks; behind the colon how `lathe quantize` makes them smaller

lathe's network is what `lathe quantize` writes; the same data calibrate the peers' quantizers. NETWORK.in.npz beside a network's
file has its inputs; without it they are random. Contenders take turns as in compare.py. The products are of 4096 x 4096 weights, and
their limits come from limits.c: multiplications in AVX-512 VNNI (AMX can be faster), bytes read from memory.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import nets
from compare import ROUNDS, Contender, build, compiler, cpu, random_inputs, version

HERE = os.path.dirname(os.path.abspath(__file__))
NETWORKS = ["resnet50:static", "mobilenet_v2:static", "bert_small:static", "gpt_small:static"]
WEIGHTS_ONLY = ("int8", "int4")
BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def calibration(inputs, directory):
    """Four sets like the inputs, in a folder of .npz files."""
    random, sets = np.random.default_rng(0), []
    os.makedirs(directory)
    for i in range(4):
        sets.append({k: random.standard_normal(v.shape).astype(v.dtype) if np.issubdtype(v.dtype, np.floating) else v for k, v in inputs.items()})
        np.savez(os.path.join(directory, f"{i}.npz"), **sets[-1])
    return sets


def by_lathe(lathe, path, scheme, calib, to):
    more = ["--calib", calib] if scheme == "static" else ["--int8-activations"] if scheme in WEIGHTS_ONLY else []
    subprocess.run([lathe, "quantize", path, "--scheme", scheme, *more, "-o", to], check=True, capture_output=True, text=True)


def by_onnx_runtime(path, scheme, sets, to):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    prepared = to + ".prepared"
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    if scheme != "static":
        quantize_dynamic(prepared, to, per_channel=True, weight_type=QuantType.QInt8)
        return
    entries = iter(sets)

    class Data(CalibrationDataReader):
        def get_next(self):
            return next(entries, None)
    quantize_static(prepared, to, Data(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8)


def by_nncf(path, transformer, sets, to):
    import nncf
    import openvino
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    openvino.save_model(nncf.quantize(openvino.Core().read_model(path), nncf.Dataset(sets), subset_size=len(sets), model_type=kind), to)


def attempt(failures, name, make):
    """make(), and whether it worked; a peer's quantizer that cannot do a network is reported, not fatal."""
    try:
        make()
        return True
    except Exception as e:
        failures.append(f"{name}: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:200])
        return False


def decibels(got, want):
    error = sum(float(np.sum((got[k].astype(np.float64) - want[k]) ** 2)) for k in want)
    return 10 * np.log10(sum(float(np.sum(want[k].astype(np.float64) ** 2)) for k in want) / max(error, 1e-300))


def network(path, scheme, threads, arguments, cc, failures):
    """The row of one network: milliseconds by contender and number of threads, and how far the quantized outputs are from the floats'."""
    name = os.path.basename(path).removesuffix(".onnx")
    with tempfile.TemporaryDirectory() as directory:
        at = lambda file: os.path.join(directory, file)
        given = path.removesuffix(".onnx") + ".in.npz"
        model = onnx.load(path, load_external_data=False)
        inputs = dict(np.load(given)) if os.path.exists(given) else random_inputs(model)
        np.savez(at("in.npz"), **inputs)
        sets = calibration(inputs, at("calib"))
        by_lathe(arguments.lathe, path, scheme, at("calib"), at("lathe.onnx"))
        transformer = any(n.op_type == "Softmax" for n in model.graph.node[:-1])
        peers = {}
        if attempt(failures, f"{name}, ONNX Runtime", lambda: by_onnx_runtime(path, scheme, sets, at("ort.onnx"))):
            peers["ort"] = dict(kind="ort", model=at("ort.onnx"))
        if scheme == "static" and attempt(failures, f"{name}, NNCF", lambda: by_nncf(path, transformer, sets, at("nncf.xml"))):
            peers["openvino"] = dict(kind="openvino_default", model=at("nncf.xml"))
        for kind, file in (("lathe", at("lathe.onnx")), ("float", path)):
            os.makedirs(at(kind))
            peers[kind] = dict(kind="lathe", model=file, library=build(arguments.lathe, cc, file, at(kind), "f32")[2], weights=at(kind + "/model.bin"))
        row = {"network": name, "scheme": scheme, "results": []}
        for n in threads:
            reference = Contender(kind="ort", model=path, threads=n, inputs=at("in.npz"))
            want = reference.outputs(at("want.npz"))
            reference.end()
            shapes = dict(input_names=list(inputs), output_names=list(want), output_shapes=[list(w.shape) for w in want.values()])
            contenders = {k: Contender(threads=n, inputs=at("in.npz"), **shapes, **load) for k, load in peers.items()}
            got = {k: c.outputs(at("got.npz")) for k, c in contenders.items() if k in ("lathe", "ort")}
            for _ in range(ROUNDS):
                for c in contenders.values():
                    c.turn()
            for k, c in contenders.items():
                c.end()
                if c.error:
                    failures.append(f"{name}, {k}: {c.error}")
            row["results"].append({"threads": n, "ms": {k: (statistics.median(c.samples) * 1e3, min(c.samples) * 1e3) for k, c in contenders.items() if c.samples},
                                   "db": {k: decibels(g, want) for k, g in got.items() if g is not None}})
        return row


def product(directory):
    """x [N,4096] times 4096 x 4096 weights, by batch."""
    weights = numpy_helper.from_array(np.random.default_rng(0).standard_normal((4096, 4096)).astype(np.float32) * np.float32(0.02), "w")
    files = {}
    for n in BATCHES:
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [n, 4096])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, [n, 4096])], [weights])
        files[n] = os.path.join(directory, f"product{n}.onnx")
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), files[n])
    return files


def products(threads, arguments, cc):
    """Milliseconds of the product by scheme, batch and number of threads, and what the processor can do at most."""
    rows, most = [], {}
    with tempfile.TemporaryDirectory() as directory:
        limits = os.path.join(directory, "limits")
        subprocess.run([cc, "-O2", "-march=native", "-fopenmp", "-w", os.path.join(HERE, "limits.c"), "-o", limits], check=True)
        for n in threads:
            most[n] = json.loads(subprocess.run([limits, str(n)], check=True, capture_output=True, text=True).stdout)
        for batch, path in product(directory).items():
            at = lambda file: os.path.join(directory, f"{batch}-{file}")
            inputs = random_inputs(onnx.load(path))
            np.savez(at("in.npz"), **inputs)
            calibration(inputs, at("calib"))
            libraries = {}
            for scheme in ("float", "static", "int8", "int4"):
                file = path
                if scheme != "float":
                    file = at(scheme + ".onnx")
                    by_lathe(arguments.lathe, path, scheme, at("calib"), file)
                os.makedirs(at(scheme))
                libraries[scheme] = dict(model=file, library=build(arguments.lathe, cc, file, at(scheme), "f32")[2], weights=at(scheme + "/model.bin"))
            for n in threads:
                contenders = {k: Contender(kind="lathe", threads=n, inputs=at("in.npz"), input_names=["x"], output_names=["y"], output_shapes=[[batch, 4096]], **load)
                              for k, load in libraries.items()}
                for _ in range(ROUNDS):
                    for c in contenders.values():
                        c.turn()
                for c in contenders.values():
                    c.end()
                rows.append({"batch": batch, "threads": n, "ms": {k: min(c.samples) * 1e3 for k, c in contenders.items()}})
    return rows, most


def markdown(networks, rows, most, failures, cc_version, arguments):
    lathe_version = subprocess.run([arguments.lathe, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    lines = ["# Quantized networks and products", "",
             f"{cpu()}, {os.cpu_count()} processors; {datetime.date.today()}. lathe {lathe_version} with {cc_version}; ONNX Runtime {version('onnxruntime')}, "
             f"OpenVINO {version('openvino')}, NNCF {version('nncf')}.", "",
             "Milliseconds, median (minimum), of interleaved rounds. Speed-ups compare medians. dB: signal to error of the outputs against ONNX Runtime's on the float network, for",
             "lathe's and ONNX Runtime's quantized network (random weights and inputs: the networks are there for their time). Reproduce with `bench/run quantized`.", "",
             "| network | threads | lathe | lathe, float | OpenVINO + NNCF | ONNX Runtime | over OpenVINO | over ONNX Runtime | dB lathe | dB ONNX Runtime |",
             "|---" * 10 + "|"]
    for row in networks:
        for r in row["results"]:
            cell = lambda k: f"{r['ms'][k][0]:.3g} ({r['ms'][k][1]:.3g})" if k in r["ms"] else "–"
            over = lambda k: f"{r['ms'][k][0] / r['ms']['lathe'][0]:.2f}" if k in r["ms"] and "lathe" in r["ms"] else "–"
            db = lambda k: f"{r['db'][k]:.1f}" if k in r["db"] else "–"
            lines.append(f"| {row['network']}, {row['scheme']} | {r['threads']} | {cell('lathe')} | {cell('float')} | {cell('openvino')} | {cell('ort')} | {over('openvino')} | "
                         f"{over('ort')} | {db('lathe')} | {db('ort')} |")
    if rows:
        lines += ["", "## x [N,4096] times 4096 x 4096 weights", "",
                  "Milliseconds (minimum), and how many times faster than floats. static: 8-bit weights and inputs; int8, int4: weights only, inputs rounded as they are read.",
                  "Peak: of " + ", ".join(f"{m['vnni_gops']:.0f} GOP/s of AVX-512 VNNI" + f" ({n} thread{'s' if n > 1 else ''})" for n, m in most.items()) + ". Memory: of " +
                  ", ".join(f"{m['read_16mb']:.1f} GB/s read from 16 MB, {m['memory']:.1f} GB/s from 1 GB ({n})" for n, m in most.items()) + ".", "",
                  "| batch | threads | float | static | int8 | int4 | static, of peak | int8, bytes of weights per second | int4 |", "|---" * 9 + "|"]
        for r in rows:
            ms, peak = r["ms"], most[r["threads"]]["vnni_gops"]
            cell = lambda k: f"{ms[k]:.3g} ({ms['float'] / ms[k]:.2f}x)"
            share = f"{100 * 2 * r['batch'] * 4096 * 4096 / ms['static'] * 1e-6 / peak:.0f} %" if peak else "–"
            rate = lambda k, bits: f"{4096 * 4096 * bits / 8 / ms[k] * 1e-6:.1f} GB/s"
            lines.append(f"| {r['batch']} | {r['threads']} | {ms['float']:.3g} | {cell('static')} | {cell('int8')} | {cell('int4')} | {share} | {rate('int8', 8)} | {rate('int4', 4)} |")
    return "\n".join(lines + [""] + [f"* not measured: {f}" for f in failures]) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("networks", nargs="*", help="names of nets.py or .onnx files, each with :SCHEME")
    p.add_argument("--lathe", required=True)
    p.add_argument("--threads", default="1,2")
    p.add_argument("--no-products", action="store_true")
    p.add_argument("--no-networks", action="store_true")
    p.add_argument("--out", default=os.path.join(HERE, "QUANTIZATION.md"))
    arguments = p.parse_args()
    cc, cc_version = compiler()
    threads, rows, failures = [int(n) for n in arguments.threads.split(",")], [], []
    with tempfile.TemporaryDirectory() as directory:
        for entry in [] if arguments.no_networks else arguments.networks or NETWORKS:
            path, _, scheme = entry.partition(":")
            print(path, file=sys.stderr, flush=True)
            if not path.endswith(".onnx"):
                onnx.save(nets.NETS[path](), os.path.join(directory, path + ".onnx"))
                path = os.path.join(directory, path + ".onnx")
            try:
                rows.append(network(path, scheme or "static", threads, arguments, cc, failures))
            except subprocess.CalledProcessError as e:
                failures.append(f"{entry}: {(e.stderr.strip().splitlines() or ['no message'])[0]}")
    measured, most = ([], {}) if arguments.no_products else products(threads, arguments, cc)
    text = markdown(rows, measured, most, failures, cc_version, arguments)
    print(text)
    if os.path.exists(arguments.out):  # accuracies are measured by other commands, which stand there
        with open(arguments.out) as f:
            text += "".join(f.read().partition("\n## Accuracy")[1:])
    with open(arguments.out, "w") as f:
        f.write(text)


if __name__ == "__main__":
    main()
