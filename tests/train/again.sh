#!/usr/bin/env bash
# What costs next to nothing is computed again: the losses stay, the memory is less: again.sh MODELS WORK
# Four steps: sums in kernels that were fused differently differ in the last bit, which the ReLUs and the norms of an untrained
# ResNet amplify by about four with each step.
set -u
models=$1 work=$2 failed=0
for name in resnet20 unet lora; do
    for segments in 0 1; do # 1: everything is kept
        dir=$work/$name$segments
        mkdir -p "$dir"
        "$models" "$name" "$dir" "$segments" && sed -i 's/n < 8/n < 4/' "$dir/main.c" && "${CC:-cc}" -O1 -march=native -w -I"$dir" "$dir/main.c" "$dir/net.c" -lm -o "$dir/run" && "$dir/run" 0 1 > "$dir/out" ||
            { failed=$((failed + 1)); echo "$name, $segments segments: failed"; }
    done
    sed -E 's/.*loss ([^,]*), arena ([^ ]*) MB.*/\1 \2/' "$work/${name}0/out" "$work/${name}1/out" | tr '\n' ' ' |
        awk -v n="$name" '{ d = $1 - $3; if (NF != 4 || (d < 0 ? -d : d) > 1e-4 * $3 || $2 > 0.8 * $4) { print n ": loss, arena, and those with everything kept: " $0; exit 1 } }' || failed=$((failed + 1))
done
exit "$failed"
