#!/bin/sh
# sass_table.sh BUILD [ARCHITECTURE]: what the machine code of each kernel file of a CUDA build (cmake --preset cuda) reads and writes, as a
# table: its functions, global loads (also those to shared memory) and stores and how many of each move 16 bytes, accesses to local memory.
# Fails, after the table, if there are any of the last. ARCHITECTURE (sm_90a): one that was compiled for. Needs cuobjdump and nvdisasm of the
# CUDA Toolkit.
set -eu
objects="$1/kernels/cuda/CMakeFiles/cmir_kernels_cuda.dir"
architecture=${2:-sm_90a}
code=$(mktemp)
trap 'rm -f "$code"' EXIT
failed=0
echo "| file | functions | loads | of 16 bytes | stores | of 16 bytes | local memory |"
echo "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
for object in $(find "$objects" -name '*.cu.o' | sort); do
  cuobjdump -sass -arch "$architecture" "$object" >"$code"
  awk -v file="$(basename "$object" .cu.o)" '
    /Function :/ { ++functions }
    $2 ~ /^@/ { $2 = $3 }  # a predicate stands before the instruction
    $2 ~ /^(LDG?|LDGSTS)\./ || $2 == "LD" || $2 == "LDG" { ++loads; wide_loads += $2 ~ /\.128/ }
    $2 ~ /^STG?\./ || $2 == "ST" || $2 == "STG" { ++stores; wide_stores += $2 ~ /\.128/ }
    $2 ~ /^(LDL|STL)/ { ++locals }
    END {
      if (functions == 0) { print file ": no code for this architecture" > "/dev/stderr"; exit 1 }
      printf "| %s | %d | %d | %d | %d | %d | %d |\n", file, functions, loads, wide_loads, stores, wide_stores, locals
      exit locals > 0
    }' "$code" || failed=1
done
exit $failed
