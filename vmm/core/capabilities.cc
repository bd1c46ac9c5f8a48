#include "vmm/core/capabilities.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace drover {
namespace {

constexpr std::pair<BackendKind, absl::string_view> kKinds[] = {
    {BackendKind::kNone, "none"}, {BackendKind::kKvm, "kvm"}, {BackendKind::kFake, "fake"}};

// Calls visit(name, member pointer) for each field but `kind`.
template <typename Visit>
void ForEachField(Visit visit) {
  using C = BackendCapabilities;
  visit("max_vcpus", &C::max_vcpus);
  visit("dirty_page_tracking", &C::dirty_page_tracking);
  visit("postcopy_restore", &C::postcopy_restore);
  visit("exposes_vcpu_exits", &C::exposes_vcpu_exits);
  visit("custom_mmio_devices", &C::custom_mmio_devices);
  visit("recommended_vcpus", &C::recommended_vcpus);
  visit("memory_slots", &C::memory_slots);
  visit("guest_physical_bits", &C::guest_physical_bits);
  visit("dirty_ring_bytes", &C::dirty_ring_bytes);
  visit("manual_dirty_log_protect", &C::manual_dirty_log_protect);
  visit("nested_state_bytes", &C::nested_state_bytes);
  visit("xsave_bytes", &C::xsave_bytes);
  visit("irqchip", &C::irqchip);
  visit("immediate_exit", &C::immediate_exit);
  visit("irqfd", &C::irqfd);
  visit("irqfd_resample", &C::irqfd_resample);
  visit("ioeventfd", &C::ioeventfd);
  visit("ioeventfd_any_length", &C::ioeventfd_any_length);
  visit("read_only_memory", &C::read_only_memory);
  visit("tsc_control", &C::tsc_control);
  visit("msr_filter", &C::msr_filter);
  visit("split_irqchip", &C::split_irqchip);
  visit("coalesced_io", &C::coalesced_io);
  visit("userfaultfd", &C::userfaultfd);
  visit("userfaultfd_wp_shmem", &C::userfaultfd_wp_shmem);
  visit("userfaultfd_minor_shmem", &C::userfaultfd_minor_shmem);
  visit("userfaultfd_missing_hugetlb", &C::userfaultfd_missing_hugetlb);
  visit("userfaultfd_wp_hugetlb", &C::userfaultfd_wp_hugetlb);
  visit("userfaultfd_minor_hugetlb", &C::userfaultfd_minor_hugetlb);
  visit("hugetlb_2mib", &C::hugetlb_2mib);
  visit("kvmclock_realtime", &C::kvmclock_realtime);
}

std::string Print(bool value) { return value ? "true" : "false"; }
std::string Print(uint32_t value) { return std::to_string(value); }

// An unreadable value is an absent capability.
void Parse(const std::string& text, bool* value) { *value = text == "true"; }
void Parse(const std::string& text, uint32_t* value) {
  if (!absl::SimpleAtoi(text, value)) *value = 0;
}

std::string PrintKind(BackendKind kind) {
  for (const auto& [known, name] : kKinds)
    if (known == kind) return std::string(name);
  return "none";
}

BackendKind ParseKind(const std::string& text) {
  for (const auto& [known, name] : kKinds)
    if (name == text) return known;
  return BackendKind::kNone;
}

}  // namespace

const std::vector<std::string>& BackendCapabilities::Names() {
  static const auto& names = *new std::vector<std::string>([] {
    std::vector<std::string> out;
    ForEachField([&](const char* name, auto) { out.push_back(name); });
    return out;
  }());
  return names;
}

bool BackendCapabilities::Has(absl::string_view name) const {
  bool has = false;
  ForEachField([&](const char* known, auto field) {
    if (name == known) has = this->*field != 0;
  });
  return has;
}

absl::Status BackendCapabilities::Withhold(absl::string_view name) {
  bool known = false;
  ForEachField([&](const char* candidate, auto field) {
    if (name != candidate) return;
    this->*field = {};
    known = true;
  });
  if (!known)
    return absl::InvalidArgumentError(absl::StrCat("there is no capability \"", name.substr(0, 64),
                                                   "\"; there are: ", absl::StrJoin(Names(), " ")));
  withheld.insert(std::string(name));
  return absl::OkStatus();
}

absl::Status BackendCapabilities::WithholdAll(const std::vector<std::string>& names) {
  BackendCapabilities less = *this;
  for (const std::string& name : names)
    if (absl::Status status = less.Withhold(name); !status.ok()) return status;
  *this = std::move(less);
  return absl::OkStatus();
}

std::string BackendCapabilities::WhyAbsent(absl::string_view name) const {
  if (withheld.count(std::string(name)) != 0)
    return absl::StrCat("the capability ", name, " is withheld by the agent's profile");
  return absl::StrCat("the host has no capability ", name);
}

std::map<std::string, std::string> BackendCapabilities::ToMap() const {
  std::map<std::string, std::string> out = {{"kind", PrintKind(kind)}};
  ForEachField([&](const char* name, auto field) { out[name] = Print(this->*field); });
  return out;
}

BackendCapabilities BackendCapabilities::FromMap(const std::map<std::string, std::string>& fields) {
  BackendCapabilities out;
  if (const auto kind = fields.find("kind"); kind != fields.end())
    out.kind = ParseKind(kind->second);
  ForEachField([&](const char* name, auto field) {
    if (const auto found = fields.find(name); found != fields.end())
      Parse(found->second, &(out.*field));
  });
  return out;
}

std::ostream& operator<<(std::ostream& out, const BackendCapabilities& capabilities) {
  const char* separator = "";
  for (const auto& [name, value] : capabilities.ToMap()) {
    out << separator << name << "=" << value;
    separator = " ";
  }
  for (const std::string& name : capabilities.withheld) out << " -" << name;
  return out;
}

}  // namespace drover
