#include "vmm/boot/boot.h"

#include <fcntl.h>

#include <functional>
#include <string>

#include "vmm/base/status_matchers.h"
#include "vmm/boot/bytes.h"
#include "vmm/boot/linux_boot_params.h"
#include "vmm/boot/memory_map.h"
#include "vmm/boot/synthetic_images.h"
#include "vmm/core/memory_layout.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;
constexpr char kKernel[] = "vm.spec.boot.kernel_path";
constexpr char kInitrd[] = "vm.spec.boot.initrd_path";
constexpr char kCommandLine[] = "vm.spec.boot.command_line";

// Matches an INVALID_ARGUMENT with this field and reason, whose message has a remedy.
MATCHER_P2(IsRefusal, field, reason, "is that refusal") {
  const absl::Status& status = internal::ToStatus(arg);
  *result_listener << status.ToString() << " field=" << FieldOf(status)
                   << " reason=" << ReasonOf(status);
  return status.code() == absl::StatusCode::kInvalidArgument && FieldOf(status) == field &&
         ReasonOf(status) == reason && !status.message().empty();
}

class BootTest : public ::testing::Test {
 protected:
  BootTest() : memory_(*GuestMemory::Create({{0, 16 * kMiB}})) {}

  absl::StatusOr<BootRegisters> Load(const std::vector<uint8_t>& kernel,
                                     const std::vector<uint8_t>* initrd = nullptr) {
    const Fd kernel_fd = MakeMemoryFile(kernel);
    Fd initrd_fd;
    if (initrd != nullptr) initrd_fd = MakeMemoryFile(*initrd);
    return LoadBootImage({.kernel_fd = kernel_fd.get(),
                          .initrd_fd = initrd_fd.get(),
                          .command_line = command_line_,
                          .vcpus = vcpus_},
                         *memory_);
  }

  std::vector<uint8_t> Bytes(uint64_t address, uint64_t size) {
    std::vector<uint8_t> out(size);
    EXPECT_OK(memory_->Read(address, out));
    return out;
  }
  template <typename T>
  T At(uint64_t address) {
    return LoadAt<T>(Bytes(address, sizeof(T)), 0);
  }
  std::string CommandLineInMemory() {
    return reinterpret_cast<const char*>(
        Bytes(layout::kCommandLine, layout::kCommandLineMax).data());
  }

  std::unique_ptr<GuestMemory> memory_;
  std::string command_line_ = "console=ttyS0";
  uint32_t vcpus_ = 2;
};

TEST_F(BootTest, ElfWithTheNoteBootsByPvh) {
  ASSERT_OK_AND_ASSIGN(const BootRegisters registers, Load(MakeElf64({})));
  EXPECT_EQ(registers.rip, 0x100010u);
  EXPECT_EQ(registers.rbx, layout::kPvhStartInfo);
  EXPECT_FALSE(registers.long_mode);
  EXPECT_EQ(At<uint64_t>(registers.gdt_base + 0x10), 0x00CF9B000000FFFFu);
  EXPECT_EQ(Bytes(0x100000, 64), std::vector<uint8_t>(64, 0xC3));
  EXPECT_EQ(CommandLineInMemory(), "console=ttyS0");
}

TEST_F(BootTest, PvhStartInfoNamesEverything) {
  const std::vector<uint8_t> initrd(5000, 0x5A);
  ASSERT_OK(Load(MakeElf64({}), &initrd));
  const uint64_t info = layout::kPvhStartInfo;
  EXPECT_EQ(At<uint32_t>(info), 0x336EC578u);
  EXPECT_EQ(At<uint32_t>(info + 4), 1u);
  EXPECT_EQ(At<uint32_t>(info + 12), 1u);
  EXPECT_EQ(At<uint64_t>(info + 24), layout::kCommandLine);
  EXPECT_EQ(At<uint64_t>(info + 32), layout::kRsdpAddress);
  EXPECT_EQ(At<uint32_t>(info + 48), 3u);
  const uint64_t modules = At<uint64_t>(info + 16);
  EXPECT_EQ(At<uint64_t>(modules), 16 * kMiB - 2 * 4096);
  EXPECT_EQ(At<uint64_t>(modules + 8), initrd.size());
  EXPECT_EQ(Bytes(At<uint64_t>(modules), initrd.size()), initrd);
  const uint64_t last = At<uint64_t>(info + 40) + 2 * 24;
  EXPECT_EQ(At<uint64_t>(last), kMiB);
  EXPECT_EQ(At<uint64_t>(last + 8), 15 * kMiB);
}

