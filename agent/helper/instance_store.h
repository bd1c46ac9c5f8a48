#ifndef DROVER_AGENT_HELPER_INSTANCE_STORE_H_
#define DROVER_AGENT_HELPER_INSTANCE_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/helper/helper.h"
#include "vmm/base/fd.h"

namespace drover {

// What a new instance's worker is handed.
struct InstanceFiles {
  Fd control;     // listening SOCK_SEQPACKET
  Fd last_words;  // write
  Fd log;         // append
};

// STATE_DIR/workers: one directory for each instance with control.sock, identity, last-words and
// log, the helper's own; the agent's group, which everything inherits from workers, may look and
// connect. The agent owns STATE_DIR, so
// everything goes through the descriptor of workers, checked once. Thread-compatible.
//
// Nothing is synced to disk: a worker never outlives the kernel that has its files in memory.
class InstanceStore {
 public:
  static constexpr size_t kMaxLastWordsBytes = 64 * 1024;

  // Makes workers/ where it is not there. FAILED_PRECONDITION when another user owns it.
  static absl::StatusOr<std::unique_ptr<InstanceStore>> Open(const std::string& state_dir,
                                                             uint32_t agent_gid);

  // 1 to 63 characters of a-z, 0-9 and '-'.
  static absl::Status CheckId(const std::string& instance_id);

  // Eight hexadecimal digits that no other state directory of this host has.
  const std::string& tag() const { return tag_; }

  absl::StatusOr<std::vector<std::string>> List() const;

  // ALREADY_EXISTS (INSTANCE_EXISTS), RESOURCE_EXHAUSTED (STATE_DIR_FULL). An error leaves nothing.
  absl::StatusOr<InstanceFiles> Create(const std::string& instance_id);
  // Replaces the identity as a whole. RESOURCE_EXHAUSTED (STATE_DIR_FULL).
  absl::Status WriteIdentity(const WorkerIdentity& identity);
  absl::StatusOr<WorkerIdentity> ReadIdentity(const std::string& instance_id) const;
  // The first kMaxLastWordsBytes of whatever the worker wrote.
  absl::StatusOr<std::string> ReadLastWords(const std::string& instance_id) const;
  // OK when it is not there.
  absl::Status Remove(const std::string& instance_id);

 private:
  InstanceStore(Fd workers, std::string tag) : workers_(std::move(workers)), tag_(std::move(tag)) {}

  absl::Status MakeDirectory(const std::string& instance_id);
  absl::StatusOr<InstanceFiles> MakeFiles(const std::string& instance_id);
  absl::StatusOr<Fd> MakeControlSocket(const std::string& instance_id);
  absl::StatusOr<Fd> MakeFile(const std::string& name, int flags, unsigned mode) const;
  absl::StatusOr<Fd> OpenForReading(const std::string& name) const;

  const Fd workers_;
  const std::string tag_;
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_INSTANCE_STORE_H_
