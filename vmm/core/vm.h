#ifndef DROVER_VMM_CORE_VM_H_
#define DROVER_VMM_CORE_VM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/fd.h"
#include "vmm/core/balloon.h"
#include "vmm/core/dirty_source.h"
#include "vmm/core/guest_memory.h"
#include "vmm/core/ioevent.h"
#include "vmm/core/irq_line.h"
#include "vmm/core/irq_routes.h"
#include "vmm/core/irqchip_state.h"
#include "vmm/core/memory_region.h"
#include "vmm/core/vcpu.h"

namespace drover {

// Capabilities of a VM (crosvm VmCap).
enum class VmCapability {
  kDirtyLog,
  kPvClock,
  kReadOnlyMemory,
  kNoncoherentDma,
  kBusLockDetect,
  kIrqfd,
  kIoeventfd,
  kSplitIrqchip,
};

struct PvClock {
  uint64_t nanos = 0;  // kvmclock's time
  std::optional<uint64_t>
      realtime_nanos;  // since the Unix epoch, when `nanos` was read; where the host has it
  std::optional<uint64_t> host_tsc;
};

enum class DeviceKind { kVfio, kVgicV2, kVgicV3, kVgicIts };

struct IrqchipOptions {
  bool pit = true;
  bool split = false;  // PIC and I/O APIC in the VMM; KVM_CAP_SPLIT_IRQCHIP
};

// A virtual machine: its memory slots, interrupt controller, ioevents and vCPUs (crosvm
// hypervisor::Vm). Thread-safe unless a method says otherwise. Every refusal changes nothing.
//
// One rule for errors: an unknown slot is NOT_FOUND (ENOENT); an unaligned or malformed argument
// INVALID_ARGUMENT (EINVAL); a range outside its region OUT_OF_RANGE (EFAULT); an address that
// wraps OUT_OF_RANGE (EOVERFLOW); an overlap or duplicate ALREADY_EXISTS (EEXIST); what the backend
// cannot do UNIMPLEMENTED (EOPNOTSUPP). PosixErrno gives the errno in parentheses.
class Vm {
 public:
  virtual ~Vm() = default;

  // A second handle of the same machine (shallow): slots, memory and ioevents are shared.
  virtual absl::StatusOr<std::unique_ptr<Vm>> Clone() = 0;
  // More exact than the hypervisor's answer.
  virtual bool CheckCapability(VmCapability capability) const = 0;
  virtual uint32_t GuestPhysicalBits() const = 0;
  // The initial RAM; lives as long as any handle.
  virtual GuestMemory& memory() = 0;

  // Maps `region` at `address` (page-aligned; the size is rounded up to pages) into the smallest
  // free slot. Neither initial nor added memory may overlap, and none lies beyond GuestPhysicalBits
  // (OUT_OF_RANGE, EFAULT). On failure the slot stays free, and the region is unmapped.
  virtual absl::StatusOr<MemorySlot> AddMemoryRegion(uint64_t address,
                                                     std::unique_ptr<MemoryRegion> region,
                                                     bool read_only, bool log_dirty_pages,
                                                     CacheType cache) = 0;
  // Unmaps a region and gives it back; accesses are MMIO exits from then on. The initial RAM's
  // slots may be removed too: what comes back is a view that keeps memory() alive.
  virtual absl::StatusOr<std::unique_ptr<MemoryRegion>> RemoveMemoryRegion(MemorySlot slot) = 0;

  // msync(MS_SYNC), madvise(MADV_PAGEOUT), madvise(MADV_REMOVE) on a part of a region, in whole
  // pages.
  virtual absl::Status MsyncMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) = 0;
  virtual absl::Status MadvisePageoutMemoryRegion(MemorySlot slot, uint64_t offset,
                                                  uint64_t size) = 0;
  virtual absl::Status MadviseRemoveMemoryRegion(MemorySlot slot, uint64_t offset,
                                                 uint64_t size) = 0;

  virtual absl::StatusOr<Fd> CreateDevice(DeviceKind kind) = 0;

