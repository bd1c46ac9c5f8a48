#include "snapshot/microvm_state_proto.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "proto/snapshot/v1/microvm_state.pb.h"
#include "snapshot/field_path.h"
#include "snapshot/irqchip_state_proto.h"
#include "snapshot/state_limits.h"
#include "snapshot/state_shape.h"
#include "snapshot/vcpu_state_proto.h"
#include "vmm/base/status.h"
#include "vmm/core/vm_plan_proto.h"

namespace drover {
namespace {

namespace pb = snapshot::v1;
using Scope = FieldPath::Scope;

constexpr uint64_t kPage = 4096, kHugePage = 2 << 20;
constexpr uint32_t kMostFeature = 2;

// ---- vm_info

Architecture ArchitectureFromProto(pb::Architecture proto, FieldReader* reader) {
  if (reader->Check(proto == pb::ARCHITECTURE_X86_64 || proto == pb::ARCHITECTURE_AARCH64,
                    "architecture", static_cast<uint32_t>(proto), "1 (x86_64) or 2 (aarch64)"))
    return static_cast<Architecture>(proto - pb::ARCHITECTURE_X86_64);
  return kHostArchitecture;
}

BootSource BootFromProto(const pb::BootSource& proto, FieldReader* reader) {
  const Scope scope(reader->path(), "boot_source");
  return {reader->Text("kernel_path", proto.kernel_path(), state_limits::kText),
          reader->Text("initrd_path", proto.initrd_path(), state_limits::kText),
          reader->Text("command_line", proto.command_line(), state_limits::kText)};
}

VmFeatures ReadFeatures(const pb::VmFeatures& proto, FieldReader* reader) {
  const Scope scope(reader->path(), "features");
  const auto check = [&](absl::string_view name, int32_t value) {
    reader->Number<uint32_t>(name, static_cast<uint32_t>(value), kMostFeature);
  };
  check("memory_pages", proto.memory_pages());
  check("dirty_log", proto.dirty_log());
  check("snapshots", proto.snapshots());
  check("migration", proto.migration());
  return FeaturesFromProto(proto);
}

std::vector<std::string> ReadCapabilities(const pb::VmInfo& proto, FieldReader* reader) {
  std::vector<std::string> out;
  for (const std::string& name : proto.required_capabilities()) {
    const Scope scope(reader->path(), "required_capabilities", out.size());
    out.push_back(reader->Name("name", name, state_limits::kIdText, "_"));
  }
  return out;
}

VmInfo InfoFromProto(const pb::VmInfo& proto, FieldReader* reader) {
  const Scope scope(reader->path(), "vm_info");
  VmInfo out;
  out.architecture = ArchitectureFromProto(proto.architecture(), reader);
  out.vm_id = reader->Text("vm_id", proto.vm_id(), state_limits::kIdText);
  out.vcpus = reader->Number<uint32_t>("vcpus", proto.vcpus(), state_limits::kVcpus, 1);
  out.memory_bytes = proto.memory_bytes();
  reader->Check(out.memory_bytes != 0 && out.memory_bytes % kPage == 0, "memory_bytes",
                out.memory_bytes, "whole pages of 4096 bytes, at least one");
  out.boot_source = BootFromProto(proto.boot_source(), reader);
  out.features = ReadFeatures(proto.features(), reader);
  out.required_capabilities = ReadCapabilities(proto, reader);
  out.boot_count = proto.boot_count();
  out.taken_unix_nanos = proto.taken_unix_nanos();
  out.host_kernel = reader->Text("host_kernel", proto.host_kernel(), state_limits::kKernelText);
  return out;
}

void BootToProto(const BootSource& boot, FieldWriter* writer, pb::BootSource* proto) {
  const Scope scope(writer->path(), "boot_source");
  proto->set_kernel_path(boot.kernel_path);
  proto->set_initrd_path(boot.initrd_path);
  proto->set_command_line(boot.command_line);
  writer->RestoreUnknown(proto);
}

void WriteFeatures(const VmFeatures& features, FieldWriter* writer, pb::VmFeatures* proto) {
  const Scope scope(writer->path(), "features");
  FeaturesToProto(features, proto);
  writer->RestoreUnknown(proto);
}

void InfoToProto(const VmInfo& info, FieldWriter* writer, pb::VmInfo* proto) {
  const Scope scope(writer->path(), "vm_info");
  proto->set_architecture(
      static_cast<pb::Architecture>(static_cast<int>(info.architecture) + pb::ARCHITECTURE_X86_64));
  proto->set_vm_id(info.vm_id);
  proto->set_vcpus(info.vcpus);
  proto->set_memory_bytes(info.memory_bytes);
  BootToProto(info.boot_source, writer, proto->mutable_boot_source());
  WriteFeatures(info.features, writer, proto->mutable_features());
  for (const std::string& name : info.required_capabilities) proto->add_required_capabilities(name);
  proto->set_boot_count(info.boot_count);
  proto->set_taken_unix_nanos(info.taken_unix_nanos);
  proto->set_host_kernel(info.host_kernel);
  writer->RestoreUnknown(proto);
}

// ---- vcpu_states

void ReadVcpus(const pb::MicrovmState& proto, FieldReader* reader, MicrovmState* out) {
  for (const pb::VcpuState& vcpu : proto.vcpu_states()) {
    const size_t index = out->vcpu_states.size();
    const Scope scope(reader->path(), "vcpu_states", index);
    out->vcpu_states.push_back(VcpuFromProto(vcpu, reader));
    reader->Check(vcpu.id() == index, "id", vcpu.id(), absl::StrCat(index, ", its place"));
  }
  reader->Check(!out->vcpu_states.empty(), "vcpu_states", 0, "1 to 1024 of them");
}

void WriteVcpus(const MicrovmState& state, FieldWriter* writer, pb::MicrovmState* proto) {
  for (size_t i = 0; i < state.vcpu_states.size(); ++i) {
    const Scope scope(writer->path(), "vcpu_states", i);
    pb::VcpuState* vcpu = proto->add_vcpu_states();
    VcpuToProto(state.vcpu_states[i], writer, vcpu);
    writer->RestoreUnknown(vcpu);
  }
}

// ---- device_states

DeviceState DeviceFromProto(const pb::DeviceState& proto, FieldReader* reader) {
  DeviceState out;
  out.type = reader->Name("type", proto.type(), state_limits::kTypeText, "-_");
  out.id = reader->Name("id", proto.id(), state_limits::kIdText, "-_.:");
  out.version = reader->Number<uint32_t>("version", proto.version(), UINT32_MAX, 1);
  const std::string& bytes = proto.content();
  reader->Check(bytes.size() <= state_limits::kDeviceBytes, "content", bytes.size(),
                "at most 16777216 bytes");
  out.bytes.assign(bytes.begin(), bytes.end());
  if (!proto.has_backing()) return out;
  const Scope scope(reader->path(), "backing");
  const pb::DeviceBacking& backing = proto.backing();
  out.backing = {reader->Text("path", backing.path(), state_limits::kText), backing.size_bytes(),
                 backing.read_only()};
  return out;
}

void ReadDevices(const pb::MicrovmState& proto, FieldReader* reader, MicrovmState* out) {
  std::set<std::string> ids;
  for (const pb::DeviceState& device : proto.device_states()) {
    const Scope scope(reader->path(), "device_states", out->device_states.size());
    out->device_states.push_back(DeviceFromProto(device, reader));
    if (!ids.insert(device.id()).second)
      reader->Problem("id", absl::StrCat("'", absl::CHexEscape(device.id()), "', as another's"),
                      "each id once");
  }
}

void DeviceToProto(const DeviceState& device, FieldWriter* writer, pb::DeviceState* proto) {
  proto->set_type(device.type);
  proto->set_id(device.id);
  proto->set_version(device.version);
  proto->set_content({device.bytes.begin(), device.bytes.end()});
  writer->RestoreUnknown(proto);
  if (!device.backing) return;
  const Scope scope(writer->path(), "backing");
  pb::DeviceBacking* backing = proto->mutable_backing();
  backing->set_path(device.backing->path);
  backing->set_size_bytes(device.backing->size_bytes);
  backing->set_read_only(device.backing->read_only);
  writer->RestoreUnknown(backing);
}

void WriteDevices(const MicrovmState& state, FieldWriter* writer, pb::MicrovmState* proto) {
  for (size_t i = 0; i < state.device_states.size(); ++i) {
    const Scope scope(writer->path(), "device_states", i);
    DeviceToProto(state.device_states[i], writer, proto->add_device_states());
  }
}

// ---- memory

ImageId ImageIdFromProto(absl::string_view name, const std::string& bytes, FieldReader* reader) {
  ImageId id = {};
  const bool nonzero = std::ranges::any_of(bytes, [](char byte) { return byte != 0; });
  if (bytes.size() == id.size() && nonzero)
    std::ranges::copy(bytes, id.begin());
  else
    reader->Problem(name, absl::StrCat(bytes.size(), nonzero ? " bytes" : " bytes of 0"),
                    "16 bytes, not all 0");
  return id;
}

GuestRange RegionFromProto(const pb::MemoryRegion& proto, uint64_t from, FieldReader* reader) {
  const GuestRange region = {proto.start(), proto.size()};
  reader->Check(region.start % kPage == 0, "start", region.start, "a multiple of 4096");
  reader->Check(region.start >= from, "start", region.start,
                absl::StrCat("at least ", from, ", the end of the region before"));
  reader->Check(region.size != 0 && region.size % kPage == 0, "size", region.size,
                "whole pages of 4096 bytes, at least one");
  reader->Check(region.size <= UINT64_MAX - region.start, "size", region.size, "an end below 2^64");
  return region;
}

std::vector<GuestRange> RegionsFromProto(const pb::MemoryShape& proto, FieldReader* reader) {
  std::vector<GuestRange> out;
  uint64_t from = 0;
  for (const pb::MemoryRegion& region : proto.regions()) {
    const Scope scope(reader->path(), "regions", out.size());
    out.push_back(RegionFromProto(region, from, reader));
    from = out.back().size <= UINT64_MAX - out.back().start ? out.back().end() : UINT64_MAX;
  }
  reader->Check(!out.empty(), "regions", 0, "1 to 64 of them");
  return out;
}

PageWords PagesFromProto(const std::string& bytes, uint64_t pages, FieldReader* reader) {
  PageWords words(bytes.size() / sizeof(uint64_t));
  if (!reader->Check(bytes.size() % 8 == 0 && words.size() == PageWordCount(pages), "bits",
                     bytes.size(),
                     absl::StrCat(PageWordCount(pages) * 8, " bytes for ", pages, " pages")))
    return {};
  if (words.empty()) return words;
  memcpy(words.data(), bytes.data(), bytes.size());
  reader->Check(pages % 64 == 0 || words.back() >> pages % 64 == 0, "bits", words.back(),
                "no bit behind the last page");
  return words;
}

DiffMemory DiffFromProto(const pb::DiffMemory& proto, const MemoryShape& shape,
                         FieldReader* reader) {
  const Scope scope(reader->path(), "diff");
  DiffMemory out;
  out.base = ImageIdFromProto("base_image_id", proto.base_image_id(), reader);
  if (out.base == shape.image_id && out.base != ImageId())
    reader->Problem("base_image_id", ToHex(out.base), "another than image_id");
  const auto count = static_cast<size_t>(proto.pages_size());
  if (!reader->Check(count == shape.regions.size(), "pages", count,
                     absl::StrCat(shape.regions.size(), ", one a region")))
    return out;
  for (const std::string& pages : proto.pages()) {
    const size_t region = out.pages.size();
    const Scope inner(reader->path(), "pages", region);
    out.pages.push_back(PagesFromProto(pages, shape.regions[region].size / kPage, reader));
  }
  return out;
}

MemoryShape MemoryFromProto(const pb::MemoryShape& proto, FieldReader* reader) {
  const Scope scope(reader->path(), "memory");
  MemoryShape out;
  out.regions = RegionsFromProto(proto, reader);
  out.page_bytes = proto.page_bytes();
  reader->Check(out.page_bytes == kPage || out.page_bytes == kHugePage, "page_bytes",
                out.page_bytes, "4096 or 2097152");
  out.image_id = ImageIdFromProto("image_id", proto.image_id(), reader);
  if (proto.has_diff()) out.diff = DiffFromProto(proto.diff(), out, reader);
  return out;
}

std::string BytesOf(const PageWords& words) {
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint64_t)};
}

