#include "e2e/guest/nested.h"

#include "e2e/guest/clock.h"
#include "e2e/guest/cpus.h"
#include "e2e/guest/interrupts.h"
#include "e2e/guest/ring0.h"
#include "e2e/guest/svm.h"

extern "C" {
extern uint64_t nested_vmcb[512], nested_host_save[], nested_map[], page_map[];
extern char nested_guest[], nested_guest_exit[], nested_guest_end[];
}

namespace guest {

Nested nested;

namespace {

constexpr uint64_t kSeed = 0x9e3779b97f4a7c15;
constexpr char kNames[kNestedRegisterCount][4] = {"rbx", "rdx", "rsi", "rdi", "rbp", "r8", "r9",
                                                  "r10", "r11", "r12", "r13", "r14", "r15"};

constexpr uint64_t Segment(uint64_t selector, uint64_t attributes) {
  return selector | attributes << 16 | 0xffffffffull << 32;
}

// The nested guest's state that never changes: written at the start, compared at each exit. None
// has the value of a reset vCPU's, where another one does not hurt.
struct Constant {
  uint32_t offset;
  uint64_t value;
};
constexpr Constant kConstants[] = {
    {kEs, Segment(kData, 0xc93)},
    {kCs, Segment(kCode64, 0xa9b)},
    {kSs, Segment(kData, 0xc93)},
    {kDs, Segment(kData, 0xc93)},
    {kGdtr, 0x2fffull << 32},
    {kGdtr + 8, 0x5a5000},
    {kIdtr, 0x3fffull << 32},
    {kIdtr + 8, 0xa5a000},
    {kEfer, kEferLongMode | kEferSvme},
    {kCr4, 0x20},
    {kCr0, 0x80000011},
    {kDr7, 0x400},
    {kDr6, 0xffff0ff1},
    {kRsp, 0x123456789a0},
    {kCr2, 0x7e5700000aa0},
    {kGuestPat, 0x0007040600070406},
};

uint64_t& Vmcb(uint64_t offset) { return nested_vmcb[offset / 8]; }

uint64_t Address(const void* p) { return reinterpret_cast<uint64_t>(p); }

// The nested page tables: the first 4 MiB, for all of the image. Not page_map: the processor marks
// its entries in use for the nested guest, for which KVM would have to step in each time.
void FillNestedMap() {
  uint64_t* table = nested_map;
  for (int level = 0; level < 2; level++, table += 512) *table = Address(table + 512) | 7;
  table[0] = 0x87;
  table[1] = 0x200087;
}

void FillVmcb(bool shadow) {
  for (uint64_t& word : nested_vmcb) Store(word, uint64_t{0});
  for (const Constant& constant : kConstants) Vmcb(constant.offset) = constant.value;
  Vmcb(kExceptionsAndIntercepts) = kInterceptedExceptions | kInterceptedEvents;
  Vmcb(kMoreIntercepts) = kInterceptedVmrunAndVmmcall;
  Vmcb(kAsidAndTlbControl) = 1 | 1ull << 32;
  Vmcb(kVirtualInterrupt) = kVirtualInterruptMasking;
  Vmcb(kNestedPaging) = !shadow;
  Vmcb(kNestedCr3) = shadow ? 0 : Address(nested_map);
  Vmcb(kCr3) = Address(page_map);
  Vmcb(kRflags) = 2;
  Vmcb(kRip) = Address(nested_guest);
}

void WriteMsr(uint64_t number, uint64_t value) { Ring0(Ring0Function::kWriteMsr, number, value); }

}  // namespace

bool Nested::running() const { return Load(state_) != State::kOff; }
uint64_t Nested::count() const { return Load(memory_count_); }
uint64_t Nested::exits() const { return Load(exits_); }
uint64_t Nested::interrupt_exits() const { return Load(interrupt_exits_); }

// All written before is seen by the other vCPU that sees the state.
void Nested::SetState(State state) {
  asm volatile("" : : : "memory");
  Store(state_, state);
}

// Wakes the vCPU, again and again: a wake-up just before VMRUN is lost. Up to a second or so.
template <typename Done>
bool Nested::Await(Done done) {
  for (int i = 0; i < 1000; i++) {
    if (plan_.cpu != 0) SendWake(CpuApicId(plan_.cpu));
    for (const uint64_t end = Tsc() + MsToCycles(1); static_cast<int64_t>(Tsc() - end) < 0;) {
      Step(0);
      if (done()) return true;
    }
  }
  return false;
}

bool Nested::Start(const NestedPlan& plan) {
  plan_ = plan;
  problem_.what = nullptr;
  memory_count_ = exits_ = interrupt_exits_ = vmmcalls_ = 0;
  FillNestedMap();
  FillVmcb(plan.shadow);
  registers_.vmcb = Address(nested_vmcb);
  registers_.rcx = plan.turns;
  for (int i = 0; i < kNestedRegisterCount; i++) registers_.counters[i] = kSeed * (i + 1);
  SetState(State::kStarting);
  return Await([this] { return Load(state_) == State::kOn || Load(problem_.what); });
}

bool Nested::Stop() {
  if (!running()) return true;
  SetState(State::kStopping);
  return Await([this] { return Load(state_) == State::kOff; });
}

bool Nested::Refresh() {
  if (!running() || plan_.cpu == 0 || plan_.hold) return true;
  const uint64_t before = exits();
  return Await([this, before] { return exits() > before + 1 || !running(); });
}

bool Nested::Step(uint32_t cpu) {
  const State state = Load(state_);
  if (state == State::kOff || plan_.cpu != cpu) return false;
  if (state == State::kStarting) {
    Enable();
    SetState(State::kOn);
  } else if (state == State::kStopping || problem_.what) {
    Disable();
    SetState(State::kOff);
  } else if (plan_.hold) {
    CheckHeld();
  } else {
    RunOnce();
  }
  return true;
}

void Nested::Enable() {
  if (plan_.cpu == 0) MaskLegacyInterrupts();
  if (HasLapic()) EnableInterrupts();
  WriteMsr(kEferMsr, kEferLongMode | kEferSvme);
  WriteMsr(kHostSaveMsr, Address(nested_host_save));
  WriteMsr(kGsBaseMsr, Address(&memory_count_));
  if (!plan_.hold) return;
  held_before_ = Load(held_interrupts);
  Ring0(Ring0Function::kClearGif);
  SendHeldToSelf();
}

void Nested::Disable() {
  Ring0(Ring0Function::kSetGif);
  const uint64_t end = Tsc() + MsToCycles(1000);
  while (plan_.hold && Load(held_interrupts) == held_before_ &&
         static_cast<int64_t>(Tsc() - end) < 0) {
  }
  if (plan_.hold) Expect("held interrupts after GIF", held_before_ + 1, Load(held_interrupts));
  WriteMsr(kHostSaveMsr, 0);
  WriteMsr(kEferMsr, kEferLongMode);
}

void Nested::CheckHeld() {
  Store(memory_count_, memory_count_ + 1);
  Expect("held interrupts before GIF", held_before_, Load(held_interrupts));
}

void Nested::RunOnce() {
  Ring0(Ring0Function::kVmrun, Address(&registers_));
  const uint64_t exit_code = Load(Vmcb(kExitCode));
  CheckExit(exit_code);
  if (exit_code == kExitVmmcall) {
    registers_.rcx = plan_.turns;
    Vmcb(kRip) += kVmmcallLength;
    vmmcalls_++;
  } else {
    Store(interrupt_exits_, interrupt_exits_ + 1);
  }
  Store(exits_, exits_ + 1);
}

void Nested::CheckExit(uint64_t exit_code) {
  const bool vmmcall = exit_code == kExitVmmcall;
  if (!vmmcall) Expect("exit code", kExitInterrupt, exit_code);
  Expect("cr3", Address(page_map), Vmcb(kCr3));
  const uint64_t rip = Vmcb(kRip);
  const uint64_t least = Address(vmmcall ? nested_guest_exit : nested_guest);
  if (rip < least || rip >= Address(vmmcall ? nested_guest_exit + 1 : nested_guest_end)) {
    Expect("rip", least, rip);
  }
  for (const Constant& constant : kConstants) {
    Expect("VMCB word", constant.value, Vmcb(constant.offset), constant.offset);
  }
  CheckCounters(vmmcall);
}

void Nested::CheckCounters(bool at_vmmcall) {
  const uint64_t count = Vmcb(kRax);
  const uint64_t left = plan_.turns * (vmmcalls_ + 1) - count;
  if (at_vmmcall) Expect("turns left", 0, left);
  ExpectCounter("rcx", left, 1, registers_.rcx, at_vmmcall);
  ExpectCounter("memory", count, 1, memory_count_, at_vmmcall);
  for (uint64_t i = 0; i < kNestedRegisterCount; i++) {
    ExpectCounter(kNames[i], kSeed * (i + 1) + count * kNestedStep(i), kNestedStep(i),
                  registers_.counters[i], at_vmmcall);
  }
}

void Nested::ExpectCounter(const char* what, uint64_t expected, uint64_t step, uint64_t found,
                           bool at_vmmcall) {
  if (!at_vmmcall && found == expected + step) return;
  Expect(what, expected, found);
}

void Nested::Expect(const char* what, uint64_t expected, uint64_t found, uint64_t at) {
  if (expected == found || problem_.what) return;
  problem_.at = at;
  problem_.expected = expected;
  problem_.found = found;
  Store(problem_.what, what);
}

}  // namespace guest
