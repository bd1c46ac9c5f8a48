#include "e2e/guest/interrupts.h"

#include "e2e/guest/console.h"
#include "e2e/guest/ring0.h"
#include "e2e/guest/selectors.h"

extern "C" {
extern char exception_stubs[], irq_timer[], irq_wake[], irq_held[], irq_spurious[];
extern uint64_t idt[512];
uint64_t timer_interrupts;
uint64_t wake_interrupts;
uint64_t held_interrupts;
uint32_t wake_pending;
}

namespace guest {
namespace {

constexpr uint8_t kTimerVector = 0x40;
constexpr uint8_t kWakeVector = 0x41;
constexpr uint8_t kHeldVector = 0x42;
constexpr uint8_t kSpuriousVector = 0xff;
constexpr uint32_t kMasked = 1 << 16;
constexpr uint32_t kPeriodic = 1 << 17;

// Intel SDM vol. 3, table 11-1; the offsets within the local APIC's page.
enum LapicRegister : uint32_t {
  kId = 0x20,
  kVersion = 0x30,
  kSpurious = 0xf0,
  kCommandLow = 0x300,
  kCommandHigh = 0x310,
  kTimerEntry = 0x320,
  kLint0Entry = 0x350,
  kInitialCount = 0x380,
  kCurrentCount = 0x390,
  kDivide = 0x3e0,
};

volatile uint32_t& Lapic(LapicRegister offset) {
  return *reinterpret_cast<volatile uint32_t*>(0xfee00000ull + offset);
}

void SetIoApic(uint32_t index, uint32_t value) {
  auto* io_apic = reinterpret_cast<volatile uint32_t*>(0xfec00000ull);
  io_apic[0] = index;
  io_apic[4] = value;
}

// Edge-triggered, active high, fixed delivery to vCPU 0.
void RoutePin(uint32_t pin, uint32_t vector_or_mask) {
  SetIoApic(0x11 + 2 * pin, LapicId() << 24);
  SetIoApic(0x10 + 2 * pin, vector_or_mask);
}

void SetGate(uint32_t vector, const char* handler) {
  const uint64_t address = reinterpret_cast<uint64_t>(handler);
  idt[2 * vector] = (address & 0xffff) | kCode64 << 16 | 0x8e00ull << 32 | (address >> 16) << 48;
  idt[2 * vector + 1] = address >> 32;
}

void Command(uint32_t apic_id, uint32_t command) {
  Lapic(kCommandHigh) = apic_id << 24;
  Lapic(kCommandLow) = command;
  for (int i = 0; i < 1000 && (Lapic(kCommandLow) & 1 << 12); i++) {
  }
}

void SetPit(uint32_t hz) {
  const uint32_t divisor = 1193182 / hz;
  Out8(0x43, 0x34);  // channel 0, low and high byte, rate generator
  Out8(0x40, divisor);
  Out8(0x40, divisor >> 8);
}

}  // namespace

void FillInterruptTable() {
  for (uint32_t i = 0; i < 32; i++) SetGate(i, exception_stubs + 16 * i);
  SetGate(kTimerVector, irq_timer);
  SetGate(kWakeVector, irq_wake);
  SetGate(kHeldVector, irq_held);
  SetGate(kSpuriousVector, irq_spurious);
}

bool HasLapic() {
  const uint32_t version = Lapic(kVersion);
  return version != 0 && version != 0xffffffff;
}

uint32_t LapicId() { return Lapic(kId) >> 24; }

void MaskLegacyInterrupts() {
  Out8(0x21, 0xff);
  Out8(0xa1, 0xff);
}

void EnableInterrupts() {
  Lapic(kLint0Entry) = kMasked;
  Lapic(kSpurious) = 0x100 | kSpuriousVector;
  Ring0(Ring0Function::kInterruptsOn);
}

void SetTimer(TimerSource source, uint32_t hz) {
  const bool pit = source == TimerSource::kPit;
  MaskLegacyInterrupts();
  EnableInterrupts();
  Lapic(kDivide) = 0xb;  // by 1
  Lapic(kTimerEntry) = source == TimerSource::kLapic ? kPeriodic | kTimerVector : kMasked;
  Lapic(kInitialCount) = source == TimerSource::kLapic ? 1000000000 / hz : 0;
  RoutePin(0, pit ? kTimerVector : kMasked);  // pin 2 where the MADT overrides it
  RoutePin(2, pit ? kTimerVector : kMasked);
  if (pit) SetPit(hz);
}

void RouteSerialInterrupt() {
  MaskLegacyInterrupts();
  EnableInterrupts();
  RoutePin(kSerialIrq, kWakeVector);
  SetReceiveInterrupt(true);
}

void StartLapicCount() {
  Lapic(kDivide) = 0xb;
  Lapic(kTimerEntry) = kMasked;
  Lapic(kInitialCount) = 0xffffffff;
}

uint32_t LapicCount() { return 0xffffffff - Lapic(kCurrentCount); }

void SendInit(uint32_t apic_id) {
  Lapic(kSpurious) = 0x100 | kSpuriousVector;  // KVM looks anew which vCPU has which id
  Command(apic_id, 0x4500);
}

void SendStartup(uint32_t apic_id) { Command(apic_id, 0x4600 | kTrampoline >> 12); }

void SendWake(uint32_t apic_id) { Command(apic_id, 0x4000 | kWakeVector); }

void SendHeldToSelf() { Command(LapicId(), 0x4000 | kHeldVector); }

}  // namespace guest
