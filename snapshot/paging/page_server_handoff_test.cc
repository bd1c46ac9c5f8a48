#include "snapshot/paging/page_server_handoff.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kOneRegion[] =
    R"([{"base_host_virt_addr":139895000006656,"size":268435456,"offset":0,"page_size":4096,"page_size_kib":4096}])";
constexpr GuestRegionUffdMapping kMapping = {
    .base_host_virt_addr = 139895000006656, .size = 268435456, .offset = 0, .page_size = 4096};

struct Ends {
  Fd vmm, server;
};

Ends SocketPair() {
  int ends[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

// A descriptor that both sides know again.
Fd AnyFile() { return *MakeMemFd("userfaultfd", 12345); }
off_t SizeOf(const Fd& fd) {
  struct stat info = {};
  EXPECT_EQ(fstat(fd.get(), &info), 0);
  return info.st_size;
}

TEST(GuestRegionUffdMapping, IsFirecrackersByteForByte) {
  EXPECT_EQ(ToJson(std::vector{kMapping}), kOneRegion);
  const GuestRegionUffdMapping high = {.base_host_virt_addr = 0xFFFFFFFFFFE00000,
                                       .size = 2 << 20,
                                       .offset = 268435456,
                                       .page_size = 2 << 20};
  EXPECT_EQ(
      ToJson(std::vector{kMapping, high}),
      absl::StrReplaceAll(
          kOneRegion,
          {{"}]",
            R"(},{"base_host_virt_addr":18446744073707454464,"size":2097152,"offset":268435456,"page_size":2097152,"page_size_kib":2097152}])"}}));
  EXPECT_EQ(ToJson({}), "[]");
}

TEST(GuestRegionUffdMapping, IsReadAsItIsWritten) {
  EXPECT_THAT(MappingsFromJson(kOneRegion), IsOkAndHolds(ElementsAre(kMapping)));
}

TEST(GuestRegionUffdMapping, IsReadFromOlderAndNewerWriters) {
  EXPECT_THAT(
      MappingsFromJson(
          R"([{"base_host_virt_addr":139895000006656,"size":268435456,"offset":0,"page_size_kib":4096}])"),
      IsOkAndHolds(ElementsAre(kMapping)));
  EXPECT_THAT(
      MappingsFromJson(
          R"( [ { "kind" : {"a":[1,null]}, "page_size":4096, "offset":0, "size":268435456, "base_host_virt_addr":139895000006656 } ] )"),
      IsOkAndHolds(ElementsAre(kMapping)));
}

struct BadJson {
  const char* from;
  const char* to;
  const char* message;
};

class BadJsonTest : public ::testing::TestWithParam<BadJson> {};

TEST_P(BadJsonTest, IsRefusedByName) {
  const std::string text = absl::StrReplaceAll(kOneRegion, {{GetParam().from, GetParam().to}});
  ASSERT_NE(text, kOneRegion);
  EXPECT_THAT(MappingsFromJson(text),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Each, BadJsonTest,
    ::testing::Values(
        BadJson{"]", "", "not a JSON array"}, BadJson{"[{", "{", "not a JSON array"},
        BadJson{kOneRegion, "", "not a JSON array"}, BadJson{kOneRegion, "{}", "not a JSON array"},
        BadJson{kOneRegion, "[]", "0 regions: must be 1 to 4096"},
        BadJson{kOneRegion, "[1]", "region 0: not an object"},
        BadJson{"\"base_host_virt_addr\"", "\"base\"", "region 0: no base_host_virt_addr"},
        BadJson{"\"size\"", "\"length\"", "region 0: no size"},
        BadJson{"\"offset\"", "\"at\"", "region 0: no offset"},
        BadJson{"\"page_size\":4096,\"page_size_kib\":4096", "\"x\":1", "no page_size_kib"},
        BadJson{"139895000006656", "-4096", "base_host_virt_addr is not a number"},
        BadJson{"139895000006656", "\"4096\"", "base_host_virt_addr is not a number"},
        BadJson{"139895000006656", "1.5", "base_host_virt_addr is not a number"},
        BadJson{"139895000006656", "18446744073709551616", "base_host_virt_addr is not a number"},
        BadJson{"139895000006656", "139895000006657", "base_host_virt_addr is 0x7f"},
        BadJson{"139895000006656", "18446744073709547520", "wraps"},
        BadJson{"268435456", "0", "size is 0"}, BadJson{"268435456", "4097", "size is 0x1001"},
        BadJson{"268435456", "18446744073709547520", "wraps"},
        BadJson{"\"offset\":0", "\"offset\":1", "offset is 0x1"},
        BadJson{"\"offset\":0", "\"offset\":9223372036854771712", "wraps"},
        BadJson{"\"page_size\":4096", "\"page_size\":4", "page_size is 4: must be"},
        BadJson{"\"page_size\":4096", "\"page_size\":0", "page_size is 0: must be"},
        BadJson{"\"page_size\":4096", "\"page_size\":2097152", "not whole pages of 2097152"}));

TEST(GuestRegionUffdMapping, MustNotOverlap) {
  GuestRegionUffdMapping other = kMapping;
  other.base_host_virt_addr += kMapping.size - 4096;
  other.offset += kMapping.size;
  EXPECT_THAT(MappingsFromJson(ToJson(std::vector{other, kMapping})),
              StatusIs(StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("overlaps region 1"), HasSubstr("memory"))));
  other.base_host_virt_addr += 4096;
  EXPECT_OK(MappingsFromJson(ToJson(std::vector{other, kMapping})));
  other.offset -= 4096;
  EXPECT_THAT(MappingsFromJson(ToJson(std::vector{other, kMapping})),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("the file")));
}

TEST(GuestRegionUffdMapping, SurvivesRandomBytes) {
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    std::string text = kOneRegion;
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(random());
    const auto mappings = MappingsFromJson(text);
    if (!mappings.ok()) continue;
    for (const GuestRegionUffdMapping& mapping : *mappings) EXPECT_GT(mapping.size, 0u);
  }
  std::string deep(1 << 20, '[');
  EXPECT_FALSE(MappingsFromJson(deep).ok());
}

