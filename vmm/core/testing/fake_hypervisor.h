#ifndef DROVER_VMM_CORE_TESTING_FAKE_HYPERVISOR_H_
#define DROVER_VMM_CORE_TESTING_FAKE_HYPERVISOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/mutex.h"
#include "vmm/core/hypervisor.h"
#include "vmm/core/memory_slots.h"
#include "vmm/core/testing/fake_vcpu.h"

namespace drover {

// What a FakeHypervisor's machines share with the test. Thread-safe.
class FakeHost {
 public:
  // The script of vCPU `id` of whatever VM this hypervisor makes; made when first asked for.
  std::shared_ptr<FakeVcpuScript> script(uint32_t id);

  // Interrupt lines by number: the level now, and how often it rose.
  bool irq_level(uint32_t gsi) const;
  int irq_rises(uint32_t gsi) const;
  int irqchip_resets() const;

  // The call of this name ("CreateVm", "CreateIrqchip", "CreateVcpu", "MakeIrqLine",
  // "RegisterIrqfd", "RegisterIoevent", "AddMemoryRegion", "GetPvClock", "SetPvClock",
  // "ResetIrqchip", "SetIrqRoutes", "SaveIrqchip", "RestoreIrqchip"; a vCPU's "SaveState",
  // "RestoreState") fails so, once the arguments are found good, until it is given OK.
  void Fail(const std::string& call, absl::Status status);
  absl::Status FailureOf(const std::string& call) const;

  void SetIrq(uint32_t gsi, bool high);
  void NoteIrqchipReset();

 private:
  mutable Mutex mutex_;
  std::map<uint32_t, std::shared_ptr<FakeVcpuScript>> scripts_ ABSL_GUARDED_BY(mutex_);
  std::map<uint32_t, bool> levels_ ABSL_GUARDED_BY(mutex_);
  std::map<uint32_t, int> rises_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> failures_ ABSL_GUARDED_BY(mutex_);
  int resets_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A hypervisor without a host: memory is real, vCPUs follow scripts, arguments are checked as
// everywhere. Guest writes are made with FakeVm::TouchAsGuest. Thread-safe.
class FakeHypervisor : public Hypervisor {
 public:
  explicit FakeHypervisor(BackendCapabilities capabilities = DefaultCapabilities());
  // Everything a backend can have.
  static BackendCapabilities DefaultCapabilities();

  const BackendCapabilities& capabilities() const override { return capabilities_; }
  absl::Status Withhold(const std::vector<std::string>& names) override {
    return capabilities_.WithholdAll(names);
  }
  absl::StatusOr<std::unique_ptr<Vm>> CreateVm(std::unique_ptr<GuestMemory> memory) override;

  FakeHost& host() { return *host_; }
  FakeVcpuScript& script(uint32_t id) { return *host_->script(id); }

 private:
  BackendCapabilities capabilities_;
  const std::shared_ptr<FakeHost> host_ = std::make_shared<FakeHost>();
};

// What the handles of one fake VM share. Thread-safe.
class FakeMachine {
 public:
  // A write to a page of a slot that logs, until its ring is reset.
  struct RingEntry {
    MemorySlot slot;
    uint64_t page;
  };

  FakeMachine(const BackendCapabilities& capabilities, std::shared_ptr<FakeHost> host,
              std::unique_ptr<GuestMemory> memory);

  struct Ioevent {
    Fd event;  // a duplicate
    int fd;    // as it was registered
    IoAddress address;
    Datamatch match;
  };

