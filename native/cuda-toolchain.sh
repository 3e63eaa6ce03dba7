#!/usr/bin/env bash
# Installs nvcc under build/cuda from the pinned wheels; does nothing where they are there already.
# native/CMakeLists.txt finds it there. Needs python3 with pip and about 200 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
pins=native/requirements-cuda.txt
dir=build/cuda
root=$dir/nvidia/cu13
if ! cmp -s "$pins" "$dir/.pins"; then
  rm -rf "$dir"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install -q --no-deps --target "$dir" -r "$pins"
  # nvcc 13.0's profile and CMake search lib64, the wheels have lib.
  ln -s lib "$root/lib64"
  rm -rf "$root/lib/libnvvm.so.4" "$root/lib/cmake" "$root/include/cccl"
  cp "$pins" "$dir/.pins"
fi
"$root/bin/nvcc" --version | tail -n 2
