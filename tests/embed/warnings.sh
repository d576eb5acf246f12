# Emitted C compiles without a warning: clang and gcc, C11 and C++17, with and without OpenMP, for several targets. Weights
# stay in files: as text they are a table of numbers that takes compilers minutes in sum.
source "$(dirname "$0")/common.bash"
flags=(-Wall -Wextra -Wconversion -Wshadow -Wvla -Wdouble-promotion -Werror -O1 -fsyntax-only)
targets=(generic)
[ "$(uname -m)" != x86_64 ] || targets+=(x86-64-v3 x86-64-v4)
compilers=()
for compiler in clang-19 clang gcc; do
    command -v $compiler > /dev/null && [[ " ${compilers[*]-} " != *" ${compiler%-19}-19 "* ]] && compilers+=($compiler)
done
tried=0
models=("$model/fashion.onnx")
for program in "$build"/models/week*/*; do
    [ -f "$program" ] && [ -x "$program" ] || continue
    if ! "$program" --out . > /dev/null 2> problem; then
        grep -q "^.*data/.*: cannot be read$" problem && continue # it only writes data, from a data set that is not here
        cat problem
        exit 1
    fi
    models+=("$(basename "$program").onnx")
done
for onnx in "${models[@]}"; do
    name=$(basename "$onnx" .onnx)
    for target in "${targets[@]}"; do
        "$lathe" compile "$onnx" -o "$name.c" --weights file --target $target > /dev/null 2>&1
        machine=(); [ $target = generic ] || machine=(-march=$target)
        for compiler in "${compilers[@]}"; do
            for language in "c -std=c11" "c++ -std=c++17"; do
                for openmp in "" -fopenmp; do
                    echo "$name $target $compiler $language $openmp"
                    # shellcheck disable=SC2086
                    $compiler "${flags[@]}" "${machine[@]}" $openmp -x $language "$name.c"
                    tried=$((tried + 1))
                done
            done
        done
    done
done
[ $tried -gt 0 ]
