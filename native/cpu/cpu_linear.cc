#include <algorithm>
#include <cassert>

#include "cpu/cpu_backend.h"

// How a linear layer is cut. Tasks are runs of panels, so a weight is read by one thread; inside a
// task, tokens and panels go by in tiles that keep activations, weights and results in cache. The
// epilogue follows each tile at once: no second pass over the output and no second barrier.
namespace quire::cpu {
namespace {

// Panels go to kernels in runs of at least this many, so that they can work on several at once.
constexpr int32_t kMinPanels = 4;
constexpr int32_t kTasksPerThread = 4;
constexpr int32_t kTokenTileMultiple = 32;
constexpr int32_t kMaxTokenTile = 512;

float* at(const View& view, int32_t row, int32_t column) {
  return reinterpret_cast<float*>(view.data) + row * view.stride + column;
}

bool is_gated(Epilogue epilogue) {
  return epilogue == Epilogue::kSiluMul || epilogue == Epilogue::kGeluMul;
}

int32_t clamp_to(int64_t value, int32_t low, int32_t high) {
  return static_cast<int32_t>(std::clamp<int64_t>(value, low, high));
}

// Tiles of nearly equal height, which a kernel can cut into whole groups of tokens.
int32_t token_tile_of(int64_t tile_bytes, int32_t token_count, int64_t token_bytes) {
  const int32_t most = clamp_to(tile_bytes / token_bytes, kTokenTileMultiple, kMaxTokenTile) /
                       kTokenTileMultiple * kTokenTileMultiple;
  const int32_t tiles = std::max((token_count + most - 1) / most, 1);
  const int32_t each = (token_count + tiles - 1) / tiles;
  const int32_t rounded = (each + kTokenTileMultiple - 1) / kTokenTileMultiple * kTokenTileMultiple;
  return std::min(rounded, token_count);
}

}  // namespace

const CpuBackend::ActivationRegion& CpuBackend::region(int32_t packing) const {
  const auto found =
      std::find_if(regions_.begin(), regions_.end(),
                   [&](const ActivationRegion& region) { return region.packing == packing; });
  assert(found != regions_.end());
  return *found;
}

void CpuBackend::prepare_activations(const LinearArgs& args) {
  const Linear& linear = *args.weight;
  for (int32_t p = 0; p < linear.part_count; ++p) {
    const int32_t packing = linear.parts[p].matrix.packing;
    bool prepared = false;
    for (int32_t q = 0; q < p; ++q) prepared |= linear.parts[q].matrix.packing == packing;
    if (prepared) continue;
    const int64_t token_bytes = table_.activation_bytes(packing, args.input.columns);
    std::byte* activations = region(packing).data;
    for_each(args.input.rows, args.input.columns, [&](int32_t token, int32_t) {
      table_.prepare_activation(packing, at(args.input, token, 0), args.input.columns,
                                activations + token * token_bytes);
    });
  }
}

void CpuBackend::linear(const LinearArgs& args) {
  prepare_activations(args);
  const Linear& linear = *args.weight;
  const int32_t part_count = is_gated(args.epilogue) ? 1 : linear.part_count;
  int32_t panels = 0;
  for (int32_t p = 0; p < part_count; ++p) panels += panel_count(linear.parts[p].matrix.rows);
  const int32_t wanted = thread_count_ == 1 ? 1 : thread_count_ * kTasksPerThread;
  const int32_t each = std::max((panels + wanted - 1) / wanted, kMinPanels);
  pool_->run((panels + each - 1) / each, [&](int32_t task, int32_t thread) {
    multiply_panels(args, task * each, std::min((task + 1) * each, panels), thread);
  });
}

// Panels are counted over all parts, one part after the other.
void CpuBackend::multiply_panels(const LinearArgs& args, int32_t panel_begin, int32_t panel_end,
                                 int32_t thread) {
  const bool gated = is_gated(args.epilogue);
  const int32_t token_count = args.input.rows;
  const int32_t part_count = gated ? 1 : args.weight->part_count;
  int32_t first_panel = 0;
  for (int32_t p = 0; p < part_count; ++p) {
    const LinearPart& part = args.weight->parts[p];
    const int32_t part_panels = panel_count(part.matrix.rows);
    const int32_t begin = std::max(panel_begin - first_panel, 0);
    const int32_t end = std::min(panel_end - first_panel, part_panels);
    first_panel += part_panels;

    const int64_t token_bytes = table_.activation_bytes(part.matrix.packing, args.input.columns);
    const int32_t token_tile =
        token_tile_of(table_.linear_tile.activation_bytes, token_count, token_bytes);
    const int64_t panel_bytes =
        table_.packed_bytes(part.matrix.packing, kPanelRows, args.input.columns);
    const int64_t result_bytes =
        int64_t{token_tile} * kPanelRows * static_cast<int64_t>(sizeof(float)) * (gated ? 2 : 1);
    const int32_t panel_tile = clamp_to(std::min(table_.linear_tile.weight_bytes / panel_bytes,
                                                 kLinearTileBytes / result_bytes),
                                        kMinPanels, part_panels + kMinPanels) /
                               kMinPanels * kMinPanels;
    for (int32_t panel = begin; panel < end; panel += panel_tile) {
      const int32_t tile_end = std::min(panel + panel_tile, end);
      for (int32_t token = 0; token < token_count; token += token_tile) {
        const int32_t count = std::min(token_tile, token_count - token);
        if (gated) {
          multiply_gated_tile(args, panel, tile_end, token, count, thread);
        } else {
          multiply_tile(args, part, panel, tile_end, token, count, thread);
        }
      }
    }
  }
}

// `output` is where row panel_begin * kPanelRows of the matrix goes, plus the part's bias.
void CpuBackend::run_kernel(const LinearPart& part, int32_t panel_begin, int32_t panel_end,
                            int32_t token_begin, int32_t token_count, float* output,
                            int64_t stride) {
  const PackedMatrix& matrix = part.matrix;
  const int64_t token_bytes = table_.activation_bytes(matrix.packing, matrix.columns);
  const int32_t first = panel_begin * kPanelRows;
  table_.linear({matrix.data, matrix.packing, matrix.rows, matrix.columns},
                region(matrix.packing).data + token_begin * token_bytes, token_count, panel_begin,
                panel_end, output - first, stride);
  if (part.bias == nullptr) return;
  const int32_t count = std::min(panel_end * kPanelRows, matrix.rows) - first;
  for (int32_t t = 0; t < token_count; ++t) {
    table_.add_scaled(part.bias + first, 1.0f, count, output + t * stride);
  }
}

void CpuBackend::multiply_tile(const LinearArgs& args, const LinearPart& part, int32_t panel_begin,
                               int32_t panel_end, int32_t token_begin, int32_t token_count,
                               int32_t thread) {
  const int32_t first = panel_begin * kPanelRows;
  const int32_t count = std::min(panel_end * kPanelRows, part.matrix.rows) - first;
  const int32_t column = part.output_column + first;
  if (args.epilogue == Epilogue::kStore) {
    run_kernel(part, panel_begin, panel_end, token_begin, token_count,
               at(args.output, token_begin, column), args.output.stride);
    return;
  }
  auto* tile = reinterpret_cast<float*>(thread_scratch_ + thread * thread_scratch_bytes_);
  const int32_t stride = (panel_end - panel_begin) * kPanelRows;
  run_kernel(part, panel_begin, panel_end, token_begin, token_count, tile, stride);
  for (int32_t t = 0; t < token_count; ++t) {
    table_.add_scaled(tile + int64_t{t} * stride, args.scale, count,
                      at(args.output, token_begin + t, column));
  }
}

void CpuBackend::multiply_gated_tile(const LinearArgs& args, int32_t panel_begin, int32_t panel_end,
                                     int32_t token_begin, int32_t token_count, int32_t thread) {
  const LinearPart* parts = args.weight->parts;
  const int32_t first = panel_begin * kPanelRows;
  const int32_t count = std::min(panel_end * kPanelRows, parts[0].matrix.rows) - first;
  const int32_t stride = (panel_end - panel_begin) * kPanelRows;
  auto* gate = reinterpret_cast<float*>(thread_scratch_ + thread * thread_scratch_bytes_);
  float* up = gate + int64_t{token_count} * stride;
  run_kernel(parts[0], panel_begin, panel_end, token_begin, token_count, gate, stride);
  run_kernel(parts[1], panel_begin, panel_end, token_begin, token_count, up, stride);
  const auto multiply = args.epilogue == Epilogue::kSiluMul ? table_.silu_mul : table_.gelu_mul;
  for (int32_t t = 0; t < token_count; ++t) {
    const int64_t offset = int64_t{t} * stride;
    multiply(gate + offset, up + offset, count, at(args.output, token_begin + t, first));
  }
}

}  // namespace quire::cpu
