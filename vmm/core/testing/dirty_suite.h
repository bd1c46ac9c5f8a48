#ifndef DROVER_VMM_CORE_TESTING_DIRTY_SUITE_H_
#define DROVER_VMM_CORE_TESTING_DIRTY_SUITE_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/core/dirty_log.h"
#include "vmm/core/hypervisor.h"

namespace drover {

// A vCPU whose guest writes where it is told. Belongs to one thread at a time.
class GuestWriter {
 public:
  // Addresses of one call at most.
  static constexpr size_t kBatch = 1024;
  // Guest memory below is the writer's own: its code reads there, which may count as a write.
  static constexpr uint64_t kReserved = 0x40000;

  virtual ~GuestWriter() = default;
  // The guest stores `value` at each of the addresses (4-byte aligned), and then the vCPU has left
  // Run. Exits for a full ring go to `log`.
  virtual absl::Status Write(std::span<const uint64_t> addresses, uint32_t value,
                             DirtyLog* log) = 0;
  int full_exits() const { return full_exits_; }

 protected:
  int full_exits_ = 0;
};

// A backend and a kind of log that the suite runs over.
struct DirtyFactory {
  std::string name;
  DirtySourceOptions options;
  // Called for each test; UNAVAILABLE skips it, loudly.
  std::function<absl::StatusOr<std::unique_ptr<Hypervisor>>()> make;
  std::function<absl::StatusOr<std::unique_ptr<GuestWriter>>(Vm&, uint32_t id, uint32_t count)>
      make_writer;
  uint32_t writers = 1;  // vCPUs that can write at the same time
};
inline std::ostream& operator<<(std::ostream& out, const DirtyFactory& factory) {
  return out << factory.name;
}

// The kinds of log, by name, that every backend is tried with.
std::vector<DirtyFactory> WithAllKinds(const DirtyFactory& backend);

// What dirty_log.h promises, with guest, VMM and devices writing. The two property tests make some
// hundred rounds, or as many as DROVER_DIRTY_ROUNDS says; DROVER_DIRTY_SEED chooses others.
class DirtySuite : public testing::TestWithParam<DirtyFactory> {
 public:
  static constexpr uint64_t kPage = 4096;
  // The initial RAM, slots 0 and 1, and where tests add memory.
  static constexpr GuestRange kLow = {0, 512 * kPage};
  static constexpr GuestRange kHigh = {1024 * kPage, 257 * kPage};
  static constexpr uint64_t kExtra = 2048 * kPage;
  static constexpr uint64_t kFirst = GuestWriter::kReserved;  // that tests may write

  Vm& vm() { return *vm_; }
  GuestMemory& memory() { return vm_->memory(); }
  DirtyLog& log() { return *log_; }
  GuestWriter& guest(uint32_t id = 0) { return *guests_[id]; }
  uint32_t guests() const { return static_cast<uint32_t>(guests_.size()); }
  bool ring() const { return log_->choice().kind == DirtyLogKind::kRing; }
  bool manual() const { return log_->choice().manual_protect; }

  // Addresses of pages that are not the writers' own.
  using Pages = std::set<uint64_t>;
  static Pages PagesOf(const PageSet& set);
  static Pages PagesOf(const GuestRange& range);
  // What a harvest gives.
  Pages Harvest(DirtyClear clear = DirtyClear::kNow);
  Pages HarvestSlot(MemorySlot slot);

  void GuestWrites(const std::vector<uint64_t>& addresses, uint32_t value = 1);
  void VmmWrites(uint64_t address, size_t size);
  MemorySlot AddRegion(uint64_t address, uint64_t pages);

 protected:
  void SetUp() override;

 private:
  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<DirtyLog> log_;
  std::vector<std::unique_ptr<GuestWriter>> guests_;
};

}  // namespace drover

#endif  // DROVER_VMM_CORE_TESTING_DIRTY_SUITE_H_
