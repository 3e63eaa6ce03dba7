#pragma once

#include <cstdint>

#include "common/philox.h"

// How decode attention cuts its work: each row's visible tokens into units of 512 that are anchored
// at token 0, whatever else is in the batch, so that a row's result never depends on its
// neighbours.
namespace quire {

constexpr int kUnitTokens = 512;

// Units [first, end) of a row that sees `length` tokens, of them at most the last `window` (0:
// all).
struct UnitRange {
  int32_t first;
  int32_t end;
};

QUIRE_HOST_DEVICE inline UnitRange unit_range(int32_t length, int32_t window) {
  const int32_t hidden = window > 0 && length > window ? length - window : 0;
  return {hidden / kUnitTokens, (length + kUnitTokens - 1) / kUnitTokens};
}

// starts[i] = units of the rows before i, starts[row_count] = all. A row of length 0 has none.
inline void plan_decode(const int32_t* lengths, int32_t row_count, int32_t window,
                        int32_t* starts) {
  starts[0] = 0;
  for (int32_t row = 0; row < row_count; ++row) {
    const UnitRange range = unit_range(lengths[row], window);
    starts[row + 1] = starts[row] + range.end - range.first;
  }
}

// One unit of the flat order (row, head unit, unit of the row).
struct DecodeUnit {
  int32_t row;
  int32_t head_unit;
  int32_t index;  // among the row's units, from 0
  int32_t count;  // the row's units
};

QUIRE_HOST_DEVICE inline DecodeUnit find_unit(const int32_t* starts, int32_t row_count,
                                              int32_t head_units, int32_t flat) {
  int32_t low = 0,
          high = row_count;  // starts[low] * head_units <= flat < starts[high] * head_units
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    (starts[middle] * head_units <= flat ? low : high) = middle;
  }
  const int32_t count = starts[low + 1] - starts[low];
  const int32_t rest = flat - starts[low] * head_units;
  return {low, rest / count, rest % count, count};
}

// The unit after `unit` in the flat order.
QUIRE_HOST_DEVICE inline DecodeUnit next_unit(const int32_t* starts, int32_t head_units,
                                              DecodeUnit unit) {
  if (++unit.index < unit.count) return unit;
  unit.index = 0;
  if (++unit.head_unit < head_units) return unit;
  unit.head_unit = 0;
  do {
    ++unit.row;
    unit.count = starts[unit.row + 1] - starts[unit.row];
  } while (unit.count == 0);
  return unit;
}

}  // namespace quire