  absl::Status Apply(const SlotMapping& mapping);
  // False when vCPU's ring is full, before anything has changed.
  bool NoteGuestWrite(uint32_t vcpu, const SlotMapping& mapping, uint64_t first, uint64_t last)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  const BackendCapabilities capabilities;
  const std::shared_ptr<FakeHost> host;
  MemorySlots slots;
  Mutex mutex;
  std::map<MemorySlot, SlotMapping> mapped ABSL_GUARDED_BY(mutex);
  std::map<MemorySlot, std::set<uint64_t>> dirty ABSL_GUARDED_BY(mutex);  // pages by slot
  bool initially_set ABSL_GUARDED_BY(mutex) = false;  // slots that start to log are all dirty
  uint32_t ring_pages ABSL_GUARDED_BY(mutex) = 0;     // 0: no rings
  std::map<uint32_t, std::vector<RingEntry>> rings ABSL_GUARDED_BY(mutex);  // by vCPU
  std::vector<Ioevent> ioevents ABSL_GUARDED_BY(mutex);
  std::map<int, uint32_t> irqfds ABSL_GUARDED_BY(mutex);  // event to gsi
  std::set<uint32_t> vcpus ABSL_GUARDED_BY(mutex);
  bool irqchip ABSL_GUARDED_BY(mutex) = false;
  IrqchipOptions irqchip_options ABSL_GUARDED_BY(mutex);
  IrqchipState irqchip_state ABSL_GUARDED_BY(mutex);
  IrqRoutes routes ABSL_GUARDED_BY(mutex);
  PvClock clock ABSL_GUARDED_BY(mutex);
};

enum class FakeWrite { kDone, kExit, kRingFull };

// One handle of a fake VM. Thread-safe.
class FakeVm : public Vm {
 public:
  explicit FakeVm(std::shared_ptr<FakeMachine> machine) : machine_(std::move(machine)) {}

  // What a guest's write of `data` does: memory is changed and its page dirty (true), or it would
  // be an exit (false).
  bool TouchAsGuest(uint64_t address, std::span<const uint8_t> data);
  // The same by vCPU `id`, whose ring may be full: nothing is written, and the vCPU would return
  // DirtyRingFullExit.
  FakeWrite WriteAsVcpu(uint32_t id, uint64_t address, std::span<const uint8_t> data);

  absl::StatusOr<std::unique_ptr<Vm>> Clone() override;
  bool CheckCapability(VmCapability capability) const override;
  uint32_t GuestPhysicalBits() const override;
  GuestMemory& memory() override { return machine_->slots.memory(); }
  absl::StatusOr<MemorySlot> AddMemoryRegion(uint64_t address, std::unique_ptr<MemoryRegion> region,
                                             bool read_only, bool log_dirty_pages,
                                             CacheType cache) override;
  absl::StatusOr<std::unique_ptr<MemoryRegion>> RemoveMemoryRegion(MemorySlot slot) override;
  absl::Status MsyncMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) override;
  absl::Status MadvisePageoutMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) override;
  absl::Status MadviseRemoveMemoryRegion(MemorySlot slot, uint64_t offset, uint64_t size) override;
  absl::StatusOr<Fd> CreateDevice(DeviceKind kind) override;
  absl::Status SetDirtyLogging(MemorySlot slot, bool enabled) override;
  absl::Status GetDirtyLog(MemorySlot slot, std::span<uint8_t> bitmap) override;
  absl::StatusOr<std::unique_ptr<DirtySource>> OpenDirtySource(
      const DirtySourceOptions& options) override;
  absl::Status RegisterIoevent(const Fd& event, IoAddress address, Datamatch match) override;
  absl::Status UnregisterIoevent(const Fd& event, IoAddress address, Datamatch match) override;
  absl::Status HandleIoEvents(IoAddress address, std::span<const uint8_t> data) override;
  absl::StatusOr<PvClock> GetPvClock() override;
  absl::Status SetPvClock(const PvClock& clock) override;
  absl::Status AddFdMapping(MemorySlot slot, uint64_t offset, uint64_t size, const Fd& fd,
                            uint64_t fd_offset, Protection protection) override;
  absl::Status RemoveMapping(MemorySlot slot, uint64_t offset, uint64_t size) override;
  absl::Status HandleBalloonEvent(const BalloonEvent& event) override;
  absl::StatusOr<bool> EnableCapability(VmCapability capability, uint32_t flags) override;
  absl::Status CreateIrqchip(const IrqchipOptions& options) override;
  absl::StatusOr<std::unique_ptr<Vcpu>> CreateVcpu(uint32_t id, uint32_t vcpu_count) override;
  absl::StatusOr<std::unique_ptr<IrqLine>> MakeIrqLine(uint32_t gsi) override;
  absl::Status RegisterIrqfd(const Fd& event, uint32_t gsi, const Fd* resample) override;
  absl::Status UnregisterIrqfd(const Fd& event, uint32_t gsi) override;
  absl::Status SetIrqRoutes(const IrqRoutes& routes) override;
  absl::StatusOr<IrqchipState> SaveIrqchip() override;
  absl::Status RestoreIrqchip(const IrqchipState& state) override;
  absl::Status ResetIrqchip() override;

 private:
  const std::shared_ptr<FakeMachine> machine_;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_TESTING_FAKE_HYPERVISOR_H_
