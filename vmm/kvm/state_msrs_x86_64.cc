// The MSRs of a vCPU's state: which, and in which order.
#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/core/vm_errors.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/msrs.h"

namespace drover {
namespace {

struct MsrRange {
  uint32_t first;
  uint32_t last;
};

// Listed by KVM, but no state of their own.
constexpr MsrRange kElsewhere[] = {
    {0x10, 0x10},              // IA32_TSC: VcpuState::tsc
    {0x1B, 0x1B},              // IA32_APIC_BASE: sregs
    {0xC0000080, 0xC0000080},  // EFER: sregs
    // Wall clock: a write makes KVM write guest memory, which by then may hold something else.
    {0x11, 0x11},
    {0x4B564D00, 0x4B564D00},
    {0x4B564D07, 0x4B564D07},  // MSR_KVM_ASYNC_PF_ACK: a command, not a value
    {0x40000000, 0x400001FF},  // Hyper-V's: a Drover machine does not offer them
};

// A guest's state that KVM does not list, or not everywhere.
constexpr MsrRange kUnlisted[] = {
    {0x200, 0x20F},                                            // IA32_MTRR_PHYSBASE, _PHYSMASK
    {0x250, 0x250},           {0x258, 0x259}, {0x268, 0x26F},  // IA32_MTRR_FIX
    {0x2FF, 0x2FF},                                            // IA32_MTRR_DEF_TYPE
    {0x400, 0x47F},                                            // machine check banks
    {0xC0000103, 0xC0000103},                                  // TSC_AUX
};

// Those before all others and those after them; between them the order does not matter.
constexpr MsrRange kFirst[] = {
    {0x3A, 0x3A},              // IA32_FEATURE_CONTROL: permits VMX, before anything of VMX
    {0x480, 0x492},            // VMX capabilities: nested state is checked against them
    {0x4B564D06, 0x4B564D06},  // MSR_KVM_ASYNC_PF_INT: its vector, before _EN turns it on
};
constexpr MsrRange kLast[] = {
    {0x6E0, 0x6E0},  // IA32_TSC_DEADLINE: arms a timer, so after all that the timer goes by
};

// KVM's own (paravirtual clock, steal time, ...): setting one makes KVM write guest memory.
constexpr MsrRange kParavirtual[] = {{0x12, 0x12}, {0x4B564D01, 0x4B564DFF}};

bool IsIn(std::span<const MsrRange> ranges, uint32_t index) {
  return std::ranges::any_of(
      ranges, [index](const MsrRange& r) { return index >= r.first && index <= r.last; });
}

int Rank(const MsrValue& msr) {
  if (IsIn(kFirst, msr.index)) return 0;
  return IsIn(kLast, msr.index) ? 2 : 1;
}

// KVM_GET_MSRS and KVM_SET_MSRS take a header and entries.
class MsrBuffer {
 public:
  explicit MsrBuffer(size_t count)
      : words_((sizeof(struct kvm_msrs) + count * sizeof(struct kvm_msr_entry)) / 8 + 1) {
    request()->nmsrs = static_cast<uint32_t>(count);
  }
  struct kvm_msrs* request() {
    return reinterpret_cast<struct kvm_msrs*>(words_.data());
  }
  struct kvm_msr_entry& entry(size_t i) {
    return request()->entries[i];
  }

