#include "agent/admission/admission.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr size_t kMaxIdBytes = 63;
constexpr size_t kMaxPathBytes = 4095;
constexpr size_t kMaxLabels = 32;
constexpr size_t kMaxLabelKey = 63;
constexpr size_t kMaxLabelValue = 255;
constexpr int32_t kMinMemoryMib = 2;
constexpr int kMaxFeature = 2;  // the largest number of each of VmFeatures' enums
constexpr std::chrono::seconds kRetryDelay(5);

using Violations = std::vector<FieldViolation>;

bool IsIdCharacter(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-'; }

// Characters, not bytes: every byte that does not continue a UTF-8 sequence begins one.
size_t CharacterCount(absl::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

bool HasControl(absl::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_iscntrl(c); });
}

void CheckId(const std::string& id, Violations* out) {
  if (IsVmId(id)) return;
  out->push_back({"vm_id", absl::StrCat("must be 1 to 63 characters of a-z, 0-9 and '-', begin "
                                        "with a letter and not end with '-', not ",
                                        Quoted(id))});
}

// A UUID in its usual text form, or nothing.
void CheckRequestId(const std::string& id, Violations* out) {
  bool good = id.empty() || id.size() == 36;
  for (size_t i = 0; good && i < id.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    good = dash ? id[i] == '-' : absl::ascii_isxdigit(id[i]);
  }
  if (!good) out->push_back({"request_id", absl::StrCat("must be a UUID, not ", Quoted(id))});
}

void CheckVcpus(int32_t vcpus, Violations* out) {
  if (vcpus >= 1 && vcpus <= kMaxVcpus) return;
  out->push_back({"vm.spec.vcpus", absl::StrCat("must be 1 to ", kMaxVcpus, ", not ", vcpus)});
}

template <typename T>
void CheckWish(const char* field, const char* required_field, const Wish<T>& wish,
               Violations* out) {
  const int number = static_cast<int>(wish.value);
  if (number < 0 || number > kMaxFeature)
    out->push_back({field, absl::StrCat("is the number ", number, ", which is no known value")});
  else if (wish.required && wish.value == T::kUnspecified)
    out->push_back({required_field, absl::StrCat("needs ", field)});
}

void CheckFeatures(const VmFeatures& features, Violations* out) {
  CheckWish("vm.spec.memory_pages.size", "vm.spec.memory_pages.required", features.memory_pages,
            out);
  CheckWish("vm.spec.dirty_log.kind", "vm.spec.dirty_log.required", features.dirty_log, out);
  CheckWish("vm.spec.snapshots.mode", "vm.spec.snapshots.required", features.snapshots, out);
  CheckWish("vm.spec.migration.mode", "vm.spec.migration.required", features.migration, out);
}

VmConfig ConfigOf(const VmSpec& spec) {
  return {.vcpus = static_cast<uint32_t>(spec.vcpus),
          .memory_bytes = static_cast<uint64_t>(spec.memory_mib) << 20,
          .features = spec.features,
          .needs = {}};
}

absl::Status Refuse(const std::vector<Refusal>& refusals) {
  if (refusals.empty()) return absl::OkStatus();
  Violations violations;
  for (const Refusal& refusal : refusals) violations.push_back({refusal.field, refusal.message});
  return WithCapability(InvalidFields(std::move(violations), refusals[0].reason),
                        refusals[0].capability);
}

void CheckMemory(int32_t mib, const HostLimits& host, Violations* out) {
  const char field[] = "vm.spec.memory_mib";
  if (mib < kMinMemoryMib || mib % 2 != 0)
    out->push_back({field, absl::StrCat("must be even and at least 2, not ", mib)});
  else if (mib > host.usable_mib())
    out->push_back({field, absl::StrCat("must be at most ", host.usable_mib(), ", not ", mib,
                                        ": this host has ", host.memory_mib, " MiB and keeps ",
                                        host.reserved_mib, " of it for itself")});
}

void CheckPath(const char* field, const std::string& path, Violations* out) {
  if (path.size() > kMaxPathBytes)
    out->push_back(
        {field, absl::StrCat("must be at most ", kMaxPathBytes, " bytes, not ", path.size())});
  else if (path.find('\0') != std::string::npos)
    out->push_back({field, "must not contain NUL"});
  else if (path[0] != '/')
    out->push_back({field, absl::StrCat("must be an absolute path, not ", Quoted(path))});
}

