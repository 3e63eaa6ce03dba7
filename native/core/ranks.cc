#include "core/ranks.h"

#include <utility>

#include "checkpoint/weights.h"
#include "models/check_model.h"
#include "models/shard.h"

namespace quire {
namespace {

// Most threads that read a checkpoint; more only queue at the disk or in the page cache.
constexpr int32_t kMaxLoadThreads = 8;

Status check_option(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return {};
  return {Code::kInvalidArgument, std::string(name) + " is " + std::to_string(value) +
                                      ", allowed are " + std::to_string(min) + " to " +
                                      std::to_string(max)};
}

Status check_options(const DeviceOptions& options) {
  QUIRE_TRY(check_option("tensorParallel", options.tensor_parallel, 1, 64));
  QUIRE_TRY(check_option("threads", options.threads, 0, 256));
  QUIRE_TRY(check_option("maxModelLen", options.max_model_len, 1, 1 << 24));
  QUIRE_TRY(check_option("maxRows", options.max_rows, 1, 4096));
  QUIRE_TRY(check_option("maxBatchedTokens", options.max_batched_tokens, 1, 1 << 17));
  QUIRE_TRY(check_option("blockCount", options.block_count, 0, INT32_MAX));
  QUIRE_TRY(check_option("memoryBytes", options.memory_bytes, 0, INT64_MAX));
  if (options.block_size != 16 && options.block_size != 32 && options.block_size != 64) {
    return {Code::kInvalidArgument,
            "blockSize is " + std::to_string(options.block_size) + ", allowed are 16, 32 and 64"};
  }
  if (options.dtype != "auto" && options.dtype != "float32" && options.dtype != "bfloat16") {
    return {Code::kInvalidArgument,
            "dtype is '" + options.dtype + "', allowed are auto, float32 and bfloat16"};
  }
  return {};
}

}  // namespace

Ranks::Ranks(const Model& model, const DeviceOptions& options)
    : model_(model),
      options_(options),
      limits_{options.max_rows, options.max_batched_tokens, options.max_model_len,
              options.block_size} {}

Status Ranks::make(const Model& model, const DeviceOptions& options,
                   std::unique_ptr<Ranks>* ranks) {
  QUIRE_TRY(check_options(options));
  QUIRE_TRY(check_model(model));
  std::unique_ptr<Ranks> made(new Ranks(model, options));
  for (int32_t rank = 0; rank < options.tensor_parallel; ++rank) {
    RankShape shape;
    QUIRE_TRY(shard_model(model, rank, options.tensor_parallel, &shape));
    made->shapes_.push_back(shape);
  }
  QUIRE_TRY(make_backends(model.spec, made->shapes_, made->limits_,
                          {options.threads, options.cpu_isa, options.dtype == "float32"},
                          &made->backends_));
  *ranks = std::move(made);
  return {};
}

std::string Ranks::description() const {
  const std::string one = backends_[0]->description();
  return count() == 1 ? one : std::to_string(count()) + " ranks of " + one;
}

Status Ranks::plan(MemoryPlan* plan) const {
  MemoryNeeds needs;
  int64_t available = 0;
  for (int32_t rank = 0; rank < count(); ++rank) {
    const Backend& backend = *backends_[rank];
    const WeightLayout layout = lay_out_weights(model_, shapes_[rank], backend, nullptr);
    needs.weight_bytes += layout.bytes;
    needs.workspace_bytes +=
        backend.scratch_bytes(layout.matrices()) +
        Decoder::workspace_bytes(model_.spec, shapes_[rank], limits_, backend.element_bytes());
    needs.kv_block_bytes += backend.kv_block_bytes();
    available += backend.available_bytes();
  }
  needs.sampler_bytes = backends_[0]->sampler_bytes();
  needs.least_block_count = (limits_.max_model_len + limits_.block_size - 1) / limits_.block_size;
  needs.requested_block_count = options_.block_count;
  if (options_.memory_bytes == 0) needs.kv_limit_bytes = backends_[0]->kv_limit_bytes();
  return plan_memory(needs, options_.memory_bytes > 0 ? options_.memory_bytes : available, plan);
}

Status Ranks::load(const MemoryPlan& plan, int64_t* progress) {
  std::byte* sampler = nullptr;
  QUIRE_TRY(backends_[0]->allocate(plan.sampler_bytes, &sampler));
  layouts_.resize(count());
  for (int32_t rank = 0; rank < count(); ++rank) QUIRE_TRY(load_rank(rank, plan, sampler));
  std::vector<RankWeights> reads;
  for (int32_t rank = 0; rank < count(); ++rank) {
    reads.push_back({&layouts_[rank].loads, backends_[rank].get()});
  }
  return load_weights(model_.files, reads, kMaxLoadThreads, progress);
}

Status Ranks::load_rank(int32_t rank, const MemoryPlan& plan, std::byte* sampler) {
  Backend& backend = *backends_[rank];
  const RankShape& shape = shapes_[rank];
  std::byte* weights = nullptr;
  const int64_t weight_bytes = lay_out_weights(model_, shape, backend, nullptr).bytes;
  QUIRE_TRY(backend.allocate(weight_bytes, &weights));
  layouts_[rank] = lay_out_weights(model_, shape, backend, weights);

  const std::vector<PackedMatrix> matrices = layouts_[rank].matrices();
  const int64_t scratch_bytes = backend.scratch_bytes(matrices);
  std::byte* workspace = nullptr;
  QUIRE_TRY(backend.allocate(scratch_bytes + Decoder::workspace_bytes(model_.spec, shape, limits_,
                                                                      backend.element_bytes()),
                             &workspace));
  BackendMemory memory{workspace, sampler, nullptr, plan.block_count};
  QUIRE_TRY(backend.allocate(plan.block_count * backend.kv_block_bytes(), &memory.kv));
  backend.bind(memory, matrices);
  decoders_.push_back(std::make_unique<Decoder>(model_.spec, shape, limits_, layouts_[rank].weights,
                                                backend, workspace + scratch_bytes));
  return {};
}

void Ranks::open_row(int32_t row, RowSampling& sampling, const std::vector<int32_t>& token_ids,
                     int32_t prompt_length) {
  for (const auto& backend : backends_) {
    backend->open_row(row, sampling, token_ids, prompt_length);
  }
}

void Ranks::set_blocks(int32_t row, int32_t first_index, const int32_t* blocks, int32_t count) {
  for (const auto& backend : backends_) backend->set_blocks(row, first_index, blocks, count);
}

Status Ranks::step(int32_t rank, const Batch& batch, const SampleOutput& output,
                   int32_t* sampled_count) {
  return decoders_[rank]->step(batch, output, sampled_count);
}

}  // namespace quire
