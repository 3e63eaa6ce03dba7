#pragma once

#include <string>
#include <utility>

namespace quire {

enum class Code {
  kOk,
  kInvalidArgument,
  kOutOfMemory,
  kUnavailable,
  kIo,
  kDeviceFailed,
};

// The outcome of everything that can fail. Nothing in native/ throws.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// Returns from the calling function when `expression` failed.
#define QUIRE_TRY(expression)                                                  \
  do {                                                                         \
    if (::quire::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

}  // namespace quire
