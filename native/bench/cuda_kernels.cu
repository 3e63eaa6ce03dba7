// Times each CUDA kernel at the shapes of Llama-3.1-8B against the read bandwidth measured in the
// same run: `cuda_kernels [json]`. Inputs rotate over more than the L2 holds; kernels run in a
// replayed graph, one behind the other, plain and with programmatic dependent launch.
#include <cmath>

#include "bench/cuda_bench.h"
#include "kernels/decode_attention.h"
#include "kernels/prefill_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/row_ops.h"
#include "kernels/sample.h"
#include "kernels/skinny_linear.h"

namespace quire::bench {
namespace {

constexpr int64_t kRotatedBytes = int64_t{400} << 20;
// Dense bfloat16 by NVIDIA's data sheet; prefill attention is shown as a share of it.
constexpr double kPeakTflops = 989.0;

struct Matrix {
  const char* name;
  int32_t rows, columns;
};

void time_linears(Report& report, double bandwidth) {
  const Matrix shapes[] = {{"qkv", 6144, 4096},
                           {"o", 4096, 4096},
                           {"gate_up", 28672, 4096},
                           {"down", 4096, 14336},
                           {"lm_head", 128256, 4096}};
  for (const Matrix& shape : shapes) {
    const int64_t elements = int64_t{shape.rows} * shape.columns;
    const int copies = static_cast<int>(std::max<int64_t>(2, kRotatedBytes / (2 * elements)));
    const auto weights = random_device(elements * copies, 0.02f, 3);
    const auto input = random_device(int64_t{64} * shape.columns, 1.0f, 4);
    DeviceBuffer<float> output;
    require(output.allocate(int64_t{64} * shape.rows));
    std::vector<SkinnyMatrix> matrices(copies);
    for (int i = 0; i < copies; ++i) {
      require(make_skinny_matrix(weights.data() + i * elements, shape.rows, shape.columns,
                                 &matrices[i]));
    }
    SkinnyInput activations;
    require(make_skinny_input(input.data(), 64, shape.columns, &activations));
    const bool is_head = shape.rows > 100000, is_gated = shape.rows == 28672;
    for (const int tokens : {1, 8, 16, 32, 64}) {
      for (const bool overlaps : {false, true}) {
        const double us = time_graph(
                              [&](const LaunchOptions& options) {
                                SkinnyLinearArgs args;
                                args.input = &activations;
                                args.tokens = tokens;
                                args.epilogue = is_head    ? SkinnyEpilogue::kStoreFloat
                                                : is_gated ? SkinnyEpilogue::kSiluMul
                                                           : SkinnyEpilogue::kStore;
                                args.output = output.data();
                                args.output_stride = is_gated ? shape.rows / 2 : shape.rows;
                                for (const SkinnyMatrix& matrix : matrices) {
                                  args.matrix = &matrix;
                                  QUIRE_TRY(skinny_linear(args, options));
                                }
                                return Status();
                              },
                              overlaps) /
                          copies;
        const double rate = 2.0 * elements / us * 1e-6;
        report.add(std::string("skinny ") + shape.name + " tokens " + std::to_string(tokens) +
                       (overlaps ? " overlapped" : ""),
                   us, rate, "TB/s", rate * 1e12 / bandwidth);
      }
    }
  }
}

void time_decode_attention(Report& report, double bandwidth) {
  constexpr int kHeads = 32, kKvHeads = 8, kHeadDim = 128;
  const int shapes[][2] = {{1, 1024},  {1, 8192},   {8, 1024}, {8, 8192},
                           {64, 1024}, {256, 1024}, {64, 8192}};
  for (const auto& [rows, length] : shapes) {
    const int blocks_per_row = length / kBlockTokens;
    const int64_t block = int64_t{2} * kKvHeads * page_elements(kHeadDim);
    const int64_t layer = block * rows * blocks_per_row;
    const int copies = static_cast<int>(std::max<int64_t>(1, kRotatedBytes / (2 * layer)));
    const auto pages = random_device(layer * copies, 1.0f, 5);
    const auto query = random_device(int64_t{rows} * kHeads * kHeadDim, 1.0f, 6);
    DeviceBuffer<Bf16> output;
    require(output.allocate(int64_t{rows} * kHeads * kHeadDim));
    std::vector<int32_t> table(rows * blocks_per_row), lengths(rows, length), row_ids(rows);
    for (size_t i = 0; i < table.size(); ++i) {
      table[i] = static_cast<int32_t>((i * 7919) % table.size());
    }
    for (int i = 0; i < rows; ++i) row_ids[i] = i;
    std::vector<int32_t> starts(rows + 1);
    plan_decode(lengths.data(), rows, 0, starts.data());
    const auto d_table = device_copy(table), d_lengths = device_copy(lengths);
    const auto d_rows = device_copy(row_ids), d_starts = device_copy(starts);
    const auto tickets = device_copy(std::vector<int32_t>(decode_tickets(kHeads, kKvHeads, rows)));
    DeviceBuffer<float> partials;
    require(partials.allocate(decode_partial_floats(kHeads, kKvHeads, kHeadDim, starts[rows])));
    DecodeAttentionArgs args;
    args.query = query.data();
    args.query_stride = kHeads * kHeadDim;
    args.output = output.data();
    args.lengths = d_lengths.data();
    args.block_rows = d_rows.data();
    args.block_tables = d_table.data();
    args.unit_starts = d_starts.data();
    args.rows = rows;
    args.blocks_per_row = blocks_per_row;
    args.head_count = kHeads;
    args.scale = 1.0f / std::sqrt(128.0f);
    args.partials = partials.data();
    args.tickets = tickets.data();
    for (const bool overlaps : {false, true}) {
      const double us = time_graph(
                            [&](const LaunchOptions& options) {
                              for (int i = 0; i < copies; ++i) {
                                args.cache = {pages.data() + i * layer, kKvHeads, kHeadDim, block};
                                QUIRE_TRY(decode_attention(args, options));
                              }
                              return Status();
                            },
                            overlaps) /
                        copies;
      const double rate = 2.0 * layer / us * 1e-6;
      report.add("decode attention " + std::to_string(rows) + " x " + std::to_string(length) +
                     (overlaps ? " overlapped" : ""),
                 us, rate, "TB/s", rate * 1e12 / bandwidth);
    }
  }
}

void time_prefill_attention(Report& report) {
  constexpr int kHeads = 32, kKvHeads = 8, kHeadDim = 128;
  const int shapes[][2] = {{0, 2048}, {0, 8192}, {6144, 2048}};  // start, count
  for (const auto& [start, count] : shapes) {
    const int blocks_per_row = (start + count) / kBlockTokens;
    const int64_t block = int64_t{2} * kKvHeads * page_elements(kHeadDim);
    const auto pages = random_device(block * blocks_per_row, 1.0f, 5);
    const auto query = random_device(int64_t{count} * kHeads * kHeadDim, 1.0f, 6);
    DeviceBuffer<Bf16> output;
    require(output.allocate(int64_t{count} * kHeads * kHeadDim));
    std::vector<int32_t> table(blocks_per_row);
    for (int i = 0; i < blocks_per_row; ++i) table[i] = (i * 37) % blocks_per_row;
    std::vector<PrefillTile> tiles;
    plan_prefill({{0, 0, start, count}}, kHeads / kKvHeads, 0, &tiles);
    const auto d_table = device_copy(table);
    const auto d_tiles = device_copy(tiles);
    PrefillAttentionArgs args;
    args.query = query.data();
    args.query_stride = kHeads * kHeadDim;
    args.output = output.data();
    args.cache = {pages.data(), kKvHeads, kHeadDim, block};
    args.tiles = d_tiles.data();
    args.block_tables = d_table.data();
    args.tile_count = static_cast<int32_t>(tiles.size());
    args.blocks_per_row = blocks_per_row;
    args.head_count = kHeads;
    args.scale = 1.0f / std::sqrt(128.0f);
    const double us = time_graph(
        [&](const LaunchOptions& options) { return prefill_attention(args, options); }, false);
    const double pairs = static_cast<double>(count) * start + 0.5 * count * (count + 1.0);
    const double rate = 4.0 * pairs * kHeads * kHeadDim / us * 1e-6;
    report.add("prefill attention " + std::to_string(count) + " after " + std::to_string(start), us,
               rate, "TFLOP/s", rate / kPeakTflops);
  }
}

void time_rows(Report& report, double bandwidth) {
  constexpr int kColumns = 4096, kFfn = 14336;
  for (const int tokens : {1, 64, 2048, 8192}) {
    const auto input = random_device(int64_t{tokens} * 2 * kFfn, 1.0f, 7);
    DeviceBuffer<Bf16> output;
    require(output.allocate(int64_t{tokens} * kFfn));
    const auto weight = device_copy(std::vector<float>(kColumns, 1.0f));
    const double norm = time_graph(
        [&](const LaunchOptions& options) {
          return rms_norm({input.data(), weight.data(), nullptr, 1.0f, 0.0f, 1e-5f, output.data(),
                           tokens, kColumns},
                          options);
        },
        false);
    const double norm_rate = 4.0 * tokens * kColumns / norm * 1e-6;
    report.add("rms_norm tokens " + std::to_string(tokens), norm, norm_rate, "TB/s",
               norm_rate * 1e12 / bandwidth);
    const double gated = time_graph(
        [&](const LaunchOptions& options) {
          return gated_mul({input.data(), output.data(), Gate::kSilu, tokens, kFfn}, options);
        },
        false);
    const double gated_rate = 6.0 * tokens * kFfn / gated * 1e-6;
    report.add("gated_mul tokens " + std::to_string(tokens), gated, gated_rate, "TB/s",
               gated_rate * 1e12 / bandwidth);
  }
}

void time_sampler(Report& report, double bandwidth) {
  constexpr int kVocab = 128256;
  for (const int rows : {1, 64, 256}) {
    const auto bits = random_device(int64_t{rows} * kVocab, 8.0f, 8);
    std::vector<Bf16> narrow(bits.count());
    require(cudaMemcpy(narrow.data(), bits.data(), narrow.size() * sizeof(Bf16),
                       cudaMemcpyDeviceToHost),
            "copy");
    std::vector<float> wide(narrow.size());
    for (size_t i = 0; i < wide.size(); ++i) wide[i] = __bfloat162float(narrow[i]);
    const auto logits = device_copy(wide);
    DeviceBuffer<int32_t> ids;
    DeviceBuffer<float> logprobs;
    require(ids.allocate(rows));
    require(logprobs.allocate(rows));
    const auto time = [&](const char* name, const SamplerRow& row) {
      const auto samplers = device_copy(std::vector<SamplerRow>(rows, row));
      const double us = time_graph(
          [&](const LaunchOptions& options) {
            return sample({logits.data(), kVocab, kVocab, rows, samplers.data(), nullptr,
                           ids.data(), logprobs.data(), nullptr, nullptr},
                          options);
          },
          false);
      const double rate = 4.0 * rows * kVocab / us * 1e-6;
      report.add(std::string("sample ") + name + " rows " + std::to_string(rows), us, rate, "TB/s",
                 rate * 1e12 / bandwidth);
    };
    SamplerRow row;
    time("greedy", row);
    row.temperature = 0.8f;
    time("temperature", row);
    row.top_p = 0.9f;
    row.top_k = 50;
    time("top-k 50, top-p 0.9", row);
  }
}

}  // namespace
}  // namespace quire::bench

int main(int argument_count, char** arguments) {
  using namespace quire::bench;
  Report report(argument_count > 1 ? arguments[1] : nullptr);
  const double bandwidth = read_bandwidth();
  report.add("read 4 GB", 4.294967296e9 / bandwidth * 1e6, bandwidth * 1e-12, "TB/s", 1.0);
  time_linears(report, bandwidth);
  time_decode_attention(report, bandwidth);
  time_prefill_attention(report);
  time_rows(report, bandwidth);
  time_sampler(report, bandwidth);
  return 0;
}
