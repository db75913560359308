#!/bin/sh
# Installs the Debian packages that are missing. "sh tools/install_packages.sh tests" adds those of the tests and benchmarks.
set -eu
packages="g++ cmake ninja-build ca-certificates libfmt-dev nlohmann-json3-dev libtomlplusplus-dev libcli11-dev
  zlib1g-dev libcurl4-openssl-dev libssl-dev libhdf5-dev libopenblas-dev libdnnl-dev libboost-context-dev"
if [ "${1:-}" = tests ]; then packages="$packages libgtest-dev libgmock-dev libbenchmark-dev clang-format"; fi
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
if [ "$(id -u)" = 0 ]; then as_root=""; else as_root=sudo; fi
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
