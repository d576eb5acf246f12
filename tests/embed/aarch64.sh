# Emitted C for aarch64, cross-compiled and run under qemu: the same probabilities as here.
source "$(dirname "$0")/common.bash"
needs aarch64-linux-gnu-gcc qemu-aarch64
"$lathe" compile "$model/fashion.onnx" -o fashion.c --weights embed > /dev/null 2>&1
"$CC" -O2 -I . "$here/probabilities.c" fashion.c -lm -o here
./here "$model"/images/*.pgm > here.txt
for target in generic armv8-a; do
    mkdir -p $target
    "$lathe" compile "$model/fashion.onnx" -o $target/fashion.c --weights embed --target $target > /dev/null 2>&1
    aarch64-linux-gnu-gcc -std=c11 -O2 -static -I $target "$here/probabilities.c" $target/fashion.c -lm -o $target/there
    qemu-aarch64 $target/there "$model"/images/*.pgm > $target/there.txt
    agree here.txt $target/there.txt
done
