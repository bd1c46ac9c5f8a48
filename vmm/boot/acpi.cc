#include "vmm/boot/acpi.h"

#include <numeric>

#include "absl/strings/string_view.h"
#include "vmm/base/status.h"
#include "vmm/boot/aml.h"
#include "vmm/boot/bytes.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

using Bytes = std::vector<uint8_t>;

// Every system description table begins with this (ACPI 6.4 §5.2.6).
struct [[gnu::packed]] TableHeader {
  char signature[4];
  uint32_t length;
  uint8_t revision;
  uint8_t checksum = 0;
  char oem_id[6] = {'D', 'R', 'O', 'V', 'E', 'R'};
  char oem_table_id[8] = {'D', 'R', 'O', 'V', 'E', 'R', 'V', 'M'};
  uint32_t oem_revision = 1;
  char creator_id[4] = {'D', 'R', 'V', 'R'};
  uint32_t creator_revision = 1;
};
static_assert(sizeof(TableHeader) == 36);
constexpr size_t kChecksumOffset = 9;

// Generic address structure (§5.2.3.2).
struct [[gnu::packed]] GenericAddress {
  uint8_t space;  // 1: I/O ports
  uint8_t bit_width;
  uint8_t bit_offset;
  uint8_t access_size;  // 1: byte, 2: word
  uint64_t address;
};
static_assert(sizeof(GenericAddress) == 12);

struct [[gnu::packed]] Rsdp {  // §5.2.5.3
  char signature[8] = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  uint8_t checksum = 0;  // of the first 20 bytes
  char oem_id[6] = {'D', 'R', 'O', 'V', 'E', 'R'};
  uint8_t revision = 2;
  uint32_t rsdt_address = 0;
  uint32_t length = 36;
  uint64_t xsdt_address = 0;
  uint8_t extended_checksum = 0;  // of all
  uint8_t reserved[3] = {};
};
static_assert(sizeof(Rsdp) == 36);
constexpr size_t kRsdpVersion1Size = 20;
constexpr size_t kRsdpChecksumOffset = 8;
constexpr size_t kRsdpExtendedChecksumOffset = 32;

struct [[gnu::packed]] Facs {  // §5.2.10
  char signature[4] = {'F', 'A', 'C', 'S'};
  uint32_t length = 64;
  uint32_t hardware_signature = 0;
  uint32_t waking_vector = 0;
  uint32_t global_lock = 0;
  uint32_t flags = 0;
  uint64_t extended_waking_vector = 0;
  uint8_t version = 2;
  uint8_t reserved[31] = {};
};
static_assert(sizeof(Facs) == 64);

struct [[gnu::packed]] Fadt {  // §5.2.9, what follows the header
  uint32_t firmware_control;   // the FACS
  uint32_t dsdt;
  uint8_t reserved0 = 0;
  uint8_t preferred_profile = 0;  // unspecified
  uint16_t sci_interrupt = layout::kSciIrq;
  uint32_t smi_command = 0;  // none: always in ACPI mode
  uint8_t smi_values[4] = {};
  uint32_t pm1a_event = layout::kPm1EventPort;
  uint32_t pm1b_event = 0;
  uint32_t pm1a_control = layout::kPm1ControlPort;
  uint32_t pm1b_control = 0;
  uint32_t pm2_control = 0;
  uint32_t pm_timer = 0;
  uint32_t gpe0 = 0;
  uint32_t gpe1 = 0;
  uint8_t pm1_event_length = 4;
  uint8_t pm1_control_length = 2;
  uint8_t other_lengths[4] = {};  // PM2, PM timer, GPE0, GPE1
  uint8_t gpe1_base = 0;
  uint8_t cst_control = 0;
  uint16_t c2_latency = 0xFFF;  // over 100 us: no C2
  uint16_t c3_latency = 0xFFF;  // over 1000 us: no C3
  uint16_t flush_size = 0;
  uint16_t flush_stride = 0;
  uint8_t duty_offset = 0;
  uint8_t duty_width = 0;
  uint8_t day_alarm = 0;
  uint8_t month_alarm = 0;
  uint8_t century = 0x32;  // in CMOS memory (devices/rtc)
  uint16_t boot_architecture;
  uint8_t reserved1 = 0;
  uint32_t flags;
  GenericAddress reset_register = {1, 8, 0, 1, layout::kResetPort};
  uint8_t reset_value = 0xFE;  // i8042: pulse the reset line
  uint16_t arm_boot_architecture = 0;
  uint8_t minor_version = 4;
  uint64_t x_firmware_control = 0;  // the 32-bit one is used
  uint64_t x_dsdt;
  GenericAddress x_pm1a_event = {1, 32, 0, 2, layout::kPm1EventPort};
  GenericAddress x_pm1b_event = {};
  GenericAddress x_pm1a_control = {1, 16, 0, 2, layout::kPm1ControlPort};
  GenericAddress x_pm1b_control = {};
  GenericAddress x_others[6] = {};  // PM2, PM timer, GPE0, GPE1, sleep control and status
  uint64_t hypervisor_vendor = 0;
};
static_assert(sizeof(TableHeader) + sizeof(Fadt) == 276);

