#ifndef DROVER_VMM_CORE_IO_BUS_H_
#define DROVER_VMM_CORE_IO_BUS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace drover {

// A device's face to the guest: reads and writes of 1 to 8 bytes at an offset into the range it was
// added with. Called on vCPU threads, several at once: implementations are thread-safe, never
// block, and accept any width.
class IoDevice {
 public:
  virtual ~IoDevice() = default;
  virtual absl::string_view name() const = 0;
  virtual void Read(uint64_t offset, std::span<uint8_t> data) = 0;
  virtual void Write(uint64_t offset, std::span<const uint8_t> data) = 0;
};

// Routes an address space (ports or MMIO) to devices. Filled before the vCPUs run and not changed
// after; then thread-safe. Devices are borrowed and outlive the bus.
class IoBus {
 public:
  // ALREADY_EXISTS when the range overlaps another's; INVALID_ARGUMENT when it is empty or wraps.
  absl::Status Add(uint64_t start, uint64_t size, IoDevice* device);

  // An access that no single device covers reads as ones and writes nothing, as on a real bus.
  void Read(uint64_t address, std::span<uint8_t> data) const;
  void Write(uint64_t address, std::span<const uint8_t> data) const;

 private:
  struct Entry {
    uint64_t size;
    IoDevice* device;
  };
  const Entry* Find(uint64_t address, size_t size, uint64_t* offset) const;

  std::map<uint64_t, Entry> entries_;  // by start
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_IO_BUS_H_
