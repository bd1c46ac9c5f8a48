#ifndef DROVER_VMM_BOOT_SYNTHETIC_IMAGES_H_
#define DROVER_VMM_BOOT_SYNTHETIC_IMAGES_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/base/fd.h"

namespace drover {

// Small kernel images for tests: right by default, wrong where a test makes them so.
struct SyntheticSegment {
  uint64_t address = 0x100000;
  std::vector<uint8_t> bytes = std::vector<uint8_t>(64, 0xC3);
  uint64_t memory_size = 4096;
};

struct SyntheticElf {
  uint16_t machine = 62;  // EM_X86_64
  uint16_t type = 2;      // ET_EXEC
  uint64_t entry = 0x100000;
  std::optional<uint32_t> pvh_entry = 0x100010;
  uint32_t note_align = 4;
  std::vector<SyntheticSegment> segments = {SyntheticSegment{}};
};
std::vector<uint8_t> MakeElf64(const SyntheticElf& elf);
std::vector<uint8_t> MakeElf32(const SyntheticElf& elf);

struct SyntheticBzImage {
  uint16_t version = 0x20F;
  uint16_t xloadflags = 1;
  uint8_t loadflags = 1;
  uint8_t setup_sects = 1;
  uint32_t kernel_alignment = 0x1000;
  uint64_t preferred_address = 0x100000;
  uint32_t init_size = 0x10000;
  uint32_t initrd_max = 0x7FFFFFFF;
  uint32_t command_line_size = 255;
  std::vector<uint8_t> kernel = std::vector<uint8_t>(1024, 0xF4);
};
std::vector<uint8_t> MakeBzImage(const SyntheticBzImage& image);

// A memfd with these bytes. Dies when the host has none.
Fd MakeMemoryFile(const std::vector<uint8_t>& bytes);

}  // namespace drover

#endif  // DROVER_VMM_BOOT_SYNTHETIC_IMAGES_H_
