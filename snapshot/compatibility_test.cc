#include "snapshot/compatibility.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "snapshot/cpuid_compare.h"
#include "snapshot/testing/sample_state.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

struct Case {
  const char* reason;
  const char* field;
  const char* file;  // substrings
  const char* host;
  std::function<void(MicrovmState*, HostProfile*)> make;
  uint32_t vcpus = 0;
};

CpuidEntry* Cpuid(std::vector<CpuidEntry>* cpuid, uint32_t leaf, uint32_t subleaf = 0) {
  return const_cast<CpuidEntry*>(FindCpuidEntry(*cpuid, leaf, subleaf));
}

const Case kCases[] = {
    {"ARCHITECTURE", "vm_info.architecture", "x86_64", "aarch64",
     [](auto*, auto* host) { host->architecture = Architecture::kAarch64; }},
    {"VCPU_COUNT", "vcpu_states", "2", "at most 1",
     [](auto*, auto* host) { host->capabilities.max_vcpus = 1; }},
    {"CPU_VENDOR", "vcpu_states[0].x86.cpuid", "AuthenticAMD", "GenuineIntel",
     [](auto*, auto* host) {
       CpuidEntry* leaf = Cpuid(&host->supported_cpuid, 0);
       leaf->ebx = 0x756E6547, leaf->edx = 0x49656E69, leaf->ecx = 0x6C65746E;
     },
     2},
    {"CPUID", "vcpu_states[0].x86.cpuid", "avx2 (CPUID 0x7.0 EBX bit 5), CPUID 0x7.0 ECX bit 10",
     "none of these",
     [](auto*, auto* host) {
       Cpuid(&host->supported_cpuid, 7)->ebx &= ~(1u << 5);
       Cpuid(&host->supported_cpuid, 7)->ecx &= ~(1u << 10);
     },
     2},
    {"CPUID", "vcpu_states[1].x86.cpuid", "aes", "none of these",
     [](auto* state, auto* host) {
       Cpuid(&host->supported_cpuid, 1)->ecx &= ~(1u << 25);
       Cpuid(&state->vcpu_states[0].cpuid, 1)->ecx &= ~(1u << 25);
     },
     1},
    {"CPUID", "vcpu_states[0].x86.cpuid", "CPUID 0x40000001.0 EAX bit 24", "none of these",
     [](auto*, auto* host) { Cpuid(&host->supported_cpuid, 0x40000001)->eax &= ~(1u << 24); }, 2},
    {"PHYSICAL_BITS", "vcpu_states[0].x86.cpuid", "48", "39",
     [](auto*, auto* host) { Cpuid(&host->supported_cpuid, 0x80000008)->eax = 0x3027; }, 2},
    {"MSR", "vcpu_states[0].x86.msrs", "0x10a, 0xc0000082", "none of these",
     [](auto*, auto* host) { host->msrs = {0x277}; }, 2},
    {"XSAVE_SIZE", "vcpu_states[0].x86.xsave", "8192", "4096",
     [](auto* state, auto*) {
       for (VcpuState& vcpu : state->vcpu_states) vcpu.xsave.resize(8192);
     },
     2},
    {"XSAVE_COMPONENTS", "vcpu_states[0].x86.xcrs", "0x7", "0x3",
     [](auto*, auto* host) { Cpuid(&host->supported_cpuid, 0xD)->eax = 3; }, 2},
    {"XSAVE_LAYOUT", "vcpu_states[0].x86.xsave", "256 bytes at 576", "256 bytes at 832",
     [](auto*, auto* host) { Cpuid(&host->supported_cpuid, 0xD, 2)->ebx = 832; }, 2},
    {"TSC_FREQUENCY", "vcpu_states[0].x86.tsc.khz", "2400000", "2000000, and no scaling",
     [](auto*, auto* host) { host->tsc_khz = 2'000'000; }, 2},
    {"TSC_OFFSET", "vcpu_states[0].x86.tsc.offset", "an offset", "without KVM_VCPU_TSC_OFFSET",
     [](auto*, auto* host) { host->tsc_offset = false; }, 2},
    {"NESTED_STATE", "vcpu_states[0].x86.nested", "128", "no capability nested_state_bytes",
     [](auto*, auto* host) { host->capabilities.nested_state_bytes = 0; }, 2},
    {"CAPABILITY", "vm_info.required_capabilities[0]", "needs it", "no capability irqfd",
     [](auto*, auto* host) { host->capabilities.irqfd = false; }},
    {"CAPABILITY", "vm_info.required_capabilities[0]", "needs it",
     "withheld by the agent's profile",
     [](auto*, auto* host) { (void)host->capabilities.Withhold("irqfd"); }},
    {"CAPABILITY", "vm_info.required_capabilities[2]", "needs it", "no capability time_travel",
     [](auto* state, auto*) { state->vm_info.required_capabilities.push_back("time_travel"); }},
    {"CAPABILITY", "memory.page_bytes", "2 MiB pages", "no capability hugetlb_2mib",
     [](auto* state, auto*) { state->memory.page_bytes = 2 << 20; }},
    {"MEMORY_SHAPE", "memory.regions", "2", "1 memory slots",
     [](auto*, auto* host) { host->capabilities.memory_slots = 1; }},
    {"MEMORY_SHAPE", "memory.regions", "0x104000000", "below 0x100000000 (32 bits)",
     [](auto*, auto* host) { host->capabilities.guest_physical_bits = 32; }},
    {"IRQCHIP", "irqchip_state", "PIC", "no capability irqchip",
     [](auto*, auto* host) { host->capabilities.irqchip = false; }},
    {"IRQCHIP", "irqchip_state", "local APICs only", "no capability split_irqchip",
     [](auto* state, auto*) { state->irqchip_state = SplitIrqchipState(); }},
    {"DEVICE_UNKNOWN", "device_states[2]", "of type 'block'", "knows rtc, serial",
     [](auto*, auto* host) { host->devices.erase("block"); }},
    {"DEVICE_VERSION", "device_states[1]", "2", "reads 1 to 1",
     [](auto*, auto* host) {
       host->devices["rtc"] = {1, 1};
     }},
    {"DEVICE_VERSION", "device_states[0]", "1", "reads 2 to 3",
     [](auto*, auto* host) {
       host->devices["serial"] = {2, 3};
     }},
    {"DEVICE_MISSING", "device_states", "none", "every machine has one",
     [](auto* state, auto*) { state->device_states.erase(state->device_states.begin()); }},
    {"BACKING_MISSING", "device_states[2]", "formerly '/images/root.img'", "none was given",
     [](auto*, auto* host) { host->backings.clear(); }},
    {"BACKING_MISMATCH", "device_states[2]", "67108864 bytes", "67108863 bytes",
     [](auto*, auto* host) { host->backings["disk-0"].size_bytes -= 1; }},
    {"BACKING_MISMATCH", "device_states[2]", "written to", "read-only",
     [](auto* state, auto*) { state->device_states[2].backing->read_only = false; }},
};

