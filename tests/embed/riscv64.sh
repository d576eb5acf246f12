# Emitted C for riscv64, cross-compiled and run under qemu: the same probabilities as here. Scalar by gcc, vectors by clang.
source "$(dirname "$0")/common.bash"
needs riscv64-linux-gnu-gcc qemu-riscv64
run_here
there generic riscv64-linux-gnu-gcc -static
there_agrees generic qemu-riscv64
[[ $("$CC" --version) = *clang* ]] || { echo "vectors skipped: $CC is not clang"; exit 0; }
there rv64gcv "$CC" --target=riscv64-linux-gnu -march=rv64gcv -static
there rv64gcv-vl256 "$CC" --target=riscv64-linux-gnu -march=rv64gcv_zvl256b -mrvv-vector-bits=zvl -static
for bits in 128 256; do
    there_agrees rv64gcv qemu-riscv64 -cpu rv64,v=true,vlen=$bits,vext_spec=v1.0
done
there_agrees rv64gcv-vl256 qemu-riscv64 -cpu rv64,v=true,vlen=256,vext_spec=v1.0
there_refuses rv64gcv-vl256 qemu-riscv64 -cpu rv64,v=true,vlen=512,vext_spec=v1.0
