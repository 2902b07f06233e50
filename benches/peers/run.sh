#!/bin/sh
# Builds and runs the benchmark: a table on the terminal, and build/bench.csv. Arguments are passed on to the program (see
# peers.c); without any, all of it is run, and docs/charts is drawn anew. BATPAK_BENCH_DIR names where the data go: give it a
# directory on the disk that is to be measured, with room for 20 GB.
set -eu
cd "$(dirname "$0")/../.."

release=${CARGO_TARGET_DIR:-target}/release
mkdir -p "$release" build
release=$(cd "$release" && pwd)
"${CARGO:-cargo}" build --release --locked --quiet
ln -sf libbatpak.so "$release/libbatpak.so.$(sed -n 's/^version = "\([0-9]*\.[0-9]*\)\..*/\1/p' Cargo.toml | head -n 1)"

compile() {
    "${CC:-cc}" -std=c11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -Iinclude -pthread "$@"
}

# A peer's backend is built when its header is there: peer NAME HEADER PACKAGE FLAGS...
peer() {
    name=$1 header=$2 package=$3
    shift 3
    rm -f "build/bench-$name.so"
    if echo "#include <$header>" | "${CC:-cc}" -E - > /dev/null 2>&1; then
        compile -shared -fPIC -o "build/bench-$name.so" "benches/peers/$name.c" "$@"
    else
        echo "skipped: $name, there is no $header (apt-get install $package)"
    fi
}

compile -rdynamic -o build/bench-peers benches/peers/peers.c benches/peers/measure.c benches/peers/process.c benches/peers/raw.c \
    benches/peers/workload.c benches/peers/rows_*.c -ldl -lm
compile -shared -fPIC -o build/bench-batpak.so benches/peers/batpak.c -L"$release" -Wl,-rpath,"$release" -lbatpak
peer sqlite sqlite3.h libsqlite3-dev -lsqlite3
peer lmdb lmdb.h liblmdb-dev -llmdb
rocksdb_version=$(pkg-config --modversion rocksdb 2> /dev/null || echo 'of unknown version')
peer rocksdb rocksdb/c.h librocksdb-dev -DROCKSDB_VERSION="\"$rocksdb_version\"" -lrocksdb

parent=${BATPAK_BENCH_DIR:-build/bench}
mkdir -p "$parent"
directory=$(mktemp -d "$parent/XXXXXX")
trap 'rm -rf "$directory"' EXIT
trap 'exit 1' HUP INT TERM
build/bench-peers --csv build/bench.csv "$@" "$directory"
if [ "$#" = 0 ]; then
    "${CARGO:-cargo}" run --quiet --locked --manifest-path tools/charts/Cargo.toml -- build/bench.csv docs/charts
fi
