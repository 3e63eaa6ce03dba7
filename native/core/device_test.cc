#include "core/device.h"

#include <unistd.h>

#include <cmath>
#include <numeric>
#include <string>

#include "common/counted_new.h"
#include "common/testing.h"
#include "core/tiny_model.h"

namespace quire {
namespace {

using quire::testing::TinyModel;

DeviceOptions some_options() {
  DeviceOptions options;
  options.dtype = "float32";
  options.threads = 2;
  options.max_model_len = 64;
  options.max_rows = 3;
  options.max_batched_tokens = 40;
  options.block_count = 12;
  return options;
}

std::unique_ptr<Device> open_device(const TinyModel& tiny, const DeviceOptions& options) {
  std::unique_ptr<Device> device;
  EXPECT_OK(Device::open(tiny.model(), options, nullptr, &device));
  return device;
}

// Row `row` with blocks 4 * row to 4 * row + 3.
void open_row(Device& device, int32_t row, RowSampling sampling,
              const std::vector<int32_t>& prompt) {
  std::vector<int32_t> blocks(4);
  std::iota(blocks.begin(), blocks.end(), 4 * row);
  EXPECT_OK(device.open_row(row, sampling, prompt.data(), static_cast<int32_t>(prompt.size()),
                            static_cast<int32_t>(prompt.size())));
  EXPECT_OK(device.set_blocks(row, 0, blocks.data(), 4));
}

struct OneChunk {
  int32_t row = 0;
  int32_t start = 0;
  std::vector<int32_t> token_ids;

