#include "vmm/base/mapped_region.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "gtest/gtest.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

TEST(MappedRegion, SharedMappingsSeeEachOther) {
  ASSERT_OK_AND_ASSIGN(Fd fd, MakeMemFd("shared", 8192));
  ASSERT_OK_AND_ASSIGN(MappedRegion a,
                       MappedRegion::MapShared(fd.get(), 0, 8192, PROT_READ | PROT_WRITE));
  ASSERT_OK_AND_ASSIGN(MappedRegion b, MappedRegion::MapShared(fd.get(), 4096, 4096, PROT_READ));
  a.data()[4096] = 7;
  EXPECT_EQ(b.data()[0], 7);
}

TEST(MappedRegion, PrivateMappingsDoNot) {
  ASSERT_OK_AND_ASSIGN(Fd fd, MakeMemFd("private", 4096));
  ASSERT_OK_AND_ASSIGN(MappedRegion a,
                       MappedRegion::MapPrivate(fd.get(), 0, 4096, PROT_READ | PROT_WRITE));
  ASSERT_OK_AND_ASSIGN(MappedRegion b, MappedRegion::MapShared(fd.get(), 0, 4096, PROT_READ));
  a.data()[0] = 7;
  EXPECT_EQ(b.data()[0], 0);
}

TEST(MappedRegion, MovesOwnership) {
  ASSERT_OK_AND_ASSIGN(MappedRegion a, MappedRegion::Anonymous(100, PROT_READ | PROT_WRITE));
  EXPECT_EQ(a.size(), PageSize());
  MappedRegion b = std::move(a);
  EXPECT_TRUE(b.valid());
  EXPECT_FALSE(a.valid());  // NOLINT(bugprone-use-after-move): that is what is tested
}

TEST(MappedRegion, RefusesNothingAndBadDescriptors) {
  EXPECT_THAT(MappedRegion::Anonymous(0, PROT_READ), HasErrno(EINVAL));
  EXPECT_THAT(MappedRegion::MapShared(-1, 0, 4096, PROT_READ), HasErrno(EBADF));
}

TEST(RoundUpToPage, Saturates) {
  EXPECT_EQ(RoundUpToPage(0), 0u);
  EXPECT_EQ(RoundUpToPage(1), PageSize());
  EXPECT_EQ(RoundUpToPage(PageSize()), PageSize());
  EXPECT_EQ(RoundUpToPage(UINT64_MAX), UINT64_MAX - PageSize() + 1);
}

}  // namespace
}  // namespace drover
