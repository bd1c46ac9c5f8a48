#include "vmm/kvm/cpuid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace drover {
namespace {

struct kvm_cpuid_entry2 Leaf(uint32_t leaf, uint32_t eax, uint32_t ebx, uint32_t ecx,
                             uint32_t edx) {
  return {.function = leaf, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx};
}
struct kvm_cpuid_entry2 Subleaf(uint32_t leaf, uint32_t index, uint32_t eax) {
  return {.function = leaf, .index = index, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = eax};
}

uint32_t Word(const char* text) {
  uint32_t word;
  memcpy(&word, text, sizeof(word));
  return word;
}

// A host with everything that the machine takes away.
CpuidEntries Host(bool amd) {
  CpuidEntries host = {
      amd ? Leaf(0, 0x1F, Word("Auth"), Word("cAMD"), Word("enti"))
          : Leaf(0, 0x1F, Word("Genu"), Word("ntel"), Word("ineI")),
      Leaf(1, 0x00A20F10, 0x12345678, ~0u, ~0u),
      Subleaf(4, 0, 0x04000121),  // L1 data
      Subleaf(4, 3, 0x04000163),  // L3
      Leaf(5, 1, 2, 3, 4),
      {.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = ~0u, .ecx = ~0u},
      Leaf(0xA, 1, 2, 3, 4),
      Subleaf(0xB, 0, 99),
      Leaf(0x40000000, 0x40000001, Word("KVMK"), Word("VMKV"), Word("M\0\0\0")),
      Leaf(0x40000001, 0x01007EFB, 0, 0, 1),
      Leaf(0x80000000, 0x80000028, 0, 0, 0),
      Leaf(0x80000001, 0, 0, ~0u, 0),
      Leaf(0x80000008, 0x3030, 0, 0x700F, 0),
      Subleaf(0x8000001D, 0, 0x0121),
      Subleaf(0x8000001D, 3, 0x4163),
      Leaf(0x8000001E, 9, 9, 9, 9),
      Leaf(0x80000022, 9, 9, 9, 9),
      Leaf(0x80000026, 9, 9, 9, 9),
  };
  return host;
}

const struct kvm_cpuid_entry2& At(const CpuidEntries& entries, uint32_t leaf, uint32_t sub = 0) {
  static const struct kvm_cpuid_entry2 none = {};
  const struct kvm_cpuid_entry2* found = FindCpuid(entries, leaf, sub);
  EXPECT_NE(found, nullptr) << std::hex << leaf << "." << sub;
  return found == nullptr ? none : *found;
}

TEST(Cpuid, FeaturesOfTheMachine) {
  const CpuidEntries guest =
      BuildCpuid(Host(false), {.vcpu_id = 2, .vcpu_count = 3, .tsc_deadline_timer = true});
  const struct kvm_cpuid_entry2& leaf = At(guest, 1);
  EXPECT_EQ(leaf.ebx, 0x02035678u);
  EXPECT_TRUE(leaf.ecx & 1u << 31) << "hypervisor";
  EXPECT_TRUE(leaf.ecx & 1u << 24) << "TSC deadline";
  EXPECT_FALSE(leaf.ecx & 1u << 3) << "MONITOR";
  EXPECT_FALSE(leaf.ecx & 1u << 15) << "PDCM";
  EXPECT_TRUE(leaf.edx & 1u << 28) << "HTT";
  EXPECT_EQ(At(guest, 5).ecx, 0u);
  EXPECT_EQ(At(guest, 0xA).eax, 0u) << "no PMU";
  EXPECT_FALSE(At(guest, 7).ebx & 1u << 2) << "SGX";
}

TEST(Cpuid, NoTscDeadlineWithoutItsTimer) {
  EXPECT_FALSE(At(BuildCpuid(Host(false), {}), 1).ecx & 1u << 24);
  EXPECT_FALSE(At(BuildCpuid(Host(false), {.tsc_deadline_timer = true, .irqchip = false}), 1).ecx &
               1u << 24);
  EXPECT_FALSE(At(BuildCpuid(Host(false), {}), 1).edx & 1u << 28) << "one CPU has no HTT";
}

TEST(Cpuid, TopologyOfOnePackage) {
  const CpuidEntries guest = BuildCpuid(Host(false), {.vcpu_id = 4, .vcpu_count = 5});
  for (const uint32_t leaf : {0xBu, 0x1Fu}) {
    EXPECT_EQ(At(guest, leaf, 0).eax, 0u);
    EXPECT_EQ(At(guest, leaf, 0).ebx, 1u);
    EXPECT_EQ(At(guest, leaf, 0).ecx, 0x100u);
    EXPECT_EQ(At(guest, leaf, 1).eax, 3u);
    EXPECT_EQ(At(guest, leaf, 1).ebx, 5u);
    EXPECT_EQ(At(guest, leaf, 1).ecx, 0x201u);
    EXPECT_EQ(At(guest, leaf, 1).edx, 4u);
    EXPECT_EQ(At(guest, leaf, 2).ecx, 2u);
    EXPECT_EQ(At(guest, leaf, 2).edx, 4u);
  }
}

TEST(Cpuid, IntelCaches) {
  const CpuidEntries guest = BuildCpuid(Host(false), {.vcpu_count = 5});
  EXPECT_EQ(At(guest, 4, 0).eax, 0x1C000121u) << "8 core ids, not shared";
  EXPECT_EQ(At(guest, 4, 3).eax, 0x1C01C163u) << "8 core ids, shared by 8";
}

TEST(Cpuid, AmdTopology) {
  const CpuidEntries guest = BuildCpuid(Host(true), {.vcpu_id = 3, .vcpu_count = 4});
  EXPECT_EQ(At(guest, 0x80000008).ecx, 0x2003u);
  EXPECT_EQ(At(guest, 0x8000001D, 0).eax, 0x0121u);
  EXPECT_EQ(At(guest, 0x8000001D, 3).eax, 0xC163u);
  EXPECT_EQ(At(guest, 0x8000001E).eax, 3u);
  EXPECT_EQ(At(guest, 0x8000001E).ebx, 3u);
  EXPECT_EQ(At(guest, 0x8000001E).ecx, 0u);
  EXPECT_TRUE(At(guest, 0x80000001).ecx & 1u << 1) << "CmpLegacy";
  EXPECT_FALSE(At(guest, 0x80000001).ecx & 1u << 23) << "core counters";
  EXPECT_EQ(At(guest, 0x80000022).eax, 0u);
  EXPECT_EQ(FindCpuid(guest, 0x80000026), nullptr);
  EXPECT_EQ(At(guest, 0x80000000).eax, 0x80000025u);
}

TEST(Cpuid, HypervisorLeaves) {
  const CpuidEntries guest = BuildCpuid(Host(true), {.tsc_khz = 2'600'000});
  EXPECT_EQ(At(guest, 0x40000000).eax, 0x40000010u);
  EXPECT_EQ(At(guest, 0x40000000).ebx, Word("KVMK"));
  EXPECT_EQ(At(guest, 0x40000001).eax, 0x01007EFBu);
  EXPECT_EQ(At(guest, 0x40000001).edx, 0u);
  EXPECT_EQ(At(guest, 0x40000010).eax, 2'600'000u);
  EXPECT_EQ(At(guest, 0x40000010).ebx, 1'000'000u);
}

TEST(Cpuid, SignatureIsAddedWhereKvmListsNone) {
  const CpuidEntries guest = BuildCpuid({Leaf(0, 1, 0, 0, 0), Leaf(1, 0, 0, 0, 0)}, {});
  EXPECT_EQ(At(guest, 0x40000000).ebx, Word("KVMK"));
  EXPECT_EQ(FindCpuid(guest, 0xB), nullptr) << "beyond the largest leaf";
}

}  // namespace
}  // namespace drover
