#!/bin/sh
# every_kernel.sh CMIR PROGRAM...: fails, and names them, if there are kernels (but those in f64) that no benchmark program times.
set -eu
cmir=$1
shift
benchmarks=$(for program in "$@"; do
  "$program" --devices=cpu,simt --benchmark_list_tests
done)
count=0 missing=
for kernel in $("$cmir" inspect --kernels | grep -oE '^[a-z0-9_]+<[a-z0-9]+>' | grep -v '<f64>'); do
  count=$((count + 1))
  printf '%s\n' "$benchmarks" | grep -qE "^$kernel/(cpu|simt)/" || missing="$missing $kernel"
done
[ "$count" -gt 0 ] || { echo "no kernels are listed by $cmir inspect --kernels"; exit 1; }
[ -z "$missing" ] || { echo "without a benchmark (docs/adding_an_op.md):$missing"; exit 1; }
echo "$count kernels have a benchmark"
