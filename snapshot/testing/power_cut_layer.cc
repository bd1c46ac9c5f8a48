#include "snapshot/testing/power_cut_layer.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "snapshot/crc64.h"
#include "vmm/base/status.h"

namespace drover {

class PowerCutLayer::File : public OutputFile {
 public:
  File(PowerCutLayer* layer, NodePtr node) : layer_(layer), node_(std::move(node)) {}

  absl::Status Write(uint64_t offset, std::span<const uint8_t> bytes) override {
    RETURN_IF_ERROR(layer_->Spend());
    if (node_->content.size() < offset + bytes.size()) node_->content.resize(offset + bytes.size());
    memcpy(node_->content.data() + offset, bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  absl::Status SetSize(uint64_t bytes) override {
    RETURN_IF_ERROR(layer_->Spend());
    node_->content.resize(bytes);
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    RETURN_IF_ERROR(layer_->Spend());
    node_->synced_content = node_->content;
    return absl::OkStatus();
  }

 private:
  PowerCutLayer* const layer_;
  const NodePtr node_;
};

PowerCutLayer::PowerCutLayer() : root_(std::make_shared<Node>()) {
  root_->directory = true;
  Changed(root_.get());
}

absl::Status PowerCutLayer::Spend() {
  if (left_ == 0) return absl::UnavailableError("the power is off");
  if (fails_ == 0) return PosixStatus(error_, "write", "of a disk that fails");
  ++operations_;
  --left_;
  --fails_;
  return absl::OkStatus();
}

PowerCutLayer::NodePtr PowerCutLayer::Find(const std::string& path) const {
  if (path.empty()) return root_;
  NodePtr node = root_;
  for (size_t at = 0; node != nullptr && at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const auto found = node->names.find(path.substr(at, end - at));
    node = found == node->names.end() ? nullptr : found->second;
    at = end + 1;
  }
  return node;
}

absl::StatusOr<PowerCutLayer::NodePtr> PowerCutLayer::ParentOf(const std::string& path,
                                                               std::string* name) const {
  const size_t slash = path.rfind('/');
  *name = slash == std::string::npos ? path : path.substr(slash + 1);
  NodePtr parent = Find(slash == std::string::npos ? "" : path.substr(0, slash));
  if (parent == nullptr) return PosixStatus(ENOENT, "open", path);
  return parent;
}

absl::Status PowerCutLayer::Add(const std::string& path, NodePtr node) {
  std::string name;
  ASSIGN_OR_RETURN(const NodePtr parent, ParentOf(path, &name));
  if (parent->names.count(name) != 0) return PosixStatus(EEXIST, "create", path);
  RETURN_IF_ERROR(Spend());
  parent->names[name] = std::move(node);
  Changed(parent.get());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<OutputFile>> PowerCutLayer::CreateFile(const std::string& path) {
  auto node = std::make_shared<Node>();
  RETURN_IF_ERROR(Add(path, node));
  return std::make_unique<File>(this, node);
}

absl::Status PowerCutLayer::MakeDirectory(const std::string& path) {
  auto node = std::make_shared<Node>();
  node->directory = true;
  Changed(node.get());
  return Add(path, node);
}

absl::Status PowerCutLayer::SyncDirectory(const std::string& path) {
  const NodePtr node = Find(path);
  if (node == nullptr) return PosixStatus(ENOENT, "open", path);
  RETURN_IF_ERROR(Spend());
  node->history = {node->names};
  return absl::OkStatus();
}

absl::Status PowerCutLayer::Rename(const std::string& from, const std::string& to) {
  const auto found = root_->names.find(from);
  if (found == root_->names.end()) return PosixStatus(ENOENT, "rename", from);
  if (root_->names.count(to) != 0) return PosixStatus(EEXIST, "rename", to);
  RETURN_IF_ERROR(Spend());
  const NodePtr node = found->second;
  root_->names.erase(found);
  root_->names[to] = node;
  Changed(root_.get());
  return absl::OkStatus();
}

// File by file, as the real one.
absl::Status PowerCutLayer::RemoveDirectory(const std::string& path) {
  const NodePtr node = Find(path);
  if (node == nullptr) return absl::OkStatus();
  while (!node->names.empty()) {
    RETURN_IF_ERROR(Spend());
    node->names.erase(node->names.begin());
    Changed(node.get());
  }
  RETURN_IF_ERROR(Spend());
  root_->names.erase(path);
  Changed(root_.get());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> PowerCutLayer::List(const std::string& path) {
  const NodePtr node = Find(path);
  if (node == nullptr) return PosixStatus(ENOENT, "open", path);
  std::vector<std::string> names;
  for (const auto& [name, child] : node->names) names.push_back(name);
  return names;
}

absl::StatusOr<std::string> PowerCutLayer::ReadFile(const std::string& path, size_t limit) {
  const NodePtr node = Find(path);
  if (node == nullptr) return PosixStatus(ENOENT, "open", path);
  if (node->content.size() > limit) return absl::OutOfRangeError(path);
  return node->content;
}

absl::StatusOr<FileLayer::FileFacts> PowerCutLayer::Examine(const std::string& path, bool) {
  const NodePtr node = Find(path);
  if (node == nullptr) return PosixStatus(ENOENT, "open", path);
  return FileFacts{node->content.size(), Crc64(node->content)};
}

void PowerCutLayer::Settle(Node* node, Unsynced unsynced, std::mt19937_64* random) {
  size_t state = unsynced == Unsynced::kLost ? 0 : node->history.size() - 1;
  bool keep = unsynced != Unsynced::kLost;
  if (unsynced == Unsynced::kRandom) {
    if (node->directory) state = (*random)() % node->history.size();
    keep = (*random)() % 2 == 0;
  }
  if (node->directory) node->names = node->history[state];
  node->history = {node->names};
  if (!keep) {
    node->content = node->synced_content;
  } else if (unsynced == Unsynced::kRandom && node->content != node->synced_content) {
    node->content.resize((*random)() % (node->content.size() + 1));  // torn
  }
  node->synced_content = node->content;
  for (const auto& [name, child] : node->names) Settle(child.get(), unsynced, random);
}

void PowerCutLayer::PowerOn(Unsynced unsynced, std::mt19937_64* random) {
  left_ = fails_ = kNever;
  Settle(root_.get(), unsynced, random);
}

}  // namespace drover
