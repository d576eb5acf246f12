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