TEST_F(BootTest, Elf32AndWideNotesBootByPvh) {
  EXPECT_OK(Load(MakeElf32({.machine = 3})));
  EXPECT_OK(Load(MakeElf32({.machine = 62})));
  EXPECT_OK(Load(MakeElf64({.note_align = 8})));
}

TEST_F(BootTest, SegmentsGoToTheirPlacesAndBssIsNotTouched) {
  ASSERT_OK(Load(MakeElf64(
      {.segments = {{}, {.address = 0x300000, .bytes = {1, 2, 3}, .memory_size = 8 * kMiB}}})));
  EXPECT_THAT(Bytes(0x300000, 4), ElementsAre(1, 2, 3, 0));
}

TEST_F(BootTest, VmlinuxBootsInLongMode) {
  ASSERT_OK_AND_ASSIGN(const BootRegisters registers, Load(MakeElf64({.pvh_entry = {}})));
  EXPECT_EQ(registers.rip, 0x100000u);
  EXPECT_EQ(registers.rsi, layout::kBootParams);
  EXPECT_TRUE(registers.long_mode);
  EXPECT_EQ(At<uint64_t>(registers.gdt_base + 0x10), 0x00AF9B000000FFFFu);
  EXPECT_EQ(At<uint32_t>(layout::kBootParams + linux_boot::kHeaderMagic),
            linux_boot::kHeaderMagicValue);
  EXPECT_EQ(At<uint64_t>(layout::kBootParams + linux_boot::kAcpiRsdpAddress), layout::kRsdpAddress);
}

TEST_F(BootTest, PageTablesMapFourGibOneToOne) {
  ASSERT_OK_AND_ASSIGN(const BootRegisters registers, Load(MakeElf64({.pvh_entry = {}})));
  const uint64_t pointers = At<uint64_t>(registers.cr3) & ~0xFFFull;
  for (uint64_t gib = 0; gib < 4; ++gib) {
    const uint64_t directory = At<uint64_t>(pointers + gib * 8) & ~0xFFFull;
    EXPECT_EQ(At<uint64_t>(directory + 511 * 8), (gib << 30) + (511ull << 21) + 0x83);
  }
  EXPECT_EQ(At<uint64_t>(pointers + 4 * 8), 0u);
}

TEST_F(BootTest, BzImageBootsByThe64BitProtocol) {
  const std::vector<uint8_t> initrd(100, 0x77);
  ASSERT_OK_AND_ASSIGN(const BootRegisters registers, Load(MakeBzImage({}), &initrd));
  EXPECT_EQ(registers.rip, 0x100200u);
  EXPECT_EQ(registers.rsi, layout::kBootParams);
  EXPECT_TRUE(registers.long_mode);
  EXPECT_EQ(Bytes(0x100000, 1024), std::vector<uint8_t>(1024, 0xF4));
  const uint64_t params = layout::kBootParams;
  EXPECT_EQ(At<uint16_t>(params + linux_boot::kVersion), 0x20F);
  EXPECT_EQ(At<uint8_t>(params + linux_boot::kTypeOfLoader), 0xFF);
  EXPECT_EQ(At<uint32_t>(params + linux_boot::kCommandLinePointer), layout::kCommandLine);
  EXPECT_EQ(At<uint32_t>(params + linux_boot::kRamdiskImage), 16 * kMiB - 4096);
  EXPECT_EQ(At<uint32_t>(params + linux_boot::kRamdiskSize), 100u);
  EXPECT_EQ(At<uint8_t>(params + linux_boot::kE820Entries), 3);
  EXPECT_EQ(At<uint64_t>(params + linux_boot::kE820Table), 0u);
  EXPECT_EQ(At<uint64_t>(params + linux_boot::kE820Table + 8), layout::kEbdaStart);
  EXPECT_EQ(At<uint32_t>(params + linux_boot::kE820Table + 20 + 16), 2u);
}

