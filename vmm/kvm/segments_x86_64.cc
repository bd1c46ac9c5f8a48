#include "vmm/kvm/segments.h"

namespace drover {
namespace {

// Selectors as Linux's __BOOT_CS, __BOOT_DS and __BOOT_TSS are.
constexpr uint16_t kCodeSelector = 0x10;
constexpr uint16_t kDataSelector = 0x18;
constexpr uint16_t kTaskSelector = 0x20;

constexpr uint8_t kTypeCode = 0xB;  // execute, read, accessed
constexpr uint8_t kTypeData = 0x3;  // read, write, accessed
constexpr uint8_t kTypeTask = 0xB;  // 32-bit or 64-bit TSS, busy

constexpr uint64_t kCr0ProtectionEnable = 1u << 0;
constexpr uint64_t kCr0ExtensionType = 1u << 4;
constexpr uint64_t kCr0Paging = 1u << 31;
constexpr uint64_t kCr4Pae = 1u << 5;
constexpr uint64_t kEferLme = 1u << 8;
constexpr uint64_t kEferLma = 1u << 10;

struct kvm_segment Flat(uint16_t selector, uint8_t type, bool long_mode) {
  return {.base = 0,
          .limit = 0xFFFFFFFF,
          .selector = selector,
          .type = type,
          .present = 1,
          .db = static_cast<uint8_t>(long_mode ? 0 : 1),
          .s = 1,
          .l = static_cast<uint8_t>(long_mode ? 1 : 0),
          .g = 1};
}

void SetSegments(const BootRegisters& boot, struct kvm_sregs* sregs) {
  sregs->cs = Flat(kCodeSelector, kTypeCode, boot.long_mode);
  const struct kvm_segment data = Flat(kDataSelector, kTypeData, false);
  sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
  sregs->tr = {.limit = 0x67, .selector = kTaskSelector, .type = kTypeTask, .present = 1};
  sregs->ldt = {.limit = 0, .unusable = 1};
  sregs->gdt = {.base = boot.gdt_base, .limit = boot.gdt_limit};
  sregs->idt = {.base = 0, .limit = 0};
}

}  // namespace

void SetBootMode(const BootRegisters& boot, struct kvm_sregs* sregs) {
  SetSegments(boot, sregs);
  sregs->cr0 = kCr0ProtectionEnable | kCr0ExtensionType;
  sregs->cr2 = sregs->cr3 = sregs->cr4 = sregs->cr8 = sregs->efer = 0;
  if (!boot.long_mode) return;
  sregs->cr0 |= kCr0Paging;
  sregs->cr3 = boot.cr3;
  sregs->cr4 = kCr4Pae;
  sregs->efer = kEferLme | kEferLma;
}

}  // namespace drover
