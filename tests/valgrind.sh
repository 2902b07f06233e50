#!/usr/bin/env bash
# The C suite under valgrind: memory errors and leaks fail. Programs whose name has "stress" in it are left to the plain run.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind >/dev/null 2>&1 || { echo "valgrind: none, skipped"; exit 0; }
library=${CARGO_TARGET_DIR:-target}/release
[ -f "$library/libbatpak.so" ] || { echo "$library/libbatpak.so is missing: run make first" >&2; exit 1; }
library=$(cd "$library" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
for source in tests/c/*.c; do
    name=$(basename "$source" .c)
    case "$name" in *stress* | *cost*) continue ;; esac
    ${CC:-gcc} -std=c11 -g -O1 -Iinclude -Itests/c -o "$work/$name" "$source" -L"$library" -Wl,-rpath,"$library" -lbatpak -lpthread
    mkdir -p "$work/tmp-$name"
    if TMPDIR="$work/tmp-$name" timeout 600 valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
        --trace-children=no "$work/$name" >"$work/$name.log" 2>&1; then
        passed=$((passed + 1))
        echo "valgrind: $name ok"
    else
        failed=$((failed + 1))
        echo "valgrind: $name FAILED"
        tail -n 40 "$work/$name.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
