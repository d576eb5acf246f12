#!/bin/sh
# Runs the command lines of a .case file in an empty directory and checks what they give.
#
#     # a comment
#     sh COMMAND          preparation by the shell; $models is the folder with the test models
#     $ lathe ARGS        runs the command; the checks that follow are about it
#     exit N              the exit code (must be given for every command)
#     out TEXT            standard output contains TEXT
#     err TEXT            standard error contains TEXT
#     no-err TEXT         standard error does not contain TEXT
#     present FILE …      the files exist
#     absent FILE …       the files do not exist
#
# After every command the directory must be free of temporary files.
lathe=$1
case_file=$2
models=$(cd "$(dirname "$case_file")/models" && pwd)
case_file=$(cd "$(dirname "$case_file")" && pwd)/$(basename "$case_file")
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 3
mkdir tmp
TMPDIR=$work/tmp
XDG_CACHE_HOME=${LATHE_TEST_CACHE:-$work/cache}
export TMPDIR XDG_CACHE_HOME models
failures=0
number=0
checks=0
exit_checked=1

fail() {
    failures=$((failures + 1))
    echo "$case_file:$number: $1"
    echo "  command: lathe $command"
    echo "  exit code $code; standard output:"
    sed 's/^/    /' "$work/tmp.out"
    echo "  standard error:"
    sed 's/^/    /' "$work/tmp.err"
}

run_lathe() {
    [ $exit_checked = 1 ] || fail "no exit code is checked for this command"
    command=$1
    eval "\"\$lathe\" $1" >"$work/tmp.out" 2>"$work/tmp.err"
    code=$?
    exit_checked=0
    left=$(find . -name '*.lathe-*' -o -name '.lathe-*' -o -path './tmp/*' | head -n 3)
    [ -z "$left" ] || fail "temporary files are left: $left"
}

contains() { # FILE TEXT
    grep -qF -- "$2" "$1"
}

exec </dev/null
while IFS= read -r line <&3 || [ -n "$line" ]; do
    number=$((number + 1))
    word=${line%% *}
    rest=${line#* }
    case $word in
    '' | '#'*) continue ;;
    sh) eval "$rest" || { echo "$case_file:$number: preparation failed"; exit 3; } ; continue ;;
    '$') [ "$rest" = lathe ] && rest='lathe '
        run_lathe "${rest#lathe }"
        continue ;;
    exit) exit_checked=1; [ "$code" = "$rest" ] || fail "exit code $code, expected $rest" ;;
    out) contains "$work/tmp.out" "$rest" || fail "standard output lacks: $rest" ;;
    err) contains "$work/tmp.err" "$rest" || fail "standard error lacks: $rest" ;;
    no-err) contains "$work/tmp.err" "$rest" && fail "standard error has: $rest" ;;
    present) for f in $rest; do [ -e "$f" ] || fail "$f does not exist"; done ;;
    absent) for f in $rest; do [ ! -e "$f" ] || fail "$f exists"; done ;;
    *) echo "$case_file:$number: unknown word $word"; exit 3 ;;
    esac
    checks=$((checks + 1))
done 3<"$case_file"
[ $exit_checked = 1 ] || fail "no exit code is checked for the last command"
[ $checks -gt 0 ] || { echo "$case_file: nothing is checked"; exit 3; }
echo "$checks checks, $failures failures"
[ $failures = 0 ]