TEST_F(BootTest, InitrdStaysBelowTheKernelsMaximum) {
  const std::vector<uint8_t> initrd(100, 0x77);
  ASSERT_OK(Load(MakeBzImage({.initrd_max = 0x2FFFFF}), &initrd));
  EXPECT_EQ(At<uint32_t>(layout::kBootParams + linux_boot::kRamdiskImage), 0x2FF000u);
}

TEST_F(BootTest, MemoryAboveTheGapIsInTheMap) {
  ASSERT_OK_AND_ASSIGN(const auto memory, GuestMemory::Create({{0, layout::kMmioGapStart},
                                                               {layout::kMmioGapEnd, 64 * kMiB}}));
  const auto map = MemoryMap(*memory);
  ASSERT_EQ(map.size(), 4u);
  EXPECT_EQ(map[3], (MemoryMapEntry{{layout::kMmioGapEnd, 64 * kMiB}, MemoryMapEntry::Type::kRam}));
}

TEST_F(BootTest, NothingElseBelowOneMibIsWritten) {
  ASSERT_OK(Load(MakeElf64({})));
  EXPECT_EQ(Bytes(0, 0x500), std::vector<uint8_t>(0x500));
  EXPECT_EQ(Bytes(0x21000, 0xBF000), std::vector<uint8_t>(0xBF000));
}

TEST_F(BootTest, EveryPrefixOfAKernelIsRefused) {
  for (const std::vector<uint8_t>& whole :
       {MakeElf64({}), MakeElf32({.machine = 3}), MakeBzImage({})}) {
    for (size_t n = 0; n < whole.size(); ++n)
      ASSERT_THAT(Load({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)}),
                  IsRefusal(kKernel, "KERNEL_TRUNCATED"))
          << n << " bytes";
  }
}

// Refused kernels, one a row.
struct BadKernel {
  const char* name;
  std::function<std::vector<uint8_t>()> make;
  const char* reason;
  const char* message;
};

std::vector<uint8_t> Poked(std::vector<uint8_t> image, size_t at, absl::string_view bytes) {
  if (image.size() < at + bytes.size()) image.resize(at + bytes.size());
  std::copy(bytes.begin(), bytes.end(), image.begin() + static_cast<std::ptrdiff_t>(at));
  return image;
}
std::vector<uint8_t> Junk(size_t at, absl::string_view bytes) {
  return Poked(std::vector<uint8_t>(4096, 'x'), at, bytes);
}
std::vector<uint8_t> ElfAt(uint64_t address, uint64_t memory_size) {
  return MakeElf64({.entry = address,
                    .pvh_entry = static_cast<uint32_t>(address),
                    .segments = {{.address = address, .memory_size = memory_size}}});
}

constexpr char kWrongArch[] = "KERNEL_WRONG_ARCHITECTURE";
constexpr char kUnknown[] = "KERNEL_FORMAT_UNKNOWN";
constexpr char kMalformed[] = "KERNEL_MALFORMED";
constexpr char kNoFit[] = "KERNEL_DOES_NOT_FIT";

