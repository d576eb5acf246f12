# Emitted C for WebAssembly with SIMD, run by Node: the same probabilities as here.
source "$(dirname "$0")/common.bash"
needs node "wasm-ld-$("$CC" -dumpversion | cut -d. -f1)"
[ -e /usr/lib/wasm32-wasi/libc.a ] || { echo "skipped: there is no C library for wasm32"; exit 77; }
run_here
there wasm32 "$CC" --target=wasm32-wasi --sysroot=/ -isystem /usr/include/wasm32-wasi -L/usr/lib/wasm32-wasi -msimd128
there_agrees wasm32 node --no-warnings --experimental-wasi-unstable-preview1 "$here/wasi.mjs"
