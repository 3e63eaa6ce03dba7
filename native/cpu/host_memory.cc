#include "cpu/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

namespace quire::cpu {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
constexpr int64_t kLeastReserve = int64_t{256} << 20;

// The number after `key` in a file of "key number" lines, or -1.
int64_t read_field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  int64_t value = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    value = std::strtoll(line.c_str() + key.size(), nullptr, 10);
    return value;
  }
  return -1;
}

// The file's number; unlimited when the file is missing or says "max".
int64_t read_limit(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : kUnlimited;
}

// The smallest limit of this process's cgroup and the ones above it, for both cgroup versions.
int64_t cgroup_limit() {
  int64_t limit = kUnlimited;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t controllers = line.find(':');
    const size_t path_begin = line.find(':', controllers + 1);
    if (path_begin == std::string::npos) continue;
    const std::string names = line.substr(controllers + 1, path_begin - controllers - 1);
    const bool unified = names.empty();
    if (!unified && names != "memory") continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const std::string file = unified ? "/memory.max" : "/memory.limit_in_bytes";
    std::string path = line.substr(path_begin + 1);
    for (;;) {
      limit = std::min(limit, read_limit(root + (path == "/" ? "" : path) + file));
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
  }
  return limit;
}

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  return file >> total >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace

Status HostMemory::map(int64_t bytes, HostMemory* memory) {
  if (bytes == 0) return {};
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return {Code::kOutOfMemory,
            "the system refused " + std::to_string(bytes) + " bytes: " + std::strerror(errno)};
  }
  // Huge pages spare address translations; where the system has none, nothing is lost.
  madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  memory->data_ = static_cast<std::byte*>(data);
  memory->bytes_ = bytes;
  return {};
}

HostMemory::~HostMemory() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

int64_t available_host_bytes() {
  const int64_t free_kib = read_field("/proc/meminfo", "MemAvailable:");
  const int64_t system = free_kib < 0 ? kUnlimited : free_kib * 1024;
  const int64_t limit = cgroup_limit();
  const int64_t group =
      limit == kUnlimited ? kUnlimited : std::max<int64_t>(0, limit - resident_bytes());
  const int64_t free = std::min(system, group);
  return std::max<int64_t>(0, free - std::max(free / 10, kLeastReserve));
}

}  // namespace quire::cpu
