#!/bin/sh
# Installs what is missing, builds everything and runs every test. Arguments go to ctest. CMIR_SANITIZE=address,undefined or =thread builds
# and tests with those sanitizers.
set -eu
cd "$(dirname "$0")/.."
sh tools/install_packages.sh tests
sanitize="${CMIR_SANITIZE:-}"
build="build/test${sanitize:+-$(echo "$sanitize" | tr , -)}"
if [ -n "$sanitize" ]; then bench=OFF; else bench=ON; fi
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMIR_SANITIZE="$sanitize" -DCMIR_BENCH=$bench >/dev/null
cmake --build "$build"
# Tests ask for more memory than there is, and expect an error instead of an abort.
export ASAN_OPTIONS=allocator_may_return_null=1 TSAN_OPTIONS=allocator_may_return_null=1
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" "$@"
