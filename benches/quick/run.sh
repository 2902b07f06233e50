#!/bin/sh
# Builds and runs the quick benchmark: a table on the terminal, and build/bench-quick.csv.
# Arguments are passed on to the program (see quick.c). BATPAK_BENCH_DIR names where the data go: give it a directory on the
# disk that is to be measured.
set -eu
cd "$(dirname "$0")/../.."

release=${CARGO_TARGET_DIR:-target}/release
mkdir -p "$release" build
release=$(cd "$release" && pwd)
"${CARGO:-cargo}" build --release --locked --quiet
ln -sf libbatpak.so "$release/libbatpak.so.$(sed -n 's/^version = "\([0-9]*\.[0-9]*\)\..*/\1/p' Cargo.toml | head -n 1)"

"${CC:-cc}" -std=c11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -Iinclude -o build/bench-quick \
    benches/quick/quick.c benches/quick/measure.c benches/quick/raw.c \
    -L"$release" -Wl,-rpath,"$release" -lbatpak -pthread

parent=${BATPAK_BENCH_DIR:-build/bench}
mkdir -p "$parent"
directory=$(mktemp -d "$parent/quick-XXXXXX")
trap 'rm -rf "$directory"' EXIT
trap 'exit 1' HUP INT TERM
build/bench-quick --csv build/bench-quick.csv "$@" "$directory"
