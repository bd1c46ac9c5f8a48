#include "vmm/worker/bpf_filter.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "vmm/base/status_matchers.h"
#include "vmm/worker/seccomp_child.h"

namespace drover {
namespace {

using Kind = ArgumentRule::Kind;

constexpr char kKilled[] = "signal 31";  // SIGSYS

// getpriority(which, who, ...) ignores its further arguments: a call to try rules on.
std::string Try(std::vector<ArgumentRule> arguments, std::vector<long> values, int error = 0) {
  values.resize(6);
  return RunConfined(
      [&] {
        return std::vector<SyscallRule>{{SYS_exit_group}, {SYS_getppid, arguments, error}};
      },
      [&]() -> long {
        const long result =
            syscall(SYS_getppid, values[0], values[1], values[2], values[3], values[4], values[5]);
        return result > 0 ? 0 : errno;
      });
}

TEST(BpfFilterTest, AllowsAndKills) {
  EXPECT_EQ(Try({}, {}), "exit 0");
  EXPECT_EQ(RunConfined([] { return std::vector<SyscallRule>{{SYS_exit_group}}; },
                        [] { return syscall(SYS_getppid); }),
            kKilled);
}

TEST(BpfFilterTest, FailsWithErrno) { EXPECT_EQ(Try({}, {}, ENOSYS), "exit 38"); }

TEST(BpfFilterTest, EqualsTestsAll64Bits) {
  const std::vector<ArgumentRule> rule = {{1, Kind::kEquals, {5, 0x100000007, 9}}};
  EXPECT_EQ(Try(rule, {0, 5}), "exit 0");
  EXPECT_EQ(Try(rule, {0, 0x100000007}), "exit 0");
  EXPECT_EQ(Try(rule, {0, 9}), "exit 0");
  EXPECT_EQ(Try(rule, {0, 7}), kKilled);
  EXPECT_EQ(Try(rule, {0, 0x100000005}), kKilled);
  EXPECT_EQ(Try(rule, {0, 0x100000009}), kKilled);
  EXPECT_EQ(Try(rule, {5, 0}), kKilled);
}

TEST(BpfFilterTest, ManyValues) {
  ArgumentRule rule{0, Kind::kEquals, {}};
  for (uint64_t i = 1; i <= 60; ++i) rule.values.push_back(i * 3);
  EXPECT_EQ(Try({rule}, {3}), "exit 0");
  EXPECT_EQ(Try({rule}, {90}), "exit 0");
  EXPECT_EQ(Try({rule}, {180}), "exit 0");
  EXPECT_EQ(Try({rule}, {91}), kKilled);
  EXPECT_EQ(Try({rule}, {183}), kKilled);
}

TEST(BpfFilterTest, Bits) {
  const ArgumentRule without{0, Kind::kNoBits, {0x400000004}};
  EXPECT_EQ(Try({without}, {3}), "exit 0");
  EXPECT_EQ(Try({without}, {4}), kKilled);
  EXPECT_EQ(Try({without}, {0x400000000}), kKilled);
  const ArgumentRule with{0, Kind::kHasBits, {0x1001}};
  EXPECT_EQ(Try({with}, {0x3003}), "exit 0");
  EXPECT_EQ(Try({with}, {0x1000}), kKilled);
}

TEST(BpfFilterTest, AllArgumentsMustHold) {
  const std::vector<ArgumentRule> rules = {{0, Kind::kEquals, {1}}, {5, Kind::kEquals, {2}}};
  EXPECT_EQ(Try(rules, {1, 0, 0, 0, 0, 2}), "exit 0");
  EXPECT_EQ(Try(rules, {1, 0, 0, 0, 0, 3}), kKilled);
  EXPECT_EQ(Try(rules, {0, 0, 0, 0, 0, 2}), kKilled);
}

TEST(BpfFilterTest, OneOfSeveralRulesIsEnough) {
  const auto rules = [] {
    return std::vector<SyscallRule>{{SYS_getppid, {{0, Kind::kEquals, {1}}}},
                                    {SYS_exit_group},
                                    {SYS_getppid, {{0, Kind::kEquals, {2}}}}};
  };
  for (const long value : {1, 2})
    EXPECT_EQ(RunConfined(rules, [&] { return syscall(SYS_getppid, value) > 0 ? 0 : 1; }),
              "exit 0");
  EXPECT_EQ(RunConfined(rules, [] { return syscall(SYS_getppid, 3); }), kKilled);
}

TEST(BpfFilterTest, NarrowingTakesAwayAndGivesNothing) {
  const auto programs = [] {
    const std::vector<SyscallRule> outer = {
        {SYS_exit_group}, {SYS_prctl}, {SYS_seccomp}, {SYS_getpid}, {SYS_getppid}};
    const std::vector<SyscallRule> rules = {
        {SYS_exit_group}, {SYS_getppid, {{0, Kind::kEquals, {1}}}}, {SYS_getuid}};
    return FilterPrograms{CompileFilter(outer), CompileNarrowing(rules, outer)};
  };
  EXPECT_EQ(RunFiltered(programs, [] { return syscall(SYS_getppid, 1) > 0 ? 0 : 1; }), "exit 0");
  EXPECT_EQ(RunFiltered(programs, [] { return syscall(SYS_getppid, 2); }), kKilled);
  EXPECT_EQ(RunFiltered(programs, [] { return syscall(SYS_getpid); }), kKilled);
  EXPECT_EQ(RunFiltered(programs, [] { return syscall(SYS_getuid); }), kKilled);  // outer refuses
  EXPECT_EQ(RunFiltered(programs, [] { return syscall(SYS_getgid); }), kKilled);  // neither
}

#if defined(__x86_64__)
TEST(BpfFilterTest, RefusesX32Numbers) {
  EXPECT_EQ(RunConfined(
                [] {
                  return std::vector<SyscallRule>{{SYS_exit_group}, {SYS_getppid}};
                },
                [] { return syscall(SYS_getppid | 0x40000000); }),
            kKilled);
}

TEST(BpfFilterTest, RefusesTheOtherArchitecture) {
  EXPECT_EQ(RunConfined(
                [] {
                  return std::vector<SyscallRule>{{SYS_exit_group}, {SYS_getppid}};
                },
                []() -> long {
                  long result = 64;  // i386's getppid
                  asm volatile("int $0x80" : "+a"(result) : : "memory");
                  return 0;
                }),
            kKilled);
}
#endif

TEST(BpfFilterTest, RefusesMalformedRules) {
  const auto compile = [](ArgumentRule rule) {
    return CompileFilter(std::vector<SyscallRule>{{SYS_read, {rule}}});
  };
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_);
  EXPECT_THAT(compile({6, Kind::kEquals, {1}}), refused);
  EXPECT_THAT(compile({0, Kind::kEquals, {}}), refused);
  EXPECT_THAT(compile({0, Kind::kEquals, std::vector<uint64_t>(61)}), refused);
  EXPECT_THAT(compile({0, Kind::kNoBits, {1, 2}}), refused);
  EXPECT_THAT(CompileFilter(std::vector<SyscallRule>{{-1}}), refused);
}

}  // namespace
}  // namespace drover
