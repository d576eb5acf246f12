#!/usr/bin/env bash
# Every model of bench/train in every way of saving memory is compiled, and its memory plan is checked by the compiler: variants.sh MODELS WORK
set -u
models=$1 work=$2 failed=0
mkdir -p "$work"
for name in $("$models"); do
    for segments in 0 1 3 8; do
        for precision in f32 bf16; do
            "$models" "$name" "$work" "$segments" "$precision" || { failed=$((failed + 1)); echo "$name: $segments segments, $precision: failed"; }
        done
    done
done
exit "$failed"
