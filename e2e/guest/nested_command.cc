#include "e2e/guest/command_table.h"
#include "e2e/guest/commands.h"
#include "e2e/guest/console.h"
#include "e2e/guest/cpus.h"
#include "e2e/guest/interrupts.h"
#include "e2e/guest/nested.h"
#include "e2e/guest/ring0.h"

namespace guest {
namespace {

constexpr uint64_t kDefaultTurns = 100000;

bool HasSvm() { return Cpuid(0x80000000).eax >= 0x8000000a && (Cpuid(0x80000001).ecx & 1 << 2); }

bool HasNestedPaging() { return Cpuid(0x8000000a).edx & 1; }

const char* ModeName(const NestedPlan& plan) {
  if (plan.hold) return "hold";
  return plan.shadow ? "shadow" : "nested-paging";
}

void Report() {
  const NestedPlan& plan = nested.plan();
  const NestedProblem& problem = nested.problem();
  if (problem.what) {
    Print("error nested wrong %s at=%x expected=%x found=%x", problem.what, problem.at,
          problem.expected, problem.found);
  } else {
    Print("ok nested");
  }
  Print(" count=%u exits=%u interrupts=%u running=%u mode=%s cpu=%u turns=%u\n", nested.count(),
        nested.exits(), nested.interrupt_exits(), uint64_t{nested.running()}, ModeName(plan),
        plan.cpu, plan.turns);
}

void ReportIf(bool in_time) {
  if (in_time) return Report();
  Print("error nested vCPU %u did not come out of its guest within a second\n", nested.plan().cpu);
}

const char* WhyNot(const NestedPlan& plan) {
  if (nested.running()) return "it runs already: nested stop";
  if (plan.cpu >= CpusOnline()) return "that vCPU is not online: cpus start";
  if (plan.hold && !HasLapic()) return "there is no local APIC";
  if (plan.hold || plan.turns != 0 || plan.cpu != 0 || background.timer_on) return nullptr;
  return "turns=0 on vCPU 0 needs a timer: timer lapic";
}

void Start(Arguments& arguments, bool hold) {
  const bool shadow = !hold && arguments.Take("shadow");
  Option o[] = {{"cpu", 0}, {"turns", kDefaultTurns}};
  if (!arguments.Read("nested", o)) return;
  const NestedPlan plan = {o[0].value, o[1].value, shadow || !HasNestedPaging(), hold};
  if (const char* why = WhyNot(plan)) {
    Print("error nested %s\n", why);
    return;
  }
  ReportIf(nested.Start(plan));
}

}  // namespace

void NestedCommand(Arguments& arguments) {
  if (!HasSvm()) {
    Print("error nested this processor has no SVM\n");
  } else if (arguments.Take("start")) {
    Start(arguments, false);
  } else if (arguments.Take("hold")) {
    Start(arguments, true);
  } else if (arguments.Take("stop")) {
    ReportIf(nested.Stop());
  } else if (*arguments.Rest()) {
    Print("error nested unknown argument: %s\n", arguments.Rest());
  } else {
    ReportIf(nested.Refresh());
  }
}

}  // namespace guest
