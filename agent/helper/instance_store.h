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

// A directory with an instance's files that is no instance yet.
struct InstanceDraft {
  std::string name;
  InstanceFiles files;
  Fd identity;  // write; empty
};

// STATE_DIR/workers: one directory for each instance with control.sock, identity, last-words and
// log, the helper's own; the agent's group, which everything inherits from workers, may look and
// connect. The agent owns STATE_DIR, so everything goes through the descriptor of workers, checked
// once. An instance is made as a draft, workers/.draft-N, and renamed when its identity is written:
// it is there as a whole or not at all. Drafts may be made ahead. Thread-compatible.
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

  // Makes a draft for a later Create, which then takes far less time.
  // RESOURCE_EXHAUSTED (STATE_DIR_FULL). An error leaves nothing.
  absl::Status Prepare();
  size_t drafts() const { return drafts_.size(); }
  // Removes the drafts.
  void DropDrafts();

  // The instance of that identity. ALREADY_EXISTS (INSTANCE_EXISTS), RESOURCE_EXHAUSTED
  // (STATE_DIR_FULL). An error leaves nothing.
  absl::StatusOr<InstanceFiles> Create(const WorkerIdentity& identity);
  absl::StatusOr<WorkerIdentity> ReadIdentity(const std::string& instance_id) const;
  // The first kMaxLastWordsBytes of whatever the worker wrote.
  absl::StatusOr<std::string> ReadLastWords(const std::string& instance_id) const;
  // OK when it is not there.
  absl::Status Remove(const std::string& instance_id);

 private:
  InstanceStore(Fd workers, std::string tag) : workers_(std::move(workers)), tag_(std::move(tag)) {}

  absl::StatusOr<std::vector<std::string>> Entries() const;
  absl::Status RemoveStrayDrafts() const;
  absl::StatusOr<InstanceDraft> MakeDraft();
  absl::StatusOr<InstanceDraft> TakeDraft();
  absl::Status FillDraft(InstanceDraft* draft) const;
  absl::Status Publish(const InstanceDraft& draft, const WorkerIdentity& identity) const;
  absl::Status RemoveDirectory(const std::string& name) const;
  absl::StatusOr<Fd> MakeControlSocket(const std::string& directory) const;
  absl::StatusOr<Fd> MakeFile(const std::string& name, int flags, unsigned mode) const;
  absl::StatusOr<Fd> OpenForReading(const std::string& name) const;

  const Fd workers_;
  const std::string tag_;
  std::vector<InstanceDraft> drafts_;
  uint64_t next_draft_ = 1;
};

}  // namespace drover

#endif  // DROVER_AGENT_HELPER_INSTANCE_STORE_H_
