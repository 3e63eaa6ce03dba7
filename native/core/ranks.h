#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/device_options.h"
#include "core/memory_plan.h"
#include "models/backend.h"
#include "models/decoder.h"
#include "models/decoder_weights.h"

namespace quire {

// A model cut over its ranks: first only sizes, then memory, weights and decoders.
class Ranks {
 public:
  // Checks the model and the options and makes the backends; allocates nothing of the plan.
  // `model` outlives the ranks.
  //
  // kInvalidArgument for a model or options that cannot be; kUnavailable for a missing processor.
  static Status make(const Model& model, const DeviceOptions& options,
                     std::unique_ptr<Ranks>* ranks);

  // kOutOfMemory when the needs do not fit.
  Status plan(MemoryPlan* plan) const;

  // Allocates what the plan says and loads the weights. `progress` as in load_weights.
  Status load(const MemoryPlan& plan, int64_t* progress);

  // Row state and one step, on every rank; see Backend and Decoder.
  void open_row(int32_t row, RowSampling& sampling, const std::vector<int32_t>& token_ids,
                int32_t prompt_length);
  void set_blocks(int32_t row, int32_t first_index, const int32_t* blocks, int32_t count);
  Status step(int32_t rank, const Batch& batch, const SampleOutput& output, int32_t* sampled_count);

  int32_t count() const { return static_cast<int32_t>(shapes_.size()); }
  const StepLimits& limits() const { return limits_; }
  std::string description() const;

 private:
  Ranks(const Model& model, const DeviceOptions& options);

  Status load_rank(int32_t rank, const MemoryPlan& plan, std::byte* sampler);

  const Model& model_;
  const DeviceOptions options_;
  const StepLimits limits_;
  std::vector<RankShape> shapes_;
  // Kept before the decoders, which point into them.
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<WeightLayout> layouts_;
  std::vector<std::unique_ptr<Decoder>> decoders_;
};

}  // namespace quire
