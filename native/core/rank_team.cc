#include "core/rank_team.h"

#include <utility>

namespace quire {

RankTeam::RankTeam(int32_t rank_count, std::function<void(int32_t)> work) : work_(std::move(work)) {
  for (int32_t rank = 1; rank < rank_count; ++rank) {
    threads_.emplace_back([this, rank] { follow(rank); });
  }
}

RankTeam::~RankTeam() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void RankTeam::run() {
  if (threads_.empty()) {
    work_(0);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++run_;
    unfinished_ = static_cast<int32_t>(threads_.size());
  }
  changed_.notify_all();
  work_(0);
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return unfinished_ == 0; });
}

void RankTeam::follow(int32_t rank) {
  uint64_t last = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || run_ != last; });
    if (stopping_) return;
    last = run_;
    lock.unlock();
    work_(rank);
    lock.lock();
    if (--unfinished_ == 0) changed_.notify_all();
  }
}

}  // namespace quire
