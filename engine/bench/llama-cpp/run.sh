#!/bin/sh
# Quire beside llama.cpp, in turn on this machine and on the same weights. Installs llama.cpp's build
# for this processor under build/bench, and nothing else of it. Takes under five minutes.
#
#   engine/bench/llama-cpp/run.sh [--threads N] [--rounds N] [--seconds S] [--json FILE]
set -eu

root=$(cd "$(dirname "$0")/../../.." && pwd)
directory="$root/build/bench/llama-cpp"
version=3.22.1

mkdir -p "$directory"
if [ ! -d "$directory/node_modules/@node-llama-cpp/linux-x64" ]; then
  # A package of its own, so that npm does not find Quire's.
  echo '{ "private": true }' > "$directory/package.json"
  npm install --prefix "$directory" --save-exact --ignore-scripts --omit=optional \
    --no-audit --no-fund "node-llama-cpp@$version" "@node-llama-cpp/linux-x64@$version"
fi
cd "$root"
exec npx node engine/bench/llama-cpp-bench.ts --directory "$directory" "$@"
