// What ring 3 of the test guest asks of ring 0 (boot.S), and the instructions it uses itself.
#ifndef E2E_GUEST_RING0_H_
#define E2E_GUEST_RING0_H_

#include <stddef.h>
#include <stdint.h>

namespace guest {

enum class Ring0Function : uint64_t {
  kInterruptsOn,
  kInterruptsOff,
  kHalt,       // for ever, with interrupts on
  kHaltWhile,  // (uint32_t* a, b): one hlt if *a == b; a wake-up in between is not lost
  kCpuid,      // (CpuidRegisters* a): ring 0 sees the VMM's CPUID, ring 3 on some hosts the host's
  kWriteMsr,   // (a = number, b = value)
  kDropIdt,    // the next exception is a triple fault
  kVmrun,      // (NestedRegisters* a): runs the nested guest to its next exit
  kClearGif,   // SVM's global interrupt flag
  kSetGif,
};

extern "C" uint64_t ring0_call(Ring0Function function, uint64_t a, uint64_t b);

inline void Ring0(Ring0Function function, uint64_t a = 0, uint64_t b = 0) {
  ring0_call(function, a, b);
}

// Leaf and subleaf in eax and ecx before the call.
struct CpuidRegisters {
  uint32_t eax, ebx_or_subleaf, ecx, edx;
};

inline CpuidRegisters Cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidRegisters r = {leaf, subleaf, 0, 0};
  Ring0(Ring0Function::kCpuid, reinterpret_cast<uint64_t>(&r));
  asm volatile("" : "+m"(r));
  return r;
}

// Also a compiler barrier: what a loop around it counts is seen by other vCPUs.
inline uint64_t Tsc() {
  uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
  return low | static_cast<uint64_t>(high) << 32;
}

// a * b / c with a 128-bit product; the quotient must fit.
inline uint64_t MulDiv(uint64_t a, uint64_t b, uint64_t c) {
  uint64_t quotient, high;
  asm("mulq %3\n\tdivq %4" : "=a"(quotient), "=&d"(high) : "0"(a), "r"(b), "r"(c) : "cc");
  return quotient;
}

inline void Out8(uint16_t port, uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
inline void Out16(uint16_t port, uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
inline void Out32(uint16_t port, uint32_t value) {
  asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
inline uint8_t In8(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

// Loads and stores that the compiler neither drops nor widens: device registers, words shared with
// interrupt handlers and other vCPUs.
template <typename T>
T Load(const T& from) {
  return *const_cast<const volatile T*>(&from);
}
template <typename T>
void Store(T& to, T value) {
  *const_cast<volatile T*>(&to) = value;
}

}  // namespace guest

#endif  // E2E_GUEST_RING0_H_