MATCHER_P(Is, expected, "") {
  *result_listener << arg;
  return arg.reason == expected.reason && arg.field == expected.field && !arg.what.empty() &&
         !arg.remedy.empty() && arg.file.find(expected.file) != std::string::npos &&
         arg.host.find(expected.host) != std::string::npos && arg.vcpus == expected.vcpus;
}

TEST(Compatibility, AHostThatFits) {
  EXPECT_THAT(verify_compatible(SampleState(), SampleHost()), IsEmpty());
  EXPECT_OK(CompatibilityStatus({}));
}

TEST(Compatibility, EachMismatchSaysWhatAndWhereAndWhatToDo) {
  for (const Case& c : kCases) {
    MicrovmState state = SampleState();
    HostProfile host = SampleHost();
    c.make(&state, &host);
    const std::vector<Mismatch> mismatches = verify_compatible(state, host);
    EXPECT_THAT(mismatches, testing::Contains(Is(c))) << c.reason << " " << c.field;
  }
}

TEST(Compatibility, EveryMismatchIsListedAtOnce) {
  HostProfile host = SampleHost();
  host.capabilities = {};
  host.supported_cpuid.clear();
  host.msrs.clear();
  host.tsc_khz = 1;
  host.tsc_offset = false;
  host.devices.clear();
  host.always_present = {"rng"};
  host.backings.clear();
  std::set<std::string> reasons;
  const std::vector<Mismatch> mismatches = verify_compatible(SampleState(), host);
  for (const Mismatch& mismatch : mismatches) reasons.insert(mismatch.reason);
  EXPECT_THAT(reasons, testing::UnorderedElementsAre(
                           "VCPU_COUNT", "CPU_VENDOR", "CPUID", "PHYSICAL_BITS", "MSR",
                           "XSAVE_SIZE", "XSAVE_COMPONENTS", "TSC_FREQUENCY", "TSC_OFFSET",
                           "NESTED_STATE", "CAPABILITY", "MEMORY_SHAPE", "IRQCHIP",
                           "DEVICE_UNKNOWN", "DEVICE_MISSING", "BACKING_MISSING"));
  const absl::Status status = CompatibilityStatus(mismatches);
  EXPECT_EQ(ReasonOf(status), "SNAPSHOT_INCOMPATIBLE");
  for (const std::string& reason : reasons)
    EXPECT_THAT(std::string(status.message()), HasSubstr("\n" + reason + " "));
}

