#include "e2e/bench/peers.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr int kPatienceMillis = 30000;

// One mapping's head line of smaps: "start-end perms offset dev inode name".
struct Mapping {
  uint64_t size = 0;
  std::string name;
};

bool ParseHead(const std::string& line, Mapping* mapping) {
  unsigned long start, end;
  int name_at = 0;
  if (sscanf(line.c_str(), "%lx-%lx %*s %*s %*s %*s %n", &start, &end, &name_at) < 2) return false;
  if (line.find(": ") != std::string::npos && line.find('-') > line.find(':')) return false;
  mapping->size = end - start;
  mapping->name = name_at > 0 ? line.substr(static_cast<size_t>(name_at)) : "";
  return true;
}

bool IsGuest(const Mapping& mapping, const std::vector<std::string>& names, uint64_t guest_bytes) {
  for (const std::string& name : names)
    if (absl::StrContains(mapping.name, name)) return true;
  return mapping.size == guest_bytes;
}

}  // namespace

int64_t NowMicros() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000000} + now.tv_nsec / 1000;
}

absl::StatusOr<std::unique_ptr<PeerProcess>> PeerProcess::Spawn(
    const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return PosixStatus(errno, "pipe2", "");
  Fd read_end(ends[0]), write_end(ends[1]);
  const int64_t start = NowMicros();
  const pid_t pid = vfork();
  if (pid == 0) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  if (pid < 0) return PosixStatus(errno, "vfork", words[0]);
  return std::unique_ptr<PeerProcess>(new PeerProcess(pid, std::move(read_end), start));
}

PeerProcess::~PeerProcess() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

absl::StatusOr<double> PeerProcess::MicrosToFirstByte() {
  struct pollfd entry = {.fd = output_.get(), .events = POLLIN, .revents = 0};
  char byte;
  if (poll(&entry, 1, kPatienceMillis) != 1 || read(output_.get(), &byte, 1) != 1)
    return absl::DeadlineExceededError("the peer wrote nothing");
  return static_cast<double>(NowMicros() - start_);
}

std::vector<std::string> QemuMicrovm(const std::string& guest, int memory_mib) {
  if (system("command -v qemu-system-x86_64 >/dev/null 2>&1") != 0) return {};
  return {"qemu-system-x86_64",
          "-M",
          "microvm,pit=off,pic=off,rtc=off",
          "-accel",
          "kvm",
          "-cpu",
          "kvm64",
          "-m",
          absl::StrCat(memory_mib),
          "-nodefaults",
          "-no-user-config",
          "-display",
          "none",
          "-serial",
          "stdio",
          "-kernel",
          guest};
}

absl::StatusOr<Footprint> FootprintOf(pid_t pid, const std::vector<std::string>& guest_mappings,
                                      uint64_t guest_bytes) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/smaps"));
  if (!in) return PosixStatus(errno, "open", absl::StrCat("/proc/", pid, "/smaps"));
  Footprint out;
  Mapping mapping;
  bool guest = false;
  for (std::string line; std::getline(in, line);) {
    if (ParseHead(line, &mapping)) {
      guest = IsGuest(mapping, guest_mappings, guest_bytes);
      continue;
    }
    long kib = 0;
    if (guest) continue;
    if (sscanf(line.c_str(), "Rss: %ld", &kib) == 1) out.rss_kib += static_cast<double>(kib);
    if (sscanf(line.c_str(), "Private_Clean: %ld", &kib) == 1 ||
        sscanf(line.c_str(), "Private_Dirty: %ld", &kib) == 1)
      out.private_kib += static_cast<double>(kib);
  }
  return out;
}

}  // namespace drover
