#!/usr/bin/env bash
# A Fashion-MNIST ConvNet (models/demo/fashion.onnx) in floats and quantized: accuracy on all test images, size and time, one line per scheme; then
# 4-bit weights rounded after training and by quantization-aware training. Fails when 8 bits lose more than the bars say, or training wins nothing back.
#     convnet.sh LATHE FOLDER [--quick]      FOLDER holds what the program convnet wrote; the training images are in FOLDER/../data
set -euo pipefail
lathe=$1 out=$2 quick=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
model=$here/../../demo/fashion.onnx host=$here/../../host
mkdir -p "$out/calibrate" "$out/test"
cp "$out/fashion_calibrate.npy" "$out/calibrate/images.npy"
cp "$out/fashion_test.npy" "$out/test/images.npy"
cp "$out/fashion_labels.npy" "$out/test/labels.npy"
failed=0
quantized() { # OPTIONS… -o FILE
    "$lathe" quantize "$model" --dim N=50 --calib "$out/calibrate" --test "$out/test" --scheme static "$@" 2> /dev/null
}
for options in "" "--symmetric" "--per-tensor" "--range mse" "--range percentile" "--range entropy"; do
    # shellcheck disable=SC2086
    row=$(quantized $options -o "$out/fashion_int8.onnx")
    echo "static ${options:-minmax}:${row#*:}"
    # a scale per channel: at least 26 dB, 98.8 % of first choices, at most 0.2 points of accuracy
    case $options in --per-tensor) ;; *)
        echo "$row" | sed 's/.*outputs \([0-9.]*\) dB, same first choice \([0-9.]*\) %, accuracy \([0-9.]*\) % -> \([0-9.]*\).*/\1 \2 \3 \4/' |
            awk 'NF != 4 || $1 < 26 || $2 < 98.8 || $3 - $4 > 0.2 + 1e-9 { print "more is lost than the bars say"; exit 1 }' || failed=1 ;;
    esac
    [ "$quick" != --quick ] || break
done

# Percent of the test images.
accuracy() { # MODEL
    "$lathe" run "$1" --input "$out/fashion_test.npy" -o "$out/convnet_run" > /dev/null 2>&1
    paste <(od -A n -v -t f4 -w40 -j 128 "$out/convnet_run/probability.npy") <(od -A n -v -t u1 -w1 -j 128 "$out/fashion_labels.npy") |
        awk '{ best = 1; for (i = 2; i <= 10; i++) if ($i + 0 > $best + 0) best = i; right += best - 1 == $11 } END { printf "%.2f", right * 100 / NR }'
}
steps=1500
[ "$quick" != --quick ] || steps=150
flags=(-O3 -fopenmp)
if echo | "${CC:-cc}" -march=native -Werror -E -x c - > /dev/null 2>&1; then flags+=(-march=native); fi
quantized --weight-bits 4 -o "$out/fashion_int4.onnx" > /dev/null
quantized --weight-bits 4 --qat -o "$out/fashion_qat.onnx" > /dev/null
"$lathe" compile "$out/fashion_qat.onnx" --dim N=1..64 --train --optimizer adam --lr 5e-4 --schedule cosine --steps "$steps" -o "$out/qat.c" > /dev/null
"${CC:-cc}" "${flags[@]}" -w -DSTEPS="$steps" -I "$host" -I "$out" "$here/qat.c" "$host/host.c" "$out/qat.c" -lm -o "$out/qat-train"
"$out/qat-train" --out "$out" --data "$out/../data"
"$lathe" export "$out/fashion_qat.onnx" --checkpoint "$out/qat.safetensors" --round-weights -o "$out/fashion_qat_int4.onnx" 2> /dev/null
after=$(accuracy "$out/fashion_int4.onnx") trained=$(accuracy "$out/fashion_qat_int4.onnx") float=$(accuracy "$model")
echo "4-bit weights, rounded after training: accuracy $float % -> $after %"
echo "4-bit weights, quantization-aware training: accuracy $float % -> $trained %"
awk -v f="$float" -v a="$after" -v t="$trained" -v part="$([ "$quick" = --quick ] && echo 1 || echo 0.5)" 'BEGIN { exit !(f - t < part * (f - a)) }' || { echo "training wins too little back"; failed=1; }
exit $failed
