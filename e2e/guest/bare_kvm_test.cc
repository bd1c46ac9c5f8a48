// The test guest, command by command, on plain KVM.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "e2e/guest/console_run.h"

namespace drover {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class BareKvmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasKvm()) GTEST_SKIP() << "/dev/kvm is not there or not permitted";
  }

  // `arguments` as on a shell's command line, behind the guest's name.
  static ConsoleRun Run(const std::string& arguments, const std::string& options = "",
                        const std::string& input = "") {
    return RunConsole("e2e/guest/bare_kvm " + options + " e2e/guest/guest.elf " + arguments, input);
  }
};

TEST_F(BareKvmTest, SaysHelloAndPowersOff) {
  const ConsoleRun run = Run("poweroff");
  EXPECT_EQ(run.output, "hello from drover test guest\nok poweroff\n");
  EXPECT_EQ(run.exit_code, 0);
}

TEST_F(BareKvmTest, MeasuresTheFirstByte) {
  const ConsoleRun run = Run("", "--first-byte");
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_GT(std::stoul("0" + run.output), 0u) << run.output;
}

TEST_F(BareKvmTest, AnswersOnItsConsole) {
  const ConsoleRun run = Run("", "", "echo over serial\nnonsense\nreport\npoweroff\n");
  EXPECT_THAT(run.output, HasSubstr("\nready\n"));
  EXPECT_THAT(run.output, HasSubstr("\nok echo over serial\n"));
  EXPECT_THAT(run.output, HasSubstr("\nerror nonsense unknown command\n"));
  EXPECT_EQ(run.exit_code, 0) << run.output;
}

TEST_F(BareKvmTest, AnswersWhileItWaitsInHlt) {
  const ConsoleRun run = RunConsole(
      "{ sleep 1; echo echo awake; sleep 1; echo report; echo poweroff; sleep 1; } | "
      "e2e/guest/bare_kvm e2e/guest/guest.elf 'idle halt'");
  EXPECT_THAT(run.output, HasSubstr("\nok idle halt\n"));
  EXPECT_THAT(run.output, HasSubstr("\nok echo awake\n"));
  EXPECT_THAT(run.output, HasSubstr("\nok report"));
  EXPECT_THAT(run.output, HasSubstr("\nok poweroff"));
}

TEST_F(BareKvmTest, ReportsMemoryAndCommandLine) {
  const ConsoleRun run = Run("report memmap poweroff", "--memory 64 --cmdline quiet");
  EXPECT_EQ(run.Number("ok report", "memory"), (64u << 20) - (0x100000 - 0x9fc00));
  EXPECT_EQ(run.Number("ok report", "online"), 1u);
  EXPECT_THAT(run.Line("ok report"), HasSubstr("cmdline=quiet do=report do=memmap do=poweroff"));
  EXPECT_EQ(run.Line("ram base=0x100000"), "ram base=0x100000 size=0x3f00000");
}

TEST_F(BareKvmTest, FindsEveryPageItTouched) {
  const ConsoleRun run =
      Run("'touch size=2M seed=7 passes=2' 'sleep ms=2500' touch verify poweroff");
  EXPECT_EQ(run.Number("ok touch running=0", "writes"), 1024u) << run.output;
  EXPECT_EQ(run.Number("ok verify", "pages"), 512u) << run.output;
  EXPECT_EQ(run.Number("ok verify", "bad"), 0u);
}

TEST_F(BareKvmTest, NamesAWrongPage) {
  const ConsoleRun run =
      Run("'touch base=32M size=4M passes=1' 'sleep ms=2500' 'poke address=0x2003010 value=5' "
          "verify poweroff");
  EXPECT_THAT(run.Line("bad"), StartsWith("bad address=0x2003010 generation=1 expected=0x"))
      << run.output;
  EXPECT_EQ(run.Number("error verify", "bad"), 1u);
}

TEST_F(BareKvmTest, TouchesInTheBackgroundAndKeepsTheRate) {
  const ConsoleRun run =
      Run("'touch size=4M rate=1000 bytes=64' 'sleep ms=1500' 'touch stop' verify poweroff");
  const uint64_t writes = run.Number("ok touch running=0", "writes");
  EXPECT_GT(writes, 100u) << run.output;
  EXPECT_LT(writes, 10000u) << run.output;
  EXPECT_NE(run.Line("ok verify"), "");
}