const BadKernel kBadKernels[] = {
    {"Text", [] { return Junk(0, "#!/bin/sh\n"); }, kUnknown, "#!/bin/s"},
    {"Gzip", [] { return Junk(0, "\x1f\x8b"); }, kUnknown, "decompress"},
    {"Efi", [] { return Junk(0, "MZ"); }, kUnknown, "PE"},
    {"Arm64Image", [] { return Poked(Junk(0, "MZ"), 0x38, "ARM\x64"); }, kWrongArch, "arm64"},
    {"ArmZImage", [] { return Junk(0x24, "\x18\x28\x6f\x01"); }, kWrongArch, "ARM"},
    {"Aarch64Elf", [] { return MakeElf64({.machine = 183}); }, kWrongArch, "183"},
    {"Arm32Elf", [] { return MakeElf32({.machine = 40}); }, kWrongArch, "40"},
    {"I386InElf64", [] { return MakeElf64({.machine = 3}); }, kWrongArch, "machine 3"},
    {"BigEndianElf", [] { return Poked(MakeElf64({}), 5, "\x02"); }, kWrongArch, "little-endian"},
    {"ElfClass", [] { return Poked(MakeElf64({}), 4, "\x03"); }, kMalformed, "class 3"},
    {"ObjectFile", [] { return MakeElf64({.type = 1}); }, kUnknown, "type 1"},
    {"Elf32WithoutNote", [] { return MakeElf32({.machine = 3, .pvh_entry = {}}); }, kUnknown,
     "PVH"},
    {"NoSegments", [] { return MakeElf64({.segments = {}}); }, kMalformed, "no segment"},
    {"PvhEntryOutside", [] { return MakeElf64({.pvh_entry = 0x500000}); }, kMalformed, "0x500000"},
    {"EntryOutside", [] { return MakeElf64({.entry = 0x10, .pvh_entry = {}}); }, kMalformed,
     "0x10"},
    {"Overlap",
     [] {
       return MakeElf64({.segments = {{}, {.address = 0x100800}}});
     },
     kMalformed, "overlap at 0x100800"},
    {"FileLargerThanMemory", [] { return MakeElf64({.segments = {{.memory_size = 8}}}); },
     kMalformed, "64 bytes in the file"},
    {"OverBootData", [] { return ElfAt(0x9000, 4096); }, kNoFit, "below 0x100000"},
    {"EndsOutside", [] { return ElfAt(kMiB, 16 * kMiB); }, kNoFit, "more memory"},
    {"BeginsOutside", [] { return ElfAt(64 * kMiB, 4096); }, kNoFit, "0x4000000"},
    {"Wraps", [] { return ElfAt(UINT64_MAX - 100, 4096); }, kNoFit, "more memory"},
    {"HugeSegment", [] { return ElfAt(kMiB, UINT64_MAX); }, kNoFit, "more memory"},
    {"OldBzImage", [] { return MakeBzImage({.version = 0x20A}); }, kUnknown, "2.10"},
    {"BzImageFor32Bit", [] { return MakeBzImage({.xloadflags = 0}); }, kWrongArch, "32-bit"},
    {"ZImage", [] { return MakeBzImage({.loadflags = 0}); }, kUnknown, "zImage"},
    {"TinyBzImage", [] { return MakeBzImage({.kernel = std::vector<uint8_t>(512)}); }, kMalformed,
     "512 bytes"},
    {"MisalignedBzImage", [] { return MakeBzImage({.preferred_address = 0x100200}); }, kMalformed,
     "0x100200"},
    {"NoAlignment", [] { return MakeBzImage({.kernel_alignment = 0}); }, kMalformed, "alignment"},
    {"BzImageInitSize", [] { return MakeBzImage({.init_size = 0xFFFFFFFF}); }, kNoFit,
     "4294967295 bytes"},
    {"BzImageTooHigh", [] { return MakeBzImage({.preferred_address = 1ull << 60}); }, kNoFit,
     "more memory"},
    {"BzImageTooLow", [] { return MakeBzImage({.preferred_address = 0x10000}); }, kNoFit,
     "below 0x100000"},
};

