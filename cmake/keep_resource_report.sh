#!/bin/sh
# keep_resource_report.sh NVCC ARGUMENTS... -o OBJECT ...: runs nvcc, writes what ptxas says of the kernels' registers, stack and spills to
# OBJECT.resources, and shows the rest of nvcc's messages.
set -u
object=
previous=
for argument in "$@"; do
  if [ "$previous" = -o ]; then object=$argument; fi
  previous=$argument
done
"$@" 2>"$object.messages"
status=$?
figures='^ptxas info|bytes stack frame.*bytes spill'
grep -E "$figures" "$object.messages" >"$object.resources"
grep -Ev "$figures" "$object.messages" >&2
rm -f "$object.messages"
exit $status
