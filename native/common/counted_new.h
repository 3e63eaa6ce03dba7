#pragma once

#include <cstdint>

// A program that links counted_new.cc can count what all its threads allocate with `new`.
namespace quire::testing {

void start_counting_allocations();

// Returns how many there were since the start.
int64_t stop_counting_allocations();

}  // namespace quire::testing
