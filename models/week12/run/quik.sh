#!/usr/bin/env bash
# The QUIK table: error of a layer's mean output when its weights are rounded to 8 bits (to nearest, GPTQ) and when its inputs are,
# too, without and with outlier columns. Fails when the order is another: GPTQ < QUIK with outliers < QUIK without < to nearest.
#     quik.sh LATHE FOLDER [--quick]      FOLDER holds quik.onnx and what training chargpt wrote
set -euo pipefail
lathe=$1 out=$2 order=
"$lathe" export "$out/quik.onnx" --checkpoint "$out/chargpt.safetensors" -o "$out/quik_trained.onnx" 2> /dev/null
row() { # NAME OPTIONS…
    local name=$1 noise
    shift
    "$lathe" quantize "$out/quik_trained.onnx" --dim N=64 --calib "$out/chargpt_calibrate" --test "$out/chargpt_test" "$@" -o "$out/quik_q.onnx" > /dev/null 2>&1
    noise=$(sed -n 's/.*"sqnr_db": \([0-9.]*\).*/\1/p' "$out/quik_q.json")
    order="$order $noise"
    printf '%-36s %7.2f dB   %s of the output\n' "$name" "$noise" "$(awk -v d="$noise" 'BEGIN { printf "%.2e", 10 ^ (-d / 20) }')"
}
row "weights, to nearest" --scheme int8
row "weights and inputs, no outliers" --scheme dynamic --gptq --act-order
row "weights and inputs, 16 outliers" --scheme dynamic --gptq --act-order --outliers 16
row "weights, GPTQ" --scheme int8 --gptq --act-order
echo "$order" | awk '{ for (i = 2; i <= NF; i++) if ($i <= $(i - 1)) { print "the order is not the expected one"; exit 1 } }'
