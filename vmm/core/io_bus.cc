#include "vmm/core/io_bus.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "vmm/base/status.h"

namespace drover {

absl::Status IoBus::Add(uint64_t start, uint64_t size, IoDevice* device) {
  if (size == 0 || start + (size - 1) < start)
    return absl::InvalidArgumentError(absl::StrFormat(
        "bus range %#x, %u bytes of %s: empty or wraps", start, size, device->name()));
  const auto next = entries_.upper_bound(start);
  const bool hits_next = next != entries_.end() && next->first - start < size;
  const bool hits_previous =
      next != entries_.begin() && start - std::prev(next)->first < std::prev(next)->second.size;
  if (hits_next || hits_previous)
    return absl::AlreadyExistsError(
        absl::StrFormat("bus range %#x, %u bytes of %s: overlaps %s", start, size, device->name(),
                        (hits_previous ? std::prev(next) : next)->second.device->name()));
  entries_[start] = {size, device};
  return absl::OkStatus();
}

const IoBus::Entry* IoBus::Find(uint64_t address, size_t size, uint64_t* offset) const {
  auto it = entries_.upper_bound(address);
  if (it == entries_.begin()) return nullptr;
  --it;
  *offset = address - it->first;
  if (*offset >= it->second.size || size > it->second.size - *offset) return nullptr;
  return &it->second;
}

void IoBus::Read(uint64_t address, std::span<uint8_t> data) const {
  std::fill(data.begin(), data.end(), 0xff);
  uint64_t offset;
  if (const Entry* entry = Find(address, data.size(), &offset)) entry->device->Read(offset, data);
}

void IoBus::Write(uint64_t address, std::span<const uint8_t> data) const {
  uint64_t offset;
  if (const Entry* entry = Find(address, data.size(), &offset)) entry->device->Write(offset, data);
}

}  // namespace drover
