#include "cpu/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <new>
#include <thread>
#include <vector>

#include "common/testing.h"
#include "cpu/available_threads.h"
#include "cpu/kernels.h"

namespace {

std::atomic<int64_t> allocation_count{0};

}  // namespace

void* operator new(size_t bytes) {
  ++allocation_count;
  if (void* memory = std::malloc(bytes)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace quire::cpu {
namespace {

double process_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

TEST(every_task_runs_once_whatever_the_number_of_threads) {
  for (int32_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.thread_count(), threads);
    for (int32_t task_count : {0, 1, 2, 7, 64, 1000}) {
      std::vector<int32_t> calls(task_count);
      pool.run(task_count, [&](int32_t task, int32_t) { ++calls[task]; });
      for (int32_t count : calls) EXPECT_EQ(count, 1);
    }
  }
}

TEST(back_to_back_runs_never_mix_their_tasks) {
  ThreadPool pool(4);
  for (int32_t run = 0; run < 20'000; ++run) {
    const int32_t task_count = 1 + run % 5;
    int32_t written[5] = {-1, -1, -1, -1, -1};
    pool.run(task_count, [&written, run](int32_t task, int32_t) { written[task] = run; });
    for (int32_t task = 0; task < 5; ++task) {
      EXPECT_EQ(written[task], task < task_count ? run : -1);
    }
  }
}

TEST(a_late_thread_claims_no_task_beyond_a_run) {
  ThreadPool pool(3);
  std::atomic<int32_t> stray{0};
  for (int32_t run = 0; run < 100'000; ++run) {
    const int32_t task_count = run % 2 == 0 ? 2 : 50;
    int32_t done[50] = {};
    pool.run(task_count, [&](int32_t task, int32_t) {
      if (task >= task_count || done[task]++ != 0) ++stray;
    });
  }
  EXPECT_EQ(stray.load(), 0);
}

TEST(a_thread_number_is_in_one_call_at_a_time) {
  ThreadPool pool(4);
  std::vector<std::atomic<int32_t>> inside(pool.thread_count());
  std::atomic<int32_t> overlaps{0}, out_of_range{0};
  for (int32_t run = 0; run < 200; ++run) {
    pool.run(32, [&](int32_t, int32_t thread) {
      if (thread < 0 || thread >= 4) {
        ++out_of_range;
        return;
      }
      if (inside[thread].fetch_add(1) != 0) ++overlaps;
      std::this_thread::yield();
      inside[thread].fetch_sub(1);
    });
  }
  EXPECT_EQ(overlaps.load(), 0);
  EXPECT_EQ(out_of_range.load(), 0);
}

TEST(other_threads_take_tasks_while_the_caller_is_busy) {
  ThreadPool pool(2);
  std::atomic<bool> second_ran{false};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  pool.run(2, [&](int32_t task, int32_t) {
    if (task == 1) second_ran = true;
    while (!second_ran && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  EXPECT(second_ran.load());
}

TEST(idle_threads_sleep) {
  ThreadPool pool(4);
  pool.run(4, [](int32_t, int32_t) {});
  const double before = process_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LE(process_seconds() - before, 0.02);
}

TEST(a_run_allocates_nothing) {
  ThreadPool pool(3);
  std::atomic<int32_t> calls{0};
  pool.run(3, [&](int32_t, int32_t) { ++calls; });
  const int64_t before = allocation_count;
  for (int32_t run = 0; run < 100; ++run) pool.run(7, [&](int32_t, int32_t) { ++calls; });
  EXPECT_EQ(allocation_count - before, 0);
  EXPECT_EQ(calls.load(), 703);
}

TEST(the_thread_count_is_clamped) {
  EXPECT_EQ(ThreadPool(0).thread_count(), 1);
  EXPECT_EQ(ThreadPool(-3).thread_count(), 1);
  EXPECT_EQ(ThreadPool(100'000).thread_count(), ThreadPool::kMaxThreads);
}

// A directory that stands for a machine's root, removed at the end.
class FakeRoot {
 public:
  FakeRoot() {
    char name[] = "/tmp/quire-cgroup-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }

  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = path_ + "/sys/fs/cgroup" + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(the_cgroup_quota_is_rounded_up_to_threads) {
  FakeRoot v2;
  v2.write("/cpu.max", "150000 100000\n");
  EXPECT_EQ(cgroup_quota_threads("0::/\n", v2.path()), 2);
  v2.write("/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_quota_threads("0::/\n", v2.path()), 0);
  v2.write("/cpu.max", "5000 100000\n");
  EXPECT_EQ(cgroup_quota_threads("0::/\n", v2.path()), 1);

  FakeRoot v1;
  v1.write("/cpu/cpu.cfs_quota_us", "300000");
  v1.write("/cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(cgroup_quota_threads("3:cpuset:/\n2:cpu,cpuacct:/\n", v1.path()), 3);
  EXPECT_EQ(cgroup_quota_threads("3:cpuset:/\n", v1.path()), 0);
  v1.write("/cpu/cpu.cfs_quota_us", "-1");
  EXPECT_EQ(cgroup_quota_threads("2:cpu,cpuacct:/\n", v1.path()), 0);
}

TEST(the_tightest_cgroup_on_the_way_to_the_root_counts) {
  FakeRoot root;
  root.write("/pods/cpu.max", "200000 100000\n");
  root.write("/pods/one/cpu.max", "400000 100000\n");
  EXPECT_EQ(cgroup_quota_threads("0::/pods/one\n", root.path()), 2);
  root.write("/pods/one/cpu.max", "100000 100000\n");
  EXPECT_EQ(cgroup_quota_threads("0::/pods/one\n", root.path()), 1);
  EXPECT_EQ(cgroup_quota_threads("0::/elsewhere\n", root.path()), 0);
  EXPECT_EQ(cgroup_quota_threads("garbage\n", root.path()), 0);
}

TEST(at_least_one_thread_is_available) { EXPECT_LE(1, available_threads()); }

}  // namespace
}  // namespace quire::cpu

int main() { return quire::testing::run(); }
