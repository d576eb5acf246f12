# Sourced by ./demo, ./test and .ci/run: installs what is missing (Debian packages by name), finds a compiler, builds.

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'; else bold= dim= red= green= plain=; fi
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
fail() { printf '%serror:%s %s\n' "$red" "$plain" "$*" >&2; exit 3; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo > /dev/null; then sudo "$@"
    else fail "to install packages this must run as root, or with sudo: $*"
    fi
}

has_package() { dpkg-query -W -f='${Status}' "$1" 2> /dev/null | grep -q 'install ok installed'; }

# Installs the given packages that are not there yet.
install_missing() {
    local missing=() package log
    command -v apt-get > /dev/null || { note "no apt-get here: these must be there already: $*"; return 0; }
    for package in "$@"; do has_package "$package" || missing+=("$package"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    note "installing ${missing[*]}"
    log=$(mktemp)
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" > "$log" 2>&1; then
        as_root apt-get update >> "$log" 2>&1 || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >> "$log" 2>&1 ||
            { tail -n 20 "$log" >&2; fail "could not install ${missing[*]}"; }
    fi
    rm -f "$log"
}

# A compiler that is new enough and links OpenMP programs.
compiler_works() {
    local major
    command -v "$1" > /dev/null || return 1
    major=$("$1" -dumpversion 2> /dev/null | cut -d. -f1)
    case $("$1" --version 2> /dev/null | head -n 1) in
    *clang*) [ "${major:-0}" -ge 14 ] || return 1 ;;
    *) [ "${major:-0}" -ge 12 ] || return 1 ;;
    esac
    echo 'int omp_get_max_threads(void); int main(void) { return omp_get_max_threads() < 1; }' | "$1" -fopenmp -x c - -o /dev/null 2> /dev/null
}

find_compiler() {
    local c
    for c in ${CC:-} clang-19 clang clang-20 clang-18 clang-17 clang-16 clang-15 clang-14 gcc gcc-14 gcc-13 gcc-12; do
        if compiler_works "$c"; then CC=$c; export CC; return 0; fi
    done
    return 1
}

# What building lathe and what it emits needs. Sets and exports CC.
install_build_tools() {
    install_missing cmake ninja-build pkg-config libprotobuf-c-dev protobuf-c-compiler libc6-dev binutils
    find_compiler && return 0
    if apt-cache show clang-19 > /dev/null 2>&1 || { as_root apt-get update > /dev/null 2>&1; apt-cache show clang-19 > /dev/null 2>&1; }; then
        install_missing clang-19 libomp-19-dev
    else
        install_missing clang libomp-dev
    fi
    find_compiler || fail "no C compiler with OpenMP: clang 14 or gcc 12, or newer, is needed"
}

# build FOLDER TARGET [cmake options]: configures, then builds; quiet unless something is wrong or there is a terminal.
build() {
    local folder=$1 target=$2 log
    shift 2
    mkdir -p "$folder"
    log=$folder/build.log
    cmake -S "$root" -B "$folder" -G Ninja "$@" > "$log" 2>&1 || { tail -n 30 "$log" >&2; fail "cmake failed, all of it is in $log"; }
    if [ -t 1 ]; then cmake --build "$folder" --target "$target" || fail "the build failed"
    else cmake --build "$folder" --target "$target" >> "$log" 2>&1 || { grep -E -A6 'error|warning|FAILED' "$log" | tail -n 60 >&2; fail "the build failed, all of it is in $log"; }
    fi
}

cache_folder() { printf '%s/lathe' "${XDG_CACHE_HOME:-$HOME/.cache}"; }

# python_with NAME PACKAGE…: a cached virtual environment with these packages; prints its python.
python_with() {
    local venv
    venv=$(cache_folder)/venv-$1
    shift
    if [ "$(cat "$venv/ready" 2> /dev/null)" != "$*" ]; then
        note "installing for Python: $*" >&2
        rm -rf "$venv"
        mkdir -p "$(dirname "$venv")"
        { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"; } > "$venv.log" 2>&1 ||
            { tail -n 20 "$venv.log" >&2; fail "could not install for Python: $*"; }
        echo "$*" > "$venv/ready"
    fi
    printf '%s/bin/python' "$venv"
}
