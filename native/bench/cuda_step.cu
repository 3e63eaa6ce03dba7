// A whole decode step of Llama-3.1-8B's shape with random weights, in one replayed graph:
// `cuda_step [json]`. Prints tokens/s at 1k of context and the share of the step's floor: the bytes
// of weights and cache over the read bandwidth, or the products' operations over the rate of an
// 8192^3 product where that takes longer; both are measured first, in the same run.
//
// Also holds every step against the others: overlapped launches against plain ones, and the first
// row in every batch against the row alone, bit for bit.
#include <cmath>
#include <cstring>
#include <map>

#include "bench/cuda_bench.h"
#include "kernels/cublaslt.h"
#include "kernels/decode_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rope_store.h"
#include "kernels/row_ops.h"
#include "kernels/sample.h"
#include "kernels/skinny_linear.h"

namespace quire::bench {
namespace {

constexpr int kHidden = 4096, kLayers = 32, kHeads = 32, kKvHeads = 8, kHeadDim = 128;
constexpr int kFfn = 14336, kVocab = 128256, kContext = 1024, kMaxRows = 256;
constexpr int kQkv = (kHeads + 2 * kKvHeads) * kHeadDim;
constexpr int kBlocksPerRow = kContext / kBlockTokens;
constexpr int64_t kBlockElements = int64_t{2} * kKvHeads * page_elements(kHeadDim);
constexpr int kSkinnyTokens = 64;
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

struct Weight {
  DeviceBuffer<Bf16> data;
  SkinnyMatrix matrix;

  void create(int32_t rows, int32_t columns, uint32_t seed) {
    data =
        random_device(int64_t{rows} * columns, 1.7f / std::sqrt(static_cast<float>(columns)), seed);
    require(make_skinny_matrix(data.data(), rows, columns, &matrix));
  }
};

struct Layer {
  Weight qkv, output, gate_up, down;
};

struct Activations {
  DeviceBuffer<Bf16> data;
  SkinnyInput input;

  void create(int32_t columns) {
    data = random_device(int64_t{kMaxRows} * columns, 1.0f, 1);
    require(make_skinny_input(data.data(), kMaxRows, columns, &input));
  }
};

class Model {
 public:
  Model() : layers_(kLayers) {
    for (int i = 0; i < kLayers; ++i) {
      layers_[i].qkv.create(kQkv, kHidden, 10 * i + 1);
      layers_[i].output.create(kHidden, kHeads * kHeadDim, 10 * i + 2);
      layers_[i].gate_up.create(2 * kFfn, kHidden, 10 * i + 3);
      layers_[i].down.create(kHidden, kFfn, 10 * i + 4);
    }
    head_.create(kVocab, kHidden, 999);
    hidden_.create(kHidden);
    normed_.create(kHidden);
    qkv_.create(kQkv);
    attended_.create(kHeads * kHeadDim);
    gate_up_.create(2 * kFfn);
    activated_.create(kFfn);
    require(logits_.allocate(int64_t{kMaxRows} * kVocab));
    norm_weight_ = device_copy(std::vector<float>(kHidden, 1.0f));
    std::vector<float> rope(kContext * kHeadDim);
    for (int p = 0; p < kContext; ++p) {
      for (int i = 0; i < kHeadDim / 2; ++i) {
        const double angle = p * std::pow(500000.0, -2.0 * i / kHeadDim);
        rope[p * kHeadDim + i] = static_cast<float>(std::cos(angle));
        rope[p * kHeadDim + kHeadDim / 2 + i] = static_cast<float>(std::sin(angle));
      }
    }
    rope_ = device_copy(rope);
    require(workspace_.allocate(kWorkspaceBytes));
    require(CublasLt::open(workspace_.data(), kWorkspaceBytes, &library_));
  }

