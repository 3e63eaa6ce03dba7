// Tokens per second of whole steps on the CPU: decode of 1 and 8 requests at 128 tokens of context,
// and a prefill of 512 tokens, on random bf16 weights of a model's shape.
//
//   build/native/decode_bench [smollm2 | llama-500m] [threads] [isa]
//
// Beside each rate stands the rate per second of processor time, for machines that others use too,
// and for decode what it means in bytes of weights, as a share of what the same threads read from
// memory in the same run. Best of several rounds: other processes only slow a round down.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "core/device.h"
#include "cpu/host_memory.h"
#include "cpu/thread_pool.h"

namespace quire {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kContext = 128;
constexpr int32_t kPrefill = 512;
constexpr int32_t kRounds = 6;
constexpr int32_t kStepsPerRound = 10;
constexpr int32_t kMaxRows = 8;
constexpr int32_t kBlockSize = 16;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// Every tensor is the same bytes of one file; packed, each has memory of its own.
class RandomModel {
 public:
  RandomModel(int32_t hidden, int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t ffn,
              int32_t layers, int32_t vocab) {
    ModelSpec& spec = model_.spec;
    spec.hidden_size = hidden;
    spec.head_count = heads;
    spec.kv_head_count = kv_heads;
    spec.head_dim = head_dim;
    spec.ffn_size = ffn;
    spec.vocab_size = vocab;
    spec.norm_epsilon = 1e-5f;
    spec.attention_scale = 0.125f;
    spec.ropes = {{std::vector<float>(head_dim / 2, 0.01f), 1.0f}};
    spec.layers.resize(layers);
    model_.files = {"/tmp/quire-decode-bench-XXXXXX"};
    close(mkstemp(model_.files[0].data()));
    write_file(int64_t{std::max(vocab, ffn)} * hidden);
    fill();
  }
  ~RandomModel() { unlink(model_.files[0].c_str()); }

  const Model& model() const { return model_; }

 private:
  void write_file(int64_t elements) {
    std::mt19937 random(1);
    std::vector<uint16_t> values(static_cast<size_t>(elements));
    // Sign and low bits at random, size about 2^-6.
    for (uint16_t& value : values) {
      value = static_cast<uint16_t>((random() & 0x807f) | 0x3c80);
    }
    std::ofstream(model_.files[0], std::ios::binary)
        .write(reinterpret_cast<const char*>(values.data()), elements * 2);
  }

  WeightSlice slice(int32_t rows, int32_t columns) const {
    return {"random", WeightType::kBF16, rows, columns, 0, 0, int64_t{rows} * columns * 2};
  }

  void fill() {
    const ModelSpec& spec = model_.spec;
    const int32_t hidden = spec.hidden_size;
    const int32_t query = spec.head_count * spec.head_dim;
    const int32_t kv = spec.kv_head_count * spec.head_dim;
    LayerWeights layer;
    layer.attention_norm = layer.mlp_norm = slice(1, hidden);
    layer.query = slice(query, hidden);
    layer.key = layer.value = slice(kv, hidden);
    layer.attention_output = slice(hidden, query);
    layer.gate = layer.up = slice(spec.ffn_size, hidden);
    layer.down = slice(hidden, spec.ffn_size);
    model_.weights.layers.assign(spec.layers.size(), layer);
    model_.weights.embedding = slice(spec.vocab_size, hidden);
    model_.weights.final_norm = slice(1, hidden);
  }