std::string BytesOf(const ImageId& id) { return {id.begin(), id.end()}; }

void DiffToProto(const DiffMemory& diff, FieldWriter* writer, pb::DiffMemory* proto) {
  const Scope scope(writer->path(), "diff");
  proto->set_base_image_id(BytesOf(diff.base));
  for (const PageWords& words : diff.pages) proto->add_pages(BytesOf(words));
  writer->RestoreUnknown(proto);
}

void MemoryToProto(const MemoryShape& memory, FieldWriter* writer, pb::MemoryShape* proto) {
  const Scope scope(writer->path(), "memory");
  for (size_t i = 0; i < memory.regions.size(); ++i) {
    const Scope inner(writer->path(), "regions", i);
    pb::MemoryRegion* region = proto->add_regions();
    region->set_start(memory.regions[i].start);
    region->set_size(memory.regions[i].size);
    writer->RestoreUnknown(region);
  }
  proto->set_page_bytes(memory.page_bytes);
  proto->set_image_id(BytesOf(memory.image_id));
  if (memory.diff) DiffToProto(*memory.diff, writer, proto->mutable_diff());
  writer->RestoreUnknown(proto);
}

// ---- clock, mmds_state

ClockState ClockFromProto(const pb::ClockState& proto) {
  ClockState out = {proto.nanos(), {}, {}};
  if (proto.has_realtime_nanos()) out.realtime_nanos = proto.realtime_nanos();
  if (proto.has_host_tsc()) out.host_tsc = proto.host_tsc();
  return out;
}

