#include "addon/fields.h"

#include <cmath>

namespace quire::addon {
namespace {

Status wrong(const char* name, const char* expected) {
  return {Code::kInvalidArgument, std::string(name) + " is not " + expected};
}

Status as_whole(Napi::Value value, const char* name, double limit, int64_t* number) {
  if (!value.IsNumber()) return wrong(name, "a number");
  const double parsed = value.As<Napi::Number>().DoubleValue();
  if (!(std::fabs(parsed) <= limit) || parsed != std::floor(parsed)) {
    return wrong(name, "a whole number in range");
  }
  *number = static_cast<int64_t>(parsed);
  return {};
}

template <class Array, class T>
Status as_span(Napi::Value value, napi_typedarray_type type, const char* name, const char* expected,
               Span<T>* span) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    return wrong(name, expected);
  }
  Array array = value.As<Array>();
  *span = {reinterpret_cast<T*>(array.Data()), static_cast<int64_t>(array.ElementLength())};
  return {};
}

constexpr double kMaxSafeInteger = 9007199254740991.0;

}  // namespace

Status read_object(Napi::Object from, const char* field, Napi::Object* value) {
  const Napi::Value found = from.Get(field);
  if (!found.IsObject()) return wrong(field, "an object");
  *value = found.As<Napi::Object>();
  return {};
}

Status read_array(Napi::Object from, const char* field, Napi::Array* value) {
  const Napi::Value found = from.Get(field);
  if (!found.IsArray()) return wrong(field, "an array");
  *value = found.As<Napi::Array>();
  return {};
}

Status read_string(Napi::Object from, const char* field, std::string* value) {
  const Napi::Value found = from.Get(field);
  if (!found.IsString()) return wrong(field, "a string");
  *value = found.As<Napi::String>().Utf8Value();
  return {};
}

Status read_float(Napi::Object from, const char* field, float* value) {
  const Napi::Value found = from.Get(field);
  if (!found.IsNumber()) return wrong(field, "a number");
  *value = found.As<Napi::Number>().FloatValue();
  return std::isfinite(*value) ? Status() : wrong(field, "a finite float32");
}

Status read_int32(Napi::Object from, const char* field, int32_t* value) {
  return as_int32(from.Get(field), field, value);
}

Status read_int64(Napi::Object from, const char* field, int64_t* value) {
  return as_whole(from.Get(field), field, kMaxSafeInteger, value);
}

Status read_uint64(Napi::Object from, const char* field, uint64_t* value) {
  const Napi::Value found = from.Get(field);
  if (!found.IsBigInt()) return wrong(field, "a bigint");
  bool lossless = false;
  *value = found.As<Napi::BigInt>().Uint64Value(&lossless);
  return lossless ? Status() : wrong(field, "a bigint of 64 bits without sign");
}

Status read_int32s(Napi::Object from, const char* field, std::vector<int32_t>* value) {
  Span<int32_t> span;
  QUIRE_TRY(as_int32s(from.Get(field), field, &span));
  value->assign(span.data, span.data + span.size);
  return {};
}

Status read_floats(Napi::Object from, const char* field, std::vector<float>* value) {
  Span<float> span;
  QUIRE_TRY(as_floats(from.Get(field), field, &span));
  value->assign(span.data, span.data + span.size);
  return {};
}

Status as_int32s(Napi::Value value, const char* name, Span<int32_t>* span) {
  return as_span<Napi::Int32Array>(value, napi_int32_array, name, "an Int32Array", span);
}

Status as_uint8s(Napi::Value value, const char* name, Span<uint8_t>* span) {
  return as_span<Napi::Uint8Array>(value, napi_uint8_array, name, "a Uint8Array", span);
}

Status as_floats(Napi::Value value, const char* name, Span<float>* span) {
  return as_span<Napi::Float32Array>(value, napi_float32_array, name, "a Float32Array", span);
}

Status as_int64s(Napi::Value value, const char* name, Span<int64_t>* span) {
  return as_span<Napi::BigInt64Array>(value, napi_bigint64_array, name, "a BigInt64Array", span);
}

Status as_int32(Napi::Value value, const char* name, int32_t* number) {
  int64_t whole = 0;
  QUIRE_TRY(as_whole(value, name, INT32_MAX, &whole));
  *number = static_cast<int32_t>(whole);
  return {};
}

}  // namespace quire::addon
