# Emitted C for aarch64, cross-compiled and run under qemu: the same probabilities as here. NEON by gcc, SVE by clang.
source "$(dirname "$0")/common.bash"
needs aarch64-linux-gnu-gcc qemu-aarch64
run_here
for target in generic armv8-a; do
    there $target aarch64-linux-gnu-gcc -static
    there_agrees $target qemu-aarch64
done
[[ $("$CC" --version) = *clang* ]] || { echo "SVE skipped: $CC is not clang"; exit 0; }
for bits in 256 512; do
    there armv8-sve$bits "$CC" --target=aarch64-linux-gnu -march=armv8.2-a+sve -msve-vector-bits=$bits -static
    there_agrees armv8-sve$bits qemu-aarch64 -cpu max,sve-default-vector-length=$((bits / 8))
    there_refuses armv8-sve$bits qemu-aarch64 -cpu max,sve-default-vector-length=16
done
