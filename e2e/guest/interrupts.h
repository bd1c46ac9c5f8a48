// The interrupt table, the local APIC (xAPIC registers) and the I/O APIC. Interrupts stay off until
// something needs one: the console works without any.
#ifndef E2E_GUEST_INTERRUPTS_H_
#define E2E_GUEST_INTERRUPTS_H_

#include <stdint.h>

extern "C" {
// Written by the handlers in boot.S.
extern uint64_t timer_interrupts;
extern uint64_t wake_interrupts;
extern uint64_t held_interrupts;
extern uint32_t wake_pending;
}

namespace guest {

enum class TimerSource { kOff, kLapic, kPit };

// Fills the IDT: exceptions, timer, wake-up, spurious.
void FillInterruptTable();

bool HasLapic();
uint32_t LapicId();

// Keeps the two 8259s still, should they be there. vCPU 0 only: the others have no ports.
void MaskLegacyInterrupts();

// Lets this vCPU's local APIC deliver interrupts, and turns them on.
void EnableInterrupts();

// Periodic interrupts on vCPU 0, counted in timer_interrupts. hz: 1..10000 (PIT: from 19).
void SetTimer(TimerSource source, uint32_t hz);

// The serial port's receive interrupt, for a vCPU 0 that waits in hlt.
void RouteSerialInterrupt();

// For measuring: a one-shot count without interrupt, and how far it got (at most 2^32-1).
void StartLapicCount();
uint32_t LapicCount();

// INIT, SIPI and the wake-up vector to another vCPU.
void SendInit(uint32_t apic_id);
void SendStartup(uint32_t apic_id);
void SendWake(uint32_t apic_id);

// An interrupt to this vCPU itself, counted in held_interrupts.
void SendHeldToSelf();

}  // namespace guest

#endif  // E2E_GUEST_INTERRUPTS_H_
