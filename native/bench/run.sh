#!/usr/bin/env bash
# What runs on a GPU machine, each part under ten minutes:
#   native/bench/run.sh check     the kernels' tests
#   native/bench/run.sh kernels   each kernel against the ceilings measured in the same run
#   native/bench/run.sh step      whole decode steps of an 8B shape against their floor
# Tables go to stdout, JSON to $OUT (default build/bench).
set -euo pipefail
cd "$(dirname "$0")/../.."
build=build/kernels
out=${OUT:-build/bench}
mkdir -p "$out"
cmake -S native/kernels -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >"$out/configure.log"
cmake --build "$build" --target all cuda_kernels cuda_step >"$out/build.log" || { tail -n 60 "$out/build.log"; exit 1; }
case ${1:-} in
  check) ctest --test-dir "$build" --output-on-failure --timeout 120 -R "^cuda_" ;;
  kernels) "$build/cuda_kernels" "$out/kernels.json" ;;
  step) "$build/cuda_step" "$out/step.json" ;;
  *) echo "usage: $0 check|kernels|step" >&2; exit 2 ;;
esac
