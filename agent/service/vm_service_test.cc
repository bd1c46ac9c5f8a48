#include "agent/service/vm_service.h"

#include <unistd.h>

#include <future>

#include "agent/errors/field_violations.h"
#include "agent/service/rpc_error.h"
#include "agent/service/service_harness.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

std::vector<std::string> Fields(const RpcError& error) {
  std::vector<std::string> fields;
  for (const FieldViolation& violation : error.violations) fields.push_back(violation.field);
  return fields;
}

class VmServiceTest : public ::testing::Test {
 protected:
  VmServiceTest()
      : vms_(v1::VmService::NewStub(harness_.NewChannel())),
        host_(v1::HostService::NewStub(harness_.NewChannel())) {
    harness_.Open();
  }

  template <typename Request, typename Response>
  RpcError Call(grpc::Status (v1::VmService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                            Response*),
                const Request& request, Response* response) {
    grpc::ClientContext context;
    SetTestDeadline(&context);
    return DecodeRpcError((vms_.get()->*method)(&context, request, response));
  }

  // Calls a method whose request names a VM.
  template <typename Request>
  RpcError CallVm(grpc::Status (v1::VmService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                              v1::Vm*),
                  const std::string& id, const std::string& etag = "") {
    Request request;
    request.set_vm_id(id);
    request.set_etag(etag);
    vm_.Clear();
    return Call(method, request, &vm_);
  }

  v1::CreateVmRequest CreateRequest(const std::string& id) {
    v1::CreateVmRequest request;
    request.set_vm_id(id);
    v1::VmSpec* spec = request.mutable_vm()->mutable_spec();
    spec->set_vcpus(1);
    spec->set_memory_mib(64);
    spec->mutable_boot()->set_kernel_path("/images/k");
    return request;
  }

  ServiceHarness harness_;
  std::unique_ptr<v1::VmService::Stub> vms_;
  std::unique_ptr<v1::HostService::Stub> host_;
  v1::Vm vm_;
};

using Stub = v1::VmService::Stub;

TEST_F(VmServiceTest, LeadsAVmThroughItsLife) {
  ASSERT_EQ(Call(&Stub::CreateVm, CreateRequest("a"), &vm_).code, grpc::StatusCode::OK);
  EXPECT_EQ(vm_.state(), v1::VM_STATE_CREATED);
  ASSERT_EQ(CallVm(&Stub::StartVm, "a").code, grpc::StatusCode::OK);
  EXPECT_EQ(vm_.state(), v1::VM_STATE_RUNNING);
  EXPECT_EQ(vm_.worker().pid(), 42);
  ASSERT_EQ(CallVm(&Stub::PauseVm, "a").code, grpc::StatusCode::OK);
  EXPECT_EQ(vm_.state(), v1::VM_STATE_PAUSED);
  ASSERT_EQ(CallVm(&Stub::ResumeVm, "a").code, grpc::StatusCode::OK);
  ASSERT_EQ(CallVm(&Stub::RebootVm, "a").code, grpc::StatusCode::OK);
  ASSERT_EQ(CallVm(&Stub::StopVm, "a").code, grpc::StatusCode::OK);
  EXPECT_EQ(vm_.state(), v1::VM_STATE_STOPPED);
  v1::DeleteVmRequest request;
  request.set_vm_id("a");
  google::protobuf::Empty empty;
  EXPECT_EQ(Call(&Stub::DeleteVm, request, &empty).code, grpc::StatusCode::OK);
  EXPECT_EQ(Call(&Stub::DeleteVm, request, &empty).code, grpc::StatusCode::NOT_FOUND);
  request.set_allow_missing(true);
  EXPECT_EQ(Call(&Stub::DeleteVm, request, &empty).code, grpc::StatusCode::OK);
}