void ClockToProto(const ClockState& clock, FieldWriter* writer, pb::ClockState* proto) {
  const Scope scope(writer->path(), "clock");
  proto->set_nanos(clock.nanos);
  if (clock.realtime_nanos) proto->set_realtime_nanos(*clock.realtime_nanos);
  if (clock.host_tsc) proto->set_host_tsc(*clock.host_tsc);
  writer->RestoreUnknown(proto);
}

MmdsState MmdsFromProto(const pb::MmdsState& proto, FieldReader* reader) {
  const Scope scope(reader->path(), "mmds_state");
  reader->Check(proto.data().size() <= state_limits::kMmdsBytes, "data", proto.data().size(),
                "at most 1048576 bytes");
  return {reader->Number<uint32_t>("version", proto.version(), 2, 1), proto.imds_compat(),
          proto.data()};
}

void MmdsToProto(const MmdsState& mmds, FieldWriter* writer, pb::MmdsState* proto) {
  const Scope scope(writer->path(), "mmds_state");
  proto->set_version(mmds.version);
  proto->set_imds_compat(mmds.imds_compat);
  proto->set_data(mmds.data);
  writer->RestoreUnknown(proto);
}

// ---- the whole

// Which interrupt controller there must be follows from the architecture.
void ReadIrqchip(const pb::MicrovmState& proto, FieldReader* reader, MicrovmState* out) {
  const bool x86 = out->vm_info.architecture == Architecture::kX86_64;
  if (proto.has_irqchip_state() != x86)
    reader->Problem("irqchip_state", x86 ? "missing" : "present",
                    x86 ? "present on x86_64" : "absent on aarch64");
  if (proto.has_gic_state() == x86)
    reader->Problem("gic_state", x86 ? "present" : "missing",
                    x86 ? "absent on x86_64" : "present on aarch64");
  if (proto.has_irqchip_state()) {
    const Scope scope(reader->path(), "irqchip_state");
    out->irqchip_state = IrqchipFromProto(proto.irqchip_state(), reader);
  }
  if (proto.has_gic_state()) {
    const Scope scope(reader->path(), "gic_state");
    out->gic_state = GicFromProto(proto.gic_state(), reader);
  }
}

