#!/usr/bin/env bash
# Losses against torch: losses.sh PROGRAM SOURCES WORK
set -eu
mkdir -p "$3"
"$1" "$3/losses.c"
"${CC:-cc}" -O2 -fopenmp -Wall -Wextra -Wconversion -Wshadow -Wdouble-promotion -Wvla -Werror -I"$3" -I"$2" "$2/losses_check.c" "$3/losses.c" -lm -o "$3/check"
"$3/check"
