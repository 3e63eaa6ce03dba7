#include "addon/errors.h"

namespace quire::addon {
namespace {

const char* code_name(Code code) {
  switch (code) {
    case Code::kOk: return "OK";
    case Code::kInvalidArgument: return "INVALID_ARGUMENT";
    case Code::kOutOfMemory: return "OUT_OF_MEMORY";
    case Code::kUnavailable: return "UNAVAILABLE";
    case Code::kIo: return "IO";
    case Code::kDeviceFailed: return "DEVICE_FAILED";
  }
  return "DEVICE_FAILED";
}

}  // namespace

void throw_status(Napi::Env env, const Status& status) {
  Napi::Error error = Napi::Error::New(env, status.message());
  error.Set("code", Napi::String::New(env, code_name(status.code())));
  error.ThrowAsJavaScriptException();
}

}  // namespace quire::addon