void NeedParts(const pb::MicrovmState& proto, FieldReader* reader) {
  if (!proto.has_vm_info()) reader->Problem("vm_info", "missing", "present");
  if (!proto.has_memory()) reader->Problem("memory", "missing", "present");
  if (!proto.has_clock()) reader->Problem("clock", "missing", "present");
}

MicrovmState FromProto(const pb::MicrovmState& proto, FieldReader* reader) {
  MicrovmState out;
  NeedParts(proto, reader);
  if (proto.has_vm_info()) out.vm_info = InfoFromProto(proto.vm_info(), reader);
  ReadVcpus(proto, reader, &out);
  ReadDevices(proto, reader, &out);
  ReadIrqchip(proto, reader, &out);
  if (proto.has_mmds_state()) out.mmds_state = MmdsFromProto(proto.mmds_state(), reader);
  if (proto.has_memory()) out.memory = MemoryFromProto(proto.memory(), reader);
  out.clock = ClockFromProto(proto.clock());
  return out;
}

void WriteIrqchip(const MicrovmState& state, FieldWriter* writer, pb::MicrovmState* proto) {
  if (state.irqchip_state) {
    const Scope scope(writer->path(), "irqchip_state");
    IrqchipToProto(*state.irqchip_state, writer, proto->mutable_irqchip_state());
    writer->RestoreUnknown(proto->mutable_irqchip_state());
  }
  if (state.gic_state) {
    const Scope scope(writer->path(), "gic_state");
    GicToProto(*state.gic_state, proto->mutable_gic_state());
    writer->RestoreUnknown(proto->mutable_gic_state());
  }
}

