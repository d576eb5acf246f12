# Emitted C of cases/*.lir: byte-equal when made twice, silent under every warning with every compiler, language and
# weights mode, the same results optimised and not, with one thread and two, with undefined behaviour trapping; run-time
# errors and external weights under the sanitizers.
#     cases.sh LATHE SOURCE_FOLDER WORK_FOLDER
set -euo pipefail
lathe=$1 here=$2 work=$3
rm -rf "$work" && mkdir -p "$work/again" && cd "$work"
warnings=(-Wall -Wextra -Wconversion -Wshadow -Wvla -Wdouble-promotion -Werror)
failed=0
fail() { echo "FAIL $*"; failed=1; }

compilers=()
for compiler in clang-19 clang gcc-12 gcc; do
    command -v $compiler > /dev/null && compilers+=($compiler)
done
for header in "$here"/../../runtime/*.h; do # each by itself
    for compiler in "${compilers[@]}"; do
        for language in "c -std=c11" "c++ -std=c++17"; do
            # shellcheck disable=SC2086
            $compiler "${warnings[@]}" -Wno-unused-function -O1 -fsyntax-only -x $language -include "$header" /dev/null || fail "$header $compiler $language"
        done
    done
done
for lir in "$here"/cases/*.lir; do
    name=$(basename "$lir" .lir)
    for weights in file incbin embed; do
        "$lathe" compile "$lir" -o "$name.c" --weights $weights > log 2>&1 || { fail "$name $weights: $(cat log)"; continue; }
        for compiler in "${compilers[@]}"; do
            for language in "c -std=c11" "c++ -std=c++17"; do
                for openmp in "" -fopenmp; do
                    # shellcheck disable=SC2086
                    $compiler "${warnings[@]}" -O1 -fsyntax-only $openmp -x $language "$name.c" || fail "$name $weights $compiler $language $openmp"
                done
            done
        done
    done
    "$lathe" compile "$lir" -o "again/$name.c" --weights embed > log 2>&1 && cmp "$name.c" "again/$name.c" && cmp "$name.h" "again/$name.h" || fail "$name differs when made again"
    "$lathe" verify "$lir" --threads 1,2 > log 2>&1 || fail "$name: $(cat log)"
    "$lathe" verify "$lir" --threads 1,2 --cflags "-fsanitize=undefined -fsanitize-undefined-trap-on-error" > log 2>&1 || fail "$name, undefined behaviour: $(cat log)"
done

compiler=${compilers[0]}
sanitize=(-g -O1 -std=gnu11 "-fsanitize=address,undefined" -fno-sanitize-recover=undefined -I.)
$compiler "${warnings[@]}" "${sanitize[@]}" "$here/errors.c" gather.c -o errors -lm && ./errors || fail errors
"$lathe" compile "$here/cases/pointwise.lir" -o pointwise.c --weights file > log 2>&1
$compiler "${sanitize[@]}" "$here/weights.c" pointwise.c -o weights -lm && ./weights pointwise.bin || fail weights
# Two models over one file of weights: what they have in common stands in it once, and both run.
"$lathe" compile "$here/cases/shared_a.lir" -o shared_a.c --share-weights net.bin > log 2>&1 || fail "shared_a: $(cat log)"
one=$(stat -c %s net.bin)
"$lathe" compile "$here/cases/shared_b.lir" -o shared_b.c --share-weights net.bin > log 2>&1 || fail "shared_b: $(cat log)"
two=$(stat -c %s net.bin)
"$lathe" compile "$here/cases/shared_a.lir" -o shared_a.c --share-weights net.bin > log 2>&1 || fail "shared_a again: $(cat log)"
[ "$two" -gt "$one" ] && [ "$two" -lt $((2 * one)) ] && [ "$(stat -c %s net.bin)" -eq "$two" ] || fail "net.bin has $one, then $two, then $(stat -c %s net.bin) bytes"
$compiler "${warnings[@]}" "${sanitize[@]}" "$here/shared.c" shared_a.c shared_b.c -o shared -lm && ./shared net.bin || fail shared
printf 'x' > alone.bin
"$lathe" compile "$here/cases/shared_a.lir" -o alone.c --share-weights alone.bin > log 2>&1 && fail "a file that is no shared file was accepted"
# Threads of the caller's own: warnings in both languages, bits and errors, races.
"$lathe" compile "$here/cases/team.lir" -o team.c --threading pool > log 2>&1 || fail "team: $(cat log)"
for c in "${compilers[@]}"; do
    for language in "c -std=c11" "c++ -std=c++17"; do
        for openmp in "" -fopenmp; do
            # shellcheck disable=SC2086
            $c "${warnings[@]}" -O1 -fsyntax-only $openmp -x $language team.c || fail "team $c $language $openmp"
        done
    done
done
grep -q 'omp_\|omp parallel\|omp critical\|omp barrier' team.c && fail "team.c uses OpenMP's threads"
grep -q lathe_barrier team.c || fail "team.c has no barrier: the test tests nothing"
$compiler "${warnings[@]}" "${sanitize[@]}" -pthread "$here/pool.c" team.c -o pool -lm && ./pool || fail pool
$compiler -g -O1 -std=gnu11 -fsanitize=thread -I. -pthread "$here/pool.c" team.c -o pool_races -lm && ./pool_races || fail "pool, races"
exit $failed