  // Fills the caches of `rows` rows; a row's content does not depend on how many there are.
  void open_rows(int rows) {
    rows_ = rows;
    cache_stride_ = kBlockElements * rows * kBlocksPerRow;
    cache_ = DeviceBuffer<Bf16>();
    require(cache_.allocate(cache_stride_ * kLayers));
    for (int i = 0; i < kLayers; ++i) {
      fill_kernel<<<2048, 256>>>(cache_.data() + i * cache_stride_, cache_stride_, 1.0f, 5000 + i);
    }
    std::vector<int32_t> table(rows * kBlocksPerRow), row_ids(rows), tokens(rows), starts(rows + 1);
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
    for (int i = 0; i < rows; ++i) {
      row_ids[i] = i;
      tokens[i] = i * 379 % kVocab;
    }
    const std::vector<int32_t> lengths(rows, kContext), positions(rows, kContext - 1);
    plan_decode(lengths.data(), rows, 0, starts.data());
    table_ = device_copy(table);
    row_ids_ = device_copy(row_ids);
    tokens_ = device_copy(tokens);
    lengths_ = device_copy(lengths);
    positions_ = device_copy(positions);
    starts_ = device_copy(starts);
    samplers_ = device_copy(std::vector<SamplerRow>(rows));  // greedy
    require(sampled_.allocate(rows));
    require(logprobs_.allocate(rows));
    tickets_ = device_copy(std::vector<int32_t>(decode_tickets(kHeads, kKvHeads, rows)));
    require(partials_.allocate(decode_partial_floats(kHeads, kKvHeads, kHeadDim, starts[rows])));
    if (rows > kSkinnyTokens) choose_algorithms();
  }

  Status step(const LaunchOptions& options) {
    QUIRE_TRY(embed({head_.data.data(), 0, kVocab, 1.0f, tokens_.data(), row_ids_.data(),
                     tokens_.data(), hidden_.data.data(), rows_, kHidden},
                    options));
    for (int i = 0; i < kLayers; ++i) {
      Layer& layer = layers_[i];
      QUIRE_TRY(norm(options));
      QUIRE_TRY(linear(layer.qkv, normed_, qkv_.data.data(), SkinnyEpilogue::kStore, options));
      QUIRE_TRY(attention(i, options));
      QUIRE_TRY(linear(layer.output, attended_, hidden_.data.data(), SkinnyEpilogue::kAddScaled,
                       options));
      QUIRE_TRY(norm(options));
      QUIRE_TRY(gate_up(layer.gate_up, options));
      QUIRE_TRY(
          linear(layer.down, activated_, hidden_.data.data(), SkinnyEpilogue::kAddScaled, options));
    }
    QUIRE_TRY(norm(options));
    QUIRE_TRY(linear(head_, normed_, logits_.data(), SkinnyEpilogue::kStoreFloat, options));
    return sample({logits_.data(), kVocab, kVocab, rows_, samplers_.data(), nullptr,
                   sampled_.data(), logprobs_.data(), nullptr, nullptr},
                  options);
  }

  // Logits of the first row.
  std::vector<float> first_logits() const {
    std::vector<float> logits(kVocab);
    require(cudaMemcpy(logits.data(), logits_.data(), logits.size() * sizeof(float),
                       cudaMemcpyDeviceToHost),
            "copy");
    return logits;
  }

  // Seconds that a step of `rows` rows takes at least.
  static double floor_seconds(int rows, double bandwidth, double flops) {
    const auto product = [=](double n, double k) {
      return std::max(2.0 * n * k / bandwidth, 2.0 * n * k * rows / flops);
    };
    const double layer = product(kQkv, kHidden) + product(kHidden, kHeads * kHeadDim) +
                         product(2 * kFfn, kHidden) + product(kHidden, kFfn);
    const double cache = 4.0 * kKvHeads * kHeadDim * kContext * rows / bandwidth;
    return kLayers * (layer + cache) + product(kVocab, kHidden);
  }

  CublasLt& library() { return *library_; }

 private:
  Status norm(const LaunchOptions& options) {
    return rms_norm({hidden_.data.data(), norm_weight_.data(), nullptr, 1.0f, 0.0f, 1e-5f,
                     normed_.data.data(), rows_, kHidden},
                    options);
  }

