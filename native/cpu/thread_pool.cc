#include "cpu/thread_pool.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace quire::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than the gap between two operations of a step, shorter than what a sleeper costs to wake.
constexpr std::chrono::microseconds kSpinTime{30};
// Waits that go straight to sleep after a preemption was seen.
constexpr uint32_t kWaitsWithoutSpin = 200;
constexpr int kPausesPerClockRead = 16;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

long preemption_count() {
  rusage usage{};
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

uint32_t run_of(uint64_t cursor) { return static_cast<uint32_t>(cursor >> 32); }
int32_t task_of(uint64_t cursor) { return static_cast<int32_t>(cursor & 0xffffffff); }
uint64_t cursor_at(uint32_t run, int32_t task) {
  return static_cast<uint64_t>(run) << 32 | static_cast<uint32_t>(task);
}

// The next task of a run that has none left, whatever is written to the pool's fields meanwhile.
constexpr int32_t kClosed = std::numeric_limits<int32_t>::max();

}  // namespace

class ThreadPool::SpinBudget {
 public:
  // Spins until done() or until the time is up; the result is done().
  template <class Done>
  bool spin(const Done& done) {
    if (done()) return true;
    if (waits_without_spin_ > 0) {
      --waits_without_spin_;
      return false;
    }
    const Clock::time_point end = Clock::now() + kSpinTime;
    do {
      for (int i = 0; i < kPausesPerClockRead; ++i) {
        pause_briefly();
        if (done()) return true;
      }
    } while (Clock::now() < end);
    const long preemptions = preemption_count();
    if (preemptions != preemptions_) waits_without_spin_ = kWaitsWithoutSpin;
    preemptions_ = preemptions;
    return false;
  }

 private:
  uint32_t waits_without_spin_ = 0;
  long preemptions_ = 0;
};

ThreadPool::ThreadPool(int32_t thread_count) : caller_budget_(new SpinBudget) {
  const int32_t worker_count = std::clamp(thread_count, 1, kMaxThreads) - 1;
  workers_.reserve(worker_count);
  for (int32_t i = 0; i < worker_count; ++i) workers_.emplace_back([this, i] { worker(i + 1); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_.store(true);
  }
  run_started_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

// After this, a thread that had announced its sleep either is asleep, and can be notified, or will
// see what was stored before.
void ThreadPool::pass_through_lock() { std::lock_guard<std::mutex> lock(mutex_); }

void ThreadPool::run_tasks(int32_t task_count, Call call, const void* function) {
  if (task_count <= 0) return;
  // A late thread of the last run may still be about to claim. Closing that run first makes its
  // compare-and-swap fail if it has seen any of the fields below.
  const uint32_t last = run_of(cursor_.load());
  cursor_.store(cursor_at(last, kClosed));
  unfinished_.store(task_count);
  task_count_.store(task_count);
  call_.store(call);
  function_.store(function);
  const uint32_t run = last + 1;
  cursor_.store(cursor_at(run, 0));
  if (task_count > 1 && sleeping_.load() > 0) {
    pass_through_lock();
    run_started_.notify_all();
  }
  finish(work_on(run, 0));
  wait_for_tasks();
}

// Claims and does tasks of `run` until none is left. Returns how many it did.
int32_t ThreadPool::work_on(uint32_t run, int32_t thread) {
  int32_t done = 0;
  uint64_t cursor = cursor_.load();
  while (run_of(cursor) == run) {
    const Call call = call_.load();
    const void* function = function_.load();
    const int32_t task = task_of(cursor);
    if (task >= task_count_.load()) break;
    if (!cursor_.compare_exchange_weak(cursor, cursor + 1)) continue;
    call(function, task, thread);
    ++done;
    cursor = cursor_.load();
  }
  return done;
}

// A run stays current while any of its tasks is unfinished, so `done` > 0 counts for this run.
void ThreadPool::finish(int32_t done) {
  if (done == 0 || unfinished_.fetch_sub(done) != done) return;
  if (!caller_sleeps_.load()) return;
  pass_through_lock();
  run_finished_.notify_one();
}

void ThreadPool::wait_for_tasks() {
  const auto finished = [this] { return unfinished_.load() == 0; };
  if (caller_budget_->spin(finished)) return;
  caller_sleeps_.store(true);
  {
    std::unique_lock<std::mutex> lock(mutex_);
    run_finished_.wait(lock, finished);
  }
  caller_sleeps_.store(false);
}

uint32_t ThreadPool::wait_for_run(uint32_t last, SpinBudget& budget) {
  const auto started = [this, last] { return run_of(cursor_.load()) != last || stopping_.load(); };
  if (!budget.spin(started)) {
    sleeping_.fetch_add(1);
    {
      std::unique_lock<std::mutex> lock(mutex_);
      run_started_.wait(lock, started);
    }
    sleeping_.fetch_sub(1);
  }
  return run_of(cursor_.load());
}

void ThreadPool::worker(int32_t thread) {
  SpinBudget budget;
  uint32_t run = 0;
  while (!stopping_.load()) {
    run = wait_for_run(run, budget);
    finish(work_on(run, thread));
  }
}

}  // namespace quire::cpu
