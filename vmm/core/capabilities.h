#ifndef DROVER_VMM_CORE_CAPABILITIES_H_
#define DROVER_VMM_CORE_CAPABILITIES_H_

#include <cstdint>
#include <map>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace drover {

enum class BackendKind { kNone, kKvm, kFake };

// What a backend can and cannot do: probed once from the host and handed to whoever builds a
// machine, which refuses a configuration up front or takes a documented fallback. Copyable,
// comparable, printable. (squib BackendCapabilities)
struct BackendCapabilities {
  BackendKind kind = BackendKind::kNone;
  uint32_t max_vcpus = 0;            // in one VM
  bool dirty_page_tracking = false;  // a per-page dirty bitmap can be produced
  bool postcopy_restore = false;     // guest memory can be faulted in on demand
  bool exposes_vcpu_exits = false;   // the VMM handles exits itself
  bool custom_mmio_devices = false;  // the VMM may place devices of its own

  uint32_t recommended_vcpus = 0;
  uint32_t memory_slots = 0;
  uint32_t guest_physical_bits = 0;
  uint32_t dirty_ring_bytes = 0;  // largest ring a vCPU; 0: none
  uint32_t manual_dirty_log_protect =
      0;  // KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET
  uint32_t nested_state_bytes = 0;  // 0: none
  uint32_t xsave_bytes = 0;         // KVM_CAP_XSAVE2; 4096 at least
  bool irqchip = false;             // interrupt controllers and timer in the kernel
  bool immediate_exit = false;
  bool irqfd = false;
  bool irqfd_resample = false;
  bool ioeventfd = false;
  bool ioeventfd_any_length = false;
  bool read_only_memory = false;
  bool tsc_control = false;
  bool msr_filter = false;
  bool split_irqchip = false;
  bool coalesced_io = false;
  bool userfaultfd = false;  // missing pages of shmem
  bool userfaultfd_wp_shmem = false;
  bool userfaultfd_minor_shmem = false;
  bool userfaultfd_missing_hugetlb = false;
  bool userfaultfd_wp_hugetlb = false;
  bool userfaultfd_minor_hugetlb = false;
  bool hugetlb_2mib = false;  // memfds of 2 MiB pages; how many are free is another question
  bool kvmclock_realtime = false;

  // Which of the above Withhold made absent.
  std::set<std::string> withheld;

  bool operator==(const BackendCapabilities&) const = default;

  // Every capability by name, in the order above; `kind` is none.
  static const std::vector<std::string>& Names();
  // False for an absent capability (0 or false) and for an unknown name.
  bool Has(absl::string_view name) const;
  // As on a host that has not got it: 0 or false from here on. INVALID_ARGUMENT for an unknown name
  // lists those there are.
  absl::Status Withhold(absl::string_view name);
  // All of them, or at an unknown name none.
  absl::Status WithholdAll(const std::vector<std::string>& names);
  // Why `name` is absent, for a message: "the host has no NAME" or "NAME is withheld by the agent's
  // profile".
  std::string WhyAbsent(absl::string_view name) const;

  // Every field by name, as text (numbers in decimal, "true", "false"), and back; unknown names are
  // ignored, and so is `withheld`.
  std::map<std::string, std::string> ToMap() const;
  static BackendCapabilities FromMap(const std::map<std::string, std::string>& fields);
};

std::ostream& operator<<(std::ostream& out, const BackendCapabilities& capabilities);

}  // namespace drover

#endif  // DROVER_VMM_CORE_CAPABILITIES_H_
