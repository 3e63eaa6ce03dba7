#pragma once

#include <napi.h>

#include <memory>

#include "core/device.h"

namespace quire::addon {

// A device as a JavaScript object. Its functions block the thread that calls them and throw what
// errors.h says; only the thread that opened it may use it.
class DeviceObject : public Napi::ObjectWrap<DeviceObject> {
 public:
  static Napi::Function constructor(Napi::Env env);

  // new Device(model, options, progress)
  explicit DeviceObject(const Napi::CallbackInfo& info);

 private:
  // plan(): MemoryPlan, description(): string
  Napi::Value plan(const Napi::CallbackInfo& info);
  Napi::Value description(const Napi::CallbackInfo& info);
  // openRow(row, sampling, tokenIds, promptLength)
  void open_row(const Napi::CallbackInfo& info);
  // setBlocks(row, firstIndex, blocks)
  void set_blocks(const Napi::CallbackInfo& info);
  // submit(chunkCount, tokenCount, rows, starts, counts, flags, tokenIds)
  void submit(const Napi::CallbackInfo& info);
  // wait(tokenIds, logprobs, topTokenIds, topLogprobs, [sampledCount, stepMs] as Float32Array)
  void wait(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Status try_open(const Napi::CallbackInfo& info);
  Status try_open_row(const Napi::CallbackInfo& info);
  Status try_set_blocks(const Napi::CallbackInfo& info);
  Status try_submit(const Napi::CallbackInfo& info);
  Status try_wait(const Napi::CallbackInfo& info);
  Status check_open() const;

  std::unique_ptr<Device> device_;
};

// plan(model, options): MemoryPlan
Napi::Value plan_device(const Napi::CallbackInfo& info);

}  // namespace quire::addon
