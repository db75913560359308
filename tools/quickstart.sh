#!/bin/sh
# From a fresh Debian 12 to a trained and evaluated model: installs what is missing, builds, trains CmIR, the vanilla framework and the
# ablations, and leaves a table, a JSON report and a picture in runs/quickstart.
#
# Real CMU-MOSI is used where it is found (CMIR_DATA, or ../shared/data) or can be downloaded; otherwise the synthetic causal benchmark.
set -eu
cd "$(dirname "$0")/.."
sh tools/install_packages.sh
# Without a GPU its kernels, which nvcc may be there to compile, would only take time.
if [ -e /dev/nvidiactl ]; then cuda=AUTO; else cuda=OFF; fi
cmake -S . -B build/release -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMIR_TESTS=OFF -DCMIR_BENCH=OFF -DCMIR_CUDA=$cuda >/dev/null
cmake --build build/release
cmir=build/release/tools/cmir
if $cmir data info mosi_utt >/dev/null 2>&1; then
  config=mosi_utt_b
  data=mosi_utt
elif $cmir data get mosi data/mosi; then
  config=mosi_utt_a
  data=data/mosi/mosi_utt.safetensors
else
  echo "CMU-MOSI could neither be found nor downloaded: using the synthetic benchmark"
  config=synthetic
  data=synthetic
fi
$cmir experiment ablation $config --data $data --out runs/quickstart
