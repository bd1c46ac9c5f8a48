#include "agent/service/connection_limit.h"

#include <sys/stat.h>

#include <algorithm>

namespace drover {
namespace {

// 0 for a descriptor that is closed; the kernel gives no two sockets of one time the same.
ino_t InodeOf(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 ? info.st_ino : 0;
}

}  // namespace

bool ConnectionLimit::Admit(const Fd& connection) {
  MutexLock lock(&mutex_);
  if (open_.size() >= most_)
    std::erase_if(open_, [](const auto& one) { return InodeOf(one.first) != one.second; });
  if (open_.size() >= most_) return false;
  open_.emplace_back(connection.get(), InodeOf(connection.get()));
  return true;
}

}  // namespace drover
