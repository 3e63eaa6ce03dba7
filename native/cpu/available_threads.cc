#include "cpu/available_threads.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "cpu/kernels.h"

namespace quire::cpu {
namespace {

int32_t tighter(int32_t a, int32_t b) {
  if (a == 0 || b == 0) return std::max(a, b);
  return std::min(a, b);
}

int32_t threads_of(double quota, double period) {
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int32_t>(std::max(1.0, (quota + period - 1) / period));
}

// Version 2: "max 100000" or "150000 100000".
int32_t quota_v2(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period)) return 0;  // "max" is no number
  return threads_of(quota, period);
}

// Version 1: a quota of -1 is none.
int32_t quota_v1(const std::string& group) {
  std::ifstream quota_file(group + "/cpu.cfs_quota_us"), period_file(group + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (!(quota_file >> quota) || !(period_file >> period)) return 0;
  return threads_of(quota, period);
}

template <class Quota>
int32_t tightest(const std::string& mount, std::string path, Quota quota) {
  int32_t threads = quota(mount);
  while (!path.empty() && path != "/") {
    threads = tighter(threads, quota(mount + path));
    path.erase(path.rfind('/'));
  }
  return threads;
}

bool has_controller(const std::string& controllers, const std::string& name) {
  return ("," + controllers + ",").find("," + name + ",") != std::string::npos;
}

}  // namespace

int32_t cgroup_quota_threads(const std::string& cgroups, const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  int32_t threads = 0;
  std::istringstream lines(cgroups);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') continue;
    if (controllers.empty()) threads = tighter(threads, tightest(mount, path, quota_v2));
    if (has_controller(controllers, "cpu")) {
      threads = tighter(threads, tightest(mount + "/cpu", path, quota_v1));
    }
  }
  return threads;
}

int32_t available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int32_t allowed = sched_getaffinity(0, sizeof(set), &set) == 0
                              ? CPU_COUNT(&set)
                              : static_cast<int32_t>(std::thread::hardware_concurrency());
  std::ifstream file("/proc/self/cgroup");
  std::ostringstream cgroups;
  cgroups << file.rdbuf();
  return std::max(1, tighter(allowed, cgroup_quota_threads(cgroups.str(), "")));
}

}  // namespace quire::cpu
