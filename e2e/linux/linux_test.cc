// Stock Debian Linux under Drover: boots to a shell, pauses, resumes, reboots, powers off. Needs a
// KVM that runs ring 0: hardware, or the emulated machine. DROVER_LINUX names the folder with
// vmlinuz, vmlinux and guest_initrd.
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "e2e/harness/vm_fixture.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr seconds kBoot{200};

struct Kernel {
  const char* file;
  int vcpus;
};

class LinuxTest : public VmFixture, public ::testing::WithParamInterface<Kernel> {
 protected:
  void SetUp() override {
    if (getenv("DROVER_LINUX") == nullptr)
      GTEST_SKIP() << "DROVER_LINUX is not set: no stock kernel to boot";
    VmFixture::SetUp();
  }

  std::string Image(const std::string& name) {
    return home_.AddImage(absl::StrCat(getenv("DROVER_LINUX"), "/", name), name);
  }

  void CreateLinux(const Kernel& kernel) {
    v1::CreateVmRequest request =
        GuestRequest("linux", "console=ttyS0 panic=-1", kernel.vcpus, 256);
    request.mutable_vm()->mutable_spec()->mutable_boot()->set_kernel_path(Image(kernel.file));
    request.mutable_vm()->mutable_spec()->mutable_boot()->set_initrd_path(Image("guest_initrd"));
    Create(request);
  }

  // Runs a shell command in the guest and returns its output up to and with a marker.
  absl::StatusOr<std::string> Shell(ConsoleClient& console, const std::string& command) {
    const int n = ++commands_;
    // The marker's parts are joined by the guest's shell, so that its echo of the line cannot
    // match.
    console.Send(absl::StrCat(command, "; echo 'do''ne'-", n, "\n"));
    return console.Expect(absl::StrCat("done-", n), kBoot);
  }

  template <typename Request>
  v1::Vm Call(grpc::Status (v1::VmService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                          v1::Vm*)) {
    grpc::ClientContext context;
    Request request;
    request.set_vm_id("linux");
    v1::Vm vm;
    const grpc::Status status = (vms_.get()->*method)(&context, request, &vm);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return vm;
  }

 private:
  int commands_ = 0;
};

TEST_P(LinuxTest, BootsToAShellAndLivesItsLife) {
  const int vcpus = GetParam().vcpus;
  CreateLinux(GetParam());
  StartVm("linux");
  auto console = Console("linux");
  ASSERT_OK(console->Expect(absl::StrCat(" ", vcpus, " CPU, "), kBoot));
  ASSERT_OK(console->Expect("guest# ", kBoot));
  EXPECT_THAT(Shell(*console, "nproc"), IsOkAndHolds(HasSubstr(absl::StrCat(vcpus, "\r\n"))));
  // Not "Call Trace": the emulator has no XSAVEC, of which Linux warns with one. The shell joins
  // the word, so that its echo of the line cannot match.
  ASSERT_OK_AND_ASSIGN(const std::string complaints,
                       Shell(*console,
                             "dmesg | grep -E 'ACPI.*(Error|Exception)|MP-BIOS'; "
                             "echo com''plaints-$(dmesg | grep -cE "
                             "'ACPI.*(Error|Exception)|MP-BIOS')"));
  EXPECT_THAT(complaints, HasSubstr("complaints-0"));

  EXPECT_EQ(Call(&v1::VmService::Stub::PauseVm).state(), v1::VM_STATE_PAUSED);
  EXPECT_EQ(Call(&v1::VmService::Stub::ResumeVm).state(), v1::VM_STATE_RUNNING);
  EXPECT_THAT(Shell(*console, "echo alive"), IsOkAndHolds(HasSubstr("alive")));

  console->Send("reboot -f\n");
  ASSERT_OK(console->Expect(absl::StrCat(" ", vcpus, " CPU, "), kBoot));
  ASSERT_OK(console->Expect("guest# ", kBoot));
  EXPECT_EQ(Get("linux").boot_count(), 2);
  console->Send("poweroff -f\n");
  const v1::Vm stopped = WaitFor("linux", v1::VM_STATE_STOPPED);
  EXPECT_EQ(stopped.state_reason(), "GUEST_SHUTDOWN");
}

INSTANTIATE_TEST_SUITE_P(Kernels, LinuxTest,
                         ::testing::Values(Kernel{"vmlinuz", 1}, Kernel{"vmlinuz", 2},
                                           Kernel{"vmlinux", 1}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.file, "On", info.param.vcpus, "Vcpus");
                         });

}  // namespace
}  // namespace drover
