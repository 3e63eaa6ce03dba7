#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace quire {

// One thread per rank, rank 0 being the caller: ranks meet inside an operation, so they must run at
// once. A team of one starts no thread.
class RankTeam {
 public:
  // `work(rank)` is what every run() does on each rank.
  RankTeam(int32_t rank_count, std::function<void(int32_t)> work);
  ~RankTeam();
  RankTeam(const RankTeam&) = delete;
  RankTeam& operator=(const RankTeam&) = delete;

  // Works on all ranks; returns when the last is done.
  void run();

 private:
  void follow(int32_t rank);

  const std::function<void(int32_t)> work_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t run_ = 0;
  int32_t unfinished_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace quire
