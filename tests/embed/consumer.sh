# Installs lathe into a prefix and builds a foreign project against it, in C and C++.
source "$(dirname "$0")/common.bash"
cmake --install "$build" --prefix "$work/prefix" > install.log
cmake -S "$here/consumer" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" -DMODEL="$model/fashion.onnx" > configure.log
cmake --build "$work/build" > build.log || { cat build.log; exit 1; }
"$work/build/in_c" "$model"/images/*.pgm > c.txt
"$work/build/in_cpp"
"$CC" -O2 -I "$work/build/lathe-fashion" "$here/probabilities.c" "$work/build/lathe-fashion/fashion.c" -lm -o plain
./plain "$model"/images/*.pgm > plain.txt
agree c.txt plain.txt
