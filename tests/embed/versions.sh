# One file with code for several targets: compiled with the flags of the plainest by every compiler, warnings as errors; NAME_init chooses
# the best version the machine runs, and all that it runs agree. In float32, with 8-bit integers (VNNI, tile registers), in bfloat16.
source "$(dirname "$0")/common.bash"
[ "$(uname -m)" = x86_64 ] || { echo "skipped: not x86-64"; exit 77; }
flags=(-Wall -Wextra -Wconversion -Wshadow -Wvla -Wdouble-promotion -Werror -O1 -march=x86-64)
compilers=("$CC -std=c11")
for compiler in "gcc -std=c11" "g++ -x c++ -std=c++17"; do command -v "${compiler%% *}" > /dev/null && compilers+=("$compiler"); done
"$lathe" quantize "$model/fashion.onnx" --scheme dynamic -o int8.onnx > /dev/null 2>&1

# try LIMIT COMPILERS MODEL FLAGS...: compiles the model and runs all its versions with so many of the compilers.
try() {
    local limit=$1 most=$2 onnx=$3
    shift 3
    "$lathe" compile "$onnx" -o model.c --name model --weights incbin --target x86-64-any "$@" > /dev/null 2>&1
    for compiler in "${compilers[@]:0:$most}"; do
        echo "$onnx $* $compiler"
        # shellcheck disable=SC2086
        $compiler "${flags[@]}" -fopenmp -DLIMIT="$limit" -I . "$here/versions.c" model.c -lm -o versions
        ./versions > chosen.txt || { cat chosen.txt; exit 1; }
    done
    if command -v qemu-x86_64 > /dev/null; then
        "$CC" -O2 -w -march=x86-64 -static -DLATHE_NO_STATIC_ARENA -DLIMIT="$limit" -I . "$here/versions.c" model.c -lm -o static
        [ "$(qemu-x86_64 -cpu Conroe ./static 2> /dev/null)" = 0 ] # SSE3
        [ "$(qemu-x86_64 -cpu Nehalem ./static 2> /dev/null)" = 1 ] # SSE4.2
        [ "$(qemu-x86_64 -cpu Haswell ./static 2> /dev/null)" = 2 ] # AVX2
    fi
}
try 1e-5f 1 "$model/fashion.onnx"
grep -q "x86-64-v4-amx" model.c && { echo "float32 code has no use for tile registers, but a version with them"; exit 1; }
try 2e-2f 3 int8.onnx
grep -q "x86-64-v4-amx" model.c
try 2e-2f 1 "$model/fashion.onnx" --precision bf16
# The caller's threads, and a choice of targets in any order.
"$lathe" compile "$model/fashion.onnx" -o model.c --weights file --threading pool --target x86-64-v4,x86-64 > /dev/null 2>&1
"$CC" "${flags[@]}" -std=c11 -c model.c
grep -q "Code for x86-64, x86-64-v4," model.c
