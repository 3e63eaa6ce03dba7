#!/usr/bin/env bash
# machine_code_test.sh <cuobjdump> <library>: the kernels are compiled to the instructions that they
# are written for, and keep nothing in local memory.
set -euo pipefail
cuobjdump=$1 library=$2
# cuobjdump prints nothing, and succeeds, where its companion is missing.
PATH=$(dirname "$cuobjdump"):$PATH
code=$("$cuobjdump" --dump-sass "$library")
failures=0

function_code() {
  awk -v name="$1" '/Function : /{inside = index($0, name)} inside' <<<"$code"
}

# expect <kernel> <instruction> <what it is>
expect() {
  if ! grep -q "$2" <<<"$(function_code "$1")"; then
    echo "$1 has no $2 ($3)"
    failures=1
  fi
}

# Between the last read of a ring stage and its release lies a fence: the copy engine would overwrite
# what is still being read.
expect_fence_before_release() {
  local bad
  bad=$(function_code "$1" | awk '
    /Function : /{reading = 0}
    /LDSM/{reading = 1}
    /FENCE.VIEW.ASYNC/{reading = 0}
    /SYNCS.ARRIVE.*A1T0/{if (reading) print}')
  if [ -n "$bad" ]; then
    echo "$1 gives a stage back while reads of it may be in flight"
    failures=1
  fi
}

expect prefill_kernel HGMMA "warpgroup product"
expect prefill_kernel UBLKCP "bulk copy"
expect decode_kernel HMMA "warp product"
expect decode_kernel UBLKCP "bulk copy"
expect skinny_kernel HMMA "warp product"
expect skinny_kernel UTMALDG "tensor copy"
expect_fence_before_release decode_kernel
expect_fence_before_release skinny_kernel
if grep -E "\b(LDL|STL)\b" <<<"$code"; then
  echo "local memory is used"
  failures=1
fi
exit "$failures"
