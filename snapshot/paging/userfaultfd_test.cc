#include "snapshot/paging/userfaultfd.h"

#include <errno.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "snapshot/paging/page_server_handoff.h"
#include "vmm/base/mapped_region.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using std::chrono::seconds;
using ::testing::Each;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 64;
constexpr uint64_t kBytes = kPages * kPage;

class UserfaultfdTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = Fd(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
    absl::StatusOr<Userfaultfd> made =
        Userfaultfd::Create(device_.get(), UFFD_FEATURE_EVENT_REMOVE);
    if (!made.ok()) GTEST_SKIP() << "no userfaultfd here: " << made.status();
    uffd_.emplace(*std::move(made));
    ASSERT_OK_AND_ASSIGN(memory_, MappedRegion::Anonymous(kBytes, PROT_READ | PROT_WRITE));
  }

  uint64_t AddressOf(uint64_t page) {
    return reinterpret_cast<uintptr_t>(memory_.data()) + page * kPage;
  }
  static std::vector<uint8_t> Content(uint64_t page) {
    return std::vector<uint8_t>(kPage, static_cast<uint8_t>(page + 1));
  }
  std::span<const uint8_t> PageAt(uint64_t page) { return {memory_.data() + page * kPage, kPage}; }
  std::vector<PagingEvent> WaitForEvents() {
    struct pollfd poll_fd = {.fd = uffd_->fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&poll_fd, 1, 60'000), 1);
    return *uffd_->Read(16);
  }

  Fd device_;
  std::optional<Userfaultfd> uffd_;
  MappedRegion memory_;
};

TEST_F(UserfaultfdTest, FillsThePageThatAThreadWaitsFor) {
  ASSERT_OK(uffd_->Register(memory_.data(), kBytes, Userfaultfd::kMissing));
  uint8_t seen = 0;
  std::thread reader([&] { seen = memory_.data()[5 * kPage + 7]; });
  const std::vector<PagingEvent> events = WaitForEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, PagingEvent::Kind::kMissing);
  EXPECT_EQ(events[0].start & ~(kPage - 1), AddressOf(5));
  EXPECT_FALSE(events[0].write);
  ASSERT_OK_AND_ASSIGN(const Userfaultfd::Progress progress, uffd_->Copy(AddressOf(5), Content(5)));
  EXPECT_EQ(progress.end, Filled::kDone);
  EXPECT_EQ(progress.bytes, kPage);
  reader.join();
  EXPECT_EQ(seen, 6);
}

TEST_F(UserfaultfdTest, TellsAPageThatIsThere) {
  ASSERT_OK(uffd_->Register(memory_.data(), kBytes, Userfaultfd::kMissing));
  ASSERT_OK(uffd_->Copy(AddressOf(1), Content(1)));
  EXPECT_EQ(uffd_->Copy(AddressOf(1), Content(9))->end, Filled::kPresent);
  EXPECT_EQ(uffd_->Zero(AddressOf(0), kPage)->end, Filled::kDone);
  EXPECT_THAT(PageAt(1), Each(2));
  EXPECT_THAT(PageAt(0), Each(0));
}

TEST_F(UserfaultfdTest, ReportsRemoval) {
  ASSERT_OK(uffd_->Register(memory_.data(), kBytes, Userfaultfd::kMissing));
  ASSERT_OK(uffd_->Copy(AddressOf(2), Content(2)));
  std::thread remover([&] { madvise(memory_.data() + 2 * kPage, 2 * kPage, MADV_REMOVE); });
  const std::vector<PagingEvent> events = WaitForEvents();
  remover.join();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, PagingEvent::Kind::kRemove);
  EXPECT_EQ(events[0].start, AddressOf(2));
  EXPECT_EQ(events[0].end, AddressOf(4));
}

TEST_F(UserfaultfdTest, ReadsNothingWhenNothingWaits) {
  EXPECT_THAT(uffd_->Read(4), IsOkAndHolds(::testing::IsEmpty()));
}

