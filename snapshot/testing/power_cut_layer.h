#ifndef DROVER_SNAPSHOT_TESTING_POWER_CUT_LAYER_H_
#define DROVER_SNAPSHOT_TESTING_POWER_CUT_LAYER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "snapshot/file_layer.h"

namespace drover {

// A disk in memory that loses what was not synced. The power fails after `operations` changes
// (writes, sizes, syncs, names): the last one takes effect, and everything from then on is an
// error. PowerOn gives what the disk may hold then: of unsynced content and names any part, of a
// name's change all or nothing.
class PowerCutLayer : public FileLayer {
 public:
  static constexpr int kNever = 1 << 30;
  PowerCutLayer();

  void CutAfter(int operations) { left_ = operations; }
  // The first error of the disk itself, such as ENOSPC, comes after so many changes.
  void FailAfter(int operations, int error) { fails_ = operations, error_ = error; }
  int operations() const { return operations_; }
  // Nothing of what was not synced, all of it, or by chance.
  enum class Unsynced { kLost, kKept, kRandom };
  void PowerOn(Unsynced unsynced, std::mt19937_64* random);

  absl::StatusOr<std::unique_ptr<OutputFile>> CreateFile(const std::string& path) override;
  absl::Status MakeDirectory(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status RemoveDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
  absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit) override;
  absl::StatusOr<FileFacts> Examine(const std::string& path, bool digest) override;

 private:
  class File;
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  using Names = std::map<std::string, NodePtr>;
  struct Node {
    bool directory = false;
    std::string content, synced_content;
    Names names;
    std::vector<Names> history;  // as they were: at the last sync, then after each change
  };

  absl::Status Spend();
  void Changed(Node* directory) { directory->history.push_back(directory->names); }
  NodePtr Find(const std::string& path) const;
  absl::StatusOr<NodePtr> ParentOf(const std::string& path, std::string* name) const;
  absl::Status Add(const std::string& path, NodePtr node);
  static void Settle(Node* node, Unsynced unsynced, std::mt19937_64* random);

  const NodePtr root_;
  int left_ = kNever, fails_ = kNever, error_ = 0, operations_ = 0;
};

}  // namespace drover

#endif  // DROVER_SNAPSHOT_TESTING_POWER_CUT_LAYER_H_