// IAPC_BOOT_ARCH (§5.2.9.3).
constexpr uint16_t kHasLegacyDevices = 1 << 0;
constexpr uint16_t kHas8042 = 1 << 1;
constexpr uint16_t kNoVga = 1 << 2;
// FADT flags (§5.2.9): the power button is a fixed event since PWR_BUTTON is not set.
constexpr uint32_t kWbinvd = 1 << 0;
constexpr uint32_t kC1OnAll = 1 << 2;
constexpr uint32_t kNoFixedSleepButton = 1 << 5;
constexpr uint32_t kNoFixedRtcWake = 1 << 6;
constexpr uint32_t kResetRegister = 1 << 10;

struct [[gnu::packed]] LocalApic {  // §5.2.12.2
  uint8_t type = 0;
  uint8_t length = 8;
  uint8_t processor;
  uint8_t apic_id;
  uint32_t flags = 1;  // enabled
};
struct [[gnu::packed]] IoApic {  // §5.2.12.3
  uint8_t type = 1;
  uint8_t length = 12;
  uint8_t id = 0;
  uint8_t reserved = 0;
  uint32_t address = layout::kIoApicAddress;
  uint32_t first_gsi = 0;
};
struct [[gnu::packed]] SourceOverride {  // §5.2.12.5
  uint8_t type = 2;
  uint8_t length = 10;
  uint8_t bus = 0;  // ISA
  uint8_t irq;
  uint32_t gsi;
  uint16_t flags;
};
struct [[gnu::packed]] LocalApicNmi {  // §5.2.12.7
  uint8_t type = 4;
  uint8_t length = 6;
  uint8_t processor = 0xFF;  // all
  uint16_t flags = 0;
  uint8_t lint = 1;
};
constexpr uint16_t kActiveHighLevel = 0xD;

template <typename T>
void AppendValue(Bytes& out, const T& value) {
  Append(out, absl::string_view(reinterpret_cast<const char*>(&value), sizeof(value)));
}

// What makes the sum of `bytes` 0.
uint8_t Checksum(std::span<const uint8_t> bytes) {
  return static_cast<uint8_t>(-std::accumulate(bytes.begin(), bytes.end(), 0));
}

// A table: header with length and checksum, then `content`.
Bytes Table(absl::string_view signature, uint8_t revision, const Bytes& content) {
  TableHeader header = {.revision = revision};
  signature.copy(header.signature, sizeof(header.signature));
  header.length = static_cast<uint32_t>(sizeof(header) + content.size());
  Bytes table;
  AppendValue(table, header);
  Append(table, content);
  table[kChecksumOffset] = Checksum(table);
  return table;
}

Bytes Com1() {
  return aml::Device("COM1",
                     {aml::Name("_HID", aml::EisaId("PNP0501")), aml::Name("_UID", aml::Integer(0)),
                      aml::Name("_CRS", aml::Resources({aml::IoPorts(layout::kSerialPort, 8),
                                                        aml::IsaIrq(layout::kSerialIrq)}))});
}

Bytes RealTimeClock() {
  return aml::Device("RTC_", {aml::Name("_HID", aml::EisaId("PNP0B00")),
                              aml::Name("_CRS", aml::Resources({aml::IoPorts(layout::kRtcPort, 2),
                                                                aml::IsaIrq(layout::kRtcIrq)}))});
}

Bytes Dsdt() {
  const aml::Term type = aml::Integer(layout::kSleepTypeS5), zero = aml::Integer(0);
  Bytes terms = aml::Name("_S5_", aml::Package({type, type, zero, zero}));
  Append(terms, aml::Scope("\\_SB_", {Com1(), RealTimeClock()}));
  return Table("DSDT", 2, terms);
}

