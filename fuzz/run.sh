#!/bin/sh
# Guided by coverage: each target for SECONDS (default 60) under libFuzzer and the address sanitizer, or those that are named:
#   fuzz/run.sh [SECONDS [TARGET...]]
# Needs a nightly compiler and a C++ compiler; without them it is skipped, aloud. New inputs are kept in build/fuzz, findings too.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: no nightly compiler (rustup toolchain install nightly)"
    exit 0
fi
if ! command -v c++ >/dev/null 2>&1; then
    echo "skipped: no C++ compiler, which libFuzzer is built with"
    exit 0
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-target}/fuzz
# What cargo-fuzz passes; plain cargo does as well. The target is named so that build scripts go without.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1 --cfg fuzzing" \
    CARGO_TARGET_DIR="$target_dir" cargo +nightly build --quiet --release --locked --target "$host" --manifest-path fuzz/Cargo.toml --bins
failed=0
for source in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$source" .rs)
    case " ${*:-$name} " in *" $name "*) ;; *) continue ;; esac
    mkdir -p "build/fuzz/corpus/$name" "build/fuzz/found/$name"
    log=build/fuzz/$name.log
    status=0
    ASAN_OPTIONS=detect_leaks=0 "$target_dir/$host/release/$name" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 \
        -malloc_limit_mb=256 -max_len=65536 -artifact_prefix="build/fuzz/found/$name/" \
        "build/fuzz/corpus/$name" "fuzz/corpus/$name" >"$log" 2>&1 || status=$?
    echo "$name: $(sed -n 's/^Done \([0-9]*\) runs.*/\1 runs/p' "$log") exit $status"
    if [ "$status" -ne 0 ]; then
        failed=1
        grep -E "panicked|ERROR|SUMMARY|Test unit written" -A 2 "$log" | head -n 20
    fi
done
exit $failed
