#include "e2e/harness/vm_fixture.h"

#include <iostream>
#include <thread>
#include <utility>

#include "proto/google/rpc/status.pb.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

// The detail of type T in the error's google.rpc.Status; default where there is none.
template <typename T>
T Detail(const grpc::Status& status) {
  google::rpc::Status proto;
  T detail;
  if (!proto.ParseFromString(status.error_details())) return detail;
  for (const auto& any : proto.details())
    if (any.Is<T>()) any.UnpackTo(&detail);
  return detail;
}

}  // namespace

void VmFixture::SetUp() {
  if (const std::string why = WhyNoVms(); !why.empty()) GTEST_SKIP() << why;
  guest_ = home_.AddImage(BuiltFile("e2e/guest/guest.elf"), "guest");
  StartAgent();
}

void VmFixture::TearDown() {
  if (vms_ != nullptr && agent_ != nullptr && agent_->pid() > 0) {
    grpc::ClientContext context;
    v1::ListVmsResponse all;
    vms_->ListVms(&context, {}, &all);
    for (const v1::Vm& vm : all.vms()) ForceDelete(vm.id());
  }
  vms_.reset();
  host_.reset();
  agent_.reset();
  if (HasFailure())
    std::cerr << ReadSmallFile(home_.log().c_str()).value_or("(no agent log)") << std::flush;
}

void VmFixture::StartAgent(std::vector<std::string> more_flags) {
  ASSERT_OK_AND_ASSIGN(agent_, AgentProcess::Start(home_, std::move(more_flags)));
  vms_ = v1::VmService::NewStub(agent_->channel());
  host_ = v1::HostService::NewStub(agent_->channel());
}

void VmFixture::KillAgent() { agent_->Kill(); }

v1::CreateVmRequest VmFixture::GuestRequest(const std::string& id, const std::string& command_line,
                                            int vcpus, int memory_mib) {
  v1::CreateVmRequest request;
  request.set_vm_id(id);
  v1::VmSpec* spec = request.mutable_vm()->mutable_spec();
  spec->set_vcpus(vcpus);
  spec->set_memory_mib(memory_mib);
  spec->mutable_boot()->set_kernel_path(guest_);
  spec->mutable_boot()->set_command_line(command_line);
  return request;
}

v1::Vm VmFixture::Create(const v1::CreateVmRequest& request) {
  grpc::ClientContext context;
  v1::Vm vm;
  const grpc::Status status = vms_->CreateVm(&context, request, &vm);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return vm;
}

v1::Vm VmFixture::CreateGuest(const std::string& id, const std::string& command_line, int vcpus,
                              int memory_mib) {
  return Create(GuestRequest(id, command_line, vcpus, memory_mib));
}

v1::Vm VmFixture::StartVm(const std::string& id) {
  grpc::ClientContext context;
  v1::StartVmRequest request;
  request.set_vm_id(id);
  v1::Vm vm;
  const grpc::Status status = vms_->StartVm(&context, request, &vm);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return vm;
}

v1::Vm VmFixture::Get(const std::string& id) {
  grpc::ClientContext context;
  v1::GetVmRequest request;
  request.set_vm_id(id);
  v1::Vm vm;
  const grpc::Status status = vms_->GetVm(&context, request, &vm);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return vm;
}

void VmFixture::ForceDelete(const std::string& id) {
  grpc::ClientContext context;
  v1::DeleteVmRequest request;
  request.set_vm_id(id);
  request.set_force(true);
  request.set_allow_missing(true);
  google::protobuf::Empty nothing;
  const grpc::Status status = vms_->DeleteVm(&context, request, &nothing);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

v1::Vm VmFixture::WaitFor(const std::string& id, v1::VmState state) {
  v1::Vm vm;
  EXPECT_TRUE(Eventually([&] {
    vm = Get(id);
    return vm.state() == state;
  })) << id
      << " is " << vm.ShortDebugString();
  return vm;
}

std::unique_ptr<ConsoleClient> VmFixture::Console(const std::string& id) {
  return std::make_unique<ConsoleClient>(vms_.get(), id);
}

std::string Reason(const grpc::Status& status) {
  return Detail<google::rpc::ErrorInfo>(status).reason();
}

std::vector<std::string> Fields(const grpc::Status& status) {
  std::vector<std::string> fields;
  const auto details = Detail<google::rpc::BadRequest>(status);
  for (const auto& violation : details.field_violations()) fields.push_back(violation.field());
  return fields;
}

bool Eventually(const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < end) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return done();
}

}  // namespace drover
