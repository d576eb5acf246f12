#!/usr/bin/env bash
# Forward passes per second of a GPT for 1 to 1024 tokens, fused and unfused: a table.
#     gpt.sh LATHE FOLDER [--quick]      FOLDER holds gpt.onnx
set -euo pipefail
lathe=$1 out=$2
lengths="1 2 4 8 16 32 64 128 256 512 1024"
[ "${3:-}" != --quick ] || lengths="1 16 256"
printf '%7s %16s %16s %9s\n' tokens "fused passes/s" "unfused passes/s" fused
for t in $lengths; do
    "$lathe" bench "$out/gpt.onnx" --dim "T=$t" --threads 1 --compare unfused,fused --format csv 2> /dev/null |
        awk -F , -v t="$t" '$1 == "unfused" { u = $4 } $1 == "fused" { f = $4 } END { printf "%7d %16.1f %16.1f %8.2fx\n", t, 1000 / f, 1000 / u, u / f }'
done