TEST_F(BareKvmTest, ChecksumsAreReproducible) {
  const ConsoleRun a = Run("'touch size=1M seed=3 passes=1' 'sleep ms=1500' checksum poweroff");
  const ConsoleRun b = Run("'touch size=1M seed=3 passes=1' 'sleep ms=1500' checksum poweroff");
  EXPECT_NE(a.Line("ok checksum"), "") << a.output;
  EXPECT_EQ(a.Line("ok checksum"), b.Line("ok checksum"));
}

TEST_F(BareKvmTest, RefusesBadTouchesByName) {
  const ConsoleRun run =
      Run("'touch base=1M' 'touch base=4095M' 'touch size=4097' 'touch bytes=7' 'touch speed=1' "
          "'touch size=x' "
          "poweroff");
  EXPECT_NE(run.Line("error touch no free RAM at 0x100000 "), "") << run.output;
  EXPECT_NE(run.Line("error touch no free RAM at 0xfff00000 "), "");
  EXPECT_NE(run.Line("error touch base and size must be multiples of 4096"), "");
  EXPECT_NE(run.Line("error touch bytes must be"), "");
  EXPECT_NE(run.Line("error touch unknown argument: speed=1"), "");
  EXPECT_NE(run.Line("error touch size is not a number: x"), "");
}

TEST_F(BareKvmTest, MeasuresItsLongestGap) {
  const ConsoleRun run = Run("gap 'sleep ms=300' gap poweroff");
  EXPECT_GT(run.Number("ok gap", "cycles"), 0u);
  EXPECT_GT(run.Number("ok gap", "samples"), 0u);
  EXPECT_EQ(run.Number("ok gap", "backwards"), 0u);
}

TEST_F(BareKvmTest, PrintsTicks) {
  const ConsoleRun run = Run("'ticks on ms=50'", "--until 'tick 3'");
  EXPECT_THAT(run.output, HasSubstr("\ntick 1\ntick 2\ntick 3\n"));
  EXPECT_EQ(run.exit_code, 0);
}

TEST_F(BareKvmTest, CountsTimerInterruptsOfBothTimers) {
  for (const std::string timer : {"lapic", "pit"}) {
    const ConsoleRun run = Run("'timer " + timer + " hz=100' 'sleep ms=1000' 'timer off' poweroff");
    EXPECT_GT(run.Number("ok timer on=0", "interrupts"), 5u) << run.output;
  }
}

TEST_F(BareKvmTest, StartsParksAndWakesOtherCpus) {
  const ConsoleRun run =
      Run("'cpus start count=3' 'cpus park' 'cpus run' 'sleep ms=1500' cpus poweroff", "--cpus 3");
  EXPECT_EQ(run.Number("ok cpus", "online"), 3u) << run.output;
  EXPECT_GT(run.Number("cpu index=2", "loops"), 0u) << run.output;
  EXPECT_THAT(run.output, HasSubstr(" parked=1\n"));
  EXPECT_EQ(run.exit_code, 0);
}

TEST_F(BareKvmTest, StartsTheSecondOfTwoCpus) {
  EXPECT_EQ(Run("'cpus start count=2' poweroff", "--cpus 2").Number("ok cpus", "online"), 2u);
}

TEST_F(BareKvmTest, SaysWhenACpuDoesNotCome) {
  EXPECT_NE(Run("'cpus start count=2' poweroff").Line("error cpus only 1 came online"), "");
}

TEST_F(BareKvmTest, ItsEndsAreToldApart) {
  EXPECT_EQ(Run("reset").exit_code, 3);
  EXPECT_EQ(Run("triple-fault").exit_code, 5);
  EXPECT_EQ(Run("spin", "--timeout 1").exit_code, 6);
  EXPECT_EQ(Run("halt", "--until 'ok halt'").exit_code, 0);
}

TEST_F(BareKvmTest, ReportsItsOwnFaults) {
  const ConsoleRun run = Run("fault", "--until fault\\ vector");
  EXPECT_THAT(run.Line("fault"), StartsWith("fault vector=14 error=0x6 rip=0x1"));
  EXPECT_THAT(run.Line("fault"), HasSubstr("cr2=0x7ffffffff000"));
}

