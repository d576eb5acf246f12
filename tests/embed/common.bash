# Sourced by the scripts here. Arguments of each: the lathe command, the folder of the demo's model, a folder to work in,
# the build folder.
set -euo pipefail
lathe=$1 model=$2 work=$3 build=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export ASAN_OPTIONS=detect_leaks=0
rm -rf "$work" && mkdir -p "$work" && cd "$work"

needs() { for tool in "$@"; do command -v "$tool" > /dev/null || { echo "skipped: $tool is not installed"; exit 77; }; done; }

# agree A B: two outputs of probabilities.c, ten lines each, differ by less than 1e-4 everywhere.
agree() {
    paste -d' ' "$1" "$2" | awk '
        NF != 20 { print "line " NR ": " NF " numbers"; bad = 1 }
        { for (i = 1; i <= 10; i++) { d = $i - $(i + 10); if (d < 0) d = -d; if (!(d < 1e-4)) { print "line " NR ", class " i - 1 ": " $i " and " $(i + 10); bad = 1 } } }
        END { if (NR != 10) { print NR " lines"; bad = 1 } exit bad }'
}

# The classifier's probabilities on this machine, in here.txt.
run_here() {
    "$lathe" compile "$model/fashion.onnx" -o fashion.c --weights embed > /dev/null 2>&1
    "$CC" -w -O2 -I . "$here/probabilities.c" fashion.c -lm -o here
    ./here "$model"/images/*.pgm > here.txt
}

# there TARGET COMPILER...: builds the program for a target with a compiler and its flags; it is TARGET/there.
there() {
    local target=$1
    shift
    mkdir -p "$target"
    "$lathe" compile "$model/fashion.onnx" -o "$target/fashion.c" --weights embed --target "$target" > /dev/null 2>&1
    "$@" -std=c11 -O2 -I "$target" "$here/probabilities.c" "$target/fashion.c" -lm -o "$target/there"
}

# there_agrees TARGET EMULATOR...: runs it; the same probabilities.
there_agrees() {
    local target=$1
    shift
    "$@" "$target/there" "$model"/images/*.pgm > "$target/there.txt"
    agree here.txt "$target/there.txt"
}

# there_refuses TARGET EMULATOR...: a machine with vectors of another width, which NAME_init notices.
there_refuses() {
    local target=$1
    shift
    if "$@" "$target/there" "$model"/images/*.pgm > /dev/null 2> "$target/refused.txt"; then echo "$target runs on vectors of another width"; exit 1; fi
    grep -q "instructions" "$target/refused.txt" || { cat "$target/refused.txt"; exit 1; }
}
