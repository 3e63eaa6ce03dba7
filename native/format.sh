#!/usr/bin/env bash
# clang-format of one pinned version over native/: `--check` fails on a difference, without it the
# files are rewritten. The version comes from a wheel, so that every machine formats alike.
set -euo pipefail
cd "$(dirname "$0")/.."
version=19.1.7
tools=build/tools/clang-format-$version
format=$tools/clang_format/data/bin/clang-format
if [ ! -x "$format" ]; then
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install -q --no-deps --target "$tools" "clang-format==$version"
fi
mapfile -t files < <(git ls-files -co --exclude-standard 'native/*.h' 'native/*.cc' 'native/*.cu' 'native/*.cuh')
case ${1:-} in
  --check) "$format" --dry-run --Werror "${files[@]}" ;;
  *) "$format" -i "${files[@]}" ;;
esac
