#include "e2e/guest/acpi.h"

#include "e2e/guest/boot_info.h"
#include "e2e/guest/ring0.h"

namespace guest {
namespace {

constexpr uint32_t Signature(const char (&s)[5]) {
  return s[0] | s[1] << 8 | s[2] << 16 | static_cast<uint32_t>(s[3]) << 24;
}

// ACPI 6.5 §5.2: offsets of fields, by byte, as nothing in the tables is aligned.
constexpr uint32_t kHeaderSize = 36;
constexpr uint32_t kFadtDsdt = 40;
constexpr uint32_t kFadtPm1aControl = 64;
constexpr uint32_t kFadtFlags = 112;
constexpr uint32_t kFadtResetRegister = 116;
constexpr uint32_t kFadtResetValue = 128;
constexpr uint32_t kFadtXDsdt = 140;
constexpr uint32_t kFadtXPm1aControl = 172;
constexpr uint32_t kFadtSleepControl = 244;
constexpr uint32_t kResetSupported = 1 << 10;
constexpr uint32_t kHardwareReduced = 1 << 20;
constexpr uint32_t kMadtEntries = 44;

template <typename T>
T Read(uint64_t address) {
  T value;
  __builtin_memcpy(&value, reinterpret_cast<const void*>(address), sizeof(value));
  return value;
}

uint32_t TableSize(uint64_t table) { return Read<uint32_t>(table + 4); }

// A field of a table that may be too short (an older revision) to have it: then 0.
template <typename T>
T Field(uint64_t table, uint32_t offset) {
  return offset + sizeof(T) <= TableSize(table) ? Read<T>(table + offset) : T{0};
}

uint64_t FindTable(uint32_t signature) {
  if (boot_info.rsdp == 0) return 0;
  const bool extended =
      Read<uint8_t>(boot_info.rsdp + 15) >= 2 && Read<uint64_t>(boot_info.rsdp + 24);
  const uint64_t root =
      extended ? Read<uint64_t>(boot_info.rsdp + 24) : Read<uint32_t>(boot_info.rsdp + 16);
  const uint32_t entry_size = extended ? 8 : 4;
  for (uint64_t entry = root + kHeaderSize; entry < root + TableSize(root); entry += entry_size) {
    const uint64_t table = extended ? Read<uint64_t>(entry) : Read<uint32_t>(entry);
    if (Read<uint32_t>(table) == signature) return table;
  }
  return 0;
}

// Writes to a Generic Address Structure (§5.2.3.2) in I/O ports or memory.
void WriteRegister(uint64_t gas, uint32_t value) {
  const uint8_t space = Read<uint8_t>(gas);
  const uint64_t address = Read<uint64_t>(gas + 4);
  if (space == 1) {
    Read<uint8_t>(gas + 1) == 16 ? Out16(address, value) : Out8(address, value);
  } else if (address != 0) {
    Store(*reinterpret_cast<uint8_t*>(address), static_cast<uint8_t>(value));
  }
}

// SLP_TYPa of \_S5: its package's first element, found by its name as there is no AML interpreter.
// 5 without.
uint32_t SleepType(uint64_t fadt) {
  uint64_t dsdt = Field<uint64_t>(fadt, kFadtXDsdt);
  if (dsdt == 0) dsdt = Read<uint32_t>(fadt + kFadtDsdt);
  if (dsdt == 0) return 5;
  for (uint64_t p = dsdt + kHeaderSize; p + 8 < dsdt + TableSize(dsdt); p++) {
    if (Read<uint32_t>(p) != Signature("_S5_") || Read<uint8_t>(p + 4) != 0x12) continue;
    const uint64_t element = p + 5 + (Read<uint8_t>(p + 5) >> 6) + 2;
    return Read<uint8_t>(element) == 0x0a ? Read<uint8_t>(element + 1) : Read<uint8_t>(element);
  }
  return 5;
}

}  // namespace

uint32_t FindCpus(uint8_t* apic_ids, uint32_t capacity) {
  const uint64_t madt = FindTable(Signature("APIC"));
  uint32_t count = 0;
  if (madt == 0) return 0;
  for (uint64_t p = madt + kMadtEntries; p + 2 <= madt + TableSize(madt);
       p += Read<uint8_t>(p + 1)) {
    if (Read<uint8_t>(p + 1) < 2) break;
    const bool enabled_cpu = Read<uint8_t>(p) == 0 && (Read<uint32_t>(p + 4) & 1);
    if (enabled_cpu && count < capacity) apic_ids[count++] = Read<uint8_t>(p + 3);
  }
  return count;
}

void AcpiPowerOff() {
  const uint64_t fadt = FindTable(Signature("FACP"));
  if (fadt == 0) return;
  const uint32_t type = SleepType(fadt);
  if (Field<uint32_t>(fadt, kFadtFlags) & kHardwareReduced) {
    if (Field<uint64_t>(fadt, kFadtSleepControl + 4)) {
      WriteRegister(fadt + kFadtSleepControl, type << 2 | 1 << 5);
    }
    return;
  }
  uint64_t port = Read<uint32_t>(fadt + kFadtPm1aControl);
  if (port == 0) port = Field<uint64_t>(fadt, kFadtXPm1aControl + 4);
  if (port != 0) Out16(port, type << 10 | 1 << 13);
}

void AcpiReset() {
  const uint64_t fadt = FindTable(Signature("FACP"));
  if (fadt == 0 || !(Field<uint32_t>(fadt, kFadtFlags) & kResetSupported)) return;
  WriteRegister(fadt + kFadtResetRegister, Field<uint8_t>(fadt, kFadtResetValue));
}

}  // namespace guest
