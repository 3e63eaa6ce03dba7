#include "addon/device.h"

#include <algorithm>
#include <utility>

#include "addon/errors.h"
#include "addon/fields.h"
#include "addon/model_from_js.h"

namespace quire::addon {
namespace {

Status read_options(Napi::Value value, DeviceOptions* options) {
  if (!value.IsObject()) return {Code::kInvalidArgument, "the options are not an object"};
  const auto from = value.As<Napi::Object>();
  QUIRE_TRY(read_int32(from, "tensorParallel", &options->tensor_parallel));
  QUIRE_TRY(read_int32(from, "threads", &options->threads));
  QUIRE_TRY(read_string(from, "cpuIsa", &options->cpu_isa));
  QUIRE_TRY(read_string(from, "dtype", &options->dtype));
  QUIRE_TRY(read_int32(from, "blockSize", &options->block_size));
  QUIRE_TRY(read_int32(from, "maxModelLen", &options->max_model_len));
  QUIRE_TRY(read_int32(from, "maxRows", &options->max_rows));
  QUIRE_TRY(read_int32(from, "maxBatchedTokens", &options->max_batched_tokens));
  QUIRE_TRY(read_int32(from, "blockCount", &options->block_count));
  return read_int64(from, "memoryBytes", &options->memory_bytes);
}

Status read_sampling(Napi::Value value, RowSampling* sampling) {
  if (!value.IsObject()) return {Code::kInvalidArgument, "the sampling is not an object"};
  const auto from = value.As<Napi::Object>();
  QUIRE_TRY(read_float(from, "temperature", &sampling->temperature));
  QUIRE_TRY(read_int32(from, "topK", &sampling->top_k));
  QUIRE_TRY(read_float(from, "topP", &sampling->top_p));
  QUIRE_TRY(read_float(from, "minP", &sampling->min_p));
  QUIRE_TRY(read_float(from, "presencePenalty", &sampling->presence_penalty));
  QUIRE_TRY(read_float(from, "frequencyPenalty", &sampling->frequency_penalty));
  QUIRE_TRY(read_float(from, "repetitionPenalty", &sampling->repetition_penalty));
  QUIRE_TRY(read_uint64(from, "seed", &sampling->seed));
  QUIRE_TRY(read_int32(from, "topLogprobs", &sampling->top_logprobs));
  QUIRE_TRY(read_int32(from, "minTokens", &sampling->min_tokens));
  QUIRE_TRY(read_int32s(from, "stopTokenIds", &sampling->stop_token_ids));
  QUIRE_TRY(read_int32s(from, "biasTokenIds", &sampling->bias_token_ids));
  return read_floats(from, "biasValues", &sampling->bias_values);
}

Napi::Value plan_to_js(Napi::Env env, const MemoryPlan& plan) {
  const auto number = [env](int64_t value) {
    return Napi::Number::New(env, static_cast<double>(value));
  };
  Napi::Object object = Napi::Object::New(env);
  object.Set("weightBytes", number(plan.weight_bytes));
  object.Set("workspaceBytes", number(plan.workspace_bytes));
  object.Set("samplerBytes", number(plan.sampler_bytes));
  object.Set("kvBlockBytes", number(plan.kv_block_bytes));
  object.Set("blockCount", number(plan.block_count));
  object.Set("totalBytes", number(plan.total_bytes));
  object.Set("availableBytes", number(plan.available_bytes));
  return object;
}

Status check_length(const char* name, int64_t length, int64_t needed) {
  if (length >= needed) return {};
  return {Code::kInvalidArgument, std::string(name) + " has " + std::to_string(length) +
                                      " elements, this call needs " + std::to_string(needed)};
}

void throw_unless_ok(const Napi::CallbackInfo& info, const Status& status) {
  if (!status.ok()) throw_status(info.Env(), status);
}

}  // namespace

Napi::Function DeviceObject::constructor(Napi::Env env) {
  return DefineClass(env, "Device",
                     {
                         InstanceMethod("plan", &DeviceObject::plan),
                         InstanceMethod("description", &DeviceObject::description),
                         InstanceMethod("openRow", &DeviceObject::open_row),
                         InstanceMethod("setBlocks", &DeviceObject::set_blocks),
                         InstanceMethod("submit", &DeviceObject::submit),
                         InstanceMethod("wait", &DeviceObject::wait),
                         InstanceMethod("close", &DeviceObject::close),
                     });
}

DeviceObject::DeviceObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceObject>(info) {
  throw_unless_ok(info, try_open(info));
}

Status DeviceObject::try_open(const Napi::CallbackInfo& info) {
  Model model;
  DeviceOptions options;
  Span<int64_t> progress;
  QUIRE_TRY(model_from_js(info[0], &model));
  QUIRE_TRY(read_options(info[1], &options));
  QUIRE_TRY(as_int64s(info[2], "progress", &progress));
  QUIRE_TRY(check_length("progress", progress.size, 2));
  return Device::open(std::move(model), options, progress.data, &device_);
}

Status DeviceObject::check_open() const {
  return device_ == nullptr ? Status(Code::kInvalidArgument, "the device is closed") : Status();
}

Napi::Value DeviceObject::plan(const Napi::CallbackInfo& info) {
  const Status status = check_open();
  throw_unless_ok(info, status);
  return status.ok() ? plan_to_js(info.Env(), device_->memory_plan()) : info.Env().Undefined();
}

Napi::Value DeviceObject::description(const Napi::CallbackInfo& info) {
  const Status status = check_open();
  throw_unless_ok(info, status);
  if (!status.ok()) return info.Env().Undefined();
  return Napi::String::New(info.Env(), device_->description());
}

void DeviceObject::open_row(const Napi::CallbackInfo& info) {
  throw_unless_ok(info, try_open_row(info));
}

Status DeviceObject::try_open_row(const Napi::CallbackInfo& info) {
  int32_t row = 0;
  RowSampling sampling;
  Span<int32_t> token_ids;
  int32_t prompt_length = 0;
  QUIRE_TRY(check_open());
  QUIRE_TRY(as_int32(info[0], "row", &row));
  QUIRE_TRY(read_sampling(info[1], &sampling));
  QUIRE_TRY(as_int32s(info[2], "tokenIds", &token_ids));
  QUIRE_TRY(as_int32(info[3], "promptLength", &prompt_length));
  if (token_ids.size > device_->limits().max_model_len) {
    return {Code::kInvalidArgument, std::to_string(token_ids.size) +
                                        " tokens, the longest request has " +
                                        std::to_string(device_->limits().max_model_len)};
  }
  return device_->open_row(row, sampling, token_ids.data, static_cast<int32_t>(token_ids.size),
                           prompt_length);
}

void DeviceObject::set_blocks(const Napi::CallbackInfo& info) {
  throw_unless_ok(info, try_set_blocks(info));
}

Status DeviceObject::try_set_blocks(const Napi::CallbackInfo& info) {
  int32_t row = 0;
  int32_t first_index = 0;
  Span<int32_t> blocks;
  QUIRE_TRY(check_open());
  QUIRE_TRY(as_int32(info[0], "row", &row));
  QUIRE_TRY(as_int32(info[1], "firstIndex", &first_index));
  QUIRE_TRY(as_int32s(info[2], "blocks", &blocks));
  return device_->set_blocks(row, first_index, blocks.data,
                             static_cast<int32_t>(std::min<int64_t>(blocks.size, INT32_MAX)));
}

void DeviceObject::submit(const Napi::CallbackInfo& info) {
  throw_unless_ok(info, try_submit(info));
}

Status DeviceObject::try_submit(const Napi::CallbackInfo& info) {
  int32_t chunk_count = 0;
  int32_t token_count = 0;
  Span<int32_t> rows, starts, counts, token_ids;
  Span<uint8_t> flags;
  QUIRE_TRY(check_open());
  QUIRE_TRY(as_int32(info[0], "chunkCount", &chunk_count));
  QUIRE_TRY(as_int32(info[1], "tokenCount", &token_count));
  QUIRE_TRY(as_int32s(info[2], "rows", &rows));
  QUIRE_TRY(as_int32s(info[3], "starts", &starts));
  QUIRE_TRY(as_int32s(info[4], "counts", &counts));
  QUIRE_TRY(as_uint8s(info[5], "flags", &flags));
  QUIRE_TRY(as_int32s(info[6], "tokenIds", &token_ids));
  QUIRE_TRY(check_length("rows", rows.size, chunk_count));
  QUIRE_TRY(check_length("starts", starts.size, chunk_count));
  QUIRE_TRY(check_length("counts", counts.size, chunk_count));
  QUIRE_TRY(check_length("flags", flags.size, chunk_count));
  QUIRE_TRY(check_length("tokenIds", token_ids.size, token_count));
  return device_->submit(
      {chunk_count, token_count, rows.data, starts.data, counts.data, flags.data, token_ids.data});
}

void DeviceObject::wait(const Napi::CallbackInfo& info) { throw_unless_ok(info, try_wait(info)); }

Status DeviceObject::try_wait(const Napi::CallbackInfo& info) {
  Span<int32_t> token_ids, top_token_ids;
  Span<float> logprobs, top_logprobs, summary;
  QUIRE_TRY(check_open());
  const int64_t rows = device_->limits().max_rows;
  QUIRE_TRY(as_int32s(info[0], "tokenIds", &token_ids));
  QUIRE_TRY(as_floats(info[1], "logprobs", &logprobs));
  QUIRE_TRY(as_int32s(info[2], "topTokenIds", &top_token_ids));
  QUIRE_TRY(as_floats(info[3], "topLogprobs", &top_logprobs));
  QUIRE_TRY(as_floats(info[4], "summary", &summary));
  QUIRE_TRY(check_length("tokenIds", token_ids.size, rows));
  QUIRE_TRY(check_length("logprobs", logprobs.size, rows));
  QUIRE_TRY(check_length("topTokenIds", top_token_ids.size, rows * kMaxTopLogprobs));
  QUIRE_TRY(check_length("topLogprobs", top_logprobs.size, rows * kMaxTopLogprobs));
  QUIRE_TRY(check_length("summary", summary.size, 2));
  StepResult result;
  QUIRE_TRY(device_->wait(&result));
  std::copy_n(result.token_ids, result.sampled_count, token_ids.data);
  std::copy_n(result.logprobs, result.sampled_count, logprobs.data);
  const int64_t top_count = int64_t{result.sampled_count} * kMaxTopLogprobs;
  std::copy_n(result.top_token_ids, top_count, top_token_ids.data);
  std::copy_n(result.top_logprobs, top_count, top_logprobs.data);
  summary.data[0] = static_cast<float>(result.sampled_count);
  summary.data[1] = static_cast<float>(result.step_ms);
  return {};
}

void DeviceObject::close(const Napi::CallbackInfo&) { device_.reset(); }

Napi::Value plan_device(const Napi::CallbackInfo& info) {
  Model model;
  DeviceOptions options;
  MemoryPlan plan;
  const auto try_plan = [&]() -> Status {
    QUIRE_TRY(model_from_js(info[0], &model));
    QUIRE_TRY(read_options(info[1], &options));
    return Device::plan(model, options, &plan);
  };
  const Status status = try_plan();
  throw_unless_ok(info, status);
  return status.ok() ? plan_to_js(info.Env(), plan) : info.Env().Undefined();
}

}  // namespace quire::addon
