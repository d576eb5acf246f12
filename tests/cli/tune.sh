#!/bin/sh
# compile -O3: times once and remembers, gives the same C from what it remembers, ignores files that are damaged or another machine's, and
# says so when nothing can be timed.
#
#     tune.sh LATHE
lathe=$1
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 3
mkdir tmp cache o
TMPDIR=$work/tmp
XDG_CACHE_HOME=$work/cache
export TMPDIR XDG_CACHE_HOME

{
    echo 'graph @main(%x: f32[128,64]) -> (%y) {'
    awk 'BEGIN { printf "    %%w = const f32[64,256] ["; for (i = 0; i < 64 * 256; i++) printf "%s%.2f", i ? ", " : "", (i * 37 % 101) / 50 - 1; print "]" }'
    echo '    %p = MatMul(%x, %w)'
    echo '    %y = Relu(%p)'
    echo '}'
} >model.lir

failures=0
fail() { echo "$*"; failures=$((failures + 1)); }
compile() { # NAME FLAGS…: code 0 and out.NAME.c; messages in NAME.err
    name=$1
    shift
    "$lathe" compile model.lir -o "o/model.c" "$@" 2>"$name.err" || { fail "$name: exit $?"; cat "$name.err"; }
    mv o/model.c "$name.c"
}
kept() { cat cache/lathe/tuning/*.txt; }

compile first -O3
kept >first.txt || fail "nothing was kept"
grep -q '^product-128x64x256	[a-z0-9-]*	[0-9.]*$' first.txt || { fail "the product is not in the file"; cat first.txt; }
compile again -O3
cmp -s first.c again.c || fail "the same tuning gave other C"
kept | cmp -s - first.txt || fail "a second run timed again"
grep -q note again.err && { fail "a note about a good file"; cat again.err; }

# whatever the way: the right results
"$lathe" verify model.lir -O3 >/dev/null 2>verify.err || { fail "results differ"; cat verify.err; }

# damaged: ignored, and written anew
for file in cache/lathe/tuning/*.txt; do echo 'conv-1	direct	2' >>"$file"; done
compile damaged -O3
grep -q 'is damaged, or of another machine' damaged.err || fail "damage is not mentioned"
kept | grep -q '^product-128x64x256	' || fail "not written anew"
compile after -O3
grep -q note after.err && fail "still damaged"

# another machine's
for file in cache/lathe/tuning/*.txt; do sed 's/^cpu .*/cpu another/' "$file" >other && cat other >"$file"; done
compile foreign -O3
grep -q 'is damaged, or of another machine' foreign.err || fail "another machine's file is not mentioned"

# a directory in its place, and no place at all
for file in cache/lathe/tuning/*.txt; do rm "$file" && mkdir "$file"; done
"$lathe" compile model.lir -o o/model.c -O3 2>blocked.err
[ $? -le 3 ] || fail "a directory in place of the file ended the command"
rm -rf cache/lathe/tuning
XDG_CACHE_HOME= HOME= compile homeless -O3

# code for another machine
case $(uname -m) in aarch64 | arm*) other=x86-64-v4 ;; *) other=armv8-a ;; esac
compile cross -O3 --target "$other"
grep -q "code for $other cannot run on this machine: -O2 is taken" cross.err || { fail "no note about $other"; cat cross.err; }
compile plain -O2 --target "$other"
cmp -s cross.c plain.c || fail "code for $other is not that of -O2"

left=$(find tmp -mindepth 1 | head -n 3)
[ -z "$left" ] || fail "left behind: $left"
echo "$failures failures"
[ $failures = 0 ]
