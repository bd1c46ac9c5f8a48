#include "vmm/boot/acpi.h"

#include <cstdlib>
#include <map>
#include <numeric>
#include <string>

#include "vmm/base/status_matchers.h"
#include "vmm/boot/aml.h"
#include "vmm/boot/bytes.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t kBase = layout::kRsdpAddress;

// The tables, as a guest walks them.
class Tables {
 public:
  explicit Tables(uint32_t vcpus) : bytes_(BuildAcpiTables(vcpus, kBase)) {}

  template <typename T>
  T At(uint64_t address) const {
    return LoadAt<T>(bytes_, address - kBase);
  }
  Bytes Slice(uint64_t address, size_t size) const {
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(address - kBase);
    return {begin, begin + static_cast<std::ptrdiff_t>(size)};
  }
  std::string Signature(uint64_t address) const {
    const Bytes text = Slice(address, 4);
    return {text.begin(), text.end()};
  }
  Bytes TableAt(uint64_t address) const { return Slice(address, At<uint32_t>(address + 4)); }

  uint64_t xsdt() const { return At<uint64_t>(kBase + 24); }
  std::map<std::string, uint64_t> BySignature() const {
    std::map<std::string, uint64_t> found;
    for (uint64_t at = 36; at < At<uint32_t>(xsdt() + 4); at += 8) {
      const uint64_t table = At<uint64_t>(xsdt() + at);
      found[Signature(table)] = table;
    }
    const uint64_t fadt = found["FACP"];
    found["DSDT"] = At<uint64_t>(fadt + 140);
    found["FACS"] = At<uint32_t>(fadt + 36);
    return found;
  }

 private:
  Bytes bytes_;
};

uint8_t Sum(const Bytes& bytes) {
  return static_cast<uint8_t>(std::accumulate(bytes.begin(), bytes.end(), 0));
}

TEST(AcpiTest, RsdpLeadsToTheTablesAndAllSumsAreZero) {
  const Tables tables(2);
  EXPECT_EQ(tables.Slice(kBase, 8), (Bytes{'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '}));
  EXPECT_EQ(Sum(tables.Slice(kBase, 20)), 0);
  EXPECT_EQ(Sum(tables.Slice(kBase, 36)), 0);
  EXPECT_EQ(tables.Signature(tables.xsdt()), "XSDT");
  EXPECT_EQ(Sum(tables.TableAt(tables.xsdt())), 0);
  for (const auto& [signature, address] : tables.BySignature()) {
    EXPECT_EQ(tables.Signature(address), signature);
    if (signature == "FACS") continue;  // it has no checksum
    EXPECT_EQ(Sum(tables.TableAt(address)), 0) << signature;
  }
  EXPECT_EQ(tables.BySignature()["FACS"] % 64, 0u);
}

TEST(AcpiTest, FadtDescribesFixedHardware) {
  const Tables tables(1);
  const uint64_t fadt = tables.BySignature()["FACP"];
  EXPECT_EQ(tables.At<uint16_t>(fadt + 46), layout::kSciIrq);
  EXPECT_EQ(tables.At<uint32_t>(fadt + 48), 0u);  // no SMI command
  EXPECT_EQ(tables.At<uint32_t>(fadt + 56), layout::kPm1EventPort);
  EXPECT_EQ(tables.At<uint32_t>(fadt + 64), layout::kPm1ControlPort);
  EXPECT_EQ(tables.At<uint8_t>(fadt + 88), 4);
  EXPECT_EQ(tables.At<uint8_t>(fadt + 89), 2);
  EXPECT_EQ(tables.At<uint16_t>(fadt + 109) & 2, 2);  // 8042
  const uint32_t flags = tables.At<uint32_t>(fadt + 112);
  EXPECT_EQ(flags & (1u << 4), 0u);   // the power button is fixed
  EXPECT_NE(flags & (1u << 10), 0u);  // RESET_REG_SUP
  EXPECT_EQ(flags & (1u << 20), 0u);  // not hardware-reduced
  EXPECT_EQ(tables.At<uint64_t>(fadt + 120), layout::kResetPort);
  EXPECT_EQ(tables.At<uint8_t>(fadt + 128), 0xFE);
  EXPECT_EQ(tables.At<uint64_t>(fadt + 152), layout::kPm1EventPort);
  EXPECT_EQ(tables.At<uint64_t>(fadt + 176), layout::kPm1ControlPort);
}

// The MADT's entries by type.
std::multimap<uint8_t, Bytes> MadtEntries(const Tables& tables) {
  const Bytes madt = tables.TableAt(tables.BySignature()["APIC"]);
  std::multimap<uint8_t, Bytes> entries;
  for (size_t at = 44; at < madt.size(); at += madt[at + 1])
    entries.emplace(madt[at], Bytes(madt.begin() + static_cast<std::ptrdiff_t>(at),
                                    madt.begin() + static_cast<std::ptrdiff_t>(at + madt[at + 1])));
  return entries;
}

TEST(AcpiTest, MadtHasEveryProcessorAndTheInterruptRouting) {
  for (uint32_t vcpus : {1u, 2u, 254u}) {
    const auto entries = MadtEntries(Tables(vcpus));
    EXPECT_EQ(entries.count(0), vcpus);
    EXPECT_EQ(entries.count(1), 1u);
    EXPECT_EQ(entries.count(4), 1u);
    uint8_t id = 0;
    for (auto [at, end] = entries.equal_range(0); at != end; ++at, ++id)
      EXPECT_THAT(at->second, ElementsAre(0, 8, id, id, 1, 0, 0, 0));
  }
  const auto entries = MadtEntries(Tables(1));
  ASSERT_EQ(entries.count(2), 1u);  // the SCI; the PIT is at pin 0, KVM's default
  EXPECT_THAT(entries.find(2)->second, ElementsAre(2, 10, 0, 9, 9, 0, 0, 0, 0xD, 0));
}

TEST(AcpiTest, DsdtBeginsWithS5) {
  const Tables tables(1);
  const Bytes dsdt = tables.TableAt(tables.BySignature()["DSDT"]);
  EXPECT_EQ(Bytes(dsdt.begin() + 36, dsdt.begin() + 49),
            (Bytes{0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0A, 5, 0x0A, 5, 0}));
}

TEST(AmlTest, Encodings) {
  EXPECT_THAT(aml::EisaId("PNP0501"), ElementsAre(0x0C, 0x41, 0xD0, 0x05, 0x01));
  EXPECT_THAT(aml::Integer(0), ElementsAre(0));
  EXPECT_THAT(aml::Integer(5), ElementsAre(0x0A, 5));
  EXPECT_THAT(aml::IsaIrq(9), ElementsAre(0x22, 0x00, 0x02));
  EXPECT_THAT(aml::IoPorts(0x3F8, 8), ElementsAre(0x47, 1, 0xF8, 0x03, 0xF8, 0x03, 1, 8));
  const aml::Term large = aml::Buffer(Bytes(100));
  EXPECT_EQ(large.size(), 1u + 2 + 2 + 100);
  EXPECT_EQ(large[1], 0x40 | (104 & 0xF));
  EXPECT_EQ(large[2], 104 >> 4);
}

}  // namespace
}  // namespace drover
