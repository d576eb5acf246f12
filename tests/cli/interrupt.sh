#!/bin/sh
# A command that a signal ends leaves no temporary file behind, whenever the signal comes, and nothing half under the name of its output.
#
#     interrupt.sh LATHE
#
# `compile` is stopped while it writes a large C file, `run` while the C compiler works for it.
lathe=$1
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 3
models=$(cd "$(dirname "$0")/models" 2>/dev/null && pwd)
mkdir tmp cache
TMPDIR=$work/tmp
XDG_CACHE_HOME=$work/cache
export TMPDIR XDG_CACHE_HOME
case $0 in /*) models=$(dirname "$0")/models ;; esac

# many different kernels: some hundred milliseconds of work
{
    echo 'graph @main(%x0: f32[64,64]) -> (%y) {'
    i=0
    while [ $i -lt 400 ]; do
        echo "    %t$i = ReduceSum(%x$i) {keepdims = 1}"
        echo "    %c$i = const f32[] [$i.5]"
        echo "    %u$i = Div(%t$i, %c$i)"
        echo "    %x$((i + 1)) = Add(%x$i, %u$i)"
        i=$((i + 1))
    done
    echo "    %y = Relu(%x$i)"
    echo '}'
} >many.lir

failures=0
ended=0
check() { # WHAT
    left=$(find . -name '.lathe-*' -o -name '*.lathe-*' -o -path './tmp/*' -o -path './cache/*.so.*' | head -n 3)
    [ -z "$left" ] || { echo "$1: left behind: $left"; failures=$((failures + 1)); }
    if [ -e out.c ] && [ ! -e out.h ]; then echo "$1: half of the output"; failures=$((failures + 1)); fi
    rm -rf tmp/* out out.c out.h
}

stop_after() { # SECONDS SIGNAL ARGS…
    seconds=$1 signal=$2
    shift 2
    "$lathe" "$@" >/dev/null 2>&1 &
    pid=$!
    sleep "$seconds"
    kill -"$signal" $pid 2>/dev/null
    wait $pid
    code=$?
    [ $code -le 128 ] || ended=$((ended + 1))
    check "$1 stopped by $signal after $seconds s (exit $code)"
}

for seconds in 0.01 0.03 0.06 0.1 0.15 0.2 0.3; do
    for signal in TERM HUP; do
        stop_after $seconds $signal compile many.lir -o out.c
        stop_after $seconds $signal run "$models/dense.onnx" --input "$models/data/x.npy" --no-cache -o out
    done
    stop_after $seconds TERM verify "$models/fixed.onnx" -O1 --seed 1
done
[ $ended -gt 4 ] || { echo "only $ended commands were ended by the signal"; failures=$((failures + 1)); }
echo "$ended commands ended by signals, $failures failures"
[ $failures = 0 ]