TEST(Compatibility, ScalingServesAnotherTscFrequency) {
  HostProfile host = SampleHost();
  host.tsc_khz = 2'000'000;
  host.capabilities.tsc_control = true;
  EXPECT_THAT(verify_compatible(SampleState(), host), IsEmpty());
  host.capabilities.tsc_control = false;
  host.tsc_khz = 2'400'500;  // within 250 ppm
  EXPECT_THAT(verify_compatible(SampleState(), host), IsEmpty());
}

TEST(Compatibility, AHostMayHaveMore) {
  HostProfile host = SampleHost();
  for (CpuidEntry& entry : host.supported_cpuid)
    if (entry.leaf == 7) entry.ebx = entry.ecx = entry.edx = ~0u;
  host.capabilities.max_vcpus = 4096;
  host.capabilities.xsave_bytes = 12288;
  host.msrs.push_back(0xC0000103);
  host.devices["net"] = {1, 9};
  host.backings["another"] = {};
  EXPECT_THAT(verify_compatible(SampleState(), host), IsEmpty());
}

TEST(Compatibility, OnlyTheProcessorsOwnFeaturesCount) {
  MicrovmState state = SampleState();
  for (VcpuState& vcpu : state.vcpu_states) {
    CpuidEntry* features = Cpuid(&vcpu.cpuid, 1);
    features->ecx |= 1u << 31 | 1u << 27 | 1u << 24 | 1u << 21;  // hypervisor, OSXSAVE, ...
    features->edx |= 1u << 28;                                   // HTT
    Cpuid(&vcpu.cpuid, 7)->ecx |= 1u << 4;                       // OSPKE
  }
  EXPECT_THAT(verify_compatible(state, SampleHost()), IsEmpty());
}

TEST(Compatibility, WhatKvmShowsButDoesNotListCounts) {
  const std::vector<CpuidEntry> shown = SampleHost().supported_cpuid;
  HostProfile host = SampleHost();
  Cpuid(&host.supported_cpuid, 7)->ebx = 0;
  std::erase_if(host.supported_cpuid, [](const CpuidEntry& e) { return e.leaf == 0x80000001; });
  EXPECT_THAT(verify_compatible(SampleState(), host), testing::Not(IsEmpty()));
  AddCpuFeatures(shown, &host.supported_cpuid);
  EXPECT_THAT(verify_compatible(SampleState(), host), IsEmpty());
  EXPECT_EQ(Cpuid(&host.supported_cpuid, 7)->ebx, FindCpuidEntry(shown, 7)->ebx);
}

TEST(Compatibility, Gic) {
  MicrovmState state = SmallState();
  HostProfile host = SampleHost();
  state.vm_info.architecture = host.architecture = Architecture::kAarch64;
  state.irqchip_state.reset();
  state.gic_state = GicState{GicKind::kV3, true, {1}};
  const auto reasons = [&] {
    std::vector<std::string> out;
    for (const Mismatch& m : verify_compatible(state, host))
      if (m.reason == "GIC") out.push_back(m.file + " / " + m.host);
    return out;
  };
  EXPECT_THAT(reasons(), testing::ElementsAre("GICv3 with ITS / none"));
  host.gic = {GicKind::kV3, false};
  EXPECT_THAT(reasons(), testing::ElementsAre("GICv3 with ITS / GICv3"));
  host.gic = {GicKind::kV2, false};
  EXPECT_THAT(reasons(), testing::ElementsAre("GICv3 with ITS / GICv2"));
  host.gic = {GicKind::kV3, true};
  EXPECT_THAT(reasons(), IsEmpty());
}

// ---- states that no Drover writes

struct Invariant {
  const char* field;
  const char* file;
  const char* right;
  std::function<void(MicrovmState*)> make;
};

