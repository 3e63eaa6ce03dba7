#include "core/memory_plan.h"

#include "common/testing.h"

namespace quire {
namespace {

MemoryNeeds some_needs() {
  MemoryNeeds needs;
  needs.weight_bytes = 1000;
  needs.workspace_bytes = 200;
  needs.sampler_bytes = 100;
  needs.kv_block_bytes = 10;
  needs.least_block_count = 5;
  return needs;
}

TEST(gives_what_is_left_to_whole_kv_blocks) {
  MemoryPlan plan;
  EXPECT_OK(plan_memory(some_needs(), 1'499, &plan));
  EXPECT_EQ(plan.block_count, 19);
  EXPECT_EQ(plan.total_bytes, 1490);
  EXPECT_EQ(plan.available_bytes, 1499);
}

TEST(takes_the_blocks_that_were_asked_for_and_no_more) {
  MemoryNeeds needs = some_needs();
  needs.requested_block_count = 3;
  MemoryPlan plan;
  EXPECT_OK(plan_memory(needs, 1'000'000, &plan));
  EXPECT_EQ(plan.block_count, 3);
  EXPECT_EQ(plan.total_bytes, 1330);
}

TEST(fits_exactly_at_the_longest_request_and_refuses_one_byte_less) {
  MemoryPlan plan;
  EXPECT_OK(plan_memory(some_needs(), 1'350, &plan));
  EXPECT_EQ(plan.block_count, 5);
  EXPECT(plan_memory(some_needs(), 1'349, &plan).code() == Code::kOutOfMemory);
}

TEST(keeps_to_the_limit_but_for_the_longest_request) {
  MemoryNeeds needs = some_needs();
  MemoryPlan plan;
  needs.kv_limit_bytes = 129;
  EXPECT_OK(plan_memory(needs, 1'000'000, &plan));
  EXPECT_EQ(plan.block_count, 12);
  needs.kv_limit_bytes = 20;
  EXPECT_OK(plan_memory(needs, 1'000'000, &plan));
  EXPECT_EQ(plan.block_count, 5);
}

TEST(refuses_requested_blocks_that_do_not_fit) {
  MemoryNeeds needs = some_needs();
  needs.requested_block_count = 20;
  MemoryPlan plan;
  EXPECT(plan_memory(needs, 1'499, &plan).code() == Code::kOutOfMemory);
}

TEST(explains_a_refusal_with_every_need) {
  MemoryNeeds needs = some_needs();
  needs.weight_bytes = int64_t{3} << 30;
  MemoryPlan plan;
  const std::string message = plan_memory(needs, int64_t{1} << 30, &plan).message();
  for (const char* part : {"weights", "3072.0 MiB", "workspace", "sampler", "KV cache",
                           "5 blocks of 10 bytes", "needed", "available", "1024.0 MiB"}) {
    if (message.find(part) == std::string::npos) {
      quire::testing::fail(__FILE__, __LINE__, std::string(part) + " is not in " + message);
    }
  }
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run(); }
