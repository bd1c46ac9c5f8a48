#include "vmm/base/status.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace drover {
namespace {

constexpr char kErrnoUrl[] = "drover/errno";
constexpr char kReasonUrl[] = "drover/reason";
constexpr char kFieldUrl[] = "drover/field";
constexpr char kCapabilityUrl[] = "drover/capability";

absl::Status WithPayload(absl::Status status, const char* url, absl::string_view value) {
  if (!status.ok() && !value.empty() && !status.GetPayload(url).has_value())
    status.SetPayload(url, absl::Cord(value));
  return status;
}

std::string PayloadOf(const absl::Status& status, const char* url) {
  const auto payload = status.GetPayload(url);
  return payload.has_value() ? std::string(*payload) : "";
}

}  // namespace

absl::Status PosixStatus(int error, absl::string_view call, absl::string_view detail) {
  const char* name = strerrorname_np(error);
  absl::Status status(absl::ErrnoToStatusCode(error),
                      absl::StrCat(call, detail.empty() ? "" : " ", detail, ": ",
                                   strerrordesc_np(error) ?: "unknown error", " (",
                                   name ? name : absl::StrCat("errno ", error).c_str(), ")"));
  status.SetPayload(kErrnoUrl, absl::Cord(absl::StrCat(error)));
  return status;
}

std::optional<int> PosixErrno(const absl::Status& status) {
  const auto payload = status.GetPayload(kErrnoUrl);
  int value = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &value)) return std::nullopt;
  return value;
}

absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) return status;
  absl::Status out(status.code(), absl::StrCat(prefix, ": ", status.message()));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { out.SetPayload(url, payload); });
  return out;
}

absl::Status WithPosixErrno(absl::Status status, int error) {
  return WithPayload(std::move(status), kErrnoUrl, absl::StrCat(error));
}

absl::Status WithReason(absl::Status status, absl::string_view reason) {
  return WithPayload(std::move(status), kReasonUrl, reason);
}

absl::Status WithField(absl::Status status, absl::string_view field) {
  return WithPayload(std::move(status), kFieldUrl, field);
}

std::string ReasonOf(const absl::Status& status) { return PayloadOf(status, kReasonUrl); }

std::string FieldOf(const absl::Status& status) { return PayloadOf(status, kFieldUrl); }

absl::Status WithCapability(absl::Status status, absl::string_view capability) {
  return WithPayload(std::move(status), kCapabilityUrl, capability);
}

std::string CapabilityOf(const absl::Status& status) { return PayloadOf(status, kCapabilityUrl); }

void CheckFailed(const char* condition, const char* file, int line) {
  char text[512];
  const int n =
      snprintf(text, sizeof(text), "%s:%d: broken invariant: %s\n", file, line, condition);
  if (n > 0 && write(STDERR_FILENO, text,
                     static_cast<size_t>(n) < sizeof(text) ? n : sizeof(text) - 1) < 0) {
    // Nothing is left to tell it to.
  }
  abort();
}

}  // namespace drover