TEST_F(BareKvmTest, NeedsNoInterruptControllerAndNoTimer) {
  const ConsoleRun run = Run("'echo alone' 'timer lapic' gap halt", "--no-irqchip");
  EXPECT_NE(run.Line("ok echo alone"), "") << run.output;
  EXPECT_NE(run.Line("error timer there is no local APIC"), "");
  EXPECT_EQ(run.exit_code, 4) << run.output;
}

constexpr char kNoSvm[] = "error nested this processor has no SVM";

TEST_F(BareKvmTest, SaysThatThereIsNoSvm) {
  const ConsoleRun run = Run("nested 'nested start' 'nested stop' 'nested hold' poweroff");
  if (run.Line("ok nested") != "") GTEST_SKIP() << "there is SVM here";
  EXPECT_THAT(run.output, HasSubstr(std::string("guest\n") + kNoSvm + "\n" + kNoSvm + "\n" +
                                    kNoSvm + "\n" + kNoSvm + "\nok poweroff"));
}

class NestedGuestTest : public BareKvmTest {
 protected:
  void SetUp() override {
    BareKvmTest::SetUp();
    if (IsSkipped()) return;
    if (Run("nested poweroff").Line(kNoSvm) != "") GTEST_SKIP() << "no SVM for guests on this KVM";
  }
};

TEST_F(NestedGuestTest, CountsInTheBackground) {
  for (const std::string shadow : {"", " shadow"}) {
    const ConsoleRun run =
        Run("'nested start" + shadow + " turns=1000' 'sleep ms=500' 'nested stop' nested poweroff");
    EXPECT_NE(run.Line("ok nested count=0 exits=0 interrupts=0 running=1"), "") << run.output;
    EXPECT_THAT(run.output, ::testing::ContainsRegex("count=[1-9][0-9]*000 exits=[1-9]"));
    EXPECT_THAT(run.output, HasSubstr(" running=0 mode=" +
                                      std::string(shadow.empty() ? "nested-paging" : "shadow")));
    EXPECT_THAT(run.output, Not(HasSubstr("error"))) << run.output;
    EXPECT_EQ(run.exit_code, 0);
  }
}

TEST_F(NestedGuestTest, IsTakenOutByInterruptsOnly) {
  const ConsoleRun run =
      Run("'nested start turns=0' 'timer lapic' 'nested start turns=0' 'sleep ms=500' 'nested "
          "stop' 'timer off' poweroff");
  EXPECT_NE(run.Line("error nested turns=0 on vCPU 0 needs a timer"), "") << run.output;
  EXPECT_GT(run.Number("ok timer on=0", "interrupts"), 5u) << run.output;
  EXPECT_THAT(run.output, HasSubstr(" running=0 ")) << run.output;
}

TEST_F(NestedGuestTest, RunsOnAnotherCpu) {
  const ConsoleRun run =
      Run("'nested start cpu=1' 'cpus start count=2' 'nested start cpu=1 turns=2000000' 'nested "
          "hold' 'sleep "
          "ms=300' nested 'nested stop' 'nested hold cpu=1' 'nested stop' poweroff",
          "--cpus 2");
  EXPECT_NE(run.Line("error nested that vCPU is not online"), "") << run.output;
  EXPECT_NE(run.Line("error nested it runs already"), "") << run.output;
  EXPECT_THAT(run.output, HasSubstr(" running=0 mode=nested-paging cpu=1 turns=2000000\n"));
  EXPECT_THAT(run.output, HasSubstr(" running=0 mode=hold cpu=1 "));
}

TEST_F(NestedGuestTest, HoldsInterruptsWhileGifIsClear) {
  const ConsoleRun run =
      Run("'nested hold' 'timer lapic' 'sleep ms=500' 'timer off' 'nested stop' timer poweroff");
  EXPECT_EQ(run.Line("ok timer on=0"), "ok timer on=0 interrupts=0") << run.output;
  EXPECT_THAT(run.output, HasSubstr(" running=0 mode=hold ")) << run.output;
  EXPECT_THAT(run.output, HasSubstr("ok timer on=0 interrupts=1\n")) << "the one that waited";
}

TEST_F(BareKvmTest, RefusesWhatIsNoGuest) {
  const ConsoleRun run = RunConsole("e2e/guest/bare_kvm /etc/passwd");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, HasSubstr("/etc/passwd cannot be read, or is no ELF file"));
  EXPECT_EQ(RunConsole("e2e/guest/bare_kvm --cpus 0 x").exit_code, 2);
}

}  // namespace
}  // namespace drover
