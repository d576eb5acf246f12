#!/usr/bin/env bash
# Training with several processes, compared with one: mpi.sh MODEL SOURCES WORK. Skipped without MPI.
set -u
model=$1 sources=$2 work=$3 failed=0
command -v mpicc > /dev/null && command -v mpirun > /dev/null || exit 77
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_CC="${CC:-cc}" OMP_NUM_THREADS=2
build() { # NAME DIR [PROCESSES]
    mkdir -p "$2"
    "$model" "$1" "$2/mlp.c" mpi ${3:+"$3"} && mpicc -O1 -fopenmp -Wall -Wextra -I"$2" "$sources/mpi_harness.c" "$2/mlp.c" -lm -o "$2/run" || failed=1
}
run() { # NAME DIR PROCESSES
    mpirun --oversubscribe -n "$3" "$2/run" "$sources/fixtures/$1.txt" "$2/losses.$3" > "$2/out" 2>&1 || { failed=1; echo "$2, $3 processes:"; cat "$2/out"; }
}
for name in sgd adam clip; do
    build $name "$work/$name"
    for ranks in 1 2 4; do run $name "$work/$name" $ranks; done
done
# The optimizer's state divided: momentum and squares, groups with and without decay, a norm over all parts, sums of gradients, averages of weights.
for name in sgd adam groups clip accumulate average; do
    for ranks in 2 4; do
        build $name "$work/$name.$ranks" $ranks
        run $name "$work/$name.$ranks" $ranks
    done
done
# The sum of two numbers has no order: with two processes a divided state gives the same bits.
for name in sgd adam; do
    cmp "$work/$name/losses.2" "$work/$name.2/losses.2" || { failed=1; echo "$name: other losses with a divided state"; }
done
[ "$failed" = 0 ] && echo "all cases passed"
exit "$failed"
