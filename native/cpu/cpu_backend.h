#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cpu/cpu_rows.h"
#include "cpu/host_memory.h"
#include "cpu/kernels.h"
#include "cpu/rank_group.h"
#include "cpu/sample_row.h"
#include "cpu/thread_pool.h"
#include "models/backend.h"

namespace quire::cpu {

// Results of one thread's panels before an epilogue.
constexpr int64_t kLinearTileBytes = 1024 * 1024;

// Queries that one attention task takes.
constexpr int32_t kQueryTile = 32;

// One rank of a model on the CPU: splits every operation over its thread pool and leaves the
// arithmetic to a tier's kernels. Activations are float32.
//
// How work is split never changes a result: tasks are whole panels, tokens, heads or rows.
class CpuBackend final : public Backend {
 public:
  // `spec`, `table` and `rows` outlive the backend.
  CpuBackend(const ModelSpec& spec, const RankShape& shape, const StepLimits& limits,
             const KernelTable& table, Compute compute, int32_t thread_count,
             std::shared_ptr<CpuRows> rows, std::shared_ptr<RankGroup> group);

  int64_t available_bytes() const override;
  int64_t kv_limit_bytes() const override;
  Status allocate(int64_t bytes, std::byte** memory) override;
  std::string description() const override;
  int32_t element_bytes() const override { return sizeof(float); }
  MatrixLayout matrix_layout(WeightType type, int32_t rows, int32_t columns) const override;
  int64_t kv_block_bytes() const override;
  int64_t scratch_bytes(const std::vector<PackedMatrix>& matrices) const override;
  int64_t sampler_bytes() const override;

  void pack(const PackedMatrix& matrix, WeightType type, const std::byte* source, int32_t row_begin,
            int32_t row_count) const override;
  void load_vector(WeightType type, const std::byte* source, int32_t columns,
                   float* output) const override;
  void bind(const BackendMemory& memory, const std::vector<PackedMatrix>& matrices) override;

  void open_row(int32_t row, RowSampling& sampling, const std::vector<int32_t>& token_ids,
                int32_t prompt_length) override;
  void set_blocks(int32_t row, int32_t first_index, const int32_t* blocks, int32_t count) override;

  Status begin_step(const Batch& batch) override;
  void embed(const PackedMatrix& table, int32_t first_row, float scale, View output) override;
  void rms_norm(const NormArgs& args) override;
  void linear(const LinearArgs& args) override;
  void rope_and_store_kv(const RopeStoreArgs& args) override;
  void attention(const quire::AttentionArgs& args) override;
  void add_scaled(View input, float scale, View accumulator) override;
  int32_t gather_sampled(View input, View output) override;
  void scale_softcap(float scale, float softcap, View logits) override;
  Status sample(View logits, const SampleOutput& output) override;
  void all_reduce(View view) override { group_->all_reduce(shape_.rank, view); }
  void gather_columns(View local, int32_t first_column, View full) override {
    group_->gather_columns(shape_.rank, local, first_column, full);
  }

 private:
  // Where the activations for one packing lie: a token's are `token_bytes` apart at most.
  struct ActivationRegion {
    int32_t packing;
    int64_t token_bytes;
    std::byte* data;
  };
  struct ScratchPlace;

  std::vector<ActivationRegion> regions_for(const std::vector<PackedMatrix>& matrices) const;
  const ActivationRegion& region(int32_t packing) const;
  KvShape kv_shape() const;
  int32_t padded_vocab() const { return (spec_.vocab_size + 15) / 16 * 16; }
  std::byte* page(int32_t layer, int32_t head, int32_t block) const;
  void compute_rope(int32_t token);
  void rope_token(const RopeStoreArgs& args, int32_t token);
  void rotate(float* head, const Rope& rope, const float* cosines) const;
  void attend(const quire::AttentionArgs& args, int32_t tile, int32_t head, int32_t thread);

  // linear, in cpu_linear.cc
  void prepare_activations(const LinearArgs& args);
  void multiply_panels(const LinearArgs& args, int32_t panel_begin, int32_t panel_end,
                       int32_t thread);
  void multiply_tile(const LinearArgs& args, const LinearPart& part, int32_t panel_begin,
                     int32_t panel_end, int32_t token_begin, int32_t token_count, int32_t thread);
  void multiply_gated_tile(const LinearArgs& args, int32_t panel_begin, int32_t panel_end,
                           int32_t token_begin, int32_t token_count, int32_t thread);
  void run_kernel(const LinearPart& part, int32_t panel_begin, int32_t panel_end,
                  int32_t token_begin, int32_t token_count, float* output, int64_t stride);

  // Runs function(item, thread) for items [0, count), several to a task.
  template <class Function>
  void for_each(int32_t count, int64_t elements_each, const Function& function);

  const ModelSpec& spec_;
  const RankShape shape_;
  const StepLimits limits_;
  const KernelTable& table_;
  const Compute compute_;
  const int32_t thread_count_;
  const std::shared_ptr<CpuRows> rows_;
  const std::shared_ptr<RankGroup> group_;
  std::unique_ptr<ThreadPool> pool_;

  std::vector<HostMemory> memory_;
  std::vector<ActivationRegion> regions_;
  std::byte* kv_ = nullptr;
  std::byte* thread_scratch_ = nullptr;  // attention scratch or linear tiles, per thread
  int64_t thread_scratch_bytes_ = 0;
  SampleScratch sample_scratch_;  // of thread 0

  // The step's tokens, [max_batched_tokens]: id, position, row, and cosines then sines per rope.
  int32_t* token_ids_ = nullptr;
  int32_t* positions_ = nullptr;
  int32_t* token_rows_ = nullptr;
  float* rope_table_ = nullptr;
  std::vector<int64_t> rope_offsets_;  // of each rope in one token's entry
  int64_t rope_floats_ = 0;
  // The step's chunks, [max_rows + 1]: first token, first attention tile.
  int32_t* chunk_tokens_ = nullptr;
  int32_t* chunk_tiles_ = nullptr;
  int32_t* sampled_chunks_ = nullptr;
  int32_t sampled_count_ = 0;
  Batch batch_;
};

// Items per task so that a task is worth handing over; shared by everything that splits tokens.
template <class Function>
void CpuBackend::for_each(int32_t count, int64_t elements_each, const Function& function) {
  constexpr int64_t kTaskElements = 4096;
  const auto per_task =
      static_cast<int32_t>(1 + kTaskElements / (elements_each > 0 ? elements_each : 1));
  const int32_t task_count = (count + per_task - 1) / per_task;
  const auto run_task = [&](int32_t task, int32_t thread) {
    const int32_t end = count < (task + 1) * per_task ? count : (task + 1) * per_task;
    for (int32_t item = task * per_task; item < end; ++item) function(item, thread);
  };
  if (task_count <= 1) {
    if (task_count == 1) run_task(0, 0);
    return;
  }
  pool_->run(task_count, run_task);
}

}  // namespace quire::cpu