 private:
  std::vector<uint64_t> words_;
};

// How many of `msrs`, from the first on, could be read; their values are filled in.
absl::StatusOr<size_t> ReadSome(int vcpu_fd, std::span<MsrValue> msrs) {
  MsrBuffer buffer(msrs.size());
  for (size_t i = 0; i < msrs.size(); ++i) buffer.entry(i) = {.index = msrs[i].index};
  const int got = ioctl(vcpu_fd, KVM_GET_MSRS, buffer.request());
  if (got < 0) return PosixStatus(errno, "KVM_GET_MSRS", "");
  for (int i = 0; i < got; ++i) msrs[i].value = buffer.entry(i).data;
  return static_cast<size_t>(got);
}

absl::StatusOr<size_t> WriteSome(int vcpu_fd, std::span<const MsrValue> msrs) {
  MsrBuffer buffer(msrs.size());
  for (size_t i = 0; i < msrs.size(); ++i)
    buffer.entry(i) = {.index = msrs[i].index, .data = msrs[i].value};
  const int taken = ioctl(vcpu_fd, KVM_SET_MSRS, buffer.request());
  if (taken < 0) return PosixStatus(errno, "KVM_SET_MSRS", "");
  return static_cast<size_t>(taken);
}

std::vector<MsrValue> Unread(std::span<const uint32_t> indexes) {
  std::vector<MsrValue> out;
  for (const uint32_t index : indexes) out.push_back({index, 0});
  return out;
}

absl::StatusOr<std::vector<uint32_t>> ListMsrs(int kvm_fd) {
  struct kvm_msr_list none = {.nmsrs = 0};
  if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &none) != 0 && errno != E2BIG)
    return PosixStatus(errno, "KVM_GET_MSR_INDEX_LIST", "");
  std::vector<uint32_t> list(1 + none.nmsrs);  // struct kvm_msr_list
  list[0] = none.nmsrs;
  RETURN_IF_ERROR(KvmIoctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, list.data(), "KVM_GET_MSR_INDEX_LIST"));
  list.erase(list.begin());
  return list;
}

absl::Status DoesNotTake(const MsrValue& msr) {
  return Malformed(absl::StrFormat("MSR %#x does not take the value %#x", msr.index, msr.value));
}

}  // namespace

absl::StatusOr<std::vector<uint32_t>> ListSaveableMsrs(int kvm_fd, int vcpu_fd) {
  ASSIGN_OR_RETURN(std::vector<uint32_t> listed, ListMsrs(kvm_fd));
  for (const MsrRange& range : kUnlisted)
    for (uint32_t index = range.first; index <= range.last; ++index) listed.push_back(index);
  std::erase_if(listed, [](uint32_t index) { return IsIn(kElsewhere, index); });
  std::ranges::sort(listed);
  listed.erase(std::unique(listed.begin(), listed.end()), listed.end());
  std::vector<MsrValue> values = Unread(listed);
  std::vector<uint32_t> readable;
  for (size_t next = 0; next < values.size();) {
    ASSIGN_OR_RETURN(const size_t got, ReadSome(vcpu_fd, std::span(values).subspan(next)));
    readable.insert(readable.end(), listed.begin() + next, listed.begin() + next + got);
    next += got + 1;  // past the one that could not be read
  }
  return readable;
}

absl::StatusOr<std::vector<MsrValue>> ReadMsrs(int vcpu_fd, std::span<const uint32_t> indexes) {
  std::vector<MsrValue> values = Unread(indexes);
  ASSIGN_OR_RETURN(const size_t got, ReadSome(vcpu_fd, values));
  if (got == values.size()) return values;
  return PosixStatus(ENOENT, "KVM_GET_MSRS", absl::StrFormat("MSR %#x", indexes[got]));
}

absl::Status RestoreMsrs(int vcpu_fd, std::span<const MsrValue> msrs) {
  std::vector<uint32_t> indexes;
  for (const MsrValue& msr : msrs) indexes.push_back(msr.index);
  ASSIGN_OR_RETURN(const std::vector<MsrValue> now, ReadMsrs(vcpu_fd, indexes));
  std::vector<MsrValue> wanted;
  for (size_t i = 0; i < msrs.size(); ++i) {
    const bool again = msrs[i].value != 0 && IsIn(kParavirtual, msrs[i].index);
    if (again || now[i] != msrs[i]) wanted.push_back(msrs[i]);
  }
  std::ranges::stable_sort(wanted, {}, Rank);
  ASSIGN_OR_RETURN(const size_t taken, WriteSome(vcpu_fd, wanted));
  return taken == wanted.size() ? absl::OkStatus() : DoesNotTake(wanted[taken]);
}

absl::StatusOr<uint64_t> ReadMsr(int vcpu_fd, uint32_t index) {
  ASSIGN_OR_RETURN(const std::vector<MsrValue> values, ReadMsrs(vcpu_fd, {&index, 1}));
  return values[0].value;
}

absl::Status WriteMsr(int vcpu_fd, uint32_t index, uint64_t value) {
  const MsrValue msr = {index, value};
  ASSIGN_OR_RETURN(const size_t taken, WriteSome(vcpu_fd, {&msr, 1}));
  return taken == 1 ? absl::OkStatus() : DoesNotTake(msr);
}

}  // namespace drover
