#!/usr/bin/env bash
# Training programs of models/ that need no data set, as ./demo runs them: programs.sh MODELS SOURCES WORK
set -eu
models=$1 sources=$2 work=$3
mkdir -p "$work"
for name in week01/circles week02/linreg week02/life week10/gan1d; do
    base=$(basename "$name")
    "$models/$name" --out "$work"
    "${CC:-cc}" -O2 -fopenmp -Wall -Wextra -I"$sources/models/host" -I"$work" "$sources/models/$(dirname "$name")/train/$base.c" "$sources/models/host/host.c" "$work/$base.c" -lm -o "$work/$base-train"
    "$work/$base-train" --out "$work" --quick
done