Bytes FadtTable(uint64_t facs, uint64_t dsdt) {
  Fadt fadt = {.firmware_control = static_cast<uint32_t>(facs),
               .dsdt = static_cast<uint32_t>(dsdt),
               .boot_architecture = kHasLegacyDevices | kHas8042 | kNoVga,
               .flags = kWbinvd | kC1OnAll | kNoFixedSleepButton | kNoFixedRtcWake | kResetRegister,
               .x_dsdt = dsdt};
  Bytes content;
  AppendValue(content, fadt);
  return Table("FACP", 6, content);
}

// No override for IRQ 0: KVM's default routing has the PIT at the I/O APIC's pin 0, not at 2 as on
// a PC.
Bytes Madt(uint32_t vcpus) {
  constexpr uint32_t kHas8259 = 1;
  Bytes content;
  AppendValue(content, static_cast<uint32_t>(layout::kLocalApicAddress));
  AppendValue(content, kHas8259);
  for (uint32_t i = 0; i < vcpus; ++i) {
    const uint8_t id = static_cast<uint8_t>(i);
    AppendValue(content, LocalApic{.processor = id, .apic_id = id});
  }
  AppendValue(content, IoApic{});
  AppendValue(content, SourceOverride{.irq = static_cast<uint8_t>(layout::kSciIrq),
                                      .gsi = layout::kSciIrq,
                                      .flags = kActiveHighLevel});
  AppendValue(content, LocalApicNmi{});
  return Table("APIC", 5, content);
}

Bytes Xsdt(const std::vector<uint64_t>& tables) {
  Bytes content;
  for (uint64_t table : tables) AppendValue(content, table);
  return Table("XSDT", 1, content);
}

Bytes RsdpBytes(uint64_t xsdt) {
  Bytes bytes;
  AppendValue(bytes, Rsdp{.xsdt_address = xsdt});
  const std::span<const uint8_t> all(bytes);
  bytes[kRsdpChecksumOffset] = Checksum(all.first(kRsdpVersion1Size));
  bytes[kRsdpExtendedChecksumOffset] = Checksum(all);
  return bytes;
}

// Puts tables one after the other, each aligned, and knows where they lie.
class Arrangement {
 public:
  explicit Arrangement(uint64_t address) : address_(address) {}
  uint64_t Add(const Bytes& table, size_t align) {
    bytes_.resize((bytes_.size() + align - 1) / align * align);
    const uint64_t at = address_ + bytes_.size();
    Append(bytes_, table);
    return at;
  }
  void Replace(uint64_t address, const Bytes& table) {
    std::copy(table.begin(), table.end(),
              bytes_.begin() + static_cast<std::ptrdiff_t>(address - address_));
  }
  Bytes Take() { return std::move(bytes_); }

 private:
  const uint64_t address_;
  Bytes bytes_;
};

}  // namespace

std::vector<uint8_t> BuildAcpiTables(uint32_t vcpus, uint64_t address) {
  constexpr size_t kFacsAlign = 64, kTableAlign = 16;
  DROVER_CHECK(vcpus >= 1 && vcpus <= kMaxAcpiVcpus);
  DROVER_CHECK(address % kFacsAlign == 0 && address < UINT32_MAX / 2);
  Bytes facs_bytes;
  AppendValue(facs_bytes, Facs{});
  Arrangement tables(address);
  const uint64_t rsdp = tables.Add(RsdpBytes(0), kFacsAlign);
  const uint64_t facs = tables.Add(facs_bytes, kFacsAlign);
  const uint64_t dsdt = tables.Add(Dsdt(), kTableAlign);
  const uint64_t fadt = tables.Add(FadtTable(facs, dsdt), kTableAlign);
  const uint64_t madt = tables.Add(Madt(vcpus), kTableAlign);
  const uint64_t xsdt = tables.Add(Xsdt({fadt, madt}), kTableAlign);
  tables.Replace(rsdp, RsdpBytes(xsdt));
  return tables.Take();
}

absl::StatusOr<uint64_t> WriteAcpiTables(uint32_t vcpus, GuestMemory& memory) {
  const Bytes tables = BuildAcpiTables(vcpus, layout::kRsdpAddress);
  DROVER_CHECK(tables.size() <= layout::kHighMemory - layout::kRsdpAddress);
  RETURN_IF_ERROR(memory.Write(layout::kRsdpAddress, tables));
  return layout::kRsdpAddress;
}

}  // namespace drover
