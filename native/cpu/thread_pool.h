#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace quire::cpu {

// A fixed set of threads that share the tasks of one run at a time. The thread that calls run() is
// one of them, so a pool of one starts no thread.
//
// Tasks are claimed one by one from an atomic cursor, and a run ends when its tasks are done, not
// when every thread has come: a thread that the operating system holds back costs only the task it
// was in. Between runs a thread spins for a few microseconds, then sleeps. Spinning stops, for a
// while, after it was seen to take time that others wanted (the thread was preempted).
class ThreadPool {
 public:
  static constexpr int32_t kMaxThreads = 256;

  // Starts thread_count - 1 threads; thread_count is clamped to [1, kMaxThreads].
  explicit ThreadPool(int32_t thread_count);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t thread_count() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // Calls function(task, thread) for every task in [0, task_count), and returns when all are done;
  // what they wrote is then visible to the caller. `thread` is in [0, thread_count()) and is not in
  // two calls at once, so it may choose a scratch buffer; 0 is the caller. Allocates nothing. Only
  // one thread may call run(), and not from inside a task.
  template <class Function>
  void run(int32_t task_count, const Function& function) {
    run_tasks(
        task_count,
        [](const void* f, int32_t task, int32_t thread) {
          (*static_cast<const Function*>(f))(task, thread);
        },
        &function);
  }

 private:
  using Call = void (*)(const void* function, int32_t task, int32_t thread);

  // How long a thread may spin before it sleeps.
  class SpinBudget;

  void run_tasks(int32_t task_count, Call call, const void* function);
  int32_t work_on(uint32_t run, int32_t thread);
  void finish(int32_t done);
  void pass_through_lock();
  void wait_for_tasks();
  uint32_t wait_for_run(uint32_t last, SpinBudget& budget);
  void worker(int32_t thread);

  // The number of the run in the upper half, its next task in the lower. A task is claimed by one
  // compare-and-swap of both, so a late thread cannot claim with what it read of an earlier run.
  std::atomic<uint64_t> cursor_{0};
  std::atomic<int32_t> task_count_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<const void*> function_{nullptr};
  std::atomic<int32_t> unfinished_{0};

  std::mutex mutex_;
  std::condition_variable run_started_;
  std::condition_variable run_finished_;
  std::atomic<int32_t> sleeping_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
  const std::unique_ptr<SpinBudget> caller_budget_;
};

}  // namespace quire::cpu
