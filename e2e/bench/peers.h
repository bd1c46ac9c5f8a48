#ifndef DROVER_E2E_BENCH_PEERS_H_
#define DROVER_E2E_BENCH_PEERS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/fd.h"

namespace drover {

// A program that runs the test guest with its serial port on a pipe: a peer to be compared with.
// Killed and reaped when destroyed.
class PeerProcess {
 public:
  static absl::StatusOr<std::unique_ptr<PeerProcess>> Spawn(const std::vector<std::string>& words);
  ~PeerProcess();

  // Waits for the first byte of its output; microseconds since the spawn.
  absl::StatusOr<double> MicrosToFirstByte();
  pid_t pid() const { return pid_; }

 private:
  PeerProcess(pid_t pid, Fd output, int64_t start)
      : pid_(pid), output_(std::move(output)), start_(start) {}

  pid_t pid_;
  Fd output_;
  int64_t start_;
};

// QEMU's smallest machine with the guest, by path, on its command line. Empty when QEMU is not
// installed.
std::vector<std::string> QemuMicrovm(const std::string& guest, int memory_mib);

// What a process holds beyond mappings named like guest RAM, in KiB (from /proc/PID/smaps):
// resident, and private.
struct Footprint {
  double rss_kib = 0;
  double private_kib = 0;
};
absl::StatusOr<Footprint> FootprintOf(pid_t pid, const std::vector<std::string>& guest_mappings,
                                      uint64_t guest_bytes);

int64_t NowMicros();

}  // namespace drover

#endif  // DROVER_E2E_BENCH_PEERS_H_
