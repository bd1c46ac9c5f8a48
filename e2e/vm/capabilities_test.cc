// What a host cannot do, or is told to do without, through the API on real KVM: refusals that name
// field and capability, fallbacks that GetVm shows, and guests that run with them.
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "e2e/harness/vm_fixture.h"
#include "proto/google/rpc/status.pb.h"
#include "vmm/base/fd.h"
#include "vmm/base/status_matchers.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CapabilitiesTest : public VmFixture {
 protected:
  void RestartAgent(std::vector<std::string> flags) {
    agent_->Terminate();
    StartAgent(std::move(flags));
  }

  v1::Host GetHost() {
    grpc::ClientContext context;
    v1::Host host;
    const grpc::Status status = host_->GetHost(&context, {}, &host);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return host;
  }

  std::string Capability(const std::string& name) {
    return GetHost().hypervisor().capabilities().at(name);
  }

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

  void ExpectReady(const std::string& id) {
    auto console = Console(id);
    EXPECT_OK(console->Expect("ready\n"));
  }

  // ErrorInfo's metadata "capability".
  static std::string MissingCapability(const grpc::Status& status) {
    google::rpc::Status proto;
    proto.ParseFromString(status.error_details());
    for (const auto& detail : proto.details())
      if (google::rpc::ErrorInfo info; detail.UnpackTo(&info)) {
        const auto found = info.metadata().find("capability");
        return found == info.metadata().end() ? "" : found->second;
      }
    return "";
  }
};

TEST_F(CapabilitiesTest, TheJailedProbeFindsUserfaultfdWhereTheHostHasIt) {
  const bool has = access("/dev/userfaultfd", R_OK | W_OK) == 0;
  EXPECT_EQ(Capability("userfaultfd"), has ? "true" : "false");
  EXPECT_EQ(Capability("postcopy_restore"), has ? "true" : "false");
  EXPECT_EQ(GetHost().hypervisor().withheld_capabilities_size(), 0);
}

TEST_F(CapabilitiesTest, WhatIsWithheldIsRefusedWhereItIsRequired) {
  RestartAgent(
      {"--withhold-capability=userfaultfd_wp_shmem", "--withhold-capability=dirty_ring_bytes"});
  EXPECT_THAT(GetHost().hypervisor().withheld_capabilities(),
              ElementsAre("dirty_ring_bytes", "userfaultfd_wp_shmem"));
  EXPECT_EQ(Capability("dirty_ring_bytes"), "0");
  EXPECT_EQ(Capability("userfaultfd_wp_shmem"), "false");
  v1::CreateVmRequest request = GuestRequest("strict");
  v1::DirtyLog* const log = request.mutable_vm()->mutable_spec()->mutable_dirty_log();
  log->set_kind(v1::DIRTY_LOG_KIND_RING);
  log->set_required(true);
  const grpc::Status status = TryCreate(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_EQ(Reason(status), "CAPABILITY_MISSING");
  EXPECT_EQ(MissingCapability(status), "dirty_ring_bytes");
  EXPECT_THAT(Fields(status), ElementsAre("vm.spec.dirty_log.kind"));
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("dirty_ring_bytes"), HasSubstr("withheld")));
}

