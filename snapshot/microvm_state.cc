#include "snapshot/microvm_state.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace drover {
namespace {

std::string VcpuDifference(const MicrovmState& a, const MicrovmState& b) {
  if (a.vcpu_states.size() != b.vcpu_states.size())
    return absl::StrCat("vcpu_states: ", a.vcpu_states.size(), " and ", b.vcpu_states.size(), "; ");
  std::string out;
  for (size_t i = 0; i < a.vcpu_states.size(); ++i)
    if (const std::string one = Difference(a.vcpu_states[i], b.vcpu_states[i]); !one.empty())
      absl::StrAppend(&out, "vcpu_states[", i, "]: ", one);
  return out;
}

std::string DeviceDifference(const MicrovmState& a, const MicrovmState& b) {
  if (a.device_states.size() != b.device_states.size())
    return absl::StrCat("device_states: ", a.device_states.size(), " and ", b.device_states.size(),
                        "; ");
  std::string out;
  for (size_t i = 0; i < a.device_states.size(); ++i)
    if (a.device_states[i] != b.device_states[i])
      absl::StrAppend(&out, "device ", a.device_states[i].id, "; ");
  return out;
}

}  // namespace

std::string ToHex(const ImageId& id) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(id.data()), id.size()});
}

uint64_t MemoryShape::bytes() const {
  uint64_t sum = 0;
  for (const GuestRange& region : regions) sum += region.size;
  return sum;
}

const DeviceState* FindDevice(const MicrovmState& state, absl::string_view id) {
  const auto found =
      std::ranges::find_if(state.device_states, [id](const auto& d) { return d.id == id; });
  return found == state.device_states.end() ? nullptr : &*found;
}

std::string Difference(const MicrovmState& a, const MicrovmState& b) {
  std::string out;
  const auto note = [&](bool same, const char* name) {
    if (!same) absl::StrAppend(&out, name, "; ");
  };
  note(a.vm_info == b.vm_info, "vm_info");
  out += VcpuDifference(a, b);
  out += DeviceDifference(a, b);
  note(a.irqchip_state == b.irqchip_state, "irqchip_state");
  note(a.gic_state == b.gic_state, "gic_state");
  note(a.mmds_state == b.mmds_state, "mmds_state");
  note(a.memory == b.memory, "memory");
  note(a.clock == b.clock, "clock");
  note(a.unknown_fields == b.unknown_fields, "unknown_fields");
  return out;
}

std::ostream& operator<<(std::ostream& out, const MicrovmState& state) {
  out << absl::StrFormat(
      "machine %s: %s, %d vCPUs, %d MiB in %d regions, image %s%s",
      absl::CHexEscape(state.vm_info.vm_id), NameOf(state.vm_info.architecture),
      state.vm_info.vcpus, state.vm_info.memory_bytes >> 20, state.memory.regions.size(),
      ToHex(state.memory.image_id),
      state.memory.diff ? " (diff on " + ToHex(state.memory.diff->base) + ")" : std::string());
  for (const VcpuState& vcpu : state.vcpu_states) out << "\n" << vcpu;
  for (const DeviceState& device : state.device_states)
    out << absl::StrFormat("\ndevice %s: %s version %d, %d bytes", absl::CHexEscape(device.id),
                           absl::CHexEscape(device.type), device.version, device.bytes.size());
  return out;
}

}  // namespace drover
