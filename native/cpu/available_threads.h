#pragma once

#include <cstdint>
#include <string>

namespace quire::cpu {

// CPUs' worth of time that a cgroup quota grants, rounded up; 0 when there is none or it cannot be
// read. `cgroups` is the text of /proc/self/cgroup; `root` stands before /sys/fs/cgroup. The
// tightest quota on the way from this process's group to the root counts, in version 2 and version
// 1 trees; a container sees its own group as the root.
int32_t cgroup_quota_threads(const std::string& cgroups, const std::string& root);

}  // namespace quire::cpu
