#!/bin/sh
# Programs built from an installed tree, as users build them: by pkg-config and by CMake, shared and static.
#
#   install.sh TREE PREFIX
#
# TREE is where `make install DESTDIR=TREE PREFIX=PREFIX` has put everything; beside it the programs are built.
set -eu

tree=$1
prefix=$2
source=$(cd "$(dirname "$0")" && pwd)/version.c
work=$(mktemp -d "$(dirname "$tree")/consumer.XXXXXX")
trap 'rm -rf "$work"' EXIT
lib=$tree$prefix/lib
CC=${CC:-cc}

say() { printf 'surface: install: %s\n' "$1"; }

run() { LD_LIBRARY_PATH=$lib "$1" > /dev/null || { say "FAILED: $2" >&2; exit 1; }; }

if command -v pkg-config > /dev/null; then
    export PKG_CONFIG_PATH="$lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$tree"
    "$CC" -o "$work/shared" "$source" $(pkg-config --cflags --libs batpak)
    run "$work/shared" 'pkg-config, shared'
    # The archive by its own name, and what it needs.
    "$CC" -o "$work/static" "$source" $(pkg-config --cflags batpak) "$lib/libbatpak.a" \
        $(pkg-config --static --libs batpak | sed 's/-lbatpak//')
    run "$work/static" 'pkg-config, static'
    if readelf -d "$work/static" | grep -q libbatpak; then say 'FAILED: the static program needs the shared library' >&2; exit 1; fi
    say 'pkg-config: shared and static'
else
    say 'SKIPPED: pkg-config is not installed'
fi

if command -v cmake > /dev/null; then
    cat > "$work/CMakeLists.txt" <<TXT
cmake_minimum_required(VERSION 3.10)
project(consumer C)
find_package(batpak 0.1 REQUIRED)
add_executable(shared $source)
target_link_libraries(shared batpak::batpak)
add_executable(static $source)
target_link_libraries(static batpak::batpak_static)
TXT
    cmake -S "$work" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$tree$prefix" -DCMAKE_C_COMPILER="$(command -v "$CC")" > "$work/log" &&
        cmake --build "$work/cmake" >> "$work/log" || { cat "$work/log" >&2; say 'FAILED: cmake' >&2; exit 1; }
    run "$work/cmake/shared" 'CMake, shared'
    run "$work/cmake/static" 'CMake, static'
    say 'CMake: shared and static'
else
    say 'SKIPPED: cmake is not installed'
fi
