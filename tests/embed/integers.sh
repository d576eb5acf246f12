# The integer micro-kernel with every instruction set it has a form for gives the sums of plain loops: those of this processor here, AVX2
# under qemu where it has none, NEON with and without dot products cross-compiled and under qemu.
source "$(dirname "$0")/common.bash"
ran=0
try() { # NAME RUNNER COMPILER FLAGS…
    local name=$1 runner=$2 compiler=$3
    shift 3
    "$compiler" -std=gnu11 -O2 "$@" "$here/integers.c" -o "$name" || { echo "$name: does not compile"; exit 1; }
    # shellcheck disable=SC2086
    $runner "./$name" > "$name.txt" || { [ $? = 77 ] && { echo "$name: not granted here"; return; }; cat "$name.txt"; echo "$name: wrong sums"; exit 1; }
    [ ! -f plain.txt ] || cmp plain.txt "$name.txt"
    echo "$name $(cat "$name.txt")"
    ran=$((ran + 1))
}
has() { grep -qw "$1" /proc/cpuinfo 2> /dev/null; }
try plain "" "$CC"
if [ "$(uname -m)" = x86_64 ]; then
    try sse4.2 "" "$CC" -march=x86-64-v2
    if has avx2; then try avx2 "" "$CC" -march=x86-64-v3
    elif command -v qemu-x86_64 > /dev/null; then try avx2 "qemu-x86_64 -cpu max" "$CC" -march=x86-64-v3 -static
    else echo "avx2: skipped, neither the processor nor qemu-x86_64 has it"; fi
    if has avx_vnni; then try avx_vnni "" "$CC" -march=x86-64-v3 -mavxvnni; else echo "avx_vnni: skipped, the processor does not have it"; fi
    if has avx512_vnni; then try avx512_vnni "" "$CC" -march=x86-64-v4 -mavx512vnni; else echo "avx512_vnni: skipped, the processor does not have it"; fi
    if has amx_int8; then try amx_int8 "" "$CC" -march=x86-64-v4 -mavx512vnni -mamx-tile -mamx-int8; else echo "amx_int8: skipped, the processor does not have it"; fi
fi
if command -v aarch64-linux-gnu-gcc > /dev/null && command -v qemu-aarch64 > /dev/null; then
    try aarch64 "qemu-aarch64 -cpu max" aarch64-linux-gnu-gcc -march=armv8-a -static
    try aarch64_dotprod "qemu-aarch64 -cpu max" aarch64-linux-gnu-gcc -march=armv8.2-a+dotprod -static
else
    echo "aarch64: skipped, aarch64-linux-gnu-gcc or qemu-aarch64 is not installed"
fi
if command -v riscv64-linux-gnu-gcc > /dev/null && command -v qemu-riscv64 > /dev/null; then
    try riscv64 qemu-riscv64 riscv64-linux-gnu-gcc -static
else
    echo "riscv64: skipped, riscv64-linux-gnu-gcc or qemu-riscv64 is not installed"
fi
[ $ran -gt 1 ] || { echo "skipped: only plain C can be run here"; exit 77; }
