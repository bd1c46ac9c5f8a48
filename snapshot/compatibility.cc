#include "snapshot/compatibility.h"

#include <algorithm>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "snapshot/cpuid_compare.h"
#include "snapshot/mismatch_list.h"
#include "vmm/base/status.h"
#include "vmm/core/vcpu_state_check.h"

namespace drover {
namespace {

constexpr uint64_t kTscTolerancePpm = 250;  // as CheckVcpuState
constexpr size_t kXstateBvAt = 512;
constexpr char kOtherHost[] = "restore on a host that has it";
constexpr char kLikeHost[] =
    "restore on a host with such a processor, or take the snapshot of a VM that was started with "
    "the features that all hosts have";

// What a state is held against, and where the mismatches go.
struct Check {
  const MicrovmState& state;
  const HostProfile& host;
  MismatchList* out;
};

std::string VcpuField(const VcpuState& vcpu, absl::string_view part) {
  return absl::StrCat("vcpu_states[", vcpu.id, "].x86.", part);
}

// ---- the processor

void CheckVendor(const Check& check, const VcpuState& vcpu) {
  const std::string file = CpuidVendor(vcpu.cpuid), host = CpuidVendor(check.host.supported_cpuid);
  if (file != host)
    check.out->AddOfVcpu({"CPU_VENDOR", VcpuField(vcpu, "cpuid"), "vendor of the processor",
                          absl::CHexEscape(file), absl::CHexEscape(host),
                          "restore on a host of that vendor"});
}

void CheckCpuid(const Check& check, const VcpuState& vcpu) {
  const std::vector<std::string> missing =
      MissingCpuFeatures(vcpu.cpuid, check.host.supported_cpuid);
  if (!missing.empty())
    check.out->AddOfVcpu({"CPUID", VcpuField(vcpu, "cpuid"), "features of the processor",
                          absl::StrJoin(missing, ", "), "none of these", kLikeHost});
  const uint32_t file = PhysicalBits(vcpu.cpuid), host = PhysicalBits(check.host.supported_cpuid);
  if (file > host)
    check.out->AddOfVcpu({"PHYSICAL_BITS", VcpuField(vcpu, "cpuid"), "bits of physical addresses",
                          absl::StrCat(file), absl::StrCat(host), kLikeHost});
}

void CheckMsrs(const Check& check, const VcpuState& vcpu) {
  std::vector<std::string> missing;
  for (const MsrValue& msr : vcpu.msrs)
    if (!std::ranges::binary_search(check.host.msrs, msr.index))
      missing.push_back(absl::StrFormat("%#x", msr.index));
  if (!missing.empty())
    check.out->AddOfVcpu({"MSR", VcpuField(vcpu, "msrs"), "model-specific registers",
                          absl::StrJoin(missing, ", "), "none of these",
                          "restore on a host whose kernel and processor keep them"});
}

// Components that the vCPU can have a state of.
uint64_t ComponentsInUse(const VcpuState& vcpu) {
  uint64_t components = 0;
  for (const XcrValue& xcr : vcpu.xcrs)
    if (xcr.index == 0) components |= xcr.value;
  for (size_t i = 0; i < 8 && kXstateBvAt + i < vcpu.xsave.size(); ++i)
    components |= static_cast<uint64_t>(vcpu.xsave[kXstateBvAt + i]) << 8 * i;
  return components;
}

void CheckXsaveLayout(const Check& check, const VcpuState& vcpu, uint64_t components) {
  for (uint32_t n = 2; n < 63; ++n) {
    if ((components >> n & 1) == 0) continue;
    const XsavePlace file = PlaceOfComponent(vcpu.cpuid, n);
    const XsavePlace host = PlaceOfComponent(check.host.supported_cpuid, n);
    if (file != host)
      check.out->AddOfVcpu({"XSAVE_LAYOUT", VcpuField(vcpu, "xsave"),
                            absl::StrCat("place of component ", n, " in the XSAVE area"),
                            absl::StrFormat("%d bytes at %d", file.size, file.offset),
                            absl::StrFormat("%d bytes at %d", host.size, host.offset), kLikeHost});
  }
}

void CheckXsave(const Check& check, const VcpuState& vcpu) {
  if (vcpu.xsave.size() > check.host.capabilities.xsave_bytes)
    check.out->AddOfVcpu({"XSAVE_SIZE", VcpuField(vcpu, "xsave"), "bytes of the XSAVE area",
                          absl::StrCat(vcpu.xsave.size()),
                          absl::StrCat(check.host.capabilities.xsave_bytes), kLikeHost});
  const uint64_t used = ComponentsInUse(vcpu);
  const uint64_t there = XsaveComponents(check.host.supported_cpuid) | 3;
  if (used & ~there)
    check.out->AddOfVcpu({"XSAVE_COMPONENTS", VcpuField(vcpu, "xcrs"), "XSAVE components in use",
                          absl::StrFormat("%#x", used), absl::StrFormat("%#x", there), kLikeHost});
  CheckXsaveLayout(check, vcpu, used & there);
}

void CheckTsc(const Check& check, const VcpuState& vcpu) {
  const uint64_t file = vcpu.tsc.khz, host = check.host.tsc_khz;
  const uint64_t apart = file > host ? file - host : host - file;
  if (apart > host * kTscTolerancePpm / 1'000'000 && !check.host.capabilities.tsc_control)
    check.out->AddOfVcpu({"TSC_FREQUENCY", VcpuField(vcpu, "tsc.khz"), "frequency of the TSC, kHz",
                          absl::StrCat(file), absl::StrCat(host, ", and no scaling (tsc_control)"),
                          "restore on a host with TSC scaling, or whose TSC runs as fast"});
  if (vcpu.tsc.offset && !check.host.tsc_offset)
    check.out->AddOfVcpu({"TSC_OFFSET", VcpuField(vcpu, "tsc.offset"), "offset of the TSC",
                          "an offset", "a kernel without KVM_VCPU_TSC_OFFSET",
                          "restore on a host with Linux 5.16 or later"});
}

void CheckNested(const Check& check, const VcpuState& vcpu) {
  const uint32_t host = check.host.capabilities.nested_state_bytes;
  if (vcpu.nested && vcpu.nested->size > host)
    check.out->AddOfVcpu({"NESTED_STATE", VcpuField(vcpu, "nested"),
                          "bytes of nested virtualization's state", absl::StrCat(vcpu.nested->size),
                          host == 0 ? check.host.capabilities.WhyAbsent("nested_state_bytes")
                                    : absl::StrCat("room for ", host),
                          "turn nested virtualization on (kvm_intel.nested=1 or kvm_amd.nested=1), "
                          "or restore on a host that has it"});
}

void CheckVcpus(const Check& check) {
  if (check.state.vcpu_states.size() > check.host.capabilities.max_vcpus)
    check.out->Add({"VCPU_COUNT", "vcpu_states", "number of vCPUs",
                    absl::StrCat(check.state.vcpu_states.size()),
                    absl::StrCat("at most ", check.host.capabilities.max_vcpus),
                    "restore on a host that allows as many"});
  for (const VcpuState& vcpu : check.state.vcpu_states) {
    CheckVendor(check, vcpu);
    CheckCpuid(check, vcpu);
    CheckMsrs(check, vcpu);
    CheckXsave(check, vcpu);
    CheckTsc(check, vcpu);
    CheckNested(check, vcpu);
  }
}

// ---- what the host must be able to do

void NeedCapability(const Check& check, std::string field, absl::string_view name,
                    std::string file) {
  if (check.host.capabilities.Has(name)) return;
  check.out->Add({"CAPABILITY", std::move(field),
                  absl::StrCat("capability ", absl::CHexEscape(name)), std::move(file),
                  check.host.capabilities.WhyAbsent(name), kOtherHost});
}

void CheckCapabilities(const Check& check) {
  const std::vector<std::string>& names = check.state.vm_info.required_capabilities;
  for (size_t i = 0; i < names.size(); ++i)
    NeedCapability(check, absl::StrCat("vm_info.required_capabilities[", i, "]"), names[i],
                   "needs it");
  if (check.state.memory.page_bytes > 4096)
    NeedCapability(check, "memory.page_bytes", "hugetlb_2mib", "memory of 2 MiB pages");
}

void CheckMemory(const Check& check) {
  const BackendCapabilities& host = check.host.capabilities;
  if (check.state.memory.regions.size() > host.memory_slots)
    check.out->Add({"MEMORY_SHAPE", "memory.regions", "number of memory regions",
                    absl::StrCat(check.state.memory.regions.size()),
                    absl::StrCat(host.memory_slots, " memory slots"), kOtherHost});
  if (check.state.memory.regions.empty() || host.guest_physical_bits >= 64) return;
  const uint64_t limit = uint64_t{1} << host.guest_physical_bits;
  if (const uint64_t end = check.state.memory.regions.back().end(); end > limit)
    check.out->Add(
        {"MEMORY_SHAPE", "memory.regions", "end of guest memory", absl::StrFormat("%#x", end),
         absl::StrFormat("addresses below %#x (%d bits)", limit, host.guest_physical_bits),
         "restore on a host with more guest-physical bits"});
}

// ---- interrupt controllers

void CheckGic(const Check& check) {
  const GicState& file = *check.state.gic_state;
  const auto text = [](GicKind kind, bool its) {
    return absl::StrCat(kind == GicKind::kV2 ? "GICv2" : "GICv3", its ? " with ITS" : "");
  };
  const std::optional<GicShape>& host = check.host.gic;
  if (!host || host->kind != file.kind || host->its != file.its)
    check.out->Add({"GIC", "gic_state", "interrupt controller", text(file.kind, file.its),
                    host ? text(host->kind, host->its) : "none", kOtherHost});
}

void CheckIrqchip(const Check& check) {
  if (check.state.gic_state) CheckGic(check);
  if (!check.state.irqchip_state) return;
  const bool split = std::holds_alternative<SplitIrqchipState>(*check.state.irqchip_state);
  const char* const needed = split ? "split_irqchip" : "irqchip";
  if (!check.host.capabilities.Has(needed))
    check.out->Add({"IRQCHIP", "irqchip_state", "interrupt controller in the kernel",
                    split ? "local APICs only" : "PIC, I/O APIC and local APICs",
                    check.host.capabilities.WhyAbsent(needed), kOtherHost});
}

// ---- devices

void CheckBacking(const Check& check, const std::string& field, const DeviceState& device) {
  const DeviceBacking& file = *device.backing;
  const auto found = check.host.backings.find(device.id);
  if (found == check.host.backings.end()) {
    check.out->Add(
        {"BACKING_MISSING", field, absl::StrCat("file of device '", device.id, "'"),
         absl::StrFormat("%d bytes, formerly '%s'", file.size_bytes, absl::CHexEscape(file.path)),
         "none was given", "name a file for the device in the request"});
    return;
  }
  const auto mismatch = [&](std::string what, std::string has, std::string given,
                            std::string remedy) {
    check.out->Add({"BACKING_MISMATCH", field, std::move(what), std::move(has), std::move(given),
                    std::move(remedy)});
  };
  if (found->second.size_bytes != file.size_bytes)
    mismatch(absl::StrCat("size of the file of device '", device.id, "'"),
             absl::StrCat(file.size_bytes, " bytes"),
             absl::StrCat(found->second.size_bytes, " bytes"),
             "give the file, or a copy of it, that belongs to the snapshot");
  if (found->second.read_only && !file.read_only)
    mismatch(absl::StrCat("access to the file of device '", device.id, "'"), "written to",
             "read-only", "give a file that can be written");
}

void CheckDevice(const Check& check, const std::string& field, const DeviceState& device) {
  const auto found = check.host.devices.find(device.type);
  if (found == check.host.devices.end()) {
    std::vector<std::string> known;
    for (const auto& [type, support] : check.host.devices) known.push_back(type);
    check.out->Add({"DEVICE_UNKNOWN", field, absl::StrCat("device '", device.id, "'"),
                    absl::StrCat("of type '", device.type, "'"),
                    absl::StrCat("knows ", absl::StrJoin(known, ", ")),
                    "restore with a version of Drover that has it"});
  } else if (device.version < found->second.least || device.version > found->second.most) {
    check.out->Add({"DEVICE_VERSION", field,
                    absl::StrCat("version of the state of device '", device.id, "'"),
                    absl::StrCat(device.version),
                    absl::StrCat("reads ", found->second.least, " to ", found->second.most),
                    device.version > found->second.most
                        ? "restore with a newer version of Drover"
                        : "restore with an older version of Drover, and snapshot again"});
  }
  if (device.backing) CheckBacking(check, field, device);
}

void CheckDevices(const Check& check) {
  std::set<std::string> missing = check.host.always_present;
  for (size_t i = 0; i < check.state.device_states.size(); ++i) {
    const DeviceState& device = check.state.device_states[i];
    missing.erase(device.type);
    CheckDevice(check, absl::StrCat("device_states[", i, "]"), device);
  }
  for (const std::string& type : missing)
    check.out->Add({"DEVICE_MISSING", "device_states", absl::StrCat("device of type '", type, "'"),
                    "none", "every machine has one",
                    "restore with the version of Drover that took the snapshot"});
}

}  // namespace

std::vector<Mismatch> verify_compatible(const MicrovmState& state, const HostProfile& host) {
  MismatchList out;
  const Check check = {state, host, &out};
  if (state.vm_info.architecture != host.architecture) {
    // Nothing else can be compared.
    out.Add({"ARCHITECTURE", "vm_info.architecture", "architecture of the machine",
             NameOf(state.vm_info.architecture), NameOf(host.architecture),
             "restore on a host of that architecture"});
    return out.Take();
  }
  AddInvariants(state, &out);
  CheckVcpus(check);
  CheckCapabilities(check);
  CheckMemory(check);
  CheckIrqchip(check);
  CheckDevices(check);
  return out.Take();
}

std::ostream& operator<<(std::ostream& out, const Mismatch& m) {
  const bool invariant = m.reason == "STATE_INVARIANT";
  out << m.reason << " " << m.field << ": " << m.what << ": the snapshot has " << m.file
      << (invariant ? "; right would be: " : "; the host: ") << m.host << "; " << m.remedy;
  if (m.vcpus > 1) out << " (" << m.vcpus << " vCPUs)";
  return out;
}

absl::Status CompatibilityStatus(const std::vector<Mismatch>& mismatches) {
  if (mismatches.empty()) return absl::OkStatus();
  std::ostringstream message;
  message << "the snapshot does not fit this host:";
  for (const Mismatch& mismatch : mismatches) message << "\n" << mismatch;
  return WithReason(
      WithField(absl::FailedPreconditionError(message.str()), mismatches.front().field),
      "SNAPSHOT_INCOMPATIBLE");
}

}  // namespace drover
