#pragma once

#include <cstdint>

namespace quire {

// A place in a ring of shared-memory stages that producer and consumers advance alike. A consumer
// starts with parity 0; a producer that waits for empty stages starts with 1, as all are at first.
template <int kStages>
struct RingCursor {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

}  // namespace quire