  Status skinny(const Weight& weight, const Activations& input, void* output, int64_t stride,
                SkinnyEpilogue epilogue, const LaunchOptions& options) {
    SkinnyLinearArgs args;
    args.matrix = &weight.matrix;
    args.input = &input.input;
    args.tokens = rows_;
    args.epilogue = epilogue;
    args.output = output;
    args.output_stride = stride;
    return skinny_linear(args, options);
  }

  LinearShape shape_of(const Weight& weight, SkinnyEpilogue epilogue) const {
    return {rows_, weight.matrix.rows, weight.matrix.columns,
            epilogue == SkinnyEpilogue::kStoreFloat};
  }

  Status linear(const Weight& weight, const Activations& input, void* output,
                SkinnyEpilogue epilogue, const LaunchOptions& options) {
    const auto choice = choices_.find({weight.matrix.rows, weight.matrix.columns});
    if (rows_ <= kSkinnyTokens || choice == choices_.end()) {
      return skinny(weight, input, output, weight.matrix.rows, epilogue, options);
    }
    const bool adds = epilogue == SkinnyEpilogue::kAddScaled;
    void* product = adds ? normed_.data.data() : output;
    QUIRE_TRY(library_->run(shape_of(weight, epilogue), choice->second,
                            {input.data.data(), weight.data.data(), product}, options.stream));
    if (!adds) return {};
    return add_scaled({normed_.data.data(), 1.0f, hidden_.data.data(), rows_, kHidden}, options);
  }

  Status gate_up(const Weight& weight, const LaunchOptions& options) {
    if (choices_.find({weight.matrix.rows, weight.matrix.columns}) == choices_.end()) {
      return skinny(weight, normed_, activated_.data.data(), kFfn, SkinnyEpilogue::kSiluMul,
                    options);
    }
    QUIRE_TRY(linear(weight, normed_, gate_up_.data.data(), SkinnyEpilogue::kStore, options));
    return gated_mul({gate_up_.data.data(), activated_.data.data(), Gate::kSilu, rows_, kFfn},
                     options);
  }

  Status attention(int layer, const LaunchOptions& options) {
    const KvCache cache{cache_.data() + layer * cache_stride_, kKvHeads, kHeadDim, kBlockElements};
    RopeStoreKvArgs rope;
    rope.qkv = qkv_.data.data();
    rope.tokens = rows_;
    rope.head_count = kHeads;
    rope.cache = cache;
    rope.rope_table = rope_.data();
    rope.rope_pairs = kHeadDim / 2;
    rope.positions = positions_.data();
    rope.block_rows = row_ids_.data();
    rope.block_tables = table_.data();
    rope.blocks_per_row = kBlocksPerRow;
    QUIRE_TRY(rope_store_kv(rope, options));
    DecodeAttentionArgs args;
    args.query = qkv_.data.data();
    args.query_stride = kQkv;
    args.output = attended_.data.data();
    args.cache = cache;
    args.lengths = lengths_.data();
    args.block_rows = row_ids_.data();
    args.block_tables = table_.data();
    args.unit_starts = starts_.data();
    args.rows = rows_;
    args.blocks_per_row = kBlocksPerRow;
    args.head_count = kHeads;
    args.scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
    args.partials = partials_.data();
    args.tickets = tickets_.data();
    return decode_attention(args, options);
  }

  // For each shape the fastest algorithm of the library with our bits; none where there is none.
  void choose_algorithms() {
    choices_.clear();
    choose("qkv", layers_[0].qkv, normed_, qkv_.data.data(), SkinnyEpilogue::kStore);
    choose("o", layers_[0].output, attended_, qkv_.data.data(), SkinnyEpilogue::kStore);
    choose("gate_up", layers_[0].gate_up, normed_, gate_up_.data.data(), SkinnyEpilogue::kStore);
    choose("down", layers_[0].down, activated_, qkv_.data.data(), SkinnyEpilogue::kStore);
    choose("lm_head", head_, normed_, logits_.data(), SkinnyEpilogue::kStoreFloat);
  }

