// What the guest's ELF file must be for every VMM to load it, and fast.

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "e2e/guest/bare_pvh.h"

namespace drover {
namespace {

std::string ReadGuest() {
  std::ifstream file("e2e/guest/guest.elf", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Elf64_Ehdr Header(const std::string& image) {
  Elf64_Ehdr header = {};
  if (image.size() >= sizeof(header)) memcpy(&header, image.data(), sizeof(header));
  return header;
}

std::vector<Elf64_Phdr> Segments(const std::string& image, uint32_t type) {
  std::vector<Elf64_Phdr> segments;
  const Elf64_Ehdr elf = Header(image);
  for (int i = 0; i < elf.e_phnum; i++) {
    Elf64_Phdr segment;
    memcpy(&segment, image.data() + elf.e_phoff + i * sizeof(segment), sizeof(segment));
    if (segment.p_type == type) segments.push_back(segment);
  }
  return segments;
}

TEST(GuestImage, IsASmallStaticElfForX86) {
  const std::string image = ReadGuest();
  ASSERT_GT(image.size(), sizeof(Elf64_Ehdr));
  EXPECT_LT(image.size(), 18u << 10) << "firmware copies it by emulated code on some hosts";
  EXPECT_EQ(Header(image).e_type, ET_EXEC);
  EXPECT_EQ(Header(image).e_machine, EM_X86_64);
  EXPECT_TRUE(Segments(image, PT_INTERP).empty());
}

TEST(GuestImage, IsOneSegmentFromOneMebibyteWithTablesOutsideTheFile) {
  const std::string image = ReadGuest();
  const auto loaded = Segments(image, PT_LOAD);
  ASSERT_EQ(loaded.size(), 1u);
  EXPECT_EQ(loaded[0].p_paddr, 0x100000u);
  EXPECT_LE(loaded[0].p_offset + loaded[0].p_filesz, image.size());
  EXPECT_GT(loaded[0].p_memsz, loaded[0].p_filesz);
  EXPECT_LE(loaded[0].p_paddr + loaded[0].p_memsz, 4u << 20);
}

TEST(GuestImage, HasAPvhEntryWithinItsSegment) {
  const std::string image = ReadGuest();
  const auto loaded = Segments(image, PT_LOAD);
  ASSERT_EQ(loaded.size(), 1u);
  const uint64_t entry = FindPvhEntry(image);
  EXPECT_GE(entry, loaded[0].p_paddr);
  EXPECT_LT(entry, loaded[0].p_paddr + loaded[0].p_filesz);
  EXPECT_EQ(Header(image).e_entry, entry);
}

TEST(FindPvhEntry, FindsNoneInWhatIsNoElfOrCutOff) {
  EXPECT_EQ(FindPvhEntry(""), 0u);
  EXPECT_EQ(FindPvhEntry(std::string(4096, 'x')), 0u);
  EXPECT_EQ(FindPvhEntry(ReadGuest().substr(0, 100)), 0u);
}

}  // namespace
}  // namespace drover
