#!/bin/sh
# Runs each fuzz target, coverage-guided, for so many seconds: fuzz/run.sh [SECONDS [TARGET...]]. Needs a nightly compiler.
# The seeds are fuzz/corpus; what is found on the way is kept in build/fuzz, what fails in fuzz/artifacts.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
if ! "${CARGO:-cargo}" +nightly --version > /dev/null 2>&1; then
    echo "skipped: coverage-guided fuzzing needs a nightly compiler"
    exit 0
fi
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/fuzz"
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Cdebug-assertions -Coverflow-checks \
--cfg fuzzing -Ccodegen-units=1" \
    "${CARGO:-cargo}" +nightly build --release --manifest-path fuzz/Cargo.toml --target "$host"
[ $# -gt 0 ] || set -- $(ls fuzz/corpus)
for target; do
    mkdir -p "build/fuzz/$target" "fuzz/artifacts/$target"
    echo "== $target, $seconds s"
    "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" "build/fuzz/$target" "fuzz/corpus/$target" 2>&1 | tail -n 8
done
