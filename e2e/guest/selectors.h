// Constants shared by boot.S and the C++ of the test guest: selectors, sizes and the trampoline's
// place.
#ifndef E2E_GUEST_SELECTORS_H_
#define E2E_GUEST_SELECTORS_H_

#define kCode64 0x08
#define kData 0x10
#define kCode32 0x18
#define kUserData 0x23
#define kUserCode 0x2b
#define kFirstTask 0x30

#define kMaxCpus 256
#define kMaxGigabytes 64

// The TSS (0x68 bytes), an I/O permission bitmap for all ports, and its closing byte of ones.
#define kTaskLimit (0x68 + 8192)

// Each further vCPU's page: TSS, counters, ring-0 stack, ring-3 stack.
#define kCpuAreaSize 4096
#define kRing0StackTop 0x800

// Where the real-mode code of further vCPUs goes: SIPI vector 8. Free RAM once the start info is
// read.
#define kTrampoline 0x8000

#define kCallCount 10

// NestedRegisters (nested.h): the VMCB's address, %rcx, and the nested guest's registers %rbx,
// %rdx, %rsi, %rdi, %rbp, %r8 to %r15, each of which goes up by its own step.
#define kNestedVmcb 0
#define kNestedRcx 8
#define kNestedRegister(i) (16 + 8 * (i))
#define kNestedStep(i) (2 * (i) + 3)
#define kNestedRegisterCount 13

#endif  // E2E_GUEST_SELECTORS_H_
