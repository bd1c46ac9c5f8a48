// What the guest uses of AMD's SVM (AMD64 Architecture Programmer's Manual vol. 2, chapter 15 and
// appendix B).
#ifndef E2E_GUEST_SVM_H_
#define E2E_GUEST_SVM_H_

#include <stdint.h>

namespace guest {

inline constexpr uint64_t kEferMsr = 0xc0000080;
inline constexpr uint64_t kGsBaseMsr = 0xc0000101;
inline constexpr uint64_t kHostSaveMsr = 0xc0010117;  // VM_HSAVE_PA

inline constexpr uint64_t kEferLongMode = 0x500;  // LME | LMA
inline constexpr uint64_t kEferSvme = 1 << 12;

// Offsets in the VMCB, of 64-bit words.
enum VmcbWord : uint16_t {
  kExceptionsAndIntercepts = 0x008,  // bits 0..31 exceptions, 32..63 the first intercept word
  kMoreIntercepts = 0x010,
  kAsidAndTlbControl = 0x058,
  kVirtualInterrupt = 0x060,
  kExitCode = 0x070,
  kNestedPaging = 0x090,
  kNestedCr3 = 0x0b0,
  kEs = 0x400,  // selector, attributes << 16, limit << 32; the base is the next word
  kCs = 0x410,
  kSs = 0x420,
  kDs = 0x430,
  kGdtr = 0x460,
  kIdtr = 0x480,
  kEfer = 0x4d0,
  kCr4 = 0x548,
  kCr3 = 0x550,
  kCr0 = 0x558,
  kDr7 = 0x560,
  kDr6 = 0x568,
  kRflags = 0x570,
  kRip = 0x578,
  kRsp = 0x5d8,
  kRax = 0x5f8,
  kCr2 = 0x640,
  kGuestPat = 0x668,
};

// All exceptions; INTR, NMI, CPUID, HLT, shutdown.
inline constexpr uint64_t kInterceptedExceptions = 0xffffffff;
inline constexpr uint64_t kInterceptedEvents =
    1ull << 32 | 1ull << 33 | 1ull << 50 | 1ull << 56 | 1ull << 63;
inline constexpr uint64_t kInterceptedVmrunAndVmmcall = 3;
inline constexpr uint64_t kVirtualInterruptMasking = 1 << 24;

inline constexpr uint64_t kExitInterrupt = 0x60;
inline constexpr uint64_t kExitVmmcall = 0x81;
inline constexpr uint64_t kVmmcallLength = 3;

}  // namespace guest

#endif  // E2E_GUEST_SVM_H_
