#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/status.h"

// Checked reading of JavaScript values. Each function fails with kInvalidArgument that names the
// field when the value is missing or of another type, or does not fit.
namespace quire::addon {

Status read_object(Napi::Object from, const char* field, Napi::Object* value);
Status read_array(Napi::Object from, const char* field, Napi::Array* value);
Status read_string(Napi::Object from, const char* field, std::string* value);
Status read_float(Napi::Object from, const char* field, float* value);
// Whole numbers.
Status read_int32(Napi::Object from, const char* field, int32_t* value);
Status read_int64(Napi::Object from, const char* field, int64_t* value);
Status read_uint64(Napi::Object from, const char* field, uint64_t* value);  // a bigint
Status read_int32s(Napi::Object from, const char* field, std::vector<int32_t>* value);
Status read_floats(Napi::Object from, const char* field, std::vector<float>* value);

// A typed array's memory, valid as long as the JavaScript call lasts.
template <class T>
struct Span {
  T* data = nullptr;
  int64_t size = 0;
};

Status as_int32s(Napi::Value value, const char* name, Span<int32_t>* span);
Status as_uint8s(Napi::Value value, const char* name, Span<uint8_t>* span);
Status as_floats(Napi::Value value, const char* name, Span<float>* span);
Status as_int64s(Napi::Value value, const char* name, Span<int64_t>* span);
Status as_int32(Napi::Value value, const char* name, int32_t* number);

}  // namespace quire::addon
