#include "checkpoint/weights.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

namespace quire {
namespace {

constexpr int64_t kPieceBytes = int64_t{2} << 20;
// Pieces begin at whole panels of every backend.
constexpr int32_t kRowGrain = 64;

class OpenFiles {
 public:
  OpenFiles() = default;
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;
  ~OpenFiles() {
    for (const int descriptor : descriptors_) close(descriptor);
  }

  Status open_all(const std::vector<std::string>& files) {
    for (const std::string& file : files) {
      const int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
      if (descriptor < 0) return {Code::kIo, file + ": " + std::strerror(errno)};
      descriptors_.push_back(descriptor);
    }
    return {};
  }

  int operator[](int32_t file) const { return descriptors_[file]; }

 private:
  std::vector<int> descriptors_;
};

// Some rows of one load, small enough for a thread's buffer.
struct Piece {
  const WeightLoad* load;
  const Backend* backend;
  int32_t row_begin;  // within the load
  int32_t row_count;

  int64_t source_row_bytes() const { return row_bytes(load->slice->type, load->slice->columns); }
  int64_t bytes() const { return source_row_bytes() * row_count; }
  int64_t offset() const {
    return load->slice->offset + source_row_bytes() * (load->row_begin + row_begin);
  }
};

std::vector<Piece> cut_into_pieces(const std::vector<RankWeights>& ranks) {
  std::vector<Piece> pieces;
  for (const RankWeights& rank : ranks) {
    for (const WeightLoad& load : *rank.loads) {
      const int64_t bytes = row_bytes(load.slice->type, load.slice->columns);
      const auto rows = static_cast<int32_t>(
          std::max<int64_t>(kRowGrain, kPieceBytes / bytes / kRowGrain * kRowGrain));
      for (int32_t row = 0; row < load.matrix.rows; row += rows) {
        pieces.push_back({&load, rank.backend, row, std::min(rows, load.matrix.rows - row)});
      }
    }
  }
  // In the order of the files, so that disks read ahead.
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    const int32_t file_a = a.load->slice->file;
    const int32_t file_b = b.load->slice->file;
    return file_a != file_b ? file_a < file_b : a.offset() < b.offset();
  });
  return pieces;
}

Status read_fully(int descriptor, int64_t offset, int64_t bytes, std::byte* buffer,
                  const std::string& what) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t count =
        pread(descriptor, buffer + done, static_cast<size_t>(bytes - done), offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return {Code::kIo,
              what + " at offset " + std::to_string(offset) + ": " + std::strerror(errno)};
    }
    if (count == 0) {
      return {Code::kIo, what + ": the file ends at byte " + std::to_string(offset + done) +
                             ", the tensor needs bytes " + std::to_string(offset) + " to " +
                             std::to_string(offset + bytes)};
    }
    done += count;
  }
  return {};
}

// Moves the columns that this rank wants to the front, row after row.
void compact_columns(const Piece& piece, std::byte* buffer) {
  const WeightLoad& load = *piece.load;
  const int64_t wanted = row_bytes(load.slice->type, load.matrix.columns);
  const int64_t skipped = row_bytes(load.slice->type, load.column_begin);
  for (int32_t row = 0; row < piece.row_count; ++row) {
    std::memmove(buffer + row * wanted, buffer + row * piece.source_row_bytes() + skipped,
                 static_cast<size_t>(wanted));
  }
}

void unpack(const Piece& piece, std::byte* buffer) {
  const WeightLoad& load = *piece.load;
  if (load.matrix.columns != load.slice->columns) compact_columns(piece, buffer);
  if (load.vector != nullptr) {
    piece.backend->load_vector(load.slice->type, buffer, load.matrix.columns, load.vector);
  } else {
    piece.backend->pack(load.matrix, load.slice->type, buffer, piece.row_begin, piece.row_count);
  }
}

void report(LoadProgress progress, int32_t index, int64_t bytes) {
  if (progress != nullptr) __atomic_add_fetch(progress + index, bytes, __ATOMIC_RELAXED);
}

}  // namespace

Status load_weights(const std::vector<std::string>& files, const std::vector<RankWeights>& ranks,
                    int32_t thread_count, LoadProgress progress) {
  OpenFiles descriptors;
  QUIRE_TRY(descriptors.open_all(files));
  const std::vector<Piece> pieces = cut_into_pieces(ranks);
  int64_t buffer_bytes = 0;
  for (const Piece& piece : pieces) {
    buffer_bytes = std::max(buffer_bytes, piece.bytes());
    report(progress, 1, piece.bytes());
  }

  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  Status first_failure;
  const auto work = [&] {
    std::vector<std::byte> buffer(static_cast<size_t>(buffer_bytes));
    for (size_t i = next++; i < pieces.size() && !failed; i = next++) {
      const Piece& piece = pieces[i];
      const WeightSlice& slice = *piece.load->slice;
      Status status = read_fully(descriptors[slice.file], piece.offset(), piece.bytes(),
                                 buffer.data(), files[slice.file] + ", tensor " + slice.name);
      if (!status.ok()) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true)) first_failure = std::move(status);
        return;
      }
      unpack(piece, buffer.data());
      report(progress, 0, piece.bytes());
    }
  };
  std::vector<std::thread> threads;
  for (int32_t i = 1; i < thread_count; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return first_failure;
}

}  // namespace quire