TEST_F(BootTest, BadKernelsAreRefusedWithFieldReasonAndRemedy) {
  for (const BadKernel& bad : kBadKernels) {
    const auto result = Load(bad.make());
    EXPECT_THAT(result, IsRefusal(kKernel, bad.reason)) << bad.name;
    EXPECT_THAT(result, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.message)))
        << bad.name;
  }
}

TEST_F(BootTest, FilesThatAreNoFilesAreRefused) {
  const Fd directory(open("/", O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(LoadBootImage({.kernel_fd = directory.get()}, *memory_),
              IsRefusal(kKernel, "KERNEL_UNREADABLE"));
  EXPECT_THAT(LoadBootImage({.kernel_fd = -1}, *memory_), IsRefusal(kKernel, "KERNEL_UNREADABLE"));
  const Fd kernel = MakeMemoryFile(MakeElf64({}));
  EXPECT_THAT(LoadBootImage({.kernel_fd = kernel.get(), .initrd_fd = directory.get()}, *memory_),
              IsRefusal(kInitrd, "INITRD_UNREADABLE"));
}

TEST_F(BootTest, InitrdMustFit) {
  const std::vector<uint8_t> empty, large(16 * kMiB), huge(17 * kMiB);
  EXPECT_THAT(Load(MakeElf64({}), &empty), IsRefusal(kInitrd, "INITRD_EMPTY"));
  EXPECT_THAT(Load(MakeElf64({}), &large), IsRefusal(kInitrd, "INITRD_DOES_NOT_FIT"));
  EXPECT_THAT(Load(MakeElf64({}), &huge), IsRefusal(kInitrd, "INITRD_DOES_NOT_FIT"));
  const std::vector<uint8_t> small(10);
  EXPECT_THAT(Load(MakeBzImage({.initrd_max = 0}), &small),
              IsRefusal(kInitrd, "INITRD_DOES_NOT_FIT"));
  EXPECT_THAT(Load(MakeBzImage({.initrd_max = 0x10FFFF}), &small),
              IsRefusal(kInitrd, "INITRD_DOES_NOT_FIT"));
}

TEST_F(BootTest, CommandLineLimits) {
  command_line_ = std::string(2047, 'a');
  EXPECT_OK(Load(MakeElf64({})));
  EXPECT_EQ(CommandLineInMemory(), command_line_);
  EXPECT_THAT(Load(MakeBzImage({.command_line_size = 2046})),
              IsRefusal(kCommandLine, "COMMAND_LINE_TOO_LONG"));
  command_line_ += 'a';
  EXPECT_THAT(Load(MakeElf64({})), IsRefusal(kCommandLine, "COMMAND_LINE_TOO_LONG"));
  command_line_ = std::string("a\0b", 3);
  EXPECT_THAT(Load(MakeElf64({})), IsRefusal(kCommandLine, "COMMAND_LINE_HAS_NUL"));
}

TEST_F(BootTest, VcpuLimits) {
  vcpus_ = 254;
  EXPECT_OK(Load(MakeElf64({})));
  vcpus_ = 255;
  EXPECT_THAT(Load(MakeElf64({})), IsRefusal("vm.spec.vcpus", "TOO_MANY_VCPUS"));
  vcpus_ = 0;
  EXPECT_THAT(Load(MakeElf64({})), IsRefusal("vm.spec.vcpus", "TOO_FEW_VCPUS"));
}

TEST_F(BootTest, TooLittleMemory) {
  memory_ = *GuestMemory::Create({{0, kMiB}});
  EXPECT_THAT(Load(MakeElf64({})), IsRefusal(kKernel, "KERNEL_DOES_NOT_FIT"));
  memory_ = *GuestMemory::Create({{4096, kMiB}});
  EXPECT_THAT(Load(MakeElf64({})), IsRefusal(kKernel, "KERNEL_DOES_NOT_FIT"));
}

}  // namespace
}  // namespace drover
