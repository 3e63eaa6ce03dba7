#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/status.h"
#include "core/device_options.h"
#include "core/memory_plan.h"
#include "core/rank_team.h"
#include "core/ranks.h"
#include "core/step_slot.h"
#include "models/model.h"

namespace quire {

// What one step sampled, for its sampling chunks in the order of the batch. Valid until the next
// wait().
struct StepResult {
  int32_t sampled_count = 0;
  const int32_t* token_ids = nullptr;
  const float* logprobs = nullptr;
  const int32_t* top_token_ids = nullptr;  // [S, kMaxTopLogprobs]
  const float* top_logprobs = nullptr;
  double step_ms = 0.0;
};

// Runs steps on a thread of its own, the device thread, in the order of their submission. The other
// functions are for one caller's thread. Nothing is allocated while a step runs.
class Device {
 public:
  // Steps in flight at most.
  static constexpr uint64_t kDepth = 2;

  // What open() would hold. Errors: those of Ranks::make and Ranks::plan.
  static Status plan(const Model& model, const DeviceOptions& options, MemoryPlan* plan);

  // Plans, allocates once and loads. `progress` as in load_weights. kIo for unreadable weights.
  static Status open(Model model, const DeviceOptions& options, int64_t* progress,
                     std::unique_ptr<Device>* device);

  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const MemoryPlan& memory_plan() const { return plan_; }
  std::string description() const { return ranks_->description(); }
  const StepLimits& limits() const { return ranks_->limits(); }

  // Staged for the steps submitted later; the arguments are checked at once, and kInvalidArgument
  // leaves everything as it was. The sampling's vectors are swapped away.
  Status open_row(int32_t row, RowSampling& sampling, const int32_t* token_ids, int32_t token_count,
                  int32_t prompt_length);
  Status set_blocks(int32_t row, int32_t first_index, const int32_t* blocks, int32_t count);

  // Copies the batch and returns. kInvalidArgument when two steps are in flight or the batch is
  // larger than the limits; what its arrays hold is checked when the step runs.
  Status submit(const Batch& batch);

  // Blocks until the oldest step is done. kDeviceFailed when it, or one before it, failed: the
  // device then runs no step any more. kInvalidArgument when none is in flight.
  Status wait(StepResult* result);

 private:
  explicit Device(Model model) : model_(std::move(model)) {}

  void start();
  void run_steps();
  void run_step(StepSlot& slot);
  StepSlot& slot(uint64_t step) { return slots_[step % slots_.size()]; }

  const Model model_;
  MemoryPlan plan_;
  std::unique_ptr<Ranks> ranks_;
  // Two in flight, and one that is being filled or read.
  std::vector<StepSlot> slots_;
  std::vector<Status> rank_status_;
  StepSlot* running_ = nullptr;
  std::unique_ptr<RankTeam> team_;

  // Counts of steps. The caller alone writes submitted_ and waited_, the device thread finished_.
  std::mutex mutex_;
  std::condition_variable submitted_changed_;
  std::condition_variable finished_changed_;
  uint64_t submitted_ = 0;
  uint64_t finished_ = 0;
  uint64_t waited_ = 0;
  bool stopping_ = false;
  Status failure_;  // the device thread's; a step copies it into its slot
  std::thread thread_;
};

}  // namespace quire