TEST_F(VmServiceTest, NamesEverythingThatIsWrongWithACreate) {
  v1::CreateVmRequest request = CreateRequest("a");
  request.mutable_vm()->set_state(v1::VM_STATE_RUNNING);
  request.mutable_vm()->mutable_spec()->set_vcpus(0);
  request.mutable_vm()->mutable_spec()->set_memory_mib(1);
  const RpcError error = Call(&Stub::CreateVm, request, &vm_);
  EXPECT_EQ(error.code, grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(Fields(error),
              UnorderedElementsAre("vm.state", "vm.spec.vcpus", "vm.spec.memory_mib"));
  EXPECT_THAT(harness_.backend().Snapshot(), ElementsAre());
}

TEST_F(VmServiceTest, MakesNothingOfARequestWithOutputOnlyFields) {
  v1::CreateVmRequest request = CreateRequest("a");
  request.mutable_vm()->set_uid("mine");
  EXPECT_THAT(Fields(Call(&Stub::CreateVm, request, &vm_)), ElementsAre("vm.uid"));
  EXPECT_THAT(harness_.backend().Snapshot(), ElementsAre());
}

TEST_F(VmServiceTest, RequiresAnId) {
  EXPECT_THAT(Fields(CallVm(&Stub::StartVm, "")), ElementsAre("vm_id"));
  EXPECT_THAT(Fields(CallVm(&Stub::StopVm, "")), ElementsAre("vm_id"));
}

TEST_F(VmServiceTest, CarriesTheBackendsErrors) {
  harness_.AddVm("a");
  const RpcError missing = CallVm(&Stub::StartVm, "nobody");
  EXPECT_EQ(missing.code, grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(missing.reason, "VM_NOT_FOUND");
  EXPECT_EQ(missing.metadata.at("vm_id"), "nobody");
  const RpcError wrong = CallVm(&Stub::PauseVm, "a");
  EXPECT_EQ(wrong.code, grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(wrong.preconditions.size(), 1u);
  EXPECT_EQ(CallVm(&Stub::StartVm, "a", "77").code, grpc::StatusCode::ABORTED);
  EXPECT_EQ(CallVm(&Stub::StartVm, "a", "1").code, grpc::StatusCode::OK);
  harness_.backend().FailNext(
      WithRetryDelay(WithReason(absl::ResourceExhaustedError("full"), "HOST_MEMORY_EXHAUSTED"),
                     std::chrono::milliseconds(1500)));
  const RpcError full = Call(&Stub::CreateVm, CreateRequest("b"), &vm_);
  EXPECT_EQ(full.code, grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(full.retry_delay, std::chrono::milliseconds(1500));
}

TEST_F(VmServiceTest, PassesGraceAndForce) {
  harness_.AddVm("a");
  CallVm(&Stub::StartVm, "a");
  v1::StopVmRequest request;
  request.set_vm_id("a");
  request.mutable_grace()->set_nanos(5);
  request.set_force(true);
  EXPECT_EQ(Call(&Stub::StopVm, request, &vm_).code, grpc::StatusCode::OK);
  EXPECT_EQ(harness_.backend().last_grace(), std::chrono::nanoseconds(5));
  EXPECT_TRUE(harness_.backend().last_force());
  request.mutable_grace()->set_nanos(-1);
  EXPECT_THAT(Fields(Call(&Stub::StopVm, request, &vm_)), ElementsAre("grace"));
}

TEST_F(VmServiceTest, AStopWaitsNoLongerThanItsClient) {
  harness_.AddVm("a");
  harness_.backend().HangStops();
  v1::StopVmRequest request;
  request.set_vm_id("a");
  request.set_force(true);
  grpc::ClientContext context;
  SetTestDeadline(&context);
  auto call = std::async(std::launch::async,
                         [&] { return vms_->StopVm(&context, request, &vm_).error_code(); });
  while (!harness_.backend().last_force()) usleep(1000);
  context.TryCancel();
  EXPECT_EQ(call.get(), grpc::StatusCode::CANCELLED);
  harness_.server().Shutdown(std::chrono::minutes(10));  // would wait for it
}

TEST_F(VmServiceTest, AStopWaitsNoLongerThanTheAgent) {
  harness_.AddVm("a");
  harness_.backend().HangStops();
  v1::StopVmRequest request;
  request.set_vm_id("a");
  request.set_force(true);
  auto call =
      std::async(std::launch::async, [&] { return Call(&Stub::StopVm, request, &vm_).reason; });
  while (!harness_.backend().last_force()) usleep(1000);
  harness_.gate().Close();
  EXPECT_EQ(call.get(), "AGENT_STOPPING");
}

TEST_F(VmServiceTest, ListsPageByPage) {
  for (const char* id : {"a", "b", "c"}) harness_.AddVm(id);
  v1::ListVmsRequest request;
  request.set_page_size(2);
  v1::ListVmsResponse page;
  ASSERT_EQ(Call(&Stub::ListVms, request, &page).code, grpc::StatusCode::OK);
  EXPECT_EQ(page.vms_size(), 2);
  request.set_page_token(page.next_page_token());
  ASSERT_EQ(Call(&Stub::ListVms, request, &page).code, grpc::StatusCode::OK);
  EXPECT_EQ(page.vms_size(), 1);
  EXPECT_EQ(page.next_page_token(), "");
  request.set_page_size(-1);
  EXPECT_THAT(Fields(Call(&Stub::ListVms, request, &page)), ElementsAre("page_size"));
}

TEST_F(VmServiceTest, ListsPagesThatEveryClientCanReceive) {
  CreateVmParams params{.spec = {.vcpus = 1, .memory_mib = 2, .kernel_path = "/images/vmlinux"}};
  params.labels["note"] = std::string(100'000, 'x');
  for (int i = 0; i < 50; ++i) {
    params.id = "large-" + std::to_string(i);
    ASSERT_TRUE(harness_.backend().Create(params).ok());
  }
  v1::ListVmsRequest request;
  v1::ListVmsResponse page;
  int seen = 0;
  do {
    ASSERT_EQ(Call(&Stub::ListVms, request, &page).code, grpc::StatusCode::OK);
    seen += page.vms_size();
    request.set_page_token(page.next_page_token());
  } while (!page.next_page_token().empty());
  EXPECT_EQ(seen, 50);
}

TEST_F(VmServiceTest, DescribesTheHost) {
  harness_.AddVm("a");
  grpc::ClientContext context;
  SetTestDeadline(&context);
  v1::Host host;
  ASSERT_TRUE(host_->GetHost(&context, {}, &host).ok());
  EXPECT_EQ(host.hostname(), "testhost");
  EXPECT_EQ(host.allocated().vcpus(), 2);
  EXPECT_EQ(host.capacity().vms(), 100);
  EXPECT_EQ(host.hypervisor().max_vcpus(), 254);
  EXPECT_EQ(host.hypervisor().capabilities().at("irqfd"), "true");
  EXPECT_THAT(host.hypervisor().withheld_capabilities(), ElementsAre("tsc_control"));
  EXPECT_EQ(host.cgroup_version(), "v2");
  EXPECT_THAT(host.warnings(), ElementsAre("no user namespaces"));
}

TEST_F(VmServiceTest, IsUnavailableWhileStoppingAndAfterwards) {
  harness_.AddVm("a");
  harness_.gate().Close();
  const RpcError error = CallVm(&Stub::StartVm, "a");
  EXPECT_EQ(error.code, grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(error.reason, "AGENT_STOPPING");
}

TEST(VmServiceStartTest, IsUnavailableBeforeAdoptionIsDone) {
  ServiceHarness harness;
  auto stub = v1::VmService::NewStub(harness.NewChannel());
  grpc::ClientContext context;
  SetTestDeadline(&context);
  v1::ListVmsResponse response;
  const RpcError error = DecodeRpcError(stub->ListVms(&context, {}, &response));
  EXPECT_EQ(error.code, grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(error.reason, "AGENT_STARTING");
}

}  // namespace
}  // namespace drover