void CheckBoot(const VmSpec& spec, Violations* out) {
  if (spec.kernel_path.empty())
    out->push_back({"vm.spec.boot.kernel_path", "is required: the absolute path of a kernel"});
  else
    CheckPath("vm.spec.boot.kernel_path", spec.kernel_path, out);
  if (!spec.initrd_path.empty()) CheckPath("vm.spec.boot.initrd_path", spec.initrd_path, out);
  const std::string& line = spec.command_line;
  if (line.size() > kMaxCommandLineBytes)
    out->push_back(
        {"vm.spec.boot.command_line",
         absl::StrCat("must be at most ", kMaxCommandLineBytes, " bytes, not ", line.size())});
  else if (line.find('\0') != std::string::npos)
    out->push_back({"vm.spec.boot.command_line", "must not contain NUL"});
}

void CheckLabel(const std::string& key, const std::string& value, Violations* out) {
  const std::string field = absl::StrCat("vm.labels[", Quoted(key, 32), "]");
  if (key.empty() || CharacterCount(key) > kMaxLabelKey || HasControl(key))
    out->push_back({field, "the key must be 1 to 63 characters, none of them a control character"});
  if (CharacterCount(value) > kMaxLabelValue || value.find('\0') != std::string::npos)
    out->push_back({field, absl::StrCat("the value must be at most ", kMaxLabelValue,
                                        " characters without NUL, not ", CharacterCount(value))});
}

void CheckLabels(const std::map<std::string, std::string>& labels, Violations* out) {
  if (labels.size() > kMaxLabels)
    out->push_back(
        {"vm.labels", absl::StrCat("must be at most ", kMaxLabels, " pairs, not ", labels.size())});
  for (const auto& [key, value] : labels) CheckLabel(key, value, out);
}

absl::Status Exhausted(const std::string& message, absl::string_view reason) {
  return WithRetryDelay(WithReason(absl::ResourceExhaustedError(message), reason), kRetryDelay);
}

}  // namespace

bool IsVmId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && absl::ascii_islower(id.front()) &&
         id.back() != '-' && std::all_of(id.begin(), id.end(), IsIdCharacter);
}

Violations ValidateCreate(const CreateVmParams& params, const HostLimits& host) {
  Violations out;
  CheckId(params.id, &out);
  CheckVcpus(params.spec.vcpus, &out);
  CheckMemory(params.spec.memory_mib, host, &out);
  CheckBoot(params.spec, &out);
  CheckFeatures(params.spec.features, &out);
  CheckRequestId(params.request_id, &out);
  CheckLabels(params.labels, &out);
  return out;
}

absl::StatusOr<VmPlan> ResolveCreate(const CreateVmParams& params, const HostLimits& host) {
  RETURN_IF_ERROR(InvalidFields(ValidateCreate(params, host)));
  if (!host.capabilities.has_value()) return VmPlan();
  VmResolution resolution = ResolveVm(ConfigOf(params.spec), *host.capabilities);
  RETURN_IF_ERROR(Refuse(resolution.refusals));
  return std::move(resolution.plan);
}

absl::Status CheckCapacity(const VmSpec& spec, const HostAllocation& promised,
                           const HostLimits& host) {
  if (promised.vms >= host.max_vms)
    return Exhausted(absl::StrCat("this host holds ", promised.vms, " VMs, as many as it may (",
                                  host.max_vms, "); delete one, or use another host"),
                     "HOST_VMS_EXHAUSTED");
  const int64_t left = host.usable_mib() - promised.memory_mib;
  if (spec.memory_mib <= left) return absl::OkStatus();
  return Exhausted(
      absl::StrCat("the VM needs ", spec.memory_mib, " MiB and ", std::max<int64_t>(left, 0),
                   " of this host's ", host.usable_mib(),
                   " MiB for VMs are not promised to others; delete one, or use another host"),
      "HOST_MEMORY_EXHAUSTED");
}

}  // namespace drover
