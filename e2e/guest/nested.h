// A minimal SVM hypervisor: one vCPU runs a nested guest that counts (boot.S), in the background of
// its loop, and checks at each exit that no register, control register or word of memory is wrong.
#ifndef E2E_GUEST_NESTED_H_
#define E2E_GUEST_NESTED_H_

#include <stdint.h>

#include "e2e/guest/selectors.h"

namespace guest {

// For call_vmrun in boot.S.
struct NestedRegisters {
  uint64_t vmcb;
  uint64_t rcx;
  uint64_t counters[kNestedRegisterCount];
};

struct NestedPlan {
  uint64_t cpu;    // index of the vCPU
  uint64_t turns;  // of the nested guest between two exits; 0: only interrupts take it out
  bool shadow;     // no nested paging
  bool hold;       // no nested guest: GIF is clear, and an interrupt waits for it
};

// The first thing that was wrong; what is nullptr while there is none.
struct NestedProblem {
  const char* what;
  uint64_t at;  // the offset of a VMCB word
  uint64_t expected, found;
};

// Commands run on vCPU 0; Step runs on every vCPU and does something on the one of the plan.
class Nested {
 public:
  // Returns true when the vCPU has begun, false if it did not within a second.
  bool Start(const NestedPlan& plan);
  bool Stop();

  // A guest on another vCPU is made to exit once, so that its registers have just been checked;
  // false if it did not within a second.
  bool Refresh();

  // One run of the nested guest. Returns false if there is nothing to do on this vCPU.
  bool Step(uint32_t cpu);

  bool running() const;
  bool RunsOn(uint32_t cpu) const { return running() && plan_.cpu == cpu; }
  const NestedPlan& plan() const { return plan_; }
  const NestedProblem& problem() const { return problem_; }
  uint64_t count() const;            // turns of the nested guest (hold: looks at the interrupt)
  uint64_t exits() const;            // of the nested guest, for whatever reason
  uint64_t interrupt_exits() const;  // of these, for interrupts

 private:
  enum class State : uint32_t { kOff, kStarting, kOn, kStopping };

  void SetState(State state);
  template <typename Done>
  bool Await(Done done);

  void Enable();
  void Disable();
  void RunOnce();
  void CheckHeld();
  void CheckExit(uint64_t exit_code);
  void CheckCounters(bool at_vmmcall);
  void Expect(const char* what, uint64_t expected, uint64_t found, uint64_t at = 0);

  // `found` belongs to the count of %rax or, in the middle of a turn, to the next one's.
  void ExpectCounter(const char* what, uint64_t expected, uint64_t step, uint64_t found,
                     bool at_vmmcall);

  State state_;
  NestedPlan plan_;
  NestedRegisters registers_;
  NestedProblem problem_;
  uint64_t memory_count_;  // the nested guest's %gs:0
  uint64_t exits_, interrupt_exits_, vmmcalls_;
  uint64_t held_before_;
};

extern Nested nested;

}  // namespace guest

#endif  // E2E_GUEST_NESTED_H_
