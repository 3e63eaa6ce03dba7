#pragma once

#include <cstdint>

// Counter-based random numbers for hosts and devices alike.
#ifdef __CUDACC__
#define QUIRE_HOST_DEVICE __host__ __device__
#else
#define QUIRE_HOST_DEVICE
#endif

namespace quire {

struct Philox4 {
  uint32_t words[4];
};

// Philox 4x32 with 10 rounds: 128 random bits that depend on (key, counter) alone.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011,
// section 4.2 and table 2.
QUIRE_HOST_DEVICE inline Philox4 philox4x32_10(Philox4 counter, uint64_t key) {
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter.words[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter.words[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.words[1] ^ key0,
                static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.words[3] ^ key1,
                static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// Uniform in (0, 1), both ends excluded, 52 random bits: the draw for one position of a request.
QUIRE_HOST_DEVICE inline double uniform_draw(uint64_t seed, uint32_t position) {
  const Philox4 bits = philox4x32_10({{position, 0, 0, 0}}, seed);
  const uint64_t mantissa =
      (uint64_t{bits.words[0]} << 20) | (static_cast<uint64_t>(bits.words[1]) >> 12);
  return (static_cast<double>(mantissa) + 0.5) * 0x1.0p-52;
}

}  // namespace quire
