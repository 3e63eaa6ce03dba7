#include "common/counted_new.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<bool> counting{false};
std::atomic<int64_t> allocation_count{0};

}  // namespace

void* operator new(size_t size) {
  if (counting) ++allocation_count;
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace quire::testing {

void start_counting_allocations() {
  allocation_count = 0;
  counting = true;
}

int64_t stop_counting_allocations() {
  counting = false;
  return allocation_count;
}

}  // namespace quire::testing
