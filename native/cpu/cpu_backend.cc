#include "cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "common/weight_blocks.h"

namespace quire::cpu {
namespace {

constexpr int64_t kAlignment = 64;
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

float* row_of(const View& view, int32_t row) {
  return reinterpret_cast<float*>(view.data) + row * view.stride;
}

Matrix to_matrix(const PackedMatrix& matrix) {
  return {matrix.data, matrix.packing, matrix.rows, matrix.columns};
}

}  // namespace

// Consecutive places from a base; only counts when the base is null.
struct CpuBackend::ScratchPlace {
  std::byte* base = nullptr;
  int64_t bytes = 0;

  template <class T>
  T* take(int64_t count) {
    std::byte* place = base == nullptr ? nullptr : base + bytes;
    bytes += aligned(count * static_cast<int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(place);
  }
};

CpuBackend::CpuBackend(const ModelSpec& spec, const RankShape& shape, const StepLimits& limits,
                       const KernelTable& table, Compute compute, int32_t thread_count,
                       std::shared_ptr<CpuRows> rows, std::shared_ptr<RankGroup> group)
    : spec_(spec),
      shape_(shape),
      limits_(limits),
      table_(table),
      compute_(compute),
      thread_count_(thread_count),
      rows_(std::move(rows)),
      group_(std::move(group)) {
  for (const Rope& rope : spec.ropes) {
    rope_offsets_.push_back(rope_floats_);
    rope_floats_ += 2 * static_cast<int64_t>(rope.inverse_frequencies.size());
  }
  thread_scratch_bytes_ = std::max(
      kLinearTileBytes,
      aligned(table.attention_scratch_bytes(kv_shape(), shape.head_count / shape.kv_head_count)));
}

// A processor is slow to fill more, and shares its memory with all that runs beside: the same
// default as vLLM's CPU backend.
int64_t CpuBackend::kv_limit_bytes() const { return int64_t{4} << 30; }

int64_t CpuBackend::available_bytes() const {
  return shape_.rank == 0 ? available_host_bytes() : 0;
}

Status CpuBackend::allocate(int64_t bytes, std::byte** memory) {
  HostMemory mapped;
  QUIRE_TRY(HostMemory::map(bytes, &mapped));
  *memory = mapped.data();
  memory_.push_back(std::move(mapped));
  return {};
}

std::string CpuBackend::description() const {
  const char* numbers = compute_ == Compute::kFloat32 ? "float32" : "bfloat16";
  return std::string(numbers) + " (" + table_.name + "), " + std::to_string(thread_count_) +
         (thread_count_ == 1 ? " thread" : " threads");
}

MatrixLayout CpuBackend::matrix_layout(WeightType type, int32_t rows, int32_t columns) const {
  const int32_t packing = table_.packing_for(type, compute_, rows, columns);
  return {packing, table_.packed_bytes(packing, rows, columns)};
}

KvShape CpuBackend::kv_shape() const { return {limits_.block_size, spec_.head_dim, compute_}; }

int64_t CpuBackend::kv_block_bytes() const {
  return static_cast<int64_t>(spec_.layers.size()) * shape_.kv_head_count *
         table_.page_bytes(kv_shape());
}

// A block's pages lie together, layer after layer: blocks that no request uses are never touched.
std::byte* CpuBackend::page(int32_t layer, int32_t head, int32_t block) const {
  return kv_ + block * kv_block_bytes() +
         (int64_t{layer} * shape_.kv_head_count + head) * table_.page_bytes(kv_shape());
}

std::vector<CpuBackend::ActivationRegion> CpuBackend::regions_for(
    const std::vector<PackedMatrix>& matrices) const {
  std::vector<ActivationRegion> regions;
  for (const PackedMatrix& matrix : matrices) {
    const int64_t bytes = table_.activation_bytes(matrix.packing, matrix.columns);
    const auto found = std::find_if(
        regions.begin(), regions.end(),
        [&](const ActivationRegion& region) { return region.packing == matrix.packing; });
    if (found == regions.end()) {
      regions.push_back({matrix.packing, bytes, nullptr});
    } else {
      found->token_bytes = std::max(found->token_bytes, bytes);
    }
  }
  return regions;
}

int64_t CpuBackend::scratch_bytes(const std::vector<PackedMatrix>& matrices) const {
  const int64_t tokens = limits_.max_batched_tokens;
  ScratchPlace place;
  for (const ActivationRegion& region : regions_for(matrices)) {
    place.take<std::byte>(tokens * region.token_bytes);
  }
  place.take<std::byte>(thread_count_ * thread_scratch_bytes_);
  for (int i = 0; i < 3; ++i) place.take<int32_t>(tokens);
  place.take<float>(tokens * rope_floats_);
  for (int i = 0; i < 3; ++i) place.take<int32_t>(limits_.max_rows + 1);
  return place.bytes;
}

int64_t CpuBackend::sampler_bytes() const {
  return rows_->bytes() + int64_t{thread_count_} * padded_vocab() *
                              static_cast<int64_t>(sizeof(float) + sizeof(Candidate));
}

void CpuBackend::bind(const BackendMemory& memory, const std::vector<PackedMatrix>& matrices) {
  const int64_t tokens = limits_.max_batched_tokens;
  ScratchPlace place{memory.scratch, 0};
  regions_ = regions_for(matrices);
  for (ActivationRegion& region : regions_) {
    region.data = place.take<std::byte>(tokens * region.token_bytes);
  }
  thread_scratch_ = place.take<std::byte>(thread_count_ * thread_scratch_bytes_);
  token_ids_ = place.take<int32_t>(tokens);
  positions_ = place.take<int32_t>(tokens);
  token_rows_ = place.take<int32_t>(tokens);
  rope_table_ = place.take<float>(tokens * rope_floats_);
  chunk_tokens_ = place.take<int32_t>(limits_.max_rows + 1);
  chunk_tiles_ = place.take<int32_t>(limits_.max_rows + 1);
  sampled_chunks_ = place.take<int32_t>(limits_.max_rows + 1);
  kv_ = memory.kv;
  if (shape_.rank == 0) {
    ScratchPlace sampler{memory.sampler, rows_->bytes()};
    rows_->bind(memory.sampler, memory.block_count);
    sample_scratch_.logits = sampler.take<float>(int64_t{thread_count_} * padded_vocab());
    sample_scratch_.candidates = sampler.take<Candidate>(int64_t{thread_count_} * padded_vocab());
  }
  pool_ = std::make_unique<ThreadPool>(thread_count_);
}

void CpuBackend::pack(const PackedMatrix& matrix, WeightType type, const std::byte* source,
                      int32_t row_begin, int32_t row_count) const {
  table_.pack(matrix.packing, type, source, row_begin, row_count, matrix.columns, matrix.data);
}

void CpuBackend::load_vector(WeightType type, const std::byte* source, int32_t columns,
                             float* output) const {
  dequantize(type, source, columns, output);
}

void CpuBackend::open_row(int32_t row, RowSampling& sampling, const std::vector<int32_t>& token_ids,
                          int32_t prompt_length) {
  if (shape_.rank == 0) rows_->open(row, sampling, token_ids, prompt_length);
}

void CpuBackend::set_blocks(int32_t row, int32_t first_index, const int32_t* blocks,
                            int32_t count) {
  if (shape_.rank == 0) rows_->set_blocks(row, first_index, blocks, count);
}

Status CpuBackend::begin_step(const Batch& batch) {
  QUIRE_TRY(rows_->check(batch));
  batch_ = batch;
  sampled_count_ = 0;
  int32_t token = 0;
  int32_t tile = 0;
  for (int32_t chunk = 0; chunk < batch.chunk_count; ++chunk) {
    const int32_t row = batch.rows[chunk];
    chunk_tokens_[chunk] = token;
    chunk_tiles_[chunk] = tile;
    tile += (batch.counts[chunk] + kQueryTile - 1) / kQueryTile;
    if (batch.flags[chunk] != 0) sampled_chunks_[sampled_count_++] = chunk;
    for (int32_t i = 0; i < batch.counts[chunk]; ++i, ++token) {
      const int32_t id = batch.token_ids[token];
      token_ids_[token] = id == kLastSampled ? rows_->last_token(row) : id;
      positions_[token] = batch.starts[chunk] + i;
      token_rows_[token] = row;
    }
  }
  chunk_tokens_[batch.chunk_count] = token;
  chunk_tiles_[batch.chunk_count] = tile;
  // A cosine costs about as much as sixteen plain elements.
  for_each(batch.token_count, rope_floats_ * 16, [&](int32_t t, int32_t) { compute_rope(t); });
  return {};
}

void CpuBackend::embed(const PackedMatrix& table, int32_t first_row, float scale, View output) {
  const Matrix matrix = to_matrix(table);
  for_each(output.rows, output.columns, [&](int32_t token, int32_t) {
    float* row = row_of(output, token);
    const int32_t index = token_ids_[token] - first_row;
    if (index < 0 || index >= table.rows) {
      std::fill_n(row, output.columns, 0.0f);
      return;
    }
    table_.unpack_row(matrix, index, row);
    if (scale == 1.0f) return;
    for (int32_t i = 0; i < output.columns; ++i) row[i] *= scale;
  });
}

void CpuBackend::rms_norm(const NormArgs& args) {
  for_each(args.input.rows, args.input.columns, [&](int32_t row, int32_t) {
    table_.rms_norm(row_of(args.input, row), args.weight, args.offset, args.epsilon,
                    args.input.columns, row_of(args.output, row));
  });
}

void CpuBackend::add_scaled(View input, float scale, View accumulator) {
  for_each(input.rows, input.columns, [&](int32_t row, int32_t) {
    table_.add_scaled(row_of(input, row), scale, input.columns, row_of(accumulator, row));
  });
}

int32_t CpuBackend::gather_sampled(View input, View output) {
  for (int32_t i = 0; i < sampled_count_; ++i) {
    const int32_t last_token = chunk_tokens_[sampled_chunks_[i] + 1] - 1;
    std::copy_n(row_of(input, last_token), input.columns, row_of(output, i));
  }
  return sampled_count_;
}

void CpuBackend::scale_softcap(float scale, float softcap, View logits) {
  for_each(logits.rows, logits.columns, [&](int32_t row, int32_t) {
    table_.scale_softcap(scale, softcap, logits.columns, row_of(logits, row));
  });
}

Status CpuBackend::sample(View logits, const SampleOutput& output) {
  std::atomic<int32_t> failed_row{-1};
  pool_->run(sampled_count_, [&](int32_t i, int32_t thread) {
    const int32_t chunk = sampled_chunks_[i];
    const int32_t row = batch_.rows[chunk];
    const int32_t position = batch_.starts[chunk] + batch_.counts[chunk];
    const int64_t scratch = int64_t{thread} * padded_vocab();
    RowSample sample;
    if (!sample_row(table_,
                    {row_of(logits, i), logits.columns, &rows_->sampling(row),
                     rows_->token_counts(row), position, position - rows_->prompt_length(row)},
                    {sample_scratch_.logits + scratch, sample_scratch_.candidates + scratch},
                    &sample)) {
      failed_row = row;
      return;
    }
    rows_->record(row, sample.token_id);
    output.token_ids[i] = sample.token_id;
    output.logprobs[i] = sample.logprob;
    const int32_t top = std::max(0, rows_->sampling(row).top_logprobs);
    std::copy_n(sample.top_token_ids, top, output.top_token_ids + i * kMaxTopLogprobs);
    std::copy_n(sample.top_logprobs, top, output.top_logprobs + i * kMaxTopLogprobs);
  });
  if (failed_row < 0) return {};
  return {Code::kDeviceFailed,
          "row " + std::to_string(failed_row) + ": its logits are not finite numbers"};
}

}  // namespace quire::cpu