  void choose(const char* name, const Weight& weight, const Activations& input, void* output,
              SkinnyEpilogue epilogue) {
    const int64_t count = int64_t{rows_} * weight.matrix.rows;
    DeviceBuffer<float> expected;
    require(expected.allocate(count));
    require(skinny(weight, input, expected.data(), weight.matrix.rows, epilogue, {}));
    AlgorithmChoice choice;
    require(choose_algorithm(*library_, shape_of(weight, epilogue),
                             {input.data.data(), weight.data.data(), output}, expected.data(),
                             nullptr, &choice));
    std::printf("%s at %d tokens: %d of %d library algorithms have our bits", name, rows_,
                choice.equal, choice.tried);
    if (choice.found) {
      std::printf(", best %.1f us", choice.microseconds);
      choices_[{weight.matrix.rows, weight.matrix.columns}] = choice.algorithm;
    }
    std::printf("\n");
  }

  std::vector<Layer> layers_;
  Weight head_;
  Activations hidden_, normed_, qkv_, attended_, gate_up_, activated_;
  DeviceBuffer<float> logits_, norm_weight_, rope_, partials_, logprobs_;
  DeviceBuffer<SamplerRow> samplers_;
  DeviceBuffer<char> workspace_;
  DeviceBuffer<Bf16> cache_;
  DeviceBuffer<int32_t> table_, row_ids_, tokens_, lengths_, positions_, starts_, tickets_,
      sampled_;
  std::unique_ptr<CublasLt> library_;
  std::map<std::pair<int32_t, int32_t>, LinearAlgorithm> choices_;
  int rows_ = 0;
  int64_t cache_stride_ = 0;
};

// Operations per second of the library's best algorithm for an 8192^3 product.
double product_rate(CublasLt& library) {
  constexpr int kSize = 8192;
  const int64_t count = int64_t{kSize} * kSize;
  const auto a = random_device(count, 1.0f, 1), b = random_device(count, 1.0f, 2);
  DeviceBuffer<Bf16> c;
  require(c.allocate(count));
  const LinearShape shape{kSize, kSize, kSize};
  std::vector<LinearAlgorithm> algorithms;
  require(library.algorithms(shape, 8, &algorithms));
  double best = 0.0;
  for (const LinearAlgorithm& algorithm : algorithms) {
    const double us = time_graph(
        [&](const LaunchOptions& options) {
          return library.run(shape, algorithm, {a.data(), b.data(), c.data()}, options.stream);
        },
        false, 10);
    best = std::max(best, 2.0 * kSize * kSize * kSize / (us * 1e-6));
  }
  return best;
}

int run(const char* json_path) {
  Report report(json_path);
  const double bandwidth = read_bandwidth();
  report.add("read 4 GB", 4.294967296e9 / bandwidth * 1e6, bandwidth * 1e-12, "TB/s", 1.0);
  Model model;
  const double flops = product_rate(model.library());
  report.add("product 8192^3", 2.0 * 8192.0 * 8192.0 * 8192.0 / flops * 1e6, flops * 1e-12,
             "TFLOP/s", 1.0);
  std::vector<float> alone;
  int failures = 0;
  const auto same = [&](const char* what, int rows) {
    const std::vector<float> logits = model.first_logits();
    if (alone.empty()) alone = logits;
    const bool equal = std::memcmp(alone.data(), logits.data(), sizeof(float) * kVocab) == 0;
    const bool finite = std::isfinite(logits[0]) && logits[0] != logits[1];
    std::printf("batch %d, %s: row 0 %s the row alone\n", rows, what,
                equal && finite ? "has the bits of" : "DIFFERS from");
    failures += !(equal && finite);
  };
  for (const int rows : {1, 8, 16, 32, 64, 128, 256}) {
    model.open_rows(rows);
    for (const bool overlaps : {false, true}) {
      const double us =
          time_graph([&](const LaunchOptions& options) { return model.step(options); }, overlaps);
      same(overlaps ? "overlapped" : "plain", rows);
      const double floor = Model::floor_seconds(rows, bandwidth, flops);
      report.add("step batch " + std::to_string(rows) + (overlaps ? " overlapped" : ""), us,
                 rows / us * 1e6, "tok/s", floor / (us * 1e-6));
    }
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace quire::bench

int main(int argument_count, char** arguments) {
  return quire::bench::run(argument_count > 1 ? arguments[1] : nullptr);
}
