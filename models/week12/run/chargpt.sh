#!/usr/bin/env bash
# The trained character GPT in floats and quantized: perplexity on text it has not seen, and how much of it is lost. Fails when more is lost
# than the bars say, or GPTQ does not halve what rounding to nearest loses.
#     chargpt.sh LATHE FOLDER [--quick]      FOLDER holds chargpt.onnx and what training wrote
set -euo pipefail
lathe=$1 out=$2
float=$out/chargpt_trained.onnx
"$lathe" export "$out/chargpt.onnx" --checkpoint "$out/chargpt.safetensors" -o "$float" 2> /dev/null
nll() { # MODEL: nats per character
    "$lathe" run "$1" --dim N=256 --input "$out/chargpt_test/ids.npy" -o "$out/chargpt_nll" > /dev/null 2>&1
    od -A n -t f4 -j 128 "$out/chargpt_nll/nll.npy"
}
bytes() { wc -c < "$1"; }
none=$(nll "$float")
printf '%-28s %11s %8s %8s %7s\n' scheme perplexity loss bar MB
awk -v a="$none" -v n="$(bytes "$float")" 'BEGIN { printf "%-28s %11.4f %8s %8s %7.2f\n", "float", exp(a), "", "", n / 1e6 }'
failed=0
row() { # NAME BAR OPTIONS…: sets loss, in percent
    local name=$1 bar=$2 a
    shift 2
    "$lathe" quantize "$float" --dim N=64 --calib "$out/chargpt_calibrate" "$@" -o "$out/chargpt_q.onnx" > /dev/null 2>&1
    a=$(nll "$out/chargpt_q.onnx")
    loss=$(awk -v a="$a" -v b="$none" 'BEGIN { printf "%.4f", (exp(a - b) - 1) * 100 }')
    awk -v name="$name" -v a="$a" -v l="$loss" -v bar="$bar" -v n="$(bytes "$out/chargpt_q.onnx")" \
        'BEGIN { printf "%-28s %11.4f %7.3f%% %8s %7.2f%s\n", name, exp(a), l, bar == "" ? "" : bar "%", n / 1e6, (bar != "" && l + 0 > bar + 0 ? "  too much" : ""); exit (bar != "" && l + 0 > bar + 0) }' || failed=1
}
row "int4 g32, to nearest" "" --scheme int4
nearest=$loss
row "int4 g32, GPTQ" 0.3 --scheme int4 --gptq --act-order
awk -v n="$nearest" -v g="$loss" 'BEGIN { exit !(g <= 0.5 * n) }' || { echo "GPTQ loses more than half of what rounding to nearest loses"; failed=1; }
row "W8A8 static" 0.15 --scheme static
if [ "${3:-}" != --quick ]; then
    row "int4 g32, AWQ" "" --scheme int4 --awq
    row "W8A8 static, SmoothQuant" 0.06 --scheme static --smooth 0.5
    row "W8A8 dynamic" 0.06 --scheme dynamic
    row "int8, to nearest" "" --scheme int8
fi
exit $failed
