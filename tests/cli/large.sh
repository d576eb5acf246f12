#!/bin/sh
# A model with weights of 328 MiB beside it is compiled with 80 MiB of memory of its own: the model's file is mapped, packed weights are
# made one after the other as they are written, and what folding makes (transposed, widened) stands in files.
#
#     large.sh LATHE
#
# The limit is the kernel's, on memory that belongs to the process and to no file: ulimit -d.
lathe=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 3
mkdir tmp
TMPDIR=$work/tmp
export TMPDIR
cp "$here/models/large.onnx" . || exit 3
truncate -s 328M outside.bin || exit 3 # zeros that take no room, but for a byte in every 8 MiB: all weights differ, the last two do not
i=0
while [ $i -lt 37 ]; do
    printf "\\$(printf %o $((i + 1)))" | dd of=outside.bin bs=1 seek=$((i * 8388608 + 4096 + i * 4)) conv=notrunc 2>/dev/null || exit 3
    i=$((i + 1))
done

failures=0
fail() {
    failures=$((failures + 1))
    echo "$1"
}
compile() { # ARGS…
    (ulimit -d 81920 && "$lathe" compile large.onnx "$@" >log 2>&1) || fail "compile $*: $(cat log)"
}
holds_each_once() { # FILE
    bytes=$(wc -c <"$1" | tr -d ' ')
    [ "$bytes" = $((344 * 1048576)) ] || fail "$1: $bytes bytes, expected 344 MiB: the last two weights as one"
}

compile -o large.c --weights file
holds_each_once large.bin
rm -f large.bin large.c
compile -o a.c --share-weights net.bin
holds_each_once net.bin
compile -o b.c --share-weights net.bin # adds nothing
holds_each_once net.bin
[ -z "$(ls tmp)" ] || fail "left behind: $(ls tmp)"
echo "$failures failures"
[ $failures = 0 ]
