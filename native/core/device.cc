#include "core/device.h"

#include <chrono>
#include <utility>

namespace quire {
namespace {

constexpr size_t kSlotCount = Device::kDepth + 1;
// Openings that may be staged for one step: more means that no step takes them.
constexpr int32_t kMaxOpeningsPerRow = 4;
constexpr int32_t kMaxListedTokens = 4096;

Status invalid(std::string message) { return {Code::kInvalidArgument, std::move(message)}; }

Status check_row(int32_t row, const StepLimits& limits) {
  if (row >= 0 && row < limits.max_rows) return {};
  return invalid("row " + std::to_string(row) + ", the device has rows 0 to " +
                 std::to_string(limits.max_rows - 1));
}

Status check_tokens(const int32_t* token_ids, int64_t count, int32_t vocab_size) {
  for (int64_t i = 0; i < count; ++i) {
    if (token_ids[i] < 0 || token_ids[i] >= vocab_size) {
      return invalid("token " + std::to_string(token_ids[i]) + ", the vocabulary has " +
                     std::to_string(vocab_size));
    }
  }
  return {};
}

Status check_token_list(const char* name, const std::vector<int32_t>& token_ids,
                        int32_t vocab_size) {
  if (token_ids.size() > kMaxListedTokens) {
    return invalid(std::string(name) + " lists " + std::to_string(token_ids.size()) +
                   " tokens, the limit is " + std::to_string(kMaxListedTokens));
  }
  return check_tokens(token_ids.data(), static_cast<int64_t>(token_ids.size()), vocab_size);
}

// Comparisons are false for NaN, so each states what is allowed.
Status check_sampling(const RowSampling& sampling, int32_t vocab_size) {
  const auto check = [](const char* name, double value, double min, double max) -> Status {
    if (value >= min && value <= max) return {};
    return invalid(std::string(name) + " is " + std::to_string(value) + ", allowed are " +
                   std::to_string(min) + " to " + std::to_string(max));
  };
  QUIRE_TRY(check("temperature", sampling.temperature, 0.0, 1e4));
  QUIRE_TRY(check("topK", sampling.top_k, 0, INT32_MAX));
  QUIRE_TRY(check("topP", sampling.top_p, 0.0, 1.0));
  QUIRE_TRY(check("minP", sampling.min_p, 0.0, 1.0));
  QUIRE_TRY(check("presencePenalty", sampling.presence_penalty, -100.0, 100.0));
  QUIRE_TRY(check("frequencyPenalty", sampling.frequency_penalty, -100.0, 100.0));
  QUIRE_TRY(check("repetitionPenalty", sampling.repetition_penalty, 1e-3, 1e3));
  QUIRE_TRY(check("topLogprobs", sampling.top_logprobs, -1, kMaxTopLogprobs));
  QUIRE_TRY(check("minTokens", sampling.min_tokens, 0, INT32_MAX));
  QUIRE_TRY(check_token_list("stopTokenIds", sampling.stop_token_ids, vocab_size));
  QUIRE_TRY(check_token_list("biasTokenIds", sampling.bias_token_ids, vocab_size));
  if (sampling.bias_values.size() != sampling.bias_token_ids.size()) {
    return invalid(std::to_string(sampling.bias_values.size()) + " bias values for " +
                   std::to_string(sampling.bias_token_ids.size()) + " tokens");
  }
  for (const float value : sampling.bias_values) {
    QUIRE_TRY(check("a bias", value, -1e4, 1e4));
  }
  return {};
}

}  // namespace

Status Device::plan(const Model& model, const DeviceOptions& options, MemoryPlan* plan) {
  std::unique_ptr<Ranks> ranks;
  QUIRE_TRY(Ranks::make(model, options, &ranks));
  return ranks->plan(plan);
}

Status Device::open(Model model, const DeviceOptions& options, int64_t* progress,
                    std::unique_ptr<Device>* device) {
  std::unique_ptr<Device> opened(new Device(std::move(model)));
  QUIRE_TRY(Ranks::make(opened->model_, options, &opened->ranks_));
  QUIRE_TRY(opened->ranks_->plan(&opened->plan_));
  QUIRE_TRY(opened->ranks_->load(opened->plan_, progress));
  opened->start();
  *device = std::move(opened);
  return {};
}

void Device::start() {
  for (size_t i = 0; i < kSlotCount; ++i) slots_.emplace_back(limits());
  rank_status_.resize(ranks_->count());
  team_ = std::make_unique<RankTeam>(ranks_->count(), [this](int32_t rank) {
    int32_t sampled_count = 0;
    rank_status_[rank] = ranks_->step(rank, running_->batch(), running_->output(), &sampled_count);
    if (rank == 0) running_->sampled_count = sampled_count;
  });
  thread_ = std::thread([this] { run_steps(); });
}

Device::~Device() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  submitted_changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Status Device::open_row(int32_t row, RowSampling& sampling, const int32_t* token_ids,
                        int32_t token_count, int32_t prompt_length) {
  const int32_t vocab_size = model_.spec.vocab_size;
  QUIRE_TRY(check_row(row, limits()));
  QUIRE_TRY(check_sampling(sampling, vocab_size));
  QUIRE_TRY(check_tokens(token_ids, token_count, vocab_size));
  if (token_count > limits().max_model_len || prompt_length < 0 || prompt_length > token_count) {
    return invalid("a prompt of " + std::to_string(prompt_length) + " of " +
                   std::to_string(token_count) + " tokens, the longest request has " +
                   std::to_string(limits().max_model_len));
  }
  StepSlot& staged = slot(submitted_);
  if (staged.opening_count >= kMaxOpeningsPerRow * limits().max_rows) {
    return invalid("rows were opened " + std::to_string(staged.opening_count) +
                   " times with no step between");
  }
  RowOpening& opening = staged.next_opening();
  opening.row = row;
  opening.prompt_length = prompt_length;
  opening.token_ids.assign(token_ids, token_ids + (sampling.has_penalties() ? token_count : 0));
  std::swap(opening.sampling, sampling);
  return {};
}

Status Device::set_blocks(int32_t row, int32_t first_index, const int32_t* blocks, int32_t count) {
  QUIRE_TRY(check_row(row, limits()));
  const int32_t table_size =
      (limits().max_model_len + limits().block_size - 1) / limits().block_size;
  if (first_index < 0 || count < 0 || first_index > table_size - count) {
    return invalid("row " + std::to_string(row) + ": block table entries " +
                   std::to_string(first_index) + " to " +
                   std::to_string(int64_t{first_index} + count) + ", the table has " +
                   std::to_string(table_size));
  }
  StepSlot& staged = slot(submitted_);
  if (staged.blocks.size() + count > size_t{kMaxOpeningsPerRow} * limits().max_rows * table_size) {
    return invalid("block tables were set " + std::to_string(staged.block_edits.size()) +
                   " times with no step between");
  }
  staged.block_edits.push_back({row, first_index, count});
  staged.blocks.insert(staged.blocks.end(), blocks, blocks + count);
  return {};
}

Status Device::submit(const Batch& batch) {
  if (submitted_ - waited_ >= kDepth) {
    return invalid(std::to_string(kDepth) + " steps are in flight: wait for the older first");
  }
  if (batch.chunk_count < 0 || batch.chunk_count > limits().max_rows || batch.token_count < 0 ||
      batch.token_count > limits().max_batched_tokens) {
    return invalid("a step of " + std::to_string(batch.chunk_count) + " chunks and " +
                   std::to_string(batch.token_count) + " tokens, the limits are " +
                   std::to_string(limits().max_rows) + " and " +
                   std::to_string(limits().max_batched_tokens));
  }
  slot(submitted_).copy(batch);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++submitted_;
  }
  submitted_changed_.notify_one();
  return {};
}