TEST_F(CapabilitiesTest, WhatIsWithheldFallsBackWhereItIsPreferred) {
  RestartAgent({"--withhold-capability=userfaultfd_wp_shmem",
                "--withhold-capability=dirty_ring_bytes",
                "--withhold-capability=postcopy_restore"});
  v1::CreateVmRequest request = GuestRequest("easy");
  v1::VmSpec* const spec = request.mutable_vm()->mutable_spec();
  spec->mutable_dirty_log()->set_kind(v1::DIRTY_LOG_KIND_RING);
  spec->mutable_snapshots()->set_mode(v1::SNAPSHOT_MODE_LIVE);
  spec->mutable_migration()->set_mode(v1::MIGRATION_MODE_POST_COPY);
  Create(request);
  StartVm("easy");
  ExpectReady("easy");
  const v1::Vm vm = Get("easy");
  EXPECT_EQ(vm.resolved_features().page_size(), v1::PAGE_SIZE_4K);
  EXPECT_EQ(vm.resolved_features().dirty_log_kind(), v1::DIRTY_LOG_KIND_BITMAP);
  EXPECT_EQ(vm.resolved_features().snapshot_mode(), v1::SNAPSHOT_MODE_PAUSED);
  EXPECT_EQ(vm.resolved_features().migration_mode(), v1::MIGRATION_MODE_PRE_COPY);
  std::vector<std::string> missing;
  for (const v1::Fallback& fallback : vm.fallbacks()) missing.push_back(fallback.capability());
  EXPECT_THAT(missing, ElementsAre("dirty_ring_bytes", "userfaultfd_wp_shmem", "postcopy_restore"));
  EXPECT_EQ(vm.spec().dirty_log().kind(), v1::DIRTY_LOG_KIND_RING);
  KillAgent();
  StartAgent();
  EXPECT_EQ(Get("easy").fallbacks_size(), 3) << "the next agent knows it too";
}

// The agent that recorded the VM could do it; the one that starts it cannot.
TEST_F(CapabilitiesTest, ACapabilityThatIsGoneAtTheStart) {
  v1::CreateVmRequest request = GuestRequest("gone");
  v1::Snapshots* const snapshots = request.mutable_vm()->mutable_spec()->mutable_snapshots();
  snapshots->set_mode(v1::SNAPSHOT_MODE_LIVE);
  if (Capability("userfaultfd_wp_shmem") != "true")
    GTEST_SKIP() << "SKIPPED: this host has no write-protecting userfaultfd";
  snapshots->set_required(true);
  Create(request);
  RestartAgent({"--withhold-capability=userfaultfd_wp_shmem"});
  const grpc::Status status = TryStart("gone");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_EQ(Reason(status), "CAPABILITY_MISSING");
  EXPECT_EQ(MissingCapability(status), "userfaultfd_wp_shmem");
  EXPECT_THAT(Fields(status), ElementsAre("vm.spec.snapshots.mode"));
  EXPECT_EQ(Get("gone").state(), v1::VM_STATE_CREATED);
  EXPECT_TRUE(Eventually([&] { return home_.WorkerDirectories().empty(); }));
  RestartAgent({});
  StartVm("gone");
  ExpectReady("gone");
}

// Without them no machine can be: each is refused when the VM is created, and by its name.
TEST_F(CapabilitiesTest, NoMachineWithoutWhatEveryMachineNeeds) {
  for (const char* name : {"max_vcpus", "memory_slots", "irqchip", "immediate_exit",
                           "exposes_vcpu_exits", "custom_mmio_devices"}) {
    RestartAgent({absl::StrCat("--withhold-capability=", name), "--spares=0"});
    const grpc::Status status = TryCreate(GuestRequest("none"));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << name;
    EXPECT_EQ(MissingCapability(status), name) << status.error_message();
  }
}

// What nothing depends on does not keep a guest from running, all of it at once.
TEST_F(CapabilitiesTest, AGuestRunsWithoutWhatNothingNeeds) {
  RestartAgent({"--withhold-capability=irqfd", "--withhold-capability=ioeventfd",
                "--withhold-capability=read_only_memory", "--withhold-capability=xsave_bytes",
                "--withhold-capability=tsc_control", "--withhold-capability=nested_state_bytes",
                "--withhold-capability=dirty_page_tracking", "--withhold-capability=userfaultfd",
                "--withhold-capability=guest_physical_bits", "--withhold-capability=split_irqchip",
                "--withhold-capability=kvmclock_realtime", "--withhold-capability=hugetlb_2mib"});
  CreateGuest("plain");
  StartVm("plain");
  ExpectReady("plain");
  const v1::Vm vm = Get("plain");
  EXPECT_EQ(vm.fallbacks_size(), 0) << "nothing was asked for";
  EXPECT_EQ(vm.resolved_features().dirty_log_kind(), v1::DIRTY_LOG_KIND_UNSPECIFIED);
  EXPECT_EQ(vm.resolved_features().migration_mode(), v1::MIGRATION_MODE_UNSPECIFIED);
  EXPECT_EQ(vm.resolved_features().snapshot_mode(), v1::SNAPSHOT_MODE_PAUSED);
}