  Model model_;
};

void check(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

// Bytes per second that the threads read together from `bytes` of memory, laid out as weights are.
double read_bandwidth(int64_t bytes, int32_t thread_count) {
  constexpr int64_t kPartBytes = int64_t{4} << 20;
  cpu::HostMemory memory;
  check(cpu::HostMemory::map(bytes, &memory));
  std::memset(memory.data(), 1, static_cast<size_t>(bytes));
  cpu::ThreadPool pool(thread_count);
  std::atomic<uint64_t> total{0};
  double best = 0.0;
  for (int32_t round = 0; round < 2 * kRounds; ++round) {
    const auto start = Clock::now();
    pool.run(static_cast<int32_t>(bytes / kPartBytes), [&](int32_t part, int32_t) {
      const auto* values = reinterpret_cast<const uint64_t*>(memory.data() + part * kPartBytes);
      uint64_t sums[8] = {};
      for (int64_t i = 0; i < kPartBytes / 8; i += 8) {
        for (int32_t lane = 0; lane < 8; ++lane) sums[lane] += values[i + lane];
      }
      for (const uint64_t sum : sums) total += sum;
    });
    best = std::max(best, static_cast<double>(bytes) / seconds_since(start));
  }
  return best;
}

// One step of `rows` chunks of `count` tokens from `start` on; every chunk samples.
void step(Device& device, int32_t rows, int32_t start, int32_t count) {
  std::vector<int32_t> row_ids, starts(rows, start), counts(rows, count);
  std::vector<int32_t> tokens(static_cast<size_t>(rows) * count, 17);
  const std::vector<uint8_t> flags(rows, 1);
  for (int32_t row = 0; row < rows; ++row) row_ids.push_back(row);
  check(device.submit({rows, rows * count, row_ids.data(), starts.data(), counts.data(),
                       flags.data(), tokens.data()}));
  StepResult result;
  check(device.wait(&result));
}

// Seconds of one step at best, by the clock and of all processors together.
struct StepTime {
  double seconds = 1e9;
  double cpu_seconds = 1e9;
};

StepTime best_step(Device& device, int32_t rows, int32_t start, int32_t count, int32_t steps) {
  StepTime best;
  for (int32_t round = 0; round < kRounds; ++round) {
    const auto begin = Clock::now();
    const double cpu_begin = cpu_seconds();
    for (int32_t i = 0; i < steps; ++i) step(device, rows, start, count);
    best.seconds = std::min(best.seconds, seconds_since(begin) / steps);
    best.cpu_seconds = std::min(best.cpu_seconds, (cpu_seconds() - cpu_begin) / steps);
  }
  return best;
}

void print_row(const char* what, int32_t tokens, const StepTime& time) {
  std::printf("%-14s x %-3d %8.2f ms %8.1f tokens/s %8.1f tokens/CPU-second", what, tokens,
              time.seconds * 1e3, tokens / time.seconds, tokens / time.cpu_seconds);
}

void run(const RandomModel& random, const DeviceOptions& options) {
  std::unique_ptr<Device> device;
  check(Device::open(random.model(), options, nullptr, &device));
  const auto weight_bytes = static_cast<double>(device->memory_plan().weight_bytes);
  const double bandwidth = read_bandwidth(device->memory_plan().weight_bytes, options.threads);
  std::printf("%s, weights %.0f MB, memory read %.1f GB/s\n", device->description().c_str(),
              weight_bytes / 1e6, bandwidth / 1e9);

  const int32_t blocks_per_row = options.max_model_len / kBlockSize;
  for (int32_t row = 0; row < kMaxRows; ++row) {
    RowSampling greedy;
    std::vector<int32_t> blocks;
    for (int32_t i = 0; i < blocks_per_row; ++i) blocks.push_back(row * blocks_per_row + i);
    check(device->open_row(row, greedy, nullptr, 0, 0));
    check(device->set_blocks(row, 0, blocks.data(), blocks_per_row));
    step(*device, 1, 0, kContext);
  }
  for (const int32_t rows : {1, kMaxRows}) {
    step(*device, rows, 0, kContext);
    const StepTime time = best_step(*device, rows, kContext, 1, kStepsPerRound);
    const double rate = weight_bytes / time.seconds;
    print_row("decode 1 token", rows, time);
    std::printf("  %6.1f GB/s = %3.0f %% of memory read\n", rate / 1e9, 100.0 * rate / bandwidth);
  }
  const StepTime time = best_step(*device, 1, 0, kPrefill, 1);
  print_row("prefill", kPrefill, time);
  std::printf("  %6.1f GFLOP/s\n", weight_bytes * kPrefill / time.seconds / 1e9);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  const std::string shape = argc > 1 ? argv[1] : "smollm2";
  quire::DeviceOptions options;
  options.threads = argc > 2 ? std::atoi(argv[2]) : 2;
  options.cpu_isa = argc > 3 ? argv[3] : "auto";
  options.block_size = quire::kBlockSize;
  options.max_model_len = quire::kPrefill + quire::kBlockSize;
  options.max_rows = quire::kMaxRows;
  options.max_batched_tokens = 1024;
  options.block_count = quire::kMaxRows * options.max_model_len / quire::kBlockSize;
  if (shape == "smollm2") {
    quire::run(quire::RandomModel(576, 9, 3, 64, 1536, 30, 49152), options);
  } else if (shape == "llama-500m") {
    quire::run(quire::RandomModel(1280, 20, 5, 64, 3456, 24, 32000), options);
  } else {
    std::fprintf(stderr, "decode_bench [smollm2 | llama-500m] [threads] [isa]\n");
    return 1;
  }
  return 0;
}
