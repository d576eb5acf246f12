#!/usr/bin/env bash
# A Fashion-MNIST ConvNet (models/demo/fashion.onnx) in floats and quantized: accuracy on all test images, size and time, one line per scheme.
#     convnet.sh LATHE FOLDER [--quick]      FOLDER holds what the program convnet wrote
set -euo pipefail
lathe=$1 out=$2
model=$(cd "$(dirname "$0")/../../demo" && pwd)/fashion.onnx
mkdir -p "$out/calibrate" "$out/test"
cp "$out/fashion_calibrate.npy" "$out/calibrate/images.npy"
cp "$out/fashion_test.npy" "$out/test/images.npy"
cp "$out/fashion_labels.npy" "$out/test/labels.npy"
for options in "" "--symmetric" "--per-tensor" "--range mse" "--range percentile" "--range entropy"; do
    # shellcheck disable=SC2086
    "$lathe" quantize "$model" --dim N=50 --calib "$out/calibrate" --test "$out/test" --scheme static $options -o "$out/fashion_int8.onnx" 2> /dev/null | sed "s|^[^:]*:|static ${options:-minmax}:|"
    [ "${3:-}" != --quick ] || break
done
