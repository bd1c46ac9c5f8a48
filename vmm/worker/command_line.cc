#include "vmm/worker/command_line.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "snapshot/describe.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/status.h"
#include "vmm/base/version.h"
#include "vmm/kvm/kvm_hypervisor.h"
#include "vmm/worker/cold_memory.h"
#include "vmm/worker/descriptors.h"
#include "vmm/worker/file_limit.h"
#include "vmm/worker/launch.h"
#include "vmm/worker/seccomp_policy.h"
#include "vmm/worker/vcpu_thread.h"
#include "vmm/worker/worker.h"

namespace drover {
namespace {

constexpr char kUsage[] =
    "usage: drover-vmm --worker | --probe | --describe-snapshot FILE | --version | --help\n"
    "\n"
    "Runs one virtual machine for drover-agent. It is drover-helper that starts it.\n"
    "\n"
    "  --worker   wait for a launch message on descriptor 3 (descriptor 4 is /dev/kvm, and 5\n"
    "             /dev/userfaultfd where there is one)\n"
    "  --probe    print what this host's KVM can do, as name=value lines\n"
    "  --describe-snapshot FILE\n"
    "             print what a snapshot's state file holds, and each thing that is wrong with it,\n"
    "             as JSON. Needs no KVM. Exit code: 0 sound, 1 cannot be read, 3 damaged,\n"
    "             4 no snapshot of Drover, 5 of a version that this one does not know,\n"
    "             6 a state that no Drover writes\n"
    "  --version  print the version\n"
    "  --help     print this\n";

// After its launch; a start takes milliseconds.
constexpr std::chrono::milliseconds kColdAfter(500);

// The filters of the three kinds of thread, compiled before any is needed.
struct Policies {
  SeccompPolicy setup;
  SeccompPolicy main;
  SeccompPolicy vcpu;

