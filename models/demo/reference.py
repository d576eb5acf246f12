#!/usr/bin/env python3
"""Writes data/fashion.in.npz (the images of images/) and data/fashion.ref.npz (what ONNX Runtime makes of them)."""
import pathlib

import numpy as np
import onnxruntime

HERE = pathlib.Path(__file__).resolve().parent
pixels = [np.frombuffer(p.read_bytes()[-784:], np.uint8).reshape(1, 28, 28) for p in sorted((HERE / "images").glob("*.pgm"))]
images = np.stack(pixels).astype(np.float32) / np.float32(255)
session = onnxruntime.InferenceSession(str(HERE / "fashion.onnx"), providers=["CPUExecutionProvider"])
(probability,) = session.run(None, {"image": images})
(HERE / "data").mkdir(exist_ok=True)
np.savez(HERE / "data" / "fashion.in.npz", image=images)
np.savez(HERE / "data" / "fashion.ref.npz", probability=probability)
print("classes:", probability.argmax(1).tolist(), "least probability of a winner:", round(float(probability.max(1).min()), 3))