const Invariant kInvariants[] = {
    {"vcpu_states", "2", "3, as vm_info.vcpus says", [](auto* s) { s->vm_info.vcpus = 3; }},
    {"vcpu_states", "1", "2, as vm_info", [](auto* s) { s->vcpu_states.pop_back(); }},
    {"vcpu_states[1].x86.cpuid", "GenuineIntel", "AuthenticAMD, as vCPU 0 has",
     [](auto* s) {
       CpuidEntry* leaf = Cpuid(&s->vcpu_states[1].cpuid, 0);
       leaf->ebx = 0x756E6547, leaf->edx = 0x49656E69, leaf->ecx = 0x6C65746E;
     }},
    {"vcpu_states[1].x86.tsc.khz", "1", "2400000", [](auto* s) { s->vcpu_states[1].tsc.khz = 1; }},
    {"vcpu_states[1].x86.xsave", "8192", "4096",
     [](auto* s) { s->vcpu_states[1].xsave.resize(8192); }},
    {"vcpu_states[1].x86.nested", "0", "1", [](auto* s) { s->vcpu_states[1].nested.reset(); }},
    {"vcpu_states[1].x86", "twice", "what a processor can hold",
     [](auto* s) { s->vcpu_states[1].cpuid.push_back(s->vcpu_states[1].cpuid[0]); }},
    {"vcpu_states[1].x86", "long mode", "what a processor",
     [](auto* s) { s->vcpu_states[1].sregs.cr4 = 0; }},
    {"vcpu_states[0].x86", "xcrs", "what a processor",
     [](auto* s) { s->vcpu_states[0].xcrs[0].value = 6; }},
    {"vcpu_states[0].x86", "lapic: missing", "what a processor",
     [](auto* s) { s->vcpu_states[0].lapic.reset(); }},
    {"vcpu_states[0].x86", "DR6", "what a processor",
     [](auto* s) { s->vcpu_states[0].debug.dr6 = ~uint64_t{0}; }},
    {"vcpu_states[0].x86", "events", "what a processor",
     [](auto* s) { s->vcpu_states[0].events.flags = 0x100; }},
    {"vcpu_states[0].x86", "nested", "what a processor",
     [](auto* s) { s->vcpu_states[0].nested->flags = 0x8000; }},
    {"vcpu_states[0].x86.xsave", "0x87", "at most 0x7",
     [](auto* s) { s->vcpu_states[0].xsave[512] = 0x87; }},
    {"vcpu_states[0].x86.xsave", "XCOMP_BV 0x8000000000000000", "standard format",
     [](auto* s) { s->vcpu_states[0].xsave[527] = 0x80; }},
    {"memory.regions", "4096 bytes at 0", "3221225472 bytes at 0",
     [](auto* s) {
       s->memory.regions = {{0, 4096}};
     }},
    {"memory.regions", "3221225472 bytes at 0", "67108864 bytes at 0x100000000",
     [](auto* s) { s->memory.regions.pop_back(); }},
    {"vm_info.memory_bytes", "4096", "at least 2 MiB",
     [](auto* s) { s->vm_info.memory_bytes = 4096; }},
    {"irqchip_state", "missing", "present on x86_64", [](auto* s) { s->irqchip_state.reset(); }},
    {"gic_state", "present", "absent on x86_64", [](auto* s) { s->gic_state.emplace(); }},
    {"irqchip_state.pc", "PIC priority 8", "what such a chip",
     [](auto* s) { std::get<PcIrqchipState>(*s->irqchip_state).pic_slave.priority_add = 8; }},
};

TEST(Compatibility, ImpossibleStatesAreRefused) {
  EXPECT_THAT(CheckInvariants(SampleState()), IsEmpty());
  for (const Invariant& c : kInvariants) {
    MicrovmState state = SampleState();
    c.make(&state);
    const auto is = [&](const Mismatch& m) {
      return m.reason == "STATE_INVARIANT" && m.field == c.field &&
             m.file.find(c.file) != std::string::npos && m.host.find(c.right) != std::string::npos;
    };
    EXPECT_THAT(CheckInvariants(state), testing::Contains(testing::Truly(is))) << c.field << c.file;
    EXPECT_THAT(verify_compatible(state, SampleHost()), testing::Contains(testing::Truly(is)));
  }
}

TEST(Compatibility, TheDefaultStateIsRefused) {
  EXPECT_THAT(verify_compatible(MicrovmState(), SampleHost()), testing::Not(IsEmpty()));
}

TEST(Compatibility, ManyVcpusWithOneFaultAreOneMismatch) {
  MicrovmState state = SampleState();
  HostProfile host = SampleHost();
  host.capabilities.max_vcpus = 1024;
  state.vm_info.vcpus = 600;
  while (state.vcpu_states.size() < 600) {
    state.vcpu_states.push_back(state.vcpu_states[1]);
    state.vcpu_states.back().id = static_cast<uint32_t>(state.vcpu_states.size() - 1);
  }
  host.msrs = {0x277};
  const std::vector<Mismatch> mismatches = verify_compatible(state, host);
  ASSERT_EQ(mismatches.size(), 1u);
  EXPECT_EQ(mismatches[0].vcpus, 600u);
  EXPECT_THAT(std::string(CompatibilityStatus(mismatches).message()), HasSubstr("(600 vCPUs)"));
}

}  // namespace
}  // namespace drover