TEST_F(CapabilitiesTest, TooFewHugePagesAreSmallOnesOrAnError) {
  if (Capability("hugetlb_2mib") != "true") GTEST_SKIP() << "SKIPPED: no hugetlb in this kernel";
  constexpr int kMiB = 512;
  std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  int free_pages = 0;
  if (file >> free_pages; free_pages >= kMiB / 2)
    GTEST_SKIP() << "SKIPPED: this host has " << free_pages << " free huge pages, too many";
  v1::CreateVmRequest request = GuestRequest("huge", "", 1, kMiB);
  v1::MemoryPages* const pages = request.mutable_vm()->mutable_spec()->mutable_memory_pages();
  pages->set_size(v1::PAGE_SIZE_2M);
  Create(request);
  EXPECT_EQ(Get("huge").resolved_features().page_size(), v1::PAGE_SIZE_2M);
  StartVm("huge");
  ExpectReady("huge");
  const v1::Vm vm = Get("huge");
  EXPECT_EQ(vm.resolved_features().page_size(), v1::PAGE_SIZE_4K);
  ASSERT_EQ(vm.fallbacks_size(), 1);
  EXPECT_EQ(vm.fallbacks(0).capability(), "hugetlb_2mib");
  EXPECT_THAT(vm.fallbacks(0).reason(), HasSubstr("free 2 MiB pages"));
  request.set_vm_id("must");
  pages->set_required(true);
  Create(request);
  const grpc::Status status = TryStart("must");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_EQ(Reason(status), "HUGE_PAGES_EXHAUSTED");
  EXPECT_EQ(Get("must").state(), v1::VM_STATE_CREATED);
}

TEST_F(CapabilitiesTest, AGuestOnHugePagesRunsAndReboots) {
  std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  int free_pages = 0;
  if (!(file >> free_pages) || free_pages < 32)
    GTEST_SKIP() << "SKIPPED: " << free_pages
                 << " free 2 MiB pages, 32 are needed (/proc/sys/vm/nr_hugepages)";
  v1::CreateVmRequest request = GuestRequest("huge", "", 1, 64);
  v1::MemoryPages* const pages = request.mutable_vm()->mutable_spec()->mutable_memory_pages();
  pages->set_size(v1::PAGE_SIZE_2M);
  pages->set_required(true);
  Create(request);
  const v1::Vm vm = StartVm("huge");
  EXPECT_EQ(vm.resolved_features().page_size(), v1::PAGE_SIZE_2M);
  ExpectReady("huge");
  const std::string maps =
      ReadSmallFile(absl::StrCat("/proc/", vm.worker().pid(), "/smaps").c_str(), 4 << 20)
          .value_or("");
  EXPECT_THAT(maps, HasSubstr("KernelPageSize:     2048 kB"));
  grpc::ClientContext context;
  v1::RebootVmRequest reboot;
  reboot.set_vm_id("huge");
  v1::Vm rebooted;
  ASSERT_TRUE(vms_->RebootVm(&context, reboot, &rebooted).ok());
  EXPECT_EQ(rebooted.boot_count(), 2);
  EXPECT_TRUE(Eventually([&] { return Get("huge").state() == v1::VM_STATE_RUNNING; }));
}

TEST_F(CapabilitiesTest, AnUnknownNameIsRefusedWithTheNamesThereAre) {
  agent_->Terminate();
  const auto agent = AgentProcess::Start(home_, {"--withhold-capability=warp"});
  ASSERT_FALSE(agent.ok());
  EXPECT_THAT(std::string(agent.status().message()),
              AllOf(HasSubstr("warp"), HasSubstr("dirty_ring_bytes")));
  StartAgent();
}

}  // namespace
}  // namespace drover
