// The same guest under another VMM: QEMU's microvm, on KVM and emulated, with ACPI tables.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "e2e/guest/console_run.h"

namespace drover {
namespace {

using ::testing::HasSubstr;

constexpr char kQemu[] = "qemu-system-x86_64";

class QemuTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!HasProgram(kQemu)) GTEST_SKIP() << kQemu << " is not installed";
    if (GetParam() != "tcg" && !HasKvm()) GTEST_SKIP() << "/dev/kvm is not there or not permitted";
  }

  static ConsoleRun Run(const std::string& commands) {
    return RunConsole(
        std::string("timeout 60 ") + kQemu +
        " -M microvm,pit=off,pic=off,rtc=off -nodefaults -no-user-config -display none"
        " -no-reboot -serial stdio -smp 2 -m 128 -kernel e2e/guest/guest.elf -accel " +
        GetParam() + " -append '" + commands + "'");
  }
};

TEST_P(QemuTest, BootsTouchesAndPowersOff) {
  const ConsoleRun run =
      Run("do=report do=touch,size=8M,passes=1 do=sleep,ms=500 do=verify do=poweroff");
  EXPECT_THAT(run.output, HasSubstr("hello from drover test guest\n"));
  EXPECT_EQ(run.Number("ok report", "cpus"), 2u) << run.output;
  EXPECT_EQ(run.Number("ok verify", "pages"), 2048u) << run.output;
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_EQ(run.Line("fault"), "");
}

TEST_P(QemuTest, StartsTheCpusOfTheMadtAndResets) {
  const ConsoleRun run =
      Run("do=cpus,start do=timer,lapic,hz=100 do=sleep,ms=1000 do=timer do=cpus do=reset");
  EXPECT_EQ(run.Number("ok cpus", "online"), 2u) << run.output;
  EXPECT_GT(run.Number("cpu index=1", "loops"), 0u) << run.output;
  EXPECT_THAT(run.output, HasSubstr("\nok reset\n"));
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_EQ(run.Line("fault"), "");
}

INSTANTIATE_TEST_SUITE_P(Accelerators, QemuTest, ::testing::Values("kvm -cpu kvm64", "tcg"),
                         [](const auto& info) { return info.index == 0 ? "Kvm" : "Tcg"; });

}  // namespace
}  // namespace drover
