#include <napi.h>

#include "addon/device.h"

// Registered once per JavaScript context, so every worker thread has a class of its own and nothing
// is shared between them.
static Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("Device", quire::addon::DeviceObject::constructor(env));
  exports.Set("plan", Napi::Function::New(env, quire::addon::plan_device, "plan"));
  return exports;
}

NODE_API_MODULE(quire, init)
