#!/bin/sh
# What of the C surface can be checked from outside. Each check says what it did, and aloud what it skipped.
#
#   check.sh CHECK LIBRARY_DIR SCRATCH_DIR
#
# CHECK: symbols, binary, compile, layout, version, example, cffi. LIBRARY_DIR holds libbatpak.so.
set -eu

check=$1
library=$2/libbatpak.so
scratch=$3
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
header=$root/include/batpak.h
CC=${CC:-cc}
CXX=${CXX:-c++}
mkdir -p "$scratch"

say() { printf 'surface: %s: %s\n' "$check" "$1"; }
fail() { say "FAILED: $1" >&2; exit 1; }

# The functions that a program can call, without comments and callback types.
declared() {
    "$CC" -E -P "$header" | grep -o 'batpak_[a-z0-9_]*(' | tr -d '(' | sort -u
}

exported() {
    nm -D --defined-only "$library" | awk '{ print $3 }' | sed 's/@.*//' | sort -u
}

check_symbols() {
    declared > "$scratch/declared"
    exported > "$scratch/exported"
    foreign=$(grep -v '^batpak_' "$scratch/exported" || true)
    [ -z "$foreign" ] || fail "exported without the prefix: $foreign"
    if ! diff "$scratch/declared" "$scratch/exported" > "$scratch/difference"; then
        cat "$scratch/difference" >&2
        fail "declared (<) and exported (>) differ"
    fi
    say "$(wc -l < "$scratch/declared") functions, declared and exported alike, all with the prefix"
}

check_binary() {
    soname=$(readelf -d "$library" | sed -n 's/.*Library soname: \[\(.*\)\]/\1/p')
    version=$(macro BATPAK_VERSION_STRING | tr -d '"')
    expected=libbatpak.so.${version%.*}
    [ "$soname" = "$expected" ] || fail "the soname is '$soname', not '$expected'"
    readelf -d "$library" | grep -q 'FLAGS_1.*NODELETE' || fail "not linked with -z nodelete"
    needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v -E '^(libc|libgcc_s|ld-linux.*)\.so' || true)
    [ -z "$needed" ] || fail "needs more than libc and libgcc_s: $needed"
    say "soname $soname, NODELETE, needs libc and libgcc_s only"
}

macro() {
    printf '#include "batpak.h"\n%s\n' "$1" | "$CC" -E -P -I"$root/include" - | tail -n 1
}

# $1: compiler, $2: language, $3: standard. The header alone, twice, and without a warning.
compile_one() {
    for lines in '#include "batpak.h"' '#include "batpak.h"
#include "batpak.h"'; do
        printf '%s\nextern int batpak_nothing;\n' "$lines" |
            "$1" -x "$2" -std="$3" -Wall -Wextra -pedantic -Werror -fsyntax-only -I"$root/include" - ||
            fail "$1 -std=$3"
    done
    done_with="$done_with $1/$3"
}

check_compile() {
    done_with=
    for compiler in gcc clang; do
        if ! command -v $compiler > /dev/null; then say "SKIPPED: $compiler is not installed"; continue; fi
        for standard in c99 c11 c17; do compile_one $compiler c $standard; done
    done
    for compiler in g++ clang++; do
        if ! command -v $compiler > /dev/null; then say "SKIPPED: $compiler is not installed"; continue; fi
        for standard in c++11 c++17 c++20; do compile_one $compiler c++ $standard; done
        # The C++ header asks for C++17.
        for standard in c++17 c++20; do
            printf '#include "batpak.hpp"\n#include "batpak.hpp"\nint main() {}\n' |
                $compiler -x c++ -std=$standard -Wall -Wextra -pedantic -Werror -fsyntax-only -I"$root/include" - ||
                fail "batpak.hpp with $compiler -std=$standard"
        done
    done
    [ -n "$done_with" ] || fail "there is no compiler"
    say "the header alone, once and twice, without warnings:$done_with; batpak.hpp as C++17 and C++20"
}

check_layout() {
    "$CC" -std=c11 -Wall -Wextra -pedantic -Werror -fsyntax-only -I"$root/include" "$here/layout.c" ||
        fail "a struct differs from layout.def"
    "$CXX" -x c++ -std=c++11 -Wall -Wextra -pedantic -Werror -fsyntax-only -I"$root/include" "$here/layout.c" ||
        fail "a struct differs from layout.def in C++"
    say "$(grep -c '^MEMBER' "$here/layout.def") members and $(grep -c '^TYPE' "$here/layout.def") sizes as in layout.def"
}

check_version() {
    "$CC" -std=c11 -Wall -Wextra -pedantic -Werror -I"$root/include" -o "$scratch/version" "$here/version.c" \
        -L"$(dirname "$library")" -lbatpak -Wl,-rpath,"$(dirname "$library")"
    "$scratch/version" || fail "macros and functions differ"
}

# The code in the header's opening comment: what is indented there.
check_example() {
    {
        printf '#include <stdio.h>\n#include "batpak.h"\nint main(void) {\n'
        sed -n -e '/\*\//q' -e 's/^ \*     \(.*\)$/    \1/p' "$header"
        printf '    return 0;\n}\n'
    } > "$scratch/example.c"
    "$CC" -std=c99 -Wall -Wextra -pedantic -Werror -I"$root/include" -o "$scratch/example" "$scratch/example.c" \
        -L"$(dirname "$library")" -lbatpak -Wl,-rpath,"$(dirname "$library")" || fail "it does not compile"
    rm -rf "$scratch/data"
    said=$(cd "$scratch" && ./example 2>&1) || fail "it fails"
    [ -z "$said" ] || fail "it says: $said"
    [ -n "$(ls "$scratch/data/segments")" ] || fail "it stored nothing"
    rm -rf "$scratch/data"
    say "$(wc -l < "$scratch/example.c") lines from the header, compiled and run"
}

check_cffi() {
    if ! python3 -c 'import cffi' 2> /dev/null; then
        say "SKIPPED: python3 with cffi is not installed"
        return
    fi
    python3 -W error "$here/cffi_read.py" "$CC" "$header" "$library" "$scratch" || fail "cffi"
}

case $check in
    symbols | binary | compile | layout | version | example | cffi) "check_$check" ;;
    *) fail "no such check" ;;
esac