  static absl::StatusOr<Policies> Compile() {
    ASSIGN_OR_RETURN(SeccompPolicy setup, SeccompPolicy::Compile(ThreadKind::kSetup));
    ASSIGN_OR_RETURN(SeccompPolicy main,
                     SeccompPolicy::CompileWithin(ThreadKind::kMain, ThreadKind::kSetup));
    ASSIGN_OR_RETURN(SeccompPolicy vcpu, SeccompPolicy::Compile(ThreadKind::kVcpu));
    return Policies{std::move(setup), std::move(main), std::move(vcpu)};
  }
};

// Before this process opens anything: what is open then was passed to it.
Fd PassedUserfaultfdDevice() {
  return fcntl(kUserfaultfdDeviceFd, F_GETFD) >= 0 ? Fd(kUserfaultfdDeviceFd) : Fd();
}

// What can be done before anybody knows which VM this will be.
absl::StatusOr<std::unique_ptr<KvmHypervisor>> OpenHypervisor(const Fd& userfaultfd_device) {
  ASSIGN_OR_RETURN(std::unique_ptr<KvmHypervisor> hypervisor,
                   KvmHypervisor::Create(Fd(kKvmFd), userfaultfd_device.get()));
  RETURN_IF_ERROR(hypervisor->Prewarm(/*with_irqchip=*/true));
  return hypervisor;
}

void PrepareProcess() {
  SetLogComponent("drover-vmm");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  signal(SIGXFSZ, SIG_IGN);  // a log that is full must not end the VM
  // One heap for all threads: less memory, and libc never looks for the number of processors.
  mallopt(M_ARENA_MAX, 1);
  // libc reads its time zone once, for the log's UTC as well: now, while files may be opened.
  tzset();
}

absl::StatusOr<std::unique_ptr<VcpuThread>> StartVcpuThread(const Policies& policies) {
  return VcpuThread::Start([&policies] { return policies.vcpu.Enter(); });
}

absl::Status Serve(Launch launch, Hypervisor* hypervisor, absl::Status hypervisor_status,
                   EventLoop* loop, const Policies& policies,
                   std::unique_ptr<VcpuThread> first_vcpu_thread) {
  const Fd log = std::move(launch.log);
  // The descriptor of before leads to the helper's log, which is no business of a VM's worker.
  if (dup2(log.get(), STDERR_FILENO) < 0) return PosixStatus(errno, "dup2", "of the log");
  const SystemClock clock;
  ASSIGN_OR_RETURN(const std::unique_ptr<Worker> worker,
                   Worker::Create({.loop = loop,
                                   .hypervisor = hypervisor,
                                   .hypervisor_status = std::move(hypervisor_status),
                                   .clock = &clock,
                                   .launch = std::move(launch),
                                   .make_vcpu_thread =
                                       [&policies, &first_vcpu_thread] {
                                         return first_vcpu_thread ? std::move(first_vcpu_thread)
                                                                  : StartVcpuThread(policies);
                                       },
                                   .on_memory = LimitFileSize,
                                   .confine = [&policies] { return policies.main.Enter(); }}));
  loop->RunAfter(kColdAfter, DropColdMemory);
  loop->Run();
  Log(LogLevel::kInfo, "worker ends",
      {{"state", MachineStateName(worker->status().state)}, {"reason", worker->status().reason}});
  return absl::OkStatus();
}

absl::Status RunWorker() {
  const Fd userfaultfd_device = PassedUserfaultfdDevice();
  PrepareProcess();
  UnixChannel channel{Fd(kLaunchChannelFd)};
  absl::StatusOr<std::unique_ptr<KvmHypervisor>> hypervisor = OpenHypervisor(userfaultfd_device);
  ASSIGN_OR_RETURN(const std::unique_ptr<EventLoop> loop, EventLoop::Create());
  ASSIGN_OR_RETURN(const Policies policies, Policies::Compile());
  ASSIGN_OR_RETURN(std::unique_ptr<VcpuThread> first_vcpu_thread, StartVcpuThread(policies));
  PopulateCode();
  RETURN_IF_ERROR(policies.setup.Enter());
  ASSIGN_OR_RETURN(std::optional<Launch> launch, ReceiveLaunch(channel));
  if (!launch.has_value()) return absl::OkStatus();
  channel.Close();  // from here on nothing leads to the helper
  return Serve(*std::move(launch), hypervisor.ok() ? hypervisor->get() : nullptr,
               WithReason(hypervisor.status(), "KVM_UNUSABLE"), loop.get(), policies,
               std::move(first_vcpu_thread));
}

// In a jail /dev/kvm comes as a descriptor, as for a worker; on a shell's command line by its path.
absl::StatusOr<Fd> KvmForProbe() {
  if (fcntl(kKvmFd, F_GETFD) >= 0) return Fd(kKvmFd);
  return OpenFile("/dev/kvm", O_RDWR);
}

absl::Status Probe() {
  Fd userfaultfd_device = PassedUserfaultfdDevice();
  if (!userfaultfd_device.valid())
    userfaultfd_device = OpenFile("/dev/userfaultfd", O_RDWR).value_or(Fd());
  ASSIGN_OR_RETURN(Fd kvm, KvmForProbe());
  ASSIGN_OR_RETURN(const std::unique_ptr<KvmHypervisor> hypervisor,
                   KvmHypervisor::Create(std::move(kvm), userfaultfd_device.get()));
  std::string text;
  for (const auto& [name, value] : hypervisor->capabilities().ToMap())
    absl::StrAppend(&text, name, "=", value, "\n");
  return WriteAll(STDOUT_FILENO, text);
}

int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  (void)WriteAll(STDERR_FILENO, absl::StrCat("drover-vmm: ", status.message(), "\n"));
  return 1;
}

int Describe(const std::string& path) {
  const SnapshotDescription description = DescribeSnapshotFile(path);
  const absl::Status written = WriteAll(STDOUT_FILENO, description.json);
  return written.ok() ? static_cast<int>(description.verdict) : ExitCode(written);
}

}  // namespace

int RunDroverVmm(std::span<char* const> arguments) {
  if (arguments.size() == 2 && absl::string_view(arguments[0]) == "--describe-snapshot")
    return Describe(arguments[1]);
  const absl::string_view mode = arguments.size() == 1 ? arguments[0] : "";
  if (mode == "--worker") return ExitCode(RunWorker());
  if (mode == "--probe") return ExitCode(Probe());
  if (mode == "--version")
    return ExitCode(WriteAll(STDOUT_FILENO, absl::StrCat("drover-vmm ", kVersion, "\n")));
  if (mode == "--help") return ExitCode(WriteAll(STDOUT_FILENO, kUsage));
  (void)WriteAll(STDERR_FILENO, kUsage);
  return 2;
}

}  // namespace drover