TEST_F(UserfaultfdTest, RefusesBadRanges) {
  EXPECT_THAT(uffd_->Register(memory_.data() + 1, kPage, Userfaultfd::kMissing), HasErrno(EINVAL));
  EXPECT_THAT(uffd_->Register(memory_.data(), 0, Userfaultfd::kMissing), HasErrno(EINVAL));
  EXPECT_THAT(uffd_->Register(memory_.data(), kPage, 0), HasErrno(EINVAL));
  EXPECT_THAT(uffd_->Unregister(memory_.data(), 1), HasErrno(EINVAL));
  EXPECT_EQ(uffd_->Copy(AddressOf(0), Content(0))->end, Filled::kGone) << "not registered";
  ASSERT_OK_AND_ASSIGN(Userfaultfd other, Userfaultfd::Create(device_.get(), 0));
  ASSERT_OK(uffd_->Register(memory_.data(), kBytes, Userfaultfd::kMissing));
  EXPECT_THAT(other.Register(memory_.data(), kBytes, Userfaultfd::kMissing), HasErrno(EBUSY));
}

TEST_F(UserfaultfdTest, NamesFeaturesThatTheHostHasNot) {
  EXPECT_THAT(Userfaultfd::Create(device_.get(), uint64_t{1} << 62),
              StatusIs(StatusCode::kUnimplemented, ::testing::HasSubstr("0x4000000000000000")));
}

// What a page server that somebody else wrote does, in a process of its own: takes the hand-off,
// fills what is asked for from a file, keeps zeros where memory was given back.
[[noreturn]] void ServePages(int socket) {
  const absl::StatusOr<HandOff> hand_off = ReceiveHandOff(socket, seconds(60));
  if (!hand_off.ok()) _exit(2);
  Userfaultfd uffd(Fd(dup(hand_off->userfaultfd.get())));
  const GuestRegionUffdMapping& region = hand_off->mappings.at(0);
  std::set<uint64_t> removed;
  for (;;) {
    struct pollfd polls[2] = {{.fd = uffd.fd(), .events = POLLIN, .revents = 0},
                              {.fd = socket, .events = POLLIN, .revents = 0}};
    if (poll(polls, 2, 60'000) <= 0) _exit(3);
    if (polls[1].revents != 0) _exit(0);  // the VMM closed
    const absl::StatusOr<std::vector<PagingEvent>> events = uffd.Read(16);
    if (!events.ok()) _exit(0);
    for (const PagingEvent& event : *events) {
      if (event.kind == PagingEvent::Kind::kRemove) {
        for (uint64_t at = event.start; at < event.end; at += kPage) removed.insert(at);
        continue;
      }
      const uint64_t at = event.start & ~(kPage - 1);
      const uint64_t page = (at - region.base_host_virt_addr + region.offset) / kPage;
      const std::vector<uint8_t> content(kPage,
                                         removed.contains(at) ? 0 : static_cast<uint8_t>(page + 1));
      if (!uffd.Copy(at, content).ok()) _exit(4);
    }
  }
}

TEST_F(UserfaultfdTest, ServedByAnotherProcess) {
  ASSERT_OK(uffd_->Register(memory_.data(), kBytes, Userfaultfd::kMissing));
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  Fd mine(ends[0]), theirs(ends[1]);
  const pid_t server = fork();
  if (server == 0) {
    mine.Reset();
    ServePages(theirs.get());
  }
  theirs.Reset();
  const std::vector<GuestRegionUffdMapping> mappings = {
      {.base_host_virt_addr = AddressOf(0), .size = kBytes, .offset = 0, .page_size = kPage}};
  ASSERT_OK(SendHandOff(mine.get(), mappings, uffd_->fd(), seconds(60)));
  for (uint64_t page = 0; page < kPages; ++page)
    EXPECT_THAT(PageAt(page), Each(static_cast<uint8_t>(page + 1))) << page;
  ASSERT_EQ(madvise(memory_.data() + 8 * kPage, 4 * kPage, MADV_REMOVE), 0);
  for (uint64_t page = 8; page < 12; ++page) EXPECT_THAT(PageAt(page), Each(0)) << page;
  mine.Reset();
  int status = 0;
  ASSERT_EQ(waitpid(server, &status, 0), server);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace drover
