#!/bin/sh
# resource_report.sh SOURCES REPORTS: fails, by name, on a kernel that spills registers or has a stack frame (arrays in local memory), on a
# .cu below SOURCES without a report below REPORTS (cmake/keep_resource_report.sh), and on a __global__ function that no report lists.
set -eu
sources=$1
reports=$2
list=$(mktemp)
trap 'rm -f "$list"' EXIT
failed=0

for source in $(find "$sources" -name '*.cu' | sort); do
  report=$(find "$reports" -path "*/$(basename "$(dirname "$source")")/$(basename "$source").o.resources")
  if [ ! -s "$report" ]; then
    echo "$source: no resource report; build cmir_kernels_cuda"
    failed=1
  else
    cat "$report" >>"$list"
  fi
done

awk '
  /Compiling entry function/ { split($0, part, "\047"); architecture = part[4] }
  /Function properties for/ { name = $NF; functions[name] = 1 }
  /bytes stack frame/ {
    if ($1 + $5 + $9 > 0) { print name " (" architecture "):" $0; bad = 1 }
  }
  /Used [0-9]+ registers/ { for (i = 1; i < NF; ++i) if ($i == "Used" && $(i + 1) > most) most = $(i + 1) }
  END { n = 0; for (f in functions) ++n; print n " functions, at most " most " registers"; exit bad }
' "$list" || failed=1

# A template's name is in the mangled one, its length before it.
for name in $(find "$sources" -name '*.cu' -o -name '*.cuh' | xargs cat | tr '\n' ' ' |
              grep -oE '__global__ +void +(__launch_bounds__\([^)]*\) +)?[A-Za-z0-9_]+\(' | sed 's/($//; s/.* //' | sort -u); do
  if ! grep -q "${#name}${name}[EI]" "$list"; then
    echo "$name: a __global__ function that no resource report lists"
    failed=1
  fi
done
exit $failed
