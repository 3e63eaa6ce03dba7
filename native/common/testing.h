#pragma once

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "common/status.h"

// A test program: TEST functions that register themselves, EXPECT macros that count failures and go
// on, and run(), whose result is the exit status of main. A program without tests fails.
namespace quire::testing {

// Exit status by which ctest knows that a program found nothing to run on (no device).
constexpr int kSkipped = 77;

struct Test {
  const char* name;
  void (*function)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline int& failure_count() {
  static int count = 0;
  return count;
}

// Prints at most this many failures of one program: a broken kernel fails in every element.
constexpr int kPrintedFailures = 40;

inline void fail(const char* file, int line, const std::string& message) {
  if (++failure_count() <= kPrintedFailures) {
    std::fprintf(stderr, "%s:%d: %s\n", file, line, message.c_str());
  }
}

struct Registration {
  Registration(const char* name, void (*function)()) { tests().push_back({name, function}); }
};

template <class T>
std::string show(const T& value) {
  std::ostringstream text;
  text.precision(9);
  text << value;
  return text.str();
}

template <class A, class B>
void expect_eq(const A& a, const B& b, const char* a_text, const char* b_text, const char* file,
               int line) {
  if (a == b) return;
  fail(file, line,
       std::string("expected ") + a_text + " == " + b_text + ": " + show(a) + " and " + show(b));
}

template <class A, class B>
void expect_le(const A& a, const B& b, const char* a_text, const char* b_text, const char* file,
               int line) {
  if (a <= b) return;  // false for NaN
  fail(file, line,
       std::string("expected ") + a_text + " <= " + b_text + ": " + show(a) + " and " + show(b));
}

// Runs every registered test. Returns the exit status of the program.
inline int run() {
  for (const Test& test : tests()) {
    const int before = failure_count();
    test.function();
    std::printf("%s %s\n", failure_count() == before ? "ok  " : "FAIL", test.name);
  }
  if (tests().empty()) std::fprintf(stderr, "no tests\n");
  return failure_count() == 0 && !tests().empty() ? 0 : 1;
}

}  // namespace quire::testing

#define TEST(name)                                                                 \
  static void name();                                                              \
  static const ::quire::testing::Registration registration_of_##name{#name, name}; \
  static void name()

#define EXPECT(condition)                                                                 \
  do {                                                                                    \
    if (!(condition)) ::quire::testing::fail(__FILE__, __LINE__, "expected " #condition); \
  } while (false)
#define EXPECT_EQ(a, b) ::quire::testing::expect_eq(a, b, #a, #b, __FILE__, __LINE__)
#define EXPECT_LE(a, b) ::quire::testing::expect_le(a, b, #a, #b, __FILE__, __LINE__)
#define EXPECT_OK(expression)                                                           \
  do {                                                                                  \
    if (::quire::Status status_ = (expression); !status_.ok()) {                        \
      ::quire::testing::fail(__FILE__, __LINE__, #expression ": " + status_.message()); \
    }                                                                                   \
  } while (false)
