#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "models/backend.h"

namespace quire::cpu {

// The collectives of ranks that are threads of one process. Every rank calls each operation, in the
// same order. A group of one does nothing.
class RankGroup {
 public:
  explicit RankGroup(int32_t rank_count) : views_(rank_count) {}

  // Every view becomes the sum over ranks, added in the order of ranks.
  void all_reduce(int32_t rank, View view) {
    const auto rank_count = static_cast<int32_t>(views_.size());
    if (rank_count == 1) return;
    publish(rank, view);
    const int32_t begin = view.columns * rank / rank_count;
    const int32_t end = view.columns * (rank + 1) / rank_count;
    for (int32_t row = 0; row < view.rows; ++row) {
      for (int32_t column = begin; column < end; ++column) {
        float sum = *at(views_[0], row, column);
        for (int32_t other = 1; other < rank_count; ++other) sum += *at(views_[other], row, column);
        for (const View& target : views_) *at(target, row, column) = sum;
      }
    }
    wait();
  }

  // Copies every rank's `local` into rank 0's `full` from column `first_column` on.
  void gather_columns(int32_t rank, View local, int32_t first_column, View full) {
    if (views_.size() == 1) return;
    publish(rank, full);
    for (int32_t row = 0; row < local.rows; ++row) {
      for (int32_t column = 0; column < local.columns; ++column) {
        *at(views_[0], row, first_column + column) = *at(local, row, column);
      }
    }
    wait();
  }

 private:
  static float* at(const View& view, int32_t row, int32_t column) {
    return reinterpret_cast<float*>(view.data) + row * view.stride + column;
  }

  void publish(int32_t rank, View view) {
    views_[rank] = view;
    wait();
  }

  // Returns when all ranks have come.
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const uint64_t round = round_;
    if (++arrived_ == static_cast<int32_t>(views_.size())) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return round_ != round; });
  }

  std::vector<View> views_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int32_t arrived_ = 0;
  uint64_t round_ = 0;
};

}  // namespace quire::cpu
