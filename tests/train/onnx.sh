#!/usr/bin/env bash
# An ONNX file becomes trainable, is trained, and its weights go back into an ONNX file that computes the same: onnx.sh LATHE SOURCES WORK
set -eu
lathe=$1 sources=$2 work=$3 model=$2/models/demo/fashion.onnx
mkdir -p "$work"
set -f # patterns are not for the shell
for options in "--optimizer adamw --lr 1e-4" "--optimizer momentum --lr 1e-4 --clip 1 --accumulate 2 --schedule cosine --warmup 2 --steps 20" "--freeze stem*,res*,wide* --lr 1e-3 --ema 0.9"; do
    rm -f "$work"/*
    # shellcheck disable=SC2086
    "$lathe" compile "$model" -o "$work/net.c" --dim N=1..16 --train $options --verify-ir
    "${CC:-cc}" -O2 -fopenmp -Wall -Wextra -Wconversion -Wshadow -Wdouble-promotion -Wvla -Werror -I"$work" "$sources/tests/train/onnx_harness.c" "$work/net.c" -lm -o "$work/run"
    "$work/run" "$work"
    "$lathe" export "$model" --checkpoint "$work/net.safetensors" -o "$work/trained.onnx"
    "$lathe" verify "$work/trained.onnx" --data "$work"
    if "$lathe" verify "$model" --data "$work" > /dev/null; then echo "the untrained model computes the same"; exit 1; fi
done
# quantization-aware training: what is trained and exported computes in integers what the training graph computed
mkdir -p "$work/calibrate"
printf '\x93NUMPY\x01\x00\x76\x00' > "$work/calibrate/image.npy"
printf '%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (8, 1, 28, 28), }" >> "$work/calibrate/image.npy"
tail -c $((8 * 784 * 4)) "$work/input_0.pb" >> "$work/calibrate/image.npy"
"$lathe" quantize "$model" --dim N=8 --calib "$work/calibrate" --weight-bits 4 --qat -o "$work/fake.onnx" > /dev/null 2>&1
"$lathe" compile "$work/fake.onnx" -o "$work/net.c" --dim N=1..16 --train --optimizer adam --lr 1e-4 --verify-ir
"${CC:-cc}" -O2 -fopenmp -Wall -Wextra -Wconversion -Wshadow -Wdouble-promotion -Wvla -Werror -I"$work" "$sources/tests/train/onnx_harness.c" "$work/net.c" -lm -o "$work/run"
"$work/run" "$work"
"$lathe" export "$work/fake.onnx" --checkpoint "$work/net.safetensors" --round-weights -o "$work/trained.onnx"
"$lathe" verify "$work/trained.onnx" --data "$work" --atol 0.02
if "$lathe" verify "$work/fake.onnx" --data "$work" --atol 0.02 > /dev/null; then echo "the untrained model computes the same"; exit 1; fi
"$lathe" compile "$work/trained.onnx" -o "$work/integer.c" --dim N=1..16
[ "$(grep -c 'lathe_tile_u8x[0-9]*(' "$work/integer.c")" -ge 7 ]
# a limit of memory is kept, and the results stay
arena() { sed -n 's/^#define NET_ARENA_BYTES \([0-9]*\).*/\1/p' "$1"; }
"$lathe" compile "$model" -o "$work/net.c" --dim N=1..32 --train --lr 1e-3
all=$(arena "$work/net.h")
limit=$((all * 97 / 100)) # masks are bits: recomputation saves 6 % of what this model needs
"${CC:-cc}" -O2 -I"$work" "$sources/tests/train/onnx_harness.c" "$work/net.c" -lm -o "$work/run" 2> /dev/null
"$work/run" "$work" > "$work/kept"
"$lathe" compile "$model" -o "$work/net.c" --dim N=1..32 --train --lr 1e-3 --memory "$limit"
[ "$(arena "$work/net.h")" -le "$limit" ]
"${CC:-cc}" -O2 -I"$work" "$sources/tests/train/onnx_harness.c" "$work/net.c" -lm -o "$work/run" 2> /dev/null
"$work/run" "$work" | diff - "$work/kept"
! "$lathe" compile "$model" -o "$work/x.c" --dim N=1..32 --train --memory 1K 2> "$work/err" && grep -q 'needs at least' "$work/err"
# what is wrong is said
! "$lathe" compile "$model" -o "$work/x.c" --train --freeze 'nothing*' 2> "$work/err" && grep -q 'no parameter matches' "$work/err"
! "$lathe" export "$model" --checkpoint "$model" -o "$work/x.onnx" 2> /dev/null && [ ! -e "$work/x.onnx" ]