  Status submit(Device& device) const {
    const auto count = static_cast<int32_t>(token_ids.size());
    const uint8_t samples = 1;
    return device.submit({1, count, &row, &start, &count, &samples, token_ids.data()});
  }
};

struct Sampled {
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;
};

// Greedy tokens of one request, each fed back by the device itself.
Sampled generate(Device& device, const std::vector<int32_t>& prompt, int32_t count) {
  Sampled sampled;
  open_row(device, 1, {}, prompt);
  OneChunk chunk{1, 0, prompt};
  for (int32_t i = 0; i < count; ++i) {
    StepResult result;
    EXPECT_OK(chunk.submit(device));
    EXPECT_OK(device.wait(&result));
    EXPECT_EQ(result.sampled_count, 1);
    sampled.token_ids.push_back(result.token_ids[0]);
    sampled.logprobs.push_back(result.logprobs[0]);
    chunk.start += static_cast<int32_t>(chunk.token_ids.size());
    chunk.token_ids = {kLastSampled};
  }
  return sampled;
}

const std::vector<int32_t> kPrompt = {3, 141, 59, 26, 5, 35, 89, 79, 32, 38};

TEST(two_ranks_compute_what_one_computes) {
  const TinyModel tiny;
  DeviceOptions options = some_options();
  const Sampled one = generate(*open_device(tiny, options), kPrompt, 20);
  options.tensor_parallel = 2;
  const Sampled two = generate(*open_device(tiny, options), kPrompt, 20);

  EXPECT(one.token_ids == two.token_ids);
  for (size_t i = 0; i < one.logprobs.size(); ++i) {
    // float32: ranks add partial sums in another order than one long sum.
    EXPECT_LE(std::abs(one.logprobs[i] - two.logprobs[i]), 1e-4);
  }
}

TEST(two_ranks_need_the_weights_and_the_cache_of_one) {
  const TinyModel tiny;
  DeviceOptions options = some_options();
  MemoryPlan one, two;
  EXPECT_OK(Device::plan(tiny.model(), options, &one));
  options.tensor_parallel = 2;
  EXPECT_OK(Device::plan(tiny.model(), options, &two));
  EXPECT_EQ(one.kv_block_bytes, two.kv_block_bytes);
  EXPECT_LE(one.weight_bytes, two.weight_bytes);
  // Norms are held by both ranks, and panels are filled up to 16 rows.
  EXPECT_LE(two.weight_bytes, one.weight_bytes + one.weight_bytes / 4);
}

TEST(refuses_ranks_that_do_not_divide_the_kv_heads) {
  const TinyModel tiny;
  DeviceOptions options = some_options();
  options.tensor_parallel = 4;
  MemoryPlan plan;
  const Status status = Device::plan(tiny.model(), options, &plan);
  EXPECT(status.code() == Code::kInvalidArgument);
  EXPECT_EQ(status.message(), "tensorParallel 4 does not divide the model's 2 KV heads");
}

TEST(allocates_nothing_while_steps_run) {
  const TinyModel tiny;
  const auto device = open_device(tiny, some_options());
  RowSampling sampling;
  sampling.temperature = 0.7f;
  sampling.top_p = 0.9f;
  sampling.repetition_penalty = 1.1f;
  sampling.top_logprobs = 5;
  open_row(*device, 0, sampling, kPrompt);
  open_row(*device, 1, {}, kPrompt);
  const std::vector<int32_t> rows = {0, 1};
  const std::vector<int32_t> last = {kLastSampled, kLastSampled};
  const std::vector<uint8_t> samples = {1, 1};
  std::vector<int32_t> tokens = kPrompt;
  tokens.insert(tokens.end(), kPrompt.begin(), kPrompt.end());
  const std::vector<int32_t> zeros = {0, 0};
  const std::vector<int32_t> lengths = {10, 10};
  std::vector<int32_t> starts = {10, 10};
  const std::vector<int32_t> ones = {1, 1};

  quire::testing::start_counting_allocations();
  StepResult result;
  EXPECT_OK(device->submit(
      {2, 20, rows.data(), zeros.data(), lengths.data(), samples.data(), tokens.data()}));
  for (int32_t step = 0; step < 10; ++step) {
    EXPECT_OK(device->submit(
        {2, 2, rows.data(), starts.data(), ones.data(), samples.data(), last.data()}));
    for (int32_t& start : starts) ++start;
    EXPECT_OK(device->wait(&result));
  }
  EXPECT_OK(device->wait(&result));
  EXPECT_EQ(quire::testing::stop_counting_allocations(), 0);
}

TEST(refuses_a_third_step_in_flight_and_a_wait_for_none) {
  const TinyModel tiny;
  const auto device = open_device(tiny, some_options());
  StepResult result;
  EXPECT(device->wait(&result).code() == Code::kInvalidArgument);
  open_row(*device, 0, {}, kPrompt);
  OneChunk chunk{0, 0, kPrompt};
  EXPECT_OK(chunk.submit(*device));
  EXPECT_OK(chunk.submit(*device));
  EXPECT(chunk.submit(*device).code() == Code::kInvalidArgument);
  EXPECT_OK(device->wait(&result));
  EXPECT_OK(chunk.submit(*device));
}

TEST(a_block_outside_the_cache_fails_the_device_and_names_row_and_block) {
  const TinyModel tiny;
  const auto device = open_device(tiny, some_options());
  open_row(*device, 2, {}, kPrompt);
  const int32_t outside = 12;
  EXPECT_OK(device->set_blocks(2, 0, &outside, 1));
  StepResult result;
  EXPECT_OK((OneChunk{2, 0, kPrompt}.submit(*device)));
  const Status status = device->wait(&result);
  EXPECT(status.code() == Code::kDeviceFailed);
  EXPECT_EQ(status.message(), "row 2: block 12 at index 0 of its table, the cache has 12 blocks");

  // The device stays failed, also for steps that would be right.
  open_row(*device, 0, {}, kPrompt);
  EXPECT_OK((OneChunk{0, 0, kPrompt}.submit(*device)));
  EXPECT(device->wait(&result).code() == Code::kDeviceFailed);
}

TEST(a_failed_step_fails_every_rank_alike) {
  const TinyModel tiny;
  DeviceOptions options = some_options();
  options.tensor_parallel = 2;
  const auto device = open_device(tiny, options);
  StepResult result;
  EXPECT_OK((OneChunk{0, 0, kPrompt}.submit(*device)));
  const Status status = device->wait(&result);
  EXPECT_EQ(status.message(), "row 0: block -1 at index 0 of its table, the cache has 12 blocks");
}

// What is wrong with a chunk is said in words, and never read past.
TEST(names_what_is_out_of_bounds_in_a_batch) {
  const TinyModel tiny;
  const auto message = [&](const OneChunk& chunk) {
    const auto device = open_device(tiny, some_options());
    for (int32_t row = 0; row < 3; ++row) open_row(*device, row, {}, kPrompt);
    StepResult result;
    EXPECT_OK(chunk.submit(*device));
    return device->wait(&result).message();
  };
  EXPECT_EQ(message({3, 0, {1}}), "row 3: the device has rows 0 to 2");
  EXPECT_EQ(message({0, 64, {1}}), "row 0: positions 64 to 65, the limit is 64");
  EXPECT_EQ(message({0, -1, {1}}), "row 0: positions -1 to 0, the limit is 64");
  EXPECT_EQ(message({0, 0, {200}}), "row 0: token 200, the vocabulary has 200");
  EXPECT_EQ(message({0, 0, {kLastSampled}}),
            "row 0: asks for its last sampled token and has sampled none");
  EXPECT_EQ(message({0, 0, {}}), "row 0: positions 0 to 0, the limit is 64");
}

TEST(refuses_rows_and_blocks_outside_its_limits_at_once) {
  const TinyModel tiny;
  const auto device = open_device(tiny, some_options());
  const int32_t block = 0;
  RowSampling sampling;
  const int32_t bad_token = 200;
  EXPECT(!device->set_blocks(3, 0, &block, 1).ok());
  EXPECT(!device->set_blocks(0, 4, &block, 1).ok());
  EXPECT(!device->set_blocks(0, -1, &block, 1).ok());
  EXPECT(!device->open_row(-1, sampling, nullptr, 0, 0).ok());
  EXPECT(!device->open_row(0, sampling, &bad_token, 1, 1).ok());
  sampling.temperature = std::nanf("");
  EXPECT(!device->open_row(0, sampling, nullptr, 0, 0).ok());
  sampling.temperature = 1.0f;
  sampling.bias_token_ids = {200};
  sampling.bias_values = {1.0f};
  EXPECT(!device->open_row(0, sampling, nullptr, 0, 0).ok());
}

TEST(names_the_tensor_that_a_short_file_cuts) {
  const TinyModel tiny;
  const std::string file = tiny.model().files[0];
  const WeightSlice& last = tiny.model().weights.layers[1].down;
  EXPECT_EQ(truncate(file.c_str(), last.offset + 8), 0);
  std::unique_ptr<Device> device;
  const Status status = Device::open(tiny.model(), some_options(), nullptr, &device);
  EXPECT(status.code() == Code::kIo);
  EXPECT_EQ(status.message(), file + ", tensor down: the file ends at byte " +
                                  std::to_string(last.offset + 8) + ", the tensor needs bytes " +
                                  std::to_string(last.offset) + " to " +
                                  std::to_string(last.offset + last.byte_length));
}

TEST(counts_the_bytes_that_it_loads) {
  const TinyModel tiny;
  int64_t progress[2] = {0, 0};
  std::unique_ptr<Device> device;
  EXPECT_OK(Device::open(tiny.model(), some_options(), progress, &device));
  EXPECT_EQ(progress[0], progress[1]);
  const WeightSlice& last = tiny.model().weights.layers[1].down;
  EXPECT_EQ(progress[1], last.offset + last.byte_length);
}

TEST(names_a_tensor_of_the_wrong_shape) {
  const TinyModel tiny;
  Model model = tiny.model();
  model.weights.layers[0].up.rows = 95;
  MemoryPlan plan;
  EXPECT_EQ(Device::plan(model, some_options(), &plan).message(),
            "up is [95, 64], the model needs [96, 64]");
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run(); }
