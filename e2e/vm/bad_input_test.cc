// Whatever a client or an image gets wrong is refused with one precise error, and leaves nothing
// behind.
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "e2e/harness/vm_fixture.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::HasSubstr;

class BadInputTest : public VmFixture {
 protected:
  grpc::Status TryCreate(const v1::CreateVmRequest& request) {
    grpc::ClientContext context;
    v1::Vm vm;
    return vms_->CreateVm(&context, request, &vm);
  }

  grpc::Status TryStart(const std::string& id) {
    grpc::ClientContext context;
    v1::StartVmRequest request;
    request.set_vm_id(id);
    v1::Vm vm;
    return vms_->StartVm(&context, request, &vm);
  }

  std::string WriteImage(const std::string& name, const std::string& bytes) {
    const std::string path = absl::StrCat(home_.image_dir(), "/", name);
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  // Open descriptors of the agent; its workers' directories and cgroups are counted by the home.
  size_t AgentDescriptors() const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         fs::directory_iterator(absl::StrCat("/proc/", agent_->pid(), "/fd")))
      ++count;
    return count;
  }
};

struct BadCreate {
  const char* name;
  std::function<void(v1::CreateVmRequest*)> spoil;
  const char* field;
};

TEST_F(BadInputTest, EveryBadFieldIsNamed) {
  const auto boot = [](v1::CreateVmRequest* r) {
    return r->mutable_vm()->mutable_spec()->mutable_boot();
  };
  const std::vector<BadCreate> cases = {
      {"no id", [](auto* r) { r->clear_vm_id(); }, "vm_id"},
      {"id in capitals", [](auto* r) { r->set_vm_id("Web"); }, "vm_id"},
      {"id too long", [](auto* r) { r->set_vm_id(std::string(64, 'a')); }, "vm_id"},
      {"id with a path", [](auto* r) { r->set_vm_id("../x"); }, "vm_id"},
      {"no vcpu", [](auto* r) { r->mutable_vm()->mutable_spec()->set_vcpus(0); }, "vm.spec.vcpus"},
      {"too many vcpus", [](auto* r) { r->mutable_vm()->mutable_spec()->set_vcpus(100000); },
       "vm.spec.vcpus"},
      {"no memory", [](auto* r) { r->mutable_vm()->mutable_spec()->set_memory_mib(0); },
       "vm.spec.memory_mib"},
      {"odd memory", [](auto* r) { r->mutable_vm()->mutable_spec()->set_memory_mib(33); },
       "vm.spec.memory_mib"},
      {"more memory than the host",
       [](auto* r) { r->mutable_vm()->mutable_spec()->set_memory_mib(2147483646); },
       "vm.spec.memory_mib"},
      {"no kernel", [&](auto* r) { boot(r)->clear_kernel_path(); }, "vm.spec.boot.kernel_path"},
      {"a kernel that is not there",
       [&](auto* r) { boot(r)->set_kernel_path(home_.image_dir() + "/none"); },
       "vm.spec.boot.kernel_path"},
      {"a kernel outside", [&](auto* r) { boot(r)->set_kernel_path("/etc/hostname"); },
       "vm.spec.boot.kernel_path"},
      {"a kernel by dots",
       [&](auto* r) { boot(r)->set_kernel_path(home_.image_dir() + "/../../../etc/hostname"); },
       "vm.spec.boot.kernel_path"},
      {"a directory as kernel", [&](auto* r) { boot(r)->set_kernel_path(home_.image_dir()); },
       "vm.spec.boot.kernel_path"},
      {"an initrd that is not there",
       [&](auto* r) { boot(r)->set_initrd_path(home_.image_dir() + "/none"); },
       "vm.spec.boot.initrd_path"},
      {"a command line too long",
       [&](auto* r) { boot(r)->set_command_line(std::string(2048, 'x')); },
       "vm.spec.boot.command_line"},
      {"a command line with NUL",
       [&](auto* r) { boot(r)->set_command_line(std::string("a\0b", 3)); },
       "vm.spec.boot.command_line"},
  };
  for (const BadCreate& bad : cases) {
    v1::CreateVmRequest request = GuestRequest("bad");
    bad.spoil(&request);
    const grpc::Status status = TryCreate(request);
    EXPECT_TRUE(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT)
        << bad.name << ": " << status.error_code() << " " << status.error_message();
    EXPECT_THAT(Fields(status), Contains(bad.field)) << bad.name << ": " << status.error_message();
    EXPECT_NE(Reason(status), "") << bad.name;
  }
  v1::ListVmsResponse all;
  grpc::ClientContext context;
  ASSERT_TRUE(vms_->ListVms(&context, {}, &all).ok());
  EXPECT_EQ(all.vms_size(), 0);
}