pb::MicrovmState ToProto(const MicrovmState& state) {
  pb::MicrovmState proto;
  FieldWriter writer(state.unknown_fields);
  InfoToProto(state.vm_info, &writer, proto.mutable_vm_info());
  WriteVcpus(state, &writer, &proto);
  WriteDevices(state, &writer, &proto);
  WriteIrqchip(state, &writer, &proto);
  if (state.mmds_state) MmdsToProto(*state.mmds_state, &writer, proto.mutable_mmds_state());
  MemoryToProto(state.memory, &writer, proto.mutable_memory());
  ClockToProto(state.clock, &writer, proto.mutable_clock());
  writer.RestoreUnknown(&proto);
  return proto;
}

}  // namespace

absl::StatusOr<std::string> SerializeMicrovmState(const MicrovmState& state) {
  const pb::MicrovmState proto = ToProto(state);
  FieldReader reader;
  (void)FromProto(proto, &reader);
  RETURN_IF_ERROR(StatusOf(reader.problems()));
  const std::string bytes = proto.SerializeAsString();
  RETURN_IF_ERROR(StatusOf(WalkState(bytes).problems));
  return bytes;
}

MicrovmStateReport InspectMicrovmState(absl::string_view bytes) {
  StateShape shape = WalkState(bytes);
  MicrovmStateReport report = {{}, std::move(shape.problems)};
  if (!shape.bounded) return report;
  pb::MicrovmState proto;
  const bool parsed = proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  if (!parsed && report.problems.empty())
    report.problems.Add({"state", "protobuf cannot read it", "a MicrovmState"});
  FieldReader reader;
  report.state = FromProto(proto, &reader);
  report.state.unknown_fields = std::move(shape.unknown_fields);
  report.problems.Add(reader.problems());
  return report;
}

absl::StatusOr<MicrovmState> ParseMicrovmState(absl::string_view bytes) {
  MicrovmStateReport report = InspectMicrovmState(bytes);
  RETURN_IF_ERROR(StatusOf(report.problems));
  return std::move(report.state);
}

}  // namespace drover
