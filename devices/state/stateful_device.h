#ifndef DROVER_DEVICES_STATE_STATEFUL_DEVICE_H_
#define DROVER_DEVICES_STATE_STATEFUL_DEVICE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "vmm/base/status.h"

namespace drover {

// A device whose state a snapshot or a migration carries. All of it is called while the vCPUs are
// stopped and the device's other threads rest (Pause), by one thread.
class StatefulDevice {
 public:
  virtual ~StatefulDevice() = default;

  // What kind of device it is, in every snapshot and for ever, such as "serial".
  virtual absl::string_view state_type() const = 0;
  // The version of what SaveState gives; RestoreState takes it and every older one.
  virtual uint32_t state_version() const { return 1; }

  // Between the two, nothing but SaveState and RestoreState changes the device or guest memory.
  // Each may be called again without effect.
  virtual void Pause() {}
  virtual void Resume() {}

  // The state as the bytes of its message in proto/snapshot/v1/device_state.proto: equal states
  // give equal bytes.
  virtual std::vector<uint8_t> SaveState() = 0;
  // Becomes what was saved, from bytes that anybody may have written, and drives its interrupt line
  // accordingly; so the interrupt controller's own state is restored after the devices'. An
  // INVALID_ARGUMENT names the field, what it has and what would be right, an UNIMPLEMENTED a newer
  // version; the device is then as it was.
  virtual absl::Status RestoreState(uint32_t version, std::span<const uint8_t> bytes) = 0;
};

// What RestoreState of every device begins with: the version is known, and the bytes are a Message.
template <typename Message>
absl::StatusOr<Message> ParseDeviceState(const StatefulDevice& device, uint32_t version,
                                         std::span<const uint8_t> bytes) {
  if (version == 0 || version > device.state_version())
    return absl::UnimplementedError(
        absl::StrFormat("state of device %s: version %u: this Drover reads 1 to %u",
                        device.state_type(), version, device.state_version()));
  Message message;
  if (message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return message;
  return absl::InvalidArgumentError(absl::StrFormat("state of device %s: %u bytes that are no %s",
                                                    device.state_type(), bytes.size(),
                                                    message.GetTypeName()));
}

// The bytes of a Message.
template <typename Message>
std::vector<uint8_t> DeviceStateBytes(const Message& message) {
  std::vector<uint8_t> bytes(message.ByteSizeLong());
  message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size()));
  return bytes;
}

// Collects what is wrong with a device's state: the first is told.
class DeviceStateCheck {
 public:
  explicit DeviceStateCheck(const StatefulDevice& device) : device_(device) {}

  // `value` has no bits but those of `bits`.
  template <typename T>
  T Bits(absl::string_view field, uint32_t value, T bits) {
    Check((value & ~uint32_t{bits}) == 0, field, absl::StrFormat("%#x", value),
          absl::StrFormat("only bits of %#x", bits));
    return static_cast<T>(value & bits);
  }
  void Size(absl::string_view field, size_t size, size_t least, size_t most) {
    Check(size >= least && size <= most, field, absl::StrFormat("%u bytes", size),
          least == most ? absl::StrFormat("%u", most) : absl::StrFormat("%u to %u", least, most));
  }
  void Check(bool ok, absl::string_view field, const std::string& found, const std::string& right) {
    if (ok || !status_.ok()) return;
    status_ = absl::InvalidArgumentError(absl::StrFormat(
        "state of device %s: %s is %s: must be %s", device_.state_type(), field, found, right));
  }
  const absl::Status& status() const { return status_; }

 private:
  const StatefulDevice& device_;
  absl::Status status_;
};

}  // namespace drover

#endif  // DROVER_DEVICES_STATE_STATEFUL_DEVICE_H_
