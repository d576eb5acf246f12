#!/usr/bin/env bash
# Every case of `model`: compiled, built with warnings as errors, trained, compared with torch's losses: train.sh MODEL SOURCES WORK
set -u
model=$1 sources=$2 work=$3 failed=0
mkdir -p "$work"
for name in $("$model"); do
    dir=$work/$name
    losses=$sources/fixtures/$name.txt
    error=1e-5
    [ "$name" != dropout ] || losses=-
    [ "$name" != short ] || losses=$sources/fixtures/adam.txt error=5e-3 # bfloat16 has 8 bits
    mkdir -p "$dir"
    "$model" "$name" "$dir/mlp.c" && # a case that cannot be built fails as one whose losses differ
        "${CC:-cc}" -O2 -fopenmp -Wall -Wextra -Wconversion -Wshadow -Wdouble-promotion -Wvla -Werror -I"$dir" "$sources/harness.c" "$dir/mlp.c" -lm -o "$dir/run" &&
        "$dir/run" "$losses" "$error" > "$dir/out" || { failed=$((failed + 1)); echo "$name:"; cat "$dir/out" 2> /dev/null; }
done
for name in mask dropout; do
    grep -qi packbits "$work/$name/mlp.c" || { failed=$((failed + 1)); echo "$name: no mask is kept as bits"; }
done
grep -q "bf16\[" "$work/short/mlp.c" || { failed=$((failed + 1)); echo "short: nothing is kept as bfloat16"; }
[ "$failed" = 0 ] && echo "all cases passed"
exit "$failed"
