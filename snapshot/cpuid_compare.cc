#include "snapshot/cpuid_compare.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "absl/strings/str_format.h"

namespace drover {
namespace {

enum Register { kEax, kEbx, kEcx, kEdx };
constexpr const char* kRegisterNames[] = {"EAX", "EBX", "ECX", "EDX"};

// A register whose bits are features, and those of them that say nothing of the processor.
struct FeatureWord {
  uint32_t leaf, subleaf;
  Register reg;
  uint32_t ignored = 0;
};
constexpr FeatureWord kFeatureWords[] = {
    // x2APIC, TSC deadline and hypervisor are KVM's own; MONITOR and OSXSAVE follow registers.
    {1, 0, kEcx, 1u << 3 | 1u << 21 | 1u << 24 | 1u << 27 | 1u << 31},
    {1, 0, kEdx, 1u << 9 | 1u << 28},  // APIC follows a register, HTT is topology
    {6, 0, kEax, 1u << 2},             // ARAT is KVM's own
    {7, 0, kEbx},
    {7, 0, kEcx, 1u << 4},  // OSPKE
    {7, 0, kEdx},
    {7, 1, kEax},
    {7, 1, kEdx},
    {7, 2, kEdx},
    {0xD, 0, kEax},  // components of XCR0
    {0xD, 0, kEdx},
    {0xD, 1, kEax},
    {0xD, 1, kEcx},  // components of IA32_XSS
    {0xD, 1, kEdx},
    {0x14, 0, kEbx},
    {0x19, 0, kEbx},
    {0x40000001, 0, kEax},
    {0x80000001, 0, kEcx, 1u << 1},  // CMP_LEGACY is topology
    {0x80000001, 0, kEdx, 1u << 9},
    {0x80000007, 0, kEdx},
    {0x80000008, 0, kEbx},
    {0x8000000A, 0, kEdx},
    {0x80000021, 0, kEax},
    {0x80000021, 0, kEcx},
};

struct FeatureName {
  uint32_t leaf, subleaf;
  Register reg;
  uint32_t bit;
  const char* name;
};
// The ones that differ between hosts of one vendor in practice.
constexpr FeatureName kFeatureNames[] = {
    {1, 0, kEcx, 0, "sse3"},
    {1, 0, kEcx, 5, "vmx"},
    {1, 0, kEcx, 12, "fma"},
    {1, 0, kEcx, 17, "pcid"},
    {1, 0, kEcx, 19, "sse4.1"},
    {1, 0, kEcx, 20, "sse4.2"},
    {1, 0, kEcx, 22, "movbe"},
    {1, 0, kEcx, 25, "aes"},
    {1, 0, kEcx, 26, "xsave"},
    {1, 0, kEcx, 28, "avx"},
    {1, 0, kEcx, 29, "f16c"},
    {1, 0, kEcx, 30, "rdrand"},
    {7, 0, kEbx, 0, "fsgsbase"},
    {7, 0, kEbx, 1, "tsc_adjust"},
    {7, 0, kEbx, 3, "bmi1"},
    {7, 0, kEbx, 4, "hle"},
    {7, 0, kEbx, 5, "avx2"},
    {7, 0, kEbx, 7, "smep"},
    {7, 0, kEbx, 8, "bmi2"},
    {7, 0, kEbx, 9, "erms"},
    {7, 0, kEbx, 10, "invpcid"},
    {7, 0, kEbx, 11, "rtm"},
    {7, 0, kEbx, 14, "mpx"},
    {7, 0, kEbx, 16, "avx512f"},
    {7, 0, kEbx, 17, "avx512dq"},
    {7, 0, kEbx, 18, "rdseed"},
    {7, 0, kEbx, 19, "adx"},
    {7, 0, kEbx, 20, "smap"},
    {7, 0, kEbx, 23, "clflushopt"},
    {7, 0, kEbx, 24, "clwb"},
    {7, 0, kEbx, 28, "avx512cd"},
    {7, 0, kEbx, 29, "sha_ni"},
    {7, 0, kEbx, 30, "avx512bw"},
    {7, 0, kEbx, 31, "avx512vl"},
    {7, 0, kEcx, 2, "umip"},
    {7, 0, kEcx, 3, "pku"},
    {7, 0, kEcx, 7, "shstk"},
    {7, 0, kEcx, 8, "gfni"},
    {7, 0, kEcx, 9, "vaes"},
    {7, 0, kEcx, 11, "avx512_vnni"},
    {7, 0, kEcx, 16, "la57"},
    {7, 0, kEcx, 22, "rdpid"},
    {7, 0, kEdx, 4, "fsrm"},
    {7, 0, kEdx, 10, "md_clear"},
    {7, 0, kEdx, 20, "ibt"},
    {7, 0, kEdx, 22, "amx_bf16"},
    {7, 0, kEdx, 24, "amx_tile"},
    {7, 0, kEdx, 25, "amx_int8"},
    {7, 0, kEdx, 26, "spec_ctrl"},
    {7, 0, kEdx, 29, "arch_capabilities"},
    {7, 0, kEdx, 31, "ssbd"},
    {0xD, 1, kEax, 3, "xsaves"},
    {0x40000001, 0, kEax, 5, "kvm_steal_time"},
    {0x80000001, 0, kEcx, 2, "svm"},
    {0x80000001, 0, kEdx, 26, "pdpe1gb"},
    {0x80000001, 0, kEdx, 27, "rdtscp"},
    {0x80000007, 0, kEdx, 8, "invtsc"},
};

uint32_t Word(const CpuidEntry* entry, Register reg) {
  if (entry == nullptr) return 0;
  const std::array<uint32_t, 4> words = {entry->eax, entry->ebx, entry->ecx, entry->edx};
  return words[reg];
}

std::string FeatureAt(const FeatureWord& word, uint32_t bit) {
  const std::string place = absl::StrFormat("CPUID %#x.%d %s bit %d", word.leaf, word.subleaf,
                                            kRegisterNames[word.reg], bit);
  const auto* named = std::ranges::find_if(kFeatureNames, [&](const FeatureName& f) {
    return f.leaf == word.leaf && f.subleaf == word.subleaf && f.reg == word.reg && f.bit == bit;
  });
  return named == std::end(kFeatureNames) ? place : absl::StrFormat("%s (%s)", named->name, place);
}

}  // namespace

const CpuidEntry* FindCpuidEntry(const std::vector<CpuidEntry>& cpuid, uint32_t leaf,
                                 uint32_t subleaf) {
  const auto found = std::ranges::find_if(cpuid, [&](const CpuidEntry& e) {
    return e.leaf == leaf &&
           (e.flags & CpuidEntry::kSubleafMatters ? e.subleaf == subleaf : subleaf == 0);
  });
  return found == cpuid.end() ? nullptr : &*found;
}

std::vector<std::string> MissingCpuFeatures(const std::vector<CpuidEntry>& guest,
                                            const std::vector<CpuidEntry>& host) {
  std::vector<std::string> missing;
  for (const FeatureWord& word : kFeatureWords) {
    const uint32_t wanted = Word(FindCpuidEntry(guest, word.leaf, word.subleaf), word.reg);
    const uint32_t there = Word(FindCpuidEntry(host, word.leaf, word.subleaf), word.reg);
    const uint32_t lacking = wanted & ~there & ~word.ignored;
    for (uint32_t bit = 0; bit < 32; ++bit)
      if (lacking >> bit & 1) missing.push_back(FeatureAt(word, bit));
  }
  return missing;
}

void AddCpuFeatures(const std::vector<CpuidEntry>& more, std::vector<CpuidEntry>* cpuid) {
  static constexpr uint32_t CpuidEntry::*kMembers[] = {&CpuidEntry::eax, &CpuidEntry::ebx,
                                                       &CpuidEntry::ecx, &CpuidEntry::edx};
  for (const FeatureWord& word : kFeatureWords) {
    const CpuidEntry* from = FindCpuidEntry(more, word.leaf, word.subleaf);
    const auto* to = FindCpuidEntry(*cpuid, word.leaf, word.subleaf);
    if (from == nullptr) continue;
    if (to == nullptr) {
      cpuid->push_back(*from);
    } else {
      const auto at = static_cast<size_t>(to - cpuid->data());
      (*cpuid)[at].*kMembers[word.reg] |= from->*kMembers[word.reg] & ~word.ignored;
    }
  }
}

uint64_t XsaveComponents(const std::vector<CpuidEntry>& cpuid) {
  const CpuidEntry* entry = FindCpuidEntry(cpuid, 0xD);
  return entry == nullptr ? 0 : static_cast<uint64_t>(entry->edx) << 32 | entry->eax;
}

XsavePlace PlaceOfComponent(const std::vector<CpuidEntry>& cpuid, uint32_t component) {
  const CpuidEntry* entry = FindCpuidEntry(cpuid, 0xD, component);
  return entry == nullptr ? XsavePlace() : XsavePlace{entry->ebx, entry->eax};
}

uint32_t PhysicalBits(const std::vector<CpuidEntry>& cpuid) {
  const CpuidEntry* entry = FindCpuidEntry(cpuid, 0x80000008);
  return entry == nullptr || (entry->eax & 0xFF) == 0 ? 36 : entry->eax & 0xFF;
}

}  // namespace drover
