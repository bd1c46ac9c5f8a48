#include "vmm/kvm/testing/writer_guest.h"

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"
#include "vmm/kvm/testing/mini_guest.h"

namespace drover {
namespace {

constexpr uint32_t kGdt = 0x500;
constexpr uint32_t kPageTables = 0x9000;  // PML4, PDPT, PD
constexpr uint32_t kCode = 0x10000;
constexpr uint32_t kUserCode = 0x11000;
constexpr uint32_t kStackTop = 0x13000;
constexpr uint32_t kOrders = 0x14000;
constexpr uint32_t kOrdersBytes = 0x2000;
constexpr uint32_t kDone = 0x3F000000;  // a write there, where no memory is, ends the orders

// Present, writable, user, accessed, dirty.
constexpr uint64_t kTable = 0x67;
constexpr uint64_t kLargePage = 1 << 7;

constexpr uint16_t kUserData = 0x18 | 3, kUserCode64 = 0x20 | 3;
constexpr std::array<uint64_t, 5> kDescriptors = {
    0,
    0,
    0x00AF9B000000FFFF,  // ring 0, 64-bit code
    0x00CFF3000000FFFF,
    0x00AFFB000000FFFF,  // ring 3: data, 64-bit code; all accessed
};

template <typename T>
absl::Status Store(GuestMemory& memory, uint64_t address, const T* data, size_t count) {
  return memory.Write(address, {reinterpret_cast<const uint8_t*>(data), count * sizeof(T)});
}

absl::Status StorePageTables(GuestMemory& memory) {
  const uint64_t pml4 = (kPageTables + 0x1000) | kTable, pdpt = (kPageTables + 0x2000) | kTable;
  std::array<uint64_t, 512> directory;
  for (size_t i = 0; i < directory.size(); ++i) directory[i] = i << 21 | kTable | kLargePage;
  RETURN_IF_ERROR(Store(memory, kPageTables, &pml4, 1));
  RETURN_IF_ERROR(Store(memory, kPageTables + 0x1000, &pdpt, 1));
  return Store(memory, kPageTables + 0x2000, directory.data(), directory.size());
}

// To ring 3 by iretq.
std::vector<uint8_t> KernelCode() {
  MiniGuest code;
  code.Bytes({0x6A, kUserData});        // push ss
  code.Bytes({0x68}).Imm32(kStackTop);  // push rsp
  code.Bytes({0x6A, 0x02});             // push rflags
  code.Bytes({0x6A, kUserCode64});      // push cs
  code.Bytes({0x68}).Imm32(kUserCode);  // push rip
  code.Bytes({0x48, 0xCF});             // iretq
  return code.code();
}

std::vector<uint8_t> UserCode() {
  MiniGuest code;
  code.Bytes({0xBF}).Imm32(kDone);                    // mov edi, kDone
  code.Bytes({0x89, 0x1F});                           // again: mov [rdi], ebx
  code.Bytes({0xBE}).Imm32(kOrders + 8);              // mov esi, addresses
  code.Bytes({0x8B, 0x0C, 0x25}).Imm32(kOrders);      // mov ecx, [count]
  code.Bytes({0x8B, 0x1C, 0x25}).Imm32(kOrders + 4);  // mov ebx, [value]
  code.Bytes({0x8B, 0x06});                           // next: mov eax, [rsi]
  code.Bytes({0x48, 0x83, 0xC6, 0x04});               // add rsi, 4
  code.Bytes({0x89, 0x18});                           // mov [rax], ebx
  code.Bytes({0xFF, 0xC9});                           // dec ecx
  code.Bytes({0x75, 0xF4});                           // jnz next
  return code.JumpBack(2 + 5 + 7 + 7 + 12).code();    // jmp again
}

}  // namespace

absl::StatusOr<std::unique_ptr<GuestWriter>> WriterGuest::Create(Vm& vm) {
  GuestMemory& memory = vm.memory();
  const std::vector<uint8_t> kernel = KernelCode(), user = UserCode();
  RETURN_IF_ERROR(Store(memory, kGdt, kDescriptors.data(), kDescriptors.size()));
  RETURN_IF_ERROR(StorePageTables(memory));
  RETURN_IF_ERROR(Store(memory, kCode, kernel.data(), kernel.size()));
  RETURN_IF_ERROR(Store(memory, kUserCode, user.data(), user.size()));
  ASSIGN_OR_RETURN(const std::span<uint8_t> orders, memory.HostRange(kOrders, kOrdersBytes));
  ASSIGN_OR_RETURN(std::unique_ptr<Vcpu> vcpu, vm.CreateVcpu(0, 1));
  RETURN_IF_ERROR(vcpu->SetUpForBoot({.rip = kCode,
                                      .rsp = kStackTop,
                                      .long_mode = true,
                                      .cr3 = kPageTables,
                                      .gdt_base = kGdt,
                                      .gdt_limit = sizeof(kDescriptors) - 1}));
  std::unique_ptr<WriterGuest> writer(new WriterGuest(std::move(vcpu), orders));
  RETURN_IF_ERROR(writer->RunToEnd(nullptr));
  return writer;
}

absl::Status WriterGuest::Write(std::span<const uint64_t> addresses, uint32_t value,
                                DirtyLog* log) {
  if (addresses.empty()) return absl::OkStatus();
  DROVER_CHECK(addresses.size() <= kBatch);
  // Not noted as written: the suite leaves this memory out.
  std::vector<uint32_t> words = {static_cast<uint32_t>(addresses.size()), value};
  words.insert(words.end(), addresses.begin(), addresses.end());
  memcpy(orders_.data(), words.data(), words.size() * sizeof(words[0]));
  return RunToEnd(log);
}

absl::Status WriterGuest::RunToEnd(DirtyLog* log) {
  for (;;) {
    ASSIGN_OR_RETURN(const VcpuExit exit, vcpu_->Run());
    if (std::holds_alternative<InterruptedExit>(exit)) continue;
    if (std::holds_alternative<DirtyRingFullExit>(exit) && log != nullptr) {
      ++full_exits_;
      RETURN_IF_ERROR(log->HandleRingFull());
      continue;
    }
    const auto* const mmio = std::get_if<MmioExit>(&exit);
    if (mmio != nullptr && mmio->is_write && mmio->address == kDone) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("the writing guest left by exit ", exit.index(), "\n",
                                            vcpu_->DumpRegisters()));
  }
}

}  // namespace drover