  // Turns dirty logging of a slot, initial RAM included, on or off while vCPUs run.
  virtual absl::Status SetDirtyLogging(MemorySlot slot, bool enabled) = 0;
  // Pages of the slot written by the guest since the last call, bit i = page i; clears them.
  // `bitmap` must hold a bit for each page (INVALID_ARGUMENT); a slot that does not log is
  // FAILED_PRECONDITION.
  virtual absl::Status GetDirtyLog(MemorySlot slot, std::span<uint8_t> bitmap) = 0;
  // For DirtyLog::Create (dirty_log.h) alone: what this machine knows of vCPUs' writes. It keeps
  // the machine alive. ALREADY_EXISTS while there is another; FAILED_PRECONDITION when a slot logs.
  virtual absl::StatusOr<std::unique_ptr<DirtySource>> OpenDirtySource(
      const DirtySourceOptions& options) = 0;

  // Signals `event` (an eventfd) on a matching guest write instead of an exit. ALREADY_EXISTS for a
  // duplicate; INVALID_ARGUMENT for another width, or a value without width.
  virtual absl::Status RegisterIoevent(const Fd& event, IoAddress address, Datamatch match) = 0;
  // Takes exactly what register took; NOT_FOUND otherwise.
  virtual absl::Status UnregisterIoevent(const Fd& event, IoAddress address, Datamatch match) = 0;
  // For backends that do not signal ioevents themselves; nothing to do where the kernel does.
  virtual absl::Status HandleIoEvents(IoAddress address, std::span<const uint8_t> data) = 0;

  virtual absl::StatusOr<PvClock> GetPvClock() = 0;
  virtual absl::Status SetPvClock(const PvClock& clock) = 0;

  // Maps `size` bytes of `fd` from `fd_offset` into an added arena at a page-aligned `offset`;
  // RemoveMapping makes the range read-only zeros again.
  virtual absl::Status AddFdMapping(MemorySlot slot, uint64_t offset, uint64_t size, const Fd& fd,
                                    uint64_t fd_offset, Protection protection) = 0;
  virtual absl::Status RemoveMapping(MemorySlot slot, uint64_t offset, uint64_t size) = 0;

  // Inflate gives the host memory back; deflate and target are noted.
  virtual absl::Status HandleBalloonEvent(const BalloonEvent& event) = 0;
  // True when the capability was there and is now on; false when the host has it not.
  virtual absl::StatusOr<bool> EnableCapability(VmCapability capability, uint32_t flags) = 0;

  // What a machine needs besides: the in-kernel interrupt controller (after the memory slots: the
  // other order costs milliseconds), vCPUs (after it; ids from 0), interrupt lines and irqfds.
  virtual absl::Status CreateIrqchip(const IrqchipOptions& options) = 0;
  // `vcpu_count` is the machine's, for the topology in CPUID. ALREADY_EXISTS for an id in use.
  virtual absl::StatusOr<std::unique_ptr<Vcpu>> CreateVcpu(uint32_t id, uint32_t vcpu_count) = 0;
  // A line of the interrupt controller by its global system interrupt; must not outlive the Vm.
  virtual absl::StatusOr<std::unique_ptr<IrqLine>> MakeIrqLine(uint32_t gsi) = 0;
  // `event` raises `gsi`; with `resample` the line is level-triggered and `resample` is signalled
  // when the guest acknowledges it. ALREADY_EXISTS for an event in use. Unregistering one that is
  // not registered is OK.
  virtual absl::Status RegisterIrqfd(const Fd& event, uint32_t gsi, const Fd* resample) = 0;
  virtual absl::Status UnregisterIrqfd(const Fd& event, uint32_t gsi) = 0;
  // Where each interrupt goes from now on, all at once; a new irqchip that is not split has
  // IrqRoutes::Pc(). FAILED_PRECONDITION without irqchip; INVALID_ARGUMENT for pins of a split one.
  virtual absl::Status SetIrqRoutes(const IrqRoutes& routes) = 0;
  // The interrupt controllers and the timer, without the local APICs, the lines' levels and the
  // routes. All vCPUs are stopped, and for RestoreIrqchip restored already. FAILED_PRECONDITION
  // without irqchip; CheckIrqchipState's INVALID_ARGUMENT, which changes nothing.
  virtual absl::StatusOr<IrqchipState> SaveIrqchip() = 0;
  virtual absl::Status RestoreIrqchip(const IrqchipState& state) = 0;
  // Puts the interrupt controllers and the timer into the state they have after power-on. All vCPUs
  // are stopped.
  virtual absl::Status ResetIrqchip() = 0;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_VM_H_
