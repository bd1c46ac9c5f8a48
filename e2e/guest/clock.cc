#include "e2e/guest/clock.h"

#include "e2e/guest/interrupts.h"

namespace guest {

GapMeter gap_meter;

namespace {

constexpr uint64_t kBillion = 1000000000;
constexpr uint64_t kLapicTimerHz = kBillion;  // KVM's and QEMU's
constexpr uint32_t kKvmLeaf = 0x40000000;
constexpr uint32_t kKvmSignature = 0x4b4d564b;  // "KVMK"
constexpr uint32_t kClocksource2 = 1 << 3;
constexpr uint64_t kMsrSystemTimeNew = 0x4b564d01;

uint64_t tsc_hz;
const char* tsc_source;

uint64_t FromCrystalLeaf() {
  if (Cpuid(0).eax < 0x15) return 0;
  const CpuidRegisters r = Cpuid(0x15);
  if (r.eax == 0 || r.ebx_or_subleaf == 0 || r.ecx == 0) return 0;
  return MulDiv(r.ecx, r.ebx_or_subleaf, r.eax);
}

uint64_t FromHypervisorLeaf() {
  if (Cpuid(kKvmLeaf).eax < kKvmLeaf + 0x10 || Cpuid(kKvmLeaf).eax > kKvmLeaf + 0xffff) return 0;
  return Cpuid(kKvmLeaf + 0x10).eax * 1000ull;
}

// struct pvclock_vcpu_time_info (Linux, Documentation/virt/kvm/x86/msr.rst)
struct alignas(32) PvClock {
  uint32_t version, padding;
  uint64_t tsc_timestamp, system_time;
  uint32_t multiplier;
  int8_t shift;
  uint8_t flags, padding2[2];
} pv_clock;

uint64_t FromKvmClock() {
  if (Cpuid(kKvmLeaf).ebx_or_subleaf != kKvmSignature) return 0;
  if (!(Cpuid(kKvmLeaf + 1).eax & kClocksource2)) return 0;
  const uint64_t address = reinterpret_cast<uint64_t>(&pv_clock);
  Ring0(Ring0Function::kWriteMsr, kMsrSystemTimeNew, address | 1);
  for (int i = 0; i < 1000000 && Load(pv_clock.multiplier) == 0; i++) {
  }
  Ring0(Ring0Function::kWriteMsr, kMsrSystemTimeNew, 0);
  const uint32_t multiplier = Load(pv_clock.multiplier);
  if (multiplier == 0) return 0;
  const uint64_t hz = (kBillion << 32) / multiplier;
  const int8_t shift = Load(pv_clock.shift);
  return shift < 0 ? hz << -shift : hz >> shift;
}

uint64_t FromLapicTimer() {
  if (!HasLapic()) return 0;
  StartLapicCount();
  const uint64_t start = Tsc();
  uint32_t count;
  uint64_t end;
  do {
    count = LapicCount();
    end = Tsc();
  } while (count < kLapicTimerHz / 100);
  return MulDiv(end - start, kLapicTimerHz, count);
}

constexpr struct {
  const char* name;
  uint64_t (*find)();
} kSources[] = {{"cpuid-0x15", FromCrystalLeaf},
                {"cpuid-0x40000010", FromHypervisorLeaf},
                {"kvmclock", FromKvmClock},
                {"lapic-timer", FromLapicTimer}};

}  // namespace

uint64_t TscHz() {
  if (tsc_source) return tsc_hz;
  for (const auto& source : kSources) {
    tsc_source = source.name;
    tsc_hz = source.find();
    gap_meter.Forgive();
    if (tsc_hz != 0) return tsc_hz;
  }
  tsc_source = "none";
  return 0;
}

const char* TscSource() {
  TscHz();
  return tsc_source;
}

uint64_t PaceHz() { return TscHz() ? TscHz() : kBillion; }

}  // namespace guest
