#!/usr/bin/env bash
# Float against 8 and 4 bits for batches of 1 to 512 of a 4096 x 4096 product: a table, and a chart in gemm.svg.
#     gemm.sh LATHE FOLDER [--quick]      FOLDER holds gemm.onnx
set -euo pipefail
lathe=$1 out=$2
batches="1 2 4 8 16 32 64 128 256 512"
[ "${3:-}" != --quick ] || batches="1 32"
"$lathe" quantize "$out/gemm.onnx" --scheme dynamic -o "$out/gemm_int8.onnx"
"$lathe" quantize "$out/gemm.onnx" --scheme int4 --int8-activations -o "$out/gemm_int4.onnx"
ms() { # MODEL BATCH: the fastest run on one thread, in milliseconds
    "$lathe" bench "$out/$1.onnx" --dim "N=$2" --threads 1 --format csv 2> /dev/null | tail -n 1 | cut -d , -f 4
}
printf '%6s %12s %12s %12s %8s %8s\n' batch "float ms" "int8 ms" "int4 ms" int8 int4
: > "$out/gemm.txt"
for n in $batches; do
    printf '%s %s %s %s\n' "$n" "$(ms gemm "$n")" "$(ms gemm_int8 "$n")" "$(ms gemm_int4 "$n")" >> "$out/gemm.txt"
    tail -n 1 "$out/gemm.txt" | awk '{printf "%6d %12.3f %12.3f %12.3f %7.2fx %7.2fx\n", $1, $2, $3, $4, $2 / $3, $2 / $4}'
done
# Times and batches on logarithmic scales.
awk 'BEGIN { split("#888 #36c #c63", color, " "); split("float int8 int4", name, " ") }
{ batch[NR] = $1; for (i = 1; i <= 3; i++) { ms[NR, i] = $(i + 1); if (low == 0 || ms[NR, i] < low) low = ms[NR, i]; if (ms[NR, i] > high) high = ms[NR, i] } }
function x(k) { return 60 + (NR > 1 ? (k - 1) / (NR - 1) : 0) * 560 }
function y(v) { return 320 - (log(v) - log(low)) / (log(high) - log(low) + 1e-9) * 280 }
END {
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"700\" height=\"370\" font-family=\"sans-serif\" font-size=\"13\"><text x=\"60\" y=\"20\">4096 x 4096 product: milliseconds by batch, one thread</text>"
    for (k = 1; k <= NR; k++) printf "<text x=\"%d\" y=\"345\" text-anchor=\"middle\">%d</text>\n", x(k), batch[k]
    for (i = 1; i <= 3; i++) {
        printf "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color[i]
        for (k = 1; k <= NR; k++) printf "%.1f,%.1f ", x(k), y(ms[k, i])
        printf "\"/><text x=\"%d\" y=\"%.1f\" fill=\"%s\">%s</text>\n", x(NR) + 6, y(ms[NR, i]) + 4, color[i], name[i]
        printf "<text x=\"4\" y=\"%.1f\" fill=\"%s\">%.3g ms</text>\n", y(ms[1, i]) + 4, color[i], ms[1, i]
    }
    print "</svg>"
}' "$out/gemm.txt" > "$out/gemm.svg"
echo "$out/gemm.svg"
