#include "agent/registry/fake_registry.h"

#include <utility>

#include "vmm/base/status.h"

namespace drover {

absl::StatusOr<std::vector<VmRecord>> FakeRegistry::Load() {
  MutexLock lock(&mutex_);
  std::vector<VmRecord> records;
  for (const auto& [id, record] : records_) records.push_back(record);
  return records;
}

absl::Status FakeRegistry::Begin() {
  std::function<void(int)> hook;
  int number;
  {
    MutexLock lock(&mutex_);
    hook = hook_;
    number = ++writes_;
  }
  if (hook) hook(number);
  MutexLock lock(&mutex_);
  if (good_writes_ > 0) {
    --good_writes_;
    return absl::OkStatus();
  }
  return failure_;
}

absl::Status FakeRegistry::Put(const VmRecord& record, Durability durability) {
  RETURN_IF_ERROR(Begin());
  MutexLock lock(&mutex_);
  records_[record.id] = record;
  if (durability == Durability::kLazy) return absl::OkStatus();
  ++durable_writes_;
  on_disk_ = records_;
  return absl::OkStatus();
}

absl::Status FakeRegistry::Delete(const std::string& id) {
  RETURN_IF_ERROR(Begin());
  MutexLock lock(&mutex_);
  records_.erase(id);
  ++durable_writes_;
  on_disk_ = records_;
  return absl::OkStatus();
}

void FakeRegistry::FailWrites(absl::Status status) { FailWritesAfter(0, std::move(status)); }

void FakeRegistry::FailWritesAfter(int writes, absl::Status status) {
  MutexLock lock(&mutex_);
  good_writes_ = writes;
  failure_ = std::move(status);
}

void FakeRegistry::OnWrite(std::function<void(int)> hook) {
  MutexLock lock(&mutex_);
  hook_ = std::move(hook);
  writes_ = 0;
}

void FakeRegistry::LosePower() {
  MutexLock lock(&mutex_);
  records_ = on_disk_;
}

int FakeRegistry::durable_writes() const {
  MutexLock lock(&mutex_);
  return durable_writes_;
}

int FakeRegistry::lazy_writes() const {
  MutexLock lock(&mutex_);
  return writes_ - durable_writes_;
}

}  // namespace drover