TEST_F(BadInputTest, LinksOutOfTheAllowedDirectoryAreRefused) {
  const std::string link = home_.image_dir() + "/link";
  fs::create_symlink("/etc/hostname", link);
  v1::CreateVmRequest request = GuestRequest("link");
  request.mutable_vm()->mutable_spec()->mutable_boot()->set_kernel_path(link);
  const grpc::Status status = TryCreate(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_EQ(Reason(status), "FILE_NOT_ALLOWED");
}

TEST_F(BadInputTest, HostileKernelsAreRefusedAndLeaveTheVmAsItWas) {
  const std::string guest = ReadSmallFile(guest_.c_str()).value_or("");
  std::string other_machine = guest;
  other_machine[18] = '\xb7';  // e_machine: aarch64
  const std::vector<std::pair<std::string, std::string>> kernels = {
      {"text", std::string(100000, 'x')},
      {"elf-cut", guest.substr(0, 100)},
      {"elf-half", guest.substr(0, guest.size() / 2)},
      {"elf-arm", other_machine},
      {"one-byte", "x"},
  };
  for (const auto& [name, bytes] : kernels) {
    v1::CreateVmRequest request = GuestRequest(name);
    request.mutable_vm()->mutable_spec()->mutable_boot()->set_kernel_path(WriteImage(name, bytes));
    Create(request);
    const grpc::Status status = TryStart(name);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << name << ": " << status.error_message();
    EXPECT_THAT(Fields(status), Contains("vm.spec.boot.kernel_path")) << name;
    EXPECT_EQ(Get(name).state(), v1::VM_STATE_CREATED) << name;
    EXPECT_FALSE(Get(name).has_worker());
  }
  EXPECT_TRUE(Eventually([&] { return home_.WorkerDirectories().empty(); }));
}

TEST_F(BadInputTest, AnEmptyImageAndAVanishedOneAreNamed) {
  v1::CreateVmRequest request = GuestRequest("empty");
  request.mutable_vm()->mutable_spec()->mutable_boot()->set_kernel_path(WriteImage("empty", ""));
  const grpc::Status empty = TryCreate(request);
  EXPECT_EQ(Reason(empty), "FILE_EMPTY") << empty.error_message();
  const std::string path = home_.AddImage(BuiltFile("e2e/guest/guest.elf"), "gone");
  request = GuestRequest("gone");
  request.mutable_vm()->mutable_spec()->mutable_boot()->set_kernel_path(path);
  Create(request);
  unlink(path.c_str());
  const grpc::Status gone = TryStart("gone");
  EXPECT_EQ(Reason(gone), "FILE_NOT_FOUND") << gone.error_message();
  EXPECT_EQ(Get("gone").state(), v1::VM_STATE_CREATED);
}

TEST_F(BadInputTest, AnInitrdThatDoesNotFit) {
  v1::CreateVmRequest request = GuestRequest("fat", "", 1, 16);
  request.mutable_vm()->mutable_spec()->mutable_boot()->set_initrd_path(
      WriteImage("fat.img", std::string(20 << 20, 'i')));
  Create(request);
  const grpc::Status status = TryStart("fat");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_THAT(Fields(status), Contains("vm.spec.boot.initrd_path"));
}

TEST_F(BadInputTest, UnknownDuplicateAndMisplacedCalls) {
  const grpc::Status unknown = TryStart("nobody");
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.error_message(), HasSubstr("nobody"));
  CreateGuest("once");
  EXPECT_EQ(TryCreate(GuestRequest("once")).error_code(), grpc::StatusCode::ALREADY_EXISTS);
  grpc::ClientContext context;
  v1::ResumeVmRequest resume;
  resume.set_vm_id("once");
  v1::Vm vm;
  const grpc::Status misplaced = vms_->ResumeVm(&context, resume, &vm);
  EXPECT_EQ(misplaced.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Reason(misplaced), "WRONG_STATE");
  StartVm("once");
  EXPECT_EQ(TryStart("once").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  grpc::ClientContext stale;
  v1::PauseVmRequest pause;
  pause.set_vm_id("once");
  pause.set_etag("1");
  EXPECT_EQ(vms_->PauseVm(&stale, pause, &vm).error_code(), grpc::StatusCode::ABORTED);
}

TEST_F(BadInputTest, FailuresLeaveNothingBehind) {
  agent_->Terminate();
  StartAgent({"--spares=0"});  // spares come and go by themselves
  const std::string bad = WriteImage("bad", std::string(5000, 'x'));
  v1::CreateVmRequest request = GuestRequest("leak");
  request.mutable_vm()->mutable_spec()->mutable_boot()->set_kernel_path(bad);
  Create(request);
  for (int i = 0; i < 3; ++i) TryStart("leak");  // what is opened once and kept
  ASSERT_TRUE(Eventually([&] { return home_.WorkerDirectories().empty(); }));
  const size_t before = AgentDescriptors();
  for (int i = 0; i < 20; ++i) TryStart("leak");
  EXPECT_TRUE(Eventually([&] { return home_.WorkerDirectories().empty(); }));
  EXPECT_TRUE(Eventually([&] { return AgentDescriptors() <= before; }))
      << AgentDescriptors() << " > " << before;
  EXPECT_TRUE(Eventually([&] { return home_.Cgroups().empty(); }));
}

TEST_F(BadInputTest, AHelperThatDiesEndsTheAgentAndTheGuestsLive) {
  CreateGuest("lives");
  const v1::Vm vm = StartVm("lives");
  std::ifstream in(absl::StrCat("/proc/", agent_->pid(), "/task/", agent_->pid(), "/children"));
  int helper = 0;
  ASSERT_TRUE(in >> helper);
  ASSERT_EQ(kill(helper, SIGKILL), 0);
  EXPECT_GT(agent_->Wait(), 0);
  EXPECT_EQ(kill(vm.worker().pid(), 0), 0);
  StartAgent();
  EXPECT_EQ(Get("lives").worker().pid(), vm.worker().pid());
}

}  // namespace
}  // namespace drover
