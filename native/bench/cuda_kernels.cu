// Times each CUDA kernel at the shapes of Llama-3.1-8B against the read bandwidth measured in the
// same run: `cuda_kernels [json]`. Inputs rotate over more than the L2 holds; kernels run in a
// replayed graph, one behind the other, plain and with programmatic dependent launch.
#include <cmath>

#include "bench/cuda_bench.h"
#include "kernels/decode_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/row_ops.h"
#include "kernels/skinny_linear.h"

namespace quire::bench {
namespace {

constexpr int64_t kRotatedBytes = int64_t{400} << 20;

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

}  // namespace
}  // namespace quire::bench

int main(int argument_count, char** arguments) {
  using namespace quire::bench;
  Report report(argument_count > 1 ? arguments[1] : nullptr);
  const double bandwidth = read_bandwidth();
  report.add("read 4 GB", 4.294967296e9 / bandwidth * 1e6, bandwidth * 1e-12, "TB/s", 1.0);
  time_linears(report, bandwidth);
  time_decode_attention(report, bandwidth);
  time_rows(report, bandwidth);
  return 0;
}