Status Device::wait(StepResult* result) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (waited_ == submitted_) return invalid("no step is in flight");
  finished_changed_.wait(lock, [this] { return finished_ > waited_; });
  StepSlot& done = slot(waited_++);
  QUIRE_TRY(done.status);
  *result = {done.sampled_count,        done.sampled_ids.data(),  done.logprobs.data(),
             done.top_token_ids.data(), done.top_logprobs.data(), done.step_ms};
  return {};
}

void Device::run_steps() {
  for (uint64_t step = 0;; ++step) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      submitted_changed_.wait(lock, [&] { return stopping_ || submitted_ > step; });
      if (stopping_) return;
    }
    run_step(slot(step));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      finished_ = step + 1;
    }
    finished_changed_.notify_one();
  }
}

void Device::run_step(StepSlot& step) {
  const auto start = std::chrono::steady_clock::now();
  step.sampled_count = 0;
  if (failure_.ok()) {
    for (int32_t i = 0; i < step.opening_count; ++i) {
      RowOpening& opening = step.openings[i];
      ranks_->open_row(opening.row, opening.sampling, opening.token_ids, opening.prompt_length);
    }
    const int32_t* blocks = step.blocks.data();
    for (const BlockEdit& edit : step.block_edits) {
      ranks_->set_blocks(edit.row, edit.first_index, blocks, edit.count);
      blocks += edit.count;
    }
    running_ = &step;
    team_->run();
    for (const Status& status : rank_status_) {
      if (failure_.ok() && !status.ok()) failure_ = status;
    }
  }
  step.clear_edits();
  step.status = failure_;
  step.step_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace quire
