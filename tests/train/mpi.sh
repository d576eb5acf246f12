#!/usr/bin/env bash
# Training with several processes, compared with one: mpi.sh MODEL SOURCES WORK. Skipped without MPI.
set -u
model=$1 sources=$2 work=$3 failed=0
command -v mpicc > /dev/null && command -v mpirun > /dev/null || exit 77
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_CC="${CC:-cc}" OMP_NUM_THREADS=2
for name in sgd adam clip; do
    dir=$work/$name
    mkdir -p "$dir"
    "$model" "$name" "$dir/mlp.c" mpi && mpicc -O2 -fopenmp -Wall -Wextra -I"$dir" "$sources/mpi_harness.c" "$dir/mlp.c" -lm -o "$dir/run" || { failed=1; continue; }
    for ranks in 1 2 4; do
        mpirun --oversubscribe -n "$ranks" "$dir/run" "$sources/fixtures/$name.txt" > "$dir/out" 2>&1 || { failed=1; echo "$name, $ranks processes:"; cat "$dir/out"; }
    done
done
[ "$failed" = 0 ] && echo "all cases passed"
exit "$failed"
