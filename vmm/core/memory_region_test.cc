#include "vmm/core/memory_region.h"

#include <gtest/gtest.h>

#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;

TEST(MemoryRegion, AnonymousIsZerosAndWritable) {
  ASSERT_OK_AND_ASSIGN(const auto region, PlainRegion::Anonymous(5000));
  EXPECT_EQ(region->size(), RoundUpToPage(5000));
  EXPECT_EQ(region->data()[4999], 0);
  region->data()[4999] = 1;
}

TEST(MemoryRegion, NothingIsNoRegion) {
  EXPECT_THAT(PlainRegion::Anonymous(0), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(MemoryArena::Create(0), StatusIs(StatusCode::kInvalidArgument));
}

TEST(MemoryArena, FailedMappingKeepsTheOldOne) {
  ASSERT_OK_AND_ASSIGN(const auto arena, MemoryArena::Create(PageSize()));
  const Fd file = MakeMemFd("arena", PageSize()).value();
  ASSERT_OK(WriteAll(file.get(), "x"));
  ASSERT_OK(arena->AddMapping(0, PageSize(), file, 0, Protection::kReadWrite));
  ASSERT_OK_AND_ASSIGN(const Fd folder, OpenFile("/proc/self", 0));
  EXPECT_FALSE(arena->AddMapping(0, PageSize(), folder, 0, Protection::kReadWrite).ok());
  EXPECT_EQ(arena->data()[0], 'x');
}

}  // namespace
}  // namespace drover
