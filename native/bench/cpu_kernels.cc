// Speed of the CPU kernels beside the ceilings of the same run: the bandwidth of plain reads, and
// the rate of the multiplication on operands that stay in the first-level cache.
//
//   cpu_kernels [--tier NAME] [--threads N] [--seconds S] [--json FILE]
//
// Times are the least of many repeats. With one thread they are CPU seconds, which a busy machine
// disturbs little; with more, seconds on the wall. "of read" is bytes of weights or cache per
// second over the read bandwidth, "of peak" operations per second over the multiplication's rate.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/thread_pool.h"

namespace quire::cpu {
namespace {

struct Options {
  std::string tier = "auto";
  int32_t threads = 1;
  double seconds = 0.3;  // per figure
  std::string json;
};

struct Figure {
  std::string name;
  double microseconds;
  double gigabytes;   // a second
  double gigaops;     // a second
  double read_share;  // 0 where it says nothing
  double peak_share;
};

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<std::byte, Free>;

Buffer allocate(int64_t bytes) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64));
  if (memory == nullptr) {
    std::fprintf(stderr, "cannot allocate %lld bytes\n", static_cast<long long>(bytes));
    std::exit(1);
  }
  std::memset(memory, 0, bytes);
  return Buffer(memory);
}

std::vector<float> random_floats(int64_t count) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// Reads `count` words in four streams of wide loads, which is as fast as one core can be fed.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t
sum_of_words(const uint64_t* words, int64_t count) {
  uint64_t sums[32] = {};
  const int64_t quarter = count / 4;
  for (int64_t i = 0; i < quarter; i += 8) {
    for (int64_t stream = 0; stream < 4; ++stream) {
      for (int64_t j = 0; j < 8; ++j) sums[stream * 8 + j] += words[stream * quarter + i + j];
    }
  }
  return std::accumulate(sums, sums + 32, uint64_t{0});
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options), table_(kernel_table(options.tier.c_str())), pool_(options.threads) {
    if (table_ == nullptr) {
      std::fprintf(stderr, "this processor has no tier \"%s\"\n", options.tier.c_str());
      std::exit(1);
    }
  }

  void run() {
    std::printf("tier %s, %d thread(s)\n", table_->name, options_.threads);
    std::printf("%-44s %10s %8s %8s %8s %8s\n", "", "us", "GB/s", "Gop/s", "of read", "of peak");
    measure_read();
    for (const Weights& weights : {kBf16, kQ4_1, kQ8_0}) {
      measure_peak(weights);
      for (const Shape& shape : kShapes) {
        for (int32_t tokens : {1, 8, 64, 512}) measure_linear(weights, shape, tokens);
      }
    }
    peak_ = 0;
    for (int32_t context : {128, 1024, 8192}) measure_attention(context, 1);
    measure_attention(0, 512);
    measure_attention(4096, 512);
    if (!options_.json.empty()) write_json();
  }

 private:
  struct Weights {
    const char* name;
    WeightType type;
  };
  struct Shape {
    const char* model;
    int32_t rows;
    int32_t columns;
  };
  static constexpr Weights kBf16{"bf16", WeightType::kBF16};
  static constexpr Weights kQ4_1{"Q4_1", WeightType::kQ4_1};
  static constexpr Weights kQ8_0{"Q8_0", WeightType::kQ8_0};
  // The widest layers of SmolLM2-135M and of a Llama of 500M.
  static constexpr Shape kShapes[] = {{"135M gate", 1536, 576},
                                      {"135M down", 576, 1536},
                                      {"135M qkv", 960, 576},
                                      {"500M gate", 4096, 1024},
                                      {"500M down", 1024, 4096}};
  // Weights are walked copy after copy until this much has been read, so that none is in a private
  // cache from the time before.
  static constexpr int64_t kColdBytes = 384ll << 20;

  double now() const {
    timespec time{};
    clock_gettime(options_.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

  // Least seconds of one call.
  double time_of(const std::function<void()>& call) const {
    call();
    double best = 1e30;
    const double start = now();
    int32_t repeats = 0;
    while (repeats < 5 || now() - start < options_.seconds) {
      const double before = now();
      call();
      best = std::min(best, now() - before);
      ++repeats;
    }
    return best;
  }

  void report(const std::string& name, double seconds, double bytes, double operations) {
    Figure figure{name, seconds * 1e6, bytes / seconds * 1e-9, operations / seconds * 1e-9, 0, 0};
    if (read_ > 0) figure.read_share = figure.gigabytes / read_;
    if (peak_ > 0) figure.peak_share = figure.gigaops / peak_;
    figures_.push_back(figure);
    std::printf("%-44s %10.1f %8.1f %8.0f", name.c_str(), figure.microseconds, figure.gigabytes,
                figure.gigaops);
    for (double share : {figure.read_share, figure.peak_share}) {
      if (share > 0) {
        std::printf(" %7.0f%%", share * 100);
      } else {
        std::printf(" %8s", "");
      }
    }
    std::printf("\n");
    std::fflush(stdout);
  }

  void measure_read() {
    const Buffer memory = allocate(kColdBytes);
    const auto* from = reinterpret_cast<const uint64_t*>(memory.get());
    constexpr int32_t kParts = 64;
    const int64_t words = kColdBytes / 8 / kParts;
    std::vector<uint64_t> sums(kParts);
    const double seconds = time_of([&] {
      pool_.run(kParts, [&](int32_t part, int32_t) {
        sums[part] = sum_of_words(from + words * part, words);
      });
    });
    if (std::accumulate(sums.begin(), sums.end(), uint64_t{0}) != 0) std::abort();
    report("read " + std::to_string(kColdBytes >> 20) + " MiB", seconds, kColdBytes, 0);
    read_ = figures_.back().gigabytes;
  }

  struct Operands {
    Matrix matrix;
    int64_t bytes;  // of one copy
    int32_t copies;
    Buffer memory;
    Buffer activations;
    std::vector<float> output;
  };

  Operands operands(const Weights& weights, const Shape& shape, int32_t tokens,
                    int64_t total) const {
    Operands made;
    const int32_t packing =
        table_->packing_for(weights.type, Compute::kBFloat16, shape.rows, shape.columns);
    made.bytes = table_->packed_bytes(packing, shape.rows, shape.columns);
    made.copies = static_cast<int32_t>(std::max<int64_t>(1, total / made.bytes));
    made.memory = allocate(made.bytes * made.copies);  // zeros: a weight's value takes no time
    made.matrix = {made.memory.get(), packing, shape.rows, shape.columns};
    const int64_t stride = table_->activation_bytes(packing, shape.columns);
    made.activations = allocate(stride * tokens);
    const std::vector<float> input = random_floats(shape.columns);
    for (int32_t t = 0; t < tokens; ++t) {
      table_->prepare_activation(packing, input.data(), shape.columns,
                                 made.activations.get() + t * stride);
    }
    made.output.resize(static_cast<int64_t>(tokens) * shape.rows);
    return made;
  }

  void multiply(Operands& o, int32_t tokens, int32_t copy) {
    const int32_t panels = panel_count(o.matrix.rows);
    const int32_t tasks = options_.threads == 1 ? 1 : options_.threads * 4;
    const int32_t each = (panels + tasks - 1) / tasks;
    Matrix matrix = o.matrix;
    matrix.data += copy * o.bytes;
    pool_.run((panels + each - 1) / each, [&](int32_t task, int32_t) {
      table_->linear(matrix, o.activations.get(), tokens, task * each,
                     std::min(panels, (task + 1) * each), o.output.data(), o.matrix.rows);
    });
  }

  // Two panels by 48 tokens: weights and activations stay in the first-level cache.
  void measure_peak(const Weights& weights) {
    const Shape shape{"", 2 * kPanelRows * options_.threads * 4, 256};
    constexpr int32_t kTokens = 48, kRepeats = 50;
    Operands o = operands(weights, shape, kTokens, 0);
    const double seconds = time_of([&] {
      for (int32_t i = 0; i < kRepeats; ++i) multiply(o, kTokens, 0);
    });
    peak_ = 0;
    report(std::string(weights.name) + " multiplication in cache", seconds / kRepeats, 0,
           2.0 * shape.rows * shape.columns * kTokens);
    peak_ = figures_.back().gigaops;
  }

  void measure_linear(const Weights& weights, const Shape& shape, int32_t tokens) {
    Operands o = operands(weights, shape, tokens, tokens <= 8 ? kColdBytes : 32 << 20);
    const int32_t calls = tokens <= 8 ? o.copies : std::min(o.copies, 4);
    const double seconds = time_of([&] {
      for (int32_t copy = 0; copy < calls; ++copy) multiply(o, tokens, copy);
    });
    report(std::string(weights.name) + " " + shape.model + " " + std::to_string(shape.rows) + "x" +
               std::to_string(shape.columns) + ", " + std::to_string(tokens) + " token(s)",
           seconds / calls, static_cast<double>(o.bytes),
           2.0 * shape.rows * shape.columns * tokens);
  }

  // SmolLM2's heads, one KV head a task: `tokens` queries behind `context` tokens.
  void measure_attention(int32_t context, int32_t tokens) {
    const KvShape shape{32, 64, Compute::kBFloat16};
    constexpr int32_t kGroup = 3, kHeads = 3;
    const int32_t length = context + tokens;
    const int32_t blocks = (length + shape.block_size - 1) / shape.block_size;
    const int64_t page = table_->page_bytes(shape);
    const Buffer cache = allocate(page * blocks * kHeads);
    const std::vector<float> row = random_floats(static_cast<int64_t>(tokens) * kGroup * 64);
    std::vector<int32_t> block_table(blocks);
    std::iota(block_table.begin(), block_table.end(), 0);
    for (int32_t p = 0; p < length * kHeads; ++p) {
      const int32_t position = p / kHeads, head = p % kHeads;
      table_->store_kv(shape, row.data(), row.data() + 64, position % shape.block_size,
                       cache.get() + (position / shape.block_size * kHeads + head) * page);
    }
    const int64_t scratch_bytes = table_->attention_scratch_bytes(shape, kGroup);
    const Buffer scratch = allocate(scratch_bytes * options_.threads);
    std::vector<float> output(row.size() * kHeads);
    const double seconds = time_of([&] {
      pool_.run(kHeads, [&](int32_t head, int32_t thread) {
        AttentionArgs args;
        args.query = row.data();
        args.query_stride = kGroup * 64;
        args.output = output.data() + head * row.size();
        args.output_stride = kGroup * 64;
        args.cache = cache.get() + head * page;
        args.block_stride = kHeads * page;
        args.block_table = block_table.data();
        args.kv = shape;
        args.group_size = kGroup;
        args.start = context;
        args.token_count = tokens;
        args.scale = 0.125f;
        args.scratch = scratch.get() + thread * scratch_bytes;
        table_->attention(args);
      });
    });
    const double keys = static_cast<double>(tokens) * (context + (tokens + 1) / 2.0);
    report("attention 9 heads of 64, " + std::to_string(tokens) + " quer" +
               (tokens == 1 ? "y" : "ies") + " after " + std::to_string(context),
           seconds, static_cast<double>(length) * kHeads * 64 * 2 * 2,
           keys * kHeads * kGroup * 64 * 2 * 2);
  }

  void write_json() const {
    std::ofstream file(options_.json);
    file << "{\"tier\":\"" << table_->name << "\",\"threads\":" << options_.threads
         << ",\"figures\":[";
    for (size_t i = 0; i < figures_.size(); ++i) {
      const Figure& f = figures_[i];
      file << (i == 0 ? "\n" : ",\n") << "{\"name\":\"" << f.name
           << "\",\"microseconds\":" << f.microseconds << ",\"gigabytesPerSecond\":" << f.gigabytes
           << ",\"gigaopsPerSecond\":" << f.gigaops << ",\"readShare\":" << f.read_share
           << ",\"peakShare\":" << f.peak_share << "}";
    }
    file << "\n]}\n";
    if (!file.flush()) {
      std::fprintf(stderr, "cannot write %s\n", options_.json.c_str());
      std::exit(1);
    }
  }

  const Options options_;
  const KernelTable* const table_;
  ThreadPool pool_;
  double read_ = 0, peak_ = 0;
  std::vector<Figure> figures_;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (value != nullptr && name == "--tier") {
      options.tier = value;
    } else if (value != nullptr && name == "--threads" && std::atoi(value) > 0) {
      options.threads = std::atoi(value);
    } else if (value != nullptr && name == "--seconds" && std::atof(value) > 0) {
      options.seconds = std::atof(value);
    } else if (value != nullptr && name == "--json") {
      options.json = value;
    } else {
      std::fprintf(stderr,
                   "usage: cpu_kernels [--tier NAME] [--threads N] [--seconds S] [--json FILE]\n");
      std::exit(2);
    }
  }
  return options;
}

}  // namespace
}  // namespace quire::cpu

int main(int argc, char** argv) {
  quire::cpu::Bench(quire::cpu::parse(argc, argv)).run();
  return 0;
}
