#include "agent/daemon/agent_user.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/fd.h"
#include "vmm/base/status.h"

namespace drover {
namespace {

constexpr char kDefaultName[] = "drover";
constexpr rlim_t kEnoughFiles = 1 << 20;
constexpr uid_t kNobody = static_cast<uid_t>(-1);  // setresuid's "leave as it is"

absl::Status Prctl(int option, unsigned long argument, const char* name) {
  return prctl(option, argument, 0, 0, 0) == 0 ? absl::OkStatus()
                                               : PosixStatus(errno, "prctl", name);
}

absl::Status SetIds(const AgentUser& user) {
  if (setgroups(0, nullptr) != 0) return PosixStatus(errno, "setgroups", "");
  if (setresgid(user.gid, user.gid, user.gid) != 0)
    return PosixStatus(errno, "setresgid", absl::StrCat(user.gid));
  if (setresuid(user.uid, user.uid, user.uid) != 0)
    return PosixStatus(errno, "setresuid", absl::StrCat(user.uid));
  return absl::OkStatus();
}

// no_new_privs makes what stays in the bounding set (without CAP_SETPCAP, all of it) unreachable.
void EmptyBoundingSet() {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability)
    prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

absl::Status EmptyCapabilitySets() {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct none[2] = {};
  if (syscall(SYS_capset, &header, none) != 0) return PosixStatus(errno, "capset", "");
  return Prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, "PR_CAP_AMBIENT_CLEAR_ALL");
}

absl::Status CheckDropped() {
  if (setuid(0) == 0 || seteuid(0) == 0)
    return absl::InternalError("root could be taken back after dropping it");
  return absl::OkStatus();
}

// The account for `text`, or null.
const struct passwd* FindAccount(const std::string& text, uint32_t number, bool is_number) {
  return is_number ? getpwuid(number) : getpwnam(text.c_str());
}

}  // namespace

absl::StatusOr<AgentUser> ResolveAgentUser(const std::string& text) {
  uint32_t number = 0;
  const bool is_number = absl::SimpleAtoi(text, &number);
  const struct passwd* account = FindAccount(text.empty() ? kDefaultName : text, number, is_number);
  if (account == nullptr && text.empty()) return AgentUser();
  if (account == nullptr && !is_number)
    return absl::InvalidArgumentError(absl::StrCat("there is no account \"", text,
                                                   "\"; make it (useradd --system ", text,
                                                   ") or give a number"));
  AgentUser user{.uid = number, .gid = number};
  if (account != nullptr) user = {.uid = account->pw_uid, .gid = account->pw_gid};
  if (user.uid == 0 || user.gid == 0 || user.uid == kNobody)
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is root, its group, or no user: the agent must have no ",
                     "privilege once it has started"));
  return user;
}

absl::Status DropPrivileges(const AgentUser& user) {
  EmptyBoundingSet();
  RETURN_IF_ERROR(SetIds(user));
  RETURN_IF_ERROR(EmptyCapabilitySets());
  RETURN_IF_ERROR(Prctl(PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS"));
  RETURN_IF_ERROR(Prctl(PR_SET_DUMPABLE, 0, "PR_SET_DUMPABLE"));
  return CheckDropped();
}

absl::Status RaiseFileLimit() {
  struct rlimit limit = {.rlim_cur = kEnoughFiles, .rlim_max = kEnoughFiles};
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return absl::OkStatus();
  // fs.nr_open is lower, or this root restricted: then as far as it goes.
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return PosixStatus(errno, "getrlimit", "NOFILE");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return PosixStatus(errno, "setrlimit", "NOFILE");
  return absl::OkStatus();
}

}  // namespace drover