TEST(PageServerHandOff, ArrivesWithItsDescriptor) {
  Ends ends = SocketPair();
  const Fd file = AnyFile();
  ASSERT_OK(SendHandOff(ends.vmm.get(), std::vector{kMapping}, file.get(), seconds(30)));
  ASSERT_OK_AND_ASSIGN(const HandOff received, ReceiveHandOff(ends.server.get(), seconds(30)));
  EXPECT_THAT(received.mappings, ElementsAre(kMapping));
  EXPECT_EQ(SizeOf(received.userfaultfd), 12345);
  EXPECT_NE(received.userfaultfd.get(), file.get());
}

// As a handler reads it: one recvmsg, the whole array and one descriptor, nothing around it.
TEST(PageServerHandOff, IsOneMessage) {
  Ends ends = SocketPair();
  const Fd file = AnyFile();
  ASSERT_OK(SendHandOff(ends.vmm.get(), std::vector{kMapping}, file.get(), seconds(30)));
  char bytes[1024];
  alignas(struct cmsghdr) char control[256];
  struct iovec vec = {.iov_base = bytes, .iov_len = sizeof(bytes)};
  struct msghdr header = {};
  header.msg_iov = &vec;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  const ssize_t n = recvmsg(ends.server.get(), &header, MSG_CMSG_CLOEXEC);
  ASSERT_GT(n, 0);
  EXPECT_EQ(std::string(bytes, static_cast<size_t>(n)), kOneRegion);
  const struct cmsghdr* const c = CMSG_FIRSTHDR(&header);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_len, CMSG_LEN(sizeof(int)));
  Fd received(*reinterpret_cast<const int*>(CMSG_DATA(c)));
  EXPECT_EQ(SizeOf(received), 12345);
  EXPECT_EQ(recv(ends.server.get(), bytes, sizeof(bytes), MSG_DONTWAIT), -1);
}

TEST(PageServerHandOff, HoldsFourThousandRegions) {
  std::vector<GuestRegionUffdMapping> mappings(4096, kMapping);
  for (size_t i = 0; i < mappings.size(); ++i) {
    mappings[i].base_host_virt_addr += i * kMapping.size;
    mappings[i].offset += i * kMapping.size;
  }
  Ends ends = SocketPair();
  const Fd file = AnyFile();
  absl::Status sent;
  std::thread sender(
      [&] { sent = SendHandOff(ends.vmm.get(), mappings, file.get(), seconds(60)); });
  const auto received = ReceiveHandOff(ends.server.get(), seconds(60));
  sender.join();
  EXPECT_OK(sent);
  ASSERT_OK(received);
  EXPECT_EQ(received->mappings, mappings);
}

TEST(PageServerHandOff, TellsAServerThatIsGone) {
  Ends ends = SocketPair();
  ends.server.Reset();
  EXPECT_THAT(SendHandOff(ends.vmm.get(), std::vector{kMapping}, AnyFile().get(), seconds(30)),
              StatusIs(StatusCode::kUnavailable, HasSubstr("closed its socket")));
}

TEST(PageServerHandOff, TellsAServerThatDoesNotRead) {
  Ends ends = SocketPair();
  const std::string filler(65536, 'x');
  while (send(ends.vmm.get(), filler.data(), filler.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_THAT(SendHandOff(ends.vmm.get(), std::vector{kMapping}, AnyFile().get(), milliseconds(50)),
              StatusIs(StatusCode::kDeadlineExceeded, HasSubstr("silent")));
}

TEST(PageServerHandOff, RefusesWhatIsNone) {
  const std::pair<std::string, StatusCode> cases[] = {
      {"[1]", StatusCode::kInvalidArgument},       // no objects
      {kOneRegion, StatusCode::kInvalidArgument},  // no descriptor
      {"[", StatusCode::kUnavailable},             // ends too early
      {"", StatusCode::kUnavailable}};
  for (const auto& [bytes, code] : cases) {
    Ends ends = SocketPair();
    ASSERT_EQ(send(ends.vmm.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    ends.vmm.Reset();
    EXPECT_THAT(ReceiveHandOff(ends.server.get(), seconds(30)), StatusIs(code)) << bytes;
  }
  Ends silent = SocketPair();
  EXPECT_THAT(ReceiveHandOff(silent.server.get(), milliseconds(20)),
              StatusIs(StatusCode::kDeadlineExceeded));
}

TEST(PageServerHandOff, NamesThePeer) {
  const Ends ends = SocketPair();
  EXPECT_THAT(PeerPid(ends.vmm.get()), IsOkAndHolds(getpid()));
  EXPECT_FALSE(PeerPid(AnyFile().get()).ok());
}

}  // namespace
}  // namespace drover
